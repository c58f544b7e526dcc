package sa

import (
	"slices"

	"culvert/ike/core"
	"culvert/spd/selector"
)

// Asking is the selectors that we ask for: those of the policy, and before them the packet that
// asked, if one did, so that a responder that narrows keeps it in (RFC 7296 §2.9).
func Asking(p *core.Policy, flow *selector.Pair) (local, remote []selector.TS) {
	local, remote = p.Selectors()
	if flow != nil && p.Made == nil && p.Pair.Covers(*flow) && p.Pair != *flow {
		local, remote = slices.Insert(local, 0, flow.Local), slices.Insert(remote, 0, flow.Remote)
	}
	return local, remote
}

// Answer is what the peer chose of what we asked for in a CHILD SA, as its version of
// IKE says it in a message.
type Answer struct {
	SA            *SA
	Policy        *core.Policy  // that we asked for
	Local, Remote []selector.TS // our end and its own, as it says them
	Transport     bool          // it chose transport mode
	KeyExchange   bool          // the exchange has room for one
	Chosen        []core.Alternative
}

// Suite are the algorithms that the peer chose. The error is a *Refusal: they, or the
// mode, are not what was asked for.
func (a *Answer) Suite() (core.Suite, error) {
	switch {
	case a.Transport && a.Policy.Tunnel:
		return core.Suite{}, mismatched(NoProposal, Explainer{a.SA}.ModeParts(a.Policy), "the peer chose transport mode, which was not asked for")
	case !a.Transport && !a.Policy.Tunnel:
		return core.Suite{}, mismatched(NoProposal, Explainer{a.SA}.ModeParts(a.Policy), "the peer declined transport mode: tunnel differs on the two sides")
	}
	s, ok := core.ChildOffer(a.Policy, a.KeyExchange).Accepts(a.Chosen)
	if !ok {
		return s, NotOffered()
	}
	return s, nil
}

// NotOffered is the refusal of a proposal that nobody made.
func NotOffered() error {
	return Refuse(NoProposal, "the peer chose a proposal that was not offered")
}

// Agree is what the CHILD SA is for: the selectors that the peer left us, and the policy,
// which the address that it gave us may have made another one (see dialed). The Agreement
// lacks the peer's SPI.
func (a *Answer) Agree(s core.Suite) (*core.Policy, Agreement, error) {
	none := Agreement{}
	if len(a.Local) > MaxSelectors || len(a.Remote) > MaxSelectors {
		return nil, none, Refuse(BadSelectors, "the peer left more than %d selectors", MaxSelectors)
	}
	mine, theirs := a.Local, a.Remote
	if !a.Policy.Tunnel {
		mine, theirs = a.SA.NAT.Through(a.SA.Path, mine, theirs)
	}
	if a.SA.Lease.Given() {
		theirs = a.SA.Lease.dynamic(theirs) // OpenIKED says so in its answers to rekeys too
	}
	local, remote := a.Policy.Selectors()
	for i, t := range append(slices.Clone(mine), theirs...) {
		ours := local
		if i >= len(mine) {
			ours = remote
		}
		if !slices.ContainsFunc(ours, func(o selector.TS) bool { return o.Covers(t) }) {
			return nil, none, Refuse(BadSelectors, "the peer widened the selector to %v", t)
		}
	}
	pairs := selector.Pairs(mine, theirs)
	if len(pairs) == 0 {
		return nil, none, Refuse(BadSelectors, "the peer left no selectors")
	}
	ag := Agreement{Suite: s, Local: mine, Remote: theirs, Pairs: pairs}
	p, err := dialed(a.SA, a.Policy, &ag)
	return p, ag, err
}

// --- policies for the address that the peer gave us ---

// Redial is what to ask for for a policy together with an address: one that came of an
// earlier address begins anew.
func Redial(p *core.Policy) *core.Policy {
	if p != nil && p.Made != nil && p.Made.Dialed != nil {
		return p.Made.Dialed
	}
	return p
}

