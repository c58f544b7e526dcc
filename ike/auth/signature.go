package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"culvert/crypto/secret"
	"culvert/crypto/sign"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
)

// Signature is a certificate or a raw public key and a signature (RFC 7296 §2.15, RFC
// 4754, RFC 7427). Signing and checking are Asks:
//
//	Verify ─► Fetch … (OCSP, CRL; the system's) ─► Revocation
var Signature = &Method{
	Auth: core.AuthSignature, Name: "digital-signature", Proof: "signature", Certificate: true,
	Wire:  []uint8{sign.MethodRSA, sign.MethodECDSA256, sign.MethodECDSA384, sign.MethodECDSA521, sign.MethodDigital},
	Prove: func(s Side) Part { return signatureProof{s} },
	Check: func(s Side) Part { return &signatureCheck{Side: s} },
	Refused: func(id *core.Identity) Refused {
		r := Refused{
			Compare: fmt.Sprintf("see in its log what is wrong with certificate %q for it; compare my-id and remote-id on both sides", id.Own.Name),
			Ours:    fmt.Sprintf("our certificate is %q", id.Own.Name),
			See:     "see whether it trusts the authority of our certificate, has the same time and can check the signature; compare ",
		}
		if _, ok := id.Own.Chain[0].PublicKey.(*rsa.PublicKey); ok {
			r.See = fmt.Sprintf("see whether it trusts the authority of our certificate, has the same time and can check the signature (rsa-padding of certificate %q says how we sign, and some peers check one padding only); compare ", id.Own.Name)
		}
		return r
	},
}

// --- our proof ---

type signatureProof struct{ Side }

func (signatureProof) End() {}

func (p signatureProof) Step(_ []message.Payload, done Done) error {
	id := p.Identity()
	own := *id.Own
	own.PSS = own.PSS || own.AutoPadding && p.PSS()
	scheme, err := Choose(&own, p.Hashes())
	if p.Signed(true).Hash != nil {
		scheme, err = bare(&own)
	}
	if err != nil {
		return p.Refuse(&core.Mismatch{What: "certificate", Part: "hash", Hint: err.Error(), Where: p.Place(id, "certificate")}, "we cannot prove ourselves: %v", err)
	}
	proofs := []Signed{p.Signed(true)}
	if s, ok := p.SignedWithoutPPK(); ok {
		proofs = append(proofs, s)
	}
	out, left := make([]message.Payload, len(proofs)), len(proofs)
	for i, s := range proofs {
		w := Sign{Own: id.Own, Scheme: scheme, Octets: s.Octets(p.PRF())}
		p.Ask(w, func(b secret.Bytes, err error) error {
			if err != nil {
				return p.Refuse(nil, "we cannot sign with certificate %q: %v", id.Own.Name, err)
			}
			if out[i] = noPPKAuth(b); i == 0 {
				out[i] = &message.Auth{Method: w.Method(), Data: b}
			}
			if left--; left > 0 {
				return nil
			}
			return done(out, true)
		})
	}
	return nil
}

// --- the peer's proof ---

type signatureCheck struct {
	Side
	got []Got // about revocation
}

func (c *signatureCheck) End() { c.got = nil }

func (c *signatureCheck) Step(in []message.Payload, done Done) error {
	id, a := c.Identity(), find(in)
	certs, err := c.Certs()
	if err != nil {
		return c.Refuse(nil, "%v", err)
	}
	if len(certs) == 0 && id.RemoteCert != nil {
		certs = []*x509.Certificate{id.RemoteCert}
	}
	if len(certs) == 0 {
		m := &core.Mismatch{What: "certificate", Part: "certificate", Theirs: []string{"it is " + c.PeerID().String()}, Where: c.Place(id, "remote-certificate")}
		m.Hint = "have the peer send its certificate, or name that in remote-certificate" + at(m.Where)
		return c.Refuse(m, "%v", ErrNoCert)
	}
	if id.RemoteCert != nil && !certs[0].Equal(id.RemoteCert) {
		return c.Refuse(c.parts(certs[0], "remote-certificate", "remote-certificate", "name the certificate that the peer has in remote-certificate, or leave that out"),
			"the peer sent another certificate than the one in remote-certificate, %s", Subject(certs[0]))
	}
	if !id.Ignore && !Proves(certs[0], c.PeerID()) {
		hint := fmt.Sprintf("set my-id at the peer to one of its certificate's names, %s, have the certificate issued with the name, or set remote-id = \"ignore\" (dangerous)",
			strings.Join(Names(certs[0]), ", "))
		return c.Refuse(c.parts(certs[0], "name", "remote-id", hint), "the peer says it is %s, which its certificate does not: %s", c.PeerID(), hint)
	}
	signed := c.Signed(false)
	w := Verify{Method: a.Method, Bare: signed.Hash != nil, Data: bytes.Clone(a.Data), Octets: signed.Octets(c.PRF()),
		Certs: certs, Pinned: id.RemoteCert, Trust: c.Trust(), Initiator: !c.Ours(), Now: c.Now()}
	c.Ask(w, func(chain secret.Bytes, err error) error {
		if err != nil {
			return c.unproven(certs[0], err)
		}
		if sign.Weak(certs[0].PublicKey) {
			c.Report(core.EvCertificate, "the certificate %s has an RSA key shorter than %d bits: have it issued for a longer one", Subject(certs[0]), sign.GoodRSA)
		}
		links := w.Links(chain)
		until := certs[0].NotAfter
		for _, l := range links {
			if l.Cert.NotAfter.Before(until) {
				until = l.Cert.NotAfter
			}
		}
		c.Certified(until, slices.ContainsFunc(links, Link.Asked))
		return c.revocation(links, done)
	})
	return nil
}

