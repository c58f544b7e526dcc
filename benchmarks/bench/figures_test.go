package main

import (
	"math"
	"slices"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want float64
	}{{nil, 0}, {[]float64{7}, 7}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5}} {
		given := slices.Clone(c.of)
		if got := median(c.of); got != c.want || !slices.Equal(c.of, given) {
			t.Errorf("%v: %v, want %v", given, got, c.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	var hundred []int64
	for i := range int64(100) {
		hundred = append(hundred, 100-i)
	}
	for _, c := range []struct {
		of   []int64
		p    float64
		want int64
	}{{nil, 50, 0}, {[]int64{3}, 99, 3}, {hundred, 50, 50}, {hundred, 99, 99}, {hundred, 100, 100}, {hundred, 0, 1}, {[]int64{1, 2, 3}, 50, 2}} {
		if got := percentile(c.of, c.p); got != c.want {
			t.Errorf("%v of %d values: %d, want %d", c.p, len(c.of), got, c.want)
		}
	}
}

// The ratio is the median of those of the same rounds: a machine that becomes slower
// changes both, and a round that only one has counts for its median alone.
func TestRatiosAreOfTheSameRound(t *testing.T) {
	got := summarize(
		[]sample{{1, 20}, {2, 10}, {3, 4}, {4, 100}},
		[]sample{{3, 2}, {2, 5}, {1, 10}, {5, 1}, {4, 0}})
	want := summary{Median: 15, Least: 4, Most: 100, Spread: 6.4, Ratio: 2, Rounds: 4}
	if math.Abs(got.Spread-want.Spread) > 1e-9 {
		t.Errorf("spread %v, want %v", got.Spread, want.Spread)
	}
	if got.Spread = want.Spread; got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := summarize(nil, []sample{{1, 1}}); got != (summary{}) {
		t.Errorf("no samples: %+v", got)
	}
	if got := summarize([]sample{{1, 3}}, nil); got.Ratio != 0 || got.Median != 3 {
		t.Errorf("nothing beside it: %+v", got)
	}
}

func TestCollect(t *testing.T) {
	var rows []*row
	rows = collect(rows, "tcp1", "a", 1, []figure{{Name: "Gbit/s", Value: 1}, {Name: "CPU", Value: 2, Lower: true}})
	rows = collect(rows, "tcp4", "a", 1, []figure{{Name: "Gbit/s", Value: 3, NoPlot: true}})
	rows = collect(rows, "tcp1", "b", 1, []figure{{Name: "Gbit/s", Value: 4}})
	rows = collect(rows, "tcp1", "a", 2, []figure{{Name: "Gbit/s", Value: 5}})
	if len(rows) != 3 || rows[0].Cell != "tcp1" || !rows[1].Lower || rows[0].Lower || !rows[2].NoPlot || rows[1].NoPlot {
		t.Fatalf("%v", rows)
	}
	if !slices.Equal(rows[0].Samples["a"], []sample{{1, 1}, {2, 5}}) || !slices.Equal(rows[0].Samples["b"], []sample{{1, 4}}) || len(rows[1].Samples["b"]) != 0 {
		t.Errorf("%v", rows[0].Samples)
	}
}

func TestPick(t *testing.T) {
	all := []string{"tcp1", "tcp4", "udp64", "idle"}
	for list, want := range map[string][]string{
		"": all, "idle,tcp1": {"tcp1", "idle"}, "tcp*": {"tcp1", "tcp4"}, " udp64 , tcp*": {"tcp1", "tcp4", "udp64"},
	} {
		if got, err := pick(list, all); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", list, got, err, want)
		}
	}
	for _, list := range []string{"tcp", "idle,", "sctp*"} {
		if got, err := pick(list, all); err == nil {
			t.Errorf("%q: %v", list, got)
		}
	}
}
