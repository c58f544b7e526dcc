package ike

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	"culvert/internal/testing/testcert"
)

// inHybrid has b prove itself by a certificate, and a, the user anna, by name and password alone.
func inHybrid(k certs) func(a, b *core.Config) {
	leaf := own(k.root.Leaf("gw", "rsa-2048", testcert.DNS("gw.example.net")))
	return func(a, b *core.Config) {
		xauth(a, b)
		a.Trust, b.Trust = trustIn(k.root), trustIn(k.root)
		client, gateway := a.Peers[0].Identities[0], b.Peers[0].Identities[0]
		client.Auth, client.RemoteAuth, client.Secret = core.AuthByUser, core.AuthSignature, nil
		client.RemoteID = core.ID{Type: core.IDFQDN, Data: "gw.example.net"}
		gateway.Auth, gateway.RemoteAuth, gateway.Secret = core.AuthSignature, core.AuthByUser, nil
		gateway.Own = leaf
	}
}

// The gateway signs, the client sends a hash, and XAuth follows.
func TestHybrid(t *testing.T) {
	k := newCerts()
	for _, c := range []struct {
		mode    func(a, b *core.Config)
		phase1  string
		gateway bool // it begins
	}{
		{inMainMode, `
			a: main SA
			b: main SA
			a: main KE N *isakmp.CertReq
			b: main KE N
			a: main 192.0.2.1/32 HASH
			b: main ID *isakmp.Cert *isakmp.Sig`, false},
		{inAggressiveMode, `
			a: aggressive SA KE N 192.0.2.1/32 *isakmp.CertReq
			b: aggressive SA KE N ID *isakmp.Cert *isakmp.Sig
			a: aggressive HASH`, false},
		{inMainMode, `
			b: main SA
			a: main SA
			b: main KE N
			a: main KE N *isakmp.CertReq
			b: main ID *isakmp.Cert *isakmp.Sig
			a: main 192.0.2.1/32 HASH`, true},
		{inAggressiveMode, `
			b: aggressive SA KE N ID
			a: aggressive SA KE N 192.0.2.1/32 HASH *isakmp.CertReq
			b: aggressive *isakmp.Cert *isakmp.Sig`, true},
	} {
		p := newPair(t, 1, quick, c.mode, inHybrid(k), func(a, b *core.Config) {
			a.Peers[0].Passive, b.Peers[0].Passive = c.gateway, !c.gateway
		})
		talk := p.talks()
		p.askDelay = 10 * time.Millisecond
		p.up()
		p.until(5*time.Second, "up", p.bothUp)
		if got, want := talk.said(), script(c.phase1+`
			b: config HASH REQUEST user password
			a: config HASH REPLY user=anna password(13)
			b: config HASH SET status=1`); !strings.HasPrefix(got, want) {
			t.Errorf("said\n%s\n\nwant\n%s", got, want)
		}
		if r := p.b.event(core.EvIKEUp).Reason; !strings.Contains(r, `user "anna"`) {
			t.Errorf("%q", r)
		}
		p.works()
	}
}

// Each message is lost once, doubled or late.
func TestHybridMessagesLostDoubledLate(t *testing.T) {
	hybrid := inHybrid(newCerts())
	for name, mode := range map[string]func(a, b *core.Config){"main": inMainMode, "aggressive": inAggressiveMode} {
		for _, fate := range []string{"lost", "doubled", "late"} {
			for n := range 13 {
				p := newPair(t, 1, quick, mode, bPassive, hybrid)
				p.meets(fate, n)
				p.up()
				p.until(20*time.Second, fmt.Sprintf("up, %s mode, %s %d", name, fate, n+1), p.bothUp)
				p.run(90 * time.Second)
				p.works()
				if len(p.a.children) != 1 || len(p.b.children) != 1 || len(p.a.e.SAs()) != 1 || len(p.b.e.SAs()) != 1 {
					t.Errorf("%s mode, %s %d: %v, %v", name, fate, n+1, p.a.e.SAs(), p.b.e.SAs())
				}
			}
		}
	}
}

// A gateway that cannot prove itself never sees the password, and a user with a wrong one is not let in.
func TestHybridRefused(t *testing.T) {
	k := newCerts()
	for name, c := range map[string]struct {
		change func(a, b *core.Config)
		says   string
		by     func(*pair) *side
	}{
		"authority": {func(_, b *core.Config) {
			b.Peers[0].Identities[0].Own = own(k.other.Leaf("gw", "rsa-2048", testcert.DNS("gw.example.net")))
		}, "authority", func(p *pair) *side { return p.a }},
		"name": {func(_, b *core.Config) {
			b.Peers[0].Identities[0].Own = own(k.root.Leaf("x", "rsa-2048", testcert.DNS("x.example.net")))
		}, "remote-id wants fqdn:gw.example.net", func(p *pair) *side { return p.a }},
		"password": {passwordOf("anna", "wrong"), `the password of user "anna" is wrong`, func(p *pair) *side { return p.b }},
		"a secret instead": {func(a, _ *core.Config) {
			a.Peers[0].Identities[0] = &core.Identity{Auth: core.AuthPSK, Secret: secret.Bytes("group"), XAuth: a.Peers[0].Identities[0].XAuth}
		}, "would prove itself by pre-shared key and XAuth, and no identity", func(p *pair) *side { return p.b }},
	} {
		for _, mode := range []func(a, b *core.Config){inMainMode, inAggressiveMode} {
			p := newPair(t, 1, quick, mode, bPassive, inHybrid(k), c.change)
			talk := p.talks()
			p.up()
			p.run(time.Second)
			if p.a.established()+p.b.established()+len(p.a.children)+len(p.b.children) > 0 {
				t.Errorf("%s: up", name)
			}
			if r := c.by(p).reasons(core.EvAuthFailed) + c.by(p).reasons(core.EvNoProposal); !strings.Contains(r, c.says) {
				t.Errorf("%s: %q", name, r)
			}
			if said := talk.said(); name != "password" && strings.Contains(said, "password(") {
				t.Errorf("%s: the password went out: %s", name, said)
			}
		}
	}
}

