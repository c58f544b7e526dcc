package wire

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
)

var (
	a4, b4 = netip.MustParseAddr("10.1.202.1"), netip.MustParseAddr("10.1.101.2")
	a6, b6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::2")
)

func ports(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// ipv6 puts headers, each a next-header chain written by hand, and an upper
// layer behind an IPv6 header.
func ipv6(next uint8, rest ...[]byte) []byte {
	all := bytes.Join(rest, nil)
	return append(IPv6{HopLimit: 64, Next: next, Src: a6, Dst: b6}.Append(nil, len(all)), all...)
}

func ipv4(h IPv4, upper []byte) []byte {
	h.Src, h.Dst, h.TTL = a4, b4, 64
	return append(h.Append(nil, len(upper)), upper...)
}

// ext is a hop-by-hop, routing or destination options header of 8 octets.
func ext(next uint8) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }

func join(b ...[]byte) []byte { return bytes.Join(b, nil) }

var udp = []byte{0x01, 0xf4, 0x11, 0x94, 0, 12, 0, 0, 'd', 'a', 't', 'a'} // 500 > 4500

func chain(n int) []byte {
	var out [][]byte
	for range n - 1 {
		out = append(out, ext(ProtoDstOpts))
	}
	out = append(out, ext(ProtoUDP), udp)
	return ipv6(ProtoDstOpts, out...)
}

func flow4(proto uint8, sport, dport uint16) Flow {
	return Flow{Src: a4, Dst: b4, Proto: proto, SrcPort: sport, DstPort: dport}
}

func flow6(proto uint8, sport, dport uint16) Flow {
	return Flow{Src: a6, Dst: b6, Proto: proto, SrcPort: sport, DstPort: dport}
}

func opaque(f Flow) Flow { f.Opaque = true; return f }

