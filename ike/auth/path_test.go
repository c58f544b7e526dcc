package auth

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culvert/crypto/pki"
	"culvert/ike/core"
	"culvert/internal/testing/testcert"
)

// called is an authority that writes another name for itself into what it issues.
func called(p *testcert.Pair, der []byte) *testcert.Pair {
	c := *p.Cert
	c.RawSubject = der
	return &testcert.Pair{Cert: &c, Key: p.Key}
}

// entitled makes a certificate with a subject in DER.
func entitled(der []byte) testcert.Option {
	return testcert.With(func(c *x509.Certificate) { c.RawSubject = der })
}

func dnOf(t *testing.T, s string) []byte {
	t.Helper()
	der, err := pki.ParseDN(s)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// sans are the names of a certificate as they stand in it, whatever they are.
func sans(names ...[]byte) testcert.Option {
	return testcert.With(func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: sequence(names...)})
	})
}

// limits are name constraints: the permitted and the excluded subtrees.
func limits(permitted, excluded []byte) testcert.Option {
	return testcert.With(func(c *x509.Certificate) {
		var list [][]byte
		if permitted != nil {
			list = append(list, element(0, sequence(permitted)))
		}
		if excluded != nil {
			list = append(list, element(1, sequence(excluded)))
		}
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: true, Value: sequence(list...)})
	})
}

func pathLen(n int) testcert.Option {
	return testcert.With(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = n, n == 0 })
}

