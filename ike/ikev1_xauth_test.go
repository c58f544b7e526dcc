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
)

// xauth has b ask a, which is the user anna, for name and password.
func xauth(a, b *core.Config) {
	a.Peers[0].Identities[0].XAuth = &core.XAuth{Name: "anna", Password: secret.Bytes("correct horse")}
	b.Peers[0].Identities[0].XAuth = &core.XAuth{Asks: true}
	b.Users = map[string]*core.User{"anna": {Name: "anna", Password: secret.Bytes("correct horse")}, "bert": {Name: "bert", Password: secret.Bytes("battery staple")}}
}

// passwordOf changes what a answers.
func passwordOf(name, password string) func(a, b *core.Config) {
	return func(a, _ *core.Config) {
		a.Peers[0].Identities[0].XAuth = &core.XAuth{Name: name, Password: secret.Bytes(password)}
	}
}

// Name and password come behind phase 1, before mode config and quick mode. Nobody says INITIAL-CONTACT.
func TestXAuth(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, xauth)
	talk := p.talks()
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.run(time.Minute)
	if got := talk.said(); got != script(`
		a: main SA
		b: main SA
		a: main KE N
		b: main KE N
		a: main 192.0.2.1/32 HASH
		b: main 192.0.2.2/32 HASH
		b: config HASH REQUEST user password
		a: config HASH REPLY user=anna password(13)
		b: config HASH SET status=1
		a: config HASH ACK status=1
		a: quick HASH SA N 10.1.0.0/16 10.2.0.0/16
		b: quick HASH SA N 10.1.0.0/16 10.2.0.0/16
		a: quick HASH`) {
		t.Errorf("said\n%s", got)
	}
	if r := p.b.event(core.EvIKEUp).Reason; !strings.Contains(r, `user "anna"`) {
		t.Errorf("%q", r)
	}
	p.works()
}

// With an address behind it, which is the user's.
func TestXAuthAndModeConfig(t *testing.T) {
	p := newRoadWarrior(t, xauth)
	talk, asks := p.talks(), outputsOf[core.Ask](p)
	p.up()
	p.until(5*time.Second, "up", func() bool { return len(p.a.children) == 2 && len(p.b.children) == 2 })
	if said := talk.said(); !strings.Contains(said, script(`
		a: config HASH ACK status=1
		a: config HASH REQUEST address mask dns subnet address6 dns6 subnet6 banner domain networks
		b: config HASH REPLY address=192.168.77.9`)) {
		t.Errorf("said\n%s", said)
	}
	for _, a := range *asks {
		if l, ok := a.Work.(core.Lease); ok && l.Owner != "a\x00\x00user\x00anna" {
			t.Errorf("the lease is for %q", l.Owner)
		}
	}
	p.works()
}

// Each message is lost once, doubled or late.
func TestXAuthMessagesLostDoubledLate(t *testing.T) {
	for _, fate := range []string{"lost", "doubled", "late"} {
		for n := range 13 {
			t.Run(fmt.Sprintf("%s %d", fate, n+1), func(t *testing.T) {
				p := newPair(t, 1, quick, inMainMode, bPassive, xauth)
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
				p.up()
				p.until(20*time.Second, "up", p.bothUp)
				p.run(90 * time.Second)
				p.works()
				if len(p.a.children) != 1 || len(p.b.children) != 1 || len(p.a.e.SAs()) != 1 || len(p.b.e.SAs()) != 1 || p.b.count(core.EvAuthFailed) > 0 {
					t.Errorf("%v, %v", p.a.e.SAs(), p.b.e.SAs())
				}
			})
		}
	}
}

// A wrong password or an unknown user ends the SA, and both ends say why. The password stands nowhere.
func TestXAuthRefused(t *testing.T) {
	for _, c := range []struct{ name, password, says string }{
		{"anna", "wrong horse", `the password of user "anna" is wrong: compare it with password of the [[user]]`},
		{"anna", "", `the password of user "anna" is wrong`},
		{"anna", "correct horse2", `the password of user "anna" is wrong`},
		{"anna", "battery staple", `the password of user "anna" is wrong`},
		{"carl", "correct horse", `there is no user "carl": write a [[user]] with that name`},
		{"", "", `there is no user ""`},
	} {
		p := newPair(t, 1, quick, inMainMode, bPassive, xauth, passwordOf(c.name, c.password))
		talk := p.talks()
		p.up()
		p.run(time.Second / 2)
		if len(p.a.children)+len(p.b.children)+p.a.established()+p.b.established() > 0 {
			t.Errorf("%q: up", c)
		}
		said := talk.said()
		if !strings.Contains(said, "b: config HASH SET status=0\na: config HASH ACK status=0\n") || strings.Contains(said, "quick") {
			t.Errorf("said\n%s", said)
		}
		if e := p.b.event(core.EvAuthFailed); !strings.HasPrefix(e.Reason, c.says) || e.Exchange != "XAuth" {
			t.Errorf("%+v", e)
		}
		if e := p.a.event(core.EvAuthFailed); !strings.Contains(e.Reason, fmt.Sprintf("refused user %q", c.name)) || !strings.Contains(e.Reason, "compare username and password") {
			t.Errorf("%+v", e)
		}
		for _, e := range append(p.a.events, p.b.events...) {
			if c.password != "" && strings.Contains(fmt.Sprintf("%+v", e), c.password) {
				t.Errorf("the password is in %+v", e)
			}
		}
		p.run(2 * time.Second)
		if n := p.b.count(core.EvIKEUp); n > 0 {
			t.Errorf("%d IKE SAs were up", n)
		}
	}
}

