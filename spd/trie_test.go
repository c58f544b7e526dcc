package spd

import (
	"net/netip"
	"slices"
	"testing"
	"unsafe"

	"culvert/spd/selector"
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

// A prefix that is alone under its bits has no node: each costs a line of memory and of time.
func TestTrieNodes(t *testing.T) {
	for _, c := range []struct {
		nets  []string
		nodes int
	}{
		{nil, 0},
		{[]string{"10.0.0.0/8"}, 1},
		{[]string{"0.0.0.0/0", "10.1.1.0/24", "172.16.1.1/32"}, 1},
		{[]string{"0.0.0.0/0", "10.1.1.0/24", "10.1.2.0/24", "172.16.1.1/32"}, 2},
		{[]string{"10.1.1.0/24", "10.1.1.1/32", "172.16.1.1/32", "172.16.1.2/32"}, 3},
	} {
		var sorted []prefix
		for _, n := range c.nets {
			p := netip.MustParsePrefix(n)
			sorted = append(sorted, prefix{keyOf(p.Addr()), uint8(p.Bits())})
		}
		if n := len(newTrie(sorted).words); n != c.nodes*nodeUnit {
			t.Errorf("%v: %d words, want %d nodes", c.nets, n, c.nodes)
		}
	}
}

// A range of addresses is covered by one prefix, or by two that are as long as they can be.
func TestCovers(t *testing.T) {
	for _, c := range []struct {
		lo, hi string
		want   []string
		exact  bool
	}{
		{"10.0.0.0", "10.0.0.255", []string{"10.0.0.0/24"}, true},
		{"10.0.0.7", "10.0.0.7", []string{"10.0.0.7/32"}, true},
		{"0.0.0.0", "255.255.255.255", []string{"0.0.0.0/0"}, true},
		{"10.0.0.1", "10.0.0.2", []string{"10.0.0.1/32", "10.0.0.2/32"}, false},
		{"10.0.0.0", "10.0.0.2", []string{"10.0.0.0/31", "10.0.0.2/32"}, false},
		{"10.0.0.3", "10.0.0.8", []string{"10.0.0.0/29", "10.0.0.8/32"}, false},
		{"10.0.0.5", "10.0.0.9", []string{"10.0.0.4/30", "10.0.0.8/31"}, false},
		{"10.0.0.6", "10.0.0.9", []string{"10.0.0.6/31", "10.0.0.8/31"}, false},
		{"0.0.0.1", "255.255.255.254", []string{"0.0.0.0/1", "128.0.0.0/1"}, false},
		{"127.255.255.255", "128.0.0.0", []string{"127.255.255.255/32", "128.0.0.0/32"}, false},
		{"2001:db8::", "2001:db8::ffff", []string{"2001:db8::/112"}, true},
		{"2001:db8::ffff", "2001:db8::1:0", []string{"2001:db8::ffff/128", "2001:db8::1:0/128"}, false},
		{"2001:db8::fffe", "2001:db8::1:1", []string{"2001:db8::fffe/127", "2001:db8::1:0/127"}, false},
		{"2001:db8:0:1::", "2001:db8:0:2::", []string{"2001:db8:0:1::/64", "2001:db8:0:2::/128"}, false},
		{"2001:db8:0:0:ffff:ffff:ffff:ffff", "2001:db8:0:1::", []string{"2001:db8::ffff:ffff:ffff:ffff/128", "2001:db8:0:1::/128"}, false},
		{"2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:3::", []string{"2001:db8:0:1:ffff:ffff:ffff:ffff/128", "2001:db8:0:2::/63"}, false},
	} {
		lo, hi := netip.MustParseAddr(c.lo), netip.MustParseAddr(c.hi)
		var want []prefix
		for _, p := range c.want {
			p := netip.MustParsePrefix(p)
			want = append(want, prefix{keyOf(p.Addr()), uint8(p.Bits())})
		}
		if got, exact := covers(selector.TS{Lo: lo, Hi: hi, PortHi: 65535}); !slices.Equal(got, want) || exact != c.exact {
			t.Errorf("%s-%s: %x %v, want %x %v", c.lo, c.hi, got, exact, want, c.exact)
		}
	}
}

// What is computed with bits of an address is what is found bit by bit, at every depth.
func TestKeysByTheBit(t *testing.T) {
	bit := func(k key, i int) uint64 {
		if i < 64 {
			return k.hi >> (63 - i) & 1
		}
		return k.lo >> (127 - i) & 1
	}
	keys := []key{{}, {^uint64(0), ^uint64(0)}, {^uint64(0), 0}, {0, ^uint64(0)}, {0xaaaaaaaaaaaaaaaa, 0x5555555555555555}, {^uint64(0), 1}, {1, 1 << 63}, {^uint64(0), 3 << 62}}
	for _, k := range keys {
		for depth := range uint8(129) {
			var masked key
			var from uint64
			ones := depth
			for i := range 128 {
				if i < int(depth) {
					if i < 64 {
						masked.hi |= bit(k, i) << (63 - i)
					} else {
						masked.lo |= bit(k, i) << (127 - i)
					}
				} else if i < int(depth)+64 {
					from |= bit(k, i) << (63 + int(depth) - i)
				}
			}
			for ones < 128 && bit(k, int(ones)) == 1 {
				ones++
			}
			if got := k.masked(depth); got != masked {
				t.Errorf("%x masked to %d: %x, want %x", k, depth, got, masked)
			}
			if got := k.from(depth); got != from {
				t.Errorf("%x from %d: %x, want %x", k, depth, got, from)
			}
			if got := k.ones(depth); got != ones {
				t.Errorf("%x has ones from %d to %d, want %d", k, depth, got, ones)
			}
			for _, p := range keys {
				common := uint8(0)
				for common < 128 && bit(k, int(common)) == bit(p, int(common)) {
					common++
				}
				if k.common(p) != common || k.under(p, depth) != (depth <= common) {
					t.Errorf("%x and %x: %d bits in common, want %d; of %d: %v", k, p, k.common(p), common, depth, k.under(p, depth))
				}
			}
		}
	}
}
