package tun

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"culvert/internal/packet/wire"
)

// cut is what Linux makes of a packet with an offload header: the segments, each with its own
// sequence number, identification, lengths and checksums.
func cut(t testing.TB, head, pkt []byte) (list [][]byte) {
	t.Helper()
	kind, size, start, at := head[1]&^offloadECN, int(binary.NativeEndian.Uint16(head[4:])), int(binary.NativeEndian.Uint16(head[6:])), int(binary.NativeEndian.Uint16(head[8:]))
	if kind == offloadNone {
		if head[0] != 0 {
			t.Fatalf("flags %d on a packet that is not joined", head[0])
		}
		return [][]byte{pkt}
	}
	front := int(binary.NativeEndian.Uint16(head[2:]))
	if head[0] != needsSum || size == 0 || front >= len(pkt) {
		t.Fatalf("offload header % x", head)
	}
	if !wire.VerifyIPv4Checksum(pkt) {
		t.Fatal("the joined packet's IPv4 checksum is wrong")
	}
	for payload, k := pkt[front:], 0; len(payload) > 0; k++ {
		n := min(size, len(payload))
		seg := append(bytes.Clone(pkt[:front]), payload[:n]...)
		payload = payload[n:]
		if pkt[0]>>4 == 4 {
			binary.BigEndian.PutUint16(seg[2:], uint16(len(seg)))
			binary.BigEndian.PutUint16(seg[4:], binary.BigEndian.Uint16(pkt[4:])+uint16(k))
			wire.FillIPv4Checksum(seg)
		} else {
			binary.BigEndian.PutUint16(seg[4:], uint16(len(seg)-40))
		}
		l4 := seg[start:]
		if kind == offloadUDP {
			binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		} else {
			binary.BigEndian.PutUint32(l4[4:], binary.BigEndian.Uint32(pkt[start+4:])+uint32(k*size))
			if len(payload) > 0 {
				l4[13] &^= flagFIN | flagPSH
			}
			if k > 0 {
				l4[13] &^= flagCWR
			}
		}
		l, ok := layOut(seg)
		if !ok {
			t.Fatalf("segment %d of a joined packet cannot be read: % x", k, seg)
		}
		// The field holds the sum of the pseudo header of the whole: what the segment's differs
		// by is its length.
		whole := pseudo(pkt, l, len(pkt)-start)
		if got := binary.BigEndian.Uint16(pkt[start+at:]); got != whole {
			t.Fatalf("the checksum field of the joined packet is %04x, want %04x", got, whole)
		}
		l4[at], l4[at+1] = 0, 0
		sum := ^wire.Sum(l4, pseudo(seg, l, len(l4)))
		if sum == 0 && kind == offloadUDP {
			sum = 0xffff
		}
		binary.BigEndian.PutUint16(l4[at:], sum)
		list = append(list, seg)
	}
	return list
}

// written is what the system makes of the packets after they were joined, and how many it
// was given.
func written(t testing.TB, j *joiner, packets [][]byte) (out [][]byte, given int) {
	t.Helper()
	var bufs [][]byte
	for _, p := range packets {
		bufs = append(bufs, append(make([]byte, Offset), p...))
	}
	j.join(bufs, Offset)
	for k := range j.groups {
		g := &j.groups[k]
		g.head(bufs[g.first], Offset)
		joined := bytes.Clone(bufs[g.first][Offset:])
		for i := j.next[g.first]; i >= 0; i = j.next[i] {
			joined = append(joined, bufs[i][Offset+g.layout.payload:]...)
		}
		out = append(out, cut(t, bufs[g.first][Offset-offloadLen:Offset], joined)...)
		given++
		if g.segments > 1 { // and what is written where the system refuses it
			g.apart(bufs[g.first][Offset:])
			if !slices.ContainsFunc(packets, func(p []byte) bool { return bytes.Equal(p, bufs[g.first][Offset:]) }) {
				t.Fatalf("taken apart again, the first packet is another: % x", bufs[g.first][Offset:])
			}
		}
	}
	return out, given
}

func tcp(from, to string, seq uint32, flags uint8, payload string) []byte {
	return wire.AppendTCPPacket(nil, wire.TCP{Seq: seq, Ack: 7, Flags: flags, Window: 500}, netip.MustParseAddrPort(from), netip.MustParseAddrPort(to), []byte(payload))
}

func udp(from, to, payload string) []byte {
	return wire.AppendUDPPacket(nil, netip.MustParseAddrPort(from), netip.MustParseAddrPort(to), []byte(payload))
}

