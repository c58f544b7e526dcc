package ah

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"culvert/crypto/suite"
	"culvert/internal/packet/wire"
	"culvert/internal/testing/vectors"
)

var (
	src4, dst4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.7")
	src6, dst6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::7")
)

func transform(t testing.TB, name string, esn bool) *Transform {
	t.Helper()
	a := suite.IntegByName(name)
	tr, err := New(Params{SPI: 0x1234abcd, Integ: a, IntegKey: bytes.Repeat([]byte{0x5a}, a.KeyLen), ESN: esn})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// sealed puts an AH into a copy of pkt.
func sealed(t testing.TB, tr *Transform, pkt []byte, seq uint64) []byte {
	t.Helper()
	_, _, next, ok := wire.PathHeaders(pkt)
	if !ok {
		t.Fatalf("%x has no path headers", pkt)
	}
	buf := append(make([]byte, tr.Front()), pkt...)
	start, end := tr.Seal(buf, tr.Front(), len(pkt), seq, next)
	if start == end {
		t.Fatalf("%x cannot be sealed", pkt)
	}
	return buf[start:end]
}

func udp4(payload string) []byte {
	return wire.AppendUDPPacket(nil, netip.AddrPortFrom(src4, 1), netip.AddrPortFrom(dst4, 2), []byte(payload))
}

// withOptions gives an IPv4 packet options, padded to 4 bytes.
func withOptions(pkt []byte, opts ...byte) []byte {
	for len(opts)%4 != 0 {
		opts = append(opts, 0)
	}
	out := append(bytes.Clone(pkt[:20]), opts...)
	out = append(out, pkt[20:]...)
	out[0] = 0x40 | byte(5+len(opts)/4)
	wire.SetTotal(out, len(out))
	return out
}

// ip6 is an IPv6 packet with extension headers, each given as its protocol and content.
func ip6(payload string, ext ...[]byte) []byte {
	var rest []byte
	next := uint8(17)
	udp := wire.AppendUDP(nil, netip.AddrPortFrom(src6, 1), netip.AddrPortFrom(dst6, 2), []byte(payload))
	for i, e := range ext {
		follow := uint8(17)
		if i+1 < len(ext) {
			follow = ext[i+1][0]
		}
		if i == 0 {
			next = e[0]
		}
		rest = append(append(rest, follow), e[1:]...)
	}
	rest = append(rest, udp...)
	b := wire.IPv6{HopLimit: 64, Next: next, TrafficClass: 7, FlowLabel: 9, Src: src6, Dst: dst6}.Append(nil, len(rest))
	return append(b, rest...)
}

func routing(left byte, via ...netip.Addr) []byte {
	b := []byte{wire.ProtoRouting, byte(2 * len(via)), 0, left, 0, 0, 0, 0}
	for _, a := range via {
		b = append(b, a.AsSlice()...)
	}
	return b
}

var (
	hop6      = netip.MustParseAddr("2001:db8:9::9")
	hopByHop  = []byte{wire.ProtoHopByHop, 0, 5, 2, 0, 0, 1, 0}   // router alert, PadN
	mutable6  = []byte{wire.ProtoDstOpts, 0, 0x3e, 4, 1, 2, 3, 4} // an option that may change
	endOption = []byte{wire.ProtoDstOpts, 0, 0x1e, 4, 1, 2, 3, 4} // one that may not
)

// packets are one of each shape, with the offsets in the sealed packet that the
// path may change.
func packets() map[string]struct {
	pkt     []byte
	mutable []int
} {
	type row = struct {
		pkt     []byte
		mutable []int
	}
	v4, v6 := []int{1, 6, 7, 8, 10, 11}, []int{0, 1, 2, 3, 7}
	options := withOptions(udp4("options"), optRouterAlert, 4, 0, 0, 7, 7, 4, 1, 2, 3, 4, optNop)
	return map[string]row{
		"IPv4":          {udp4("payload"), v4},
		"IPv4 options":  {options, append([]int{24, 26, 27, 28, 29, 30}, v4...)}, // all but the length, which says where it ends
		"IPv6":          {ip6("payload"), v6},
		"IPv6 options":  {ip6("payload", hopByHop, mutable6, routing(0, hop6)), append([]int{40 + 8 + 4, 40 + 8 + 5, 40 + 8 + 6, 40 + 8 + 7}, v6...)},
		"IPv6 to end":   {ip6("payload", hopByHop, endOption), v6},
		"IPv6 no next":  {wire.IPv6{HopLimit: 1, Next: wire.ProtoNoNext, Src: src6, Dst: dst6}.Append(nil, 0), v6},
		"IPv4 in IPv4":  {append(wire.IPv4{TTL: 9, Proto: 4, ID: 5, DontFragment: true, Src: src4, Dst: dst4}.Append(nil, 40), udp4("123456789012")...), v4},
		"IPv4 no bytes": {wire.IPv4{TTL: 9, Proto: 99, Src: src4, Dst: dst4}.Append(nil, 0), v4},
	}
}

func TestSealOpen(t *testing.T) {
	for name, row := range packets() {
		for _, a := range []string{"sha1", "sha256", "sha512"} {
			for _, esn := range []bool{false, true} {
				tr, seq := transform(t, a, esn), uint64(7)
				if esn {
					seq |= 5 << 32
				}
				pkt := sealed(t, tr, row.pkt, seq)
				front, _, proto, _ := wire.PathHeaders(row.pkt)
				at, ok := Find(pkt)
				if !ok || at != front || SPI(pkt[at:]) != 0x1234abcd || Seq(pkt[at:]) != 7 || !wire.VerifyIPv4Checksum(pkt) || wire.TotalLen(pkt) != len(pkt) {
					t.Fatalf("%s %s: %x", name, a, pkt)
				}
				if (len(pkt)-len(row.pkt))%4 != 0 || pkt[0]>>4 == 6 && (len(pkt)-len(row.pkt))%8 != 0 {
					t.Errorf("%s %s: an AH of %d bytes", name, a, len(pkt)-len(row.pkt))
				}
				got := bytes.Clone(pkt)
				off, n, next, err := tr.Open(got, seq)
				if err != nil || next != proto || !bytes.Equal(got[off:off+n], row.pkt[front:]) {
					t.Errorf("%s %s: %v, next %d, %x", name, a, err, next, got[off:off+n])
				}
				if start := Strip(bytes.Clone(got), off, next); start != len(pkt)-len(row.pkt) {
					t.Errorf("%s %s: stripped to %d", name, a, start)
				}
				if again := bytes.Clone(got); !bytes.Equal(again[Strip(again, off, next):], row.pkt) {
					t.Errorf("%s %s: stripped %x, want %x", name, a, again, row.pkt)
				}
				if !bytes.Equal(got[:front], pkt[:front]) {
					t.Errorf("%s %s: the headers are %x, were %x", name, a, got[:front], pkt[:front])
				}
				if _, _, _, err := tr.Open(bytes.Clone(pkt), seq^1<<32); esn != errors.Is(err, ErrICV) {
					t.Errorf("%s %s: the other lap's number: %v", name, a, err)
				}
			}
		}
	}
}

// Every byte is covered but for the mutable ones.
func TestEachByte(t *testing.T) {
	for name, row := range packets() {
		tr := transform(t, "sha256", false)
		pkt := sealed(t, tr, row.pkt, 1)
		for i := range pkt {
			bad := bytes.Clone(pkt)
			bad[i] ^= 0x10 // the version stays, and fields of lengths change
			may := false
			for _, m := range row.mutable {
				may = may || m == i
			}
			if i == 0 {
				bad[i] ^= 0x11 // the header's length, the traffic class
			}
			if may && (i == 6 || i == 7) && pkt[0]>>4 == 4 {
				bad[i] = pkt[i] ^ byte(0x40*(7-i)) // DF; a fragment never opens
			}
			if _, _, _, err := tr.Open(bad, 1); (err == nil) != may {
				t.Errorf("%s: byte %d changed: %v, may change: %v", name, i, err, may)
			}
		}
	}
}

func TestCutAtEveryByte(t *testing.T) {
	for name, row := range packets() {
		tr := transform(t, "sha512", true)
		pkt := sealed(t, tr, row.pkt, 1)
		for i := range pkt {
			if _, _, _, err := tr.Open(bytes.Clone(pkt[:i]), 1); !errors.Is(err, ErrShort) {
				t.Errorf("%s cut at %d: %v", name, i, err)
			}
			short := bytes.Clone(pkt[:i])
			if i >= 40 { // its own account of its length agrees
				wire.SetTotal(short, i)
				if _, _, _, err := tr.Open(short, 1); err == nil {
					t.Errorf("%s shortened to %d opens", name, i)
				}
			}
		}
		if _, _, _, err := tr.Open(append(bytes.Clone(pkt), 1, 2, 3), 1); err != nil {
			t.Errorf("%s with bytes behind: %v", name, err)
		}
	}
}

// What a source route does on the way is foreseen.
func TestSourceRoutes(t *testing.T) {
	tr := transform(t, "sha1", false)
	via := dst4.As4()
	pkt := withOptions(udp4("routed"), append([]byte{optLooseRoute, 7, 4}, via[:]...)...)
	first := netip.MustParseAddr("203.0.113.9").As4()
	copy(pkt[16:20], first[:])
	pkt = sealed(t, tr, pkt, 1)
	copy(pkt[16:20], via[:]) // as the first station does
	copy(pkt[23:27], first[:])
	pkt[22] = 8
	if _, _, _, err := tr.Open(pkt, 1); err != nil {
		t.Errorf("IPv4: %v", err)
	}

	done := withOptions(udp4("there"), append([]byte{optStrictRoute, 7, 8}, first[:]...)...) // where it goes is where it is going
	if _, _, _, err := tr.Open(sealed(t, tr, done, 2), 2); err != nil {
		t.Errorf("IPv4, at its end: %v", err)
	}

	p6 := sealed(t, tr, ip6("routed", routing(2, hop6, src6)), 1)
	for left := range 2 {
		addr := p6[48+16*left:][:16]
		was := bytes.Clone(p6[24:40])
		copy(p6[24:40], addr)
		copy(addr, was)
		p6[43]--
	}
	if _, _, _, err := tr.Open(p6, 1); err != nil {
		t.Errorf("IPv6: %v", err)
	}
}

func TestMalformedHeaders(t *testing.T) {
	tr := transform(t, "sha1", false)
	for name, pkt := range map[string][]byte{
		"option without length":   withOptions(udp4("x"), 1, 1, 1, 7),
		"option too long":         withOptions(udp4("x"), 7, 5, 0, 0),
		"option too short":        withOptions(udp4("x"), 7, 1, 0, 0),
		"route without address":   withOptions(udp4("x"), optLooseRoute, 4, 4, 0),
		"IPv6 option too long":    ip6("x", []byte{wire.ProtoHopByHop, 0, 5, 9, 0, 0, 0, 0}),
		"IPv6 option cut":         ip6("x", []byte{wire.ProtoHopByHop, 0, 1, 3, 0, 0, 0, 5}),
		"too many segments left":  ip6("x", routing(2, hop6)),
		"unknown kind of routing": ip6("x", []byte{wire.ProtoRouting, 2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}),
	} {
		buf := append(make([]byte, tr.Front()), pkt...)
		_, _, next, ok := wire.PathHeaders(pkt)
		if start, end := tr.Seal(buf, tr.Front(), len(pkt), 1, next); !ok || start != end {
			t.Errorf("%s: sealed", name)
		}
	}
}

// An IPv4 peer that rounds the AH up to 8 bytes takes no other: it gets what it
// sends, from its first packet that opens until it sends otherwise.
func TestRoundsAsThePeerDoes(t *testing.T) {
	a := suite.IntegByName("sha256")
	params := Params{SPI: 0x1234abcd, Integ: a, IntegKey: bytes.Repeat([]byte{0x5a}, a.KeyLen)}
	short, err := New(params)
	if err != nil {
		t.Fatal(err)
	}
	long, err := New(params)
	if err != nil {
		t.Fatal(err)
	}
	long.rounds.Store(true)
	linux := params
	linux.Like = long // as if a peer had sent it such ones
	rounding, err := New(linux)
	if err != nil {
		t.Fatal(err)
	}
	ours := params
	ours.Like = short
	out, err := New(ours)
	if err != nil {
		t.Fatal(err)
	}
	size := func(tr *Transform, pkt []byte) int { return len(sealed(t, tr, pkt, 1)) - len(pkt) }
	if got := size(out, udp4("x")); got != 28 {
		t.Errorf("before the peer was heard: an AH of %d bytes", got)
	}
	rounded := sealed(t, rounding, udp4("x"), 1)
	if len(rounded)-len(udp4("x")) != 32 || !bytes.Equal(rounded[20+HeaderLen+16:20+32], make([]byte, 4)) {
		t.Fatalf("rounded: %x", rounded)
	}
	forged := bytes.Clone(rounded)
	forged[len(forged)-1]++
	if _, _, _, err := short.Open(forged, 1); err == nil || size(out, udp4("x")) != 28 {
		t.Error("a packet that does not open is followed")
	}
	if _, _, _, err := short.Open(rounded, 1); err != nil || size(out, udp4("x")) != 32 {
		t.Errorf("the peer rounds (%v): an AH of %d bytes", err, size(out, udp4("x")))
	}
	if got := size(out, ip6("x")); got != 32 {
		t.Errorf("IPv6: an AH of %d bytes", got)
	}
	plain, err := New(params)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := short.Open(sealed(t, plain, udp4("x"), 1), 1); err != nil || size(out, udp4("x")) != 28 {
		t.Errorf("the peer does not round any more (%v): an AH of %d bytes", err, size(out, udp4("x")))
	}
}

// An IPv4 sender that rounds the AH up to 8 bytes is understood.
func TestRoundedTo8(t *testing.T) {
	tr := transform(t, "sha256", false)
	pkt := sealed(t, tr, udp4("rounded"), 1)
	long := append(bytes.Clone(pkt[:20+HeaderLen]), make([]byte, 20)...) // ICV and 4 bytes that are covered
	copy(long[20+HeaderLen+16:], "pad!")
	long = append(long, pkt[20+28:]...)
	long[21] = 32/4 - 2
	wire.SetTotal(long, len(long))
	covered := bytes.Clone(long)
	mask(covered[:20], false)
	h := hmac.New(sha256.New, bytes.Repeat([]byte{0x5a}, 32))
	h.Write(covered)
	copy(long[20+HeaderLen:], h.Sum(nil)[:16])
	if off, n, _, err := tr.Open(bytes.Clone(long), 1); err != nil || !bytes.Equal(long[off:off+n], pkt[48:]) {
		t.Error(err)
	}
	long[20+HeaderLen+17]++
	if _, _, _, err := tr.Open(long, 1); !errors.Is(err, ErrICV) {
		t.Errorf("changed padding: %v", err)
	}
}

func TestDPDK(t *testing.T) {
	var f struct {
		Tests []struct {
			Name    string
			AuthKey vectors.Hex `json:"auth_key"`
			Inner   vectors.Hex `json:"input_text"`
			Outer   vectors.Hex `json:"output_text"`
		}
	}
	vectors.Load(t, "dpdk-esp-ah/esp_ah_packets.json", &f)
	ran := 0
	for _, v := range f.Tests {
		if v.Name != "pkt_ah_tunnel_sha256" {
			continue
		}
		ran++
		tr, err := New(Params{SPI: 123, Integ: suite.IntegByName("sha256"), IntegKey: bytes.Clone(v.AuthKey)})
		if err != nil {
			t.Fatal(err)
		}
		pkt := bytes.Clone(v.Outer)
		off, n, next, err := tr.Open(pkt, 1)
		if err != nil || next != 4 || !bytes.Equal(pkt[off:off+n], v.Inner) {
			t.Errorf("%v, next %d, %x", err, next, pkt[off:off+n])
		}
		plain := append(bytes.Clone(v.Outer[:20]), v.Inner...)
		plain[9] = 4
		wire.SetTotal(plain, len(plain))
		if again := sealed(t, tr, plain, 1); !bytes.Equal(again, v.Outer) {
			t.Errorf("sealed again %x, want %x", again, v.Outer)
		}
	}
	if ran != 1 {
		t.Error("the file has no AH tunnel packet")
	}
}

func TestNothingIsAllocated(t *testing.T) {
	for _, esn := range []bool{false, true} {
		tr := transform(t, "sha256", esn)
		pkt := udp4("payload")
		buf := make([]byte, tr.Front()+len(pkt))
		if n := testing.AllocsPerRun(200, func() {
			copy(buf[tr.Front():], pkt)
			start, end := tr.Seal(buf, tr.Front(), len(pkt), 1, 17)
			if _, _, _, err := tr.Open(buf[start:end], 1); err != nil {
				t.Fatal(err)
			}
		}); n > 0 && !poolsLeak {
			t.Errorf("ESN %v: %v allocations", esn, n)
		}
	}
}

func TestNew(t *testing.T) {
	if _, err := New(Params{}); err == nil {
		t.Error("without algorithm")
	}
	if _, err := New(Params{Integ: suite.IntegByName("sha1"), IntegKey: make([]byte, 3)}); err == nil {
		t.Error("with a short key")
	}
	tr := transform(t, "sha256", false)
	if tr.MaxPayload(1500) != 1500-32 || tr.Overhead(9) != 32 || tr.MaxPayload(3) >= 0 || tr.Back() != 0 {
		t.Error("sizes")
	}
}

func FuzzOpen(f *testing.F) {
	tr := transform(f, "sha256", false)
	for _, row := range packets() {
		f.Add(sealed(f, tr, row.pkt, 1))
		f.Add(row.pkt)
	}
	f.Fuzz(func(t *testing.T, pkt []byte) {
		at, ok := Find(pkt)
		if ok && at+HeaderLen <= len(pkt) {
			binary.BigEndian.PutUint32(pkt[at+4:], 0x1234abcd)
		}
		was := bytes.Clone(pkt)
		off, n, _, err := tr.Open(pkt, uint64(1))
		if err == nil && (!bytes.Equal(was[off:off+n], pkt[off:off+n]) || off+n > len(pkt)) {
			t.Fatal("opening changed the payload")
		}
		// Whatever can be sealed opens again.
		_, _, next, ok := wire.PathHeaders(was)
		if !ok || wire.TotalLen(was) != len(was) || len(was) > 60000 {
			return
		}
		buf := append(make([]byte, tr.Front()), was...)
		start, end := tr.Seal(buf, tr.Front(), len(was), 1, next)
		if start == end {
			return
		}
		if _, ok := Find(buf[start:end]); !ok {
			return // a fragment, or behind a header that may be there twice
		}
		if _, _, _, err := tr.Open(buf[start:end], 1); err != nil && !routed(was) {
			t.Fatalf("%x: %v", was, err)
		}
	})
}

// routed: the packet has a source route to go, which changes on the way.
func routed(pkt []byte) bool {
	end, _, _, _ := wire.PathHeaders(pkt)
	a, b := bytes.Clone(pkt[:end]), bytes.Clone(pkt[:end])
	return mask(a, true) != mask(b, false) || !bytes.Equal(a, b)
}
