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
//     list of the remote prefix, or where it has many pairs, from a hash table.
//  3. The first of these rules whose protocol and ports match is a candidate.
//     Where a pair has many rules, they are spread further by protocol and ports.
//
// A range of addresses that is no prefix is entered under at most two prefixes
// that cover it, and compared when it is met.
type snapshot struct {
	policies []Policy
	families [2]family // IPv4, IPv6
	rules    []rule
	ported   *ported // nil: no policy asks for ports
}

type family struct {
	local, remote side
	pairs         []localPair // of the remote prefixes that have few
	table         table
}

// side is the prefixes of one end, in order: what is within a prefix follows it.
type side struct {
	trie     trie
	prefixes []prefixInfo
}

type prefixInfo struct {
	prefix
	many     bool  // its pairs are in the table
	around   int32 // the next shorter prefix that covers this one
	end      int32 // the last prefix that is within this one
	first    int32 // lowest policy index with exactly this prefix
	firstAny int32 // the same, with this prefix or any around it
	from, to int32 // in family.pairs
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

// search is the lowest index of a policy that matches, or MaxInt32.
func (s *snapshot) search(fam *family, local, remote key, v *view) int32 {
	best := int32(math.MaxInt32)
	l := fam.local.lookup(local)
	if l == none {
		return best
	}
	for r := fam.remote.lookup(remote); r != none; {
		p := &fam.remote.prefixes[r]
		switch {
		case p.firstAny >= best:
			return best
		case p.first >= best:
		case p.many:
			best = s.searchMany(fam, l, r, v, best)
		default:
			for i := p.from; i < p.to; i++ {
				if e := &fam.pairs[i]; e.local <= l && l <= e.localEnd {
					best = s.searchSpan(&fam.table, &e.span, pairKey(e.local, r), v, best)
				}
			}
		}
		r = p.around
	}
	return best
}

func (s *snapshot) searchMany(fam *family, l, r int32, v *view, best int32) int32 {
	for l != none {
		p := &fam.local.prefixes[l]
		if p.firstAny >= best {
			break
		}
		if p.first < best {
			pair := pairKey(l, r)
			if e := fam.table.find(pair, 0); e != nil {
				best = s.searchSpan(&fam.table, e, pair, v, best)
			}
		}
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
	for i := e.from; i < e.to; i++ {
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
