package spd

import "slices"

// Where one pair of prefixes has many rules with ranges of ports, they are under
// a tree that cuts the ports of either end in two, again and again, until few
// rules are left. A rule whose range is cut is on both sides. What stands behind
// a rule that takes the whole of a leaf's ports is never reached and left out, so
// that the more rules overlap, the fewer of them a leaf has.

// cut is a node of a port tree: ports of one end below at go on to from, all
// others to to. In a leaf, from and to are a span of snapshot.rules. A root is
// followed by a leaf of its own for what cannot be told by ports.
type cut struct {
	from, to uint32
	at       uint16
	end      cutEnd
}

type cutEnd uint8

const (
	cutNone cutEnd = iota // a leaf
	cutLocal
	cutRemote
)

// box is the ports of both ends that a node is about.
type box struct{ localLo, localHi, remoteLo, remoteHi uint16 }

const (
	maxCuts = 20 // how deep a tree is
	// growth is how many rules the leaves of a tree have together, as a multiple
	// of the rules under it, before cutting ends.
	growth = 4
)

// addTree puts the rules of e, which all ask for the same protocol, under a tree.
// Nothing is gained where it would be a single leaf.
func (s *snapshot) addTree(e *span) {
	rules := slices.Clone(s.rules[e.from:e.to])
	b := treeBuilder{s, growth * len(rules)}
	root := uint32(len(s.cuts))
	s.cuts = append(s.cuts, cut{}, cut{from: e.from, to: e.to})
	if node := b.node(rules, box{0, 65535, 0, 65535}, maxCuts); node.end != cutNone {
		s.cuts[root] = node
		e.from, e.to, e.tree = root, root+1, true
		return
	}
	s.cuts = s.cuts[:root]
	s.rules = s.rules[:e.to]
}

type treeBuilder struct {
	s    *snapshot
	room int // rules that leaves may still have
}

// node makes the tree for those of the rules that meet the box.
func (b *treeBuilder) node(rules []rule, in box, depth int) cut {
	rules = in.reached(rules)
	if len(rules) < manyRules || depth == 0 || b.room <= 0 {
		return b.leaf(rules)
	}
	end, at := in.bestCut(rules)
	if end == cutNone {
		return b.leaf(rules)
	}
	low, high := in.halves(end, at)
	place := uint32(len(b.s.cuts))
	b.s.cuts = append(b.s.cuts, cut{}, cut{})
	b.s.cuts[place] = b.node(rules, low, depth-1)
	b.s.cuts[place+1] = b.node(rules, high, depth-1)
	return cut{from: place, to: place + 1, at: at, end: end}
}

func (b *treeBuilder) leaf(rules []rule) cut {
	from := uint32(len(b.s.rules))
	b.s.rules = append(b.s.rules, rules...)
	b.room -= len(rules)
	return cut{from: from, to: uint32(len(b.s.rules))}
}

// reached is the rules that meet the box, up to one that takes all of it.
func (in *box) reached(rules []rule) []rule {
	var out []rule
	for i := range rules {
		r := &rules[i]
		if r.localLo > in.localHi || r.localHi < in.localLo || r.localLo > r.localHi ||
			r.remoteLo > in.remoteHi || r.remoteHi < in.remoteLo || r.remoteLo > r.remoteHi {
			continue
		}
		out = append(out, *r)
		if !r.ranges && r.localLo <= in.localLo && r.localHi >= in.localHi && r.remoteLo <= in.remoteLo && r.remoteHi >= in.remoteHi {
			break
		}
	}
	return out
}

// bestCut is in the middle of the bounds of the rules, at the end where that
// leaves fewer of them on both sides; cutNone: one side would have them all.
func (in *box) bestCut(rules []rule) (best cutEnd, at uint16) {
	fewest := 2 * len(rules)
	for _, end := range []cutEnd{cutLocal, cutRemote} {
		var bounds []uint16
		lo, hi := in.of(end)
		for i := range rules {
			from, to := rules[i].of(end)
			if from > lo {
				bounds = append(bounds, from)
			}
			if to < hi {
				bounds = append(bounds, to+1)
			}
		}
		if len(bounds) == 0 {
			continue
		}
		slices.Sort(bounds)
		middle := bounds[len(bounds)/2]
		low, high := 0, 0
		for i := range rules {
			from, to := rules[i].of(end)
			if from < middle {
				low++
			}
			if to >= middle {
				high++
			}
		}
		if low+high < fewest {
			best, at, fewest = end, middle, low+high
		}
	}
	return best, at
}

func (in *box) of(end cutEnd) (lo, hi uint16) {
	if end == cutLocal {
		return in.localLo, in.localHi
	}
	return in.remoteLo, in.remoteHi
}

func (r *rule) of(end cutEnd) (lo, hi uint16) {
	if end == cutLocal {
		return r.localLo, r.localHi
	}
	return r.remoteLo, r.remoteHi
}

func (in box) halves(end cutEnd, at uint16) (low, high box) {
	low, high = in, in
	if end == cutLocal {
		low.localHi, high.localLo = at-1, at
	} else {
		low.remoteHi, high.remoteLo = at-1, at
	}
	return low, high
}

// leaf is the rules under the tree that the ports of v can match, by the
// protocol and the rest of it.
func (s *snapshot) leaf(root uint32, v *view) (from, to uint32) {
	c := &s.cuts[root]
	for c.end != cutNone {
		port := v.local
		if c.end == cutRemote {
			port = v.remote
		}
		next := c.from
		if port >= c.at {
			next = c.to
		}
		c = &s.cuts[next]
	}
	return c.from, c.to
}
