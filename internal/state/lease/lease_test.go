package lease

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"culvert/internal/state/store"
)

// The properties are checked on the same draws each time.
func TestMain(m *testing.M) {
	flag.Parse()
	for name, value := range map[string]string{"rapid.seed": "1", "rapid.checks": "500", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

var (
	epoch = time.Unix(1_900_000_000, 0)
)

func span(from, to string) Range { return Range{netip.MustParseAddr(from), netip.MustParseAddr(to)} }

func open(t interface{ Fatal(...any) }, s store.Store, now time.Time, pools ...Pool) *Book {
	b, err := Open(s, now)
	if err != nil {
		t.Fatal(err)
	}
	b.SetPools(pools)
	return b
}

var small = Pool{Name: "p", Ranges: []Range{span("10.0.0.2", "10.0.0.3"), span("fd00::2", "fd00::3"), span("10.0.0.9", "10.0.0.9")}}

func TestTake(t *testing.T) {
	b := open(t, &store.Memory{}, epoch, small, Pool{Name: "q", Ranges: []Range{span("10.1.0.1", "10.1.0.1")}, Next: "p"})
	now := epoch
	holder := uint64(0)
	take := func(r Request) string {
		now = now.Add(time.Second)
		holder++
		r.Holder = holder
		if !r.V6 {
			r.V4 = true
		}
		a, err := b.Take(now, r)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(a)
	}
	const full = `all addresses are in use: make pool "p" larger or give it a next-pool`
	for i, c := range []struct {
		r    Request
		want string
	}{
		{Request{Pool: "p", Owner: "a"}, "[10.0.0.2]"},                    // 1
		{Request{Pool: "p", Owner: "b"}, "[10.0.0.3]"},                    // 2
		{Request{Pool: "p", Owner: "a", Same: []uint64{1}}, "[10.0.0.2]"}, // 3: the same device again
		{Request{Pool: "p", Owner: "a"}, "[10.0.0.9]"},                    // 4: another one
		{Request{Pool: "p", Owner: "c"}, full},
		{Request{Pool: "p", Owner: "b", Same: []uint64{2}}, "[10.0.0.3]"}, // 6
		{Request{Pool: "p", Owner: "c", V6: true}, "[fd00::2]"},
		{Request{Pool: "p", Owner: "a", Same: []uint64{1, 3}, V4: true, V6: true}, "[10.0.0.2 fd00::3]"}, // 8
		{Request{Pool: "p", Owner: "a", Same: []uint64{1}}, full},                                        // 9: 3 and 8 have it too
		{Request{Pool: "q", Owner: "d"}, "[10.1.0.1]"},
		{Request{Pool: "q", Owner: "e"}, "all addresses are in use: make pool \"q\" larger or give it a next-pool"},
		{Request{Pool: "q", Owner: "e", V6: true}, "all addresses are in use: make pool \"q\" larger or give it a next-pool"},
		{Request{Address: netip.MustParseAddr("10.9.9.9"), Owner: "f"}, "[10.9.9.9]"},
		{Request{Address: netip.MustParseAddr("10.9.9.9"), Owner: "g"}, "all addresses are in use: somebody else has 10.9.9.9"},
		{Request{Address: netip.MustParseAddr("10.9.9.9"), Owner: "f", V6: true}, "there is no address of the family that the peer asks for"},
		{Request{Pool: "r", Owner: "a"}, `there is no pool "r"`},
	} {
		if got := take(c.r); got != c.want {
			t.Errorf("%d: %+v: %s, want %s", i+1, c.r, got, c.want)
		}
	}
	// b goes; one of its two holders stays first.
	b.Release(now, 2)
	if got := take(Request{Pool: "p", Owner: "c"}); got != full {
		t.Errorf("while b still has one holder: %s", got)
	}
	b.Release(now, 6)
	if inUse, kept := b.Count("p"); inUse != 4 || kept != 1 {
		t.Errorf("%d in use, %d kept", inUse, kept)
	}
	if got := take(Request{Pool: "p", Owner: "c"}); got != "[10.0.0.3]" {
		t.Errorf("abandoned: %s", got)
	}
	if got := take(Request{Pool: "p", Owner: "b"}); got != full {
		t.Errorf("somebody else has it now: %s", got)
	}
}

// The oldest goes first, and one that comes back in time keeps its address.
func TestOldestFirst(t *testing.T) {
	b := open(t, &store.Memory{}, epoch, small)
	for i, owner := range []string{"a", "b", "c"} {
		if _, err := b.Take(epoch, Request{Pool: "p", Owner: owner, Holder: uint64(i + 1), V4: true}); err != nil {
			t.Fatal(err)
		}
	}
	b.Release(epoch.Add(3*time.Hour), 1)
	b.Release(epoch.Add(1*time.Hour), 2)
	b.Release(epoch.Add(2*time.Hour), 3)
	for i, want := range []string{"10.0.0.3", "10.0.0.9", "10.0.0.2"} {
		got, err := b.Take(epoch.Add(4*time.Hour), Request{Pool: "p", Owner: fmt.Sprint("new", i), Holder: uint64(i + 10), V4: true})
		if err != nil || got[0].String() != want {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
}

// A pool that is used up does not give an address of another pool, although nobody uses that.
func TestIdleLeaseOfAnotherPool(t *testing.T) {
	one := Pool{Name: "p", Ranges: []Range{span("10.0.0.2", "10.0.0.2")}}
	b := open(t, &store.Memory{}, epoch, one, Pool{Name: "other", Ranges: []Range{span("10.7.0.1", "10.7.0.1")}})
	for holder, r := range []Request{{Pool: "other", Owner: "a"}, {Pool: "p", Owner: "b"}} {
		r.Holder, r.V4 = uint64(holder), true
		if _, err := b.Take(epoch, r); err != nil {
			t.Fatal(err)
		}
	}
	b.Release(epoch.Add(time.Second), 0)
	if a, err := b.Take(epoch.Add(time.Minute), Request{Pool: "p", Owner: "c", Holder: 3, V4: true}); !errors.Is(err, ErrExhausted) {
		t.Errorf("%v, %v", a, err)
	}
}

// After a restart everybody gets what he had, and new ones get what nobody had.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, s, epoch, small)
	had := map[string]string{}
	for i, owner := range []string{"a", "b"} {
		got, err := b.Take(epoch, Request{Pool: "p", Owner: owner, Holder: uint64(i + 1), V4: true, V6: true})
		if err != nil {
			t.Fatal(err)
		}
		had[owner] = fmt.Sprint(got)
	}
	b.Release(epoch, 2)
	if _, err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = store.Open(dir, store.Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b = open(t, s, epoch.Add(time.Hour), small)
	for i, c := range []struct{ owner, want string }{{"new", "[10.0.0.9]"}, {"b", had["b"]}, {"a", had["a"]}} {
		got, err := b.Take(epoch.Add(time.Hour), Request{Pool: "p", Owner: c.owner, Holder: uint64(i + 1), V4: true, V6: c.owner != "new"})
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, %v, want %s", c.owner, got, err, c.want)
		}
	}
}

// After a crash nobody released anything. Leases that were in use then count as used
// until the restart, so that a new owner gets the address of who left before, however
// late that was.
func TestCrash(t *testing.T) {
	s := &store.Memory{}
	pool := Pool{Name: "p", Ranges: []Range{span("10.0.0.2", "10.0.0.3")}}
	b := open(t, s, epoch, pool)
	take := func(b *Book, now time.Time, owner string, holder uint64) string {
		t.Helper()
		got, err := b.Take(now, Request{Pool: "p", Owner: owner, Holder: holder, V4: true})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(got)
	}
	took := take(b, epoch, "stays", 1)
	left := take(b, epoch.Add(time.Second), "leaves", 2)
	b.Release(epoch.Add(time.Minute), 2)
	if _, err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	later := epoch.Add(time.Hour)
	b = open(t, s, later, pool)
	if got := take(b, later, "new", 1); got != left {
		t.Errorf("a new owner has %s, not %s, which nobody has used for longest", got, left)
	}
	if got := take(b, later, "stays", 2); got != took {
		t.Errorf("who was connected at the crash has %s, not %s", got, took)
	}
}

// What a book gives, step by step: whose address, and which of several.
func TestWhoseAddress(t *testing.T) {
	now := epoch
	var b *Book
	begin := func(pools ...Pool) { b = open(t, &store.Memory{}, epoch, pools...) }
	holder := uint64(0)
	take := func(owner, wishes string, same ...uint64) string {
		t.Helper()
		now = now.Add(time.Second)
		holder++
		r := Request{Pool: "p", Owner: owner, Holder: holder, Same: same, V4: true, V6: strings.Contains(owner, "6")}
		for _, w := range strings.Fields(wishes) {
			r.Wishes = append(r.Wishes, netip.MustParseAddr(w))
		}
		got, err := b.Take(now, r)
		if err != nil {
			return "none"
		}
		return strings.Trim(fmt.Sprint(got), "[]")
	}
	release := func(id uint64) {
		now = now.Add(time.Second)
		b.Release(now, id)
	}
	is := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	pool := func(name, next string, ranges ...Range) Pool { return Pool{Name: name, Next: next, Ranges: ranges} }
	six := span("fd00::2", "fd00::9")

	begin(pool("p", "q", span("10.0.0.2", "10.0.0.2")), pool("q", "p", span("10.1.0.2", "10.1.0.2")))
	is("the pool", take("a", ""), "10.0.0.2")
	is("the next pool", take("b", ""), "10.1.0.2")
	is("pools that name each other, all used", take("c", ""), "none")

	holder = 0
	begin(pool("p", "", span("10.0.0.2", "10.0.0.9"), six))
	is("both families", take("6", ""), "10.0.0.2 fd00::2")
	is("wishes, IPv6 first", take("6", "fd00::7 10.0.0.7"), "10.0.0.7 fd00::7")
	release(1)
	release(2)
	is("the wish is the owner's second address", take("6", "fd00::7 10.0.0.7"), "10.0.0.7 fd00::7")
	is("without a wish the first", take("6", ""), "10.0.0.2 fd00::2")
	is("another's, which nobody uses", take("a", ""), "10.0.0.3")
	release(5)
	is("the wish is another's", take("b", "10.0.0.3"), "10.0.0.4")
	is("what the same device has", take("6", "", 3), "10.0.0.7 fd00::7")
	release(4)
	is("that before an idle one", take("6", "", 3, 7), "10.0.0.7 fd00::7")
	b.SetPools([]Pool{pool("p", "", span("10.5.0.2", "10.5.0.9"))})
	is("its own is in no pool any more", take("a", ""), "10.5.0.2")
	is("nor is its wish", take("a", "10.0.0.3", 9), "10.5.0.2")

	holder = 0
	begin(pool("p", "", span("10.0.0.2", "10.0.0.3"), span("fd00::2", "fd00::2")))
	is("one", take("6", ""), "10.0.0.2 fd00::2")
	is("two", take("b", ""), "10.0.0.3")
	release(1)
	if inUse, kept := b.Count("p"); inUse != 1 || kept != 2 {
		t.Errorf("%d in use, %d kept: a holder lets all go", inUse, kept)
	}
	release(2)
	release(1) // it has nothing any more
	is("the one released first", take("new", ""), "10.0.0.2")
	is("the owner of the other comes back", take("b", ""), "10.0.0.3")
	release(3)
	release(4)
	is("who was there later stays longer", take("newer", ""), "10.0.0.2")
}

// At one instant, too, nobody gets what another uses; of a pool's IPv6 addresses the idle one is given again.
func TestWhoseAddressAtOnce(t *testing.T) {
	b := open(t, &store.Memory{}, epoch, Pool{Name: "p", Ranges: []Range{span("10.0.0.2", "10.0.0.3"), span("fd00::2", "fd00::2")}})
	for i, c := range []struct {
		owner   string
		v6      bool
		release uint64 // before
		wish    string
		want    string
	}{
		{"a", false, 0, "", "10.0.0.2"}, {"b", false, 0, "", "10.0.0.3"},
		{"new", false, 1, "", "10.0.0.2"}, // a has left
		{"b", false, 2, "", "10.0.0.3"},   // b has left, and comes back
		{"newer", false, 0, "", "none"},
		{"b", false, 0, "10.0.0.3", "none"}, // its other device uses it
		{"six", true, 0, "", "fd00::2"}, {"seven", true, 0, "", "none"},
		{"seven", true, 7, "", "fd00::2"},
	} {
		if c.release != 0 {
			b.Release(epoch, c.release)
		}
		r := Request{Pool: "p", Owner: c.owner, Holder: uint64(i + 1), V4: !c.v6, V6: c.v6}
		if c.wish != "" {
			r.Wishes = []netip.Addr{netip.MustParseAddr(c.wish)}
		}
		got := "none"
		if list, err := b.Take(epoch, r); err == nil {
			got = list[0].String()
		}
		if got != c.want {
			t.Errorf("%d: %s has %s, want %s", i+1, c.owner, got, c.want)
		}
	}
	if len(b.owners) != 3 {
		t.Errorf("%d owners of 3 addresses are kept", len(b.owners))
	}
	b.SetPools(nil)
	if _, err := b.Take(epoch, Request{Pool: "p", Owner: "a", Holder: 99, V4: true}); err == nil || errors.Is(err, ErrExhausted) {
		t.Errorf("a pool that was taken away: %v", err)
	}
	if inUse, kept := b.Count("p"); inUse != 0 || kept != 0 {
		t.Errorf("of a pool that was taken away %d are in use, %d kept", inUse, kept)
	}
}

// Of several idle addresses of an owner the first is given.
func TestFirstOfItsOwn(t *testing.T) {
	b := open(t, &store.Memory{}, epoch, small)
	for _, holder := range []uint64{1, 2} {
		if _, err := b.Take(epoch, Request{Pool: "p", Owner: "a", Holder: holder, V4: true}); err != nil {
			t.Fatal(err)
		}
	}
	b.Release(epoch, 1)
	b.Release(epoch, 2)
	if got, err := b.Take(epoch, Request{Pool: "p", Owner: "a", Holder: 3, V4: true}); err != nil || got[0].String() != "10.0.0.2" {
		t.Errorf("%v, %v", got, err)
	}
}

// What the store has of another version, or cut, is passed over.
func TestOpenPassesOver(t *testing.T) {
	s := &store.Memory{}
	whole := append([]byte{version}, make([]byte, 16)...)
	err := s.Update(func(tx store.Tx) error {
		return errors.Join(
			tx.Put(bucket, []byte{10, 0, 0, 1}, whole), // of an owner without a name
			tx.Put(bucket, []byte{10, 0, 0, 2}, append(bytes.Clone(whole), 'a')),
			tx.Put(bucket, []byte{10, 0, 0, 3}, whole[:16]),
			tx.Put(bucket, []byte{10, 0, 0, 6}, append([]byte{1, 1}, whole[:9]...)), // version 1
			tx.Put(bucket, []byte{10, 0, 0, 7}, []byte{1, 1, 0, 0, 0, 0, 0, 0, 0}),
			tx.Put(bucket, []byte{10, 0, 0, 4}, append([]byte{version + 1}, whole[1:]...)),
			tx.Put(bucket, []byte{10, 0, 0}, whole),
			tx.Put(bucket, []byte{10, 0, 0, 5}, nil))
	})
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, s, epoch, small)
	if len(b.leases) != 3 || b.leases[netip.MustParseAddr("10.0.0.1")] == nil || b.leases[netip.MustParseAddr("10.0.0.2")] == nil || b.leases[netip.MustParseAddr("10.0.0.6")] == nil {
		t.Errorf("read are %v", b.leases)
	}
}

type failing struct{ store.Memory }

func (*failing) Update(func(store.Tx) error) error { return errors.New("disk full") }

func TestFlushTriesAgain(t *testing.T) {
	s := &failing{}
	b := open(t, s, epoch, small)
	if _, err := b.Take(epoch, Request{Pool: "p", Owner: "a", Holder: 1, V4: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Flush(); err == nil {
		t.Fatal("no error")
	}
	b.store = &s.Memory
	if _, err := b.Flush(); err != nil || len(b.dirty) != 0 {
		t.Fatal(err)
	}
	if again := open(t, &s.Memory, epoch, small); len(again.leases) != 1 {
		t.Error("the lease was lost")
	}
}

// Whatever comes and goes: no two owners have one address, none is given that
// another device holds, and after a restart the book says the same.
func TestNeverTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &store.Memory{}
		b := open(t, s, epoch, small, Pool{Name: "q", Ranges: []Range{span("10.0.0.3", "10.0.0.5")}, Next: "p"})
		now := epoch
		type use struct {
			owner string
			addrs []netip.Addr
		}
		live := map[uint64]use{}
		holder := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				holder++
				r := Request{Pool: rapid.SampledFrom([]string{"p", "q"}).Draw(t, "pool"), Owner: rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "owner"),
					Holder: holder, V4: true, V6: rapid.Bool().Draw(t, "v6")}
				for h := range holder { // in order, so that a seed draws the same
					if _, ok := live[h]; ok && rapid.Bool().Draw(t, "same") {
						r.Same = append(r.Same, h)
					}
				}
				got, err := b.Take(now, r)
				if err != nil {
					return
				}
				for _, a := range got {
					for h, u := range live {
						for _, taken := range u.addrs {
							if taken == a && (u.owner != r.Owner || !slices.Contains(r.Same, h)) {
								t.Fatalf("%v is %s's (holder %d) and was given to %s (same: %v)", a, u.owner, h, r.Owner, r.Same)
							}
						}
					}
				}
				live[holder] = use{r.Owner, got}
			},
			"release": func(t *rapid.T) {
				for h := range live {
					if h%2 == uint64(rapid.IntRange(0, 1).Draw(t, "parity")) {
						b.Release(now, h)
						delete(live, h)
					}
				}
			},
			"time": func(t *rapid.T) { now = now.Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "s")) * time.Second) },
			"restart": func(t *rapid.T) {
				if _, err := b.Flush(); err != nil {
					t.Fatal(err)
				}
				before := map[netip.Addr]string{}
				for a, e := range b.leases {
					before[a] = e.owner
				}
				pools := []Pool{b.pools["p"].Pool, b.pools["q"].Pool}
				b = open(t, s, now, pools...)
				clear(live)
				if len(b.leases) != len(before) {
					t.Fatalf("%d leases, then %d", len(before), len(b.leases))
				}
				for a, owner := range before {
					if b.leases[a] == nil || b.leases[a].owner != owner {
						t.Fatalf("%v was %s's", a, owner)
					}
				}
			},
			"": func(t *rapid.T) {
				n := 0
				for owner, list := range b.owners {
					for _, e := range list {
						n++
						if e.owner != owner || b.leases[e.addr] != e {
							t.Fatalf("%v is listed as %s's and is %s's", e.addr, owner, e.owner)
						}
					}
				}
				if n != len(b.leases) {
					t.Fatalf("%d leases, %d of owners", len(b.leases), n)
				}
			},
		})
	})
}

