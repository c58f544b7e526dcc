package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strconv"
	"time"

	"culvert/crypto/sign"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Path validation (RFC 5280 §6.1). crypto/x509 reads certificates and verifies
// signatures. Its own validation compares the names of issuers byte by byte, knows
// no constraints on distinguished names and counts self-issued certificates, so
// that chains which RFC 5280 allows would be refused; and a name is to be
// compared here as it is compared where a peer claims it.

// PathError says why a certificate is not accepted. Its texts are for people; names
// in them are quoted.
type PathError struct {
	Cert  *x509.Certificate
	Check string // "authority", "validity", "hash", "key usage", "name", "policy", "extension"
	Why   string // what is said of the certificate: "expired on 2026-01-01 00:00:00"
	Hint  string // what to do
}

func (e *PathError) Error() string {
	return fmt.Sprintf("the certificate %s %s: %s", Quoted(DNText(e.Cert.RawSubject)), e.Why, e.Hint)
}

// Quoted keeps text of a peer's from reaching a terminal as it is, and short.
func Quoted(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strconv.QuoteToASCII(s)
}

// maxPath bounds the certificates of a path, maxChecks the signatures that are
// verified to find one.
const (
	maxPath   = 10
	maxChecks = 100
)

// Path is the shortest valid path from a certificate to one of the anchors, over
// certificates of pool: the certificate first, the anchor last. A certificate that
// is an anchor is a path by itself. The error is a *PathError: of all that failed
// what came closest.
func Path(leaf *x509.Certificate, anchors, pool []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	s := search{now: now, fault: &PathError{leaf, "authority",
		fmt.Sprintf("was issued by %s, which no trusted certificate leads to", Quoted(DNText(leaf.RawIssuer))), ""}}
	if slices.ContainsFunc(anchors, leaf.Equal) {
		if s.valid([]*x509.Certificate{leaf}) {
			return []*x509.Certificate{leaf}, nil
		}
		return nil, s.fault
	}
	todo := [][]*x509.Certificate{{leaf}} // every signature in these is right; the shortest first
	for ; len(todo) > 0; todo = todo[1:] {
		path := todo[0]
		if len(path) == maxPath {
			break
		}
		for _, a := range anchors {
			if longer := s.extend(path, a); longer != nil && s.valid(longer) {
				return longer, nil
			}
		}
		for _, c := range pool {
			if longer := s.extend(path, c); longer != nil {
				todo = append(todo, longer)
			}
		}
	}
	return nil, s.fault
}

// search is what is known while a path is looked for.
type search struct {
	now    time.Time
	checks int
	fault  *PathError
	near   int // how near what had the fault came
}

// note keeps the fault of what came closest.
func (s *search) note(near int, e *PathError) {
	if near > s.near {
		s.near, s.fault = near, e
	}
}

// Of what comes how close.
const (
	nearIssuer    = iota + 1 // an issuer of that name
	nearAlgorithm            // and that with a signature that nobody may trust
	nearPath                 // a whole path
)

// extend is the path with the issuer of its last certificate; nil where it is not that.
func (s *search) extend(path []*x509.Certificate, issuer *x509.Certificate) []*x509.Certificate {
	c := path[len(path)-1]
	if !SameDN(c.RawIssuer, issuer.RawSubject) || slices.ContainsFunc(path, func(p *x509.Certificate) bool { return sameSubject(p, issuer) }) {
		return nil
	}
	if e := mayIssue(issuer); e != nil {
		s.note(nearIssuer, e)
		return nil
	}
	if name := RefusedAlgorithm(c); name != "" {
		s.note(nearAlgorithm, &PathError{c, "hash", "is signed with " + name + ", which is not accepted", "have it issued anew, signed with SHA-256"})
		return nil
	}
	if s.checks++; s.checks > maxChecks {
		s.note(nearPath, &PathError{c, "authority", "is below too many certificates of the same names", FewerCertificates})
		return nil
	}
	if err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		s.note(nearIssuer, &PathError{c, "authority", fmt.Sprintf("has a signature that is not by the key of %s", Quoted(DNText(issuer.RawSubject))),
			"compare the certificate of the authority on both sides: there are two of that name"})
		return nil
	}
	return append(slices.Clone(path), issuer)
}

// sameSubject: the same name and key. Two of those in one path lead nowhere.
func sameSubject(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo) && SameDN(a.RawSubject, b.RawSubject)
}

// selfIssued reports whether subject and issuer are the same name (§3.2).
func selfIssued(c *x509.Certificate) bool { return SameDN(c.RawSubject, c.RawIssuer) }

// mayIssue says why a certificate may not issue others (§6.1.4 (k), (n)).
func mayIssue(c *x509.Certificate) *PathError {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return &PathError{c, "authority", "is not that of an authority", "have the peer's certificate issued by one"}
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return &PathError{c, "key usage", "may not issue certificates", "have it issued with the key usage keyCertSign"}
	}
	return nil
}

