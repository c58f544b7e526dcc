package sa

import (
	"slices"
	"time"

	"culvert/ike/core"
)

// What becomes of an SA that the peer does not let us replace. Some peers know no other exchange
// than those that make an IKE SA with its first CHILD SA (RFC 7296 §4), and others never agree to
// the key exchange that we want for a CHILD SA, which nobody compares before the first rekey. In
// both cases a new IKE SA helps, which makes a CHILD SA at once. It is made before the old one is
// broken, and says no INITIAL_CONTACT.

// span is when an SA is to be replaced, and when it ends.
type span struct{ soft, hard time.Time }

func newSpan(now time.Time, soft, hard time.Duration) span { return span{now.Add(soft), now.Add(hard)} }

// last is when a peer that has only refused until then gets a new IKE SA: there is time enough
// to make one, also where messages are lost.
func (l span) last() time.Time { return l.hard.Add(-l.hard.Sub(l.soft) / 2) }

// before shortens a wait so that last is not missed.
func (l span) before(now time.Time, wait time.Duration) time.Duration {
	if left := l.last().Sub(now); left > 0 {
		return min(wait, left)
	}
	return wait
}

// patience is after how many refusals of one kind of exchange no other answer is to be expected.
const patience = 3

// hopeless reports whether to go on asking is of no use.
func (l span) hopeless(now time.Time, why Cause, refusals int) bool {
	return why == TooMany || why != NotNow && refusals >= patience || !now.Before(l.last())
}

// RekeyRefused is for the protocol: the peer refused our rekey of the CHILD SA.
func (c *Child) RekeyRefused(why Cause) {
	c.Refusals++
	if c.Line == 0 && c.span.hopeless(c.SA.Env.Now(), why, c.Refusals) {
		renew(c.SA, c.Policy, "its CHILD SA")
	}
	c.RekeyLater()
}

// IKERekeyRefused is for the protocol: the peer refused our rekey of the IKE SA.
func IKERekeyRefused(sa *SA, why Cause) {
	sa.refusals++
	if sa.span.hopeless(sa.Env.Now(), why, sa.refusals) {
		renew(sa, nil, "the IKE SA")
	}
	sa.RekeyLater()
}

// RekeyLater tries again, later after each refusal.
func (sa *SA) RekeyLater() {
	sa.Env.Timers.Stop(sa.Timers.Soft)
	now := sa.Env.Now()
	sa.Timers.Soft = sa.Env.After(sa.span.before(now, RekeyWait(sa.Env, sa.refusals)), sa.RekeyDue)
}

// childRefused is for a CHILD SA that is to be made on the IKE SA. Where the exchange that made
// the IKE SA made one for the same policy, a new IKE SA does so again.
func childRefused(sa *SA, p *core.Policy, why Cause) {
	if sa.State != Established || sa.first != p.Ref || why == NotNow || len(sa.Children) > 0 {
		return
	}
	if sa.noChild++; why == TooMany || sa.noChild >= patience {
		renew(sa, p, "that it has no CHILD SA")
	}
}

// renew asks for an IKE SA that takes over. p is what it begins with; nil: what sa has.
func renew(sa *SA, p *core.Policy, what string) {
	if !sa.Peer.Initiates() {
		return
	}
	if sa.Keeper.Renew(sa, p) {
		sa.Event(core.EvNotify, "the peer does not let us replace %s, so a new IKE SA is made: see whether the peer's pfs-group is ours, and whether it supports CREATE_CHILD_SA", what)
	}
}

// abandoned is for a CHILD SA whose lifetime ended because the peer refused to replace it. Without
// another one the IKE SA is of no use any more. Who may connect is told so, and connects anew.
func (c *Child) abandoned() {
	sa := c.SA
	if c.Refusals > 0 && sa.State == Established && !slices.ContainsFunc(sa.Children, (*Child).Live) && !sa.Peer.Initiates() {
		sa.Delete("the peer refused to replace its last CHILD SA")
	}
}