func BenchmarkTakeExhausted(b *testing.B) {
	book := open(b, &store.Memory{}, epoch, Pool{Name: "p", Ranges: []Range{span("10.0.0.0", "10.0.255.255")}})
	for i := range 1 << 16 {
		if _, err := book.Take(epoch, Request{Pool: "p", Owner: fmt.Sprint(i), Holder: 1, V4: true}); err != nil {
			b.Fatal(err)
		}
	}
	book.Release(epoch, 1)
	for i := 0; b.Loop(); i++ {
		if _, err := book.Take(epoch, Request{Pool: "p", Owner: fmt.Sprint("new", i), Holder: 2, V4: true}); err != nil {
			b.Fatal(err)
		}
		book.Release(epoch.Add(time.Duration(i)*time.Second), 2)
	}
}

// A wish is granted where the address is free or the owner's own, and takes nothing from anybody.
func TestWishes(t *testing.T) {
	b := open(t, &store.Memory{}, epoch, Pool{Name: "p", Ranges: []Range{span("10.0.0.2", "10.0.0.9"), span("fd00::2", "fd00::9")}})
	for i, c := range []struct {
		owner, wishes, want string
		same                []uint64
	}{
		{"a", "10.0.0.5 fd00::7", "[10.0.0.5 fd00::7]", nil},
		{"b", "10.0.0.5", "[10.0.0.2 fd00::2]", nil},              // somebody's
		{"b", "10.0.0.8", "[10.0.0.2 fd00::2]", []uint64{2}},      // it has one
		{"c", "192.0.2.1 2001:db8::1", "[10.0.0.3 fd00::3]", nil}, // in no pool
		{"a", "10.0.0.6", "[10.0.0.6 fd00::4]", nil},              // a second device
		{"d", "", "[10.0.0.4 fd00::5]", nil},
		{"e", "", "[10.0.0.7 fd00::6]", nil}, // past those that were wished for
	} {
		r := Request{Pool: "p", Owner: c.owner, Holder: uint64(i + 1), Same: c.same, V4: true, V6: true}
		for _, w := range strings.Fields(c.wishes) {
			r.Wishes = append(r.Wishes, netip.MustParseAddr(w))
		}
		if got, err := b.Take(epoch.Add(time.Duration(i)*time.Second), r); err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%d: %v %v, want %s", i+1, got, err, c.want)
		}
	}
	// Of a's devices the second authenticates anew while the first is away: it keeps what it has.
	b.Release(epoch.Add(time.Minute), 1)
	if got, err := b.Take(epoch.Add(2*time.Minute), Request{Pool: "p", Owner: "a", Holder: 5, Same: []uint64{5}, V4: true, V6: true}); err != nil || fmt.Sprint(got) != "[10.0.0.6 fd00::4]" {
		t.Errorf("%v %v", got, err)
	}
	// Both of a's devices go, and the second comes first: it gets what it had.
	b.Release(epoch.Add(time.Minute), 5)
	got, err := b.Take(epoch.Add(time.Hour), Request{Pool: "p", Owner: "a", Holder: 20, V4: true, Wishes: []netip.Addr{netip.MustParseAddr("10.0.0.6")}})
	if err != nil || fmt.Sprint(got) != "[10.0.0.6]" {
		t.Errorf("%v %v", got, err)
	}
}

