package spd

import (
	"math/bits"
)

// Prefixes lie within each other, and a packet is concerned by all that are around
// its address, as many as 129 for one of IPv6. So that no lookup walks through all of
// them, a prefix has in its list, beside its own, what belongs to prefixes around
// it, as far as that does not make the whole much larger:
//
//   - all of it, where that is little;
//   - otherwise, of a chain of prefixes each of which has the most policies within the one
//     before it, the prefix in place n has the lists of as many places, itself
//     included, as the lowest bit set in n says. A walk from any place
//     to the front of the chain then meets as many lists as n has bits. Such chains
//     are left at most as often as the number of policies can be halved.
//
// What stands behind a rule that matches whatever has the addresses is never
// reached, and not taken along.

// spread makes the list of each prefix, and sets next: the prefix around it where
// what the list does not have goes on. few is how long a list may become by what is around it.
func spread[T any](infos []prefixInfo, few int, own func(i int) []T, merge func(a, b []T) []T) [][]T {
	lists := make([][]T, len(infos))
	weight := make([]int, len(infos)) // lengths of the lists of a prefix and all within it
	for i := range infos {
		lists[i] = own(i)
		weight[i] = len(lists[i])
	}
	heaviest := make([]int32, len(infos)) // the one within it that has the most
	for i := len(infos) - 1; i >= 0; i-- {
		if a := infos[i].around; a != none {
			weight[a] += weight[i]
			if h := heaviest[a]; h == 0 || weight[i] >= weight[h] {
				heaviest[a] = int32(i)
			}
		}
	}
	place := make([]int, len(infos)) // in its chain, from 1
	for i := range infos {
		list, j := lists[i], infos[i].around
		place[i] = 1
		if j != none && heaviest[j] == int32(i) {
			place[i] = place[j] + 1
		}
		if j != none && infos[j].next == none && len(lists[j]) <= 2*(few+len(list)) {
			if all := merge(list, lists[j]); len(all) <= max(few, 2*len(list)) {
				list, j = all, none
			}
		}
		for left := 1<<bits.TrailingZeros(uint(place[i])) - 1; left > 0 && j != none; {
			left -= 1 << bits.TrailingZeros(uint(place[j]))
			list = merge(list, lists[j])
			j = infos[j].next
		}
		lists[i], infos[i].next = list, j
	}
	return lists
}

// group is the rules of one pair of prefixes, in order. The local prefixes from l
// to end are within that one.
type group struct {
	l, end int32
	rules  []rule
	span   uint32 // localPair.span, once it is built
	built  bool
}

func (g *group) first() int32 { return g.rules[0].index }

// wall is the index from which on nothing for these addresses is reached.
func (g *group) wall() int32 {
	last := &g.rules[len(g.rules)-1]
	if last.wall() {
		return last.index
	}
	return maxIndex
}

// groupsOf makes the groups of each of n remote prefixes from pieces, which are in
// order. lasts has the last prefix within each local one.
func groupsOf(pieces []piece, lasts []int32, n int) [][]*group {
	rules := make([]rule, len(pieces))
	for i := range pieces {
		rules[i] = pieces[i].rule
	}
	groups, pointers := make([]group, 0, len(pieces)), make([]*group, 0, len(pieces))
	out := make([][]*group, n)
	for at := 0; at < len(pieces); {
		r, from := pieces[at].r, len(pointers)
		for at < len(pieces) && pieces[at].r == r {
			l, begin := pieces[at].l, at
			for at < len(pieces) && pieces[at].r == r && pieces[at].l == l {
				at++
			}
			groups = append(groups, group{l: l, end: lasts[l], rules: rules[begin:at]})
			pointers = append(pointers, &groups[len(groups)-1])
		}
		out[r] = pointers[from:len(pointers):len(pointers)]
	}
	return out
}

// mergeGroups is both, in order of their local prefixes, without those that are
// never reached.
func mergeGroups(a, b []*group) []*group {
	out := make([]*group, 0, len(a)+len(b))
	type level struct{ end, wall int32 }
	var room [32]level
	around := room[:0] // the local prefixes around the next group, and the lowest wall of them
	for len(a)+len(b) > 0 {
		var g *group
		if len(b) == 0 || len(a) > 0 && (a[0].l < b[0].l || a[0].l == b[0].l && a[0].first() < b[0].first()) {
			g, a = a[0], a[1:]
		} else {
			g, b = b[0], b[1:]
		}
		for len(around) > 0 && around[len(around)-1].end < g.l {
			around = around[:len(around)-1]
		}
		wall := int32(maxIndex)
		if len(around) > 0 {
			wall = around[len(around)-1].wall
		}
		if g.first() > wall {
			continue
		}
		out = append(out, g)
		around = append(around, level{g.end, min(wall, g.wall())})
	}
	return out
}

// mergeRules is both in order, as far as they are reached.
func mergeRules(a, b []rule) []rule {
	out := make([]rule, 0, len(a)+len(b))
	for len(a)+len(b) > 0 {
		from := &a
		if len(a) == 0 || len(b) > 0 && b[0].index < a[0].index {
			from = &b
		}
		out = append(out, (*from)[0])
		if (*from)[0].wall() {
			break
		}
		*from = (*from)[1:]
	}
	return out
}
