package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidSubjectAltName  = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
)

// extension is the value of an extension; nil if there is none.
func extension(c *x509.Certificate, oid asn1.ObjectIdentifier) []byte {
	for _, e := range c.Extensions {
		if e.Id.Equal(oid) {
			return e.Value
		}
	}
	return nil
}

// constraints are which names an authority may give (RFC 5280 §4.2.1.10).
type constraints struct{ permitted, excluded []general }

// maxComparisons bounds names times constraints of a certificate.
const maxComparisons = 250_000

// constraintsOf reads the extension; nil if there is none.
func constraintsOf(c *x509.Certificate) (*constraints, error) {
	der := extension(c, oidNameConstraints)
	if der == nil {
		return nil, nil
	}
	bad := errors.New("it has name constraints that cannot be read")
	in := cryptobyte.String(der)
	var seq, permitted, excluded cryptobyte.String
	var has bool
	if !in.ReadASN1(&seq, tags.SEQUENCE) || !in.Empty() || !seq.ReadOptionalASN1(&permitted, &has, inner(0)) ||
		!seq.ReadOptionalASN1(&excluded, &has, inner(1)) || !seq.Empty() {
		return nil, bad
	}
	var list constraints
	for _, part := range []struct {
		in  cryptobyte.String
		out *[]general
	}{{permitted, &list.permitted}, {excluded, &list.excluded}} {
		for !part.in.Empty() {
			var subtree cryptobyte.String
			if !part.in.ReadASN1(&subtree, tags.SEQUENCE) {
				return nil, bad
			}
			g, ok := readGeneral(&subtree)
			if !ok || !subtree.Empty() { // minimum and maximum are not used (§4.2.1.10)
				return nil, bad
			}
			if g.form == formIP && len(g.value) != 8 && len(g.value) != 32 {
				return nil, bad
			}
			*part.out = append(*part.out, g)
		}
	}
	return &list, nil
}

func inner(n uint8) tags.Tag { return tags.Tag(n).ContextSpecific().Constructed() }

// namesOf are the names of a certificate that constraints are about: its subject
// with the mail addresses in it, and its subject alternative names.
func namesOf(c *x509.Certificate) ([]general, error) {
	var names []general
	sets, ok := readDN(c.RawSubject)
	if !ok {
		return nil, errors.New("it has a subject that cannot be read")
	}
	if len(sets) > 0 {
		names = append(names, general{formDN, c.RawSubject})
	}
	for _, set := range sets {
		for _, a := range set {
			if a.oid == oidEmail {
				names = append(names, general{formMail, []byte(a.value)})
			}
		}
	}
	der := extension(c, oidSubjectAltName)
	if der == nil {
		return names, nil
	}
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, tags.SEQUENCE) || !in.Empty() {
		return nil, errors.New("it has subject alternative names that cannot be read")
	}
	list, ok := readGenerals(seq)
	if !ok {
		return nil, errors.New("it has subject alternative names that cannot be read")
	}
	for _, g := range list {
		// Whoever takes ::ffff:192.0.2.1 for 192.0.2.1 has to find both allowed.
		if a, ok := netip.AddrFromSlice(g.value); g.form == formIP && ok && a.Is4In6() {
			names = append(names, general{formIP, a.Unmap().AsSlice()})
		}
	}
	return append(names, list...), nil
}

// allow says why the names may not be given.
func (k *constraints) allow(names []general) error {
	if len(names)*(len(k.permitted)+len(k.excluded)) > maxComparisons {
		return errors.New("it has too many names for the name constraints above it")
	}
	for _, n := range names {
		for _, e := range k.excluded {
			if e.form != n.form {
				continue
			}
			within, err := n.within(e, true)
			if err != nil {
				return err
			}
			if within {
				return fmt.Errorf("its name %s is excluded by the name constraints of %s", n, "an authority above it")
			}
		}
		asked, permitted := false, false
		for _, p := range k.permitted {
			if p.form != n.form {
				continue
			}
			asked = true
			within, err := n.within(p, false)
			if err != nil {
				return err
			}
			permitted = permitted || within
		}
		if asked && !permitted {
			return fmt.Errorf("its name %s is not permitted by the name constraints of an authority above it", n)
		}
	}
	return nil
}

// within reports whether a name is in the subtree of a constraint of its form. An
// excluded one also takes a wildcard that stands for names in it.
func (g general) within(base general, excluded bool) (bool, error) {
	limit := Lower(string(base.value))
	switch g.form {
	case formDN:
		return WithinDN(g.value, base.value), nil
	case formDNS:
		name := Lower(strings.TrimSuffix(string(g.value), "."))
		if parent, ok := strings.CutPrefix(name, "*."); ok && excluded {
			if _, above, _ := strings.Cut(limit, "."); above == parent {
				return true, nil
			}
		}
		return limit == "" || below(name, limit) || name == limit, nil
	case formMail:
		host, ok := hostOf(g)
		if !ok {
			return false, fmt.Errorf("its name %s is not a mail address, and there are name constraints on those", g)
		}
		if strings.Contains(limit, "@") { // one mailbox
			return EqualFold(string(g.value), limit), nil
		}
		return underHost(Lower(host), limit), nil
	case formURI:
		host, ok := hostOf(g)
		if _, err := netip.ParseAddr(host); !ok || err == nil {
			return false, fmt.Errorf("its name %s is a URI without a host name, and there are name constraints on those", g)
		}
		return underHost(Lower(host), limit), nil
	case formIP:
		n := len(base.value) / 2
		if len(g.value) != n {
			return false, nil
		}
		masked := make([]byte, n)
		network := make([]byte, n)
		for i := range n {
			masked[i], network[i] = g.value[i]&base.value[n+i], base.value[i]&base.value[n+i]
		}
		return bytes.Equal(masked, network), nil
	}
	return false, fmt.Errorf("it has a name of a kind (%d) that is not supported, and there are name constraints on those", g.form)
}

// underHost: of mail addresses and URIs a constraint is one host, or with a dot in
// front all below it.
func underHost(host, limit string) bool {
	host = strings.TrimSuffix(host, ".")
	if strings.HasPrefix(limit, ".") {
		return below(host, limit)
	}
	return limit == "" || host == limit
}

// below reports whether a DNS name is a subdomain.
func below(name, domain string) bool {
	return strings.HasSuffix(name, "."+strings.TrimPrefix(domain, ".")) && domain != "."
}

// String is the name for people, quoted.
func (g general) String() string {
	switch g.form {
	case formDN:
		return Quoted(DNText(g.value))
	case formIP:
		if a, ok := netip.AddrFromSlice(g.value); ok {
			return a.String()
		}
	}
	return Quoted(string(g.value))
}
