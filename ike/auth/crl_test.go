package auth

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"culvert/crypto/pki"
	"culvert/internal/testing/testcert"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"
)

// element encodes a value of a tag of the context: constructed of parts, or of bytes.
func element(n uint8, parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tags.Tag(n).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
		for _, p := range parts {
			b.AddBytes(p)
		}
	})
	return b.BytesOrPanic()
}

func primitive(n uint8, value string) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tags.Tag(n).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
	return b.BytesOrPanic()
}

func sequence(parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, p := range parts {
			b.AddBytes(p)
		}
	})
	return b.BytesOrPanic()
}

// Parts of extensions (RFC 5280 §4.2.1.13, §5.2.5).
func fullName(names ...[]byte) []byte { return element(0, element(0, names...)) }
func uriName(u string) []byte         { return primitive(6, u) }
func dirName(der []byte) []byte       { return element(4, der) }

var (
	onlyUsers = primitive(1, "\xff")
	onlyCAs   = primitive(2, "\xff")
	onlySome  = primitive(3, "\x05\x60") // keyCompromise, cACompromise
	indirect  = primitive(4, "\xff")
	onlyAttrs = primitive(5, "\xff")
)

func issuing(parts ...[]byte) pkix.Extension {
	return pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: sequence(parts...)}
}

// points are the distribution points of a certificate, each the parts of one.
func points(list ...[]byte) testcert.Option {
	return testcert.With(func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 31}, Value: sequence(list...)})
	})
}

// listBy makes a CRL: number, extensions and entries.
func listBy(p *testcert.Pair, number int64, extensions []pkix.Extension, entries ...x509.RevocationListEntry) []byte {
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour),
		ExtraExtensions: extensions, RevokedCertificateEntries: entries}, p.Cert, p.Key)
	if err != nil {
		panic(err)
	}
	return der
}

func entry(p *testcert.Pair, extensions ...pkix.Extension) x509.RevocationListEntry {
	return x509.RevocationListEntry{SerialNumber: p.Cert.SerialNumber, RevocationTime: now.Add(-time.Hour), ExtraExtensions: extensions}
}

func certificateIssuer(names ...[]byte) pkix.Extension {
	return pkix.Extension{Id: oidCertificateIssuer, Critical: true, Value: sequence(names...)}
}

