package config

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// Changes is what a reload has to do. Comments, line numbers and the order of
// anything but policies are no change.
type Changes struct {
	Gateway  []string // keys of [gateway] whose value differs
	Restart  []string // those of them that a running gateway cannot take over
	Settings bool
	Trust    bool // what peers' certificates are checked against from now on
	Pools    bool // ranges or next-pool of any
	Users    bool // who there is, and with which password

	// Names, in the order of the new (Removed: the old) configuration. A peer
	// has changed when it, its profile or one of its identities has.
	PeersAdded, PeersChanged, PeersRemoved []string
	// PeersRedirected have another redirect than before, which concerns only newcomers.
	PeersRedirected []string

	// Kept maps a policy of the new configuration to the equal one of the old:
	// the same selectors, action, level, peer name, and identity and proposal with equal content.
	Kept                           map[*Policy]*Policy
	PoliciesAdded, PoliciesRemoved []*Policy
	// Reordered: policies that were kept stand in another order than before.
	Reordered bool
}

// Empty reports whether there is nothing to do.
func (c Changes) Empty() bool {
	return len(c.Gateway) == 0 && !c.Settings && !c.Trust && !c.Pools && !c.Users && len(c.PeersAdded)+len(c.PeersChanged)+len(c.PeersRemoved)+len(c.PeersRedirected) == 0 &&
		len(c.PoliciesAdded)+len(c.PoliciesRemoved) == 0 && !c.Reordered
}

// gatewayKeys are the keys of [gateway] for Diff. restart: sockets, devices and
// the marks on what is already in the system are set up once.
var gatewayKeys = []struct {
	name    string
	restart bool
	value   func(*Gateway) any
}{
	{"tun", true, func(g *Gateway) any { return g.Tun }},
	{"mtu", true, func(g *Gateway) any { return g.MTU }},
	{"listen", true, func(g *Gateway) any { return slices.Clone(g.Listen) }},
	{"port", true, func(g *Gateway) any { return g.Port }},
	{"natt-port", true, func(g *Gateway) any { return g.NATTPort }},
	{"encapsulation", true, func(g *Gateway) any { return g.Encapsulation }},
	{"guard", false, func(g *Gateway) any { return g.Guard }},
	{"guard-always", false, func(g *Gateway) any { return g.GuardAlways }},
	{"lan-bypass", false, func(g *Gateway) any { return g.LANBypass }},
	{"table", true, func(g *Gateway) any { return g.Table }},
	{"mark", true, func(g *Gateway) any { return g.Mark }},
	{"control", true, func(g *Gateway) any { return g.Control }},
	{"state-dir", true, func(g *Gateway) any { return g.StateDir }},
	{"df", true, func(g *Gateway) any { return g.DF }},
	{"clamp-mss", true, func(g *Gateway) any { return g.ClampMSS }},
	{"dscp", true, func(g *Gateway) any { return g.DSCP }},
	{"workers", true, func(g *Gateway) any { return g.Workers }},
	{"stranger-memory", false, func(g *Gateway) any { return g.StrangerMemory }},
	{"log-format", true, func(g *Gateway) any { return g.LogFormat }},
	{"log-level", false, func(g *Gateway) any { return g.LogLevel }},
}

// Diff tells what is different in next. Neither is changed.
func Diff(old, next *Config) Changes {
	c := Changes{Kept: map[*Policy]*Policy{}}
	for _, k := range gatewayKeys {
		if !reflect.DeepEqual(k.value(&old.Gateway), k.value(&next.Gateway)) {
			c.Gateway = append(c.Gateway, k.name)
			if k.restart {
				c.Restart = append(c.Restart, k.name)
			}
		}
	}
	a, b := old.Settings, next.Settings
	a.Entry, b.Entry = Entry{}, Entry{}
	c.Settings = !reflect.DeepEqual(a, b)
	c.Pools = !slices.EqualFunc(old.Pools, next.Pools, equalPools)
	c.Users = !slices.EqualFunc(old.Users, next.Users, equalUsers)
	c.Trust = diffTrust(old.Certificates, next.Certificates)
	diffPeers(&c, old.Peers, next.Peers)
	diffPolicies(&c, old.Policies, next.Policies)
	return c
}

func diffPeers(c *Changes, old, next []*Peer) {
	was := make(map[string]*Peer, len(old))
	for _, p := range old {
		was[p.Name] = p
	}
	is := make(map[string]bool, len(next))
	for _, p := range next {
		is[p.Name] = true
		if o := was[p.Name]; o == nil {
			c.PeersAdded = append(c.PeersAdded, p.Name)
		} else if !equalPeers(o, p) {
			c.PeersChanged = append(c.PeersChanged, p.Name)
		} else if !equalRedirects(o, p) {
			c.PeersRedirected = append(c.PeersRedirected, p.Name)
		}
	}
	for _, p := range old {
		if !is[p.Name] {
			c.PeersRemoved = append(c.PeersRemoved, p.Name)
		}
	}
}

