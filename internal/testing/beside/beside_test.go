package beside

import (
	"flag"
	"maps"
	"slices"
	"strings"
	"testing"
)

// report runs Run with b.N = 3 and n operations a round, and is what it reports.
func report(t *testing.T, n int, sides func() (ours, bare Side)) map[string]float64 {
	t.Helper()
	benchtime := flag.Lookup("test.benchtime")
	before := benchtime.Value.String()
	set := func(to string) {
		if err := benchtime.Value.Set(to); err != nil {
			t.Fatal(err)
		}
	}
	set("3x")
	defer set(before)
	r := testing.Benchmark(func(b *testing.B) { // is called with N = 1 first
		ours, bare := sides()
		Run(b, n, ours, bare)
	})
	if r.N != 3 {
		t.Fatalf("N is %d", r.N)
	}
	return r.Extra
}

// Both sides take turns, each as often as the other and each first as often, prepared
// before every round. Then the allocations of ours are counted.
func TestTurns(t *testing.T) {
	var calls []string
	report(t, 1, func() (ours, bare Side) {
		calls = nil
		side := func(name string) Side {
			return Side{Prepare: func() { calls = append(calls, name+"?") }, Round: func() { calls = append(calls, name) }}
		}
		return side("ours"), side("bare")
	})
	want := "ours? ours bare? bare " + "bare? bare ours? ours " + "ours? ours bare? bare " + "bare? bare ours? ours " +
		strings.Repeat("ours? ours ", 4)
	if got := strings.Join(calls, " ") + " "; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

var sink []byte

// What is reported is of one operation; of allocations it is the least of the rounds, so
// that what one round does beside its own does not count.
func TestReports(t *testing.T) {
	const n = 1000
	rounds := 0
	got := report(t, n, func() (ours, bare Side) {
		rounds = 0
		ours.Round = func() {
			rounds++
			times := 2 * n
			if rounds == 6 { // the second of those that are counted
				times = 9 * n
			}
			for range times {
				sink = make([]byte, 64)
			}
		}
		bare.Round = func() {
			for range n {
				sink = make([]byte, 64)
			}
		}
		return ours, bare
	})
	if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, []string{"allocs/op", "bare-ns/op", "ns/op", "ratio"}) {
		t.Fatal(names)
	}
	if rounds != 8 {
		t.Errorf("%d rounds", rounds)
	}
	if a := got["allocs/op"]; a < 2 || a >= 3 {
		t.Errorf("%v allocations of 2", a)
	}
	if bare := got["bare-ns/op"]; bare > 0 && got["ratio"] != got["ns/op"]/bare { // a coarse clock may say 0
		t.Error(got)
	}
}

func TestTenth(t *testing.T) {
	for _, c := range []struct{ n, want int }{{1, 0}, {2, 0}, {9, 0}, {10, 1}, {11, 1}, {20, 2}, {100, 10}, {101, 10}} {
		var times []float64
		for i := range c.n { // 0 to n-1, not in order
			times = append(times, float64((7*i+3)%c.n))
		}
		if got := tenth(times); got != float64(c.want) {
			t.Errorf("of %d times %v, not %d", c.n, got, c.want)
		}
	}
}
