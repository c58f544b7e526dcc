package spd

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"culvert/internal/packet/wire"
)

// Cache remembers the answers for recent flows, also that there is no policy. It
// belongs to one worker. Its zero value is ready; its memory, 1.25 MB, is made by
// the first lookup and never grows. Answers of policies that were replaced are
// forgotten at the next lookup.
type Cache struct {
	whole *whole
	epoch uint32 // of whole; entries of others are empty
	sets  *cacheSets
}

// A set of IPv4 flows and an IPv6 flow each fill one cache line.
type cacheSets struct {
	v4 [1 << cacheBits4][2]entry4
	v6 [1 << cacheBits6]entry6
}

const cacheBits4, cacheBits6 = 14, 12

type entry4 struct {
	flow   flow4
	epoch  uint32
	policy *Policy
}

type flow4 struct{ src, dst, ports, rest uint32 }

type entry6 struct {
	flow   flow6
	epoch  uint32
	policy *Policy
	_      [8]byte
}

type flow6 struct {
	src, dst    [16]byte
	ports, rest uint32
}

// Lookup is db.Lookup.
func (c *Cache) Lookup(db *Database, f *wire.Flow) *Policy { return c.lookup(db, f, false) }

// LookupIn is db.LookupIn.
func (c *Cache) LookupIn(db *Database, f *wire.Flow) *Policy { return c.lookup(db, f, true) }

func (c *Cache) lookup(db *Database, f *wire.Flow, in bool) *Policy {
	if whole := db.whole.Load(); whole != c.whole {
		c.forget(whole)
	}
	ports, rest := uint32(f.SrcPort)<<16|uint32(f.DstPort), uint32(f.Proto)
	if f.Opaque {
		rest |= 1 << 8
	}
	if in {
		rest |= 1 << 9
	}
	switch {
	case f.Src.Is4() && f.Dst.Is4():
		return c.lookup4(f, flow4{number4(f.Src), number4(f.Dst), ports, rest}, in)
	case f.Src.Is6() && f.Dst.Is6():
		return c.lookup6(f, flow6{f.Src.As16(), f.Dst.As16(), ports, rest}, in)
	}
	return c.whole.lookup(f, in, false)
}

func (c *Cache) lookup4(f *wire.Flow, flow flow4, in bool) *Policy {
	h := mix(uint64(flow.src)<<32|uint64(flow.dst), uint64(flow.ports)<<32|uint64(flow.rest))
	set := &c.sets.v4[h>>(64-cacheBits4)]
	for i := range set {
		if e := &set[i]; e.flow == flow && e.epoch == c.epoch {
			return e.policy
		}
	}
	p := c.whole.lookup(f, in, false)
	set[1] = set[0]
	set[0] = entry4{flow, c.epoch, p}
	return p
}

func (c *Cache) lookup6(f *wire.Flow, flow flow6, in bool) *Policy {
	h := mix(hashAddr(f.Src), uint64(flow.ports)<<32|uint64(flow.rest))
	e := &c.sets.v6[mix(h, hashAddr(f.Dst))>>(64-cacheBits6)]
	if e.flow == flow && e.epoch == c.epoch {
		return e.policy
	}
	p := c.whole.lookup(f, in, false)
	*e = entry6{flow: flow, epoch: c.epoch, policy: p}
	return p
}

// forget makes all entries empty. Epoch 0 is that of an entry that was never filled.
func (c *Cache) forget(whole *whole) {
	c.whole = whole
	c.epoch++
	if c.sets == nil || c.epoch == 0 {
		c.sets, c.epoch = new(cacheSets), 1
	}
}

func number4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func hashAddr(a netip.Addr) uint64 {
	if a.Is4() {
		return uint64(number4(a))
	}
	b := a.As16()
	return mix(binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:]))
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xd6e8feb86659fd93)
	return hi ^ lo
}