// What a list says about a certificate depends on what the list is about.
func TestScopeOfCRLs(t *testing.T) {
	root := testcert.Root("root", "p256")
	const own, other = "http://crl.example/user-7.crl", "http://crl.example/user-3.crl"
	leaf := root.Leaf("leaf", "p256", testcert.CRLAt(own))
	plain := root.Leaf("plain", "p256")
	mid := root.Intermediate("mid", "p256", testcert.CRLAt(own))
	some := root.Leaf("some", "p256", points(sequence(fullName(uriName(own)), primitive(1, "\x05\x60")), sequence(fullName(uriName(other)), primitive(1, "\x00\x1f\x80"))))
	unknown := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}
	because := func(e x509.RevocationListEntry, reason int) x509.RevocationListEntry {
		e.ReasonCode = reason
		return e
	}
	delta := func(since byte) pkix.Extension {
		return pkix.Extension{Id: oidDeltaCRL, Critical: true, Value: []byte{2, 1, since}}
	}
	ext := func(e ...pkix.Extension) []pkix.Extension { return e }
	for _, c := range []struct {
		what  string
		leaf  *testcert.Pair
		lists [][]byte
		want  string // of the refusal; empty: let in
	}{
		{"its own shard", leaf, [][]byte{listBy(root, 1, ext(issuing(fullName(uriName(own)))))}, ""},
		{"its own shard, in capitals", leaf, [][]byte{listBy(root, 1, ext(issuing(fullName(uriName("HTTP://CRL.example/user-7.crl")))))}, ""},
		{"its own shard, revoked", leaf, [][]byte{listBy(root, 1, ext(issuing(fullName(uriName(own)))), entry(leaf))}, "was revoked on"},
		{"one of two names", leaf, [][]byte{listBy(root, 1, ext(issuing(fullName(uriName(other), uriName(own)))))}, ""},
		{"another shard", leaf, [][]byte{listBy(root, 1, ext(issuing(fullName(uriName(other)))))}, "about other certificates"},
		{"another shard beside its own", leaf, [][]byte{listBy(root, 1, ext(issuing(fullName(uriName(other))))), listBy(root, 1, ext(issuing(fullName(uriName(own)))), entry(leaf))}, "was revoked on"},
		{"a shard, of a certificate without", plain, [][]byte{listBy(root, 1, ext(issuing(fullName(uriName(own)))))}, "about other certificates"},
		{"the list of the issuer by name", plain, [][]byte{listBy(root, 1, ext(issuing(fullName(dirName(root.Cert.RawSubject)))))}, ""},
		{"a part by the name of the issuer, of a certificate with a point", leaf, [][]byte{listBy(root, 1, ext(issuing(fullName(dirName(root.Cert.RawSubject)))))}, "about other certificates"},
		{"all of the issuer's", leaf, [][]byte{listBy(root, 1, nil)}, ""},
		{"authorities alone", leaf, [][]byte{listBy(root, 1, ext(issuing(onlyCAs)))}, "about other certificates"},
		{"authorities alone, of an authority", mid, [][]byte{listBy(root, 1, ext(issuing(onlyCAs)))}, ""},
		{"users alone", leaf, [][]byte{listBy(root, 1, ext(issuing(onlyUsers)))}, ""},
		{"users alone, of an authority", mid, [][]byte{listBy(root, 1, ext(issuing(onlyUsers)))}, "about other certificates"},
		{"attribute certificates", leaf, [][]byte{listBy(root, 1, ext(issuing(onlyAttrs)))}, "about other certificates"},
		{"some reasons", leaf, [][]byte{listBy(root, 1, ext(issuing(onlySome)))}, "some reasons of revocation only"},
		{"some reasons, revoked", leaf, [][]byte{listBy(root, 1, ext(issuing(onlySome)), entry(leaf))}, "was revoked on"},
		{"all reasons in two lists", some, [][]byte{listBy(root, 1, ext(issuing(fullName(uriName(own)), onlySome))), listBy(root, 1, ext(issuing(fullName(uriName(other)))))}, ""},
		{"half of the reasons", some, [][]byte{listBy(root, 1, ext(issuing(fullName(uriName(own)), onlySome)))}, "some reasons of revocation only"},
		{"broken scope", leaf, [][]byte{listBy(root, 1, ext(pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: []byte{0x30, 1, 0}}))}, "cannot be read"},
		{"unknown critical extension", leaf, [][]byte{listBy(root, 1, ext(unknown))}, "critical extension 1.2.3"},
		{"unknown critical extension of an entry, in the list", leaf, [][]byte{listBy(root, 1, nil, entry(leaf, unknown))}, "was revoked on"},
		{"unknown critical extension of an entry, not in the list", leaf, [][]byte{listBy(root, 1, nil, entry(plain, unknown))}, "critical extension 1.2.3"},
		{"an entry of another issuer in a list that does not say so", leaf, [][]byte{listBy(root, 1, nil, entry(leaf, certificateIssuer(dirName(mid.Cert.RawSubject))))}, "entries of other issuers"},
		{"indirect, an entry of another issuer", leaf, [][]byte{listBy(root, 1, ext(issuing(indirect)), entry(leaf, certificateIssuer(dirName(mid.Cert.RawSubject))))}, ""},
		{"indirect, after an entry of another issuer", leaf, [][]byte{listBy(root, 1, ext(issuing(indirect)), entry(plain, certificateIssuer(dirName(mid.Cert.RawSubject))), entry(leaf))}, ""},
		{"indirect, an entry of its issuer", leaf, [][]byte{listBy(root, 1, ext(issuing(indirect)), entry(plain, certificateIssuer(dirName(mid.Cert.RawSubject))), entry(leaf, certificateIssuer(dirName(root.Cert.RawSubject))))}, "was revoked on"},
		{"changes alone", leaf, [][]byte{listBy(root, 2, ext(delta(1)))}, "only the changes"},
		{"revoked since", leaf, [][]byte{listBy(root, 1, nil), listBy(root, 2, ext(delta(1)), entry(leaf))}, "was revoked on"},
		{"revoked since a later list", leaf, [][]byte{listBy(root, 1, nil), listBy(root, 3, ext(delta(2)), entry(leaf))}, ""},
		{"revoked, and taken back before this list", leaf, [][]byte{listBy(root, 3, nil), listBy(root, 2, ext(delta(1)), entry(leaf))}, ""},
		{"the newest changes count", leaf, [][]byte{listBy(root, 1, nil), listBy(root, 3, ext(delta(1)), entry(leaf)), listBy(root, 2, ext(delta(1)))}, "was revoked on"},
		{"taken back since", leaf, [][]byte{listBy(root, 1, nil, because(entry(leaf), 6)), listBy(root, 2, ext(delta(1)), because(entry(leaf), 8))}, ""},
		{"changes of another scope", leaf, [][]byte{listBy(root, 1, nil), listBy(root, 2, ext(delta(1), issuing(onlyCAs)), entry(leaf))}, ""},
	} {
		a := authority(root)
		a.Strict, a.DistributionPoints = true, true
		for _, from := range []string{"file", "server"} {
			l := Link{Cert: c.leaf.Cert, Issuer: root.Cert, Authority: a}
			w := Revocation{Links: []Link{l}, Now: now}
			for _, der := range c.lists {
				if from == "file" {
					w.CRLs = append(w.CRLs, crlOf(t, der))
				} else {
					w.Got = append(w.Got, Got{Fetch: Fetch{URL: own, Limit: MaxCRL, Link: l}, Data: der})
				}
			}
			if c.want == "" {
				if unknown, err := w.Do(); err != nil || len(unknown) > 0 {
					t.Errorf("%s from a %s: %q, %v", c.what, from, string(unknown), err)
				}
			} else if r := refused(t, c.what+" from a "+from, w, "revocation"); !strings.Contains(r.Why, c.want) {
				t.Errorf("%s from a %s: %s, want %q", c.what, from, r.Why, c.want)
			}
		}
	}
}