var good = []struct {
	name string
	pkt  []byte
	flow Flow
	info Info
}{
	{"udp4", AppendUDPPacket(nil, ports(a4, 500), ports(b4, 4500), []byte("data")), flow4(17, 500, 4500),
		Info{Kind: Kind{Version: 4, Proto: 17, DontFragment: true}, Payload: 20, Total: 32}},
	{"udp6", AppendUDPPacket(nil, ports(a6, 500), ports(b6, 4500), []byte("data")), flow6(17, 500, 4500),
		Info{Kind: Kind{Version: 6, Proto: 17, DontFragment: true}, Payload: 40, Total: 52}},
	{"tcp4", AppendTCPPacket(nil, TCP{Flags: 2}, ports(a4, 33000), ports(b4, 443), nil), flow4(6, 33000, 443),
		Info{Kind: Kind{Version: 4, Proto: 6, DontFragment: true}, Payload: 20, Total: 40}},
	{"tcp6", AppendTCPPacket(nil, TCP{Flags: 2}, ports(a6, 33000), ports(b6, 443), nil), flow6(6, 33000, 443),
		Info{Kind: Kind{Version: 6, Proto: 6, DontFragment: true}, Payload: 40, Total: 60}},
	{"echo4", AppendEcho(nil, a4, b4, false, 7, 1, []byte("ping")), flow4(1, 0x0800, 0),
		Info{Kind: Kind{Version: 4, Proto: 1, DontFragment: true}, Payload: 20, Total: 32}},
	{"echo reply4", AppendEcho(nil, a4, b4, true, 7, 1, []byte("ping")), flow4(1, 0, 0),
		Info{Kind: Kind{Version: 4, Proto: 1, DontFragment: true}, Payload: 20, Total: 32}},
	{"echo6", AppendEcho(nil, a6, b6, false, 7, 1, []byte("ping")), flow6(58, 0x8000, 0),
		Info{Kind: Kind{Version: 6, Proto: 58, DontFragment: true}, Payload: 40, Total: 52}},
	{"echo reply6", AppendEcho(nil, a6, b6, true, 7, 1, nil), flow6(58, 0x8100, 0),
		Info{Kind: Kind{Version: 6, Proto: 58, DontFragment: true}, Payload: 40, Total: 48}},
	{"unreachable4 with its code", AppendICMPPacket(nil, ICMP{Type: ICMPUnreachable, Code: 4, Rest: 1400}, a4, b4, nil), flow4(1, 0x0304, 0),
		Info{Kind: Kind{Version: 4, Proto: 1, DontFragment: true}, Payload: 20, Total: 28}},
	{"sctp", ipv4(IPv4{Proto: ProtoSCTP}, udp), flow4(132, 500, 4500), Info{Kind: Kind{Version: 4, Proto: 132}, Payload: 20, Total: 32}},
	{"udplite", ipv4(IPv4{Proto: ProtoUDPLite}, udp), flow4(136, 500, 4500), Info{Kind: Kind{Version: 4, Proto: 136}, Payload: 20, Total: 32}},
	{"dccp", ipv4(IPv4{Proto: ProtoDCCP}, udp), flow4(33, 500, 4500), Info{Kind: Kind{Version: 4, Proto: 33}, Payload: 20, Total: 32}},
	{"esp", ipv4(IPv4{Proto: ProtoESP}, udp), flow4(50, 0, 0), Info{Kind: Kind{Version: 4, Proto: 50}, Payload: 20, Total: 32}},
	{"gre", ipv4(IPv4{Proto: 47}, udp), flow4(47, 0, 0), Info{Kind: Kind{Version: 4, Proto: 47}, Payload: 20, Total: 32}},
	{"ah over IPv6 is not walked", ipv6(ProtoAH, udp), flow6(51, 0, 0), Info{Kind: Kind{Version: 6, Proto: 51, DontFragment: true}, Payload: 40, Total: 52}},
	{"mobility", ipv6(ProtoMobility, []byte{59, 0, 5, 0, 0, 0, 0, 0}), flow6(135, 0x0500, 0), Info{Kind: Kind{Version: 6, Proto: 135, DontFragment: true}, Payload: 40, Total: 48}},
	{"no next header", ipv6(ProtoNoNext), flow6(59, 0, 0), Info{Kind: Kind{Version: 6, Proto: 59, DontFragment: true}, Payload: 40, Total: 40}},
	{"ports cut off by the sender", ipv4(IPv4{Proto: 17}, udp[:3]), opaque(flow4(17, 0, 0)), Info{Kind: Kind{Version: 4, Proto: 17}, Payload: 20, Total: 23}},
	{"ICMP type without code", ipv4(IPv4{Proto: 1}, udp[:1]), opaque(flow4(1, 0, 0)), Info{Kind: Kind{Version: 4, Proto: 1}, Payload: 20, Total: 21}},
	{"padding behind the packet", append(ipv4(IPv4{Proto: 17}, udp), 0, 0, 0), flow4(17, 500, 4500), Info{Kind: Kind{Version: 4, Proto: 17}, Payload: 20, Total: 32}},
	{"first fragment4", ipv4(IPv4{Proto: 17, More: true}, udp), flow4(17, 500, 4500), Info{Kind: Kind{Version: 4, Proto: 17, More: true}, Payload: 20, Total: 32}},
	{"later fragment4", ipv4(IPv4{Proto: 17, FragOffset: 8, More: true}, udp), opaque(flow4(17, 0, 0)), Info{Kind: Kind{Version: 4, Proto: 17, More: true}, Payload: 20, Total: 32, FragOffset: 8}},
	{"last fragment4", ipv4(IPv4{Proto: 1, FragOffset: 65528}, udp[:1]), opaque(flow4(1, 0, 0)), Info{Kind: Kind{Version: 4, Proto: 1}, Payload: 20, Total: 21, FragOffset: 65528}},
	{"options4", withOptions(ipv4(IPv4{Proto: 17}, join([]byte{1, 1, 1, 0}, udp))), flow4(17, 500, 4500), Info{Kind: Kind{Version: 4, Proto: 17}, Payload: 24, Total: 36}},
	{"hop-by-hop", ipv6(ProtoHopByHop, ext(ProtoUDP), udp), flow6(17, 500, 4500), Info{Kind: Kind{Version: 6, Proto: 17, DontFragment: true}, Payload: 48, Total: 60}},
	{"hop-by-hop, options, routing, options", ipv6(ProtoHopByHop, ext(60), ext(43), ext(60), ext(17), udp), flow6(17, 500, 4500), Info{Kind: Kind{Version: 6, Proto: 17, DontFragment: true}, Payload: 72, Total: 84}},
	{"long extension header", ipv6(60, []byte{17, 1, 1, 12, 15: 0}, udp), flow6(17, 500, 4500), Info{Kind: Kind{Version: 6, Proto: 17, DontFragment: true}, Payload: 56, Total: 68}},
	{"eight extension headers", chain(8), flow6(17, 500, 4500), Info{Kind: Kind{Version: 6, Proto: 17, DontFragment: true}, Payload: 104, Total: 116}},
	{"first fragment6", ipv6(44, AppendIPv6Fragment(nil, 17, 0, true, 9), udp), flow6(17, 500, 4500), Info{Kind: Kind{Version: 6, Proto: 17, More: true, DontFragment: true}, Payload: 48, Total: 60}},
	{"first fragment6 with options inside", ipv6(44, AppendIPv6Fragment(nil, 60, 0, true, 9), ext(17), udp), flow6(17, 500, 4500), Info{Kind: Kind{Version: 6, Proto: 17, More: true, DontFragment: true}, Payload: 56, Total: 68}},
	{"later fragment6", ipv6(44, AppendIPv6Fragment(nil, 17, 1400, true, 9), udp), opaque(flow6(17, 0, 0)), Info{Kind: Kind{Version: 6, Proto: 17, More: true, DontFragment: true}, Payload: 48, Total: 60, FragOffset: 1400}},
	{"later fragment6 of an extension header", ipv6(44, AppendIPv6Fragment(nil, 60, 1400, false, 9), udp[:2]), opaque(flow6(60, 0, 0)), Info{Kind: Kind{Version: 6, Proto: 60, DontFragment: true}, Payload: 48, Total: 50, FragOffset: 1400}},
	{"atomic fragment6 (RFC 6946)", ipv6(44, AppendIPv6Fragment(nil, 17, 0, false, 9), udp), flow6(17, 500, 4500), Info{Kind: Kind{Version: 6, Proto: 17, DontFragment: true}, Payload: 48, Total: 60}},
}

