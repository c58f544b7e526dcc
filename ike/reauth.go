package ike

import (
	"net/netip"
	"slices"

	"culvert/ike/core"
	ikesa "culvert/ike/sa"
)

// Reauthenticate begins the IKE SA that takes over from sa, which may be expired. If it comes to
// nothing, sa stays and asks again.
func (e *Endpoint) Reauthenticate(sa *ikesa.SA) {
	e.replace(sa, nil, netip.Addr{}, "authenticated anew")
}

// Renew begins a new IKE SA because the peer refuses to rekey sa or one of its CHILD SAs. The new one is made for the
// policy p, or for what sa has if p is nil. It returns false if a new one is being made already, or if none can be made.
func (e *Endpoint) Renew(sa *ikesa.SA, p *core.Policy) bool {
	return e.replace(sa, p, netip.Addr{}, "the peer does not let us rekey what it has, and a new IKE SA took over")
}

// replace begins an IKE SA that takes over from sa: for a policy, from a local address. A nil
// policy or zero address stays as it is in sa. why is the reason that the end of sa is reported with.
func (e *Endpoint) replace(sa *ikesa.SA, main *core.Policy, local netip.Addr, why string) bool {
	sa = sa.Newest()
	switch {
	case e.down || !ikesa.Present(sa) || e.replacing.has(sa):
		return false
	case e.others.settling(sa, e.env.Now()): // a replacement is begun too late to be known as a twin, and both would stay
		e.env.After(ikesa.TwinDelay, func() { e.replace(sa, main, local, why) })
		return false
	}
	wanted := sa.MainPolicy()
	if main != nil {
		wanted = []*core.Policy{main}
	}
	if !local.IsValid() {
		local = sa.Local.Addr()
	}
	p := ikesa.Path{Local: netip.AddrPortFrom(local, e.cfg.StartsAt(sa.Peer)), Remote: netip.AddrPortFrom(sa.Remote.Addr(), sa.Peer.Port)}
	n := e.versions.of(sa.Peer.Version).initiate(e, sa.Peer, p, wanted)
	if slices.ContainsFunc(sa.Children, func(c *ikesa.Child) bool { return c.Policy.Identity != nil }) {
		n.Identity = sa.Identity // that of the policies that it takes over
	}
	n.ForceUDP = e.inUDP[sa.Peer.Name]
	e.replacing[n.ID] = sa
	n.Instead = why
	e.Adopt(n)
	n.Protocol.Begin()
	return true
}

// unanswered ends an expired IKE SA with what it has left, if another one that was begun to take over was not answered at all: the
// peer is dead, unless it was heard by ESP meanwhile.
func unanswered(old, attempt *ikesa.SA) {
	if old == nil || old.State != ikesa.Expired || attempt.SPIr != 0 || old.Peer.Profile.DPD == 0 || !old.Heard.Before(attempt.Created) {
		return
	}
	old.Event(core.EvPeerDead, "the peer did not answer when phase 1 was begun anew, and nothing came by ESP")
	old.End(true, "the peer does not answer")
}

// replacing are IKE SAs made at a re-authentication or a redirect, and whom they replace.
type replacing map[core.SAID]*ikesa.SA

// has reports whether an IKE SA is being made to take over from sa, or from
// what sa comes from by rekeys.
func (h replacing) has(sa *ikesa.SA) bool {
	for _, old := range h {
		if old.Newest() == sa {
			return true
		}
	}
	return false
}

// rekeyed makes the successor of a replacement the replacement, and returns it.
func (h replacing) rekeyed(sa *ikesa.SA) *ikesa.SA {
	n := sa.Newest()
	if old := h[sa.ID]; old != nil && n != sa {
		delete(h, sa.ID)
		h[n.ID] = old
	}
	return n
}

// inherit has an IKE SA that came up take over from the one that it was made
// for, which is deleted once nothing is left on it.
func (e *Endpoint) inherit(sa *ikesa.SA, tries int) {
	sa = e.replacing.rekeyed(sa)
	old := e.replacing[sa.ID]
	if old == nil {
		return
	}
	old = old.Newest()
	switch {
	case sa.State != ikesa.Established || old.State != ikesa.Established:
		delete(e.replacing, sa.ID)
	case !ikesa.Known(sa) && tries < maxTwinTries: // else its peer would have neither
		e.env.After(ikesa.TwinDelay, func() { e.inherit(sa, tries+1) })
	case sa.TakeOver(old) || tries == maxTwinTries:
		delete(e.replacing, sa.ID)
		why := sa.Instead
		if sa.ComesFrom.IsValid() {
			why = "the peer sent us to another gateway"
		}
		if old.Local.Addr() != sa.Local.Addr() { // what is left to say goes by a way that there is
			old.Local = netip.AddrPortFrom(sa.Local.Addr(), old.Local.Port())
			why = "our address that leads to the peer is another one"
		}
		if ikesa.Lost(old) {
			old.Depose("the peer did not answer it any more, and has connected anew")
			return
		}
		if _, ok := sa.Protocol.(ikesa.Detached); ok { // what it had goes with it where the peer does not have the new one yet
			e.env.After(ikesa.TwinDelay, func() {
				n := sa.Newest()
				if n.State != ikesa.Established { // the peer took it back, and what it had went back to the old one
					if old.State == ikesa.Established {
						old.RekeyLater()
					}
					return
				}
				if n == old { // the peer had it replace the new one
					return
				}
				ikesa.HandOver(old, n)
				old.Delete(why)
			})
			return
		}
		old.Delete(why)
	default:
		e.env.After(ikesa.TwinDelay, func() { e.inherit(sa, tries+1) })
	}
}
