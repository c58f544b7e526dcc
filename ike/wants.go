package ike

import (
	"time"

	"culvert/ike/core"
	ikesa "culvert/ike/sa"
	"culvert/spd/selector"
)

// A want is a policy that shall have a CHILD SA. Of peers that we may initiate
// to, policies are brought up at the start, and again after whatever took them
// down; traffic that meets a policy without SA brings it up at once.
//
// After an attempt that failed, for whatever reason and whoever began it, nothing is
// tried before until, which comes later with each failure. Otherwise any host behind
// the gateway could have a peer that refuses asked again with each of its packets. A
// CHILD SA that did not live as long as the attempts before it were held off counts
// as a failure too: a peer may take one back as soon as it has it.
type want struct {
	policy   *core.Policy
	newest   core.ChildID // made for it
	failures int          // in a row
	until    time.Time    // nothing is tried before; zero: nothing holds it off
	timer    *core.Timer  // of the next attempt, if it needs no traffic
	stranded bool         // the last attempt did not get as far as a message: no route, or no DNS

	since time.Time // when it got its CHILD SA
	past  int       // failures before that
}

// satisfied is called with each CHILD SA that is made for the policy.
func (w *want) satisfied(env *core.Env) {
	if w.failures > 0 || !w.brief(env) {
		w.since, w.past = env.Now(), w.failures
	}
	w.clear(env)
}

// brief reports whether a CHILD SA that ends now is to count as a failure.
func (w *want) brief(env *core.Env) bool {
	return !w.since.IsZero() && env.Now().Sub(w.since) < core.RetryWait(w.past)
}

func (w *want) clear(env *core.Env) {
	w.failures, w.until, w.stranded = 0, time.Time{}, false
	env.Timers.Stop(w.timer)
	w.timer = nil
}

// forgive has the next attempt made as if none had failed: the peer itself has
// connected, or the configuration was loaded anew.
func (w *want) forgive(env *core.Env) {
	w.since, w.past = time.Time{}, 0
	w.clear(env)
}

// Holds lists the policies that are held off after attempts that failed, in the order
// of the configuration.
func (e *Endpoint) Holds() (list []core.Hold) {
	for _, p := range e.wanted {
		if w := e.wants[p.Ref]; w != nil && e.env.Now().Before(w.until) {
			list = append(list, core.Hold{Policy: p.Ref, Peer: p.Peer.Name, Failures: w.failures, Until: w.until})
		}
	}
	return list
}

// acquire is traffic that met a policy without SA, or with one that does not seal yet.
func (e *Endpoint) acquire(a core.Acquire) {
	if c := e.children[e.newest(a.Policy)]; c != nil {
		c.Needed()
	}
	w := e.wants[a.Policy]
	if w == nil || e.env.Now().Before(w.until) {
		return
	}
	flow := a.Flow
	e.ensure(w.policy, &flow)
}

// newest is the CHILD SA that was made last for a policy, which may be gone.
func (e *Endpoint) newest(p core.PolicyRef) core.ChildID {
	if w := e.wants[p]; w != nil {
		return w.newest
	}
	if m := e.policies.made[p]; m != nil {
		return m.newest
	}
	return 0
}

// ensure begins what is missing for the policy to have a CHILD SA: a
// CREATE_CHILD_SA where there is an IKE SA, else an IKE SA.
func (e *Endpoint) ensure(p *core.Policy, flow *selector.Pair) {
	if !e.down && !e.joins(p, flow) && p.Peer.Initiates() {
		e.connect(p)
	}
}

