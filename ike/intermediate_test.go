package ike

import (
	"bytes"
	"crypto/mlkem"
	"strings"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
)

// exchanges sets a profile's key exchanges by their names.
func exchanges(c *core.Config, names ...string) {
	p := &c.Peers[0].Profile
	p.Groups, p.KeyExchanges = nil, nil
	for _, n := range names {
		x := suite.KeyExchangeByName(n)
		p.Groups = append(p.Groups, x.Group)
		p.KeyExchanges = append(p.KeyExchanges, *x)
	}
}

// What two configurations agree on: the number of IKE_INTERMEDIATE exchanges, or
// -1 where nothing fits.
func TestAdditionalKeyExchanges(t *testing.T) {
	hybrid, both := "x25519+ml-kem-768", "x25519+ml-kem-768+ml-kem-1024"
	tests := []struct {
		a, b []string
		n    int
	}{
		{[]string{hybrid}, []string{hybrid}, 1},
		{[]string{"ecp256+ml-kem-1024"}, []string{"ecp256+ml-kem-1024"}, 1},
		{[]string{"modp2048+ml-kem-768"}, []string{"modp2048+ml-kem-768"}, 1},
		{[]string{both}, []string{both}, 2},
		{[]string{hybrid, "x25519"}, []string{"x25519"}, 0},
		{[]string{hybrid, "x25519"}, []string{"x25519", hybrid}, 1}, // the initiator's order
		{[]string{"x25519", hybrid}, []string{hybrid}, 1},
		{[]string{"x25519"}, []string{hybrid, "x25519"}, 0},
		{[]string{"x25519"}, []string{"x25519"}, 0},
		{[]string{hybrid}, []string{"x25519"}, -1},
		{[]string{"x25519"}, []string{hybrid}, -1},
		{[]string{hybrid}, []string{"x25519+ml-kem-1024"}, -1},
		{[]string{hybrid}, []string{both}, -1},
		{[]string{both}, []string{hybrid}, -1},
		{[]string{"x25519+ml-kem-768", "ecp256+ml-kem-768"}, []string{"ecp256+ml-kem-768"}, 1}, // another group first
	}
	for i, c := range tests {
		for _, fragments := range []bool{false, true} {
			t.Run(strings.Join(c.a, ",")+"/"+strings.Join(c.b, ","), func(t *testing.T) {
				p := newPair(t, uint64(300+i), simnet.Link{Delay: 5 * time.Millisecond}, func(a, b *core.Config) {
					exchanges(a, c.a...)
					exchanges(b, c.b...)
					a.Peers[0].Profile.Fragmentation, b.Peers[0].Profile.Fragmentation = fragments, fragments
					b.Peers[0].Passive = true
				})
				p.askDelay = 3 * time.Millisecond
				p.up()
				p.run(2 * time.Second)
				if c.n < 0 {
					if p.bothUp() || p.a.count(core.EvNoProposal) == 0 || p.b.count(core.EvNoProposal) == 0 {
						t.Fatalf("up: %v; a: %d, b: %d events", p.bothUp(), p.a.count(core.EvNoProposal), p.b.count(core.EvNoProposal))
					}
					if d := p.b.events[0].Detail; d == nil || d.Part != "additional key exchanges" || !strings.Contains(d.Hint, "dh-group") {
						t.Errorf("the detail is %+v", d)
					}
					return
				}
				if !p.bothUp() {
					t.Fatalf("not up; a: %v, b: %v", p.a.events, p.b.events)
				}
				ids := map[uint32]bool{}
				for _, h := range p.a.sent {
					if h.Exchange == message.ExchangeIntermediate && !h.Response() {
						ids[h.ID] = true
					}
				}
				if len(ids) != c.n {
					t.Errorf("%d IKE_INTERMEDIATE exchanges, not %d", len(ids), c.n)
				}
				p.a.esp()
				p.b.esp()
				p.a.in(core.Command{Do: core.RekeyIKE})
				p.run(time.Second)
				p.b.in(core.Command{Do: core.RekeyChildren})
				p.run(time.Second)
				p.a.esp()
				p.b.esp()
				p.run(time.Second)
				if p.a.opened != 2 || p.b.opened != 2 || len(p.a.lost)+len(p.b.lost) > 0 {
					t.Errorf("opened %d and %d of 2: %v %v", p.a.opened, p.b.opened, p.a.lost, p.b.lost)
				}
				follow := map[uint32]bool{}
				for _, h := range p.a.sent {
					if h.Exchange == message.ExchangeFollowUpKE && !h.Response() {
						follow[h.ID] = true
					}
				}
				if len(follow) != c.n {
					t.Errorf("%d IKE_FOLLOWUP_KE exchanges, not %d", len(follow), c.n)
				}
				if p.a.count(core.EvIKERekeyed) != 1 {
					t.Errorf("%d rekeys of the IKE SA", p.a.count(core.EvIKERekeyed))
				}
			})
		}
	}
}

