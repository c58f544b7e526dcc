package ike

import (
	"slices"
	"testing"

	ikesa "culvert/ike/sa"
)

// SAs that leave in any order leave the others in the order in which they came.
func TestBench(t *testing.T) {
	var b bench
	var all []*ikesa.SA
	for range 20 {
		all = append(all, &ikesa.SA{})
		b.add(all[len(all)-1])
	}
	for n, i := range []int{3, 0, 17, 7, 7, 1, 12, 0, 5, 9, 9, 0, 2, 1, 3, 0, 2, 1, 0, 0} {
		if got := slices.DeleteFunc(slices.Clone(b.seats), func(s *ikesa.SA) bool { return s == nil }); !slices.Equal(got, all) {
			t.Fatalf("after %d left: %p, not %p", n, got, all)
		}
		if last := b.remove(all[i]); last != (len(all) == 1) {
			t.Fatalf("the last of %d left: %v", len(all), last)
		}
		all = slices.Delete(all, i, i+1)
		if len(b.seats) > 2*len(all)+1 {
			t.Fatalf("%d seats for %d", len(b.seats), len(all))
		}
	}
}
