package sad

import (
	"testing"
	"time"
)

// dummiesDue calls Due as often as it wants from one instant to another, and returns
// when dummies were due.
func dummiesDue(t *testing.T, table *Table, from, to int64) (times []int64) {
	t.Helper()
	middle := func(n int64) int64 { return n / 2 }
	for calls := 0; from < to; calls++ {
		due, next := table.Due(from, middle)
		for range due {
			times = append(times, from)
		}
		switch {
		case next == 0:
			return times
		case calls > 10_000:
			t.Fatal("it wants to be asked without end")
		}
		from = max(next, from)
	}
	return times
}

// Dummies fill the pauses of an SA that is in use, for ten seconds.
func TestDummiesAreDue(t *testing.T) {
	const second = int64(time.Second)
	table, now := NewTable(4, 3), start.UnixNano()
	if due, next := table.Due(now, nil); due != nil || next != 0 {
		t.Fatal("a table without dummies wants to be asked again")
	}
	p := params(t, table, 1)
	p.TFC, p.Dummies, p.Standby = 500, 10, true
	c := install(t, table, p)
	install(t, table, params(t, table, 2)).Outbound().Spend(1, 100, now) // has none
	if due := dummiesDue(t, table, now, now+20*second); due != nil {
		t.Errorf("dummies before the first packet, at %v", due)
	}
	now += 20 * second
	c.Outbound().Spend(1, 100, now)
	if due := dummiesDue(t, table, now, now+9*second); due != nil {
		t.Errorf("dummies of an SA that stands by, at %v", due)
	}
	table.Activate(1)
	c.Outbound().Spend(1, 100, now)
	due := dummiesDue(t, table, now, now+20*second)
	if len(due) < 97 || len(due) > 100 || due[len(due)-1]-now >= 10*second {
		t.Errorf("%d dummies, ten a second for ten seconds", len(due))
	}
	for i := 1; i < len(due); i++ {
		if gap := due[i] - due[i-1]; gap != second/10 {
			t.Errorf("a pause of %v", time.Duration(gap))
		}
	}
	// Packets that leave more often leave no room for dummies.
	now += 20 * second
	for range 100 {
		c.Outbound().Spend(1, 100, now)
		if due := dummiesDue(t, table, now, now+second/20); due != nil {
			t.Fatalf("a dummy between packets, at %v", due)
		}
		now += second / 20
	}
	// A dummy counts as bytes and packets, not as use.
	before := c.Rows(start, false)[1]
	if !c.Outbound().SpendDummy(500) {
		t.Fatal("refused")
	}
	after := c.Rows(start, false)[1]
	if after.LastUse != before.LastUse || after.Packets != before.Packets+1 || after.Bytes != before.Bytes+500 {
		t.Errorf("%+v became %+v", before, after)
	}
	table.Retire(1)
	if due := dummiesDue(t, table, now, now+5*second); due != nil {
		t.Errorf("dummies of a retired SA, at %v", due)
	}
	table.Remove(1)
	if _, next := table.Due(now, nil); next != 0 {
		t.Error("a table without dummies wants to be asked again")
	}
}

// The pauses are between half and one and a half times their mean.
func TestDummiesAreIrregular(t *testing.T) {
	table, now := NewTable(4, 3), start.UnixNano()
	p := params(t, table, 1)
	p.TFC, p.Dummies = 500, 1
	install(t, table, p).Outbound().Spend(1, 1, now)
	for _, c := range []struct{ drawn, gap time.Duration }{{0, time.Second / 2}, {time.Second - 1, 3*time.Second/2 - 1}} {
		draw := func(n int64) int64 {
			if n != int64(time.Second) {
				t.Errorf("drawn below %d", n)
			}
			return int64(c.drawn)
		}
		_, next := table.Due(now, draw)
		now = next
		due, next := table.Due(now, draw)
		if len(due) != 1 || next-now != int64(c.gap) {
			t.Errorf("%d due, the next after %v, want %v", len(due), time.Duration(next-now), c.gap)
		}
	}
}
