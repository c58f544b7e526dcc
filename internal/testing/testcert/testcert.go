package testcert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/netip"
	"time"

	"golang.org/x/crypto/ocsp"
)

// Pair is a certificate and its key.
type Pair struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// From and Until are the validity of certificates that do not say otherwise.
var (
	From  = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	Until = time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC)
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Key makes a key: "rsa-2048" (or another length), "p256", "p384", "p521", "ed25519".
func Key(kind string) crypto.Signer {
	curves := map[string]elliptic.Curve{"p224": elliptic.P224(), "p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()}
	lengths := map[string]int{"rsa-1024": 1024, "rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096}
	switch {
	case kind == "ed25519":
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return must(k, err)
	case curves[kind] != nil:
		return must(ecdsa.GenerateKey(curves[kind], rand.Reader))
	case lengths[kind] != 0:
		return must(rsa.GenerateKey(rand.Reader, lengths[kind]))
	}
	panic("no such kind of key: " + kind)
}

// Option changes what is about to be signed.
type Option func(*x509.Certificate)

// DNS adds DNS names to the certificate.
func DNS(names ...string) Option { return func(c *x509.Certificate) { c.DNSNames = names } }

// Email adds mail addresses to the certificate.
func Email(names ...string) Option { return func(c *x509.Certificate) { c.EmailAddresses = names } }

// IP adds an IP address to the certificate.
func IP(a string) Option {
	return func(c *x509.Certificate) { c.IPAddresses = append(c.IPAddresses, netip.MustParseAddr(a).AsSlice()) }
}

// Valid sets from when and until when the certificate is valid.
func Valid(from, to time.Time) Option {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, to }
}

// EKU sets the extended key usages.
func EKU(u ...x509.ExtKeyUsage) Option {
	return func(c *x509.Certificate) { c.ExtKeyUsage = u }
}

// OCSP sets the address of the OCSP responder.
func OCSP(url string) Option { return func(c *x509.Certificate) { c.OCSPServer = []string{url} } }

// CRLAt sets where the CRL is.
func CRLAt(url string) Option {
	return func(c *x509.Certificate) { c.CRLDistributionPoints = []string{url} }
}

// KeyID sets the subject key identifier.
func KeyID(id string) Option { return func(c *x509.Certificate) { c.SubjectKeyId = []byte(id) } }

// With is any other change.
func With(change func(*x509.Certificate)) Option { return change }

func template(name string, ca bool, options []Option) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))),
		Subject:      pkix.Name{Organization: []string{"Culvert tests"}, CommonName: name},
		NotBefore:    From, NotAfter: Until, IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if ca {
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	for _, o := range options {
		o(c)
	}
	return c
}

// Root makes an authority.
func Root(name, key string, options ...Option) *Pair {
	k := Key(key)
	t := template(name, true, options)
	return &Pair{must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, t, t, k.Public(), k)))), k}
}

func (p *Pair) sign(t *x509.Certificate, k crypto.Signer) *Pair {
	return &Pair{must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, t, p.Cert, k.Public(), p.Key)))), k}
}

// Intermediate makes an authority below p.
func (p *Pair) Intermediate(name, key string, options ...Option) *Pair {
	return p.sign(template(name, true, options), Key(key))
}

// Leaf makes a certificate below p.
func (p *Pair) Leaf(name, key string, options ...Option) *Pair {
	return p.sign(template(name, false, options), Key(key))
}

// Again makes another certificate below p for a key that there is.
func (p *Pair) Again(name string, key crypto.Signer, options ...Option) *Pair {
	return p.sign(template(name, false, options), key)
}

// SelfSigned makes a certificate that is no authority and its own issuer.
func SelfSigned(name, key string, options ...Option) *Pair {
	k := Key(key)
	t := template(name, false, options)
	return &Pair{must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, t, t, k.Public(), k)))), k}
}

// CRL is a list of p's with certificates that were revoked.
func (p *Pair) CRL(this, next time.Time, revoked ...*Pair) []byte {
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: this, NextUpdate: next}
	for _, r := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.Cert.SerialNumber, RevocationTime: this})
	}
	return must(x509.CreateRevocationList(rand.Reader, l, p.Cert, p.Key))
}

// Answer is p's OCSP response about a certificate.
func (p *Pair) Answer(of *Pair, revoked bool, this, next time.Time) []byte {
	r := ocsp.Response{Status: ocsp.Good, SerialNumber: of.Cert.SerialNumber, ThisUpdate: this, NextUpdate: next, IssuerHash: crypto.SHA1}
	if revoked {
		r.Status, r.RevokedAt = ocsp.Revoked, this
	}
	return must(ocsp.CreateResponse(p.Cert, p.Cert, r, p.Key))
}

// PEM is the certificate and those after it.
func (p *Pair) PEM(more ...*Pair) []byte {
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Cert.Raw})
	for _, m := range more {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.Cert.Raw})...)
	}
	return b
}

// KeyPEM is the key in PKCS#8.
func (p *Pair) KeyPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(p.Key))})
}
