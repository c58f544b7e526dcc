package spd

import (
	"cmp"
	"net/netip"
	"slices"

	"culvert/internal/packet/wire"
	"culvert/spd/selector"
)

// Policies made at run time come and go one by one, for each road warrior one.
// To compile the whole table anew each time would cost tens of milliseconds with
// 10^4 of them. So they are kept beside the table: those whose remote end is a
// single address (a road warrior's) in many small snapshots by a hash of that
// address, all others in one more. A lookup asks the table, the snapshot of the
// packet's remote address and the one of the others, and takes what stands first.

// Place is where a made policy stands in the table: before the policy with
// index Before, after made ones with a lower Slot, and after those with the same
// that were put earlier.
type Place struct{ Before, Slot int }

// Made is a policy made at run time: rows with one Ref that stand in one place.
type Made struct {
	Place
	Rows []Policy
}

// whole is everything that a lookup sees.
type whole struct {
	table *snapshot
	made  *made // nil: none
}

type made struct {
	byRemote [buckets]*small
	others   *small
}

const buckets = 1024

// small is a snapshot with the rank of each of its policies, in order.
type small struct {
	*snapshot
	ranks []rank
}

// rank orders made policies, between each other and with those of the table.
type rank struct {
	Place
	serial uint64
}

func (r rank) compare(o rank) int {
	return cmp.Or(cmp.Compare(r.Before, o.Before), cmp.Compare(r.Slot, o.Slot), cmp.Compare(r.serial, o.serial))
}

// Put puts a made policy in force, instead of the one with the same Ref if
// there is one. Its rows are copied; their Index becomes the place's Before.
func (d *Database) Put(m Made) {
	v := d.whole.Load()
	next := whole{v.table, v.made.clone()}
	if len(m.Rows) > 0 {
		d.take(next.made, m.Rows[0].Ref)
		d.place(next.made, m)
	}
	d.whole.Store(&next)
}

// Drop takes a made policy away.
func (d *Database) Drop(ref uint32) {
	if _, ok := d.rows[ref]; !ok {
		return
	}
	v := d.whole.Load()
	next := whole{v.table, v.made.clone()}
	d.take(next.made, ref)
	if len(d.rows) == 0 {
		next.made = nil
	}
	d.whole.Store(&next)
}

// rebuild makes the snapshots of many made policies at once; nil: there are none.
func (d *Database) rebuild(list []Made) *made {
	d.rows = map[uint32][]uint16{}
	if len(list) == 0 {
		return nil
	}
	type pile struct {
		policies []Policy
		ranks    []rank
	}
	m := &made{}
	piles := map[uint16]*pile{}
	for _, p := range slices.SortedStableFunc(slices.Values(list), func(a, b Made) int {
		return cmp.Or(cmp.Compare(a.Before, b.Before), cmp.Compare(a.Slot, b.Slot))
	}) {
		for _, row := range p.Rows {
			d.serial++
			at := slotOf(&row.Pair)
			if piles[at] == nil {
				piles[at] = &pile{}
			}
			piles[at].policies = append(piles[at].policies, row)
			piles[at].ranks = append(piles[at].ranks, rank{p.Place, d.serial})
			d.rows[row.Ref] = append(d.rows[row.Ref], at)
		}
	}
	for at, x := range piles {
		*m.slot(at) = newSmall(x.policies, x.ranks)
	}
	return m
}

// clone copies the list of snapshots; they themselves never change.
func (m *made) clone() *made {
	if m == nil {
		return &made{}
	}
	n := *m
	return &n
}

// slotOf is the number of the snapshot that a policy belongs into: its bucket's,
// or the one after them.
func slotOf(p *selector.Pair) uint16 {
	if p.Remote.Lo == p.Remote.Hi {
		return uint16(bucketOf(p.Remote.Lo))
	}
	return buckets
}

func (m *made) slot(n uint16) **small {
	if n < buckets {
		return &m.byRemote[n]
	}
	return &m.others
}

func bucketOf(a netip.Addr) uint64 {
	return hashAddr(a) * 0x9e3779b97f4a7c15 >> 54
}

func (d *Database) place(m *made, p Made) {
	if d.rows == nil {
		d.rows = map[uint32][]uint16{}
	}
	in := make([]uint16, 0, len(p.Rows))
	for _, row := range p.Rows {
		d.serial++
		n := slotOf(&row.Pair)
		at := m.slot(n)
		*at = (*at).with(row, rank{p.Place, d.serial})
		in = append(in, n)
	}
	d.rows[p.Rows[0].Ref] = in
}

func (d *Database) take(m *made, ref uint32) {
	for _, n := range d.rows[ref] {
		at := m.slot(n)
		*at = (*at).without(ref)
	}
	delete(d.rows, ref)
}

// with is s and one policy more.
func (s *small) with(p Policy, r rank) *small {
	var policies []Policy
	var ranks []rank
	if s != nil {
		policies, ranks = s.policies, s.ranks
	}
	i, _ := slices.BinarySearchFunc(ranks, r, rank.compare)
	return newSmall(inserted(policies, i, p), inserted(ranks, i, r))
}

// inserted is a copy of the list, with x in place i and no room left over.
func inserted[T any](list []T, i int, x T) []T {
	out := make([]T, 0, len(list)+1)
	out = append(append(out, list[:i]...), x)
	return append(out, list[i:]...)
}

// without is s but for the policies of ref; nil where none is left.
func (s *small) without(ref uint32) *small {
	if s == nil {
		return nil
	}
	var policies []Policy
	var ranks []rank
	for i := range s.policies {
		if s.policies[i].Ref != ref {
			policies, ranks = append(policies, s.policies[i]), append(ranks, s.ranks[i])
		}
	}
	if len(policies) == 0 {
		return nil
	}
	return newSmall(policies, ranks)
}

func newSmall(policies []Policy, ranks []rank) *small {
	s := compile(policies)
	for i := range policies {
		policies[i].Index = ranks[i].Before
	}
	return &small{s, ranks}
}

// find is the first policy that matches; nil: none.
func (s *small) find(f *wire.Flow, in, anyPorts bool) (*Policy, rank) {
	if s == nil {
		return nil, rank{}
	}
	i := s.first(f, in, anyPorts)
	if i < 0 {
		return nil, rank{}
	}
	return &s.policies[i], s.ranks[i]
}

func (v *whole) lookup(f *wire.Flow, in, anyPorts bool) *Policy {
	p := v.table.lookup(f, in, anyPorts)
	if v.made == nil {
		return p
	}
	remote := f.Dst
	if in {
		remote = f.Src
	}
	a, rankA := v.made.byRemote[bucketOf(remote)].find(f, in, anyPorts)
	if b, rankB := v.made.others.find(f, in, anyPorts); b != nil && (a == nil || rankB.compare(rankA) < 0) {
		a, rankA = b, rankB
	}
	if a == nil || p != nil && p.Index < rankA.Before {
		return p
	}
	return a
}
