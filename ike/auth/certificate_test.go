package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"culvert/crypto/pki"
	"culvert/crypto/sign"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/testcert"

	"golang.org/x/crypto/ocsp"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func authority(p *testcert.Pair) *core.Authority {
	return &core.Authority{Name: p.Cert.Subject.CommonName, Cert: p.Cert}
}

func credential(p *testcert.Pair) *core.Credential {
	return &core.Credential{Name: "c", Chain: []*x509.Certificate{p.Cert}, Key: pki.NewKey(p.Key)}
}

// What is chosen for a key and a peer's hashes, made and checked again.
func TestChoose(t *testing.T) {
	root := testcert.Root("root", "p256")
	all := sign.Hashes
	for _, c := range []struct {
		key    string
		pss    bool
		hashes []sign.HashID
		want   string // of the scheme; else of the error
	}{
		{"rsa-2048", false, all, "rsa-sha256"},
		{"rsa-2048", true, all, "rsa-pss-sha256"},
		{"rsa-2048", false, []sign.HashID{sign.SHA512}, "rsa-sha512"},
		{"rsa-2048", true, []sign.HashID{sign.SHA384}, "rsa-pss-sha384"},
		{"rsa-2048", true, nil, "rsa-sha1"},
		{"rsa-2048", false, []sign.HashID{sign.SHA1}, "takes signatures with sha1 only"},
		{"p256", false, all, "ecdsa-sha256"},
		{"p384", false, all, "ecdsa-sha384"},
		{"p521", false, all, "ecdsa-sha512"},
		{"p521", false, []sign.HashID{sign.SHA256}, "ecdsa-sha256"},
		{"p256", false, nil, "ecdsa-256"},
		{"p384", false, nil, "ecdsa-384"},
		{"p521", false, nil, "ecdsa-521"},
		{"ed25519", false, all, "ed25519"},
		{"ed25519", false, []sign.HashID{sign.SHA256}, "takes signatures with sha256 only"},
		{"ed25519", false, nil, "no signatures by RFC 7427"},
	} {
		leaf := root.Leaf("leaf", c.key)
		own := credential(leaf)
		own.PSS = c.pss
		s, err := Choose(own, c.hashes)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s with %v: %v, want %s", c.key, c.hashes, err, c.want)
			}
			continue
		}
		if s.Name != c.want {
			t.Errorf("%s with %v: %s, want %s", c.key, c.hashes, s.Name, c.want)
		}
		w := Sign{Own: own, Scheme: s, Octets: []byte("octets")}
		data, err := w.Do()
		if err != nil {
			t.Errorf("%s: %v", s.Name, err)
			continue
		}
		v := Verify{Method: w.Method(), Data: data, Octets: w.Octets, Certs: []*x509.Certificate{leaf.Cert},
			Trust: &core.Trust{Authorities: []*core.Authority{authority(root)}}, Now: now}
		if _, err := v.Do(); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
		v.Octets = []byte("other")
		refused(t, s.Name+" over other octets", v, "signature")
		v.Octets = w.Octets
		for _, cut := range []int{0, 1, len(data) / 2, len(data) - 1} {
			v.Data = data[:cut]
			if _, err := v.Do(); err == nil {
				t.Errorf("%s cut at %d was taken", s.Name, cut)
			}
		}
		v.Data = data
		for _, m := range []uint8{1, 2, 9, 10, 11, 14, 77} {
			if v.Method = m; m != w.Method() {
				if _, err := v.Do(); err == nil && m != 14 {
					t.Errorf("%s was taken under method %d", s.Name, m)
				}
			}
		}
	}
}

func refused(t *testing.T, what string, w core.Work, check string) *Refusal {
	t.Helper()
	_, err := w.Do()
	var r *Refusal
	if !errors.As(err, &r) || r.Check != check {
		t.Errorf("%s: %v, want a refusal for %s", what, err, check)
		return &Refusal{}
	}
	return r
}

func TestHashes(t *testing.T) {
	list, ok := ParseHashes(HashNotify())
	if !ok || len(list) != len(sign.Hashes) || list[3] != sign.Identity {
		t.Errorf("%v", list)
	}
	for _, bad := range [][]byte{nil, {1}, {0, 1, 2}} {
		if _, ok := ParseHashes(bad); ok {
			t.Errorf("%x was taken", bad)
		}
	}
	if list, _ := ParseHashes(make([]byte, 10_000)); len(list) != maxHashes {
		t.Errorf("%d hashes are kept", len(list))
	}
}

