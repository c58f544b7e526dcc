package lease

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"culvert/internal/state/store"
)

// Range is addresses of one family, both ends included.
type Range struct{ From, To netip.Addr }

func (r Range) has(a netip.Addr) bool {
	return r.From.Compare(a) <= 0 && a.Compare(r.To) <= 0 // of IPv4 and IPv6, one is below all of the other
}

// Pool is addresses to give; Next names the pool to look in when all have been given.
type Pool struct {
	Name   string
	Ranges []Range
	Next   string
}

// Request asks for an address of each family that is wanted.
type Request struct {
	// Pool is a pool's name; Address, where it is valid, is the only address
	// that may be given, instead of a pool.
	Pool    string
	Address netip.Addr
	Owner   string // whose lease it is, for good
	Holder  uint64 // who uses it now; Release names it again
	// Same are holders that are the same device as this one: what they have may be
	// given to it too. What others hold is given to nobody.
	Same   []uint64
	V4, V6 bool
	// Wishes are given where they are the owner's or nobody ever had them, and the owner has no other.
	Wishes []netip.Addr
}

// ErrExhausted: every address is in use.
var ErrExhausted = errors.New("all addresses are in use")

// Book is who has which address. What it has in memory is a cache of the store, which several
// gateways may share: Flush compares what it was made of with what the store has by then.
type Book struct {
	store   store.Store
	self    uint64 // this gateway, among those that share the store
	sole    bool   // nobody shares it
	shared  bool   // others have been met
	pools   map[string]*pool
	leases  map[netip.Addr]*entry
	owners  map[string][]*entry
	holders map[uint64][]*entry
	dirty   map[*entry]bool     // to be written by Flush
	taken   map[*entry][]uint64 // holders since the last Flush
	// released counts Releases, from 1.
	released uint64
}

type pool struct {
	Pool
	at   [2]cursor // by family: IPv4, IPv6
	idle [2]queue
	used bool // marks a pool of a chain while that is walked
}

// queue is leases that nobody used when it was made, the oldest first.
type queue struct {
	list     []idle
	released uint64 // Book.released then
}

type idle struct {
	*entry
	since time.Time
}

// cursor is the first address of the ranges that may never have been given.
type cursor struct {
	index int
	addr  netip.Addr // invalid: the beginning of the range
}

type entry struct {
	addr    netip.Addr
	owner   string
	used    time.Time // the last time that it was given or given back
	holders []uint64  // mostly one
	foreign bool      // in use at another gateway
	stored  []byte    // what the store has of it, as far as we know; nil: nothing
}

const bucket = "leases"

// The value of a lease: version, the gateway at which it is in use (8 bytes; 0: at none), the
// time (8 bytes), the owner. Version 1 had one byte instead of the gateway's eight: it is in use.
const (
	version = 2
	alone   = 1 // the gateway of a store that nobody shares
)

// Open reads the book from the store, which stays the caller's and nobody else's. Leases that
// were in use when the last process ended are as if they had been used until now.
func Open(s store.Store, now time.Time) (*Book, error) {
	b, err := Share(s, alone, now)
	b.sole = true
	return b, err
}

// Share is Open for a store that several gateways share. Each has a number of its own, which is
// not 0 and outlives its process: what is in use at another one is given to nobody here.
func Share(s store.Store, self uint64, now time.Time) (*Book, error) {
	b := &Book{store: s, self: self, pools: map[string]*pool{}, leases: map[netip.Addr]*entry{}, owners: map[string][]*entry{},
		holders: map[uint64][]*entry{}, dirty: map[*entry]bool{}, taken: map[*entry][]uint64{}, released: 1}
	err := s.View(func(tx store.Tx) error {
		return tx.Each(bucket, func(key, value []byte) error {
			addr, ok := netip.AddrFromSlice(key)
			if !ok {
				return nil
			}
			e := &entry{addr: addr, stored: bytes.Clone(value)}
			by, ok := e.read(value)
			if !ok {
				return nil // of another version: the address is given anew
			}
			b.enter(e)
			switch by {
			case 0:
			case self:
				e.used = now
				b.dirty[e] = true // it is not in use any more
			default:
				e.foreign, b.shared = true, true
			}
			return nil
		})
	})
	return b, err
}

func readable(value []byte) bool {
	_, ok := new(entry).read(value)
	return ok
}