func diffPolicies(c *Changes, old, next []*Policy) {
	// Invalid policies can have equal content, so there is a list for each.
	was := make(map[policyContent][]*Policy, len(old))
	for _, p := range old {
		k := contentOf(p)
		was[k] = append(was[k], p)
	}
	kept := make(map[*Policy]bool, len(old))
	last := -1
	for _, p := range next {
		k := contentOf(p)
		i := slices.IndexFunc(was[k], func(o *Policy) bool {
			return equalProposals(o.Proposal, p.Proposal) && sameIdentity(o.Identity, p.Identity)
		})
		if i < 0 {
			c.PoliciesAdded = append(c.PoliciesAdded, p)
			continue
		}
		o := was[k][i]
		was[k] = slices.Delete(was[k], i, i+1)
		c.Kept[p], kept[o] = o, true
		c.Reordered = c.Reordered || o.Index < last
		last = o.Index
	}
	for _, p := range old {
		if !kept[p] {
			c.PoliciesRemoved = append(c.PoliciesRemoved, p)
		}
	}
}

// policyContent is a policy without its place and its proposal's content.
type policyContent struct {
	action                      Action
	src, dst                    netip.Prefix
	saSrc, saDst                netip.Addr
	srcPort, dstPort            Port
	protocol                    Protocol
	level                       Level
	group, peer, proposal       string
	ipsecProtocols              string
	template, tunnel, anyMode   bool
	invalid, disabled, standing bool
}

func contentOf(p *Policy) policyContent {
	return policyContent{
		action: p.Action, src: p.SrcAddress, dst: p.DstAddress, saSrc: p.SASrcAddress, saDst: p.SADstAddress, srcPort: p.SrcPort, dstPort: p.DstPort,
		protocol: p.Protocol, level: p.Level, group: p.Group, peer: p.PeerName, proposal: p.ProposalName,
		ipsecProtocols: strings.Join(p.IPsecProtocols, ","), template: p.Template, tunnel: p.Tunnel, anyMode: p.AnyMode,
		invalid: p.Invalid, disabled: p.Disabled, standing: p.Default,
	}
}

// bare is what of an entry makes a difference to a running gateway.
func (e Entry) bare() Entry { return Entry{Name: e.Name, Disabled: e.Disabled} }

func equalProposals(a, b *Proposal) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Entry, y.Entry = a.bare(), b.bare()
	return reflect.DeepEqual(x, y)
}

func equalProfiles(a, b *Profile) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Entry, y.Entry = a.bare(), b.bare()
	return reflect.DeepEqual(x, y)
}

// sameIdentity compares whom two policies are for. A name is only what a policy finds
// its identity by: to give one, or another, changes nothing.
func sameIdentity(a, b *Identity) bool {
	if a == nil || b == nil {
		return a == b
	}
	return equalIdentities(a, b)
}

func equalIdentities(a, b *Identity) bool {
	x, y := *a, *b
	x.Entry, y.Entry = Entry{Disabled: a.Disabled}, Entry{Disabled: b.Disabled}
	x.Peer, y.Peer = nil, nil
	x.Secret, y.Secret, x.PPKSecret, y.PPKSecret, x.Password, y.Password = nil, nil, nil, nil, nil, nil
	x.Mode, y.Mode = nil, nil
	x.Redirect, y.Redirect = Host{}, Host{}
	x.Certificate, y.Certificate, x.RemoteCertificate, y.RemoteCertificate = nil, nil, nil, nil
	x.Key, y.Key, x.RemoteKey, y.RemoteKey = nil, nil, nil, nil
	return reflect.DeepEqual(x, y) && a.Secret.Equal(b.Secret) && a.PPKSecret.Equal(b.PPKSecret) && a.Password.Equal(b.Password) && equalModes(a.Mode, b.Mode) &&
		equalCertificates(a.Certificate, b.Certificate) && equalCertificates(a.RemoteCertificate, b.RemoteCertificate) &&
		equalKeys(a.Key, b.Key) && equalKeys(a.RemoteKey, b.RemoteKey)
}

func equalUsers(a, b *User) bool {
	return a.Name == b.Name && a.Disabled == b.Disabled && a.Password.Equal(b.Password)
}

func equalPeers(a, b *Peer) bool {
	x, y := *a, *b
	x.Entry, y.Entry = a.bare(), b.bare()
	x.Profile, y.Profile = nil, nil
	x.Identities, y.Identities = nil, nil
	x.Redirect, y.Redirect, x.RedirectAbove, y.RedirectAbove = Host{}, Host{}, 0, 0
	return reflect.DeepEqual(x, y) && equalProfiles(a.Profile, b.Profile) &&
		slices.EqualFunc(a.Identities, b.Identities, equalIdentities)
}

// equalRedirects compares where newcomers of two equal peers go.
func equalRedirects(a, b *Peer) bool {
	return a.Redirect == b.Redirect && a.RedirectAbove == b.RedirectAbove &&
		slices.EqualFunc(a.Identities, b.Identities, func(i, j *Identity) bool { return i.Redirect == j.Redirect })
}
