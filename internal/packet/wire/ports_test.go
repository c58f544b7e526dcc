package wire

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

// conversations are packets of each kind that has ports, of either family.
func conversations(payload []byte) (list [][]byte) {
	for _, ends := range [][2]string{{"10.0.0.1", "10.0.0.2"}, {"2001:db8::1", "2001:db8::2"}} {
		a, b := netip.MustParseAddr(ends[0]), netip.MustParseAddr(ends[1])
		src, dst := netip.AddrPortFrom(a, 1701), netip.AddrPortFrom(b, 53)
		list = append(list,
			AppendUDPPacket(nil, src, dst, payload), AppendTCPPacket(nil, TCP{Seq: 1, Flags: 2}, src, dst, payload),
			AppendEcho(nil, a, b, false, 1701, 9, payload), AppendEcho(nil, b, a, true, 1701, 9, payload))
	}
	return list
}

func TestPorts(t *testing.T) {
	for i, want := range []Ports{
		{1701, 53, 20, 22}, {1701, 53, 20, 22}, {1701, 0, 24, 0}, {0, 1701, 0, 24},
		{1701, 53, 40, 42}, {1701, 53, 40, 42}, {1701, 0, 44, 0}, {0, 1701, 0, 44},
	} {
		pkt := conversations([]byte("payload"))[i]
		var f Flow
		info, _ := ParseFlow(pkt, &f)
		if got := PortsOf(pkt, info); got != want {
			t.Errorf("%d: %+v, want %+v", i, got, want)
		}
		for n := range len(pkt) {
			if info, ok := ParseFlow(pkt[:n], &f); ok {
				PortsOf(pkt[:n], info)
			}
		}
	}
	gre := AppendIP(nil, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), 47, 12)
	info, _ := ParseFlow(append(gre, make([]byte, 12)...), new(Flow))
	if got := PortsOf(append(gre, make([]byte, 12)...), info); got != (Ports{}) {
		t.Errorf("GRE has %+v", got)
	}
	for kind := range 256 { // an echo has an identifier, and nothing else of ICMP has
		for i, numbers := range [][2]int{{8, 0}, {128, 129}} {
			pkt := AppendICMPPacket(nil, ICMP{Type: uint8(kind), Rest: 7 << 16}, []netip.Addr{a4, a6}[i], []netip.Addr{b4, b6}[i], nil)
			info, _ := ParseFlow(pkt, new(Flow))
			want := Ports{}
			switch kind {
			case numbers[0]:
				want = Ports{Src: 7, SrcAt: info.Payload + 4}
			case numbers[1]:
				want = Ports{Dst: 7, DstAt: info.Payload + 4}
			}
			if got := PortsOf(pkt, info); got != want {
				t.Errorf("type %d: %+v, want %+v", kind, got, want)
			}
		}
	}
}

// A checksum that was right is right with another port, and is what FillChecksum
// makes; one that was wrong stays wrong, and none is none.
func TestSetPort(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		payload := make([]byte, r.IntN(40))
		for i := range payload {
			payload[i] = byte(r.Uint32())
		}
		for _, pkt := range conversations(payload) {
			info, _ := ParseFlow(pkt, new(Flow))
			p, value := PortsOf(pkt, info), uint16(r.Uint32())
			at := max(p.SrcAt, p.DstAt)
			SetPort(pkt, info, at, value)
			if binary.BigEndian.Uint16(pkt[at:]) != value || !VerifyChecksum(pkt, info) {
				t.Fatalf("%x with port %d", pkt, value)
			}
			want := bytes.Clone(pkt)
			FillChecksum(want, info)
			if s, _ := summedLayer(pkt, info); !bytes.Equal(want, pkt) && s.field()[0]|s.field()[1] != 0 {
				t.Fatalf("%x, want %x", pkt, want)
			}
			pkt[len(pkt)-1] ^= 1
			SetPort(pkt, info, at, uint16(r.Uint32()))
			if VerifyChecksum(pkt, info) {
				t.Fatalf("%x is right now", pkt)
			}
		}
	}
	bare := conversations(nil)[0]
	bare[26], bare[27] = 0, 0
	info, _ := ParseFlow(bare, new(Flow))
	SetPort(bare, info, 20, 7)
	if bare[26]|bare[27] != 0 || bare[21] != 7 {
		t.Errorf("%x", bare)
	}
}

