package tun

import (
	"cmp"
	"net/netip"
	"slices"
)

// Which networks a tunnel to everywhere leaves alone. An attacker who runs the
// LAN may choose its prefix (CVE-2023-36672, "LocalNet"), and so what counts as
// one is not asked of the LAN: it has to be private, and what another policy
// protects stays protected.

// Everywhere reports whether a route is a tunnel for all traffic to everywhere.
func (r Route) Everywhere() bool { return !r.Pass && r.Remote.Bits() == 0 && r.Proto == 0 }

// private are the prefixes that are nobody's on the internet: RFC 1918, RFC 4193
// and link-local addresses of IPv4 (RFC 3927). Those of IPv6 have rules of their own.
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fc00::/7"),
}

// isPrivate reports whether all of a network is private.
func isPrivate(p netip.Prefix) bool {
	return slices.ContainsFunc(private, func(q netip.Prefix) bool { return covers(q, p) })
}

// covers reports whether all of inner is in outer.
func covers(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// comparePrefix orders by address, and then the shorter prefix first.
func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// Near is what a tunnel to everywhere leaves alone, of one address family.
type Near struct {
	Nets []netip.Prefix // private networks on the host's links
	Kept []netip.Prefix // networks inside them that a policy of their own protects
}

// maxKept bounds the protected networks inside one of the links' networks. One
// with more of them is not left alone: an attacker may have made it that large.
const maxKept = 64

// Near tells what the plan's tunnels to everywhere leave alone. lans are the
// private networks on the host's links, of both families.
func (p Plan) Near(lans []netip.Prefix, v6 bool) (n Near) {
	if !p.LANBypass {
		return n
	}
	for _, lan := range lans {
		if lan.Addr().Is6() != v6 || !isPrivate(lan) {
			continue
		}
		kept, ok := p.keptIn(lan)
		if !ok {
			continue
		}
		n.Nets = append(n.Nets, lan)
		for _, k := range kept {
			if !slices.Contains(n.Kept, k) {
				n.Kept = append(n.Kept, k)
			}
		}
	}
	order := func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	}
	slices.SortFunc(n.Nets, order)
	slices.SortFunc(n.Kept, order)
	return n
}

// asksLANs reports whether it makes a difference which networks are on the links.
func (p Plan) asksLANs() bool {
	return p.LANBypass && slices.ContainsFunc(p.Routes, func(r Route) bool { return !r.Pass && r.Remote.IsValid() && r.Remote.Bits() == 0 })
}

// keptIn are the networks inside lan that the plan protects by more than a tunnel
// to everywhere; not ok: it protects all of lan, or too much of it.
func (p Plan) keptIn(lan netip.Prefix) (kept []netip.Prefix, ok bool) {
	for _, r := range p.Routes {
		remote := r.Remote.Masked()
		switch {
		case r.Pass || !remote.IsValid() || remote.Bits() == 0 || !remote.Overlaps(lan):
		case covers(remote, lan):
			// A network that talks to itself is not what such a policy means.
			if !(covers(remote, r.Local) && covers(r.Local.Masked(), lan)) {
				return nil, false
			}
		case slices.Contains(kept, remote):
		case len(kept) == maxKept:
			return nil, false
		default:
			kept = append(kept, remote)
		}
	}
	return kept, true
}

// Routes are what stands in front of a route to everywhere, as routes of their
// own: what is kept, and what passes.
func (n Near) Routes(r Route) (out []Route) {
	for _, k := range n.Kept {
		x := r
		x.Remote = k
		out = append(out, x)
	}
	for _, net := range n.Nets {
		out = append(out, Route{Local: r.Local, Remote: net, Pass: true})
	}
	return out
}

// Around are those of them that are for packets which have a source address: all
// where the route is from everywhere, and the network that an address of the
// route is in. A leased address is in none, whatever the LAN says.
func (n Near) Around(p Plan, r Route) []Route {
	switch {
	case !r.Everywhere():
		return nil
	case r.Local.Bits() == 0:
		return n.Routes(r)
	case !r.Local.IsSingleIP() || p.Leased(r):
		return nil
	}
	home := Near{Kept: n.Kept}
	for _, net := range n.Nets {
		if net.Contains(r.Local.Addr()) {
			home.Nets = append(home.Nets, net)
		}
	}
	if len(home.Nets) == 0 {
		return nil
	}
	return home.Routes(r)
}

// Leased reports whether a route is from an address that a peer gave this host.
func (p Plan) Leased(r Route) bool {
	return slices.ContainsFunc(p.Addresses, func(a netip.Prefix) bool { return r.Local.Contains(a.Addr()) && r.Local.IsSingleIP() })
}
