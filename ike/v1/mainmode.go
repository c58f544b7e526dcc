package v1

import (
	"bytes"

	"culvert/crypto/suite"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
)

// Main mode (RFC 2409 §5.1 and §5.4):
//
//	HDR, SA, VID …                            1 -->
//	                                          <-- 2  HDR, SA, VID …
//	HDR, KE, Ni, [CERTREQ …], NAT-D, NAT-D    3 -->
//	                                          <-- 4  HDR, KE, Nr, [CERTREQ …], NAT-D, NAT-D
//	HDR*, IDii, proof, [N]                    5 -->
//	                                          <-- 6  HDR*, IDir, proof
//
// A proof is HASH_I or HASH_R, or CERT … and SIG_I or SIG_R. The responder computes nothing that is slow before message 3,
// which shows that message 2 arrived. With a pre-shared key the IDs are encrypted under keys that are made of the
// secret, so that a peer is told by its address; the secrets of all peers that fit the address are tried.

// maxSecrets bounds how many secrets are tried for one message, and maxUnread for how many messages
// that none of them reads: whoever began the exchange has not proved anything yet. A peer whose secret differs
// says the same core.Tries times.
const (
	maxSecrets = 64
	maxUnread  = core.Tries + 4
)

// --- initiator ---

func (p *phase1) begin() {
	sa := p.sa
	if sa.base.Identity == nil { // else it is that of the policies
		sa.base.Identity = ikesa.FirstIdentity(sa.base, nil)
	}
	if p.method = methodOf(sa.base.Identity, true); p.method == 0 {
		sa.fail(end(0, "the first identity of peer %q proves itself in a way that IKEv1 has not: use auth-method pre-shared-key, digital-signature with an RSA or ECDSA key, rsa-key, or rsa-signature-hybrid with an RSA key", sa.base.Peer.Name))
		return
	}
	switch sa.exchange {
	case isakmp.ExchangeAggressive:
		p.beginAggressive()
		return
	case isakmp.ExchangeBase:
		baseMode{p}.begin()
		return
	}
	profile := &sa.base.Peer.Profile
	offer := phase1SA(profile, p.method, core.Phase1Offer(profile).Groups)
	if len(offer.Proposals[0].Transforms) == 0 {
		sa.fail(nothingToOffer(profile))
		return
	}
	p.sai = offer.Body()
	p.expect("message 2 of main mode, the peer's choice of our proposals", p.main2)
	p.say(sa.clear(isakmp.ExchangeMain, 0, append([]isakmp.Payload{offer}, sa.vendorIDs()...)))
}

func (p *phase1) main2(m *isakmp.Message, raw []byte, in core.Datagram) error {
	sa := p.sa
	answer := find[*isakmp.SA](m.Payloads)
	if m.Sealed != nil || answer == nil || m.SPIr == 0 {
		return drop("message 2 of main mode without SA payload")
	}
	chosen := ofMethods(phase1Offers(answer), []uint16{p.method})
	s, ok := core.Phase1Offer(&sa.base.Peer.Profile).Accepts(alternatives(chosen))
	if !ok {
		return drop("the peer chose a proposal that was not offered")
	}
	sa.first.hear(raw)
	sa.base.Env.Traced(false, m.Header, m.Payloads)
	sa.base.SPIr, sa.base.Suite = m.SPIr, s
	sa.peer.hear(m.Payloads)
	p.hearCerts(m.Payloads)
	p.ni = sa.base.Env.Random(nonceLen)
	p.ke.offer(s.Group, p.then(func() error {
		p.expect("message 4 of main mode, the peer's part of the key exchange", p.main4)
		p.say(sa.clear(isakmp.ExchangeMain, 0, p.exchangeKeys(p.ni)))
		return nil
	}))
	return nil
}

// exchangeKeys are the payloads of message 3 or 4.
func (p *phase1) exchangeKeys(nonce []byte) []isakmp.Payload {
	out := append([]isakmp.Payload{&isakmp.KE{Data: p.ke.own}, &isakmp.Nonce{Data: nonce}}, p.requestCerts()...)
	return append(out, p.sa.natD(&p.forged)...)
}

