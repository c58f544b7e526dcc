package ike

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
)

func inAggressiveMode(a, b *core.Config) {
	inMainMode(a, b)
	for _, c := range []*core.Config{a, b} {
		c.Peers[0].Mode = core.ModeAggressive
	}
}

func inAggressiveModeRig(c *core.Config) { inAggressiveMode(c, c) }

// Aggressive mode and quick mode are six messages, with secrets and with certificates.
func TestAggressiveMode(t *testing.T) {
	k := newCerts()
	for name, change := range map[string]func(a, b *core.Config){
		"secret": func(a, b *core.Config) {},
		"certificates": func(a, b *core.Config) {
			sign(a, trustIn(k.root), own(k.root.Leaf("a", "rsa-2048")))
			sign(b, trustIn(k.root), own(k.mid.Leaf("b", "p256"), k.mid))
			b.Peers[0].Identities[0].Own = own(k.mid.Leaf("b", "rsa-2048"), k.mid)
		},
	} {
		for _, encap := range []core.Encapsulation{core.EncapDetect, core.EncapUDP} {
			p := newPair(t, 1, quick, inAggressiveMode, bPassive, change, func(a, b *core.Config) { a.Encapsulation, b.Encapsulation = encap, encap })
			p.askDelay = 10 * time.Millisecond
			p.up()
			p.until(5*time.Second, name+" up", p.bothUp)
			p.works()
			if n := len(p.a.sent) + len(p.b.sent); n != 6 {
				t.Errorf("%s: %d messages, not 6", name, n)
			}
			if udp := encap == core.EncapUDP; p.a.outbound().UDP != udp || p.b.outbound().UDP != udp || (p.a.outbound().Remote.Port() == 4500) != udp {
				t.Errorf("%s: %+v", name, p.a.outbound().Install)
			}
		}
	}
}

// Each message is lost once, or comes twice, or a second later: the same SAs come up, and no more.
func TestAggressiveModeMessagesLostDoubledLate(t *testing.T) {
	for _, fate := range []string{"lost", "doubled", "late"} {
		for n := range 6 {
			p := newPair(t, 1, quick, inAggressiveMode, bPassive)
			p.meets(fate, n)
			p.up()
			p.until(20*time.Second, fmt.Sprintf("up, %s %d", fate, n+1), p.bothUp)
			p.run(90 * time.Second)
			p.works()
			if len(p.a.children) != 1 || len(p.b.children) != 1 || len(p.a.e.SAs()) != 1 || len(p.b.e.SAs()) != 1 {
				t.Errorf("%s %d: %d and %d CHILD SAs, %d and %d IKE SAs", fate, n+1, len(p.a.children), len(p.b.children), len(p.a.e.SAs()), len(p.b.e.SAs()))
			}
		}
	}
}

// Through a NAT both ends go on at port 4500.
func TestAggressiveModeThroughNAT(t *testing.T) {
	public := netip.MustParseAddr("203.0.113.1")
	p := newPair(t, 1, quick, inAggressiveMode, bPassive, func(_, b *core.Config) { b.Peers[0].Address = netip.MustParsePrefix("203.0.113.0/24") })
	p.net.Behind(netip.PrefixFrom(p.a.addr, 32), simnet.NewNAT(public))
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	a, b := p.a.e.SAs()[0], p.b.e.SAs()[0]
	if !a.NATT || !a.NAT || !b.NATT || !b.NAT || !p.a.outbound().UDP || !p.b.outbound().UDP || b.Remote.Addr() != public {
		t.Errorf("%+v\n%+v", a, b)
	}
}

// Peers of any address are told apart by their IDs, each with a secret of its own. An ID of nobody costs no key exchange.
func TestAggressiveModeSelectsByID(t *testing.T) {
	ids := []core.ID{{Type: core.IDFQDN, Data: "a.example"}, {Type: core.IDUser, Data: "a@example"}, {Type: core.IDKeyID, Data: "group"},
		{Type: core.IDIPv4, Data: "\x0a\x00\x00\x01"}, {Type: core.IDFQDN, Data: "b.example"}}
	several := func(c *core.Config) {
		inAggressiveModeRig(c)
		first := c.Peers[0]
		c.Peers = nil
		for i, id := range ids[:4] {
			peer := *first
			peer.Name, peer.Address = fmt.Sprint("peer", i), netip.MustParsePrefix("0.0.0.0/0")
			peer.Identities = []*core.Identity{{Auth: core.AuthPSK, Secret: secret.Bytes(fmt.Sprint("secret", i)), RemoteID: id}}
			c.Peers = append(c.Peers, &peer)
		}
		c.Policies[0].Peer = c.Peers[0]
	}
	for i, id := range ids {
		r := newRig(t, several)
		p := newPuppet1(r, 1)
		p.id, p.psk = id, fmt.Sprint("secret", i)
		if i == 4 {
			p.say(p.aggressive1())
			if sas := r.e.SAs(); len(sas) != 0 || !strings.Contains(r.event(core.EvAuthFailed).Reason, "fits the ID fqdn:b.example") {
				t.Errorf("%v %s", sas, r.reasons())
			}
			continue
		}
		p.aggressive(false)
		if sas := r.e.SAs(); r.established() != 1 || sas[0].Peer != fmt.Sprint("peer", i) {
			t.Errorf("%v: %v %s", id, sas, r.reasons())
		}
	}
}