// read takes what a value says, and returns the gateway at which the lease is in use.
func (e *entry) read(value []byte) (by uint64, ok bool) {
	switch {
	case len(value) >= 17 && value[0] == version:
		by, value = binary.BigEndian.Uint64(value[1:]), value[9:]
	case len(value) >= 10 && value[0] == 1:
		by, value = uint64(value[1]), value[2:]
	default:
		return 0, false
	}
	e.used, e.owner = time.Unix(int64(binary.BigEndian.Uint64(value)), 0), string(value[8:])
	return by, true
}

func (b *Book) enter(e *entry) {
	b.leases[e.addr] = e
	b.owners[e.owner] = append(b.owners[e.owner], e)
}

// leave takes a lease from its owner.
func (b *Book) leave(e *entry) {
	b.owners[e.owner] = slices.DeleteFunc(b.owners[e.owner], func(x *entry) bool { return x == e })
	if len(b.owners[e.owner]) == 0 {
		delete(b.owners, e.owner)
	}
}

// SetPools replaces the pools. What is in use stays in use.
func (b *Book) SetPools(pools []Pool) {
	b.pools = map[string]*pool{}
	for _, p := range pools {
		b.pools[p.Name] = &pool{Pool: p}
	}
}

// chain is the pools that a request may be answered from, in order.
func (b *Book) chain(r *Request) []*pool {
	if r.Address.IsValid() {
		return []*pool{{Pool: Pool{Ranges: []Range{{r.Address, r.Address}}}}}
	}
	var list []*pool
	for p := b.pools[r.Pool]; p != nil && !p.used; p = b.pools[p.Next] {
		p.used = true
		list = append(list, p)
	}
	for _, p := range list {
		p.used = false
	}
	return list
}

// Take gives the request's addresses. The error is for people; it wraps
// ErrExhausted where nothing is left. What was given is durable after Flush.
func (b *Book) Take(now time.Time, r Request) ([]netip.Addr, error) {
	chain := b.chain(&r)
	if len(chain) == 0 {
		return nil, fmt.Errorf("there is no pool %q", r.Pool)
	}
	var out []netip.Addr
	var full bool
	for v6, wanted := range []bool{r.V4, r.V6} {
		if !wanted || !slices.ContainsFunc(chain, func(p *pool) bool { return p.has(v6 == 1) }) {
			continue
		}
		e := b.find(now, chain, &r, v6)
		if e == nil && b.shared { // others may have given back what they had
			if err := b.refresh(); err != nil {
				return nil, err
			}
			e = b.find(now, chain, &r, v6)
		}
		if e == nil {
			full = true
			continue
		}
		e.used = now
		if !slices.Contains(e.holders, r.Holder) {
			e.holders = append(e.holders, r.Holder)
			b.taken[e] = append(b.taken[e], r.Holder)
		}
		b.holders[r.Holder] = append(b.holders[r.Holder], e)
		b.dirty[e] = true
		out = append(out, e.addr)
	}
	switch {
	case len(out) > 0:
		return out, nil
	case full && r.Address.IsValid():
		return nil, fmt.Errorf("%w: somebody else has %v", ErrExhausted, r.Address)
	case full:
		return nil, fmt.Errorf("%w: make pool %q larger or give it a next-pool", ErrExhausted, r.Pool)
	}
	return nil, errors.New("there is no address of the family that the peer asks for")
}

// find chooses a lease: the owner's own, what the same device has first, then an address that nobody
// ever had, the wished one first, then the one that nobody has used for longest.
func (b *Book) find(now time.Time, chain []*pool, r *Request, v6 int) *entry {
	for _, a := range r.Wishes {
		if e := b.leases[a]; e != nil && e.owner == r.Owner && a.Is6() == (v6 == 1) && e.freeFor(r) && covers(chain, a) {
			return e
		}
	}
	var own *entry
	for _, e := range b.owners[r.Owner] {
		if (e.addr.Is6()) == (v6 == 1) && e.freeFor(r) && covers(chain, e.addr) && (own == nil || len(own.holders) == 0 && len(e.holders) > 0) {
			own = e
		}
	}
	if own != nil {
		return own
	}
	for _, a := range r.Wishes {
		if b.leases[a] == nil && a.Is6() == (v6 == 1) && covers(chain, a) {
			e := &entry{addr: a, owner: r.Owner, used: now}
			b.enter(e)
			return e
		}
	}
	for _, p := range chain {
		if a, ok := p.fresh(b.leases, v6); ok {
			e := &entry{addr: a, owner: r.Owner, used: now}
			b.enter(e)
			return e
		}
	}
	oldest := b.oldest(chain, r, v6)
	if oldest != nil {
		b.leave(oldest)
		oldest.owner = r.Owner
		b.owners[r.Owner] = append(b.owners[r.Owner], oldest)
	}
	return oldest
}