// withOptions claims the first 4 bytes of the upper layer as options.
func withOptions(pkt []byte) []byte {
	pkt[0] = 0x46
	FillIPv4Checksum(pkt)
	return pkt
}

func TestParseFlow(t *testing.T) {
	for _, c := range good {
		f := Flow{SrcPort: 9, DstPort: 9, Proto: 9, Opaque: true} // left from another packet
		info, ok := ParseFlow(c.pkt, &f)
		if !ok || f != c.flow || info != c.info {
			t.Errorf("%s: %v\n got %+v %+v\nwant %+v %+v", c.name, ok, f, info, c.flow, c.info)
			continue
		}
		if TotalLen(c.pkt) != info.Total || info.PayloadLen() != info.Total-info.Payload || !VerifyIPv4Checksum(c.pkt) {
			t.Errorf("%s: TotalLen, PayloadLen or header checksum", c.name)
		}
		if r := f.Reverse(); r.Src != f.Dst || r.DstPort != f.SrcPort || r.Reverse() != f {
			t.Errorf("%s: Reverse is %+v", c.name, r)
		}
	}
}

// A packet that is cut anywhere within what it claims to be is refused.
func TestParseFlowCutAtEveryByte(t *testing.T) {
	for _, c := range good {
		for n := range c.info.Total {
			var f Flow
			if _, ok := ParseFlow(c.pkt[:n:n], &f); ok {
				t.Errorf("%s cut to %d of %d bytes is taken", c.name, n, c.info.Total)
			}
			TotalLen(c.pkt[:n:n])
		}
	}
}

