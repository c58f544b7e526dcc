package sa

import (
	"net/netip"
	"slices"

	"culvert/ike/core"
	"culvert/spd/selector"
)

// Mode config, whatever payload a version of IKE says it in (RFC 7296 §2.19; in IKEv1
// draft-dukes-ike-mode-cfg): what we ask for, what of the peer's answer is kept, and what a
// peer is given.

// Bounds on what of a peer's answer is kept.
const (
	MaxDNS     = 8
	MaxSubnets = 64
)

// ConfigRequest is what one end asks the other for.
type ConfigRequest struct {
	V4, V6     bool // an address of that family
	DNS4, DNS6 bool // servers that have an address of that family
	Netmask    bool // of the IPv4 address
	// Wishes are the addresses that the peer would like to have, at most one of each family:
	// it had them before, perhaps from another gateway.
	Wishes []netip.Addr
}

// AskedFor is what we ask for together with the CHILD SA of a policy: what that can use.
// nil: the CHILD SA is made later, or there is none.
func AskedFor(sa *SA, p *core.Policy) ConfigRequest {
	if p == nil && len(sa.Wanted) > 0 {
		p = sa.Wanted[0]
	}
	v4, v6 := true, true
	if p != nil {
		local, _ := p.Selectors()
		v4 = slices.ContainsFunc(local, func(t selector.TS) bool { return t.Lo.Is4() })
		v6 = slices.ContainsFunc(local, func(t selector.TS) bool { return t.Lo.Is6() })
	}
	return ConfigRequest{V4: v4, V6: v6, DNS4: v4, DNS6: v6, Netmask: v4}
}

// NewLease is a lease from the peer, to which what it gives is added. What cannot be, and
// what is more than the bounds allow, is passed over.
func NewLease(sa *SA) *Lease { return &Lease{Holder: sa.ID, Asked: true} }

// AddAddr adds an inner address, the first one of each family.
func (l *Lease) AddAddr(a netip.Addr) {
	taken := slices.ContainsFunc(l.Addrs, func(b netip.Addr) bool { return b.BitLen() == a.BitLen() })
	if !taken && a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() {
		l.Addrs = append(l.Addrs, a)
	}
}

// AddDNS adds a DNS server.
func (l *Lease) AddDNS(a netip.Addr) {
	if a.IsValid() && !a.IsUnspecified() && len(l.DNS) < MaxDNS {
		l.DNS = append(l.DNS, a)
	}
}

// AddSubnet adds a network that is reached through the peer.
func (l *Lease) AddSubnet(p netip.Prefix) {
	if p.IsValid() && len(l.Subnets) < MaxSubnets && !slices.Contains(l.Subnets, p.Masked()) {
		l.Subnets = append(l.Subnets, p.Masked())
	}
}

// TakeLease keeps what the peer gave. The error is a *Refusal: it gave no address.
func TakeLease(sa *SA, l *Lease) error {
	if len(l.Addrs) == 0 {
		return Refuse(NoAddress, "the peer gave no address: give it a mode-config that does, or take mode-config out of the identity here")
	}
	sa.Lease = l
	return nil
}

// ConfigReply is what a peer is given.
type ConfigReply struct {
	Addrs    []netip.Addr
	Bits     int            // length of the prefix that is told with an address; 0: all of it
	Netmask  bool           // the mask of an IPv4 address is told
	DNS      []netip.Addr   // of the families that the peer asked for
	Networks []netip.Prefix // that are reached through us; also to a peer that did not ask: most can use them
}

// Given is what the peer gets by a mode-config, once its lease is there.
func Given(sa *SA, m *core.ModeConfig, asked ConfigRequest) ConfigReply {
	r := ConfigReply{Bits: m.Prefix, Netmask: asked.Netmask || m.Prefix > 0, Networks: m.Split}
	dns := slices.Clone(m.DNS)
	if l := sa.Lease; l != nil {
		r.Addrs, dns = l.Addrs, append(dns, l.DNS...)
	}
	for _, a := range dns {
		if a.Is4() && asked.DNS4 || a.Is6() && asked.DNS6 {
			r.DNS = append(r.DNS, a)
		}
	}
	return r
}

// LeaseProven is for the protocol, once the peer has proved who it is; mine: we began. What it
// gave us is used from now on.
func LeaseProven(sa *SA, mine bool) {
	switch l := sa.Lease; {
	case mine && l.Leased():
		sa.Env.Emit(core.Configured{Holder: l.Holder, Peer: sa.Peer.Name, Addrs: l.Addrs, DNS: l.DNS})
		sa.Event(core.EvLeased, "the peer gave us %v, DNS servers %v, networks %v", l.Addrs, l.DNS, l.Subnets)
	case mine && sa.Mode(false) != nil && sa.Identity.Generate != core.GenerateNo:
		sa.Env.After(0, func() { sa.Delete("the peer gave no address") })
	case l != nil && !mine:
		sa.Event(core.EvLeased, "%s has %v", sa.PeerID, l.Addrs)
	}
}