// unproven refuses the peer for what a Work found.
func (c *signatureCheck) unproven(cert *x509.Certificate, err error) error {
	var r *Refusal
	if !errors.As(err, &r) {
		return c.Refuse(nil, "the proof of %s could not be checked: %v", c.PeerID(), err)
	}
	if ppk := c.PPK(); ppk != nil && r.Check == "signature" {
		return c.Refuse(ppkParts(c.Side), "the proof of %s with the postquantum preshared key %q is refused: compare ppk-secret on both sides; else %v", c.PeerID(), ppk.ID, err)
	}
	key := ""
	if r.Check == "authority" {
		key = "remote-certificate"
	}
	return c.Refuse(c.parts(cert, r.Check, key, r.Hint), "the proof of %s is refused: %v", c.PeerID(), err)
}

func (c *signatureCheck) parts(cert *x509.Certificate, part, key, hint string) *core.Mismatch {
	m := &core.Mismatch{What: "certificate", Part: part, Theirs: append([]string{"it is " + c.PeerID().String()}, Names(cert)...),
		Hint: hint, Where: c.Place(c.Identity(), key)}
	if key != "" {
		m.Hint += at(m.Where)
	}
	return m
}

// revocation asks whether certificates of the chain were revoked, as far as the
// configuration wants that.
func (c *signatureCheck) revocation(links []Link, done Done) error {
	asked := false
	var fetches []Fetch
	for _, l := range links {
		asked = asked || l.Asked() || len(c.Trust().CRLs) > 0
		fetches = append(fetches, l.Fetches()...)
	}
	if !asked {
		return done(nil, true)
	}
	left := len(fetches)
	if left == 0 {
		return c.judge(links, done)
	}
	for _, f := range fetches {
		c.Ask(f, func(b secret.Bytes, err error) error {
			c.got = append(c.got, Got{Fetch: f, Data: b, Err: err})
			if left--; left > 0 {
				return nil
			}
			return c.judge(links, done)
		})
	}
	return nil
}

func (c *signatureCheck) judge(links []Link, done Done) error {
	w := Revocation{Links: links, CRLs: c.Trust().CRLs, Got: c.got, Now: c.Now()}
	c.Ask(w, func(unknown secret.Bytes, err error) error {
		c.got = nil
		if err != nil {
			return c.unproven(links[0].Cert, err)
		}
		for line := range strings.Lines(string(unknown)) {
			c.Report(core.EvCertificate, "%s", strings.TrimSpace(line))
		}
		return done(nil, true)
	})
	return nil
}

// --- what is common ---

// Octets are what a proof is made over (RFC 7296 §2.15).
func (s Signed) Octets(f *suite.PRF) []byte { return s.octets(f) }

// Sign is the Work of making the data of an AUTH payload that is a signature.
// What it answers is no secret.
type Sign struct {
	Own    *core.Credential
	Scheme *sign.Scheme
	Octets []byte
}

// Method is that of the AUTH payload.
func (w Sign) Method() uint8 { return MethodOf(w.Scheme) }

// MethodOf is the AUTH method that a scheme goes by.
func MethodOf(s *sign.Scheme) uint8 {
	if s.Method != 0 {
		return s.Method
	}
	return sign.MethodDigital
}

func (w Sign) Do() (secret.Bytes, error) {
	signature, err := w.Scheme.Sign(w.Own.Key.Signer(), w.Octets)
	if err != nil || w.Scheme.Method != 0 || w.Scheme == sign.Bare(w.Own.Chain[0].PublicKey) {
		return signature, err
	}
	return sign.AppendDigital(nil, w.Scheme, signature), nil
}

