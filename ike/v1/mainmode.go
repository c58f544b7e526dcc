package v1

import (
	"bytes"
	"slices"

	"culvert/crypto/suite"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
)

// Main mode with a pre-shared key (RFC 2409 §5.4):
//
//	HDR, SA, VID …                 1 -->
//	                               <-- 2  HDR, SA, VID …
//	HDR, KE, Ni, NAT-D, NAT-D      3 -->
//	                               <-- 4  HDR, KE, Nr, NAT-D, NAT-D
//	HDR*, IDii, HASH_I, [N]        5 -->
//	                               <-- 6  HDR*, IDir, HASH_R
//
// The responder computes nothing that is slow before message 3, which shows that message 2 arrived. The IDs are encrypted
// under keys that are made of the secret, so that a peer is told by its address; the secrets of
// all peers that fit the address are tried.

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
	p.method = methodOf(sa.base.Identity, true)
	offer := phase1SA(&sa.base.Peer.Profile, p.method)
	if len(offer.Proposals[0].Transforms) == 0 {
		sa.fail(end(0, "profile %q has nothing that IKEv1 can negotiate: add to enc-algorithm, hash-algorithm or dh-group", sa.base.Peer.Profile.Name))
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
	return append([]isakmp.Payload{&isakmp.KE{Data: p.ke.own}, &isakmp.Nonce{Data: nonce}}, p.sa.natD(&p.forged)...)
}

