package beside

import (
	"runtime"
	"slices"
	"testing"
	"time"
)

// Side is one of the two.
type Side struct {
	Prepare func() // before each round, not measured; nil: nothing
	Round   func()
}

func (s Side) prepare() {
	if s.Prepare != nil {
		s.Prepare()
	}
}

// time is how long a round takes, in ns.
func (s Side) time() float64 {
	s.prepare()
	t := time.Now()
	s.Round()
	return float64(time.Since(t))
}

// allocations is how many a round makes. What the runtime does beside it counts too.
func (s Side) allocations() float64 {
	s.prepare()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s.Round()
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs - before.Mallocs)
}

// Run reports what one of the n operations of a round costs: ns/op and allocs/op of
// ours, bare-ns/op of bare, and ratio, the one divided by the other. Of b.N+1 rounds
// of each, so that with b.N = 1 either begins once, it takes the tenth: others that use
// the machine make rounds slower, never faster. Of allocations it takes the least of a
// few rounds more.
func Run(b *testing.B, n int, ours, bare Side) {
	var times [2][]float64
	for i := range b.N + 1 {
		first := i & 1 // who begins, since who comes second finds its memory nearer
		times[first] = append(times[first], [2]Side{ours, bare}[first].time())
		times[1-first] = append(times[1-first], [2]Side{ours, bare}[1-first].time())
	}
	mallocs := ours.allocations()
	for range min(b.N, 10) {
		mallocs = min(mallocs, ours.allocations())
	}
	o, s := tenth(times[0])/float64(n), tenth(times[1])/float64(n)
	b.ReportMetric(o, "ns/op")
	b.ReportMetric(mallocs/float64(n), "allocs/op")
	b.ReportMetric(s, "bare-ns/op")
	b.ReportMetric(o/s, "ratio")
}

// tenth is the time that a tenth of the rounds stays below.
func tenth(times []float64) float64 {
	slices.Sort(times)
	return times[len(times)/10]
}
