package reassembly

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"culvert/internal/packet/wire"
)

const front, tail = 100, 30

// packet is a UDP packet of any length between two hosts.
func packet(src, dst string, id uint16, payload []byte) []byte {
	s, d := netip.AddrPortFrom(netip.MustParseAddr(src), 1000), netip.AddrPortFrom(netip.MustParseAddr(dst), 2000)
	if !s.Addr().Is4() {
		return wire.AppendUDPPacket(nil, s, d, payload)
	}
	h := wire.IPv4{TTL: 64, ID: id, Proto: wire.ProtoUDP, Src: s.Addr(), Dst: d.Addr()}
	return wire.AppendUDP(h.Append(nil, wire.UDPHeaderLen+len(payload)), s, d, payload)
}

func pieces(t testing.TB, pkt []byte, limit int, id uint32) (list [][]byte) {
	t.Helper()
	c, ok := wire.NewCutter(pkt, limit, id)
	if !ok {
		t.Fatal("cannot be cut")
	}
	for more := true; more; {
		var p []byte
		p, more = c.Next(nil)
		list = append(list, p)
	}
	return list
}

func add(t *Table, owner uint64, pkt []byte, now int64) Result {
	var f wire.Flow
	info, ok := wire.ParseFlow(pkt, &f)
	if !ok {
		panic("not a packet")
	}
	return t.Add(owner, pkt, info, &f, now)
}

// data is n bytes that differ from place to place.
func data(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

var ends = [][2]string{{"10.1.0.1", "10.2.0.1"}, {"fd01::1", "fd02::1"}}

// In whatever order the pieces come, twice or once, the packet is the one that was cut.
func TestAnyOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	table := New(front, tail)
	for round := range 300 {
		e := ends[round%2]
		pkt := packet(e[0], e[1], uint16(round+1), data(rng, 500+rng.IntN(4000)))
		limit := 100 + rng.IntN(1400)
		list := pieces(t, pkt, limit, uint32(round))
		if len(list) < 2 {
			continue
		}
		rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for i, p := range list {
			r := add(table, 0, p, 0)
			if i < len(list)-1 {
				if r.Verdict != Held {
					t.Fatalf("piece %d: verdict %d", i, r.Verdict)
				}
				if r := add(table, 0, p, 0); r.Verdict != Duplicate || r.Pieces != 1 {
					t.Fatalf("piece %d again: %+v", i, r)
				}
				continue
			}
			if r.Verdict != Whole || r.Pieces != len(list) || !bytes.Equal(r.Buf[r.Off:r.Off+r.Len], pkt) {
				t.Fatalf("round %d: verdict %d of %d pieces", round, r.Verdict, r.Pieces)
			}
			if r.Off < front || len(r.Buf)-r.Off-r.Len < tail || r.Largest > limit {
				t.Fatalf("room %d and %d, largest piece %d", r.Off, len(r.Buf)-r.Off-r.Len, r.Largest)
			}
		}
		table.Release()
	}
	if table.Held() != 0 || len(table.free) != table.made || table.made != 1 {
		t.Errorf("%d held, %d of %d buffers free", table.Held(), len(table.free), table.made)
	}
}

