package sa

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"culvert/ike/core"
	"culvert/spd/selector"
)

// Child is one CHILD SA: a pair of ESP or AH SAs, one in each direction.
//
//	standby ──(peer has it)──► live ──rekeyed──► superseded ──deleted──► gone
//
// Standby says only that it does not seal yet; it opens from the beginning.
type Child struct {
	ID     core.ChildID
	SA     *SA
	Policy *core.Policy
	Agreement
	SPIIn    uint32
	AHIn     uint32 // our SPI of the AH around it; 0: there is none
	LowNonce []byte // lowest nonce of the exchange that made it
	Birth    Birth  // of the first CHILD SA of its line of successors
	Line     int    // of the data path: see lines.go
	Shared   bool   // both ends may make others beside it

	Standby  bool
	Sure     bool   // the peer is known to have it
	Closing  bool   // our Delete for it is queued or under way
	Awaited  bool   // with Closing: the peer is to delete it, not we
	Gone     bool   // it is no more
	Rekeying bool   // our rekey of it is queued or under way
	Refusals int    // of our rekeys of it
	Theirs   *Child // its successor by the peer's rekey
	After    *Child // its predecessor, while that lives

	made     time.Time
	span     span
	declined bool      // the peer asked for transport mode and got tunnel mode
	asked    *Question // whose answer shows that the peer has it
	replaced bool      // an event said that it was rekeyed
	timers   [3]*core.Timer
}

// Agreement is what two peers agreed on for a CHILD SA.
type Agreement struct {
	Suite         core.Suite
	SPIOut        uint32
	AHOut         uint32 // of the AH around it; 0: there is none
	Local, Remote []selector.TS
	Pairs         []selector.Pair
	Unpadded      bool // the peer accepts no TFC padding (RFC 7296 §1.3.1)
	// Lifetime and Lifebytes are how long it lives where the ends agree on that (IKEv1); 0: as the proposal says.
	Lifetime  time.Duration
	Lifebytes uint64
}

// life is how long it lives.
func (a *Agreement) life(p *core.Proposal) (time.Duration, uint64) {
	return cmp.Or(a.Lifetime, p.Lifetime), cmp.Or(a.Lifebytes, p.Lifebytes)
}

const (
	softTimer = iota
	hardTimer
	quietTimer
)

// linger is how long a CHILD SA that was replaced goes on opening: packets that
// were under way when it was deleted are not lost.
const linger = 5 * time.Second

// quiet is how long the responder of a new CHILD SA waits, after its last
// response, for a sign that the peer has it before it seals on its own account.
const quiet = 5 * time.Second

// Bounds on what an authenticated peer can make us keep: CHILD SAs of one IKE SA,
// and traffic selectors of one CHILD SA on each side.
const (
	MaxChildren  = 256 // that were not replaced; twice as many with those that were
	MaxSelectors = 16
)

// full reports whether the peer gets no more CHILD SAs.
func full(sa *SA) bool {
	n := 0
	for _, c := range sa.Children {
		if c.Theirs == nil {
			n++
		}
	}
	return n >= MaxChildren || len(sa.Children) >= 2*MaxChildren
}

// CheckSPI refuses a CHILD SA whose SPI the peer must not receive with. The error is a *Refusal.
func CheckSPI(out uint32) error {
	if out < minSPI {
		return Refuse(NoProposal, "the peer wants to receive with SPI %d, and those below %d are reserved (RFC 4303 §2.1), which is a fault of its software: update the peer", out, minSPI)
	}
	return nil
}

const minSPI = 256

func (c *Child) String() string { return fmt.Sprintf("%s{%d}", c.SA.Peer.Name, c.ID) }

// NewChild is a CHILD SA that two peers agreed on, with its keys.
type NewChild struct {
	Policy    *core.Policy
	Agreement Agreement
	In, Out   core.HalfSA
	AH        core.Around
	Birth     Birth
	// Standby: the peer may not have it yet. Replaces: it is the successor of another.
	Standby, Replaces bool
	Told              bool   // the peer will say that it has it: nothing has to be guessed
	Note              string // for people, behind what was agreed on
	Declined          bool   // the peer asked for transport mode
	Line              int    // of the data path
	Shared            bool   // the peer may have others made beside it (RFC 9611)
}

