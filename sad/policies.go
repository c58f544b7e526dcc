package sad

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"

	"culvert/internal/packet/wire"
)

// policyIndex finds the active outbound SAs of a policy: a hash table whose
// buckets are immutable lists. A change replaces what stands before it in one
// list; the table doubles when lists grow long, so that its cost stays constant
// for each change. find is for everybody, the rest is under the table's mutex.
//
// With a million SAs nothing of it is in a processor's cache, so what a look-up
// asks for lies together: mostly it fetches a bucket and a sealers, and not the SA.
type policyIndex struct {
	buckets atomic.Pointer[[]atomic.Pointer[sealers]]
	entries int
}

// sealers is the SAs that seal for a policy. It never changes.
type sealers struct {
	policy uint32
	next   *sealers  // of the same bucket
	active []sealer  // for packets of any line, at least one: see order
	lines  *byLine   // for those of a line that has one for itself; nil: no line has
	one    [1]sealer // what active is of when it is one
}

// byLine is active in the order of each line. What is not in it has the order of active.
type byLine [][]sealer

// order compares sealers by which of them a line takes first: what is for the line itself, what is for all lines,
// and what is for another, which serves where nothing else is left. Of the same kind the newest installation is first.
func order(line int) func(a, b sealer) int {
	kind := func(s *sealer) int {
		switch s.out.child.Line {
		case line:
			return 0
		case 0:
			return 1
		}
		return 2
	}
	return func(a, b sealer) int {
		return cmp.Or(cmp.Compare(kind(&a), kind(&b)), cmp.Compare(b.out.child.serial, a.out.child.serial))
	}
}

// sealer is what decides between SAs; where the selectors are one pair of IPv4
// networks, that is in here, and not a cache line further.
type sealer struct {
	local, remote range4
	areas         areas // of out; nil: they are local and remote alone
	out           *Outbound
	client        uint64 // of out
}

type range4 struct{ lo, hi uint32 }

func (r range4) holds(a netip.Addr) bool {
	b := a.As4()
	n := binary.BigEndian.Uint32(b[:])
	return r.lo <= n && n <= r.hi
}

func newSealer(o *Outbound) sealer {
	s := sealer{areas: o.child.areas, out: o, client: o.child.Client, local: range4{1, 0}} // which holds nothing
	if len(s.areas) == 1 && s.areas[0].is4 && s.areas[0].open {
		a := &s.areas[0]
		s.local, s.remote = range4{uint32(a.local.lo.lo), uint32(a.local.hi.lo)}, range4{uint32(a.remote.lo.lo), uint32(a.remote.hi.lo)}
		s.areas = nil
	}
	return s
}

// covers is Outbound.Covers.
func (s *sealer) covers(f *wire.Flow) bool {
	if s.areas == nil && f.Src.Is4() && f.Dst.Is4() {
		return s.local.holds(f.Src) && s.remote.holds(f.Dst)
	}
	return s.areas.cover(f, false)
}

const firstBuckets = 64

func (x *policyIndex) init() {
	b := make([]atomic.Pointer[sealers], firstBuckets)
	x.buckets.Store(&b)
}

// hashPolicy spreads references, which mostly count up, by the golden ratio.
func hashPolicy(policy uint32, buckets int) int {
	return int(uint64(policy*0x9e3779b1) * uint64(buckets) >> 32)
}

// find is what may seal the packets of a line, in the order in which the line takes it.
func (x *policyIndex) find(policy uint32, line int) []sealer {
	buckets := *x.buckets.Load()
	for s := buckets[hashPolicy(policy, len(buckets))].Load(); s != nil; s = s.next {
		if s.policy == policy {
			if line > 0 && s.lines != nil && line < len(*s.lines) {
				return (*s.lines)[line]
			}
			return s.active
		}
	}
	return nil
}

// add puts o at its place.
func (x *policyIndex) add(policy uint32, o *Outbound) {
	list := append(slices.Clone(x.find(policy, 0)), newSealer(o))
	slices.SortFunc(list, order(0))
	x.set(policy, list)
}

func (x *policyIndex) remove(policy uint32, o *Outbound) {
	var list []sealer
	for _, v := range x.find(policy, 0) {
		if v.out != o {
			list = append(list, v)
		}
	}
	x.set(policy, list)
}

// set replaces the list of a policy; an empty one takes the policy out.
func (x *policyIndex) set(policy uint32, list []sealer) {
	buckets := *x.buckets.Load()
	place := &buckets[hashPolicy(policy, len(buckets))]
	next, had := without(place.Load(), policy)
	if len(list) > 0 {
		next = newSealers(policy, list, next)
	}
	place.Store(next)
	switch {
	case had && len(list) == 0:
		x.entries--
	case !had && len(list) > 0:
		x.entries++
	}
	if x.entries > len(buckets) {
		x.double(buckets)
	}
}

func newSealers(policy uint32, active []sealer, next *sealers) *sealers {
	return (&sealers{policy: policy, active: active, lines: newByLine(active)}).before(next)
}

// before is a copy of s in front of another list.
func (s *sealers) before(next *sealers) *sealers {
	c := &sealers{policy: s.policy, next: next, active: s.active, lines: s.lines}
	if len(c.active) == 1 {
		c.one[0] = c.active[0]
		c.active = c.one[:]
	}
	return c
}

// newByLine is nil where all SAs are for all lines.
func newByLine(active []sealer) *byLine {
	last := 0
	for i := range active {
		last = max(last, active[i].out.child.Line)
	}
	if last == 0 {
		return nil
	}
	lists := make(byLine, last+1)
	for line := range lists {
		lists[line] = slices.Clone(active)
		slices.SortFunc(lists[line], order(line))
	}
	return &lists
}

// LinesBeside are the lines that have SAs for themselves which seal the packets of the same policy and client.
func (c *Child) LinesBeside() (lines []int) {
	for _, s := range c.table.policies.find(c.Policy, 0) {
		if d := s.out.child; d.Line > 0 && d.Client == c.Client && !slices.Contains(lines, d.Line) {
			lines = append(lines, d.Line)
		}
	}
	slices.Sort(lines)
	return lines
}

// without is a list that lacks a policy, and whether it was there.
func without(s *sealers, policy uint32) (*sealers, bool) {
	if s == nil {
		return nil, false
	}
	if s.policy == policy {
		return s.next, true
	}
	rest, had := without(s.next, policy)
	if !had {
		return s, false
	}
	return s.before(rest), true
}

func (x *policyIndex) double(old []atomic.Pointer[sealers]) {
	buckets := make([]atomic.Pointer[sealers], 2*len(old))
	for i := range old {
		for s := old[i].Load(); s != nil; s = s.next {
			place := &buckets[hashPolicy(s.policy, len(buckets))]
			place.Store(s.before(place.Load()))
		}
	}
	x.buckets.Store(&buckets)
}
