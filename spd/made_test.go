package spd

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"culvert/internal/packet/wire"
	"culvert/spd/selector"
)

// flat is the order that the database promises, as one list.
func flat(table []Policy, list []Made) (out []Policy) {
	for i := 0; i <= len(table); i++ {
		var here []Made
		for _, m := range list {
			if m.Before == i {
				here = append(here, m)
			}
		}
		slices.SortStableFunc(here, func(a, b Made) int { return a.Slot - b.Slot })
		for _, m := range here {
			for _, row := range m.Rows {
				row.Index = i
				out = append(out, row)
			}
		}
		if i < len(table) {
			row := table[i]
			row.Index = i
			out = append(out, row)
		}
	}
	return out
}

// Whatever is put, dropped and replaced: a lookup finds what the naive list finds.
func TestMadeIsTheNaiveList(t *testing.T) {
	for seed := range uint64(30) {
		w := newWorld(seed + 100)
		rng := rand.New(rand.NewPCG(seed, 1))
		db, cache := New(), new(Cache)
		var table []Policy
		for i := range rng.IntN(20) {
			p := w.policy()
			p.Ref = uint32(i + 1)
			table = append(table, p)
		}
		db.Replace(table)
		var list []Made
		ref := uint32(1 << 31)
		add := func(r uint32) Made {
			m := Made{Place: Place{Before: rng.IntN(len(table) + 1), Slot: rng.IntN(3)}}
			for range 1 + rng.IntN(3) {
				p := w.policy()
				if rng.IntN(2) == 0 {
					p.Pair.Remote.Hi = p.Pair.Remote.Lo
				}
				p.Ref = r
				m.Rows = append(m.Rows, p)
			}
			return m
		}
		for step := range 120 {
			switch n := rng.IntN(10); {
			case n < 5:
				ref++
				m := add(ref)
				list = append(list, m)
				db.Put(m)
			case n < 7 && len(list) > 0: // again, elsewhere
				i := rng.IntN(len(list))
				m := add(list[i].Rows[0].Ref)
				list = append(slices.Delete(list, i, i+1), m)
				db.Put(m)
			case n < 9 && len(list) > 0:
				i := rng.IntN(len(list))
				db.Drop(list[i].Rows[0].Ref)
				list = slices.Delete(list, i, i+1)
			default:
				db.Replace(table, list...)
			}
			want := flat(table, list)
			for range 20 {
				if len(want) == 0 {
					break
				}
				f := w.flow(want)
				in := rng.IntN(2) == 0
				i := naive(want, f, in)
				got := db.Lookup(&f)
				if in {
					got = db.LookupIn(&f)
				}
				switch {
				case i < 0 && got != nil:
					t.Fatalf("seed %d step %d: %v found %d, want none", seed, step, f, got.Ref)
				case i >= 0 && (got == nil || got.Ref != want[i].Ref || got.Index != want[i].Index || got.Pair != want[i].Pair):
					t.Fatalf("seed %d step %d: %v found %v, want %v", seed, step, f, got, want[i])
				}
				if cache.lookup(db, &f, in) != got {
					t.Fatalf("seed %d step %d: the cache differs", seed, step)
				}
			}
		}
		for _, m := range list {
			db.Drop(m.Rows[0].Ref)
		}
		db.Drop(77)
		if db.whole.Load().made != nil || len(db.rows) != 0 {
			t.Errorf("seed %d: something is left", seed)
		}
	}
}

// warriors is n road warriors of one template.
func warriors(n int) (list []Made) {
	addr := netip.MustParseAddr("10.64.0.1")
	for i := range n {
		list = append(list, Made{Place{Before: 1}, []Policy{{Ref: 1<<31 + uint32(i), Tunnel: true, Pair: selector.Pair{
			Local: selector.FromPrefix(netip.MustParsePrefix("0.0.0.0/0")), Remote: selector.FromPrefix(netip.PrefixFrom(addr, 32))}}}})
		addr = addr.Next()
	}
	return list
}

func BenchmarkMade(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		list := warriors(n)
		db := New()
		db.Replace([]Policy{{Ref: 1, Pair: nets("10.1.0.0/16", "10.2.0.0/16")}, {Ref: 2, Action: Discard, Pair: nets("0.0.0.0/0", "0.0.0.0/0")}}, list...)
		b.Run(fmt.Sprintf("put and drop/n=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				m := list[i%n]
				db.Drop(m.Rows[0].Ref)
				db.Put(m)
			}
		})
		b.Run(fmt.Sprintf("replace/n=%d", n), func(b *testing.B) {
			for b.Loop() {
				db.Replace(nil, list...)
			}
		})
		b.Run(fmt.Sprintf("lookup/n=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			f := wire.Flow{Src: netip.MustParseAddr("10.1.2.3"), Proto: 6}
			for i := 0; b.Loop(); i++ {
				f.Dst = list[i%n].Rows[0].Pair.Remote.Lo
				if db.Lookup(&f) == nil {
					b.Fatal("none")
				}
			}
		})
	}
}

// A road warrior's policy is found by a hash of its address, so that no lookup asks all of
// them; every other policy is asked of each packet. What is replaced leaves nothing.
func TestMadeByAddress(t *testing.T) {
	list := warriors(300)
	net := Made{Place{}, []Policy{{Ref: 7, Pair: nets("10.1.0.0/16", "10.9.0.0/16")}}}
	for _, how := range []string{"one by one", "at once"} {
		db := New()
		if how == "at once" {
			db.Replace(nil, append(list, net)...)
		} else {
			for _, m := range append(list, net) {
				db.Put(m)
			}
		}
		m := db.whole.Load().made
		if m.others == nil || len(m.others.policies) != 1 || m.others.policies[0].Ref != 7 {
			t.Fatalf("%s: not by address are %+v", how, m.others)
		}
		used := 0
		for _, s := range m.byRemote {
			if s != nil {
				used++
				if len(s.policies) > 5 {
					t.Errorf("%s: %d of 300 share a snapshot", how, len(s.policies))
				}
			}
		}
		if used < 200 {
			t.Errorf("%s: 300 addresses are in %d snapshots", how, used)
		}
		db.Drop(list[0].Rows[0].Ref)
		left := 0
		for _, s := range db.whole.Load().made.byRemote {
			if s != nil {
				left++
			}
		}
		if left != used-1 {
			t.Errorf("%s: one that was alone in its snapshot is dropped, and of %d snapshots %d are left", how, used, left)
		}
		before := db.whole.Load()
		db.Drop(99)
		if db.whole.Load() != before {
			t.Errorf("%s: what is not there was taken away", how)
		}
		db.Replace(nil)
		if db.whole.Load().made != nil || len(db.rows) != 0 {
			t.Errorf("%s: something is left", how)
		}
	}
}

// The addresses of a pool follow each other, and are spread more evenly than chance would.
func TestPoolIsSpread(t *testing.T) {
	var in [buckets]int
	for _, m := range warriors(buckets) {
		in[slotOf(&m.Rows[0].Pair)]++
	}
	if most := slices.Max(in[:]); most > 2 {
		t.Errorf("of %d addresses %d share a snapshot", buckets, most)
	}
}