// Install puts a CHILD SA into the data plane. It comes before the message that lets
// the peer use it.
func (sa *SA) Install(n NewChild) *Child {
	sa.Policies.Use(n.Policy)
	p := &n.Policy.Proposal
	ag := n.Agreement
	c := &Child{ID: sa.Env.NewChildID(), SA: sa, Policy: n.Policy, Agreement: ag, SPIIn: n.In.SPI, AHIn: n.AH.In.SPI,
		LowNonce: n.Birth.LowNonce, Birth: n.Birth, made: sa.Env.Now(), Standby: n.Standby, Sure: n.Birth.Mine, declined: n.Declined, Line: n.Line, Shared: n.Shared}
	c.Birth.Up = sa.Env.Now()
	life, bytes := ag.life(p)
	soft := softLife(sa.Env, life)
	padTo, dummies := tfc(n.Policy, ag)
	local, remote := espPath(sa, n.Policy)
	sa.Env.Emit(core.Install{Child: c.ID, SA: sa.ID, Policy: n.Policy.Ref, Peer: sa.Peer.Name, Client: clientOf(sa, n.Policy), Line: n.Line,
		Protocol: n.Policy.Protocol, Tunnel: n.Policy.Tunnel,
		Encr: ag.Suite.Encr, Integ: ag.Suite.Integ, ESN: ag.Suite.ESN, In: n.In, Out: n.Out, AH: n.AH,
		Standby: n.Standby, Pairs: ag.Pairs, Local: local, Remote: remote, UDP: sa.InUDP(n.Policy),
		ReplayWindow: p.ReplayWindow, Watched: sa.Peer.Initiates() && asksHints(sa.Peer), TFC: padTo, Dummies: dummies, Soft: soft, Hard: life,
		SoftBytes: softBytes(sa.Env, bytes), HardBytes: bytes})
	if sa.State < Established {
		sa.first = n.Policy.Ref
	}
	c.span = newSpan(sa.Env.Now(), soft, life)
	c.timers[softTimer] = sa.Env.After(soft, c.Rekey)
	c.timers[hardTimer] = sa.Env.After(life, func() {
		c.HardEnd("its lifetime ended")
		c.abandoned()
	})
	sa.Children = append(sa.Children, c)
	sa.Keeper.ChildMade(c)
	if n.Standby && !n.Replaces && !n.Told {
		c.awaitQuiet()
	}
	sa.Emit(core.Event{Kind: core.EvChildUp, Child: c.ID, Policy: n.Policy.Ref,
		Reason: fmt.Sprintf("%s, in %08x, out %08x", SuiteName(ag.Suite), c.SPIIn, c.SPIOut) + c.around() + lineText(c.Line) + n.Note})
	return c
}

// around names the AH around it, for people.
func (c *Child) around() string {
	if c.AHIn == 0 {
		return ""
	}
	return fmt.Sprintf(", within AH %s, in %08x, out %08x", c.Suite.AH.Name, c.AHIn, c.AHOut)
}

// tfc is how long the SA's inner packets are made, and how many dummies look like them. In transport mode the length of
// what is inside is not always said there, so nothing may stand behind it (RFC 4303 §2.7).
func tfc(p *core.Policy, ag Agreement) (padTo, dummies int) {
	if ag.Unpadded || !p.Tunnel || p.Protocol != core.ProtoESP {
		return 0, 0
	}
	return p.Proposal.TFC, p.Proposal.Dummies
}

// SuiteName is a suite for people.
func SuiteName(s core.Suite) string {
	name := "ah"
	if s.Encr != nil {
		name = s.Encr.Name
	}
	if s.Integ != nil {
		name += "/" + s.Integ.Name
	}
	if s.Group != nil {
		name += "/" + s.Group.Name
	}
	for _, k := range s.Additional {
		name += "+" + k.Name
	}
	if s.ESN {
		name += "/esn"
	}
	return name
}

// Serving reports whether it carries traffic and nothing is about to replace it.
func (c *Child) Serving() bool { return c.Live() && c.Theirs == nil }

// Live reports whether it serves its policy.
func (c *Child) Live() bool { return !c.Gone && !c.Closing }

