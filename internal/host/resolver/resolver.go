package resolver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"
)

// resolveWithin bounds the wait for the DNS.
const resolveWithin = 5 * time.Second

// Resolve is the address of a host, IPv4 before IPv6. Where the system has no
// answer, past is asked: the way to the DNS server may lead into a tunnel that waits
// for this very answer, or the guard may keep it.
func Resolve(name string, past *net.Resolver) (netip.Addr, error) {
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

// New asks the DNS servers of this host by sockets that pass by every
// policy. Where the host asks a resolver of its own, whose packets do not, it asks
// those that this one asks.
func New(dial func(ctx context.Context, network, address string) (net.Conn, error)) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		server, err := netip.ParseAddrPort(address)
		if err == nil && server.Addr().IsLoopback() {
			if list := Servers(); len(list) > 0 {
				address = netip.AddrPortFrom(list[0], server.Port()).String()
			}
		}
		return dial(ctx, network, address)
	}}
}
