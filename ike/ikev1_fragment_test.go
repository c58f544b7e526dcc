package ike

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/internal/testing/testcert"
)

// inFragments is fragmented for IKEv1, with certificates in chains.
func inFragments(a, b *core.Config) {
	k := newCerts()
	fragmented(a, b)
	sign(a, trustIn(k.root), own(k.mid.Leaf("a", "p256", testcert.DNS("a.example.net")), k.mid))
	sign(b, trustIn(k.root), own(k.mid.Leaf("b", "p256"), k.mid))
	for _, c := range []*core.Config{a, b} {
		c.MaxDatagram = 240
	}
}

// whole is how many messages longer than a datagram a side sent, and how many fragments.
func (s *side) whole(most uint32) (long, fragments int) {
	for _, h := range s.sent {
		if h.Length > most {
			long++
		}
		if h.Next == isakmp.TypeFragment {
			fragments++
		}
	}
	return long, fragments
}

// All that is too long travels in fragments, in each exchange, but for the first message: nothing is known of the peer then.
func TestFragmentsV1(t *testing.T) {
	for name, mode := range map[string]func(a, b *core.Config){"main": inMainMode, "aggressive": inAggressiveMode} {
		p := newPair(t, 1, quick, mode, bPassive, inFragments)
		p.up()
		p.until(5*time.Second, name+" up", p.bothUp)
		p.works()
		for _, s := range []*side{p.a, p.b} {
			first := 0
			if s == p.a {
				first = 1
			}
			if long, n := s.whole(240 - 52); long > first || n < 6 {
				t.Errorf("%s, %s: %d messages are too long, %d fragments", name, s.name, long, n)
			}
		}
		p.a.sent, p.b.sent = nil, nil
		for _, c := range []*core.Config{p.a.e.Config(), p.b.e.Config()} {
			c.MaxDatagram = 160
		}
		p.a.in(core.Command{Do: core.RekeyChildren})
		p.run(time.Second)
		for _, s := range []*side{p.a, p.b} {
			if long, n := s.whole(160 - 52); long > 0 || n < 2 {
				t.Errorf("%s, %s: quick mode in %d fragments, %d messages are too long", name, s.name, n, long)
			}
		}
		if p.a.count(core.EvChildRekeyed) != 1 {
			t.Errorf("%s: not rekeyed", name)
		}
		p.works()
	}
}

// Who does not take fragments gets none.
func TestFragmentsV1OnlyWhereBothSaySo(t *testing.T) {
	for i := range 2 {
		p := newPair(t, 1, quick, inMainMode, bPassive, inFragments, func(a, b *core.Config) {
			[]*core.Config{a, b}[i].Peers[0].Profile.Fragmentation = false
		})
		p.up()
		p.until(5*time.Second, "up", p.bothUp)
		for _, s := range []*side{p.a, p.b} {
			if _, n := s.whole(0); n != 0 {
				t.Errorf("%s sent fragments, and only one end said that it takes them", s.name)
			}
		}
	}
}

// Each datagram is lost once, or comes twice, or a second later: the same SAs come up, and no more.
func TestFragmentsV1LostDoubledLate(t *testing.T) {
	for mode, change := range map[string]func(a, b *core.Config){"main": inMainMode, "aggressive": inAggressiveMode} {
		var all int
		for _, fate := range []string{"none", "lost", "doubled", "late"} {
			for n := range max(all, 1) {
				p := newPair(t, 1, quick, change, bPassive, inFragments)
				p.meets(fate, n)
				if fate == "none" {
					p.carry = nil
				}
				p.up()
				what := fmt.Sprintf("%s mode, datagram %d %s", mode, n, fate)
				p.until(20*time.Second, what, p.bothUp)
				if fate == "none" {
					all = len(p.a.sent) + len(p.b.sent)
				}
				p.run(90 * time.Second)
				p.works()
				if len(p.a.children) != 1 || len(p.b.children) != 1 || len(p.a.e.SAs()) != 1 || len(p.b.e.SAs()) != 1 {
					t.Errorf("%s: %d and %d CHILD SAs, %d and %d IKE SAs", what, len(p.a.children), len(p.b.children), len(p.a.e.SAs()), len(p.b.e.SAs()))
				}
			}
		}
		if all < 20 {
			t.Errorf("%s mode: only %d datagrams", mode, all)
		}
	}
}

