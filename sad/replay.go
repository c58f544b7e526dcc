package sad

import "sync/atomic"

// Bounds of a replay window, in packets. What is asked for is brought into them, but
// for 0: no number is looked at, and a packet may come any number of times.
const (
	MinReplayWindow = 32
	MaxReplayWindow = 4096
)

// replay is the anti-replay window of one inbound SA: a ring of blocks after
// RFC 6479, made so that a packet is claimed by one atomic exchange.
//
// A block covers 16 sequence numbers. Its word holds which block it is and one
// bit for each number seen, so that a new block replaces an old one in the same
// place at once and nothing has to be cleared:
//
//	 63                                              16 15             0
//	+--------------------------------------------------+---------------+
//	|            block number, sequence / 16           |      seen     |
//	+--------------------------------------------------+---------------+
//
// The block number in a word only grows. A number that was claimed is therefore
// either still marked in its word or its word belongs to a later block, which
// refuses it: it can never be claimed twice, whatever runs at the same time.
type replay struct {
	top    atomic.Uint64 // highest number claimed
	window uint64
	mask   uint64
	esn    bool
	off    bool // then the window only says which half of an extended number is near
	ring   []atomic.Uint64
}

const (
	blockShift = 4
	blockMask  = 1<<blockShift - 1
	seenBits   = 1 << blockShift
)

func (r *replay) init(window int, esn bool) {
	r.esn, r.off = esn, window == 0
	if r.off {
		r.window, r.ring = MaxReplayWindow, make([]atomic.Uint64, 1)
		return
	}
	w := uint64(min(max(window, MinReplayWindow), MaxReplayWindow))
	// A window that starts within a block reaches over one block more.
	words := uint64(1)
	for words < w>>blockShift+2 {
		words <<= 1
	}
	r.window, r.mask = w, words-1
	r.ring = make([]atomic.Uint64, words)
}

// infer makes the whole sequence number from the 32 bits of the packet
// (RFC 4303 appendix A2.2); false where there is none: before the first packet
// of the SA.
func (r *replay) infer(low uint32) (uint64, bool) {
	if !r.esn {
		return uint64(low), true
	}
	top := r.top.Load()
	high, topLow := top>>32, uint32(top)
	bottom := topLow - uint32(r.window) + 1 // modulo 2^32, as the RFC has it
	switch {
	case uint64(topLow) >= r.window-1 && low < bottom:
		high++
		if high > 0xffffffff {
			return 0, false
		}
	case uint64(topLow) < r.window-1 && low >= bottom:
		if high == 0 {
			return 0, false
		}
		high--
	}
	return high<<32 | uint64(low), true
}

// check reports whether seq may still come: neither seen nor left of the window.
// It changes nothing: what it says is a saving of work, claim decides.
func (r *replay) check(seq uint64) bool {
	if r.off {
		return true
	}
	top := r.top.Load()
	if seq == 0 || seq <= top && top-seq >= r.window {
		return false
	}
	word := r.ring[seq>>blockShift&r.mask].Load()
	switch age := blockAge(seq, word); {
	case age > 0:
		return true
	case age == 0:
		return word&(1<<(seq&blockMask)) == 0
	}
	return false
}

// claim marks seq as seen and moves the window. Of any number of callers with
// the same seq, one gets true. To be called after the ICV proved right.
func (r *replay) claim(seq uint64) bool {
	if r.off {
		r.advance(r.top.Load(), seq)
		return true
	}
	if seq == 0 {
		return false
	}
	top := r.top.Load()
	if seq <= top && top-seq >= r.window {
		return false
	}
	slot := &r.ring[seq>>blockShift&r.mask]
	bit := uint64(1) << (seq & blockMask)
	for {
		word := slot.Load()
		next := word | bit
		switch age := blockAge(seq, word); {
		case age < 0:
			return false
		case age > 0:
			next = seq>>blockShift<<seenBits | bit
		case word&bit != 0:
			return false
		}
		if slot.CompareAndSwap(word, next) {
			break
		}
	}
	r.advance(top, seq)
	return true
}

// advance makes seq the highest number if it is; top is what that was a moment ago.
func (r *replay) advance(top, seq uint64) {
	for seq > top && !r.top.CompareAndSwap(top, seq) {
		top = r.top.Load()
	}
}

// size is the window as it was asked for, in packets.
func (r *replay) size() int {
	if r.off {
		return 0
	}
	return int(r.window)
}

// blockAge is how many blocks seq is ahead of the word. The word keeps 48 bits
// of the block number, so the difference is signed modulo 2^48.
func blockAge(seq, word uint64) int64 {
	return int64((seq>>blockShift - word>>seenBits) << (64 - 48))
}
