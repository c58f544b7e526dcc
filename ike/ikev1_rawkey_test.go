package ike

import (
	"crypto/rsa"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/crypto/pki"
	"culvert/ike/core"
	"culvert/internal/testing/testcert"
)

// rawKeys are three RSA keys, which are made once.
var rawKeys = sync.OnceValue(func() (list [3]*core.RawKey) {
	for i := range list {
		k := testcert.Key("rsa-2048")
		list[i] = &core.RawKey{Name: fmt.Sprint("key", i), Public: k.Public().(*rsa.PublicKey), Key: pki.NewKey(k)}
	}
	return list
})

// publicOf is a key as the other end has it.
func publicOf(k *core.RawKey) *core.RawKey { return &core.RawKey{Name: k.Name, Public: k.Public} }

// byRawKeys has each end sign with a key that the other one knows.
func byRawKeys(a, b *core.Config) {
	k := rawKeys()
	a.Peers[0].Identities[0] = &core.Identity{Auth: core.AuthRawKey, OwnKey: k[0], RemoteKey: publicOf(k[1])}
	b.Peers[0].Identities[0] = &core.Identity{Auth: core.AuthRawKey, OwnKey: k[1], RemoteKey: publicOf(k[0])}
}

// Both ends sign, and no certificate is asked for or sent.
func TestRawKeys(t *testing.T) {
	for _, c := range []struct {
		mode func(a, b *core.Config)
		want string
	}{
		{inMainMode, `
			a: main SA
			b: main SA
			a: main KE N
			b: main KE N
			a: main 192.0.2.1/32 *isakmp.Sig INITIAL-CONTACT
			b: main 192.0.2.2/32 *isakmp.Sig`},
		{inAggressiveMode, `
			a: aggressive SA KE N 192.0.2.1/32
			b: aggressive SA KE N 192.0.2.2/32 *isakmp.Sig
			a: aggressive *isakmp.Sig INITIAL-CONTACT`},
	} {
		p := newPair(t, 1, quick, c.mode, bPassive, byRawKeys, func(a, b *core.Config) {
			a.Trust = trustIn(newCerts().root) // of other peers
			a.Peers[0].InitialContact = true
		})
		p.askDelay = 10 * time.Millisecond
		talk := p.talks()
		p.up()
		p.until(5*time.Second, "up", p.bothUp)
		if got := talk.said(); !strings.HasPrefix(got, script(c.want)) {
			t.Errorf("said\n%s\n\nwant\n%s", got, script(c.want))
		}
		p.works()
	}
}

// Each message is lost once, doubled or late.
func TestRawKeysLostDoubledLate(t *testing.T) {
	for name, mode := range map[string]func(a, b *core.Config){"main": inMainMode, "aggressive": inAggressiveMode} {
		for _, fate := range []string{"lost", "doubled", "late"} {
			for n := range 9 {
				p := newPair(t, 1, quick, mode, bPassive, byRawKeys)
				p.askDelay = 30 * time.Millisecond
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

// A peer that signs with another key than its identity names is refused, whichever end it is.
func TestRawKeysRefused(t *testing.T) {
	for _, who := range []string{"a", "b"} {
		p := newPair(t, 1, quick, inMainMode, bPassive, byRawKeys, func(a, b *core.Config) {
			map[string]*core.Config{"a": a, "b": b}[who].Peers[0].Identities[0].OwnKey = rawKeys()[2]
		})
		p.up()
		p.run(3 * time.Second)
		other := map[string]*side{"a": p.b, "b": p.a}[who]
		if e := other.event(core.EvAuthFailed); !strings.Contains(e.Reason, "is not by remote-key") || e.Detail == nil || !strings.Contains(e.Detail.Hint, "import its public key anew") {
			t.Errorf("of %s: %+v", who, e)
		}
		if p.a.established()+p.b.established() != 0 {
			t.Errorf("of %s: up", who)
		}
	}
}

// A key that cannot sign ends the attempt, and we say which it is.
func TestRawKeyThatCannotSign(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, byRawKeys, func(a, _ *core.Config) {
		k := rawKeys()[0]
		a.Peers[0].Identities[0].OwnKey = &core.RawKey{Name: k.Name, Public: k.Public, Key: pki.WithoutPrivate(k.Public)}
	})
	p.up()
	p.run(time.Second)
	if e := p.a.event(core.EvAuthFailed); !strings.Contains(e.Reason, `we cannot sign with key "key0": the private key is not at hand`) || p.a.established() > 0 {
		t.Errorf("%+v", e)
	}
}

// Of several identities that sign, the one of the peer is found: by its ID, and by whether a certificate came.
func TestRawKeysBesideCertificates(t *testing.T) {
	k, certs := rawKeys(), newCerts()
	id := core.ID{Type: core.IDFQDN, Data: "a.example.net"}
	for _, raw := range []bool{true, false} {
		p := newPair(t, 1, quick, inMainMode, bPassive, func(a, b *core.Config) {
			mine := own(certs.root.Leaf("b", "rsa-2048"))
			signs := sign(b, trustIn(certs.root), mine)
			signs.RemoteID = id
			b.Peers[0].Identities = append(b.Peers[0].Identities,
				&core.Identity{Auth: core.AuthRawKey, OwnKey: k[1], RemoteKey: publicOf(k[2]), RemoteID: core.ID{Type: core.IDFQDN, Data: "x.example.net"}},
				&core.Identity{Auth: core.AuthRawKey, OwnKey: k[1], RemoteKey: publicOf(k[0]), RemoteID: id})
			if raw {
				a.Peers[0].Identities[0] = &core.Identity{Auth: core.AuthRawKey, OwnKey: k[0], RemoteKey: publicOf(k[1]), MyID: id}
				return
			}
			sign(a, trustIn(certs.root), own(certs.root.Leaf("a", "rsa-2048", testcert.DNS("a.example.net"))))
		})
		p.up()
		p.until(5*time.Second, "up", p.bothUp)
		p.works()
	}
}

// A key that two identities name does not prove which of them the peer is.
func TestRawKeyOfTwoIDs(t *testing.T) {
	k := rawKeys()
	id := func(name string) *core.Identity {
		return &core.Identity{Auth: core.AuthRawKey, OwnKey: k[0], RemoteKey: publicOf(k[1]), RemoteID: core.ID{Type: core.IDFQDN, Data: name}}
	}
	one, two, alone := id("one"), id("two"), id("three")
	alone.RemoteKey = publicOf(k[2])
	shared := sharedSecrets(&core.Config{Peers: []*core.Peer{{Identities: []*core.Identity{one, two, alone}}}})
	if !shared[one] || !shared[two] || shared[alone] {
		t.Errorf("%v", shared)
	}
}