// Dialed is what to ask for for a policy once the address is known.
func (l *Lease) Dialed(p *core.Policy) *core.Policy {
	if p.Made != nil && p.Made.Dial && l.Leased() && len(l.Made) > 0 {
		return l.Made[0]
	}
	return p
}

// dialed turns what the peer agreed to into policies for our address: one for
// what the CHILD SA covers of the networks that the peer named, and others for
// the networks that it does not cover.
func dialed(sa *SA, d *core.Policy, ag *Agreement) (*core.Policy, error) {
	if d.Made == nil || !d.Made.Dial {
		return d, nil
	}
	if !sa.Lease.Leased() {
		return nil, Refuse(NoAddress, "the peer gave us no address, and the policy is for one")
	}
	own, nets := sa.Lease.Selectors(), sa.Lease.Networks()
	local, remote, ok := selector.NarrowSets(ag.Local, ag.Remote, own, nets)
	if !ok {
		return nil, Refuse(BadSelectors, "the peer agreed to %v => %v, which is not between the address that it gave, %v, and its networks",
			ag.Local, ag.Remote, sa.Lease.Addrs)
	}
	cfg := sa.Host.Config()
	t := cfg.Template(d.Made.Template)
	if t == nil {
		return nil, Refuse(NotNow, "its template is gone")
	}
	p := t.Make(sa.Peer, true, local, bounded(remote))
	p.Unique = p.Unique || sa.Lease.Apart
	p.Ref, p.Made.Dialed = d.Ref, d
	pol, err := sa.Policies.Generate(sa, p)
	if err != nil {
		return nil, err
	}
	sa.Lease.Made = []*core.Policy{pol}
	addUncovered(sa, d, own, nets, ag.Remote)
	// The peer may have left us more than our address: what comes to another one is
	// not for us.
	if l, r, ok := selector.NarrowSets(ag.Local, ag.Remote, own, ag.Remote); ok {
		ag.Local, ag.Remote, ag.Pairs = l, r, selector.Pairs(l, r)
	}
	return pol, nil
}

// OnePair is what is asked for for a policy where a CHILD SA is for one pair of selectors alone. For the address that
// the peer gave us it is that, and the first network that the peer named; dialed sees to the others.
func OnePair(sa *SA, p *core.Policy) (local, remote selector.TS, err error) {
	l, r := p.Selectors()
	if p.Made != nil && p.Made.Dial {
		if !sa.Lease.Leased() {
			return local, remote, Refuse(NoAddress, "the peer gave us no address, and the policy is for one")
		}
		l, r = selector.Narrow(sa.Lease.Selectors(), l), selector.Narrow(sa.Lease.Networks(), r)
	}
	for _, local := range l {
		for _, remote := range r {
			if local.Lo.BitLen() == remote.Lo.BitLen() {
				return local, remote, nil
			}
		}
	}
	return local, remote, Refuse(BadSelectors, "%v => %v is of two address families", l, r)
}

// addUncovered makes policies for the networks that the first CHILD SA has
// nothing of, as far as a template allows them.
func addUncovered(sa *SA, d *core.Policy, own, nets, agreed []selector.TS) {
	templates := core.ForTunnels(sa.Host.Config().TemplatesOf(sa.Identity.Group))
	for _, n := range nets {
		if len(selector.Narrow([]selector.TS{n}, agreed)) > 0 {
			continue
		}
		t, l, r := fit(templates, own, []selector.TS{n}, nil)
		if t == nil {
			continue
		}
		q := t.Make(sa.Peer, true, l, r)
		q.Made.Dialed, q.Unique = d, q.Unique || sa.Lease.Apart
		if pol, err := sa.Policies.Generate(sa, q); err == nil {
			sa.Lease.Made = append(sa.Lease.Made, pol)
		}
	}
}

// MakeOthers begins the CHILD SAs of the policies that the first one does not serve.
func MakeOthers(sa *SA) {
	if !sa.Lease.Leased() || len(sa.Lease.Made) == 0 {
		return
	}
	for _, p := range sa.Lease.Made[1:] {
		if !sa.Serves(p) && !sa.Protocol.Making(p) {
			sa.Protocol.MakeChild(p, nil)
		}
	}
}