// cut is a message in fragments of size bytes; dress changes the header of each.
func (p *puppet1) cut(raw []byte, id uint16, size int, dress func(h *message.Header)) (out [][]byte) {
	for n := uint8(1); len(raw) > 0; n++ {
		part := raw[:min(size, len(raw))]
		raw = raw[len(part):]
		h := p.header(isakmp.ExchangeMain, 0)
		if dress != nil {
			dress(&h)
		}
		out = append(out, isakmp.Append(nil, h, []isakmp.Payload{&isakmp.Fragment{ID: id, Number: n, Last: len(raw) == 0, Data: part}}))
	}
	return out
}

func fragmentsRig(c *core.Config) { c.Peers[0].Profile.Fragmentation = true }

// third is the third message of main mode, with something long in it, after the first two.
func (p *puppet1) third() []byte {
	p.ask(p.clear(isakmp.ExchangeMain, p.sa()))
	return p.clear(isakmp.ExchangeMain, &isakmp.KE{Data: p.ke()}, &isakmp.Nonce{Data: p.ni}, &isakmp.VendorID{Data: make([]byte, 600)})
}

// Fragments as peers have them: with the encryption bit, the numbers of their message, in any order, each twice, all
// messages under one number; one of another message among them.
func TestFragmentsV1OfPeers(t *testing.T) {
	for name, c := range map[string]struct {
		dress func(h *message.Header)
		order func(list [][]byte, p *puppet1) [][]byte
	}{
		"in order":           {},
		"the encryption bit": {dress: func(h *message.Header) { h.Flags |= isakmp.FlagEncryption }},
		"a message ID":       {dress: func(h *message.Header) { h.ID = 77 }},
		"quick mode":         {dress: func(h *message.Header) { h.Exchange, h.ID = isakmp.ExchangeQuick, 77 }},
		"backwards":          {order: func(l [][]byte, _ *puppet1) [][]byte { slices.Reverse(l); return l }},
		"each twice":         {order: func(l [][]byte, _ *puppet1) [][]byte { return slices.Concat(l[:3], l[:3], l[3:]) }},
		"another of one ID": {order: func(l [][]byte, p *puppet1) [][]byte {
			return slices.Concat(p.cut(make([]byte, 300), 1, 100, nil)[:2], l)
		}},
		"another of other ID": {order: func(l [][]byte, p *puppet1) [][]byte {
			return slices.Concat(p.cut(make([]byte, 300), 2, 150, nil)[:1], l)
		}},
		"fewer of one ID": {order: func(l [][]byte, p *puppet1) [][]byte {
			return slices.Concat(l[2:4], p.cut(make([]byte, 200), 1, 100, nil)[1:], l, l[:1]) // the peer says it again
		}},
		"a longer one of one ID": {order: func(l [][]byte, p *puppet1) [][]byte {
			return slices.Concat(p.cut(make([]byte, 200), 1, 100, nil)[1:], l[2:3], l)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, inMainModeRig, fromAnywhere, fragmentsRig)
			p := newPuppet1(r, 1)
			list := p.cut(p.third(), 1, 100, c.dress)
			if c.order != nil {
				list = c.order(list, p)
			}
			var out [][]byte
			for i, raw := range list {
				out = p.say(raw)
				if i < len(list)-1 && len(out) > 0 {
					t.Fatalf("datagram %d of %d is answered", i+1, len(list))
				}
			}
			if len(out) != 1 {
				t.Fatalf("%d answers: %s", len(out), r.reasons())
			}
			if n := r.e.strangers.bytes; n > 8<<10 {
				t.Errorf("%d bytes are kept", n)
			}
			if out := p.say(p.third3()); len(out) != 0 {
				t.Errorf("another third message is answered")
			}
		})
	}
}

// third3 is another third message.
func (p *puppet1) third3() []byte {
	return p.clear(isakmp.ExchangeMain, &isakmp.KE{Data: p.ke()}, &isakmp.Nonce{Data: bytes.Repeat([]byte{9}, 16)})
}