// awaitQuiet begins (anew) the wait of a responder. While another CHILD SA of the IKE SA seals, nothing is lost by waiting on.
// One of another IKE SA may seal for nobody: a peer that was killed and comes back does not always say so (INITIAL_CONTACT).
// Then the peer is asked.
func (c *Child) awaitQuiet() {
	c.SA.Env.Timers.Stop(c.timers[quietTimer])
	c.timers[quietTimer] = c.SA.Env.After(quiet, func() {
		other := c.replacement()
		if other == nil || other.Standby {
			c.Activate()
			return
		}
		if other.SA != c.SA && !c.SA.Birth.Twin(other.SA.Birth) {
			c.confirm()
		}
		c.awaitQuiet()
	})
}

// Confirm says that the peer is known to have it.
func (c *Child) Confirm() {
	c.Sure = true
	c.Activate()
}

// Activate lets it seal.
func (c *Child) Activate() {
	if c.Gone || c.Closing || !c.Standby {
		return
	}
	c.Standby = false
	c.SA.Env.Timers.Stop(c.timers[quietTimer])
	c.SA.Env.Emit(core.Activate{Child: c.ID})
}

// PeerHasAnswer is called when a new request shows that the peer got our last
// response, and with it whatever CHILD SA that made.
func (sa *SA) PeerHasAnswer() {
	for _, c := range sa.Children {
		c.Confirm()
	}
}

// PeerLacksAnswer is called when the peer repeats a request.
func (sa *SA) PeerLacksAnswer() {
	for _, c := range sa.Children {
		c.asked = nil // it may have been answered before
		if c.Standby && c.After == nil {
			c.awaitQuiet()
		}
	}
}

// Question is whether the peer has a CHILD SA that stands by.
type Question struct{ child *Child }

// Wanted reports whether the answer is still of use.
func (q *Question) Wanted() bool { return q.child.Standby && q.child.asked == q }

// Answered says that the peer is there, and so has the CHILD SA.
func (q *Question) Answered() {
	if c := q.child; c.asked == q {
		c.asked = nil
		c.Activate()
	}
}

// Needed says that there is traffic for it, while it may stand by. The peer is asked whether it is alive: one that answers
// has had our response to its IKE_AUTH, since it speaks to nobody before, and very likely one to CREATE_CHILD_SA, too, which
// left earlier. So a responder's first packets wait for a round trip and not for quiet.
func (c *Child) Needed() {
	if !c.Standby {
		return
	}
	if other := c.replacement(); other != nil && !other.Standby {
		return
	}
	c.confirm()
}

// confirm asks the peer, unless it was asked.
func (c *Child) confirm() {
	if c.Live() && c.After == nil && c.asked == nil && c.SA.State == Established {
		c.asked = &Question{child: c}
		c.SA.Protocol.Confirm(c.asked)
	}
}

// MayRekey reports whether it can be replaced.
func (c *Child) MayRekey() bool { return c.Serving() && c.SA.State == Established }

// Rekey begins to replace it, unless that is under way.
func (c *Child) Rekey() {
	if c.Serving() && c.SA.State == Expired && revive(c.SA) {
		c.RekeyLater()
		return
	}
	if c.Rekeying || !c.MayRekey() { // its IKE SA goes, and with it the CHILD SA
		return
	}
	if c.Standby {
		c.RekeyLater() // the peer may not have it yet, and would refuse
		return
	}
	c.Rekeying = true
	if !c.SA.Protocol.RekeyChild(c) {
		c.Rekeying = false
		c.RekeyLater()
	}
}

// RekeyLater tries again, as long as its hard lifetime allows: later after each refusal.
func (c *Child) RekeyLater() {
	if !c.Gone {
		env := c.SA.Env
		env.Timers.Stop(c.timers[softTimer])
		c.timers[softTimer] = env.After(c.span.before(env.Now(), RekeyWait(env, c.Refusals)), c.Rekey)
	}
}

// Rekeyed is for the protocol: made replaces c.
func (c *Child) Rekeyed(made *Child) {
	c.replaced = true
	c.SA.Emit(core.Event{Kind: core.EvChildRekeyed, Child: made.ID, OldC: c.ID, Policy: made.Policy.Ref})
}