func TestWeakKeysArePeersToo(t *testing.T) {
	root := testcert.Root("root", "p256")
	short := root.Leaf("short", "p224")
	if _, err := ReadCerts([]message.Payload{&message.Cert{Encoding: 4, Data: short.Cert.Raw}}); err == nil || !strings.Contains(err.Error(), "P-224") {
		t.Errorf("%v", err)
	}
	huge := *root.Cert
	huge.PublicKey = &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 20_000), E: 65537}
	if sign.CheckKey(huge.PublicKey) == nil {
		t.Error("an RSA key of 20000 bits was taken")
	}
}

// The key of an authority between, which stands in the configuration, is as good as those of a peer.
func TestWeakKeyInTheChain(t *testing.T) {
	root := testcert.Root("root", "p256")
	short := root.Intermediate("short", "p224")
	leaf := short.Leaf("leaf", "p256")
	s := sign.ByName("ecdsa-sha256")
	data, err := Sign{Own: credential(leaf), Scheme: s, Octets: []byte("octets")}.Do()
	if err != nil {
		t.Fatal(err)
	}
	refused(t, "a chain with a key of 224 bits", Verify{Method: MethodOf(s), Data: data, Octets: []byte("octets"), Certs: []*x509.Certificate{leaf.Cert},
		Trust: &core.Trust{Authorities: []*core.Authority{authority(root)}, Intermediates: []*x509.Certificate{short.Cert}}, Now: now}, "key")
}

func TestReadCerts(t *testing.T) {
	root := testcert.Root("root", "p256")
	leaf := root.Leaf("leaf", "p256")
	cert := func(b []byte) message.Payload { return &message.Cert{Encoding: 4, Data: b} }
	many := make([]message.Payload, 11)
	for i := range many {
		many[i] = cert(leaf.Cert.Raw)
	}
	big := []message.Payload{cert(leaf.Cert.Raw), cert(make([]byte, 40<<10)), cert(make([]byte, 30<<10))}
	for _, c := range []struct {
		what string
		in   []message.Payload
		n    int
		err  string
	}{
		{"none", nil, 0, ""},
		{"two", []message.Payload{cert(leaf.Cert.Raw), cert(root.Cert.Raw)}, 2, ""},
		{"other encodings", []message.Payload{&message.Cert{Encoding: 12, Data: []byte("hash and url")}, cert(leaf.Cert.Raw)}, 1, ""},
		{"a broken one behind", []message.Payload{cert(leaf.Cert.Raw), cert([]byte{0x30, 0x03})}, 1, ""},
		{"a broken one first", []message.Payload{cert(leaf.Cert.Raw[:50]), cert(leaf.Cert.Raw)}, 0, "cannot be used"},
		{"eleven", many, 0, "more than 10"},
		{"70 KiB", big, 0, "more than 64 KiB"},
	} {
		got, err := ReadCerts(c.in)
		if c.err == "" && (err != nil || len(got) != c.n) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %d, %v", c.what, len(got), err)
		}
	}
}

func TestRequests(t *testing.T) {
	a, b := testcert.Root("a", "p256"), testcert.Root("b", "p256")
	trust := &core.Trust{Authorities: []*core.Authority{authority(a), authority(a), authority(b)}}
	r := Request(trust)
	if len(r.Data) != 40 {
		t.Fatalf("%d bytes", len(r.Data))
	}
	got := ReadRequests([]message.Payload{&message.CertReq{Encoding: 7, Data: make([]byte, 20)}, r, &message.CertReq{Encoding: 4, Data: []byte("short")}})
	if len(got) != 2 || got[1] != Hash(b.Cert) {
		t.Errorf("%x", got)
	}
	if Request(nil) != nil || Request(&core.Trust{}) != nil {
		t.Error("nobody is trusted and asked for")
	}
	own := credential(a.Leaf("leaf", "p256"))
	if !Under(own, trust, got[:1]) || Under(own, trust, got[1:]) || Under(own, nil, got) {
		t.Error("Under")
	}
}

