package sa

import (
	"slices"
	"time"

	"culvert/ike/core"
)

// CHILD SAs outlive the IKE SA that made them where they belong to the two peers (Detached): its lifetime may end without another one,
// since IKEv1 makes phase 1 anew only with dead peer detection, or the peer deletes it alone.
//
//	Established ──its lifetime ends, or the peer deletes it──► another IKE SA with the same peer has what it had
//	                                                    └─none─► Expired
//
// An IKE SA that is Expired has no keys and says nothing any more. It keeps what its CHILD SAs need of it: who the peer is,
// where it is, the inner address. It ends with the last of them, at INITIAL-CONTACT, by command or for a change of the
// configuration, and when another IKE SA with the same peer comes up, which takes them over (Gather). Whoever needs IKE begins
// that one (revive): a CHILD SA at its soft lifetime, or a peer that was silent for dpd-interval. Traffic that has no
// CHILD SA begins one anyway.

// Expire ends an IKE SA whose CHILD SAs live on. The peer is not told.
func Expire(sa *SA, format string, a ...any) {
	if sa.State != Established {
		return
	}
	for _, s := range sa.Others.Namesakes(sa) {
		if s.State == Established && follows(s, sa) {
			HandOver(sa, s)
			break
		}
	}
	for _, c := range slices.Clone(sa.Children) {
		if !c.Sure {
			c.End("its IKE SA is over, and the peer is not known to have it")
		}
	}
	if !slices.ContainsFunc(sa.Children, (*Child).Live) {
		Fade(sa, format, a...)
		return
	}
	sa.Protocol.(Detached).Leave(false)
	sa.Become(Expired)
	each(sa, feature.rest)
	sa.Event(core.EvIKEDown, format+"; its CHILD SAs go on until their own lifetime ends", a...)
	sa.quiet = true
	sa.watch()
	sa.Keepalives()
}

// Fading is how long an IKE SA that is over hears what the peer deletes: a DELETE of a CHILD SA may be under way by it.
const Fading = 3 * time.Second

// Fade ends an IKE SA without CHILD SAs that the peer knows to be over. For a moment it still hears what the peer deletes.
func Fade(sa *SA, format string, a ...any) {
	if sa.State == Ended {
		return
	}
	for _, c := range slices.Clone(sa.Children) {
		c.End("its IKE SA ended")
	}
	sa.Become(Closing)
	each(sa, feature.rest)
	leasing{sa: sa}.end()
	if !sa.quiet {
		sa.Event(core.EvIKEDown, format, a...)
		sa.quiet = true
	}
	sa.Protocol.(Detached).Leave(false)
	sa.Env.After(Fading, func() { sa.End(false, format, a...) })
}

// Present reports whether the peer has proved who it is, and there are or may be CHILD SAs with it.
func Present(sa *SA) bool { return sa.State == Established || sa.State == Expired }

// follows reports whether sa and old, whose peers gave the same ID, are with the same peer: then sa may take over what CHILD
// SAs the other has.
func follows(sa, old *SA) bool {
	return sa.SameDevice(old) || old.Identity == sa.Identity && oneGateway(sa.Peer, sa.Identity) && sa.SamePerson(old)
}

// Gather has an IKE SA that came up take over what expired ones of the same peer have left.
func Gather(sa *SA) {
	if _, ok := sa.Protocol.(Detached); !ok {
		return
	}
	for _, old := range sa.Others.Namesakes(sa) {
		if old.State != Expired || !follows(sa, old) {
			continue
		}
		HandOver(old, sa)
		old.End(false, "another IKE SA with the peer took over")
	}
}

// revive has another IKE SA made that takes over, and reports whether that can be.
func revive(sa *SA) bool {
	if !sa.Peer.Initiates() {
		return false
	}
	sa.Keeper.Reauthenticate(sa)
	return true
}

// overdue rekeys a CHILD SA that another IKE SA has now, if that had to wait.
func (c *Child) overdue() {
	if !c.SA.Env.Now().Before(c.span.soft) && c.Theirs == nil {
		c.RekeyLater()
	}
}

// emptied ends an expired IKE SA that has lost its last CHILD SA.
func emptied(sa *SA) {
	if sa.State == Expired && len(sa.Children) == 0 {
		sa.End(false, "its last CHILD SA ended")
	}
}