// Supersede is for a version that does not delete what was replaced: made carries the traffic from now on, and c
// opens until its lifetime ends or the peer deletes it, or until there are too many of the kind. Of two that seal the newest
// does. Where made ends before, also before this call, c serves on.
func (c *Child) Supersede(made *Child) {
	c.Rekeying = false
	if c.Gone || c.Closing || made.Gone {
		return
	}
	if other := c.Theirs; other != nil && other != made && other.Serving() && made.Serving() && made.made.Sub(other.made) < core.TimeToGiveUp { // both ends rekeyed it at once: one of the two is rekeyed next
		loser, winner := other, made
		if Lower(made.LowNonce, other.LowNonce) {
			loser, winner = made, other
		}
		loser.Supersede(winner)
		return
	}
	c.Theirs, made.After = made, c
	c.SA.Env.Timers.Stop(c.timers[softTimer])
	c.Rekeyed(made)
	for sa := c.SA; len(sa.Children) >= 2*MaxChildren; {
		i := slices.IndexFunc(sa.Children, func(d *Child) bool { return d.replaced && d.Live() })
		if i < 0 {
			return
		}
		sa.Children[i].Delete("it was replaced, and there are too many of those")
	}
}

// Redundant waits for the peer to delete what lost a collision of rekeys.
func (c *Child) Redundant() {
	if c.Gone || c.Closing {
		return
	}
	c.Closing, c.Awaited = true, true
	env := c.SA.Env
	env.Emit(core.Retire{Child: c.ID})
	env.Timers.Stop(c.timers[softTimer])
	env.Timers.Stop(c.timers[hardTimer])
	c.timers[hardTimer] = env.After(replacedLife, func() { c.End("redundant after a collision of rekeys") })
}

// HardEnd ends it because it must not be used any more.
func (c *Child) HardEnd(why string) {
	if c.Gone {
		return
	}
	already := c.Closing
	c.Delete(why)
	if already {
		c.End(why) // the peer does not answer; the data plane will not use it
	}
}

// Delete ends it in order: the peer is told.
func (c *Child) Delete(why string) {
	if c.Gone || c.Closing {
		return
	}
	c.Closing = true
	c.SA.Env.Emit(core.Retire{Child: c.ID})
	if c.Theirs != nil {
		c.Theirs.Activate()
	}
	if c.SA.State < Closing {
		c.SA.Protocol.DeleteChild(c, why)
	}
}

// End takes it away. The peer is not told. While another CHILD SA serves the same
// policy it lingers, because packets may be under way.
func (c *Child) End(why string) {
	if c.Gone {
		return
	}
	sa := c.SA
	defer emptied(sa)
	c.Gone = true
	for _, t := range c.timers {
		sa.Env.Timers.Stop(t)
	}
	sa.Children = slices.DeleteFunc(sa.Children, func(d *Child) bool { return d == c })
	sa.Protocol.ChildGone(c)
	lining{sa: sa}.gone(c)
	if c.Theirs != nil {
		c.Theirs.Activate()
		c.Theirs.After = nil
	}
	if old := c.After; old != nil && old.Theirs == c { // the peer took its rekey back: the old one serves on
		old.Theirs, old.replaced = nil, false
		if !old.Rekeying && !old.Closing {
			old.RekeyLater()
		}
	}
	_, detached := sa.Protocol.(Detached)
	for _, d := range sa.Children { // it may have replaced several (Supersede)
		if detached && d.Theirs == c {
			d.Theirs, d.replaced = nil, false
			d.RekeyLater()
		}
	}
	sa.Keeper.ChildGone(c)
	other := c.replacement()
	if other == nil {
		sa.Env.Emit(core.Remove{Child: c.ID})
		if !c.replaced {
			sa.Emit(core.Event{Kind: core.EvChildDown, Child: c.ID, Policy: c.Policy.Ref, Reason: why})
		}
		sa.Keeper.ChildEnded(sa, c.Policy)
		return
	}
	switch {
	case c.replaced:
	case c.Line != 0:
		sa.Emit(core.Event{Kind: core.EvChildDown, Child: c.ID, Policy: c.Policy.Ref, Reason: why + lineText(c.Line)})
	default: // as one of two that were made at once; its traffic goes on by the other
		sa.Emit(core.Event{Kind: core.EvChildRekeyed, Child: other.ID, OldC: c.ID, Policy: c.Policy.Ref, Reason: why})
	}
	if !c.Standby {
		other.Activate() // nothing else is left to seal with
	}
	sa.Env.Emit(core.Retire{Child: c.ID})
	removeLater(sa, c.ID)
}

