package ike

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
	"culvert/spd/selector"
)

// Several identities of one peer, each with a secret of its own.

// twoClients makes of the rig's peer two, alice and bob, behind each of whom is a network:
// alice's policy stands first.
func twoClients(c *core.Config) {
	p := c.Peers[0]
	alice, bob := *p.Identities[0], *p.Identities[0]
	alice.RemoteID, alice.Secret = fqdn("alice"), []byte("secret of alice")
	bob.RemoteID, bob.Secret = fqdn("bob"), []byte("secret of bob")
	p.Identities = []*core.Identity{&alice, &bob}
	a, b := *c.Policies[0], *c.Policies[0]
	b.Ref, b.Index = a.Ref+1, 1
	a.Pair.Remote, a.Identity = selector.FromPrefix(netip.MustParsePrefix("10.2.1.0/24")), &alice
	b.Pair.Remote, b.Identity = selector.FromPrefix(netip.MustParsePrefix("10.2.2.0/24")), &bob
	c.Policies = []*core.Policy{&a, &b}
	c.Where = func(entry any, key string) string {
		switch {
		case entry == any(&a) && key == "identity":
			return "site.toml:31"
		case entry == any(&bob):
			return "site.toml:20"
		}
		return ""
	}
}

func (r *rig) client(seed byte, name string) *puppet {
	p := newPuppet(r, seed)
	p.id, p.psk = fqdn(name), "secret of "+name
	return p
}

// Nobody gets the CHILD SA of a policy that is for another identity of the peer: in
// IKE_AUTH, in CREATE_CHILD_SA, or by asking for everything; whoever asks for more gets
// the own part alone, and is told which line says so.
func TestAPolicyIsForItsIdentity(t *testing.T) {
	for name, c := range map[string]struct {
		tsi  string
		want string // what bob has; "": nothing
	}{
		"alice's":           {"10.2.1.0/24", ""},
		"a host of alice's": {"10.2.1.7/32", ""},
		"his own":           {"10.2.2.0/24", "10.1.0.0/16 => 10.2.2.0/24"},
		"both":              {"10.2.0.0/16", "10.1.0.0/16 => 10.2.2.0/24"},
		"everything":        {"0.0.0.0/0", "10.1.0.0/16 => 10.2.2.0/24"},
		"nobody's":          {"10.9.0.0/16", ""},
	} {
		for _, later := range []bool{false, true} {
			r := newRig(t, twoClients)
			p := r.client(1, "bob")
			p.init()
			ps := []message.Payload(nil)
			if later {
				p.auth(p.authPayloads()...)
				ps = p.request(message.ExchangeCreateChildSA, append([]message.Payload{nonce(3)}, p.offer(ts(true, c.tsi), ts(false, "10.1.0.0/16"))...)...)
			} else {
				ps = p.auth(p.authPayloads(p.offer(ts(true, c.tsi), ts(false, "10.1.0.0/16"))...)...)
			}
			if c.want == "" {
				if findNotify(ps, message.NotifyTSUnacceptable) == nil || len(r.children) != 0 {
					t.Errorf("%s, later %v: %s, CHILD SAs for %v", name, later, describe(ps), r.pairs())
				}
				e := r.event(core.EvTSUnacceptable)
				if strings.Contains(name, "alice's") && (e.Detail == nil || e.Detail.Where != "site.toml:31" || !strings.Contains(e.Detail.Hint, "for another identity than fqdn:bob proved to be (site.toml:20)")) {
					t.Errorf("%s, later %v: the event says %+v", name, later, e.Detail)
				}
				continue
			}
			if got := r.pairs(); len(got) != 1 || got[0] != c.want {
				t.Errorf("%s, later %v: %s, CHILD SAs for %v, not %s", name, later, describe(ps), got, c.want)
			}
		}
	}
}

// A policy that names nobody is for each identity, as before.
func TestAPolicyOfNoIdentity(t *testing.T) {
	r := newRig(t, twoClients, func(c *core.Config) { c.Policies[0].Identity = nil })
	for i, name := range []string{"alice", "bob"} {
		p := r.client(byte(i+1), name)
		p.init()
		says(t, p.auth(p.authPayloads(p.offer(ts(true, "10.2.1.0/24"), ts(false, "10.1.0.0/16"))...)...), "IDr AUTH SA TSi TSr")
	}
}

