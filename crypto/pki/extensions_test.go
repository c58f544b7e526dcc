package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// Which names are within which constraints (RFC 5280 §4.2.1.10).
func TestWithin(t *testing.T) {
	network := func(s string) []byte {
		p := netip.MustParsePrefix(s)
		mask := make([]byte, len(p.Addr().AsSlice()))
		for i := range p.Bits() {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		return append(p.Addr().AsSlice(), mask...)
	}
	address := func(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
	for _, c := range []struct {
		form        uint8
		base, name  string
		permits     bool
		excludes    bool
		cannotJudge string
	}{
		{form: formDNS, base: "example.com", name: "example.com", permits: true, excludes: true},
		{form: formDNS, base: "example.com", name: "GW.Example.COM", permits: true, excludes: true},
		{form: formDNS, base: "example.com", name: "gw.example.com.", permits: true, excludes: true},
		{form: formDNS, base: "example.com", name: "badexample.com"},
		{form: formDNS, base: ".example.com", name: "gw.example.com", permits: true, excludes: true},
		{form: formDNS, base: ".example.com", name: "example.com"},
		{form: formDNS, base: "", name: "gw", permits: true, excludes: true},
		{form: formDNS, base: "gw.example.com", name: "*.example.com", excludes: true},
		{form: formDNS, base: "a.gw.example.com", name: "*.example.com"},
		{form: formMail, base: "example.com", name: "a@Example.com", permits: true, excludes: true},
		{form: formMail, base: "example.com", name: "a@mx.example.com"},
		{form: formMail, base: ".example.com", name: "a@mx.example.com", permits: true, excludes: true},
		{form: formMail, base: ".example.com", name: "a@example.com"},
		{form: formMail, base: "a@example.com", name: "A@example.com", permits: true, excludes: true},
		{form: formMail, base: "a@example.com", name: "b@example.com"},
		{form: formMail, base: "example.com", name: "a@b@example.com", permits: true, excludes: true},
		{form: formMail, base: "example.com", name: "example.com", cannotJudge: "not a mail address"},
		{form: formURI, base: "example.com", name: "https://u@Example.com:8080/x", permits: true, excludes: true},
		{form: formURI, base: "example.com", name: "https://www.example.com/"},
		{form: formURI, base: ".example.com", name: "https://www.example.com/", permits: true, excludes: true},
		{form: formURI, base: "example.com", name: "https://192.0.2.1/", cannotJudge: "without a host name"},
		{form: formURI, base: "example.com", name: "https://[2001:db8::1]/", cannotJudge: "without a host name"},
		{form: formURI, base: "example.com", name: "https://%zz/", cannotJudge: "without a host name"},
		{form: formURI, base: "example.com", name: "urn:x:y", cannotJudge: "without a host name"},
		{form: formIP, base: string(network("10.0.0.0/8")), name: string(address("10.9.0.2")), permits: true, excludes: true},
		{form: formIP, base: string(network("10.0.0.0/8")), name: string(address("11.9.0.2"))},
		{form: formIP, base: string(network("10.0.0.0/8")), name: string(address("a00::1"))},
		{form: formIP, base: string(network("2001:db8::/32")), name: string(address("2001:db8::1")), permits: true, excludes: true},
		{form: 8, base: "\x2a", name: "\x2a", cannotJudge: "not supported"},
	} {
		name, base := general{c.form, []byte(c.name)}, general{c.form, []byte(c.base)}
		for _, excluded := range []bool{false, true} {
			want := c.permits
			if excluded {
				want = c.excludes
			}
			got, err := name.within(base, excluded)
			if got != want || (err != nil) != (c.cannotJudge != "") || err != nil && !strings.Contains(err.Error(), c.cannotJudge) {
				t.Errorf("%s within %s, excluded %t: %t, %v", name, base, excluded, got, err)
			}
		}
	}
}

// names are general names in DER: a letter for the form, and the value.
func names(list ...string) (der []byte) {
	for _, s := range list {
		form, value := map[byte]uint8{'m': formMail, 'd': formDNS, 'u': formURI, 'n': formDN, 'i': formIP}[s[0]], []byte(s[1:])
		if form == formDN {
			der = append(der, tlv(inner(form), cn(tags.UTF8String, s[1:]))...)
		} else {
			der = append(der, tlv(tags.Tag(form).ContextSpecific(), value)...)
		}
	}
	return der
}

func sequence(parts ...[]byte) []byte { return tlv(tags.SEQUENCE, bytes.Join(parts, nil)) }

func cut(b []byte) []byte { return b[:len(b)-1] }

func longer(b []byte) []byte { return append(bytes.Clone(b), 0) }

// The constraints of an authority are read whole, or not at all.
func TestConstraintsOf(t *testing.T) {
	subtree := func(name string) []byte { return sequence(names(name)) }
	some := sequence(tlv(inner(0), append(subtree("da"), subtree("mb")...)), tlv(inner(1), append(subtree("dc"), subtree("dd")...)))
	for _, c := range []struct {
		what string
		der  []byte
		want string // permitted and excluded; empty: cannot be read
	}{
		{"both", some, `["a" "b"] ["c" "d"]`},
		{"none", sequence(), `[] []`},
		{"one excluded", sequence(tlv(inner(1), subtree("dx"))), `[] ["x"]`},
		{"a network", sequence(tlv(inner(0), subtree("i"+string(make([]byte, 8))))), `["\x00\x00\x00\x00\x00\x00\x00\x00"] []`},
		{"a network of IPv6", sequence(tlv(inner(0), subtree("i"+strings.Repeat("a", 32)))), `["` + strings.Repeat("a", 32) + `"] []`},
		{"a network without a mask", sequence(tlv(inner(0), subtree("iaaaa"))), ""},
		{"a network of 9 bytes", sequence(tlv(inner(0), subtree("iaaaaaaaaa"))), ""},
		{"no bytes", nil, ""},
		{"no sequence", names("dx"), ""},
		{"cut", cut(some), ""},
		{"a byte more", longer(some), ""},
		{"something else behind", sequence(tlv(inner(1), subtree("dx")), tlv(inner(2), nil)), ""},
		{"the wrong order", sequence(tlv(inner(1), subtree("dx")), tlv(inner(0), subtree("dx"))), ""},
		{"no subtrees", sequence(tlv(inner(0), names("dx"))), ""},
		{"a maximum", sequence(tlv(inner(0), sequence(names("dx"), tlv(tags.Tag(1).ContextSpecific(), []byte{1})))), ""},
		{"no name", sequence(tlv(inner(0), sequence())), ""},
		{"a directory that is none", sequence(tlv(inner(0), sequence(tlv(inner(formDN), names("dx"))))), ""},
		{"two directories", sequence(tlv(inner(0), sequence(tlv(inner(formDN), append(sequence(), sequence()...))))), ""},
	} {
		k, err := constraintsOf(&x509.Certificate{Extensions: []pkix.Extension{{Id: oidNameConstraints, Value: append([]byte{}, c.der...)}}})
		got := ""
		if err == nil {
			got = fmt.Sprintf("%s %s", k.permitted, k.excluded)
		}
		if got != c.want {
			t.Errorf("%s: %s, %v, want %s", c.what, got, err, c.want)
		}
	}
	if k, err := constraintsOf(&x509.Certificate{}); k != nil || err != nil {
		t.Errorf("no extension: %v, %v", k, err)
	}
}

// All names of a certificate are judged: each of a set, and each alternative name.
func TestNamesOf(t *testing.T) {
	mail := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	subject := nameOf([]value{{oidCN, tags.UTF8String, "x"}, {mail, tags.IA5String, "a@x"}, {mail, tags.IA5String, "b@x"}}, []value{{mail, tags.IA5String, "c@x"}})
	mapped := "i" + string(netip.MustParseAddr("::ffff:192.0.2.1").AsSlice())
	for _, c := range []struct {
		what    string
		subject []byte
		sans    []byte // nil: no extension
		want    string
	}{
		{"a subject", subject, nil, `["CN=x+E=a@x+E=b@x, E=c@x" "a@x" "b@x" "c@x"]`},
		{"a subject of one set", cn(tags.UTF8String, "x"), nil, `["CN=x"]`},
		{"no subject", nameOf(), nil, `[]`},
		{"names", nameOf(), sequence(names("da", "mb", "ic")), `["a" "b" "c"]`},
		{"a mapped address", nameOf(), sequence(names(mapped)), `[192.0.2.1 ::ffff:192.0.2.1]`},
		{"a mapped address that is a DNS name", nameOf(), sequence(names("d" + mapped[1:])), "[" + Quoted(mapped[1:]) + "]"},
		{"no names", nameOf(), sequence(), ""},
		{"names that are cut", nameOf(), cut(sequence(names("da"))), ""},
		{"names and a byte", nameOf(), longer(sequence(names("da"))), ""},
		{"no name", nameOf(), sequence([]byte{5, 0}), ""},
		{"a subject that is none", []byte{5, 0}, nil, ""},
	} {
		cert := &x509.Certificate{RawSubject: c.subject}
		if c.sans != nil {
			cert.Extensions = []pkix.Extension{{Id: oidSubjectAltName, Value: c.sans}}
		}
		list, err := namesOf(cert)
		got := ""
		if err == nil {
			got = fmt.Sprint(list)
		}
		if got != c.want {
			t.Errorf("%s: %s, %v, want %s", c.what, got, err, c.want)
		}
	}
}

// One permitted subtree of several is enough, and one excluded one too much.
func TestAllow(t *testing.T) {
	k := constraints{permitted: []general{{formDNS, []byte("a")}, {formDNS, []byte("b")}, {formDNS, []byte("c")}, {formMail, []byte("x")}},
		excluded: []general{{formDNS, []byte("n.a")}, {formDNS, []byte("n.b")}}}
	for name, want := range map[string]string{"a": "", "b": "", "c": "", "x.b": "", "d": "not permitted", "n.a": "is excluded", "n.b": "is excluded"} {
		for _, list := range [][]general{{{formDNS, []byte(name)}}, {{formDNS, []byte("a")}, {formDNS, []byte(name)}}, {{formIP, []byte("aaaa")}, {formDNS, []byte(name)}}} {
			err := k.allow(list)
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: %v, want %q", list, err, want)
			}
		}
	}
	if err := k.allow([]general{{formMail, []byte("no mail")}}); err == nil || !strings.Contains(err.Error(), "not a mail address") {
		t.Errorf("%v", err)
	}
}

// The scope of a CRL is read whole, or not at all.
func TestScopeOf(t *testing.T) {
	flag := func(n uint8, values ...byte) []byte { return tlv(tags.Tag(n).ContextSpecific(), values) }
	full := tlv(inner(0), tlv(inner(0), names("ua", "ub")))
	issuer := cn(tags.UTF8String, "ca")
	for _, c := range []struct {
		what string
		der  []byte
		want Scope
		ok   bool
	}{
		{"nothing", sequence(), Scope{Reasons: AllReasons}, true},
		{"users", sequence(flag(1, 0xff)), Scope{users: true, Reasons: AllReasons}, true},
		{"users, another way", sequence(flag(1, 1)), Scope{users: true, Reasons: AllReasons}, true},
		{"users, no", sequence(flag(1, 0)), Scope{Reasons: AllReasons}, true},
		{"all", sequence(full, flag(1, 0xff), flag(2, 0xff), flag(3, 1, 0x40), flag(4, 0xff), flag(5, 0xff)),
			Scope{names: []general{{formURI, []byte("a")}, {formURI, []byte("b")}}, named: true, users: true, cas: true, attribute: true, Indirect: true, Reasons: 2}, true},
		{"authorities", sequence(flag(2, 0xff)), Scope{cas: true, Reasons: AllReasons}, true},
		{"indirect", sequence(flag(4, 0xff)), Scope{Indirect: true, Reasons: AllReasons}, true},
		{"attributes", sequence(flag(5, 0xff)), Scope{attribute: true, Reasons: AllReasons}, true},
		{"a name that goes on", sequence(tlv(inner(0), tlv(inner(1), sequence(tlv(tags.OBJECT_IDENTIFIER, []byte{0x55, 4, 3}), tlv(tags.UTF8String, []byte("1")))))),
			Scope{names: []general{{formDN, nameOf([]value{{oidCN, tags.UTF8String, "ca"}}, []value{{oidCN, tags.UTF8String, "1"}})}}, named: true, Reasons: AllReasons}, true},
		{"users of two bytes", sequence(flag(1, 0xff, 0xff)), Scope{}, false},
		{"users of none", sequence(flag(1)), Scope{}, false},
		{"authorities of two bytes", sequence(flag(2, 0, 0)), Scope{}, false},
		{"indirect of two bytes", sequence(flag(4, 0, 0)), Scope{}, false},
		{"attributes of two bytes", sequence(flag(5, 0, 0)), Scope{}, false},
		{"reasons that are none", sequence(flag(3, 8, 0)), Scope{}, false},
		{"reasons of three bytes", sequence(flag(3, 0, 1, 2, 3)), Scope{}, false},
		{"no reasons", sequence(flag(3)), Scope{}, false},
		{"no name", sequence(tlv(inner(0), nil)), Scope{}, false},
		{"both names", sequence(tlv(inner(0), append(tlv(inner(0), names("ua")), tlv(inner(1), nil)...))), Scope{}, false},
		{"an empty list of names", sequence(tlv(inner(0), tlv(inner(0), nil))), Scope{}, false},
		{"a name and more", sequence(tlv(inner(0), longer(tlv(inner(0), names("ua"))))), Scope{}, false},
		{"the wrong order", sequence(flag(2, 0xff), flag(1, 0xff)), Scope{}, false},
		{"something else", sequence(flag(6, 0xff)), Scope{}, false},
		{"a byte more", longer(sequence()), Scope{}, false},
		{"no sequence", []byte{5, 0}, Scope{}, false},
		{"cut", cut(sequence(flag(1, 0xff))), Scope{}, false},
	} {
		got, err := ScopeOf(&x509.RevocationList{RawIssuer: issuer, Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 20}, Value: []byte{5, 0}}, {Id: oidIssuingDistributionPoint, Value: c.der}}})
		if (err == nil) != c.ok || c.ok && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.what, got, err)
		}
	}
	if s, err := ScopeOf(&x509.RevocationList{}); err != nil || !reflect.DeepEqual(s, Scope{Reasons: AllReasons}) {
		t.Errorf("no extension: %+v, %v", s, err)
	}
}

