package sad

import (
	"sync/atomic"
	"time"
)

// unanswered is what left by an SA and asks for an answer, since something last came by it.
type unanswered struct {
	first atomic.Int64  // Unix ns of the first one; 0: none
	n     atomic.Uint32 // how many
	told  atomic.Int64  // Unix ns when Asked last was true
}

const (
	// quietAfter is after how long an SA by which nothing comes is looked at.
	quietAfter = 2 * HeardEvery
	// Nothing has come if so many packets that ask for an answer have left in so long.
	askedTimes  = 4
	askedWithin = 6 * time.Second
	// AskedAgain is how often an SA says at most that nothing comes by it.
	AskedAgain = 30 * time.Second
)

// Quiet reports whether nothing has come by the SA for a while; now is in Unix ns. SAs with
// manual keys have no peer that could be asked why.
func (c *Child) Quiet(now int64) bool {
	return !c.manual && now-c.heard.Load() >= int64(quietAfter)
}

// Asked notes that a packet leaves that asks for an answer, and reports, at most once in AskedAgain,
// that none of them was answered.
func (c *Child) Asked(now int64) bool {
	first, heard := c.unanswered.first.Load(), c.heard.Load()
	if first == 0 || heard >= first {
		if c.unanswered.first.CompareAndSwap(first, now) {
			c.unanswered.n.Store(1)
		}
		return false
	}
	if c.unanswered.n.Add(1) < askedTimes || now-first < int64(askedWithin) {
		return false
	}
	if by := c.companionsHeard(); by >= first { // which holds for this one as well
		c.heard.CompareAndSwap(heard, by)
		return false
	}
	told := c.unanswered.told.Load()
	return (told == 0 || now-told >= int64(AskedAgain)) && c.unanswered.told.CompareAndSwap(told, now)
}
