package spd

import (
	"cmp"
	"math"
	"slices"

	"culvert/spd/selector"
)

// piece is a rule with one pair of prefixes.
type piece struct {
	local, remote prefix
	l, r          int32 // positions of the prefixes
	rule          rule
}

func compile(policies []Policy) *snapshot {
	s := &snapshot{policies: policies}
	var pieces [2][]piece
	for i := range policies {
		p := &policies[i]
		p.Index = i
		s.cut(p, &pieces)
	}
	for i := range s.families {
		s.addFamily(&s.families[i], pieces[i])
	}
	s.ported = compilePorted(policies)
	return s
}

func (s *snapshot) cut(p *Policy, pieces *[2][]piece) {
	pair, ok := selector.IntersectPair(p.Pair, p.Pair)
	if !ok {
		return
	}
	local, exactLocal := covers(pair.Local)
	remote, exactRemote := covers(pair.Remote)
	r := rule{
		index: int32(p.Index), proto: pair.Local.Proto,
		localLo: pair.Local.PortLo, localHi: pair.Local.PortHi,
		remoteLo: pair.Remote.PortLo, remoteHi: pair.Remote.PortHi,
		anyPorts:   pair.Local.AnyPort() && pair.Remote.AnyPort(),
		fragmentOK: fragmentOK(pair.Local) && fragmentOK(pair.Remote),
		ranges:     !exactLocal || !exactRemote,
	}
	to := &pieces[0]
	if !pair.Local.Lo.Is4() {
		to = &pieces[1]
	}
	for _, l := range local {
		for _, m := range remote {
			*to = append(*to, piece{local: l, remote: m, rule: r})
		}
	}
}

// covers is one prefix that is the addresses of t, or two that cover them: what
// is below and above the highest bit in which the bounds differ.
func covers(t selector.TS) (out []prefix, exact bool) {
	lo, hi := keyOf(t.Lo), keyOf(t.Hi)
	if p, ok := t.Prefix(); ok {
		return []prefix{{lo, uint8(p.Bits())}}, true
	}
	depth := lo.common(hi) // less than the width: a single address is a prefix
	mid := hi.masked(depth + 1)
	width := uint8(t.Lo.BitLen())
	// Below mid, the cover begins where lo has its first 0 behind depth: there is
	// the first bit in which lo differs from the last address below mid.
	below := lo.ones(depth + 1)
	above := mid.common(hi)
	return []prefix{
		{lo.masked(min(below, width)), min(below, width)},
		{mid.masked(min(above, width)), min(above, width)},
	}, false
}

func fragmentOK(t selector.TS) bool { return t.AnyPort() || t.IsOpaque() }

func (s *snapshot) addFamily(fam *family, pieces []piece) {
	var ends []int32
	fam.local, ends = newSide(pieces, func(p *piece) (prefix, *int32) { return p.local, &p.l })
	fam.remote, _ = newSide(pieces, func(p *piece) (prefix, *int32) { return p.remote, &p.r })
	slices.SortFunc(pieces, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.r, b.r), cmp.Compare(a.l, b.l), cmp.Compare(a.rule.index, b.rule.index))
	})
	var entries []entry
	for len(pieces) > 0 {
		n := run(pieces, func(a, b *piece) bool { return a.r == b.r })
		entries = s.addRemote(fam, ends, entries, pieces[:n])
		pieces = pieces[n:]
	}
	fam.table = newTable(entries)
}

// run is how many pieces at the start are alike.
func run(pieces []piece, alike func(a, b *piece) bool) int {
	n := 1
	for n < len(pieces) && alike(&pieces[0], &pieces[n]) {
		n++
	}
	return n
}

// manyPairs is from where on the pairs of a remote prefix have a trie of their own.
const manyPairs = 5

// addRemote enters the pieces of one remote prefix. ends has the last prefix
// within each local one.
func (s *snapshot) addRemote(fam *family, ends []int32, entries []entry, pieces []piece) []entry {
	var pairs []localPair
	for rest := pieces; len(rest) > 0; {
		n := run(rest, func(a, b *piece) bool { return a.l == b.l })
		var e span
		e, entries = s.addPair(entries, rest[:n])
		l := rest[0].l
		pairs = append(pairs, localPair{l, ends[l], e})
		rest = rest[n:]
	}
	r := pieces[0].r
	p := &fam.remote.prefixes[r]
	if len(pairs) >= manyPairs {
		p.more, p.from = manyPairs, int32(len(fam.locals))
		fam.locals = append(fam.locals, fam.localsOf(pairs))
		return entries
	}
	p.pair, p.more, p.from = pairs[0], uint8(len(pairs)-1), int32(len(fam.pairs))
	fam.pairs = append(fam.pairs, pairs[1:]...)
	return entries
}