// What has no whole TCP or UDP header, or is no whole packet, has no parts.
func TestLayOut(t *testing.T) {
	for _, c := range []struct {
		pkt  []byte
		want layout
	}{
		{tcp("10.0.0.1:1", "10.0.0.2:2", 1, flagACK, "x"), layout{4, wire.ProtoTCP, 20, 40}}, {udp("10.0.0.1:1", "10.0.0.2:2", "x"), layout{4, wire.ProtoUDP, 20, 28}},
		{tcp("[fd00::1]:1", "[fd00::2]:2", 1, flagACK, ""), layout{6, wire.ProtoTCP, 40, 60}}, {udp("[fd00::1]:1", "[fd00::2]:2", ""), layout{6, wire.ProtoUDP, 40, 48}},
	} {
		if got, ok := layOut(c.pkt); !ok || got != c.want {
			t.Errorf("%x: %+v, %v", c.pkt, got, ok)
		}
		l4 := c.want.l4
		for n := range len(c.pkt) {
			short := bytes.Clone(c.pkt[:n])
			if _, ok := layOut(short); ok {
				t.Errorf("%d of %d bytes are a packet", n, len(c.pkt))
			}
			if n < l4 {
				continue
			}
			if c.want.version == 4 { // and says that it is whole
				binary.BigEndian.PutUint16(short[2:], uint16(n))
			} else {
				binary.BigEndian.PutUint16(short[4:], uint16(n-40))
			}
			least := l4 + wire.TCPHeaderLen
			if c.want.proto == wire.ProtoUDP {
				if least = l4 + wire.UDPHeaderLen; n >= l4+6 {
					binary.BigEndian.PutUint16(short[l4+4:], uint16(n-l4))
				}
			}
			if got, ok := layOut(short); ok != (n >= least) || ok && got != c.want {
				t.Errorf("%d of %d bytes, and it is whole: %+v, %v", n, len(c.pkt), got, ok)
			}
		}
		if c.want.proto == wire.ProtoTCP {
			for words, ok := range map[byte]bool{4: false, 5: true, 6: len(c.pkt) >= l4+24, 15: false} {
				odd := bytes.Clone(c.pkt)
				odd[l4+12] = words << 4
				if _, got := layOut(odd); got != ok {
					t.Errorf("a TCP header of %d words: %v", words, got)
				}
			}
		}
	}
}

// What is neither TCP nor UDP has no parts, however much it looks like them.
func TestLayOutOfOtherProtocols(t *testing.T) {
	for _, p := range [][]byte{tcp("10.0.0.1:1", "10.0.0.2:2", 1, flagACK, "x"), tcp("[fd00::1]:1", "[fd00::2]:2", 1, flagACK, "x")} {
		at := map[byte]int{4: 9, 6: 6}[p[0]>>4]
		for _, proto := range []byte{0, wire.ProtoICMP, wire.ProtoTCP + 1, wire.ProtoESP, wire.ProtoICMPv6, 136} {
			other := bytes.Clone(p)
			other[at] = proto
			if l, ok := layOut(other); ok {
				t.Errorf("protocol %d: %+v", proto, l)
			}
		}
	}
}

// edit changes a packet and makes its checksums right again.
func edit(pkt []byte, change func(pkt []byte)) []byte {
	pkt = bytes.Clone(pkt)
	change(pkt)
	if pkt[0]>>4 == 4 {
		wire.FillIPv4Checksum(pkt)
	}
	var f wire.Flow
	if info, ok := wire.ParseFlow(pkt, &f); ok {
		wire.FillChecksum(pkt, info)
	}
	return pkt
}

// options puts a timestamp option of four bytes into a TCP packet of IPv4.
func options(pkt []byte, stamp byte) []byte {
	pkt = slices.Insert(pkt, 40, 1, 1, 1, stamp&1) // three NOPs, and a NOP or the end of the list
	return edit(pkt, func(p []byte) {
		p[20+12] = 6 << 4
		wire.SetTotal(p, len(p))
	})
}

// summed is a datagram of four bytes, the first of which is zero, whose checksum is as asked for.
func summed(from, to string, is func(sum uint16) bool) []byte {
	for k := range 1 << 16 {
		if p := udp(from, to, string([]byte{0, 1, byte(k >> 8), byte(k)})); is(binary.BigEndian.Uint16(p[26:])) {
			return p
		}
	}
	panic("there is none")
}

