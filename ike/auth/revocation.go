package auth

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"culvert/crypto/pki"
	"culvert/crypto/secret"
	"culvert/ike/core"

	"golang.org/x/crypto/ocsp"
)

// Whether a certificate was revoked is asked of OCSP responders (RFC 6960) and
// found in CRLs (RFC 5280 §5). Fetching is Work for the system; judging what
// came is Work for a worker.

// Bounds on what is fetched.
const (
	MaxOCSP      = 1 << 20
	MaxCRL       = 10 << 20
	FetchTimeout = 5 * time.Second
	maxURLs      = 4 // for one certificate and kind
)

// skew is how far the clocks of those who sign such answers may be from ours.
const skew = 5 * time.Minute

// Fetch asks the system to get a CRL or an OCSP response over http within
// FetchTimeout. The answer is no secret. Do is not called.
type Fetch struct {
	URL     string
	Request []byte // OCSP: to be posted; nil: a CRL
	Limit   int    // bytes; a longer answer is an error
	Link    Link
}

func (Fetch) Do() (secret.Bytes, error) { return nil, core.ErrSystem }

// keepOther is for how long a list is kept that is about other certificates: whoever
// shows one in the place of the right one shall not keep that away until it is due.
const keepOther = 10 * time.Second

// Check verifies an answer and tells until when it is good; zero: it does not say.
// Only what passes is worth keeping. Whether it is about the certificate is judged
// where that is asked.
func (f Fetch) Check(data []byte, now time.Time) (until time.Time, err error) {
	l := f.Link
	if f.Request != nil {
		r, err := readOCSP(data, l, now)
		if err != nil {
			return time.Time{}, err
		}
		return l.until(r.ThisUpdate, r.NextUpdate), nil
	}
	list, err := x509.ParseRevocationList(data)
	if err != nil {
		return time.Time{}, err
	}
	err = errors.New("it is the CRL of another authority")
	for _, c := range append([]*x509.Certificate{l.Issuer}, l.Known...) {
		if !pki.SameDN(c.RawSubject, list.RawIssuer) {
			continue
		}
		if signs(c, list) {
			until := l.until(list.ThisUpdate, list.NextUpdate)
			if !l.about(list) {
				until = now.Add(keepOther)
			}
			return until, l.timely("CRL", list.ThisUpdate, list.NextUpdate, now)
		}
		err = errors.New("its signature is wrong")
	}
	return time.Time{}, err
}

// Asked reports whether anything is to be asked about the certificate.
func (l Link) Asked() bool {
	a := l.Authority
	return a.OCSP || a.Strict || a.DistributionPoints || len(a.CRLs) > 0
}

// Fetches is what to get for a certificate.
func (l Link) Fetches() []Fetch {
	var all []Fetch
	if l.Authority.OCSP {
		if req, err := ocsp.CreateRequest(l.Cert, l.Issuer, nil); err == nil {
			for _, u := range web(l.Cert.OCSPServer) {
				all = append(all, Fetch{u, req, MaxOCSP, l})
			}
		}
	}
	var urls []string
	if pki.SameDN(l.Issuer.RawSubject, l.Authority.Cert.RawSubject) {
		urls = append(urls, l.Authority.CRLs...)
	}
	if l.Authority.DistributionPoints {
		urls = append(urls, web(l.Cert.CRLDistributionPoints)...)
	}
	for i, u := range urls {
		if !slices.Contains(urls[:i], u) {
			all = append(all, Fetch{u, nil, MaxCRL, l})
		}
	}
	return all
}

// web are the URLs that can be fetched, a bounded number.
func web(urls []string) (list []string) {
	for _, u := range urls {
		if (strings.HasPrefix(u, "http://") || strings.HasPrefix(u, "https://")) && len(u) < 2048 && len(list) < maxURLs {
			list = append(list, u)
		}
	}
	return list
}

// Got is the answer to a Fetch.
type Got struct {
	Fetch
	Data []byte
	Err  error
}

// Revocation is the Work of judging what was got. What it answers is text for
// people, one line for each certificate of which nothing is known; no secret.
type Revocation struct {
	Links []Link
	CRLs  []*x509.RevocationList // from files
	Got   []Got
	Now   time.Time
}