// joins makes the policy's CHILD SA on an IKE SA that is up or that we are
// making, and reports whether there is one, or the CHILD SA already.
func (e *Endpoint) joins(p *core.Policy, flow *selector.Pair) bool {
	if e.others.hasChild(p) {
		return true
	}
	for sa := range e.others.of(p.Peer.Name) {
		if sa.State == ikesa.Established && !sa.Leaving && !ikesa.Lost(sa) && sa.MayHave(p) && (p.Made == nil || sa.Lease.Leased()) {
			if !sa.Protocol.Making(p) {
				sa.Protocol.MakeChild(p, flow)
			}
			return true
		}
	}
	for sa := range e.others.of(p.Peer.Name) {
		if sa.State == ikesa.Connecting && sa.MayHave(p) && (p.Made == nil || asFirst(sa)) {
			if !sa.Protocol.Making(p) {
				sa.Wanted = append(sa.Wanted, p)
			}
			return true
		}
	}
	return false
}

// asFirst reports whether an IKE SA that we are making is one of the peer's first identity,
// as which an address is asked for.
func asFirst(sa *ikesa.SA) bool {
	return sa.Identity == nil || sa.Identity == sa.Peer.Identities[0]
}

// byIdentity parts wanted policies into those that one IKE SA can have. One that
// names no identity goes with the first identity.
func byIdentity(peer *core.Peer, wanted []*core.Policy) (parts [][]*core.Policy) {
	at := map[*core.Identity]int{}
	for _, p := range wanted {
		id := p.Identity
		if id == nil {
			id = peer.Identities[0]
		}
		i, there := at[id]
		if !there {
			i, at[id] = len(parts), len(parts)
			parts = append(parts, nil)
		}
		parts[i] = append(parts[i], p)
	}
	return parts
}

// fill brings up the policies of a peer whose IKE SA came up: at once those
// that we wanted with it; the others after a moment, since the peer may be
// about to make them.
func (e *Endpoint) fill(sa *ikesa.SA) {
	for _, p := range sa.TakeWants() {
		switch {
		case e.others.hasChild(p):
		case sa.MayHave(p):
			sa.Protocol.MakeChild(p, nil)
		default:
			e.later(p, false)
		}
	}
	for _, p := range e.wanted {
		if p.Peer == sa.Peer && !e.others.hasChild(p) && !sa.Protocol.Making(p) {
			e.later(p, false)
		}
	}
}

// lost is called when an IKE SA with the peer is gone.
func (e *Endpoint) lost(peer *core.Peer, fault bool) {
	for _, p := range e.wanted {
		if p.Peer == peer {
			e.later(p, fault)
		}
	}
}

// ChildEnded notes that a policy lost its CHILD SA: it may need another.
func (e *Endpoint) ChildEnded(sa *ikesa.SA, p *core.Policy) {
	e.policies.unused(p)
	w := e.wants[p.Ref]
	brief := w != nil && w.brief(e.env)
	if brief && w.failures == 0 {
		w.failures = w.past
	}
	e.later(p, brief)
}

// ChildFailed notes that no CHILD SA could be made for a policy. asked: traffic or the
// configuration asks for it.
func (e *Endpoint) ChildFailed(sa *ikesa.SA, p *core.Policy, asked bool) { e.later(p, asked) }

// later tries again after a while, longer after each failure: by itself where the
// policy is kept up, else with the next traffic.
func (e *Endpoint) later(p *core.Policy, failed bool) {
	w := e.wants[p.Ref]
	if w == nil {
		return
	}
	p = w.policy // equal, if a configuration was loaded since
	if e.down || e.others.hasChild(p) {
		return
	}
	now, wait := e.env.Now(), core.RetryWait(w.failures)
	if failed { // before anything returns: it counts whoever is to try again
		wait += e.env.Jitter(wait / 4)
		w.failures, w.until = w.failures+1, now.Add(wait)
		e.env.Timers.Stop(w.timer)
		w.timer = nil
	}
	if w.timer != nil || !p.Peer.KeptUp() && !e.others.hasLines(p) { // by which packets leave, so that none asks
		return
	}
	if !failed {
		wait = max(wait+e.env.Jitter(wait/4), w.until.Sub(now))
	}
	w.timer = e.env.After(wait, func() {
		w.timer = nil
		e.ensure(w.policy, nil)
	})
}
