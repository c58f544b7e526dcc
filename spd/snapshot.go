package spd

import (
	"math"
	"math/bits"

	"culvert/internal/packet/wire"
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
	spans    []span
	cuts     []cut   // port trees, see ports.go
	table    table   // rules by protocol and port, of pairs that have many
	ported   *ported // nil: no policy asks for ports
	entries  []entry // while it is made: what goes into table
}

type family struct {
	local   side
	remotes trie
	remote  []remotePrefix
	locals  []locals // of each remote prefix that has many pairs
}

// side is the prefixes of one end, in order: what is within a prefix follows it.
type side struct {
	trie     trie
	prefixes []prefixInfo
}

type prefixInfo struct {
	key
	bits   uint8
	many   bool  // of a remote prefix: its pairs are in family.locals, the first says where
	around int32 // the next shorter prefix that covers this one
	next   int32 // the one around this one whose pairs are not here: see spread
	beyond int32 // lowest policy index of the pairs of next and what follows it
}

// remotePrefix fills two cache lines, of which a lookup mostly needs the first:
// where there are many prefixes, what it costs is the lines that it has to fetch.
type remotePrefix struct {
	prefixInfo
	pairs [manyPairs - 1]localPair // in order of their first policy
}

// manyPairs is from where on the pairs of a remote prefix have a trie of their own.
const manyPairs = 7

// localPair is the rules of a remote prefix and a local one: those local prefixes
// are within that one that follow local by less than within.
type localPair struct {
	local, within uint32
	first         int32  // policy index
	span          uint32 // in snapshot.spans; always: the first matches whatever has the addresses
}

// around is 1 if the local prefix l is within the pair's.
func (p *localPair) around(l uint32) uint32 {
	return uint32((uint64(l-p.local) - uint64(p.within)) >> 63)
}

const always = 1 << 31

// locals is the local ends of the pairs of a remote prefix.
type locals struct {
	side
	pairs []localPair // by prefix
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
	l, r := fam.local.lookup(local), fam.lookupRemote(remote)
	for l != none && r != none {
		p := &fam.remote[r]
		switch {
		case p.pairs[0].first >= best:
		case p.many:
			best = s.searchMany(&fam.locals[p.pairs[0].span], local, v, best)
		default:
			best = s.searchFew(p, uint32(l), v, best)
		}
		if p.beyond >= best {
			break
		}
		r = p.next
	}
	return best
}

// lookupRemote is side.lookup.
func (fam *family) lookupRemote(k key) int32 {
	i := fam.remotes.lookup(k)
	if i != none {
		if p := &fam.remote[i]; !k.under(p.key, p.bits) {
			return p.around
		}
	}
	return i
}

// searchFew asks the pairs of a remote prefix, whose first policies are in order.
// Which of them have the local address nobody foresees: it is found out without
// a branch, so that the CPU goes on meanwhile.
func (s *snapshot) searchFew(p *remotePrefix, l uint32, v *view, best int32) int32 {
	hits := uint32(0)
	for i := range p.pairs {
		hits |= p.pairs[i].around(l) << i
	}
	for ; hits != 0; hits &= hits - 1 {
		e := &p.pairs[bits.TrailingZeros32(hits)%len(p.pairs)]
		switch {
		case e.first >= best:
			return best
		case e.span == always:
			return e.first
		}
		best = s.searchPair(e, v, best)
	}
	return best
}

// searchMany asks the pairs of a remote prefix by the trie of its local ends.
func (s *snapshot) searchMany(m *locals, local key, v *view, best int32) int32 {
	for l := m.lookup(local); l != none; {
		if e := &m.pairs[l]; e.first < best {
			best = s.searchPair(e, v, best)
		}
		p := &m.prefixes[l]
		if p.beyond >= best {
			break
		}
		l = p.next
	}
	return best
}

// searchPair is for a pair whose first policy is below best.
func (s *snapshot) searchPair(p *localPair, v *view, best int32) int32 {
	if p.span == always {
		return p.first
	}
	e := &s.spans[p.span]
	if e.kinds == 0 {
		return s.firstOf(e, v, best)
	}
	for k := kind(0); k < kinds; k++ {
		if e.kinds>>k&1 == 0 {
			continue
		}
		if sub := s.table.find(p.span, k.key(v.proto, v.local, v.remote)); sub != nil && sub.first < best {
			best = s.firstOf(sub, v, best)
		}
	}
	return best
}

func (s *snapshot) firstOf(e *span, v *view, best int32) int32 {
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
