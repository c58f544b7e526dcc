package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
)

// names answers what only the system knows: the addresses of DNS names, and which local
// address leads to a peer.
type names struct {
	workers *workers
	source  func(netip.Addr) (netip.Addr, error)
	past    *net.Resolver // asks past the policies; nil: nobody does
}

func newNames(env serviceEnv) service {
	return &names{env.workers, env.edges.Source, env.edges.Resolver}
}

func (n *names) takes() []any { return []any{core.SourceFor{}, core.Resolve{}} }
func (n *names) part() part   { return part{} }
func (n *names) close()       {}

func (n *names) take(out core.Output) {
	ask := out.(core.Ask)
	n.workers.do(ask.ID, func() (secret.Bytes, error) {
		var addr netip.Addr
		var err error
		switch w := ask.Work.(type) {
		case core.SourceFor:
			addr, err = n.source(w.Remote)
		case core.Resolve:
			addr, err = resolve(w.Name, n.past)
		}
		if err != nil {
			return nil, err
		}
		return secret.Bytes(addr.AsSlice()), nil
	})
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
