package ike

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"culvert/crypto/prf"
	"culvert/crypto/secret"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
)

// Riddles are an authentication method that is there for this test alone. It takes three
// rounds, as EAP does (RFC 7296 §2.16), and its responder proves itself by a pre-shared key:
//
//	HDR, SK{IDi, SAi2, TSi, TSr}  -->  <--  HDR, SK{IDr, AUTH, EAP(riddle)}
//	HDR, SK{EAP(solution)}        -->  <--  HDR, SK{EAP(riddle)}
//	HDR, SK{AUTH}                 -->  <--  HDR, SK{AUTH, SAr2, TSi, TSr}
//
// The last two AUTH have a key that comes of the second riddle.
const (
	authRiddles core.AuthMethod = 200
	wireRiddles uint8           = 201
)

func init() {
	auth.Methods = append(auth.Methods, &auth.Method{Auth: authRiddles, Name: "riddles", Proof: "a riddle", Wire: []uint8{wireRiddles}, Late: true,
		Prove: func(s auth.Side) auth.Part { return newRiddler(s, true) },
		Check: func(s auth.Side) auth.Part { return newRiddler(s, false) },
	})
}

// riddler is either end. The solution of a riddle takes an Ask.
type riddler struct {
	auth.Side
	proves bool
	step   int
	key    secret.Bytes
	ended  int
}

// riddlers are those that were made, until a test forgets them.
var riddlers []*riddler

func newRiddler(s auth.Side, proves bool) *riddler {
	r := &riddler{Side: s, proves: proves}
	riddlers = append(riddlers, r)
	return r
}

func (r *riddler) End() {
	r.ended++
	r.key.Wipe()
}

// solve is the Work of solving a riddle.
type solve struct {
	riddle []byte
	secret secret.Bytes
}

func (w solve) Do() (secret.Bytes, error) {
	return secret.Bytes(mac(w.secret, w.riddle)), nil
}

func (r *riddler) riddle() []byte { return []byte(fmt.Sprintf("riddle %d", r.step)) }

func (r *riddler) proof(ours bool) *message.Auth {
	return &message.Auth{Method: wireRiddles, Data: prf.Sum(r.PRF(), r.key, r.Signed(ours).Octets(r.PRF()))}
}

func (r *riddler) right(in []message.Payload) bool {
	a := findPayload[*message.Auth](in)
	return a != nil && bytes.Equal(a.Data, r.proof(false).Data)
}

func (r *riddler) Step(in []message.Payload, done auth.Done) error {
	e := findPayload[*message.EAP](in)
	asked := func(riddle []byte, then func(solution secret.Bytes) error) error {
		r.Ask(solve{riddle, r.Identity().Secret}, func(b secret.Bytes, err error) error {
			if err != nil {
				return err
			}
			r.key.Wipe()
			r.key = b
			return then(b)
		})
		return nil
	}
	r.step++
	say := func(b []byte) error { return done([]message.Payload{&message.EAP{Data: b}}, false) }
	switch {
	case r.proves && r.step == 1: // the request has no AUTH
		return done(nil, false)
	case r.proves && r.step == 2 && e != nil:
		return asked(e.Data, func(solution secret.Bytes) error { return say(solution) })
	case r.proves && r.step == 3 && e != nil:
		return asked(e.Data, func(secret.Bytes) error { return done([]message.Payload{r.proof(true)}, false) })
	case r.proves && r.step == 4 && r.right(in):
		return done(nil, true)
	case !r.proves && r.step == 1:
		return say(r.riddle())
	case !r.proves && r.step == 2 && e != nil:
		r.step-- // of the riddle that was asked
		riddle := r.riddle()
		r.step++
		return asked(riddle, func(solution secret.Bytes) error {
			if !solution.Equal(e.Data) {
				return r.Refuse(nil, "%s gave a wrong solution", r.PeerID())
			}
			riddle := r.riddle()
			return asked(riddle, func(secret.Bytes) error { return say(riddle) })
		})
	case !r.proves && r.step == 3 && r.right(in):
		return done([]message.Payload{r.proof(true)}, true)
	}
	return r.Refuse(nil, "step %d of the riddles: %s", r.step, describe(in))
}

