package demo

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/testing/simnet"
)

// network joins the gateways: a simnet.Network in real time. Whatever arrives
// anywhere passes the watch before.
type network struct {
	watch func(simnet.Delivery) // called from several goroutines
	lines map[netip.Addr]*line

	mu  sync.Mutex
	sim *simnet.Network
}

// line leads to one address. The link keeps the order, so a queue is enough.
type line struct {
	deliver func(from, to netip.AddrPort, datagram []byte) bool
	dropped atomic.Uint64 // no room under way, or deliver refused
	wake    chan struct{} // has room for one

	mu    sync.Mutex
	queue []simnet.Delivery
}

// lineLimit is how many datagrams may be under way to one address.
const lineLimit = 16384

func newNetwork(seed uint64, delay time.Duration, watch func(simnet.Delivery)) *network {
	return &network{watch: watch, lines: map[netip.Addr]*line{}, sim: simnet.New(seed, simnet.Link{Delay: delay})}
}

// join connects an address; all join before the first send.
func (n *network) join(addr netip.Addr, deliver func(from, to netip.AddrPort, datagram []byte) bool) {
	n.lines[addr] = &line{deliver: deliver, wake: make(chan struct{}, 1)}
}

// send puts a datagram on its way. data is only read.
func (n *network) send(from, to netip.AddrPort, data []byte) {
	n.mu.Lock()
	arrivals := n.sim.Send(time.Now(), from, to, data)
	n.mu.Unlock()
	for _, d := range arrivals {
		if l := n.lines[d.To.Addr()]; l != nil {
			l.push(d)
		}
	}
}

// run carries datagrams until ctx ends.
func (n *network) run(ctx context.Context) {
	var lines sync.WaitGroup
	for _, l := range n.lines {
		lines.Go(func() { l.run(ctx, n.watch) })
	}
	lines.Wait()
}

// dropped is how many datagrams found no room, under way or at the receiver.
func (n *network) dropped() (sum uint64) {
	for _, l := range n.lines {
		sum += l.dropped.Load()
	}
	return sum
}

func (l *line) push(d simnet.Delivery) {
	l.mu.Lock()
	if len(l.queue) >= lineLimit {
		l.mu.Unlock()
		l.dropped.Add(1)
		return
	}
	l.queue = append(l.queue, d)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take swaps the queue for an empty one.
func (l *line) take(empty []simnet.Delivery) []simnet.Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.queue
	l.queue = empty
	return taken
}

func (l *line) run(ctx context.Context, watch func(simnet.Delivery)) {
	var batch []simnet.Delivery
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		clear(batch)
		if batch = l.take(batch[:0]); len(batch) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-l.wake:
			}
			continue
		}
		for _, d := range batch {
			if wait := time.Until(d.At); wait > 0 {
				timer.Reset(wait)
				select {
				case <-ctx.Done():
					return
				case <-timer.C:
				}
			}
			watch(d)
			if !l.deliver(d.From, d.To, d.Data) {
				l.dropped.Add(1)
			}
		}
	}
}
