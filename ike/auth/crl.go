package auth

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"culvert/crypto/pki"

	"golang.org/x/crypto/cryptobyte"
)

// What CRLs say about a certificate (RFC 5280 §6.3.3). A list is used only where it
// is about the certificate: by its issuer, by its distribution point, by the kind of
// certificate and by the reasons of revocation. Lists of the changes since another
// one are used together with that.

// source is a CRL and where it came from.
type source struct {
	list *x509.RevocationList
	from string
	of   *x509.Certificate // that it was fetched for; nil: a file
}

// crls are the lists that are there.
type crls struct {
	all []source
	now time.Time
}

// maxSigners bounds how deep the certificates of CRL issuers are asked after.
const maxSigners = 3

// look says for which reasons of revocation the lists clear a certificate, or returns
// the refusal of one that was revoked; faults say what is wrong with lists that
// should have told. asked are the certificates that are being asked after: none of
// them vouches for another.
func (j crls) look(l Link, asked []*x509.Certificate) (clear pki.Reasons, faults []string, err error) {
	points, err := pki.Points(l.Cert)
	if err != nil {
		return 0, []string{err.Error()}, nil
	}
	for _, s := range j.all {
		reasons, fault, err := j.one(l, points, s, append(asked, l.Cert))
		var foreign errForeign
		switch {
		case err != nil:
			return 0, nil, err
		case fault == nil:
			clear |= reasons
		case s.of == l.Cert || s.of == nil && !errors.As(fault, &foreign):
			faults = append(faults, s.from+": "+fault.Error())
		}
	}
	return clear, faults, nil
}

// about reports whether a list is about a certificate for any reason.
func (l Link) about(list *x509.RevocationList) bool {
	points, err := pki.Points(l.Cert)
	scope, fault := pki.ScopeOf(list)
	return err == nil && fault == nil && slices.ContainsFunc(points, func(p pki.Point) bool { return scope.Covers(l.Cert, p, list.RawIssuer) != 0 })
}

// errForeign: the list is somebody else's. Of files that is nothing to speak of.
type errForeign string

func (e errForeign) Error() string { return string(e) }

// one is what one list says.
func (j crls) one(l Link, points []pki.Point, s source, asked []*x509.Certificate) (clear pki.Reasons, fault, err error) {
	scope, fault := pki.ScopeOf(s.list)
	if fault != nil {
		return 0, fault, nil
	}
	if !slices.ContainsFunc(points, func(p pki.Point) bool { return p.IssuedBy(l.Cert, s.list.RawIssuer) }) {
		return 0, errForeign("it is the CRL of another authority"), nil
	}
	for _, p := range points {
		clear |= scope.Covers(l.Cert, p, s.list.RawIssuer)
	}
	if fault := j.signed(l, s.list, asked); fault != nil {
		return 0, fault, nil
	}
	if clear == 0 {
		return 0, errors.New("the CRL is about other certificates than this one (its issuing distribution point)"), nil
	}
	if fault := usable(s.list, l, j.now); fault != nil {
		return 0, fault, nil
	}
	entry, fault := entryOf(s.list, scope, l.Cert)
	if d := j.changes(l, s.list, asked); d != nil {
		switch later, f := entryOf(d, scope, l.Cert); {
		case f != nil:
			fault = f
		case later != nil && later.ReasonCode == removeFromCRL:
			entry = nil
		case later != nil:
			entry = later
		}
	}
	if entry != nil {
		return 0, nil, revoked(l, entry.RevocationTime, s.from)
	}
	if fault == nil && !pki.Strong(s.list.SignatureAlgorithm) {
		fault = fmt.Errorf("it is signed with %s, which is not accepted", pki.SignedWith(s.list.Raw))
	}
	return clear, fault, nil
}

func revoked(l Link, at time.Time, by string) error {
	return &Refusal{"revocation", fmt.Sprintf("the certificate %s was revoked on %s (%s)", subject(l.Cert), at.UTC().Format(time.DateTime), by), "have another one issued"}
}

// Extensions of CRLs and of their entries (RFC 5280 §5.2, §5.3).
var (
	oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidDeltaCRL                 = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidReason                   = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalidityDate           = asn1.ObjectIdentifier{2, 5, 29, 24}
	oidCertificateIssuer        = asn1.ObjectIdentifier{2, 5, 29, 29}
)

// removeFromCRL is the reason of an entry that takes one of the complete list back (§5.3.1).
const removeFromCRL = 8

// usable says why a complete list tells nothing.
func usable(list *x509.RevocationList, l Link, now time.Time) error {
	for _, e := range list.Extensions {
		switch {
		case e.Id.Equal(oidDeltaCRL):
			return errors.New("the CRL has only the changes since another one (the critical extension 2.5.29.27), and that alone is not supported")
		case e.Critical && !e.Id.Equal(oidIssuingDistributionPoint):
			return fmt.Errorf("the CRL has the critical extension %v, which is not supported", e.Id)
		}
	}
	return l.timely("CRL", list.ThisUpdate, list.NextUpdate, now)
}