// A list may be signed by another key than the certificate: by one of the issuer's
// own, or by somebody whom the distribution point names. That one has to be below
// the same authority, and not revoked.
func TestSignersOfCRLs(t *testing.T) {
	root, stranger := testcert.Root("root", "p256"), testcert.Root("root", "p256")
	ca := root.Intermediate("ca", "p256")
	lists := testcert.With(func(c *x509.Certificate) { c.KeyUsage, c.IsCA = x509.KeyUsageCRLSign, false })
	second := root.Intermediate("ca", "p256", lists) // the same name, a key for lists alone
	clerk := root.Intermediate("clerk", "p256", lists)
	idle := root.Intermediate("clerk", "p256", testcert.With(func(c *x509.Certificate) { c.KeyUsage, c.IsCA = x509.KeyUsageDigitalSignature, false }))
	foreign := stranger.Intermediate("clerk", "p256", lists)
	leaf := ca.Leaf("leaf", "p256")
	named := ca.Leaf("named", "p256", points(sequence(element(2, dirName(clerk.Cert.RawSubject)))))
	itself := root.Intermediate("itself", "p256", lists, testcert.With(func(c *x509.Certificate) {
		points(sequence(element(2, dirName(nameOf("itself")))))(c)
	}))
	byItself := ca.Leaf("byitself", "p256", points(sequence(element(2, dirName(itself.Cert.RawSubject)))))
	rootList := func(revoked ...*testcert.Pair) []byte {
		var all []x509.RevocationListEntry
		for _, r := range revoked {
			all = append(all, entry(r))
		}
		return listBy(root, 1, nil, all...)
	}
	by := func(p *testcert.Pair, revoked ...*testcert.Pair) []byte {
		var all []x509.RevocationListEntry
		for i, r := range revoked {
			e := entry(r)
			if i == 0 {
				e = entry(r, certificateIssuer(dirName(ca.Cert.RawSubject)))
			}
			all = append(all, e)
		}
		signer := *p.Cert
		signer.KeyUsage, signer.SubjectKeyId = signer.KeyUsage|x509.KeyUsageCRLSign, []byte("key") // what it may do is for us to find out
		return listBy(&testcert.Pair{Cert: &signer, Key: p.Key}, 1, []pkix.Extension{issuing(indirect)}, all...)
	}
	for _, c := range []struct {
		what  string
		leaf  *testcert.Pair
		known []*testcert.Pair
		lists [][]byte
		want  string
	}{
		{"the issuer's second key", leaf, []*testcert.Pair{second}, [][]byte{rootList(), by(second)}, ""},
		{"the issuer's second key, revoked by it", leaf, []*testcert.Pair{second}, [][]byte{rootList(), by(second, leaf)}, "was revoked on"},
		{"the issuer's second key, itself revoked", leaf, []*testcert.Pair{second}, [][]byte{rootList(second), by(second)}, "it is signed by a certificate that is not accepted"},
		{"the issuer's second key, not asked after", leaf, []*testcert.Pair{second}, [][]byte{by(second)}, "it is signed by a certificate that is not accepted"},
		{"the issuer's second key, not known", leaf, nil, [][]byte{rootList(), by(second)}, "signature is wrong"},
		{"named in the distribution point", named, []*testcert.Pair{clerk}, [][]byte{rootList(), by(clerk)}, ""},
		{"named in the distribution point, revoked by it", named, []*testcert.Pair{clerk}, [][]byte{rootList(), by(clerk, named)}, "was revoked on"},
		{"named in the distribution point, the second entry", named, []*testcert.Pair{clerk}, [][]byte{rootList(), by(clerk, leaf, named)}, "was revoked on"},
		{"named in the distribution point, with a list that is not indirect", named, []*testcert.Pair{clerk}, [][]byte{rootList(), listBy(&testcert.Pair{Cert: clerkWithKey(clerk), Key: clerk.Key}, 1, nil)}, "about other certificates"},
		{"not named", leaf, []*testcert.Pair{clerk}, [][]byte{rootList(), by(clerk)}, "another authority"},
		{"named, not for lists", named, []*testcert.Pair{idle}, [][]byte{rootList(), by(idle)}, "signature is wrong"},
		{"named, below another authority", named, []*testcert.Pair{foreign}, [][]byte{rootList(), by(foreign)}, "it is signed by a certificate that is not accepted"},
		{"named for itself", byItself, []*testcert.Pair{itself}, [][]byte{by(itself)}, ""},
		{"not named for itself", named, []*testcert.Pair{clerk}, [][]byte{by(clerk)}, "it is signed by a certificate that is not accepted"},
	} {
		a := authority(root)
		a.Strict, a.DistributionPoints = true, true
		l := Link{Cert: c.leaf.Cert, Issuer: ca.Cert, Authority: a, Known: []*x509.Certificate{ca.Cert, root.Cert}}
		for _, k := range c.known {
			l.Known = append(l.Known, k.Cert)
		}
		w := Revocation{Links: []Link{l}, Now: now}
		for _, der := range c.lists {
			w.Got = append(w.Got, Got{Fetch: Fetch{URL: "http://x/", Limit: MaxCRL, Link: l}, Data: der})
		}
		if c.want == "" {
			if unknown, err := w.Do(); err != nil || len(unknown) > 0 {
				t.Errorf("%s: %q, %v", c.what, string(unknown), err)
			}
			for i, g := range w.Got { // and such a list is kept
				if i == len(w.Got)-1 {
					if _, err := g.Check(g.Data, now); err != nil {
						t.Errorf("%s is not kept: %v", c.what, err)
					}
				}
			}
		} else if r := refused(t, c.what, w, "revocation"); !strings.Contains(r.Why, c.want) {
			t.Errorf("%s: %s, want %q", c.what, r.Why, c.want)
		}
	}
}