// Both checksums follow where the quoted packet is whole, and the outer one where it
// is cut off behind its first eight bytes.
func TestQuote(t *testing.T) {
	from := map[int]netip.Addr{4: netip.MustParseAddr("10.0.0.9"), 6: netip.MustParseAddr("2001:db8::9")}
	for i, quoted := range conversations([]byte("payload")) {
		inner, f := Info{}, Flow{}
		inner, _ = ParseFlow(quoted, &f)
		h := ICMP{Type: ICMPUnreachable, Code: 4}
		if inner.Version == 6 {
			h = ICMP{Type: ICMPv6TooBig}
		}
		for n := range len(quoted) + 1 {
			pkt := AppendICMPPacket(nil, h, from[int(inner.Version)], f.Src, quoted[:n])
			info, _ := ParseFlow(pkt, new(Flow))
			q, ok := QuoteOf(pkt, info)
			if ok != (n >= inner.Payload+8) {
				t.Fatalf("%d, %d bytes: %v", i, n, ok)
			}
			if !ok {
				continue
			}
			p := PortsOf(quoted, inner)
			if q.Src != f.Src || q.Dst != f.Dst || q.Proto != f.Proto || q.Ports.Src != p.Src || q.Ports.Dst != p.Dst {
				t.Fatalf("%d: %+v", i, q)
			}
			SetQuoted(pkt, info, q, max(q.SrcAt, q.DstAt), 50000)
			again, _ := QuoteOf(pkt, info)
			if max(again.Ports.Src, again.Ports.Dst) != 50000 || !VerifyChecksum(pkt, info) {
				t.Fatalf("%d, %d bytes: %x", i, n, pkt)
			}
			if whole := pkt[info.Payload+ICMPHeaderLen:]; n == len(quoted) && !VerifyChecksum(whole, inner) {
				t.Fatalf("%d: within it, %x", i, whole)
			}
		}
	}
	echo := conversations([]byte("an echo, which quotes nothing, however long it is, even of a header"))[2]
	info, _ := ParseFlow(echo, new(Flow))
	if q, ok := QuoteOf(echo, info); ok {
		t.Errorf("%+v", q)
	}
	later := AppendICMPPacket(nil, ICMP{Type: ICMPUnreachable}, from[4], from[4], append(AppendIP(nil, from[4], from[4], ProtoUDP, 8), make([]byte, 8)...))
	later[20+8+7] = 1 // of another fragment
	info, _ = ParseFlow(later, new(Flow))
	if q, ok := QuoteOf(later, info); ok {
		t.Errorf("%+v", q)
	}
}

func FuzzPorts(f *testing.F) {
	for _, pkt := range conversations([]byte("payload")) {
		f.Add(pkt, uint16(7))
		inner, flow := Info{}, Flow{}
		inner, _ = ParseFlow(pkt, &flow)
		h := ICMP{Type: ICMPUnreachable}
		if inner.Version == 6 {
			h.Type = ICMPv6TooBig
		}
		f.Add(AppendICMPPacket(nil, h, flow.Dst, flow.Src, pkt), uint16(7))
	}
	f.Fuzz(func(t *testing.T, pkt []byte, value uint16) {
		info, ok := ParseFlow(pkt, new(Flow))
		if !ok || info.Fragment() {
			return
		}
		right := VerifyChecksum(pkt, info)
		if p := PortsOf(pkt, info); p.SrcAt != 0 {
			SetPort(pkt, info, p.SrcAt, value)
			if got := PortsOf(pkt, info); got.Src != value || got.Dst != p.Dst {
				t.Fatalf("%+v, then %+v", p, got)
			}
		} else if q, ok := QuoteOf(pkt, info); ok && q.DstAt != 0 {
			SetQuoted(pkt, info, q, q.DstAt, value)
		}
		if right && !VerifyChecksum(pkt, info) {
			t.Fatalf("%x", pkt)
		}
	})
}

