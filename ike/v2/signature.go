package v2

import (
	"fmt"

	"culvert/crypto/secret"
	"culvert/crypto/sign"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/message"
)

// Proof by certificate (RFC 7296 §2.15, §3.6, §3.7; RFC 4754; RFC 7427):
//
//	IKE_SA_INIT   N(SIGNATURE_HASH_ALGORITHMS)  -->  <--  N(SIGNATURE_HASH_ALGORITHMS), CERTREQ
//	IKE_AUTH      CERT+, CERTREQ, AUTH          -->  <--  CERT+, AUTH
//
// A responder checks the peer's proof, asks about revocation, and only then signs.

// signatures is what the peer said in IKE_SA_INIT about signatures.
type signatures struct {
	hashes []sign.HashID  // none: it does not speak RFC 7427
	cas    []auth.KeyHash // authorities that it trusts
	pss    bool           // it announced RSASSA-PSS
}

// signatureHashes tells each side what the other can verify, where a signature
// may come to be made.
type signatureHashes struct{ noop }

func (*signatureHashes) say(x *exchange) {
	x.out = append(x.out, &message.Notify{Kind: message.NotifySignatureHashAlgorithms, Data: auth.HashNotify()})
}

func (*signatureHashes) hear(x *exchange) error {
	s := &x.sa.init.sig
	if n := notify(x.in, message.NotifySignatureHashAlgorithms); n != nil {
		s.hashes, _ = auth.ParseHashes(n.Data)
	}
	if n := notify(x.in, message.NotifySupportedAuthMethods); n != nil {
		s.pss = auth.AnnouncesPSS(n.Data)
	}
	s.cas = auth.ReadRequests(x.in)
	return nil
}

func (t *signatureHashes) request(x *exchange) error {
	if auth.ByCertificate(x.sa.base.Peer) {
		t.say(x)
	}
	return nil
}

func (t *signatureHashes) accept(x *exchange) error { return t.hear(x) }

func (t *signatureHashes) reply(x *exchange) error {
	if !auth.ByCertificate(x.sa.base.Peer) {
		return nil
	}
	if len(x.sa.init.sig.hashes) > 0 {
		t.say(x)
	}
	for _, id := range x.sa.base.Peer.Identities {
		if auth.Of(id.Remote()).Certificate {
			requestCerts(x)
			break
		}
	}
	return nil
}

func (t *signatureHashes) complete(x *exchange) error { return t.hear(x) }

func requestCerts(x *exchange) {
	if r := auth.Request(x.sa.base.Host.Config().Trust); r != nil {
		x.out = append(x.out, r)
	}
}

// certificates sends the certificates that go with our signature, and asks for
// those of the peer. Where the responder of IKE_SA_INIT said whom it trusts, it
// chooses our identity.
type certificates struct{ noop }

func (*certificates) request(x *exchange) error {
	addCerts(x)
	if auth.Of(x.sa.base.Identity.Remote()).Certificate {
		requestCerts(x)
	}
	return nil
}

func (*certificates) round(x *exchange) error {
	if !x.mine && x.rounds == 0 {
		addCerts(x)
	}
	return nil
}

func addCerts(x *exchange) {
	id := x.sa.base.Identity
	if !auth.Of(id.Auth).Certificate {
		return
	}
	for _, c := range id.Own.Chain {
		x.out = append(x.out, &message.Cert{Encoding: auth.EncodingX509, Data: c.Raw})
	}
}

// claimOf is what the initiator says of itself.
func claimOf(x *exchange, expected core.ID) auth.Claim {
	c := auth.Claim{ID: x.sa.base.PeerID, Expected: expected, CAs: append(x.sa.init.sig.cas, auth.ReadRequests(x.in)...)}
	if a := find[*message.Auth](x.in); a != nil {
		c.Wire = a.Method
	}
	if certs, err := part[*proof](x).peerCerts(x); err == nil && len(certs) > 0 {
		c.Cert = certs[0]
	}
	c.PPK, _ = ppkName(x.in)
	return c
}

// inquire is compute for Work whose failure is an answer like any other.
func (x *exchange) inquire(w core.Work, done func(secret.Bytes, error) error) {
	x.waiting++
	x.ask(w, func(b secret.Bytes, err error) {
		if x.over {
			return
		}
		x.waiting--
		if err := done(b, err); err != nil {
			x.fail(err)
			return
		}
		x.proceed()
	})
}

// cannotSign is the refusal of an initiator that has told the peer nothing yet.
func cannotSign(sa *SA, d *core.Mismatch, format string, a ...any) error {
	reason := fmt.Sprintf(format, a...)
	sa.base.Emit(core.Event{Kind: core.EvAuthFailed, Reason: reason, Detail: d})
	return fatal{reason: reason, detail: d, told: true}
}