// Choose is the scheme that we sign with. hashes are those that the peer
// announced; none: it knows only the methods from before RFC 7427.
func Choose(own *core.Credential, hashes []sign.HashID) (*sign.Scheme, error) {
	public := own.Chain[0].PublicKey
	var best *sign.Scheme
	for i := range sign.Schemes {
		s := &sign.Schemes[i]
		if !s.Fits(public) || (s.Method == 0) != (len(hashes) > 0) {
			continue
		}
		if len(hashes) > 0 && !has(hashes, s.HashID) {
			continue
		}
		if best == nil || rank(own, s) > rank(own, best) {
			best = s
		}
	}
	if best != nil {
		return best, nil
	}
	if len(hashes) == 0 {
		return nil, fmt.Errorf("the peer has no signatures by RFC 7427, which the key of certificate %q needs: switch them on at the peer or use a certificate with an RSA or ECDSA key", own.Name)
	}
	return nil, fmt.Errorf("the peer takes signatures with %s only, and certificate %q has a key that does not go with them: allow another hash at the peer or use another certificate", hashNames(hashes), own.Name)
}

// bare is the scheme that we sign with in IKEv1.
func bare(own *core.Credential) (*sign.Scheme, error) {
	if s := sign.Bare(own.Chain[0].PublicKey); s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("IKEv1 has no signatures with the key of certificate %q: use a certificate with an RSA or ECDSA key, or exchange-mode ike2", own.Name)
}

// rank prefers the padding that is wanted, and with a curve the hash of its size.
func rank(own *core.Credential, s *sign.Scheme) int {
	n := 0
	if (s.Family == sign.RSAPSS) == own.PSS {
		n += 2
	}
	if k, ok := own.Chain[0].PublicKey.(*ecdsa.PublicKey); ok && s.Family == sign.ECDSA {
		want := map[int]sign.HashID{256: sign.SHA256, 384: sign.SHA384, 521: sign.SHA512}[k.Curve.Params().BitSize]
		if s.HashID == want {
			n++
		}
	}
	return n
}

func has(list []sign.HashID, h sign.HashID) bool {
	for _, x := range list {
		if x == h {
			return true
		}
	}
	return false
}

func hashNames(list []sign.HashID) string {
	names := map[sign.HashID]string{sign.SHA1: "sha1", sign.SHA256: "sha256", sign.SHA384: "sha384", sign.SHA512: "sha512", sign.Identity: "identity"}
	var text []string
	for _, h := range list {
		if n, ok := names[h]; ok {
			text = append(text, n)
		} else {
			text = append(text, fmt.Sprint(uint16(h)))
		}
	}
	return strings.Join(text, ", ")
}

// HashNotify is the content of SIGNATURE_HASH_ALGORITHMS (RFC 7427 §4).
func HashNotify() []byte {
	var b []byte
	for _, h := range sign.Hashes {
		b = append(b, byte(h>>8), byte(h))
	}
	return b
}

// AnnouncesPSS reports whether the first RSA signature of SUPPORTED_AUTH_METHODS (RFC 9593 §3.2) is by
// RSASSA-PSS. An announcement is its length, the AUTH method, a link to a CERTREQ and an AlgorithmIdentifier.
func AnnouncesPSS(b []byte) bool {
	for len(b) >= 2 && int(b[0]) >= 2 && int(b[0]) <= len(b) {
		one := b[:b[0]]
		b = b[len(one):]
		if one[1] != sign.MethodDigital || len(one) < 4 {
			continue
		}
		if s, err := sign.ParseAlgorithm(one[3:]); err == nil && (s.Family == sign.RSA || s.Family == sign.RSAPSS) {
			return s.Family == sign.RSAPSS
		}
	}
	return false
}

// ByPSS reports whether an AUTH payload is a signature by RSASSA-PSS.
func ByPSS(a *message.Auth) bool {
	if a == nil || a.Method != sign.MethodDigital {
		return false
	}
	s, _, err := sign.ParseDigital(a.Data)
	return err == nil && s.Family == sign.RSAPSS
}

// maxHashes bounds what is kept of a peer's list.
const maxHashes = 32

// ParseHashes reads SIGNATURE_HASH_ALGORITHMS. ok is false for what is no list.
func ParseHashes(b []byte) (list []sign.HashID, ok bool) {
	if len(b) == 0 || len(b)%2 != 0 {
		return nil, false
	}
	for ; len(b) > 0 && len(list) < maxHashes; b = b[2:] {
		list = append(list, sign.HashID(b[0])<<8|sign.HashID(b[1]))
	}
	return list, true
}
