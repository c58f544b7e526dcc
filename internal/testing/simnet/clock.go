package simnet

import (
	"container/heap"
	"time"
)

// Clock is virtual time and what is to happen in it. Time moves only while
// events are run. Events of one time run in the order in which they were asked
// for.
type Clock struct {
	now    time.Time
	events events
	count  uint64
}

// Timer is an event that has been asked for.
type Timer struct {
	at    time.Time
	order uint64
	do    func()
	place int // in the heap; -1: it ran or was stopped
	clock *Clock
}

// NewClock starts virtual time.
func NewClock(start time.Time) *Clock { return &Clock{now: start} }

// Now is the virtual time.
func (c *Clock) Now() time.Time { return c.now }

// At runs do at a time; one that has passed means now, behind the events
// already waiting for now.
func (c *Clock) At(t time.Time, do func()) *Timer {
	if t.Before(c.now) {
		t = c.now
	}
	c.count++
	e := &Timer{at: t, order: c.count, do: do, clock: c}
	heap.Push(&c.events, e)
	return e
}

// After runs do when d has passed.
func (c *Clock) After(d time.Duration, do func()) *Timer { return c.At(c.now.Add(d), do) }

// Stop takes the event back; false if it ran or was stopped before.
func (t *Timer) Stop() bool {
	if t.place < 0 {
		return false
	}
	heap.Remove(&t.clock.events, t.place)
	return true
}

// Next is when the next event is due; false if there is none.
func (c *Clock) Next() (time.Time, bool) {
	if len(c.events) == 0 {
		return time.Time{}, false
	}
	return c.events[0].at, true
}

// Step moves time to the next event and runs it; false if there is none.
func (c *Clock) Step() bool {
	if len(c.events) == 0 {
		return false
	}
	e := heap.Pop(&c.events).(*Timer)
	c.now = e.at
	e.do()
	return true
}

// Run runs the events up to and including until, also those that come up
// meanwhile; then it is until (or later, if it was later before). It returns
// how many ran.
func (c *Clock) Run(until time.Time) int {
	n := 0
	for {
		next, ok := c.Next()
		if !ok || next.After(until) {
			break
		}
		c.Step()
		n++
	}
	if c.now.Before(until) {
		c.now = until
	}
	return n
}

// RunUntil runs events until done says so, which is asked before each, and
// reports whether it did by limit. If it did, time stands at the last event.
func (c *Clock) RunUntil(limit time.Time, done func() bool) bool {
	for !done() {
		next, ok := c.Next()
		if !ok || next.After(limit) {
			if c.now.Before(limit) {
				c.now = limit
			}
			return false
		}
		c.Step()
	}
	return true
}

// events is a heap by time, then by order of request.
type events []*Timer

func (h events) Len() int { return len(h) }

func (h events) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].order < h[j].order
}

func (h events) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *events) Push(x any) {
	e := x.(*Timer)
	e.place = len(*h)
	*h = append(*h, e)
}

func (h *events) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.place = -1
	return e
}
