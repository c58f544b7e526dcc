package ike

import (
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// What a peer that has proved who it is may keep us busy with: each test shows the
// limit, what the peer is told and what people are. Others stand with their
// features: TestSelectorsOutsideTheTemplate, TestReassemblyIsBounded,
// TestCertificateBomb, TestRevocationIsAsked (a server that hangs), and
// internal/gateway's TestFetch (a CRL without end).

// A peer that makes CHILD SAs without end gets as many as an IKE SA may have.
func TestChildrenWithoutEnd(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.connect()
	refused := 0
	for i := range 2000 {
		in := p.request(message.ExchangeCreateChildSA, append(p.childOffer(), nonce(byte(i)))...)
		if findNotify(in, message.NotifyNoAdditionalSAs) != nil {
			refused++
		}
	}
	if len(r.children) != 256 || refused != 2000-255 {
		t.Errorf("%d CHILD SAs, %d refused", len(r.children), refused)
	}
	if e := r.event(core.EvNotify); !strings.Contains(e.Reason, "NO_ADDITIONAL_SAS") {
		t.Error(e.Reason)
	}
}

// A peer that rekeys a CHILD SA and deletes the old one, over and over: each old one
// goes on opening for a moment, but not any number of them.
func TestRekeysOfAChildWithoutEnd(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.connect()
	for i := range 2000 {
		old := p.spi
		offer := append([]message.Payload{&message.Notify{Kind: message.NotifyRekeySA, Protocol: 3, SPI: u32(old)}}, p.childOffer()...)
		says(t, p.request(message.ExchangeCreateChildSA, append(offer, nonce(byte(i)))...), "SA Nonce TSi TSr")
		p.request(message.ExchangeInformational, deleteESP(old))
	}
	if n := len(r.children); n > 1+256 {
		t.Errorf("%d CHILD SAs are in the data plane", n)
	}
	r.pass(6 * time.Second)
	if n := len(r.children); n != 1 {
		t.Errorf("%d CHILD SAs are left", n)
	}
}

// A peer that rekeys the IKE SA over and over and never deletes: TestRekeyStorm
// shows the limit; here is what people are told.
func TestRekeysOfTheIKESAWithoutEnd(t *testing.T) {
	r, p := settled(t)
	for i := range 9 {
		in := p.request(message.ExchangeCreateChildSA, p.ikeRekey(0xbbbb+uint64(i), byte(i))...)
		if i < 8 {
			p = p.rekeyed(true, 0xbbbb+uint64(i), byte(i), in)
			continue
		}
		says(t, in, "N(TEMPORARY_FAILURE)")
	}
	if e := r.event(core.EvNotify); !strings.Contains(e.Reason, "8 replaced IKE SAs still wait") {
		t.Error(e.Reason)
	}
}

// Whatever a stranger says of itself, an event that repeats it stays a line that a log can have every second.
func TestEventsAreBounded(t *testing.T) {
	for name, id := range map[string]core.ID{
		"key-id":      {Type: core.IDKeyID, Data: strings.Repeat("\x00", 2000)},
		"name":        {Type: core.IDFQDN, Data: strings.Repeat("a.", 1000)},
		"dn":          {Type: core.IDDN, Data: strings.Repeat("\xff", 2000)},
		"no such one": {Type: 201, Data: strings.Repeat("\x00", 2000)},
	} {
		r := newRig(t, func(c *core.Config) { c.Peers[0].Identities[0].RemoteID = fqdn("b.example") })
		p := newPuppet(r, 1)
		p.id = id
		p.connect()
		e := r.event(core.EvAuthFailed)
		if n := len(e.LogValue().String()); n > 8192 || e.Detail == nil {
			t.Errorf("%s: %d bytes", name, n)
		}
	}
}

// An ID that is longer than any is refused at either end, also where any ID would do: it would be the key of tables.
func TestLongID(t *testing.T) {
	long := core.ID{Type: core.IDKeyID, Data: strings.Repeat("x", 2049)}
	r := newRig(t)
	p := newPuppet(r, 1)
	p.id = long
	says(t, p.connect(), "N(AUTHENTICATION_FAILED)")
	if e := r.event(core.EvAuthFailed); !strings.Contains(e.Reason, "2049 bytes, at most 2048") || len(r.e.SAs()) != 0 {
		t.Error(e.Reason, r.e.SAs())
	}
	pair := newPair(t, 1, goodLink, passive, func(_, b *core.Config) { b.Peers[0].Identities[0].MyID = long })
	pair.up()
	pair.run(2 * time.Second)
	if got := pair.a.reasons(core.EvAuthFailed); !strings.Contains(got, "2049 bytes") || pair.a.established() != 0 {
		t.Error(got)
	}
}
