package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/auth"
	"culvert/ike/core"
)

// pool does the endpoint's Asks beside the control loop. The queue needs no
// bound of its own: the endpoint bounds its open questions, and takes back those
// that it needs no more.
type pool struct {
	mu      sync.Mutex
	ready   *sync.Cond
	queue   []core.Ask
	closed  bool
	workers sync.WaitGroup
	fetcher *fetcher
	answer  func(core.Answer)
}

// newPool starts the workers. answer is called from them.
func newPool(source func(netip.Addr) (netip.Addr, error), past *net.Resolver, answer func(core.Answer)) *pool {
	p := &pool{fetcher: newFetcher(time.Now), answer: answer}
	p.ready = sync.NewCond(&p.mu)
	for range min(4, runtime.NumCPU()) {
		p.workers.Go(func() {
			for a, ok := p.next(); ok; a, ok = p.next() {
				answer(solve(a, source, past))
			}
		})
	}
	return p
}

// ask queues a question.
func (p *pool) ask(a core.Ask) {
	if f, ok := a.Work.(auth.Fetch); ok { // a slow server must not hold a worker
		p.fetcher.fetch(f, func(data []byte, err error) { p.answer(core.Answer{ID: a.ID, Data: data, Err: err}) })
		return
	}
	p.mu.Lock()
	p.queue = append(p.queue, a)
	p.mu.Unlock()
	p.ready.Signal()
}

// withdraw answers a question that nobody works on yet at once: its answer is not
// needed any more.
func (p *pool) withdraw(id core.AskID) {
	p.mu.Lock()
	i := slices.IndexFunc(p.queue, func(a core.Ask) bool { return a.ID == id })
	if i >= 0 {
		p.queue = slices.Delete(p.queue, i, i+1)
	}
	p.mu.Unlock()
	if i >= 0 {
		p.answer(core.Answer{ID: id, Err: core.ErrWithdrawn})
	}
}

// next waits for a question; false after close.
func (p *pool) next() (core.Ask, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) == 0 && !p.closed {
		p.ready.Wait()
	}
	if p.closed {
		return core.Ask{}, false
	}
	a := p.queue[0]
	p.queue[0] = core.Ask{}
	p.queue = p.queue[1:]
	return a, true
}

// close forgets what is queued and waits for what is being done.
func (p *pool) close() {
	p.mu.Lock()
	p.closed, p.queue = true, nil
	p.mu.Unlock()
	p.ready.Broadcast()
	p.fetcher.close()
	p.workers.Wait()
}

// solve answers a question: by itself, but for what only the system knows.
func solve(a core.Ask, source func(netip.Addr) (netip.Addr, error), past *net.Resolver) core.Answer {
	var addr netip.Addr
	var err error
	switch w := a.Work.(type) {
	case core.SourceFor:
		addr, err = source(w.Remote)
	case core.Resolve:
		addr, err = resolve(w.Name, past)
	default:
		data, err := a.Work.Do()
		return core.Answer{ID: a.ID, Data: data, Err: err}
	}
	if err != nil {
		return core.Answer{ID: a.ID, Err: err}
	}
	return core.Answer{ID: a.ID, Data: secret.Bytes(addr.AsSlice())}
}

// resolveWithin bounds the wait for the DNS.
const resolveWithin = 5 * time.Second

// resolve is the address of a host, IPv4 before IPv6. Where the system has no
// answer, past is asked: the way to the DNS server may lead into a tunnel that waits
// for this very answer, or the guard may keep it.
func resolve(name string, past *net.Resolver) (netip.Addr, error) {
	all, err := lookUp(net.DefaultResolver, name)
	var no *net.DNSError
	if err != nil && past != nil && !(errors.As(err, &no) && no.IsNotFound) {
		if again, err2 := lookUp(past, name); err2 == nil {
			all, err = again, nil
		}
	}
	if err != nil {
		return netip.Addr{}, err
	}
	slices.SortStableFunc(all, func(a, b netip.Addr) int { return a.Unmap().BitLen() - b.Unmap().BitLen() })
	return all[0].Unmap(), nil
}

func lookUp(r *net.Resolver, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveWithin)
	defer cancel()
	return r.LookupNetIP(ctx, "ip", name)
}

// resolverPast asks the DNS servers of this host by sockets that pass by every
// policy. Where the host asks a resolver of its own, whose packets do not, it asks
// those that this one asks.
func resolverPast(dial func(ctx context.Context, network, address string) (net.Conn, error)) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		server, err := netip.ParseAddrPort(address)
		if err == nil && server.Addr().IsLoopback() {
			if list := systemDNS(); len(list) > 0 {
				address = netip.AddrPortFrom(list[0], server.Port()).String()
			}
		}
		return dial(ctx, network, address)
	}}
}
