package spd

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"culvert/internal/packet/wire"
	"culvert/spd/selector"
)

// naive is the specification: the first policy in order whose selectors hold.
func naive(policies []Policy, f wire.Flow, in bool) int {
	local, remote, lp, rp := f.Src, f.Dst, f.SrcPort, f.DstPort
	if in {
		local, remote, lp, rp = f.Dst, f.Src, f.DstPort, f.SrcPort
	}
	typed := f.Proto == 1 || f.Proto == 58 || f.Proto == 135
	end := func(t selector.TS, a netip.Addr, port uint16, receiver bool) bool {
		if a.Less(t.Lo) || t.Hi.Less(a) || t.Proto != 0 && t.Proto != f.Proto {
			return false
		}
		anyOrOpaque := t.PortLo == 0 && t.PortHi == 65535 || t.PortLo == 65535 && t.PortHi == 0
		switch {
		case f.Opaque:
			return anyOrOpaque
		case typed && receiver: // the type is the sender's
			return true
		}
		return t.PortLo <= port && port <= t.PortHi
	}
	for i, p := range policies {
		if end(p.Pair.Local, local, lp, in) && end(p.Pair.Remote, remote, rp, !in) {
			return i
		}
	}
	return -1
}

// world draws addresses from few nested networks, so that policies overlap and
// flows hit them.
type world struct{ *rand.Rand }

func newWorld(seed uint64) world { return world{rand.New(rand.NewPCG(seed, 7))} }

func (w world) addr(v6 bool) netip.Addr {
	if v6 {
		var b [16]byte
		b[0], b[1] = 0x20, 0x01
		b[5] = byte(w.IntN(2))
		b[7] = byte(w.IntN(4))
		binary.BigEndian.PutUint16(b[14:], uint16(w.IntN(1<<w.IntN(17))))
		return netip.AddrFrom16(b)
	}
	return netip.AddrFrom4([4]byte{10, byte(w.IntN(3)), byte(w.IntN(1 << w.IntN(9))), byte(w.IntN(256))})
}

func (w world) proto() uint8 {
	return []uint8{1, 6, 6, 6, 17, 17, 47, 50, 58, 132, 135}[w.IntN(11)]
}

func (w world) port() uint16 {
	return []uint16{0, 22, 53, 80, 443, 1701, 0x0800, 0x8000, 65535, uint16(w.Uint32())}[w.IntN(10)]
}

func (w world) selector(v6 bool, proto uint8) selector.TS {
	a := w.addr(v6)
	var t selector.TS
	if w.IntN(8) == 0 { // a range
		b := w.addr(v6)
		if b.Less(a) {
			a, b = b, a
		}
		t = selector.TS{Lo: a, Hi: b, PortHi: 65535}
	} else {
		bits := a.BitLen() - w.IntN(w.IntN(a.BitLen())+1)
		if w.IntN(20) == 0 {
			bits = w.IntN(a.BitLen() + 1)
		}
		t = selector.FromPrefix(netip.PrefixFrom(a, bits))
	}
	t.Proto = proto
	switch w.IntN(10) {
	case 0, 1:
		t.PortLo = w.port()
		t.PortHi = t.PortLo
	case 2:
		t.PortLo, t.PortHi = w.port(), w.port()
		if t.PortHi < t.PortLo {
			t.PortLo, t.PortHi = t.PortHi, t.PortLo
		}
	case 3:
		t.PortLo, t.PortHi = 65535, 0
	}
	return t
}

func (w world) policy() Policy {
	v6 := w.IntN(3) == 0
	proto := uint8(0)
	if w.IntN(2) == 0 {
		proto = w.proto()
	}
	other := proto
	if w.IntN(8) == 0 {
		other = w.proto()
	}
	if w.IntN(8) == 0 {
		other = 0
	}
	return Policy{Ref: w.Uint32(), Pair: selector.Pair{
		Local: w.selector(v6, proto), Remote: w.selector(v6 != (w.IntN(50) == 0), other),
	}}
}

func (w world) flow(policies []Policy) wire.Flow {
	v6 := w.IntN(3) == 0
	f := wire.Flow{Src: w.addr(v6), Dst: w.addr(v6), Proto: w.proto()}
	p := w.policy().Pair
	if len(policies) > 0 {
		p = policies[w.IntN(len(policies))].Pair
	}
	// Half of the flows are at the bounds of some policy. No packet has addresses
	// of two families, though a policy may.
	if w.IntN(2) == 0 && p.Local.Lo.Is4() == p.Remote.Lo.Is4() {
		f.Src, f.Dst, f.Proto = p.Local.Lo, p.Remote.Hi, p.Local.Proto
		f.SrcPort, f.DstPort = p.Local.PortHi, p.Remote.PortLo
		if w.IntN(2) == 0 {
			f = f.Reverse()
		}
	} else {
		f.SrcPort, f.DstPort = w.port(), w.port()
	}
	switch f.Proto {
	case 1, 58, 135:
		f.DstPort = 0
	case 47, 50:
		f.SrcPort, f.DstPort = 0, 0
	}
	if w.IntN(6) == 0 {
		f.Opaque, f.SrcPort, f.DstPort = true, 0, 0
	}
	return f
}

