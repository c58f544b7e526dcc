package spd

import "testing"

func (w world) policies(n int) (list []Policy) {
	for range n {
		p := w.policy()
		if p.Pair.Remote.IsOpaque() && !fragmentOK(p.Pair.Local) || p.Pair.Local.IsOpaque() && !fragmentOK(p.Pair.Remote) {
			p.Pair.Remote.PortLo, p.Pair.Remote.PortHi = p.Pair.Local.PortLo, p.Pair.Local.PortHi
		}
		list = append(list, p)
	}
	return list
}

// A flow hides something exactly where some ports would have another policy
// decide: those at the bounds of each policy are enough to find out.
func TestHiddenAgainstEachPort(t *testing.T) {
	hidden, open := 0, 0
	for seed := range uint64(60) {
		w := newWorld(1000 + seed)
		db, policies := New(), w.policies(1+w.IntN(40))
		db.Replace(policies)
		for range 300 {
			f := w.flow(policies)
			in := w.IntN(2) == 0
			blind := f.Blind()
			got := db.Hidden(&f, in)
			// Only policies before the one that decides blindly can change the answer.
			want, upTo := false, naive(policies, blind, in)
			if upTo < 0 {
				upTo = len(policies)
			}
			for _, p := range policies[:upTo] {
				seen := blind
				seen.Opaque = false
				if seen.SrcPort, seen.DstPort = p.Pair.Local.PortLo, p.Pair.Remote.PortLo; in {
					seen.SrcPort, seen.DstPort = seen.DstPort, seen.SrcPort
				}
				if i := naive(policies, seen, in); i >= 0 && i < upTo {
					want = true
				}
			}
			if got != want {
				t.Fatalf("seed %d: %+v in %v: hidden %v, want %v", seed, f, in, got, want)
			}
			if got {
				hidden++
			} else {
				open++
			}
		}
	}
	if hidden < 500 || open < 500 {
		t.Errorf("%d flows hide something, %d nothing: the test is one-sided", hidden, open)
	}
}

// The same with policies made at run time, wherever they stand.
func TestHiddenByMadePolicies(t *testing.T) {
	for seed := range uint64(40) {
		w := newWorld(2000 + seed)
		policies := w.policies(12)
		plain, mixed := New(), New()
		plain.Replace(policies)
		// Every third one is made: it stands before what follows it in the table.
		var table []Policy
		var made []Made
		for i, p := range policies {
			p.Ref = uint32(i + 1)
			if i%3 == 1 {
				made = append(made, Made{Place{Before: len(table), Slot: i}, []Policy{p}})
				continue
			}
			table = append(table, p)
		}
		mixed.Replace(table)
		for _, m := range made {
			mixed.Put(m)
		}
		for range 300 {
			f, in := w.flow(policies), w.IntN(2) == 0
			if a, b := plain.Hidden(&f, in), mixed.Hidden(&f, in); a != b {
				t.Fatalf("seed %d: %+v in %v: %v in the table, %v made", seed, f, in, a, b)
			}
		}
	}
}
