package ike

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
)

func groups(names ...string) (out []*suite.Group) {
	for _, n := range names {
		out = append(out, suite.GroupByName(n))
	}
	return out
}

func wantGroup(id uint16) *message.Notify {
	return &message.Notify{Kind: message.NotifyInvalidKEPayload, Data: binary.BigEndian.AppendUint16(nil, id)}
}

// As initiator: SA KE(ecp256) Ni -->  <-- N(INVALID_KE_PAYLOAD 31)  SA KE(x25519) Ni -->
func TestInvalidKE(t *testing.T) {
	r := newRig(t, initiates, func(c *core.Config) { c.Peers[0].Profile.Groups = groups("ecp256", "x25519") })
	p := newPuppet(r, 1)
	_, first := p.called()
	if g := findPayload[*message.KE](first).Group; g != 19 {
		t.Fatalf("the endpoint begins with group %d, not 19", g)
	}
	p.replyInit(0, wantGroup(31))
	p.acceptInit() // it has KE of group 31, or agree fails
	h, ps := p.asked(message.ExchangeIKEAuth)
	if h.ID != 1 {
		t.Errorf("IKE_AUTH has ID %d", h.ID)
	}
	says(t, ps, "IDi N(INITIAL_CONTACT) AUTH SA TSi TSr")
	// The same nonce goes with the other group, and the offer is the whole one.
}

// As initiator, a responder that demands what is not ours, or never has enough.
func TestInvalidKEInVain(t *testing.T) {
	tests := []struct {
		name   string
		notify func(i int) message.Payload
		rounds int
		reason string
	}{
		{"a group that the profile does not have", func(int) message.Payload { return wantGroup(14) }, 1, "compare dh-group"},
		{"the group that was used", func(int) message.Payload { return wantGroup(31) }, 1, "compare dh-group"},
		{"no group", func(int) message.Payload { return note(message.NotifyInvalidKEPayload) }, 1, "compare dh-group"},
		{"now this group, now that", func(i int) message.Payload { return wantGroup([]uint16{19, 31}[i%2]) }, 6, "asked 5 times"},
		{"always another cookie", func(i int) message.Payload {
			return &message.Notify{Kind: message.NotifyCookie, Data: []byte{byte(i + 1)}}
		}, 6, "asked 5 times"},
		{"an empty cookie", func(int) message.Payload { return note(message.NotifyCookie) }, 1, "cookie has 0 bytes"},
		{"NO_PROPOSAL_CHOSEN", func(int) message.Payload { return note(message.NotifyNoProposalChosen) }, 1, "compare enc-algorithm, hash-algorithm and dh-group"},
		{"nothing useful", func(int) message.Payload { return note(message.NotifyMOBIKESupported) }, 1, "neither an SA nor a reason"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, initiates, func(c *core.Config) { c.Peers[0].Profile.Groups = groups("x25519", "ecp256") })
			p := newPuppet(r, 1)
			for i := range c.rounds {
				p.called()
				p.replyInit(0, c.notify(i))
			}
			r.silent("the last refusal")
			k := core.EvInitFailed
			if c.name == "NO_PROPOSAL_CHOSEN" {
				k = core.EvNoProposal
			}
			if e := r.event(k); !strings.Contains(e.Reason, c.reason) {
				t.Errorf("the event says %q, not %q", e.Reason, c.reason)
			}
			if !r.e.Idle() {
				t.Error("the SA is still there")
			}
			// It is tried again after a second or so.
			r.pass(1300 * time.Millisecond)
			p.called()
		})
	}
}

// As initiator: N(COOKIE) -->: the request again, cookie first, else unchanged
// byte for byte (RFC 7296 §2.6).
func TestCookieAnswered(t *testing.T) {
	r := newRig(t, initiates)
	p := newPuppet(r, 1)
	_, first := p.called()
	p.replyInit(0, &message.Notify{Kind: message.NotifyCookie, Data: []byte("a cookie")})
	_, second := p.called()
	c, ok := second[0].(*message.Notify)
	if !ok || c.Kind != message.NotifyCookie || string(c.Data) != "a cookie" {
		t.Fatalf("the second request begins with %s", describe(second))
	}
	_, a := message.AppendPayloads(nil, first)
	_, b := message.AppendPayloads(nil, second[1:])
	if !bytes.Equal(a, b) {
		t.Error("more changed than the cookie")
	}
}

