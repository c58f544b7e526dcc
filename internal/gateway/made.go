package gateway

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/spd"
	"culvert/tun"
)

// What a plane has that was made at run time: policies from templates, and the
// addresses that peers gave us.

type madePolicy struct {
	core.AddPolicy
	serial uint64 // of its making
}

// madeThings belong to the plane.
type madeThings struct {
	policies map[core.PolicyRef]madePolicy
	addrs    map[core.SAID]core.Configured
	serial   uint64
}

// addPolicy puts a policy in force where its template stands. One whose template
// has gone is about to be dropped.
func (p *Plane) addPolicy(out core.AddPolicy) {
	p.made.serial++
	m := madePolicy{out, p.made.serial}
	if p.made.policies == nil {
		p.made.policies = map[core.PolicyRef]madePolicy{}
	}
	was, again := p.made.policies[out.Ref]
	p.made.policies[out.Ref] = m
	t := p.templates[out.Template]
	if t == nil {
		return
	}
	p.policies.Put(m.rows(t))
	p.replan = p.replan || m.needsRoutes(t) || again && was.needsRoutes(t)
}

func (p *Plane) dropPolicy(ref core.PolicyRef) {
	m, ok := p.made.policies[ref]
	if !ok {
		return
	}
	delete(p.made.policies, ref)
	p.policies.Drop(uint32(ref))
	if t := p.templates[m.Template]; t == nil || m.needsRoutes(t) {
		p.replan = true
	}
}

// rows is the policy as the database has it.
func (m madePolicy) rows(t *compile.Template) spd.Made {
	made := spd.Made{Place: t.Place}
	for _, pair := range m.Pairs {
		made.Rows = append(made.Rows, spd.Policy{Ref: uint32(m.Ref), Pair: pair, Action: spd.Encrypt, Level: t.Level, Tunnel: m.Tunnel})
	}
	return made
}

// needsRoutes reports whether its traffic has to be led to the device by routes of its own.
func (m madePolicy) needsRoutes(t *compile.Template) bool {
	for _, pair := range m.Pairs {
		if !t.LeadsTo(pair) {
			return true
		}
	}
	return false
}

// madeInOrder lists the policies in the order of their making.
func (p *Plane) madeInOrder() []madePolicy {
	return slices.SortedFunc(maps.Values(p.made.policies), func(a, b madePolicy) int { return cmp.Compare(a.serial, b.serial) })
}

// placed are the made policies for a whole new table.
func (p *Plane) placed(templates map[core.PolicyRef]*compile.Template) (list []spd.Made) {
	for _, m := range p.madeInOrder() {
		if t := templates[m.Template]; t != nil {
			list = append(list, m.rows(t))
		}
	}
	return list
}

func (p *Plane) configured(out core.Configured) {
	if p.made.addrs == nil {
		p.made.addrs = map[core.SAID]core.Configured{}
	}
	p.made.addrs[out.Holder] = out
	p.replan = true
}

func (p *Plane) unconfigured(holder core.SAID) {
	if _, ok := p.made.addrs[holder]; ok {
		delete(p.made.addrs, holder)
		p.replan = true
	}
}

// connected reports whether a peer has given this host an address.
func (p *Plane) connected(peer string) bool {
	for _, c := range p.made.addrs {
		if c.Peer == peer {
			return true
		}
	}
	return false
}

// Plan is the wanted state of the host under a configuration and what was made
// at run time.
func (p *Plane) Plan(c *compile.Result) tun.Plan {
	plan := c.Plan(p.Has)
	if len(p.made.policies) == 0 && len(p.made.addrs) == 0 && len(p.tenants) == 0 {
		return plan
	}
	of := map[*compile.Template][]tun.Route{}
	for _, m := range p.madeInOrder() {
		t := c.Templates[m.Template]
		if t == nil {
			continue
		}
		for _, pair := range m.Pairs {
			if t.LeadsTo(pair) {
				continue
			}
			if p.several(m.Ref) {
				pair.Remote.PortLo, pair.Remote.PortHi = 0, 65535
			}
			of[t] = append(of[t], compile.RoutesOf(pair)...)
		}
	}
	plan.Routes = c.Routes(p.Has, of, p.several)
	for _, holder := range slices.Sorted(maps.Keys(p.made.addrs)) {
		for _, a := range p.made.addrs[holder].Addrs {
			if whole := netip.PrefixFrom(a, a.BitLen()); !slices.Contains(plan.Addresses, whole) {
				plan.Addresses = append(plan.Addresses, whole)
			}
		}
	}
	return plan
}
