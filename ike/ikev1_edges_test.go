package ike

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	"culvert/spd/selector"
)

// tracedV1 is what one end shows of the messages of a conversation, by exchange and direction.
func (s *side) tracedV1() map[string]int {
	n := map[string]int{}
	s.e.Trace(func(sent bool, h message.Header, body []message.Payload) {
		n[fmt.Sprintf("%d sent %v", h.Exchange, sent)]++
	})
	return n
}

// Whoever watches sees each message of both ends in clear, once.
func TestMainModeIsTraced(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive)
	a, b := p.a.tracedV1(), p.b.tracedV1()
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	mine := map[string]int{
		fmt.Sprintf("%d sent true", isakmp.ExchangeMain): 3, fmt.Sprintf("%d sent false", isakmp.ExchangeMain): 3,
		fmt.Sprintf("%d sent true", isakmp.ExchangeQuick): 2, fmt.Sprintf("%d sent false", isakmp.ExchangeQuick): 1,
	}
	theirs := map[string]int{
		fmt.Sprintf("%d sent true", isakmp.ExchangeMain): 3, fmt.Sprintf("%d sent false", isakmp.ExchangeMain): 3,
		fmt.Sprintf("%d sent true", isakmp.ExchangeQuick): 1, fmt.Sprintf("%d sent false", isakmp.ExchangeQuick): 2,
	}
	if !maps.Equal(a, mine) || !maps.Equal(b, theirs) {
		t.Errorf("a shows %v, want %v; b shows %v, want %v", a, mine, b, theirs)
	}
}

// A public value of another length than the group's is passed over, and the right one counts when it comes.
func TestMainModePublicValueOfAnotherLength(t *testing.T) {
	r := newRig(t, inMainModeRig)
	p := newPuppet1(r, 1)
	p.ask(p.clear(isakmp.ExchangeMain, p.sa()))
	for _, ke := range [][]byte{nil, p.ke()[1:], append(p.ke(), 0)} {
		if out := p.say(p.clear(isakmp.ExchangeMain, &isakmp.KE{Data: ke}, &isakmp.Nonce{Data: p.ni})); len(out) != 0 {
			t.Errorf("%d bytes are answered", len(ke))
		}
	}
	if n := strings.Count(r.reasons(), "which group ecp256 does not have"); n < 2 {
		t.Errorf("it is told %d times: %s", n, r.reasons())
	}
	m := p.ask(p.clear(isakmp.ExchangeMain, &isakmp.KE{Data: p.ke()}, &isakmp.Nonce{Data: p.ni}))
	p.heardKeys(m.Payloads)
	p.derive(true)
	id := p.idPayload()
	m = p.ask(p.seal(isakmp.ExchangeMain, 0, &p.iv, id, &isakmp.Hash{Data: p.hashI(id)}))
	p.proven(p.open(m, &p.iv))
	if r.established() != 1 {
		t.Error(r.reasons())
	}
}

// A peer that knows NAT traversal and sends no hash, or one alone, has told nothing of a NAT.
func TestNATTraversalWithoutHashes(t *testing.T) {
	for n := range 2 {
		r := newRig(t, inMainModeRig)
		p := newPuppet1(r, 1)
		p.ask(p.clear(isakmp.ExchangeMain, p.sa(), &isakmp.VendorID{Data: isakmp.VendorNATT.Bytes()}))
		ps := []isakmp.Payload{&isakmp.KE{Data: p.ke()}, &isakmp.Nonce{Data: p.ni}}
		for range n {
			ps = append(ps, &isakmp.NATD{Data: make([]byte, 32)})
		}
		m := p.ask(p.clear(isakmp.ExchangeMain, ps...))
		p.heardKeys(m.Payloads)
		p.derive(true)
		id := p.idPayload()
		m = p.ask(p.seal(isakmp.ExchangeMain, 0, &p.iv, id, &isakmp.Hash{Data: p.hashI(id)}))
		p.proven(p.open(m, &p.iv))
		if sas := r.e.SAs(); len(sas) != 1 || sas[0].NAT || sas[0].NATT {
			t.Errorf("%d hashes: %+v", n, sas)
		}
	}
}

// informAs is inform with a message ID and something in place of the HASH.
func (p *puppet1) informAs(x message.ExchangeType, id uint32, sum func(right []byte) []byte, ps ...isakmp.Payload) [][]byte {
	_, rest := isakmp.AppendPayloads(nil, ps)
	h := sha256.Sum256(slices.Concat(p.iv, u32(id)))
	iv := h[:16]
	return p.say(p.seal(x, id, &iv, append([]isakmp.Payload{&isakmp.Hash{Data: sum(mac(p.a, u32(id), rest))}}, ps...)...))
}

