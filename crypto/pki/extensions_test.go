package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
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

// So many names and constraints that nobody would have them are refused.
func TestComparisonsAreBounded(t *testing.T) {
	k := constraints{permitted: make([]general, 1000)}
	if err := k.allow(make([]general, 251)); err == nil || !strings.Contains(err.Error(), "too many names") {
		t.Errorf("%v", err)
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