// asBoth has a connect to b as alice and as bob, which are two identities at both ends.
func asBoth(a, b *core.Config) {
	for i, c := range []*core.Config{a, b} {
		p := c.Peers[0]
		alice, bob := *p.Identities[0], *p.Identities[0]
		alice.Secret, bob.Secret = []byte("secret of alice"), []byte("secret of bob")
		if i == 0 {
			alice.MyID, bob.MyID = fqdn("alice"), fqdn("bob")
		} else {
			alice.RemoteID, bob.RemoteID = fqdn("alice"), fqdn("bob")
		}
		p.Identities = []*core.Identity{&alice, &bob}
		p.Passive = i == 1
		one, two := *c.Policies[0], *c.Policies[0]
		two.Ref, two.Index = one.Ref+1, 1
		net := selector.FromPrefix(netip.MustParsePrefix("10.77.0.0/16")) // behind a, bob's
		if i == 0 {
			two.Pair.Local = net
		} else {
			two.Pair.Remote = net
		}
		one.Identity, two.Identity = &alice, &bob
		c.Policies = []*core.Policy{&one, &two}
	}
}

// As the initiator we connect as the identity that a policy is for, and make an IKE SA for each; what is rekeyed,
// authenticated anew or lost comes back as the same identity.
func TestWeConnectAsTheIdentityOfThePolicy(t *testing.T) {
	p := newPair(t, 1, simnet.Link{Delay: 10 * time.Millisecond}, asBoth, func(a, b *core.Config) { a.Peers[0].Profile.Reauth = time.Hour })
	p.up()
	check := func(when string) {
		t.Helper()
		var got []string
		for _, sa := range p.b.e.SAs() {
			for _, id := range sa.Children {
				got = append(got, sa.State+" "+sa.RemoteID.String()+" "+p.b.children[id].Pairs[0].Remote.String())
			}
		}
		slices.Sort(got)
		if want := []string{"established fqdn:alice 10.1.0.0/16", "established fqdn:bob 10.77.0.0/16"}; !slices.Equal(got, want) || p.b.established() != 2 {
			t.Fatalf("%s: b has %q, not %q", when, got, want)
		}
	}
	p.run(2 * time.Second)
	check("at the start")
	p.a.in(core.Command{Do: core.RekeyIKE})
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.run(20 * time.Second)
	check("rekeyed")
	p.run(56 * time.Minute)
	check("authenticated anew")
	if n := p.b.count(core.EvIKEUp); n != 4 {
		t.Errorf("%d IKE SAs came up at b", n)
	}
	p.b.in(core.Command{Do: core.KillAll})
	p.run(20 * time.Second)
	check("lost")
	for _, s := range []*side{p.a, p.b} {
		if n := s.count(core.EvTSUnacceptable) + s.count(core.EvNotify); n != 0 {
			t.Errorf("%s says of %d attempts that they came to nothing", s.name, n)
		}
	}
}

// What takes over from an IKE SA that also has a CHILD SA for nobody in particular is still of its identity.
func TestAuthenticatedAnewAsTheSameIdentity(t *testing.T) {
	p := newPair(t, 1, simnet.Link{Delay: 10 * time.Millisecond}, asBoth, func(a, b *core.Config) {
		a.Peers[0].Profile.Reauth = time.Hour
		for i, c := range []*core.Config{a, b} {
			c.Policies = c.Policies[1:] // bob's
			c.Policies[0].Proposal.Lifetime = 24 * time.Hour
			all := *c.Policies[0]
			all.Ref, all.Index, all.Identity = all.Ref+1, 2, nil
			net := selector.FromPrefix(netip.MustParsePrefix("10.78.0.0/16"))
			if i == 0 {
				all.Pair.Local = net
			} else {
				all.Pair.Remote = net
			}
			c.Peers[0].OnDemand = true
			c.Policies = append(c.Policies, &all)
		}
	})
	p.up()
	p.a.in(core.Acquire{Policy: 2})
	p.run(2 * time.Second)
	p.b.in(core.Acquire{Policy: 3})
	p.run(2 * time.Second)
	for id, k := range p.a.children {
		if k.Policy == 2 {
			p.a.in(core.Expire{Child: id})
			break
		}
	}
	check := func(when string) {
		t.Helper()
		for _, sa := range p.b.e.SAs() {
			if sa.State != "established" || sa.RemoteID != fqdn("bob") || len(sa.Children) != 2 {
				t.Errorf("%s: b has an IKE SA with %v, %s, with %d CHILD SAs", when, sa.RemoteID, sa.State, len(sa.Children))
			}
		}
	}
	p.run(20 * time.Second)
	check("rekeyed")
	p.run(56 * time.Minute)
	check("authenticated anew")
	if n := p.b.count(core.EvIKEUp); n != 2 {
		t.Errorf("%d IKE SAs came up at b", n)
	}
}
