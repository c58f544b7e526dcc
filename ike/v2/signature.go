package v2

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

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
// Signing and checking are Asks. A responder checks, asks about revocation, and
// only then signs; the other tasks' stages wait:
//
//	Verify ─► Fetch … (OCSP, CRL; the system's) ─► Revocation ─► Sign

// signatures is what the peer said in IKE_SA_INIT about signatures.
type signatures struct {
	hashes []sign.HashID  // none: it does not speak RFC 7427
	cas    []auth.KeyHash // authorities that it trusts
}

// proofDraft is the signatures' part of IKE_AUTH.
type proofDraft struct {
	read     bool
	certs    []*x509.Certificate // of the peer
	certsErr error
	method   uint8 // our signature
	data     []byte
	got      []auth.Got // about revocation

	withoutPPK []byte // our signature for a peer that lacks our PPK
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
	s.cas = auth.ReadRequests(x.in)
	return nil
}

func (t *signatureHashes) request(x *exchange) error {
	if x.sa.peer.Signs() {
		t.say(x)
	}
	return nil
}

func (t *signatureHashes) accept(x *exchange) error { return t.hear(x) }

func (t *signatureHashes) reply(x *exchange) error {
	if !x.sa.peer.Signs() {
		return nil
	}
	if len(x.sa.init.sig.hashes) > 0 {
		t.say(x)
	}
	for _, id := range x.sa.peer.Identities {
		if id.Remote() == core.AuthSignature {
			x.requestCerts()
			break
		}
	}
	return nil
}

func (t *signatureHashes) complete(x *exchange) error { return t.hear(x) }

func (x *exchange) requestCerts() {
	if r := auth.Request(x.sa.owner.Config().Trust); r != nil {
		x.out = append(x.out, r)
	}
}

// certificates sends the certificates that go with our signature, and asks for
// those of the peer. Where the responder of IKE_SA_INIT said whom it trusts, it
// chooses our identity.
type certificates struct{ noop }

func (*certificates) request(x *exchange) error {
	x.addCerts()
	if x.sa.identity.Remote() == core.AuthSignature {
		x.requestCerts()
	}
	return nil
}

func (*certificates) reply(x *exchange) error {
	x.addCerts()
	return nil
}

func (x *exchange) addCerts() {
	id := x.sa.identity
	if id.Auth != core.AuthSignature {
		return
	}
	for _, c := range id.Own.Chain {
		x.out = append(x.out, &message.Cert{Encoding: auth.EncodingX509, Data: c.Raw})
	}
}

// firstIdentity is whom we are as initiator: the first of the table, but of
// those that sign one whose certificate the responder asks for.
func (sa *SA) firstIdentity() *core.Identity {
	first := sa.peer.Identities[0]
	if first.Auth != core.AuthSignature {
		return first
	}
	for _, id := range sa.peer.Identities {
		if id.Auth == core.AuthSignature && auth.Under(id.Own, sa.owner.Config().Trust, sa.init.sig.cas) {
			return id
		}
	}
	return first
}

// claim is what the initiator says of itself.
func (x *exchange) claim(expected core.ID) auth.Claim {
	c := auth.Claim{ID: x.sa.peerID, Expected: expected, CAs: append(x.sa.init.sig.cas, auth.ReadRequests(x.in)...)}
	if a := find[*message.Auth](x.in); a != nil {
		c.Signature = auth.IsSignature(a.Method)
	}
	if certs, err := x.peerCerts(); err == nil && len(certs) > 0 {
		c.Cert = certs[0]
	}
	c.PPK, _ = ppkName(x.in)
	return c
}

