package ike

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/ike/v2"
	"culvert/internal/testing/simnet"
)

// restarts has a side begin anew, as after kill -9: it knows nothing of its SAs.
func (s *side) restarts(seed uint64) {
	s.boot(seed)
	s.in(core.Reconfigure{Config: s.cfg})
}

// sends is a packet of ESP each so often, until the end or until done. What the other side does not know
// comes to its endpoint, as by the data path. A side that hears nothing says so as the data path does.
func (p *pair) sends(every, d time.Duration, back bool, done func() bool) bool {
	var sent, told time.Time // of the first that was not answered
	for end := p.clock.Now().Add(d); p.clock.Now().Before(end); p.run(every) {
		now := p.clock.Now()
		p.a.esp()
		if back {
			p.b.esp()
		}
		if done() {
			return true
		}
		if k := p.a.outbound(); k != nil {
			switch {
			case p.a.heardESP.After(sent):
				sent = now
			case now.Sub(sent) >= 1200*time.Millisecond && now.Sub(told) >= 10*time.Second && p.silent:
				told = now
				p.a.in(core.Silent{Child: k.Child})
			}
		}
	}
	return done()
}

// A passive peer that was killed and restarted: traffic passes again within 10 s, whether it says that it does not know us or
// says nothing. All that is sent in vain is one question, five times.
func TestRestartedPassivePeer(t *testing.T) {
	for _, c := range []struct {
		name           string
		hints, silence bool
	}{{"both", true, true}, {"it says that it does not know us", true, false}, {"nothing comes", false, true}} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, 81, goodLink, passive)
			p.log, p.tells, p.silent = testing.Verbose(), c.hints, c.silence
			p.up()
			p.until(time.Minute, "both ends up", p.bothUp)
			p.sends(200*time.Millisecond, 20*time.Second, true, func() bool { return false })
			if n := p.a.count(core.EvPeerDead) + p.a.count(core.EvIKEDown); n != 0 {
				t.Fatal("the peer is lost before anything has happened")
			}
			p.b.restarts(99)
			p.a.sent = nil
			begun, opened := p.clock.Now(), p.b.opened
			if !p.sends(200*time.Millisecond, time.Minute, true, func() bool { return p.b.opened > opened }) {
				t.Fatal("no traffic")
			}
			took := p.clock.Now().Sub(begun)
			t.Logf("traffic again after %v", took)
			if took < 8*time.Second || took > 10*time.Second {
				t.Errorf("traffic again after %v", took)
			}
			asked := 0
			for _, h := range p.a.sent {
				if h.ID == p.a.sent[0].ID && h.SPIi == p.a.sent[0].SPIi {
					asked++
				}
			}
			if asked != 5 {
				t.Errorf("asked %d times", asked)
			}
			p.run(10 * time.Second)
			if n := p.a.count(core.EvPeerDead); n != 1 || len(p.a.e.SAs()) != 1 || len(p.b.e.SAs()) != 1 {
				t.Errorf("dead %d times; %v, %v", n, p.a.e.SAs(), p.b.e.SAs())
			}
			said := slices.ContainsFunc(p.b.sent, func(h message.Header) bool { return h.SPIi == 0 })
			answered := slices.ContainsFunc(p.b.sent, func(h message.Header) bool {
				return h.Response() && h.Exchange == message.ExchangeInformational && h.Next == message.TypeNotify
			})
			if said != c.hints || !answered {
				t.Errorf("INVALID_SPI %v, INVALID_IKE_SPI %v", said, answered)
			}
		})
	}
}

