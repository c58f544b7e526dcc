package v1

import (
	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
)

// Between phase 1 and phase 2 stand XAuth and mode config, as far as the identity has them:
//
//	phase 1 ─► XAuth (xauth.go) ─► mode config, as initiator (modeconfig.go) ─► the SA is up
//
// Until then there is no quick mode, no address for the peer and no policy, and what the peer says of its
// other SAs does not count. As responder mode config comes later, when the peer asks for it.

// setup is what is under way there.
type setup struct {
	sa      *SA
	contact bool   // the peer said INITIAL-CONTACT
	doing   string // for people
	timer   *core.Timer
}

// goOn is the end of phase 1; contact: the peer said INITIAL-CONTACT.
func goOn(sa *SA, contact bool) {
	sa.phase1.end()
	sa.phase1 = nil
	sa.keys.root.Wipe()
	sa.setup = &setup{sa: sa, contact: contact}
	sa.setup.lease()
}

func (s *setup) end() { s.sa.base.Env.Timers.Stop(s.timer) }

// lost ends an SA whose setup came to nothing. The peer is told.
func (s *setup) lost(f fatal) {
	sa := s.sa
	if sa.setup != s {
		return
	}
	doing := sa.Doing()
	sa.setup = nil
	s.end()
	sa.Close("", false)
	sa.base.Env.Timers.Stop(sa.base.Timers.Half)
	giveUp(sa, doing, f)
}

// up is the end of it: the SA is up.
func (s *setup) up() {
	sa := s.sa
	sa.setup = nil
	s.end()
	sa.up(s.contact)
}

// isAsked answers a request of the peer, and isSet takes what it sets.
func isAsked(sa *SA, x *exchange, a *isakmp.Attributes) { giveConfig(sa, x, a) }

func isSet(sa *SA, x *exchange, a *isakmp.Attributes) { takeConfig(sa, x, a) }

// takes reports whether a request or a SET of the peer has its time now.
func takes(sa *SA, _ *isakmp.Attributes) bool {
	return sa.base.State == Established || sa.setup != nil && sa.setup.doing == doingConfig
}

// attributesOf are those of mode config that every version of IKE has.
func attributesOf(a *isakmp.Attributes) (list []ikesa.Attribute) {
	for _, b := range a.List {
		list = append(list, ikesa.Attribute{Type: b.Type, Value: b.Value})
	}
	return list
}