// Phase 1 proves nothing of the client, so each phase 1 needs an XAuth of its own. A client at a user's address that
// does not answer does not become that user.
func TestHybridAtARekey(t *testing.T) {
	k := newCerts()
	for _, silent := range []bool{false, true} {
		p := newPair(t, 1, quick, inMainMode, bPassive, inHybrid(k))
		p.up()
		p.until(5*time.Second, "up", p.bothUp)
		old := p.a.e.SAs()[0].ID
		p.drop = func(from *side, h message.Header) bool {
			return silent && h.Exchange == isakmp.ExchangeTransaction && from == p.a
		}
		p.a.in(core.Command{Do: core.RekeyIKE})
		p.run(2 * time.Minute)
		if as := p.a.e.SAs(); !silent && (len(as) != 1 || as[0].ID == old || p.b.count(core.EvIKEUp) != 2) {
			t.Errorf("%+v", as)
		}
		if n := p.b.count(core.EvIKEUp); silent && n != 1 {
			t.Errorf("%d IKE SAs were up at the gateway, though XAuth of the second was never answered", n)
		}
		p.drop = nil
		p.run(2 * time.Minute)
		p.works()
	}
}

// A hash that is wrong says that somebody else wrote the message: it is passed over.
func TestHybridForgedHash(t *testing.T) {
	k := newCerts()
	r := newRig(t, inMainModeRig, fromAnywhere, func(c *core.Config) {
		inHybrid(k)(&core.Config{Peers: []*core.Peer{{Identities: []*core.Identity{{}}}}}, c)
	})
	p := newPuppet1(r, 1)
	p.offer.Auth = isakmp.AuthHybridInitRSA
	p.ask(p.clear(isakmp.ExchangeMain, p.sa()))
	m := p.ask(p.clear(isakmp.ExchangeMain, &isakmp.KE{Data: p.ke()}, &isakmp.Nonce{Data: p.ni}))
	p.heardKeys(m.Payloads)
	p.derive(false)
	id, iv := p.idPayload(), p.iv
	if out := p.say(p.seal(isakmp.ExchangeMain, 0, &iv, id, &isakmp.Hash{Data: make([]byte, 32)})); len(out) > 0 {
		t.Error("a wrong hash has an answer")
	}
	if out := p.say(p.seal(isakmp.ExchangeMain, 0, &p.iv, id, &isakmp.Hash{Data: p.hashI(id)})); len(out) != 2 {
		t.Errorf("%d answers, not message 6 and the request of XAuth: %s", len(out), r.reasons())
	}
	if r.established() != 0 {
		t.Error("up without XAuth")
	}
}

// hybrid is main mode with hybrid authentication, up to the endpoint's request of XAuth.
func (p *puppet1) hybrid() *dialog {
	p.t.Helper()
	p.offer.Auth = isakmp.AuthHybridInitRSA
	p.ask(p.clear(isakmp.ExchangeMain, p.sa()))
	p.heardKeys(p.ask(p.clear(isakmp.ExchangeMain, &isakmp.KE{Data: p.ke()}, &isakmp.Nonce{Data: p.ni})).Payloads)
	p.derive(false)
	id := p.idPayload()
	out := p.say(p.seal(isakmp.ExchangeMain, 0, &p.iv, id, &isakmp.Hash{Data: p.hashI(id)}))
	if len(out) != 2 {
		p.t.Fatalf("%d messages, not the proof and the request: %s", len(out), p.r.reasons())
	}
	m, err := isakmp.Parse(out[0])
	if err != nil {
		p.t.Fatal(err)
	}
	p.open(m, &p.iv)
	return p.heard(out[1])
}

// A stranger at the address of a user, who needs nothing to get through phase 1, does not become that user: not by silence, nor by
// quick mode, nor by deleting the user's SA.
func TestHybridIsNotInherited(t *testing.T) {
	k := newCerts()
	r := newRig(t, inMainModeRig, fromAnywhere, func(c *core.Config) {
		inHybrid(k)(&core.Config{Peers: []*core.Peer{{Identities: []*core.Identity{{}}}}}, c)
	})
	anna := newPuppet1(r, 1)
	if anna.hybrid().replies("anna", "correct horse").status() != 1 || r.established() != 1 {
		t.Fatalf("%v %s", r.e.SAs(), r.reasons())
	}
	r.pass(time.Minute)
	stranger := newPuppet1(r, 2)
	stranger.hybrid()
	h := stranger.header(isakmp.ExchangeQuick, 0x9999)
	if out := stranger.say(isakmp.AppendSealed(nil, h, isakmp.TypeHash, make([]byte, 64))); len(out) > 0 {
		t.Error("quick mode is answered")
	}
	stranger.inform(&isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{anna.cookies()}})
	r.pass(2 * time.Minute)
	if n := r.count(core.EvIKEUp); n != 1 {
		t.Errorf("%d IKE SAs were up: %s", n, r.reasons())
	}
}
