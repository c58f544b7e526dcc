package spd

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"culvert/internal/packet/wire"
	"culvert/spd/selector"
)

// nested is policies whose ends are networks of all lengths around one address, none
// of which takes all packets of its addresses if walls is false.
func nested(w world, n int, v6, walls bool) []Policy {
	center, _ := netip.AddrFromSlice(make([]byte, 4))
	if v6 {
		center = netip.MustParseAddr("2001:db8:5555:aaaa:3333:cccc:f0f0:ff00")
	}
	end := func() selector.TS {
		a := center
		bits := w.IntN(a.BitLen() + 1)
		if w.IntN(4) == 0 && bits > 0 { // beside the center
			b := a.AsSlice()
			b[(bits-1)/8] ^= 0x80 >> ((bits - 1) % 8)
			a, _ = netip.AddrFromSlice(b)
		}
		return selector.FromPrefix(netip.PrefixFrom(a, bits))
	}
	out := make([]Policy, n)
	for i := range out {
		p := selector.Pair{Local: end(), Remote: end()}
		if !walls || w.IntN(50) > 0 {
			p.Local.Proto = []uint8{6, 17, 47}[w.IntN(3)]
			p.Remote.Proto = p.Local.Proto
			p.Remote.PortLo = uint16(w.IntN(100))
			p.Remote.PortHi = p.Remote.PortLo + uint16(w.IntN(3))
		}
		out[i] = Policy{Pair: p}
	}
	return out
}

func TestNestsAreTheNaiveList(t *testing.T) {
	for seed := range uint64(60) {
		w := newWorld(seed)
		policies := nested(w, 1<<w.IntN(12), seed%2 == 1, seed%3 == 0)
		db := New()
		db.Replace(policies)
		hits := 0
		for range 200 {
			p, q := policies[w.IntN(len(policies))].Pair, policies[w.IntN(len(policies))].Pair
			f := wire.Flow{Src: p.Local.Hi, Dst: q.Remote.Lo, Proto: 6, DstPort: uint16(w.IntN(102))}
			if w.IntN(3) == 0 {
				f.Src, f.Dst = p.Local.Lo, p.Remote.Hi
			}
			got, want := index(db.Lookup(&f)), naive(policies, f, false)
			if got != want {
				t.Fatalf("seed %d, %d policies: Lookup(%+v) = %d, want %d", seed, len(policies), f, got, want)
			}
			if want >= 0 {
				hits++
			}
			f = f.Reverse()
			if got, want := index(db.LookupIn(&f)), naive(policies, f, true); got != want {
				t.Fatalf("seed %d, %d policies: LookupIn(%+v) = %d, want %d", seed, len(policies), f, got, want)
			}
		}
		if len(policies) > 500 && hits < 20 {
			t.Fatalf("seed %d: %d of 200 flows hit a policy", seed, hits)
		}
	}
}

// However deep networks lie within each other: a lookup asks few lists, and what
// is in several is no multiple of the policies that grows with the depth.
func TestWalksAreShort(t *testing.T) {
	for _, n := range []int{1000, 20000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := compile(nested(newWorld(1), n, true, false))
			steps := func(infos []prefixInfo) (most int) {
				for i := range infos {
					count := 1
					for j := infos[i].next; j != none; j = infos[j].next {
						count++
					}
					most = max(most, count)
				}
				return most
			}
			fam := &s.families[1]
			var remotes []prefixInfo
			for i := range fam.remote {
				remotes = append(remotes, fam.remote[i].prefixInfo)
			}
			if len(remotes) < 150 {
				t.Fatalf("%d remote prefixes are no nest", len(remotes))
			}
			if most := steps(remotes); most > 10 {
				t.Errorf("%d lists are asked for one remote address", most)
			}
			for i := range fam.locals {
				if most := steps(fam.locals[i].prefixes); most > 10 {
					t.Errorf("%d lists of one remote prefix are asked for one local address", most)
				}
			}
			if len(s.rules) > 40*n {
				t.Errorf("%d policies became %d rules", n, len(s.rules))
			}
		})
	}
}