// A checksum of 0 is a checksum, but for UDP.
func TestSetPortAtZero(t *testing.T) {
	for i, pkt := range conversations([]byte("payload"))[1:4] {
		info, _ := ParseFlow(pkt, new(Flow))
		p := PortsOf(pkt, info)
		at, zero := max(p.SrcAt, p.DstAt), false
		for value := range 0x10000 {
			SetPort(pkt, info, at, uint16(value))
			if s, _ := summedLayer(pkt, info); s.field()[0]|s.field()[1] == 0 {
				zero = true
			}
			if !VerifyChecksum(pkt, info) {
				t.Fatalf("%d: %x with port %d", i, pkt, value)
			}
		}
		if !zero {
			t.Errorf("%d: no port makes the checksum 0", i)
		}
	}
}

// quoting is an ICMP or ICMPv6 error about a packet, of which n bytes are quoted.
func quoting(quoted []byte, n int) ([]byte, Info) {
	a, h := netip.MustParseAddr("10.0.0.9"), ICMP{Type: ICMPUnreachable}
	if quoted[0]>>4 == 6 {
		a, h = netip.MustParseAddr("2001:db8::9"), ICMP{Type: ICMPv6TooBig}
	}
	pkt := AppendICMPPacket(nil, h, a, a, quoted[:n])
	info, _ := ParseFlow(pkt, new(Flow))
	return pkt, info
}

// What a quotation shows of a flow is all of it, or all but the ports, or nothing.
func TestQuotedFlow(t *testing.T) {
	needed := map[uint8]int{ProtoTCP: 4, ProtoUDP: 4, ProtoSCTP: 4, ProtoUDPLite: 4, ProtoDCCP: 4, ProtoICMP: 2, ProtoICMPv6: 2, ProtoMobility: 3}
	for _, c := range good {
		for n := range c.info.Total + 1 {
			pkt, info := quoting(c.pkt, n)
			got, ok := QuotedFlow(pkt, info)
			if ok != (n >= c.info.Payload) {
				t.Fatalf("%s, %d bytes: %v", c.name, n, ok)
			}
			want := c.flow
			if n < c.info.Payload+needed[c.flow.Proto] {
				want = want.Blind()
			}
			if ok && got != want {
				t.Fatalf("%s, %d bytes: %+v, want %+v", c.name, n, got, want)
			}
		}
	}
}