func index(p *Policy) int {
	if p == nil {
		return -1
	}
	return p.Index
}

func TestLookupIsTheNaiveList(t *testing.T) {
	cache := new(Cache)
	hits, total := 0, 0
	check := func(seed uint64, n, flows int) {
		w := newWorld(seed)
		policies := make([]Policy, n)
		for i := range policies {
			policies[i] = w.policy()
		}
		db := New()
		db.Replace(policies)
		for range flows {
			f := w.flow(policies)
			out, in := naive(policies, f, false), naive(policies, f, true)
			for range 2 { // the second time from the cache
				if got := index(cache.Lookup(db, &f)); got != out {
					t.Fatalf("seed %d, %d policies: Cache.Lookup(%+v) = %d, want %d", seed, n, f, got, out)
				}
				if got := index(cache.LookupIn(db, &f)); got != in {
					t.Fatalf("seed %d, %d policies: Cache.LookupIn(%+v) = %d, want %d", seed, n, f, got, in)
				}
			}
			if got := index(db.Lookup(&f)); got != out {
				t.Fatalf("seed %d, %d policies: Lookup(%+v) = %d, want %d", seed, n, f, got, out)
			}
			if got := index(db.LookupIn(&f)); got != in {
				t.Fatalf("seed %d, %d policies: LookupIn(%+v) = %d, want %d", seed, n, f, got, in)
			}
			if total++; out >= 0 {
				hits++
			}
		}
	}
	for seed := range uint64(300) {
		check(seed, int(seed%40), 100)
	}
	check(1000, 1000, 4000)
	check(2000, 12000, 3000)
	if hits < total/10 || hits > total*99/100 {
		t.Fatalf("%d of %d flows hit a policy: the world tests too little", hits, total)
	}
}

// One pair of prefixes with many rules takes the path by kinds.
func TestManyRulesOfOnePair(t *testing.T) {
	for seed := range uint64(40) {
		w := newWorld(seed)
		policies := make([]Policy, 200)
		for i := range policies {
			policies[i] = w.policy()
			pair := &policies[i].Pair
			pair.Local.Lo, pair.Local.Hi = netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("10.0.255.255")
			pair.Remote.Lo, pair.Remote.Hi = netip.MustParseAddr("10.1.0.0"), netip.MustParseAddr("10.1.255.255")
			if w.IntN(20) > 0 && pair.Local.Proto == 0 {
				pair.Local.Proto = w.proto()
			}
		}
		db := New()
		db.Replace(policies)
		for range 500 {
			f := w.flow(policies)
			if got, want := index(db.Lookup(&f)), naive(policies, f, false); got != want {
				t.Fatalf("seed %d: Lookup(%+v) = %d, want %d", seed, f, got, want)
			}
			if got, want := index(db.LookupIn(&f)), naive(policies, f, true); got != want {
				t.Fatalf("seed %d: LookupIn(%+v) = %d, want %d", seed, f, got, want)
			}
		}
	}
}

func flow(src, dst string, proto uint8, sport, dport uint16) *wire.Flow {
	return &wire.Flow{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Proto: proto, SrcPort: sport, DstPort: dport}
}

func nets(local, remote string) selector.Pair {
	return selector.Pair{Local: selector.FromPrefix(netip.MustParsePrefix(local)), Remote: selector.FromPrefix(netip.MustParsePrefix(remote))}
}

func TestOrderIsPrecedence(t *testing.T) {
	db := New()
	if p := db.Lookup(flow("10.0.0.1", "10.1.0.1", 6, 1, 2)); p != nil {
		t.Fatalf("an empty database has %+v", p)
	}
	narrow, wide := nets("10.0.0.0/24", "10.1.0.0/24"), nets("0.0.0.0/0", "0.0.0.0/0")
	db.Replace([]Policy{{Ref: 7, Pair: narrow, Action: None}, {Ref: 8, Pair: wide}})
	if p := db.Lookup(flow("10.0.0.1", "10.1.0.1", 6, 1, 2)); p == nil || p.Ref != 7 || p.Index != 0 || p.Action != None {
		t.Fatalf("got %+v", p)
	}
	if p := db.LookupIn(flow("10.0.0.1", "10.1.0.1", 6, 1, 2)); p == nil || p.Ref != 8 || p.Index != 1 {
		t.Fatalf("inbound: got %+v", p)
	}
	db.Replace([]Policy{{Ref: 8, Pair: wide}, {Ref: 7, Pair: narrow}})
	if p := db.Lookup(flow("10.0.0.1", "10.1.0.1", 6, 1, 2)); p == nil || p.Ref != 8 {
		t.Fatalf("wide first: got %+v", p)
	}
	if p := db.Lookup(flow("2001:db8::1", "2001:db8::2", 6, 1, 2)); p != nil {
		t.Fatalf("IPv6 matched %+v", p)
	}
}

