package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"culvert/internal/testing/testcert"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
	"software.sslmate.com/src/go-pkcs12"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

var isAuthority = testcert.With(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign })

func certsOf(pairs ...*testcert.Pair) (list []*x509.Certificate) {
	for _, p := range pairs {
		list = append(list, p.Cert)
	}
	return list
}

// wantFault checks that a path is refused for a reason; an empty one: it is not, and has n certificates.
func wantFault(t *testing.T, what string, path []*x509.Certificate, err error, n int, why string) {
	t.Helper()
	var fault *PathError
	switch {
	case why == "" && (err != nil || len(path) != n):
		t.Errorf("%s: %d certificates, %v, want %d", what, len(path), err, n)
	case why != "" && (!errors.As(err, &fault) || !strings.Contains(fault.Why, why)):
		t.Errorf("%s: %v, want %q", what, err, why)
	}
}

func TestPath(t *testing.T) {
	root := testcert.Root("root", "p256")
	leaf := root.Leaf("leaf", "p256")
	// Two authorities of one key and different names are two.
	mid := root.Again("mid", root.Key, isAuthority)
	below := mid.Leaf("leaf", "p256")
	path, err := Path(below.Cert, certsOf(root), certsOf(mid), now)
	wantFault(t, "one key for two names", path, err, 3, "")

	path, err = Path(leaf.Cert, certsOf(leaf), nil, now)
	wantFault(t, "an anchor itself", path, err, 1, "")
	path, err = Path(leaf.Cert, certsOf(leaf), nil, testcert.Until.AddDate(1, 0, 0))
	wantFault(t, "an anchor that expired", path, err, 0, "expired on")
	path, err = Path(leaf.Cert, certsOf(root), nil, leaf.Cert.NotBefore)
	wantFault(t, "the first moment", path, err, 2, "")
	path, err = Path(leaf.Cert, certsOf(root), nil, leaf.Cert.NotAfter)
	wantFault(t, "the last moment", path, err, 2, "")

	// Of two faults that came equally close the first is told; of others the closest.
	noCA := testcert.SelfSigned("root", "p256")
	noSign := testcert.Root("root", "p256", testcert.With(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }))
	old := root.Again("root", root.Key, isAuthority, testcert.Valid(now.AddDate(-2, 0, 0), now.AddDate(-1, 0, 0)))
	path, err = Path(leaf.Cert, certsOf(noCA, noSign), nil, now)
	wantFault(t, "two that may not", path, err, 0, "is not that of an authority")
	path, err = Path(leaf.Cert, certsOf(noSign, noCA), nil, now)
	wantFault(t, "two that may not, exchanged", path, err, 0, "may not issue certificates")
	path, err = Path(leaf.Cert, certsOf(noSign, old, noCA), nil, now)
	wantFault(t, "and one that expired", path, err, 0, "expired on")

	// The longest path that is looked for, and one more.
	var pool []*x509.Certificate
	top := root
	for n := range maxPath {
		if n >= maxPath-3 {
			why := ""
			if n+2 > maxPath {
				why = "which no trusted certificate leads to"
			}
			path, err = Path(top.Leaf("leaf", "p256").Cert, certsOf(root), pool, now)
			wantFault(t, strconv.Itoa(n)+" intermediates", path, err, n+2, why)
		}
		top = top.Intermediate("ca"+strconv.Itoa(n), "p256")
		pool = append(pool, top.Cert)
	}
}

// How many authorities there may be below one that says so.
func TestPathLength(t *testing.T) {
	for most := range 3 {
		root := testcert.Root("root", "p256")
		top := root.Intermediate("top", "p256", testcert.With(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = most, most == 0 }))
		pool, last := certsOf(top), top
		for n := range 4 {
			why := ""
			if n > most {
				why = "allows " + strconv.Itoa(most) + " authorities below it, and there are " + strconv.Itoa(n)
			}
			path, err := Path(last.Leaf("leaf", "p256").Cert, certsOf(root), pool, now)
			wantFault(t, "", path, err, n+3, why)
			last = last.Intermediate("ca"+strconv.Itoa(n), "p256")
			pool = append(pool, last.Cert)
		}
	}
}