// crlOf parses a list.
func crlOf(t *testing.T, der []byte) *x509.RevocationList {
	t.Helper()
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestCRLs(t *testing.T) {
	root, stranger := testcert.Root("root", "p256"), testcert.Root("root", "p256")
	good, bad := root.Leaf("good", "p256"), root.Leaf("bad", "p256")
	fresh, stale, early := root.CRL(now.Add(-time.Hour), now.Add(time.Hour), bad), root.CRL(now.Add(-48*time.Hour), now.Add(-24*time.Hour), bad), root.CRL(now.Add(time.Hour), now.Add(2*time.Hour))
	other := testcert.Root("other", "p256").CRL(now.Add(-time.Hour), now.Add(time.Hour))
	// A list of what has changed since another one (RFC 5280 §5.2.4) alone says nothing.
	delta, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(2), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}}, root.Cert, root.Key)
	if err != nil {
		t.Fatal(err)
	}
	foreign := stranger.CRL(now.Add(-time.Hour), now.Add(time.Hour), good)
	a := authority(root)
	a.CRLs = []string{"http://192.0.2.1/root.crl"}
	strict := *a
	strict.Strict = true
	got := func(l Link, data []byte, err error) []Got {
		return []Got{{Fetch: l.Fetches()[0], Data: data, Err: err}}
	}
	for _, c := range []struct {
		what    string
		leaf    *testcert.Pair
		a       *core.Authority
		files   [][]byte
		data    []byte
		err     error
		refused bool
		unknown string
	}{
		{what: "fetched, not in it", leaf: good, a: a, data: fresh},
		{what: "fetched, in it", leaf: bad, a: a, data: fresh, refused: true},
		{what: "file, not in it", leaf: good, a: a, files: [][]byte{fresh}, err: errors.New("no answer")},
		{what: "file, in it", leaf: bad, a: a, files: [][]byte{fresh}, err: errors.New("no answer"), refused: true},
		{what: "a file of a stranger of the same name", leaf: good, a: &strict, files: [][]byte{foreign}, data: fresh},
		{what: "fetched, signed by a stranger", leaf: good, a: a, data: foreign, unknown: "its signature is wrong"},
		{what: "fetched, signed by a stranger, strict", leaf: good, a: &strict, data: foreign, refused: true},
		{what: "stale", leaf: bad, a: a, data: stale, unknown: "was good until"},
		{what: "stale, strict", leaf: good, a: &strict, data: stale, refused: true},
		{what: "from the future", leaf: good, a: a, data: early, unknown: "from the future"},
		{what: "of another authority", leaf: good, a: a, data: other, unknown: "of another authority"},
		{what: "changes alone", leaf: bad, a: a, data: delta, unknown: "critical extension 2.5.29.27"},
		{what: "changes alone, strict", leaf: good, a: &strict, data: delta, refused: true},
		{what: "no CRL", leaf: good, a: a, data: []byte("<html>"), unknown: "no CRL"},
		{what: "unavailable", leaf: good, a: a, err: errors.New("no answer within 5s"), unknown: "no answer within 5s"},
		{what: "unavailable, strict", leaf: good, a: &strict, err: errors.New("no answer within 5s"), refused: true},
	} {
		l := Link{Cert: c.leaf.Cert, Issuer: root.Cert, Authority: c.a}
		w := Revocation{Links: []Link{l}, Got: got(l, c.data, c.err), Now: now}
		for _, f := range c.files {
			w.CRLs = append(w.CRLs, crlOf(t, f))
		}
		if c.refused {
			refused(t, c.what, w, "revocation")
			continue
		}
		unknown, err := w.Do()
		if err != nil || c.unknown == "" && len(unknown) > 0 || !strings.Contains(string(unknown), c.unknown) {
			t.Errorf("%s: %q, %v; want %q", c.what, string(unknown), err, c.unknown)
		}
	}
	// What is fetched is kept only if it passes.
	f := Link{Cert: good.Cert, Issuer: root.Cert, Authority: a}.Fetches()[0]
	if until, err := f.Check(fresh, now); err != nil || !until.Equal(now.Add(time.Hour)) {
		t.Errorf("until %v, %v", until, err)
	}
	for _, data := range [][]byte{stale, foreign, nil} {
		if _, err := f.Check(data, now); err == nil {
			t.Error("a list that does not pass is kept")
		}
	}
}

