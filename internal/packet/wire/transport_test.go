package wire

import (
	"bytes"
	"net/netip"
	"testing"
)

func TestPathHeaders(t *testing.T) {
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	chain := func(protos ...uint8) []byte {
		var rest []byte
		for _, next := range protos[1:] {
			rest = append(rest, next, 0, 1, 4, 0, 0, 0, 0)
		}
		return append(IPv6{Next: protos[0], Src: a, Dst: b}.Append(nil, len(rest)+4), append(rest, 1, 2, 3, 4)...)
	}
	v4 := IPv4{Proto: 6, Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2")}.Append(nil, 4)
	for _, c := range []struct {
		name    string
		pkt     []byte
		end, at int
		proto   uint8
	}{
		{"IPv4", append(v4, 1, 2, 3, 4), 20, 9, 6},
		{"plain", chain(17), 40, 6, 17},
		{"hop by hop", chain(0, 17), 48, 40, 17},
		{"to the end", chain(60, 17), 40, 6, 60},
		{"to each hop", chain(60, 43, 17), 56, 48, 17},
		{"both", chain(0, 60, 43, 60, 58), 64, 56, 60},
		{"fragment", chain(0, 44, 17), 48, 40, 44},
		{"two to the end", chain(0, 60, 60, 58), 48, 40, 60},
	} {
		end, at, proto, ok := PathHeaders(c.pkt)
		if !ok || end != c.end || at != c.at || proto != c.proto || c.pkt[at] != proto {
			t.Errorf("%s: %d %d %d %v, want %d %d %d", c.name, end, at, proto, ok, c.end, c.at, c.proto)
		}
		for i := range c.end {
			if end, _, _, ok := PathHeaders(c.pkt[:i]); ok && end > i {
				t.Errorf("%s cut at %d: %d", c.name, i, end)
			}
		}
	}
	if _, _, _, ok := PathHeaders(chain(0, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60)); ok {
		t.Error("a chain without end")
	}
	for _, v := range []uint8{0, 0x30, 0x44} {
		pkt := append([]byte{v}, make([]byte, 60)...)
		if _, _, _, ok := PathHeaders(pkt); ok {
			t.Errorf("%#x", v)
		}
	}
}

func TestSetTotal(t *testing.T) {
	for _, want := range [][]byte{
		AppendEcho(nil, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), false, 1, 2, make([]byte, 9)),
		AppendEcho(nil, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), false, 1, 2, make([]byte, 9)),
	} {
		pkt := bytes.Clone(want)
		if !SetTotal(pkt, 77) || TotalLen(pkt) != 77 || !VerifyIPv4Checksum(pkt) || !SetTotal(pkt, len(pkt)) || !bytes.Equal(pkt, want) {
			t.Errorf("%x, want %x", pkt, want)
		}
		if SetTotal(pkt, 0x10000+40) {
			t.Error("too long")
		}
	}
}

// FuzzPathHeaders: where the headers of the path end is within the packet, and where
// ParseFlow finds nothing wrong they end no later than the upper layer begins.
func FuzzPathHeaders(f *testing.F) {
	for _, c := range good {
		f.Add(c.pkt)
	}
	f.Fuzz(func(t *testing.T, pkt []byte) {
		end, at, proto, ok := PathHeaders(pkt)
		if ok && (end > len(pkt) || at >= end || pkt[at] != proto) {
			t.Fatalf("%x: %d %d %d", pkt, end, at, proto)
		}
		var flow Flow
		if i, sound := ParseFlow(pkt, &flow); sound && (!ok || end > i.Payload) {
			t.Fatalf("%x: %v %d, upper layer at %d", pkt, ok, end, i.Payload)
		}
	})
}

