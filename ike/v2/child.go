package v2

import (
	"fmt"
	"slices"
	"time"

	"culvert/ike/core"
	"culvert/spd/selector"
)

// Child is one CHILD SA: a pair of ESP SAs, one in each direction.
//
//	standby ──(peer has it)──► live ──rekeyed──► superseded ──deleted──► gone
//
// Standby says only that it does not seal yet; it opens from the beginning.
type Child struct {
	id     core.ChildID
	sa     *SA
	policy *core.Policy
	agreement
	spiIn    uint32
	lowNonce []byte // lowest nonce of the exchange that made it
	birth    birth  // of the first CHILD SA of its line

	standby  bool
	sure     bool      // the peer is known to have it
	closing  bool      // our Delete for it is queued or under way
	awaited  bool      // with closing: the peer is to delete it, not we
	gone     bool      // it is no more
	rekeying *exchange // our rekey of it, queued or under way
	refusals int       // of our rekeys of it
	theirs   *Child    // its successor by the peer's rekey
	after    *Child    // its predecessor, while that lives
	asked    *exchange // our request whose answer shows that the peer has it
	timers   [3]*core.Timer
}

// agreement is what two peers agreed on for a CHILD SA.
type agreement struct {
	suite         core.Suite
	spiOut        uint32
	local, remote []selector.TS
	pairs         []selector.Pair
	unpadded      bool // the peer accepts no TFC padding (RFC 7296 §1.3.1)
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

func (c *Child) ID() core.ChildID       { return c.id }
func (c *Child) Policy() *core.Policy   { return c.policy }
func (c *Child) Pairs() []selector.Pair { return c.pairs }
func (c *Child) String() string         { return fmt.Sprintf("%s{%d}", c.sa.peer.Name, c.id) }

// redundant waits for the peer to delete what lost a collision of rekeys.
func (c *Child) redundant() {
	if c.gone || c.closing {
		return
	}
	c.closing, c.awaited = true, true
	env := c.sa.env
	env.Emit(core.Retire{Child: c.id})
	env.Timers.Stop(c.timers[softTimer])
	env.Timers.Stop(c.timers[hardTimer])
	c.timers[hardTimer] = env.After(replacedLife, func() { c.end("redundant after a collision of rekeys") })
}

// live reports whether it carries traffic and nothing is about to replace it.
func (c *Child) live() bool { return !c.gone && !c.closing && c.theirs == nil }

// Live is for the endpoint: this CHILD SA serves its policy.
func (c *Child) Live() bool { return !c.gone && !c.closing }

// install puts what an exchange agreed on into the data plane. It comes before
// the message that lets the peer use it.
func (x *exchange) install(standby bool) error {
	sa := x.sa
	ag := x.agreed
	fromI, fromR, err := childKeys(sa.suite.PRF, sa.keys.d, ag.suite, x.shared, x.ni, x.nr, x.extra)
	if err != nil {
		return end(0, "%v", err)
	}
	in, out := fromI, fromR
	if x.mine {
		in, out = fromR, fromI
	}
	in.SPI, out.SPI = x.spi, ag.spiOut
	sa.owner.Use(x.policy)
	p := &x.policy.Proposal
	low := lowest(x.ni, x.nr)
	c := &Child{id: sa.env.NewChildID(), sa: sa, policy: x.policy, agreement: ag, spiIn: x.spi,
		lowNonce: low,
		birth:    birth{mine: x.mine, begun: x.begun, up: sa.env.Now(), lowNonce: low}, standby: standby, sure: x.mine}
	x.spi = 0 // it is the data plane's now
	soft := softLife(sa.env, p.Lifetime)
	padTo, dummies := tfc(x.policy, ag)
	sa.env.Emit(core.Install{Child: c.id, SA: sa.id, Policy: x.policy.Ref, Peer: sa.peer.Name, Client: sa.clientOf(x.policy),
		Protocol: x.policy.Protocol, Tunnel: x.policy.Tunnel,
		Encr: ag.suite.Encr, Integ: ag.suite.Integ, ESN: ag.suite.ESN, In: in, Out: out,
		Standby: standby, Pairs: ag.pairs, Local: sa.local, Remote: sa.remote, UDP: sa.inUDP(x.policy),
		ReplayWindow: p.ReplayWindow, TFC: padTo, Dummies: dummies, Soft: soft, Hard: p.Lifetime,
		SoftBytes: softBytes(sa.env, p.Lifebytes), HardBytes: p.Lifebytes})
	c.timers[softTimer] = sa.env.After(soft, func() { c.softEnd() })
	c.timers[hardTimer] = sa.env.After(p.Lifetime, func() { c.HardEnd("its lifetime ended") })
	sa.children = append(sa.children, c)
	x.made = c
	sa.owner.ChildMade(c)
	if standby && x.old == nil {
		c.awaitQuiet()
	}
	sa.emit(core.Event{Kind: core.EvChildUp, Child: c.id, Policy: x.policy.Ref,
		Reason: fmt.Sprintf("%s, in %08x, out %08x", suiteName(ag.suite), c.spiIn, c.spiOut) + x.narrowed()})
	return nil
}

// tfc is how long the SA's inner packets are made, and how many dummies look like them. In transport mode the length of
// what is inside is not always said there, so nothing may stand behind it (RFC 4303 §2.7).
func tfc(p *core.Policy, ag agreement) (padTo, dummies int) {
	if ag.unpadded || !p.Tunnel || p.Protocol != core.ProtoESP {
		return 0, 0
	}
	return p.Proposal.TFC, p.Proposal.Dummies
}

func suiteName(s core.Suite) string {
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

// awaitQuiet begins (anew) the wait of a responder.
func (c *Child) awaitQuiet() {
	c.sa.env.Timers.Stop(c.timers[quietTimer])
	c.timers[quietTimer] = c.sa.env.After(quiet, func() {
		if other := c.replacement(); other != nil && !other.standby {
			c.awaitQuiet() // nothing is lost by waiting on
			return
		}
		c.Activate()
	})
}

// Confirm says that the peer is known to have it.
func (c *Child) Confirm() {
	c.sure = true
	c.Activate()
}

// Activate lets it seal.
func (c *Child) Activate() {
	if c.gone || c.closing || !c.standby {
		return
	}
	c.standby = false
	c.sa.env.Timers.Stop(c.timers[quietTimer])
	c.sa.env.Emit(core.Activate{Child: c.id})
}

// Heard says that authenticated traffic came on it.
func (c *Child) Heard() { c.sa.hear() }

// peerHasAnswer is called when a new request shows that the peer got our last
// response, and with it whatever CHILD SA that made.
func (sa *SA) peerHasAnswer() {
	for _, c := range sa.children {
		c.Confirm()
	}
}

// Needed says that there is traffic for it, while it may stand by. The peer is asked whether it is alive: one that answers
// has had our response to its IKE_AUTH, since it speaks to nobody before, and very likely one to CREATE_CHILD_SA, too, which
// left earlier. So a responder's first packets wait for a round trip and not for quiet.
func (c *Child) Needed() {
	sa := c.sa
	if !c.standby || !c.Live() || c.after != nil || c.asked != nil || sa.state != Established {
		return
	}
	if other := c.replacement(); other != nil && !other.standby {
		return
	}
	x := newExchange(row(inform))
	x.shows, x.still = c, func() bool { return c.standby && c.asked == x }
	c.asked = x
	sa.start(x)
}

// peerLacksAnswer is called when the peer repeats a request.
func (sa *SA) peerLacksAnswer() {
	for _, c := range sa.children {
		c.asked = nil // it may have been answered before
		if c.standby && c.after == nil {
			c.awaitQuiet()
		}
	}
}

func (c *Child) softEnd() { c.Rekey() }

// Rekey begins to replace it, unless that is under way.
func (c *Child) Rekey() {
	if !c.live() || c.rekeying != nil {
		return
	}
	if c.sa.state != Established {
		return // its IKE SA goes, and with it the CHILD SA
	}
	if c.standby {
		c.rekeyLater() // the peer may not have it yet, and would refuse
		return
	}
	if c.sa.parkedRekey(rekeyChild, c) != nil {
		c.rekeyLater() // unless the peer's rekey is through by then
		return
	}
	x := newExchange(row(rekeyChild))
	x.policy, x.old = c.policy, c
	x.still = func() bool {
		if c.live() && c.sa.state == Established {
			return true
		}
		c.rekeying = nil
		return false
	}
	c.rekeying = x
	c.sa.start(x)
}

// rekeyLater tries again, as long as its hard lifetime allows: later after each refusal.
func (c *Child) rekeyLater() {
	if !c.gone {
		env := c.sa.env
		env.Timers.Stop(c.timers[softTimer])
		c.timers[softTimer] = env.After(rekeyWait(env, c.refusals), c.softEnd)
	}
}

// rekeyWait is how long to wait before the next attempt at a rekey, of which the peer
// has refused so many: longer from the fourth on. Both ends may have begun at once, and
// draw when to try again.
func rekeyWait(env *core.Env, refusals int) time.Duration {
	return core.RetryWait(max(refusals-2, 1)) + env.Jitter(2*time.Second)
}

// HardEnd ends it because it must not be used any more.
func (c *Child) HardEnd(why string) {
	if c.gone {
		return
	}
	already := c.closing
	c.Delete(why)
	if already {
		c.end(why) // the peer does not answer; the data plane will not use it
	}
}

// Delete ends it in order: the peer is told.
func (c *Child) Delete(why string) {
	if c.gone || c.closing {
		return
	}
	c.closing = true
	c.sa.env.Emit(core.Retire{Child: c.id})
	if c.theirs != nil {
		c.theirs.Activate()
	}
	if c.sa.state >= Closing {
		return
	}
	x := newExchange(row(inform))
	x.remove, x.reason = []*Child{c}, why
	x.still = func() bool { return !c.gone }
	c.sa.start(x)
}

// end takes it away without a word. While another CHILD SA serves the same
// policy it lingers, because packets may be under way.
func (c *Child) end(why string) {
	if c.gone {
		return
	}
	sa := c.sa
	c.gone = true
	for _, t := range c.timers {
		sa.env.Timers.Stop(t)
	}
	sa.children = slices.DeleteFunc(sa.children, func(d *Child) bool { return d == c })
	if p := sa.parkedRekey(rekeyChild, c); p != nil {
		p.abandon()
		sa.unpark(p)
	}
	if c.theirs != nil {
		c.theirs.Activate()
		c.theirs.after = nil
	}
	if old := c.after; old != nil && old.theirs == c { // the peer took its rekey back: the old one serves on
		old.theirs = nil
		if old.rekeying == nil && !old.closing {
			old.rekeyLater()
		}
	}
	sa.owner.ChildGone(c)
	other := c.replacement()
	if other == nil {
		sa.env.Emit(core.Remove{Child: c.id})
		sa.emit(core.Event{Kind: core.EvChildDown, Child: c.id, Policy: c.policy.Ref, Reason: why})
		sa.owner.ChildEnded(sa, c.policy)
		return
	}
	other.Activate() // nothing else is left to seal with
	sa.env.Emit(core.Retire{Child: c.id})
	sa.linger(c.id)
}

// linger takes a CHILD SA out of the data plane after a moment, or at once if a
// peer that rekeys without end has made too many of them linger.
func (sa *SA) linger(id core.ChildID) {
	env := sa.env
	if sa.lingering >= maxChildren {
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
// traffic; one that seals already before one that stands by. A policy may serve
// several peers, told apart as clients.go does.
func (c *Child) replacement() *Child {
	var standby *Child
	for _, sa := range append([]*SA{c.sa}, c.sa.owner.Namesakes(c.sa)...) {
		if sa.state == Ended || sa.peerID != c.sa.peerID || sa != c.sa && !c.sa.samePerson(sa) || c.policy.Unique && sa.client != c.sa.client {
			continue
		}
		for _, d := range slices.Backward(sa.children) {
			switch {
			case d == c || d.policy.Ref != c.policy.Ref || !d.Live() || d != c.theirs && !d.covers(c):
			case !d.standby:
				return d
			case standby == nil:
				standby = d
			}
		}
	}
	return standby
}

// childBySPI finds a CHILD SA by the SPI that the peer receives with.
func (sa *SA) childBySPI(spiOut uint32) *Child {
	for _, c := range sa.children {
		if c.spiOut == spiOut {
			return c
		}
	}
	return nil
}

// covers reports whether all that d carried c can carry.
func (c *Child) covers(d *Child) bool {
	return !slices.ContainsFunc(d.pairs, func(p selector.Pair) bool {
		return !slices.ContainsFunc(c.pairs, func(q selector.Pair) bool { return q.Covers(p) })
	})
}

// sameTraffic reports whether two CHILD SAs cover the same.
func sameTraffic(a, b *Child) bool {
	return a.policy.Ref == b.policy.Ref && slices.Equal(a.pairs, b.pairs)
}

// Rebind gives it its policy in a new configuration in which the policy is equal.
func (c *Child) Rebind(p *core.Policy) { c.policy = p }