// entryOf is the entry of a certificate in a list; nil if there is none. fault says
// why the list does not clear who is not in it: it has entries that mean something
// which is not known here (§5.3). Who is in it is revoked all the same (X.509 §7.3).
func entryOf(list *x509.RevocationList, scope pki.Scope, c *x509.Certificate) (entry *x509.RevocationListEntry, fault error) {
	issuers := [][]byte{list.RawIssuer} // of an entry: those of the one before it, unless it says its own (§5.3.3)
	for i := range list.RevokedCertificateEntries {
		e := &list.RevokedCertificateEntries[i]
		for _, x := range e.Extensions {
			switch {
			case x.Id.Equal(oidCertificateIssuer):
				names, ok := pki.EntryIssuers(x.Value)
				if !ok || !scope.Indirect {
					return nil, errors.New("the CRL has entries of other issuers and does not say so, or not which")
				}
				issuers = names
			case x.Critical && !x.Id.Equal(oidReason) && !x.Id.Equal(oidInvalidityDate):
				fault = fmt.Errorf("an entry of the CRL has the critical extension %v, which is not supported", x.Id)
			}
		}
		if e.SerialNumber.Cmp(c.SerialNumber) == 0 && slices.ContainsFunc(issuers, func(n []byte) bool { return pki.SameDN(n, c.RawIssuer) }) {
			entry = e
		}
	}
	return entry, fault
}

// changes is the newest list of the changes since a complete list that is current and
// of the same scope and issuer (§5.2.4, §6.3.3 (c)); nil if there is none.
func (j crls) changes(l Link, complete *x509.RevocationList, asked []*x509.Certificate) (newest *x509.RevocationList) {
	for _, s := range j.all {
		d := s.list
		since, ok := sinceOf(d)
		if !ok || complete.Number == nil || d.Number == nil || complete.Number.Cmp(since) < 0 || d.Number.Cmp(complete.Number) <= 0 ||
			newest != nil && d.Number.Cmp(newest.Number) < 0 || !pki.SameDN(d.RawIssuer, complete.RawIssuer) ||
			!bytes.Equal(d.AuthorityKeyId, complete.AuthorityKeyId) || !bytes.Equal(valueOf(d, oidIssuingDistributionPoint), valueOf(complete, oidIssuingDistributionPoint)) {
			continue
		}
		unknown := slices.ContainsFunc(d.Extensions, func(e pkix.Extension) bool {
			return e.Critical && !e.Id.Equal(oidDeltaCRL) && !e.Id.Equal(oidIssuingDistributionPoint)
		})
		if !unknown && l.timely("CRL", d.ThisUpdate, d.NextUpdate, j.now) == nil && j.signed(l, d, asked) == nil {
			newest = d
		}
	}
	return newest
}

func valueOf(list *x509.RevocationList, oid asn1.ObjectIdentifier) []byte {
	for _, e := range list.Extensions {
		if e.Id.Equal(oid) {
			return e.Value
		}
	}
	return nil
}

// sinceOf is the number of the complete list that a list has the changes since.
func sinceOf(list *x509.RevocationList) (*big.Int, bool) {
	der := cryptobyte.String(valueOf(list, oidDeltaCRL))
	n := new(big.Int)
	return n, der.ReadASN1Integer(n) && der.Empty()
}

// signed says why a list is not by whoever may sign it: the issuer of the certificate,
// or a certificate of the list's issuer below the same authority that was not revoked
// (§6.3.3 (f), (g)).
func (j crls) signed(l Link, list *x509.RevocationList, asked []*x509.Certificate) error {
	if pki.SameDN(l.Issuer.RawSubject, list.RawIssuer) && signs(l.Issuer, list) {
		return nil
	}
	var fault error = errForeign("its signature is wrong")
	for _, c := range l.Known {
		if !pki.SameDN(c.RawSubject, list.RawIssuer) || len(asked) > maxSigners || !signs(c, list) {
			continue
		}
		itself := c.Equal(l.Cert) && namesItself(c)
		if !itself && slices.ContainsFunc(asked, c.Equal) {
			continue
		}
		path, err := pki.Path(c, []*x509.Certificate{l.Authority.Cert}, l.Known, j.now)
		if err == nil && itself {
			path = path[1:]
		}
		if err == nil {
			err = j.good(l, path, asked)
		}
		if err == nil {
			return nil
		}
		fault = wrongSigner(err)
	}
	return fault
}

// wrongSigner says why the signer of a CRL or of an OCSP response is not accepted.
func wrongSigner(err error) error {
	return fmt.Errorf("it is signed by a certificate that is not accepted (%w)", err)
}

// namesItself reports whether the issuer of a certificate has written into it that it
// issues the CRLs about itself: then it may clear itself.
func namesItself(c *x509.Certificate) bool {
	points, err := pki.Points(c)
	return err == nil && slices.ContainsFunc(points, func(p pki.Point) bool { return len(p.Issuers) > 0 && p.IssuedBy(c, c.RawSubject) })
}

// good says why a path is not: a certificate of it was revoked, or under crl-policy
// strict whether it was is not known.
func (j crls) good(l Link, path, asked []*x509.Certificate) error {
	for i := range path[:len(path)-1] {
		link := Link{path[i], path[i+1], l.Authority, l.Known}
		clear, _, err := j.look(link, asked)
		if err == nil && clear != pki.AllReasons && l.Authority.Strict {
			err = fmt.Errorf("whether the certificate %s was revoked is not known", subject(link.Cert))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// signs reports whether a list is signed by the key of a certificate that may sign lists.
func signs(c *x509.Certificate, list *x509.RevocationList) bool {
	return (c.KeyUsage == 0 || c.KeyUsage&x509.KeyUsageCRLSign != 0) &&
		c.CheckSignature(list.SignatureAlgorithm, list.RawTBSRevocationList, list.Signature) == nil
}