// piece is a fragment with n bytes that all are fill.
func piece(id uint32, offset, n int, more bool, fill byte) []byte {
	h := wire.IPv4{TTL: 64, ID: uint16(id), Proto: 17, More: more, FragOffset: offset, Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1")}
	return append(h.Append(nil, n), bytes.Repeat([]byte{fill}, n)...)
}

func piece6(id uint32, offset, n int, more bool, fill byte) []byte {
	h := wire.IPv6{HopLimit: 64, Next: wire.ProtoFragment, Src: netip.MustParseAddr("fd01::1"), Dst: netip.MustParseAddr("fd02::1")}
	b := wire.AppendIPv6Fragment(h.Append(nil, 8+n), 17, offset, more, id)
	return append(b, bytes.Repeat([]byte{fill}, n)...)
}

// What does not fit gives up the datagram, and all that comes of it later.
func TestWhatDoesNotFit(t *testing.T) {
	type p struct {
		offset, n int
		more      bool
	}
	for _, c := range []struct {
		name string
		list []p // the last one does not fit
	}{
		{"empty", []p{{8, 0, true}}},
		{"empty and last", []p{{0, 16, true}, {16, 0, false}}},
		{"no multiple of eight", []p{{0, 12, true}}},
		{"longer than a packet", []p{{65520, 100, false}}},
		{"longer than a packet with its header", []p{{65512, 8, true}}},
		{"overlaps from the left", []p{{16, 16, true}, {8, 16, true}}},
		{"overlaps from the right", []p{{16, 16, true}, {24, 16, true}}},
		{"within", []p{{0, 64, true}, {16, 16, true}}},
		{"at the start of another", []p{{0, 64, true}, {0, 16, true}}},
		{"at the end of another", []p{{0, 64, true}, {48, 16, true}}},
		{"around", []p{{16, 16, true}, {0, 64, true}}},
		{"of two", []p{{0, 16, true}, {16, 16, true}, {0, 32, true}}},
		{"around, by its far end", []p{{1024, 16, true}, {0, 1032, true}}},
		{"ends far before what is here", []p{{1024, 8, true}, {16, 8, false}}},
		{"ends far before where it ended", []p{{1024, 5, false}, {16, 8, false}}},
		{"ends within its last place", []p{{16, 7, false}, {16, 5, false}}},
		{"behind the end", []p{{16, 8, false}, {24, 8, true}}},
		{"at the end, and not the last", []p{{16, 5, false}, {8, 8, true}, {16, 8, true}}},
		{"ends twice", []p{{16, 8, false}, {32, 8, false}}},
		{"ends twice, shorter", []p{{32, 8, false}, {16, 8, false}}},
		{"ends before what is here", []p{{32, 8, true}, {16, 8, false}}},
		{"the same, and the last", []p{{16, 8, true}, {16, 8, false}}},
		{"the same, and not the last", []p{{16, 8, false}, {16, 8, true}}},
	} {
		for version, make := range []func(uint32, int, int, bool, byte) []byte{piece, piece6} {
			table := New(front, tail)
			for i, x := range c.list {
				r := add(table, 0, make(7, x.offset, x.n, x.more, 1), 0)
				switch last := i == len(c.list)-1; {
				case !last && r.Verdict != Held, last && (r.Verdict != Malformed || r.Pieces != len(c.list)):
					t.Errorf("%s, version %d: piece %d: verdict %d, %d pieces", c.name, 4+2*version, i, r.Verdict, r.Pieces)
				}
			}
			if r := add(table, 0, make(7, 1600, 8, true, 1), 0); r.Verdict != Malformed || r.Pieces != 1 {
				t.Errorf("%s: a later piece: %+v", c.name, r)
			}
			if len(table.free) != table.made {
				t.Errorf("%s: the buffer is not free", c.name)
			}
		}
	}
}

// A duplicate is the same in every byte: another content overlaps.
func TestAnotherContentOverlaps(t *testing.T) {
	table := New(front, tail)
	add(table, 0, piece(7, 0, 16, true, 1), 0)
	if r := add(table, 0, piece(7, 0, 16, true, 1), 0); r.Verdict != Duplicate {
		t.Fatal(r.Verdict)
	}
	if r := add(table, 0, piece(7, 0, 16, true, 2), 0); r.Verdict != Malformed || r.Pieces != 2 {
		t.Fatal(r.Verdict, r.Pieces)
	}
}

// The longest packet there is, in its smallest pieces, backwards.
func TestLongestInSmallestPieces(t *testing.T) {
	pkt := packet("10.1.0.1", "10.2.0.1", 5, data(rand.New(rand.NewPCG(1, 1)), 65535-28))
	list := pieces(t, pkt, 28, 0)
	table := New(front, tail)
	for i := len(list) - 1; i > 0; i-- {
		if r := add(table, 0, list[i], 0); r.Verdict != Held {
			t.Fatal(i, r.Verdict)
		}
	}
	r := add(table, 0, list[0], 0)
	if r.Verdict != Whole || r.Pieces != len(list) || !bytes.Equal(r.Buf[r.Off:r.Off+r.Len], pkt) {
		t.Fatal(r.Verdict, r.Pieces, len(list))
	}
}

// What a piece of another SA, host, protocol or identification brings is of another datagram.
func TestWhoseItIs(t *testing.T) {
	base := piece(7, 0, 16, true, 1)
	changed := func(at int, v byte) []byte {
		p := bytes.Clone(base)
		p[at] = v
		return p
	}
	table := New(front, tail)
	for i, pkt := range [][]byte{base, changed(5, 9), changed(9, 6), changed(15, 9), changed(19, 9)} {
		for _, owner := range []uint64{0, 1, 2} {
			if r := add(table, owner, pkt, 0); r.Verdict != Held {
				t.Fatalf("piece %d of owner %d: %d", i, owner, r.Verdict)
			}
		}
	}
	if table.Held() != 15 {
		t.Errorf("%d datagrams", table.Held())
	}
}

func TestTime(t *testing.T) {
	table := New(front, tail)
	add(table, 0, piece(1, 0, 8, true, 1), 0)
	add(table, 0, piece(1, 16, 8, true, 1), 29e9) // does not prolong
	add(table, 0, piece6(2, 0, 8, true, 1), 10)
	add(table, 0, piece(3, 0, 12, true, 1), 20) // given up at once, and counted then
	for _, c := range []struct {
		now  int64
		want int
		due  int64 // afterwards
	}{{30e9 - 1, 0, 30e9}, {30e9, 2, 30e9 + 20}, {30e9 + 20, 0, 60e9 + 10}, {60e9 + 9, 0, 60e9 + 10}, {60e9 + 10, 1, 0}, {1 << 60, 0, 0}} {
		if n := table.Expire(c.now); n != c.want {
			t.Errorf("at %d: %d pieces, want %d", c.now, n, c.want)
		}
		if due := table.Due(); due != c.due {
			t.Errorf("at %d: due at %d, want %d", c.now, due, c.due)
		}
	}
	if table.Held() != 0 || len(table.free) != table.made {
		t.Errorf("%d held", table.Held())
	}
}

// Floods: nobody gets more than its share, all together not more than there is,
// and whoever was first is served.
func TestFloods(t *testing.T) {
	table := New(front, tail)
	victim := pieces(t, packet("10.1.0.1", "10.2.0.1", 1, data(rand.New(rand.NewPCG(3, 3)), 3000)), 1400, 0)
	if r := add(table, 9, victim[0], 0); r.Verdict != Held {
		t.Fatal(r.Verdict)
	}
	counts := map[Verdict]int{}
	for id := range uint32(1000) { // one sender
		counts[add(table, 1, piece(id, 8, 8, true, 1), 0).Verdict]++
	}
	if counts[Held] != BuffersPerSender || counts[Full] != 1000-BuffersPerSender {
		t.Fatalf("one sender: %v", counts)
	}
	for owner := range uint64(1000) { // many
		counts[add(table, 100+owner, piece(1, 8, 8, true, 1), 0).Verdict]++
	}
	if counts[Held] != Buffers-1 || table.made != Buffers || table.Held() != Buffers {
		t.Fatalf("many: %v, %d buffers", counts, table.made)
	}
	if r := add(table, 9, victim[1], 0); r.Verdict != Held {
		t.Fatal(r.Verdict)
	}
	if r := add(table, 9, victim[2], 0); r.Verdict != Whole || r.Pieces != 3 {
		t.Fatal(r.Verdict)
	}
	if r := add(table, 5000, victim[0], 0); r.Verdict != Full {
		t.Fatal("the buffer of a packet that is under way was used")
	}
	table.Release()
	if r := add(table, 5000, victim[0], 0); r.Verdict != Held {
		t.Fatal(r.Verdict)
	}
	// With an owner it is the sender, whatever the source.
	shared := New(front, tail)
	clear(counts)
	for id := range uint32(100) {
		pkt := piece(id, 8, 8, true, 1)
		pkt[15] = byte(id)
		counts[add(shared, 1, pkt, 0).Verdict]++
	}
	if counts[Held] != BuffersPerSender {
		t.Fatalf("one owner with many sources: %v", counts)
	}
	// Without an owner the source is the sender.
	other := New(front, tail)
	clear(counts)
	for id := range uint32(1000) {
		counts[add(other, 0, piece(id, 8, 8, true, 1), 0).Verdict]++
	}
	if counts[Held] != BuffersPerSender || add(other, 0, piece6(1, 8, 8, true, 1), 0).Verdict != Held {
		t.Fatalf("one source: %v", counts)
	}
}

// Datagrams that were given up take places, but no more than their sender may
// have, and go first when places are short.
func TestGivenUp(t *testing.T) {
	table := New(front, tail)
	counts := map[Verdict]int{}
	for id := range uint32(1000) {
		counts[add(table, 1, piece(id, 8, 12, true, 1), 0).Verdict]++
	}
	if counts[Malformed] != PerSender || counts[Full] != 1000-PerSender || len(table.free) != table.made {
		t.Fatalf("%v, %d of %d buffers free", counts, len(table.free), table.made)
	}
	for owner := range uint64(Datagrams) {
		if v := add(table, 10+owner, piece(1, 8, 12, true, 1), 1).Verdict; v != Malformed {
			t.Fatal(owner, v)
		}
	}
	for owner := range uint64(Buffers) {
		if v := add(table, 1000+owner, piece(1, 8, 8, true, 1), 2).Verdict; v != Held {
			t.Fatal(owner, v)
		}
	}
	if table.Held() != Datagrams {
		t.Errorf("%d datagrams", table.Held())
	}
}

// Where places are short none goes of which pieces are held, however old it is.
func TestHeldStay(t *testing.T) {
	table := New(front, tail)
	const live = Buffers / 2
	for i := range uint64(live) {
		add(table, 1+i, piece(1, 0, 8, true, 1), 0)
	}
	for i := range uint64(Datagrams - live) {
		add(table, 1000+i, piece(1, 8, 12, true, 1), 1)
	}
	for i := range uint64(Buffers - live) {
		if v := add(table, 2000+i, piece(1, 8, 8, true, 1), 2).Verdict; v != Held {
			t.Fatal(i, v)
		}
	}
	for i := range uint64(live) {
		if v := add(table, 1+i, piece(1, 8, 8, false, 1), 3).Verdict; v != Whole {
			t.Fatalf("datagram %d: %d", i, v)
		}
	}
}

// Of those that were given up the oldest goes first, so that the others stay known.
func TestGivenUpOldestFirst(t *testing.T) {
	table := New(front, tail)
	owner := uint64(10)
	when := func(i int) int64 { return int64((i+1)*97%Datagrams) * 1e6 } // not in the order of places
	for i := range Datagrams {
		add(table, owner+uint64(i), piece(1, 8, 12, true, 1), when(i))
	}
	for i := range Buffers {
		if v := add(table, 1000+uint64(i), piece(1, 8, 8, true, 1), 1e9).Verdict; v != Held {
			t.Fatal(i, v)
		}
	}
	for i := range Datagrams {
		known := false
		for at, h := range table.hashes {
			known = known || h != 0 && table.entries[at].owner == owner+uint64(i)
		}
		if want := when(i) >= Buffers*1e6; known != want {
			t.Fatalf("the datagram of %d ms is known: %v", when(i)/1e6, known)
		}
	}
}

// What is over is not of its sender's share: given up and expired, or whole.
func TestShareComesBack(t *testing.T) {
	table := New(front, tail)
	for round := range int64(3) {
		for id := range uint32(PerSender) {
			if v := add(table, 1, piece(id, 8, 12, true, 1), round*40e9).Verdict; v != Malformed {
				t.Fatalf("round %d: datagram %d: %d", round, id, v)
			}
		}
		table.Expire(round*40e9 + 35e9)
		for _, more := range []bool{true, false} {
			for id := range uint32(BuffersPerSender) {
				want, offset := Held, 0
				if !more {
					want, offset = Whole, 8
				}
				if v := add(table, 1, piece(id, offset, 8, more, 1), round*40e9+36e9).Verdict; v != want {
					t.Fatalf("round %d: datagram %d: %d", round, id, v)
				}
			}
		}
		table.Release()
	}
	if table.Held() != 0 || len(table.free) != table.made {
		t.Errorf("%d held, %d of %d buffers free", table.Held(), len(table.free), table.made)
	}
}

// Two datagrams are two, though their hashes be the same.
func TestHashesCollide(t *testing.T) {
	table := New(front, tail)
	first, other := piece(1, 0, 8, true, 1), piece(2, 8, 8, false, 1)
	add(table, 0, other, 0)
	at := slices.IndexFunc(table.hashes[:], func(h uint64) bool { return h != 0 })
	h := table.hashes[at]
	table.drop(at)
	add(table, 0, first, 0)
	at = slices.IndexFunc(table.hashes[:], func(h uint64) bool { return h != 0 })
	table.hashes[at] = h
	if r := add(table, 0, other, 0); r.Verdict != Held || table.Held() != 2 {
		t.Errorf("verdict %d, %d datagrams", r.Verdict, table.Held())
	}
}

// A head may be long, and is bounded: the longest of IPv6 that is taken has 512 bytes.
func TestLongHeads(t *testing.T) {
	for length, want := range map[int]Verdict{40: Held, 504: Held, 512: Held, 520: Malformed} {
		h := wire.IPv6{HopLimit: 64, Next: wire.ProtoFragment, Src: netip.MustParseAddr("fd01::1"), Dst: netip.MustParseAddr("fd02::1")}
		if length > 40 {
			h.Next = wire.ProtoDstOpts
		}
		pkt := h.Append(nil, length-40+8+8)
		if n := length - 40; n > 0 {
			opts := make([]byte, n)
			opts[0], opts[1] = wire.ProtoFragment, byte(n/8-1)
			for rest := opts[2:]; len(rest) > 0; {
				pad := min(len(rest), 257)
				if len(rest)-pad == 1 {
					pad--
				}
				rest[0], rest[1] = 1, byte(pad-2)
				rest = rest[pad:]
			}
			pkt = append(pkt, opts...)
		}
		pkt = append(wire.AppendIPv6Fragment(pkt, 17, 0, true, 7), data(rand.New(rand.NewPCG(1, 1)), 8)...)
		table := New(front, tail)
		if r := add(table, 0, pkt, 0); r.Verdict != want {
			t.Errorf("a head of %d bytes: verdict %d, want %d", length, r.Verdict, want)
		}
		if r := add(table, 0, piece6(7, 8, 8, false, 1), 0); want == Held && (r.Verdict != Whole || r.Len != length+16 || !bytes.Equal(r.Buf[r.Off+min(41, length):r.Off+length], pkt[min(41, length):length])) {
			t.Errorf("a head of %d bytes: %d, %d bytes", length, r.Verdict, r.Len)
		}
	}
}

// Pieces that fit each by itself can be longer than a packet together: the head of the
// first one is the longest.
func TestTooLongTogether(t *testing.T) {
	for options, want := range map[int]Verdict{20: Whole, 24: Malformed} {
		h := wire.IPv4{TTL: 64, ID: 7, Proto: 17, More: true, Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1")}
		first := h.Append(nil, options+32760)
		first[0] = 0x45 + byte(options/4)
		first = append(first, bytes.Repeat([]byte{1}, options)...) // no operation
		first = append(first, make([]byte, 32760)...)
		binary.BigEndian.PutUint16(first[10:], 0)
		wire.FillIPv4Checksum(first[:20+options])
		table := New(front, tail)
		if r := add(table, 0, first, 0); r.Verdict != Held {
			t.Fatal(r.Verdict)
		}
		r := add(table, 0, piece(7, 32760, 65535-40-32760, false, 1), 0)
		if r.Verdict != want || r.Pieces != 2 || want == Whole && r.Len != 65535 {
			t.Errorf("%d bytes of options: %+v", options, r.Verdict)
		}
		table.Release()
		if table.Held() != 0 || len(table.free) != table.made {
			t.Errorf("%d bytes of options: %d held, %d of %d buffers free", options, table.Held(), len(table.free), table.made)
		}
	}
}

// The same in IPv6, whose length says nothing of the header.
func TestTooLongTogether6(t *testing.T) {
	for head, want := range map[int]Verdict{40: Whole, 48: Malformed} {
		h := wire.IPv6{HopLimit: 64, Next: wire.ProtoFragment, Src: netip.MustParseAddr("fd01::1"), Dst: netip.MustParseAddr("fd02::1")}
		var options []byte
		if head > 40 {
			h.Next, options = wire.ProtoDstOpts, []byte{wire.ProtoFragment, 0, 1, 4, 0, 0, 0, 0}
		}
		first := append(h.Append(nil, head-40+8+32760), options...)
		first = append(wire.AppendIPv6Fragment(first, 17, 0, true, 7), make([]byte, 32760)...)
		table := New(front, tail)
		if r := add(table, 0, first, 0); r.Verdict != Held {
			t.Fatal(r.Verdict)
		}
		r := add(table, 0, piece6(7, 32760, 65535-40-32760, false, 1), 0)
		if r.Verdict != want || r.Pieces != 2 || want == Whole && r.Len != 65535 {
			t.Errorf("a head of %d bytes: %d, %d bytes", head, r.Verdict, r.Len)
		}
		table.Release()
		if table.Held() != 0 || len(table.free) != table.made {
			t.Errorf("a head of %d bytes: %d held, %d of %d buffers free", head, table.Held(), len(table.free), table.made)
		}
	}
}

func TestNoFragment(t *testing.T) {
	table := New(front, tail)
	if r := add(table, 0, packet("10.1.0.1", "10.2.0.1", 1, nil), 0); r.Verdict != Malformed || r.Pieces != 1 || table.Held() != 0 {
		t.Errorf("%+v", r)
	}
}

func TestCongestionMarks(t *testing.T) {
	marked := func(p []byte, ecn byte) []byte {
		if p[0]>>4 == 4 {
			p[1] |= ecn
		} else {
			p[1] |= ecn << 4
		}
		return p
	}
	for i, make := range []func(uint32, int, int, bool, byte) []byte{piece, piece6} {
		for _, c := range []struct{ a, b, want byte }{{0, 0, 0}, {2, 2, 2}, {2, 3, 3}, {3, 1, 3}, {1, 1, 1}} {
			table := New(front, tail)
			add(table, 0, marked(make(1, 0, 8, true, 1), c.a), 0)
			r := add(table, 0, marked(make(1, 8, 8, false, 1), c.b), 0)
			if r.Verdict != Whole || codepoint(r.Buf[r.Off:]) != c.want {
				t.Errorf("%d: %d and %d: verdict %d, %d", i, c.a, c.b, r.Verdict, codepoint(r.Buf[r.Off:]))
			} else if i == 0 && !wire.VerifyIPv4Checksum(r.Buf[r.Off:r.Off+20]) {
				t.Error("checksum")
			}
		}
		table := New(front, tail)
		add(table, 0, make(1, 0, 8, true, 1), 0)
		if r := add(table, 0, marked(make(1, 8, 8, false, 1), 3), 0); r.Verdict != Malformed || r.Pieces != 2 {
			t.Errorf("CE on what is not ECT: %+v", r.Verdict)
		}
	}
}

// weather draws pieces of few datagrams that often overlap, come twice or end
// early, and compares with the naive one.
func weather(t *testing.T, next func(n int) int, steps int) {
	table, ref := New(front, tail), &naive{open: map[naiveKey]*naiveDatagram{}}
	now, given, done := int64(0), 0, 0
	for step := range steps {
		make := []func(uint32, int, int, bool, byte) []byte{piece, piece6}[next(2)]
		n := 8 * (1 + next(4))
		if next(20) == 0 {
			n = next(40)
		}
		offset := 8 * next(8)
		if next(200) == 0 {
			offset = 8 * next(8192)
		}
		fill := byte(1)
		if next(30) == 0 {
			fill = 2
		}
		pkt := make(uint32(next(6)), offset, n, next(4) != 0, fill)
		if next(50) == 0 {
			pkt[1] |= byte(next(256)) & 0x33
		}
		now += int64(next(4)) * 1e9
		late, wantLate := table.Expire(now), ref.expire(now)
		if late != wantLate {
			t.Fatalf("step %d: %d late, want %d", step, late, wantLate)
		}
		done += late
		var f wire.Flow
		info, ok := wire.ParseFlow(pkt, &f)
		if !ok || !info.Fragment() {
			continue
		}
		owner := uint64(next(2))
		given++
		r := table.Add(owner, pkt, info, &f, now)
		verdict, n, whole := ref.add(owner, pkt, now)
		if r.Verdict != verdict || r.Pieces != n || r.Verdict == Whole && !bytes.Equal(r.Buf[r.Off:r.Off+r.Len], whole) {
			t.Fatalf("step %d: verdict %d of %d pieces, want %d of %d", step, r.Verdict, r.Pieces, verdict, n)
		}
		done += r.Pieces
		table.Release()
	}
	// No piece is in two places.
	if done += table.Expire(1 << 62); done != given {
		t.Fatalf("%d pieces in, %d out", given, done)
	}
	if len(table.free) != table.made || table.Held() != 0 {
		t.Fatalf("%d of %d buffers free, %d held", len(table.free), table.made, table.Held())
	}
}

func TestAgainstNaive(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 9))
		weather(t, rng.IntN, 300)
	}
}