// peerCerts reads the certificates of the message once.
func (x *exchange) peerCerts() ([]*x509.Certificate, error) {
	p := &x.proof
	if !p.read {
		p.read = true
		p.certs, p.certsErr = auth.ReadCerts(x.in)
	}
	return p.certs, p.certsErr
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

// refusing is how the peer is refused: authFailed as responder, distrust as initiator.
type refusing func(d *core.Mismatch, format string, a ...any) error

// sign has our signature made, where we prove ourselves by one.
func (x *exchange) sign(refuse refusing) error {
	sa := x.sa
	id := sa.identity
	if id.Auth != core.AuthSignature {
		return nil
	}
	scheme, err := auth.Choose(id.Own, sa.init.sig.hashes)
	if err != nil {
		return refuse(&core.Mismatch{What: "certificate", Part: "hash", Hint: err.Error(), Where: sa.place(id, "certificate")}, "we cannot prove ourselves: %v", err)
	}
	body := idPayload(sa.myID, sa.initiator).AppendBody(nil)
	w := auth.Sign{Own: id.Own, Scheme: scheme, Octets: sa.signed(sa.initiator, body).Octets(sa.suite.PRF)}
	x.inquire(w, func(b secret.Bytes, err error) error {
		if err != nil {
			return refuse(nil, "we cannot sign with certificate %q: %v", id.Own.Name, err)
		}
		x.proof.method, x.proof.data = w.Method(), b
		return nil
	})
	if sa.withoutPPK() {
		w.Octets = sa.signedWithout(body).Octets(sa.suite.PRF)
		x.inquire(w, func(b secret.Bytes, err error) error {
			if err != nil {
				return refuse(nil, "we cannot sign with certificate %q: %v", id.Own.Name, err)
			}
			x.proof.withoutPPK = b
			return nil
		})
	}
	return nil
}

// cannotSign is the refusal of an initiator that has told the peer nothing yet.
func (sa *SA) cannotSign(d *core.Mismatch, format string, a ...any) error {
	reason := fmt.Sprintf(format, a...)
	sa.emit(core.Event{Kind: core.EvAuthFailed, Reason: reason, Detail: d})
	return fatal{reason: reason, detail: d, told: true}
}

// judge checks the peer's proof, then goes on with then.
func (x *exchange) judge(refuse refusing, then func() error) error {
	sa := x.sa
	id := sa.identity
	a := find[*message.Auth](x.in)
	switch {
	case a == nil && x.mine:
		return refuse(sa.methodParts("no proof at all"), "the response of %s has no proof", sa.peerID)
	case a == nil:
		// Without AUTH the initiator asks for EAP (RFC 7296 §2.16): this is where it begins.
		return refuse(sa.methodParts("EAP"), "%s asks for EAP, and no identity of peer %q has it: set auth-method at the peer to what ours has", sa.peerID, sa.peer.Name)
	case auth.IsSignature(a.Method) != (id.Remote() == core.AuthSignature) || !auth.IsSignature(a.Method) && a.Method != auth.MethodSharedKey:
		return refuse(sa.methodParts(auth.MethodName(a.Method)), "%s proves itself by %s, and the identity wants %s: set remote-auth-method here or the peer's method",
			sa.peerID, auth.MethodName(a.Method), methodNames[id.Remote()])
	case a.Method == auth.MethodSharedKey:
		if !x.checkProof() {
			return refuse(sa.secretParts(), "the proof of %s is wrong: compare the secret of the identity on both sides", sa.peerID)
		}
		return then()
	}
	return x.judgeSignature(a, refuse, then)
}

var methodNames = map[core.AuthMethod]string{core.AuthPSK: "pre-shared-key", core.AuthSignature: "digital-signature"}

func (sa *SA) methodParts(theirs string) *core.Mismatch {
	m := &core.Mismatch{What: "authentication", Part: "auth-method", Ours: []string{methodNames[sa.identity.Remote()]}, Theirs: []string{theirs},
		Where: sa.place(sa.identity, "auth-method")}
	m.Hint = "set auth-method, or remote-auth-method where each side proves itself in its own way" + at(m.Where)
	return m
}

func (x *exchange) judgeSignature(a *message.Auth, refuse refusing, then func() error) error {
	sa := x.sa
	id := sa.identity
	certs, err := x.peerCerts()
	if err != nil {
		return refuse(nil, "%v", err)
	}
	if len(certs) == 0 && id.RemoteCert != nil {
		certs = []*x509.Certificate{id.RemoteCert}
	}
	if len(certs) == 0 {
		return refuse(nil, "%v", auth.ErrNoCert)
	}
	if id.RemoteCert != nil && !certs[0].Equal(id.RemoteCert) {
		return refuse(sa.certParts(certs[0], "remote-certificate", "remote-certificate", "name the certificate that the peer has in remote-certificate, or leave that out"),
			"the peer sent another certificate than the one in remote-certificate, %s", auth.Subject(certs[0]))
	}
	if !id.Ignore && !auth.Proves(certs[0], sa.peerID) {
		hint := fmt.Sprintf("set my-id at the peer to one of its certificate's names, %s, have the certificate issued with the name, or set remote-id = \"ignore\" (dangerous)",
			strings.Join(auth.Names(certs[0]), ", "))
		return refuse(sa.certParts(certs[0], "name", "remote-id", hint), "the peer says it is %s, which its certificate does not: %s", sa.peerID, hint)
	}
	body := findID(x.in, !sa.initiator).AppendBody(nil)
	w := auth.Verify{Method: a.Method, Data: clone(a.Data), Octets: sa.signed(!sa.initiator, body).Octets(sa.suite.PRF),
		Certs: certs, Pinned: id.RemoteCert, Trust: sa.owner.Config().Trust, Initiator: !x.mine, Now: sa.env.Now()}
	x.inquire(w, func(chain secret.Bytes, err error) error {
		if err != nil {
			return x.unproven(certs[0], err, refuse)
		}
		if sign.Weak(certs[0].PublicKey) {
			sa.event(core.EvCertificate, "the certificate %s has an RSA key shorter than %d bits: have it issued for a longer one", auth.Subject(certs[0]), sign.GoodRSA)
		}
		links := w.Links(chain)
		sa.auth.until, sa.auth.asked = certs[0].NotAfter, slices.ContainsFunc(links, auth.Link.Asked)
		for _, l := range links {
			if l.Cert.NotAfter.Before(sa.auth.until) {
				sa.auth.until = l.Cert.NotAfter
			}
		}
		return x.judgeRevocation(links, refuse, then)
	})
	return nil
}

// unproven refuses the peer for what a Work found.
func (x *exchange) unproven(cert *x509.Certificate, err error, refuse refusing) error {
	var r *auth.Refusal
	if !errors.As(err, &r) {
		return refuse(nil, "the proof of %s could not be checked: %v", x.sa.peerID, err)
	}
	key := ""
	if r.Check == "authority" {
		key = "remote-certificate"
	}
	return refuse(x.sa.certParts(cert, r.Check, key, r.Hint), "the proof of %s is refused: %v", x.sa.peerID, err)
}

func (sa *SA) certParts(cert *x509.Certificate, part, key, hint string) *core.Mismatch {
	m := &core.Mismatch{What: "certificate", Part: part, Theirs: append([]string{"it is " + sa.peerID.String()}, auth.Names(cert)...),
		Hint: hint, Where: sa.place(sa.identity, key)}
	if key != "" {
		m.Hint += at(m.Where)
	}
	return m
}

// judgeRevocation asks whether certificates of the chain were revoked, as far as
// the configuration wants that.
func (x *exchange) judgeRevocation(links []auth.Link, refuse refusing, then func() error) error {
	sa := x.sa
	trust := sa.owner.Config().Trust
	asked := false
	var fetches []auth.Fetch
	for _, l := range links {
		asked = asked || l.Asked() || len(trust.CRLs) > 0
		fetches = append(fetches, l.Fetches()...)
	}
	if !asked {
		return then()
	}
	left := len(fetches)
	if left == 0 {
		return x.weigh(links, trust, refuse, then)
	}
	for _, f := range fetches {
		x.inquire(f, func(b secret.Bytes, err error) error {
			x.proof.got = append(x.proof.got, auth.Got{Fetch: f, Data: b, Err: err})
			if left--; left > 0 {
				return nil
			}
			return x.weigh(links, trust, refuse, then)
		})
	}
	return nil
}

func (x *exchange) weigh(links []auth.Link, trust *core.Trust, refuse refusing, then func() error) error {
	w := auth.Revocation{Links: links, CRLs: trust.CRLs, Got: x.proof.got, Now: x.sa.env.Now()}
	x.inquire(w, func(unknown secret.Bytes, err error) error {
		x.proof.got = nil
		if err != nil {
			return x.unproven(links[0].Cert, err, refuse)
		}
		for line := range strings.Lines(string(unknown)) {
			x.sa.event(core.EvCertificate, "%s", strings.TrimSpace(line))
		}
		return then()
	})
	return nil
}