// As responder, under pressure: SA KE Ni -->  <-- N(COOKIE)  N(COOKIE) SA KE Ni -->  <-- SA KE Nr
func TestCookieAsked(t *testing.T) {
	one := func(c *core.Config) { c.CookieThreshold = 1 }
	r := newRig(t, one)
	newPuppet(r, 1).init() // one half-open SA: pressure from now on
	p := newPuppet(r, 2)
	ask := func() *message.Notify {
		t.Helper()
		r.datagram(p.addr, p.initRequest())
		s := r.one()
		h, ps := p.open(s.Data)
		c := findNotify(ps, message.NotifyCookie)
		if c == nil || h.SPIr != 0 || len(ps) != 1 {
			t.Fatalf("not asked for a cookie but %s", describe(ps))
		}
		return c
	}
	c := ask()
	if n := len(r.e.SAs()); n != 1 {
		t.Fatalf("%d SAs: something is kept about who has shown no cookie", n)
	}
	// A wrong cookie, one from elsewhere, one for another nonce or another IKE SA: asked again.
	p.first = []message.Payload{&message.Notify{Kind: message.NotifyCookie, Data: bytes.Repeat([]byte{1}, 32)}}
	ask()
	p.first = []message.Payload{c}
	here := p.addr
	p.addr = netip.MustParseAddrPort("192.0.2.2:501")
	ask()
	p.addr = here
	p.ni[0] ^= 1
	ask()
	p.ni[0] ^= 1
	p.spii ^= 1
	ask()
	p.spii ^= 1
	// Half a minute later, after the secret turned, it is still good; the next
	// half minute it is old.
	r.pass(61 * time.Second)
	newPuppet(r, 3).init()
	old := c
	p.first = []message.Payload{old}
	c = ask()
	r.pass(29 * time.Second)
	newPuppet(r, 4).initWith(t, c) // its own cookie is asked for: c is another's
	p.first = []message.Payload{c}
	p.init()
	if p.spir == 0 {
		t.Error("the cookie was shown and nothing came of it")
	}
	says(t, p.auth(p.authPayloads(p.childOffer()...)...), "IDr AUTH SA TSi TSr")
}

// A cookie is good in the generation of its secret and in the one after it, and not in
// the third.
func TestCookieGenerations(t *testing.T) {
	r := newRig(t, func(c *core.Config) { c.CookieThreshold = 1 })
	others := byte(0)
	pressed := func() { // somebody else is half-open
		others++
		q := newPuppet(r, others)
		r.datagram(q.addr, q.initRequest())
		_, ps := q.open(r.one().Data)
		if c := findNotify(ps, message.NotifyCookie); c != nil {
			q.first = []message.Payload{c}
			q.init()
		}
	}
	cookieOf := func(seed byte) *puppet {
		t.Helper()
		p := newPuppet(r, seed)
		r.datagram(p.addr, p.initRequest())
		_, ps := p.open(r.one().Data)
		says(t, ps, "N(COOKIE)")
		p.first = []message.Payload{findNotify(ps, message.NotifyCookie)}
		return p
	}
	pressed()
	next, third := cookieOf(100), cookieOf(101)
	r.pass(20 * time.Second)
	pressed()
	r.pass(15 * time.Second) // 35 s: the secret is the second
	if cookieOf(102); len(r.e.SAs()) != 1 {
		t.Fatalf("%d half-open SAs", len(r.e.SAs()))
	}
	next.init()
	if next.spir == 0 {
		t.Error("a cookie of the last generation is refused")
	}
	r.pass(20 * time.Second)
	pressed()
	r.pass(15 * time.Second) // 70 s: the third
	r.datagram(third.addr, third.initRequest())
	_, ps := third.open(r.one().Data)
	says(t, ps, "N(COOKIE)")
}

// initWith shows somebody else's cookie, and gets nothing but the demand for one.
func (p *puppet) initWith(t *testing.T, c *message.Notify) {
	t.Helper()
	p.first = []message.Payload{c}
	p.r.datagram(p.addr, p.initRequest())
	_, ps := p.open(p.r.one().Data)
	says(t, ps, "N(COOKIE)")
}

