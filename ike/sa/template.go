package sa

import (
	"fmt"
	"slices"
	"strings"

	"culvert/ike/core"
	"culvert/spd/selector"
)

// Policies made at run time from the templates of an identity's
// policy-template-group (generate-policy): as responder for what a peer asks
// for (here), as initiator for the address that the peer gave us (answer.go).

// generate makes a policy for what the peer asks for: by the first template
// that allows all of it, else by the first that allows some. Nil without error:
// the identity has no generate-policy. The selectors are the request's, in
// transport mode as they are seen from here.
func (r *Request) generate(local, remote []selector.TS) (p *core.Policy, ours, theirs []selector.TS, err error) {
	sa, id := r.SA, r.SA.Identity
	if id == nil || id.Generate == core.GenerateNo {
		return nil, local, remote, nil
	}
	if id.Mode != nil && id.Mode.Responder {
		if sa.Lease == nil {
			return nil, nil, nil, Refuse(NeedsAddress, "%s asked for no address, and its identity has the mode-config %q", sa.PeerID, id.Mode.Name)
		}
		asked := remote
		if remote = selector.Narrow(asked, sa.Lease.Selectors()); len(remote) == 0 {
			return nil, nil, nil, outsideLease(sa, asked)
		}
	}
	if sa.Lease == nil && sa.Doubtful {
		return nil, nil, nil, Refuse(NotNow, "%s moved to %s and has not answered from there yet", sa.PeerID, sa.Remote.Addr())
	}
	list := r.ofOfferedProtocol(sa.Host.Config().TemplatesOf(id.Group))
	var made core.Policy
	switch m, ok := r.forHosts(list, local, remote); {
	case ok:
		made = m
		local, remote = r.betweenHosts(local, remote)
	default:
		t, l, m := fit(core.ForTunnels(list), local, remote, r.entitled)
		if t == nil {
			return nil, nil, nil, mismatched(BadSelectors, r.templateParts(local, remote), "no template of policy-group %q allows %v => %v%s:%s",
				id.Group, local, remote, r.modeAsked(local, remote), r.templateLines(id.Group))
		}
		l, m, also := r.joined(t, core.ForTunnels(list), local, remote, l, m)
		made = t.Make(sa.Peer, true, l, m)
		made.Made.Also = also
		if here := sa.Remote.Addr().Unmap().WithZone(""); sa.Lease == nil && !t.Names() && slices.ContainsFunc(m, func(ts selector.TS) bool { return ts.Lo == here }) {
			made.Made.Outer = here
		}
	}
	if id.Generate == core.GenerateOverride {
		made.Made.Local, made.Made.Remote = anyPort(made.Made.Local), anyPort(made.Made.Remote)
		made.Pair = made.Pairs()[0]
	}
	p, err = sa.Policies.Generate(sa, made)
	return p, local, remote, err
}

// forHosts makes a policy for transport mode, if the peer asks for that and a
// template allows it. Else it gets tunnel mode, which it may decline. Who got an
// address from us sends from that through a tunnel.
func (r *Request) forHosts(list []*core.Template, local, remote []selector.TS) (core.Policy, bool) {
	if !r.Transport || r.SA.Lease != nil {
		return core.Policy{}, false
	}
	list = slices.DeleteFunc(slices.Clone(list), func(t *core.Template) bool { return !t.Transport })
	local, remote = r.betweenHosts(local, remote)
	t, l, m := fit(list, local, remote, nil)
	if t == nil {
		return core.Policy{}, false
	}
	return t.Make(r.SA.Peer, false, l, m), true
}

// modeAsked tells people of a mode that no template allows.
func (r *Request) modeAsked(local, remote []selector.TS) string {
	switch seen := r.seenHere(local, remote); {
	case seen != "":
		return seen
	case r.Transport:
		return " in transport mode"
	}
	return ""
}

