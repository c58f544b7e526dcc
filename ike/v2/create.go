package v2

import (
	"encoding/binary"
	"fmt"
	"slices"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/spd/selector"
)

// CHILD SAs are negotiated in IKE_AUTH, without a key exchange of their own,
// and in CREATE_CHILD_SA (RFC 7296 §1.2, §1.3.1, §2.17):
//
//	HDR, SK{[N(REKEY_SA)], SA, Ni, [KEi], TSi, TSr}  -->
//	                   <--  HDR, SK{SA, Nr, [KEr], TSi, TSr}

// errNoSPI: the stock is empty; it is being filled.
var errNoSPI error = refused{kind: message.NotifyTemporaryFailure, reason: "no SPI in stock", ours: true}

// MakeChild makes a CHILD SA for a policy; flow is the packet that asked for
// it, nil if none did.
func (sa *SA) MakeChild(p *core.Policy, flow *selector.Pair) {
	x := newExchange(row(createChild))
	x.policy, x.flow = sa.base.Lease.Dialed(p), flow
	x.still = func() bool { return x.sa.base.State == Established && !x.sa.base.Serves(p) } // a rekey may have brought one
	sa.start(x)
}

// Making reports whether a CHILD SA for the policy is being made.
func (sa *SA) Making(p *core.Policy) bool {
	is := func(x *exchange) bool {
		return x != nil && x.policy != nil && x.policy.Ref == p.Ref && (x.kind.id == createChild || x.kind.id == authenticate)
	}
	return is(sa.current) || is(sa.parked.mine) || slices.ContainsFunc(sa.queue, is) ||
		slices.ContainsFunc(sa.base.Wanted, func(w *core.Policy) bool { return w.Ref == p.Ref })
}

// firstChild is the CHILD SA of IKE_AUTH. What goes wrong with it is said
// beside the proof and does not touch the IKE SA (RFC 7296 §1.2).
type firstChild struct{ noop }

func (*firstChild) request(x *exchange) error {
	x.ni, x.nr = x.sa.init.ni, x.sa.init.nr
	if x.policy == nil {
		return nil
	}
	return x.offerChild(false)
}

func (*firstChild) accept(x *exchange) error {
	x.ni, x.nr = x.sa.init.ni, x.sa.init.nr
	return nil
}

func (*firstChild) reply(x *exchange) error {
	if x.refuse == nil && find[*message.SA](x.in) != nil {
		if x.refuse = onlyChildless(x.sa); x.refuse == nil {
			x.refuse = x.chooseChild(false)
		}
	}
	if r, ok := x.refuse.(refused); ok {
		x.sa.base.Emit(core.Event{Kind: causeOf(r.kind).Event(), Reason: "no CHILD SA in IKE_AUTH: " + r.Error(), Detail: r.detail})
		x.out = append(x.out, r.notify())
		return nil
	}
	if x.policy == nil {
		return nil
	}
	x.answerChild()
	return x.install(true, nil, nil)
}

func (*firstChild) complete(x *exchange) error {
	if x.policy == nil || x.refuse != nil {
		return nil
	}
	x.refuse = x.readChild(false)
	return nil
}

func (*firstChild) settle(x *exchange) error {
	if !x.mine || x.policy == nil || x.refuse != nil {
		return nil
	}
	if err := x.install(false, nil, nil); err != nil {
		return err
	}
	ikesa.MakeOthers(x.sa.base)
	x.sa.confirm()
	return nil
}

// confirm sends an empty request after a new CHILD SA of ours, unless another
// request follows anyhow: it tells a responder with traffic of its own that we
// have the SA, so that it can begin to seal (RFC 7296 §2.8 leaves it to guess).
func (sa *SA) confirm() {
	x := newExchange(row(inform))
	x.still = func() bool { return sa.base.State == Established && len(sa.queue) == 0 }
	sa.start(x)
}

// childNegotiation agrees on algorithms, key exchange and selectors.
type childNegotiation struct {
	noop
	ke   *keyExchange
	more *followUps
}

func (t *childNegotiation) prepare(x *exchange) error {
	x.ni = x.sa.base.Env.Random(nonceLen)
	groups := x.policy.Proposal.Groups()
	if len(groups) == 0 {
		return nil
	}
	var before *suite.Group
	if x.old != nil {
		before = x.old.Suite.Group
	}
	return t.ke.offer(x, t.ke.firstGroup(before, groups))
}

func (t *childNegotiation) request(x *exchange) error {
	if err := x.offerChild(true); err != nil {
		return err
	}
	x.out = slices.Insert(x.out, len(x.out)-2, message.Payload(&message.Nonce{Data: x.ni}))
	if t.ke.group != nil {
		x.out = slices.Insert(x.out, len(x.out)-2, message.Payload(t.ke.payload()))
	}
	return nil
}

func (t *childNegotiation) accept(x *exchange) error {
	x.ni = clone(find[*message.Nonce](x.in).Data)
	x.nr = x.sa.base.Env.Random(nonceLen)
	if err := x.chooseChild(true); err != nil {
		return err
	}
	t.more.lacks = x.agreed.Suite.Additional
	if g := x.agreed.Suite.Group; g != nil {
		return t.ke.answer(x, g)
	}
	return nil
}