// Ten thousand spoofed requests: a bounded number of half-open SAs, and who is
// honest gets in.
func TestFlood(t *testing.T) {
	anyone := func(c *core.Config) { c.Peers[0].Address = netip.MustParsePrefix("0.0.0.0/0") }
	r := newRig(t, anyone)
	flood := newPuppet(r, 1)
	for i := range 10000 {
		flood.spii = uint64(i + 1)
		flood.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 500)
		r.datagram(flood.addr, flood.initRequest())
	}
	if n := len(r.e.SAs()); n != 64 || len(r.e.strangers.half) != n || len(r.e.bySPI) != n {
		t.Fatalf("%d SAs are kept, %d half-open, %d by SPI", n, len(r.e.strangers.half), len(r.e.bySPI))
	}
	if n := r.count(core.EvBadMessage); n != 0 {
		t.Errorf("%d bad messages", n)
	}
	r.take()
	p := newPuppet(r, 2)
	r.datagram(p.addr, p.initRequest())
	_, ps := p.open(r.one().Data)
	p.first = []message.Payload{findNotify(ps, message.NotifyCookie)}
	says(t, p.connect(), "IDr AUTH SA TSi TSr")
	// Half-open SAs expire; what is left is ours and its timers.
	r.pass(31 * time.Second)
	if n := len(r.e.SAs()); n != 1 || len(r.e.strangers.half) != 0 {
		t.Errorf("%d SAs after half a minute, %d half-open", n, len(r.e.strangers.half))
	}
}

// There are never more half-open SAs than MaxHalfOpen: who comes then takes the
// place of the oldest.
func TestMaxHalfOpen(t *testing.T) {
	r := newRig(t, func(c *core.Config) { c.MaxHalfOpen = 2 })
	var ps []*puppet
	for i := range 4 {
		p := newPuppet(r, byte(i))
		p.init()
		ps = append(ps, p)
		if n := len(r.e.strangers.half); n > 2 || n != len(r.e.SAs()) {
			t.Fatalf("%d half-open SAs of %d", n, len(r.e.SAs()))
		}
	}
	if e := r.event(core.EvBadMessage); !strings.Contains(e.Reason, "gave way") {
		t.Error(e.Reason)
	}
	for _, p := range ps[:2] {
		r.datagram(p.addr, p.seal(p.header(message.ExchangeIKEAuth, 1, false), p.authPayloads(p.childOffer()...)...))
		r.silent("IKE_AUTH of one that gave way")
	}
	for _, p := range ps[2:] {
		says(t, p.auth(p.authPayloads(p.childOffer()...)...), "IDr AUTH SA TSi TSr")
	}
	if r.established() != 2 || len(r.e.strangers.half) != 0 {
		t.Errorf("%v", r.e.SAs())
	}
}

// The same request gets the same bytes, and makes nothing new.
func TestRepeatedInit(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.init()
	for range 3 {
		r.datagram(puppetAddr, p.sent)
		if !bytes.Equal(r.one().Data, p.got) {
			t.Error("other bytes")
		}
	}
	// Under its SPI other bytes are another request (RFC 7296 §2.1), and one that cannot be read gets nothing.
	h := message.Header{SPIi: p.spii, Version: 0x20, Exchange: message.ExchangeIKESAInit, Flags: message.FlagInitiator, Length: message.HeaderLen}
	r.datagram(puppetAddr, h.Append(nil))
	r.silent("a header alone")
	other := newPuppet(r, 9)
	other.spii = p.spii
	other.init()
	if other.spir == p.spir || len(r.e.strangers.half) != 2 {
		t.Errorf("SPIs %x and %x, %d half-open", p.spir, other.spir, len(r.e.strangers.half))
	}
	r.datagram(puppetAddr, other.sent)
	if !bytes.Equal(r.one().Data, other.got) {
		t.Error("the other request gets other bytes when it is repeated")
	}
	says(t, other.auth(other.authPayloads()...), "IDr AUTH")
	other.request(message.ExchangeInformational, deleteIKE())
	r.take()
	// And the first one as often as an initiator repeats it.
	for range 1000 {
		r.datagram(puppetAddr, p.sent)
	}
	if n := len(r.take()); n != core.Tries-3 {
		t.Errorf("%d more answers", n)
	}
	if len(r.e.SAs()) != 1 {
		t.Errorf("%d SAs", len(r.e.SAs()))
	}
	says(t, p.auth(p.authPayloads(p.childOffer()...)...), "IDr AUTH SA TSi TSr")
	r.datagram(puppetAddr, p.sent) // it comes once more, very late: somebody new, who does not go on
	r.pass(31 * time.Second)
	if len(r.e.SAs()) != 1 || r.established() != 1 {
		t.Errorf("left: %v", r.e.SAs())
	}
}