// The third message counts in clear, too. One whose hash is wrong does not, and ends nothing.
func TestAggressiveModeThirdMessageInClear(t *testing.T) {
	r := newRig(t, inAggressiveModeRig)
	p := newPuppet1(r, 1)
	p.aggressive(true, []byte("a hash that is wrong, of 32 bytes"), make([]byte, 32))
	if r.established() != 1 {
		t.Fatalf("%v %s", r.e.SAs(), r.reasons())
	}
	p.quick(0xc0000001)
	if len(r.children) != 1 {
		t.Errorf("no CHILD SA: %s", r.reasons())
	}
	r = newRig(t, inAggressiveModeRig)
	p = newPuppet1(r, 1)
	p.psk = "another"
	p.ask(p.aggressive1())
	p.nr = make([]byte, 16)
	for range 100 {
		p.say(p.clear(isakmp.ExchangeAggressive, &isakmp.Hash{Data: make([]byte, 32)}))
	}
	if r.established() != 0 || r.count(core.EvAuthFailed) != 1 {
		t.Errorf("%v %s", r.e.SAs(), r.reasons())
	}
}

// A message 2 of somebody who does not have the secret ends nothing: the peer's own counts when it comes.
func TestAggressiveModeForgedAnswer(t *testing.T) {
	p := newPair(t, 1, quick, inAggressiveMode, bPassive)
	var first core.Send
	p.tap = func(s *side, o core.Output) {
		if send, ok := o.(core.Send); ok && s == p.a && first.Data == nil {
			first = send
		}
	}
	p.drop = func(from *side, _ message.Header) bool { return from == p.b }
	p.up()
	p.run(time.Millisecond)
	forger := newRig(t, inAggressiveModeRig, func(c *core.Config) { c.Peers[0].Identities[0].Secret = secret.Bytes("another") })
	forger.local = netip.MustParseAddrPort("192.0.2.2:500")
	forger.cfg.Peers[0].Address = netip.MustParsePrefix("0.0.0.0/0")
	forger.in(core.Reconfigure{Config: forger.cfg})
	forger.datagram(first.Local, first.Data)
	forged := forger.one()
	p.a.in(core.Datagram{Local: first.Local, Remote: first.Remote, Data: forged.Data})
	p.run(100 * time.Millisecond)
	if e := p.a.event(core.EvAuthFailed); !strings.Contains(e.Reason, "compare the secret") {
		t.Errorf("%+v", e)
	}
	p.drop = nil
	p.until(10*time.Second, "up", p.bothUp)
	p.works()
}

// Floods of first messages: of an ID that is known as many are computed for as the limit says, and the bytes that are
// kept stay within those of strangers. Nothing is sent by itself, and no answer twice.
func TestAggressiveModeFlood(t *testing.T) {
	r := newRig(t, inAggressiveModeRig, fromAnywhere, func(c *core.Config) { c.StrangerBytes = 100 << 10 })
	p := newPuppet1(r, 1)
	for n := range 1000 {
		p.spii = 0x3333000000000000 | uint64(n)
		addr := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 0x0b000000+uint32(n)<<12)))
		r.datagram(netip.AddrPortFrom(addr, 500), p.aggressive1())
		if r.e.strangers.bytes > 100<<10 {
			t.Fatalf("%d bytes", r.e.strangers.bytes)
		}
	}
	answers := 0
	for _, s := range r.take() {
		if h, _ := message.ParseHeader(s.Data); h.Exchange == isakmp.ExchangeAggressive {
			answers++
		}
	}
	if answers != maxAggressive {
		t.Errorf("%d were answered, not %d", answers, maxAggressive)
	}
	r.pass(time.Minute)
	r.silent("the flood")
	if len(r.e.SAs()) != 0 {
		t.Errorf("%d IKE SAs are left", len(r.e.SAs()))
	}
	q := newPuppet1(r, 2)
	q.aggressive(false)
	if r.established() != 1 {
		t.Errorf("%v", r.e.SAs())
	}
}

// The modes tell peers of one address apart.
func TestModesOfOneAddress(t *testing.T) {
	for _, mode := range []core.Mode{core.ModeMain, core.ModeAggressive} {
		p := newPair(t, 1, quick, inMainMode, bPassive, func(a, b *core.Config) {
			a.Peers[0].Mode = mode
			other := *b.Peers[0]
			other.Name, other.Mode = "aggressive", core.ModeAggressive
			b.Peers = append([]*core.Peer{&other}, b.Peers...)
		})
		p.up()
		p.run(5 * time.Second)
		want := map[core.Mode]string{core.ModeMain: "a", core.ModeAggressive: "aggressive"}[mode]
		if sas := p.b.e.SAs(); len(sas) != 1 || sas[0].Peer != want || sas[0].State != "established" {
			t.Errorf("%v: %v", mode, sas)
		}
	}
}