// clerkWithKey is a certificate with the key identifier that crypto/x509 wants of who signs lists.
func clerkWithKey(p *testcert.Pair) *x509.Certificate {
	c := *p.Cert
	c.SubjectKeyId = []byte("key")
	return &c
}

// nameOf is the subject that testcert gives.
func nameOf(cn string) []byte {
	der, err := pki.ParseDN("O=Culvert tests, CN=" + cn)
	if err != nil {
		panic(err)
	}
	return der
}

// An answer that does not say how long it is good counts for a day where everything
// has to be known, and else for ever.
func TestAnswersWithoutNextUpdate(t *testing.T) {
	root := testcert.Root("root", "p256")
	leaf := root.Leaf("leaf", "p256", testcert.OCSP("http://192.0.2.1/ocsp"), testcert.CRLAt("http://192.0.2.1/crl"))
	crl := func(at time.Time) []byte { return withoutNextUpdate(root, at) }
	response := func(at time.Time) []byte { return root.Answer(leaf, false, at, time.Time{}) }
	for _, c := range []struct {
		age    time.Duration
		strict bool
		maxAge time.Duration
		fresh  bool
	}{
		{23 * time.Hour, true, 0, true},
		{25 * time.Hour, true, 0, false},
		{3 * 365 * 24 * time.Hour, true, 0, false},
		{time.Hour, true, 30 * time.Minute, false},
		{25 * time.Hour, true, 48 * time.Hour, true},
		{3 * 365 * 24 * time.Hour, false, 0, true},
	} {
		a := authority(root)
		a.OCSP, a.DistributionPoints, a.Strict, a.MaxAge = true, true, c.strict, c.maxAge
		l := Link{Cert: leaf.Cert, Issuer: root.Cert, Authority: a}
		for _, f := range l.Fetches() {
			data := crl(now.Add(-c.age))
			if f.Request != nil {
				data = response(now.Add(-c.age))
			}
			unknown, err := Revocation{Links: []Link{l}, Got: []Got{{Fetch: f, Data: data}}, Now: now}.Do()
			if good := err == nil && len(unknown) == 0; good != c.fresh {
				t.Errorf("%s, %v old, strict %t, at most %v: %q, %v", f.URL, c.age, c.strict, c.maxAge, string(unknown), err)
			} else if !good && !strings.Contains(err.Error(), "crl-max-age") {
				t.Errorf("%s: %v does not name the key", f.URL, err)
			}
			until, err := f.Check(data, now)
			if (err == nil) != c.fresh || c.fresh && c.strict && !until.After(now) || !c.strict && !until.IsZero() {
				t.Errorf("%s, %v old, strict %t: kept until %v, %v", f.URL, c.age, c.strict, until, err)
			}
		}
	}
}