// readKeys reads them.
func (p *phase1) readKeys(m *isakmp.Message, g *suite.Group) (ke, nonce []byte, err error) {
	k, n := find[*isakmp.KE](m.Payloads), find[*isakmp.Nonce](m.Payloads)
	switch {
	case m.Sealed != nil || k == nil || !nonceFits(n):
		return nil, nil, drop("a message of phase 1 without KE payload or nonce")
	case len(k.Data) != g.PublicLen:
		return nil, nil, drop("a public value of %d bytes, which group %s does not have", len(k.Data), g.Name)
	}
	return k.Data, clone(n.Data), nil
}

func (p *phase1) main4(m *isakmp.Message, raw []byte, in core.Datagram) error {
	sa := p.sa
	ke, nonce, err := p.readKeys(m, sa.base.Suite.Group)
	if err != nil {
		return err
	}
	if bytes.Equal(ke, p.ke.own) || bytes.Equal(nonce, p.ni) {
		return drop("%v", ikesa.ErrReflected)
	}
	if err := sa.hearNATD(m.Payloads, sa.base.Path); err != nil {
		return err
	}
	sa.first.hear(raw)
	sa.base.Env.Traced(false, m.Header, m.Payloads)
	p.hearCerts(m.Payloads)
	p.nr = nonce
	p.ke.share(ke, p.then(p.main5Sent))
	return nil
}

// main5Sent sends message 5.
func (p *phase1) main5Sent() error {
	sa := p.sa
	b := sa.base
	sa.float()
	p.makeKeys()
	b.MyID = auth.MyID(b.Identity, b.Local.Addr())
	return p.prove(func(proof []isakmp.Payload) error {
		out := append([]isakmp.Payload{idPayload(b.MyID)}, proof...)
		if p.saysContact() {
			out = append(out, sa.initialContact())
		}
		p.expectLast("message 6 of main mode, the peer's proof", p.main6)
		p.say(sa.seal(isakmp.ExchangeMain, 0, &p.iv, out))
		return nil
	})
}

// saysContact reports whether we say INITIAL-CONTACT. The manual: not with mode config or XAuth.
func (p *phase1) saysContact() bool {
	b := p.sa.base
	return b.Only() && b.Identity.Mode == nil && b.Identity.XAuth == nil
}

func (p *phase1) main6(m *isakmp.Message, raw []byte, in core.Datagram) error {
	sa := p.sa
	c, next, err := sa.open(m, sa.keys.enc, p.iv)
	if err != nil {
		return p.unread(err)
	}
	id, ok := p.readID(c)
	switch {
	case !ok || !p.proves(c.Payloads):
		return p.unread(drop("message 6 of main mode has no ID or no proof"))
	case p.misproves(c.Payloads):
		return p.unread(p.otherKeys())
	}
	sa.first.hear(raw)
	sa.base.Env.Traced(false, m.Header, c.Payloads)
	p.iv, sa.last = next, next
	err = ikesa.PeerSays(sa.base, idOf(id))
	if err == nil {
		err = ikesa.CheckIdentity(sa.base)
	}
	if err != nil {
		return p.disbelieve(err)
	}
	return p.believe(c, func() error {
		p.through(next, in, c)
		return nil
	})
}

// readID takes the peer's ID payload.
func (p *phase1) readID(c *isakmp.Chain) (*isakmp.ID, bool) {
	i := indexID(c)
	if i < 0 {
		return nil, false
	}
	p.peerID = clone(c.Body(i))
	return c.Payloads[i].(*isakmp.ID), true
}

// believe goes on once the peer's proof is right: a hash has been found to be so.
func (p *phase1) believe(c *isakmp.Chain, then func() error) error {
	if !p.peerSigns() {
		return then()
	}
	p.certs, p.certsErr = readCerts(c.Payloads)
	return p.check(c.Payloads, then)
}

// --- responder ---

