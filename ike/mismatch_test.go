package ike

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/internal/testing/simnet"
	"culvert/internal/testing/testcert"
	"culvert/spd/selector"
)

// One event at each end says what both offered, where they part and what to do.
// b, which responds, knows both sides; a knows its own and what b said of it.
func TestMismatches(t *testing.T) {
	k := newCerts()
	sha256 := []*suite.Integ{suite.IntegByName("sha256")}
	prefix := func(s string) selector.TS { return selector.FromPrefix(netip.MustParsePrefix(s)) }
	for _, c := range []struct {
		name         string
		change       func(a, b *core.Config)
		kind         core.EventKind
		part         string
		ours, theirs string // lines of b's event
		hint         string
		aKind        core.EventKind
		aHint        string
		exchange     string
	}{
		{"encryption of the IKE SA", func(a, b *core.Config) {
			a.Peers[0].Profile.Encrs = []*suite.Encr{suite.EncrByIKEName("aes-256"), suite.EncrByIKEName("aes-192")}
		}, core.EvNoProposal, "encryption", "encryption: aes-128", "encryption: aes-256, aes-192", `add aes-256 to enc-algorithm of profile "default" (b.toml:enc-algorithm)`,
			core.EvNoProposal, "chose none of what we offer", "IKE_SA_INIT"},
		{"group of the IKE SA", func(a, b *core.Config) {
			b.Peers[0].Profile.Groups = []*suite.Group{suite.GroupByName("ecp256")}
		}, core.EvNoProposal, "group", "group: ecp256", "group: x25519", `add x25519 to dh-group of profile "default"`, core.EvNoProposal, "chose none", "IKE_SA_INIT"},
		{"encryption of the CHILD SA", func(a, b *core.Config) {
			a.Policies[0].Proposal.Encrs = []*suite.Encr{suite.EncrByName("aes-256-gcm")}
		}, core.EvNoProposal, "encryption", "encryption: aes-128-gcm", "encryption: aes-256-gcm", `add aes-256-gcm to enc-algorithms of proposal "default" (b.toml:enc-algorithms)`,
			core.EvNoProposal, "chose none of what we offer", "IKE_AUTH"},
		{"selectors", func(a, b *core.Config) { a.Policies[0].Pair.Remote = prefix("10.9.0.0/16") },
			core.EvTSUnacceptable, "src-address", "policy 0 (b.toml:): 10.2.0.0/16 => 10.1.0.0/16", "10.9.0.0/16 => 10.1.0.0/16", "set src-address of the policy to it",
			core.EvTSUnacceptable, "src-address 10.9.0.0/16 and dst-address 10.1.0.0/16 there", "IKE_AUTH"},
		{"identity", func(a, b *core.Config) {
			b.Peers[0].Identities[0].RemoteID = core.ID{Type: core.IDFQDN, Data: "a.example"}
		}, core.EvAuthFailed, "remote-id", "identity (b.toml:): remote-id fqdn:a.example, my-id auto", "it is address:192.0.2.1", `set remote-id = "address:192.0.2.1"`,
			core.EvAuthFailed, "compare secret, my-id", "IKE_AUTH"},
		{"the identity that is asked for", func(a, b *core.Config) {
			a.Peers[0].Identities[0].RemoteID = core.ID{Type: core.IDFQDN, Data: "b.example"}
			b.Peers[0].Identities[0].MyID = core.ID{Type: core.IDFQDN, Data: "other.example"}
		}, core.EvAuthFailed, "my-id", "identity (b.toml:): remote-id auto, my-id fqdn:other.example", "it asks for fqdn:b.example", "the peer's remote-id to ours (b.toml:my-id)",
			core.EvAuthFailed, "compare secret, my-id", "IKE_AUTH"},
		{"secret", func(a, b *core.Config) { a.Peers[0].Identities[0].Secret = secret.Bytes("somethingelse") },
			core.EvAuthFailed, "secret", "", "it is address:192.0.2.1", "write the same one on both (b.toml:secret)", core.EvAuthFailed, "compare secret, my-id", "IKE_AUTH"},
		{"the name that is asked for", func(a, b *core.Config) {
			sign(b, trustIn(k.root), own(k.root.Leaf("b", "p256", testcert.DNS("b.example"))))
			sign(a, trustIn(k.root), own(k.root.Leaf("a", "p256"))).RemoteID = core.ID{Type: core.IDFQDN, Data: "other.example"}
		}, core.EvAuthFailed, "my-id", "identity (b.toml:): remote-id auto, my-id auto", "it asks for fqdn:other.example",
			`which certificate "b" does not name: have it issued with that name, or set the peer's remote-id to one of its names, dn:O=Culvert tests, CN=b, fqdn:b.example (b.toml:my-id)`,
			core.EvAuthFailed, "whether it trusts the authority", "IKE_AUTH"},
		{"method", func(a, b *core.Config) { sign(a, trustIn(k.root), own(k.root.Leaf("a", "p256"))) },
			core.EvAuthFailed, "auth-method", "pre-shared-key", "signature", "each side proves itself in its own way (b.toml:auth-method)",
			core.EvAuthFailed, "whether it trusts the authority", "IKE_AUTH"},
		{"name of the peer", func(a, b *core.Config) {
			sign(b, trustIn(k.root), own(k.root.Leaf("b", "p256")))
			sign(a, trustIn(k.root), own(k.root.Leaf("a", "p256"))).MyID = core.ID{Type: core.IDFQDN, Data: "a.example"}
		}, core.EvAuthFailed, "name", "", "it is fqdn:a.example", "(b.toml:remote-id)", core.EvAuthFailed, "whether it trusts the authority", "IKE_AUTH"},
		{"protocol", func(a, b *core.Config) { a.Policies[0].Protocol = core.ProtoAH; a.Policies[0].Proposal.Integs = sha256 },
			core.EvNoProposal, "protocol", "encryption: aes-128-gcm", "protocol: AH", "have the peer use ESP, or change ipsec-protocols of policy 0 (b.toml:ipsec-protocols)",
			core.EvNoProposal, "chose none of what we offer", "IKE_AUTH"},
		{"mode", func(a, b *core.Config) { b.Policies[0].Tunnel = false },
			core.EvNoProposal, "tunnel", "transport mode", "tunnel mode", "set tunnel = true in policy 0, or what ours has at the peer (b.toml:tunnel)",
			core.EvNoProposal, "chose none of what we offer", "IKE_AUTH"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, 5, simnet.Link{Delay: 5 * time.Millisecond}, func(a, b *core.Config) {
				b.Peers[0].Passive = true
				b.Where = func(_ any, key string) string { return "b.toml:" + key }
				c.change(a, b)
			})
			p.up()
			p.run(time.Second / 2)
			e := only(t, p.b, c.kind)
			if e.Detail == nil {
				t.Fatalf("no detail: %+v", e)
			}
			d := e.Detail
			if d.Part != c.part || !strings.Contains(d.Hint, c.hint) || !listed(d.Ours, c.ours) || !listed(d.Theirs, c.theirs) ||
				e.Exchange != c.exchange || e.Initiator || e.Peer != "a" {
				t.Errorf("b: exchange %s, %+v", e.Exchange, *d)
			}
			e = only(t, p.a, c.aKind)
			if e.Detail == nil || !strings.Contains(e.Detail.Hint, c.aHint) || len(e.Detail.Theirs) != 0 || len(e.Detail.Ours) == 0 || !e.Initiator || e.Exchange != c.exchange {
				t.Errorf("a: %+v %+v", e, e.Detail)
			}
			for _, s := range []*side{p.a, p.b} {
				for _, e := range s.events {
					if text := e.LogValue().String(); strings.Contains(text, "somethingelse") || strings.Contains(text, "notasecure") {
						t.Errorf("%s: the log has a secret: %s", s.name, text)
					}
				}
			}
		})
	}
}