// Name constraints are for the authorities below as for the end; one that issues itself anew is not asked.
func TestConstraintsAlongAPath(t *testing.T) {
	root := testcert.Root("root", "p256")
	top := root.Intermediate("top", "p256", testcert.With(func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.net"}, true
	}))
	for _, c := range []struct {
		what, between, leaf, why string
		self                     bool
	}{
		{"all within", "ca.example.net", "gw.example.net", "", false},
		{"an authority outside", "ca.example.com", "gw.example.net", "has a name that its authority may not give", false},
		{"the end outside", "ca.example.net", "gw.example.com", "has a name that its authority may not give", false},
		{"one that issues itself anew", "ca.example.com", "gw.example.net", "", true},
	} {
		between := top.Intermediate("between", "p256", testcert.DNS(c.between))
		n := 4
		if c.self {
			between = top.Again("top", testcert.Key("p256"), isAuthority, testcert.DNS(c.between))
		}
		leaf := between.Leaf("leaf", "p256", testcert.DNS(c.leaf))
		path, err := Path(leaf.Cert, certsOf(root), certsOf(top, between), now)
		wantFault(t, c.what, path, err, n, c.why)
	}
}

// version makes a certificate of another version, with or without its extensions.
func version(t *testing.T, issuer *testcert.Pair, c *x509.Certificate, number byte, extensions bool) *x509.Certificate {
	t.Helper()
	in := cryptobyte.String(c.RawTBSCertificate)
	var tbs cryptobyte.String
	in.ReadASN1(&tbs, tags.SEQUENCE)
	var fields []byte
	for first := true; !tbs.Empty(); first = false {
		var e cryptobyte.String
		var tag tags.Tag
		if !tbs.ReadAnyASN1Element(&e, &tag) {
			t.Fatal("the certificate cannot be read")
		}
		switch {
		case first && number == 1: // the default is not written
		case first:
			fields = append(fields, tlv(inner(0), tlv(tags.INTEGER, []byte{number - 1}))...)
		case tag == inner(3) && !extensions:
		default:
			fields = append(fields, e...)
		}
	}
	signed := tlv(tags.SEQUENCE, fields)
	digest := sha256.Sum256(signed)
	signature, err := issuer.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(sequence(signed, sequence([]byte("\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02")), tlv(tags.BIT_STRING, append([]byte{0}, signature...))))
	if err != nil || made.Version != int(number) {
		t.Fatal(err)
	}
	return made
}

// A certificate of version 1 or 2 has no extensions: nobody would look at them.
func TestVersions(t *testing.T) {
	root := testcert.Root("root", "p256")
	leaf := root.Leaf("leaf", "p256")
	for _, number := range []byte{1, 2, 3} {
		path, err := Path(version(t, root, leaf.Cert, number, false), certsOf(root), nil, now)
		wantFault(t, "without extensions", path, err, 2, "")
		why := "is of version " + strconv.Itoa(int(number)) + " and has extensions"
		if number == 3 {
			why = ""
		}
		path, err = Path(version(t, root, leaf.Cert, number, true), certsOf(root), nil, now)
		wantFault(t, "with extensions", path, err, 2, why)
	}
}

// What cannot be read is refused where it is critical, and where it is not is not used.
func TestCriticalExtensions(t *testing.T) {
	root := testcert.Root("root", "p256")
	for _, c := range []struct {
		arc      int
		value    []byte
		critical bool
		why      string
	}{
		{31, sequence(sequence(tlv(tags.Tag(1).ContextSpecific(), []byte{1, 2}))), true, "has critical CRL distribution points that cannot be read"},
		{31, sequence(sequence(tlv(tags.Tag(1).ContextSpecific(), []byte{1, 2}))), false, ""},
		{31, sequence(sequence(tlv(inner(0), tlv(inner(0), names("uhttp://x/"))))), true, ""},
		{99, []byte{5, 0}, true, "has the critical extension 2.5.29.99"},
		{99, []byte{5, 0}, false, ""},
	} {
		leaf := root.Leaf("leaf", "p256", testcert.With(func(t *x509.Certificate) {
			t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 98}, Critical: false, Value: []byte{5, 0}},
				pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, c.arc}, Critical: c.critical, Value: c.value})
		}))
		path, err := Path(leaf.Cert, certsOf(root), nil, now)
		wantFault(t, strconv.Itoa(c.arc), path, err, 2, c.why)
	}
}

