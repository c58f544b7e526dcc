package v2

import (
	"encoding/binary"
	"fmt"
	"slices"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// Rekeying the IKE SA (RFC 7296 §1.3.2, §2.18): a successor is made, the CHILD
// SAs move to it, and who made it deletes the old one. Collisions are settled
// by nonces as for CHILD SAs (§2.8.2).
//
//	HDR, SK{SA, Ni, KEi}  -->  <--  HDR, SK{SA, Nr, KEr}

// maxReplaced bounds how many replaced SAs a peer that rekeys and never deletes
// can make us keep.
const maxReplaced = 8

// Rekey begins to replace the IKE SA, unless that is under way.
func (sa *SA) Rekey() {
	busy := func(x *exchange) bool { return x != nil && x.kind.id == rekeyIKE }
	if sa.base.State != Established || sa.successor != nil || rekeyingIKE(sa) || slices.ContainsFunc(sa.queue, busy) {
		return
	}
	if parkedRekey(sa, rekeyIKE, nil) != nil || sa.inherits != nil && sa.inherits.base.State == Established {
		sa.base.RekeyLater() // unless the peer's rekey is through by then, or wins
		return
	}
	x := newExchange(row(rekeyIKE))
	x.still = func() bool { return sa.base.State == Established && sa.successor == nil }
	sa.start(x)
}

// succession is the successor of an IKE SA, while it is negotiated.
type succession struct {
	noop
	newSPI, peerSPI uint64 // ours and the peer's
	suite           core.Suite
	made            *SA // what came of it
}

// ikeNegotiation agrees on algorithms and keys of the successor.
type ikeNegotiation struct {
	noop
	ke   *keyExchange
	more *followUps
	next *succession
}

func (t *ikeNegotiation) prepare(x *exchange) error {
	sa := x.sa
	if t.next.newSPI == 0 {
		t.next.newSPI = sa.base.Env.RandomSPI()
	}
	x.ni = sa.base.Env.Random(nonceLen)
	return t.ke.offer(x, t.ke.firstGroup(sa.base.Suite.Group, sa.base.Peer.Profile.Groups))
}

func (t *ikeNegotiation) request(x *exchange) error {
	spi := binary.BigEndian.AppendUint64(nil, t.next.newSPI)
	x.out = append(x.out, proposing(spi, rekeyOffer(x.sa).Alternatives()...),
		&message.Nonce{Data: x.ni}, t.ke.payload())
	return nil
}

func (t *ikeNegotiation) accept(x *exchange) error {
	sa := x.sa
	if err := mayBegin(x); err != nil {
		return err
	}
	offered := find[*message.SA](x.in).Proposals
	s, answer, ok := rekeyOffer(sa).Select(neutral(offered))
	if !ok {
		return mismatched(message.NotifyNoProposalChosen, explain(sa).IKEParts(neutral(offered)), "rekeying the IKE SA: no proposal of the peer fits profile %q", sa.base.Peer.Profile.Name)
	}
	peer, ok := ikeSPIOf(offered, answer.Number)
	if !ok {
		return refuse(message.NotifyInvalidSyntax, "the SPI of the new IKE SA is not 8 bytes")
	}
	t.next.suite, t.more.lacks = s, s.Additional
	t.next.peerSPI, t.next.newSPI = peer, sa.base.Env.RandomSPI()
	x.ni = clone(find[*message.Nonce](x.in).Data)
	x.nr = sa.base.Env.Random(nonceLen)
	x.out = append(x.out, proposing(binary.BigEndian.AppendUint64(nil, t.next.newSPI), answer), &message.Nonce{Data: x.nr})
	return t.ke.answer(x, s.Group)
}

func (t *ikeNegotiation) reply(x *exchange) error {
	if err := mayBegin(x); err != nil {
		return err
	}
	x.out = append(x.out, t.ke.payload())
	if len(t.more.lacks) > 0 {
		t.more.addLink(x)
		return nil
	}
	return t.next.make(x, t.ke, t.more)
}

func (t *ikeNegotiation) complete(x *exchange) error {
	sa := x.sa
	sap := find[*message.SA](x.in)
	if sap == nil {
		n := errorNotify(x.in)
		if n == nil {
			return refuse(message.NotifyInvalidSyntax, "the response has no SA and no reason")
		}
		if n.Kind == message.NotifyInvalidKEPayload {
			return t.ke.otherGroup(n, sa.base.Peer.Profile.Groups, profileGroups(sa), explain(sa).GroupParts(n))
		}
		return peerSaid(n)
	}
	s, ok := rekeyOffer(sa).Accepts(neutral(sap.Proposals))
	peer, spiOK := ikeSPIOf(sap.Proposals, sap.Proposals[0].Number)
	n := find[*message.Nonce](x.in)
	if !ok || !spiOK || n == nil || s.Group != t.ke.group {
		return refuse(message.NotifyInvalidSyntax, "the peer chose what was not offered")
	}
	t.next.suite, t.more.lacks, t.next.peerSPI, x.nr = s, s.Additional, peer, clone(n.Data)
	if len(s.Additional) > 0 {
		if err := t.more.readLink(x.in); err != nil {
			t.more.lacks = nil // the peer waits for nothing more
			return err
		}
	}
	return t.ke.share(x)
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
func ikeReplaceable(x *exchange) error {
	sa := x.sa
	if sa.base.State != Established || sa.successor != nil || childBusy(sa) {
		return refuse(message.NotifyTemporaryFailure, "a CHILD SA is being changed, or the IKE SA goes")
	}
	replaced := 0
	for _, s := range sa.base.Others.Namesakes(sa.base) {
		if s.State == Replaced && s.PeerID == sa.base.PeerID && sa.base.SamePerson(s) {
			replaced++
		}
	}
	if replaced >= maxReplaced {
		return refused{kind: message.NotifyTemporaryFailure, reason: fmt.Sprintf("%d replaced IKE SAs still wait for the peer's Delete", replaced), fault: true}
	}
	return nil
}

// mayBegin refuses also where our own rekey lacks nothing but IKE_FOLLOWUP_KE.
func mayBegin(x *exchange) error {
	if p := x.sa.parked.mine; p != nil && p.kind.id == rekeyIKE {
		return refuse(message.NotifyTemporaryFailure, "the IKE SA is being rekeyed")
	}
	return ikeReplaceable(x)
}

// childBusy reports whether we are creating, rekeying or closing a CHILD SA.
func childBusy(sa *SA) bool {
	if p := sa.parked.mine; p != nil && p.kind.id != rekeyIKE {
		return true
	}
	x := sa.current
	return x != nil && (x.kind.id == createChild || x.kind.id == rekeyChild || x.kind.id == inform && len(part[*deletion](x).remove) > 0)
}

// make makes the new IKE SA, which is up from its first message on.
func (s *succession) make(x *exchange, ke *keyExchange, more *followUps) error {
	sa := x.sa
	n := newSA(sa.base.Successor(), sa.owner)
	b := n.base
	b.Initiator, b.Suite, n.sealer.fragments, n.mob, n.brief = x.mine, s.suite, sa.sealer.fragments, sa.mob, sa.brief
	b.SPIi, b.SPIr = s.newSPI, s.peerSPI
	if !x.mine {
		b.SPIi, b.SPIr = s.peerSPI, s.newSPI
	}
	k, err := rederiveKeys(b.Suite, sa.base.Suite.PRF, sa.sealer.keys.d, ke.shared, x.ni, x.nr, b.SPIi, b.SPIr, more.secrets)
	if err != nil {
		return end(0, "%v", err)
	}
	n.sealer.keys = k
	n.lowNonce = lowest(x.ni, x.nr)
	ke.wipe()
	more.secrets.Wipe()
	n.up()
	sa.owner.Adopt(n.base)
	s.made = n
	return nil
}

// ikeSuccession settles which successor stays and moves the CHILD SAs to it.
type ikeSuccession struct {
	noop
	ke   *keyExchange
	more *followUps
	next *succession
}

func (t *ikeSuccession) settle(x *exchange) error {
	sa := x.sa
	if !x.mine {
		if rekeyingIKE(sa) {
			sa.successor, t.next.made.inherits = t.next.made, sa // a collision: our own response decides
			return nil
		}
		sa.replacedBy(t.next.made)
		return nil
	}
	if err := t.next.make(x, t.ke, t.more); err != nil {
		return err
	}
	mine, theirs := t.next.made, sa.successor
	if sa.base.State >= Replaced {
		mine.base.Delete("what it comes from was replaced or deleted while it was rekeyed")
		return nil
	}
	if loses(x) {
		if theirs != nil && theirs.base.State == Established {
			sa.replacedBy(theirs)
		} else {
			sa.base.RekeyLater() // unless the peer's key exchanges are through by then
		}
		mine.base.Delete("both ends rekeyed at once, and the peer's IKE SA stays")
		return nil
	}
	sa.replacedBy(mine)
	tellClosed(sa, "rekeyed")
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
	if old := sa.inherits; old != nil && old.base.State == Established && (d == nil || d.Protocol != uint8(core.ProtoIKE)) {
		old.replacedBy(sa)
	}
}

// collision is that of our rekey with the peer's.
type collision struct {
	idle
	sa *SA
}

// end has the peer's successor take over: its rekey is through, and our own never will be.
func (c collision) end() {
	if n := c.sa.successor; n != nil && c.sa.base.State == Established && n.base.State == Established {
		c.sa.replacedBy(n)
	}
}

// redundant waits for the peer to delete an SA that lost a collision.
func (sa *SA) redundant() {
	if sa.base.State == Established {
		each(sa, feature.rest)
		sa.base.Redundant()
	}
}

// replacedBy moves everything that lives on to the successor.
func (sa *SA) replacedBy(n *SA) {
	each(n, func(f feature) { f.inherit(sa) })
	sa.successor, n.inherits, n.doubted = nil, nil, sa
	moved := sa.queue
	sa.queue = nil
	sa.base.ReplacedBy(n.base)
	for _, x := range moved {
		if x.kind.id == rekeyIKE || x.kind.id == followUp || closes(x) {
			x.conclude()
			continue
		}
		x.sa = n
		n.queue = append(n.queue, x)
	}
	roaming{sa: n}.goOn(sa.current)
	n.pump()
}

func rekeyIKEFailed(x *exchange, fault error) {
	sa := x.sa
	if n := sa.successor; n != nil && n.base.State == Established {
		sa.replacedBy(n)
		return
	}
	sa.successor = nil
	if sa.base.State != Established {
		return
	}
	if find[*message.SA](x.in) != nil && !lacksKeys(x) { // the peer has made its successor, and moved everything to it
		sa.base.Delete("the peer's answer to the rekey cannot be used: " + fault.Error())
		return
	}
	if !isRefused(fault, message.NotifyTemporaryFailure) && !isFatal(fault) {
		detail := detailOf(fault)
		if detail == nil && isRefused(fault, message.NotifyNoProposalChosen) {
			detail = explain(sa).IKERekeyUnchosen()
		}
		sa.base.Emit(core.Event{Kind: core.EvNotify, Exchange: x.kind.name, Detail: detail, Reason: "rekeying the IKE SA failed and will be tried again: " + fault.Error()})
	}
	if why, refused := causeIn(fault); refused {
		ikesa.IKERekeyRefused(sa.base, why)
	} else {
		sa.base.RekeyLater()
	}
}
