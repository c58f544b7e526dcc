package ike

import (
	"fmt"
	"net/netip"
	"slices"

	"culvert/ike/core"
	ikesa "culvert/ike/sa"
	"culvert/spd/selector"
)

// Policies made at run time (generate-policy): each lives as long as a CHILD SA
// uses it.

// policies are all of them.
type policies struct {
	env      *core.Env
	others   *siblings
	dials    map[string]*core.Policy // of peers that give us our policies, by name
	made     map[core.PolicyRef]*made
	madeBy   map[string]core.PolicyRef // by selectors
	claims   claims                    // by remote address
	lastMade core.PolicyRef
}

// made is one of them, in force.
type made struct {
	policy   *core.Policy // nil: of none yet
	key      string
	children int
	newest   core.ChildID
}

// madeKey is the selectors of a policy; two policies with one key would stand
// for the same packets.
func madeKey(p *core.Policy) string { return fmt.Sprint(p.Made.Local, p.Made.Remote) }

// madeOwner is a client, or a peer that we dialed.
func madeOwner(sa *ikesa.SA, p *core.Policy) string {
	if p.Made.Dialed != nil {
		return p.Peer.Name
	}
	return sa.Client()
}

// claims finds the made policies whose remote end has an address: those whose remote
// ends are single addresses by these, and all others. There may be one for each road warrior.
type claims struct {
	hosts map[netip.Addr][]*made
	nets  []*made
}

func (c *claims) add(m *made) {
	for _, a := range m.remotes() {
		if !a.IsValid() {
			c.nets = append(c.nets, m)
			return
		}
	}
	if c.hosts == nil {
		c.hosts = map[netip.Addr][]*made{}
	}
	for _, a := range m.remotes() {
		c.hosts[a] = append(c.hosts[a], m)
	}
}

func (c *claims) remove(m *made) {
	is := func(o *made) bool { return o == m }
	c.nets = slices.DeleteFunc(c.nets, is)
	for _, a := range m.remotes() {
		if list := slices.DeleteFunc(c.hosts[a], is); len(list) > 0 {
			c.hosts[a] = list
		} else {
			delete(c.hosts, a)
		}
	}
}

