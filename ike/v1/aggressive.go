package v1

import (
	"bytes"

	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
)

// Aggressive mode (RFC 2409 §5.1 and §5.4, RFC 3947 §3.2):
//
//	HDR, SA, KE, Ni, IDii, [CERTREQ …], VID …                 1 -->
//	            <-- 2  HDR, SA, KE, Nr, IDir, proof, [CERTREQ …], VID …, NAT-D, NAT-D
//	HDR*, proof, NAT-D, NAT-D, [N]                            3 -->
//
// The initiator says in clear who it is, so that the responder finds its identity by that. It pays for this: whoever calls makes
// it compute, which the endpoint bounds, and whoever listens or calls gets a HASH_R to guess a secret by.

// --- initiator ---

func (p *phase1) beginAggressive() {
	sa := p.sa
	b := sa.base
	profile := &b.Peer.Profile
	groups := core.Phase1Offer(profile).Groups
	var offer *isakmp.SA
	if len(groups) > 0 { // the first message has a public value of one group
		groups = groups[:1]
		offer = phase1SA(profile, p.method, groups)
	}
	if offer == nil || len(offer.Proposals[0].Transforms) == 0 {
		sa.fail(nothingToOffer(profile))
		return
	}
	p.sai = offer.Body()
	p.ni = b.Env.Random(nonceLen)
	b.MyID = auth.MyID(b.Identity, b.Local.Addr())
	p.ke.offer(groups[0], p.then(func() error {
		out := []isakmp.Payload{offer, &isakmp.KE{Data: p.ke.own}, &isakmp.Nonce{Data: p.ni}, idPayload(b.MyID)}
		out = append(append(out, p.requestCerts()...), sa.vendorIDs()...)
		p.expect("message 2 of aggressive mode, the peer's choice of our proposals and its proof", p.aggressive2)
		p.say(sa.clear(isakmp.ExchangeAggressive, 0, out))
		return nil
	}))
}

// aggressive2 takes message 2. Whoever saw message 1 can have sent it, so that nothing of it stays where its proof is wrong.
func (p *phase1) aggressive2(m *isakmp.Message, raw []byte, in core.Datagram) error {
	sa := p.sa
	b := sa.base
	answer := find[*isakmp.SA](m.Payloads)
	id, ok := p.readID(&m.Chain)
	switch {
	case m.Sealed != nil || answer == nil || !ok || !p.proves(m.Payloads) || m.SPIr == 0:
		return drop("message 2 of aggressive mode without SA payload, ID or proof")
	case p.misread == maxUnread:
		return drop("%d messages 2 had wrong proofs", maxUnread)
	}
	s, ok := core.Phase1Offer(&b.Peer.Profile).Accepts(alternatives(ofMethods(phase1Offers(answer), []uint16{p.method})))
	if !ok || s.Group != p.ke.group {
		return drop("the peer chose a proposal that was not offered")
	}
	ke, nonce, err := p.readKeys(m, s.Group)
	if err != nil {
		return err
	}
	if bytes.Equal(ke, p.ke.own) || bytes.Equal(nonce, p.ni) {
		return drop("%v", ikesa.ErrReflected)
	}
	b.SPIr, b.Suite, p.nr = m.SPIr, s, nonce
	sa.peer = features{}
	sa.peer.hear(m.Payloads)
	p.ke.share(ke, p.then(func() error { return p.answered(m, id, raw, in) }))
	return nil
}

// answered goes on with message 2 once the keys can be made.
func (p *phase1) answered(m *isakmp.Message, id *isakmp.ID, raw []byte, in core.Datagram) error {
	sa := p.sa
	b := sa.base
	if err := ikesa.PeerSays(b, idOf(id)); err != nil {
		sa.bad(in, "%v", err)
		p.forget()
		return nil
	}
	p.makeKeys()
	return p.onProof(&m.Chain, in, p.forget, func() error {
		if err := sa.hearNATD(m.Payloads, b.Path); err != nil {
			return err
		}
		sa.first.hear(raw)
		b.Env.Traced(false, m.Header, m.Payloads)
		sa.last = p.iv
		p.hearCerts(m.Payloads)
		if err := ikesa.CheckIdentity(b); err != nil {
			return p.disbelieve(err)
		}
		sa.float()
		return p.prove(func(proof []isakmp.Payload) error {
			out := append(proof, sa.natD(&p.forged)...)
			if p.saysContact() {
				out = append(out, sa.initialContact())
			}
			// Nothing answers message 3. It is sent again until a message of phase 2 shows that the peer has it.
			sa.repeats = true
			sa.first.say(sa.seal(isakmp.ExchangeAggressive, 0, &p.iv, out), func() { sa.repeats = false })
			p.through(p.iv, in, &m.Chain)
			return nil
		})
	})
}

// forget takes back what a message 2 said whose proof is wrong.
func (p *phase1) forget() {
	sa := p.sa
	sa.keys.wipe()
	p.ke.shared.Wipe()
	p.ke.shared = nil
	sa.base.SPIr, sa.base.Suite, sa.peer = 0, core.Suite{}, features{}
	p.next = p.aggressive2
}

