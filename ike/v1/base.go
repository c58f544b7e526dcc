package v1

import (
	"bytes"

	"culvert/crypto/prf"
	"culvert/crypto/secret"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
)

// Base mode (draft-ietf-ipsec-ike-base-mode-02; what it leaves open is as in racoon):
//
//	HDR, SA, IDii, Ni, VID …                1 -->
//	                                        <-- 2  HDR, SA, IDir, Nr, VID …
//	HDR, KE, proof, NAT-D, NAT-D            3 -->
//	                                        <-- 4  HDR, KE, proof, NAT-D, NAT-D
//
// Nothing is encrypted. The responder finds its identity by IDii, as in aggressive mode, but the peer has shown that it receives
// at its address, and has proved who it is, before a key is computed. The initiator proves itself before it has g^xr:
//
//	HASH_I = prf(key, g^xi | CKY-I | CKY-R | SAi_b | IDii_b)
//	HASH_R                                                       with a pre-shared key as in main mode, else
//	       = prf(key, g^xi | g^xr | CKY-I | CKY-R | SAi_b | IDii_b)
//
// key is SKEYID of a pre-shared key, else hash(Ni_b | Nr_b), since SKEYID is not there yet. No CERTREQ is sent: racoon passes over
// messages that have one.

// baseMode is a phase 1 that goes by it.
type baseMode struct{ p *phase1 }

// hash is HASH_I or HASH_R; id is the ID payload's body of who proves itself.
func (bm baseMode) hash(k *keys, initiator bool, id []byte) secret.Bytes {
	p := bm.p
	b := p.sa.base
	i, r := p.gx()
	if bySecret(p.method) {
		if initiator {
			return prf.Sum(k.prf, k.root, i, cookies(b.SPIi, b.SPIr), p.sai, id)
		}
		return k.hashR(r, i, b.SPIi, b.SPIr, p.sai, id)
	}
	h := prf.Hash(b.Suite.PRF)()
	h.Write(p.ni)
	h.Write(p.nr)
	if initiator {
		r = nil
	} else if b.Initiator { // what it is made over has the initiator's ID, whoever proves itself
		id = idPayload(b.MyID).Body()
	} else {
		id = p.peerID
	}
	return prf.Sum(b.Suite.PRF, h.Sum(nil), i, r, cookies(b.SPIi, b.SPIr), p.sai, id)
}

// earlyKeys are what a proof by a pre-shared key takes, before the key exchange.
func (bm baseMode) earlyKeys() {
	p := bm.p
	p.sa.keys.wipe()
	if b := p.sa.base; bySecret(p.method) {
		p.sa.keys = keys{prf: b.Suite.PRF, root: pskRoot(b.Suite.PRF, b.Identity.Secret, p.ni, p.nr)}
	}
}

// --- initiator ---

func (bm baseMode) begin() {
	p := bm.p
	sa := p.sa
	b := sa.base
	profile := &b.Peer.Profile
	offer := phase1SA(profile, p.method, core.Phase1Offer(profile).Groups)
	if len(offer.Proposals[0].Transforms) == 0 {
		sa.fail(nothingToOffer(profile))
		return
	}
	p.sai, p.ni = offer.Body(), b.Env.Random(nonceLen)
	b.MyID = auth.MyID(b.Identity, b.Local.Addr())
	p.expect("message 2 of base mode, the peer's choice of our proposals", bm.second)
	p.say(sa.clear(isakmp.ExchangeBase, 0, append([]isakmp.Payload{offer, idPayload(b.MyID), &isakmp.Nonce{Data: p.ni}}, sa.vendorIDs()...)))
}

func (bm baseMode) second(m *isakmp.Message, raw []byte, in core.Datagram) error {
	p := bm.p
	sa := p.sa
	b := sa.base
	answer, nonce := find[*isakmp.SA](m.Payloads), find[*isakmp.Nonce](m.Payloads)
	id, ok := p.readID(&m.Chain)
	if m.Sealed != nil || answer == nil || !ok || !nonceFits(nonce) || m.SPIr == 0 {
		return drop("message 2 of base mode without SA payload, ID or nonce")
	}
	s, ok := core.Phase1Offer(&b.Peer.Profile).Accepts(alternatives(ofMethods(phase1Offers(answer), []uint16{p.method})))
	switch {
	case !ok:
		return drop("the peer chose a proposal that was not offered")
	case bytes.Equal(nonce.Data, p.ni):
		return drop("%v", ikesa.ErrReflected)
	}
	if err := ikesa.PeerSays(b, idOf(id)); err != nil {
		return drop("%v", err)
	}
	sa.first.hear(raw)
	b.Env.Traced(false, m.Header, m.Payloads)
	b.SPIr, b.Suite, p.nr = m.SPIr, s, clone(nonce.Data)
	sa.peer.hear(m.Payloads)
	p.ke.offer(s.Group, p.then(func() error {
		bm.earlyKeys()
		return p.prove(func(proof []isakmp.Payload) error {
			out := append([]isakmp.Payload{&isakmp.KE{Data: p.ke.own}}, proof...)
			p.expect("message 4 of base mode, the peer's proof", bm.fourth)
			p.say(sa.clear(isakmp.ExchangeBase, 0, append(out, sa.natD(&p.forged)...)))
			return nil
		})
	}))
	return nil
}