// A peer with a DNS name that is silent, and whose name has another address now, is dialled sooner than one that may only be
// slow. One that answers stays, whatever the name says.
func TestSilentPeerIsElsewhere(t *testing.T) {
	for _, c := range []struct {
		name         string
		gone         bool
		at           string
		least, below time.Duration // until it is called dead
	}{
		{"gone, and elsewhere", true, "192.0.2.77", 4 * time.Second, 6 * time.Second},
		{"gone, and the name is not", true, "192.0.2.2", 8 * time.Second, 10 * time.Second},
		{"gone, and the name has no address", true, "", 8 * time.Second, 10 * time.Second},
		{"there, and the name is elsewhere", false, "192.0.2.77", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, 83, goodLink, passive, func(a, _ *core.Config) { a.Peers[0].Address, a.Peers[0].DNSName = netip.Prefix{}, "b.example" })
			at := "192.0.2.2"
			p.a.system = func(a core.Ask) (core.Answer, bool) {
				if _, ok := a.Work.(core.Resolve); !ok {
					return core.Answer{}, false
				}
				addr, err := netip.ParseAddr(at)
				if err != nil {
					return core.Answer{ID: a.ID, Err: errors.New("no such host")}, true
				}
				return core.Answer{ID: a.ID, Data: addr.AsSlice()}, true
			}
			p.up()
			p.until(time.Minute, "both ends up", p.bothUp)
			p.run(20 * time.Second)
			if at = c.at; c.gone {
				p.b.restarts(99)
			}
			begun := p.clock.Now()
			p.a.in(core.Silent{Child: p.a.outbound().Child})
			for p.a.count(core.EvPeerDead) == 0 && p.clock.Now().Sub(begun) < time.Minute {
				p.run(100 * time.Millisecond)
			}
			if took := p.clock.Now().Sub(begun); c.gone && (took < c.least || took > c.below) || !c.gone && took < time.Minute {
				t.Errorf("called dead after %v, want between %v and %v", took, c.least, c.below)
			}
		})
	}
}

// hint forges what the peer at an address would say of the SPI of a's packets.
func (p *pair) hint(from netip.AddrPort, spi uint32) {
	p.a.in(core.Datagram{Local: netip.AddrPortFrom(p.a.addr, 4500), Remote: from, NATT: true, Data: v2.SayUnknownSPI(spi)})
}

// Hints that are forged, ten in a second for ten minutes, on a network that loses much: the tunnel is up all the
// time, and each packet that arrives is opened. Where traffic comes anyway they cost nothing, otherwise a question in 10 s.
func TestForgedHints(t *testing.T) {
	for _, loss := range []float64{0, 0.1, 0.3} {
		for _, traffic := range []bool{false, true} {
			for seed := range uint64(4) {
				t.Run(fmt.Sprintf("loss %v, traffic %v, seed %d", loss, traffic, seed), func(t *testing.T) {
					p := newPair(t, 300+seed, simnet.Link{Delay: 20 * time.Millisecond}, passive)
					p.up()
					p.until(time.Minute, "both ends up", p.bothUp)
					p.run(20 * time.Second)
					p.net = simnet.New(400+seed, simnet.Link{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: loss})
					first := p.a.e.SAs()[0].ID
					p.a.sent = nil
					for i := range 6000 {
						if k := p.a.outbound(); k != nil {
							p.hint(k.Remote, k.Out.SPI)
						}
						if traffic && i%5 == 0 {
							p.esps()
						} else if p.a.established() == 0 || p.b.established() == 0 || p.a.outbound() == nil || p.b.outbound() == nil {
							t.Fatalf("down after %d hints: %v, %v", i, p.a.e.SAs(), p.b.e.SAs())
						}
						p.run(100 * time.Millisecond)
					}
					if len(p.a.lost)+len(p.b.lost) > 0 {
						t.Errorf("lost %v, %v", p.a.lost, p.b.lost)
					}
					asked := map[uint32]bool{}
					for _, h := range p.a.sent {
						if h.Exchange == message.ExchangeInformational && !h.Response() {
							asked[h.ID] = true
						}
					}
					switch now := p.a.e.SAs()[0].ID; {
					case traffic && (len(asked) > 5 || now != first):
						t.Errorf("%d questions, and the IKE SA is %d", len(asked), now)
					case loss == 0 && !traffic && (len(asked) < 5 || len(asked) > 60 || now != first || len(p.a.sent) != len(asked)+p.a.responses()):
						t.Errorf("%d questions in %d messages, and the IKE SA is %d", len(asked), len(p.a.sent), now)
					}
				})
			}
		}
	}
}

func (s *side) responses() (n int) {
	for _, h := range s.sent {
		if h.Response() {
			n++
		}
	}
	return n
}