// Refused is for the protocol, where the peer deletes it: a peer that wanted transport mode and got tunnel mode says in
// this way that it does not do (RFC 7296 §1.3.1).
func (c *Child) Refused() {
	if sa := c.SA; c.declined && !c.replaced && sa.Env.Now().Sub(c.Birth.Up) < declineTime {
		sa.Emit(core.Event{Kind: core.EvNoProposal, Child: c.ID, Policy: c.Policy.Ref, Detail: Explainer{sa}.ModeParts(c.Policy),
			Reason: "the peer asked for transport mode, got tunnel mode by the policy, and deleted the CHILD SA: tunnel differs on the two sides"})
	}
}

// declineTime is within which time a Delete is an answer to the mode.
const declineTime = 10 * time.Second

// removeLater takes a CHILD SA out of the data plane after a moment, or at once if a
// peer that rekeys without end has made too many of them linger.
func removeLater(sa *SA, id core.ChildID) {
	env := sa.Env
	if sa.lingering >= MaxChildren {
		env.Emit(core.Remove{Child: id})
		return
	}
	sa.lingering++
	env.After(linger, func() {
		sa.lingering--
		env.Emit(core.Remove{Child: id})
	})
}

// replacement is another CHILD SA with the same peer that carries the same
// traffic; one that seals already before one that stands by. One that is for all lines of the data path
// cannot be replaced by one that is for a single line. A policy may serve
// several peers, told apart as clients.go does.
func (c *Child) replacement() *Child {
	var standby *Child
	for _, sa := range append([]*SA{c.SA}, c.SA.Others.Namesakes(c.SA)...) {
		if sa.State == Ended || sa.PeerID != c.SA.PeerID || sa != c.SA && !c.SA.SamePerson(sa) || c.Policy.Unique && sa.client != c.SA.client {
			continue
		}
		for _, d := range slices.Backward(sa.Children) {
			switch {
			case d == c || d.Policy.Ref != c.Policy.Ref || !d.Live() || d != c.Theirs && (!d.covers(c) || c.Line == 0 && d.Line != 0):
			case !d.Standby:
				return d
			case standby == nil:
				standby = d
			}
		}
	}
	return standby
}

// covers reports whether all that d carried c can carry.
func (c *Child) covers(d *Child) bool {
	return !slices.ContainsFunc(d.Pairs, func(p selector.Pair) bool {
		return !slices.ContainsFunc(c.Pairs, func(q selector.Pair) bool { return q.Covers(p) })
	})
}

// sameTraffic reports whether two CHILD SAs cover the same.
func sameTraffic(a, b *Child) bool {
	return a.Policy.Ref == b.Policy.Ref && slices.Equal(a.Pairs, b.Pairs)
}

// ChildBySPI finds a CHILD SA by the SPI that the peer receives with.
func (sa *SA) ChildBySPI(out uint32) *Child {
	for _, c := range sa.Children {
		if c.SPIOut == out {
			return c
		}
	}
	return nil
}

// Has reports whether a policy has a CHILD SA here.
func (sa *SA) Has(ref core.PolicyRef) bool {
	return slices.ContainsFunc(sa.Children, func(c *Child) bool { return c.Policy.Ref == ref })
}

// Serves reports whether a policy has one that is Live, and that is for all lines of the data path.
func (sa *SA) Serves(p *core.Policy) bool {
	return slices.ContainsFunc(sa.Children, func(c *Child) bool { return c.Policy.Ref == p.Ref && c.Line == 0 && c.Live() })
}

// MayHave reports whether a policy is for whom the peer proves to be, or for whom
// we connect: one that names no identity is for each of its peer's.
func (sa *SA) MayHave(p *core.Policy) bool { return p.Identity == nil || p.Identity == sa.Identity }
