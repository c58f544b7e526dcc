package datapath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"culvert/crypto/suite"
	"culvert/esp"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
	"culvert/spd/selector"
)

// A shape is a protocol, a mode and families.
type shape struct {
	protocol        uint8
	bundle          bool // AH around ESP
	tunnel, udp     bool
	outer6, inner6  bool
	left, right     netip.AddrPort
	leftIn, rightIn netip.Addr
	encr            *suite.Encr  // nil: aes-128-cbc
	integ           *suite.Integ // of AEADs none; else nil: sha256
}

func (s shape) String() string {
	name := map[bool]string{true: "tunnel", false: "transport"}[s.tunnel]
	if s.bundle {
		name += " within AH"
	}
	return fmt.Sprintf("%d %s udp %v outer6 %v inner6 %v", s.protocol, name, s.udp, s.outer6, s.inner6)
}

func shapes() (list []shape) {
	for _, kind := range []struct {
		protocol uint8
		bundle   bool
	}{{sad.ProtocolESP, false}, {sad.ProtocolAH, false}, {sad.ProtocolESP, true}} {
		for i := range 16 {
			s := shape{protocol: kind.protocol, bundle: kind.bundle, tunnel: i&1 != 0, udp: i&2 != 0, outer6: i&4 != 0, inner6: i&8 != 0}
			if s.ah() && s.udp || !s.tunnel && s.outer6 != s.inner6 {
				continue
			}
			s.left, s.right = netip.MustParseAddrPort("192.0.2.1:4500"), netip.MustParseAddrPort("192.0.2.2:4500")
			if s.outer6 {
				s.left, s.right = netip.MustParseAddrPort("[2001:db8::1]:4500"), netip.MustParseAddrPort("[2001:db8::2]:4500")
			}
			s.leftIn, s.rightIn = s.left.Addr(), s.right.Addr()
			if s.tunnel {
				s.leftIn, s.rightIn = netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1")
				if s.inner6 {
					s.leftIn, s.rightIn = netip.MustParseAddr("fd01::1"), netip.MustParseAddr("fd02::1")
				}
			}
			list = append(list, s)
		}
	}
	return list
}

// ah: the outermost header of IPsec is AH's.
func (s shape) ah() bool { return s.protocol == sad.ProtocolAH || s.bundle }

func hostPair(local, remote netip.Addr) selector.Pair {
	return selector.Pair{Local: selector.FromPrefix(netip.PrefixFrom(local, local.BitLen())),
		Remote: selector.FromPrefix(netip.PrefixFrom(remote, remote.BitLen()))}
}

func (s shape) algorithms() (*suite.Encr, *suite.Integ) {
	encr, integ := s.encr, s.integ
	if encr == nil {
		encr = suite.EncrByName("aes-128-cbc")
	}
	if integ == nil {
		integ = suite.IntegByName("sha256")
	}
	return encr, integ
}

func (s shape) half(spi uint32, fill byte) esp.Params {
	encr, integ := s.algorithms()
	p := esp.Params{SPI: spi, ESN: true}
	if s.protocol == sad.ProtocolESP {
		p.Encr, p.EncKey, p.IVKey = encr, bytes.Repeat([]byte{fill}, encr.MaterialLen()), [16]byte{fill}
	}
	if p.Encr == nil || !p.Encr.AEAD() {
		p.Integ, p.IntegKey = integ, bytes.Repeat([]byte{fill}, integ.KeyLen)
	}
	return p
}

// connect makes two gateways with one SA of the shape between them.
func (s shape) connect(t testing.TB) (left, right *gateway) { return s.connectTo(t, nil) }