// --- responder ---

// chooseByID chooses transform and identity by who the initiator says that it is, before anything slow is computed.
func (p *phase1) chooseByID(m *isakmp.Message, offer *isakmp.SA) (*offered, error) {
	sa := p.sa
	b := sa.base
	id, _ := p.readID(&m.Chain)
	claim := idOf(id)
	accepting := func(peer *core.Peer) (methods []uint16) {
		for _, i := range peer.Identities {
			if n := methodOf(i, false); n != 0 && auth.Accepts(i, claim) {
				methods = append(methods, n)
			}
		}
		return methods
	}
	var fit []*core.Peer
	for _, peer := range p.candidates {
		if len(accepting(peer)) > 0 {
			fit = append(fit, peer)
		}
	}
	if len(fit) == 0 {
		b.PeerID = core.ID{}
		if err := ikesa.PeerSays(b, claim); err != nil {
			return nil, p.disbelieve(err)
		}
		return nil, p.disbelieve(ikesa.ChooseAmong(b, nil, auth.Claim{ID: claim}))
	}
	p.candidates = fit
	chosen, err := p.choose(offer, accepting)
	if err != nil {
		return nil, err
	}
	ids, owners := p.identities()
	if err := p.identify(id, ids, owners); err != nil {
		return nil, p.disbelieve(err)
	}
	p.sai = clone(offer.Body())
	sa.peer.hear(m.Payloads)
	p.hearCerts(m.Payloads)
	return chosen, nil
}

// aggressive1 takes message 1.
func (p *phase1) aggressive1(m *isakmp.Message, offer *isakmp.SA) error {
	sa := p.sa
	b := sa.base
	chosen, err := p.chooseByID(m, offer)
	if err != nil {
		return err
	}
	ke, nonce, err := p.readKeys(m, b.Suite.Group)
	if err != nil {
		return end(isakmp.NotifyInvalidKeyInformation, "%v", err)
	}
	p.ni, p.nr = nonce, b.Env.Random(nonceLen)
	p.ke.answer(b.Suite.Group, ke, p.then(func() error {
		p.makeKeys()
		return p.prove(func(proof []isakmp.Payload) error {
			out := []isakmp.Payload{chosen.payload(spis{}), &isakmp.KE{Data: p.ke.own}, &isakmp.Nonce{Data: p.nr}, idPayload(b.MyID)}
			out = append(append(out, proof...), p.requestCerts()...)
			out = append(append(out, sa.vendorIDs()...), sa.natD(&p.forged)...)
			p.expectLast("message 3 of aggressive mode, the peer's proof", p.aggressive3)
			p.say(sa.clear(isakmp.ExchangeAggressive, 0, out))
			return nil
		})
	}))
	return nil
}

// aggressive3 takes message 3, which some peers send in clear.
func (p *phase1) aggressive3(m *isakmp.Message, raw []byte, in core.Datagram) error {
	sa := p.sa
	if p.misread == maxUnread {
		return drop("%d messages 3 had wrong proofs: the peer has to begin again", maxUnread)
	}
	c, next := &m.Chain, p.iv
	if m.Sealed != nil {
		var err error
		if c, next, err = sa.open(m, sa.keys.enc, p.iv); err != nil {
			p.misread++
			return p.unread(err)
		}
	}
	switch {
	case !p.proves(c.Payloads):
		return drop("message 3 of aggressive mode without proof")
	case m.Sealed != nil && p.misproves(c.Payloads):
		p.misread++
		return p.unread(p.otherKeys())
	}
	take := func() error {
		sa.base.Path = ikesa.PathOf(in)
		if err := sa.hearNATD(c.Payloads, sa.base.Path); err != nil {
			return err
		}
		sa.first.hear(raw)
		sa.base.Env.Traced(false, m.Header, c.Payloads)
		sa.last, p.iv = next, next
		return nil
	}
	through := func() error {
		p.through(next, in, c)
		return nil
	}
	if m.Sealed != nil {
		if err := take(); err != nil {
			return err
		}
		return p.believe(c, through)
	}
	return p.onProof(c, in, func() { p.next = p.aggressive3 }, func() error {
		if err := take(); err != nil {
			return err
		}
		return through()
	})
}

// firstOf reports whether message 1 has what its exchange wants in it.
func firstOf(m *isakmp.Message) error {
	ke := m.Exchange == isakmp.ExchangeAggressive
	switch {
	case m.Exchange == isakmp.ExchangeMain:
	case ke && find[*isakmp.KE](m.Payloads) == nil || !nonceFits(find[*isakmp.Nonce](m.Payloads)) || indexID(&m.Chain) < 0:
		return drop("the first message of %v has no public value, nonce or ID", m.Exchange)
	}
	return nil
}

// nothingToOffer is the end of an attempt whose profile has nothing for IKEv1.
func nothingToOffer(p *core.Profile) error {
	return end(0, "profile %q has nothing that IKEv1 can negotiate: add to enc-algorithm, hash-algorithm or dh-group", p.Name)
}