// TestJoin: what is joined, and every single thing that forbids it.
func TestJoin(t *testing.T) {
	const a, b = "10.0.0.1:80", "10.0.0.2:81"
	const a6, b6 = "[fd00::1]:80", "[fd00::2]:81"
	two := func(change func(pkt []byte)) [][]byte {
		return [][]byte{tcp(a, b, 100, flagACK, "abcd"), edit(tcp(a, b, 104, flagACK, "efgh"), change)}
	}
	two6 := func(change func(pkt []byte)) [][]byte {
		return [][]byte{tcp(a6, b6, 100, flagACK, "abcd"), edit(tcp(a6, b6, 104, flagACK, "efgh"), change)}
	}
	nothing := func([]byte) {}
	for _, c := range []struct {
		name    string
		packets [][]byte
		given   int
	}{
		{"two of IPv4", two(nothing), 1},
		{"two of IPv6", two6(nothing), 1},
		{"a shorter last one ends it", [][]byte{tcp(a, b, 100, flagACK, "abcd"), tcp(a, b, 104, flagACK, "ef"), tcp(a, b, 106, flagACK, "ghij")}, 2},
		{"a longer one", [][]byte{tcp(a, b, 100, flagACK, "abcd"), tcp(a, b, 104, flagACK, "efghi")}, 2},
		{"PSH ends it", [][]byte{tcp(a, b, 100, flagACK, "abcd"), tcp(a, b, 104, flagACK|flagPSH, "efgh"), tcp(a, b, 108, flagACK, "ijkl")}, 2},
		{"PSH at once", [][]byte{tcp(a, b, 100, flagACK|flagPSH, "abcd"), tcp(a, b, 104, flagACK, "efgh")}, 2},
		{"FIN", [][]byte{tcp(a, b, 100, flagACK, "abcd"), tcp(a, b, 104, flagACK|1, "efgh")}, 2},
		{"ECE", [][]byte{tcp(a, b, 100, flagACK, "abcd"), tcp(a, b, 104, flagACK|0x40, "efgh")}, 2},
		{"CWR", [][]byte{tcp(a, b, 100, flagACK|0x80, "abcd"), tcp(a, b, 104, flagACK, "efgh")}, 2},
		{"URG", [][]byte{tcp(a, b, 100, flagACK, "abcd"), tcp(a, b, 104, flagACK|0x20, "efgh")}, 2},
		{"a gap", [][]byte{tcp(a, b, 100, flagACK, "abcd"), tcp(a, b, 105, flagACK, "efgh")}, 2},
		{"the same again", [][]byte{tcp(a, b, 100, flagACK, "abcd"), tcp(a, b, 100, flagACK, "abcd")}, 2},
		{"no payload", [][]byte{tcp(a, b, 100, flagACK, "abcd"), tcp(a, b, 104, flagACK, "")}, 2},
		{"another port", [][]byte{tcp(a, b, 100, flagACK, "abcd"), tcp(a, "10.0.0.2:82", 104, flagACK, "efgh")}, 2},
		{"a reserved bit of both", [][]byte{edit(tcp(a, b, 100, flagACK, "abcd"), func(p []byte) { p[20+12] |= 1 }), edit(tcp(a, b, 104, flagACK, "efgh"), func(p []byte) { p[20+12] |= 1 })}, 2},
		{"the same options", [][]byte{options(tcp(a, b, 100, flagACK, "abcd"), 7), options(tcp(a, b, 104, flagACK, "efgh"), 7)}, 1},
		{"another timestamp", [][]byte{options(tcp(a, b, 100, flagACK, "abcd"), 7), options(tcp(a, b, 104, flagACK, "efgh"), 8)}, 2},
		{"the reserved bit of IPv4", [][]byte{edit(tcp(a, b, 100, flagACK, "abcd"), func(p []byte) { p[6] |= 0x80 }), edit(tcp(a, b, 104, flagACK, "efgh"), func(p []byte) { p[6] |= 0x80 })}, 2},
		{"acknowledgment", two(func(p []byte) { p[20+11]++ }), 2},
		{"window", two(func(p []byte) { p[20+15]++ }), 2},
		{"reserved bits of TCP", two(func(p []byte) { p[20+12] |= 1 }), 2},
		{"type of service", two(func(p []byte) { p[1] = 0x10 }), 2},
		{"ECN", two(func(p []byte) { p[1] = 3 }), 2},
		{"TTL", two(func(p []byte) { p[8]-- }), 2},
		{"DF", two(func(p []byte) { p[6] = 0 }), 2},
		{"fragment", two(func(p []byte) { p[6] = 0x20 }), 2},
		{"traffic class", two6(func(p []byte) { p[1] |= 0x10 }), 2},
		{"ECN of IPv6", two6(func(p []byte) { p[1] |= 0x30 }), 2},
		{"flow label", two6(func(p []byte) { p[3]++ }), 2},
		{"hop limit", two6(func(p []byte) { p[7]-- }), 2},
		{"between others", [][]byte{tcp(a, b, 100, flagACK, "abcd"), tcp(b, a, 5, flagACK, "wxyz"), tcp(a, b, 104, flagACK, "efgh"), tcp(b, a, 9, flagACK, "stuv")}, 2},
		{"datagrams", [][]byte{udp(a, b, "abcd"), udp(a, b, "efgh"), udp(a, b, "ij"), udp(a, b, "klmn")}, 2},
		{"datagrams of IPv6", [][]byte{udp(a6, b6, "abcd"), udp(a6, b6, "efgh")}, 1},
		{"an empty datagram", [][]byte{udp(a, b, ""), udp(a, b, "")}, 2},
		{"a datagram without checksum", [][]byte{udp(a, b, "abcd"), func() []byte { p := udp(a, b, "efgh"); p[26], p[27] = 0, 0; return p }()}, 2},
		{"a datagram without checksum that needs none", [][]byte{udp(a, b, "abcd"), func() []byte {
			p := summed(a, b, func(sum uint16) bool { return sum == 0xffff })
			p[26], p[27] = 0, 0
			return p
		}()}, 2},
		{"a checksum with a high byte of zero", [][]byte{udp(a, b, "abcd"), summed(a, b, func(sum uint16) bool { return sum>>8 == 0 })}, 1},
		{"a checksum with a low byte of zero", [][]byte{udp(a, b, "abcd"), summed(a, b, func(sum uint16) bool { return sum&0xff == 0 })}, 1},
		{"a first one with a high byte of zero", [][]byte{summed(a, b, func(sum uint16) bool { return sum>>8 == 0 }), udp(a, b, "abcd")}, 1},
		{"a first one with a low byte of zero", [][]byte{summed(a, b, func(sum uint16) bool { return sum&0xff == 0 }), udp(a, b, "abcd")}, 1},
		{"a wrong checksum of the second", [][]byte{tcp(a, b, 100, flagACK, "abcd"), func() []byte { p := tcp(a, b, 104, flagACK, "efgh"); p[len(p)-1] ^= 1; return p }()}, 2},
		{"a wrong checksum of the first", [][]byte{func() []byte { p := tcp(a, b, 100, flagACK, "abcd"); p[len(p)-1] ^= 1; return p }(), tcp(a, b, 104, flagACK, "efgh")}, 2},
		{"a wrong checksum of the IPv4 header", [][]byte{tcp(a, b, 100, flagACK, "abcd"), func() []byte { p := tcp(a, b, 104, flagACK, "efgh"); p[10] ^= 1; return p }()}, 2},
		{"what is not known lies between", [][]byte{tcp(a, b, 100, flagACK, "abcd"), {0x45, 0, 0, 4}, tcp(a, b, 104, flagACK, "efgh")}, 3},
		{"consecutive identifications without DF", [][]byte{
			edit(tcp(a, b, 100, flagACK, "abcd"), func(p []byte) { p[6], p[5] = 0, 9 }), edit(tcp(a, b, 104, flagACK, "efgh"), func(p []byte) { p[6], p[5] = 0, 10 }),
			edit(tcp(a, b, 108, flagACK, "ijkl"), func(p []byte) { p[6], p[5] = 0, 11 })}, 1},
		{"identification without DF", [][]byte{
			edit(tcp(a, b, 100, flagACK, "abcd"), func(p []byte) { p[6], p[5] = 0, 9 }), edit(tcp(a, b, 104, flagACK, "efgh"), func(p []byte) { p[6], p[5] = 0, 10 }),
			edit(tcp(a, b, 108, flagACK, "ijkl"), func(p []byte) { p[6], p[5] = 0, 12 })}, 2},
	} {
		j := &joiner{udp: true}
		out, given := written(t, j, c.packets)
		if given != c.given {
			t.Errorf("%s: the system is given %d packets, want %d", c.name, given, c.given)
		}
		if len(out) != len(c.packets) {
			t.Errorf("%s: %d packets became %d", c.name, len(c.packets), len(out))
		}
	}
	j := &joiner{}
	if _, given := written(t, j, [][]byte{udp(a, b, "abcd"), udp(a, b, "efgh")}); given != 2 {
		t.Error("datagrams were joined for a system that does not cut them")
	}
	var many [][]byte
	for range 130 {
		many = append(many, udp(a, b, "abcd"))
	}
	if _, given := written(t, &joiner{udp: true}, many); given != 3 {
		t.Errorf("130 datagrams became %d packets, want 3: Linux cuts 64 from one", given)
	}
	var long [][]byte
	for i := range 60 {
		long = append(long, tcp(a, b, uint32(1400*i), flagACK, string(make([]byte, 1400))))
	}
	if out, given := written(t, &joiner{}, long); given != 2 || len(out) != 60 {
		t.Errorf("60 segments became %d packets, want 2: an IP packet has 65535 bytes at most", given)
	}
}