// remotes are the single addresses of the remote end, each once; invalid ones stand for others.
func (m *made) remotes() (list []netip.Addr) {
	for _, t := range m.policy.Made.Remote {
		a := netip.Addr{}
		if t.Lo == t.Hi {
			a = t.Lo
		}
		if !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// near are the policies that may have packets of p.
func (c *claims) near(p *core.Policy, yield func(*made) bool) {
	for _, m := range c.nets {
		if !yield(m) {
			return
		}
	}
	for _, t := range p.Made.Remote {
		if t.Lo == t.Hi {
			for _, m := range c.hosts[t.Lo] {
				if !yield(m) {
					return
				}
			}
			continue
		}
		for a, list := range c.hosts {
			for _, m := range list {
				if t.Lo.Compare(a) <= 0 && a.Compare(t.Hi) <= 0 && !yield(m) {
					return
				}
			}
		}
	}
}

// Taken is of ikesa.Policies: it says which policy of another peer stands for some of the packets
// of p, unless both may have them. What we dialed is ours, and an address that was given is
// the peer's to whom it was given.
func (g *policies) Taken(sa *ikesa.SA, p *core.Policy) string {
	if p.Made.Dialed != nil || sa.Lease.Given() {
		return ""
	}
	var by *core.Policy
	owner := madeOwner(sa, p)
	g.claims.near(p, func(m *made) bool {
		o := m.policy
		if o.Made.Owner == owner || o.Made.Dialed != nil || sa.Has(o.Ref) || together(o, p) || !selector.Overlap(o.Pairs(), p.Pairs()) {
			return true
		}
		if by == nil || o.Ref < by.Ref { // whatever the order of a map is
			by = o
		}
		return true
	})
	if by == nil {
		return ""
	}
	g.contest(sa, by)
	return fmt.Sprintf("another peer has a policy for %v%s", by.Pairs(), instead(by, p))
}

// together reports whether two clients may have a and b, which have packets in common:
// at level unique, between the same addresses.
func together(a, b *core.Policy) bool {
	return shared(a, b) && !slices.ContainsFunc(a.Made.Remote, func(x selector.TS) bool {
		return slices.ContainsFunc(b.Made.Remote, func(y selector.TS) bool {
			_, meet := selector.Intersect(x, y)
			return meet && (x.Lo != y.Lo || x.Hi != y.Hi)
		})
	})
}

// Generate is of ikesa.Policies. Of the same peer, a policy with the same selectors is the same policy: one that connects anew
// shares it with what is left of before. Of two peers only one can have it, or a part of it, unless it is of level unique: then
// it is one policy for both, and their flows are kept apart.
func (g *policies) Generate(sa *ikesa.SA, p core.Policy) (*core.Policy, error) {
	key, owner := madeKey(&p), madeOwner(sa, &p)
	if taken := g.Taken(sa, &p); taken != "" {
		return nil, ikesa.Refuse(ikesa.BadSelectors, "%s", taken)
	}
	if m := g.made[g.madeBy[key]]; m != nil {
		if m.policy.Made.Owner != owner && !shared(m.policy, &p) {
			g.contest(sa, m.policy)
			return nil, ikesa.Refuse(ikesa.BadSelectors, "another peer has a policy for %v%s", m.policy.Pairs(), instead(m.policy, &p))
		}
		if m.policy.Made.Template == p.Made.Template && m.policy.Tunnel == p.Tunnel && (p.Ref == 0 || p.Ref == m.policy.Ref) {
			return m.policy, nil
		}
	}
	if p.Ref == 0 {
		g.lastMade++
		p.Ref = core.FirstMade + g.lastMade
	}
	p.Made.Owner = owner
	return &p, nil
}

// contest asks who has a policy whether it is there, where that may be the peer of sa
// itself, which has lost it: the next time it gets the policy.
func (g *policies) contest(sa *ikesa.SA, p *core.Policy) {
	for _, s := range g.others.Namesakes(sa) {
		has := slices.ContainsFunc(s.Children, func(c *ikesa.Child) bool { return c.Policy == p })
		if has && sa.Claims(s) {
			s.Contest(fmt.Sprintf("%s asks from %v for the policy that this one has", sa.PeerID, sa.Remote), func(bool) {})
		}
	}
}

// shared reports whether one policy may serve two clients.
func shared(a, b *core.Policy) bool {
	return a.Unique && b.Unique && a.Made.Template == b.Made.Template && a.Peer == b.Peer && a.Tunnel == b.Tunnel && a.Made.Dialed == nil && b.Made.Dialed == nil
}

func sameRemotes(a, b *core.Policy) bool {
	return slices.EqualFunc(a.Made.Remote, b.Made.Remote, func(x, y selector.TS) bool { return x.Lo == y.Lo && x.Hi == y.Hi })
}

// instead tells people how two peers can come to the same selectors, and what to do.
func instead(there, p *core.Policy) string {
	why := ", where both have the same network"
	if p.Tunnel && !sameRemotes(there, p) {
		return ", of which this is a part, or around which it is: let each peer ask for its own network alone"
	}
	if !p.Tunnel {
		why = ", and in transport mode the traffic of two behind the same NAT has the same addresses"
	}
	switch {
	case there.Peer != p.Peer || there.Made.Template != p.Made.Template || there.Tunnel != p.Tunnel:
		return why + ": let them be clients of one [[peer]] by one template with level = \"unique\""
	case !p.Unique:
		return why + ": give the template level = \"unique\""
	}
	return why
}

// Use is of ikesa.Policies.
func (g *policies) Use(p *core.Policy) {
	if p.Made == nil {
		return
	}
	m := g.made[p.Ref]
	if m == nil {
		m = &made{}
		g.made[p.Ref] = m
	}
	if m.policy == p {
		return
	}
	if g.madeBy[m.key] == p.Ref {
		delete(g.madeBy, m.key)
	}
	if m.policy != nil {
		g.claims.remove(m)
	}
	m.policy, m.key = p, madeKey(p)
	g.madeBy[m.key] = p.Ref
	g.claims.add(m)
	g.env.Emit(core.AddPolicy{Ref: p.Ref, Template: p.Made.Template, Peer: p.Peer.Name, Pairs: p.Pairs(), Tunnel: p.Tunnel})
}

// unused drops a policy that has lost its last CHILD SA.
func (g *policies) unused(p *core.Policy) {
	m := g.made[p.Ref]
	if m == nil || m.children > 0 {
		return
	}
	delete(g.made, p.Ref)
	g.claims.remove(m)
	if g.madeBy[m.key] == p.Ref {
		delete(g.madeBy, m.key)
	}
	g.env.Emit(core.DropPolicy{Ref: p.Ref})
}

// dial lists what initiators that get their policies from the peer ask for; one
// that is as it was keeps its Ref.
func (g *policies) dial(cfg *core.Config) (list []*core.Policy) {
	was := g.dials
	g.dials = map[string]*core.Policy{}
	for _, peer := range cfg.Peers {
		p := cfg.Dial(peer)
		if p == nil {
			continue
		}
		old := was[peer.Name]
		switch {
		case old == nil || old.Made.Template != p.Made.Template:
			g.lastMade++
			p.Ref = core.FirstMade + g.lastMade
		case old.Peer == peer:
			p = old
		default:
			p.Ref = old.Ref
		}
		g.dials[peer.Name] = p
		list = append(list, p)
	}
	return list
}

// keeps finds what stands for a policy in a new configuration; nil: it goes.
func keeps(cfg *core.Config, policies map[core.PolicyRef]*core.Policy, p *core.Policy) *core.Policy {
	if p.Made == nil {
		return policies[p.Ref]
	}
	for _, ref := range append([]core.PolicyRef{p.Made.Template}, p.Made.Also...) {
		if cfg.Template(ref) == nil {
			return nil
		}
	}
	return p
}
