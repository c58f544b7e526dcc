package core

import (
	"crypto/rsa"
	"crypto/x509"
	"time"

	"culvert/crypto/pki"
)

// Credential is a certificate of our own and its key.
type Credential struct {
	Name  string              // in the table
	Chain []*x509.Certificate // ours, and after it the intermediates to send
	Key   pki.Key
	PSS   bool // sign by RSASSA-PSS rather than RSASSA-PKCS1-v1_5, where there is the choice
	// AutoPadding: as PSS, if the peer announces that or has signed so itself.
	AutoPadding bool
}

// RawKey is an RSA key without certificate.
type RawKey struct {
	Name   string // as the configuration names it
	Public *rsa.PublicKey
	Key    pki.Key // to sign with; not present where it is the peer's
}

// Trust is what certificates of peers are checked against.
type Trust struct {
	Authorities   []*Authority
	Intermediates []*x509.Certificate // known, and believed only below an authority
	// CRLs from files; whose they are is in them.
	CRLs []*x509.RevocationList
}

// Authority is a certificate that is trusted to issue others, and how those
// below it are asked after.
type Authority struct {
	Name string // in the table
	Cert *x509.Certificate
	// CRLs are http URLs of lists that this authority signs.
	CRLs []string
	// DistributionPoints: also fetch the lists that certificates name.
	DistributionPoints bool
	// OCSP: ask the responders that certificates name.
	OCSP bool
	// Strict: refuse where nothing that was asked could tell. Else that is an event.
	Strict bool
	// MaxAge is for how long, from its thisUpdate, a CRL or an OCSP response without
	// nextUpdate counts where Strict; 0: 24 hours.
	MaxAge time.Duration
}

// Remote is how the peer has to prove itself.
func (i *Identity) Remote() AuthMethod {
	if i.RemoteAuth != 0 {
		return i.RemoteAuth
	}
	return i.Auth
}
