package auth

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"culvert/crypto/pki"
	"culvert/crypto/sign"
	"culvert/ike/core"
	"culvert/ike/message"
)

// EncodingX509 is an X.509 certificate for signatures in a CERT or CERTREQ
// payload (RFC 7296 §3.6).
const EncodingX509 = 4

// Bounds on what a peer can have us read.
const (
	maxCerts    = 10
	maxCertData = 64 << 10
	maxHints    = 512 // authorities of CERTREQ payloads
)

// ReadCerts reads the X.509 certificates of a message, the peer's own first.
// Those after it that cannot be read or whose keys cannot be used are left out,
// as nothing can be built on them.
func ReadCerts(ps []message.Payload) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	n, size := 0, 0
	for _, p := range ps {
		c, ok := p.(*message.Cert)
		if !ok || c.Encoding != EncodingX509 {
			continue
		}
		if n++; n > maxCerts {
			return nil, fmt.Errorf("the peer sent more than %d certificates: "+pki.FewerCertificates, maxCerts)
		}
		if size += len(c.Data); size > maxCertData {
			return nil, fmt.Errorf("the peer's certificates have more than %d KiB together: "+pki.FewerCertificates, maxCertData>>10)
		}
		cert, err := x509.ParseCertificate(bytes.Clone(c.Data))
		if err == nil {
			err = sign.CheckKey(cert.PublicKey)
		}
		switch {
		case err == nil:
			all = append(all, cert)
		case n == 1:
			return nil, fmt.Errorf("the peer's certificate cannot be used: %w", err)
		}
	}
	return all, nil
}

// LeafFirst has the certificate in front that has issued none of the others, where a message does not say which is the
// peer's own.
func LeafFirst(certs []*x509.Certificate) []*x509.Certificate {
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool {
		return !slices.ContainsFunc(certs, func(d *x509.Certificate) bool { return d != c && pki.SameDN(d.RawIssuer, c.RawSubject) })
	})
	if i > 0 {
		certs[0], certs[i] = certs[i], certs[0]
	}
	return certs
}

// Named are the keys of those of our certificates that have a name, by which IKEv1 asks for an authority.
func Named(t *core.Trust, ids []*core.Identity, dn []byte) (list []KeyHash) {
	add := func(c *x509.Certificate) {
		if pki.SameDN(c.RawSubject, dn) && len(list) < maxHints {
			list = append(list, Hash(c))
		}
	}
	for _, id := range ids {
		if id.Own != nil {
			for _, c := range id.Own.Chain {
				add(c)
			}
		}
	}
	if t != nil {
		for _, a := range t.Authorities {
			add(a.Cert)
		}
	}
	return list
}

// KeyHash names an authority in a CERTREQ payload: SHA-1 of its
// SubjectPublicKeyInfo (RFC 7296 §3.7).
type KeyHash [sha1.Size]byte

// Hash is the KeyHash of a certificate.
func Hash(c *x509.Certificate) KeyHash { return sha1.Sum(c.RawSubjectPublicKeyInfo) }

// Request is a CERTREQ payload for every authority that we trust; nil if there is none.
func Request(t *core.Trust) *message.CertReq {
	if t == nil || len(t.Authorities) == 0 {
		return nil
	}
	var seen []KeyHash
	r := &message.CertReq{Encoding: EncodingX509}
	for _, a := range t.Authorities {
		if h := Hash(a.Cert); !slices.Contains(seen, h) && len(seen) < maxHints {
			seen = append(seen, h)
			r.Data = append(r.Data, h[:]...)
		}
	}
	return r
}

// ReadRequests reads the authorities that a peer trusts, as far as it says.
func ReadRequests(ps []message.Payload) (list []KeyHash) {
	for _, p := range ps {
		r, ok := p.(*message.CertReq)
		if !ok || r.Encoding != EncodingX509 {
			continue
		}
		for b := r.Data; len(b) >= sha1.Size && len(list) < maxHints; b = b[sha1.Size:] {
			list = append(list, KeyHash(b))
		}
	}
	return list
}

// Under reports whether the credential stands below one of the authorities.
func Under(own *core.Credential, t *core.Trust, cas []KeyHash) bool {
	top := own.Chain[len(own.Chain)-1]
	pool := own.Chain
	if t != nil {
		for _, a := range t.Authorities {
			if pki.SameDN(a.Cert.RawSubject, top.RawIssuer) {
				pool = append(slices.Clone(pool), a.Cert)
			}
		}
	}
	return slices.ContainsFunc(pool, func(c *x509.Certificate) bool { return slices.Contains(cas, Hash(c)) })
}

// NameOf is the ID that a certificate has by itself: its first DNS name, address
// or mail address, else its subject.
func NameOf(c *x509.Certificate) core.ID {
	if len(c.DNSNames) > 0 {
		return core.ID{Type: core.IDFQDN, Data: c.DNSNames[0]}
	}
	if len(c.IPAddresses) > 0 {
		if id, ok := addressName(c.IPAddresses[0]); ok {
			return id
		}
	}
	if len(c.EmailAddresses) > 0 {
		return core.ID{Type: core.IDUser, Data: c.EmailAddresses[0]}
	}
	return Subject(c)
}

// Subject is a certificate's subject as an ID.
func Subject(c *x509.Certificate) core.ID {
	return core.ID{Type: core.IDDN, Data: string(c.RawSubject)}
}

// addressName is the ID that an address of a certificate proves: one of 4 octets
// an IPv4 address, one of 16 an IPv6 address (RFC 5280 §4.2.1.6). An IPv4 address
// in the form ::ffff:192.0.2.1 proves no IPv4 address: nobody has asked whether the
// certificate's issuer may give that.
func addressName(ip []byte) (core.ID, bool) {
	switch len(ip) {
	case 4:
		return core.ID{Type: core.IDIPv4, Data: string(ip)}, true
	case 16:
		return core.ID{Type: core.IDIPv6, Data: string(ip)}, true
	}
	return core.ID{}, false
}

// Proves reports whether an ID is one of the certificate's: a DN its subject,
// any other one of its subject alternative names (RFC 4945 §3.1). A key-id can
// only be its subject key identifier.
func Proves(c *x509.Certificate, id core.ID) bool {
	equal := func(name string) bool { return pki.EqualFold(name, id.Data) }
	switch id.Type {
	case core.IDDN:
		return id.Data != "" && pki.SameDN(c.RawSubject, []byte(id.Data))
	case core.IDFQDN:
		return slices.ContainsFunc(c.DNSNames, equal)
	case core.IDUser:
		return slices.ContainsFunc(c.EmailAddresses, equal)
	case core.IDIPv4, core.IDIPv6:
		for _, ip := range c.IPAddresses {
			if a, ok := addressName(ip); ok && a == id {
				return true
			}
		}
	case core.IDKeyID:
		return id.Data != "" && string(c.SubjectKeyId) == id.Data
	}
	return false
}

// Names are the IDs that a certificate proves, for people.
func Names(c *x509.Certificate) []string {
	var list []string
	add := func(id core.ID) { list = append(list, id.String()) }
	add(Subject(c))
	for _, n := range c.DNSNames {
		add(core.ID{Type: core.IDFQDN, Data: n})
	}
	for _, ip := range c.IPAddresses {
		if id, ok := addressName(ip); ok {
			add(id)
		}
	}
	for _, n := range c.EmailAddresses {
		add(core.ID{Type: core.IDUser, Data: n})
	}
	return core.Lines(list)
}

// ErrNoCert is that of a peer whose certificate nobody has.
var ErrNoCert = errors.New("the peer sent no certificate: have it send one, or name its certificate in remote-certificate")