// only is the one event that is not good news, of the first attempt.
func only(t *testing.T, s *side, kind core.EventKind) core.Event {
	t.Helper()
	var found []core.Event
	for _, e := range s.events {
		switch e.Kind {
		case core.EvInitFailed, core.EvAuthFailed, core.EvNoProposal, core.EvTSUnacceptable, core.EvNotify, core.EvIKEDown:
			found = append(found, e)
		}
	}
	if len(found) != 1 || found[0].Kind != kind {
		t.Fatalf("%s: events %+v, want one %v", s.name, found, kind)
	}
	return found[0]
}

func listed(lines []string, want string) bool {
	if want == "" {
		return true
	}
	for _, l := range lines {
		if l == want {
			return true
		}
	}
	return false
}

// The initiator that distrusts the peer says so once, with both sides.
func TestDistrustIsOneEvent(t *testing.T) {
	p := newPair(t, 6, simnet.Link{Delay: 5 * time.Millisecond}, func(a, b *core.Config) {
		b.Peers[0].Passive = true
		a.Peers[0].Identities[0].RemoteID = core.ID{Type: core.IDFQDN, Data: "b.example"}
		a.Where = func(_ any, key string) string { return "a.toml:" + key }
	})
	p.up()
	p.run(time.Second / 2)
	e := only(t, p.a, core.EvAuthFailed)
	if d := e.Detail; d == nil || d.Part != "remote-id" || !listed(d.Theirs, "it is address:192.0.2.2") || d.Where != "a.toml:remote-id" {
		t.Errorf("%+v", e.Detail)
	}
}

// A responder that answers in tunnel mode to an initiator that wants transport mode.
func TestDeclinedModeIsExplained(t *testing.T) {
	p := newPair(t, 6, simnet.Link{Delay: 5 * time.Millisecond}, passive, func(a, _ *core.Config) {
		a.Policies[0].Tunnel = false
		a.Where = func(_ any, key string) string { return "a.toml:" + key }
	})
	p.up()
	p.run(time.Second / 2)
	for _, e := range p.a.events {
		if d := e.Detail; d != nil && d.Part == "tunnel" && d.Where == "a.toml:tunnel" && listed(d.Theirs, "tunnel mode") {
			return
		}
	}
	t.Errorf("%v", p.a.events)
}