// A header that ends with the packet is whole, and one byte less is not.
func TestPathHeadersEnd(t *testing.T) {
	for _, c := range []struct {
		name string
		pkt  []byte
	}{
		{"hop by hop", ipv6(ProtoHopByHop, ext(ProtoNoNext))},
		{"a route", ipv6(ProtoRouting, ext(ProtoNoNext))},
		{"a long one", ipv6(ProtoHopByHop, []byte{ProtoNoNext, 1, 1, 12, 15: 0})},
		{"options and a route", ipv6(ProtoDstOpts, ext(ProtoRouting), ext(ProtoUDP))},
		{"IPv4", ipv4(IPv4{Proto: 17}, nil)},
		{"IPv4 with options", withOptions(ipv4(IPv4{Proto: 17}, []byte{1, 1, 1, 0}))},
	} {
		var f Flow
		end, _, _, ok := PathHeaders(c.pkt)
		if i, sound := ParseFlow(c.pkt, &f); !ok || end != len(c.pkt) || !sound || i.Payload != end {
			t.Errorf("%s: %d of %d, %v, %v", c.name, end, len(c.pkt), ok, sound)
		}
		for n := range c.pkt {
			if _, _, _, ok := PathHeaders(c.pkt[:n]); ok {
				t.Errorf("%s: %d of %d bytes are whole", c.name, n, len(c.pkt))
			}
		}
	}
	eight := chain(8)
	for _, c := range []struct {
		pkt []byte
		ok  bool
	}{{eight, true}, {chain(9), false}} {
		if end, at, proto, ok := PathHeaders(c.pkt); ok != c.ok || ok && (end != 40 || at != 6 || proto != ProtoDstOpts) {
			t.Errorf("%d %d %d %v", end, at, proto, ok)
		}
	}
}

func TestSetTotalBounds(t *testing.T) {
	for _, c := range []struct {
		pkt  []byte
		most int
	}{{ipv4(IPv4{Proto: 17}, nil), 65535}, {ipv6(ProtoNoNext), 40 + 65535}} {
		if !SetTotal(c.pkt, c.most) || TotalLen(c.pkt) != c.most || !VerifyIPv4Checksum(c.pkt) {
			t.Errorf("%d: %d", c.most, TotalLen(c.pkt))
		}
		before := bytes.Clone(c.pkt)
		if SetTotal(c.pkt, c.most+1) || !bytes.Equal(before, c.pkt) {
			t.Errorf("%d fits", c.most+1)
		}
	}
}

// A header says how long the packet is as soon as it is there.
func TestTotalLenOfHeaders(t *testing.T) {
	four, six := ipv4(IPv4{Proto: 17}, make([]byte, 7)), ipv6(ProtoNoNext, make([]byte, 9))
	for _, c := range []struct {
		pkt  []byte
		want int
	}{{four[:20], 27}, {four[:19], 0}, {six[:40], 49}, {six[:39], 0}, {six[:20], 0}, {nil, 0}, {append([]byte{0x50}, six[1:]...), 0}, {append([]byte{0x55}, four[1:]...), 0}} {
		if got := TotalLen(c.pkt); got != c.want {
			t.Errorf("%x: %d, want %d", c.pkt, got, c.want)
		}
	}
}

// The numbers are IANA's, and the lengths those of the RFCs.
func TestNumbers(t *testing.T) {
	for _, c := range [][2]int{
		{ProtoHopByHop, 0}, {ProtoICMP, 1}, {ProtoIPv4, 4}, {ProtoTCP, 6}, {ProtoUDP, 17}, {ProtoDCCP, 33}, {ProtoIPv6, 41},
		{ProtoRouting, 43}, {ProtoFragment, 44}, {ProtoESP, 50}, {ProtoAH, 51}, {ProtoICMPv6, 58}, {ProtoNoNext, 59},
		{ProtoDstOpts, 60}, {ProtoSCTP, 132}, {ProtoMobility, 135}, {ProtoUDPLite, 136},
		{IPv4HeaderLen, 20}, {IPv6HeaderLen, 40}, {UDPHeaderLen, 8}, {TCPHeaderLen, 20}, {ICMPHeaderLen, 8},
		{ICMPEchoReply, 0}, {ICMPUnreachable, 3}, {ICMPEcho, 8}, {ICMPv6Unreachable, 1}, {ICMPv6TooBig, 2}, {ICMPv6Echo, 128}, {ICMPv6EchoReply, 129},
		{NotECT, 0}, {ECT1, 1}, {ECT0, 2}, {CE, 3}, {ECNMask, 3},
	} {
		if c[0] != c[1] {
			t.Errorf("%d is %d", c[1], c[0])
		}
	}
}