// The distribution points of a certificate are read whole, or not at all.
func TestPoints(t *testing.T) {
	name := tlv(inner(0), tlv(inner(0), names("ua")))
	goesOn := tlv(inner(0), tlv(inner(1), sequence(tlv(tags.OBJECT_IDENTIFIER, []byte{0x55, 4, 3}), tlv(tags.UTF8String, []byte("1")))))
	reasons := tlv(tags.Tag(1).ContextSpecific(), []byte{0, 0x60})
	issuers := tlv(inner(2), names("nother", "nthird"))
	ca, other, third := cn(tags.UTF8String, "ca"), cn(tags.UTF8String, "other"), cn(tags.UTF8String, "third")
	behind := func(issuer string) []general {
		return []general{{formDN, nameOf([]value{{oidCN, tags.UTF8String, issuer}}, []value{{oidCN, tags.UTF8String, "1"}})}}
	}
	last := Point{Reasons: AllReasons}
	uri := []general{{formURI, []byte("a")}}
	for _, c := range []struct {
		what string
		der  []byte
		want []Point // nil: cannot be read
	}{
		{"a name", sequence(sequence(name)), []Point{{names: uri, Reasons: AllReasons}, last}},
		{"two", sequence(sequence(name, reasons), sequence(issuers)), []Point{{names: uri, Reasons: 6}, {Reasons: AllReasons, Issuers: [][]byte{other, third}}, last}},
		{"all", sequence(sequence(name, reasons, issuers)), []Point{{names: uri, Reasons: 6, Issuers: [][]byte{other, third}}, last}},
		{"a name behind the certificate's issuer", sequence(sequence(goesOn)), []Point{{names: behind("ca"), Reasons: AllReasons}, last}},
		{"a name behind the list's issuer", sequence(sequence(goesOn, issuers)), []Point{{names: behind("other"), Reasons: AllReasons, Issuers: [][]byte{other, third}}, last}},
		{"none", sequence(), []Point{last}},
		{"neither name nor issuer", sequence(sequence(reasons)), nil},
		{"an empty one", sequence(sequence()), nil},
		{"no issuer", sequence(sequence(tlv(inner(2), nil))), nil},
		{"an issuer that is no directory name", sequence(sequence(tlv(inner(2), names("dx")))), nil},
		{"issuers that are cut", sequence(sequence(tlv(inner(2), cut(names("nother"))))), nil},
		{"issuers of which one is none", sequence(sequence(tlv(inner(2), append(names("nother"), 5, 0)))), nil},
		{"no name", sequence(sequence(tlv(inner(0), nil))), nil},
		{"reasons that are none", sequence(sequence(name, tlv(tags.Tag(1).ContextSpecific(), nil))), nil},
		{"more in it", sequence(sequence(name, tlv(inner(3), nil))), nil},
		{"a byte in it", sequence(longer(sequence(name))), nil},
		{"the wrong order", sequence(sequence(issuers, name)), nil},
		{"no point", sequence(names("ua")), nil},
		{"no sequence", names("ua"), nil},
		{"a byte more", longer(sequence(sequence(name))), nil},
	} {
		got, err := Points(&x509.Certificate{RawIssuer: ca, Extensions: []pkix.Extension{{Id: oidDistributionPoints, Value: c.der}}})
		if (err == nil) != (c.want != nil) || err == nil && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.what, got, err)
		}
	}
}