func TestQuoted(t *testing.T) {
	long := strings.Repeat("x", 200)
	for s, want := range map[string]string{"": `""`, "a\nü": `"a\n\u00fc"`, long: `"` + long + `"`, long + "y": `"` + long + `\u2026"`} {
		if got := Quoted(s); got != want {
			t.Errorf("%.10q, %d bytes: %s", s, len(s), got)
		}
	}
}

// A key fits one public key, and none fits none.
func TestKeyFits(t *testing.T) {
	a, b := testcert.Key("p256"), testcert.Key("ed25519")
	one, two, none := NewKey(a), NewKey(b), Key{}
	for what, c := range map[string]struct{ got, want bool }{
		"its own": {one.Fits(a.Public()), true}, "another": {one.Fits(b.Public()), false}, "no key": {none.Fits(a.Public()), false}, "what is no key": {one.Fits("x"), false},
		"equal": {one.Equal(NewKey(a)), true}, "not equal": {one.Equal(two), false}, "both absent": {none.Equal(Key{}), true}, "one absent": {one.Equal(none), false}, "the other absent": {none.Equal(one), false},
		"without its private part": {one.Equal(WithoutPrivate(a.Public())), true}, "present": {one.Present(), true}, "absent": {none.Present(), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v", what, c.got)
		}
	}
	if _, err := WithoutPrivate(a.Public()).Signer().Sign(rand.Reader, make([]byte, 32), crypto.SHA256); err == nil {
		t.Error("it signs without its private part")
	}
}