// What quotes nothing that is an IP packet shows no flow.
func TestQuotesNothing(t *testing.T) {
	with := func(pkt []byte, at int, b ...byte) []byte {
		pkt = bytes.Clone(pkt)
		copy(pkt[at:], b)
		return pkt
	}
	udp4, udp6 := conversations(bytes.Repeat([]byte("payload"), 9))[0], conversations([]byte("payload"))[4]
	mapped := netip.MustParseAddr("::ffff:10.0.0.1").AsSlice()
	four, _ := quoting(udp4, len(udp4))
	six, _ := quoting(udp6, len(udp6))
	for name, pkt := range map[string][]byte{
		"version 5":                  with(four, 28, 0x55),
		"version 6 in ICMP":          with(four, 28, 0x65),
		"version 5 in ICMPv6":        with(six, 48, 0x50),
		"version 4 in ICMPv6":        with(six, 48, 0x45),
		"a header of 16 bytes":       with(four, 28, 0x44),
		"an IPv4-mapped source":      with(six, 48+8, mapped...),
		"an IPv4-mapped destination": with(six, 48+24, mapped...),
		"a chain that is cut":        with(with(six, 48+6, ProtoDstOpts), 48+40, 17, 9),
		"an echo":                    with(four, 20, ICMPEcho),
		"an echo of ICMPv6":          with(six, 40, ICMPv6Echo),
		"a stump":                    AppendICMPPacket(nil, ICMP{Type: ICMPUnreachable}, a4, b4, nil),
		"no error":                   udp4,
	} {
		info, ok := ParseFlow(pkt, new(Flow))
		if !ok {
			t.Fatalf("%s is no packet", name)
		}
		if f, ok := QuotedFlow(pkt, info); ok {
			t.Errorf("%s: %+v", name, f)
		}
		if q, ok := QuoteOf(pkt, info); ok && !strings.Contains(name, "IPv4-mapped") {
			t.Errorf("%s: %+v", name, q)
		}
	}
	for n := range ICMPHeaderLen { // an error that is cut itself
		pkt := ipv4(IPv4{Proto: ProtoICMP}, append([]byte{ICMPUnreachable}, make([]byte, 7)...)[:n])
		info, _ := ParseFlow(pkt, new(Flow))
		if _, ok := QuotedFlow(pkt, info); ok {
			t.Errorf("%d bytes of an error quote a flow", n)
		}
		if _, ok := QuoteOf(pkt, info); ok {
			t.Errorf("%d bytes of an error quote", n)
		}
	}
	long := with(four, 28, 0x4f) // a header longer than what is quoted of it
	for n := 28 + IPv4HeaderLen; n < 28+60; n++ {
		pkt := bytes.Clone(long[:n])
		SetTotal(pkt, n)
		info, _ := ParseFlow(pkt, new(Flow))
		if _, ok := QuotedFlow(pkt, info); ok {
			t.Errorf("%d bytes of a header of 60 show a flow", n-28)
		}
		if _, ok := QuoteOf(pkt, info); ok {
			t.Errorf("%d bytes of a header of 60 are a quotation", n-28)
		}
	}
	piece := with(four, 6, 0x20)
	info, _ := ParseFlow(piece, new(Flow))
	if _, ok := QuotedFlow(piece, info); ok {
		t.Error("a fragment shows a flow")
	}
}

// RFC 792, RFC 4443 §2.1.
func TestErrors(t *testing.T) {
	four := map[int]bool{3: true, 4: true, 5: true, 11: true, 12: true}
	for kind := range 256 {
		for proto, want := range map[uint8]bool{ProtoICMP: four[kind], ProtoICMPv6: kind < 128, ProtoUDP: false} {
			f := Flow{Proto: proto, SrcPort: uint16(kind)<<8 | 7}
			if f.Error() != want {
				t.Errorf("protocol %d, type %d is an error: %v", proto, kind, !want)
			}
			if f.Opaque = true; f.Error() {
				t.Errorf("protocol %d: an error whose type is not seen", proto)
			}
		}
	}
}

func TestAnswering(t *testing.T) {
	for proto, types := range map[uint8]bool{ProtoICMP: true, ProtoICMPv6: true, ProtoMobility: true, ProtoUDP: false, ProtoTCP: false, 47: false} {
		f := Flow{Src: a4, Dst: b4, Proto: proto, SrcPort: 0x0800, DstPort: 3}
		want := Flow{Src: b4, Dst: a4, Proto: proto, SrcPort: 3, DstPort: 0x0800}
		if types {
			want.SrcPort, want.DstPort = 0x0800, 3
		}
		if got := f.Answering(); got != want {
			t.Errorf("protocol %d: %+v", proto, got)
		}
	}
}

// Is is ==.
func TestFlowIs(t *testing.T) {
	base := Flow{Src: a4, Dst: b4, SrcPort: 1, DstPort: 2, Proto: 17}
	other := []Flow{base, base, base, base, base, base, base}
	other[1].Src, other[2].Dst, other[3].SrcPort, other[4].DstPort, other[5].Proto, other[6].Opaque = b4, a4, 3, 3, 6, true
	for i := range other {
		if other[i].Is(&base) != (i == 0) || base.Is(&other[i]) != (i == 0) {
			t.Errorf("%+v is %+v: %v", other[i], base, i != 0)
		}
	}
}
