package v2

import (
	"fmt"
	"slices"
	"strings"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/spd/selector"
)

// Policies made at run time from the templates of an identity's
// policy-template-group (generate-policy): as responder for what a peer asks
// for, as initiator for the address that the peer gave us.

// --- responder ---

// withinLease leaves of the peer's selectors what the address that it was given
// allows, if it asks for that at all: clients ask for everything and expect the
// responder to narrow it.
func withinLease(sa *SA, remote []selector.TS) []selector.TS {
	if sa.base.Lease == nil || sa.base.Lease.Asked {
		return remote
	}
	if list := selector.Narrow(remote, sa.base.Lease.Selectors()); len(list) > 0 {
		return list
	}
	return remote
}

// generate makes a policy for what the peer asks for: by the first template
// that allows all of it, else by the first that allows some. Nil without error:
// the identity has no generate-policy. The selectors are the request's, in
// transport mode as they are seen from here.
func (x *exchange) generate(local, remote []selector.TS) (p *core.Policy, ours, theirs []selector.TS, err error) {
	sa, id := x.sa, x.sa.base.Identity
	if id == nil || id.Generate == core.GenerateNo {
		return nil, local, remote, nil
	}
	if id.Mode != nil && id.Mode.Responder {
		if sa.base.Lease == nil {
			return nil, nil, nil, refuse(message.NotifyFailedCPRequired, "%s asked for no address, and its identity has the mode-config %q", sa.base.PeerID, id.Mode.Name)
		}
		if remote = selector.Narrow(remote, sa.base.Lease.Selectors()); len(remote) == 0 {
			return nil, nil, nil, refuse(message.NotifyTSUnacceptable, "%s asks for selectors outside the address that it was given, %v", sa.base.PeerID, sa.base.Lease.Addrs)
		}
	}
	if sa.base.Lease == nil && sa.base.Doubtful {
		return nil, nil, nil, refuse(message.NotifyTemporaryFailure, "%s moved to %s and has not answered from there yet", sa.base.PeerID, sa.base.Remote.Addr())
	}
	list := x.ofOfferedProtocol(sa.base.Host.Config().TemplatesOf(id.Group))
	var made core.Policy
	switch m, ok := x.forHosts(list, local, remote); {
	case ok:
		made = m
		local, remote = x.betweenHosts(local, remote)
	default:
		t, l, r := fit(forTunnels(list), local, remote, x.entitled)
		if t == nil {
			return nil, nil, nil, mismatched(message.NotifyTSUnacceptable, x.templateParts(local, remote), "no template of policy-group %q allows %v => %v%s:%s",
				id.Group, local, remote, x.modeAsked(local, remote), x.templateLines(id.Group))
		}
		made = madeFrom(t, sa.base.Peer, true, l, r)
		if here := sa.base.Remote.Addr().Unmap().WithZone(""); sa.base.Lease == nil && !t.Names() && slices.ContainsFunc(r, func(ts selector.TS) bool { return ts.Lo == here }) {
			made.Made.Outer = here
		}
	}
	if id.Generate == core.GenerateOverride {
		made.Made.Local, made.Made.Remote = anyPort(made.Made.Local), anyPort(made.Made.Remote)
		made.Pair = made.Pairs()[0]
	}
	p, err = sa.base.Policies.Generate(sa.base, made)
	return p, local, remote, err
}

// forHosts makes a policy for transport mode, if the peer asks for that and a
// template allows it. Else it gets tunnel mode, which it may decline. Who got an
// address from us sends from that through a tunnel.
func (x *exchange) forHosts(list []*core.Template, local, remote []selector.TS) (core.Policy, bool) {
	if !x.asksTransport() || x.sa.base.Lease != nil {
		return core.Policy{}, false
	}
	list = slices.DeleteFunc(slices.Clone(list), func(t *core.Template) bool { return !t.Transport })
	local, remote = x.betweenHosts(local, remote)
	t, l, r := fit(list, local, remote, nil)
	if t == nil {
		return core.Policy{}, false
	}
	return madeFrom(t, x.sa.base.Peer, false, l, r), true
}

// modeAsked tells people of a mode that no template allows.
func (x *exchange) modeAsked(local, remote []selector.TS) string {
	switch seen := x.seenHere(local, remote); {
	case seen != "":
		return seen
	case x.asksTransport():
		return " in transport mode"
	}
	return ""
}

