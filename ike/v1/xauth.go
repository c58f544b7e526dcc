package v1

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
)

// XAuth (draft-beaulieu-ike-xauth-02) proves, after phase 1, which user the peer is. The end that asks is the gateway, whoever
// began phase 1:
//
//	ATTR(REQUEST: [TYPE], USER-NAME, USER-PASSWORD)  -->
//	                                 <--  ATTR(REPLY: [TYPE], USER-NAME, USER-PASSWORD)
//	ATTR(SET: STATUS)                -->
//	                                 <--  ATTR(ACK: STATUS)
//
// The asking end may ask several times before it says how it went (one-time passwords). The methods of phase 1 say that XAuth
// follows, and which end asks. A peer with an identity of that kind cannot go by another method.
//
// A peer that makes phase 1 anew may not be able to answer again: nobody is there who could type a one-time password. It
// is the same user while it comes from where that has an SA (ikesa.SA.SameDevice), if it does not answer at all. A wrong
// answer is refused all the same. Whoever could pretend to be there could also pretend to be the gateway, since it has the
// secret of the group, and read the password. With hybrid authentication that is not so, since anybody gets through phase 1:
// then every phase 1 has an XAuth of its own.

const doingXAuth = "XAuth"

const (
	// askedWithin is how long we wait to be asked, and then to hear how it went.
	askedWithin = 30 * time.Second
	// askedAgainWithin is the same where phase 1 is made anew, and the peer may not ask.
	askedAgainWithin = 5 * time.Second
	// refusedFor is how long an SA stays whose peer was refused, so that it hears of it.
	refusedFor = 5 * time.Second
	maxRounds  = 5 // of requests that we answer
)

// saysXAuth reports whether our messages say that we know XAuth.
func saysXAuth(sa *SA) bool {
	if sa.base.Initiator {
		return sa.base.Identity.XAuth != nil
	}
	return slices.ContainsFunc(sa.phase1.candidates, func(p *core.Peer) bool {
		return slices.ContainsFunc(p.Identities, func(id *core.Identity) bool { return id.XAuth != nil })
	})
}

// login is XAuth, as far as the identity has it, and goes on with mode config.
func (s *setup) login() {
	x := s.sa.base.Identity.XAuth
	if x == nil {
		s.lease()
		return
	}
	s.doing = doingXAuth
	s.sa.base.Env.Timers.Stop(s.sa.base.Timers.Half) // what follows ends by itself
	if x.Asks {
		s.ask()
		return
	}
	if s.again() && !auth.Hybrid(s.sa.base.Identity) {
		s.timer = s.sa.base.Env.After(askedAgainWithin, s.lease)
		return
	}
	s.await("the peer did not ask for name and password (XAuth) within %v: see its log, and whether it has XAuth for us; without it, write auth-method = \"pre-shared-key\" or \"digital-signature\" on both sides")
}

// again reports whether the SA takes over from another one with the peer.
func (s *setup) again() bool {
	b := s.sa.base
	return b.Instead != "" || slices.ContainsFunc(s.sa.kin(), func(o *ikesa.SA) bool { return o != b })
}

// await gives up where nothing comes.
func (s *setup) await(why string) {
	env := s.sa.base.Env
	env.Timers.Stop(s.timer)
	s.timer = env.After(askedWithin, func() { s.lost(fatal{reason: fmt.Sprintf(why, askedWithin)}) })
}

// isXAuth reports whether a payload is of XAuth, and not of mode config.
func isXAuth(a *isakmp.Attributes) bool {
	return slices.ContainsFunc(a.List, func(b isakmp.Attribute) bool { return b.Type >= isakmp.XAuthType && b.Type <= isakmp.XAuthAnswer })
}

// --- the end that asks ---

func (s *setup) ask() {
	list := []isakmp.Attribute{isakmp.Variable(isakmp.XAuthUserName, nil), isakmp.Variable(isakmp.XAuthPassword, nil)}
	transact(s.sa, isakmp.CfgRequest, list, s.answered, func() {
		if !s.inherit() {
			s.lost(fatal{reason: fmt.Sprintf("the peer did not answer in %d attempts when it was asked for name and password (XAuth)", core.Tries)})
		}
	})
}

// inherit has a peer that goes on without XAuth be the user that it was in the SA that this one takes over from.
func (s *setup) inherit() bool {
	b := s.sa.base
	if s.doing != doingXAuth || b.Identity.XAuth == nil || !b.Identity.XAuth.Asks || s.refused || auth.Hybrid(b.Identity) {
		return false
	}
	for _, o := range b.Others.Namesakes(b) {
		if ikesa.Present(o) && o.User != "" && b.SameDevice(o) {
			b.User = o.User
			s.lease()
			return true
		}
	}
	return false
}