// What is not said from where the peer is, of an SPI that is in use, or of the request that is under way, is no hint.
func TestNoHint(t *testing.T) {
	for name, do := range map[string]func(p *pair, k *child){
		"another address":           func(p *pair, k *child) { p.hint(netip.MustParseAddrPort("192.0.2.9:4500"), k.Out.SPI) },
		"another port":              func(p *pair, k *child) { p.hint(netip.AddrPortFrom(k.Remote.Addr(), 4501), k.Out.SPI) },
		"another SPI":               func(p *pair, k *child) { p.hint(k.Remote, k.Out.SPI+1) },
		"a request that is no more": func(p *pair, k *child) { p.saysUnknown(k, 0) },
		"one that is to come":       func(p *pair, k *child) { p.saysUnknown(k, 7) },
		"after a question": func(p *pair, k *child) {
			p.a.in(core.Woke{})
			p.run(time.Second)
			p.a.sent = nil
			p.hint(k.Remote, k.Out.SPI)
		},
		"silence, and IKE is heard": func(p *pair, k *child) {
			p.b.in(core.Command{Do: core.RekeyChildren})
			p.run(500 * time.Millisecond)
			p.a.sent = nil
			p.a.in(core.Silent{Child: p.a.outbound().Child})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 82, goodLink, passive)
			p.up()
			p.until(time.Minute, "both ends up", p.bothUp)
			p.run(20 * time.Second)
			p.a.sent = nil
			do(p, p.a.outbound())
			p.run(3 * time.Second)
			for _, h := range p.a.sent {
				if h.Exchange == message.ExchangeInformational && !h.Response() {
					t.Fatalf("%v was asked", h)
				}
			}
		})
	}
}

// Where dead peer detection is switched off, nobody is asked.
func TestNoHintWithoutDPD(t *testing.T) {
	p := newPair(t, 89, goodLink, passive, func(a, _ *core.Config) { a.Peers[0].Profile.DPD = 0 })
	p.up()
	p.until(time.Minute, "both ends up", p.bothUp)
	p.run(20 * time.Second)
	k := p.a.outbound()
	p.a.sent = nil
	p.hint(k.Remote, k.Out.SPI)
	p.a.in(core.Silent{Child: k.Child})
	p.a.in(core.Woke{Apart: time.Hour})
	p.run(20 * time.Second)
	if len(p.a.sent) != 0 || k.Watched {
		t.Errorf("%v, watched %v", p.a.sent, k.Watched)
	}
}

// saysUnknown forges INVALID_IKE_SPI for a request of a.
func (p *pair) saysUnknown(k *child, id uint32) {
	sa := p.a.e.SAs()[0]
	h := message.Header{SPIi: sa.SPIi, SPIr: sa.SPIr, Version: 0x20, Exchange: message.ExchangeInformational, Flags: message.FlagInitiator, ID: id, Next: message.TypeSK}
	p.a.in(core.Datagram{Local: k.Local, Remote: k.Remote, NATT: true, Data: v2.SayUnknownSA(h, make([]byte, 100))})
}

// Each hint asks, and the answer is the end of it. The request that is under way is asked about with INVALID_IKE_SPI.
func TestHintsAsk(t *testing.T) {
	for name, do := range map[string]func(p *pair, k *child){
		"INVALID_SPI": func(p *pair, k *child) { p.hint(k.Remote, k.Out.SPI) },
		"silence":     func(p *pair, k *child) { p.a.in(core.Silent{Child: k.Child}) },
		"woke":        func(p *pair, k *child) { p.a.in(core.Woke{Apart: time.Hour}) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 83, goodLink, passive)
			p.up()
			p.until(time.Minute, "both ends up", p.bothUp)
			p.run(20 * time.Second)
			p.a.sent = nil
			do(p, p.a.outbound())
			p.run(9 * time.Second)
			if len(p.a.sent) != 1 || p.a.sent[0].Exchange != message.ExchangeInformational || p.a.count(core.EvPeerDead) != 0 {
				t.Errorf("%v was sent", p.a.sent)
			}
			do(p, p.a.outbound()) // too soon: later
			p.run(500 * time.Millisecond)
			if len(p.a.sent) != 1 && name != "woke" {
				t.Errorf("asked again after 9.5 s")
			}
			p.run(time.Second)
			if len(p.a.sent) != 2 {
				t.Errorf("%d messages", len(p.a.sent))
			}
		})
	}
	p := newPair(t, 84, goodLink, passive)
	p.up()
	p.until(time.Minute, "both ends up", p.bothUp)
	p.run(20 * time.Second)
	p.b.dead = true
	k := p.a.outbound()
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.run(20 * time.Second)
	asked := p.a.sent[len(p.a.sent)-1]
	h := asked
	h.Next = message.TypeSK
	before := len(p.a.sent)
	p.a.in(core.Datagram{Local: k.Local, Remote: k.Remote, NATT: true, Data: v2.SayUnknownSA(h, make([]byte, 100))})
	p.run(7900 * time.Millisecond)
	if n := len(p.a.sent) - before; n != 5 || p.a.count(core.EvPeerDead) != 0 {
		t.Errorf("%d messages in 8 s, dead %d", n, p.a.count(core.EvPeerDead))
	}
	p.run(200 * time.Millisecond)
	if p.a.count(core.EvPeerDead) != 1 || p.a.established() != 1 {
		t.Errorf("dead %d times, %v", p.a.count(core.EvPeerDead), p.a.e.SAs())
	}
}