// ofOfferedProtocol leaves the templates whose protocol, ESP or AH, the peer
// offers, or all if there is none: then no proposal fits, and that is said.
func (x *exchange) ofOfferedProtocol(list []*core.Template) []*core.Template {
	offered := find[*message.SA](x.in).Proposals
	some := slices.DeleteFunc(slices.Clone(list), func(t *core.Template) bool {
		return !slices.ContainsFunc(offered, func(p message.Proposal) bool { return p.Protocol == uint8(t.Protocol) })
	})
	if len(some) == 0 {
		return list
	}
	return some
}

func forTunnels(list []*core.Template) []*core.Template {
	return slices.DeleteFunc(slices.Clone(list), func(t *core.Template) bool { return !t.Tunnel })
}

// fit is the first template that allows all of it, else the first that allows some;
// entitled is what the peer may have by a template at all, nil: whatever that allows.
func fit(templates []*core.Template, local, remote []selector.TS, entitled func(t *core.Template, local, remote []selector.TS) (l, r []selector.TS)) (t *core.Template, l, r []selector.TS) {
	for _, c := range templates {
		mine, theirs := local, remote
		if entitled != nil {
			mine, theirs = entitled(c, local, remote)
		}
		a, b, ok := c.Narrow(mine, theirs)
		switch {
		case !ok:
		case slices.Equal(mine, local) && slices.Equal(theirs, remote) && c.Covers(local, remote):
			return c, bounded(a), bounded(b)
		case t == nil:
			t, l, r = c, bounded(a), bounded(b)
		}
	}
	return t, l, r
}

func bounded(list []selector.TS) []selector.TS { return list[:min(len(list), ikesa.MaxSelectors)] }