// Policies behind one that takes all of their packets are left out, whether they are for
// the same addresses or fewer, and no others. All of them stay listed.
func TestWallsEnd(t *testing.T) {
	const reachable = 3000
	policies := gateway(5000)
	for i := reachable; i < len(policies); i++ {
		pair := policies[i-reachable+1].Pair
		if i%2 == 1 {
			pair.Remote.Hi = pair.Remote.Lo
			pair.Local.Proto, pair.Remote.Proto, pair.Remote.PortLo, pair.Remote.PortHi = 6, 6, 80, 80
		}
		policies[i].Pair = pair
	}
	s := &snapshot{policies: policies}
	var families [2][]piece
	for i := range policies {
		policies[i].Index = i
		s.cut(&policies[i], &families)
	}
	pieces, found := families[0], map[int32]bool{}
	locals := number(pieces, func(p *piece) (prefix, *int32) { return p.local, &p.l })
	remotes := number(pieces, func(p *piece) (prefix, *int32) { return p.remote, &p.r })
	for _, p := range reached(inOrder(pieces), locals, remotes) {
		found[p.rule.index] = true
	}
	for i := range found {
		if i >= reachable {
			t.Fatalf("policy %d cannot be reached and is in the snapshot", i)
		}
	}
	for i := range policies[:reachable] {
		walled := slices.ContainsFunc(policies[:i], func(p Policy) bool {
			return p.Pair.Local.Proto == 0 && p.Pair.Local.Covers(policies[i].Pair.Local) && p.Pair.Remote.Covers(policies[i].Pair.Remote)
		})
		if found[int32(i)] == walled {
			t.Fatalf("policy %d is in the snapshot: %v; one before it takes all of its packets: %v", i, found[int32(i)], walled)
		}
	}
	db := New()
	db.Replace(policies)
	left := map[int32]bool{}
	for _, p := range reached(inOrder(pieces), locals, remotes) {
		left[p.r] = true
	}
	if n := len(db.whole.Load().table.families[0].remote); n != len(left) {
		t.Errorf("the snapshot has %d remote prefixes, want %d", n, len(left))
	}
	if list := db.Policies(); len(list) != len(policies) || list[4000].Index != 4000 {
		t.Fatal("a policy that is not reached is not listed")
	}
}

// What stands behind a wall around it is not taken along, and all else is, in order.
func TestMergeGroups(t *testing.T) {
	for seed := range uint64(300) {
		w := newWorld(seed)
		// A nest of places: each ends where the one around it does or before.
		var ends []int32
		var nestOf func(end int32)
		nestOf = func(end int32) {
			for int32(len(ends)) <= end {
				at := int32(len(ends))
				inner := at + int32(w.IntN(int(end-at)+1))
				ends = append(ends, inner)
				nestOf(inner)
			}
		}
		nestOf(20)
		var lists [2][]*group
		for l, end := range ends {
			for i := range lists {
				if w.IntN(3) == 0 {
					continue
				}
				g := &group{l: int32(l), end: end}
				index := int32(2*w.IntN(500) + i) // the two lists never begin with the same
				for range 1 + w.IntN(3) {
					g.rules = append(g.rules, rule{index: index, proto: 6, anyPorts: true})
					index += 1 + int32(w.IntN(50))
				}
				if last := &g.rules[len(g.rules)-1]; w.IntN(3) == 0 {
					last.proto = 0
				}
				lists[i] = append(lists[i], g)
			}
		}
		all := slices.Concat(lists[0], lists[1])
		slices.SortStableFunc(all, func(a, b *group) int {
			if a.l != b.l {
				return int(a.l - b.l)
			}
			return int(a.first() - b.first())
		})
		var want []*group
		for i, g := range all {
			walled := slices.ContainsFunc(all[:i], func(o *group) bool {
				last := o.rules[len(o.rules)-1]
				return o.l <= g.l && g.l <= o.end && last.proto == 0 && last.index < g.first()
			})
			if !walled {
				want = append(want, g)
			}
		}
		if got := mergeGroups(lists[0], lists[1]); !slices.Equal(got, want) {
			t.Fatalf("seed %d: %d groups, want %d", seed, len(got), len(want))
		}
	}
}

// However long the list of a network is: those within it that have little do not go
// through it, each of them anew.
func TestSpreadTouchesLittle(t *testing.T) {
	const root, inner = 10000, 1000
	infos := make([]prefixInfo, 1+inner)
	infos[0] = prefixInfo{around: none}
	for i := range inner {
		infos[1+i] = prefixInfo{around: 0}
	}
	for i := range infos {
		infos[i].next = none
	}
	touched := 0
	lists := spread(infos, 7, func(i int) []rule {
		if i > 0 {
			return []rule{{index: 5, anyPorts: true}} // a wall: nothing of the root's is taken along
		}
		list := make([]rule, root)
		for i := range list {
			list[i] = rule{index: int32(10 + i), proto: 6}
		}
		return list
	}, func(a, b []rule) []rule {
		touched += len(a) + len(b)
		return mergeRules(a, b)
	})
	if touched > 3*(root+inner) {
		t.Errorf("%d rules are gone through", touched)
	}
	for i := 1; i < len(lists); i++ {
		if l := lists[i]; l[0].index != 5 || len(l) != 1 && infos[i].next != none {
			t.Fatalf("prefix %d has %d rules and goes on at %d", i, len(l), infos[i].next)
		}
	}
}