// Which certificates a CRL is about.
func TestCovers(t *testing.T) {
	ca, other := cn(tags.UTF8String, "ca"), cn(tags.UTF8String, "other")
	uri := func(list ...string) (g []general) {
		for _, s := range list {
			g = append(g, general{formURI, []byte(s)})
		}
		return g
	}
	for _, c := range []struct {
		what   string
		scope  Scope
		point  Point
		isCA   bool
		issuer []byte
		want   Reasons
	}{
		{"everything", Scope{Reasons: 6}, Point{Reasons: 12}, false, ca, 4},
		{"of another issuer", Scope{Reasons: 6}, Point{Reasons: 6}, false, other, 0},
		{"of one that the point names", Scope{Indirect: true, Reasons: 6}, Point{Issuers: [][]byte{ca, other}, Reasons: 6}, false, other, 6},
		{"of one that the point names, and not indirect", Scope{Reasons: 6}, Point{Issuers: [][]byte{other}, Reasons: 6}, false, other, 0},
		{"of one that the point does not name", Scope{Indirect: true, Reasons: 6}, Point{Issuers: [][]byte{other}, Reasons: 6}, false, ca, 0},
		{"indirect, and its own", Scope{Indirect: true, Reasons: 6}, Point{Reasons: 6}, false, ca, 6},
		{"users", Scope{users: true, Reasons: 6}, Point{Reasons: 6}, false, ca, 6},
		{"users, of an authority", Scope{users: true, Reasons: 6}, Point{Reasons: 6}, true, ca, 0},
		{"authorities", Scope{cas: true, Reasons: 6}, Point{Reasons: 6}, true, ca, 6},
		{"authorities, of a user", Scope{cas: true, Reasons: 6}, Point{Reasons: 6}, false, ca, 0},
		{"attributes", Scope{attribute: true, Reasons: 6}, Point{Reasons: 6}, false, ca, 0},
		{"a name of both", Scope{named: true, names: uri("x", "HTTP://A/b"), Reasons: 6}, Point{names: uri("y", "http://a/b"), Reasons: 6}, false, ca, 6},
		{"other names", Scope{named: true, names: uri("x", "y"), Reasons: 6}, Point{names: uri("z", "a"), Reasons: 6}, false, ca, 0},
		{"no name in the point", Scope{named: true, names: uri("x"), Reasons: 6}, Point{Reasons: 6}, false, ca, 0},
		{"the name of the point's issuer", Scope{named: true, names: []general{{formDN, other}}, Indirect: true, Reasons: 6}, Point{Issuers: [][]byte{ca, other}, Reasons: 6}, false, ca, 6},
		{"no name in the scope", Scope{Reasons: 6}, Point{names: uri("x"), Reasons: 6}, false, ca, 6},
	} {
		if got := c.scope.Covers(&x509.Certificate{RawIssuer: ca, BasicConstraintsValid: true, IsCA: c.isCA}, c.point, c.issuer); got != c.want {
			t.Errorf("%s: %b, want %b", c.what, got, c.want)
		}
	}
}