// withoutNextUpdate is a CRL without that field, which crypto/x509 does not make: its
// contents are put together anew and signed.
func withoutNextUpdate(p *testcert.Pair, at time.Time) []byte {
	whole := cryptobyte.String(listBy(p, 1, nil))
	var list, tbs, algorithm, issuer cryptobyte.String
	var version int
	if !whole.ReadASN1(&list, tags.SEQUENCE) || !list.ReadASN1(&tbs, tags.SEQUENCE) || !tbs.ReadASN1Integer(&version) ||
		!tbs.ReadASN1Element(&algorithm, tags.SEQUENCE) || !tbs.ReadASN1Element(&issuer, tags.SEQUENCE) || !tbs.SkipASN1(tags.UTCTime) || !tbs.SkipASN1(tags.UTCTime) {
		panic("the CRL of crypto/x509 has another form")
	}
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(int64(version))
		b.AddBytes(algorithm)
		b.AddBytes(issuer)
		b.AddASN1UTCTime(at)
		b.AddBytes(tbs)
	})
	signed := b.BytesOrPanic()
	digest := sha256.Sum256(signed)
	signature, err := p.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		panic(err)
	}
	return sequence(signed, algorithm, bitString(signature))
}

func bitString(b []byte) []byte {
	var out cryptobyte.Builder
	out.AddASN1BitString(b)
	return out.BytesOrPanic()
}

