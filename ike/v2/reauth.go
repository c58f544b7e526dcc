package v2

import (
	"encoding/binary"
	"slices"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// Re-authentication (RFC 7296 §2.8.3): a rekey proves nothing about the peer, so
// from time to time a new IKE SA is made from the beginning. It is made before
// the old one is broken: the CHILD SAs are made on it, and then the old IKE SA
// is deleted. Who responded can ask for it with AUTH_LIFETIME (RFC 4478), and
// ends the SA if it is not done in time.

// authLife is how long the peers' proofs count. A successor at a rekey inherits it.
type authLife struct {
	mine  bool      // we began the IKE_AUTH, so the next one is ours to begin
	since time.Time // of the IKE_AUTH
	life  time.Duration
	timer *core.Timer

	proven time.Time // when the peers last proved who they are by more than a ticket
	until  time.Time // the peer's certificate counts so long; zero: it has none
	asked  bool      // others are asked whether it was revoked
}

// authGrace is what a responder adds to the lifetime it told, so that an
// initiator that is in time by its own clock is in time here.
const authGrace = 30 * time.Second

// authLifetime tells and hears AUTH_LIFETIME.
type authLifetime struct{ noop }

func (*authLifetime) reply(x *exchange) error {
	if life := x.sa.proofLeft(); life > 0 {
		x.out = append(x.out, &message.Notify{Kind: message.NotifyAuthLifetime,
			Data: binary.BigEndian.AppendUint32(nil, uint32(life/time.Second))})
	}
	return nil
}

func (*authLifetime) complete(x *exchange) error {
	x.sa.hearAuthLifetime(x.in)
	return nil
}

func (*authLifetime) settle(x *exchange) error {
	sa := x.sa
	sa.auth.mine, sa.auth.since, sa.auth.proven = x.mine, sa.env.Now(), sa.provenAt()
	sa.limitAuth(sa.proofLeft())
	return nil
}

// proofLeft is how long, as our profile wants it, the proofs still count; 0: no limit.
// A resumed IKE SA goes on with the proofs of the old one.
func (sa *SA) proofLeft() time.Duration {
	life := sa.peer.Profile.Reauth
	if life == 0 || sa.resumed == nil {
		return life
	}
	return max(time.Second, life-sa.env.Now().Sub(sa.resumed.proven))
}

// hearAuthLifetime reads AUTH_LIFETIME, which may also come later, in an
// INFORMATIONAL request (RFC 4478 §3).
func (sa *SA) hearAuthLifetime(in []message.Payload) {
	if n := notify(in, message.NotifyAuthLifetime); n != nil && len(n.Data) == 4 {
		sa.limitAuth(time.Duration(binary.BigEndian.Uint32(n.Data)) * time.Second)
	}
}

// limitAuth sets or shortens how long the proofs count; zero changes nothing.
func (sa *SA) limitAuth(life time.Duration) {
	if life > 0 && (sa.auth.life == 0 || life < sa.auth.life) {
		sa.auth.life = life
	}
	sa.watchAuth()
}

// watchAuth sets the timer for what is ours: to begin anew when nine tenths of
// the time are over, or to end what the peer let run out.
func (sa *SA) watchAuth() {
	a := &sa.auth
	sa.env.Timers.Stop(a.timer)
	if a.life == 0 || a.since.IsZero() || sa.state >= Replaced {
		return
	}
	if a.mine {
		a.timer = sa.env.Timers.At(a.since.Add(a.life*9/10), sa.reauthenticate)
		return
	}
	a.timer = sa.env.Timers.At(a.since.Add(a.life+authGrace), func() {
		sa.Delete("the peer did not authenticate anew within " + a.life.String())
	})
}

// reauthAgain is the pause before a failed re-authentication is tried again.
const reauthAgain = 10 * time.Second

func (sa *SA) reauthenticate() {
	if sa.state != Established {
		return
	}
	sa.owner.Reauthenticate(sa)
	sa.auth.timer = sa.env.After(core.TimeToGiveUp+reauthAgain, sa.reauthenticate)
}

// inheritAuth is for the successor at a rekey.
func (sa *SA) inheritAuth(old *SA) {
	sa.auth = authLife{mine: old.auth.mine, since: old.auth.since, life: old.auth.life,
		proven: old.auth.proven, until: old.auth.until, asked: old.auth.asked}
	sa.env.Timers.Stop(old.auth.timer)
	sa.watchAuth()
}

// InitiateAnew makes the IKE SA that replaces sa at a re-authentication, with
// the same policies. The caller adopts it and calls Begin.
func (sa *SA) InitiateAnew(ikePort uint16) *SA {
	n := Initiate(sa.env, sa.owner, sa.peer, withPort(sa.local, ikePort), withPort(sa.remote, sa.peer.Port), sa.mainPolicy())
	if slices.ContainsFunc(sa.children, func(c *Child) bool { return c.policy.Identity != nil }) {
		n.identity = sa.identity // that of the policies that it takes over
	}
	return n
}

// mainPolicy is what the IKE SA that takes over from sa begins with: a policy that
// has a CHILD SA. The others follow by TakeOver.
func (sa *SA) mainPolicy() []*core.Policy {
	for _, c := range sa.children {
		if c.Live() {
			return []*core.Policy{c.policy}
		}
	}
	return sa.wanted
}