func TestParseFlowRefuses(t *testing.T) {
	change := func(pkt []byte, at int, to byte) []byte {
		pkt = bytes.Clone(pkt)
		pkt[at] = to
		return pkt
	}
	udp4, udp6 := good[0].pkt, good[1].pkt
	mapped := bytes.Clone(udp6)
	copy(mapped[8:], netip.MustParseAddr("::ffff:10.0.0.1").AsSlice())
	jumbo := ipv6(ProtoHopByHop, []byte{17, 0, 0xc2, 4, 0, 1, 0, 0}, udp)
	jumbo[4], jumbo[5] = 0, 0
	for name, pkt := range map[string][]byte{
		"nothing":                         nil,
		"version 5":                       change(udp4, 0, 0x55),
		"version 4 that says 6":           change(udp4, 0, 0x65),
		"header length below 20":          change(udp4, 0, 0x44),
		"header length beyond the total":  change(udp4, 0, 0x4f),
		"total length below the header":   change(udp4, 3, 19),
		"total length beyond the bytes":   change(udp4, 3, 33),
		"payload length beyond":           change(udp6, 5, 13),
		"nine extension headers":          chain(9),
		"hop-by-hop that is not first":    ipv6(60, ext(0), ext(17), udp),
		"extension header beyond":         ipv6(60, []byte{17, 9, 0, 0, 0, 0, 0, 0}, udp),
		"extension header missing":        ipv6(60),
		"fragment header missing":         ipv6(44, make([]byte, 7)),
		"fragment in a fragment":          ipv6(44, AppendIPv6Fragment(nil, 44, 0, true, 1), AppendIPv6Fragment(nil, 17, 0, true, 1), udp),
		"fragment in an atomic one":       ipv6(44, AppendIPv6Fragment(nil, 44, 0, false, 1), AppendIPv6Fragment(nil, 17, 0, true, 2), udp),
		"later fragment in an atomic one": ipv6(44, AppendIPv6Fragment(nil, 44, 0, false, 1), AppendIPv6Fragment(nil, 17, 1400, false, 2), udp),
		"chain cut in first fragment":     ipv6(44, AppendIPv6Fragment(nil, 60, 0, true, 1)),
		"jumbogram":                       jumbo,
		"option without length":           withOptions(ipv4(IPv4{Proto: 17}, join([]byte{1, 1, 1, 7}, udp))),
		"option of length 0":              withOptions(ipv4(IPv4{Proto: 17}, join([]byte{7, 0, 0, 0}, udp))),
		"option of length 1":              withOptions(ipv4(IPv4{Proto: 17}, join([]byte{1, 7, 1, 0}, udp))),
		"option beyond the header":        withOptions(ipv4(IPv4{Proto: 17}, join([]byte{1, 7, 4, 0}, udp))),
		"hop-by-hop option beyond":        ipv6(0, []byte{17, 0, 5, 5, 0, 0, 0, 0}, udp),
		"hop-by-hop option, no length":    ipv6(0, []byte{17, 0, 1, 3, 0, 0, 0, 5}, udp),
		"destination option beyond":       ipv6(60, []byte{17, 0, 1, 0, 30, 3, 0, 0}, udp),
		"option beyond in a fragment":     ipv6(44, AppendIPv6Fragment(nil, 60, 0, true, 1), []byte{17, 0, 1, 9, 0, 0, 0, 0}, udp),
		"IPv4-mapped source":              mapped,
	} {
		var f Flow
		if info, ok := ParseFlow(pkt, &f); ok {
			t.Errorf("%s is taken: %+v %+v", name, info, f)
		}
	}
}

