package auth

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"culvert/crypto/pki"
	"culvert/crypto/secret"
	"culvert/crypto/sign"
	"culvert/ike/core"
)

// Refusal says which check a peer's certificate did not pass. Its texts are for
// people; names of the peer's are quoted in them.
type Refusal struct {
	Check string // "signature", "hash", "key", "authority", "validity", "key usage", "extension", "policy", "revocation", "name"
	Why   string
	Hint  string // what would let it through
}

func (r *Refusal) Error() string { return r.Why + ": " + r.Hint }

// Verify is the Work of checking a peer's signature and the certificates that
// make the key its own. What it answers is the chain, for Links; no secret.
type Verify struct {
	Method    uint8 // of the AUTH payload
	Bare      bool  // it is of IKEv1: Octets are a hash, and the key alone says by what it is signed
	Data      []byte
	Octets    []byte
	Certs     []*x509.Certificate // the peer's own first
	Pinned    *x509.Certificate   // remote-certificate: trusted as it is; nil: ask the authorities
	Trust     *core.Trust
	Initiator bool // the peer is the initiator of the exchange
	Now       time.Time
}

func (w Verify) Do() (secret.Bytes, error) {
	leaf := w.Certs[0]
	if err := w.signature(leaf.PublicKey); err != nil {
		return nil, err
	}
	chain, err := w.chain()
	if err != nil {
		return nil, err
	}
	if err := w.usages(chain); err != nil {
		return nil, err
	}
	return w.indexes(chain), nil
}

// indexes are a chain as places in all, four bytes for each.
func (w Verify) indexes(chain []*x509.Certificate) (b secret.Bytes) {
	all := w.all()
	for _, c := range chain {
		b = binary.BigEndian.AppendUint32(b, uint32(slices.IndexFunc(all, c.Equal)))
	}
	return b
}

// all is every certificate that can be in the chain.
func (w Verify) all() []*x509.Certificate {
	all := slices.Clone(w.Certs)
	if w.Pinned != nil {
		all = append(all, w.Pinned)
	}
	if w.Trust != nil {
		all = append(all, w.Trust.Intermediates...)
		for _, a := range w.Trust.Authorities {
			all = append(all, a.Cert)
		}
	}
	return all
}

// rsaHashes are what method 1 may have been made with; it does not say (RFC 7296 §3.8).
var rsaHashes = []string{"rsa-sha1", "rsa-sha256", "rsa-sha384", "rsa-sha512"}

func (w Verify) signature(public crypto.PublicKey) error {
	wrong := &Refusal{"signature", "the signature is wrong", "the peer signs with a key that is not that of the certificate it sends: look at its certificate and key"}
	var schemes []*sign.Scheme
	signature := w.Data
	switch {
	case w.Bare:
		s := sign.Bare(public)
		if s == nil {
			return &Refusal{"key", "IKEv1 has no signatures with a key of this kind", "have the peer use a certificate with an RSA or ECDSA key"}
		}
		schemes = []*sign.Scheme{s}
	case w.Method == sign.MethodDigital:
		s, sig, err := sign.ParseDigital(w.Data)
		if err != nil {
			return &Refusal{"hash", err.Error(), "have the peer sign with SHA2 (RSA, RSASSA-PSS, ECDSA) or Ed25519"}
		}
		schemes, signature = []*sign.Scheme{s}, sig
	case w.Method == sign.MethodRSA:
		for _, name := range rsaHashes {
			schemes = append(schemes, sign.ByName(name))
		}
	default:
		for i := range sign.Schemes {
			if s := &sign.Schemes[i]; s.Method == w.Method {
				schemes = append(schemes, s)
			}
		}
	}
	var err error = wrong
	for _, s := range schemes {
		e := s.Verify(public, w.Octets, signature)
		if e == nil {
			return nil
		}
		if !errors.Is(e, sign.ErrSignature) {
			err = &Refusal{"key", e.Error(), "have the peer use the method that its key is for"}
		}
	}
	return err
}