// Keys and files that are what they say, and of no use here.
func TestReadNoUse(t *testing.T) {
	root := testcert.Root("root", "p256")
	agree, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(agree)
	if err != nil {
		t.Fatal(err)
	}
	open, err := pkcs12.Modern.Encode(root.Key, root.Cert, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	cert := block("CERTIFICATE", root.Cert.Raw)
	for _, c := range []struct {
		what, want string // of the error; empty: none
		data, key  []byte
	}{
		{"a key that cannot sign", "cannot sign", append(bytes.Clone(cert), block("PRIVATE KEY", der)...), nil},
		{"a key file that cannot sign", "key-file: the private key is of a kind that cannot sign", cert, block("PRIVATE KEY", der)},
		{"a key encrypted in the older way", "openssl pkcs8 -topk8", append(bytes.Clone(cert), []byte("-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: DES-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n")...), nil},
		{"DER that is neither", "neither a certificate in DER nor PKCS#12", sequence(tlv(tags.INTEGER, []byte{3})), nil},
		{"PKCS#12 with an empty passphrase", "", open, nil},
		{"as many certificates as may be", "", bytes.Repeat(cert, maxCerts), nil},
		{"one more", "more than 1000 certificates", bytes.Repeat(cert, maxCerts+1), nil},
	} {
		_, err := Read(c.data, c.key, nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
	if !strings.Contains(errIterations.Error(), " "+strconv.Itoa(maxIterations)+" times") {
		t.Errorf("%v, and it is %d", errIterations, maxIterations)
	}
}

// A chain that is sent has an end.
func TestChainIsBounded(t *testing.T) {
	top := testcert.Root("root", "p256")
	pool := certsOf(top)
	for n := range maxChain + 1 {
		top = top.Intermediate("ca"+strconv.Itoa(n), "p256")
		pool = append(pool, top.Cert)
		if got := len(Chain(top.Cert, pool)); got != min(n+1, maxChain) {
			t.Errorf("%d authorities: a chain of %d", n+1, got)
		}
	}
	// Two that issued each other.
	a, b := testcert.Root("a", "p256"), testcert.Root("b", "p256")
	ab, ba := a.Again("b", b.Key, isAuthority), b.Again("a", a.Key, isAuthority)
	if got := Chain(ab.Cert, certsOf(ab, ba)); len(got) != 2 {
		t.Errorf("a circle: a chain of %d", len(got))
	}
}

// encrypted is a private key in PKCS#8 with PBES2.
type encrypted struct {
	scheme, kdf, prf, cipher, iv, data []byte
	salt                               []byte
	iterations, length                 []byte // integers; nil: absent
}

func oid(s string) []byte { return tlv(tags.OBJECT_IDENTIFIER, []byte(s)) }

func integer(b ...byte) []byte { return tlv(tags.INTEGER, b) }

func (e encrypted) der() []byte {
	var prf []byte
	if e.prf != nil {
		prf = sequence(e.prf, []byte{5, 0})
	}
	kdf := sequence(e.kdf, sequence(tlv(tags.OCTET_STRING, e.salt), e.iterations, e.length, prf))
	return sequence(sequence(e.scheme, sequence(kdf, sequence(e.cipher, tlv(tags.OCTET_STRING, e.iv)))), tlv(tags.OCTET_STRING, e.data))
}

// How a key is encrypted is checked before anything is hashed, wherever it is wrong.
func TestEncryptedKeyIsChecked(t *testing.T) {
	const aes256 = "\x60\x86\x48\x01\x65\x03\x04\x01\x2a"
	good := func() encrypted {
		return encrypted{scheme: oid(oidPBES2), kdf: oid(oidPBKDF2), prf: oid("\x2a\x86\x48\x86\xf7\x0d\x02\x09"), cipher: oid(aes256), iv: make([]byte, 16), data: make([]byte, 32),
			salt: []byte("salt"), iterations: integer(5)}
	}
	const read = "read" // it is decrypted; what comes out is noise or padding
	for _, c := range []struct {
		what   string
		change func(*encrypted)
		want   string
	}{
		{"as it is", func(*encrypted) {}, read},
		{"with the length of the key", func(e *encrypted) { e.length = integer(32) }, read},
		{"with another length", func(e *encrypted) { e.length = integer(16) }, "cannot be read"},
		{"with no length", func(e *encrypted) { e.length = integer(0) }, read},
		{"with a length that is none", func(e *encrypted) { e.length = integer(1, 2, 3, 4, 5, 6, 7, 8, 9) }, "cannot be read"},
		{"with the default hash", func(e *encrypted) { e.prf = nil }, read},
		{"with an unknown hash", func(e *encrypted) { e.prf = oid("\x2a\x03") }, "cannot be read"},
		{"with no hash", func(e *encrypted) { e.prf = integer(1) }, "cannot be read"},
		{"another scheme", func(e *encrypted) { e.scheme = oid("\x2a\x03") }, "in a way that is not supported"},
		{"no scheme", func(e *encrypted) { e.scheme = integer(1) }, "cannot be read"},
		{"another derivation", func(e *encrypted) { e.kdf = oid("\x2a\x03") }, "not PBKDF2"},
		{"no derivation", func(e *encrypted) { e.kdf = integer(1) }, "not PBKDF2"},
		{"another cipher", func(e *encrypted) { e.cipher = oid("\x2a\x03") }, "with the cipher 2a03"},
		{"no cipher", func(e *encrypted) { e.cipher = integer(1) }, "with the cipher "},
		{"a vector of 15 bytes", func(e *encrypted) { e.iv = e.iv[:15] }, "cannot be read"},
		{"a vector of 17 bytes", func(e *encrypted) { e.iv = make([]byte, 17) }, "cannot be read"},
		{"no data", func(e *encrypted) { e.data = nil }, "cannot be read"},
		{"half a block", func(e *encrypted) { e.data = e.data[:24] }, "cannot be read"},
		{"one block", func(e *encrypted) { e.data = e.data[:16] }, read},
		{"no iteration", func(e *encrypted) { e.iterations = integer(0) }, "cannot be read"},
		{"one iteration", func(e *encrypted) { e.iterations = integer(1) }, read},
		{"as many as may be", func(e *encrypted) { e.iterations = integer(9) }, read},
		{"one too many", func(e *encrypted) { e.iterations = integer(10) }, errIterations.Error()},
		{"a negative one", func(e *encrypted) { e.iterations = integer(0xff) }, "cannot be read"},
		{"none said", func(e *encrypted) { e.iterations = nil }, "cannot be read"},
	} {
		e := good()
		c.change(&e)
		_, err := decryptPKCS8(e.der(), []byte("pass"), 9)
		if c.want == read && err != nil && !errors.Is(err, ErrPassphrase) || c.want != read && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %s", c.what, err, c.want)
		}
	}
	whole := good().der()
	for n := range whole {
		if _, err := decryptPKCS8(whole[:n], []byte("pass"), 9); err == nil || errors.Is(err, ErrPassphrase) {
			t.Errorf("%d bytes of it: %v", n, err)
		}
	}
}
