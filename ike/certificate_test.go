package ike

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"culvert/crypto/pki"
	"culvert/crypto/secret"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
	"culvert/internal/testing/testcert"
)

// certs are the authorities of the tests below.
type certs struct{ root, other, mid *testcert.Pair }

func newCerts() certs {
	root := testcert.Root("root", "p256")
	return certs{root: root, other: testcert.Root("other", "p256"), mid: root.Intermediate("intermediate", "p256")}
}

func trustIn(cas ...*testcert.Pair) *core.Trust {
	t := &core.Trust{}
	for _, c := range cas {
		t.Authorities = append(t.Authorities, &core.Authority{Name: c.Cert.Subject.CommonName, Cert: c.Cert})
	}
	return t
}

func own(p *testcert.Pair, chain ...*testcert.Pair) *core.Credential {
	c := &core.Credential{Name: p.Cert.Subject.CommonName, Key: pki.NewKey(p.Key), Chain: []*x509.Certificate{p.Cert}}
	for _, m := range chain {
		c.Chain = append(c.Chain, m.Cert)
	}
	return c
}

// sign makes a side prove itself by certificate and ask the same of its peer.
func sign(c *core.Config, t *core.Trust, p *core.Credential) *core.Identity {
	id := &core.Identity{Auth: core.AuthSignature, Own: p}
	c.Trust = t
	c.Peers[0].Identities = []*core.Identity{id}
	return id
}

// a begins: b is passive.
func passiveB(b *core.Config) { b.Peers[0].Passive = true }

func (s *side) reasons(k core.EventKind) string {
	var all []string
	for _, e := range s.events {
		if e.Kind == k {
			all = append(all, e.Reason)
		}
	}
	return strings.Join(all, "\n")
}

// Every kind of key, each way; the names of the certificates are the IDs.
func TestCertificates(t *testing.T) {
	k := newCerts()
	for _, kind := range []string{"rsa-2048", "rsa-pss", "p256", "p384", "p521", "ed25519"} {
		t.Run(kind, func(t *testing.T) {
			pss := kind == "rsa-pss"
			if pss {
				kind = "rsa-2048"
			}
			ca := own(k.root.Leaf("a", kind, testcert.DNS("a.example.net")))
			cb := own(k.root.Leaf("b", kind))
			ca.PSS, cb.PSS = pss, pss
			p := newPair(t, 1, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
				sign(a, trustIn(k.root), ca)
				sign(b, trustIn(k.root), cb)
				passiveB(b)
			})
			p.askDelay = 30 * time.Millisecond
			p.up()
			p.until(10*time.Second, "up", p.bothUp)
			at, bt := p.a.e.SAs()[0], p.b.e.SAs()[0]
			if at.LocalID.String() != "fqdn:a.example.net" || bt.RemoteID != at.LocalID {
				t.Errorf("a is %v, to b %v", at.LocalID, bt.RemoteID)
			}
			if bt.LocalID.Type != core.IDDN || at.RemoteID != bt.LocalID {
				t.Errorf("b is %v, to a %v", bt.LocalID, at.RemoteID)
			}
		})
	}
}

// The initiator refuses the responder's certificate: who is refused hears that
// it is about the certificate, not about a secret.
func TestRefusedResponder(t *testing.T) {
	k := newCerts()
	p := newPair(t, 3, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
		sign(a, trustIn(k.root), own(k.root.Leaf("a", "p256")))
		sign(b, trustIn(k.root), own(k.other.Leaf("b", "p256")))
		passiveB(b)
	})
	p.up()
	p.until(10*time.Second, "refused", func() bool { return p.b.reasons(core.EvAuthFailed) != "" && len(p.b.e.SAs()) == 0 })
	for _, why := range []string{p.b.reasons(core.EvAuthFailed), p.b.reasons(core.EvIKEDown)} {
		if !strings.Contains(why, `certificate "b"`) || strings.Contains(why, "secret") {
			t.Error(why)
		}
	}
}

// A chain with an intermediate each way, one's own and the other's unknown to
// the receiver.
func TestCertificateChains(t *testing.T) {
	k := newCerts()
	mid2 := k.other.Intermediate("second", "p384")
	p := newPair(t, 2, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
		sign(a, trustIn(k.other), own(k.mid.Leaf("a", "p256"), k.mid))
		sign(b, trustIn(k.root), own(mid2.Leaf("b", "p256"), mid2))
		passiveB(b)
	})
	p.up()
	p.until(10*time.Second, "up", p.bothUp)
}