// What is not a message in the end, or too much, is dropped, and the SA goes on.
func TestFragmentsV1Refused(t *testing.T) {
	frag := func(n uint8, last bool, size int) isakmp.Payload {
		return &isakmp.Fragment{ID: 9, Number: n, Last: last, Data: make([]byte, size)}
	}
	for name, c := range map[string]struct {
		say  func(p *puppet1) [][]byte
		off  bool
		want string
	}{
		"garbage":   {say: func(p *puppet1) [][]byte { return p.cut(make([]byte, 300), 1, 100, nil) }, want: "the header says 0 bytes"},
		"in itself": {say: func(p *puppet1) [][]byte { return p.cut(p.cut(make([]byte, 300), 1, 300, nil)[0], 1, 100, nil) }, want: "a fragment in fragments"},
		"too many":  {say: func(p *puppet1) [][]byte { return [][]byte{p.clear(isakmp.ExchangeMain, frag(65, true, 10))} }, want: "too many fragments"},
		"with others": {say: func(p *puppet1) [][]byte {
			return [][]byte{p.clear(isakmp.ExchangeMain, frag(1, true, 10), &isakmp.Nonce{Data: make([]byte, 20)})}
		}, want: "beside other payloads"},
		"too long": {say: func(p *puppet1) (l [][]byte) {
			for n := range uint8(40) {
				l = append(l, p.clear(isakmp.ExchangeMain, frag(n+1, false, 2000)))
			}
			return l
		}, want: "too long together"},
		"switched off": {off: true, say: func(p *puppet1) [][]byte { return p.cut(p.third3(), 1, 100, nil) }, want: "fragmentation is off in profile"},
		"another SA": {say: func(p *puppet1) [][]byte {
			q := *p
			q.spir++
			return p.cut(q.third3(), 1, 100, nil)
		}, want: "of no IKE SA"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, inMainModeRig, fromAnywhere, func(cfg *core.Config) { cfg.Peers[0].Profile.Fragmentation = !c.off })
			p := newPuppet1(r, 1)
			m := p.third()
			for _, raw := range c.say(p) {
				if out := p.say(raw); len(out) > 0 {
					t.Fatalf("%d answers", len(out))
				}
				if n := r.e.strangers.bytes; n > 8<<10+ikesa.MaxReassembly*9/8+128*48 {
					t.Fatalf("%d bytes are kept", n)
				}
			}
			if got := r.reasons(); !strings.Contains(got, c.want) {
				t.Errorf("%s", got)
			}
			if out := p.say(m); len(out) != 1 {
				t.Errorf("the message itself gets %d answers", len(out))
			}
		})
	}
}

// Fragments of a message that does not become whole are kept for a while, and are counted as what a stranger has.
func TestFragmentsV1Kept(t *testing.T) {
	r := newRig(t, inMainModeRig, fromAnywhere, fragmentsRig)
	p := newPuppet1(r, 1)
	p.main()
	raw := p.clear(isakmp.ExchangeMain, &isakmp.VendorID{Data: make([]byte, 3000)})
	p.say(p.cut(raw, 1, 2000, nil)[0])
	r.pass(29 * time.Second)
	if out := p.cut(raw, 1, 2000, nil); len(out) != 2 {
		t.Fatal(len(out))
	}
	r.pass(2 * time.Second) // now the first one is forgotten
	bad := r.count(core.EvBadMessage)
	p.say(p.cut(raw, 1, 2000, nil)[1])
	if r.count(core.EvBadMessage) != bad {
		t.Errorf("it was put together with a fragment that is too old: %s", r.reasons())
	}
	// Of strangers:
	r = newRig(t, inMainModeRig, fromAnywhere, fragmentsRig)
	p = newPuppet1(r, 2)
	p.third()
	before := r.e.strangers.bytes
	p.say(p.cut(raw, 1, 2000, nil)[0])
	if n := r.e.strangers.bytes - before; n < 2000 || n > 2600 {
		t.Errorf("%d bytes are counted for a fragment of 2000", n)
	}
}
