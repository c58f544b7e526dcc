package v2

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// Rekeying the IKE SA (RFC 7296 §1.3.2, §2.18): a successor is made, the CHILD
// SAs move to it, and who made it deletes the old one. Collisions are settled
// by nonces as for CHILD SAs (§2.8.2).
//
//	HDR, SK{SA, Ni, KEi}  -->  <--  HDR, SK{SA, Nr, KEr}

// replacedLife is how long a replaced SA waits for the peer's Delete.
const replacedLife = time.Minute

// maxReplaced bounds how many replaced SAs a peer that rekeys and never deletes
// can make us keep.
const maxReplaced = 8

func (sa *SA) rekeyDue() {
	if sa.state == Established {
		sa.Rekey()
	}
}

// Rekey begins to replace the IKE SA, unless that is under way.
func (sa *SA) Rekey() {
	busy := func(x *exchange) bool { return x != nil && x.kind.id == rekeyIKE }
	if sa.state != Established || sa.successor != nil || sa.rekeyingIKE() || slices.ContainsFunc(sa.queue, busy) {
		return
	}
	if sa.parkedRekey(rekeyIKE, nil) != nil || sa.inherits != nil && sa.inherits.state == Established {
		sa.rekeyLater() // unless the peer's rekey is through by then, or wins
		return
	}
	x := newExchange(row(rekeyIKE))
	x.still = func() bool { return sa.state == Established && sa.successor == nil }
	sa.start(x)
}

// ikeNegotiation agrees on algorithms and keys of the successor.
type ikeNegotiation struct{ noop }

func (*ikeNegotiation) prepare(x *exchange) error {
	sa := x.sa
	if x.newSPI == 0 {
		x.newSPI = sa.env.RandomSPI()
	}
	x.ni = sa.env.Random(nonceLen)
	return x.offerKey(x.firstGroup(sa.suite.Group, sa.peer.Profile.Groups))
}

func (*ikeNegotiation) request(x *exchange) error {
	spi := binary.BigEndian.AppendUint64(nil, x.newSPI)
	x.out = append(x.out, &message.SA{Proposals: x.sa.rekeyOffer().Proposals(spi)},
		&message.Nonce{Data: x.ni})
	x.addKE()
	return nil
}

func (*ikeNegotiation) accept(x *exchange) error {
	sa := x.sa
	if err := x.mayBegin(); err != nil {
		return err
	}
	offered := find[*message.SA](x.in).Proposals
	s, answer, ok := sa.rekeyOffer().Select(offered)
	if !ok {
		return mismatched(message.NotifyNoProposalChosen, sa.ikeParts(offered), "rekeying the IKE SA: no proposal of the peer fits profile %q", sa.peer.Profile.Name)
	}
	peer, ok := ikeSPIOf(offered, answer.Number)
	if !ok {
		return refuse(message.NotifyInvalidSyntax, "the SPI of the new IKE SA is not 8 bytes")
	}
	x.agreed.suite = s
	x.peerSPI, x.newSPI = peer, sa.env.RandomSPI()
	x.ni = clone(find[*message.Nonce](x.in).Data)
	x.nr = sa.env.Random(nonceLen)
	answer.SPI = binary.BigEndian.AppendUint64(nil, x.newSPI)
	x.out = append(x.out, &message.SA{Proposals: []message.Proposal{answer}}, &message.Nonce{Data: x.nr})
	return x.answerKey(s.Group)
}

func (*ikeNegotiation) reply(x *exchange) error {
	if err := x.mayBegin(); err != nil {
		return err
	}
	x.addKE()
	if len(x.missing()) > 0 {
		x.addLink(x)
		return nil
	}
	return x.makeSuccessor()
}

