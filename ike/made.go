package ike

import (
	"fmt"
	"slices"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/ike/v2"
)

// Policies made at run time (generate-policy): each lives as long as a CHILD SA
// uses it.

// made is one of them, in force.
type made struct {
	policy   *core.Policy
	key      string
	children int
	newest   core.ChildID
}

// madeKey is the selectors of a policy; two policies with one key would stand
// for the same packets.
func madeKey(p *core.Policy) string { return fmt.Sprint(p.Made.Local, p.Made.Remote) }

// madeOwner is a peer as it proved itself, or a peer that we dialed.
func madeOwner(sa *v2.SA, p *core.Policy) string {
	if p.Made.Dialed != nil {
		return p.Peer.Name
	}
	id := sa.RemoteID()
	return fmt.Sprintf("%s\x00%c%s", p.Peer.Name, byte(id.Type), id.Data)
}

// Generate is of v2.Owner. Of the same peer, a policy with the same selectors is the same policy: one that connects anew
// shares it with what is left of before. Of two peers only one can have it, unless it is of level unique: then it is one
// policy for both, and their conversations are kept apart.
func (e *Endpoint) Generate(sa *v2.SA, p core.Policy) (*core.Policy, error) {
	key, owner := madeKey(&p), madeOwner(sa, &p)
	if m := e.made[e.madeBy[key]]; m != nil {
		if m.policy.Made.Owner != owner && !shared(m.policy, &p) {
			return nil, v2.Refuse(message.NotifyTSUnacceptable, "another peer has a policy for %v%s", m.policy.Pairs(), instead(m.policy, &p))
		}
		if m.policy.Made.Template == p.Made.Template && m.policy.Tunnel == p.Tunnel && (p.Ref == 0 || p.Ref == m.policy.Ref) {
			return m.policy, nil
		}
	}
	if p.Ref == 0 {
		e.lastMade++
		p.Ref = core.FirstMade + e.lastMade
	}
	p.Made.Owner = owner
	return &p, nil
}

// shared reports whether one policy may serve two clients.
func shared(a, b *core.Policy) bool {
	return a.Unique && b.Unique && a.Made.Template == b.Made.Template && a.Peer == b.Peer && a.Tunnel == b.Tunnel && a.Made.Dialed == nil && b.Made.Dialed == nil
}

// instead tells people how two peers can come to the same selectors, and what to do.
func instead(there, p *core.Policy) string {
	why := ", where both have the same network"
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

// Use is of v2.Owner.
func (e *Endpoint) Use(p *core.Policy) {
	if p.Made == nil {
		return
	}
	m := e.made[p.Ref]
	if m == nil {
		m = &made{}
		e.made[p.Ref] = m
	}
	if m.policy == p {
		return
	}
	if e.madeBy[m.key] == p.Ref {
		delete(e.madeBy, m.key)
	}
	m.policy, m.key = p, madeKey(p)
	e.madeBy[m.key] = p.Ref
	e.env.Emit(core.AddPolicy{Ref: p.Ref, Template: p.Made.Template, Peer: p.Peer.Name, Pairs: p.Pairs(), Tunnel: p.Tunnel})
}

// unused drops a policy that has lost its last CHILD SA.
func (e *Endpoint) unused(p *core.Policy) {
	m := e.made[p.Ref]
	if m == nil || m.children > 0 {
		return
	}
	delete(e.made, p.Ref)
	if e.madeBy[m.key] == p.Ref {
		delete(e.madeBy, m.key)
	}
	e.env.Emit(core.DropPolicy{Ref: p.Ref})
}

// dial lists what initiators that get their policies from the peer ask for; one
// that is as it was keeps its Ref.
func (e *Endpoint) dial(cfg *core.Config) (list []*core.Policy) {
	was := e.dials
	e.dials = map[string]*core.Policy{}
	for _, peer := range cfg.Peers {
		p := v2.Dial(cfg, peer)
		if p == nil {
			continue
		}
		old := was[peer.Name]
		switch {
		case old == nil || old.Made.Template != p.Made.Template:
			e.lastMade++
			p.Ref = core.FirstMade + e.lastMade
		case old.Peer == peer:
			p = old
		default:
			p.Ref = old.Ref
		}
		e.dials[peer.Name] = p
		list = append(list, p)
	}
	return list
}

// keeps finds what stands for a policy in a new configuration; nil: it goes.
func keeps(cfg *core.Config, policies map[core.PolicyRef]*core.Policy, p *core.Policy) *core.Policy {
	if p.Made == nil {
		return policies[p.Ref]
	}
	if slices.ContainsFunc(cfg.Templates, func(t *core.Template) bool { return t.Ref == p.Made.Template }) {
		return p
	}
	return nil
}
