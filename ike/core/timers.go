package core

import (
	"container/heap"
	"time"
)

// Timer is a pending call. It is created by Timers.At and dead once it has run
// or was stopped.
type Timer struct {
	at    time.Time
	order uint64
	index int // place in the heap; -1 when dead
	run   func()
}

// Time is when the timer runs; zero if it has run or was stopped.
func (t *Timer) Time() time.Time {
	if t.index < 0 {
		return time.Time{}
	}
	return t.at
}

// Timers is the endpoint's agenda. Calls that are due at the same time run in
// the order in which they were set, so that a run can be repeated.
type Timers struct {
	heap  timerHeap
	order uint64
}

// At calls run once, at the first Run whose time is not before at.
func (t *Timers) At(at time.Time, run func()) *Timer {
	t.order++
	tm := &Timer{at: at, order: t.order, run: run}
	heap.Push(&t.heap, tm)
	return tm
}

// Stop takes tm off the agenda. A nil or dead timer is left alone.
func (t *Timers) Stop(tm *Timer) {
	if tm != nil && tm.index >= 0 {
		heap.Remove(&t.heap, tm.index)
	}
}

// Next is the time of the first call.
func (t *Timers) Next() (time.Time, bool) {
	if len(t.heap) == 0 {
		return time.Time{}, false
	}
	return t.heap[0].at, true
}

// Run makes the calls that are due at now. A call that is set while it runs and
// is due already is made too.
func (t *Timers) Run(now time.Time) {
	for len(t.heap) > 0 && !t.heap[0].at.After(now) {
		heap.Pop(&t.heap).(*Timer).run()
	}
}

type timerHeap []*Timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].order < h[j].order
	}
	return h[i].at.Before(h[j].at)
}
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *timerHeap) Push(x any) {
	t := x.(*Timer)
	t.index = len(*h)
	*h = append(*h, t)
}
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
