package spd

import (
	"cmp"
	"math"
	"slices"

	"culvert/internal/wire"
	"culvert/spd/selector"
)

// A snapshot answers a lookup in three steps, whose cost does not depend on how
// many policies there are, but on how they nest around the packet's addresses:
//
//  1. For each end, a trie gives the longest prefix around the address that any
//     policy names; each prefix knows the next shorter one around it.
//  2. For each pair of those prefixes that could beat the best policy so far, a
//     hash table gives the rules with exactly that pair.
//  3. The first of these rules whose protocol and ports match is a candidate. Where a
//     pair has many rules, they are spread further by protocol and ports.
//
// Addresses that are no prefix are cut into prefixes. Rules for which that
// would be too many are in a list that is searched last.
type snapshot struct {
	policies []Policy
	families [2]family // IPv4, IPv6
	rules    []rule
	scanned  []int32 // indexes of policies, ascending
}

type family struct {
	local, remote side
	table         table
}

// side is the prefixes of one end.
type side struct {
	trie     trie
	prefixes []prefixInfo
}

type prefixInfo struct {
	around   int32 // the next shorter prefix that covers this one
	first    int32 // lowest policy index with exactly this prefix
	firstAny int32 // the same, with this prefix or any around it
}

// rule is protocol and ports of one policy.
type rule struct {
	index                int32 // of the policy
	localLo, localHi     uint16
	remoteLo, remoteHi   uint16
	proto                uint8
	anyPorts, fragmentOK bool
}

// view is a flow as rules see it.
type view struct {
	local, remote             uint16
	proto                     uint8
	opaque                    bool
	ignoreLocal, ignoreRemote bool
}

func viewOf(f *wire.Flow, in bool) view {
	v := view{local: f.SrcPort, remote: f.DstPort, proto: f.Proto, opaque: f.Opaque}
	typed := selector.Typed(f.Proto)
	if in {
		v.local, v.remote = v.remote, v.local
		v.ignoreLocal = typed
	} else {
		v.ignoreRemote = typed
	}
	return v
}

func (r *rule) matches(v *view) bool {
	switch {
	case r.proto != 0 && r.proto != v.proto:
		return false
	case r.anyPorts:
		return true
	case v.opaque:
		return r.fragmentOK
	}
	return (v.ignoreLocal || r.localLo <= v.local && v.local <= r.localHi) &&
		(v.ignoreRemote || r.remoteLo <= v.remote && v.remote <= r.remoteHi)
}

func (s *snapshot) lookup(f *wire.Flow, in bool) *Policy {
	local, remote := f.Src, f.Dst
	if in {
		local, remote = remote, local
	}
	if local.BitLen() != remote.BitLen() || !local.IsValid() {
		return nil
	}
	fam := &s.families[0]
	if !local.Is4() {
		fam = &s.families[1]
	}
	v := viewOf(f, in)
	best := s.search(fam, keyOf(local), keyOf(remote), &v)
	for _, i := range s.scanned {
		if i >= best {
			break
		}
		p := &s.policies[i]
		if !in && p.MatchesOut(f) || in && p.MatchesIn(f) {
			return p
		}
	}
	if best == math.MaxInt32 {
		return nil
	}
	return &s.policies[best]
}

// search is the lowest index of a policy that matches, or MaxInt32.
func (s *snapshot) search(fam *family, local, remote key, v *view) int32 {
	best := int32(math.MaxInt32)
	l := fam.local.trie.lookup(local)
	if l == none {
		return best
	}
	longest := fam.remote.trie.lookup(remote)
	for l != none {
		lp := &fam.local.prefixes[l]
		if lp.firstAny >= best {
			break
		}
		if lp.first < best {
			for r := longest; r != none; {
				rp := &fam.remote.prefixes[r]
				if rp.firstAny >= best {
					break
				}
				if rp.first < best {
					best = s.searchPair(&fam.table, pairKey(l, r), v, best)
				}
				r = rp.around
			}
		}
		l = lp.around
	}
	return best
}

func (s *snapshot) searchPair(t *table, pair uint64, v *view, best int32) int32 {
	e := t.find(pair, 0)
	if e == nil {
		return best
	}
	if e.kinds == 0 {
		return s.firstOf(e, v, best)
	}
	for k := kind(0); k < kinds; k++ {
		if e.kinds>>k&1 == 0 || v.opaque && k&(exactLocal|exactRemote) != 0 {
			continue
		}
		if sub := t.find(pair, k.key(v.proto, v.local, v.remote)); sub != nil {
			best = s.firstOf(sub, v, best)
		}
	}
	return best
}

func (s *snapshot) firstOf(e *entry, v *view, best int32) int32 {
	for i := e.from; i < e.to; i++ {
		r := &s.rules[i]
		if r.index >= best {
			break
		}
		if r.matches(v) {
			return r.index
		}
	}
	return best
}

