package compile

import (
	"net/netip"
	"slices"

	"culvert/config"
	"culvert/ike/core"
	"culvert/spd"
	"culvert/spd/selector"
	"culvert/tun"
)

// What mode-config, pools and templates are to the planes.

// templateKey is the content of a template, as policyKey is that of a policy.
type templateKey struct {
	src, dst netip.Prefix
	protocol config.Protocol
	group    string
	level    config.Level
	proposal *core.Proposal

	tunnel, transport, ah bool
}

// Template is where the policies made from a template stand, and what they are.
type Template struct {
	core  *core.Template
	Row   *config.Policy
	Place spd.Place
	Level spd.Level
	// given are the addresses that its road warriors get from us. What is for
	// them is led to the device whether they are there or not.
	given []netip.Prefix
}

func (n *Result) template(p *config.Policy, prev *Result) {
	proposal := n.proposal(p.Proposal, prev)
	if p.Disabled {
		return
	}
	if proposal == nil {
		n.fault(&p.Entry, "policy", "proposal", "there is no [[proposal]] %q in force, name another one, or disable the template", p.ProposalName)
		return
	}
	key := templateKey{p.SrcAddress, p.DstAddress, p.Protocol, p.Group, p.Level, proposal,
		p.Tunnel || p.AnyMode, !p.Tunnel || p.AnyMode, slices.Contains(p.IPsecProtocols, "ah")}
	if first := n.templateRefs[key]; first != 0 { // never the first to fit
		if o := n.Templates[first].Row; o.File != "" && p.File != "" {
			n.Warnings = append(n.Warnings, config.Warning(p.Fault("policy", "template", "is the same as the template at %s, which comes first, remove one of the two", o.Place(""))))
		}
		return
	}
	ref, kept := prev.templateRefs[key]
	if !kept {
		n.lastTemplate++
		ref = core.FirstTemplate + n.lastTemplate
	}
	n.templateRefs[key] = ref
	t := &Template{Row: p, Level: levels[p.Level], Place: spd.Place{Before: len(n.Policies), Slot: len(n.Templates)}}
	t.core = &core.Template{
		Ref: ref, Index: p.Index, Group: p.Group, Local: p.SrcAddress, Remote: p.DstAddress, Proto: uint8(p.Protocol),
		Tunnel: key.tunnel, Transport: key.transport, Unique: p.Level == config.Unique, Protocol: core.ProtoESP, Proposal: *proposal,
	}
	if key.ah {
		t.core.Protocol = core.ProtoAH
	}
	n.Templates[ref] = t
	n.where[t.core], n.where[&t.core.Proposal] = &p.Entry, &p.Proposal.Entry
	n.IKE.Templates = append(n.IKE.Templates, t.core)
	n.routes = append(n.routes, route{template: t})
}

// groupsInUse are the groups whose templates somebody makes policies from.
func groupsInUse(identities []*config.Identity) map[string]bool {
	used := map[string]bool{}
	for _, i := range identities {
		if !i.Disabled && i.Generates() {
			used[i.PolicyTemplateGroup] = true
		}
	}
	return used
}

// giveTo notes which addresses the road warriors of each template get.
func (n *Result) giveTo(identities []*config.Identity) {
	for _, i := range identities {
		if i.Disabled || !i.Generates() || i.Mode == nil || !i.Mode.Responder {
			continue
		}
		for _, t := range n.Templates {
			if t.core.Group == i.PolicyTemplateGroup {
				t.give(addressesOf(i.Mode))
			}
		}
	}
}

// give adds to the addresses what the template allows of them.
func (t *Template) give(list []netip.Prefix) {
	for _, pair := range t.core.Pairs() {
		for _, p := range list {
			if both, ok := selector.Intersect(pair.Remote, selector.FromPrefix(p)); ok {
				t.given = append(t.given, both.Prefixes()...)
			}
		}
	}
}

// addressesOf is all that a mode-config can give.
func addressesOf(m *config.ModeConfig) (list []netip.Prefix) {
	if m.Address.IsValid() {
		return []netip.Prefix{netip.PrefixFrom(m.Address, m.Address.BitLen())}
	}
	for p := m.Pool; p != nil; p = p.Next {
		for _, r := range p.Ranges {
			list = append(list, selector.TS{Lo: r.From, Hi: r.To, PortHi: 65535}.Prefixes()...)
		}
	}
	return list
}

// LeadsTo reports whether the routes of a template's given addresses lead there already.
func (t *Template) LeadsTo(pair selector.Pair) bool {
	for _, g := range t.given {
		if selector.FromPrefix(g).Covers(selector.TS{Lo: pair.Remote.Lo, Hi: pair.Remote.Hi, PortHi: 65535}) {
			return true
		}
	}
	return false
}

// routesTo are the routes of the given addresses.
func (t *Template) routesTo() (routes []tun.Route) {
	for _, pair := range t.core.Pairs() {
		for _, local := range pair.Local.Prefixes() {
			for _, g := range t.given {
				if g.Addr().BitLen() == local.Addr().BitLen() {
					routes = append(routes, tun.Route{Local: local, Remote: g, Proto: t.core.Proto})
				}
			}
		}
	}
	return routes
}

// maxMadeRoutes bounds the routes of one pair of selectors that are no prefixes.
const maxMadeRoutes = 64

// RoutesOf are the routes of a pair.
func RoutesOf(pair selector.Pair) (routes []tun.Route) {
	port := func(t selector.TS) uint16 {
		if t.PortLo == t.PortHi && !selector.Typed(t.Proto) {
			return t.PortLo
		}
		return 0
	}
	for _, l := range pair.Local.Prefixes() {
		for _, r := range pair.Remote.Prefixes() {
			if len(routes) == maxMadeRoutes {
				return routes
			}
			routes = append(routes, tun.Route{Local: l, Remote: r, Proto: pair.Local.Proto, LocalPort: port(pair.Local), RemotePort: port(pair.Remote)})
		}
	}
	return routes
}

var generates = map[string]core.Generate{
	config.GenerateNo: core.GenerateNo, config.GenerateStrict: core.GenerateStrict, config.GenerateOverride: core.GenerateOverride,
}

// coreModes adds to the identities what mode-config and generate-policy say.
func coreModes(is []*core.Identity, from []*config.Identity) {
	for i, id := range from {
		if id.Generates() {
			is[i].Generate, is[i].Group = generates[id.GeneratePolicy], id.PolicyTemplateGroup
		}
		if m := id.Mode; m != nil {
			is[i].Mode = &core.ModeConfig{Name: m.Name, Responder: m.Responder, Pool: m.AddressPool, Address: m.Address,
				Prefix: m.AddressPrefixLength, Split: m.SplitInclude, DNS: m.StaticDNS, SystemDNS: m.SystemDNS}
		}
	}
}

// GivesAddresses reports whether anybody gets an address from us, so that it has to be
// remembered who.
func GivesAddresses(c *config.Config) bool {
	for _, i := range c.Identities {
		if !i.Disabled && i.Mode != nil && i.Mode.Responder {
			return true
		}
	}
	return false
}