// chain is the way from the peer's certificate to one that is trusted.
func (w Verify) chain() ([]*x509.Certificate, error) {
	var anchors []*x509.Certificate
	pool := w.Certs[1:]
	if w.Trust != nil {
		pool = append(slices.Clone(pool), w.Trust.Intermediates...)
	}
	if w.Pinned != nil {
		anchors = append(anchors, w.Pinned)
	} else if w.Trust != nil {
		for _, a := range w.Trust.Authorities {
			anchors = append(anchors, a.Cert)
		}
	}
	chain, err := pki.Path(w.Certs[0], anchors, pool, w.Now)
	var e *pki.PathError
	if errors.As(err, &e) {
		hint := e.Hint
		if hint == "" {
			hint = "add the authority as [[certificate]], have the peer send its intermediate certificates, or name the peer's certificate in remote-certificate"
		}
		return nil, &Refusal{e.Check, fmt.Sprintf("the certificate %s %s", subject(e.Cert), e.Why), hint}
	}
	return chain, err
}

// Object identifiers of extended key usages that crypto/x509 has no name for.
var (
	ekuIPsecIKE        = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 17} // RFC 4945 §5.1.3.12
	ekuIKEIntermediate = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 8, 2, 2}  // of old, still wanted by Apple and Windows
	usagesResponder    = []x509.ExtKeyUsage{x509.ExtKeyUsageAny, x509.ExtKeyUsageServerAuth}
	usagesInitiator    = []x509.ExtKeyUsage{x509.ExtKeyUsageAny, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
)

// usages checks what the certificates may be used for. A certificate without the
// extension is for anything. A responder's has to be one of a server: else
// whoever has a client's certificate could stand in for the gateway.
func (w Verify) usages(chain []*x509.Certificate) error {
	for i, c := range chain {
		if i == len(chain)-1 && i > 0 {
			break // the trusted one is not asked
		}
		if err := sign.CheckKey(c.PublicKey); err != nil {
			return &Refusal{"key", fmt.Sprintf("the certificate %s cannot be used: %v", subject(c), err), "have it issued for another key"}
		}
		known := usagesResponder
		if w.Initiator {
			known = usagesInitiator
		}
		if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 &&
			!slices.ContainsFunc(c.ExtKeyUsage, func(u x509.ExtKeyUsage) bool { return slices.Contains(known, u) }) &&
			!slices.ContainsFunc(c.UnknownExtKeyUsage, func(o asn1.ObjectIdentifier) bool { return o.Equal(ekuIPsecIKE) || o.Equal(ekuIKEIntermediate) }) {
			want := "serverAuth (tls-server)"
			if w.Initiator {
				want = "clientAuth (tls-client) or serverAuth (tls-server)"
			}
			return &Refusal{"key usage", fmt.Sprintf("the certificate %s has extended key usages that do not allow IKE", subject(c)),
				"have it issued with " + want + ", ipsecIKE, or without extended key usage"}
		}
	}
	leaf := chain[0]
	if leaf.KeyUsage != 0 && leaf.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0 {
		return &Refusal{"key usage", fmt.Sprintf("the certificate %s has a key usage without digitalSignature", subject(leaf)), "have it issued with digitalSignature"}
	}
	return nil
}

func subject(c *x509.Certificate) string { return quoted(pki.DNText(c.RawSubject)) }

func quoted(s string) string { return pki.Quoted(s) }

// Link is one certificate of a chain and the one that issued it.
type Link struct {
	Cert, Issuer *x509.Certificate
	Authority    *core.Authority     // at the top of the chain
	Known        []*x509.Certificate // among which the issuers of CRLs are
}

// Links reads what Do answered: the certificates whose revocation can be asked
// after. There is nothing to ask about a pinned certificate.
func (w Verify) Links(chain []byte) []Link {
	if w.Pinned != nil || w.Trust == nil {
		return nil
	}
	all := w.all()
	var certs []*x509.Certificate
	for ; len(chain) >= 4; chain = chain[4:] {
		certs = append(certs, all[binary.BigEndian.Uint32(chain)])
	}
	if len(certs) < 2 {
		return nil
	}
	top := certs[len(certs)-1]
	i := slices.IndexFunc(w.Trust.Authorities, func(a *core.Authority) bool { return a.Cert.Equal(top) })
	if i < 0 {
		return nil
	}
	var links []Link
	for n := range certs[:len(certs)-1] {
		links = append(links, Link{certs[n], certs[n+1], w.Trust.Authorities[i], all})
	}
	return links
}