// Which chains are accepted, and which check refuses the others.
func TestChains(t *testing.T) {
	root := testcert.Root("root", "p256")
	mid := root.Intermediate("mid", "p256")
	short := root.Intermediate("short", "p256", pathLen(0))
	renewed := short.Again("short", testcert.Key("p256"), testcert.With(func(c *x509.Certificate) { // the same name, a new key
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
	}))
	below := short.Intermediate("below", "p256")
	noSign := root.Intermediate("nosign", "p256", testcert.With(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }))
	noCA := root.Leaf("noca", "p256")
	old := root.Intermediate("old", "p256", testcert.Valid(now.AddDate(-2, 0, 0), now.AddDate(-1, 0, 0)))
	staff := root.Intermediate("staff", "p256", limits(dirName(dnOf(t, "O=Culvert tests, OU=staff")), nil))
	noLab := root.Intermediate("nolab", "p256", limits(nil, dirName(dnOf(t, "o=CULVERT  tests, OU=lab"))))
	noTen := root.Intermediate("noten", "p256", limits(nil, primitive(7, "\x0a\x00\x00\x00\xff\x00\x00\x00")))
	six := root.Intermediate("six", "p256", limits(primitive(7, strings.Repeat("\x00", 32)), nil))
	mail := root.Intermediate("mail", "p256", limits(primitive(1, "example.com"), nil))
	noRoot := root.Intermediate("noroot", "p256", limits(nil, primitive(1, "root@example.com")))
	noUPN := root.Intermediate("noupn", "p256", limits(nil, element(0, []byte("\x06\x01\x2a\xa0\x02\x0c\x00"))))
	wide := root.Intermediate("wide", "p256", testcert.With(func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: true, Value: sequence(element(1, sequence(primitive(2, "example.com"), primitive(0, "\x01"))))}}
	}))
	asks := root.Intermediate("asks", "p256", testcert.With(func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: sequence(primitive(0, "\x00"))}}
	}))
	policy := testcert.With(func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 32}, Value: sequence(sequence([]byte("\x06\x02\x2a\x03")))})
	})
	asksToo := root.Intermediate("asks", "p256", policy, testcert.With(func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: sequence(primitive(0, "\x00"))})
	}))
	critical := func(arc int, value []byte) testcert.Option {
		return testcert.With(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, arc}, Critical: true, Value: value})
		})
	}
	mapped := netip.MustParseAddr("::ffff:10.9.0.2").As16()
	ip16 := primitive(7, string(mapped[:]))
	other := testcert.Root("root", "p256")
	latin := bytes.ReplaceAll(mid.Cert.RawSubject, []byte{0x13, 3, 'm', 'i', 'd'}, []byte{0x14, 3, 'm', 'i', 'd'}) // a T61String
	if bytes.Equal(latin, mid.Cert.RawSubject) {
		t.Fatal("the name is in another kind of string than was thought")
	}
	for _, c := range []struct {
		what  string
		leaf  *testcert.Pair
		known []*testcert.Pair
		check string // that refuses it; empty: accepted
		why   string
	}{
		{"plain", mid.Leaf("leaf", "p256"), []*testcert.Pair{mid}, "", ""},
		{"the issuer in another case and with other spaces", called(mid, dnOf(t, "O=culvert   TESTS , CN=MID")).Leaf("leaf", "p256"), []*testcert.Pair{mid}, "", ""},
		{"the issuer in another kind of string", called(mid, latin).Leaf("leaf", "p256"), []*testcert.Pair{mid}, "", ""},
		{"another issuer", called(mid, dnOf(t, "O=Culvert tests, CN=mi d")).Leaf("leaf", "p256"), []*testcert.Pair{mid}, "authority", "which no trusted certificate leads to"},
		{"another key of that name", other.Leaf("leaf", "p256"), nil, "authority", "has a signature that is not by the key"},
		{"below an end", noCA.Leaf("leaf", "p256"), []*testcert.Pair{noCA}, "authority", "is not that of an authority"},
		{"below one that may not issue", noSign.Leaf("leaf", "p256"), []*testcert.Pair{noSign}, "key usage", "may not issue certificates"},
		{"below one that expired", old.Leaf("leaf", "p256"), []*testcert.Pair{old}, "validity", "expired on"},
		{"not valid yet", root.Leaf("leaf", "p256", testcert.Valid(now.AddDate(1, 0, 0), now.AddDate(2, 0, 0))), nil, "validity", "not valid before"},
		{"path length 0", short.Leaf("leaf", "p256"), []*testcert.Pair{short}, "", ""},
		{"path length 0 and one below", below.Leaf("leaf", "p256"), []*testcert.Pair{short, below}, "authority", "allows 0 authorities below it, and there are 1"},
		{"path length 0 and a self-issued one below", renewed.Leaf("leaf", "p256"), []*testcert.Pair{short, renewed}, "", ""},
		{"in the permitted directory", staff.Leaf("x", "p256", entitled(dnOf(t, "O=culvert tests, OU=Staff, CN=leaf"))), []*testcert.Pair{staff}, "", ""},
		{"outside of the permitted directory", staff.Leaf("leaf", "p256"), []*testcert.Pair{staff}, "name", "is not permitted"},
		{"outside of the excluded directory", noLab.Leaf("leaf", "p256"), []*testcert.Pair{noLab}, "", ""},
		{"in the excluded directory", noLab.Leaf("x", "p256", entitled(dnOf(t, "O=Culvert tests, OU=lab, CN=leaf"))), []*testcert.Pair{noLab}, "name", "is excluded"},
		{"a directory name in the alternative names", noLab.Leaf("x", "p256", sans(dirName(dnOf(t, "O=Culvert tests, OU=lab, CN=leaf")))), []*testcert.Pair{noLab}, "name", "is excluded"},
		{"an address beside the excluded network", noTen.Leaf("leaf", "p256", testcert.With(func(c *x509.Certificate) { c.IPAddresses = []net.IP{{192, 0, 2, 1}} })), []*testcert.Pair{noTen}, "", ""},
		{"an excluded address", noTen.Leaf("leaf", "p256", testcert.With(func(c *x509.Certificate) { c.IPAddresses = []net.IP{{10, 9, 0, 2}} })), []*testcert.Pair{noTen}, "name", "10.9.0.2 is excluded"},
		{"an excluded address in 16 octets", noTen.Leaf("leaf", "p256", sans(ip16)), []*testcert.Pair{noTen}, "name", "10.9.0.2 is excluded"},
		{"an IPv4 address in 16 octets where IPv6 is permitted", six.Leaf("leaf", "p256", sans(ip16)), []*testcert.Pair{six}, "name", "10.9.0.2 is not permitted"},
		{"an IPv6 address where that is permitted", six.Leaf("leaf", "p256", testcert.IP("2001:db8::1")), []*testcert.Pair{six}, "", ""},
		{"mail at the permitted host", mail.Leaf("leaf", "p256", testcert.Email("a@Example.com")), []*testcert.Pair{mail}, "", ""},
		{"mail at a host below the permitted one", mail.Leaf("leaf", "p256", testcert.Email("a@mx.example.com")), []*testcert.Pair{mail}, "name", "is not permitted"},
		{"mail in the subject", mail.Leaf("x", "p256", entitled(dnOf(t, "CN=leaf, E=a@example.org"))), []*testcert.Pair{mail}, "name", "is not permitted"},
		{"another mailbox than the excluded one", noRoot.Leaf("leaf", "p256", testcert.Email("a@example.com")), []*testcert.Pair{noRoot}, "", ""},
		{"the excluded mailbox in capitals", noRoot.Leaf("leaf", "p256", testcert.Email("ROOT@example.com")), []*testcert.Pair{noRoot}, "name", "is excluded"},
		{"no name of the kind that cannot be judged", noUPN.Leaf("leaf", "p256"), []*testcert.Pair{noUPN}, "", ""},
		{"a name of the kind that cannot be judged", noUPN.Leaf("leaf", "p256", sans(primitive(2, "gw.example"), element(0, []byte("\x06\x01\x2a\xa0\x02\x0c\x00")))), []*testcert.Pair{noUPN}, "name", "not supported"},
		{"a constraint with a minimum", wide.Leaf("leaf", "p256"), []*testcert.Pair{wide}, "name", "cannot be read"},
		{"no policy where one is asked for", asks.Leaf("leaf", "p256"), []*testcert.Pair{asks}, "policy", "none of the certificate policies"},
		{"a policy where one is asked for", asksToo.Leaf("leaf", "p256", policy), []*testcert.Pair{asksToo}, "", ""},
		{"an unknown critical extension", root.Leaf("leaf", "p256", critical(99, []byte{5, 0})), nil, "extension", "critical extension 2.5.29.99"},
		{"name constraints of an end", root.Leaf("leaf", "p256", limits(nil, dirName(dnOf(t, "CN=x")))), nil, "extension", "is not that of an authority"},
		{"critical distribution points", root.Leaf("leaf", "p256", critical(31, sequence(sequence(fullName(uriName("http://x/")))))), nil, "", ""},
		{"critical distribution points that cannot be read", root.Leaf("leaf", "p256", critical(31, sequence(sequence(primitive(1, "\x01\x02"))))), nil, "extension", "cannot be read"},
	} {
		w := Verify{Certs: []*x509.Certificate{c.leaf.Cert}, Trust: &core.Trust{Authorities: []*core.Authority{authority(root)}}, Initiator: true, Now: now}
		for _, k := range c.known {
			w.Certs = append(w.Certs, k.Cert)
		}
		chain, err := w.chain()
		var r *Refusal
		switch {
		case c.check == "" && (err != nil || len(chain) != len(c.known)+2):
			t.Errorf("%s: %d certificates, %v", c.what, len(chain), err)
		case c.check != "" && (!errors.As(err, &r) || r.Check != c.check || !strings.Contains(r.Why, c.why) || r.Hint == ""):
			t.Errorf("%s: %v, want a refusal for %s: %s", c.what, err, c.check, c.why)
		}
	}
}