// What responders refuse of IKE_SA_INIT: with a zero SPI of their own (§2.6),
// and nothing is kept.
func TestInitRefused(t *testing.T) {
	other := ikeProposal
	other.Transforms = append([]message.Transform{{Type: 1, ID: 12, KeyBits: 256}}, other.Transforms[1:]...)
	strange := ikeProposal
	strange.Transforms = append(append([]message.Transform{}, strange.Transforms...), message.Transform{Type: 6, ID: 35})
	tests := []struct {
		name   string
		change func(ps []message.Payload) []message.Payload
		says   string
		event  core.EventKind
		reason string
	}{
		{"another cipher", func(ps []message.Payload) []message.Payload { ps[0] = saOf(other); return ps },
			"N(NO_PROPOSAL_CHOSEN)", core.EvNoProposal, "compare enc-algorithm, hash-algorithm and dh-group"},
		{"a transform type of RFC 9370", func(ps []message.Payload) []message.Payload { ps[0] = saOf(strange); return ps },
			"N(NO_PROPOSAL_CHOSEN)", core.EvNoProposal, "compare"},
		{"another group", func(ps []message.Payload) []message.Payload {
			ps[1] = &message.KE{Group: 14, Data: make([]byte, 256)}
			return ps
		}, "N(INVALID_KE_PAYLOAD)", core.EvAskedAgain, "not of group x25519"},
		{"a public value that is none", func(ps []message.Payload) []message.Payload {
			ps[1] = &message.KE{Group: 31, Data: make([]byte, 32)}
			return ps
		}, "N(INVALID_SYNTAX)", core.EvNotify, ""},
		{"a critical payload", func(ps []message.Payload) []message.Payload {
			return append(ps, &message.Unknown{T: 77, Critical: true})
		}, "N(UNSUPPORTED_CRITICAL_PAYLOAD)", core.EvNotify, ""},
		{"no NAT traversal", func(ps []message.Payload) []message.Payload { return ps[:3] },
			"N(NO_PROPOSAL_CHOSEN)", core.EvNone, ""},
		{"an unknown payload that is not critical", func(ps []message.Payload) []message.Payload {
			return append(ps, &message.Unknown{T: 77})
		}, "SA KE Nonce N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP) N(CHILDLESS_IKEV2_SUPPORTED)", core.EvNone, ""},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			p := newPuppet(r, 1)
			m := message.Message{Header: p.header(message.ExchangeIKESAInit, 0, false), Payloads: c.change(p.initPayloads())}
			r.datagram(p.addr, m.Append(nil))
			h, ps := p.open(r.one().Data)
			says(t, ps, c.says)
			if strings.HasPrefix(c.says, "SA") {
				return
			}
			if h.SPIr != 0 {
				t.Error("a responder's SPI for an SA that will not be")
			}
			if c.event != core.EvNone {
				if e := r.event(c.event); !strings.Contains(e.Reason, c.reason) {
					t.Errorf("the event says %q, not %q", e.Reason, c.reason)
				}
			}
			if !r.e.Idle() || len(r.e.strangers.half) != 0 {
				t.Error("something is kept")
			}
		})
	}
}

