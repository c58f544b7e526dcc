package v1

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/sign"
	"culvert/crypto/suite"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// How the ends of phase 1 prove who they are. Its SA payload names one method for both:
//
//	pre-shared key   HASH_I and HASH_R (RFC 2409 §5.4)
//	signature        these, signed, with certificates (RFC 2409 §5.1, RFC 4754). package auth makes
//	                 and checks them, as it does for IKEv2
//	RSA key          the same without certificates
//	hybrid           the gateway signs. The other end sends its hash, which shows no more than that it is
//	                 who began, and is believed once XAuth is through (draft-ietf-ipsec-isakmp-hybrid-auth-05)

// methodOf is how an identity has both ends prove themselves; 0: in no way that IKEv1 has. initiator: we begin phase 1.
func methodOf(id *core.Identity, initiator bool) uint16 {
	switch {
	case auth.Hybrid(id):
		return hybridOf(id, initiator)
	case id.Remote() != id.Auth:
		return 0
	case id.Auth == core.AuthPSK && id.XAuth == nil:
		return isakmp.AuthPreShared
	case id.Auth == core.AuthPSK && initiator != id.XAuth.Asks:
		return isakmp.AuthXAuthInitPreShared
	case id.Auth == core.AuthPSK:
		return isakmp.AuthXAuthRespPreShared
	case id.Auth == core.AuthRawKey:
		return isakmp.AuthRSASignatures
	case id.Auth == core.AuthSignature && id.Own != nil:
		switch k := id.Own.Chain[0].PublicKey.(type) {
		case *rsa.PublicKey:
			return isakmp.AuthRSASignatures
		case *ecdsa.PublicKey:
			return map[int]uint16{256: isakmp.AuthECDSA256, 384: isakmp.AuthECDSA384, 521: isakmp.AuthECDSA521}[k.Curve.Params().BitSize]
		}
	}
	return 0
}

// hybridOf is methodOf for hybrid authentication, in which only RSA signs.
func hybridOf(id *core.Identity, initiator bool) uint16 {
	if id.XAuth.Asks {
		if _, ok := id.Own.Chain[0].PublicKey.(*rsa.PublicKey); !ok {
			return 0
		}
	}
	if initiator != id.XAuth.Asks {
		return isakmp.AuthHybridInitRSA
	}
	return isakmp.AuthHybridRespRSA
}

// methodsFor are the methods of a peer's identities.
func methodsFor(peer *core.Peer) (methods []uint16) {
	for _, id := range peer.Identities {
		if m := methodOf(id, false); m != 0 && !slices.Contains(methods, m) {
			methods = append(methods, m)
		}
	}
	return methods
}

// bySecret reports whether a method is a proof by a pre-shared key.
func bySecret(method uint16) bool {
	return method == isakmp.AuthPreShared || method == isakmp.AuthXAuthInitPreShared || method == isakmp.AuthXAuthRespPreShared
}

// signs reports whether an end proves itself by a signature; else by a hash.
func signs(method uint16, initiator bool) bool {
	switch method {
	case isakmp.AuthHybridInitRSA:
		return !initiator
	case isakmp.AuthHybridRespRSA:
		return initiator
	}
	return !bySecret(method)
}

// weSign and peerSigns are signs for the two ends.
func (p *phase1) weSign() bool    { return signs(p.method, p.sa.base.Initiator) }
func (p *phase1) peerSigns() bool { return signs(p.method, !p.sa.base.Initiator) }

// wire is the method as a claim of package auth has it: one that its row goes by; 0: before the initiator's proof is there it
// is not known whether it signs with a certificate.
func (p *phase1) wire() uint8 {
	switch {
	case !signs(p.method, true):
		return auth.MethodSharedKey
	case len(p.certs) > 0:
		return sign.MethodDigital
	case p.sa.exchange == isakmp.ExchangeMain: // there certificates come before the identity is chosen
		return auth.WireRawKey
	}
	return 0
}

// identities are those of the candidates that have the method, with their peers.
func (p *phase1) identities() (ids []*core.Identity, owners []*core.Peer) {
	for _, peer := range p.candidates {
		for _, id := range peer.Identities {
			if methodOf(id, p.sa.base.Initiator) == p.method {
				ids, owners = append(ids, id), append(owners, peer)
			}
		}
	}
	return ids, owners
}

// --- keys ---

// root is SKEYID. With a pre-shared key it takes the identity that has that.
func (p *phase1) root() secret.Bytes {
	b := p.sa.base
	if bySecret(p.method) {
		return pskRoot(b.Suite.PRF, b.Identity.Secret, p.ni, p.nr)
	}
	return signatureRoot(b.Suite.PRF, p.ke.shared, p.ni, p.nr)
}

