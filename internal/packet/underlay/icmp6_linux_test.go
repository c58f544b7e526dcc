package underlay

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/wire"
)

var (
	told6  = netip.MustParseAddr("fd00::1")
	other6 = netip.MustParseAddr("fd00::2")
)

// toldOf is an ICMPv6 message about a packet of told6's to other6, whose AH, with next
// behind it, comes after the headers before.
func toldOf(kind, code byte, mtu uint32, first, next byte, before ...byte) []byte {
	ah := []byte{next, 4, 0, 0, 1, 2, 3, 4, 0, 0, 0, 9}
	pkt := append(wire.IPv6{HopLimit: 64, Next: first, Src: told6, Dst: other6}.Append(nil, 1000), before...)
	pkt = append(pkt, ah...)
	return append([]byte{kind, code, 0, 0, byte(mtu >> 24), byte(mtu >> 16), byte(mtu >> 8), byte(mtu)}, pkt...)
}

// What is taken of an ICMPv6 message, and what is not: not ours, told elsewhere, or cut
// before the AH.
func TestQuoted(t *testing.T) {
	hop := []byte{wire.ProtoAH, 0, 1, 4, 0, 0, 0, 0}
	firstPiece, laterPiece := []byte{wire.ProtoAH, 0, 0, 1, 0, 0, 0, 7}, []byte{wire.ProtoAH, 0, 5, 0, 0, 0, 0, 7}
	for _, c := range []struct {
		name string
		msg  []byte
		to   netip.Addr
		want Fault
	}{
		{"too big", toldOf(2, 0, 1300, wire.ProtoAH, 41), told6, Fault{TooBig, AH, false, 1300}},
		{"too big, beyond all packets", toldOf(2, 0, 1<<31, wire.ProtoAH, 41), told6, Fault{TooBig, AH, false, maxIP}},
		{"options before it", toldOf(2, 0, 1300, wire.ProtoHopByHop, 41, hop...), told6, Fault{TooBig, AH, false, 1300}},
		{"a first piece", toldOf(2, 0, 1300, wire.ProtoFragment, 41, firstPiece...), told6, Fault{TooBig, AH, false, 1300}},
		{"no route", toldOf(1, 0, 0, wire.ProtoAH, 41), told6, Fault{Cause: Unreachable, Kind: AH}},
		{"prohibited", toldOf(1, 1, 0, wire.ProtoAH, 41), told6, Fault{Cause: Prohibited, Kind: AH}},
		{"policy", toldOf(1, 5, 0, wire.ProtoAH, 41), told6, Fault{Cause: Prohibited, Kind: AH}},
		{"hop limit", toldOf(3, 0, 0, wire.ProtoAH, 41), told6, Fault{Cause: Unreachable, Kind: AH}},
		{"next header", toldOf(4, 1, 40, wire.ProtoAH, 41), told6, Fault{Cause: Undelivered, Kind: AH}},
		{"an echo that looks like one", toldOf(128, 0, 0, wire.ProtoAH, 41), told6, Fault{}},
		{"no error at all", toldOf(0, 0, 0, wire.ProtoAH, 41), told6, Fault{}},
		{"AH around ESP", toldOf(2, 0, 1300, wire.ProtoAH, wire.ProtoESP), told6, Fault{}},
		{"ESP", toldOf(2, 0, 1300, wire.ProtoESP, 41), told6, Fault{}},
		{"a later piece", toldOf(2, 0, 1300, wire.ProtoFragment, 41, laterPiece...), told6, Fault{}},
		{"a packet of somebody else", toldOf(2, 0, 1300, wire.ProtoAH, 41), other6, Fault{}},
	} {
		take := func(msg []byte) (Packet, bool) {
			p := Packet{Buf: append(make([]byte, Headroom), msg...)}
			return p, p.quoted(len(msg), c.to)
		}
		p, ok := take(c.msg)
		if ok != (c.want != Fault{}) || p.Fault != c.want {
			t.Errorf("%s: %v %+v", c.name, ok, p.Fault)
		}
		if ok && (p.Kind != Trouble || p.Local.Addr() != told6 || p.Remote.Addr() != other6 || !bytes.Equal(p.Data(), c.msg[len(c.msg)-12:])) {
			t.Errorf("%s: %v to %v: %x", c.name, p.Local, p.Remote, p.Data())
		}
		for n := range c.msg {
			if p, ok := take(c.msg[:n]); ok && (n < len(c.msg)-12 || !bytes.Equal(p.Data(), c.msg[len(c.msg)-12:n])) {
				t.Errorf("%s, %d bytes of it: %x", c.name, n, p.Data())
			}
		}
	}
}

// Of AH around ESP is told once, by the ESP socket, and what is told of others is
// not handed up.
func TestQuotedOnce(t *testing.T) {
	isolateBoth(t)
	a := listenRaw(t, told6)
	esp := []byte{5, 6, 7, 8, 0, 0, 0, 9}
	var mine []byte
	for _, c := range []struct {
		next byte
		tail []byte
	}{{wire.ProtoESP, esp}, {wire.ProtoUDP, make([]byte, 8)}} {
		ah := append([]byte{c.next, 4, 0, 0, 1, 2, 3, 4, 0, 0, 0, 9}, append(make([]byte, 12), c.tail...)...)
		mine = append(wire.IPv6{HopLimit: 64, Next: wire.ProtoAH, Src: told6, Dst: other6}.Append(nil, len(ah)), ah...)
		send6(t, wire.AppendICMPPacket(nil, tooBig(true, 1300), other6, told6, mine))
	}
	got := receive(t, a, 2)
	kinds := map[Kind]int{got[0].Fault.Kind: got[0].Fault.MTU, got[1].Fault.Kind: got[1].Fault.MTU}
	if kinds[ESP] != 1300 || kinds[AH] != 1300 {
		t.Errorf("%+v, %+v", got[0].Fault, got[1].Fault)
	}
}

// send6 sends a whole IPv6 packet to told6.
func send6(t *testing.T, pkt []byte) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, pkt, 0, &unix.SockaddrInet6{Addr: told6.As16()}); err != nil {
		t.Fatal(err)
	}
}

// An IPv4 packet is not ours, even where our address could be read in it.
func TestQuotedIPv4(t *testing.T) {
	local := netip.MustParseAddr("fd33::1") // its second byte is where IPv4 has the protocol: AH
	pkt := append([]byte{0x45, 0, 0, 60, 0, 0, 0, 0}, append(local.AsSlice(), make([]byte, 36)...)...)
	if _, _, proto, ok := wire.PathHeaders(pkt); !ok || proto != wire.ProtoAH {
		t.Fatal("this test shows nothing", proto, ok)
	}
	msg := append([]byte{icmp6TooBig, 0, 0, 0, 0, 0, 5, 0}, pkt...)
	p := Packet{Buf: append(make([]byte, Headroom), msg...)}
	if p.quoted(len(msg), local) {
		t.Errorf("%+v", p.Fault)
	}
}

func FuzzQuoted(f *testing.F) {
	f.Add(toldOf(2, 0, 1300, wire.ProtoAH, 41))
	f.Add(toldOf(2, 0, 1300, wire.ProtoFragment, 41, wire.ProtoAH, 0, 0, 1, 0, 0, 0, 7))
	f.Fuzz(func(t *testing.T, msg []byte) {
		p := Packet{Buf: append(make([]byte, Headroom), msg...)}
		if p.quoted(len(msg), told6) && (p.Off < Headroom || p.Off+p.Len != len(p.Buf) || p.Fault.Cause == 0) {
			t.Errorf("%+v", p)
		}
	})
}
