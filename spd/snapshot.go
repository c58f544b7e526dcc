package spd

import (
	"math"

	"culvert/internal/wire"
	"culvert/spd/selector"
)

// A snapshot answers a lookup in three steps, whose cost hardly depends on how
// many policies there are and how they nest around the packet's addresses:
//
//  1. For each end, a trie gives the longest prefix around the address that any
//     policy names.
//  2. A remote prefix has pairs with local prefixes, its own and some of those around
//     it, see spread.go. Those whose local prefix is around the local address, and
//     that could beat the best policy so far, are asked: from a short list, or where
//     there are many, by a trie of its own.
//  3. The first of their rules whose protocol and ports match is a candidate.
//     Where a pair has many rules, they are spread further by protocol and exact
//     ports, and what is left of them by ranges of ports, see ports.go.
//
// A range of addresses that is no prefix is entered under at most two prefixes
// that cover it, and compared when it is met. Policies that no packet meets are
// left out, see walls.go.
type snapshot struct {
	policies []Policy
	families [2]family // IPv4, IPv6
	rules    []rule
	cuts     []cut   // port trees, see ports.go
	table    table   // rules by protocol and port, of pairs that have many
	ported   *ported // nil: no policy asks for ports

	// While it is made: what goes into table, and the last number of a span there.
	entries []entry
	ids     uint32
}

type family struct {
	local, remote side
	pairs         []localPair // of the remote prefixes that have few
	locals        []side      // of each that has many: the local ends of its pairs
}

// side is the prefixes of one end, in order: what is within a prefix follows it.
type side struct {
	trie     trie
	prefixes []prefixInfo
}

// prefixInfo fills one cache line: where there are many prefixes, what a lookup
// costs is the lines that it has to fetch.
type prefixInfo struct {
	key
	bits   uint8
	more   uint8     // of its pairs but the first, how many are in family.pairs; manyPairs: they are in family.locals
	around int32     // the next shorter prefix that covers this one
	next   int32     // the one around this one whose pairs are not here: see spread
	first  int32     // lowest policy index of its pairs
	beyond int32     // the same of next and what follows it
	from   int32     // in family.pairs or family.locals
	pair   localPair // the first of its pairs, which are in order of their first policy
}

// localPair is the rules of a remote prefix and a local one. The local prefixes
// from local to localEnd are within that one.
type localPair struct {
	local, localEnd int32
	span
}

// lowest is the lowest policy index of all pairs.
func (s *side) lowest() int32 {
	low := s.prefixes[0].first
	for i := range s.prefixes {
		low = min(low, s.prefixes[i].first)
	}
	return low
}

// lookup is the longest prefix around k, or none.
func (s *side) lookup(k key) int32 {
	i := s.trie.lookup(k)
	if i != none {
		if p := &s.prefixes[i]; !k.under(p.key, p.bits) {
			return p.around
		}
	}
	return i
}

// rule is protocol and ports of one policy.
type rule struct {
	index                int32 // of the policy
	localLo, localHi     uint16
	remoteLo, remoteHi   uint16
	proto                uint8
	anyPorts, fragmentOK bool
	ranges               bool // the prefixes cover more than the addresses
}

// maxIndex is of no policy.
const maxIndex = math.MaxInt32

// view is a flow as rules see it.
type view struct {
	flow                      *wire.Flow
	in                        bool
	local, remote             uint16
	proto                     uint8
	opaque                    bool
	ignoreLocal, ignoreRemote bool
}

func viewOf(f *wire.Flow, in bool) view {
	v := view{flow: f, in: in, local: f.SrcPort, remote: f.DstPort, proto: f.Proto, opaque: f.Opaque}
	typed := selector.Typed(f.Proto)
	if in {
		v.local, v.remote = v.remote, v.local
		v.ignoreLocal = typed
	} else {
		v.ignoreRemote = typed
	}
	return v
}

// wall says whether the rule matches whatever has the addresses: what stands
// behind it for the same addresses is never reached.
func (r *rule) wall() bool { return r.proto == 0 && r.anyPorts && !r.ranges }

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

