package ike

import "culvert/ike/v2"

// Reauthenticate begins the IKE SA that takes over from sa. If it comes to
// nothing, sa stays and asks again.
func (e *Endpoint) Reauthenticate(sa *v2.SA) {
	if e.down {
		return
	}
	port := e.cfg.IKEPort
	if sa.Peer().Port == 4500 {
		port = e.cfg.NATTPort
	}
	n := sa.InitiateAnew(port)
	e.heirs[n.ID()] = sa
	e.Adopt(n)
	n.Begin()
}

// inherit has an IKE SA that came up take over from the one that it was made
// for, which is deleted once nothing is left on it.
func (e *Endpoint) inherit(sa *v2.SA, tries int) {
	old := e.heirs[sa.ID()]
	if old == nil {
		return
	}
	for old.Successor() != nil { // rekeyed in the meantime
		old = old.Successor()
	}
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