func TestSound(t *testing.T) {
	for _, c := range []struct {
		what  string
		pkt   []byte
		sound bool
	}{
		{"first", ipv4(IPv4{Proto: 17, More: true}, make([]byte, 16)), true},
		{"last, odd", ipv4(IPv4{Proto: 17, FragOffset: 16}, make([]byte, 5)), true},
		{"first, odd", ipv4(IPv4{Proto: 17, More: true}, make([]byte, 15)), false},
		{"without data", ipv4(IPv4{Proto: 17, FragOffset: 16}, nil), false},
		{"up to the longest packet", ipv4(IPv4{Proto: 17, FragOffset: 65504}, make([]byte, 11)), true},
		{"behind it", ipv4(IPv4{Proto: 17, FragOffset: 65504}, make([]byte, 12)), false},
		{"IPv6", ipv6(44, AppendIPv6Fragment(nil, 17, 0, true, 1), make([]byte, 16)), true},
		{"IPv6, odd", ipv6(44, AppendIPv6Fragment(nil, 17, 0, true, 1), make([]byte, 15)), false},
		{"IPv6 without data", ipv6(44, AppendIPv6Fragment(nil, 17, 8, true, 1)), false},
		{"IPv6 up to the longest packet", ipv6(44, AppendIPv6Fragment(nil, 17, 65528, false, 1), make([]byte, 7)), true},
		{"IPv6 behind it", ipv6(44, AppendIPv6Fragment(nil, 17, 65528, false, 1), make([]byte, 8)), false},
	} {
		var f Flow
		if i, ok := ParseFlow(c.pkt, &f); !ok || i.Sound() != c.sound {
			t.Errorf("%s: %v, sound %v", c.what, ok, i.Sound())
		}
	}
}