// oldest is the lease that nobody has used for longest. The search through all
// leases fills a queue, so that a pool that has run out pays for it seldom.
func (b *Book) oldest(chain []*pool, r *Request, v6 int) *entry {
	if r.Address.IsValid() {
		if e := b.leases[r.Address]; !e.inUse() { // there is one: fresh has not given it
			return e
		}
		return nil
	}
	q := &chain[0].idle[v6]
	for {
		for len(q.list) > 0 {
			x := q.list[0]
			q.list = q.list[1:]
			if !x.inUse() && x.used.Equal(x.since) {
				return x.entry
			}
		}
		if q.released == b.released {
			return nil
		}
		q.released = b.released
		for _, e := range b.leases {
			if e.addr.Is6() == (v6 == 1) && !e.inUse() && covers(chain, e.addr) {
				q.list = append(q.list, idle{e, e.used})
			}
		}
		slices.SortFunc(q.list, func(x, y idle) int {
			return cmp.Or(x.since.Compare(y.since), x.addr.Compare(y.addr))
		})
	}
}

// inUse reports whether anybody uses a lease, here or at another gateway.
func (e *entry) inUse() bool { return e.foreign || len(e.holders) > 0 }

// freeFor reports whether the owner of a lease may use it again: nobody does, or
// whoever does is the same device.
func (e *entry) freeFor(r *Request) bool {
	return !e.foreign && !slices.ContainsFunc(e.holders, func(h uint64) bool { return !slices.Contains(r.Same, h) })
}

func covers(chain []*pool, a netip.Addr) bool {
	return slices.ContainsFunc(chain, func(p *pool) bool {
		return slices.ContainsFunc(p.Ranges, func(r Range) bool { return r.has(a) })
	})
}

// has reports whether the pool has addresses of a family.
func (p *pool) has(v6 bool) bool {
	return slices.ContainsFunc(p.Ranges, func(r Range) bool { return r.From.Is6() == v6 })
}

// fresh is the next address that nobody ever had.
func (p *pool) fresh(leases map[netip.Addr]*entry, v6 int) (netip.Addr, bool) {
	c := &p.at[v6]
	for ; c.index < len(p.Ranges); *c = (cursor{index: c.index + 1}) {
		r := p.Ranges[c.index]
		if r.From.Is6() != (v6 == 1) {
			continue
		}
		if !c.addr.IsValid() {
			c.addr = r.From
		}
		for ; r.has(c.addr); c.addr = c.addr.Next() {
			if leases[c.addr] == nil {
				return c.addr, true
			}
		}
	}
	return netip.Addr{}, false
}

// Release says that a holder has gone. Its leases stay their owners'.
func (b *Book) Release(now time.Time, id uint64) {
	b.released++
	for _, e := range b.holders[id] {
		e.holders = slices.DeleteFunc(e.holders, func(h uint64) bool { return h == id })
		e.used = now
		b.dirty[e] = true
	}
	delete(b.holders, id)
}