// makeKeys makes the keys, and the IV of the first message that is encrypted.
func (p *phase1) makeKeys() {
	b := p.sa.base
	p.sa.keys.wipe()
	p.sa.keys = p.derive(p.root())
	i, r := p.gx()
	p.iv = firstIV(b.Suite.PRF, b.Suite.Encr, i, r)
}

// --- certificates ---

// requestCerts are CERTREQ payloads for the authorities that we trust, if the peer is to prove itself by a certificate. IKEv1
// names them by their subjects.
func (p *phase1) requestCerts() (out []isakmp.Payload) {
	trust := p.sa.base.Host.Config().Trust
	if !p.peerSigns() || trust == nil || !p.wantsCerts() {
		return nil
	}
	for _, a := range trust.Authorities[:min(len(trust.Authorities), maxRequests)] {
		out = append(out, &isakmp.CertReq{Encoding: isakmp.CertX509, CA: a.Cert.RawSubject})
	}
	return out
}

// wantsCerts reports whether the peer may have a certificate.
func (p *phase1) wantsCerts() bool {
	if id := p.sa.base.Identity; id != nil {
		return auth.Of(id.Remote()).Certificate
	}
	return slices.ContainsFunc(p.candidates, auth.ByCertificate)
}

// maxRequests bounds how many authorities are named in one message, and are read of the peer's.
const maxRequests = 16

// hearCerts notes which authorities the peer trusts.
func (p *phase1) hearCerts(ps []isakmp.Payload) {
	asked := 0
	for _, x := range ps {
		if r, ok := x.(*isakmp.CertReq); ok {
			p.pkcs7 = r.Encoding == isakmp.CertPKCS7
			if asked++; asked <= maxRequests && len(r.CA) > 0 {
				for _, peer := range p.candidates {
					p.cas = append(p.cas, auth.Named(p.sa.base.Host.Config().Trust, peer.Identities, r.CA)...)
				}
			}
		}
	}
}

// ownCerts are CERT payloads with our chain: wrapped in PKCS #7 for a peer that asks for that alone.
func (p *phase1) ownCerts() (out []isakmp.Payload) {
	if p.sa.base.Identity.Own == nil { // we sign with a raw key
		return nil
	}
	var all [][]byte
	for _, c := range p.sa.base.Identity.Own.Chain {
		all = append(all, c.Raw)
		out = append(out, &isakmp.Cert{Encoding: isakmp.CertX509, Data: c.Raw})
	}
	if p.pkcs7 {
		if b, err := isakmp.WrapPKCS7(all); err == nil {
			return []isakmp.Payload{&isakmp.Cert{Encoding: isakmp.CertPKCS7, Data: b}}
		}
	}
	return out
}

// readCerts reads the certificates of a message, the peer's own first.
func readCerts(ps []isakmp.Payload) ([]*x509.Certificate, error) {
	var list []message.Payload
	for _, x := range ps {
		c, ok := x.(*isakmp.Cert)
		if !ok {
			continue
		}
		switch c.Encoding {
		case isakmp.CertX509, isakmp.CertKeyEx:
			list = append(list, &message.Cert{Encoding: auth.EncodingX509, Data: c.Data})
		case isakmp.CertPKCS7:
			all, err := isakmp.UnwrapPKCS7(c.Data)
			if err != nil {
				return nil, err
			}
			for _, der := range all {
				list = append(list, &message.Cert{Encoding: auth.EncodingX509, Data: der})
			}
		}
	}
	certs, err := auth.ReadCerts(list)
	return auth.LeafFirst(certs), err
}

// --- proofs ---

// hashOf are HASH_I and HASH_R over an ID payload's body.
func (p *phase1) hashOf(k *keys, initiator bool, id []byte) secret.Bytes {
	if p.sa.exchange == isakmp.ExchangeBase {
		return baseMode{p}.hash(k, initiator, id)
	}
	i, r := p.gx()
	b := p.sa.base
	if initiator {
		return k.hashI(i, r, b.SPIi, b.SPIr, p.sai, id)
	}
	return k.hashR(r, i, b.SPIi, b.SPIr, p.sai, id)
}

// prove makes our proof and goes on with what goes behind our ID payload.
func (p *phase1) prove(then func(out []isakmp.Payload) error) error {
	b := p.sa.base
	if !p.weSign() {
		return then([]isakmp.Payload{&isakmp.Hash{Data: p.hashOf(&p.sa.keys, b.Initiator, idPayload(b.MyID).Body())}})
	}
	p.ours = auth.Of(b.Identity.Auth).Prove(proofSide{p})
	return p.ours.Step(nil, func(made []message.Payload, _ bool) error {
		return then(append(p.ownCerts(), &isakmp.Sig{Data: made[0].(*message.Auth).Data}))
	})
}