// riddled has a prove itself to b by riddles, and ask it for an address.
func riddled(a, b *core.Config) {
	ia, ib := a.Peers[0].Identities[0], b.Peers[0].Identities[0]
	ia.Auth, ia.RemoteAuth = authRiddles, core.AuthPSK
	ib.Auth, ib.RemoteAuth = core.AuthPSK, authRiddles
	ia.Mode = &core.ModeConfig{Name: "request-only"}
	ib.Mode = &core.ModeConfig{Name: "pool", Responder: true, Pool: "pool"}
	b.Peers[0].Passive = true
	riddlers = nil
}

// ledger is what an endpoint has taken and given back.
type ledger struct {
	spis, leases int
	asks         map[core.AskID]bool
}

// keepLedgers follows the outputs of a pair. Leases are given; the Asks that never says so are
// not answered before they are withdrawn.
func (p *pair) keepLedgers(never func(core.Work) bool) map[*side]*ledger {
	l := map[*side]*ledger{p.a: {asks: map[core.AskID]bool{}}, p.b: {asks: map[core.AskID]bool{}}}
	p.tap = func(s *side, o core.Output) {
		switch o := o.(type) {
		case core.NeedSPIs:
			l[s].spis += o.N
		case core.FreeSPI:
			l[s].spis--
		case core.Remove:
			l[s].spis--
		case core.Release:
			l[s].leases--
		case core.Withdraw:
			if l[s].asks[o.ID] {
				delete(l[s].asks, o.ID)
				s.clock.After(0, func() { s.in(core.Answer{ID: o.ID, Err: core.ErrWithdrawn}) })
			}
		case core.Ask:
			if _, ok := o.Work.(core.Lease); ok {
				l[s].leases++
			}
			l[s].asks[o.ID] = never(o.Work)
		}
	}
	for _, s := range []*side{p.a, p.b} {
		s.system = func(a core.Ask) (core.Answer, bool) {
			if _, ok := a.Work.(core.Lease); ok {
				return core.Answer{ID: a.ID, Data: core.AppendLease(nil, []netip.Addr{netip.MustParseAddr("192.168.77.9")}, nil)}, true
			}
			return core.Answer{}, l[s].asks[a.ID]
		}
	}
	return l
}

// settled says what an endpoint without SAs has not given back; "": nothing.
func (l *ledger) settled(s *side) string {
	stock := reflect.ValueOf(s.e.env).Elem().FieldByName("spis").Len()
	switch timers := reflect.ValueOf(&s.e.env.Timers).Elem().FieldByName("heap").Len(); {
	case len(s.e.SAs()) > 0:
		return "IKE SAs"
	case s.leftovers() != "":
		return s.leftovers()
	case l.spis != stock:
		return fmt.Sprintf("%d SPIs", l.spis-stock)
	case l.leases != 0:
		return fmt.Sprintf("%d leases", l.leases)
	case len(s.e.env.Own) != 0:
		return fmt.Sprintf("%d values of requests that are not under way", len(s.e.env.Own))
	case timers != 0:
		return fmt.Sprintf("%d timers", timers)
	}
	return ""
}

// endedOnce checks that each proof ended once, and that its key is wiped.
func endedOnce(t *testing.T, want int) {
	t.Helper()
	if len(riddlers) != want {
		t.Errorf("%d proofs by riddles were begun, not %d", len(riddlers), want)
	}
	for _, r := range riddlers {
		if r.ended != 1 || !bytes.Equal(r.key, make([]byte, len(r.key))) {
			t.Errorf("a proof (ours: %v, step %d) ended %d times, and its key is %x", r.proves, r.step, r.ended, []byte(r.key.Reveal()))
		}
	}
}