// Accept makes an IKE SA as responder of the first message of phase 1 and answers it. peers are
// those that it may be from, in order of preference. raw is the SA's to keep.
func Accept(env *core.Env, common ikesa.Owner, owner Owner, peers []*core.Peer, raw []byte, in core.Datagram) error {
	m, err := isakmp.Parse(raw)
	if err != nil {
		return err
	}
	offer := find[*isakmp.SA](m.Payloads)
	if m.Sealed != nil || offer == nil {
		return drop("the first message of %v has no SA payload", m.Exchange)
	}
	if err := firstOf(m); err != nil {
		return err
	}
	sa := newSA(ikesa.Accept(env, common, peers[0], m.SPIi, in, halfOpenLife, m.Exchange.String()), owner)
	sa.exchange = m.Exchange
	owner.Adopt(sa.base)
	defer sa.weigh()
	env.Traced(false, m.Header, m.Payloads)
	p := sa.phase1
	p.candidates = peers
	sa.first.hear(raw)
	switch m.Exchange {
	case isakmp.ExchangeAggressive:
		err = p.aggressive1(m, offer)
	case isakmp.ExchangeBase:
		err = baseMode{p}.first(m, offer)
	default:
		err = p.main1(m, offer)
	}
	if err != nil {
		sa.fail(err)
	}
	return nil
}

// main1 takes message 1.
func (p *phase1) main1(m *isakmp.Message, offer *isakmp.SA) error {
	sa := p.sa
	chosen, err := p.choose(offer, methodsFor)
	if err != nil {
		return err
	}
	p.sai = clone(offer.Body())
	sa.peer.hear(m.Payloads)
	p.hearCerts(m.Payloads)
	p.expect("message 3 of main mode", p.main3)
	p.say(sa.clear(isakmp.ExchangeMain, 0, append([]isakmp.Payload{chosen.payload(spis{})}, sa.vendorIDs()...)))
	return nil
}

func (p *phase1) main3(m *isakmp.Message, raw []byte, in core.Datagram) error {
	sa := p.sa
	ke, nonce, err := p.readKeys(m, sa.base.Suite.Group)
	if err != nil {
		return err
	}
	sa.base.Path = ikesa.PathOf(in)
	if err := sa.hearNATD(m.Payloads, sa.base.Path); err != nil {
		return err
	}
	sa.first.hear(raw)
	sa.base.Env.Traced(false, m.Header, m.Payloads)
	p.hearCerts(m.Payloads)
	p.ni, p.nr = nonce, sa.base.Env.Random(nonceLen)
	p.ke.answer(sa.base.Suite.Group, ke, p.then(func() error {
		if bySecret(p.method) {
			i, r := p.gx()
			p.iv = firstIV(sa.base.Suite.PRF, sa.base.Suite.Encr, i, r)
		} else {
			p.makeKeys()
		}
		p.expect("message 5 of main mode, the peer's proof", p.main5)
		p.say(sa.clear(isakmp.ExchangeMain, 0, p.exchangeKeys(p.nr)))
		return nil
	}))
	return nil
}

func (p *phase1) main5(m *isakmp.Message, raw []byte, in core.Datagram) error {
	sa := p.sa
	if m.Sealed == nil {
		return drop("message 5 of main mode is not encrypted")
	}
	if p.misread == maxUnread {
		return drop("%d messages could not be read with any secret: the peer has to begin again", maxUnread)
	}
	o := p.opened(m)
	if o == nil {
		p.misread++
		if !bySecret(p.method) {
			return p.unread(drop("message 5 of main mode cannot be read: the peer has other keys, or it has no ID or no proof"))
		}
		return p.unread(drop("message 5 of main mode cannot be read with the secret of any identity for %v: compare secret on both sides, and the address of the peer here", in.Remote.Addr()))
	}
	sa.first.hear(raw)
	sa.last, p.iv, p.last = o.next, o.next, true
	sa.base.Env.Traced(false, m.Header, o.chain.Payloads)
	sa.base.Path = ikesa.PathOf(in)
	p.certs, p.certsErr = readCerts(o.chain.Payloads)
	if err := p.identify(o.id, o.ids, o.owners); err != nil {
		return p.disbelieve(err)
	}
	return p.believe(o.chain, func() error {
		return p.prove(func(proof []isakmp.Payload) error {
			p.say(sa.seal(isakmp.ExchangeMain, 0, &p.iv, append([]isakmp.Payload{idPayload(sa.base.MyID)}, proof...)))
			p.through(p.iv, in, o.chain)
			return nil
		})
	})
}