// RefusedAlgorithm names the algorithm that a certificate is signed with where that
// is not accepted: one that is broken, or that is not supported.
func RefusedAlgorithm(c *x509.Certificate) string {
	if Strong(c.SignatureAlgorithm) {
		return ""
	}
	return SignedWith(c.Raw)
}

// Strong reports whether a signature algorithm is one that is accepted.
func Strong(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519:
		return true
	}
	return false
}

// SignedWith names the signature algorithm of a certificate or CRL in DER.
func SignedWith(der []byte) string {
	in := cryptobyte.String(der)
	var seq, algorithm cryptobyte.String
	if !in.ReadASN1(&seq, tags.SEQUENCE) || !seq.SkipASN1(tags.SEQUENCE) || !seq.ReadASN1Element(&algorithm, tags.SEQUENCE) {
		return "an algorithm that cannot be read"
	}
	return sign.AlgorithmName(algorithm)
}

// valid validates a path whose signatures are right.
func (s *search) valid(path []*x509.Certificate) bool {
	e := s.faultOf(path)
	if e != nil {
		s.note(nearPath, e)
	}
	return e == nil
}

func (s *search) faultOf(path []*x509.Certificate) *PathError {
	for _, c := range path {
		if e := s.current(c); e != nil {
			return e
		}
	}
	below := 0 // intermediates that are not self-issued
	for i, c := range path[1:] {
		if i > 0 && !selfIssued(path[i]) {
			below++
		}
		if c.MaxPathLen >= 0 && below > c.MaxPathLen {
			return &PathError{c, "authority", fmt.Sprintf("allows %d authorities below it, and there are %d", c.MaxPathLen, below), "have it issued with another path length"}
		}
	}
	for i, c := range path[1:] {
		if e := constrained(path[:i+1], c); e != nil {
			return e
		}
	}
	if err := policies(path); err != nil {
		return &PathError{path[0], "policy", "is not accepted (" + err.Error() + ")", "have it issued with a policy that its authorities allow"}
	}
	return nil
}

// FewerCertificates says what to do where a peer sends too many certificates.
const FewerCertificates = "have the peer send only its own certificate and the intermediates"

// current: validity, and extensions that have to be understood.
func (s *search) current(c *x509.Certificate) *PathError {
	switch {
	case s.now.Before(c.NotBefore):
		return &PathError{c, "validity", "is not valid before " + c.NotBefore.UTC().Format(time.DateTime), "compare the clocks on both sides"}
	case s.now.After(c.NotAfter):
		return &PathError{c, "validity", "expired on " + c.NotAfter.UTC().Format(time.DateTime), "renew it; if that is not so, set this host's clock"}
	}
	if c.Version < 3 && extended(c) {
		return &PathError{c, "extension", fmt.Sprintf("is of version %d and has extensions, which are of version 3", c.Version), "have it issued anew"}
	}
	if !c.IsCA && extension(c, oidNameConstraints) != nil {
		return &PathError{c, "extension", "has name constraints and is not that of an authority", "have it issued without those"}
	}
	for _, oid := range c.UnhandledCriticalExtensions {
		if !oid.Equal(oidNameConstraints) { // those are read by ourselves
			return &PathError{c, "extension", fmt.Sprintf("has the critical extension %v, which is not supported", oid), "have it issued without that"}
		}
	}
	if _, err := Points(c); err != nil && critical(c, oidDistributionPoints) {
		return &PathError{c, "extension", "has critical CRL distribution points that cannot be read", "have it issued anew"}
	}
	return nil
}

// extended reports whether a certificate has something behind its key: extensions,
// which crypto/x509 reads in version 3 alone (§4.1.2.9).
func extended(c *x509.Certificate) bool {
	in := cryptobyte.String(c.RawTBSCertificate)
	var tbs cryptobyte.String
	fields := in.ReadASN1(&tbs, tags.SEQUENCE) && tbs.SkipOptionalASN1(inner(0)) && tbs.SkipASN1(tags.INTEGER)
	for range 5 { // signature, issuer, validity, subject, key
		fields = fields && tbs.SkipASN1(tags.SEQUENCE)
	}
	return !fields || !tbs.Empty()
}

func critical(c *x509.Certificate, oid asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Critical && e.Id.Equal(oid) })
}

// constrained applies the name constraints of an authority to all below it, but
// for self-issued ones between (§6.1.3 (b), (c)).
func constrained(below []*x509.Certificate, authority *x509.Certificate) *PathError {
	k, err := constraintsOf(authority)
	if err != nil {
		return &PathError{authority, "name", "is not accepted (" + err.Error() + ")", "have it issued anew"}
	}
	if k == nil {
		return nil
	}
	for i, c := range below {
		if i > 0 && selfIssued(c) {
			continue
		}
		names, err := namesOf(c)
		if err == nil {
			err = k.allow(names)
		}
		if err != nil {
			return &PathError{c, "name", fmt.Sprintf("has a name that its authority may not give (%v; the authority is %s)", err, Quoted(DNText(authority.RawSubject))),
				"have it issued by an authority without that constraint"}
		}
	}
	return nil
}