func (*ikeNegotiation) complete(x *exchange) error {
	sa := x.sa
	sap := find[*message.SA](x.in)
	if sap == nil {
		n := errorNotify(x.in)
		if n == nil {
			return refuse(message.NotifyInvalidSyntax, "the response has no SA and no reason")
		}
		if n.Kind == message.NotifyInvalidKEPayload {
			return x.otherGroup(n, sa.peer.Profile.Groups, fmt.Sprintf("dh-group of profile %q", sa.peer.Profile.Name), sa.groupParts(n))
		}
		return peerSaid(n)
	}
	s, ok := sa.rekeyOffer().Accepts(sap.Proposals)
	peer, spiOK := ikeSPIOf(sap.Proposals, sap.Proposals[0].Number)
	n := find[*message.Nonce](x.in)
	if !ok || !spiOK || n == nil || s.Group != x.group {
		return refuse(message.NotifyInvalidSyntax, "the peer chose what was not offered")
	}
	x.agreed.suite, x.peerSPI, x.nr = s, peer, clone(n.Data)
	if len(s.Additional) > 0 {
		if err := x.readLink(x.in); err != nil {
			return err
		}
	}
	return x.shareKey()
}

func ikeSPIOf(ps []message.Proposal, number uint8) (uint64, bool) {
	for _, p := range ps {
		if p.Number == number && len(p.SPI) == 8 {
			spi := binary.BigEndian.Uint64(p.SPI)
			return spi, spi != 0
		}
	}
	return 0, false
}

// ikeReplaceable refuses to rekey an IKE SA that goes, or while we change a
// CHILD SA of it (RFC 7296 §2.25.2). It is asked again after the Asks.
func (x *exchange) ikeReplaceable() error {
	sa := x.sa
	if sa.state != Established || sa.successor != nil || sa.childBusy() {
		return refuse(message.NotifyTemporaryFailure, "a CHILD SA is being changed, or the IKE SA goes")
	}
	replaced := 0
	for _, s := range sa.owner.Namesakes(sa) {
		if s.state == Replaced && s.peerID == sa.peerID && sa.samePerson(s) {
			replaced++
		}
	}
	if replaced >= maxReplaced {
		return refuse(message.NotifyTemporaryFailure, "%d replaced IKE SAs still wait for the peer's Delete", replaced)
	}
	return nil
}

// mayBegin refuses also where our own rekey lacks nothing but IKE_FOLLOWUP_KE.
func (x *exchange) mayBegin() error {
	if p := x.sa.parked.mine; p != nil && p.kind.id == rekeyIKE {
		return refuse(message.NotifyTemporaryFailure, "the IKE SA is being rekeyed")
	}
	return x.ikeReplaceable()
}

// childBusy reports whether we are creating, rekeying or closing a CHILD SA.
func (sa *SA) childBusy() bool {
	if p := sa.parked.mine; p != nil && p.kind.id != rekeyIKE {
		return true
	}
	x := sa.current
	return x != nil && (x.kind.id == createChild || x.kind.id == rekeyChild || x.kind.id == inform && len(x.remove) > 0)
}

// makeSuccessor makes the new IKE SA, which is up from its first message on.
func (x *exchange) makeSuccessor() error {
	sa := x.sa
	n := newSA(sa.env, sa.owner, sa.peer, sa.local, sa.remote)
	n.initiator, n.natt, n.nat, n.fragments = x.mine, sa.natt, sa.nat, sa.fragments
	n.mob = sa.mob
	n.suite, n.identity, n.myID, n.peerID = x.agreed.suite, sa.identity, sa.myID, sa.peerID
	n.spii, n.spir = x.newSPI, x.peerSPI
	if !x.mine {
		n.spii, n.spir = x.peerSPI, x.newSPI
	}
	k, err := rederiveKeys(n.suite, sa.suite.PRF, sa.keys.d, x.shared, x.ni, x.nr, n.spii, n.spir, x.extra)
	if err != nil {
		return end(0, "%v", err)
	}
	n.keys = k
	n.lowNonce = lowest(x.ni, x.nr)
	x.shared.Wipe()
	x.extra.Wipe()
	x.private.Wipe()
	n.up()
	sa.owner.Adopt(n)
	x.successor = n
	return nil
}

// ikeSuccession settles which successor stays and moves the CHILD SAs to it.
type ikeSuccession struct{ noop }