// Every message of the initial exchanges is lost once, in whole or one fragment
// of it; the request of an IKE_INTERMEDIATE comes again after the keys changed.
func TestIntermediateLosses(t *testing.T) {
	for _, fragments := range []bool{false, true} {
		total := 0
		for lose := 0; lose == 0 || lose < total; lose++ {
			p := newPair(t, 400, simnet.Link{Delay: 5 * time.Millisecond}, func(a, b *core.Config) {
				exchanges(a, "x25519+ml-kem-1024+ml-kem-768")
				exchanges(b, "x25519+ml-kem-1024+ml-kem-768")
				a.Peers[0].Profile.Fragmentation, b.Peers[0].Profile.Fragmentation = fragments, fragments
				b.Peers[0].Passive = true
			})
			n := 0
			p.drop = func(from *side, h message.Header) bool {
				n++
				return n-1 == lose
			}
			p.up()
			p.until(15*time.Second, "the SA", p.bothUp)
			if lose == 0 {
				total = n
			}
		}
		if total < 10 {
			t.Errorf("only %d messages", total)
		}
	}
}

// The endpoint as responder with a peer whose key derivation and IntAuth are
// from the words of RFC 9370 and RFC 9242.
func TestIntermediateOfTheRFC(t *testing.T) {
	r := newRig(t, func(c *core.Config) { exchanges(c, "x25519+ml-kem-768") })
	p := newPuppet(r, 1)
	hybrid := ikeProposal
	hybrid.Transforms = append(append([]message.Transform{}, ikeProposal.Transforms...), message.Transform{Type: 6, ID: 36})
	in := p.initOffering(hybrid)
	if got := findPayload[*message.SA](in).Proposals[0].Transforms; got[len(got)-1] != (message.Transform{Type: 6, ID: 36}) {
		t.Fatalf("the endpoint chose %v", got)
	}
	if findNotify(in, message.NotifyIntermediateExchangeSupported) == nil {
		t.Error("the endpoint does not say INTERMEDIATE_EXCHANGE_SUPPORTED")
	}
	d, err := mlkem.NewDecapsulationKey768(bytes.Repeat([]byte{7}, 64))
	if err != nil {
		t.Fatal(err)
	}
	intAuth := p.intermediate(t, &message.KE{Group: 36, Data: d.EncapsulationKey().Bytes()}, func(ke *message.KE) []byte {
		if ke.Group != 36 {
			t.Errorf("the answer is of method %d", ke.Group)
		}
		shared, err := d.Decapsulate(ke.Data)
		if err != nil {
			t.Fatal(err)
		}
		return shared
	})
	id := &message.ID{Initiator: true, IDType: uint8(p.id.Type), Data: []byte(p.id.Data)}
	octets := bytes.Join([][]byte{p.sent, p.nr, mac(p.p[0], id.AppendBody(nil)), intAuth}, nil)
	proof := &message.Auth{Method: 2, Data: mac(mac([]byte(p.psk), []byte("Key Pad for IKEv2")), octets)}
	in = p.auth(append([]message.Payload{id, proof}, p.childOffer()...)...)
	says(t, in, "IDr AUTH SA TSi TSr")
	idr, a := findPayload[*message.ID](in), findPayload[*message.Auth](in)
	octets = bytes.Join([][]byte{p.got, p.ni, mac(p.p[1], idr.AppendBody(nil)), intAuth}, nil)
	if want := mac(mac([]byte(p.psk), []byte("Key Pad for IKEv2")), octets); !bytes.Equal(a.Data, want) {
		t.Error("the endpoint's proof is not the RFC's")
	}
	if len(r.children) != 1 {
		t.Errorf("%d CHILD SAs", len(r.children))
	}
}

