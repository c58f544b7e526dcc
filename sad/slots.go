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
// scrambled: to find the SA is to unscramble and to load one slot, which says
// itself for which SPI it stands: an SA's own memory is not touched, and of a
// million, whose slots no processor's cache holds, one cache line is fetched.
// Chunks are made as they are needed and never move. Freed slots are
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

// slot is 16 bytes, so that it never is in two cache lines.
type slot struct {
	in   atomic.Pointer[Inbound]
	spi  atomic.Uint32 // of the last allocation
	rest atomic.Uint32 // next<<useBits | use; next: in the queue of free slots, index+1
}

const useBits = 2

func (s *slot) use() slotUse          { return slotUse(s.rest.Load() & (1<<useBits - 1)) }
func (s *slot) next() uint32          { return s.rest.Load() >> useBits }
func (s *slot) mark(use slotUse)      { s.rest.Store(uint32(use)) }
func (s *slot) queueBefore(at uint32) { s.rest.Store((at+1)<<useBits | uint32(s.use())) }

// get is the SA of spi, if it is the slot's. A slot gets another SPI only while
// it has no SA: where spi stands before and after in was loaded, in is its SA.
func (s *slot) get(spi uint32) *Inbound {
	if s.spi.Load() != spi {
		return nil
	}
	in := s.in.Load()
	if s.spi.Load() != spi {
		return nil
	}
	return in
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
	index := s.index(spi)
	if index >= s.limit {
		return nil
	}
	c := s.chunks[index>>chunkBits].Load()
	if c == nil {
		return nil
	}
	return c[index&(chunkLen-1)].get(spi)
}

// larval reports whether spi is reserved, and nothing is installed.
func (s *slots) larval(spi uint32) bool {
	index := s.index(spi)
	if index >= s.limit || spi == 0 {
		return false
	}
	c := s.chunks[index>>chunkBits].Load()
	if c == nil {
		return false
	}
	sl := &c[index&(chunkLen-1)]
	return sl.spi.Load() == spi && sl.use() == slotReserved && sl.spi.Load() == spi
}

// at returns the slot that spi was last allocated from; nil if that is not so.
func (s *slots) at(spi uint32) *slot {
	index := s.index(spi)
	if index >= s.made || s.slot(index).spi.Load() != spi {
		return nil
	}
	return s.slot(index)
}

func (s *slots) index(spi uint32) uint32 { return s.scramble.undo(spi) & (1<<s.indexBits - 1) }

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
	s.head = sl.next()
	if s.head == 0 {
		s.tail = 0
	}
	generation := uint32(0)
	if last := sl.spi.Load(); last != 0 {
		generation = s.scramble.undo(last) >> s.indexBits
	}
	for {
		generation++ // what is above its width is shifted out
		if spi := s.scramble.do(generation<<s.indexBits | index); spi >= minSPI {
			sl.spi.Store(spi)
			sl.mark(slotReserved)
			return spi
		}
	}
}

// release ends a reservation or an installation.
func (s *slots) release(spi uint32) {
	sl := s.at(spi)
	sl.in.Store(nil)
	sl.mark(slotFree)
	s.queue(s.index(spi))
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
		s.slot(s.tail - 1).queueBefore(index)
	}
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