// Each side in its own way: pre-shared key one way, certificate the other.
func TestMixedMethods(t *testing.T) {
	k := newCerts()
	for _, swap := range []bool{false, true} {
		p := newPair(t, 3, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
			x, y := a, b
			if swap {
				x, y = b, a
			}
			sign(x, nil, own(k.root.Leaf("x", "p256"))).RemoteAuth = core.AuthPSK
			x.Peers[0].Identities[0].Secret = secret.Bytes("mixed")
			y.Trust = trustIn(k.root)
			y.Peers[0].Identities = []*core.Identity{{Auth: core.AuthPSK, RemoteAuth: core.AuthSignature, Secret: secret.Bytes("mixed")}}
			passiveB(b)
		})
		p.up()
		p.until(10*time.Second, "up", p.bothUp)
	}
}

// What is refused, by whom, and what the event says.
func TestCertificatesRefused(t *testing.T) {
	k := newCerts()
	good := k.root.Leaf("b", "p256", testcert.DNS("b.example.net"))
	fine := func() *core.Credential { return own(k.root.Leaf("a", "p256", testcert.DNS("a.example.net"))) }
	expired := testcert.Valid(testcert.From, epoch.Add(-time.Hour))
	constrained := k.root.Intermediate("constrained", "p256", testcert.With(func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.org"} }))
	short := k.root.Intermediate("short", "p256", testcert.With(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }))
	authority := testcert.With(func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	x, y := testcert.Root("x", "p256"), testcert.Root("y", "p256")
	xByY, yByX := y.Again("x", x.Key, authority), x.Again("y", y.Key, authority)
	notCA := k.root.Leaf("no authority", "p256")
	stolen := own(good)
	stolen.Key = pki.NewKey(testcert.Key("p256"))
	for _, c := range []struct {
		name   string
		theirs *core.Credential // b's
		ours   func(a *core.Config, id *core.Identity)
		reason string
	}{
		{"unknown authority", own(k.other.Leaf("b", "p256")), nil, "no trusted certificate leads to"},
		{"no authority at all", own(good), func(a *core.Config, _ *core.Identity) { a.Trust = nil }, "no trusted certificate leads to"},
		{"self-signed", own(testcert.SelfSigned("b", "p256")), nil, "no trusted certificate leads to"},
		{"intermediate not sent", own(k.mid.Leaf("b", "p256")), nil, "have the peer send its intermediate certificates"},
		{"issued by a leaf", own(notCA.Leaf("b", "p256"), notCA), nil, "is not that of an authority"},
		{"expired", own(k.root.Leaf("b", "p256", expired)), nil, "expired on 2025-12-31 23:00:00"},
		{"not valid yet", own(k.root.Leaf("b", "p256", testcert.Valid(epoch.Add(time.Hour), testcert.Until))), nil, "compare the clocks"},
		{"intermediate expired", func() *core.Credential {
			m := k.root.Intermediate("old", "p256", expired)
			return own(m.Leaf("b", "p256"), m)
		}(), nil, "expired on"},
		{"too long a path", own(short.Intermediate("further", "p256").Leaf("b", "p256"), short), nil, "no trusted certificate leads to"},
		{"a link below its authority's path length", func() *core.Credential {
			m := short.Intermediate("further", "p256")
			return own(m.Leaf("b", "p256"), m, short)
		}(), nil, "allows 0 authorities below it, and there are 1"},
		{"authorities that issued each other", own(x.Leaf("b", "p256"), xByY, yByX), nil, "no trusted certificate leads to"},
		{"an unknown critical extension", own(k.root.Leaf("b", "p256", testcert.With(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
		}))), nil, "has the critical extension 1.3.6.1.4.1.99999.1, which is not supported"},
		{"constrained authority", own(constrained.Leaf("b", "p256", testcert.DNS("b.example.net")), constrained), nil, "a name that its authority may not give"},
		{"key usage of a client", own(k.root.Leaf("b", "p256", testcert.EKU(x509.ExtKeyUsageClientAuth))), nil, "serverAuth"},
		{"key usage of mail", own(k.root.Leaf("b", "p256", testcert.EKU(x509.ExtKeyUsageEmailProtection))), nil, "extended key usages that do not allow IKE"},
		{"no digitalSignature", own(k.root.Leaf("b", "p256", testcert.With(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }))), nil, "digitalSignature"},
		{"another key", stolen, nil, "the signature is wrong"},
		{"another name", own(good), func(_ *core.Config, id *core.Identity) { id.RemoteID = core.ID{Type: core.IDDN} }, "remote-id wants"},
		{"another certificate", own(good), func(_ *core.Config, id *core.Identity) { id.RemoteCert = k.root.Leaf("b", "p256").Cert }, "another certificate than the one in remote-certificate"},
		{"pre-shared key wanted", own(good), func(_ *core.Config, id *core.Identity) {
			id.RemoteAuth, id.Secret = core.AuthPSK, secret.Bytes("x")
		}, "proves itself by signature, and the identity wants pre-shared-key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, 4, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
				id := sign(a, trustIn(k.root), fine())
				sign(b, trustIn(k.root), c.theirs)
				passiveB(b)
				if c.ours != nil {
					c.ours(a, id)
				}
			})
			p.up()
			p.run(900 * time.Millisecond)
			if p.a.established() != 0 || len(p.a.children) != 0 {
				t.Error("a took it")
			}
			if got := p.a.reasons(core.EvAuthFailed); !strings.Contains(got, c.reason) {
				t.Errorf("a says %q, not %q", got, c.reason)
			}
			if p.b.established() != 0 {
				t.Error("b was not told")
			}
		})
	}
}

