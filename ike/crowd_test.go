package ike

import (
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/message"
)

// connects is one more puppet with the ID of the others.
func (r *rig) connects(n byte, ps ...message.Payload) *puppet {
	r.t.Helper()
	p := newPuppet(r, n)
	p.init()
	says(r.t, p.auth(p.authPayloads(ps...)...), "IDr AUTH")
	return p
}

// A peer that authenticates again and again has eight IKE SAs; for one more, the
// one that was silent for longest ends, and the peer is told.
func TestSamePeerAgainAndAgain(t *testing.T) {
	r := newRig(t)
	var all []*puppet
	for n := range byte(8) {
		all = append(all, r.connects(n))
		r.pass(time.Second)
	}
	if r.established() != 8 || r.count(core.EvIKEDown) != 0 {
		t.Fatalf("%d IKE SAs; %s", r.established(), r.reasons())
	}
	all[0].request(message.ExchangeInformational) // this one lives
	r.pass(time.Second)
	all = append(all, r.connects(8))
	if r.established() != 8 {
		t.Errorf("%d IKE SAs", r.established())
	}
	if e := r.event(core.EvIKEDown); !strings.Contains(e.Reason, "address:192.0.2.2 has 8 IKE SAs") || e.SA != 2 {
		t.Errorf("the event is %+v", e)
	}
	_, ps := all[1].asked(message.ExchangeInformational)
	says(t, ps, "Delete")
	r.silent("one more")
	for n := range byte(60) {
		all = append(all, r.connects(10+n))
	}
	r.take()
	if len(r.e.SAs()) != 8 || len(r.e.bySPI) != 8 {
		t.Errorf("%d IKE SAs", len(r.e.SAs()))
	}
	says(t, all[len(all)-1].request(message.ExchangeInformational), "")
	all[len(all)-1].request(message.ExchangeInformational, deleteIKE())
	r.pass(time.Second)
	if len(r.e.SAs()) != 7 {
		t.Errorf("%d IKE SAs after a Delete", len(r.e.SAs()))
	}
}

// The bound is one for each peer as it proved itself, and not for many behind one
// secret, who may all have the address that their NAT gave as ID.
func TestManyPeersBehindOneSecret(t *testing.T) {
	many := func(r *rig, what string, want int, connect func(n byte)) {
		for n := range byte(20) {
			connect(n)
		}
		if r.established() != want {
			t.Errorf("%s: %d IKE SAs, not %d", what, r.established(), want)
		}
	}
	ignore := func(c *core.Config) { c.Peers[0].Identities[0].Ignore = true }
	r := newRig(t, ignore)
	many(r, "remote-id=ignore", 20, func(n byte) { r.connects(n) })

	r = newRig(t, givesLeases)
	many(r, "generate-policy", 20, func(n byte) {
		p := newPuppet(r, n)
		p.init()
		p.authLeased("192.168.77.9", p.authPayloads(asksAddress())...)
	})

	r = newRig(t, func(c *core.Config) {
		for n := range byte(4) {
			c.Peers[0].Identities = append(c.Peers[0].Identities, &core.Identity{Auth: core.AuthPSK, Secret: secret.Bytes("thisisnotasecurepsk"),
				RemoteID: core.ID{Type: core.IDFQDN, Data: string('a' + rune(n))}})
		}
	})
	many(r, "four IDs", 20, func(n byte) {
		p := newPuppet(r, n)
		p.id = core.ID{Type: core.IDFQDN, Data: string('a' + rune(n%4))}
		p.init()
		says(t, p.auth(p.authPayloads()...), "IDr AUTH")
	})
	many(r, "one of them again", 5*3+8, func(n byte) {
		p := newPuppet(r, 100+n)
		p.id = core.ID{Type: core.IDFQDN, Data: "A"} // names are compared without regard to case
		p.init()
		says(t, p.auth(p.authPayloads()...), "IDr AUTH")
	})
}