func anyPort(list []selector.TS) (out []selector.TS) {
	for _, t := range list {
		if t.PortLo, t.PortHi = 0, 65535; !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

// madeFrom is a policy of a template; the endpoint gives it its Ref.
func madeFrom(t *core.Template, peer *core.Peer, tunnel bool, local, remote []selector.TS) core.Policy {
	p := core.Policy{Index: t.Index, Peer: peer, Tunnel: tunnel, Unique: t.Unique, Protocol: t.Protocol, Proposal: t.Proposal,
		Made: &core.Made{Template: t.Ref, Local: local, Remote: remote}}
	if pairs := p.Pairs(); len(pairs) > 0 {
		p.Pair = pairs[0]
	}
	return p
}

func templateLine(sa *SA, t *core.Template) string {
	line := fmt.Sprintf("template %d", t.Index)
	if where := (explainer{sa}).place(t, ""); where != "" {
		line += " (" + where + ")"
	}
	line += fmt.Sprintf(": %v => %v", t.Local, t.Remote)
	if !t.Tunnel {
		line += " in transport mode"
	}
	return line
}

func (x *exchange) templateLines(group string) string {
	var lines []string
	for _, t := range x.sa.base.Host.Config().TemplatesOf(group) {
		lines = append(lines, " "+templateLine(x.sa, t)+x.denials(t))
	}
	if len(lines) == 0 {
		return " it has none"
	}
	return strings.Join(core.Lines(lines), ",")
}

// templateParts is the two sides beside each other, for people.
func (x *exchange) templateParts(local, remote []selector.TS) *core.Mismatch {
	sa := x.sa
	m := &core.Mismatch{What: selectors}
	for _, l := range local {
		for _, r := range remote {
			m.Theirs = append(m.Theirs, selector.Pair{Local: l, Remote: r}.String())
		}
	}
	m.Theirs = core.Lines(m.Theirs)
	for _, t := range sa.base.Host.Config().TemplatesOf(sa.base.Identity.Group) {
		m.Ours = append(m.Ours, templateLine(sa, t)+x.denials(t))
		if m.Where == "" {
			m.Where = explainer{sa}.place(t, "")
		}
	}
	m.Ours = core.Lines(m.Ours)
	m.Hint = fmt.Sprintf("widen src-address or dst-address of a template of policy-group %q, or have the peer ask for less", sa.base.Identity.Group)
	if len(x.denied) > 0 {
		d := x.denied[0]
		m.Part, m.Where = d.key, explainer{sa}.place(d.template, d.key)
		m.Hint = fmt.Sprintf("%s: %s", d.key, d.hint)
		if m.Where == "" { // the manual's own, which stands in no file
			m.Where = explainer{sa}.place(sa.base.Identity, "policy-template-group")
			m.Hint += fmt.Sprintf("; template %d is the one that is there without being written: write a [[policy]] with template = true and group = %q, "+
				"and that policy-template-group into the identity", d.template.Index, "GROUP")
		}
	}
	m.Hint += at(m.Where)
	return m
}

// --- initiator ---

// Dial is what an initiator asks for before it knows its address: all that the
// first template for tunnels of the identity's group allows. Nil where the first identity
// of the peer does not ask for an address or makes no policies.
func Dial(cfg *core.Config, peer *core.Peer) *core.Policy {
	if !peer.Initiates() || len(peer.Identities) == 0 {
		return nil
	}
	id := peer.Identities[0]
	if id.Mode == nil || id.Mode.Responder || id.Generate == core.GenerateNo {
		return nil
	}
	list := forTunnels(cfg.TemplatesOf(id.Group))
	if len(list) == 0 {
		return nil
	}
	var local, remote []selector.TS
	for _, p := range list[0].Pairs() {
		local, remote = append(local, p.Local), append(remote, p.Remote)
	}
	p := madeFrom(list[0], peer, true, local, remote)
	p.Made.Dial = true
	return &p
}

// redial is what to ask for in IKE_AUTH for a policy: one that came of an
// earlier address begins anew.
func redial(p *core.Policy) *core.Policy {
	if p != nil && p.Made != nil && p.Made.Dialed != nil {
		return p.Made.Dialed
	}
	return p
}

// resolve is what to ask for once the address is known.
func resolve(sa *SA, p *core.Policy) *core.Policy {
	if p.Made != nil && p.Made.Dial && sa.base.Lease.Leased() && len(sa.base.Lease.Made) > 0 {
		return sa.base.Lease.Made[0]
	}
	return p
}

// dialed turns what the peer agreed to into policies for our address: one for
// what the CHILD SA covers of the networks that the peer named, and others for
// the networks that it does not cover.
func (x *exchange) dialed() error {
	sa, d := x.sa, x.policy
	if d.Made == nil || !d.Made.Dial {
		return nil
	}
	if !sa.base.Lease.Leased() {
		return refuse(message.NotifyInternalAddressFailure, "there is no address of the peer for it")
	}
	own, nets := sa.base.Lease.Selectors(), sa.base.Lease.Networks()
	local, remote, ok := selector.NarrowSets(x.agreed.Local, x.agreed.Remote, own, nets)
	if !ok {
		return refuse(message.NotifyTSUnacceptable, "the peer agreed to %v => %v, which is not between the address that it gave, %v, and its networks",
			x.agreed.Local, x.agreed.Remote, sa.base.Lease.Addrs)
	}
	cfg := sa.base.Host.Config()
	t := templateOf(cfg, d.Made.Template)
	if t == nil {
		return refuse(message.NotifyTemporaryFailure, "its template is gone")
	}
	p := madeFrom(t, sa.base.Peer, true, local, bounded(remote))
	p.Ref, p.Made.Dialed = d.Ref, d
	pol, err := sa.base.Policies.Generate(sa.base, p)
	if err != nil {
		return err
	}
	sa.base.Lease.Made = []*core.Policy{pol}
	addUncovered(sa, d, own, nets, x.agreed.Remote)
	x.policy = pol
	// The peer may have left us more than our address: what comes to another one is
	// not for us.
	if l, r, ok := selector.NarrowSets(x.agreed.Local, x.agreed.Remote, own, x.agreed.Remote); ok {
		x.agreed.Local, x.agreed.Remote, x.agreed.Pairs = l, r, selector.Pairs(l, r)
	}
	return nil
}

// addUncovered makes policies for the networks that the first CHILD SA has
// nothing of, as far as a template allows them.
func addUncovered(sa *SA, d *core.Policy, own, nets, agreed []selector.TS) {
	templates := forTunnels(sa.base.Host.Config().TemplatesOf(sa.base.Identity.Group))
	for _, n := range nets {
		if len(selector.Narrow([]selector.TS{n}, agreed)) > 0 {
			continue
		}
		t, l, r := fit(templates, own, []selector.TS{n}, nil)
		if t == nil {
			continue
		}
		q := madeFrom(t, sa.base.Peer, true, l, r)
		q.Made.Dialed = d
		if pol, err := sa.base.Policies.Generate(sa.base, q); err == nil {
			sa.base.Lease.Made = append(sa.base.Lease.Made, pol)
		}
	}
}

func templateOf(cfg *core.Config, ref core.PolicyRef) *core.Template {
	for _, t := range cfg.Templates {
		if t.Ref == ref {
			return t
		}
	}
	return nil
}

// makeOthers begins the CHILD SAs of the policies that the first one does not serve.
func makeOthers(sa *SA) {
	if !sa.base.Lease.Leased() || len(sa.base.Lease.Made) == 0 {
		return
	}
	for _, p := range sa.base.Lease.Made[1:] {
		has := slices.ContainsFunc(sa.base.Children, func(c *Child) bool { return c.Policy.Ref == p.Ref && c.Live() })
		if !has && !sa.Making(p) {
			sa.MakeChild(p, nil)
		}
	}
}