// ofOfferedProtocol leaves the templates whose protocol, ESP or AH, the peer
// offers, or all if there is none: then no proposal fits, and that is said.
func (r *Request) ofOfferedProtocol(list []*core.Template) []*core.Template {
	some := slices.DeleteFunc(slices.Clone(list), func(t *core.Template) bool {
		return !slices.ContainsFunc(r.Offered, func(a core.Alternative) bool { return a.Protocol == t.Protocol })
	})
	if len(some) == 0 {
		return list
	}
	return some
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

// joined adds to what one template allows what others do, as far as one policy can stand for all of it:
// their policies would be alike, and each pair of selectors is one that a template allows. So a peer
// gets IPv4 and IPv6 by one template each in one CHILD SA (RFC 7296 §2.9).
func (r *Request) joined(t *core.Template, list []*core.Template, local, remote, l, m []selector.TS) (_, _ []selector.TS, also []core.PolicyRef) {
	allowed := selector.Pairs(l, m)
	for _, o := range list {
		if o == t || o.Tunnel != t.Tunnel || o.Unique != t.Unique || o.Protocol != t.Protocol || o.Proposal.Name != t.Proposal.Name || o.Names() != t.Names() {
			continue
		}
		mine, theirs := r.entitled(o, local, remote)
		a, b, ok := o.Narrow(mine, theirs)
		if !ok || covered(selector.Pairs(a, b), allowed) {
			continue
		}
		a, b = united(l, a), united(m, b)
		if pairs := append(selector.Pairs(o.Narrowed(mine, theirs)), allowed...); len(a) <= MaxSelectors && len(b) <= MaxSelectors && covered(selector.Pairs(a, b), pairs) {
			l, m, allowed, also = a, b, pairs, append(also, o.Ref)
		}
	}
	return l, m, also
}

// united is both lists, without what is in them twice.
func united(a, b []selector.TS) []selector.TS {
	out := slices.Clone(a)
	for _, t := range b {
		if !slices.ContainsFunc(out, func(o selector.TS) bool { return o.Covers(t) }) {
			out = append(out, t)
		}
	}
	return out
}

// covered reports whether each pair is within one of others.
func covered(pairs, others []selector.Pair) bool {
	return !slices.ContainsFunc(pairs, func(p selector.Pair) bool {
		return !slices.ContainsFunc(others, func(o selector.Pair) bool { return o.Covers(p) })
	})
}

func anyPort(list []selector.TS) (out []selector.TS) {
	for _, t := range list {
		if t.PortLo, t.PortHi = 0, 65535; !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

func templateLine(sa *SA, t *core.Template) string {
	line := fmt.Sprintf("template %d", t.Index)
	if where := (Explainer{sa}).Place(t, ""); where != "" {
		line += " (" + where + ")"
	}
	line += fmt.Sprintf(": %v => %v", t.Local, t.Remote)
	if !t.Tunnel {
		line += " in transport mode"
	}
	return line
}

func (r *Request) templateLines(group string) string {
	var lines []string
	for _, t := range r.SA.Host.Config().TemplatesOf(group) {
		lines = append(lines, " "+templateLine(r.SA, t)+r.denials(t))
	}
	if len(lines) == 0 {
		return " it has none"
	}
	return strings.Join(core.Lines(lines), ",")
}

// templateParts is the two sides beside each other, for people.
func (r *Request) templateParts(local, remote []selector.TS) *core.Mismatch {
	sa := r.SA
	m := &core.Mismatch{What: selectors}
	for _, l := range local {
		for _, r := range remote {
			m.Theirs = append(m.Theirs, selector.Pair{Local: l, Remote: r}.String())
		}
	}
	m.Theirs = core.Lines(m.Theirs)
	for _, t := range sa.Host.Config().TemplatesOf(sa.Identity.Group) {
		m.Ours = append(m.Ours, templateLine(sa, t)+r.denials(t))
		if m.Where == "" {
			m.Where = Explainer{sa}.Place(t, "")
		}
	}
	m.Ours = core.Lines(m.Ours)
	m.Hint = fmt.Sprintf("widen src-address or dst-address of a template of policy-group %q, or have the peer ask for less", sa.Identity.Group)
	if len(m.Ours) == 0 {
		m.Where = Explainer{sa}.Place(sa.Identity, "policy-template-group")
		m.Hint = fmt.Sprintf("policy-group %q has no template: write a [[policy]] with template = true and group = %q, or another policy-template-group into the identity", sa.Identity.Group, sa.Identity.Group)
	}
	if len(r.denied) > 0 {
		d := r.denied[0]
		m.Part, m.Where = d.key, Explainer{sa}.Place(d.template, d.key)
		m.Hint = fmt.Sprintf("%s: %s", d.key, d.hint)
		if m.Where == "" { // the manual's own, which stands in no file
			m.Where = Explainer{sa}.Place(sa.Identity, "policy-template-group")
			m.Hint += fmt.Sprintf("; template %d is the one that is there without being written: write a [[policy]] with template = true and group = %q, "+
				"and that policy-template-group into the identity", d.template.Index, "GROUP")
		}
	}
	m.Hint += core.At(m.Where)
	return m
}
