package wire

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
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