// A proof of three rounds: policy, SPI and selectors of the first message last until
// the last, and both ends are up with a lease and a CHILD SA.
func TestProofOfThreeRounds(t *testing.T) {
	for name, link := range map[string]simnet.Link{"good": {Delay: 10 * time.Millisecond}, "bad": {Delay: 10 * time.Millisecond, Loss: 0.2, Dup: 0.2}} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 7, link, riddled)
			p.askDelay = 5 * time.Millisecond
			l := p.keepLedgers(func(core.Work) bool { return false })
			p.up()
			p.until(2*time.Minute, "both are up", p.bothUp)
			endedOnce(t, 2)
			rounds := map[uint32]bool{}
			for _, h := range p.a.sent {
				if h.Exchange == message.ExchangeIKEAuth {
					rounds[h.ID] = true
				}
			}
			if len(rounds) != 3 || l[p.b].leases != 1 || len(p.a.e.SAs()[0].Leased) != 1 {
				t.Errorf("%d rounds, %d leases, %v", len(rounds), l[p.b].leases, p.a.e.SAs()[0].Leased)
			}
			p.run(time.Minute)
			p.a.in(core.Command{Do: core.Shutdown})
			p.run(3 * time.Minute)
			for _, s := range []*side{p.a, p.b} {
				if left := l[s].settled(s); left != "" {
					t.Errorf("%s keeps %s", s.name, left)
				}
			}
		})
	}
}

// A wrong solution in the second round, and a peer that wants another method.
func TestProofOfThreeRoundsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(a, b *core.Config)
		reason string
	}{
		"wrong solution": {func(a, b *core.Config) { b.Peers[0].Identities[0].Secret = secret.Bytes("another") }, "compare the secret"},
		"no such method": {func(a, b *core.Config) { b.Peers[0].Identities[0].RemoteAuth = core.AuthPSK }, "asks for EAP"},
		"AUTH at once":   {func(a, b *core.Config) { a.Peers[0].Identities[0].Auth = core.AuthPSK }, "proves itself by pre-shared key, and the identity wants riddles"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 7, simnet.Link{}, riddled, c.change)
			p.keepLedgers(func(core.Work) bool { return false })
			p.up()
			p.run(time.Second)
			said := ""
			for _, s := range []*side{p.a, p.b} {
				for _, e := range s.events {
					said += e.Reason + "\n"
				}
			}
			if p.a.established()+p.b.established() != 0 || !strings.Contains(said, c.reason) {
				t.Errorf("up: %d and %d; %s", p.a.established(), p.b.established(), said)
			}
			endedOnce(t, len(riddlers))
		})
	}
}

// Wherever the conversation breaks off, nothing is left of it at either end: no timer,
// SPI, lease, half-open SA and its weight, secret or Ask.
func TestProofThatBreaksOff(t *testing.T) {
	silent := func(n int) func(p *pair) {
		return func(p *pair) {
			p.drop = func(from *side, h message.Header) bool {
				if h.Exchange == message.ExchangeIKEAuth {
					n--
				}
				return n < 0
			}
		}
	}
	for name, c := range map[string]struct {
		breaks func(p *pair)
		never  int // the Ask that is not answered; 0: none
	}{
		"after the first request":    {silent(1), 0},
		"after the first response":   {silent(2), 0},
		"after the second request":   {silent(3), 0},
		"after the second response":  {silent(4), 0},
		"while the initiator solves": {func(*pair) {}, 1},
		"while the responder solves": {func(*pair) {}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 7, simnet.Link{Delay: 10 * time.Millisecond}, riddled)
			solved := 0
			l := p.keepLedgers(func(w core.Work) bool {
				if _, ok := w.(solve); !ok {
					return false
				}
				solved++
				return solved == c.never
			})
			c.breaks(p)
			p.up()
			p.run(time.Second)
			if len(p.b.e.strangers.half) != 1 || len(p.a.e.SAs()) != 1 {
				t.Fatalf("it did not begin: %d half-open, %v", len(p.b.e.strangers.half), p.a.e.SAs())
			}
			if c.never != 1 { // else the peer's answer is awaited that never comes
				p.drop = func(from *side, h message.Header) bool { return true }
			}
			p.run(35 * time.Second)
			if left := l[p.b].settled(p.b); left != "" {
				t.Errorf("b keeps %s", left)
			}
			if c.never == 1 {
				p.a.in(core.Command{Do: core.KillAll})
			}
			p.run(core.TimeToGiveUp)
			p.a.in(core.Command{Do: core.Shutdown})
			p.run(time.Second)
			if left := l[p.a].settled(p.a); left != "" {
				t.Errorf("a keeps %s", left)
			}
			if len(riddlers) < 2 {
				t.Errorf("%d proofs were begun", len(riddlers))
			}
			endedOnce(t, len(riddlers))
		})
	}
}