func (w Revocation) Do() (secret.Bytes, error) {
	var unknown []string
	lists := w.lists()
	for _, l := range w.Links {
		known, faults, err := w.judge(l, lists)
		if err != nil {
			return nil, err
		}
		if known || !l.Asked() && len(faults) == 0 {
			continue
		}
		if len(faults) == 0 {
			faults = []string{"nobody to ask: no crl is there for its issuer, and it names no responder"}
		}
		line := fmt.Sprintf("whether the certificate %s was revoked is not known (%s)", subject(l.Cert), strings.Join(core.Lines(faults), "; "))
		if l.Authority.Strict {
			return nil, &Refusal{"revocation", line, fmt.Sprintf("let the CRL or the responder be reached from here, or set crl-policy = \"if-present\" in certificate %q", l.Authority.Name)}
		}
		unknown = append(unknown, line)
	}
	return secret.Bytes(strings.Join(unknown, "\n")), nil
}

// lists are all CRLs that are there and can be read.
func (w Revocation) lists() crls {
	j := crls{now: w.Now}
	for _, list := range w.CRLs {
		j.all = append(j.all, source{list, "CRL file", nil})
	}
	for _, g := range w.Got {
		if g.Err != nil || g.Request != nil {
			continue
		}
		if list, err := x509.ParseRevocationList(g.Data); err == nil {
			j.all = append(j.all, source{list, "CRL " + quoted(g.URL), g.Link.Cert})
		}
	}
	return j
}

// judge finds out about one certificate; faults say why not.
func (w Revocation) judge(l Link, lists crls) (known bool, faults []string, err error) {
	clear, faults, err := lists.look(l, nil)
	if err != nil {
		return true, nil, err
	}
	known = clear == pki.AllReasons
	if !known && clear != 0 {
		faults = append(faults, "the CRLs that are there are about some reasons of revocation only")
	}
	for _, g := range w.Got {
		switch {
		case g.Link.Cert != l.Cert:
		case g.Err != nil:
			faults = append(faults, quoted(g.URL)+": "+g.Err.Error())
		case g.Request == nil:
			if _, err := x509.ParseRevocationList(g.Data); err != nil {
				faults = append(faults, quoted(g.URL)+": it is no CRL")
			}
		default:
			good, fault, err := answered(l, g, lists)
			if err != nil {
				return true, nil, err
			}
			known = known || good
			if fault != nil {
				faults = append(faults, quoted(g.URL)+": "+fault.Error())
			}
		}
	}
	return known, faults, nil
}

// answered is what an OCSP response says.
func answered(l Link, g Got, lists crls) (good bool, fault, err error) {
	r, fault := readOCSP(g.Data, l, lists.now)
	if fault != nil {
		return false, fault, nil
	}
	if c := r.Certificate; c != nil && !c.Equal(l.Issuer) {
		if _, _, err := lists.look(Link{c, l.Issuer, l.Authority, l.Known}, []*x509.Certificate{l.Cert}); err != nil {
			return false, wrongSigner(err), nil
		}
	}
	switch {
	case r.Status == ocsp.Revoked:
		return false, nil, revoked(l, r.RevokedAt, "OCSP "+quoted(g.URL))
	case r.Status != ocsp.Good:
		return false, errors.New("the responder does not know the certificate"), nil
	case !pki.Strong(r.SignatureAlgorithm) || r.Certificate != nil && !pki.Strong(r.Certificate.SignatureAlgorithm) && !r.Certificate.Equal(l.Issuer):
		return false, fmt.Errorf("the OCSP response is signed with an algorithm that is not accepted (%v)", r.SignatureAlgorithm), nil
	}
	return true, nil, nil
}

// defaultMaxAge is how old an answer without nextUpdate may be where nothing else is said.
const defaultMaxAge = 24 * time.Hour

// until is when an answer is good no longer; zero where nothing says so. One without
// nextUpdate is good for long where it is better than nothing, and under crl-policy
// strict as long as the configuration says: else an old one could be shown for ever.
func (l Link) until(from, next time.Time) time.Time {
	if !next.IsZero() || !l.Authority.Strict {
		return next
	}
	age := l.Authority.MaxAge
	if age == 0 {
		age = defaultMaxAge
	}
	return from.Add(age)
}