// Traffic that needs no answer: the peer answers each question, and is asked ever more seldom, until it is heard by ESP.
func TestOneWayTraffic(t *testing.T) {
	p := newPair(t, 85, goodLink, passive)
	p.up()
	p.until(time.Minute, "both ends up", p.bothUp)
	p.run(20 * time.Second)
	var at []time.Duration
	begun := p.clock.Now()
	p.tap = func(s *side, o core.Output) {
		if o, ok := o.(core.Send); ok && s == p.a {
			if h, _ := message.ParseHeader(o.Data); h.Exchange == message.ExchangeInformational && !h.Response() {
				at = append(at, p.clock.Now().Sub(begun).Round(time.Second))
			}
		}
	}
	for range 5 * 60 {
		p.a.in(core.Silent{Child: p.a.outbound().Child})
		p.run(time.Second)
	}
	if want := []time.Duration{0, 10 * time.Second, 30 * time.Second, 70 * time.Second, 150 * time.Second, 270 * time.Second}; !slices.Equal(at, want) {
		t.Errorf("asked at %v", at)
	}
	p.a.in(core.Alive{Child: p.a.outbound().Child})
	n := len(at)
	p.run(5 * time.Second)
	p.a.in(core.Silent{Child: p.a.outbound().Child})
	p.run(time.Second)
	if len(at) != n+1 {
		t.Errorf("not asked after it was heard by ESP: %v", at)
	}
}

// Whom we may not connect to keeps its IKE SA for as long as always: it may have no network for a moment.
func TestHintOfPassiveSide(t *testing.T) {
	p := newPair(t, 86, goodLink, passive)
	p.up()
	p.until(time.Minute, "both ends up", p.bothUp)
	p.run(20 * time.Second)
	if k := p.b.outbound(); k.Watched || !p.a.outbound().Watched {
		t.Error("the side that may not connect watches, or the other does not")
	}
	p.a.dead = true
	p.b.sent = nil
	p.b.in(core.Silent{Child: p.b.outbound().Child})
	p.run(60 * time.Second)
	if p.b.established() != 1 || len(p.b.sent) < 5 {
		t.Errorf("%v, %d messages", p.b.e.SAs(), len(p.b.sent))
	}
	p.run(20 * time.Second)
	if len(p.b.e.SAs()) != 0 || p.b.count(core.EvPeerDead) != 1 {
		t.Errorf("%v", p.b.e.SAs())
	}
}

// A network that is away for longer than a question waits: the IKE SA is there when it is back, and carries traffic until
// the one that was begun meanwhile takes over.
func TestOutageLongerThanAQuestion(t *testing.T) {
	p := newPair(t, 87, goodLink, passive)
	p.up()
	p.until(time.Minute, "both ends up", p.bothUp)
	p.run(20 * time.Second)
	away := true
	p.drop = func(*side, message.Header) bool { return away }
	p.a.in(core.Silent{Child: p.a.outbound().Child})
	p.run(15 * time.Second)
	if p.a.count(core.EvPeerDead) != 1 || p.a.established() != 1 || p.b.established() != 1 {
		t.Fatalf("%v, %v", p.a.e.SAs(), p.b.e.SAs())
	}
	away = false
	for range 200 {
		p.esps()
		p.run(100 * time.Millisecond)
	}
	if len(p.a.e.SAs()) != 1 || len(p.b.e.SAs()) != 1 || p.a.count(core.EvIKEUp) != 2 {
		t.Errorf("%v, %v", p.a.e.SAs(), p.b.e.SAs())
	}
}