// connectTo is connect with an SA that change, if any, has altered at both ends.
func (s shape) connectTo(t testing.TB, change func(*sad.Params)) (left, right *gateway) {
	left, right = newGateway(), newGateway()
	pair := hostPair(s.leftIn, s.rightIn)
	left.pols.Replace([]spd.Policy{{Ref: 1, Pair: pair, Action: spd.Encrypt, Tunnel: s.tunnel}})
	right.pols.Replace([]spd.Policy{{Ref: 1, Pair: pair.Reverse(), Action: spd.Encrypt, Tunnel: s.tunnel}})
	l, r := left.sads.AllocSPIs(1)[0], right.sads.AllocSPIs(1)[0]
	p := sad.Params{
		ID: 1, Policy: 1, Protocol: s.protocol, Tunnel: s.tunnel, In: s.half(l, 1), Out: s.half(r, 2),
		Pairs: []selector.Pair{pair}, Local: s.left, Remote: s.right, UDP: s.udp, ReplayWindow: 64, Added: start,
	}
	q := p
	q.In, q.Out, q.Local, q.Remote = s.half(r, 2), s.half(l, 1), s.right, s.left
	q.Pairs = []selector.Pair{pair.Reverse()}
	for g, params := range map[*gateway]sad.Params{left: p, right: q} {
		params.Bundled, params.Standby = s.bundle, s.bundle
		if change != nil {
			change(&params)
		}
		if _, err := g.sads.Install(params); err != nil {
			t.Fatal(err)
		}
	}
	if !s.bundle {
		return left, right
	}
	ah := shape{protocol: sad.ProtocolAH}
	p.ID, p.Under, p.Protocol, p.Manual = 2, 1, sad.ProtocolAH, true
	q.ID, q.Under, q.Protocol, q.Manual = 2, 1, sad.ProtocolAH, true
	p.In, p.Out = ah.half(1001, 3), ah.half(1002, 4)
	q.In, q.Out = ah.half(1002, 4), ah.half(1001, 3)
	for g, params := range map[*gateway]sad.Params{left: p, right: q} {
		if _, err := g.sads.Install(params); err != nil {
			t.Fatal(err)
		}
		g.sads.Activate(1)
	}
	return left, right
}

// carried makes of what the left has sent what the right's underlay hands up.
func (s shape) carried(t testing.TB, left *gateway) *underlay.Packet {
	t.Helper()
	sent := left.conn.last
	list := left.conn.take()
	if len(list) != 1 {
		t.Fatalf("%d packets were sent", len(list))
	}
	data, ttl := list[0], uint8(0)
	if sent.Header {
		ttl = wire.HopLimit(data)
		var f wire.Flow
		info, ok := wire.ParseFlow(data, &f)
		if !ok || info.Total != len(data) || f.Src != s.left.Addr() || f.Dst != s.right.Addr() || !wire.VerifyIPv4Checksum(data) {
			t.Fatalf("%x is no packet from %v to %v", data, s.left, s.right)
		}
		if sent.Kind == underlay.ESP {
			if info.Proto != wire.ProtoESP {
				t.Fatalf("protocol %d", info.Proto)
			}
			data = data[info.Payload:]
		} else if info.Version == 4 && data[4]|data[5] == 0 {
			t.Fatal("AH in a packet without identification")
		}
	}
	p := datagram(data)
	p.Kind, p.NATT, p.Local, p.Remote, p.TTL = sent.Kind, sent.NATT, s.right, s.left, ttl
	if !p.NATT {
		p.Local, p.Remote = netip.AddrPortFrom(s.right.Addr(), 0), netip.AddrPortFrom(s.left.Addr(), 0)
	}
	return p
}

// Every protocol, mode and family carries TCP, UDP and echoes of all lengths to the other side.
func TestModes(t *testing.T) {
	for _, s := range shapes() {
		t.Run(s.String(), func(t *testing.T) {
			left, right := s.connect(t)
			l, r := netip.AddrPortFrom(s.leftIn, 1000), netip.AddrPortFrom(s.rightIn, 2000)
			for n := range 40 {
				body := bytes.Repeat([]byte{byte(n)}, n*31)
				for _, pkt := range [][]byte{
					wire.AppendUDPPacket(nil, l, r, body), wire.AppendTCPPacket(nil, wire.TCP{Seq: 1, Flags: 16}, l, r, body),
					wire.AppendEcho(nil, s.leftIn, s.rightIn, false, 1, 2, body),
				} {
					if v := left.path.SendPlain(start, pkt); v != Passed {
						t.Fatal(v)
					}
					p := s.carried(t, left)
					if p.NATT != s.udp || (p.Kind == underlay.AH) != s.ah() {
						t.Fatalf("%+v", p)
					}
					if v := right.path.Receive(start, p); v != Passed {
						t.Fatal(v)
					}
					got := right.host.take()
					if s.protocol == sad.ProtocolAH && !s.tunnel && !s.inner6 { // the identification is ours
						clear(got[0][4:6])
						wire.FillIPv4Checksum(got[0])
					}
					if len(got) != 1 || !bytes.Equal(got[0], pkt) {
						t.Fatalf("got %x, want %x", got, pkt)
					}
				}
			}
			c := right.path.Counters().Snapshot()
			for _, x := range c[:ManualCounters] {
				if x.Value != 0 {
					t.Errorf("%s is %d", x.Name, x.Value)
				}
			}
		})
	}
}

