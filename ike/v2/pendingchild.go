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

// pendingChild is a CHILD SA while it is negotiated. The tasks of one exchange share it.
type pendingChild struct {
	noop
	policy   *core.Policy   // nil: there is to be none, or the responder has not found one yet
	flow     *selector.Pair // the packet that asked for it, if one did
	spi      uint32         // our inbound SPI for it; 0: none yet, or it is the data plane's
	agreed   ikesa.Agreement
	refuse   error    // IKE_AUTH: why there is no CHILD SA
	declined bool     // the peer asked for transport mode, and gets tunnel mode
	note     string   // for people: what of its selectors the peer does not get
	old      *Child   // the CHILD SA being replaced; nil: none is
	made     *Child   // what came of it
	early    []uint32 // SPIs that the peer deleted while its answer was on its way
	lineWish          // what it has to do with lines of the data path
}

// end gives back the SPI of what came to nothing.
func (c *pendingChild) end(x *exchange) {
	if c.spi != 0 {
		x.sa.base.Env.GiveSPI(c.spi)
		c.spi = 0
	}
}

// takenBack reports whether the peer deleted early what its answer made.
func (c *pendingChild) takenBack() bool { return slices.Contains(c.early, c.agreed.SPIOut) }

// replacedIn is the CHILD SA that an exchange replaces; nil: none.
func replacedIn(x *exchange) *Child {
	if c := part[*pendingChild](x); c != nil {
		return c.old
	}
	return nil
}

// offer adds SA, TSi and TSr for the policy.
func (c *pendingChild) offer(x *exchange, withPFS bool) error {
	sa := x.sa
	if c.spi == 0 {
		spi, ok := sa.base.Env.TakeSPI()
		if !ok {
			return errNoSPI
		}
		c.spi = spi
	}
	offer := core.ChildOffer(c.policy, withPFS)
	tsi, tsr := ikesa.Asking(c.policy, c.flow)
	if !c.policy.Tunnel {
		x.sayTransport()
	}
	c.announce(x)
	x.out = append(x.out, proposing(binary.BigEndian.AppendUint32(nil, c.spi), offer.Alternatives()...),
		&message.TS{Initiator: true, Selectors: tsi}, &message.TS{Selectors: tsr})
	return nil
}

// choose reads the peer's offer and finds the policy for it.
func (c *pendingChild) choose(x *exchange, withPFS bool) error {
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
	r := ikesa.Request{SA: sa.base, Policy: c.policy, Local: tsr.Selectors, Remote: tsi.Selectors, Transport: x.saysTransport(),
		KeyExchange: withPFS, Offered: alternatives}
	c.policy = nil
	chosen, err := r.Choose()
	if err != nil {
		return inNotify(err)
	}
	spiOut, ok := spiOf(offered, chosen.Answer.Number)
	if !ok {
		return refuse(message.NotifyInvalidSyntax, "the SPI is not 4 bytes")
	}
	if err = r.Grant(chosen); err == nil {
		err = ikesa.CheckSPI(spiOut)
	}
	if err != nil {
		return inNotify(err)
	}
	if err := c.place(x, chosen); err != nil {
		return err
	}
	if !chosen.Policy.Tunnel {
		x.sayTransport()
	}
	if c.spi, ok = sa.base.Env.TakeSPI(); !ok {
		return errNoSPI
	}
	if chosen.More {
		x.out = append(x.out, &message.Notify{Kind: message.NotifyAdditionalTSPossible})
	}
	c.policy, c.agreed, c.note, c.declined = chosen.Policy, chosen.Agreement, chosen.Note, chosen.Declined
	c.agreed.SPIOut, c.agreed.Unpadded = spiOut, unpadded(x)
	x.out = append(x.out, proposing(binary.BigEndian.AppendUint32(nil, c.spi), chosen.Answer))
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
func (c *pendingChild) install(x *exchange, standby bool, shared, further secret.Bytes) error {
	sa := x.sa
	fromI, fromR, err := childKeys(sa.base.Suite.PRF, sa.sealer.keys.d, c.agreed.Suite, shared, x.ni, x.nr, further)
	if err != nil {
		return end(0, "%v", err)
	}
	in, out := fromI, fromR
	if x.mine {
		in, out = fromR, fromI
	}
	in.SPI, out.SPI = c.spi, c.agreed.SPIOut
	c.spi = 0 // it is the data plane's now
	c.made = sa.base.Install(ikesa.NewChild{Policy: c.policy, Agreement: c.agreed, In: in, Out: out,
		Birth:   ikesa.Birth{Mine: x.mine, Begun: x.begun, LowNonce: lowest(x.ni, x.nr)},
		Standby: standby, Replaces: c.old != nil, Note: c.note, Declined: c.declined, Line: c.lineOf(x), Shared: c.shared})
	return nil
}

// answer adds TSi and TSr to the SA payload that choose put there.
func (c *pendingChild) answer(x *exchange) {
	c.echo(x)
	x.out = append(x.out, &message.TS{Initiator: true, Selectors: c.agreed.Remote}, &message.TS{Selectors: c.agreed.Local})
}

// read reads the responder's choice. ke is nil where there is no key exchange of its own, as in IKE_AUTH.
func (c *pendingChild) read(x *exchange, ke *keyExchange) error {
	withPFS := ke != nil
	sap := find[*message.SA](x.in)
	tsi, tsr := findTS(x.in, true), findTS(x.in, false)
	if sap == nil || tsi == nil || tsr == nil {
		n := errorNotify(x.in)
		switch {
		case n == nil:
			return refuse(message.NotifyInvalidSyntax, "the response has no CHILD SA and no reason")
		case n.Kind == message.NotifyInvalidKEPayload && withPFS:
			p := &c.policy.Proposal
			return ke.otherGroup(n, p.Groups(), fmt.Sprintf("pfs-group of proposal %q", p.Name), explain(x.sa).ChildGroupParts(c.policy, n))
		}
		return peerSaid(n)
	}
	a := ikesa.Answer{SA: x.sa.base, Policy: c.policy, Local: tsi.Selectors, Remote: tsr.Selectors, Transport: x.saysTransport(),
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
	if err == nil {
		err = ikesa.CheckSPI(spiOut)
	}
	if err != nil {
		return inNotify(err)
	}
	if err := c.confirms(x, agreed.Pairs); err != nil {
		return err
	}
	c.policy, c.agreed = p, agreed
	c.agreed.SPIOut, c.agreed.Unpadded = spiOut, unpadded(x)
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
