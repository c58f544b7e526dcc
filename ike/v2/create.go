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
	x.policy, x.flow = resolve(sa, p), flow
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
		x.sa.base.Emit(core.Event{Kind: refusal(r.kind), Reason: "no CHILD SA in IKE_AUTH: " + r.Error(), Detail: r.detail})
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
	makeOthers(x.sa)
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
			makeOthers(x.sa)
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
	x.askTransport()
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
	if len(sa.base.Children) >= ikesa.MaxChildren {
		return refuse(message.NotifyNoAdditionalSAs, "the peer has %d CHILD SAs", len(sa.base.Children))
	}
	if len(tsi.Selectors) == 0 || len(tsr.Selectors) == 0 { // of no type that is known here
		return refuse(message.NotifyTSUnacceptable, "no selector of addresses")
	}
	ours, theirs := x.behindNAT(tsr.Selectors, withinLease(sa, tsi.Selectors))
	if x.policy == nil {
		x.policy = choosePolicy(sa, ours, theirs)
	}
	if x.policy == nil {
		var err error
		if x.policy, ours, theirs, err = x.generate(ours, theirs); err != nil {
			return err
		}
		if x.policy == nil {
			return mismatched(message.NotifyTSUnacceptable, explainer{sa}.selectorParts(tsr.Selectors, tsi.Selectors),
				"no policy of peer %q covers %v => %v%s: compare src-address and dst-address on both sides", sa.base.Peer.Name, tsr.Selectors, tsi.Selectors, x.seenHere(tsr.Selectors, tsi.Selectors))
		}
	}
	local, remote, ok := x.policy.Narrow(ours, theirs)
	if !ok {
		p := x.policy
		x.policy = nil
		return mismatched(message.NotifyTSUnacceptable, explainer{sa}.selectorParts(tsr.Selectors, tsi.Selectors), "%v => %v is outside the policy %v", tsr.Selectors, tsi.Selectors, p.Pair)
	}
	remote, err := unlessGiven(sa, remote)
	if err != nil {
		x.policy = nil
		return err
	}
	local, remote = local[:min(len(local), ikesa.MaxSelectors)], remote[:min(len(remote), ikesa.MaxSelectors)]
	offered := find[*message.SA](x.in).Proposals
	alternatives := neutral(offered)
	if !withPFS {
		alternatives = withoutGroups(alternatives)
	}
	s, answer, ok := core.ChildOffer(x.policy, withPFS).Select(alternatives)
	if !ok {
		p := x.policy
		x.policy = nil
		return mismatched(message.NotifyNoProposalChosen, explainer{sa}.childParts(p, withPFS, alternatives),
			"no proposal of the peer fits proposal %q: compare enc-algorithms, auth-algorithms and pfs-group on both sides", p.Proposal.Name)
	}
	spiOut, ok := spiOf(offered, answer.Number)
	if !ok {
		x.policy = nil
		return refuse(message.NotifyInvalidSyntax, "the SPI is not 4 bytes")
	}
	if err = x.clash(selector.Pairs(local, remote)); err == nil {
		err = x.grantTransport()
	}
	if err != nil {
		x.policy = nil
		return err
	}
	if x.spi, ok = sa.base.Env.TakeSPI(); !ok {
		x.policy = nil
		return errNoSPI
	}
	x.agreed = ikesa.Agreement{Suite: s, SPIOut: spiOut, Local: local, Remote: remote, Pairs: selector.Pairs(local, remote), Unpadded: unpadded(x)}
	x.out = append(x.out, proposing(binary.BigEndian.AppendUint32(nil, x.spi), answer))
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
		Standby: standby, Replaces: x.old != nil, Note: x.narrowed()})
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
			return part[*keyExchange](x).otherGroup(n, p.Groups(), fmt.Sprintf("pfs-group of proposal %q", p.Name), explainer{x.sa}.childGroupParts(x.policy, n))
		}
		return peerSaid(n)
	}
	if err := x.checkTransport(); err != nil {
		return err
	}
	s, ok := core.ChildOffer(x.policy, withPFS).Accepts(neutral(sap.Proposals))
	spiOut, spiOK := spiOf(sap.Proposals, sap.Proposals[0].Number)
	if !ok || !spiOK {
		return refuse(message.NotifyNoProposalChosen, "the peer chose a proposal that was not offered")
	}
	if len(tsi.Selectors) > ikesa.MaxSelectors || len(tsr.Selectors) > ikesa.MaxSelectors {
		return refuse(message.NotifyTSUnacceptable, "the peer left more than %d selectors", ikesa.MaxSelectors)
	}
	mine, theirs := tsi.Selectors, tsr.Selectors
	if !x.policy.Tunnel {
		mine, theirs = x.sa.base.NAT.Through(x.sa.base.Path, mine, theirs)
	}
	local, remote := x.policy.Selectors()
	for i, t := range append(slices.Clone(mine), theirs...) {
		ours := local
		if i >= len(mine) {
			ours = remote
		}
		if !slices.ContainsFunc(ours, func(o selector.TS) bool { return o.Covers(t) }) {
			return refuse(message.NotifyTSUnacceptable, "the peer widened the selector to %v", t)
		}
	}
	pairs := selector.Pairs(mine, theirs)
	if len(pairs) == 0 {
		return refuse(message.NotifyTSUnacceptable, "the peer left no selectors")
	}
	x.agreed = ikesa.Agreement{Suite: s, SPIOut: spiOut, Local: mine, Remote: theirs, Pairs: pairs, Unpadded: unpadded(x)}
	return x.dialed()
}

// choosePolicy finds the policy that a peer's selectors ask for: the first that
// covers the first selector (of the packet that asked), else the first that
// has anything in common.
func choosePolicy(sa *SA, local, remote []selector.TS) *core.Policy {
	var any *core.Policy
	for _, p := range sa.base.Host.Config().Policies {
		if p.Peer != sa.base.Peer || !sa.base.MayHave(p) || len(local) == 0 || len(remote) == 0 {
			continue
		}
		if p.Pair.Local.Covers(local[0]) && p.Pair.Remote.Covers(remote[0]) {
			return p
		}
		if _, _, ok := selector.NarrowPair(local, remote, p.Pair); ok && any == nil {
			any = p
		}
	}
	return any
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
	r, ok := err.(refused)
	switch {
	case ok && r.kind == message.NotifyTemporaryFailure:
	case ok:
		detail := r.detail
		if detail == nil {
			detail = explainer{sa}.childUnchosen(p, r.kind)
		}
		sa.base.Emit(core.Event{Kind: refusal(r.kind), Exchange: exchange, Policy: p.Ref, Detail: detail,
			Reason: "no CHILD SA for the policy " + p.Pair.String() + ": " + r.Error() + ": compare policy and proposal " + p.Proposal.Name + " on both sides"})
	default:
		sa.base.Emit(core.Event{Kind: core.EvNotify, Exchange: exchange, Policy: p.Ref, Reason: "no CHILD SA for the policy " + p.Pair.String() + ": " + err.Error()})
	}
	sa.base.Keeper.ChildFailed(sa.base, p, !r.ours)
}