// Messages that belong to nothing are counted and not answered, but for a newer
// version of IKE (RFC 7296 §2.5).
func TestStrangers(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	good := p.initRequest()
	with := func(f func(b []byte)) []byte {
		b := bytes.Clone(good)
		f(b)
		return b
	}
	tests := []struct {
		name   string
		from   string
		b      []byte
		reason string
	}{
		{"no peer", "203.0.113.9:500", good, "no peer is configured for 203.0.113.9"},
		{"IKEv1", "192.0.2.2:500", with(func(b []byte) { b[17] = 0x10 }), "does not exist"},
		{"no initiator's SPI", "192.0.2.2:500", with(func(b []byte) { clear(b[:8]) }), "impossible header"},
		{"not from the initiator", "192.0.2.2:500", with(func(b []byte) { b[19] = 0 }), "impossible header"},
		{"message ID 1", "192.0.2.2:500", with(func(b []byte) { b[23] = 1 }), "impossible header"},
		{"a responder's SPI that is none", "192.0.2.2:500", with(func(b []byte) { b[15] = 1 }), "does not exist"},
		{"a response", "192.0.2.2:500", with(func(b []byte) { b[19] = 0x20 }), "does not exist"},
		{"IKE_AUTH", "192.0.2.2:500", with(func(b []byte) { b[18] = 35 }), "does not exist"},
		{"length", "192.0.2.2:500", good[:100], "the datagram has 100"},
		{"nothing", "192.0.2.2:500", nil, "shorter"},
		{"an unknown group of payloads", "192.0.2.2:500", with(func(b []byte) { b[16] = 46 }), "IKE message"},
	}
	for _, c := range tests {
		r.events = nil
		r.datagram(netip.MustParseAddrPort(c.from), c.b)
		r.silent(c.name)
		if n := r.count(core.EvBadMessage); n != 1 {
			t.Errorf("%s: %d bad messages counted", c.name, n)
		} else if e := r.event(core.EvBadMessage); !strings.Contains(e.Reason, c.reason) {
			t.Errorf("%s: %q, not %q", c.name, e.Reason, c.reason)
		}
	}
	// IKEv3 -->  <-- N(INVALID_MAJOR_VERSION) as IKEv2
	r.datagram(p.addr, with(func(b []byte) { b[17] = 0x30 }))
	h, ps := p.open(r.one().Data)
	says(t, ps, "N(INVALID_MAJOR_VERSION)")
	if h.Version != 0x20 || !h.Response() {
		t.Errorf("header %+v", h)
	}
	r.datagram(p.addr, with(func(b []byte) { b[17], b[19] = 0x30, 0x20 }))
	r.silent("a response of IKEv3")
	for range 30 { // and that is said ten times a second at most, to whomever
		r.datagram(p.addr, with(func(b []byte) { b[17] = 0x30 }))
	}
	if n := len(r.take()); n != 9 {
		t.Errorf("%d answers in the same second", n)
	}
	r.pass(time.Second)
	r.datagram(p.addr, with(func(b []byte) { b[17] = 0x30 }))
	r.one()
	r.datagram(p.addr, with(func(b []byte) { b[17] = 0x21 }))
	if h, _ := p.open(r.one().Data); h.Version != 0x20 {
		t.Error("a higher minor version is ignored (§2.5), and ours is 0")
	}
	if len(r.e.SAs()) != 1 {
		t.Error("but for the last nobody is kept")
	}
}

// A response to IKE_SA_INIT with a critical payload that nobody knows proves
// nothing: it is passed over, and the peer's own is taken.
func TestCriticalInInitResponse(t *testing.T) {
	r := newRig(t, initiates)
	p := newPuppet(r, 1)
	_, ps := p.called()
	p.spir, p.nr = 0x2222222222222222, bytes.Repeat([]byte{9}, 32)
	p.agree(ps, &p.ni)
	p.derive(mac(append(bytes.Clone(p.ni), p.nr...), p.shared))
	p.replyInit(p.spir, append(p.initPayloads(), &message.Unknown{T: 77, Critical: true})...)
	r.silent("a response with a critical payload")
	if e := r.event(core.EvBadMessage); !strings.Contains(e.Reason, "critical payload 77") {
		t.Errorf("the event says %q", e.Reason)
	}
	p.replyInit(p.spir, p.initPayloads()...)
	p.addr = netip.AddrPortFrom(p.addr.Addr(), 4500)
	h, _ := p.asked(message.ExchangeIKEAuth)
	p.answer(h, p.authPayloads(p.childAnswer()...)...)
	if r.established() != 1 {
		t.Error("not up after the second")
	}
}

// What strangers begin in the peer's name and do not finish does not slow down
// our own attempts.
func TestStrangersFailuresAreTheirs(t *testing.T) {
	r := newRig(t, initiates)
	for i := range 10 {
		p := newPuppet(r, byte(i))
		m := message.Message{Header: p.header(message.ExchangeIKESAInit, 0, false), Payloads: p.initPayloads()}
		m.Payloads[0] = saOf(message.Proposal{Number: 1, Protocol: 1, Transforms: []message.Transform{{Type: 1, ID: 2}}})
		r.datagram(p.addr, m.Append(nil))
		q := newPuppet(r, byte(100+i))
		q.psk = "wrong"
		q.init()
		says(t, q.auth(q.authPayloads()...), "N(AUTHENTICATION_FAILED)")
	}
	if w := r.e.wants[1]; w.failures != 0 || w.timer != nil {
		t.Errorf("%d failures are counted", w.failures)
	}
}