func (s *snapshot) lookup(f *wire.Flow, in, anyPorts bool) *Policy {
	if i := s.first(f, in, anyPorts); i >= 0 {
		return &s.policies[i]
	}
	return nil
}

// first is the index of the first policy that matches, or -1. With anyPorts, which
// is for opaque flows, that of the first that matches with ports that f may have.
func (s *snapshot) first(f *wire.Flow, in, anyPorts bool) int32 {
	i := s.match(f, in)
	if anyPorts && s.ported != nil {
		if j := s.ported.match(f, in); j >= 0 && (i < 0 || s.ported.indices[j] < i) {
			return s.ported.indices[j]
		}
	}
	return i
}

func (s *snapshot) match(f *wire.Flow, in bool) int32 {
	local, remote := f.Src, f.Dst
	if in {
		local, remote = remote, local
	}
	if local.BitLen() != remote.BitLen() || !local.IsValid() {
		return none
	}
	fam := &s.families[0]
	if !local.Is4() {
		fam = &s.families[1]
	}
	v := viewOf(f, in)
	best := s.search(fam, keyOf(local), keyOf(remote), &v)
	if best == maxIndex {
		return none
	}
	return best
}

// search is the lowest index of a policy that matches, or maxIndex.
func (s *snapshot) search(fam *family, local, remote key, v *view) int32 {
	best := int32(maxIndex)
	l, r := fam.local.lookup(local), fam.remote.lookup(remote)
	if l == none {
		return best
	}
	for r != none {
		p := &fam.remote.prefixes[r]
		switch {
		case p.first >= best:
		case p.more == manyPairs:
			best = s.searchMany(&fam.locals[p.from], local, v, best)
		default:
			best = s.searchFew(fam, p, l, v, best)
		}
		if p.beyond >= best {
			break
		}
		r = p.next
	}
	return best
}

// searchFew asks the pairs of a remote prefix, whose first policies are in order.
func (s *snapshot) searchFew(fam *family, p *prefixInfo, l int32, v *view, best int32) int32 {
	if e := &p.pair; e.local <= l && l <= e.localEnd {
		if best = s.searchSpan(&e.span, v, best); best == p.first {
			return best
		}
	}
	for i := p.from; i < p.from+int32(p.more); i++ {
		e := &fam.pairs[i]
		if e.first >= best {
			break
		}
		if e.local <= l && l <= e.localEnd {
			best = s.searchSpan(&e.span, v, best)
		}
	}
	return best
}

// searchMany asks the pairs of a remote prefix by the trie of its local ends.
func (s *snapshot) searchMany(locals *side, local key, v *view, best int32) int32 {
	for l := locals.lookup(local); l != none; {
		p := &locals.prefixes[l]
		best = s.searchSpan(&p.pair.span, v, best)
		if p.beyond >= best {
			break
		}
		l = p.next
	}
	return best
}

func (s *snapshot) searchSpan(e *span, v *view, best int32) int32 {
	if e.first >= best {
		return best
	}
	if e.kinds == 0 {
		return s.firstOf(e, v, best)
	}
	for k := kind(0); k < kinds; k++ {
		if e.kinds>>k&1 == 0 || v.opaque && k&(exactLocal|exactRemote) != 0 {
			continue
		}
		if sub := s.table.find(e.from, k.key(v.proto, v.local, v.remote)); sub != nil {
			best = s.firstOf(sub, v, best)
		}
	}
	return best
}

func (s *snapshot) firstOf(e *span, v *view, best int32) int32 {
	if e.first >= best {
		return best
	}
	if e.always {
		return e.first
	}
	from, to := e.from, e.to
	if e.tree && !v.opaque && !v.ignoreLocal && !v.ignoreRemote {
		from, to = s.leaf(from, v)
	} else if e.tree {
		from, to = s.cuts[from+1].from, s.cuts[from+1].to
	}
	for i := from; i < to; i++ {
		r := &s.rules[i]
		if r.index >= best {
			break
		}
		if r.matches(v) && (!r.ranges || s.policies[r.index].matches(v.flow, v.in)) {
			return r.index
		}
	}
	return best
}