func (t *childNegotiation) reply(x *exchange) error {
	x.answerChild()
	x.out = slices.Insert(x.out, len(x.out)-2, message.Payload(&message.Nonce{Data: x.nr}))
	if t.ke.group != nil {
		x.out = slices.Insert(x.out, len(x.out)-2, message.Payload(t.ke.payload()))
	}
	if len(t.more.lacks) > 0 {
		t.more.addLink(x)
		return nil
	}
	return x.install(true, t.ke.shared, nil)
}

func (t *childNegotiation) complete(x *exchange) error {
	err := x.readChild(true)
	if t.more.lacks = x.agreed.Suite.Additional; err != nil {
		return err
	}
	n := find[*message.Nonce](x.in)
	if n == nil {
		return end(0, "the response to CREATE_CHILD_SA has no nonce")
	}
	x.nr = clone(n.Data)
	if x.agreed.Suite.Group != t.ke.group {
		return refuse(message.NotifyInvalidKEPayload, "the peer chose another group than it used")
	}
	if len(t.more.lacks) > 0 {
		if err := t.more.readLink(x.in); err != nil {
			return err
		}
	}
	if t.ke.group != nil {
		return t.ke.share(x)
	}
	return nil
}

// childUp installs what our own exchange made.
type childUp struct {
	noop
	ke   *keyExchange
	more *followUps
}

func (t *childUp) settle(x *exchange) error {
	defer t.ke.wipe()
	if x.mine {
		if x.sa.base.State >= Closing {
			return refuse(message.NotifyTemporaryFailure, "its IKE SA is being deleted")
		}
		if takenBack(x) {
			return refuse(message.NotifyTemporaryFailure, "the peer has deleted the CHILD SA already")
		}
		if err := x.install(x.old != nil, t.ke.shared, t.more.secrets); err != nil {
			return err
		}
	}
	if x.old == nil {
		x.sa.base.Env.After(ikesa.TwinDelay, x.made.SettleTwins)
		if x.mine {
			ikesa.MakeOthers(x.sa.base)
			x.sa.confirm()
		}
	}
	return nil
}

// offerChild adds SA, TSi and TSr for the policy. The packet that asked comes
// first, so that a responder that narrows keeps it in (RFC 7296 §2.9).
func (x *exchange) offerChild(withPFS bool) error {
	sa := x.sa
	if x.spi == 0 {
		spi, ok := sa.base.Env.TakeSPI()
		if !ok {
			return errNoSPI
		}
		x.spi = spi
	}
	offer := core.ChildOffer(x.policy, withPFS)
	tsi, tsr := x.policy.Selectors()
	if x.flow != nil && x.policy.Made == nil && x.policy.Pair.Covers(*x.flow) && x.policy.Pair != *x.flow {
		tsi = slices.Insert(tsi, 0, x.flow.Local)
		tsr = slices.Insert(tsr, 0, x.flow.Remote)
	}
	if !x.policy.Tunnel {
		x.sayTransport()
	}
	x.out = append(x.out, proposing(binary.BigEndian.AppendUint32(nil, x.spi), offer.Alternatives()...),
		&message.TS{Initiator: true, Selectors: tsi}, &message.TS{Selectors: tsr})
	return nil
}

// chooseChild reads the peer's offer and finds the policy for it.
func (x *exchange) chooseChild(withPFS bool) error {
	sa := x.sa
	tsi, tsr := findTS(x.in, true), findTS(x.in, false)
	if tsi == nil || tsr == nil {
		return refuse(message.NotifyInvalidSyntax, "no traffic selectors")
	}
	offered := find[*message.SA](x.in).Proposals
	alternatives := neutral(offered)
	if !withPFS {
		alternatives = withoutGroups(alternatives)
	}
	r := ikesa.Request{SA: sa.base, Policy: x.policy, Local: tsr.Selectors, Remote: tsi.Selectors, Transport: x.saysTransport(),
		KeyExchange: withPFS, Offered: alternatives}
	x.policy = nil
	c, err := r.Choose()
	if err != nil {
		return inNotify(err)
	}
	spiOut, ok := spiOf(offered, c.Answer.Number)
	if !ok {
		return refuse(message.NotifyInvalidSyntax, "the SPI is not 4 bytes")
	}
	if err := r.Grant(c); err != nil {
		return inNotify(err)
	}
	if !c.Policy.Tunnel {
		x.sayTransport()
	}
	if x.spi, ok = sa.base.Env.TakeSPI(); !ok {
		return errNoSPI
	}
	x.policy, x.agreed, x.note = c.Policy, c.Agreement, c.Note
	x.agreed.SPIOut, x.agreed.Unpadded = spiOut, unpadded(x)
	x.out = append(x.out, proposing(binary.BigEndian.AppendUint32(nil, x.spi), c.Answer))
	return nil
}

