package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/host/resolver"
	"culvert/internal/state/lease"
	"culvert/internal/state/store"
)

// leases answers the endpoint's Lease questions from the book, in their order. Questions that
// wait are answered together, so that a thousand road warriors at once need a
// few writes to the disk instead of a thousand.
type leases struct {
	state  *state // where the book is
	answer func(core.Answer)
	dns    func() []netip.Addr // of this system
	failed func(error)         // the book could not be written

	mu    sync.Mutex // of the book
	book  *lease.Book
	ready []given // to leave once the book is on the disk

	queue   chan func(now time.Time) // to be done with mu held
	stopped chan struct{}
}

// given is an answer, and the question again: what was given may turn out to be in use at
// another gateway.
type given struct {
	core.Answer
	work   core.Lease
	holder core.SAID
}

// leaseTries is how often another address is tried if other gateways have taken the one before.
const leaseTries = 16

// leaseQueue is how many questions and releases can wait. If the queue is full, the control
// loop waits.
const leaseQueue = 1 << 14

func newLeases(answer func(core.Answer), dns func() []netip.Addr, failed func(error)) *leases {
	return &leases{answer: answer, dns: dns, failed: failed, queue: make(chan func(time.Time), leaseQueue), stopped: make(chan struct{})}
}

// newLeaseService is the service that answers Lease.
func newLeaseService(env serviceEnv) service {
	l := newLeases(env.answer, resolver.Servers, func(err error) {
		env.log.Error("leases could not be written to the state store: after a restart their addresses may be given to others", "error", err)
	})
	l.state = env.state
	go l.run(env.now)
	return l
}

func (l *leases) takes() []any { return []any{core.Lease{}, core.Release{}} }

func (l *leases) take(out core.Output) {
	switch out := out.(type) {
	case core.Ask:
		l.ask(out, out.Work.(core.Lease))
	case core.Release:
		l.release(out.Holder)
	}
}

// part opens the book where a configuration gives addresses, and tells it the pools.
func (l *leases) part() part {
	var book *lease.Book
	return part{
		name: "leases",
		prepare: func(c *change) error {
			if !compile.GivesAddresses(c.next) || l.opened() {
				return nil
			}
			s, err := l.state.get()
			if err == nil {
				book, err = lease.Open(s, c.now)
			}
			return err
		},
		commit: func(c *change) {
			if book != nil {
				l.mu.Lock()
				l.book = book
				l.mu.Unlock()
			}
			l.setPools(poolsOf(c.next))
		},
	}
}

func (l *leases) opened() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.book != nil
}

// open has the book read, once somebody needs it.
func (l *leases) open(open func() (store.Store, error), now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.book != nil {
		return nil
	}
	s, err := open()
	if err != nil {
		return err
	}
	b, err := lease.Open(s, now)
	if err != nil {
		return err
	}
	l.book = b
	return nil
}

// setPools takes over a configuration.
func (l *leases) setPools(pools []lease.Pool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.book != nil {
		l.book.SetPools(pools)
	}
}

// ask and release put something in the queue.
func (l *leases) ask(a core.Ask, w core.Lease) {
	l.queue <- func(now time.Time) { l.give(now, a, w) }
}

func (l *leases) release(holder core.SAID) {
	l.queue <- func(now time.Time) {
		if l.book != nil {
			l.book.Release(now, uint64(holder))
		}
	}
}

// run works until the queue is closed.
func (l *leases) run(now func() time.Time) {
	defer close(l.stopped)
	for first := range l.queue {
		l.work(now(), first)
	}
}

// work does what waits, and writes once.
func (l *leases) work(now time.Time, first func(time.Time)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if first != nil {
		first(now)
	}
	for n := len(l.queue); n > 0; n-- {
		do, ok := <-l.queue
		if !ok {
			break
		}
		do(now)
	}
	if l.book != nil {
		l.settle(now)
	}
	for _, g := range l.ready {
		l.answer(g.Answer)
	}
	l.ready = nil
}

// settle writes the book, and looks for another address for those whose address another gateway
// has given meanwhile.
func (l *leases) settle(now time.Time) {
	for range leaseTries {
		lost, err := l.book.Flush()
		if err != nil {
			// Addresses are still given once if nobody shares the store; only a restart
			// would not know of it. What others may give as well is refused.
			l.failed(err)
			l.refuse(lost, fmt.Errorf("the lease could not be written for the gateways that share the address pools: %w", err))
			return
		}
		if len(lost) == 0 {
			return
		}
		for i := range l.ready {
			if g := &l.ready[i]; slices.Contains(lost, uint64(g.holder)) {
				g.Answer = l.answerTo(now, g.ID, g.work, g.holder)
			}
		}
	}
	lost, err := l.book.Flush()
	if err != nil {
		l.failed(err)
	}
	l.refuse(lost, errors.New("every address that was tried was taken first by another gateway that shares the pools"))
}

// refuse gives an error to those who have nothing of what they were given.
func (l *leases) refuse(lost []uint64, err error) {
	for i := range l.ready {
		if g := &l.ready[i]; slices.Contains(lost, uint64(g.holder)) {
			g.Answer = core.Answer{ID: g.ID, Err: err}
		}
	}
}

// give answers one question.
func (l *leases) give(now time.Time, a core.Ask, w core.Lease) {
	l.ready = append(l.ready, given{l.answerTo(now, a.ID, w, a.SA), w, a.SA})
}

func (l *leases) answerTo(now time.Time, id core.AskID, w core.Lease, holder core.SAID) core.Answer {
	if l.book == nil {
		return core.Answer{ID: id, Err: errors.New("there are no leases: no configuration has needed any")}
	}
	var same []uint64
	for _, id := range w.Same {
		same = append(same, uint64(id))
	}
	addrs, err := l.book.Take(now, lease.Request{Pool: w.Pool, Address: w.Address, Owner: w.Owner, Holder: uint64(holder), Same: same,
		V4: w.V4, V6: w.V6, Wishes: w.Wishes})
	if err != nil {
		return core.Answer{ID: id, Err: err}
	}
	var dns []netip.Addr
	if w.DNS && l.dns != nil {
		dns = l.dns()
	}
	return core.Answer{ID: id, Data: core.AppendLease(nil, addrs, dns)}
}

// count is of one pool.
func (l *leases) count(pool string) (inUse, kept int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.book == nil {
		return 0, 0
	}
	return l.book.Count(pool)
}

// close waits for what is queued.
func (l *leases) close() {
	close(l.queue)
	<-l.stopped
}

// poolsOf are the pools for the book of leases.
func poolsOf(c *config.Config) (pools []lease.Pool) {
	for _, p := range c.Pools {
		if p.Disabled {
			continue
		}
		q := lease.Pool{Name: p.Name}
		if p.Next != nil {
			q.Next = p.Next.Name
		}
		for _, r := range p.Ranges {
			q.Ranges = append(q.Ranges, lease.Range{From: r.From, To: r.To})
		}
		pools = append(pools, q)
	}
	return pools
}