// A list of twice as much as may be is looked at, whether little of it is left behind a wall;
// a longer one is not.
func TestSpreadTakesAlong(t *testing.T) {
	const few = 7
	for root, taken := range map[int]bool{few - 1: true, 2 * (few + 1): true, 2*(few+1) + 1: false} {
		infos := []prefixInfo{{around: none, next: none}, {around: 0, next: none}, {around: 0, next: none}}
		lists := spread(infos, few, func(i int) []rule {
			switch i {
			case 0:
				return make([]rule, root)
			case 1:
				return []rule{{index: 1}}
			}
			return make([]rule, 100) // the heaviest
		}, func(a, b []rule) []rule { return a }) // as if behind a wall
		if got := infos[1].next == none; got != taken || len(lists[1]) != 1 {
			t.Errorf("%d around it: all taken along %v, want %v", root, got, taken)
		}
	}
}

// Of many walls only some are kept. A wall that was not still ends its pair, though as many
// policies stand behind it as it is itself.
func TestWallThatIsNotKept(t *testing.T) {
	var policies []Policy
	for i := range manyWalls {
		policies = append(policies, Policy{Pair: nets(fmt.Sprintf("10.%d.0.0/16", 100+i), "10.0.0.0/8")})
	}
	of := func(remote string, proto uint8) Policy {
		p := nets("10.99.0.0/16", remote)
		p.Local.Proto, p.Remote.Proto = proto, proto
		return Policy{Pair: p}
	}
	policies = append(policies, of("10.1.0.0/16", 6), of("10.0.0.0/8", 0), of("10.1.0.0/16", 17))
	db := New()
	db.Replace(policies)
	for proto, want := range map[uint8]int{6: manyWalls, 17: manyWalls + 1, 47: manyWalls + 1} {
		if got := index(db.Lookup(flow("10.99.0.1", "10.1.0.1", proto, 0, 0))); got != want {
			t.Errorf("protocol %d: %d, want %d", proto, got, want)
		}
	}
}

func TestWallsWith(t *testing.T) {
	var twelve walls
	for i := range int32(manyWalls) {
		twelve = append(twelve, wall{100 * i, 100*i + 10 + i, i}) // the first is the smallest
	}
	for _, c := range []struct {
		name string
		w    walls
		n    wall
		want walls
	}{
		{"the first", nil, wall{1, 2, 3}, walls{{1, 2, 3}}},
		{"the same again, later", walls{{1, 5, 3}}, wall{1, 5, 3}, walls{{1, 5, 3}}},
		{"around one that stands behind it", walls{{2, 4, 9}}, wall{1, 5, 3}, walls{{1, 5, 3}}},
		{"of the same places before it", walls{{1, 5, 9}}, wall{1, 5, 3}, walls{{1, 5, 3}}},
		{"one begins before it", walls{{0, 4, 9}}, wall{1, 5, 3}, walls{{1, 5, 3}, {0, 4, 9}}},
		{"one ends behind it", walls{{2, 6, 9}}, wall{1, 5, 3}, walls{{1, 5, 3}, {2, 6, 9}}},
		{"one stands before it", walls{{2, 4, 2}}, wall{1, 5, 3}, walls{{1, 5, 3}, {2, 4, 2}}},
		{"as many as are kept", twelve[1:], wall{5000, 5001, 50}, append(walls{{5000, 5001, 50}}, twelve[1:]...)},
		{"one too many: the smallest goes", twelve, wall{5000, 5050, 50}, append(walls{{5000, 5050, 50}}, twelve[1:]...)},
		{"one too many, itself the smallest", twelve, wall{5000, 5001, 50}, twelve},
		{"of two of the same size the new one", twelve, wall{5000, 5010, 50}, twelve},
	} {
		before := slices.Clone(c.w)
		if got := c.w.with(c.n); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if !slices.Equal(c.w, before) {
			t.Errorf("%s: the old walls were changed", c.name)
		}
	}
}