// A message of phase 2 counts by its HASH: with another one, or with message ID 0, it changes nothing.
func TestPhase2CountsByItsHash(t *testing.T) {
	r := newRig(t, inMainModeRig)
	p := newPuppet1(r, 1)
	p.main()
	p.quick(0xc0000001)
	gone := &isakmp.Delete{DOI: isakmp.DOIIPsec, Protocol: isakmp.ProtoISAKMP, SPIs: [][]byte{p.cookies()}}
	right := func(b []byte) []byte { return b }
	for _, c := range []struct {
		name string
		id   uint32
		sum  func([]byte) []byte
		want string
	}{
		{"a bit is another", 0x7001, func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b }, "its HASH is wrong"},
		{"it is cut", 0x7002, func(b []byte) []byte { return b[:16] }, "its HASH is wrong"},
		{"it is empty", 0x7003, func([]byte) []byte { return []byte{} }, "HASH"},
		{"message ID 0", 0, right, "with message ID 0"},
	} {
		for _, x := range []message.ExchangeType{isakmp.ExchangeInformational, isakmp.ExchangeQuick} {
			told := strings.Count(r.reasons(), c.want)
			out := p.informAs(x, c.id, c.sum, gone)
			if len(out) != 0 || r.established() != 1 || len(r.children) != 1 {
				t.Errorf("%s, exchange %d: it counts: %d answers, %d IKE SAs", c.name, x, len(out), r.established())
			}
			if n := strings.Count(r.reasons(), c.want); n != told+1 {
				t.Errorf("%s, exchange %d: %q is told %d times more: %s", c.name, x, c.want, n-told, r.reasons())
			}
		}
	}
	p.informAs(isakmp.ExchangeInformational, 0x7004, right, gone)
	if r.established() != 0 {
		t.Error("with the right HASH it does not count")
	}
}

// A quick mode that the peer never answers is told, and begun again later. A rekey of that kind is tried again as long as
// the CHILD SA lives.
func TestQuickModeWithoutAnswer(t *testing.T) {
	unanswered := func(from *side, h message.Header) bool { return h.Exchange == isakmp.ExchangeQuick }
	p := newPair(t, 1, quick, inMainMode, bPassive, longChildren)
	p.drop = unanswered
	p.up()
	p.run(2 * time.Minute)
	if p.a.established() != 1 || p.a.outbound() != nil {
		t.Fatalf("%v", p.a.e.SAs())
	}
	told := 0
	for _, e := range p.a.events {
		if strings.Contains(e.Reason, "message 2 of quick mode never came") {
			told++
		}
	}
	if told == 0 {
		t.Errorf("nothing is told: %v", p.a.events)
	}
	p.drop = nil
	p.until(10*time.Minute, "up", func() bool { return p.a.outbound() != nil && p.b.outbound() != nil })
	p.works()
	old := p.a.outbound().Child
	p.drop = unanswered
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.run(2 * time.Minute)
	if e := p.a.event(core.EvNotify); !strings.Contains(e.Reason, "rekeying failed and will be tried again") || e.Child != old {
		t.Errorf("%+v", e)
	}
	p.drop = nil
	p.until(30*time.Minute, "rekeyed", func() bool { return p.a.outbound().Child != old })
	p.works()
}

// The CHILD SA goes while its rekey waits for an answer that never comes: nobody is told of a rekey that will be tried again.
func TestQuickModeForAChildThatIsGone(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, longChildren)
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	p.drop = func(from *side, h message.Header) bool { return h.Exchange == isakmp.ExchangeQuick }
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.run(time.Second)
	p.b.in(core.Command{Do: core.FlushSAs})
	p.run(2 * time.Minute)
	for _, e := range p.a.events {
		if strings.Contains(e.Reason, "rekeying failed") {
			t.Errorf("%+v", e)
		}
	}
	p.drop = nil
	p.until(30*time.Minute, "up again", p.bothUp)
	p.works()
}

// A CHILD SA that waits for message 3 is rekeyed by nobody, and is taken back.
func TestRekeyBeforeMessage3(t *testing.T) {
	p := newPair(t, 1, quick, inMainMode, bPassive, longChildren)
	n := 0
	p.drop = func(from *side, h message.Header) bool {
		if from == p.a && h.Exchange == isakmp.ExchangeQuick {
			n++
			return n > 1
		}
		return false
	}
	p.up()
	p.run(2 * time.Second)
	if len(p.b.children) != 1 || p.b.outbound() != nil {
		t.Fatalf("b has %d CHILD SAs, and one of them seals: %v", len(p.b.children), p.b.outbound() != nil)
	}
	p.b.in(core.Command{Do: core.RekeyChildren})
	p.run(2 * time.Minute)
	if p.b.established() != 1 {
		t.Errorf("%v", p.b.e.SAs())
	}
	if !slices.ContainsFunc(p.b.events, func(e core.Event) bool {
		return strings.Contains(e.Reason, "message 3 of quick mode never came")
	}) {
		t.Errorf("%v", p.b.events)
	}
}