// initOffering runs IKE_SA_INIT with a proposal of the test's.
func (p *puppet) initOffering(prop message.Proposal) []message.Payload {
	p.t.Helper()
	p.first = []message.Payload{note(message.NotifyIntermediateExchangeSupported)}
	ps := p.initPayloads()
	for i := range ps {
		if _, ok := ps[i].(*message.SA); ok {
			ps[i] = saOf(prop)
		}
	}
	m := message.Message{Header: p.header(message.ExchangeIKESAInit, 0, false), Payloads: ps}
	p.sent = m.Append(nil)
	p.r.take()
	p.r.datagram(p.addr, p.sent)
	raw := p.r.one().Data
	_, in := p.open(raw)
	if findPayload[*message.SA](in) != nil {
		p.initResponse(raw)
	}
	return in
}

// intermediate runs one IKE_INTERMEDIATE, goes over to the next keys and returns
// IntAuth, as if IKE_AUTH were next.
func (p *puppet) intermediate(t testing.TB, ke *message.KE, share func(*message.KE) []byte) []byte {
	t.Helper()
	h := p.header(message.ExchangeIntermediate, p.nextID, false)
	p.nextID++
	request := p.seal(h, ke)
	p.r.datagram(p.addr, request)
	raw := p.r.one().Data
	rh, in := p.open(raw)
	answer := findPayload[*message.KE](in)
	if answer == nil {
		t.Fatalf("the endpoint says %q", describe(in))
	}
	part := func(raw []byte, pl message.Payload) []byte {
		_, plain := message.AppendPayloads(nil, []message.Payload{pl})
		b := append(bytes.Clone(raw[:28]), 34, 0, byte((len(plain)+4)>>8), byte(len(plain)+4))
		copy(b[24:28], u32(uint32(32+len(plain))))
		return append(b, plain...)
	}
	if !rh.Response() || rh.ID != h.ID {
		t.Errorf("the response has the header %+v", rh)
	}
	i, r := mac(p.p[0], part(request, ke)), mac(p.p[1], part(raw, answer))
	p.derive(mac(p.d, share(answer), p.ni, p.nr))
	// The request again, under the keys of before: the same answer.
	p.r.datagram(p.addr, request)
	if again := p.r.one(); !bytes.Equal(again.Data, raw) {
		t.Error("the repeated request is answered in another way")
	}
	return bytes.Join([][]byte{i, r, u32(p.nextID)}, nil)
}

