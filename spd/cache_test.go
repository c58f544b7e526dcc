package spd

import (
	"encoding/binary"
	"math"
	"net/netip"
	"testing"

	"culvert/internal/packet/wire"
)

// answered says of each flow whether the cache has its answer: behind its back the policies
// that the answers are from are gone, and nobody was told.
func answered(c *Cache, db *Database, flows ...wire.Flow) (out []bool) {
	v := db.whole.Load()
	table := v.table
	v.table = compile(nil)
	defer func() { v.table = table }()
	for i := range flows {
		w := *c
		sets := *c.sets
		w.sets = &sets
		out = append(out, w.Lookup(db, &flows[i]) != nil)
	}
	return out
}

// sameEntry is n IPv4 flows of one set, or n IPv6 flows of one entry.
func sameEntry(v6 bool, n int) (flows []wire.Flow) {
	src := netip.MustParseAddr("10.0.0.1")
	if v6 {
		src = netip.MustParseAddr("2001:db8::1")
	}
	for port := uint32(0); len(flows) < n; port++ {
		f := wire.Flow{Src: src, Dst: src.Next(), Proto: 17}
		f.SrcPort, f.DstPort = uint16(port>>16), uint16(port)
		ports, rest := uint64(f.SrcPort)<<16|uint64(f.DstPort), uint64(f.Proto)
		at := mix(uint64(number4Of(f.Src))<<32|uint64(number4Of(f.Dst)), ports<<32|rest) >> (64 - cacheBits4)
		if v6 {
			at = mix(mix(hashAddr(f.Src), ports<<32|rest), hashAddr(f.Dst)) >> (64 - cacheBits6)
		}
		if at == 7 {
			flows = append(flows, f)
		}
	}
	return flows
}

func number4Of(a netip.Addr) uint32 {
	if !a.Is4() {
		return 0
	}
	return binary.BigEndian.Uint32(a.AsSlice())
}

// Of the flows that share a place, the cache knows the last two of IPv4 and the last one of
// IPv6. An answer that it has, it takes from there.
func TestCacheKeepsTheLast(t *testing.T) {
	for _, c := range []struct {
		v6   bool
		want []bool
	}{{false, []bool{false, true, true}}, {true, []bool{false, false, true}}} {
		db, cache := New(), new(Cache)
		db.Replace([]Policy{{Pair: nets("0.0.0.0/0", "0.0.0.0/0")}, {Pair: nets("::/0", "::/0")}})
		flows := sameEntry(c.v6, 3)
		for i := range flows {
			if cache.Lookup(db, &flows[i]) == nil {
				t.Fatal("no policy")
			}
		}
		for i, got := range answered(cache, db, flows...) {
			if got != c.want[i] {
				t.Errorf("IPv6 %v: the answer for flow %d of 3 is in the cache: %v", c.v6, i+1, got)
			}
		}
	}
}

// When the number of the policies in force comes around to one that entries may still have,
// none of them is believed.
func TestCacheForgetsWhenItsCountIsOver(t *testing.T) {
	db, cache := New(), new(Cache)
	all := []Policy{{Pair: nets("0.0.0.0/0", "0.0.0.0/0")}}
	f := flow("10.0.0.1", "10.0.0.2", 17, 1, 2)
	db.Replace(all)
	cache.Lookup(db, f) // an entry of epoch 1
	cache.epoch = math.MaxUint32
	db.Replace(all)
	cache.Lookup(db, flow("10.0.0.3", "10.0.0.2", 17, 1, 2))
	if got := answered(cache, db, *f); got[0] || cache.epoch != 1 {
		t.Errorf("the old answer is believed: %v, epoch %d", got[0], cache.epoch)
	}
}

// No packet has addresses of two families, or none; such a flow has no policy.
func TestFlowsOfNoFamily(t *testing.T) {
	db, cache := New(), new(Cache)
	db.Replace([]Policy{{Pair: nets("10.1.0.0/16", "10.2.0.0/16")}, {Pair: nets("a01::/16", "a02::/16")}, {Pair: nets("0.0.0.0/0", "0.0.0.0/0")}, {Pair: nets("::/0", "::/0")}})
	v4, v6 := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("a02::1")
	for _, f := range []wire.Flow{{Src: v4, Dst: v6}, {Src: v6, Dst: v4}, {}, {Src: v4}, {Dst: v6}} {
		for _, got := range []*Policy{db.Lookup(&f), db.LookupIn(&f), cache.Lookup(db, &f), cache.LookupIn(db, &f)} {
			if got != nil {
				t.Errorf("%+v has policy %d", f, got.Index)
			}
		}
	}
}