// A certificate of version 1 has no extensions: nobody would look at them.
func TestVersion1(t *testing.T) {
	root := testcert.Root("root", "p256")
	leaf := root.Leaf("leaf", "p256").Cert
	was, v1 := []byte{0xa0, 3, 2, 1, 2}, []byte{0xa0, 3, 2, 1, 0}
	tbs := bytes.Replace(leaf.RawTBSCertificate, was, v1, 1)
	digest := sha256.Sum256(tbs)
	signature, err := root.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	old, err := x509.ParseCertificate(sequence(tbs, sequence([]byte("\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02")), bitString(signature)))
	if err != nil || old.Version != 1 {
		t.Fatal(err)
	}
	_, err = Verify{Certs: []*x509.Certificate{old}, Trust: &core.Trust{Authorities: []*core.Authority{authority(root)}}, Now: now}.chain()
	var r *Refusal
	if !errors.As(err, &r) || r.Check != "extension" || !strings.Contains(r.Why, "version 1") {
		t.Errorf("%v", err)
	}
}

// The constraints of the trusted certificate itself count as well.
func TestTrustedConstraints(t *testing.T) {
	root := testcert.Root("root", "p256", limits(nil, primitive(2, "example.com")), pathLen(0))
	mid := root.Intermediate("mid", "p256")
	trust := &core.Trust{Authorities: []*core.Authority{authority(root)}}
	for _, c := range []struct {
		certs []*testcert.Pair
		check string
	}{
		{[]*testcert.Pair{root.Leaf("leaf", "p256", testcert.DNS("gw.example.net"))}, ""},
		{[]*testcert.Pair{root.Leaf("leaf", "p256", testcert.DNS("gw.EXAMPLE.com"))}, "name"},
		{[]*testcert.Pair{root.Leaf("leaf", "p256", testcert.DNS("*.com"))}, "name"},
		{[]*testcert.Pair{mid.Leaf("leaf", "p256"), mid}, "authority"},
	} {
		w := Verify{Trust: trust, Now: now}
		for _, p := range c.certs {
			w.Certs = append(w.Certs, p.Cert)
		}
		_, err := w.chain()
		var r *Refusal
		if c.check == "" && err != nil || c.check != "" && (!errors.As(err, &r) || r.Check != c.check) {
			t.Errorf("%v: %v, want %q", w.Certs[0].DNSNames, err, c.check)
		}
	}
}

