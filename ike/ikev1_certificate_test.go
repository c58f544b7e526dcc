package ike

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/testcert"
)

// Every kind of key that IKEv1 has signatures with, each way; the names of the certificates are the IDs, and each end sends
// its chain.
func TestMainModeCertificates(t *testing.T) {
	k := newCerts()
	for _, kind := range []string{"rsa-2048", "p256", "p384", "p521"} {
		p := newPair(t, 1, quick, inMainMode, bPassive, func(a, b *core.Config) {
			sign(a, trustIn(k.root), own(k.mid.Leaf("a", kind, testcert.DNS("a.example.net")), k.mid))
			sign(b, trustIn(k.root), own(k.root.Leaf("b", kind)))
		})
		p.askDelay = 30 * time.Millisecond
		p.up()
		p.until(10*time.Second, "up", p.bothUp)
		p.works()
		at, bt := p.a.e.SAs()[0], p.b.e.SAs()[0]
		if at.LocalID.String() != "fqdn:a.example.net" || bt.RemoteID != at.LocalID || bt.LocalID.Type != core.IDDN || at.RemoteID != bt.LocalID {
			t.Errorf("%s: a is %v, to b %v; b is %v, to a %v", kind, at.LocalID, bt.RemoteID, bt.LocalID, at.RemoteID)
		}
		if n := len(p.a.sent) + len(p.b.sent); n != 9 {
			t.Errorf("%s: %d messages, not 9", kind, n)
		}
	}
}

// Each message is lost once, or comes twice, or a second later, while signing and checking take their time.
func TestMainModeCertificatesLostDoubledLate(t *testing.T) {
	k := newCerts()
	for _, fate := range []string{"lost", "doubled", "late"} {
		for n := range 9 {
			p := newPair(t, 1, quick, inMainMode, bPassive, func(a, b *core.Config) {
				sign(a, trustIn(k.root), own(k.root.Leaf("a", "p256")))
				sign(b, trustIn(k.root), own(k.root.Leaf("b", "p256")))
			})
			p.askDelay = 30 * time.Millisecond
			p.meets(fate, n)
			p.up()
			p.until(20*time.Second, fmt.Sprintf("up, %s %d", fate, n+1), p.bothUp)
			p.run(90 * time.Second)
			p.works()
			if len(p.a.children) != 1 || len(p.b.children) != 1 || len(p.a.e.SAs()) != 1 || len(p.b.e.SAs()) != 1 {
				t.Errorf("%s %d: %d and %d CHILD SAs, %d and %d IKE SAs", fate, n+1, len(p.a.children), len(p.b.children), len(p.a.e.SAs()), len(p.b.e.SAs()))
			}
		}
	}
}

// meets has message n, from 0, lost, doubled or late by a second.
func (p *pair) meets(fate string, n int) {
	at := 0
	p.carry = func(deliver func()) {
		at++
		switch {
		case at-1 != n:
			deliver()
		case fate == "doubled":
			deliver()
			deliver()
		case fate == "late":
			p.clock.After(time.Second, deliver)
		}
	}
}

// What is wrong with a certificate is said as in IKEv2, whoever has it, and neither end keeps an SA.
func TestMainModeCertificatesRefused(t *testing.T) {
	k := newCerts()
	good := func(name string) *core.Credential { return own(k.root.Leaf(name, "rsa-2048", testcert.DNS(name))) }
	for name, c := range map[string]struct {
		bad  *core.Credential
		id   core.ID
		want string
	}{
		"authority":  {bad: own(k.other.Leaf("x", "rsa-2048")), want: "authority"},
		"name":       {bad: good("x"), id: core.ID{Type: core.IDFQDN, Data: "y"}, want: "which its certificate does not"},
		"key":        {bad: &core.Credential{Name: "x", Chain: good("x").Chain, Key: good("x").Key}, want: "the signature is wrong"},
		"validity":   {bad: own(k.root.Leaf("x", "rsa-2048", testcert.Valid(epoch.Add(-48*time.Hour), epoch.Add(-24*time.Hour)))), want: "expired"},
		"the method": {bad: own(k.root.Leaf("x", "p256")), want: "no identity of peer"},
	} {
		for _, who := range []string{"a", "b"} {
			p := newPair(t, 1, quick, inMainMode, bPassive, func(a, b *core.Config) {
				for _, s := range []struct {
					c    *core.Config
					name string
				}{{a, "a"}, {b, "b"}} {
					cred := good(s.name)
					if s.name == who {
						cred = c.bad
					}
					id := sign(s.c, trustIn(k.root), cred)
					if s.name == who {
						id.MyID = c.id
					}
				}
			})
			p.up()
			p.run(3 * time.Second)
			other := map[string]*side{"a": p.b, "b": p.a}[who]
			if name == "the method" {
				other = p.b
			}
			if r := other.reasons(core.EvAuthFailed) + other.reasons(core.EvNoProposal); !strings.Contains(r, c.want) {
				t.Errorf("%s of %s: %q", name, who, r)
			}
			if p.a.established()+p.b.established() != 0 {
				t.Errorf("%s of %s: %v, %v", name, who, p.a.e.SAs(), p.b.e.SAs())
			}
		}
	}
}

