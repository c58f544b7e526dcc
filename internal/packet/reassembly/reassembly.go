package reassembly

import (
	"bytes"
	"hash/maphash"
	"math"
	"math/bits"
	"net/netip"
	"time"

	"culvert/internal/packet/wire"
)

// Bounds of a Table.
const (
	// Datagrams is how many it knows, those that were given up included, and
	// Buffers how many of them have pieces here.
	Datagrams = 256
	Buffers   = 128
	// PerSender and BuffersPerSender are what one sender may have of them.
	PerSender        = Datagrams / 4
	BuffersPerSender = Buffers / 4
	// MaxPacket is the longest packet.
	MaxPacket = 65535
	// maxHead is the longest head (IPv6: with the extension headers of the path).
	maxHead = 512
	units   = (MaxPacket + 7) / 8 // places of 8 bytes: every fragment but the last has whole ones
)

// How long a datagram may take from its first piece on: RFC 8200 §4.5 says 60 s;
// in IPv4 an identification may come again sooner (RFC 4963).
const (
	timeout4 = 30 * time.Second
	timeout6 = 60 * time.Second
)

// Verdict is what became of a piece.
type Verdict uint8

const (
	Held      Verdict = iota // it waits for the others
	Whole                    // it was the last that was missing
	Malformed                // it, or one before it, does not fit: the datagram is given up
	Duplicate                // it is here already
	Full                     // there is no room for a new datagram
)

// Result of Add. Pieces is how many pieces of the datagram have this fate now,
// those that were held before included: each piece that was ever handed in is in
// exactly one Result but Held, or in what Expire returns, or still held.
type Result struct {
	Verdict Verdict
	Pieces  int
	// For Whole: the packet is Buf[Off:Off+Len], with the table's room in front and
	// behind, and borrowed until Release. Largest is the length of the longest
	// fragment as it came, ID the identification of all.
	Buf      []byte
	Off, Len int
	Largest  int
	ID       uint32
}

// Table is the memory of one worker. Make it with New.
type Table struct {
	front, tail int
	seed        maphash.Seed
	hashes      [Datagrams]uint64 // 0: free
	entries     [Datagrams]entry
	held        int // entries in use
	free        [][]byte
	made        int
	lent        [][]byte
	next        int64 // no deadline is before
}

type key struct {
	owner    uint64
	src, dst netip.Addr
	id       uint32
	proto    uint8 // IPv4: identifications are each protocol's own (RFC 791 §3.2)
}

// entry is a datagram that is not whole yet, or was given up: then buf is nil.
type entry struct {
	key
	buf      []byte
	deadline int64
	first    wire.Fragment
	end      int // of the data; 0: not known
	have     int // bytes of data
	pieces   int
	largest  int
	ecn      uint8  // set of the codepoints of its pieces, 1<<codepoint
	covered  places // that are filled
	starts   places // where a piece begins
}

// New makes a table whose packets have front bytes free before them and tail behind.
func New(front, tail int) *Table {
	return &Table{front: front, tail: tail, seed: maphash.MakeSeed(), next: math.MaxInt64}
}

// Held is how many datagrams are waited for, those that were given up included.
func (t *Table) Held() int { return t.held }

// Due is when Expire may find something, not later than it does, in Unix ns; 0:
// nothing is waited for.
func (t *Table) Due() int64 {
	if t.held > 0 {
		return t.next
	}
	return 0
}

// Release takes back the buffers of the packets that became whole.
func (t *Table) Release() {
	t.free = append(t.free, t.lent...)
	t.lent = t.lent[:0]
}

// Expire forgets the datagrams whose time is up and returns how many pieces of
// them were held. now is in Unix ns. It costs a comparison while none is due.
func (t *Table) Expire(now int64) (pieces int) {
	if now < t.next {
		return 0
	}
	t.next = math.MaxInt64
	for i := range t.entries {
		e := &t.entries[i]
		switch {
		case t.hashes[i] == 0:
		case now >= e.deadline:
			pieces += e.pieces
			t.drop(i)
		default:
			t.next = min(t.next, e.deadline)
		}
	}
	return pieces
}

// Add takes a fragment, which is copied: pkt passed wire.ParseFlow as i and f.
// Fragments of different owners do not meet: an owner is the SA that they came
// by. 0 is nobody, and then the source address is the sender.
func (t *Table) Add(owner uint64, pkt []byte, i wire.Info, f *wire.Flow, now int64) Result {
	x, ok := wire.FragmentOf(pkt, i)
	if !ok {
		return Result{Verdict: Malformed, Pieces: 1}
	}
	k := key{owner: owner, src: f.Src, dst: f.Dst, id: x.ID}
	if i.Version == 4 {
		k.proto = x.Next
	}
	at, verdict := t.find(k, i.Version, now)
	if verdict != Held {
		return Result{Verdict: verdict, Pieces: 1}
	}
	e := &t.entries[at]
	if e.buf == nil {
		return Result{Verdict: Malformed, Pieces: 1}
	}
	switch e.put(pkt, x, t.front) {
	case Duplicate:
		return Result{Verdict: Duplicate, Pieces: 1}
	case Malformed:
		n := e.pieces + 1
		e.pieces = 0
		t.free, e.buf = append(t.free, e.buf), nil
		return Result{Verdict: Malformed, Pieces: n}
	}
	if e.end == 0 || e.have < e.end {
		return Result{Verdict: Held}
	}
	return t.finish(at)
}

