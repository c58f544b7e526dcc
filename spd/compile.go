package spd

import (
	"cmp"
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
	s.table, s.entries = newTable(s.entries), nil
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
	locals := number(pieces, func(p *piece) (prefix, *int32) { return p.local, &p.l })
	remotes := number(pieces, func(p *piece) (prefix, *int32) { return p.remote, &p.r })
	pieces = inOrder(pieces)
	pieces = reached(pieces, locals, remotes)
	locals = renumber(pieces, locals, func(p *piece) *int32 { return &p.l })
	remotes = renumber(pieces, remotes, func(p *piece) *int32 { return &p.r })

	var lasts []int32
	fam.local.prefixes, lasts = nest(locals)
	fam.local.trie = newTrie(locals)
	fam.remotes = newTrie(remotes)
	infos, _ := nest(remotes)
	own := groupsOf(pieces, lasts, len(remotes))
	lists := spread(infos, manyPairs-1, func(i int) []*group { return own[i] }, mergeGroups)
	fam.remote = make([]remotePrefix, len(infos))
	for i, list := range lists {
		p := &fam.remote[i]
		p.prefixInfo = infos[i]
		s.addRemote(fam, p, list)
		p.beyond = maxIndex
		if p.next != none {
			p.beyond = min(fam.remote[p.next].pairs[0].first, fam.remote[p.next].beyond)
		}
	}
}

// inOrder is pieces by their remote and local prefixes and the order of the policies,
// which they are in. What is sorted is small numbers.
func inOrder(pieces []piece) []piece {
	type place struct {
		pair uint64
		at   int32
	}
	places := make([]place, len(pieces))
	for i := range pieces {
		places[i] = place{uint64(pieces[i].r)<<32 | uint64(pieces[i].l), int32(i)}
	}
	slices.SortFunc(places, func(a, b place) int {
		if a.pair != b.pair {
			return less(a.pair < b.pair)
		}
		return int(a.at - b.at)
	})
	out := make([]piece, len(pieces))
	for i, p := range places {
		out[i] = pieces[p.at]
	}
	return out
}

// addRemote enters the groups of one remote prefix, which are in order of their
// local ones.
func (s *snapshot) addRemote(fam *family, p *remotePrefix, list []*group) {
	if len(list) >= manyPairs {
		p.many = true
		m, first := s.localsOf(fam, list)
		p.pairs[0] = localPair{first: first, span: uint32(len(fam.locals))}
		fam.locals = append(fam.locals, m)
		return
	}
	var few [manyPairs - 1]*group
	list = few[:copy(few[:], list)]
	slices.SortFunc(list, func(a, b *group) int { return cmp.Compare(a.first(), b.first()) })
	for i, g := range list {
		p.pairs[i] = s.pairOf(g)
	}
}

func (s *snapshot) pairOf(g *group) localPair {
	if !g.built {
		g.span, g.built = s.addPair(g.rules), true
	}
	return localPair{uint32(g.l), uint32(g.end-g.l) + 1, g.first(), g.span}
}

// localsOf is the local ends of the groups of a remote prefix, and its lowest policy index.
func (s *snapshot) localsOf(fam *family, list []*group) (m locals, first int32) {
	var sorted []prefix
	var at []int32 // where the groups of each begin in list
	for i, g := range list {
		if i == 0 || g.l != list[i-1].l {
			p := &fam.local.prefixes[g.l]
			sorted, at = append(sorted, prefix{p.key, p.bits}), append(at, int32(i))
		}
	}
	at = append(at, int32(len(list)))
	infos, _ := nest(sorted)
	rules := spread(infos, manyRules-1, func(i int) []rule {
		own := list[at[i]].rules
		for _, g := range list[at[i]+1 : at[i+1]] {
			own = mergeRules(own, g.rules)
		}
		return own
	}, mergeRules)
	m, first = locals{side{newTrie(sorted), infos}, make([]localPair, len(infos))}, maxIndex
	for i := range infos {
		g := list[at[i]]
		if &rules[i][0] != &g.rules[0] { // merged rules are a list of their own
			g = &group{l: g.l, end: g.end, rules: rules[i]}
		}
		m.pairs[i] = s.pairOf(g)
		first = min(first, g.first())
		p := &infos[i]
		p.beyond = maxIndex
		if p.next != none {
			p.beyond = min(m.pairs[p.next].first, infos[p.next].beyond)
		}
	}
	return m, first
}

// number gives the prefixes of one end their places in order; field is a
// piece's prefix with the place for its number.
func number(pieces []piece, field func(*piece) (prefix, *int32)) (sorted []prefix) {
	order := make([]int32, len(pieces))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		p, _ := field(&pieces[a])
		q, _ := field(&pieces[b])
		return comparePrefix(p, q)
	})
	for _, i := range order {
		p, place := field(&pieces[i])
		if n := len(sorted); n == 0 || sorted[n-1] != p {
			sorted = append(sorted, p)
		}
		*place = int32(len(sorted) - 1)
	}
	return sorted
}

// renumber leaves out the prefixes that no piece has any more.
func renumber(pieces []piece, sorted []prefix, field func(*piece) *int32) []prefix {
	numbers := make([]int32, len(sorted))
	for i := range pieces {
		numbers[*field(&pieces[i])] = 1
	}
	left := sorted[:0]
	for i, used := range numbers {
		if used != 0 {
			numbers[i] = int32(len(left))
			left = append(left, sorted[i])
		}
	}
	for i := range pieces {
		place := field(&pieces[i])
		*place = numbers[*place]
	}
	return left
}

// nest says what is within what: around each prefix, and the last one within it.
// Prefixes are masked, sorted and distinct.
func nest(sorted []prefix) (infos []prefixInfo, ends []int32) {
	infos, ends = make([]prefixInfo, len(sorted)), make([]int32, len(sorted))
	for i, p := range sorted {
		// The prefix around p is the one before it in order or around that. No longer one has p
		// within it: such a prefix comes after p.
		around := int32(i - 1)
		for around != none && !p.under(sorted[around].key, sorted[around].bits) {
			around = infos[around].around
		}
		infos[i] = prefixInfo{key: p.key, bits: p.bits, around: around}
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

// addPair enters the rules of a pair of prefixes, which are in order, and is its
// localPair.span. Where there are many, they get entries by kind.
func (s *snapshot) addPair(rules []rule) uint32 {
	if rules[0].wall() {
		return always
	}
	id := uint32(len(s.spans))
	if len(rules) < manyRules {
		s.spans = append(s.spans, s.addRules(rules))
		return id
	}
	whole := span{first: rules[0].index}
	byKey := map[uint64][]rule{}
	var order []uint64
	for i := range rules {
		r := &rules[i]
		k := kindOf(r)
		whole.kinds |= 1 << k
		sub := k.key(r.proto, r.localLo, r.remoteLo)
		if byKey[sub] == nil {
			order = append(order, sub)
		}
		byKey[sub] = append(byKey[sub], *r)
	}
	for _, sub := range order {
		s.entries = append(s.entries, entry{sub, id, s.addRules(byKey[sub])})
	}
	s.spans = append(s.spans, whole)
	return id
}

func (s *snapshot) addRules(rules []rule) span {
	from := uint32(len(s.rules))
	s.rules = append(s.rules, rules...)
	e := span{from: from, to: uint32(len(s.rules)), first: rules[0].index}
	if len(rules) >= manyRules {
		s.addTree(&e)
	}
	return e
}