// After some wrong passwords no more are looked at for a while, not even the right one; the pause becomes longer.
func TestXAuthGuesses(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, xauth, passwordOf("anna", "wrong"))
	p.up()
	looked := func() (n int) {
		for _, e := range p.b.events {
			if e.Kind == core.EvAuthFailed && strings.Contains(e.Reason, "is wrong") {
				n++
			}
		}
		return n
	}
	p.run(10 * time.Minute)
	if n := looked(); n < 6 || n > 14 {
		t.Errorf("%d passwords were looked at in ten minutes", n)
	}
	if p.b.count(core.EvAuthFailed) == looked() {
		t.Error("no password was passed over")
	}
	good := *p.a.cfg
	peer := *good.Peers[0]
	id := *peer.Identities[0]
	id.XAuth = &core.XAuth{Name: "anna", Password: secret.Bytes("correct horse")}
	peer.Identities = []*core.Identity{&id}
	pol := *good.Policies[0]
	pol.Peer = &peer
	good.Peers, good.Policies = []*core.Peer{&peer}, []*core.Policy{&pol}
	p.a.in(core.Reconfigure{Config: &good})
	p.until(10*time.Minute, "up with the right password", p.bothUp)
}

// A peer that offers a pre-shared key without XAuth does not get by, whichever end has XAuth.
func TestXAuthIsNotEvaded(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, xauth, func(a, _ *core.Config) { a.Peers[0].Identities[0].XAuth = nil })
	p.up()
	p.run(80 * time.Second)
	if p.a.established()+p.b.established() > 0 {
		t.Error("up without XAuth")
	}
	if e := p.b.event(core.EvNoProposal); !strings.Contains(e.Reason, "would prove itself by pre-shared key, and no identity") {
		t.Errorf("%+v", e)
	}
	// Beside an identity without XAuth, with another secret.
	q := newPair(t, 1, quick, inMainMode, bPassive, xauth, func(a, b *core.Config) {
		a.Peers[0].Identities[0].XAuth = nil
		b.Peers[0].Identities = append(b.Peers[0].Identities, &core.Identity{Auth: core.AuthPSK, Secret: secret.Bytes("another secret")})
	})
	q.up()
	q.run(80 * time.Second)
	if q.a.established()+q.b.established() > 0 {
		t.Error("up by the secret that is for XAuth, without XAuth")
	}
}

// Before XAuth is through nothing else is done for a peer, and its say about others does not count: it has the secret of a group.
func TestNothingBeforeXAuth(t *testing.T) {
	p := newRoadWarrior(t, xauth, func(a, _ *core.Config) { a.Peers[0].Identities[0].XAuth.Password = secret.Bytes("correct horse") })
	p.drop = func(from *side, h message.Header) bool {
		return from == p.a && h.Exchange == isakmp.ExchangeTransaction
	}
	added := outputsOf[core.AddPolicy](p)
	p.up()
	p.run(time.Second)
	p.a.dead = true
	p.run(20 * time.Second)
	if len(*added)+len(p.a.children)+len(p.b.children)+p.a.established()+p.b.established() > 0 || p.b.count(core.EvLeased) > 0 {
		t.Errorf("%v, %v", p.a.e.SAs(), p.b.e.SAs())
	}
	p.run(80 * time.Second)
	if e := p.b.event(core.EvBadMessage); !strings.Contains(e.Reason, "did not answer in 12 attempts when it was asked for name and password") || !p.b.e.Idle() {
		t.Errorf("%+v, %v", e, p.b.e.SAs())
	}
}

// A server that never asks is left after a while.
func TestNobodyAsksForXAuth(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, xauth)
	p.drop = func(from *side, h message.Header) bool {
		return from == p.b && h.Exchange == isakmp.ExchangeTransaction
	}
	p.up()
	p.run(31 * time.Second)
	if e := p.a.event(core.EvInitFailed); !strings.Contains(e.Reason, "did not ask for name and password (XAuth) within 30s") || e.Exchange != "XAuth" {
		t.Errorf("%+v", e)
	}
}

// A new phase 1: a peer that is asked answers again; one that goes on without being asked is the user that it was.
func TestXAuthAtARekey(t *testing.T) {
	for _, c := range []string{"answers", "is not asked"} {
		p := newRoadWarrior(t, xauth)
		p.up()
		p.until(5*time.Second, "up", func() bool { return len(p.a.children) == 2 && len(p.b.children) == 2 })
		p.run(time.Minute)
		old := p.a.e.SAs()[0].ID
		p.drop = func(from *side, h message.Header) bool {
			return h.Exchange == isakmp.ExchangeTransaction && c == "is not asked" && from == p.b
		}
		p.a.in(core.Command{Do: core.RekeyIKE})
		p.run(2 * time.Minute)
		as, bs := p.a.e.SAs(), p.b.e.SAs()
		if len(as) != 1 || len(bs) != 1 || as[0].ID == old || as[0].SPIi != bs[0].SPIi || len(as[0].Leased) != 1 || len(bs[0].Leased) != 1 || len(bs[0].Children) != 2 {
			t.Errorf("%s: %+v\n%+v", c, as, bs)
		}
		p.drop = nil
		p.a.in(core.Command{Do: core.RekeyChildren})
		p.run(time.Second)
		p.works()
	}
}

// A user that is taken out of the configuration has no SA any more.
func TestXAuthUserIsRemoved(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, xauth)
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	cfg := *p.b.cfg
	cfg.Users = map[string]*core.User{"bert": cfg.Users["bert"]}
	p.b.in(core.Reconfigure{Config: &cfg})
	p.run(100 * time.Millisecond)
	if e := p.b.event(core.EvIKEDown); !strings.Contains(e.Reason, "its user was removed") || p.b.established() > 0 {
		t.Errorf("%+v", e)
	}
}