// readKeys reads them.
func (p *phase1) readKeys(m *isakmp.Message, g *suite.Group) (ke, nonce []byte, err error) {
	k, n := find[*isakmp.KE](m.Payloads), find[*isakmp.Nonce](m.Payloads)
	switch {
	case m.Sealed != nil || k == nil || !nonceFits(n):
		return nil, nil, drop("a message of main mode without KE payload or nonce")
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
	p.nr = nonce
	p.ke.share(ke, p.then(p.prove))
	return nil
}

// prove sends message 5.
func (p *phase1) prove() error {
	sa := p.sa
	b := sa.base
	sa.float()
	sa.keys = p.derive(pskRoot(b.Suite.PRF, b.Identity.Secret, p.ni, p.nr))
	i, r := p.gx()
	p.iv = firstIV(b.Suite.PRF, b.Suite.Encr, i, r)
	b.MyID = auth.MyID(b.Identity, b.Local.Addr())
	id := idPayload(b.MyID)
	out := []isakmp.Payload{id, &isakmp.Hash{Data: p.hashOf(&sa.keys, true, id.Body())}}
	if b.Only() && b.Identity.Mode == nil && b.Identity.XAuth == nil { // the manual: not with mode config or XAuth
		out = append(out, sa.initialContact())
	}
	p.expect("message 6 of main mode, the peer's proof", p.main6)
	p.say(sa.seal(isakmp.ExchangeMain, 0, &p.iv, out))
	return nil
}

func (p *phase1) main6(m *isakmp.Message, raw []byte, in core.Datagram) error {
	sa := p.sa
	c, next, err := sa.open(m, sa.keys.enc, p.iv)
	if err != nil {
		return p.unread(err)
	}
	id, ok := p.proven(&sa.keys, c, false)
	if !ok {
		return p.unread(drop("the peer's proof is wrong: compare the secret of the identity on both sides"))
	}
	sa.first.hear(raw)
	sa.base.Env.Traced(false, m.Header, c.Payloads)
	if err := ikesa.PeerSays(sa.base, idOf(id)); err != nil {
		return p.disbelieve(err)
	}
	if err := ikesa.CheckIdentity(sa.base); err != nil {
		return p.disbelieve(err)
	}
	p.through(next, in, c)
	return nil
}

// --- responder ---

// Accept makes an IKE SA as responder of the first message of main mode and answers it. peers are
// those that it may be from, in order of preference. raw is the SA's to keep.
func Accept(env *core.Env, common ikesa.Owner, owner ikesa.Newcomers, peers []*core.Peer, raw []byte, in core.Datagram) error {
	m, err := isakmp.Parse(raw)
	if err != nil {
		return err
	}
	offer := find[*isakmp.SA](m.Payloads)
	if m.Sealed != nil || offer == nil {
		return drop("the first message of main mode has no SA payload")
	}
	sa := newSA(ikesa.Accept(env, common, peers[0], m.SPIi, in, halfOpenLife, "main mode"), owner)
	owner.Adopt(sa.base)
	defer sa.weigh()
	env.Traced(false, m.Header, m.Payloads)
	p := sa.phase1
	p.candidates = peers
	sa.first.hear(raw)
	chosen, err := p.choose(offer, pskMethods)
	if err != nil {
		sa.fail(err)
		return nil
	}
	p.sai = clone(offer.Body())
	sa.peer.hear(m.Payloads)
	p.expect("message 3 of main mode", p.main3)
	p.say(sa.clear(isakmp.ExchangeMain, 0, append([]isakmp.Payload{chosen.payload(nil)}, sa.vendorIDs()...)))
	return nil
}

// pskMethods are the ways of a peer with a pre-shared key.
func pskMethods(peer *core.Peer) (methods []uint16) {
	for _, id := range peer.Identities {
		if id.Auth == core.AuthPSK && id.Remote() == core.AuthPSK {
			if m := methodOf(id, false); !slices.Contains(methods, m) {
				methods = append(methods, m)
			}
		}
	}
	return methods
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
	p.ni, p.nr = nonce, sa.base.Env.Random(nonceLen)
	p.ke.answer(sa.base.Suite.Group, ke, p.then(func() error {
		i, r := p.gx()
		p.iv = firstIV(sa.base.Suite.PRF, sa.base.Suite.Encr, i, r)
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
	var (
		ids    []*core.Identity
		owners []*core.Peer
		c      *isakmp.Chain
		id     *isakmp.ID
		next   []byte
		right  keys
		tries  int
	)
	for _, peer := range p.candidates {
		for _, i := range peer.Identities {
			if i.Auth != core.AuthPSK || i.Remote() != core.AuthPSK || methodOf(i, false) != p.method || tries == maxSecrets {
				continue
			}
			tries++
			k := p.derive(pskRoot(sa.base.Suite.PRF, i.Secret, p.ni, p.nr))
			read, n, err := sa.open(m, k.enc, p.iv)
			if err != nil {
				k.wipe()
				continue
			}
			who, ok := p.proven(&k, read, true)
			if !ok || ids != nil {
				k.wipe()
			} else {
				c, id, next, right = read, who, n, k
			}
			if ok {
				ids, owners = append(ids, i), append(owners, peer)
			}
		}
	}
	if ids == nil {
		p.misread++
		return p.unread(drop("message 5 of main mode cannot be read with the secret of any identity for %v: compare secret on both sides, and the address of the peer here", in.Remote.Addr()))
	}
	sa.keys = right
	sa.first.hear(raw)
	sa.last, p.iv = next, next
	sa.base.Env.Traced(false, m.Header, c.Payloads)
	sa.base.Path = ikesa.PathOf(in)
	if err := p.identify(id, ids, owners); err != nil {
		return p.disbelieve(err)
	}
	mine := idPayload(sa.base.MyID)
	reply := []isakmp.Payload{mine, &isakmp.Hash{Data: p.hashOf(&sa.keys, false, mine.Body())}}
	p.say(sa.seal(isakmp.ExchangeMain, 0, &p.iv, reply))
	p.through(p.iv, in, c)
	return nil
}

// identify finds out who the peer is, of those whose secret it has.
func (p *phase1) identify(id *isakmp.ID, ids []*core.Identity, owners []*core.Peer) error {
	sa := p.sa
	claim := auth.Claim{ID: idOf(id), Wire: auth.MethodSharedKey}
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

// proven checks the HASH payload of message 5 or 6: over the ID as it was received.
func (p *phase1) proven(k *keys, c *isakmp.Chain, initiator bool) (*isakmp.ID, bool) {
	h := find[*isakmp.Hash](c.Payloads)
	i := indexID(c)
	if h == nil || i < 0 {
		return nil, false
	}
	return c.Payloads[i].(*isakmp.ID), p.sa.base.Env.Proved(p.hashOf(k, initiator, c.Body(i)).Equal(h.Data))
}

// unread passes over a proof that cannot be read: anybody on the path can have sent it. The first one
// is an event of its own.
func (p *phase1) unread(err error) error {
	sa := p.sa
	if !p.warned {
		p.warned = true
		reason := err.Error()
		if err == error(errGarbled) {
			reason = "the peer's proof cannot be decrypted: compare the secret of the identity on both sides"
		}
		sa.base.Emit(core.Event{Kind: core.EvAuthFailed, Reason: reason, Detail: ikesa.Explainer{SA: sa.base}.SecretParts()})
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
	sa.base.Fresh(in)
	goOn(sa, notify(c.Payloads, isakmp.NotifyInitialContact) != nil)
}
