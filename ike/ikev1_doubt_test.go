package ike

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	schemes "culvert/crypto/sign"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	"culvert/internal/testing/testcert"
)

// signed is a signature of IKEv1 by a raw key, and signWith by any.
func signed(t *testing.T, k *core.RawKey, hash []byte) []byte {
	t.Helper()
	return signWith(t, k.Key.Signer(), hash)
}

func signWith(t *testing.T, k crypto.Signer, hash []byte) []byte {
	t.Helper()
	b, err := schemes.Bare(k.Public()).Sign(k, hash)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A message 2 of aggressive mode in which somebody else signs ends nothing: the peer's own counts when it comes. An attempt in which
// that never happens says what was refused.
func TestAggressiveModeForgedSignature(t *testing.T) {
	k := newCerts()
	good := own(k.root.Leaf("b", "rsa-2048", testcert.DNS("b.example.net")))
	for name, bad := range map[string]*core.Credential{
		"another authority": own(k.other.Leaf("b", "rsa-2048", testcert.DNS("b.example.net"))),
		"another name":      own(k.root.Leaf("x", "rsa-2048", testcert.DNS("x.example.net"))),
		"another key":       {Name: "b", Chain: good.Chain, Key: own(k.root.Leaf("x", "rsa-2048")).Key},
		"no certificate":    {Name: "b", Chain: []*x509.Certificate{{Raw: []byte{0x30, 0}, PublicKey: good.Chain[0].PublicKey}}, Key: good.Key},
	} {
		for _, right := range []bool{true, false} {
			p := newPair(t, 1, quick, inAggressiveMode, bPassive, func(a, b *core.Config) {
				sign(a, trustIn(k.root), own(k.root.Leaf("a", "rsa-2048", testcert.DNS("a.example.net")))).RemoteID = core.ID{Type: core.IDFQDN, Data: "b.example.net"}
				sign(b, trustIn(k.root), bad).MyID = core.ID{Type: core.IDFQDN, Data: "b.example.net"}
			})
			p.askDelay = 5 * time.Millisecond
			p.up()
			p.run(300 * time.Millisecond)
			if p.a.count(core.EvAuthFailed) == 0 || p.a.count(core.EvInitFailed) > 0 || len(p.a.e.SAs()) != 1 {
				t.Fatalf("%s: %v, %v", name, p.a.e.SAs(), p.a.events)
			}
			if !right {
				p.run(90 * time.Second)
				if r := p.a.reasons(core.EvInitFailed); !strings.Contains(r, "a message came whose proof was refused") {
					t.Errorf("%s: %q", name, r)
				}
				continue
			}
			cfg := *p.b.cfg // now the right one answers
			peer := *cfg.Peers[0]
			id := *peer.Identities[0]
			id.Own = good
			peer.Identities = []*core.Identity{&id}
			cfg.Peers = []*core.Peer{&peer}
			pol := *cfg.Policies[0]
			pol.Peer = &peer
			cfg.Policies = []*core.Policy{&pol}
			p.b.in(core.Reconfigure{Config: &cfg})
			p.until(60*time.Second, name+", then the right one", p.bothUp)
			p.works()
		}
	}
}

// The same in base mode: messages 3 and 4 with a signature or a hash that somebody changed on the way end nothing.
func TestBaseModeForgedProof(t *testing.T) {
	for name, change := range map[string]func(a, b *core.Config){"secret": func(a, b *core.Config) {}, "RSA keys": byRawKeys} {
		for _, who := range []string{"a", "b"} {
			p := newPair(t, 1, quick, inBaseMode, bPassive, change)
			p.askDelay = 5 * time.Millisecond
			from, to := map[string]*side{"a": p.a, "b": p.b}[who], map[string]*side{"a": p.b, "b": p.a}[who]
			forged := 0
			p.tap = func(s *side, o core.Output) {
				send, ok := o.(core.Send)
				if !ok || s != from || forged == 3 {
					return
				}
				m, err := isakmp.Parse(send.Data)
				if err != nil || m.Exchange != isakmp.ExchangeBase {
					return
				}
				changed := false
				for _, x := range m.Payloads {
					switch x := x.(type) {
					case *isakmp.Sig:
						x.Data, changed = append(bytes.Clone(x.Data[:len(x.Data)-1]), x.Data[len(x.Data)-1]^1), true
					case *isakmp.Hash:
						x.Data, changed = append(bytes.Clone(x.Data[:len(x.Data)-1]), x.Data[len(x.Data)-1]^1), true
					}
				}
				if changed {
					forged++
					d := core.Datagram{Local: send.Remote, Remote: send.Local, Data: isakmp.Append(nil, m.Header, m.Payloads)}
					p.clock.After(time.Millisecond, func() { to.in(d) })
				}
			}
			p.drop = func(s *side, _ message.Header) bool { return s == from && forged > 0 && forged < 3 }
			p.up()
			p.until(60*time.Second, fmt.Sprintf("%s, proof of %s: up", name, who), p.bothUp)
			p.works()
			if forged != 3 || to.count(core.EvAuthFailed) == 0 {
				t.Errorf("%s, proof of %s: %d forged, %s", name, who, forged, to.reasons(core.EvAuthFailed))
			}
		}
	}
}

// A message 3 in clear that somebody else signed ends nothing at the responder.
func TestForgedProofOfAnInitiator(t *testing.T) {
	k := rawKeys()
	r := newRig(t, inAggressiveModeRig, fromAnywhere, func(c *core.Config) {
		c.Peers[0].Identities[0] = &core.Identity{Auth: core.AuthRawKey, OwnKey: k[0], RemoteKey: publicOf(k[1])}
	})
	p := newPuppet1(r, 1)
	p.offer.Auth = isakmp.AuthRSASignatures
	m := p.ask(p.aggressive1())
	p.heardKeys(m.Payloads)
	p.derive(false)
	sum := p.hashI(p.idPayload())
	p.say(p.clear(isakmp.ExchangeAggressive, &isakmp.Sig{Data: signed(t, k[2], sum)}))
	if r.count(core.EvAuthFailed) != 1 || len(r.e.SAs()) != 1 || r.established() != 0 {
		t.Fatalf("%v %s", r.e.SAs(), r.reasons())
	}
	p.say(p.clear(isakmp.ExchangeAggressive, &isakmp.Sig{Data: signed(t, k[1], sum)}))
	if r.established() != 1 {
		t.Fatalf("%v %s", r.e.SAs(), r.reasons())
	}
	p.quick(0xc0000001)
	if len(r.children) != 1 {
		t.Errorf("no CHILD SA: %s", r.reasons())
	}
}

// A peer that asks for its certificates in PKCS #7 gets them so, and may send its own so: all of a chain in one payload, in any order.
func TestPKCS7InPhase1(t *testing.T) {
	k := newCerts()
	leaf := k.mid.Leaf("p", "rsa-2048", testcert.DNS("p.example.net"))
	for _, asked := range []bool{true, false} {
		r := newRig(t, inMainModeRig, fromAnywhere, func(c *core.Config) { sign(c, trustIn(k.root), own(k.mid.Leaf("r", "rsa-2048"), k.mid)) })
		p := newPuppet1(r, 1)
		p.offer.Auth, p.id = isakmp.AuthRSASignatures, core.ID{Type: core.IDFQDN, Data: "p.example.net"}
		p.ask(p.clear(isakmp.ExchangeMain, p.sa()))
		ps := []isakmp.Payload{&isakmp.KE{Data: p.ke()}, &isakmp.Nonce{Data: p.ni}}
		if asked {
			ps = append(ps, &isakmp.CertReq{Encoding: isakmp.CertPKCS7, CA: k.root.Cert.RawSubject})
		}
		m := p.ask(p.clear(isakmp.ExchangeMain, ps...))
		p.heardKeys(m.Payloads)
		p.derive(false)
		all, err := isakmp.WrapPKCS7([][]byte{k.mid.Cert.Raw, leaf.Cert.Raw}) // the issuer first
		if err != nil {
			t.Fatal(err)
		}
		id := p.idPayload()
		sig := signWith(t, leaf.Key, p.hashI(id))
		m = p.ask(p.seal(isakmp.ExchangeMain, 0, &p.iv, id, &isakmp.Cert{Encoding: isakmp.CertPKCS7, Data: all}, &isakmp.Sig{Data: sig}))
		c := p.open(m, &p.iv)
		var ders [][]byte
		var body, theirs []byte
		for i, x := range c.Payloads {
			switch x := x.(type) {
			case *isakmp.ID:
				body = c.Body(i)
			case *isakmp.Sig:
				theirs = x.Data
			case *isakmp.Cert:
				if (x.Encoding == isakmp.CertPKCS7) != asked {
					t.Errorf("asked %v: an encoding of %d", asked, x.Encoding)
				}
				if !asked {
					ders = append(ders, x.Data)
				} else if ders, err = isakmp.UnwrapPKCS7(x.Data); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(ders) != 2 || r.established() != 1 {
			t.Fatalf("asked %v: %d certificates, %v %s", asked, len(ders), r.e.SAs(), r.reasons())
		}
		i := slices.IndexFunc(ders, func(der []byte) bool { return !bytes.Equal(der, k.mid.Cert.Raw) })
		cert, err := x509.ParseCertificate(ders[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := schemes.Bare(cert.PublicKey).Verify(cert.PublicKey, p.hashR(body), theirs); err != nil {
			t.Errorf("SIG_R: %v", err)
		}
	}
}
