package sa

import (
	"time"

	"culvert/ike/core"
)

// Re-authentication (RFC 7296 §2.8.3): a rekey proves nothing about the peer, so
// from time to time a new IKE SA is made from the beginning. It is made before
// the old one is broken: the CHILD SAs are made on it, and then the old IKE SA
// is deleted. Who responded can ask for it with AUTH_LIFETIME (RFC 4478), and
// ends the SA if it is not done in time.

// Proof is how long the peers' proofs count. A successor at a rekey inherits it.
type Proof struct {
	Mine  bool      // we began the exchange that proved, so the next one is ours to begin
	Since time.Time // of that exchange
	Life  time.Duration

	Proven time.Time // when the peers last proved who they are by more than a ticket
	Until  time.Time // the peer's certificate counts so long; zero: it has none
	Asked  bool      // others are asked whether it was revoked

	timer *core.Timer
}

// authGrace is what a responder adds to the lifetime it told, so that an
// initiator that is in time by its own clock is in time here.
const authGrace = 30 * time.Second

// ProofLeft is how long, as our profile wants it, the proofs still count; 0: no limit.
// A resumed IKE SA goes on with the proofs of the old one.
func (sa *SA) ProofLeft() time.Duration {
	life := sa.Peer.Profile.Reauth
	if life == 0 || !sa.Resumed {
		return life
	}
	return max(time.Second, life-sa.Env.Now().Sub(sa.Auth.Proven))
}

// Proved is for the protocol: the peers have proved who they are; mine: we began.
func (sa *SA) Proved(mine bool) {
	sa.Auth.Mine, sa.Auth.Since = mine, sa.Env.Now()
	if sa.Auth.Proven.IsZero() {
		sa.Auth.Proven = sa.Env.Now()
	}
	sa.LimitAuth(sa.ProofLeft())
}

// LimitAuth sets or shortens how long the proofs count; zero changes nothing.
func (sa *SA) LimitAuth(life time.Duration) {
	if life > 0 && (sa.Auth.Life == 0 || life < sa.Auth.Life) {
		sa.Auth.Life = life
	}
	sa.watchAuth()
}

// watchAuth sets the timer for what is ours: to begin anew when nine tenths of
// the time are over, or to end what the peer let run out.
func (sa *SA) watchAuth() {
	a := &sa.Auth
	sa.Env.Timers.Stop(a.timer)
	if a.Life == 0 || a.Since.IsZero() || sa.State >= Replaced {
		return
	}
	if a.Mine {
		a.timer = sa.Env.Timers.At(a.Since.Add(a.Life*9/10), sa.reauthenticate)
		return
	}
	a.timer = sa.Env.Timers.At(a.Since.Add(a.Life+authGrace), func() {
		sa.Delete("the peer did not authenticate anew within " + a.Life.String())
	})
}

// reauthAgain is the pause before a failed re-authentication is tried again.
const reauthAgain = 10 * time.Second

func (sa *SA) reauthenticate() {
	if sa.State != Established {
		return
	}
	sa.Keeper.Reauthenticate(sa)
	sa.Auth.timer = sa.Env.After(core.TimeToGiveUp+reauthAgain, sa.reauthenticate)
}

// proofs are how long those of an IKE SA count.
type proofs struct {
	idle
	sa *SA
}

func (p proofs) passTo(n *SA) {
	p.rest()
	if !n.Auth.Since.IsZero() { // its peers have proved who they are by it (IKEv1)
		return
	}
	n.Auth = p.sa.Auth
	n.Auth.timer = nil
	n.watchAuth()
}

func (p proofs) rest() { p.sa.Env.Timers.Stop(p.sa.Auth.timer) }

// MainPolicy is what the IKE SA that takes over from sa begins with: a policy that
// has a CHILD SA. The others follow by TakeOver.
func (sa *SA) MainPolicy() []*core.Policy {
	for _, c := range sa.Children {
		if c.Live() {
			return []*core.Policy{c.Policy}
		}
	}
	return sa.Wanted
}