// find is the place of a datagram, a new one if need be; else Full.
func (t *Table) find(k key, version uint8, now int64) (int, Verdict) {
	h := maphash.Comparable(t.seed, k) | 1
	spare, oldest := -1, -1 // a free place; the one of those given up that is oldest
	for i, have := range t.hashes {
		switch {
		case have == h && t.entries[i].key == k:
			return i, Held
		case have == 0:
			spare = i
		case t.entries[i].buf == nil && (oldest < 0 || t.entries[i].deadline < t.entries[oldest].deadline):
			oldest = i
		}
	}
	if entries, buffers := t.has(k); entries >= PerSender || buffers >= BuffersPerSender {
		return 0, Full
	}
	buf := t.buffer()
	if buf == nil {
		return 0, Full
	}
	if spare < 0 { // one was given up, since there are more places than buffers
		spare = oldest
		t.drop(oldest)
	}
	timeout := timeout4
	if version == 6 {
		timeout = timeout6
	}
	e := &t.entries[spare]
	*e = entry{key: k, buf: buf, deadline: now + int64(timeout)}
	t.hashes[spare] = h
	t.held++
	t.next = min(t.next, e.deadline)
	return spare, Held
}

// has is what k's sender has of the table.
func (t *Table) has(k key) (entries, buffers int) {
	for i, h := range t.hashes {
		e := &t.entries[i]
		if h == 0 || e.owner != k.owner || k.owner == 0 && e.src != k.src {
			continue
		}
		entries++
		if e.buf != nil {
			buffers++
		}
	}
	return entries, buffers
}

func (t *Table) buffer() []byte {
	if n := len(t.free); n > 0 {
		b := t.free[n-1]
		t.free = t.free[:n-1]
		return b
	}
	if t.made == Buffers {
		return nil
	}
	t.made++
	return make([]byte, t.front+maxHead+MaxPacket+t.tail)
}

// drop forgets the datagram in a place.
func (t *Table) drop(at int) {
	e := &t.entries[at]
	if e.buf != nil {
		t.free = append(t.free, e.buf)
	}
	t.hashes[at] = 0
	t.held--
}

// put enters one piece: Held, Duplicate or Malformed. The data stand where they
// will be in the whole, front+maxHead bytes from the start of the buffer.
func (e *entry) put(pkt []byte, x wire.Fragment, front int) Verdict {
	n := x.Len()
	end := x.Offset + n
	if n == 0 || x.More && n%8 != 0 || x.Head > maxHead || x.Head+end > MaxPacket || e.end != 0 && end > e.end {
		return Malformed
	}
	if x.More && end == e.end {
		return Malformed // the last piece said that nothing follows
	}
	from, to := x.Offset/8, (end+7)/8
	place := e.buf[front+maxHead:]
	if filled := count(&e.covered, from, to); filled > 0 {
		if filled == to-from && e.alone(from, to) && (x.More || end == e.end) && bytes.Equal(place[x.Offset:end], pkt[x.Data:x.Total]) {
			return Duplicate
		}
		return Malformed
	}
	if !x.More {
		if count(&e.covered, to, units) > 0 {
			return Malformed // it ends before what is here, or before where it ended already
		}
		e.end = end
	}
	e.ecn |= 1 << codepoint(pkt)
	if e.ecn&(1<<wire.CE) != 0 && e.ecn&(1<<wire.NotECT) != 0 {
		return Malformed // RFC 3168 §5.3: nobody may set CE on what is not ECT
	}
	copy(place[x.Offset:], pkt[x.Data:x.Total])
	if x.Offset == 0 {
		e.first = x
		copy(e.buf[front+maxHead-x.Head:], pkt[:x.Head])
	}
	for i := from; i < to; i++ {
		e.covered[i/64] |= 1 << (i % 64)
	}
	e.starts[from/64] |= 1 << (from % 64)
	e.have += n
	e.pieces++
	e.largest = max(e.largest, x.Total)
	return Held
}

// alone says that the places from … to-1 were filled by one piece.
func (e *entry) alone(from, to int) bool {
	return count(&e.starts, from, to) == 1 && e.starts[from/64]>>(from%64)&1 == 1 &&
		(e.covered[to/64]>>(to%64)&1 == 0 || e.starts[to/64]>>(to%64)&1 == 1)
}

// places is a set of places of 8 bytes.
type places [units/64 + 1]uint64

// count is how many of the places from … to-1 are in the set.
func count(set *places, from, to int) (n int) {
	for w := from / 64; w*64 < to; w++ {
		n += bits.OnesCount64(set[w] & span(w, from, to))
	}
	return n
}

// span is the bits of word w that are in from … to-1.
func span(w, from, to int) uint64 {
	return ^uint64(0) << max(0, from-w*64) & (1<<min(64, to-w*64) - 1)
}

// finish makes a packet of a datagram that is whole.
func (t *Table) finish(at int) Result {
	e := &t.entries[at]
	off := t.front + maxHead - e.first.Head
	r := Result{Verdict: Whole, Pieces: e.pieces, Buf: e.buf, Off: off, Len: e.first.Head + e.end, Largest: e.largest, ID: e.id}
	pkt := e.buf[off : off+r.Len]
	if r.Len > MaxPacket || !wire.Joined(pkt, e.first) {
		t.drop(at)
		return Result{Verdict: Malformed, Pieces: r.Pieces}
	}
	if e.ecn&(1<<wire.CE) != 0 {
		wire.SetTOS(pkt, wire.TOS(pkt)|wire.CE) // RFC 3168 §5.3: a piece met congestion, so the whole did
	}
	t.lent, e.buf = append(t.lent, e.buf), nil
	t.drop(at)
	return r
}

func codepoint(pkt []byte) uint8 { return wire.TOS(pkt) & wire.ECNMask }