// proves reports whether a message of the peer has a proof of the method.
func (p *phase1) proves(ps []isakmp.Payload) bool {
	if p.peerSigns() {
		return find[*isakmp.Sig](ps) != nil
	}
	return find[*isakmp.Hash](ps) != nil
}

// misproves reports whether the peer's hash is wrong, where that is its proof: package auth checks signatures.
func (p *phase1) misproves(ps []isakmp.Payload) bool {
	return !p.peerSigns() && !p.hashed(&p.sa.keys, ps, !p.sa.base.Initiator, p.peerID)
}

// otherKeys is a proof of the peer that is wrong.
func (p *phase1) otherKeys() error {
	if bySecret(p.method) {
		return drop("the peer's proof is wrong: compare the secret of the identity on both sides")
	}
	return drop("the peer's proof is wrong: it has other keys than we")
}

// hashed reports whether a HASH payload is right under some keys: over the ID as it was received.
func (p *phase1) hashed(k *keys, ps []isakmp.Payload, initiator bool, id []byte) bool {
	h := find[*isakmp.Hash](ps)
	return h != nil && p.sa.base.Env.Proved(p.hashOf(k, initiator, id).Equal(h.Data))
}

// check checks the peer's signature, whose ID and certificates are noted, and goes on with then.
func (p *phase1) check(ps []isakmp.Payload, then func() error) error {
	b := p.sa.base
	p.theirs = auth.Of(b.Identity.Remote()).Check(proofSide{p})
	in := []message.Payload{&message.Auth{Method: sign.MethodDigital, Data: find[*isakmp.Sig](ps).Data}}
	return p.theirs.Step(in, func([]message.Payload, bool) error { return then() })
}

// endProofs wipes what they have of secrets.
func (p *phase1) endProofs() {
	for _, part := range []auth.Part{p.ours, p.theirs} {
		if part != nil {
			part.End()
		}
	}
}

// proofSide is phase 1 as a method of package auth sees it.
type proofSide struct{ p *phase1 }

func (s proofSide) base() *ikesa.SA { return s.p.sa.base }

func (s proofSide) Identity() *core.Identity { return s.base().Identity }
func (s proofSide) PeerID() core.ID          { return s.base().PeerID }
func (s proofSide) PRF() *suite.PRF          { return s.base().Suite.PRF }
func (s proofSide) Trust() *core.Trust       { return s.base().Host.Config().Trust }
func (s proofSide) Ours() bool               { return s.base().Initiator }
func (s proofSide) Now() time.Time           { return s.base().Env.Now() }
func (s proofSide) Proved(ok bool) bool      { return s.base().Env.Proved(ok) }

func (s proofSide) Signed(ours bool) auth.Signed {
	id := s.p.peerID
	if ours {
		id = idPayload(s.base().MyID).Body()
	}
	return auth.Signed{Hash: s.p.hashOf(&s.p.sa.keys, s.base().Initiator == ours, id)}
}

func (s proofSide) Certs() ([]*x509.Certificate, error) { return s.p.certs, s.p.certsErr }

func (s proofSide) Certified(until time.Time, asked bool) {
	s.base().Auth.Until, s.base().Auth.Asked = until, asked
}

// What IKEv1 has not.
func (s proofSide) SignedWithoutPPK() (auth.Signed, bool)          { return auth.Signed{}, false }
func (s proofSide) PPK() *core.PPK                                 { return nil }
func (s proofSide) CheckedWithoutPPK() ([]byte, auth.Signed, bool) { return nil, auth.Signed{}, false }
func (s proofSide) Hashes() []sign.HashID                          { return nil }
func (s proofSide) PSS() bool                                      { return false }
func (s proofSide) Place(entry any, key string) string {
	return ikesa.Explainer{SA: s.base()}.Place(entry, key)
}
func (s proofSide) Report(k core.EventKind, format string, a ...any) { s.base().Event(k, format, a...) }

func (s proofSide) Ask(w core.Work, done func(secret.Bytes, error) error) {
	p := s.p
	n := p.misread
	s.base().Env.Ask(s.base().ID, w, func(b secret.Bytes, err error) {
		if p.sa.phase1 == p && s.base().State != Ended && p.misread == n { // else of a proof that was passed over
			p.conclude(p.doubt(done(b, err)))
		}
	})
}

func (s proofSide) Refuse(d *core.Mismatch, format string, a ...any) error {
	reason := fmt.Sprintf(format, a...)
	s.base().Emit(core.Event{Kind: core.EvAuthFailed, Reason: reason, Detail: d})
	return fatal{kind: isakmp.NotifyAuthenticationFailed, cause: ikesa.NotProven, reason: reason, detail: d, told: true}
}
