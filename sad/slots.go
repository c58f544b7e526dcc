package sad

import (
	"math/bits"
	"sync/atomic"
)

const (
	chunkBits = 10
	chunkLen  = 1 << chunkBits
	// maxSlots leaves 8 bits of the SPI for the generation.
	maxSlots = 1 << 24
	// minSPI: 0 is no SPI and 1 to 255 are reserved (RFC 4303 §2.1).
	minSPI = 256
)

// slots is where inbound SAs live. An SPI is the slot's index and generation,
// scrambled: to find the SA is to unscramble, to load the slot's pointer and to
// compare. Chunks are made as they are needed and never move. Freed slots are
// used again oldest first, and a chunk's slots are all queued when it is made,
// so that a slot rests for at least a chunk's worth of allocations.
//
// find and larval are for everybody; the rest is under the table's mutex.
type slots struct {
	chunks    []atomic.Pointer[chunk]
	limit     uint32
	indexBits uint
	scramble  scramble
	made      uint32 // slots in chunks that exist
	head      uint32 // queue of free slots: index+1, 0 is none
	tail      uint32
}

type chunk [chunkLen]slot

type slot struct {
	in     atomic.Pointer[Inbound]
	larval atomic.Uint32 // the SPI while it is reserved, and nothing is installed
	next   uint32        // in the queue of free slots: index+1
	// generation is that of the last allocation; it wraps at its width.
	generation uint16
	use        slotUse
}

type slotUse uint8

const (
	slotFree slotUse = iota
	slotReserved
	slotInstalled
)

func (s *slots) init(limit int, seed uint64) {
	s.limit = uint32(min(max(limit, 1), maxSlots))
	s.indexBits = uint(max(bits.Len32(s.limit-1), 16)) // so that a generation fits its 16 bits
	s.chunks = make([]atomic.Pointer[chunk], (s.limit+chunkLen-1)>>chunkBits)
	s.scramble.init(seed)
}

// find returns the SA of an SPI; nil if there is none.
func (s *slots) find(spi uint32) *Inbound {
	index := s.scramble.undo(spi) & (1<<s.indexBits - 1)
	if index >= s.limit {
		return nil
	}
	c := s.chunks[index>>chunkBits].Load()
	if c == nil {
		return nil
	}
	in := c[index&(chunkLen-1)].in.Load()
	if in == nil || in.spi != spi {
		return nil
	}
	return in
}

// larval reports whether spi is reserved.
func (s *slots) larval(spi uint32) bool {
	index := s.scramble.undo(spi) & (1<<s.indexBits - 1)
	if index >= s.limit {
		return false
	}
	c := s.chunks[index>>chunkBits].Load()
	return c != nil && spi != 0 && c[index&(chunkLen-1)].larval.Load() == spi
}

// at returns the slot that spi was last allocated from; nil if that is not so.
func (s *slots) at(spi uint32) *slot {
	v := s.scramble.undo(spi)
	index := v & (1<<s.indexBits - 1)
	if index >= s.made {
		return nil
	}
	sl := s.slot(index)
	if uint32(sl.generation) != v>>s.indexBits {
		return nil
	}
	return sl
}

func (s *slots) slot(index uint32) *slot {
	return &s.chunks[index>>chunkBits].Load()[index&(chunkLen-1)]
}

// reserve takes the slot that has been free for longest; 0 when all are taken.
func (s *slots) reserve() uint32 {
	if s.head == 0 && !s.grow() {
		return 0
	}
	index := s.head - 1
	sl := s.slot(index)
	s.head = sl.next
	if s.head == 0 {
		s.tail = 0
	}
	sl.next, sl.use = 0, slotReserved
	for {
		sl.generation = (sl.generation + 1) & uint16(1<<(32-s.indexBits)-1)
		if spi := s.scramble.do(uint32(sl.generation)<<s.indexBits | index); spi >= minSPI {
			sl.larval.Store(spi)
			return spi
		}
	}
}

// release ends a reservation or an installation.
func (s *slots) release(spi uint32) {
	sl := s.at(spi)
	sl.in.Store(nil)
	sl.larval.Store(0)
	sl.use = slotFree
	s.queue(s.scramble.undo(spi) & (1<<s.indexBits - 1))
}

func (s *slots) grow() bool {
	if s.made >= s.limit {
		return false
	}
	first := s.made
	s.made = min(first+chunkLen, s.limit)
	s.chunks[first>>chunkBits].Store(new(chunk))
	for i := first; i < s.made; i++ {
		s.queue(i)
	}
	return true
}

func (s *slots) queue(index uint32) {
	if s.tail == 0 {
		s.head = index + 1
	} else {
		s.slot(s.tail - 1).next = index + 1
	}
	s.slot(index).next = 0
	s.tail = index + 1
}

// scramble is a permutation of the 32-bit numbers: SPIs tell a stranger neither
// how many SAs there are nor which one is next. It is no cipher and need not be:
// an SPI is public, what it protects is the key.
type scramble struct {
	mul1, mul2, inv1, inv2, key uint32
}

func (s *scramble) init(seed uint64) {
	// Two steps of splitmix64 make three independent numbers of any seed.
	next := func() uint64 {
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return z ^ z>>31
	}
	a, b := next(), next()
	s.mul1, s.mul2, s.key = uint32(a)|1, uint32(a>>32)|1, uint32(b)
	s.inv1, s.inv2 = inverse(s.mul1), inverse(s.mul2)
}

func (s *scramble) do(v uint32) uint32 {
	v *= s.mul1
	v ^= v >> 16
	v *= s.mul2
	v ^= v >> 16
	return v ^ s.key
}

func (s *scramble) undo(v uint32) uint32 {
	v ^= s.key
	v ^= v >> 16
	v *= s.inv2
	v ^= v >> 16
	return v * s.inv1
}

// inverse of an odd number modulo 2^32, by Newton's iteration: each step doubles the right bits.
func inverse(a uint32) uint32 {
	x := a // right in 3 bits
	for range 4 {
		x *= 2 - a*x
	}
	return x
}
