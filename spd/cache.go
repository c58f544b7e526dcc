package spd

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"culvert/internal/wire"
)

// Cache remembers the answers for recent flows. It belongs to one worker. Its
// zero value is ready; it takes about 300 kB and never grows. Answers of policies that were
// replaced are forgotten at the next lookup.
type Cache struct {
	whole   *whole
	entries [cacheSize]cacheEntry
}

const cacheBits, cacheSize = 12, 1 << 12

type cacheEntry struct {
	flow     wire.Flow
	policy   *Policy
	used, in bool
}

// Lookup is db.Lookup.
func (c *Cache) Lookup(db *Database, f *wire.Flow) *Policy { return c.lookup(db, f, false) }

// LookupIn is db.LookupIn.
func (c *Cache) LookupIn(db *Database, f *wire.Flow) *Policy { return c.lookup(db, f, true) }

func (c *Cache) lookup(db *Database, f *wire.Flow, in bool) *Policy {
	whole := db.whole.Load()
	if whole != c.whole {
		clear(c.entries[:])
		c.whole = whole
	}
	e := &c.entries[hashFlow(f)>>(64-cacheBits)]
	if e.used && e.in == in && e.flow == *f {
		return e.policy
	}
	p := whole.lookup(f, in, false)
	*e = cacheEntry{*f, p, true, in}
	return p
}

func hashFlow(f *wire.Flow) uint64 {
	h := uint64(f.SrcPort)<<32 | uint64(f.DstPort)<<16 | uint64(f.Proto)
	h = mix(h, hashAddr(f.Src))
	return mix(h, hashAddr(f.Dst))
}

func hashAddr(a netip.Addr) uint64 {
	if a.Is4() {
		b := a.As4()
		return uint64(binary.LittleEndian.Uint32(b[:]))
	}
	b := a.As16()
	return mix(binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:]))
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xd6e8feb86659fd93)
	return hi ^ lo
}