// The packet's own header stays: options, extension headers, traffic class, hop limit.
func TestTransportKeepsTheHeader(t *testing.T) {
	options := func(s shape) []byte {
		if !s.inner6 {
			pkt := wire.AppendUDPPacket(nil, s.left, s.right, []byte("options"))
			pkt = append(append(bytes.Clone(pkt[:20]), 148, 4, 0, 0), pkt[20:]...)
			pkt[0], pkt[1], pkt[8] = 0x46, 0x28, 3
			wire.SetTotal(pkt, len(pkt))
			return pkt
		}
		rest := []byte{60, 0, 5, 2, 0, 0, 1, 0, 17, 0, 1, 4, 0, 0, 0, 0} // hop-by-hop, and options for the destination
		rest = wire.AppendUDP(rest, s.left, s.right, []byte("options"))
		return append(wire.IPv6{TrafficClass: 0x28, HopLimit: 3, Next: 0, Src: s.leftIn, Dst: s.rightIn}.Append(nil, len(rest)), rest...)
	}
	for _, s := range shapes() {
		if s.tunnel {
			continue
		}
		left, right := s.connect(t)
		pkt := options(s)
		v := left.path.SendPlain(start, pkt)
		if s.udp {
			if v != OutBundleErrors {
				t.Errorf("%v: %v", s, v)
			}
			continue
		}
		if v != Passed {
			t.Fatalf("%v: %v", s, v)
		}
		sent := left.conn.sent[0]
		if traffic := binary.BigEndian.Uint16(sent); !s.inner6 && traffic != 0x4628 || s.inner6 && (traffic != 0x6280 || sent[6] != 0 || sent[7] != 3) {
			t.Errorf("%v: the header on the wire is %x", s, sent[:40])
		}
		if v := right.path.Receive(start, s.carried(t, left)); v != Passed {
			t.Fatalf("%v: %v", s, v)
		}
		got := right.host.take()[0]
		if s.protocol == sad.ProtocolAH {
			if !s.inner6 {
				clear(got[4:6])
				wire.FillIPv4Checksum(got)
			}
			if !bytes.Equal(got, pkt) {
				t.Errorf("%v: %x, want %x", s, got, pkt)
			}
			continue
		}
		// ESP's receiver knows what stood behind the path's headers.
		front, _, proto, _ := wire.PathHeaders(pkt)
		bare := bareHeader(pkt[0] >> 4)
		if wire.HopLimit(got) != 3 || !bytes.Equal(got[bare:], pkt[front:]) || s.inner6 && got[6] != proto || wire.TotalLen(got) != len(got) {
			t.Errorf("%v: %x, want %x", s, got, pkt)
		}
	}
}

func TestTransportRefuses(t *testing.T) {
	for _, s := range shapes() {
		if s.tunnel {
			continue
		}
		left, _ := s.connect(t)
		if s.inner6 { // an atomic fragment is a whole packet, whose header has no place behind ESP's
			atomic := wire.IPv6{Next: wire.ProtoFragment, Src: s.leftIn, Dst: s.rightIn}.Append(nil, 16)
			atomic = append(wire.AppendIPv6Fragment(atomic, 17, 0, false, 1), make([]byte, 8)...)
			if v := left.path.SendPlain(start, atomic); v != OutBundleErrors {
				t.Errorf("%v: an atomic fragment: %v", s, v)
			}
		}
		left.sads.Move(1, s.left, netip.AddrPortFrom(s.right.Addr().Next(), 4500), s.udp)
		if v := left.path.SendPlain(start, wire.AppendEcho(nil, s.leftIn, s.rightIn, false, 1, 1, nil)); v != OutStateModeErrors {
			t.Errorf("%v: for a third host: %v", s, v)
		}
	}
}

