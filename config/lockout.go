package config

import (
	"fmt"
	"net/netip"
)

// A policy whose two ends are both here takes the host's own network away from it: the
// answers to whoever works on this host from there are encrypted for a peer, or dropped.
// What can be told from the file alone is a fault of the file (checkEnds, ownAddresses);
// in which networks the host is only the host knows (Lockouts).

// OwnNetwork is an address of this host and the network that it is in.
type OwnNetwork struct {
	Addr   netip.Addr
	Prefix netip.Prefix // masked; a single address where there is no network
	Where  string       // the interface, or the key that says so
}

// admits reports whether an administrator's connection can be among what the policy
// takes: it can if nothing but TCP or addresses decides.
func (p *Policy) admits() bool {
	return p.Protocol == 0 || p.Protocol == protocolTCP && !p.SrcPort.Exact && !p.DstPort.Exact
}

const protocolTCP = 6

// checkEnds refuses a policy from a network to itself. From everywhere to everywhere
// is a full tunnel, and lan-bypass says whether private networks on the links pass by it.
func (l *loader) checkEnds(p *Policy) {
	same := p.SrcAddress == p.DstAddress && p.SrcAddress.Bits() > 0
	if same && (p.Action == Encrypt || p.Action == Discard && p.admits()) {
		l.faultAt(&p.Entry, "policy", "dst-address", "%s is src-address too, and hosts there could no longer reach each other or this gateway, "+
			"write the network of the other side", p.DstAddress)
	}
}

// ownAddresses are the addresses of this host that the file names.
func (c *Config) ownAddresses() (own []OwnNetwork) {
	add := func(a netip.Addr, where string) {
		if a.IsValid() && !a.IsUnspecified() {
			own = append(own, OwnNetwork{a, netip.PrefixFrom(a, a.BitLen()), where})
		}
	}
	for _, a := range c.Gateway.Listen {
		add(a, "listen in [gateway]")
	}
	for _, p := range c.Peers {
		if !p.Disabled {
			add(p.LocalAddress, fmt.Sprintf("local-address of [[peer]] %q", p.Name))
		}
	}
	return own
}

// Lockouts are faults of policies that would take networks of this host away from it.
// A policy with action "none" above them lets a network be.
func (c *Config) Lockouts(own []OwnNetwork) (faults Faults) {
	for i, p := range c.Policies {
		// checkEnds has judged those whose ends are the same.
		if !p.Works() || p.Action == None || !p.admits() || p.SrcAddress == p.DstAddress {
			continue
		}
		told := map[netip.Prefix]bool{}
		for _, n := range own {
			if why := p.takes(n); why != "" && !told[n.Prefix] && !passes(c.Policies[:i], n) {
				told[n.Prefix] = true
				at := p.at("dst-address")
				faults = append(faults, Fault{at.file, at.line, "policy.dst-address", why})
			}
		}
	}
	return faults
}

// takes says why a network of this host would be lost to it; empty: it is not.
func (p *Policy) takes(n OwnNetwork) string {
	const what = "and hosts there could no longer reach it, write the network of the other side, " +
		"or put a [[policy]] above it with action = \"none\", src-address = \"%[2]s\" and dst-address = \"%[2]s\""
	src, dst := p.SrcAddress, p.DstAddress
	switch {
	case dst.IsSingleIP() && dst.Addr() == n.Addr:
		return fmt.Sprintf("%s is an address of this host (%s), write the network of the other side", dst, n.Where)
	case n.Prefix.IsSingleIP():
	case dst == n.Prefix:
		return fmt.Sprintf("%[1]s is the network of this host's %[3]s, "+what, dst, n.Prefix, n.Where)
	case dst.Bits() == 0 || !within(n.Prefix, dst) || !src.Contains(n.Addr):
	case within(src, dst) && within(n.Prefix, src):
		// The network talks to itself, and the policy is for everybody else.
	default:
		return fmt.Sprintf("%[1]s contains %[2]s, the network of this host's %[3]s, "+what, dst, n.Prefix, n.Where)
	}
	return ""
}

// passes reports whether one of the policies lets a network talk to this host in clear.
func passes(policies []*Policy, n OwnNetwork) bool {
	for _, p := range policies {
		if p.Works() && p.Action == None && p.Protocol == 0 && p.SrcAddress.Contains(n.Addr) && within(n.Prefix, p.DstAddress) {
			return true
		}
	}
	return false
}

// within reports whether all of inner is in outer.
func within(inner, outer netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}
