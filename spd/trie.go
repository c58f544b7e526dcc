package spd

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// key is an address, left-aligned in 128 bits: IPv4 is in the top 32.
type key struct{ hi, lo uint64 }

func keyOf(a netip.Addr) key {
	if a.Is4() {
		b := a.As4()
		return key{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32}
	}
	b := a.As16()
	return key{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

// from is the bits of k from depth on, as far as they fit.
func (k key) from(depth uint8) uint64 {
	if depth < 64 {
		return k.hi<<depth | k.lo>>(64-depth)
	}
	return k.lo << (depth - 64)
}

// under says whether k and p have the first depth bits in common.
func (k key) under(p key, depth uint8) bool {
	if depth <= 64 {
		return (k.hi^p.hi)>>(64-depth) == 0
	}
	return k.hi == p.hi && (k.lo^p.lo)>>(128-depth) == 0
}

func (k key) common(p key) uint8 {
	if x := k.hi ^ p.hi; x != 0 {
		return uint8(bits.LeadingZeros64(x))
	}
	return 64 + uint8(bits.LeadingZeros64(k.lo^p.lo))
}

// masked is the first depth bits of k.
func (k key) masked(depth uint8) key {
	if depth <= 64 {
		return key{hi: k.hi &^ (1<<(64-depth) - 1)}
	}
	return key{k.hi, k.lo &^ (1<<(128-depth) - 1)}
}

// ones is the place of the first 0 in k from depth on.
func (k key) ones(depth uint8) uint8 {
	for k.from(depth)>>63 == 1 { // at 128 there is none
		depth++
	}
	return depth
}

// prefix is key with a length.
type prefix struct {
	key
	bits uint8
}

func comparePrefix(a, b prefix) int {
	switch {
	case a.hi != b.hi:
		return less(a.hi < b.hi)
	case a.lo != b.lo:
		return less(a.lo < b.lo)
	}
	return int(a.bits) - int(b.bits)
}

func less(yes bool) int {
	if yes {
		return -1
	}
	return 1
}

const (
	stride = 6
	none   = int32(-1)
)

// trie finds the longest prefix of a set that an address is in. A node looks at
// six bits and jumps over the bits in which everything below it agrees, so the
// depth grows with the logarithm of the size of the set, not with the length of
// addresses. The 64 answers of a node are runs of equal ones, of which it has a
// bitmap and a list: positions of prefixes, none, or children. Node and list are
// in one place, since what a lookup costs are the cache lines that it fetches: a
// node begins with a line and has room for eight answers in it.
//
//	 0       4        6         7       8
//	+-------+--------+---------+-------+---------------
//	|  key  |  runs  | outside | depth |  answers …       words of 32 bits
//	+-------+--------+---------+-------+---------------
type trie struct{ words []uint32 }

const (
	nodeRuns    = 4
	nodeOutside = 6 // the answer for what is not under key
	nodeDepth   = 7
	nodeAnswers = 8
	nodeUnit    = 16 // words of a cache line
)

// child is the answer that says where a child is, in units; the number is below none.
func child(unit int) int32 { return none - 1 - int32(unit) }

// newTrie takes prefixes that are masked, sorted and distinct; answers are
// positions in that slice.
func newTrie(sorted []prefix) trie {
	var t trie
	if len(sorted) > 0 {
		t.build(sorted, 0, none)
	}
	return t
}

// build makes the node of sorted, whose first element has position base, and all
// below it. outside is the longest prefix that is around all of them.
func (t *trie) build(sorted []prefix, base, outside int32) {
	key, depth := sorted[0].key, min(sorted[0].bits, sorted[0].common(sorted[len(sorted)-1].key))
	var slots [1 << stride]int32
	for i := range slots {
		slots[i] = outside
	}
	type group struct{ from, to, slot int }
	var room [1 << stride]group
	groups := room[:0]
	for next := 0; next < len(sorted); {
		p := sorted[next]
		slot := int(p.from(depth) >> (64 - stride))
		if p.bits <= depth+stride {
			for i := range 1 << (depth + stride - p.bits) {
				slots[slot+i] = base + int32(next)
			}
			next++
			continue
		}
		from := next
		for next < len(sorted) && sorted[next].under(p.key, depth+stride) {
			next++
		}
		if next == from+1 {
			slots[slot] = base + int32(from)
			continue
		}
		groups = append(groups, group{from, next, slot})
	}
	above := slots // what is around all of a group
	for i, g := range groups {
		slots[g.slot] = child(i) // no two alike, until it is known where they are
	}
	at, runs := len(t.words), uint64(0)
	t.words = append(t.words, make([]uint32, nodeAnswers)...)
	for i, v := range slots {
		if i == 0 || slots[i-1] != v {
			runs |= 1 << i
			t.words = append(t.words, uint32(v))
		}
	}
	t.words = append(t.words, make([]uint32, -len(t.words)&(nodeUnit-1))...)
	n := t.words[at:]
	n[0], n[1], n[2], n[3] = uint32(key.hi>>32), uint32(key.hi), uint32(key.lo>>32), uint32(key.lo)
	n[nodeRuns], n[nodeRuns+1], n[nodeOutside], n[nodeDepth] = uint32(runs), uint32(runs>>32), uint32(outside), uint32(depth)
	for _, g := range groups {
		answer := at + nodeAnswers + bits.OnesCount64(runs&(1<<g.slot-1))
		t.words[answer] = uint32(child(len(t.words) / nodeUnit))
		t.build(sorted[g.from:g.to], base+int32(g.from), above[g.slot])
	}
}

// lookup is the position of the longest prefix around k, or none. A prefix that
// is alone under its bits of a node has no node of its own: the caller checks
// that k is in the answer, and if not, what is around the answer is the answer.
func (t *trie) lookup(k key) int32 {
	if len(t.words) == 0 {
		return none
	}
	n := (*[nodeAnswers]uint32)(t.words)
	for at := 0; ; {
		depth := uint8(n[nodeDepth])
		if !k.under(key{uint64(n[0])<<32 | uint64(n[1]), uint64(n[2])<<32 | uint64(n[3])}, depth) {
			return int32(n[nodeOutside])
		}
		runs := uint64(n[nodeRuns+1])<<32 | uint64(n[nodeRuns])
		slot := k.from(depth) >> (64 - stride)
		v := int32(t.words[at+nodeAnswers-1+bits.OnesCount64(runs<<(63-slot))])
		if v >= none {
			return v
		}
		at = int(none-1-v) * nodeUnit
		n = (*[nodeAnswers]uint32)(t.words[at:])
	}
}