// Flush writes what has changed, in one transaction. After an error it is written with the next
// Flush. Another gateway may have given a lease that was given here since the last Flush, or have
// changed it: then it is that gateway's, and what Take gave to the holders that are returned
// does not count. They have nothing of it, and are to Take again. If a store that several gateways share
// cannot be written, err says why, and what was taken since the last Flush does not count either:
// another gateway may give it. A store that nobody shares loses nothing but the memory of a restart.
func (b *Book) Flush() (lost []uint64, err error) {
	if len(b.dirty) == 0 {
		return nil, nil
	}
	list := slices.SortedFunc(maps.Keys(b.dirty), func(x, y *entry) int { return bytes.Compare(x.addr.AsSlice(), y.addr.AsSlice()) })
	theirs := map[*entry][]byte{}
	err = b.store.Update(func(tx store.Tx) error {
		clear(theirs)
		for _, e := range list {
			has := tx.Get(bucket, e.addr.AsSlice())
			if !readable(has) {
				has = nil // of another version: it is nobody's
			}
			if !bytes.Equal(has, e.stored) && !heldBefore(e, b.taken[e]) {
				theirs[e] = bytes.Clone(has)
				continue
			}
			if err := tx.Put(bucket, e.addr.AsSlice(), e.value(b.self)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return b.unclaimed(list), err
	}
	taken := b.taken
	b.taken = map[*entry][]uint64{}
	clear(b.dirty)
	for _, e := range list {
		has, changed := theirs[e]
		if !changed {
			e.stored = e.value(b.self)
			continue
		}
		lost = append(lost, taken[e]...)
		b.adopt(e, has)
	}
	for _, holder := range lost {
		b.drop(holder, taken)
	}
	return lost, nil
}

// unclaimed takes back what was given since the last Flush and could not be written, where others may give it.
func (b *Book) unclaimed(list []*entry) (lost []uint64) {
	if b.sole {
		return nil
	}
	taken := b.taken
	b.taken = map[*entry][]uint64{}
	for _, e := range list {
		if len(taken[e]) == 0 || heldBefore(e, taken[e]) {
			continue // the claim of those who held it before stands
		}
		for _, holder := range taken[e] {
			if !slices.Contains(lost, holder) {
				lost = append(lost, holder)
			}
		}
		if e.stored != nil {
			b.adopt(e, e.stored) // it is its former owner's again
		}
	}
	for _, holder := range lost {
		b.drop(holder, taken)
	}
	b.released++ // the search for the oldest lease begins anew
	return lost
}

// heldBefore reports whether a holder has a lease since before the last Flush. Nobody else may
// have taken that over.
func heldBefore(e *entry, taken []uint64) bool {
	return slices.ContainsFunc(e.holders, func(h uint64) bool { return !slices.Contains(taken, h) })
}

// adopt makes a lease what the store has of it. Nobody here uses it.
func (b *Book) adopt(e *entry, has []byte) {
	b.leave(e)
	e.holders, e.stored, e.foreign = nil, has, false
	by, ok := e.read(has)
	if !ok {
		e.used = time.Time{} // no queue of the oldest has it any more
		delete(b.leases, e.addr)
		return
	}
	if by != 0 && by != b.self {
		e.foreign, b.shared = true, true
	}
	b.owners[e.owner] = append(b.owners[e.owner], e)
}

// drop takes from a holder what it was given since the last Flush.
func (b *Book) drop(holder uint64, taken map[*entry][]uint64) {
	b.holders[holder] = slices.DeleteFunc(b.holders[holder], func(e *entry) bool {
		if !slices.Contains(taken[e], holder) {
			return false
		}
		if slices.Contains(e.holders, holder) {
			e.holders = slices.DeleteFunc(e.holders, func(h uint64) bool { return h == holder })
			b.dirty[e] = true
		}
		return true
	})
	if len(b.holders[holder]) == 0 {
		delete(b.holders, holder)
	}
}

// refresh reads again what other gateways may have changed: all leases that nobody here uses.
func (b *Book) refresh() error {
	b.released++ // the search for the oldest lease begins anew
	return b.store.View(func(tx store.Tx) error {
		return tx.Each(bucket, func(key, value []byte) error {
			addr, ok := netip.AddrFromSlice(key)
			e := b.leases[addr]
			switch {
			case !ok:
			case e == nil:
				e = &entry{addr: addr}
				if _, ok := e.read(value); ok {
					b.enter(e)
					b.adopt(e, bytes.Clone(value))
				}
			case len(e.holders) == 0 && !b.dirty[e] && !bytes.Equal(value, e.stored):
				b.adopt(e, bytes.Clone(value))
			}
			return nil
		})
	})
}

// value is a lease as it is written by a gateway.
func (e *entry) value(self uint64) []byte {
	if len(e.holders) == 0 {
		self = 0
	}
	v := binary.BigEndian.AppendUint64([]byte{version}, self)
	v = binary.BigEndian.AppendUint64(v, uint64(e.used.Unix()))
	return append(v, e.owner...)
}

// Count is how many addresses of a pool are in use, and how many are kept for
// owners that are away.
func (b *Book) Count(name string) (inUse, kept int) {
	p := b.pools[name]
	if p == nil {
		return 0, 0
	}
	for _, e := range b.leases {
		switch {
		case !covers([]*pool{p}, e.addr):
		case e.inUse():
			inUse++
		default:
			kept++
		}
	}
	return inUse, kept
}
