package sad

import (
	"math/rand/v2"
	"testing"
	"time"

	"culvert/internal/packet/wire"
)

// lined installs CHILD SAs of policy 1, one for each line that is named.
func lined(t *testing.T, table *Table, lines ...int) (list []*Child) {
	t.Helper()
	for i, line := range lines {
		p := params(t, table, uint64(i+1))
		p.Line = line
		list = append(list, install(t, table, p))
	}
	return list
}

// Each line has its own SA, and falls back to one for all as soon as its own is retired or removed.
func TestOutboundOfLines(t *testing.T) {
	table := NewTable(100, 1)
	f := testFlow("10.1.0.1", "10.2.0.1")
	c := lined(t, table, 0, 1, 2, 1, NoLine)
	sealsWith := func(when string, want ...int) {
		t.Helper()
		for line, w := range want {
			if got := table.OutboundOn(line, 1, f); got == nil || got.Child() != c[w-1] {
				t.Errorf("%s: line %d seals with %v, want CHILD SA %d", when, line, got, w)
			}
			if got := table.OutboundOf(line, 1, 0, f); got == nil || got.Child() != c[w-1] {
				t.Errorf("%s: line %d seals with %v for a client, want CHILD SA %d", when, line, got, w)
			}
			if got, several := table.OutboundSole(line, 1, f); several || got == nil || got.Child() != c[w-1] {
				t.Errorf("%s: line %d seals with %v of one client, want CHILD SA %d", when, line, got, w)
			}
		}
		if table.Outbound(1, f) != table.OutboundOn(0, 1, f) {
			t.Errorf("%s: Outbound is not that of line 0", when)
		}
	}
	sealsWith("all", 1, 4, 3, 1, 1)
	table.Retire(4)
	sealsWith("the newest of line 1 retired", 1, 2, 3, 1)
	table.Remove(2)
	sealsWith("line 1 has none", 1, 1, 3, 1)
	p := params(t, table, 9)
	c = append(c, nil, nil, nil, install(t, table, p)) // CHILD SA 9 is c[8]
	c[8] = c[len(c)-1]
	sealsWith("another one for all", 9, 9, 3, 9)
	table.Remove(9)
	table.Remove(1)
	if got := table.Outbound(1, f).Child(); got != c[4] {
		t.Errorf("without one for all line 0 seals with CHILD SA %d, not with the newest of those that are left", got.ID)
	}
	sealsWith("without one for all", 5, 5, 3, 5)
	table.Remove(5)
	sealsWith("one of line 2 alone", 3, 3, 3, 3)
	if table.OutboundOn(2, 1, testFlow("10.1.0.1", "10.9.0.1")) != nil {
		t.Error("selectors that do not cover the packet count")
	}
}

// The order of the lists is that of a naive look at all SAs.
func TestLinesAgainstNaive(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	table := NewTable(2000, 1)
	f := testFlow("10.1.0.1", "10.2.0.1")
	var live []*Child
	naive := func(line int, policy uint32) (best *Child) {
		rank := func(c *Child) int {
			switch {
			case c.Line == line:
				return 3
			case c.Line == 0:
				return 2
			}
			return 1
		}
		for _, c := range live {
			if c.Policy == policy && (best == nil || rank(c) > rank(best) || rank(c) == rank(best) && c.serial > best.serial) {
				best = c
			}
		}
		return best
	}
	for id := range uint64(1500) {
		if len(live) > 0 && rng.IntN(3) == 0 {
			i := rng.IntN(len(live))
			table.Remove(live[i].ID)
			live = append(live[:i], live[i+1:]...)
		} else {
			p := params(t, table, id)
			p.Policy, p.Line = uint32(rng.IntN(100)), max(rng.IntN(6)-1, rng.IntN(3)-1)
			live = append(live, install(t, table, p))
		}
		for range 5 {
			line, policy := rng.IntN(6), uint32(rng.IntN(100))
			got, want := table.OutboundOn(line, policy, f), naive(line, policy)
			if got == nil != (want == nil) || got != nil && got.Child() != want {
				t.Fatalf("after %d: line %d of policy %d: %v, want %v", id, line, policy, got, want)
			}
		}
	}
}

// What leaves by the SA of one line may be answered by that of another: neither is silent then, nor unanswered.
func TestLinesAnswerForEachOther(t *testing.T) {
	for name, x := range map[string]struct {
		lines    []int
		answered bool // by the second
		want     bool // the first is silent
	}{
		"nobody answers":             {[]int{0, 1}, false, true},
		"another line":               {[]int{0, 1}, true, false},
		"one for all":                {[]int{1, 0}, true, false},
		"one that is for none":       {[]int{0, NoLine}, true, false},
		"two for all are each alone": {[]int{0, 0}, true, true},
	} {
		table := NewTable(4, 1)
		var c []*Child
		for i, line := range x.lines {
			p := params(t, table, uint64(i+1))
			p.Line, p.Watched = line, true
			c = append(c, install(t, table, p))
		}
		now, silent, unanswered := start.UnixNano(), false, false
		seq := uint64(0)
		for range 20 {
			now += int64(LookEvery)
			c[0].Outbound().Spend(1, 100, now)
			unanswered = c[0].Quiet(now) && c[0].Asked(now) || unanswered
			if x.answered {
				seq++
				c[1].Inbound().Commit(seq)
				c[1].Inbound().Spend(1, 100, now+1)
			}
			ids, _ := table.Silent(now + 2)
			for _, id := range ids {
				silent = silent || id == 1
			}
		}
		if silent != x.want || unanswered != x.want {
			t.Errorf("%s: silent %v, unanswered %v, want %v", name, silent, unanswered, x.want)
		}
	}
}

func TestRowsSayTheLine(t *testing.T) {
	for _, line := range []int{0, 3, NoLine} {
		c := lined(t, NewTable(4, 1), line)[0]
		if rows := c.Rows(start.Add(time.Second), false); rows[0].Line != line || rows[1].Line != line {
			t.Errorf("lines %d, %d, want %d", rows[0].Line, rows[1].Line, line)
		}
	}
}

func BenchmarkOutboundOfLines(b *testing.B) {
	for _, lines := range []int{1, 8} {
		b.Run(map[int]string{1: "one for all", 8: "of eight"}[lines], func(b *testing.B) {
			table := NewTable(100, 1)
			var c []*Child
			for line := range lines {
				p := params(b, table, uint64(line+1))
				p.Line = line
				c = append(c, install(b, table, p))
			}
			f := &wire.Flow{}
			*f = *testFlow("10.1.0.1", "10.2.0.1")
			b.ReportAllocs()
			for b.Loop() {
				if table.OutboundOn(7, 1, f) != c[lines-1].Outbound() {
					b.Fatal("another")
				}
			}
		})
	}
}