// maxPieces bounds into how many pairs of prefixes a policy is cut.
const maxPieces = 64

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
	return s
}

func (s *snapshot) cut(p *Policy, pieces *[2][]piece) {
	pair, ok := selector.IntersectPair(p.Pair, p.Pair)
	if !ok {
		return
	}
	local, remote := pair.Local.Prefixes(), pair.Remote.Prefixes()
	if len(local)*len(remote) > maxPieces {
		s.scanned = append(s.scanned, int32(p.Index))
		return
	}
	r := rule{
		index: int32(p.Index), proto: pair.Local.Proto,
		localLo: pair.Local.PortLo, localHi: pair.Local.PortHi,
		remoteLo: pair.Remote.PortLo, remoteHi: pair.Remote.PortHi,
		anyPorts:   pair.Local.AnyPort() && pair.Remote.AnyPort(),
		fragmentOK: fragmentOK(pair.Local) && fragmentOK(pair.Remote),
	}
	to := &pieces[0]
	if !pair.Local.Lo.Is4() {
		to = &pieces[1]
	}
	for _, l := range local {
		for _, m := range remote {
			*to = append(*to, piece{
				local:  prefix{keyOf(l.Addr()), uint8(l.Bits())},
				remote: prefix{keyOf(m.Addr()), uint8(m.Bits())},
				rule:   r,
			})
		}
	}
}

func fragmentOK(t selector.TS) bool { return t.AnyPort() || t.IsOpaque() }

func (s *snapshot) addFamily(fam *family, pieces []piece) {
	fam.local = newSide(pieces, func(p *piece) (prefix, *int32) { return p.local, &p.l })
	fam.remote = newSide(pieces, func(p *piece) (prefix, *int32) { return p.remote, &p.r })
	slices.SortFunc(pieces, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.l, b.l), cmp.Compare(a.r, b.r), cmp.Compare(a.rule.index, b.rule.index))
	})
	var entries []entry
	for from := 0; from < len(pieces); {
		to := from
		for to < len(pieces) && pieces[to].l == pieces[from].l && pieces[to].r == pieces[from].r {
			to++
		}
		entries = s.addPair(entries, pieces[from:to])
		from = to
	}
	fam.table = newTable(entries)
}

// newSide numbers the prefixes of one end, which field gives with the place
// for their number.
func newSide(pieces []piece, field func(*piece) (prefix, *int32)) side {
	sorted := make([]prefix, len(pieces))
	for i := range pieces {
		sorted[i], _ = field(&pieces[i])
	}
	slices.SortFunc(sorted, comparePrefix)
	sorted = slices.Compact(sorted)
	number := make(map[prefix]int32, len(sorted))
	infos := make([]prefixInfo, len(sorted))
	for i, p := range sorted {
		number[p] = int32(i)
		// The prefixes around p are the one before it in order or around that.
		around := int32(i - 1)
		for around != none && (sorted[around].bits >= p.bits || !p.under(sorted[around].key, sorted[around].bits)) {
			around = infos[around].around
		}
		infos[i] = prefixInfo{around: around, first: math.MaxInt32}
	}
	for i := range pieces {
		p, place := field(&pieces[i])
		*place = number[p]
		infos[*place].first = min(infos[*place].first, pieces[i].rule.index)
	}
	for i := range infos {
		infos[i].firstAny = infos[i].first
		if a := infos[i].around; a != none {
			infos[i].firstAny = min(infos[i].first, infos[a].firstAny)
		}
	}
	return side{newTrie(sorted), infos}
}

// manyRules is from where on the rules of one pair are spread by kind.
const manyRules = 8

// addPair appends the entries for one pair of prefixes, whose rules are in order.
func (s *snapshot) addPair(entries []entry, pieces []piece) []entry {
	pair := pairKey(pieces[0].l, pieces[0].r)
	if len(pieces) <= manyRules {
		return append(entries, s.addRules(pair, 0, pieces))
	}
	var all uint8
	byKey := map[uint64][]piece{}
	var order []uint64
	for _, p := range pieces {
		k := kindOf(&p.rule)
		all |= 1 << k
		sub := k.key(p.rule.proto, p.rule.localLo, p.rule.remoteLo)
		if byKey[sub] == nil {
			order = append(order, sub)
		}
		byKey[sub] = append(byKey[sub], p)
	}
	entries = append(entries, entry{pair: pair, kinds: all})
	for _, sub := range order {
		entries = append(entries, s.addRules(pair, sub, byKey[sub]))
	}
	return entries
}

func (s *snapshot) addRules(pair, sub uint64, pieces []piece) entry {
	from := uint32(len(s.rules))
	for _, p := range pieces {
		s.rules = append(s.rules, p.rule)
	}
	return entry{pair: pair, sub: sub, from: from, to: uint32(len(s.rules))}
}