// Many authorities of one name, with one key or with many, do not keep us busy.
func TestChainsAreBounded(t *testing.T) {
	root, stranger := testcert.Root("root", "p256"), testcert.Root("same", "p256")
	w := Verify{Trust: &core.Trust{Authorities: []*core.Authority{authority(root)}}, Now: now}
	ca := testcert.With(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign })
	keys := []crypto.Signer{stranger.Key}
	for range 8 {
		keys = append(keys, testcert.Key("p256"))
	}
	w.Certs = append(w.Certs, stranger.Leaf("leaf", "p256").Cert)
	for _, by := range keys { // each issues each
		issuer := *stranger.Cert
		issuer.PublicKey = by.Public()
		for _, k := range keys {
			w.Certs = append(w.Certs, (&testcert.Pair{Cert: &issuer, Key: by}).Again("same", k, ca).Cert)
		}
	}
	if _, err := w.chain(); err == nil || !strings.Contains(err.Error(), "too many certificates of the same names") {
		t.Errorf("a stranger's chain: %v", err)
	}
	var long []*x509.Certificate
	top := root
	for range 20 {
		top = top.Intermediate("ca"+string(rune('a'+len(long))), "p256")
		long = append(long, top.Cert)
	}
	w.Certs = append([]*x509.Certificate{top.Leaf("leaf", "p256").Cert}, long...)
	if chain, err := w.chain(); err == nil {
		t.Errorf("a chain of %d certificates was accepted", len(chain))
	}
}

func fileOf(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := pem.Decode(data)
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A chain that is signed by an algorithm that is not accepted is refused by that
// algorithm's name. The certificates are openssl's.
func TestRefusedAlgorithms(t *testing.T) {
	for name, want := range map[string]string{
		"ecdsa-sha1.pem":     "is signed with ECDSA with SHA-1",
		"ecdsa-sha3-256.pem": "is signed with ECDSA with SHA3-256",
		"rsa-sha3-512.pem":   "is signed with RSA with SHA3-512",
	} {
		w := Verify{Certs: []*x509.Certificate{fileOf(t, name)}, Now: fileOf(t, "root.pem").NotBefore.AddDate(1, 0, 0), Trust: &core.Trust{Authorities: []*core.Authority{
			{Name: "a", Cert: fileOf(t, "root.pem")}, {Name: "b", Cert: fileOf(t, "rsaroot.pem")}}}}
		_, err := w.chain()
		var r *Refusal
		if !errors.As(err, &r) || r.Check != "hash" || !strings.Contains(r.Why, want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		// Named in remote-certificate nobody has to believe the signature.
		w.Pinned = w.Certs[0]
		if chain, err := w.chain(); err != nil || len(chain) != 1 {
			t.Errorf("%s, pinned: %v", name, err)
		}
	}
}