// opened5 is message 5 decrypted, and the identities that it can be of.
type opened5 struct {
	chain  *isakmp.Chain
	id     *isakmp.ID
	next   []byte
	ids    []*core.Identity
	owners []*core.Peer
}

// opened reads message 5; nil: it cannot be read. With signatures there is one key for it, and else one for each secret.
func (p *phase1) opened(m *isakmp.Message) *opened5 {
	if bySecret(p.method) {
		return p.trySecrets(m)
	}
	c, next, err := p.sa.open(m, p.sa.keys.enc, p.iv)
	if err != nil {
		return nil
	}
	id, ok := p.readID(c)
	if !ok || !p.proves(c.Payloads) || p.misproves(c.Payloads) {
		return nil
	}
	o := &opened5{chain: c, id: id, next: next}
	o.ids, o.owners = p.identities()
	return o
}

// trySecrets finds the identities whose secret a message 5 proves, and keeps the keys.
func (p *phase1) trySecrets(m *isakmp.Message) (o *opened5) {
	sa := p.sa
	ids, owners := p.identities()
	for i, id := range ids[:min(len(ids), maxSecrets)] {
		k := p.derive(pskRoot(sa.base.Suite.PRF, id.Secret, p.ni, p.nr))
		c, next, err := sa.open(m, k.enc, p.iv)
		if err != nil {
			k.wipe()
			continue
		}
		who, ok := p.readID(c)
		ok = ok && p.hashed(&k, c.Payloads, true, p.peerID)
		switch {
		case !ok:
			k.wipe()
			continue
		case o == nil:
			o = &opened5{chain: c, id: who, next: next}
			sa.keys = k
		default:
			k.wipe()
		}
		o.ids, o.owners = append(o.ids, id), append(o.owners, owners[i])
	}
	return o
}

// identify finds out who the peer is, of some identities.
func (p *phase1) identify(id *isakmp.ID, ids []*core.Identity, owners []*core.Peer) error {
	sa := p.sa
	claim := auth.Claim{ID: idOf(id), Wire: p.wire(), CAs: p.cas}
	if len(p.certs) > 0 {
		claim.Cert = p.certs[0]
	}
	best := auth.Match(ids, claim, sa.base.Host.Config().Trust)
	for i := range ids {
		if ids[i] == best {
			ikesa.TurnOut(sa.base, owners[i])
		}
	}
	if err := ikesa.PeerSays(sa.base, claim.ID); err != nil {
		return err
	}
	return ikesa.ChooseAmong(sa.base, ids, claim)
}

// --- both ---

// unread passes over a proof that cannot be read: anybody on the path can have sent it. The first one
// is an event of its own.
func (p *phase1) unread(err error) error {
	sa := p.sa
	if !p.warned {
		p.warned = true
		e := core.Event{Kind: core.EvAuthFailed, Reason: err.Error()}
		if bySecret(p.method) {
			e.Detail = ikesa.Explainer{SA: sa.base}.SecretParts()
			if err == error(errGarbled) {
				e.Reason = "the peer's proof cannot be decrypted: compare the secret of the identity on both sides"
			}
		}
		sa.base.Emit(e)
	}
	return err
}

// disbelieve refuses a peer that has our secret and is not who it has to be.
func (p *phase1) disbelieve(err error) error {
	f := fatal{kind: isakmp.NotifyInvalidIDInformation, cause: ikesa.NotProven, reason: err.Error(), told: true}
	if r, ok := err.(*ikesa.Refusal); ok {
		f.detail = r.Detail
	}
	p.sa.base.Emit(core.Event{Kind: core.EvAuthFailed, Reason: f.reason, Detail: f.detail})
	return f
}

// through is the end of phase 1; last is the last ciphertext block.
func (p *phase1) through(last []byte, in core.Datagram, c *isakmp.Chain) {
	sa := p.sa
	sa.last = last
	sa.lowNonce = lowest(p.ni, p.nr)
	fresh(sa, in)
	goOn(sa, notify(c.Payloads, isakmp.NotifyInitialContact) != nil)
	for _, e := range p.early {
		if sa.base.State != Ended {
			sa.Datagram(e.raw, e.in)
		}
	}
}