// localsOf is the local ends of pairs, which are in order.
func (fam *family) localsOf(pairs []localPair) side {
	sorted := make([]prefix, len(pairs))
	for i := range pairs {
		p := &fam.local.prefixes[pairs[i].local]
		sorted[i] = prefix{p.key, p.bits}
	}
	infos, _ := nest(sorted)
	for i := range infos {
		infos[i].pair, infos[i].first = pairs[i], pairs[i].first
	}
	findFirsts(infos)
	return side{newTrie(sorted), infos}
}

// newSide numbers the prefixes of one end, which field gives with the place
// for their number. ends is the last prefix within each.
func newSide(pieces []piece, field func(*piece) (prefix, *int32)) (_ side, ends []int32) {
	sorted := make([]prefix, len(pieces))
	for i := range pieces {
		sorted[i], _ = field(&pieces[i])
	}
	slices.SortFunc(sorted, comparePrefix)
	sorted = slices.Compact(sorted)
	number := make(map[prefix]int32, len(sorted))
	for i, p := range sorted {
		number[p] = int32(i)
	}
	infos, ends := nest(sorted)
	for i := range pieces {
		p, place := field(&pieces[i])
		*place = number[p]
		infos[*place].first = min(infos[*place].first, pieces[i].rule.index)
	}
	findFirsts(infos)
	return side{newTrie(sorted), infos}, ends
}

// findFirsts sets firstAny from first.
func findFirsts(infos []prefixInfo) {
	for i := range infos {
		infos[i].firstAny = infos[i].first
		if a := infos[i].around; a != none {
			infos[i].firstAny = min(infos[i].first, infos[a].firstAny)
		}
	}
}

// nest says what is within what: around each prefix, and the last one within it.
// Prefixes are masked, sorted and distinct.
func nest(sorted []prefix) (infos []prefixInfo, ends []int32) {
	infos, ends = make([]prefixInfo, len(sorted)), make([]int32, len(sorted))
	for i, p := range sorted {
		// The prefix around p is the one before it in order or around that.
		around := int32(i - 1)
		for around != none && (sorted[around].bits >= p.bits || !p.under(sorted[around].key, sorted[around].bits)) {
			around = infos[around].around
		}
		infos[i] = prefixInfo{key: p.key, bits: p.bits, around: around, first: math.MaxInt32}
		if around != none {
			infos[i].depth = infos[around].depth + 1
		}
		ends[i] = int32(i)
	}
	for i := len(infos) - 1; i >= 0; i-- {
		if a := infos[i].around; a != none {
			ends[a] = max(ends[a], ends[i])
		}
	}
	return infos, ends
}

// manyRules is from where on the rules of one pair are spread by kind.
const manyRules = 8

// addPair is the span of one pair of prefixes, whose rules are in order. Where
// there are many, the entries by kind are appended to entries.
func (s *snapshot) addPair(entries []entry, pieces []piece) (span, []entry) {
	if len(pieces) < manyRules {
		return s.addRules(pieces), entries
	}
	whole := span{first: pieces[0].rule.index}
	byKey := map[uint64][]piece{}
	var order []uint64
	for _, p := range pieces {
		k := kindOf(&p.rule)
		whole.kinds |= 1 << k
		sub := k.key(p.rule.proto, p.rule.localLo, p.rule.remoteLo)
		if byKey[sub] == nil {
			order = append(order, sub)
		}
		byKey[sub] = append(byKey[sub], p)
	}
	for _, sub := range order {
		entries = append(entries, entry{pairKey(pieces[0].l, pieces[0].r), sub, s.addRules(byKey[sub])})
	}
	return whole, entries
}

func (s *snapshot) addRules(pieces []piece) span {
	from := uint32(len(s.rules))
	for _, p := range pieces {
		s.rules = append(s.rules, p.rule)
	}
	r := &pieces[0].rule
	e := span{from: from, to: uint32(len(s.rules)), first: r.index, always: r.proto == 0 && r.anyPorts && !r.ranges}
	if len(pieces) >= manyRules {
		s.addTree(&e)
	}
	return e
}