// An OCSP response is about one certificate of one issuer: a serial number alone says
// nothing, since other issuers give the same.
func TestOCSPOfAnotherIssuer(t *testing.T) {
	root := testcert.Root("root", "p256")
	other := root.Intermediate("other", "p256")
	leaf := root.Leaf("leaf", "p256", testcert.OCSP("http://192.0.2.1/ocsp"))
	renamed := *root.Cert
	renamed.RawSubject = other.Cert.RawSubject
	rekeyed := *other.Cert
	rekeyed.RawSubject = root.Cert.RawSubject
	a := authority(root)
	a.OCSP, a.Strict = true, true
	l := Link{Cert: leaf.Cert, Issuer: root.Cert, Authority: a}
	for _, c := range []struct {
		what   string
		issuer *x509.Certificate // as the response names it
		want   string
	}{
		{"of its issuer", root.Cert, ""},
		{"of another issuer with this serial number", other.Cert, "another issuer"},
		{"of another name with this key", &renamed, "another issuer"},
		{"of this name with another key", &rekeyed, "another issuer"},
	} {
		for _, status := range []int{ocsp.Good, ocsp.Revoked} {
			data, err := ocsp.CreateResponse(c.issuer, root.Cert, ocsp.Response{Status: status, SerialNumber: leaf.Cert.SerialNumber, ThisUpdate: now, NextUpdate: now.Add(time.Hour), RevokedAt: now}, root.Key)
			if err != nil {
				t.Fatal(err)
			}
			f := l.Fetches()[0]
			_, err = Revocation{Links: []Link{l}, Got: []Got{{Fetch: f, Data: data}}, Now: now}.Do()
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) || c.want == "" && (err == nil) != (status == ocsp.Good) {
				t.Errorf("%s, status %d: %v, want %q", c.what, status, err, c.want)
			}
			if _, err := f.Check(data, now); (err == nil) != (c.want == "") {
				t.Errorf("%s is kept: %v", c.what, err)
			}
		}
	}
}

