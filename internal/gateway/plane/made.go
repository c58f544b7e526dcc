package plane

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

// What is made at run time: policies from templates, and
// addresses that peers gave us.

// MadePolicy is a policy made from a template. It lives until the endpoint drops it.
type MadePolicy struct {
	core.AddPolicy
	serial uint64 // of its making
}

// madeThings belong to the plane.
type madeThings struct {
	Policies map[core.PolicyRef]MadePolicy
	addrs    map[core.SAID]core.Configured
	serial   uint64
}

// addPolicy puts a policy in force where its template stands. One whose template
// has gone is about to be dropped.
func (p *Plane) addPolicy(out core.AddPolicy) {
	p.Made.serial++
	m := MadePolicy{out, p.Made.serial}
	if p.Made.Policies == nil {
		p.Made.Policies = map[core.PolicyRef]MadePolicy{}
	}
	was, again := p.Made.Policies[out.Ref]
	p.Made.Policies[out.Ref] = m
	t := p.Templates[out.Template]
	if t == nil {
		return
	}
	p.Policies.Put(m.rows(t))
	if m.needsRoutes(t) {
		p.lack()
	} else if again && was.needsRoutes(t) {
		p.Replan = true
	}
}

func (p *Plane) dropPolicy(ref core.PolicyRef) {
	m, ok := p.Made.Policies[ref]
	if !ok {
		return
	}
	delete(p.Made.Policies, ref)
	p.Policies.Drop(uint32(ref))
	if t := p.Templates[m.Template]; t == nil || m.needsRoutes(t) {
		p.Replan = true
	}
}

// rows is the policy as the database has it.
func (m MadePolicy) rows(t *compile.Template) spd.Made {
	made := spd.Made{Place: t.Place}
	for _, pair := range m.Pairs {
		made.Rows = append(made.Rows, spd.Policy{Ref: uint32(m.Ref), Pair: pair, Action: spd.Encrypt, Level: t.Level, Tunnel: m.Tunnel})
	}
	return made
}

// needsRoutes reports whether its traffic needs routes of its own to the device.
func (m MadePolicy) needsRoutes(t *compile.Template) bool {
	for _, pair := range m.Pairs {
		if !t.LeadsTo(pair) {
			return true
		}
	}
	return false
}

// MadeInOrder lists the policies in the order in which they were made.
func (p *Plane) MadeInOrder() []MadePolicy {
	return slices.SortedFunc(maps.Values(p.Made.Policies), func(a, b MadePolicy) int { return cmp.Compare(a.serial, b.serial) })
}

// placed are the made policies for a whole new table.
func (p *Plane) placed(templates map[core.PolicyRef]*compile.Template) (list []spd.Made) {
	for _, m := range p.MadeInOrder() {
		if t := templates[m.Template]; t != nil {
			list = append(list, m.rows(t))
		}
	}
	return list
}

func (p *Plane) configured(out core.Configured) {
	if p.Made.addrs == nil {
		p.Made.addrs = map[core.SAID]core.Configured{}
	}
	p.Made.addrs[out.Holder] = out
	p.lack()
}

func (p *Plane) unconfigured(holder core.SAID) {
	if _, ok := p.Made.addrs[holder]; ok {
		delete(p.Made.addrs, holder)
		p.Replan = true
	}
}

// Connected reports whether a peer has given this host an address.
func (p *Plane) Connected(peer string) bool {
	for _, c := range p.Made.addrs {
		if c.Peer == peer {
			return true
		}
	}
	return false
}

// Plan is the wanted state of the host under a configuration and what was made
// at run time.
func (p *Plane) Plan(c *compile.Result) tun.Plan {
	plan := c.Plan(p.leads)
	if len(p.Made.Policies) == 0 && len(p.Made.addrs) == 0 && len(p.Clients) == 0 {
		return plan
	}
	of := map[*compile.Template][]tun.Route{}
	for _, m := range p.MadeInOrder() {
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
	plan.Routes = c.Routes(p.leads, of, p.several)
	for _, holder := range slices.Sorted(maps.Keys(p.Made.addrs)) {
		for _, a := range p.Made.addrs[holder].Addrs {
			if whole := netip.PrefixFrom(a, a.BitLen()); !slices.Contains(plan.Addresses, whole) {
				plan.Addresses = append(plan.Addresses, whole)
			}
		}
	}
	return plan
}
