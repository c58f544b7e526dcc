package ike

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
	"culvert/spd/selector"
)

// A courier has the messages between two endpoints in his bag and delivers them
// as a script says:
//
//	a rekeys child                     a begins; also: rekeys ike, deletes child, deletes ike, wants child, ends child, ends new
//	a? N(REKEY_SA) SA Nonce TSi TSr    a's request that says this is delivered
//	b! SA Nonce TSi TSr                b's response that says this is delivered
//	~b? D                              b's request is lost
//	wait 5s
//	rest                               from here on everything is delivered
//
// A message that a line names and nobody sent fails the test. W and L are sides:
// of two exchanges that collide, L began the one with the lowest nonce.
type courier struct {
	*pair
	bag  []parcel
	last parcel
	open bool // deliver at once

	says   map[string]string // what is in a message, by its header
	nonces map[string][]byte // lowest nonce of an exchange, by who began it
}

type parcel struct {
	from    *side
	h       message.Header
	deliver func()
}

func keyOf(from *side, h message.Header) string {
	return fmt.Sprint(from.name, h.SPIi, h.SPIr, h.Exchange, h.ID, h.Response())
}

// newCourier has one IKE SA with one CHILD SA between two sides that begin
// nothing by themselves.
func newCourier(t *testing.T, seed uint64, change ...func(a, b *core.Config)) *courier {
	t.Helper()
	c := &courier{says: map[string]string{}, nonces: map[string][]byte{}}
	c.pair = newPair(t, seed, simnet.Link{}, append(change, func(a, b *core.Config) {
		a.Peers[0].OnDemand, b.Peers[0].OnDemand = true, true
	})...)
	c.drop = func(from *side, h message.Header) bool {
		c.last = parcel{from: from, h: h}
		return false
	}
	c.carry = func(deliver func()) {
		if c.open {
			deliver()
			return
		}
		c.last.deliver = deliver
		c.bag = append(c.bag, c.last)
	}
	for _, s := range []*side{c.a, c.b} {
		s.e.Trace(func(sent bool, h message.Header, body []message.Payload) {
			if sent {
				c.note(s, h, body)
			}
		})
	}
	c.open = true
	c.up()
	c.act("a", "wants child")
	c.until(time.Second, "up", c.bothUp)
	c.run(time.Second)
	c.open = false
	clear(c.nonces)
	return c
}

// note writes down what a message says.
func (c *courier) note(from *side, h message.Header, body []message.Payload) {
	text := strings.ReplaceAll(describe(body), "Delete", "D")
	if d := findPayload[*message.Delete](body); d != nil && d.Protocol == 1 {
		text = "D(IKE)"
	}
	c.says[keyOf(from, h)] = text
	if n := findPayload[*message.Nonce](body); n != nil {
		who := from.name
		if h.Response() {
			who = map[string]string{"a": "b", "b": "a"}[who]
		}
		if low := c.nonces[who]; low == nil || bytes.Compare(n.Data, low) < 0 {
			c.nonces[who] = n.Data
		}
	}
}

func (c *courier) side(name string) *side {
	c.t.Helper()
	if name == "W" || name == "L" {
		if len(c.nonces) != 2 {
			c.t.Fatal("there is no collision yet")
		}
		lower := "a"
		if bytes.Compare(c.nonces["b"], c.nonces["a"]) < 0 {
			lower = "b"
		}
		if name == "L" {
			name = lower
		} else {
			name = map[string]string{"a": "b", "b": "a"}[lower]
		}
	}
	return map[string]*side{"a": c.a, "b": c.b}[name]
}

// act has a side begin something.
func (c *courier) act(who, what string) {
	c.t.Helper()
	s := c.side(who)
	current := func() core.ChildID {
		k := s.outbound()
		if k == nil {
			c.t.Fatalf("%s has no CHILD SA", who)
		}
		return k.Child
	}
	switch what {
	case "rekeys child":
		s.in(core.Expire{Child: current()})
	case "ends child":
		s.in(core.Expire{Child: current(), Hard: true})
	case "ends new": // the CHILD SA that was made last
		s.in(core.Expire{Child: s.order[len(s.order)-1], Hard: true})
	case "rekeys ike":
		s.in(core.Command{Do: core.RekeyIKE})
	case "deletes child":
		s.in(core.Command{Do: core.FlushSAs})
	case "deletes ike":
		s.in(core.Command{Do: core.KillAll})
	case "wants child":
		pol := s.cfg.Policies[0]
		s.in(core.Acquire{Policy: pol.Ref, Flow: selector.Pair{Local: oneHost(pol.Pair.Local), Remote: oneHost(pol.Pair.Remote)}})
	default:
		c.t.Fatalf("%s cannot %q", who, what)
	}
	c.run(0)
}

