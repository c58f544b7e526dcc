package sa

import (
	"bytes"
	"slices"
	"time"

	"culvert/ike/core"
)

// Twins: both ends began at once, neither knew of the other's, and both came up.
// The one with the lowest nonce goes, and who began it deletes it, as at a
// collision of rekeys (RFC 7296 §2.8.1).

// TwinDelay is the pause before one of two twins is closed, and between attempts.
const TwinDelay = 3 * time.Second

// Birth is how an SA came to be, seen from here: who began it, when that was
// (the peer's: when its request came), when it was up, and the lowest nonce of
// the exchange. What replaces an SA at a rekey has its birth from it, so that both
// ends find the same loser also while one of the two is being rekeyed.
type Birth struct {
	Mine      bool
	Begun, Up time.Time
	LowNonce  []byte
	// Renews: a peer that has an IKE SA and begins another one replaces the first (IKEv1). Only one that was begun before the other was up is a twin.
	Renews bool
}

// Lower reports whether nonce a is lower than b (RFC 7296 §2.8.1).
func Lower(a, b []byte) bool { return bytes.Compare(a, b) < 0 }

// Twin reports whether a and b were begun by both ends at once: each before who
// began it had the other one. What the peer began may have been under way to us
// for as long as a request is repeated.
func (a Birth) Twin(b Birth) bool {
	if a.Mine == b.Mine || a.Up.IsZero() || b.Up.IsZero() {
		return false
	}
	mine, theirs := a, b
	if b.Mine {
		mine, theirs = b, a
	}
	late := core.TimeToGiveUp
	if mine.Renews {
		late = 0
	}
	return !mine.Begun.After(theirs.Up) && theirs.Begun.Before(mine.Up.Add(late))
}

// TwinsSince is when the second of two twins came up.
func (a Birth) TwinsSince(b Birth) time.Time {
	if a.Up.After(b.Up) {
		return a.Up
	}
	return b.Up
}

// YieldsTo says whether a is the one of two twins that goes.
func (a Birth) YieldsTo(b Birth) bool { return Lower(a.LowNonce, b.LowNonce) }

// Confirmed reports whether the peer is known to have what its requests made, and the IKE SA.
func (sa *SA) Confirmed() bool {
	return !slices.ContainsFunc(sa.Children, func(c *Child) bool { return !c.Sure }) && Known(sa)
}

// TakeOver makes CHILD SAs for the policies that only the other SA serves, and
// reports whether none is missing. One for another identity than ours always is. CHILD SAs for single lines of
// the data path are none: they are made anew when the line is busy.
func (sa *SA) TakeOver(from *SA) bool {
	if _, ok := sa.Protocol.(Detached); ok {
		HandOver(from, sa)
		return true
	}
	all := true
	for _, c := range from.Children {
		p := c.Policy
		if !c.Live() || c.Line != 0 || slices.ContainsFunc(sa.Children, func(d *Child) bool { return d.Policy.Ref == p.Ref && d.Line == 0 && d.Live() && !d.Standby }) {
			continue
		}
		all = false
		if !sa.MayHave(p) {
			continue
		}
		if !sa.Protocol.Making(p) && !sa.Serves(p) {
			sa.Protocol.MakeChild(p, nil)
		}
	}
	return all
}

// HandOver has another IKE SA with the same peer carry the CHILD SAs and the lease, where its version can (Detached).
func HandOver(sa, to *SA) {
	if sa == to { // what replaced it was replaced by it
		return
	}
	moved := sa.Children
	for _, c := range moved {
		c.SA = to
	}
	to.Children = append(to.Children, moved...)
	sa.Children = nil
	for _, c := range moved {
		c.overdue()
	}
	if to.Lease == nil {
		leasing{sa: sa}.passTo(to)
	}
}

// twinPatience is after how long one of two CHILD SAs goes that the peer should have deleted: it does
// not know which one has to go.
const twinPatience = time.Minute

// SettleTwins closes one of two CHILD SAs that are twins for the same traffic. It
// waits until the peer has both and neither is being rekeyed.
func (c *Child) SettleTwins() {
	if !c.Serving() || c.Line != 0 {
		return // the one that replaces it comes here too
	}
	for _, d := range c.SA.Children {
		if d == c || d.Line != 0 || !d.Serving() || !sameTraffic(c, d) || !c.Birth.Twin(d.Birth) {
			continue
		}
		loser, winner := c, d
		if d.Birth.YieldsTo(c.Birth) {
			loser, winner = d, c
		}
		switch {
		case !loser.Birth.Mine && c.SA.Env.Now().Before(c.Birth.TwinsSince(d.Birth).Add(twinPatience)): // the peer is to delete it
			c.SA.Env.After(twinPatience, c.SettleTwins)
		case loser.SA.State == Expired: // nobody could tell the peer
			c.SA.Env.After(twinPatience, c.SettleTwins)
		case !winner.Sure || c.Rekeying || d.Rekeying:
			c.SA.Env.After(TwinDelay, c.SettleTwins)
		default:
			loser.Delete("both ends made a CHILD SA for the same traffic")
		}
		return
	}
}
