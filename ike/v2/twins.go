package v2

import (
	"slices"
	"time"

	"culvert/ike/core"
)

// Twins: both ends began at once, neither knew of the other's, and both came up.
// The one with the lowest nonce goes, and who began it deletes it, as at a
// collision of rekeys (RFC 7296 §2.8.1).

// TwinDelay is the pause before one of two twins is closed, and between attempts.
const TwinDelay = 3 * time.Second

// birth is how an SA came to be, seen from here: who began it, when that was
// (the peer's: when its request came), when it was up, and the lowest nonce of
// the exchange. What replaces an SA at a rekey has its birth from it, so that both
// ends find the same loser also while one of the two is being rekeyed.
type birth struct {
	mine      bool
	begun, up time.Time
	lowNonce  []byte
}

// twins reports whether a and b were begun by both ends at once: each before who
// began it had the other one. What the peer began may have been under way to us
// for as long as a request is repeated.
func twins(a, b birth) bool {
	if a.mine == b.mine || a.up.IsZero() || b.up.IsZero() {
		return false
	}
	mine, theirs := a, b
	if b.mine {
		mine, theirs = b, a
	}
	return !mine.begun.After(theirs.up) && theirs.begun.Before(mine.up.Add(core.TimeToGiveUp))
}

// Twin reports whether two IKE SAs with one peer are twins.
func (sa *SA) Twin(s *SA) bool { return twins(sa.birth, s.birth) }

// TwinsSince is when the second of two twins came up.
func (sa *SA) TwinsSince(twin *SA) time.Time {
	if sa.birth.up.After(twin.birth.up) {
		return sa.birth.up
	}
	return twin.birth.up
}

// YieldsTo says which of two twins goes.
func (sa *SA) YieldsTo(twin *SA) bool { return lower(sa.birth.lowNonce, twin.birth.lowNonce) }

// Begun reports whether we began it or the IKE SA that it comes from by rekeys.
func (sa *SA) Begun() bool { return sa.birth.mine }

// Confirmed reports whether the peer is known to have what its requests made.
func (sa *SA) Confirmed() bool {
	return !slices.ContainsFunc(sa.children, func(c *Child) bool { return !c.sure })
}

// TakeOver makes CHILD SAs for the policies that only the other SA serves, and
// reports whether none is missing. One for another identity than ours always is.
func (sa *SA) TakeOver(from *SA) bool {
	all := true
	for _, c := range from.children {
		p := c.policy
		if !c.Live() || slices.ContainsFunc(sa.children, func(d *Child) bool { return d.policy.Ref == p.Ref && d.Live() && !d.standby }) {
			continue
		}
		all = false
		if !sa.MayHave(p) {
			continue
		}
		if !sa.Making(p) && !sa.serves(p) {
			sa.CreateChild(p, nil)
		}
	}
	return all
}

// settleTwins closes one of two CHILD SAs that are twins for the same traffic. It
// waits until the peer has both and neither is being rekeyed.
func (c *Child) settleTwins() {
	if !c.live() {
		return // the one that replaces it comes here too
	}
	for _, d := range c.sa.children {
		if d == c || !d.live() || !sameTraffic(c, d) || !twins(c.birth, d.birth) {
			continue
		}
		loser, winner := c, d
		if lower(d.birth.lowNonce, c.birth.lowNonce) {
			loser, winner = d, c
		}
		switch {
		case !loser.birth.mine:
		case !winner.sure || c.rekeying != nil || d.rekeying != nil:
			c.sa.env.After(TwinDelay, c.settleTwins)
		default:
			loser.Delete("both ends made a CHILD SA for the same traffic")
		}
		return
	}
}
