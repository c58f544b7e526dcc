package v1

import (
	"slices"

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
	refused bool   // the peer's password was wrong
	rounds  int    // of requests of XAuth that we answered
	doing   string // for people
	timer   *core.Timer
}

// goOn is the end of phase 1; contact: the peer said INITIAL-CONTACT.
func goOn(sa *SA, contact bool) {
	if b := sa.base; !b.Initiator {
		b.Lifetime = agreedLife(b.Peer.Profile.Lifetime, sa.phase1.life)
		sa.unsaid = b.Lifetime != sa.phase1.life.time
	}
	sa.phase1.end()
	sa.phase1 = nil
	sa.keys.root.Wipe()
	sa.setup = &setup{sa: sa, contact: contact}
	sa.setup.login()
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
func isAsked(sa *SA, x *exchange, a *isakmp.Attributes) {
	if isXAuth(a) {
		answersXAuth(sa, x, a)
		return
	}
	giveConfig(sa, x, a)
}

func isSet(sa *SA, x *exchange, a *isakmp.Attributes) {
	if isXAuth(a) {
		hearsStatus(sa, x, a)
		return
	}
	takeConfig(sa, x, a)
}

// takes reports whether a request or a SET of the peer has its time now.
func takes(sa *SA, a *isakmp.Attributes) bool {
	return isXAuth(a) || sa.base.State == Established || sa.setup != nil && sa.setup.doing == doingConfig
}

// informed hears what the peer says before the SA is up. It may say who it was only once it has proved which user it is.
func (s *setup) informed(p isakmp.Payload) {
	sa := s.sa
	switch p := p.(type) {
	case *isakmp.Delete:
		if p.Protocol == isakmp.ProtoISAKMP && slices.ContainsFunc(p.SPIs, func(spi []byte) bool { return named(sa.base, spi) }) {
			s.lost(fatal{reason: "the peer deleted the IKE SA before " + s.doing + " was through: see its log"})
		}
	case *isakmp.Notify:
		switch p.Kind {
		case isakmp.NotifyInitialContact:
			s.contact = true
		case isakmp.NotifyRUThere:
			sa.dpd.answer(p)
		case isakmp.NotifyUnityLoadBalance:
			sentElsewhere(sa, p)
		}
	}
}

// attributesOf are those of mode config that every version of IKE has.
func attributesOf(a *isakmp.Attributes) (list []ikesa.Attribute) {
	for _, b := range a.List {
		list = append(list, ikesa.Attribute{Type: b.Type, Value: b.Value})
	}
	return list
}