// TestJoinedIsTheSame: whatever is written, joined and cut again by the system, is what it was,
// in the order in which each flow was; wrong checksums stay wrong.
func TestJoinedIsTheSame(t *testing.T) {
	joined := 0
	for seed := range uint64(2000) {
		joined += sameAgain(t, seed)
	}
	if joined < 2000 {
		t.Errorf("only %d packets were joined, so that this test shows less than it should", joined)
	}
}

func FuzzJoin(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { sameAgain(t, seed) })
}

func sameAgain(t testing.TB, seed uint64) (joined int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	hosts := [][2]string{{"10.0.0.1:80", "10.0.0.2:81"}, {"10.0.0.1:90", "10.0.0.2:81"}, {"[fd00::1]:80", "[fd00::2]:81"}}
	next, id := map[string]uint32{}, uint16(r.Uint32())
	var packets [][]byte
	for range 1 + r.IntN(40) {
		h := hosts[r.IntN(len(hosts))]
		size := []int{1, 3, 8, 8, 8, 8, 9}[r.IntN(7)]
		payload := make([]byte, size)
		for i := range payload {
			payload[i] = byte(r.Uint32())
		}
		var pkt []byte
		if r.IntN(3) == 0 {
			pkt = udp(h[0], h[1], string(payload))
		} else {
			flags := []uint8{flagACK, flagACK, flagACK, flagACK, flagACK | flagPSH, flagACK | 1, 2}[r.IntN(7)]
			pkt = tcp(h[0], h[1], next[h[0]], flags, string(payload))
			next[h[0]] += uint32(size)
		}
		switch r.IntN(30) {
		case 0:
			pkt = edit(pkt, func(p []byte) { p[1] ^= 0x10 })
		case 1:
			pkt[r.IntN(len(pkt))] ^= 1 << r.IntN(8)
		case 2:
			pkt = pkt[:r.IntN(len(pkt))+1]
		case 3:
			pkt = edit(pkt, func(p []byte) { p[r.IntN(len(p))]++ })
		}
		if len(pkt) >= 20 && pkt[0] == 0x45 && wire.VerifyIPv4Checksum(pkt) {
			id++
			binary.BigEndian.PutUint16(pkt[4:], id)
			if r.IntN(2) == 0 {
				pkt[6] &^= 0x40
			}
			wire.FillIPv4Checksum(pkt)
		}
		packets = append(packets, pkt)
	}
	out, given := written(t, &joiner{udp: true}, packets)
	// Packets of several flows may leave in another order; those of one may not.
	flows := func(list [][]byte) map[string][]string {
		m := map[string][]string{}
		for _, p := range list {
			name := "other"
			if l, ok := layOut(p); ok {
				name = fmt.Sprintf("%d %d %x", l.version, l.proto, p[map[uint8]int{4: 12, 6: 8}[l.version]:l.l4+4])
				if l.version == 4 && p[6]&0x40 != 0 && wire.VerifyIPv4Checksum(p) {
					p = bytes.Clone(p) // with DF the identification says nothing
					p[4], p[5], p[10], p[11] = 0, 0, 0, 0
				}
			}
			m[name] = append(m[name], string(p))
		}
		return m
	}
	want, got := flows(packets), flows(out)
	for name, list := range want {
		if !slices.Equal(list, got[name]) {
			t.Fatalf("seed %d, flow %s:\n% x\nbecame\n% x", seed, name, list, got[name])
		}
	}
	if len(out) != len(packets) {
		t.Fatalf("seed %d: %d packets became %d", seed, len(packets), len(out))
	}
	return len(packets) - given
}