// Peers of one address are told apart by what their certificates say.
func TestMainModeCertificatesOfSeveralPeers(t *testing.T) {
	k := newCerts()
	p := newPair(t, 1, quick, inMainMode, bPassive, func(a, b *core.Config) {
		sign(a, trustIn(k.root), own(k.root.Leaf("a", "p256", testcert.DNS("a.example.net"))))
		sign(b, trustIn(k.root), own(k.root.Leaf("b", "p256"))).RemoteID = core.ID{Type: core.IDFQDN, Data: "a.example.net"}
		other := *b.Peers[0]
		other.Name = "other"
		id := *other.Identities[0]
		id.RemoteID = core.ID{Type: core.IDFQDN, Data: "other.example.net"}
		other.Identities = []*core.Identity{&id}
		b.Peers = append([]*core.Peer{&other}, b.Peers...)
	})
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	if sas := p.b.e.SAs(); len(sas) != 1 || sas[0].Peer != "a" {
		t.Errorf("%v", sas)
	}
	p.works()
}

// A peer with a key that IKEv1 has no signatures with says so.
func TestMainModeEd25519(t *testing.T) {
	k := newCerts()
	p := newPair(t, 1, quick, inMainMode, bPassive, func(a, b *core.Config) {
		sign(a, trustIn(k.root), own(k.root.Leaf("a", "ed25519")))
		sign(b, trustIn(k.root), own(k.root.Leaf("b", "ed25519")))
	})
	p.drop = func(*side, message.Header) bool { t.Error("something was sent"); return true }
	p.up()
	p.run(time.Second)
	if r := p.a.reasons(core.EvInitFailed); !strings.Contains(r, "RSA or ECDSA key") {
		t.Errorf("%q", r)
	}
}

// Phase 1 is made anew with certificates, by each end and by both at once, while signing and checking take their time. No packet is
// lost over it, and what proved the ends counts anew.
func TestPhase1RekeyedWithCertificates(t *testing.T) {
	k := newCerts()
	for _, mode := range []func(a, b *core.Config){inMainMode, inAggressiveMode} {
		for _, who := range []string{"a", "b", "both"} {
			p := newPair(t, 1, quick, mode, longChildren, func(a, b *core.Config) {
				sign(a, trustIn(k.root), own(k.mid.Leaf("a", "p256"), k.mid))
				sign(b, trustIn(k.root), own(k.root.Leaf("b", "p256")))
				if who != "both" {
					a.Peers[0].Passive, b.Peers[0].Passive = who == "b", who == "a"
				}
			})
			p.askDelay = 300 * time.Millisecond
			p.up()
			p.until(20*time.Second, "up", p.bothUp)
			p.flows(time.Minute)
			first, proven := p.a.e.SAs()[0].ID, map[*side]time.Time{}
			for _, s := range []*side{p.a, p.b} {
				for _, sa := range s.e.bySPI {
					proven[s] = sa.Auth.Proven
				}
				if who == "both" || who == s.name {
					s.in(core.Command{Do: core.RekeyIKE})
				}
			}
			p.flows(90 * time.Second)
			as, bs := p.a.e.SAs(), p.b.e.SAs()
			if len(as) != 1 || len(bs) != 1 || as[0].ID == first || as[0].SPIi != bs[0].SPIi || len(as[0].Children) != 1 || p.a.count(core.EvChildDown) != 0 {
				t.Errorf("%s: %v\n%v", who, as, bs)
			}
			for _, s := range []*side{p.a, p.b} {
				for _, sa := range s.e.bySPI {
					if !sa.Auth.Proven.After(proven[s]) || sa.Auth.Until.IsZero() {
						t.Errorf("%s: %s proved at %v, before %v, until %v", who, s.name, sa.Auth.Proven, proven[s], sa.Auth.Until)
					}
				}
			}
		}
	}
}