// What the endpoint as responder makes of bad additional key exchanges.
func TestIntermediateRefused(t *testing.T) {
	hybrid := ikeProposal
	hybrid.Transforms = append(append([]message.Transform{}, ikeProposal.Transforms...), message.Transform{Type: 6, ID: 36})
	for _, c := range []struct {
		name string
		do   func(p *puppet) []message.Payload
	}{
		{"IKE_AUTH at once", func(p *puppet) []message.Payload { return p.auth(p.authPayloads(p.childOffer()...)...) }},
		{"no KE", func(p *puppet) []message.Payload { return p.request(message.ExchangeIntermediate) }},
		{"another method", func(p *puppet) []message.Payload {
			return p.request(message.ExchangeIntermediate, &message.KE{Group: 37, Data: make([]byte, 1184)})
		}},
		{"too short", func(p *puppet) []message.Payload {
			return p.request(message.ExchangeIntermediate, &message.KE{Group: 36, Data: make([]byte, 1183)})
		}},
		{"not reduced", func(p *puppet) []message.Payload {
			return p.request(message.ExchangeIntermediate, &message.KE{Group: 36, Data: bytes.Repeat([]byte{0xff}, 1184)})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(c *core.Config) { exchanges(c, "x25519+ml-kem-768") })
			p := newPuppet(r, 1)
			p.initOffering(hybrid)
			says(t, c.do(p), "N(INVALID_SYNTAX)")
			if len(r.e.SAs()) != 0 {
				t.Errorf("left: %v", r.e.SAs())
			}
		})
	}
	// No IKE_INTERMEDIATE where none was agreed.
	r := newRig(t)
	p := newPuppet(r, 1)
	p.init()
	says(t, p.request(message.ExchangeIntermediate, &message.KE{Group: 36, Data: make([]byte, 1184)}), "N(INVALID_SYNTAX)")
}

// An additional key exchange that is NONE is none.
func TestAdditionalNone(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	prop := ikeProposal
	prop.Transforms = append(append([]message.Transform{}, ikeProposal.Transforms...), message.Transform{Type: 6, ID: 36}, message.Transform{Type: 6, ID: 0})
	in := p.initOffering(prop)
	got := findPayload[*message.SA](in).Proposals[0].Transforms
	if got[len(got)-1] != (message.Transform{Type: 6}) {
		t.Errorf("the endpoint chose %v", got)
	}
	says(t, p.auth(p.authPayloads(p.childOffer()...)...), "IDr AUTH SA TSi TSr")
}

// A ciphertext for somebody else gives other keys: the SA does not come up, and
// the initiator gives up.
func TestIntermediateWrongCiphertext(t *testing.T) {
	r := newRig(t, initiates, func(c *core.Config) { exchanges(c, "x25519+ml-kem-768") })
	p := newPuppet(r, 1)
	_, ps := p.called()
	p.spir, p.nr = 0x2222222222222222, bytes.Repeat([]byte{9}, 32)
	p.agree(ps, &p.ni)
	p.derive(mac(append(bytes.Clone(p.ni), p.nr...), p.shared))
	hybrid := ikeProposal
	hybrid.Transforms = append(append([]message.Transform{}, ikeProposal.Transforms...), message.Transform{Type: 6, ID: 36})
	out := p.initPayloads()
	out[0] = saOf(hybrid)
	p.replyInit(p.spir, append(out, note(message.NotifyIntermediateExchangeSupported))...)
	p.addr = puppetAddr
	h, in := p.asked(message.ExchangeIntermediate)
	ke := findPayload[*message.KE](in)
	if ke == nil || ke.Group != 36 || len(ke.Data) != 1184 {
		t.Fatalf("the endpoint says %q", describe(in))
	}
	p.answer(h, &message.KE{Group: 36, Data: make([]byte, 1087)})
	if e := r.event(core.EvInitFailed); !strings.Contains(e.Reason, "1087 bytes, not 1088") {
		t.Errorf("the event says %q", e.Reason)
	}
}

// A postquantum preshared key goes along with additional key exchanges.
func TestIntermediateWithPPK(t *testing.T) {
	p := newPair(t, 800, simnet.Link{Delay: 5 * time.Millisecond}, func(a, b *core.Config) {
		for _, c := range []*core.Config{a, b} {
			exchanges(c, "x25519+ml-kem-768")
			c.Peers[0].Identities[0].PPK = ppk("one", "k", true)
		}
		b.Peers[0].Passive = true
	})
	p.up()
	p.until(5*time.Second, "the SA", p.bothUp)
	p.settled(t)
}

