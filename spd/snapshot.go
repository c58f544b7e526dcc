package spd

import (
	"math"

	"culvert/internal/wire"
	"culvert/spd/selector"
)

// A snapshot answers a lookup in three steps, whose cost does not depend on how
// many policies there are, but on how they nest around the packet's addresses:
//
//  1. For each end, a trie gives the longest prefix around the address that any
//     policy names; each prefix knows the next shorter one around it.
//  2. For each remote prefix that could beat the best policy so far, the rules
//     of its pairs with a local prefix around the local address: from a short
//     list of the remote prefix, or where it has many pairs, by a trie of its own.
//  3. The first of these rules whose protocol and ports match is a candidate.
//     Where a pair has many rules, they are spread further by protocol and exact
//     ports, and what is left of them by ranges of ports, see ports.go.
//
// A range of addresses that is no prefix is entered under at most two prefixes
// that cover it, and compared when it is met.
type snapshot struct {
	policies []Policy
	families [2]family // IPv4, IPv6
	rules    []rule
	cuts     []cut   // port trees, see ports.go
	ported   *ported // nil: no policy asks for ports
}

type family struct {
	local, remote side
	pairs         []localPair // of the remote prefixes that have few
	locals        []side      // of each that has many: the local ends of its pairs
	table         table       // rules by protocol and port, of pairs that have many
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
	bits     uint8
	more     uint8     // of its pairs but the first, how many are in family.pairs; manyPairs: they are in family.locals
	depth    int32     // how many are around this one
	around   int32     // the next shorter prefix that covers this one
	first    int32     // lowest policy index with exactly this prefix
	firstAny int32     // the same, with this prefix or any around it
	from     int32     // in family.pairs or family.locals
	pair     localPair // the first of its pairs
}

// localPair is the rules of a remote prefix and a local one. The local prefixes
// from local to localEnd are within that one.
type localPair struct {
	local, localEnd int32
	span
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
	if best == math.MaxInt32 {
		return none
	}
	return best
}

// deep is from how many remote prefixes within each other on a packet is tried
// with the first policies alone before. With many of them, it mostly matches one
// of these, and a low bound leaves out most of the prefixes.
const deep = 8

// search is the lowest index of a policy that matches, or MaxInt32.
func (s *snapshot) search(fam *family, local, remote key, v *view) int32 {
	const worst = int32(math.MaxInt32)
	l, r := fam.local.lookup(local), fam.remote.lookup(remote)
	if l == none || r == none {
		return worst
	}
	if fam.remote.prefixes[r].depth >= deep {
		for guess := 64; guess < len(s.policies); guess *= 8 {
			if best := s.searchBelow(fam, l, r, local, v, int32(guess)); best < int32(guess) {
				return best
			}
		}
	}
	return s.searchBelow(fam, l, r, local, v, worst)
}

// searchBelow is the lowest index below best of a policy that matches, or best.
// l and r are the longest prefixes around the packet's addresses.
func (s *snapshot) searchBelow(fam *family, l, r int32, local key, v *view, best int32) int32 {
	for r != none {
		p := &fam.remote.prefixes[r]
		switch {
		case p.firstAny >= best:
			return best
		case p.first >= best:
		case p.more == manyPairs:
			best = s.searchMany(fam, &fam.locals[p.from], local, r, v, best)
		default:
			if e := &p.pair; e.local <= l && l <= e.localEnd {
				best = s.searchSpan(&fam.table, &e.span, pairKey(e.local, r), v, best)
			}
			for i := p.from; i < p.from+int32(p.more); i++ {
				if e := &fam.pairs[i]; e.local <= l && l <= e.localEnd {
					best = s.searchSpan(&fam.table, &e.span, pairKey(e.local, r), v, best)
				}
			}
		}
		r = p.around
	}
	return best
}

// searchMany asks the pairs of a remote prefix by the trie of its local ends.
func (s *snapshot) searchMany(fam *family, locals *side, local key, r int32, v *view, best int32) int32 {
	for l := locals.lookup(local); l != none; {
		p := &locals.prefixes[l]
		if p.firstAny >= best {
			break
		}
		best = s.searchSpan(&fam.table, &p.pair.span, pairKey(p.pair.local, r), v, best)
		l = p.around
	}
	return best
}

func (s *snapshot) searchSpan(t *table, e *span, pair uint64, v *view, best int32) int32 {
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
		if sub := t.find(pair, k.key(v.proto, v.local, v.remote)); sub != nil {
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