// unpadded reports whether the peer said, beside the proposal that it made or
// chose, that it accepts no TFC padding on this CHILD SA. We always do.
func unpadded(x *exchange) bool {
	return notify(x.in, message.NotifyESPTFCPaddingNotSupported) != nil
}

// install puts what an exchange agreed on into the data plane. It comes before
// the message that lets the peer use it. The secrets are of the key exchange, if there
// was one, and of those that followed.
func (x *exchange) install(standby bool, shared, further secret.Bytes) error {
	sa := x.sa
	fromI, fromR, err := childKeys(sa.base.Suite.PRF, sa.sealer.keys.d, x.agreed.Suite, shared, x.ni, x.nr, further)
	if err != nil {
		return end(0, "%v", err)
	}
	in, out := fromI, fromR
	if x.mine {
		in, out = fromR, fromI
	}
	in.SPI, out.SPI = x.spi, x.agreed.SPIOut
	x.spi = 0 // it is the data plane's now
	x.made = sa.base.Install(ikesa.NewChild{Policy: x.policy, Agreement: x.agreed, In: in, Out: out,
		Birth:   ikesa.Birth{Mine: x.mine, Begun: x.begun, LowNonce: lowest(x.ni, x.nr)},
		Standby: standby, Replaces: x.old != nil, Note: x.note})
	return nil
}

// answerChild adds TSi and TSr to the SA payload that chooseChild put there.
func (x *exchange) answerChild() {
	x.out = append(x.out, &message.TS{Initiator: true, Selectors: x.agreed.Remote}, &message.TS{Selectors: x.agreed.Local})
}

// readChild reads the responder's choice.
func (x *exchange) readChild(withPFS bool) error {
	sap := find[*message.SA](x.in)
	tsi, tsr := findTS(x.in, true), findTS(x.in, false)
	if sap == nil || tsi == nil || tsr == nil {
		n := errorNotify(x.in)
		switch {
		case n == nil:
			return refuse(message.NotifyInvalidSyntax, "the response has no CHILD SA and no reason")
		case n.Kind == message.NotifyInvalidKEPayload && withPFS:
			p := &x.policy.Proposal
			return part[*keyExchange](x).otherGroup(n, p.Groups(), fmt.Sprintf("pfs-group of proposal %q", p.Name), explain(x.sa).ChildGroupParts(x.policy, n))
		}
		return peerSaid(n)
	}
	a := ikesa.Answer{SA: x.sa.base, Policy: x.policy, Local: tsi.Selectors, Remote: tsr.Selectors, Transport: x.saysTransport(),
		KeyExchange: withPFS, Chosen: neutral(sap.Proposals)}
	suite, err := a.Suite()
	if err != nil {
		return inNotify(err)
	}
	spiOut, ok := spiOf(sap.Proposals, sap.Proposals[0].Number)
	if !ok {
		return inNotify(ikesa.NotOffered())
	}
	p, agreed, err := a.Agree(suite)
	if err != nil {
		return inNotify(err)
	}
	x.policy, x.agreed = p, agreed
	x.agreed.SPIOut, x.agreed.Unpadded = spiOut, unpadded(x)
	return nil
}

// withoutGroups takes key exchanges out of proposals: in IKE_AUTH they mean
// nothing, and some peers leave them in.
func withoutGroups(ps []core.Alternative) []core.Alternative {
	out := slices.Clone(ps)
	for i := range out {
		out[i].Transforms = slices.DeleteFunc(slices.Clone(out[i].Transforms), func(t core.Transform) bool { return t.Type == suite.TypeDH || t.Type > suite.TypeESN })
	}
	return out
}

func spiOf(ps []message.Proposal, number uint8) (uint32, bool) {
	for _, p := range ps {
		if p.Number == number && len(p.SPI) == 4 {
			spi := binary.BigEndian.Uint32(p.SPI)
			return spi, spi != 0
		}
	}
	return 0, false
}

// notWhileRekeying refuses the peer's CREATE_CHILD_SA while the IKE SA is being
// replaced or closed (RFC 7296 §2.25.2).
type notWhileRekeying struct{ noop }

func (*notWhileRekeying) check(x *exchange) error {
	sa := x.sa
	if sa.base.State != Established || rekeyingIKE(sa) {
		return refuse(message.NotifyTemporaryFailure, "the IKE SA is being replaced")
	}
	return nil
}

func (t *notWhileRekeying) accept(x *exchange) error { return t.check(x) }

func (t *notWhileRekeying) reply(x *exchange) error { return t.check(x) }

func newChildFailed(x *exchange, fault error) {
	childRefused(x.sa, x.kind.name, x.policy, fault)
}

// childRefused reports that a CHILD SA for a policy came to nothing.
func childRefused(sa *SA, exchange string, p *core.Policy, err error) {
	n := ikesa.NoChild{Policy: p, Exchange: exchange, Reason: err.Error()}
	if r, ok := err.(refused); ok {
		n.Refused, n.Cause, n.Detail, n.Ours = true, causeOf(r.kind), r.detail, r.ours
	}
	n.Report(sa.base)
}