// The same by a responder, for what differs there.
func TestResponderRefusesCertificates(t *testing.T) {
	k := newCerts()
	server := own(k.root.Leaf("b", "p256", testcert.EKU(x509.ExtKeyUsageServerAuth)))
	for _, c := range []struct {
		name   string
		theirs *core.Credential
		id     core.ID
		reason string // empty: accepted
	}{
		{"a client's", own(k.root.Leaf("a", "p256", testcert.EKU(x509.ExtKeyUsageClientAuth))), core.ID{}, ""},
		{"a server's", own(k.root.Leaf("a", "p256", testcert.EKU(x509.ExtKeyUsageServerAuth))), core.ID{}, ""},
		{"ipsecIKE", own(k.root.Leaf("a", "p256", testcert.With(func(c *x509.Certificate) {
			c.UnknownExtKeyUsage = append(c.UnknownExtKeyUsage, []int{1, 3, 6, 1, 5, 5, 7, 3, 17})
		}))), core.ID{}, ""},
		{"mail", own(k.root.Leaf("a", "p256", testcert.EKU(x509.ExtKeyUsageEmailProtection))), core.ID{}, "clientAuth"},
		{"a name it has not", own(k.root.Leaf("a", "p256", testcert.DNS("a.example.net"))), fqdn("b.example.net"), "which its certificate does not"},
		{"an address it has", own(k.root.Leaf("a", "p256", testcert.IP("192.0.2.1"))), auth.AddressID(rigAddr.Addr()), ""},
		{"an address it has not", own(k.root.Leaf("a", "p256", testcert.IP("192.0.2.9"))), auth.AddressID(rigAddr.Addr()), "which its certificate does not"},
		{"a mail address it has", own(k.root.Leaf("a", "p256", testcert.Email("joe@example.net"))), core.ID{Type: core.IDUser, Data: "joe@EXAMPLE.net"}, ""},
		{"unknown authority", own(k.other.Leaf("a", "p256")), core.ID{}, "no trusted certificate leads to"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, 5, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
				sign(a, trustIn(k.root), c.theirs).MyID = c.id
				sign(b, trustIn(k.root), server)
				passiveB(b)
			})
			p.up()
			p.run(900 * time.Millisecond)
			got := p.b.reasons(core.EvAuthFailed)
			if c.reason == "" && (!p.bothUp() || got != "") {
				t.Errorf("refused: %s %s", got, p.a.reasons(core.EvAuthFailed))
			}
			if c.reason != "" && (p.b.established() != 0 || !strings.Contains(got, c.reason)) {
				t.Errorf("b says %q, not %q", got, c.reason)
			}
		})
	}
}

