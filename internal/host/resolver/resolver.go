package resolver

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// Resolver looks names up, and opens connections, past the gateway's own policies: otherwise
// a policy to everywhere would take the question into a tunnel that waits for its answer. Its
// methods may be called from any goroutine. A nil Resolver goes the way of the system.
type Resolver struct {
	dial    Dial
	servers func() []netip.AddrPort
}

// Dial opens a connection, as (*net.Dialer).DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// New makes a Resolver whose sockets are opened by dial. Where the host asks a resolver of
// its own, whose packets do go into tunnels, the Resolver asks the servers that this one asks.
func New(dial Dial) *Resolver { return &Resolver{dial, upstream} }

const (
	lookUpWithin = 6 * time.Second        // for one name
	askNext      = time.Second            // before another server is asked too
	dialNext     = 250 * time.Millisecond // before another address is tried too (RFC 8305 §8)
	dialWithin   = 2 * time.Second        // past the policies
)

// LookUp are the addresses of a host, in the order in which to try them (RFC 8305 §4): sorted
// by RFC 6724, and the families in turns. The system's own way is tried last: it alone knows
// names that are not in the DNS.
func (r *Resolver) LookUp(ctx context.Context, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpWithin)
	defer cancel()
	var attempts []func(context.Context) ([]netip.Addr, error)
	ask := func(r *net.Resolver) {
		attempts = append(attempts, func(ctx context.Context) ([]netip.Addr, error) { return r.LookupNetIP(ctx, "ip", name) })
	}
	if r != nil {
		list := r.servers()
		for _, s := range list {
			ask(&net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return r.dial(ctx, network, s.String())
			}})
		}
		if len(list) == 0 {
			ask(&net.Resolver{PreferGo: true, Dial: r.dial})
		}
	}
	ask(net.DefaultResolver)
	list, err := stagger(ctx, askNext, attempts, func([]netip.Addr) {})
	return inTurns(list), err
}

// inTurns has the two families alternate, beginning with that of the first address.
func inTurns(list []netip.Addr) (out []netip.Addr) {
	var of [2][]netip.Addr // of the family of the first, and of the other one
	for _, a := range list {
		a = a.Unmap()
		i := 0
		if a.Is4() != list[0].Unmap().Is4() {
			i = 1
		}
		of[i] = append(of[i], a)
	}
	for i := range max(len(of[0]), len(of[1])) {
		for _, family := range of {
			if i < len(family) {
				out = append(out, family[i])
			}
		}
	}
	return out
}

// DialContext opens a connection to a host by its name or address, as (*net.Dialer).DialContext
// does: to the first of its addresses that answers. What cannot be reached past the policies
// may be behind a tunnel, and is tried that way in the end.
func (r *Resolver) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	list := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		list = append(list, a)
	} else if list, err = r.LookUp(ctx, host); err != nil {
		return nil, err
	}
	var system net.Dialer
	race := func(ctx context.Context, dial Dial) (net.Conn, error) {
		var attempts []func(context.Context) (net.Conn, error)
		for _, a := range list {
			attempts = append(attempts, func(ctx context.Context) (net.Conn, error) {
				return dial(ctx, network, net.JoinHostPort(a.String(), port))
			})
		}
		return stagger(ctx, dialNext, attempts, func(c net.Conn) { _ = c.Close() })
	}
	if r != nil {
		past, cancel := context.WithTimeout(ctx, dialWithin)
		defer cancel()
		if c, err := race(past, r.dial); err == nil {
			return c, nil
		}
	}
	return race(ctx, system.DialContext)
}
