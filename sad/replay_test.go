package sad

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// oracle is the window as RFC 4303 §3.4.3 tells it: a set.
type oracle struct {
	seen   map[uint64]bool
	top    uint64
	window uint64
}

func (o *oracle) fresh(seq uint64) bool {
	return seq != 0 && (seq > o.top || o.top-seq < o.window && !o.seen[seq])
}

func (o *oracle) commit(seq uint64) {
	o.seen[seq] = true
	o.top = max(o.top, seq)
}

// next picks a number around the window: a step on, a loss, a late packet, a
// replay, something left of the window, and rarely a long jump.
func (o *oracle) next(rng *rand.Rand, longest uint64) uint64 {
	back := func(n uint64) uint64 {
		if n > o.top {
			return 0
		}
		return o.top - n
	}
	switch rng.IntN(12) {
	case 0, 1, 2, 3:
		return o.top + 1
	case 4:
		return o.top + rng.Uint64N(2*o.window) + 1
	case 5:
		return o.top
	case 6:
		return back(o.window + uint64(rng.IntN(40)))
	case 7:
		if rng.IntN(50) == 0 {
			return o.top + rng.Uint64N(longest) + 1
		}
		return back(o.window - 1)
	}
	return back(rng.Uint64N(o.window + 8))
}

func TestReplayAgainstSet(t *testing.T) {
	for _, esn := range []bool{false, true} {
		for _, window := range []int{1, 32, 33, 64, 100, 128, 1000, 4096, 5000} {
			for _, start := range []uint64{0, 1<<31 - 50, 1<<32 - 500, 1<<32 + 5, 7<<32 - 60, 1<<52 - 100} {
				if !esn && start >= 1<<31 {
					continue
				}
				t.Run(fmt.Sprint(esn, window, start), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(uint64(window), start))
					var r replay
					r.init(window, esn)
					o := &oracle{seen: map[uint64]bool{}, window: uint64(min(max(window, 32), 4096))}
					if start > 0 {
						o.commit(start)
						r.arriveAt(start)
						if !r.claim(start) {
							t.Fatal("start refused")
						}
					}
					longest := uint64(1 << 20)
					if esn {
						longest = 1<<32 - 2*o.window
					}
					for i := range 4000 {
						seq := o.next(rng, longest)
						if !esn && seq >= 1<<32 {
							break
						}
						step(t, i, &r, o, seq)
					}
				})
			}
		}
	}
}

// Without a window every number may come again, and the upper half of extended numbers
// is still told from the lower one.
func TestNoReplayWindow(t *testing.T) {
	for _, esn := range []bool{false, true} {
		var r replay
		r.init(0, esn)
		if r.size() != 0 {
			t.Errorf("size %d", r.size())
		}
		for _, seq := range []uint64{1, 1, 5, 2, 1 << 30, 1, 1<<32 - 2, 1<<32 - 2} {
			got, ok := r.infer(uint32(seq))
			if !esn && (!ok || got != seq) {
				t.Errorf("%#x is %#x %t", seq, got, ok)
			}
			if !r.check(seq) || !r.claim(seq) {
				t.Errorf("%#x is refused", seq)
			}
		}
		if esn {
			for _, seq := range []uint64{1<<32 - 2, 1 << 32, 1<<32 - 1, 1<<32 + 7, 1<<32 + 7} {
				got, ok := r.infer(uint32(seq))
				if !ok || got != seq || !r.check(got) || !r.claim(got) {
					t.Errorf("%#x is %#x %t", seq, got, ok)
				}
			}
		}
	}
}

// arriveAt makes the ring what it is when the blocks before seq came and nothing in them.
func (r *replay) arriveAt(seq uint64) {
	last := seq >> blockShift
	for i := range uint64(len(r.ring)) {
		r.ring[(last-i)&r.mask].Store((last - i) << seenBits)
	}
}

// step hands one packet to both and compares.
func step(t *testing.T, i int, r *replay, o *oracle, seq uint64) {
	t.Helper()
	want := o.fresh(seq)
	got, ok := r.infer(uint32(seq))
	if want && (!ok || got != seq) {
		t.Fatalf("step %d, top %#x: %#x inferred as %#x, %v", i, o.top, seq, got, ok)
	}
	if !ok || got != seq {
		// Too old to be inferred: the ICV of the other number would fail.
		return
	}
	if r.check(seq) != want {
		t.Fatalf("step %d, top %#x: check(%#x) is not %v", i, o.top, seq, want)
	}
	if r.claim(seq) != want {
		t.Fatalf("step %d, top %#x: claim(%#x) is not %v", i, o.top, seq, want)
	}
	if want {
		o.commit(seq)
	}
}

// The cases of RFC 4303 appendix A2.2, for a window of 64.
func TestInferHighHalf(t *testing.T) {
	for _, c := range []struct {
		top  uint64
		low  uint32
		want uint64
		ok   bool
	}{
		{0, 1, 1, true},
		{0, 0xffffffc1, 0, false},              // would lie before the first packet
		{0, 0xffffffc0, 0xffffffc0, true},      // outside of such a window: ahead
		{63, 0, 0, true},                       // case A, left end
		{64, 1, 1, true},                       // left end of the window
		{64, 0, 1 << 32, true},                 // left of it: the next lap
		{1 << 32, 0xffffffff, 1<<32 - 1, true}, // case B: the window reaches into the lap before
		{1 << 32, 0xffffffc1, 1<<32 - 63, true},
		{1 << 32, 0xffffffc0, 1<<33 - 64, true},
		{5<<32 + 100, 37, 5<<32 + 37, true},
		{5<<32 + 100, 36, 6<<32 + 36, true},
		{1<<64 - 1, 5, 0, false}, // there is no lap after the last
	} {
		var r replay
		r.init(64, true)
		r.top.Store(c.top)
		if got, ok := r.infer(c.low); ok != c.ok || ok && got != c.want {
			t.Errorf("top %#x, low %#x: %#x, %v; want %#x, %v", c.top, c.low, got, ok, c.want, c.ok)
		}
	}
}

func TestSameDatagramManyTimesAtOnce(t *testing.T) {
	const goroutines, packets = 8, 20000
	var r replay
	r.init(32, true)
	var claimed [packets + 1]atomic.Uint32
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for seq := uint64(1); seq <= packets; seq++ {
				if r.check(seq) && r.claim(seq) {
					claimed[seq].Add(1)
				}
			}
		})
	}
	wg.Wait()
	for seq := 1; seq <= packets; seq++ {
		if n := claimed[seq].Load(); n != 1 {
			t.Fatalf("packet %d got through %d times", seq, n)
		}
	}
}

func BenchmarkReplay(b *testing.B) {
	var r replay
	r.init(128, false)
	for i := range b.N {
		seq, _ := r.infer(uint32(i + 1))
		if r.check(seq) {
			r.claim(seq)
		}
	}
}