func TestEntryIssuers(t *testing.T) {
	for what, c := range map[string]struct {
		der  []byte
		want int // 0: cannot be read
	}{
		"one": {sequence(names("na")), 1}, "two and another": {sequence(names("na", "db", "nc")), 2}, "none": {sequence(), 0}, "no directory name": {sequence(names("da")), 0},
		"a byte more": {longer(sequence(names("na"))), 0}, "cut": {cut(sequence(names("na"))), 0}, "no sequence": {names("na"), 0}, "half a name": {sequence(cut(names("na"))), 0},
	} {
		if got, ok := EntryIssuers(c.der); ok != (c.want > 0) || ok && len(got) != c.want {
			t.Errorf("%s: %x, %v", what, got, ok)
		}
	}
}

// So many names and constraints that nobody would have them are refused.
func TestComparisonsAreBounded(t *testing.T) {
	k := constraints{permitted: make([]general, 1000)}
	if err := k.allow(make([]general, maxComparisons/1000+1)); err == nil || !strings.Contains(err.Error(), "too many names") {
		t.Errorf("%v", err)
	}
	k.excluded, k.permitted = []general{{form: formDNS}}, k.permitted[:999]
	if err := k.allow(make([]general, maxComparisons/1000)); err == nil || strings.Contains(err.Error(), "too many names") {
		t.Errorf("as many as may be: %v", err)
	}
}

