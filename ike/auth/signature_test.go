package auth

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/sign"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/testcert"
)

// side is the IKE SA of a proof: it answers each Ask at once, what the system would fetch from web.
type side struct {
	id     *core.Identity
	peer   core.ID
	certs  []*x509.Certificate
	faulty error // of the certificates
	hashes []sign.HashID
	ppk    bool // a proof without PPK is wanted, too
	trust  *core.Trust
	ours   bool // we are the initiator
	web    map[string][]byte

	asked   []string
	until   time.Time
	again   bool // others are asked each time
	reports []string
	refusal *core.Mismatch
	err     error
}

var signed = Signed{Message: []byte("message"), Nonce: []byte("nonce"), IDBody: []byte("\x02\x00\x00\x00gw"), SKp: secret.Bytes("SK_p")}

func (s *side) Identity() *core.Identity            { return s.id }
func (s *side) PeerID() core.ID                     { return s.peer }
func (s *side) PRF() *suite.PRF                     { return suite.PRFByName("sha256") }
func (s *side) Hashes() []sign.HashID               { return s.hashes }
func (s *side) PSS() bool                           { return false }
func (s *side) Certs() ([]*x509.Certificate, error) { return s.certs, s.faulty }
func (s *side) Certified(t time.Time, asked bool)   { s.until, s.again = t, asked }
func (s *side) Trust() *core.Trust                  { return s.trust }
func (s *side) Ours() bool                          { return s.ours }
func (s *side) Now() time.Time                      { return now }
func (s *side) Proved(ok bool) bool                 { return ok }
func (s *side) Place(_ any, key string) string      { return "x.toml:" + key }
func (s *side) Signed(ours bool) Signed             { return signed }
func (s *side) PPK() *core.PPK                      { return nil }
func (s *side) CheckedWithoutPPK() ([]byte, Signed, bool) {
	return nil, Signed{}, false
}
func (s *side) SignedWithoutPPK() (Signed, bool) {
	x := signed
	x.Message = []byte("without")
	return x, s.ppk
}
func (s *side) Ask(w core.Work, done func(secret.Bytes, error) error) {
	s.asked = append(s.asked, fmt.Sprintf("%T", w))
	data, err := w.Do()
	if f, ok := w.(Fetch); ok {
		if data, err = s.web[f.URL], nil; data == nil {
			err = errors.New("nobody is there")
		}
	}
	if e := done(data, err); e != nil {
		s.err = e
	}
}
func (s *side) Refuse(d *core.Mismatch, format string, a ...any) error {
	s.refusal = d
	s.err = fmt.Errorf(format, a...)
	return s.err
}
func (s *side) Report(_ core.EventKind, format string, a ...any) {
	s.reports = append(s.reports, fmt.Sprintf(format, a...))
}