// answered checks who the peer is.
func (s *setup) answered(a *isakmp.Attributes) {
	sa := s.sa
	b := sa.base
	if sa.setup != s {
		return // it has gone on without
	}
	n, _ := a.Find(isakmp.XAuthUserName)
	p, _ := a.Find(isakmp.XAuthPassword)
	if len(p.Value) == 0 {
		p, _ = a.Find(isakmp.XAuthPasscode)
	}
	name := string(n.Text())
	now, from := b.Env.Now(), b.Remote.Addr()
	if wait := b.Guesses.Pause(now, name, from); wait > 0 {
		s.refuse("no password of %s for user %q is looked at for another %v, since too many were wrong", from, name, wait.Round(time.Second))
		return
	}
	user := b.Host.Config().Users[name]
	if !b.Env.Proved(auth.Password(user, p.Text())) {
		b.Guesses.Wrong(now, name, from)
		switch {
		case user == nil:
			s.refuse("there is no user %q: write a [[user]] with that name, or correct it at the peer", name)
		default:
			s.refuse("the password of user %q is wrong: compare it with password of the [[user]]", name)
		}
		return
	}
	b.Guesses.Right(name)
	b.User = name
	transact(sa, isakmp.CfgSet, []isakmp.Attribute{isakmp.Basic(isakmp.XAuthStatus, 1)}, func(*isakmp.Attributes) {}, func() {})
	s.lease()
}

// refuse tells the peer that it is not let in, and ends the SA once it knows.
func (s *setup) refuse(format string, a ...any) {
	sa := s.sa
	f := fatal{reason: fmt.Sprintf(format, a...), told: true}
	s.refused = true
	sa.base.Emit(core.Event{Kind: core.EvAuthFailed, Reason: f.reason})
	gone := func() { s.lost(f) }
	s.timer = sa.base.Env.After(refusedFor, gone)
	transact(sa, isakmp.CfgSet, []isakmp.Attribute{isakmp.Basic(isakmp.XAuthStatus, 0)}, func(*isakmp.Attributes) { gone() }, gone)
}

// --- the end that is asked ---

// answersXAuth answers a request, as often as it comes until we hear how it went.
func answersXAuth(sa *SA, x *exchange, a *isakmp.Attributes) {
	b := sa.base
	s := sa.setup
	if m, ok := a.Find(isakmp.XAuthMessage); ok && len(m.Value) > 0 {
		b.Event(core.EvNotify, "the peer asks for XAuth with the words %q", m.Text())
	}
	id := b.Identity.XAuth
	if id == nil || id.Asks {
		b.Event(core.EvNotify, "the peer asks for name and password (XAuth), and the identity has none for it: write auth-method = \"pre-shared-key-xauth\" or \"rsa-signature-hybrid\", username and password")
		answerTo(sa, x, a, []isakmp.Attribute{isakmp.Basic(isakmp.XAuthStatus, 0)})
		return
	}
	if s != nil {
		if s.rounds++; s.rounds > maxRounds {
			s.lost(fatal{reason: fmt.Sprintf("the peer asked %d times for name and password (XAuth) and did not say what is wrong with them", maxRounds)})
			return
		}
		s.await("the peer did not say within %v whether name and password are right (XAuth)")
	}
	answerTo(sa, x, a, credentials(b.Env, id, a))
}

// credentials are what a request asks for. One that names nothing asks for name and password.
func credentials(env *core.Env, id *core.XAuth, a *isakmp.Attributes) (list []isakmp.Attribute) {
	password := []byte(id.Password)
	kind, typed := a.Find(isakmp.XAuthType)
	if v, _ := kind.Uint16(); typed && v == isakmp.XAuthRADIUSCHAP {
		if c, ok := a.Find(isakmp.XAuthChallenge); ok {
			password = auth.CHAP(env.Random(1)[0], id.Password, c.Value)
		}
	}
	asked := func(t uint16) bool { _, ok := a.Find(t); return ok }
	if typed {
		list = append(list, kind)
	}
	none := !asked(isakmp.XAuthUserName) && !asked(isakmp.XAuthPassword) && !asked(isakmp.XAuthPasscode) && !asked(isakmp.XAuthAnswer)
	if none || asked(isakmp.XAuthUserName) {
		list = append(list, isakmp.Variable(isakmp.XAuthUserName, []byte(id.Name)))
	}
	for _, t := range []uint16{isakmp.XAuthPassword, isakmp.XAuthPasscode, isakmp.XAuthAnswer} {
		if asked(t) || none && t == isakmp.XAuthPassword {
			list = append(list, isakmp.Variable(t, password))
		}
	}
	if asked(isakmp.XAuthDomain) {
		list = append(list, isakmp.Variable(isakmp.XAuthDomain, nil))
	}
	return list
}

// hearsStatus takes how it went.
func hearsStatus(sa *SA, x *exchange, a *isakmp.Attributes) {
	s, b := sa.setup, sa.base
	status, said := a.Find(isakmp.XAuthStatus)
	answerTo(sa, x, a, a.List)
	if s == nil || s.doing != doingXAuth || b.Identity.XAuth.Asks || !said {
		return
	}
	if v, _ := status.Uint16(); v == 1 {
		s.lease()
		return
	}
	why := ""
	if m, ok := a.Find(isakmp.XAuthMessage); ok {
		why = fmt.Sprintf(", with the words %q", strings.TrimSpace(string(m.Text())))
	}
	f := fatal{told: true, reason: fmt.Sprintf("the peer refused user %q%s: compare username and password of the identity with what the peer has", b.Identity.XAuth.Name, why)}
	b.Emit(core.Event{Kind: core.EvAuthFailed, Reason: f.reason})
	s.lost(f)
}