func TestAHRefuses(t *testing.T) {
	for _, s := range shapes() {
		if !s.ah() {
			continue
		}
		left, right := s.connect(t)
		echo := wire.AppendEcho(nil, s.leftIn, s.rightIn, false, 1, 1, nil)
		send := func() *underlay.Packet {
			if v := left.path.SendPlain(start, echo); v != Passed {
				t.Fatalf("%v: %v", s, v)
			}
			return s.carried(t, left)
		}
		forged := send()
		forged.Data()[len(forged.Data())-1]++
		if v := right.path.Receive(start, forged); v != InStateProtocolErrors {
			t.Errorf("%v: forged: %v", s, v)
		}
		short := send()
		short.Len = 30
		if v := right.path.Receive(start, short); v != InHeaderErrors {
			t.Errorf("%v: short: %v", s, v)
		}
		inESP := send()
		inESP.Kind, inESP.Off = underlay.ESP, inESP.Off+4
		if v := right.path.Receive(start, inESP); v != InNoStates {
			t.Errorf("%v: an AH's SPI in ESP: %v", s, v)
		}
		left.sads.Move(1, s.left, s.right, true)
		if v := left.path.SendPlain(start, echo); v != OutStateModeErrors {
			t.Errorf("%v: in UDP: %v", s, v)
		}
	}
}

// Both SAs of a bundle are due: neither ESP alone nor AH alone gets in, and
// without AH nothing gets out.
func TestBundleIsWhole(t *testing.T) {
	for _, s := range shapes() {
		if !s.bundle {
			continue
		}
		left, right := s.connect(t)
		echo := wire.AppendEcho(nil, s.leftIn, s.rightIn, false, 1, 1, nil)
		inner := left.sads.Child(1).Outbound()
		seal := func() []byte {
			buf := append(append(make([]byte, 64), echo...), make([]byte, 100)...)
			from, to := inner.Transform().Seal(buf, 64, len(echo), 7, 4)
			return buf[from:to]
		}
		if v := right.path.Receive(start, datagram(seal())); v != InTemplateMismatches {
			t.Errorf("%v: ESP alone: %v", s, v)
		}
		// AH over something else, and over the ESP of another SA.
		around := func(proto uint8, payload []byte) *underlay.Packet {
			pkt := append(make([]byte, 64), wire.AppendIP(nil, s.left.Addr(), s.right.Addr(), proto, len(payload))...)
			pkt = append(pkt, payload...)
			over := left.sads.Child(2).Outbound()
			seq, _ := over.Reserve(1)
			from, to := over.Transform().Seal(pkt, 64, len(pkt)-64, seq, proto)
			p := datagram(pkt[from:to])
			p.Kind, p.Local, p.Remote = underlay.AH, s.right, s.left
			return p
		}
		if v := right.path.Receive(start, around(17, make([]byte, 20))); v != InStateModeErrors {
			t.Errorf("%v: AH alone: %v", s, v)
		}
		if v := right.path.Receive(start, around(wire.ProtoESP, make([]byte, 7))); v != InHeaderErrors {
			t.Errorf("%v: a stump in AH: %v", s, v)
		}
		other := seal()
		binary.BigEndian.PutUint32(other, 1002)
		if v := right.path.Receive(start, around(wire.ProtoESP, other)); v != InNoStates {
			t.Errorf("%v: AH's own SPI within AH: %v", s, v)
		}
		p := s.params(right, 3)
		if _, err := right.sads.Install(p); err != nil {
			t.Fatal(err)
		}
		binary.BigEndian.PutUint32(other, p.In.SPI)
		if v := right.path.Receive(start, around(wire.ProtoESP, other)); v != InTemplateMismatches {
			t.Errorf("%v: another SA's ESP within AH: %v", s, v)
		}
		left.sads.Remove(2)
		if v := left.path.SendPlain(start, echo); v != OutNoStates {
			t.Errorf("%v: without AH: %v", s, v)
		}
	}
}

