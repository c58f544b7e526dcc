package ike

import (
	"strings"
	"testing"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/message"
)

// The puppet, whose cryptography is its own, connects: what the endpoint
// derives is what RFC 7296 says.
func TestPuppetConnects(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	// IDi AUTH SA TSi TSr  -->  <-- IDr AUTH SA TSi TSr
	says(t, p.connect(), "IDr AUTH SA TSi TSr")
	if r.established() != 1 || len(r.children) != 1 {
		t.Fatalf("%d IKE SAs, %d CHILD SAs; %s", r.established(), len(r.children), r.reasons())
	}
	// KEYMAT (RFC 7296 §2.17): from the initiator first.
	k := prfPlus(p.d, 40, p.ni, p.nr)
	for _, child := range r.children {
		if !child.In.EncKey.Equal(k[:20]) || !child.Out.EncKey.Equal(k[20:]) {
			t.Error("the keys of the CHILD SA are not those of RFC 7296")
		}
		if child.Out.SPI != p.spi || child.In.SPI != p.peerSPI {
			t.Error("the SPIs of the CHILD SA are not those of the messages")
		}
	}
}

func fqdn(s string) core.ID { return core.ID{Type: core.IDFQDN, Data: s} }

// What the endpoint, as responder, says to a proof or ID that it does not like:
// AUTHENTICATION_FAILED and nothing else, and the SA is gone.
func TestResponderRefuses(t *testing.T) {
	two := func(c *core.Config) {
		c.Peers[0].Identities = []*core.Identity{
			{Auth: core.AuthPSK, RemoteID: core.ID{}, MyID: fqdn("any.example"), Secret: secret.Bytes("for any")},
			{Auth: core.AuthPSK, RemoteID: fqdn("left.example"), MyID: fqdn("one.example"), Secret: secret.Bytes("for left")},
			{Auth: core.AuthPSK, RemoteID: core.ID{Type: core.IDUser, Data: "joe@example"}, MyID: fqdn("two.example"), Secret: secret.Bytes("for joe")},
			{Auth: core.AuthPSK, RemoteID: core.ID{Type: core.IDKeyID, Data: "\x00k"}, MyID: fqdn("two.example"), Secret: secret.Bytes("for key")},
			{Auth: core.AuthPSK, RemoteID: core.ID{Type: core.IDIPv4, Data: "\x0a\x00\x00\x01"}, MyID: fqdn("two.example"), Secret: secret.Bytes("for ten")},
		}
	}
	exact := func(c *core.Config) { c.Peers[0].Identities[0].RemoteID = fqdn("left.example") }
	tests := []struct {
		name   string
		change func(c *core.Config)
		id     core.ID
		idr    core.ID
		psk    string
		reason string // of the event; empty: accepted
		we     string // the IDr of the endpoint
	}{
		{"wrong secret", exact, fqdn("left.example"), core.ID{}, "wrong", "compare the secret", ""},
		{"wrong ID", exact, fqdn("right.example"), core.ID{}, "thisisnotasecurepsk", `no identity of peer "b" fits the ID fqdn:right.example`, ""},
		{"wrong type of ID", exact, core.ID{Type: core.IDUser, Data: "left.example"}, core.ID{}, "thisisnotasecurepsk", "no identity", ""},
		{"case of a name", exact, fqdn("LEFT.example"), core.ID{}, "thisisnotasecurepsk", "", "address:192.0.2.1"},
		{"exact before any", two, fqdn("left.example"), core.ID{}, "for left", "", "fqdn:one.example"},
		{"any", two, fqdn("other.example"), core.ID{}, "for any", "", "fqdn:any.example"},
		{"the secret of any is not for who has one", two, fqdn("left.example"), core.ID{}, "for any", "compare the secret", ""},
		{"user-fqdn", two, core.ID{Type: core.IDUser, Data: "joe@example"}, core.ID{}, "for joe", "", "fqdn:two.example"},
		{"key-id", two, core.ID{Type: core.IDKeyID, Data: "\x00k"}, core.ID{}, "for key", "", "fqdn:two.example"},
		{"address", two, core.ID{Type: core.IDIPv4, Data: "\x0a\x00\x00\x01"}, core.ID{}, "for ten", "", "fqdn:two.example"},
		{"IDr is ours", two, fqdn("left.example"), fqdn("one.example"), "for left", "", "fqdn:one.example"},
		{"IDr is not ours", two, fqdn("left.example"), fqdn("none.example"), "for left", "asks for fqdn:none.example", ""},
		{"IDr passes one over", two, fqdn("left.example"), fqdn("any.example"), "for any", "", "fqdn:any.example"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.change)
			p := newPuppet(r, 1)
			p.id, p.idr, p.psk = c.id, c.idr, c.psk
			in := p.connect()
			if c.reason == "" {
				says(t, in, "IDr AUTH SA TSi TSr")
				idr := findPayload[*message.ID](in)
				if got := (core.ID{Type: core.IDType(idr.IDType), Data: string(idr.Data)}).String(); got != c.we {
					t.Errorf("the endpoint says it is %s, not %s", got, c.we)
				}
				return
			}
			says(t, in, "N(AUTHENTICATION_FAILED)")
			if e := r.event(core.EvAuthFailed); !strings.Contains(e.Reason, c.reason) {
				t.Errorf("the event says %q, not %q", e.Reason, c.reason)
			}
			if len(r.e.SAs()) != 0 || len(r.children) != 0 {
				t.Errorf("left: %v, %d CHILD SAs", r.e.SAs(), len(r.children))
			}
		})
	}
}
