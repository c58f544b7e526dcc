package ike

import "culvert/ike/v2"

// Reauthenticate begins the IKE SA that takes over from sa. If it comes to
// nothing, sa stays and asks again.
func (e *Endpoint) Reauthenticate(sa *v2.SA) {
	sa = newest(sa)
	switch {
	case e.down || sa.State() != v2.Established || e.hasHeir(sa):
		return
	case e.settling(sa): // an heir is begun too late to be known as a twin, and both would stay
		e.env.After(v2.TwinDelay, func() { e.Reauthenticate(sa) })
		return
	}
	n := sa.InitiateAnew(e.cfg.StartsAt(sa.Peer()))
	e.heirs[n.ID()] = sa
	e.Adopt(n)
	n.Begin()
}

// hasHeir reports whether an IKE SA is being made to take over from sa, or from
// what sa comes from by rekeys.
func (e *Endpoint) hasHeir(sa *v2.SA) bool {
	for _, old := range e.heirs {
		if newest(old) == sa {
			return true
		}
	}
	return false
}

// newest is what an IKE SA has become by rekeys.
func newest(sa *v2.SA) *v2.SA {
	for sa.Successor() != nil {
		sa = sa.Successor()
	}
	return sa
}

// heirRekeyed makes the successor of an heir the heir, and returns it.
func (e *Endpoint) heirRekeyed(sa *v2.SA) *v2.SA {
	n := newest(sa)
	if old := e.heirs[sa.ID()]; old != nil && n != sa {
		delete(e.heirs, sa.ID())
		e.heirs[n.ID()] = old
	}
	return n
}

// inherit has an IKE SA that came up take over from the one that it was made
// for, which is deleted once nothing is left on it.
func (e *Endpoint) inherit(sa *v2.SA, tries int) {
	sa = e.heirRekeyed(sa)
	old := e.heirs[sa.ID()]
	if old == nil {
		return
	}
	old = newest(old)
	switch {
	case sa.State() != v2.Established || old.State() != v2.Established:
		delete(e.heirs, sa.ID())
	case sa.TakeOver(old) || tries == maxTwinTries:
		delete(e.heirs, sa.ID())
		why := "authenticated anew"
		if sa.Redirected() {
			why = "the peer sent us to another gateway"
		}
		old.Delete(why)
	default:
		e.env.After(v2.TwinDelay, func() { e.inherit(sa, tries+1) })
	}
}