// A list of changes that has expired, or that somebody else signed, changes nothing.
func TestOldChanges(t *testing.T) {
	root := testcert.Root("root", "p256")
	leaf := root.Leaf("leaf", "p256")
	back := entry(leaf)
	back.ReasonCode = removeFromCRL
	a := authority(root)
	a.Strict = true
	for _, c := range []struct {
		what string
		by   *testcert.Pair
		next time.Time
		more []pkix.Extension
		back bool
	}{
		{"current", root, now.Add(time.Hour), nil, true},
		{"with what may be passed over", root, now.Add(time.Hour), []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}}, true},
		{"with what has to be understood", root, now.Add(time.Hour), []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}, false},
		{"expired", root, now.Add(-time.Hour), nil, false},
		{"of a stranger", testcert.Root("root", "p256"), now.Add(time.Hour), nil, false},
	} {
		key := *c.by.Cert
		key.SubjectKeyId = root.Cert.SubjectKeyId
		changes, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(2), ThisUpdate: now.Add(-2 * time.Hour), NextUpdate: c.next,
			ExtraExtensions: append(c.more, pkix.Extension{Id: oidDeltaCRL, Critical: true, Value: []byte{2, 1, 1}}), RevokedCertificateEntries: []x509.RevocationListEntry{back}}, &key, c.by.Key)
		if err != nil {
			t.Fatal(err)
		}
		w := Revocation{Links: []Link{{Cert: leaf.Cert, Issuer: root.Cert, Authority: a}}, CRLs: []*x509.RevocationList{crlOf(t, listBy(root, 1, nil, entry(leaf))), crlOf(t, changes)}, Now: now}
		if _, err := w.Do(); (err == nil) != c.back {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// Whoever was charged with signing responses, and was revoked, signs no more; and what
// is signed with SHA-1 can revoke a certificate, and clear none.
func TestOCSPSigners(t *testing.T) {
	root := testcert.Root("root", "p256")
	leaf := root.Leaf("leaf", "p256", testcert.OCSP("http://192.0.2.1/ocsp"))
	delegate := root.Leaf("responder", "p256", testcert.EKU(x509.ExtKeyUsageOCSPSigning))
	idle := root.Leaf("responder", "p256", testcert.EKU(x509.ExtKeyUsageOCSPSigning), testcert.With(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }))
	strange := root.Leaf("responder", "p256", testcert.EKU(x509.ExtKeyUsageOCSPSigning), testcert.With(func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	}))
	a := authority(root)
	a.OCSP, a.Strict = true, true
	l := Link{Cert: leaf.Cert, Issuer: root.Cert, Authority: a}
	for _, c := range []struct {
		what   string
		by     *testcert.Pair
		with   x509.SignatureAlgorithm
		status int
		list   []x509.RevocationListEntry
		want   string
	}{
		{"a delegate", delegate, 0, ocsp.Good, nil, ""},
		{"a delegate that was revoked", delegate, 0, ocsp.Good, []x509.RevocationListEntry{entry(delegate)}, "it is signed by a certificate that is not accepted"},
		{"a delegate that may not sign", idle, 0, ocsp.Good, nil, "not for that"},
		{"a delegate with a critical extension", strange, 0, ocsp.Good, nil, "not for that"},
		{"SHA-1, good", delegate, x509.ECDSAWithSHA1, ocsp.Good, nil, "an algorithm that is not accepted (ECDSA-SHA1)"},
		{"SHA-1, revoked", delegate, x509.ECDSAWithSHA1, ocsp.Revoked, nil, "was revoked on"},
	} {
		data, err := ocsp.CreateResponse(root.Cert, c.by.Cert, ocsp.Response{Status: c.status, SerialNumber: leaf.Cert.SerialNumber, ThisUpdate: now, NextUpdate: now.Add(time.Hour),
			RevokedAt: now, Certificate: c.by.Cert, SignatureAlgorithm: c.with}, c.by.Key)
		if err != nil {
			t.Fatal(err)
		}
		w := Revocation{Links: []Link{l}, Got: []Got{{Fetch: l.Fetches()[0], Data: data}}, Now: now}
		if c.list != nil {
			// About authorities and users alike, but for the reasons: the leaf is not cleared by it.
			w.CRLs = append(w.CRLs, crlOf(t, listBy(root, 1, []pkix.Extension{issuing(onlySome)}, c.list...)))
		}
		if c.want == "" {
			if unknown, err := w.Do(); err != nil || len(unknown) > 0 {
				t.Errorf("%s: %q, %v", c.what, string(unknown), err)
			}
		} else if r := refused(t, c.what, w, "revocation"); !strings.Contains(r.Why, c.want) {
			t.Errorf("%s: %s, want %q", c.what, r.Why, c.want)
		}
	}
}