// FuzzOpen: whatever stands in the store from an earlier run, the book opens, and gives
// each address to one owner.
func FuzzOpen(f *testing.F) {
	var kept store.Memory
	b, err := Open(&kept, epoch)
	if err != nil {
		f.Fatal(err)
	}
	pool := Pool{Name: "p", Ranges: []Range{{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.4")}}}
	b.SetPools([]Pool{pool})
	if _, err := b.Take(epoch, Request{Pool: "p", Owner: "anna", Holder: 1, V4: true}); err != nil {
		f.Fatal(err)
	}
	if _, err := b.Flush(); err != nil {
		f.Fatal(err)
	}
	if err := kept.View(func(tx store.Tx) error {
		return tx.Each(bucket, func(key, value []byte) error {
			f.Add(bytes.Clone(key), bytes.Clone(value))
			return nil
		})
	}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		var s store.Memory
		if err := s.Update(func(tx store.Tx) error { return tx.Put(bucket, key, value) }); err != nil {
			return
		}
		b, err := Open(&s, epoch)
		if err != nil {
			t.Fatal(err)
		}
		b.SetPools([]Pool{pool})
		seen := map[netip.Addr]bool{}
		for i, owner := range []string{"anna", "ben", "cleo", "dora"} {
			got, err := b.Take(epoch.Add(time.Hour), Request{Pool: "p", Owner: owner, Holder: uint64(i + 1), V4: true})
			if errors.Is(err, ErrExhausted) {
				continue // one is kept for whom the store names
			}
			if err != nil || len(got) != 1 || seen[got[0]] {
				t.Fatalf("%s: %v, %v", owner, got, err)
			}
			seen[got[0]] = true
		}
		if len(seen) < 3 {
			t.Fatalf("%d of four addresses", len(seen))
		}
	})
}
