package ike

import (
	ikesa "culvert/ike/sa"
	"culvert/ike/v2"
)

// Reauthenticate begins the IKE SA that takes over from sa. If it comes to
// nothing, sa stays and asks again.
func (e *Endpoint) Reauthenticate(sa *ikesa.SA) {
	sa = sa.Newest()
	switch {
	case e.down || sa.State != ikesa.Established || e.hasHeir(sa):
		return
	case e.settling(sa): // an heir is begun too late to be known as a twin, and both would stay
		e.env.After(ikesa.TwinDelay, func() { e.Reauthenticate(sa) })
		return
	}
	n := v2.InitiateAnew(sa, e, e.cfg.StartsAt(sa.Peer))
	e.heirs[n.Base().ID] = sa
	e.Adopt(n.Base())
	n.Begin()
}

// hasHeir reports whether an IKE SA is being made to take over from sa, or from
// what sa comes from by rekeys.
func (e *Endpoint) hasHeir(sa *ikesa.SA) bool {
	for _, old := range e.heirs {
		if old.Newest() == sa {
			return true
		}
	}
	return false
}

// heirRekeyed makes the successor of an heir the heir, and returns it.
func (e *Endpoint) heirRekeyed(sa *ikesa.SA) *ikesa.SA {
	n := sa.Newest()
	if old := e.heirs[sa.ID]; old != nil && n != sa {
		delete(e.heirs, sa.ID)
		e.heirs[n.ID] = old
	}
	return n
}

// inherit has an IKE SA that came up take over from the one that it was made
// for, which is deleted once nothing is left on it.
func (e *Endpoint) inherit(sa *ikesa.SA, tries int) {
	sa = e.heirRekeyed(sa)
	old := e.heirs[sa.ID]
	if old == nil {
		return
	}
	old = old.Newest()
	switch {
	case sa.State != ikesa.Established || old.State != ikesa.Established:
		delete(e.heirs, sa.ID)
	case sa.TakeOver(old) || tries == maxTwinTries:
		delete(e.heirs, sa.ID)
		why := "authenticated anew"
		if sa.ComesFrom.IsValid() {
			why = "the peer sent us to another gateway"
		}
		old.Delete(why)
	default:
		e.env.After(ikesa.TwinDelay, func() { e.inherit(sa, tries+1) })
	}
}