// params is one more SA, of ESP alone.
func (s shape) params(g *gateway, id uint64) sad.Params {
	spi := g.sads.AllocSPIs(1)[0]
	return sad.Params{ID: id, Policy: 1, Protocol: sad.ProtocolESP, In: s.half(spi, 9), Out: s.half(5000, 9),
		Pairs: []selector.Pair{hostPair(s.rightIn, s.leftIn)}, Local: s.right, Remote: s.left, Added: start}
}

// Behind a NAT the sender computed its checksum over another address.
func TestTransportThroughNAT(t *testing.T) {
	for _, c := range []struct{ private, left, right string }{
		{"10.9.9.9", "192.0.2.1:61000", "192.0.2.2:4500"},
		{"fd00::9:9", "[2001:db8::1]:61000", "[2001:db8::2]:4500"},
	} {
		private := netip.MustParseAddr(c.private)
		s := shape{protocol: sad.ProtocolESP, udp: true, left: netip.MustParseAddrPort(c.left), right: netip.MustParseAddrPort(c.right)}
		s.leftIn, s.rightIn = s.left.Addr(), s.right.Addr()
		_, right := s.connect(t)
		tr, err := esp.New(s.half(right.sads.Children()[0].Inbound().SPI(), 2))
		if err != nil {
			t.Fatal(err)
		}
		builds := []func(src netip.Addr) []byte{
			func(src netip.Addr) []byte {
				return wire.AppendUDPPacket(nil, netip.AddrPortFrom(src, 1), s.right, []byte("payload"))
			},
			func(src netip.Addr) []byte {
				return wire.AppendTCPPacket(nil, wire.TCP{}, netip.AddrPortFrom(src, 1), s.right, []byte("payload"))
			},
			func(src netip.Addr) []byte {
				return wire.AppendEcho(nil, src, s.rightIn, false, 1, 2, []byte("payload"))
			},
		}
		if private.Is4() {
			builds = append(builds, func(src netip.Addr) []byte {
				pkt := wire.AppendUDPPacket(nil, netip.AddrPortFrom(src, 1), s.right, []byte("none"))
				pkt[26], pkt[27] = 0, 0
				return pkt
			})
		}
		for i, build := range builds {
			sent, want := build(private), build(s.leftIn)
			front, _, next, _ := wire.PathHeaders(sent)
			buf := append(make([]byte, 64), sent[front:]...)
			buf = append(buf, make([]byte, tr.Back())...)
			from, to := tr.Seal(buf, 64, len(sent)-front, uint64(i+1), next)
			p := datagram(buf[from:to])
			p.Remote, p.Local = s.left, s.right
			if v := right.path.Receive(start, p); v != Passed {
				t.Fatal(v)
			}
			if got := right.host.take()[0]; !bytes.Equal(got, want) {
				t.Errorf("%d:\n%x, want\n%x", i, got, want)
			}
		}
	}
}

func TestModesDoNotAllocate(t *testing.T) {
	for _, s := range shapes() {
		left, right := s.connect(t)
		left.log.quiet, right.log.quiet = true, true
		echo := wire.AppendEcho(nil, s.leftIn, s.rightIn, false, 1, 1, make([]byte, 100))
		p := &underlay.Packet{Buf: make([]byte, underlay.Headroom+2000)}
		if n := testing.AllocsPerRun(100, func() {
			left.conn.n, right.host.n = 0, 0
			left.path.SendPlain(start, echo)
			sent := left.conn.sent[0]
			if left.conn.last.Kind == underlay.ESP && left.conn.last.Header {
				sent = sent[bareHeader(sent[0]>>4):]
			}
			p.Off, p.Len = underlay.Headroom, copy(p.Buf[underlay.Headroom:], sent)
			p.Kind, p.NATT, p.Local, p.Remote = left.conn.last.Kind, s.udp, s.right, s.left
			if v := right.path.Receive(start, p); v != Passed {
				t.Fatal(v)
			}
		}); n > 0 && !raceEnabled {
			t.Errorf("%v: %v allocations", s, n)
		}
	}
}