func hybridPair(t *testing.T, seed uint64) *pair {
	p := newPair(t, seed, simnet.Link{Delay: 5 * time.Millisecond}, func(a, b *core.Config) {
		exchanges(a, "x25519+ml-kem-768+ml-kem-1024")
		exchanges(b, "x25519+ml-kem-768+ml-kem-1024")
		b.Peers[0].Passive = true
	})
	p.askDelay = time.Millisecond
	p.up()
	p.until(5*time.Second, "the SA", p.bothUp)
	p.run(time.Second)
	return p
}

// settled checks that one IKE SA and one CHILD SA are left and carry traffic.
func (p *pair) settled(t *testing.T) {
	t.Helper()
	for _, s := range []*side{p.a, p.b} {
		if len(s.e.SAs()) != 1 || s.established() != 1 || len(s.children) != 1 {
			t.Errorf("%s: %v, %d CHILD SAs", s.name, s.e.SAs(), len(s.children))
		}
		s.opened = 0
	}
	p.a.esp()
	p.b.esp()
	p.run(time.Second)
	if p.a.opened != 1 || p.b.opened != 1 {
		t.Errorf("opened %d and %d", p.a.opened, p.b.opened)
	}
}

// A rekey with additional key exchanges, of which every message is lost once.
func TestFollowUpLosses(t *testing.T) {
	for _, from := range []string{"a", "b"} {
		total := 1
		for lose := 0; lose < total; lose++ {
			p := hybridPair(t, 500)
			n := 0
			p.drop = func(_ *side, h message.Header) bool {
				n++
				return n-1 == lose
			}
			map[string]*side{"a": p.a, "b": p.b}[from].in(core.Command{Do: core.RekeyIKE})
			p.run(20 * time.Second)
			if lose == 0 {
				total = n
			}
			if p.a.count(core.EvIKERekeyed) != 1 || p.b.count(core.EvIKERekeyed) != 1 {
				t.Errorf("%s, message %d of %d lost: %d and %d rekeys", from, lose, total, p.a.count(core.EvIKERekeyed), p.b.count(core.EvIKERekeyed))
			}
			p.settled(t)
		}
		if total < 8 {
			t.Errorf("only %d messages", total)
		}
	}
}

// Both ends rekey at once, or the one while the other is on its way.
func TestFollowUpCollisions(t *testing.T) {
	for seed := range uint64(4) {
		for late := time.Duration(0); late < 60*time.Millisecond; late += 3 * time.Millisecond {
			p := hybridPair(t, 600+seed)
			p.a.in(core.Command{Do: core.RekeyIKE})
			p.run(late)
			p.b.in(core.Command{Do: core.RekeyIKE})
			p.run(2 * time.Minute)
			if p.a.count(core.EvIKERekeyed) == 0 {
				t.Errorf("seed %d, %v later: no rekey", seed, late)
			}
			p.settled(t)
			if t.Failed() {
				t.Fatalf("seed %d, %v later", seed, late)
			}
		}
	}
}

// A follow-up that belongs to no rekey, and a rekey that is never finished.
func TestFollowUpStray(t *testing.T) {
	r := newRig(t)
	p := newPuppet(r, 1)
	p.connect()
	says(t, p.request(message.ExchangeFollowUpKE, &message.KE{Group: 36, Data: make([]byte, 1184)},
		&message.Notify{Kind: message.NotifyAdditionalKeyExchange, Data: []byte("x")}), "N(STATE_NOT_FOUND)")
	if r.established() != 1 {
		t.Errorf("the SA is gone: %s", r.reasons())
	}
	pair := hybridPair(t, 700)
	pair.drop = func(_ *side, h message.Header) bool { return h.Exchange == message.ExchangeFollowUpKE }
	pair.a.in(core.Command{Do: core.RekeyIKE})
	pair.run(10 * time.Minute)
	pair.drop = nil
	pair.until(3*time.Minute, "an SA again", pair.bothUp)
}