// The peer's proof by a certificate, from its AUTH payload on: what is asked, what is reported, and
// why it is refused.
func TestSignatureCheck(t *testing.T) {
	root, other := testcert.Root("root", "p256"), testcert.Root("other", "p256")
	mid := root.Intermediate("mid", "p256", testcert.Valid(testcert.From, now.AddDate(1, 0, 0)))
	leaf := mid.Leaf("leaf", "p256", testcert.DNS("gw.example"), testcert.OCSP("http://ocsp.example"), testcert.CRLAt("http://crl.example"))
	weak := root.Leaf("weak", "rsa-1024", testcert.DNS("gw.example"))
	strange := other.Leaf("leaf", "p256", testcert.DNS("gw.example"))
	gw := core.ID{Type: core.IDFQDN, Data: "gw.example"}
	before, after := now.Add(-time.Hour), now.Add(time.Hour)
	good, bad := mid.Answer(leaf, false, before, after), mid.Answer(leaf, true, before, after)
	free, revokes := mid.CRL(before, after), mid.CRL(before, after, leaf)
	asks := func(change func(*core.Authority)) *core.Trust {
		a := authority(root)
		change(a)
		return &core.Trust{Authorities: []*core.Authority{a}, CRLs: nil}
	}
	trust := asks(func(*core.Authority) {})
	const verified, fetched, judged = "auth.Verify", "auth.Fetch", "auth.Revocation"
	for _, c := range []struct {
		name   string
		pair   *testcert.Pair
		change func(s *side)
		asked  []string
		again  bool
		report string
		err    string // "": it is proved
		part   string // of the refusal
		where  string
	}{
		{"good", leaf, func(*side) {}, []string{verified}, false, "", "", "", ""},
		{"a short key", weak, func(s *side) { s.certs = s.certs[:1] }, []string{verified}, false, "RSA key shorter than", "", "", ""},
		{"no certificate", leaf, func(s *side) { s.certs = nil }, nil, false, "", "the peer sent no certificate", "", ""},
		{"certificates that cannot be read", leaf, func(s *side) { s.faulty = errors.New("too many") }, nil, false, "", "too many", "", ""},
		{"one that is known", leaf, func(s *side) { s.certs, s.id.RemoteCert, s.trust = nil, leaf.Cert, nil }, []string{verified}, false, "", "", "", ""},
		{"the one that is known", leaf, func(s *side) { s.id.RemoteCert = leaf.Cert }, []string{verified}, false, "", "", "", ""},
		{"another than is known", leaf, func(s *side) { s.id.RemoteCert = weak.Cert }, nil, false, "", "another certificate than the one in remote-certificate", "remote-certificate", "x.toml:remote-certificate"},
		{"another name", leaf, func(s *side) { s.peer.Data = "no.example" }, nil, false, "", "the peer says it is fqdn:no.example, which its certificate does not", "name", "x.toml:remote-id"},
		{"another name that is ignored", leaf, func(s *side) { s.peer.Data, s.id.Ignore = "no.example", true }, []string{verified}, false, "", "", "", ""},
		{"nobody's", strange, func(*side) {}, []string{verified}, false, "", "is refused", "authority", "x.toml:remote-certificate"},
		{"another key", leaf, func(s *side) { s.certs = []*x509.Certificate{weak.Cert} }, []string{verified}, false, "", "is refused", "key", "x.toml:"},
		{"OCSP", leaf, func(s *side) {
			s.trust, s.web["http://ocsp.example"] = asks(func(a *core.Authority) { a.OCSP = true }), good
		}, []string{verified, fetched, judged}, true, "whether the certificate", "", "", ""}, // of mid nobody can be asked
		{"OCSP of one that was revoked", leaf, func(s *side) {
			s.trust, s.web["http://ocsp.example"] = asks(func(a *core.Authority) { a.OCSP = true }), bad
		}, []string{verified, fetched, judged}, true, "", "was revoked", "revocation", "x.toml:"},
		{"nobody answers", leaf, func(s *side) { s.trust = asks(func(a *core.Authority) { a.OCSP = true }) },
			[]string{verified, fetched, judged}, true, "nobody is there", "", "", ""},
		{"nobody answers, and somebody has to", leaf, func(s *side) { s.trust = asks(func(a *core.Authority) { a.OCSP, a.Strict = true, true }) },
			[]string{verified, fetched, judged}, true, "", "is not known", "revocation", "x.toml:"},
		{"a list of its distribution point", leaf, func(s *side) {
			s.trust, s.web["http://crl.example"] = asks(func(a *core.Authority) { a.DistributionPoints = true }), revokes
		}, []string{verified, fetched, judged}, true, "", "was revoked", "revocation", "x.toml:"},
		{"both ask", leaf, func(s *side) {
			s.trust = asks(func(a *core.Authority) { a.OCSP, a.DistributionPoints = true, true })
			s.web["http://ocsp.example"], s.web["http://crl.example"] = good, free
		}, []string{verified, fetched, fetched, judged}, true, "whether the certificate", "", "", ""},
		{"a list in a file", leaf, func(s *side) { s.trust.CRLs = []*x509.RevocationList{crlOf(t, revokes)} }, []string{verified, judged}, false, "", "was revoked", "revocation", "x.toml:"},
		{"a list in a file without it", leaf, func(s *side) { s.trust.CRLs = []*x509.RevocationList{crlOf(t, free)} }, []string{verified, judged}, false, "", "", "", ""},
	} {
		copied := *trust
		s := &side{id: &core.Identity{Auth: core.AuthSignature}, peer: gw, certs: []*x509.Certificate{c.pair.Cert, mid.Cert}, trust: &copied, web: map[string][]byte{}}
		c.change(s)
		scheme, err := Choose(credential(c.pair), sign.Hashes)
		if err != nil {
			t.Fatal(err)
		}
		data, err := Sign{Own: credential(c.pair), Scheme: scheme, Octets: signed.Octets(s.PRF())}.Do()
		if err != nil {
			t.Fatal(err)
		}
		proved := false
		part := Signature.Check(s)
		err = part.Step([]message.Payload{&message.Nonce{}, &message.Auth{Method: MethodOf(scheme), Data: data}}, func(out []message.Payload, over bool) error {
			proved = over && out == nil
			return nil
		})
		part.End()
		if err == nil {
			err = s.err
		}
		if proved != (c.err == "") || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) || !slices.Equal(s.asked, c.asked) || s.again != c.again {
			t.Errorf("%s: proved %v, %v, asked %q, again %v", c.name, proved, err, s.asked, s.again)
		}
		if c.part != "" && (s.refusal == nil || s.refusal.Part != c.part || s.refusal.Where != c.where || s.refusal.Theirs[0] != "it is "+s.peer.String() || strings.Contains(s.refusal.Hint, "x.toml") != (c.where != "x.toml:")) {
			t.Errorf("%s: %+v", c.name, s.refusal)
		}
		if text := strings.Join(s.reports, "\n"); (c.report == "") != (text == "") || !strings.Contains(text, c.report) {
			t.Errorf("%s: reported %q", c.name, text)
		}
		if proved && len(s.certs) > 1 && s.id.RemoteCert == nil && !s.until.Equal(mid.Cert.NotAfter) { // the first of the chain to expire
			t.Errorf("%s: good until %v", c.name, s.until)
		}
	}
}