func (*ikeSuccession) settle(x *exchange) error {
	sa := x.sa
	if !x.mine {
		if sa.rekeyingIKE() {
			sa.successor, x.successor.inherits = x.successor, sa // a collision: our own response decides
			return nil
		}
		sa.replacedBy(x.successor)
		return nil
	}
	if err := x.makeSuccessor(); err != nil {
		return err
	}
	mine, theirs := x.successor, sa.successor
	if sa.state >= Replaced {
		mine.Delete("what it comes from was replaced or deleted while it was rekeyed")
		return nil
	}
	if x.loses() {
		if theirs != nil && theirs.state == Established {
			sa.replacedBy(theirs)
		} else {
			sa.rekeyLater() // unless the peer's key exchanges are through by then
		}
		mine.Delete("both ends rekeyed at once, and the peer's IKE SA stays")
		return nil
	}
	sa.replacedBy(mine)
	sa.tellClosed("rekeyed")
	if theirs != nil {
		theirs.redundant()
	}
	return nil
}

// claim is told of each request of the peer. If the peer made the SA while our own
// rekey of its predecessor was under way, and now uses it, then it has seen how that
// went, or does not let ours come to anything: its own SA stays, and all that lives on
// is there already for the peer. Who lost the collision only deletes it.
func (sa *SA) claim(in []message.Payload) {
	d := find[*message.Delete](in)
	if old := sa.inherits; old != nil && old.state == Established && (d == nil || d.Protocol != uint8(core.ProtoIKE)) {
		old.replacedBy(sa)
	}
}

// redundant waits for the peer to delete an SA that was replaced or lost a
// collision. If the peer never got our response to the rekey, it never made the
// SA, and nothing will come.
func (sa *SA) redundant() {
	if sa.state != Established {
		return
	}
	sa.become(Replaced)
	for _, t := range []*core.Timer{sa.timers.soft, sa.timers.hard, sa.timers.dpd, sa.timers.keepalive, sa.auth.timer, sa.tickets.timer} {
		sa.env.Timers.Stop(t)
	}
	sa.timers.hard = sa.env.After(replacedLife, func() { sa.end(false, "replaced, and the peer did not delete it") })
}

// replacedBy moves everything that lives on to the successor.
func (sa *SA) replacedBy(n *SA) {
	n.inheritAuth(sa)
	n.inheritAway(sa)
	n.inheritTickets(sa)
	n.birth, n.client, n.home = sa.birth, sa.client, sa.home
	sa.settleContest(true) // whoever made n has just been heard
	sa.adopter = n
	sa.successor, n.inherits = nil, nil
	sa.redundant()
	for _, c := range sa.children {
		c.sa = n
		n.children = append(n.children, c)
	}
	sa.children = nil
	n.follow(sa)
	n.lease, sa.lease = sa.lease, nil
	n.wanted = append(n.wanted, sa.wanted...)
	moved := sa.queue
	sa.queue = nil
	n.emit(core.Event{Kind: core.EvIKERekeyed, Old: sa.id})
	for _, x := range moved {
		if x.kind.id == rekeyIKE || x.kind.id == followUp || x.closes {
			x.conclude()
			continue
		}
		x.sa = n
		n.queue = append(n.queue, x)
	}
	n.pump()
}

func rekeyIKEFailed(x *exchange, fault error) {
	sa := x.sa
	if n := sa.successor; n != nil && n.state == Established {
		sa.replacedBy(n)
		return
	}
	sa.successor = nil
	if sa.state != Established {
		return
	}
	if find[*message.SA](x.in) != nil && len(x.missing()) == 0 { // the peer has made its successor, and moved everything to it
		sa.Delete("the peer's answer to the rekey cannot be used: " + fault.Error())
		return
	}
	sa.refusals++
	if !isRefused(fault, message.NotifyTemporaryFailure) {
		sa.emit(core.Event{Kind: core.EvNotify, Detail: detailOf(fault), Reason: "rekeying the IKE SA failed and will be tried again: " + fault.Error()})
	}
	sa.rekeyLater()
}

// rekeyLater tries again, later after each refusal.
func (sa *SA) rekeyLater() {
	sa.env.Timers.Stop(sa.timers.soft)
	sa.timers.soft = sa.env.After(rekeyWait(sa.env, sa.refusals), sa.rekeyDue)
}