// An IKE SA that ends before it is up says nothing more.
func TestMainModeThatIsGivenUp(t *testing.T) {
	for name, how := range map[string]core.Input{"shut down": core.Command{Do: core.Shutdown}, "without its peer": core.Reconfigure{Config: &core.Config{IKEPort: 500, NATTPort: 4500}}} {
		p := newPair(t, 1, quick, inMainMode, bPassive)
		p.b.dead = true
		p.up()
		p.run(3 * time.Second)
		said := len(p.a.sent)
		if said < 2 {
			t.Fatalf("%d messages", said)
		}
		failed := p.a.count(core.EvInitFailed)
		p.a.in(how)
		p.run(5 * time.Minute)
		if n := len(p.a.sent); n != said || p.a.count(core.EvInitFailed) != failed || len(p.a.e.SAs()) != 0 {
			t.Errorf("%s: %d more messages, %d failures, %v", name, n-said, p.a.count(core.EvInitFailed)-failed, p.a.e.SAs())
		}
	}
}

// Without an SPI nothing is asked for. The rekey is tried again, and there is one.
func TestQuickModeWithoutSPI(t *testing.T) {
	r := newRig(t, inMainModeRig, func(c *core.Config) { longChildren(c, c) })
	p := newPuppet1(r, 1)
	p.main()
	p.quick(0xc0000001)
	r.takes = func(o core.Output) bool { _, ok := o.(core.NeedSPIs); return ok }
	for ok := true; ok; {
		_, ok = r.e.env.TakeSPI()
	}
	r.take()
	r.in(core.Command{Do: core.RekeyChildren})
	if s := r.take(); len(s) != 0 {
		t.Errorf("%d messages are sent", len(s))
	}
	if !strings.Contains(r.reasons(), "no SPI in stock") || r.established() != 1 || len(r.children) != 1 {
		t.Errorf("%v: %s", r.e.SAs(), r.reasons())
	}
	r.takes = nil
	r.in(core.SPIs{SPIs: []uint32{0x5001, 0x5002, 0x5003}})
	r.take()
	r.pass(10 * time.Minute)
	again := false
	for _, s := range r.take() {
		m, err := isakmp.Parse(s.Data)
		again = again || err == nil && m.Exchange == isakmp.ExchangeQuick
	}
	if !again {
		t.Errorf("it is not tried again: %s", r.reasons())
	}
}

// A message of quick mode that cannot be decrypted is passed over.
func TestQuickModeThatCannotBeRead(t *testing.T) {
	r := newRig(t, inMainModeRig)
	p := newPuppet1(r, 1)
	p.main()
	for n, sealed := range [][]byte{nil, make([]byte, 15), make([]byte, 17), make([]byte, 64), bytes.Repeat([]byte{0xa5}, 160)} {
		bad := r.count(core.EvBadMessage)
		out := p.say(isakmp.AppendSealed(nil, p.header(isakmp.ExchangeQuick, 0x8001+uint32(n)), isakmp.TypeHash, sealed))
		if len(out) != 0 || r.established() != 1 || r.count(core.EvBadMessage) != bad+1 {
			t.Errorf("%d bytes: %d answers, %d events", len(sealed), len(out), r.count(core.EvBadMessage)-bad)
		}
	}
	p.quick(0xc0000001)
	if len(r.children) != 1 {
		t.Error(r.reasons())
	}
}

// Where one end has tunnel mode and the other transport mode there is no CHILD SA, and both modes are named.
func TestQuickModeOfAnotherMode(t *testing.T) {
	for _, tunnel := range []bool{false, true} {
		p := newPair(t, 1, quick, inMainMode, bPassive, func(a, b *core.Config) {
			here, there := selector.FromPrefix(netip.MustParsePrefix("192.0.2.1/32")), selector.FromPrefix(netip.MustParsePrefix("192.0.2.2/32"))
			a.Policies[0].Pair, b.Policies[0].Pair = selector.Pair{Local: here, Remote: there}, selector.Pair{Local: there, Remote: here}
			a.Policies[0].Tunnel, b.Policies[0].Tunnel = tunnel, !tunnel
		})
		p.up()
		p.run(5 * time.Second)
		if len(p.a.children)+len(p.b.children) != 0 || p.a.established() != 1 {
			t.Errorf("tunnel %v: %d and %d CHILD SAs", tunnel, len(p.a.children), len(p.b.children))
		}
		wants := map[bool]string{true: "the peer wants tunnel mode, policy ", false: "the peer wants another mode than policy "}[tunnel]
		if e := p.b.event(core.EvNoProposal); !strings.Contains(e.Reason, wants) || !strings.Contains(e.Reason, "tunnel differs on the two sides") || e.Detail == nil {
			t.Errorf("tunnel %v: %+v", tunnel, e)
		}
		if e := p.a.event(core.EvNoProposal); !strings.Contains(e.Reason, "NO-PROPOSAL-CHOSEN") {
			t.Errorf("tunnel %v: %+v", tunnel, e)
		}
	}
}