// Our own proof: one signature, or two where the peer may lack our PPK; and why there is none.
func TestSignatureProof(t *testing.T) {
	root := testcert.Root("root", "p256")
	leaf := root.Leaf("leaf", "p256")
	for _, ppk := range []bool{false, true} {
		s := &side{id: &core.Identity{Own: credential(leaf)}, hashes: sign.Hashes, ppk: ppk}
		var out []message.Payload
		part := Signature.Prove(s)
		if err := part.Step(nil, func(list []message.Payload, over bool) error { out = list; return nil }); err != nil {
			t.Fatal(err)
		}
		part.End()
		for i, p := range out {
			octets, data, method := signed.Octets(s.PRF()), []byte(nil), uint8(sign.MethodDigital)
			switch p := p.(type) {
			case *message.Auth:
				data, method = p.Data, p.Method
			case *message.Notify:
				without, _ := s.SignedWithoutPPK()
				data, octets = p.Data, without.Octets(s.PRF())
				if p.Kind != message.NotifyNoPPKAuth || i != 1 {
					t.Errorf("payload %d is %v", i, p.Kind)
				}
			}
			v := Verify{Method: method, Data: data, Octets: octets, Certs: certsOf(leaf), Trust: &core.Trust{Authorities: []*core.Authority{authority(root)}}, Now: now}
			if _, err := v.Do(); err != nil {
				t.Errorf("payload %d: %v", i, err)
			}
		}
		if want := map[bool]int{false: 1, true: 2}[ppk]; len(out) != want {
			t.Errorf("%d payloads", len(out))
		}
	}
	s := &side{id: &core.Identity{Own: credential(root.Leaf("leaf", "ed25519"))}, hashes: []sign.HashID{sign.SHA256, 77}}
	err := Signature.Prove(s).Step(nil, nil)
	if err == nil || !strings.Contains(err.Error(), "sha256, 77") || s.refusal.Part != "hash" || s.refusal.Where != "x.toml:certificate" {
		t.Errorf("%v, %+v", err, s.refusal)
	}
	s = &side{id: &core.Identity{Own: &core.Credential{Name: "c", Chain: certsOf(leaf), Key: credential(root.Leaf("other", "rsa-2048")).Key}}, hashes: sign.Hashes}
	if err := Signature.Prove(s).Step(nil, nil); err != nil || s.err == nil || !strings.Contains(s.err.Error(), "we cannot sign with certificate") {
		t.Errorf("%v, %v", err, s.err)
	}
}

// Method 1 does not say which hash it was made with: each of RSA's is tried (RFC 7296 §3.8).
func TestRSAHashes(t *testing.T) {
	root := testcert.Root("root", "p256")
	leaf := root.Leaf("leaf", "rsa-2048")
	for _, name := range rsaHashes {
		octets := signed.Octets(suite.PRFByName("sha256"))
		data, err := sign.ByName(name).Sign(leaf.Key, octets)
		if err != nil {
			t.Fatal(err)
		}
		w := Verify{Method: sign.MethodRSA, Data: data, Octets: octets, Certs: certsOf(leaf), Trust: &core.Trust{Authorities: []*core.Authority{authority(root)}}, Now: now}
		if _, err := w.Do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		w.Octets = []byte("other")
		refused(t, name, w, "signature")
	}
}