// RFC 4301 §4.4.1.1: who may send a type is said at the sender's end.
func TestICMPTypeIsTheSenders(t *testing.T) {
	pair := nets("10.0.0.0/24", "10.1.0.0/24")
	pair.Local.Proto, pair.Remote.Proto = 1, 1
	pair.Local.PortLo, pair.Local.PortHi = 0x0800, 0x08ff // echo leaves
	pair.Remote.PortLo, pair.Remote.PortHi = 0, 0x00ff    // echo reply arrives
	db := New()
	db.Replace([]Policy{{Pair: pair}})
	echo, reply := flow("10.0.0.1", "10.1.0.1", 1, 0x0800, 0), flow("10.1.0.1", "10.0.0.1", 1, 0, 0)
	if db.Lookup(echo) == nil || db.LookupIn(reply) == nil {
		t.Fatal("an echo and its reply do not pass")
	}
	*echo, *reply = echo.Reverse(), reply.Reverse()
	echo.SrcPort, echo.DstPort = 0x0800, 0
	if db.LookupIn(echo) != nil || db.Lookup(reply) != nil {
		t.Fatal("an echo from the other side, or the reply to it, passes")
	}
}

func TestReplaceKeepsCallersSliceAndOldPolicies(t *testing.T) {
	mine := []Policy{{Ref: 1, Pair: nets("10.0.0.0/8", "10.0.0.0/8"), Index: 99}}
	db, cache := New(), new(Cache)
	db.Replace(mine)
	f := flow("10.0.0.1", "10.0.0.2", 6, 1, 2)
	old := cache.Lookup(db, f)
	mine[0].Ref = 2
	if old.Ref != 1 || mine[0].Index != 99 || cache.Lookup(db, f) != old {
		t.Fatal("the database shares the caller's slice")
	}
	db.Replace(mine)
	if old.Ref != 1 || cache.Lookup(db, f).Ref != 2 {
		t.Fatal("Replace changed an old answer, or the cache kept it")
	}
	if cache.Lookup(New(), f) != nil {
		t.Fatal("the cache answers for another database")
	}
	if got := db.Policies(); len(got) != 1 || got[0].Ref != 2 {
		t.Fatalf("Policies() = %+v", got)
	}
}

// A reader sees the old order or the new, never a mixture.
func TestReplaceWhileLookingUp(t *testing.T) {
	pair := nets("10.0.0.0/8", "10.0.0.0/8")
	other := nets("10.0.0.0/24", "10.0.0.0/24")
	db := New()
	generation := func(g uint32) []Policy {
		return []Policy{{Ref: g * 2, Pair: other}, {Ref: g*2 + 1, Pair: pair}}
	}
	db.Replace(generation(0))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			cache, last := new(Cache), uint32(0)
			inner, outer := flow("10.0.0.1", "10.0.0.2", 6, 1, 2), flow("10.1.0.1", "10.1.0.2", 6, 1, 2)
			for {
				select {
				case <-stop:
					return
				default:
				}
				a, b, c := cache.Lookup(db, inner), db.Lookup(outer), cache.LookupIn(db, inner)
				if a == nil || b == nil || c == nil || a.Ref%2 != 0 || b.Ref%2 != 1 || c.Ref%2 != 0 ||
					a.Ref/2 < last || b.Ref/2 < a.Ref/2 || c.Ref/2 < b.Ref/2 {
					t.Errorf("after generation %d: %+v %+v %+v", last, a, b, c)
					return
				}
				last = c.Ref / 2
			}
		})
	}
	for g := range uint32(500) {
		db.Replace(generation(g))
	}
	close(stop)
	wg.Wait()
}

func TestLookupDoesNotAllocate(t *testing.T) {
	w := newWorld(1)
	policies := make([]Policy, 1000)
	for i := range policies {
		policies[i] = w.policy()
	}
	db, cache := New(), new(Cache)
	db.Replace(policies)
	flows := make([]wire.Flow, 256)
	for i := range flows {
		flows[i] = w.flow(policies)
	}
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		f := &flows[i%len(flows)]
		i++
		db.Lookup(f)
		db.LookupIn(f)
		cache.Lookup(db, f)
		cache.LookupIn(db, f)
	}); n != 0 {
		t.Fatalf("a lookup allocates %v times", n)
	}
}

func TestNames(t *testing.T) {
	for want, got := range map[string]fmt.Stringer{
		"encrypt": Encrypt, "discard": Discard, "none": None, "require": Require, "unique": Unique, "use": Use,
	} {
		if got.String() != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if Action(9).String() != "unknown" || Level(9).String() != "unknown" {
		t.Error("a number without a name has one")
	}
}