// A response with an extension that has to be understood and is not clears nobody.
func TestOCSPExtensions(t *testing.T) {
	root := testcert.Root("root", "p256")
	leaf := root.Leaf("leaf", "p256", testcert.OCSP("http://192.0.2.1/ocsp"))
	a := authority(root)
	a.OCSP, a.Strict = true, true
	l := Link{Cert: leaf.Cert, Issuer: root.Cert, Authority: a}
	plain, err := ocsp.ParseResponse(root.Answer(leaf, false, now, now.Add(time.Hour)), root.Cert)
	if err != nil {
		t.Fatal(err)
	}
	whole := cryptobyte.String(plain.TBSResponseData)
	var contents cryptobyte.String
	if !whole.ReadASN1(&contents, tags.SEQUENCE) {
		t.Fatal("the response has another form")
	}
	for critical, want := range map[string]string{"\x01\x01\x00": "", "\x01\x01\xff": "critical extension 1.2.3"} {
		tbs := sequence(contents, element(1, sequence(sequence([]byte("\x06\x02\x2a\x03"+critical+"\x04\x02\x05\x00")))))
		digest := sha256.Sum256(tbs)
		signature, err := root.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		var b cryptobyte.Builder
		b.AddASN1(tags.OCTET_STRING, func(b *cryptobyte.Builder) {
			b.AddBytes(sequence(tbs, sequence([]byte("\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02")), bitString(signature)))
		})
		data := sequence([]byte("\x0a\x01\x00"), element(0, sequence([]byte("\x06\x09\x2b\x06\x01\x05\x05\x07\x30\x01\x01"), b.BytesOrPanic())))
		_, err = Revocation{Links: []Link{l}, Got: []Got{{Fetch: l.Fetches()[0], Data: data}}, Now: now}.Do()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A CRL that is signed with SHA-1 can revoke a certificate, and clear none.
func TestWeakCRL(t *testing.T) {
	root := testcert.Root("root", "p256")
	leaf := root.Leaf("leaf", "p256")
	a := authority(root)
	a.Strict = true
	l := Link{Cert: leaf.Cert, Issuer: root.Cert, Authority: a}
	for _, c := range []struct {
		entries []x509.RevocationListEntry
		want    string
	}{
		{nil, "it is signed with ECDSA with SHA-1, which is not accepted"},
		{[]x509.RevocationListEntry{entry(leaf)}, "was revoked on"},
	} {
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour),
			SignatureAlgorithm: x509.ECDSAWithSHA1, RevokedCertificateEntries: c.entries}, root.Cert, root.Key)
		if err != nil {
			t.Fatal(err)
		}
		if r := refused(t, c.want, Revocation{Links: []Link{l}, CRLs: []*x509.RevocationList{crlOf(t, der)}, Now: now}, "revocation"); !strings.Contains(r.Why, c.want) {
			t.Errorf("%s, want %q", r.Why, c.want)
		}
	}
}

// A list that is about other certificates is kept for a moment, the right one until it is due.
func TestOtherListsAreNotKept(t *testing.T) {
	root := testcert.Root("root", "p256")
	mid := root.Intermediate("mid", "p256")
	leaf := root.Leaf("leaf", "p256", testcert.CRLAt("http://x/7"))
	a := authority(root)
	a.DistributionPoints = true
	f := Link{Cert: leaf.Cert, Issuer: root.Cert, Authority: a, Known: []*x509.Certificate{mid.Cert}}.Fetches()[0]
	for _, c := range []struct {
		what string
		list []byte
		keep time.Duration
	}{
		{"its own", listBy(root, 1, []pkix.Extension{issuing(fullName(uriName("http://x/7")))}), time.Hour},
		{"another shard", listBy(root, 1, []pkix.Extension{issuing(fullName(uriName("http://x/3")))}), keepOther},
		{"another authority's", listBy(mid, 1, nil), keepOther},
	} {
		if until, err := f.Check(c.list, now); err != nil || !until.Equal(now.Add(c.keep)) {
			t.Errorf("%s is kept until %v, %v", c.what, until, err)
		}
	}
}
