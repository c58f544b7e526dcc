package auth

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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

// Check verifies an answer and tells until when it is good. Only what passes is
// worth keeping.
func (f Fetch) Check(data []byte, now time.Time) (until time.Time, err error) {
	if f.Request == nil {
		list, err := x509.ParseRevocationList(data)
		if err != nil {
			return time.Time{}, err
		}
		return list.NextUpdate, checkCRL(list, f.Link.Issuer, now)
	}
	r, err := readOCSP(data, f.Link, now)
	if err != nil {
		return time.Time{}, err
	}
	return r.NextUpdate, nil
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
	if bytes.Equal(l.Issuer.Raw, l.Authority.Cert.Raw) {
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
	for _, l := range w.Links {
		known, faults, err := w.judge(l)
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

// judge finds out about one certificate; faults say why not.
func (w Revocation) judge(l Link) (known bool, faults []string, err error) {
	revoked := func(at time.Time, by string) error {
		return &Refusal{"revocation", fmt.Sprintf("the certificate %s was revoked on %s (%s)", subject(l.Cert), at.UTC().Format(time.DateTime), by), "have another one issued"}
	}
	look := func(list *x509.RevocationList, from string) error {
		if err := checkCRL(list, l.Issuer, w.Now); err != nil {
			faults = append(faults, from+": "+err.Error())
			return nil
		}
		known = true
		for i := range list.RevokedCertificateEntries {
			if e := &list.RevokedCertificateEntries[i]; e.SerialNumber.Cmp(l.Cert.SerialNumber) == 0 {
				return revoked(e.RevocationTime, from)
			}
		}
		return nil
	}
	for _, list := range w.CRLs {
		if bytes.Equal(list.RawIssuer, l.Issuer.RawSubject) && list.CheckSignatureFrom(l.Issuer) == nil {
			if err := look(list, "CRL file"); err != nil {
				return true, nil, err
			}
		}
	}
	for _, g := range w.Got {
		if g.Link.Cert != l.Cert {
			continue
		}
		if g.Err != nil {
			faults = append(faults, quoted(g.URL)+": "+g.Err.Error())
			continue
		}
		if g.Request == nil {
			list, err := x509.ParseRevocationList(g.Data)
			if err != nil {
				faults = append(faults, quoted(g.URL)+": it is no CRL")
			} else if err := look(list, "CRL "+quoted(g.URL)); err != nil {
				return true, nil, err
			}
			continue
		}
		r, err := readOCSP(g.Data, l, w.Now)
		switch {
		case err != nil:
			faults = append(faults, quoted(g.URL)+": "+err.Error())
		case r.Status == ocsp.Revoked:
			return true, nil, revoked(r.RevokedAt, "OCSP "+quoted(g.URL))
		case r.Status == ocsp.Good:
			known = true
		default:
			faults = append(faults, quoted(g.URL)+": the responder does not know the certificate")
		}
	}
	return known, faults, nil
}

// Critical extensions of CRLs: one that names what the list is about is taken
// as its being the right one; what lists changes alone cannot stand for a list.
var oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}

// checkCRL says why a list tells nothing about certificates of an issuer.
func checkCRL(list *x509.RevocationList, issuer *x509.Certificate, now time.Time) error {
	if !bytes.Equal(list.RawIssuer, issuer.RawSubject) {
		return errors.New("it is the CRL of another authority")
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return errors.New("its signature is wrong")
	}
	for _, e := range list.Extensions {
		if e.Critical && !e.Id.Equal(oidIssuingDistributionPoint) {
			return fmt.Errorf("the CRL has the critical extension %v, which is not supported", e.Id)
		}
	}
	return timely("CRL", list.ThisUpdate, list.NextUpdate, now)
}

func timely(what string, from, until, now time.Time) error {
	if from.After(now.Add(skew)) {
		return fmt.Errorf("the %s is from the future (%s)", what, from.UTC().Format(time.DateTime))
	}
	if !until.IsZero() && until.Add(skew).Before(now) {
		return fmt.Errorf("the %s was good until %s only", what, until.UTC().Format(time.DateTime))
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
	if c := r.Certificate; c != nil && !c.Equal(l.Issuer) {
		if !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) || now.Before(c.NotBefore.Add(-skew)) || now.After(c.NotAfter.Add(skew)) {
			return nil, errors.New("the OCSP response was signed by a certificate that is not for that")
		}
	}
	return r, timely("OCSP response", r.ThisUpdate, r.NextUpdate, now)
}