// Identities of one peer are told apart by ID, by certificate, by IDr.
func TestIdentitiesByCertificate(t *testing.T) {
	k := newCerts()
	joe, ann := k.root.Leaf("joe", "p256", testcert.Email("joe@example.net")), k.root.Leaf("ann", "p256")
	one := own(k.root.Leaf("one", "p256", testcert.DNS("one.example.net", "uno.example.net")))
	two := own(k.root.Leaf("two", "p256", testcert.DNS("two.example.net")))
	three := own(k.root.Leaf("three", "p256", testcert.DNS("three.example.net")))
	dn, err := pki.ParseDN("O=culvert TESTS, CN=ann")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		who    *testcert.Pair
		asks   core.ID
		change func(ids []*core.Identity)
		want   string
	}{
		{"any", ann, core.ID{}, nil, "fqdn:one.example.net"},
		{"by ID", joe, core.ID{}, func(ids []*core.Identity) { ids[1].RemoteID = core.ID{Type: core.IDUser, Data: "joe@example.net"} }, "fqdn:two.example.net"},
		{"by DN", ann, core.ID{}, func(ids []*core.Identity) { ids[1].RemoteID = core.ID{Type: core.IDDN, Data: string(dn)} }, "fqdn:two.example.net"},
		{"by any DN", ann, core.ID{}, func(ids []*core.Identity) { ids[1].RemoteID = core.ID{Type: core.IDDN} }, "fqdn:two.example.net"},
		{"by certificate", ann, core.ID{}, func(ids []*core.Identity) { ids[2].MatchCert, ids[2].RemoteCert = true, ann.Cert }, "fqdn:three.example.net"},
		{"not by another's", joe, core.ID{}, func(ids []*core.Identity) { ids[2].MatchCert, ids[2].RemoteCert = true, ann.Cert }, "fqdn:one.example.net"},
		{"by IDr", ann, fqdn("three.example.net"), nil, "fqdn:three.example.net"},
		{"by a second name", ann, fqdn("uno.example.net"), nil, "fqdn:uno.example.net"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, 6, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
				sign(a, trustIn(k.root), own(c.who)).RemoteID = c.asks
				sign(b, trustIn(k.root), one)
				for _, cred := range []*core.Credential{two, three} {
					b.Peers[0].Identities = append(b.Peers[0].Identities, &core.Identity{Auth: core.AuthSignature, Own: cred})
				}
				if c.change != nil {
					c.change(b.Peers[0].Identities)
				}
				passiveB(b)
			})
			p.up()
			p.until(10*time.Second, "up", p.bothUp)
			if got := p.b.e.SAs()[0].LocalID.String(); got != c.want {
				t.Errorf("b is %s, not %s", got, c.want)
			}
		})
	}
}

// A certificate that is named needs no authority, also where it is its own issuer.
func TestPinnedCertificates(t *testing.T) {
	x, y := testcert.SelfSigned("x", "p256"), testcert.SelfSigned("y", "ed25519")
	p := newPair(t, 7, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
		sign(a, nil, own(x)).RemoteCert = y.Cert
		sign(b, nil, own(y)).RemoteCert = x.Cert
		b.Peers[0].Identities[0].MatchCert = true
		passiveB(b)
	})
	p.up()
	p.until(10*time.Second, "up", p.bothUp)
}

// As initiator, the identity is the one whose authority the responder trusts.
func TestCertreqChooses(t *testing.T) {
	k := newCerts()
	p := newPair(t, 8, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
		sign(a, trustIn(k.root), own(k.other.Leaf("first", "p256")))
		a.Peers[0].Identities = append(a.Peers[0].Identities, &core.Identity{Auth: core.AuthSignature, Own: own(k.mid.Leaf("second", "p256"), k.mid)})
		a.Trust.Authorities = append(a.Trust.Authorities, trustIn(k.other).Authorities...)
		sign(b, trustIn(k.root), own(k.root.Leaf("b", "p256")))
		passiveB(b)
	})
	p.up()
	p.until(10*time.Second, "up", p.bothUp)
	if got := p.b.e.SAs()[0].RemoteID.String(); !strings.Contains(got, "second") {
		t.Errorf("the identity was %s", got)
	}
}

