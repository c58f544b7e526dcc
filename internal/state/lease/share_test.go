package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/internal/state/store"
)

func share(t *testing.T, s store.Store, self uint64, pool Pool) *Book {
	t.Helper()
	b, err := Share(s, self, epoch)
	if err != nil {
		t.Fatal(err)
	}
	b.SetPools([]Pool{pool})
	return b
}

func (b *Book) mustFlush(t *testing.T, want ...uint64) {
	t.Helper()
	lost, err := b.Flush()
	if err != nil || !slices.Equal(lost, want) {
		t.Fatalf("lost %v, %v, want %v", lost, err, want)
	}
}

func (b *Book) mustTake(t *testing.T, owner string, holder uint64, want string) {
	t.Helper()
	got, err := b.Take(epoch, Request{Pool: "p", Owner: owner, Holder: holder, V4: true})
	if errors.Is(err, ErrExhausted) && want == "" {
		return
	}
	if err != nil || fmt.Sprint(got) != "["+want+"]" {
		t.Fatalf("%s: %v, %v, want %s", owner, got, err, want)
	}
}

var three = Pool{Name: "p", Ranges: []Range{span("10.0.0.1", "10.0.0.3")}}

// Two gateways give the same address at once: the one that writes first has given it, the other
// one's client gets another. What is in use at one is given by none.
func TestSharedLeases(t *testing.T) {
	var s store.Memory
	one, two := share(t, &s, 1, three), share(t, &s, 2, three)
	one.mustTake(t, "a", 11, "10.0.0.1")
	two.mustTake(t, "b", 21, "10.0.0.1")
	two.mustTake(t, "c", 22, "10.0.0.2")
	one.mustFlush(t)
	two.mustFlush(t, 21)
	two.mustTake(t, "b", 21, "10.0.0.3")
	two.mustFlush(t)
	one.mustTake(t, "d", 12, "10.0.0.2") // one has not met two yet
	one.mustFlush(t, 12)
	one.mustTake(t, "d", 12, "10.0.0.3")
	one.mustFlush(t, 12)
	one.mustTake(t, "d", 12, "")
	if inUse, kept := one.Count("p"); inUse != 3 || kept != 0 {
		t.Errorf("%d in use, %d kept", inUse, kept)
	}
	// What the other one gives back is found when it is needed, and its owner remembered.
	two.Release(epoch.Add(time.Second), 22)
	two.mustFlush(t)
	one.mustTake(t, "c", 12, "10.0.0.2")
	one.mustFlush(t)
	two.mustTake(t, "c", 23, "10.0.0.2")
	two.mustFlush(t, 23)
	two.mustTake(t, "c", 23, "")
}

// A request for both families that loses one address loses both, and nothing of it is left.
func TestSharedLeasesAreLostWhole(t *testing.T) {
	var s store.Memory
	one, two := share(t, &s, 1, small), share(t, &s, 2, small)
	one.mustTake(t, "a", 11, "10.0.0.2")
	one.mustFlush(t)
	if _, err := two.Take(epoch, Request{Pool: "p", Owner: "b", Holder: 21, V4: true, V6: true}); err != nil {
		t.Fatal(err)
	}
	two.mustFlush(t, 21)
	if e := two.leases[netip.MustParseAddr("fd00::2")]; e == nil || len(e.holders) != 0 || len(two.holders) != 0 {
		t.Errorf("fd00::2 is still held: %+v, %v", e, two.holders)
	}
	got, err := two.Take(epoch, Request{Pool: "p", Owner: "b", Holder: 21, V4: true, V6: true})
	if err != nil || fmt.Sprint(got) != "[10.0.0.3 fd00::2]" {
		t.Errorf("%v, %v", got, err)
	}
	two.mustFlush(t)
}

// A gateway that crashed has what it gave until it is back: its clients may be there still.
func TestSharedLeasesOfACrash(t *testing.T) {
	var s store.Memory
	pool := Pool{Name: "p", Ranges: []Range{span("10.0.0.1", "10.0.0.1")}}
	one, two := share(t, &s, 1, pool), share(t, &s, 2, pool)
	one.mustTake(t, "a", 11, "10.0.0.1")
	one.mustFlush(t)
	two.mustTake(t, "b", 21, "10.0.0.1")
	two.mustFlush(t, 21)
	two.mustTake(t, "b", 21, "")
	one = share(t, &s, 1, pool)
	one.mustFlush(t)
	two.mustTake(t, "b", 21, "10.0.0.1")
	two.mustFlush(t)
}