// public is the public value of message 3 or 4.
func (bm baseMode) public(m *isakmp.Message) ([]byte, error) {
	p := bm.p
	g := p.sa.base.Suite.Group
	k := find[*isakmp.KE](m.Payloads)
	switch {
	case p.misread == maxUnread:
		return nil, drop("%d messages had wrong proofs", maxUnread)
	case m.Sealed != nil || k == nil || !p.proves(m.Payloads):
		return nil, drop("a message of base mode without KE payload or proof")
	case len(k.Data) != g.PublicLen:
		return nil, drop("a public value of %d bytes, which group %s does not have", len(k.Data), g.Name)
	case bytes.Equal(k.Data, p.ke.own):
		return nil, drop("%v", ikesa.ErrReflected)
	}
	return k.Data, nil
}

func (bm baseMode) fourth(m *isakmp.Message, raw []byte, in core.Datagram) error {
	p := bm.p
	sa := p.sa
	b := sa.base
	ke, err := bm.public(m)
	if err != nil {
		return err
	}
	p.ke.share(ke, p.then(func() error {
		p.makeKeys()
		sa.last = p.iv
		undo := func() {
			sa.last = nil
			sa.keys.wipe()
			p.ke.shared.Wipe()
			p.ke.shared = nil
			p.next = bm.fourth
		}
		return p.onProof(&m.Chain, in, undo, func() error {
			sa.first.hear(raw)
			b.Env.Traced(false, m.Header, m.Payloads)
			if err := ikesa.CheckIdentity(b); err != nil {
				return p.disbelieve(err)
			}
			if err := sa.hearNATD(m.Payloads, b.Path); err != nil {
				return err
			}
			sa.float()
			if p.saysContact() {
				sa.inform(sa.initialContact())
			}
			p.through(p.iv, in, &m.Chain)
			return nil
		})
	}))
	return nil
}

// fresh is ikesa.SA.Fresh. In base mode an initiator behind a NAT goes to the ports of NAT traversal once it has message 4, and the
// responder is up by then.
func fresh(sa *SA, in core.Datagram) {
	b := sa.base
	if p := ikesa.PathOf(in); sa.exchange == isakmp.ExchangeBase && !b.Initiator && p.NATT && !b.NATT {
		b.Path = p
		b.MoveChildren()
	}
	b.Fresh(in)
}

// --- responder ---

// first takes message 1. Nothing slow is computed for it.
func (bm baseMode) first(m *isakmp.Message, offer *isakmp.SA) error {
	p := bm.p
	sa := p.sa
	b := sa.base
	chosen, err := p.chooseByID(m, offer)
	if err != nil {
		return err
	}
	p.ni, p.nr = clone(find[*isakmp.Nonce](m.Payloads).Data), b.Env.Random(nonceLen)
	bm.earlyKeys()
	out := []isakmp.Payload{chosen.payload(spis{}), idPayload(b.MyID), &isakmp.Nonce{Data: p.nr}}
	p.expect("message 3 of base mode, the peer's proof", bm.third)
	p.say(sa.clear(isakmp.ExchangeBase, 0, append(out, sa.vendorIDs()...)))
	return nil
}

// third takes message 3. Whoever saw the first two can have sent it, so that a wrong proof ends nothing.
func (bm baseMode) third(m *isakmp.Message, raw []byte, in core.Datagram) error {
	p := bm.p
	sa := p.sa
	b := sa.base
	ke, err := bm.public(m)
	if err != nil {
		return err
	}
	p.ke.peer = clone(ke)
	undo := func() {
		p.ke.peer = nil
		p.next = bm.third
	}
	return p.onProof(&m.Chain, in, undo, func() error {
		sa.first.hear(raw)
		b.Env.Traced(false, m.Header, m.Payloads)
		b.Path = ikesa.PathOf(in)
		if err := sa.hearNATD(m.Payloads, b.Path); err != nil {
			return err
		}
		p.ke.answer(b.Suite.Group, ke, p.then(func() error {
			p.makeKeys()
			sa.last = p.iv
			return p.prove(func(proof []isakmp.Payload) error {
				out := append([]isakmp.Payload{&isakmp.KE{Data: p.ke.own}}, proof...)
				p.say(sa.clear(isakmp.ExchangeBase, 0, append(out, sa.natD(&p.forged)...)))
				p.through(p.iv, in, &m.Chain)
				return nil
			})
		}))
		return nil
	})
}
