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
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
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
	for depth < 128 && k.from(depth)>>63 == 1 {
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
// addresses. The 64 answers of a node are bitmaps: a set bit of kids is a child,
// a set bit of runs is where a run of equal leaves begins.
type trie struct {
	nodes  []trieNode
	leaves []int32
}

type trieNode struct {
	key         key
	kids, runs  uint64
	child, leaf uint32 // where the node's children and leaves begin
	outside     int32  // the answer for what is not under key
	depth       uint8
}

// newTrie takes prefixes that are masked, sorted and distinct; answers are
// positions in that slice.
func newTrie(sorted []prefix) trie {
	var t trie
	if len(sorted) > 0 {
		t.nodes = append(t.nodes, trieNode{})
		t.build(0, sorted, 0, none)
	}
	return t
}

// build fills the node at with sorted, whose first element has position base.
// outside is the longest prefix that is around all of them.
func (t *trie) build(at uint32, sorted []prefix, base, outside int32) {
	first := sorted[0]
	n := trieNode{key: first.key, outside: outside}
	n.depth = min(first.bits, first.common(sorted[len(sorted)-1].key))
	var slots [1 << stride]int32
	inside, next := outside, 0
	if first.bits == n.depth {
		inside, next = base, 1
	}
	for i := range slots {
		slots[i] = inside
	}
	type group struct{ from, to, slot int }
	var groups []group
	for next < len(sorted) {
		p := sorted[next]
		slot := int(p.from(n.depth) >> (64 - stride))
		if p.bits <= n.depth+stride {
			for i := range 1 << (n.depth + stride - p.bits) {
				slots[slot+i] = base + int32(next)
			}
			next++
			continue
		}
		from := next
		for next < len(sorted) && sorted[next].under(p.key, n.depth+stride) {
			next++
		}
		if next == from+1 {
			slots[slot] = base + int32(from)
			continue
		}
		n.kids |= 1 << slot
		groups = append(groups, group{from, next, slot})
	}
	n.leaf, n.child = uint32(len(t.leaves)), uint32(len(t.nodes))
	for i, v := range slots {
		if n.kids>>i&1 == 0 && (n.runs == 0 || t.leaves[len(t.leaves)-1] != v) {
			n.runs |= 1 << i
			t.leaves = append(t.leaves, v)
		}
	}
	t.nodes = append(t.nodes, make([]trieNode, len(groups))...)
	t.nodes[at] = n
	for i, g := range groups {
		t.build(n.child+uint32(i), sorted[g.from:g.to], base+int32(g.from), slots[g.slot])
	}
}

// lookup is the position of the longest prefix around k, or none. A prefix that
// is alone under its bits of a node has no node of its own: the caller checks
// that k is in the answer, and if not, what is around the answer is the answer.
func (t *trie) lookup(k key) int32 {
	if len(t.nodes) == 0 {
		return none
	}
	n := &t.nodes[0]
	for k.under(n.key, n.depth) {
		bit := uint64(1) << (k.from(n.depth) >> (64 - stride))
		if n.kids&bit == 0 {
			return t.leaves[int(n.leaf)+bits.OnesCount64(n.runs&(bit|(bit-1)))-1]
		}
		n = &t.nodes[int(n.child)+bits.OnesCount64(n.kids&(bit-1))]
	}
	return n.outside
}
