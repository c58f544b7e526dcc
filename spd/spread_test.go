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
	if list := db.Policies(); len(list) != len(policies) || list[4000].Index != 4000 {
		t.Fatal("a policy that is not reached is not listed")
	}
}