func FuzzTable(f *testing.F) {
	f.Add(binary.BigEndian.AppendUint64(nil, 0x0123456789abcdef))
	f.Fuzz(func(t *testing.T, script []byte) {
		next := func(n int) int {
			if len(script) == 0 {
				return 0
			}
			v := int(script[0])
			if script = script[1:]; n > 256 && len(script) > 0 {
				v = v<<8 | int(script[0])
				script = script[1:]
			}
			return v % n
		}
		weather(t, next, len(script)/8)
	})
}

// FuzzAdd hands in any packets: nothing panics, and what becomes whole is a packet
// and no fragment.
func FuzzAdd(f *testing.F) {
	f.Add(bytes.Join([][]byte{piece(1, 0, 8, true, 1), piece(1, 8, 8, false, 1)}, nil))
	f.Add(bytes.Join([][]byte{piece6(1, 8, 8, false, 1), piece6(1, 0, 8, true, 1)}, nil))
	f.Fuzz(func(t *testing.T, stream []byte) {
		table := New(front, tail)
		for len(stream) > 0 {
			var flow wire.Flow
			info, ok := wire.ParseFlow(stream, &flow)
			if !ok {
				return
			}
			if r := table.Add(0, stream, info, &flow, 0); r.Verdict == Whole {
				pkt := r.Buf[r.Off : r.Off+r.Len]
				if wire.TotalLen(pkt) != len(pkt) {
					t.Fatalf("%x", pkt)
				}
				if i, ok := wire.ParseFlow(pkt, &flow); ok && i.Version == 4 && i.Fragment() {
					t.Fatalf("%x is a fragment", pkt)
				}
			}
			stream = stream[info.Total:]
		}
	})
}

func BenchmarkTwoPieces(b *testing.B) {
	pkt := packet("10.1.0.1", "10.2.0.1", 5, make([]byte, 2000))
	list := pieces(b, pkt, 1400, 0)
	table := New(front, tail)
	b.ReportAllocs()
	b.SetBytes(int64(len(pkt)))
	for b.Loop() {
		for _, p := range list {
			add(table, 0, p, 0)
		}
		table.Release()
	}
}
