package spd

import (
	"net/netip"
	"slices"
	"testing"
	"unsafe"
)

// What is laid out for it fills cache lines of 64 bytes.
func TestCacheLines(t *testing.T) {
	for what, size := range map[string]uintptr{
		"half of a prefix": unsafe.Sizeof(remotePrefix{}) / 2, "set of IPv4 flows": unsafe.Sizeof([2]entry4{}), "IPv6 flow": unsafe.Sizeof(entry6{}),
	} {
		if size != 64 && unsafe.Sizeof(size) == 8 {
			t.Errorf("%s: %d bytes", what, size)
		}
	}
}

func TestTrieIsTheNaiveLongestPrefix(t *testing.T) {
	for seed := range uint64(300) {
		w := newWorld(seed)
		v6 := seed%2 == 1
		var nets []netip.Prefix
		var sorted []prefix
		for range w.IntN(1 << w.IntN(10)) {
			a := w.addr(v6)
			p := netip.PrefixFrom(a, w.IntN(a.BitLen()+1)).Masked()
			nets = append(nets, p)
			sorted = append(sorted, prefix{keyOf(p.Addr()), uint8(p.Bits())})
		}
		slices.SortFunc(sorted, comparePrefix)
		sorted = slices.Compact(sorted)
		infos, _ := nest(sorted)
		tr := side{newTrie(sorted), infos}
		for range 300 {
			a := w.addr(v6)
			if w.IntN(4) == 0 && len(nets) > 0 {
				a = nets[w.IntN(len(nets))].Addr()
				if b := a.Prev(); w.IntN(2) == 0 && b.IsValid() {
					a = b
				}
			}
			want := -1
			for _, p := range nets {
				if p.Contains(a) && p.Bits() > want {
					want = p.Bits()
				}
			}
			got := -1
			if i := tr.lookup(keyOf(a)); i != none {
				got = int(sorted[i].bits)
				if !keyOf(a).under(sorted[i].key, sorted[i].bits) {
					t.Fatalf("seed %d: %v is not in the answer", seed, a)
				}
			}
			if got != want {
				t.Fatalf("seed %d: lookup(%v) has %d bits, want %d", seed, a, got, want)
			}
		}
	}
}