func TestNothingAllocates(t *testing.T) {
	pkt4, pkt6 := bytes.Clone(good[0].pkt), chain(8)
	room := make([]byte, 0, 256)
	sum := uint16(0)
	if n := testing.AllocsPerRun(100, func() {
		var f Flow
		for _, pkt := range [...][]byte{pkt4, pkt6} {
			info, ok := ParseFlow(pkt, &f)
			if !ok || !FillChecksum(pkt, info) || !VerifyChecksum(pkt, info) {
				t.Error("a good packet is refused")
			}
		}
		sum += PseudoSum(f.Src, f.Dst, f.Proto, 8)
		AppendUDPPacket(room, ports(a4, 1), ports(b4, 2), udp)
		AppendTCPPacket(room, TCP{}, ports(a6, 1), ports(b6, 2), udp)
		AppendEcho(room, a6, b6, false, 1, 2, udp)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func naiveSum(b []byte, initial uint16) uint16 {
	sum := uint32(initial)
	for i := range b {
		if i%2 == 0 {
			sum += uint32(b[i]) << 8
		} else {
			sum += uint32(b[i])
		}
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func TestSumIsTheNaiveSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		for kind := range 4 {
			b := make([]byte, n)
			for i := range b {
				b[i] = [4]byte{byte(r.Uint32()), 0xff, 0, byte(r.IntN(2)) * 0xff}[kind]
			}
			for _, initial := range []uint16{0, 1, 0xffff, uint16(r.Uint32())} {
				if got, want := Sum(b, initial), naiveSum(b, initial); got != want {
					t.Fatalf("%d bytes of kind %d from %#x: %#04x, want %#04x", n, kind, initial, got, want)
				}
			}
		}
	}
	big := bytes.Repeat([]byte{0xff}, 65535)
	if Sum(big, 0xffff) != naiveSum(big, 0xffff) {
		t.Fatal("65535 bytes of ones")
	}
	// RFC 1071 §3.
	if got := Sum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, 0); got != 0xddf2 {
		t.Fatalf("RFC 1071: %#x", got)
	}
}

func TestFillAndVerify(t *testing.T) {
	for _, c := range good {
		pkt := bytes.Clone(c.pkt)
		switch whole := !c.info.Fragment() && !c.flow.Opaque; {
		case !hasChecksum(c.info.Proto) || c.info.Fragment():
			if FillChecksum(pkt, c.info) || !bytes.Equal(pkt, c.pkt) || !VerifyChecksum(pkt, c.info) {
				t.Errorf("%s: has nothing to fill or verify", c.name)
			}
			continue
		case !whole:
			if FillChecksum(pkt, c.info) || !bytes.Equal(pkt, c.pkt) || VerifyChecksum(pkt, c.info) {
				t.Errorf("%s: malformed, yet filled or verified", c.name)
			}
			continue
		}
		at := c.info.Payload + map[uint8]int{ProtoTCP: 16, ProtoUDP: 6, ProtoICMP: 2, ProtoICMPv6: 2}[c.info.Proto]
		none := pkt[at]|pkt[at+1] == 0
		pkt[at] ^= 0x55
		if VerifyChecksum(pkt, c.info) || !FillChecksum(pkt, c.info) || !VerifyChecksum(pkt, c.info) {
			t.Fatalf("%s: filled and not right", c.name)
		}
		if !none && !bytes.Equal(pkt, c.pkt) {
			t.Errorf("%s: filled %x, was built as %x", c.name, pkt, c.pkt)
		}
		// Each single bit counts, in the upper layer and, but for ICMP, in the addresses.
		for at := range c.info.Total {
			inside := at >= c.info.Payload || c.info.Proto != ProtoICMP && (c.info.Version == 4 && at >= 12 && at < 20 || c.info.Version == 6 && at >= 8 && at < 40)
			if !inside {
				continue
			}
			pkt[at] ^= 0x10
			if VerifyChecksum(pkt, c.info) {
				t.Errorf("%s: a flipped bit in byte %d passes", c.name, at)
			}
			pkt[at] ^= 0x10
		}
	}
}

func TestUDPWithoutChecksum(t *testing.T) {
	for _, c := range good[:2] {
		pkt := bytes.Clone(c.pkt)
		pkt[c.info.Payload+6], pkt[c.info.Payload+7] = 0, 0
		if VerifyChecksum(pkt, c.info) != (c.info.Version == 4) {
			t.Errorf("%s: a zero checksum is for IPv4 alone", c.name)
		}
	}
	// A payload that brings the sum to 0 is sent as 0xffff.
	payload := make([]byte, 2)
	pkt := AppendUDPPacket(nil, ports(a4, 1), ports(b4, 2), payload)
	payload[0], payload[1] = pkt[26], pkt[27]
	pkt = AppendUDPPacket(nil, ports(a4, 1), ports(b4, 2), payload)
	var f Flow
	info, _ := ParseFlow(pkt, &f)
	if pkt[26] != 0xff || pkt[27] != 0xff || !VerifyChecksum(pkt, info) || !FillChecksum(pkt, info) || pkt[26] != 0xff {
		t.Fatalf("checksum %x", pkt[26:28])
	}
}

func FuzzParseFlow(f *testing.F) {
	for _, c := range good {
		f.Add(c.pkt)
	}
	f.Fuzz(func(t *testing.T, pkt []byte) {
		var flow Flow
		info, ok := ParseFlow(pkt, &flow)
		if !ok {
			return
		}
		if info.Total > len(pkt) || info.Payload > info.Total || info.Payload < 20 || info.Proto != flow.Proto ||
			flow.Src.BitLen() != flow.Dst.BitLen() || (info.Version == 4) != flow.Src.Is4() ||
			flow.Opaque && (flow.SrcPort != 0 || flow.DstPort != 0) || info.FragOffset != 0 && !flow.Opaque {
			t.Fatalf("%x: %+v %+v", pkt, info, flow)
		}
		// What is behind the packet does not count.
		var again Flow
		if info2, ok := ParseFlow(pkt[:info.Total:info.Total], &again); !ok || info2 != info || again != flow {
			t.Fatalf("%x: without padding %+v %+v", pkt, info2, again)
		}
		if FillChecksum(pkt, info) && !VerifyChecksum(pkt, info) {
			t.Fatalf("%x: filled and not right", pkt)
		}
	})
}

func FuzzSum(f *testing.F) {
	f.Add([]byte("some bytes, odd"), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, initial uint16) {
		if Sum(b, initial) != naiveSum(b, initial) {
			t.Fatalf("%x", b)
		}
	})
}

func BenchmarkParseFlow(b *testing.B) {
	var f Flow
	for _, c := range []int{0, 1} {
		b.Run(good[c].name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ParseFlow(good[c].pkt, &f)
			}
		})
	}
}

func BenchmarkSum1420(b *testing.B) {
	p := make([]byte, 1420)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		Sum(p, 0)
	}
}