// FuzzExtensions: extensions that we read ourselves are read or refused.
func FuzzExtensions(f *testing.F) {
	for _, s := range []string{
		"3012a0103006820461a12e63a10630048202622e",                             // name constraints
		"3020301ea01ca01a8618687474703a2f2f63726c2e6578616d706c652f312e63726c", // distribution points
		"300ea00aa0088606687474703a2f8101ff",                                   // issuing distribution point
		"300c8704c0000201820261628100",                                         // names
	} {
		b, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &x509.Certificate{RawSubject: tlv(0x30, nil), RawIssuer: tlv(0x30, nil), Extensions: []pkix.Extension{
			{Id: oidNameConstraints, Value: b}, {Id: oidDistributionPoints, Value: b}, {Id: oidSubjectAltName, Value: b}}}
		if points, err := Points(c); err == nil && (len(points) == 0 || points[len(points)-1].Reasons != AllReasons) {
			t.Error("there is no point for the whole list")
		}
		names, err := namesOf(c)
		if k, e := constraintsOf(c); e == nil && err == nil {
			_ = k.allow(names)
		}
		scope, err := ScopeOf(&x509.RevocationList{RawIssuer: c.RawIssuer, Extensions: []pkix.Extension{{Id: oidIssuingDistributionPoint, Critical: true, Value: b}}})
		if err == nil {
			scope.Covers(c, Point{Reasons: AllReasons}, c.RawIssuer)
		}
		EntryIssuers(b)
	})
}