// timely says why an answer does not count now.
func (l Link) timely(what string, from, next, now time.Time) error {
	until := l.until(from, next)
	switch {
	case from.After(now.Add(skew)):
		return fmt.Errorf("the %s is from the future (%s)", what, from.UTC().Format(time.DateTime))
	case next.IsZero() && !until.IsZero() && until.Before(now):
		return fmt.Errorf("the %s is of %s and has no nextUpdate: it counts for %v (crl-max-age)", what, from.UTC().Format(time.DateTime), until.Sub(from))
	case !next.IsZero() && next.Add(skew).Before(now):
		return fmt.Errorf("the %s was good until %s only", what, next.UTC().Format(time.DateTime))
	}
	return nil
}

// readOCSP reads a response about a certificate that its issuer, or somebody
// whom the issuer charged with it, signed (RFC 6960 §4.2.2.2).
func readOCSP(data []byte, l Link, now time.Time) (*ocsp.Response, error) {
	r, err := ocsp.ParseResponseForCert(data, l.Cert, l.Issuer)
	if err != nil {
		return nil, fmt.Errorf("the OCSP response cannot be used: %s", quoted(err.Error()))
	}
	if err := sameQuestion(r.TBSResponseData, l); err != nil {
		return nil, err
	}
	if c := r.Certificate; c != nil && !c.Equal(l.Issuer) && !charged(c, now) {
		return nil, errors.New("the OCSP response was signed by a certificate that is not for that")
	}
	return r, l.timely("OCSP response", r.ThisUpdate, r.NextUpdate, now)
}

// charged reports whether a certificate is for signing OCSP responses now.
func charged(c *x509.Certificate, now time.Time) bool {
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) && (c.KeyUsage == 0 || c.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) != 0) &&
		len(c.UnhandledCriticalExtensions) == 0 && !now.Before(c.NotBefore.Add(-skew)) && !now.After(c.NotAfter.Add(skew))
}

// ocspQuestion is what of ResponseData says which certificates it is about, and what
// has to be understood (RFC 6960 §4.2.1).
type ocspQuestion struct {
	Version   int           `asn1:"optional,default:0,explicit,tag:0"`
	Responder asn1.RawValue // byName or byKey
	Produced  time.Time     `asn1:"generalized"`
	Responses []struct {
		CertID struct {
			Hash          pkix.AlgorithmIdentifier
			NameHash, Key []byte
			Serial        *big.Int
		}
	}
	Extensions []pkix.Extension `asn1:"optional,explicit,tag:1"`
}

// sameQuestion says why a response is not about a certificate of this issuer. The
// parser compares serial numbers alone, and a responder may answer for many issuers.
func sameQuestion(tbs []byte, l Link) error {
	var q ocspQuestion
	if rest, err := asn1.Unmarshal(tbs, &q); err != nil || len(rest) > 0 {
		return errors.New("the OCSP response cannot be read")
	}
	for _, e := range q.Extensions {
		if e.Critical {
			return fmt.Errorf("the OCSP response has the critical extension %v, which is not supported", e.Id)
		}
	}
	for _, r := range q.Responses {
		if r.CertID.Serial.Cmp(l.Cert.SerialNumber) != 0 {
			continue
		}
		var key struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}
		if _, err := asn1.Unmarshal(l.Issuer.RawSubjectPublicKeyInfo, &key); err != nil {
			return errors.New("the key of the issuer cannot be read")
		}
		hash := func(b []byte) []byte {
			for _, h := range ocspHashes {
				if h.oid.Equal(r.CertID.Hash.Algorithm) {
					d := h.hash.New()
					d.Write(b)
					return d.Sum(nil)
				}
			}
			return nil
		}
		// The name is that in the certificate, or as the issuer's own has it.
		if name := hash(l.Cert.RawIssuer); !bytes.Equal(name, r.CertID.NameHash) && !bytes.Equal(hash(l.Issuer.RawSubject), r.CertID.NameHash) ||
			len(name) == 0 || !bytes.Equal(hash(key.Key.RightAlign()), r.CertID.Key) {
			return errors.New("the OCSP response is about a certificate of another issuer with this serial number")
		}
		return nil // of several the parser takes the first, too
	}
	return errors.New("the OCSP response is about another certificate")
}

// ocspHashes are what an issuer may be named by in a response.
var ocspHashes = []struct {
	oid  asn1.ObjectIdentifier
	hash crypto.Hash
}{
	{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, crypto.SHA1},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA256},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA384},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, crypto.SHA512},
}
