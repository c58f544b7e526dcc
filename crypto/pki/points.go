package pki

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidDistributionPoints       = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// Reasons are the reasons of a revocation that a CRL is about, a bit for each
// (RFC 5280 §4.2.1.13).
type Reasons uint16

// AllReasons are those of a CRL that does not say otherwise: keyCompromise to
// aACompromise. Bit 0 is not used.
const AllReasons Reasons = 0x1fe

// Point is where a certificate says that CRLs about it are (§4.2.1.13).
type Point struct {
	names   []general // fullName; none: those of the CRL issuer count
	Reasons Reasons
	Issuers [][]byte // names in DER of who issues the CRL; none: the certificate's issuer
}

// Scope is which certificates a CRL is about (IssuingDistributionPoint, §5.2.5).
type Scope struct {
	names     []general // of its distribution point; none: all
	named     bool
	users     bool // onlyContainsUserCerts
	cas       bool // onlyContainsCACerts
	attribute bool // onlyContainsAttributeCerts
	Indirect  bool // it also has certificates of other issuers
	Reasons   Reasons
}

var errPoints = errors.New("the CRL distribution points of the certificate cannot be read")

// Points are the distribution points of a certificate, and as the last one the CRL
// of its issuer that is about everything (§6.3.3). Where the certificate has points,
// that one has no name: a part of the issuer's CRLs that bears the issuer's name need
// not be the part in which this certificate would be.
func Points(c *x509.Certificate) ([]Point, error) {
	der := extension(c, oidDistributionPoints)
	if der == nil {
		return []Point{{names: []general{{formDN, c.RawIssuer}}, Reasons: AllReasons}}, nil
	}
	var list []Point
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, tags.SEQUENCE) || !in.Empty() {
		return nil, errPoints
	}
	for !seq.Empty() {
		var point, name, reasons, issuers cryptobyte.String
		var hasName, hasReasons, hasIssuers bool
		if !seq.ReadASN1(&point, tags.SEQUENCE) || !point.ReadOptionalASN1(&name, &hasName, inner(0)) ||
			!point.ReadOptionalASN1(&reasons, &hasReasons, tags.Tag(1).ContextSpecific()) ||
			!point.ReadOptionalASN1(&issuers, &hasIssuers, inner(2)) || !point.Empty() || !hasName && !hasIssuers {
			return nil, errPoints
		}
		p := Point{Reasons: AllReasons}
		var ok bool
		if hasIssuers {
			list, ok := readGenerals(issuers)
			if p.Issuers = directoryNames(list); !ok || len(p.Issuers) == 0 {
				return nil, errPoints
			}
		}
		if hasReasons {
			if p.Reasons, ok = readReasons(reasons); !ok {
				return nil, errPoints
			}
		}
		if hasName {
			issuer := c.RawIssuer
			if hasIssuers {
				issuer = p.Issuers[0]
			}
			if p.names, ok = readPointName(name, issuer); !ok {
				return nil, errPoints
			}
		}
		list = append(list, p)
	}
	return append(list, Point{Reasons: AllReasons}), nil
}

// readPointName reads a DistributionPointName: full names, or one that goes on
// where the name of the issuer ends.
func readPointName(in cryptobyte.String, issuer []byte) ([]general, bool) {
	var full, relative cryptobyte.String
	var isFull, isRelative bool
	if !in.ReadOptionalASN1(&full, &isFull, inner(0)) || !in.ReadOptionalASN1(&relative, &isRelative, inner(1)) || !in.Empty() || isFull == isRelative {
		return nil, false
	}
	if isFull {
		return readGenerals(full)
	}
	der := cryptobyte.String(issuer)
	var name cryptobyte.String
	if !der.ReadASN1(&name, tags.SEQUENCE) {
		return nil, false
	}
	return []general{{formDN, tlv(tags.SEQUENCE, append(append([]byte{}, name...), tlv(tags.SET, relative)...))}}, true
}