// What somebody holds since before is not taken by what the store says meanwhile.
func TestHeldBefore(t *testing.T) {
	var s store.Memory
	one := share(t, &s, 1, three)
	one.mustTake(t, "a", 11, "10.0.0.1")
	one.mustFlush(t)
	if err := s.Update(func(tx store.Tx) error {
		v := binary.BigEndian.AppendUint64([]byte{version}, 2)
		return tx.Put(bucket, []byte{10, 0, 0, 1}, append(binary.BigEndian.AppendUint64(v, 7), 'x'))
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Take(epoch, Request{Pool: "p", Owner: "a", Holder: 12, Same: []uint64{11}, V4: true}); err != nil {
		t.Fatal(err)
	}
	one.mustFlush(t)
	if got := one.leases[netip.MustParseAddr("10.0.0.1")]; got.owner != "a" || len(got.holders) != 2 {
		t.Errorf("%+v", got)
	}
}

// Whatever three gateways do in whatever order, no two of them have the same address in use.
func TestSharedLeasesNeverTwice(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 9))
		var s store.Memory
		pool := Pool{Name: "p", Ranges: []Range{span("10.0.0.1", "10.0.0.6")}}
		var books []*Book
		held := make([]map[uint64]netip.Addr, 3) // by gateway and holder, once it was told
		for i := range held {
			books = append(books, share(t, &s, uint64(i+1), pool))
			held[i] = map[uint64]netip.Addr{}
		}
		now, holder, given := epoch, uint64(0), 0
		for range 200 {
			now = now.Add(time.Second)
			i := r.IntN(3)
			b := books[i]
			switch r.IntN(8) {
			case 0: // it crashes, and its clients are gone by the time that it is back
				books[i], held[i] = share(t, &s, uint64(i+1), pool), map[uint64]netip.Addr{}
			case 1, 2, 3:
				if len(held[i]) > 0 {
					h := slices.Min(slices.Collect(maps.Keys(held[i])))
					b.Release(now, h)
					delete(held[i], h)
				}
			default:
				batch := map[uint64]Request{}
				asked := map[uint64]netip.Addr{}
				take := func(h uint64) {
					delete(asked, h)
					if got, err := b.Take(now, batch[h]); err == nil {
						asked[h] = got[0]
					}
				}
				for range 1 + r.IntN(3) {
					holder++
					batch[holder] = Request{Pool: "p", Owner: string(rune('a' + r.IntN(8))), Holder: holder, V4: true}
					take(holder)
				}
				for {
					lost, err := b.Flush()
					if err != nil {
						t.Fatal(err)
					}
					if len(lost) == 0 {
						break
					}
					for _, h := range lost {
						take(h)
					}
				}
				for h, a := range asked {
					for j := range held {
						for _, other := range held[j] {
							if other == a {
								t.Fatalf("seed %d: gateway %d gives %v, which gateway %d has given", seed, i+1, a, j+1)
							}
						}
					}
					held[i][h] = a
					given++
				}
			}
		}
		if given < 20 {
			t.Errorf("seed %d: only %d addresses were given", seed, given)
		}
	}
}

// refusing is a store whose writes can fail.
type refusing struct {
	store.Memory
	err error
}

func (s *refusing) Update(f func(store.Tx) error) error {
	if s.err != nil {
		return s.err
	}
	return s.Memory.Update(f)
}

// Several gateways share a store: what one could not claim there, another may give. Nobody has it here, and what
// was in use before stays in use.
func TestSharedLeasesThatAreNotWritten(t *testing.T) {
	var s refusing
	one, two := share(t, &s, 1, three), share(t, &s, 2, three)
	one.mustTake(t, "a", 11, "10.0.0.1")
	one.mustFlush(t)
	no := errors.New("the disk is full")
	s.err = no
	one.mustTake(t, "b", 12, "10.0.0.2")
	if lost, err := one.Flush(); !errors.Is(err, no) || !slices.Equal(lost, []uint64{12}) {
		t.Fatalf("lost %v, %v", lost, err)
	}
	if inUse, _ := one.Count("p"); inUse != 1 || len(one.holders) != 1 {
		t.Errorf("%d in use, holders %v", inUse, one.holders)
	}
	// The same device shares what it has already, which needs no claim.
	if _, err := one.Take(epoch, Request{Pool: "p", Owner: "a", Holder: 13, Same: []uint64{11}, V4: true}); err != nil {
		t.Fatal(err)
	}
	if lost, err := one.Flush(); !errors.Is(err, no) || len(lost) != 0 {
		t.Errorf("lost %v, %v", lost, err)
	}
	s.err = nil
	two.mustTake(t, "c", 21, "10.0.0.1")
	two.mustFlush(t, 21)
	two.mustTake(t, "c", 21, "10.0.0.2")
	two.mustFlush(t)
	one.mustFlush(t)
	one.mustTake(t, "b", 12, "10.0.0.3")
	one.mustFlush(t)
}

// A lease that could not be claimed for a new owner stays its former owner's.
func TestSharedLeasesStayTheirOwners(t *testing.T) {
	var s refusing
	one := share(t, &s, 1, Pool{Name: "p", Ranges: []Range{span("10.0.0.1", "10.0.0.1")}})
	one.mustTake(t, "a", 11, "10.0.0.1")
	one.Release(epoch, 11)
	one.mustFlush(t)
	s.err = errors.New("the disk is full")
	one.mustTake(t, "b", 12, "10.0.0.1")
	if lost, err := one.Flush(); err == nil || !slices.Equal(lost, []uint64{12}) {
		t.Errorf("lost %v, %v", lost, err)
	}
	if e := one.leases[netip.MustParseAddr("10.0.0.1")]; e.owner != "a" || len(one.owners["a"]) != 1 || len(one.owners["b"]) != 0 {
		t.Errorf("%+v, owners %v", e, one.owners)
	}
	s.err = nil
	one.mustTake(t, "b", 13, "10.0.0.1") // it is found again
	one.mustFlush(t)
}

// A store that nobody shares: what was given is given once, and is written with the next Flush.
func TestLeasesThatAreNotWritten(t *testing.T) {
	var s refusing
	b, err := Open(&s, epoch)
	if err != nil {
		t.Fatal(err)
	}
	b.SetPools([]Pool{three})
	s.err = errors.New("the disk is full")
	b.mustTake(t, "a", 11, "10.0.0.1")
	if lost, err := b.Flush(); err == nil || len(lost) != 0 {
		t.Errorf("lost %v, %v", lost, err)
	}
	s.err = nil
	b.mustTake(t, "b", 12, "10.0.0.2")
	b.mustFlush(t)
	if c := share(t, &s, 2, three); !c.leases[netip.MustParseAddr("10.0.0.1")].foreign {
		t.Error("what could not be written at first is not written later")
	}
}