func TestOCSP(t *testing.T) {
	root := testcert.Root("root", "p256")
	server := testcert.With(func(c *x509.Certificate) { c.OCSPServer = []string{"ldap://x/", "http://192.0.2.1/ocsp"} })
	leaf := root.Leaf("leaf", "p256", server)
	delegate := root.Leaf("responder", "p256", testcert.EKU(x509.ExtKeyUsageOCSPSigning))
	former := root.Leaf("former responder", "p256", testcert.EKU(x509.ExtKeyUsageOCSPSigning), testcert.Valid(now.Add(-48*time.Hour), now.Add(-24*time.Hour)))
	impostor := root.Leaf("any other", "p256")
	a := authority(root)
	a.OCSP = true
	l := Link{Cert: leaf.Cert, Issuer: root.Cert, Authority: a}
	fetches := l.Fetches()
	if len(fetches) != 1 || fetches[0].URL != "http://192.0.2.1/ocsp" {
		t.Fatalf("%v", fetches)
	}
	if req, err := ocsp.ParseRequest(fetches[0].Request); err != nil || req.SerialNumber.Cmp(leaf.Cert.SerialNumber) != 0 {
		t.Errorf("the request is for %v, %v", req, err)
	}
	response := func(status int, by *testcert.Pair, at time.Time, serial *big.Int) []byte {
		tmpl := ocsp.Response{Status: status, SerialNumber: serial, ThisUpdate: at, NextUpdate: at.Add(time.Hour), RevokedAt: at}
		if by != root {
			tmpl.Certificate = by.Cert
		}
		b, err := ocsp.CreateResponse(root.Cert, by.Cert, tmpl, by.Key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	serial := leaf.Cert.SerialNumber
	for _, c := range []struct {
		what    string
		data    []byte
		refused bool
		unknown string
	}{
		{"good", response(ocsp.Good, root, now, serial), false, ""},
		{"good by a delegate", response(ocsp.Good, delegate, now, serial), false, ""},
		{"revoked", response(ocsp.Revoked, root, now, serial), true, ""},
		{"revoked by a delegate", response(ocsp.Revoked, delegate, now, serial), true, ""},
		{"good by another certificate", response(ocsp.Good, impostor, now, serial), false, "not for that"},
		{"good by a delegate whose certificate has expired", response(ocsp.Good, former, now, serial), false, "not for that"},
		{"not known", response(ocsp.Unknown, root, now, serial), false, "does not know"},
		{"stale", response(ocsp.Good, root, now.Add(-3*time.Hour), serial), false, "was good until"},
		{"another certificate", response(ocsp.Good, root, now, big.NewInt(7)), false, "cannot be used"},
		{"rubbish", []byte("rubbish"), false, "cannot be used"},
	} {
		w := Revocation{Links: []Link{l}, Got: []Got{{Fetch: fetches[0], Data: c.data}}, Now: now}
		if c.refused {
			refused(t, c.what, w, "revocation")
			continue
		}
		unknown, err := w.Do()
		if err != nil || c.unknown == "" && len(unknown) > 0 || !strings.Contains(string(unknown), c.unknown) {
			t.Errorf("%s: %q, %v; want %q", c.what, string(unknown), err, c.unknown)
		}
		for i := 0; i < len(c.data); i += 7 {
			w.Got[0].Data = c.data[:i]
			if unknown, err := w.Do(); err != nil || len(unknown) == 0 {
				t.Errorf("%s cut at %d says %q, %v", c.what, i, string(unknown), err)
			}
		}
	}
}

// FuzzCertificates: what a peer can send in CERT, CERTREQ, AUTH and the notify
// ends in a refusal or in nothing, never in a panic, and is never believed.
func FuzzCertificates(f *testing.F) {
	root := testcert.Root("root", "p256")
	leaf := testcert.Root("stranger", "p256").Leaf("leaf", "p256")
	own := credential(leaf)
	s, err := Choose(own, sign.Hashes)
	if err != nil {
		f.Fatal(err)
	}
	data, err := Sign{Own: own, Scheme: s, Octets: []byte("octets")}.Do()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(leaf.Cert.Raw, []byte(data), uint8(14), HashNotify())
	f.Add(leaf.Cert.Raw, []byte(data), uint8(1), []byte{0})
	f.Add([]byte{0x30}, []byte{0}, uint8(9), bytes.Repeat([]byte{1}, 40))
	trust := &core.Trust{Authorities: []*core.Authority{authority(root)}}
	f.Fuzz(func(t *testing.T, cert, auth []byte, method uint8, hashes []byte) {
		ReadRequests([]message.Payload{&message.CertReq{Encoding: EncodingX509, Data: hashes}})
		ParseHashes(hashes)
		certs, err := ReadCerts([]message.Payload{&message.Cert{Encoding: EncodingX509, Data: cert}, &message.Cert{Encoding: EncodingX509, Data: hashes}})
		if err != nil || len(certs) == 0 {
			return
		}
		Names(certs[0])
		Proves(certs[0], NameOf(certs[0]))
		if _, err := (Verify{Method: method, Data: auth, Octets: []byte("octets"), Certs: certs, Trust: trust, Now: now}).Do(); err == nil {
			t.Error("a stranger was believed")
		}
	})
}

// FuzzRevocation: what came from the addresses of a CRL or of an OCSP responder is read
// or refused, and nothing that the authority did not sign clears or blames anybody.
func FuzzRevocation(f *testing.F) {
	root := testcert.Root("root", "p256")
	leaf := root.Leaf("leaf", "p256", testcert.OCSP("http://192.0.2.1/ocsp"), testcert.CRLAt("http://192.0.2.1/crl"))
	stranger := testcert.Root("root", "p256")
	a := authority(root)
	a.OCSP, a.DistributionPoints = true, true
	link := Link{Cert: leaf.Cert, Issuer: root.Cert, Authority: a}
	fetches := link.Fetches()
	if len(fetches) != 2 {
		f.Fatal(fetches)
	}
	f.Add(stranger.CRL(now, now.Add(time.Hour), leaf))
	f.Add(stranger.Answer(leaf, false, now, now.Add(time.Hour)))
	for _, genuine := range [][]byte{root.CRL(now, now.Add(time.Hour), leaf), root.Answer(leaf, true, now, now.Add(time.Hour))} {
		genuine[len(genuine)-1] ^= 1
		f.Add(genuine)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, fetch := range fetches {
			if _, err := fetch.Check(data, now); err == nil {
				t.Fatal("believed")
			}
			unknown, err := Revocation{Links: []Link{link}, Got: []Got{{Fetch: fetch, Data: data}}, Now: now}.Do()
			if err != nil || len(unknown) == 0 {
				t.Fatalf("%q, %v", string(unknown), err)
			}
		}
	})
}

// SUPPORTED_AUTH_METHODS (RFC 9593): the first RSA signature in it counts.
func TestAnnouncesPSS(t *testing.T) {
	announced := func(names ...string) (b []byte) {
		for _, name := range names {
			for i := range sign.Schemes {
				if s := &sign.Schemes[i]; s.Name == name {
					d := sign.AppendDigital(nil, s, []byte{0})
					algorithm := d[1 : 1+int(d[0])]
					b = append(append(b, byte(3+len(algorithm)), sign.MethodDigital, 1), algorithm...)
				}
			}
		}
		return b
	}
	pkcs1, pss, ecdsa := "", "", ""
	for _, s := range sign.Schemes {
		if s.Method == 0 && s.HashID == sign.SHA256 {
			switch s.Family {
			case sign.RSA:
				pkcs1 = s.Name
			case sign.RSAPSS:
				pss = s.Name
			case sign.ECDSA:
				ecdsa = s.Name
			}
		}
	}
	for _, c := range []struct {
		data []byte
		want bool
	}{
		{nil, false}, {[]byte{2, 2}, false}, {[]byte{3, 14, 0}, false}, {announced(pkcs1), false}, {announced(ecdsa), false},
		{announced(pss), true}, {announced(ecdsa, pss, pkcs1), true}, {announced(pkcs1, pss), false},
		{append([]byte{2, 2, 3, 1, 1}, announced(pss)...), true}, {announced(pss)[:20], false}, {append([]byte{0}, announced(pss)...), false},
	} {
		if got := AnnouncesPSS(c.data); got != c.want {
			t.Errorf("%x: %v", c.data, got)
		}
	}
}