// What is said without an IKE SA is bounded, is said to configured peers alone, and is not longer than what it answers.
func TestHintsAreBounded(t *testing.T) {
	r, p := settled(t, func(c *core.Config) { c.Peers[0].Address = netip.MustParsePrefix("192.0.2.0/24") })
	at := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 4500)
	}
	stray := func(from netip.AddrPort) {
		r.in(core.UnknownSPI{Local: netip.AddrPortFrom(r.local.Addr(), 4500), Remote: from, NATT: true, SPI: 77})
	}
	for range 10 {
		for i := range 60 {
			stray(at(10 + i))
			h := p.header(message.ExchangeInformational, 1, false)
			h.SPIr = 12345
			r.datagram(at(10+i), p.seal(h))
		}
	}
	if sent := r.take(); len(sent) != maxHints {
		t.Errorf("%d in a second", len(sent))
	}
	r.pass(time.Second)
	for range 10 {
		stray(at(10))
	}
	sent := r.take()
	if len(sent) != maxHintsFor || len(sent[0].Data) != 40 || !sent[0].NATT || sent[0].Remote != at(10) {
		t.Errorf("%d for one address, %+v", len(sent), sent[0])
	}
	r.pass(time.Second)
	stray(netip.MustParseAddrPort("198.51.100.1:4500"))
	r.silent("ESP of nobody")
	ask := p.header(message.ExchangeInformational, 9, false)
	ask.SPIr = 12345
	for what, h := range map[string]func(h *message.Header){
		"a response": func(h *message.Header) { h.Flags |= message.FlagResponse },
		"no SPIi":    func(h *message.Header) { h.SPIi = 0 },
		"no SPIr":    func(h *message.Header) { h.SPIr = 0 },
	} {
		g := ask
		h(&g)
		r.datagram(at(20), p.seal(g))
		r.silent(what)
	}
	m := message.Message{Header: ask, Payloads: []message.Payload{note(message.NotifyInvalidIKESPI)}}
	r.datagram(at(20), m.Append(nil))
	r.silent("a request in clear")
	short := ask
	short.Next, short.Length = message.TypeSK, message.HeaderLen+7
	r.datagram(at(20), append(short.Append(nil), make([]byte, 7)...))
	r.silent("a request that is shorter than its answer")
	r.datagram(netip.MustParseAddrPort("198.51.100.1:4500"), p.seal(ask))
	r.silent("a request of nobody")
	r.datagram(at(20), p.seal(ask))
	s := r.one()
	if h, _ := message.ParseHeader(s.Data); len(s.Data) != 36 || h.SPIi != ask.SPIi || h.SPIr != ask.SPIr || h.ID != 9 || h.Exchange != ask.Exchange || !h.Response() || h.FromInitiator() {
		t.Errorf("%+v", h)
	}
	r.in(core.UnknownSPI{Local: netip.MustParseAddrPort("192.0.2.1:0"), Remote: netip.MustParseAddrPort("192.0.2.33:0"), SPI: 77})
	if s := r.one(); s.NATT || s.Local.Port() != 500 || s.Remote.Port() != 500 {
		t.Errorf("to ESP without UDP: %+v", s)
	}
	r.in(core.Command{Do: core.Shutdown})
	r.take()
	stray(at(30))
	r.datagram(at(30), p.seal(ask))
	for _, s := range r.take() {
		if s.Remote == at(30) {
			t.Error("a gateway that stops says something")
		}
	}
}

// With an IKE SA it is said inside that, once in 10 s, and the peer that hears it asks by a rekey.
func TestUnknownSPIInsideIKESA(t *testing.T) {
	p := newPair(t, 88, goodLink, passive)
	p.log = testing.Verbose()
	p.up()
	p.until(time.Minute, "both ends up", p.bothUp)
	p.run(20 * time.Second)
	was := p.a.outbound()
	gone := p.b.outbound().Child
	p.b.e.children[gone].SA.Children = nil // b has lost it, and the data path says so by another one of this IKE SA
	said := 0
	p.b.e.env.Trace = func(sent bool, h message.Header, ps []message.Payload) {
		for _, n := range ps {
			if n, ok := n.(*message.Notify); ok && sent && n.Kind == message.NotifyInvalidSPI {
				said++
			}
		}
	}
	for range 5 {
		p.b.in(core.UnknownSPI{Local: was.Remote, Remote: was.Local, NATT: true, SPI: was.Out.SPI, Child: gone})
		p.run(time.Second)
	}
	p.run(10 * time.Second)
	if now := p.a.outbound(); now == nil || now.Child == was.Child || p.b.outbound() == nil {
		t.Errorf("the CHILD SA is the same: %+v", now)
	}
	if said != 1 {
		t.Errorf("said %d times in 10 s", said)
	}
	if n := p.a.count(core.EvNotify); n == 0 {
		t.Error("nothing is said about it")
	}
	if p.a.count(core.EvIKEDown) != 0 || p.b.count(core.EvIKEDown) != 0 {
		t.Error("an IKE SA has ended")
	}
}
