package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/netip"
	"slices"
	"testing"

	"culvert/crypto/pki"
	"culvert/ike/core"
	"culvert/internal/testing/testcert"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Key is the same where Same is true, and tells others apart.
func TestKey(t *testing.T) {
	dn := func(s string) string {
		der, err := pki.ParseDN(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(der)
	}
	ids := []core.ID{
		{Type: core.IDFQDN, Data: "gate.example"}, {Type: core.IDFQDN, Data: "GATE.Example"}, {Type: core.IDFQDN, Data: "gate.example.org"},
		{Type: core.IDFQDN, Data: "\u212aelvin"}, {Type: core.IDFQDN, Data: "kelvin"}, {Type: core.IDFQDN, Data: "ma\u017f"}, {Type: core.IDFQDN, Data: "MAS"},
		{Type: core.IDUser, Data: "gate.example"}, {Type: core.IDUser, Data: "a@b"}, {Type: core.IDUser, Data: "A@b"},
		{Type: core.IDIPv4, Data: "\x0a\x00\x00\x01"}, {Type: core.IDIPv4, Data: "\x0a\x00\x00\x02"},
		{Type: core.IDDN, Data: dn("CN=gate, O=Example")}, {Type: core.IDDN, Data: dn("cn=GATE,o=example")}, {Type: core.IDDN, Data: dn("CN=gate")},
		{Type: core.IDDN, Data: "no name"}, {Type: core.IDDN, Data: pki.DNKey([]byte(dn("CN=gate")))}, {},
	}
	same := 0
	for _, a := range ids {
		for _, b := range ids {
			if Same(a, b) != (Key(a) == Key(b)) && !(a.Type == core.IDDN && b.Type == core.IDDN) {
				t.Errorf("%v and %v: same %v, keys %q and %q", a, b, Same(a, b), Key(a), Key(b))
			}
			if Same(a, b) && Key(a) != Key(b) {
				t.Errorf("%v and %v are the same, and their keys are %q and %q", a, b, Key(a), Key(b))
			}
			if a != b && Same(a, b) {
				same++
			}
		}
	}
	if same != 6 {
		t.Errorf("%d pairs are the same, not 6", same)
	}
	if Same(ids[14], ids[16]) {
		t.Error("the key of a name is taken for the name")
	}
}

// Names that differ in anything but the case of ASCII letters and the spaces of a
// DN are names of different peers.
func TestNamesThatDiffer(t *testing.T) {
	name := func(t core.IDType, s string) core.ID { return core.ID{Type: t, Data: s} }
	t61 := func(s string) core.ID { return name(core.IDDN, "0\x111\x0f0\x0d\x06\x03U\x04\x03\x14\x06"+s) }
	for _, c := range [][2]core.ID{
		{name(core.IDFQDN, "m\xfcller.example"), name(core.IDFQDN, "m\xf6ller.example")},
		{name(core.IDUser, "m\xfcller@example.net"), name(core.IDUser, "m\xf6ller@example.net")},
		{name(core.IDFQDN, "m\xfcller.example"), name(core.IDFQDN, "m\ufffdller.example")},
		{name(core.IDFQDN, "\u212a.example"), name(core.IDFQDN, "k.example")}, // KELVIN SIGN
		{name(core.IDUser, "\u017f@example.net"), name(core.IDUser, "s@example.net")},
		{t61("M\xfcller"), t61("M\xf6ller")},
		{auth4in6(), AddressID(netip.MustParseAddr("10.9.0.2"))},
	} {
		if Same(c[0], c[1]) || Same(c[1], c[0]) || Key(c[0]) == Key(c[1]) {
			t.Errorf("%v is the same as %v", c[0], c[1])
		}
	}
}

func auth4in6() core.ID {
	a := netip.MustParseAddr("::ffff:10.9.0.2").As16()
	return core.ID{Type: core.IDIPv6, Data: string(a[:])}
}

// A certificate proves the names that stand in it, octet for octet but for the case
// of ASCII letters: its issuer was asked about those and no others.
func TestProvesWhatWasChecked(t *testing.T) {
	root := testcert.Root("root", "p256")
	names := testcert.With(func(c *x509.Certificate) {
		a := netip.MustParseAddr("::ffff:10.9.0.2").As16()
		san := cryptobyte.NewBuilder(nil)
		san.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.Tag(7).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(a[:]) })
			b.AddASN1(asn1.Tag(2).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte("Kiosk.example")) })
			b.AddASN1(asn1.Tag(1).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte("Kim@example.net")) })
		})
		c.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 17}, Value: san.BytesOrPanic()}}
	})
	leaf := root.Leaf("leaf", "p256", names).Cert
	for _, c := range []struct {
		id     core.ID
		proves bool
	}{
		{AddressID(netip.MustParseAddr("10.9.0.2")), false},
		{auth4in6(), true},
		{core.ID{Type: core.IDFQDN, Data: "kiosk.EXAMPLE"}, true},
		{core.ID{Type: core.IDFQDN, Data: "\u212aiosk.example"}, false},
		{core.ID{Type: core.IDUser, Data: "kim@example.net"}, true},
		{core.ID{Type: core.IDUser, Data: "\u212aim@example.net"}, false},
	} {
		if Proves(leaf, c.id) != c.proves {
			t.Errorf("the certificate proves %v: %t", c.id, !c.proves)
		}
	}
	if got := Names(leaf); !slices.Contains(got, "address:::ffff:10.9.0.2") || slices.Contains(got, "address:10.9.0.2") {
		t.Errorf("the names are %q", got)
	}
}