// Of two identities that fit alike, a responder is the one whose certificate the initiator's CERTREQ asks for.
func TestCertreqChoosesAsResponder(t *testing.T) {
	k := newCerts()
	p := newPair(t, 8, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
		sign(a, trustIn(k.root), own(k.root.Leaf("a", "p256")))
		sign(b, trustIn(k.root, k.other), own(k.other.Leaf("first", "p256")))
		b.Peers[0].Identities = append(b.Peers[0].Identities, &core.Identity{Auth: core.AuthSignature, Own: own(k.mid.Leaf("second", "p256"), k.mid)})
		passiveB(b)
	})
	p.up()
	p.until(10*time.Second, "up", p.bothUp)
	if got := p.b.e.SAs()[0].LocalID.String(); !strings.Contains(got, "second") {
		t.Errorf("the identity is %s", got)
	}
}

// An initiator that cannot be signed for says why and asks again later.
func TestNoSchemeInCommon(t *testing.T) {
	k := newCerts()
	p := newPair(t, 9, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
		sign(a, trustIn(k.root), own(k.root.Leaf("a", "ed25519")))
		passiveB(b) // b has a pre-shared key and announces no hashes
	})
	p.up()
	p.run(500 * time.Millisecond)
	if got := p.a.reasons(core.EvAuthFailed); !strings.Contains(got, "no signatures by RFC 7427") {
		t.Errorf("a says %q", got)
	}
}

// An initiator that sends no AUTH asks for EAP.
func TestEAPIsRefused(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.init()
	says(t, p.auth(&message.ID{Initiator: true, IDType: uint8(p.id.Type), Data: []byte(p.id.Data)}), "N(AUTHENTICATION_FAILED)")
	if e := r.event(core.EvAuthFailed); !strings.Contains(e.Reason, "asks for EAP") {
		t.Errorf("the event says %q", e.Reason)
	}
}

// Too many certificates are refused before one of them is believed.
func TestCertificateBomb(t *testing.T) {
	k := newCerts()
	leaf := k.root.Leaf("a", "p256")
	bomb := own(leaf)
	for range 11 {
		bomb.Chain = append(bomb.Chain, k.mid.Cert)
	}
	p := newPair(t, 10, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
		sign(a, trustIn(k.root), bomb)
		sign(b, trustIn(k.root), own(k.root.Leaf("b", "p256")))
		passiveB(b)
	})
	p.up()
	p.run(500 * time.Millisecond)
	if got := p.b.reasons(core.EvAuthFailed); !strings.Contains(got, "more than 10 certificates") {
		t.Errorf("b says %q", got)
	}
}

// rsa-padding = "auto": as responder what the peer has used, as initiator what it announces, otherwise
// PKCS#1.
func TestAutoPadding(t *testing.T) {
	k := newCerts()
	for _, v := range []struct {
		name   string
		ca, cb func(c *core.Credential)
		pss    [2]bool // of a, which begins, and of b
	}{
		{"both auto", auto, auto, [2]bool{false, false}},
		{"the initiator by PSS", func(c *core.Credential) { c.PSS = true }, auto, [2]bool{true, true}},
		{"the initiator by PSS, and b by PKCS#1", func(c *core.Credential) { c.PSS = true }, func(*core.Credential) {}, [2]bool{true, false}},
		{"b by PSS", auto, func(c *core.Credential) { c.PSS = true }, [2]bool{false, true}},
	} {
		t.Run(v.name, func(t *testing.T) {
			var by [2]bool
			p := newPair(t, 1, simnet.Link{Delay: 10 * time.Millisecond}, func(a, b *core.Config) {
				ca, cb := own(k.root.Leaf("a", "rsa-2048")), own(k.root.Leaf("b", "rsa-2048"))
				v.ca(ca)
				v.cb(cb)
				sign(a, trustIn(k.root), ca)
				sign(b, trustIn(k.root), cb)
				passiveB(b)
			})
			p.tap = func(from *side, o core.Output) {
				if a, ok := o.(core.Ask); ok {
					if w, ok := a.Work.(auth.Sign); ok {
						by[map[*side]int{p.a: 0, p.b: 1}[from]] = strings.Contains(w.Scheme.Name, "pss")
					}
				}
			}
			p.up()
			p.until(10*time.Second, "up", p.bothUp)
			if by != v.pss {
				t.Errorf("signed by PSS: %v, want %v", by, v.pss)
			}
		})
	}
}

func auto(c *core.Credential) { c.AutoPadding = true }