func certsOf(pairs ...*testcert.Pair) (list []*x509.Certificate) {
	for _, p := range pairs {
		list = append(list, p.Cert)
	}
	return list
}

// Which identity a claim with a certificate stands for.
func TestMatchCertificates(t *testing.T) {
	root, other := testcert.Root("root", "p256"), testcert.Root("other", "p256")
	mine, theirs, third := root.Leaf("mine", "p256", testcert.DNS("us.example")), root.Leaf("theirs", "p256"), root.Leaf("third", "p256")
	trust := &core.Trust{Authorities: []*core.Authority{authority(root), authority(other)}}
	own := credential(mine)
	dn := &core.Identity{Auth: core.AuthSignature, RemoteID: core.ID{Type: core.IDDN}}
	match := &core.Identity{Auth: core.AuthSignature, MatchCert: true, RemoteCert: theirs.Cert}
	pinned := &core.Identity{Auth: core.AuthSignature, RemoteCert: theirs.Cert}
	anybody := &core.Identity{Auth: core.AuthSignature}
	asked := &core.Identity{Auth: core.AuthSignature, Own: own}
	psk := &core.Identity{Auth: core.AuthPSK}
	gw, subject := core.ID{Type: core.IDFQDN, Data: "gw"}, Subject(theirs.Cert)
	for _, c := range []struct {
		name  string
		ids   []*core.Identity
		claim Claim
		want  *core.Identity
	}{
		{"its certificate", []*core.Identity{anybody, match}, Claim{ID: gw, Wire: 14, Cert: theirs.Cert}, match},
		{"another certificate", []*core.Identity{match}, Claim{ID: gw, Wire: 14, Cert: third.Cert}, nil},
		{"no certificate", []*core.Identity{match}, Claim{ID: gw, Wire: 14}, nil},
		{"no certificate, and one for anybody", []*core.Identity{match, anybody}, Claim{ID: gw, Wire: 14}, anybody},
		{"any DN", []*core.Identity{anybody, dn}, Claim{ID: subject, Wire: 14, Cert: theirs.Cert}, dn},
		{"no DN", []*core.Identity{dn}, Claim{ID: gw, Wire: 14, Cert: theirs.Cert}, nil},
		{"pinned before anybody", []*core.Identity{anybody, pinned}, Claim{ID: gw, Wire: 14, Cert: theirs.Cert}, pinned},
		{"pinned to another", []*core.Identity{pinned, anybody}, Claim{ID: gw, Wire: 14, Cert: third.Cert}, anybody},
		{"pinned to another, alone", []*core.Identity{pinned}, Claim{ID: gw, Wire: 14, Cert: third.Cert}, pinned},
		{"whom it can check", []*core.Identity{anybody, asked}, Claim{ID: gw, Wire: 14, Cert: theirs.Cert, CAs: []KeyHash{Hash(root.Cert)}}, asked},
		{"whom it cannot check", []*core.Identity{anybody, asked}, Claim{ID: gw, Wire: 14, Cert: theirs.Cert, CAs: []KeyHash{Hash(other.Cert)}}, anybody},
		{"the kind of proof", []*core.Identity{psk, anybody}, Claim{ID: gw, Wire: 14, Cert: theirs.Cert}, anybody},
		{"another kind of proof, alone", []*core.Identity{psk}, Claim{ID: gw, Wire: 14, Cert: theirs.Cert}, psk},
		{"whom it expects", []*core.Identity{asked}, Claim{ID: gw, Wire: 14, Expected: core.ID{Type: core.IDFQDN, Data: "us.example"}}, asked},
		{"another than it expects", []*core.Identity{asked}, Claim{ID: gw, Wire: 14, Expected: core.ID{Type: core.IDFQDN, Data: "them.example"}}, nil},
	} {
		if got := Match(c.ids, c.claim, trust); got != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	us, local := core.ID{Type: core.IDFQDN, Data: "us.example"}, netip.MustParseAddr("192.0.2.1")
	for _, c := range []struct {
		id             *core.Identity
		expected, want core.ID
	}{
		{asked, Subject(mine.Cert), Subject(mine.Cert)}, {asked, us, us}, {asked, gw, us},
		{&core.Identity{Auth: core.AuthSignature, Own: own, MyID: gw}, us, gw}, {&core.Identity{Auth: core.AuthPSK, Own: own}, us, AddressID(local)},
		{psk, us, AddressID(local)},
	} {
		if got := As(c.id, c.expected, local); got != c.want {
			t.Errorf("as %v to one that expects %v", got, c.expected)
		}
	}
	for _, c := range []struct {
		ours, theirs core.AuthMethod
		want         bool
	}{{core.AuthPSK, core.AuthPSK, false}, {core.AuthSignature, core.AuthPSK, true}, {core.AuthPSK, core.AuthSignature, true}, {core.AuthSignature, core.AuthSignature, true}} {
		p := &core.Peer{Identities: []*core.Identity{{Auth: core.AuthPSK, RemoteAuth: core.AuthPSK}, {Auth: c.ours, RemoteAuth: c.theirs}}}
		if ByCertificate(p) != c.want {
			t.Errorf("%v and %v: by certificate %v", c.ours, c.theirs, !c.want)
		}
	}
}

// What a chain's certificates are asked about, where and once each.
func TestLinks(t *testing.T) {
	root, other := testcert.Root("root", "p256"), testcert.Root("other", "p256")
	mid := root.Intermediate("mid", "p256", testcert.CRLAt("http://crl.example/root"))
	leaf := mid.Leaf("leaf", "p256", testcert.With(func(c *x509.Certificate) {
		c.CRLDistributionPoints = []string{"http://crl.example/mid", "ldap://crl.example", "http://crl.example/mid", "https://crl.example/mid"}
		c.OCSPServer = []string{"http://ocsp.example/1", "http://ocsp.example/2"}
	}))
	a := authority(root)
	a.CRLs, a.DistributionPoints, a.OCSP = []string{"http://crl.example/root", "http://crl.example/more"}, true, true
	trust := &core.Trust{Authorities: []*core.Authority{authority(other), a}, Intermediates: certsOf(mid)}
	w := Verify{Certs: certsOf(leaf), Trust: trust, Now: now}
	chain := w.indexes(certsOf(leaf, mid, root))
	links := w.Links(chain)
	if len(links) != 2 || links[0].Cert != leaf.Cert || links[0].Issuer != mid.Cert || links[1].Cert != mid.Cert || links[1].Issuer != root.Cert || links[1].Authority != a || len(links[0].Known) != 4 {
		t.Fatalf("%+v", links)
	}
	urls := func(l Link) (list []string) {
		for _, f := range l.Fetches() {
			if f.Limit != map[bool]int{true: MaxOCSP, false: MaxCRL}[f.Request != nil] {
				t.Errorf("%s may have %d bytes", f.URL, f.Limit)
			}
			list = append(list, fmt.Sprintf("%s %v", f.URL, f.Request != nil))
		}
		return list
	}
	if got := urls(links[0]); !slices.Equal(got, []string{"http://ocsp.example/1 true", "http://ocsp.example/2 true", "http://crl.example/mid false", "https://crl.example/mid false"}) {
		t.Errorf("of the leaf: %q", got)
	}
	if got := urls(links[1]); !slices.Equal(got, []string{"http://crl.example/root false", "http://crl.example/more false"}) {
		t.Errorf("of the one between: %q", got)
	}
	// There is nothing to ask about what is trusted by itself, or not by an authority.
	for name, got := range map[string][]Link{
		"pinned": Verify{Certs: certsOf(leaf), Pinned: leaf.Cert, Trust: trust}.Links(chain), "no trust": Verify{Certs: certsOf(leaf)}.Links(chain),
		"alone": w.Links(chain[:4]), "to another top": w.Links(chain[:8]), "nothing": w.Links(nil),
	} {
		if got != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, c := range []struct {
		change func(*core.Authority)
		asked  bool
	}{
		{func(*core.Authority) {}, false}, {func(a *core.Authority) { a.OCSP = true }, true}, {func(a *core.Authority) { a.Strict = true }, true},
		{func(a *core.Authority) { a.DistributionPoints = true }, true}, {func(a *core.Authority) { a.CRLs = []string{"http://x"} }, true},
	} {
		x := authority(root)
		if c.change(x); (Link{Authority: x}).Asked() != c.asked {
			t.Errorf("%+v: asked %v", x, !c.asked)
		}
	}
	// The most certificates that are read, and one more.
	cert := &message.Cert{Encoding: EncodingX509, Data: leaf.Cert.Raw}
	for n, ok := range map[int]bool{maxCerts: true, maxCerts + 1: false} {
		if got, err := ReadCerts(slices.Repeat([]message.Payload{cert}, n)); (err == nil) != ok || ok && len(got) != n {
			t.Errorf("%d certificates: %d, %v", n, len(got), err)
		}
	}
	if !bytes.Equal(chain, []byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3}) {
		t.Errorf("%x", chain)
	}
}