// readReasons reads the contents of a ReasonFlags: bit n of the BIT STRING is bit n here.
func readReasons(b cryptobyte.String) (r Reasons, ok bool) {
	var unused uint8
	if !b.ReadUint8(&unused) || unused > 7 || len(b) > 2 {
		return 0, false
	}
	for i := range 8 * len(b) {
		if b[i/8]&(0x80>>(i%8)) != 0 {
			r |= 1 << i
		}
	}
	return r & AllReasons, true
}

// ScopeOf reads the scope of a CRL.
func ScopeOf(list *x509.RevocationList) (Scope, error) {
	s := Scope{Reasons: AllReasons}
	bad := errors.New("the CRL's issuing distribution point cannot be read")
	var der []byte
	for _, e := range list.Extensions {
		if e.Id.Equal(oidIssuingDistributionPoint) {
			der = e.Value
		}
	}
	if der == nil {
		return s, nil
	}
	in := cryptobyte.String(der)
	var seq, name, reasons cryptobyte.String
	var hasReasons, ok bool
	flag := func(out *bool, n uint8) bool {
		var b cryptobyte.String
		var has bool
		if !seq.ReadOptionalASN1(&b, &has, tags.Tag(n).ContextSpecific()) {
			return false
		}
		*out = has && len(b) == 1 && b[0] != 0
		return !has || len(b) == 1
	}
	if !in.ReadASN1(&seq, tags.SEQUENCE) || !in.Empty() || !seq.ReadOptionalASN1(&name, &s.named, inner(0)) || !flag(&s.users, 1) || !flag(&s.cas, 2) ||
		!seq.ReadOptionalASN1(&reasons, &hasReasons, tags.Tag(3).ContextSpecific()) || !flag(&s.Indirect, 4) || !flag(&s.attribute, 5) || !seq.Empty() {
		return s, bad
	}
	if s.named {
		if s.names, ok = readPointName(name, list.RawIssuer); !ok {
			return s, bad
		}
	}
	if hasReasons {
		if s.Reasons, ok = readReasons(reasons); !ok {
			return s, bad
		}
	}
	return s, nil
}

// IssuedBy reports whether CRLs of an issuer, a name in DER, can be those of the point.
func (p Point) IssuedBy(c *x509.Certificate, issuer []byte) bool {
	if len(p.Issuers) > 0 {
		return anyDN(p.Issuers, issuer)
	}
	return SameDN(c.RawIssuer, issuer)
}

// Covers reports for which reasons a CRL of this scope and issuer, which is a name in
// DER, tells about a certificate by one of its points (§6.3.3 (b), (d)); none: it is
// about other certificates.
func (s Scope) Covers(c *x509.Certificate, p Point, issuer []byte) Reasons {
	if !p.IssuedBy(c, issuer) || len(p.Issuers) > 0 && !s.Indirect {
		return 0
	}
	if s.named {
		names := p.names
		if len(names) == 0 {
			for _, i := range p.Issuers {
				names = append(names, general{formDN, i})
			}
		}
		if !anySame(names, s.names) {
			return 0
		}
	}
	isCA := c.BasicConstraintsValid && c.IsCA
	if s.attribute || s.users && isCA || s.cas && !isCA {
		return 0
	}
	return s.Reasons & p.Reasons
}

func anyDN(names [][]byte, name []byte) bool {
	for _, n := range names {
		if SameDN(n, name) {
			return true
		}
	}
	return false
}

// EntryIssuers are the names, in DER, of a certificateIssuer extension of a CRL entry
// (§5.3.3); false where it cannot be read.
func EntryIssuers(der []byte) ([][]byte, bool) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, tags.SEQUENCE) || !in.Empty() {
		return nil, false
	}
	list, ok := readGenerals(seq)
	names := directoryNames(list)
	return names, ok && len(names) > 0
}
