package datapath

import (
	"net/netip"
	"testing"
	"time"

	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
)

// An explanation knows where AH cannot go: within UDP, and without an address of ours or of the peer's family.
func TestExplainedAHIsDone(t *testing.T) {
	for _, s := range shapes() {
		if !s.ah() || s.bundle {
			continue
		}
		flow := wire.Flow{Src: s.leftIn, Dst: s.rightIn, Proto: wire.ProtoICMP, SrcPort: 8 << 8}
		if s.inner6 {
			flow.Proto, flow.SrcPort = wire.ProtoICMPv6, 128<<8
		}
		echo := wire.AppendEcho(nil, s.leftIn, s.rightIn, false, 1, 1, nil)
		for _, c := range []struct {
			name string
			move func(g *gateway)
			want Reason
		}{
			{"as it is", func(*gateway) {}, Passed},
			{"in UDP", func(g *gateway) { g.sads.Move(1, s.left, s.right, true) }, OutStateModeErrors},
			{"from no address", func(g *gateway) { g.sads.Move(1, netip.AddrPort{}, s.right, false) }, OutBundleErrors},
		} {
			if !s.tunnel && c.want == OutBundleErrors {
				continue // the host's own address is compared before
			}
			left, _ := s.connect(t)
			c.move(left)
			x := left.path.ExplainOut(start, &flow)
			if r := left.path.SendPlain(start, echo); r != c.want || x.Reason != c.want || x.SA != left.sads.Child(1) {
				t.Errorf("%v: %s: %v, explained as %+v, want %v", s, c.name, r, x, c.want)
			}
		}
	}
}

// Which packets ask for an answer, byte for byte.
func TestAsks(t *testing.T) {
	v4, other4, v6, other6 := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1"), netip.MustParseAddr("fd01::1"), netip.MustParseAddr("fd02::1")
	packet := func(src, dst netip.Addr, proto uint8, body ...byte) []byte {
		return append(wire.AppendIP(nil, src, dst, proto, len(body)), body...)
	}
	tcp := func(flags byte, n int) []byte {
		return append(make([]byte, 12), append([]byte{0x50, flags}, make([]byte, 6)...)...)[:n]
	}
	for _, c := range []struct {
		name string
		pkt  []byte
		want bool
	}{
		{"echo request", packet(v4, other4, wire.ProtoICMP, 8, 0, 0, 0, 0, 0, 0, 0), true},
		{"echo reply", packet(v4, other4, wire.ProtoICMP, 0, 0, 0, 0, 0, 0, 0, 0), false},
		{"the number of IPv6's echo request in IPv4", packet(v4, other4, wire.ProtoICMP, 128, 0, 0, 0, 0, 0, 0, 0), false},
		{"echo request of IPv6", packet(v6, other6, wire.ProtoICMPv6, 128, 0, 0, 0, 0, 0, 0, 0), true},
		{"echo reply of IPv6", packet(v6, other6, wire.ProtoICMPv6, 129, 0, 0, 0, 0, 0, 0, 0), false},
		{"the number of IPv4's echo request in IPv6", packet(v6, other6, wire.ProtoICMPv6, 8, 0, 0, 0, 0, 0, 0, 0), false},
		{"echo request to a group", packet(v6, netip.MustParseAddr("ff02::1"), wire.ProtoICMPv6, 128, 0, 0, 0, 0, 0, 0, 0), false},
		{"SYN", packet(v4, other4, wire.ProtoTCP, tcp(tcpSYN, 20)...), true},
		{"SYN of IPv6", packet(v6, other6, wire.ProtoTCP, tcp(tcpSYN, 20)...), true},
		{"SYN and ACK", packet(v4, other4, wire.ProtoTCP, tcp(tcpSYN|16, 20)...), false},
		{"SYN that is cut", packet(v4, other4, wire.ProtoTCP, tcp(tcpSYN, 19)...), false},
		{"ACK", packet(v4, other4, wire.ProtoTCP, tcp(16, 20)...), false},
		{"UDP", packet(v4, other4, wire.ProtoUDP, make([]byte, 8)...), false},
	} {
		var f wire.Flow
		info, ok := wire.ParseFlow(c.pkt, &f)
		if got := asks(c.pkt, info, &f); got != c.want {
			t.Errorf("%s (read %v): %v", c.name, ok, got)
		}
	}
}

// Nothing is given up where fragments came before and none waits any more.
func TestNothingToGiveUp(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	withPorts(u)
	for _, p := range cut(t, large("10.1.0.1", "10.2.0.1", 1, 4000), 1400) {
		u.left.path.SendPlain(start, p)
	}
	if sent := u.left.conn.take(); len(sent) == 0 {
		t.Fatal("the whole packet was not sent")
	}
	if u.left.path.GiveUp(start.Add(time.Hour)) {
		t.Error("what became whole was given up")
	}
}

// Whether the keys' owner said UDP is asked of an ESP packet that comes alone. Within AH there is no UDP.
func TestUDPIsNotAskedWithinAH(t *testing.T) {
	for _, s := range shapes() {
		if !s.bundle {
			continue
		}
		left, right := s.connectTo(t, func(p *sad.Params) {
			p.Manual = true
			if p.In.SPI, p.Out.SPI = 2001, 2002; p.Local == s.right {
				p.In.SPI, p.Out.SPI = 2002, 2001
			}
		})
		echo := wire.AppendEcho(nil, s.leftIn, s.rightIn, false, 1, 1, nil)
		for _, udp := range []bool{false, true} {
			right.sads.Move(1, s.right, s.left, udp)
			if !right.sads.Child(1).Mismatched(!udp) {
				t.Fatalf("%v: the ESP SA is for packets in UDP: want %v", s, udp)
			}
			if r := left.path.SendPlain(start, echo); r != Passed {
				t.Fatalf("%v: sent: %v", s, r)
			}
			if r := right.path.Receive(start, s.carried(t, left)); r != Passed {
				t.Errorf("%v: it says UDP: %v: %v", s, udp, r)
			}
		}
	}
}

// A fragment by an SA of transport mode is one that could be part of a packet, or its header is wrong.
func TestFragmentsOfTransportMode(t *testing.T) {
	for _, s := range shapes() {
		if s.tunnel || !s.inner6 || s.protocol != sad.ProtocolESP || s.bundle {
			continue
		}
		for _, c := range []struct {
			name   string
			offset int
			n      int
			more   bool
			want   Reason
		}{
			{"the last", 8, 9, false, Passed}, {"one that others follow", 8, 16, true, Passed},
			{"without data", 8, 0, true, InHeaderErrors}, {"not whole units of eight bytes", 8, 9, true, InHeaderErrors}, {"behind the longest packet", 65528, 8, false, InHeaderErrors},
		} {
			left, right := s.connect(t)
			payload := append(wire.AppendIPv6Fragment(nil, wire.ProtoUDP, c.offset, c.more, 7), make([]byte, c.n)...)
			out := left.sads.Child(1).Outbound()
			seq, _ := out.Reserve(1)
			buf := append(append(make([]byte, 64), payload...), make([]byte, 128)...)
			from, to := out.Transform().Seal(buf, 64, len(payload), seq, wire.ProtoFragment)
			p := datagram(buf[from:to])
			p.Kind, p.NATT, p.Local, p.Remote = underlay.ESP, s.udp, s.right, s.left
			if r := right.path.Receive(start, p); r != c.want {
				t.Errorf("%v: %s: %v, want %v", s, c.name, r, c.want)
			}
		}
	}
}