// oneHost is one host of a selector.
func oneHost(t selector.TS) selector.TS {
	t.Hi = t.Lo
	return t
}

// take finds what a line of the script names in the bag.
func (c *courier) take(line string) parcel {
	c.t.Helper()
	who, response := c.side(line[:1]), line[1] == '!'
	want := strings.TrimSpace(line[2:])
	for i, p := range c.bag {
		if p.from == who && p.h.Response() == response && c.says[keyOf(p.from, p.h)] == want {
			c.bag = append(c.bag[:i:i], c.bag[i+1:]...)
			return p
		}
	}
	var there []string
	for _, p := range c.bag {
		there = append(there, fmt.Sprintf("%s%s %s", p.from.name, map[bool]string{false: "?", true: "!"}[p.h.Response()], c.says[keyOf(p.from, p.h)]))
	}
	c.t.Fatalf("nobody sent %q (%s is %s), but %q%s", line, line[:1], who.name, there, c.story())
	return parcel{}
}

// play plays a script; then all is delivered for two minutes.
func (c *courier) play(script string) {
	c.t.Helper()
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		word, more, _ := strings.Cut(line, " ")
		switch {
		case line[0] == '~':
			c.take(line[1:])
		case len(line) > 1 && (line[1] == '?' || line[1] == '!'):
			c.take(line).deliver()
		case word == "rest":
			c.rest()
		case word == "wait":
			d, err := time.ParseDuration(more)
			if err != nil {
				c.t.Fatal(err)
			}
			c.run(d)
		default:
			c.act(word, more)
		}
		c.run(0)
	}
	c.rest()
	c.run(2 * time.Minute)
}

func (c *courier) rest() {
	c.open = true
	bag := c.bag
	c.bag = nil
	for _, p := range bag {
		p.deliver()
		c.run(0)
	}
}

// is checks what is left: "up" is one IKE SA with one CHILD SA, which both ends
// know as the same; "childless" an IKE SA without; "down" nothing.
func (c *courier) is(want string) {
	c.t.Helper()
	n := map[string][2]int{"up": {1, 1}, "childless": {1, 0}, "down": {0, 0}}[want]
	for _, s := range []*side{c.a, c.b} {
		if len(s.e.SAs()) != n[0] || len(s.children) != n[1] || len(s.e.children) != n[1] {
			c.t.Errorf("%s has %d IKE SAs and %d CHILD SAs, and it is to be %s:%s", s.name, len(s.e.SAs()), len(s.children), want, c.story())
		}
		if s.count(core.EvPeerDead) > 0 {
			c.t.Errorf("%s took its peer for dead:%s", s.name, c.story())
		}
	}
	if want != "up" || c.t.Failed() {
		return
	}
	ka, kb := c.a.outbound(), c.b.outbound()
	if ka == nil || kb == nil || ka.Out.SPI != kb.In.SPI || kb.Out.SPI != ka.In.SPI || !ka.Out.EncKey.Equal(kb.In.EncKey) {
		c.t.Errorf("the ends seal with different SAs: %+v, %+v", ka, kb)
	}
	sa, sb := c.a.e.SAs()[0], c.b.e.SAs()[0]
	if sa.SPIi != sb.SPIi || sa.SPIr != sb.SPIr {
		c.t.Error("the ends have different IKE SAs")
	}
}

// story is what both ends reported.
func (c *courier) story() (s string) {
	for _, side := range []*side{c.a, c.b} {
		for _, e := range side.events {
			s += fmt.Sprintf("\n  %s: %v %s", side.name, e.Kind, e.Reason)
		}
	}
	return s
}
