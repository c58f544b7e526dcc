package ike

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
	"culvert/spd/selector"
)

// driven are two sides of which a has traffic without end for policy 2, whatever
// becomes of it.
type driven struct {
	*pair
	attempts int // of a: CREATE_CHILD_SA, IKE_SA_INIT and questions for its own address
}

// newDriven changes the sides before they begin.
func newDriven(t *testing.T, change func(d *driven)) *driven {
	d := &driven{pair: newPair(t, 5, simnet.Link{Delay: 5 * time.Millisecond})}
	for _, s := range []*side{d.a, d.b} {
		second := *s.cfg.Policies[0]
		second.Ref = 2
		if s == d.a {
			second.Pair.Remote = selector.FromPrefix(netip.MustParsePrefix("10.3.0.0/16"))
		} else {
			second.Pair.Local = selector.FromPrefix(netip.MustParsePrefix("10.3.0.0/16"))
		}
		s.cfg.Policies = append(s.cfg.Policies, &second)
	}
	d.a.cfg.Peers[0].OnDemand, d.b.cfg.Peers[0].OnDemand = true, true
	seen := map[message.Header]bool{}
	d.tap = func(from *side, o core.Output) {
		switch o := o.(type) {
		case core.Send:
			h, err := message.ParseHeader(o.Data)
			if h.Length = 0; err == nil && from == d.a && !h.Response() && !seen[h] &&
				(h.Exchange == message.ExchangeIKESAInit || h.Exchange == message.ExchangeCreateChildSA) {
				seen[h] = true
				d.attempts++
			}
		case core.Ask:
			if _, ok := o.Work.(core.SourceFor); ok && from == d.a && d.a.system != nil {
				d.attempts++
			}
		}
	}
	change(d)
	d.up()
	return d
}

// traffic is a packet of policy 2 each step.
func (d *driven) traffic(step, during time.Duration) {
	host := func(a string) selector.TS { return selector.FromPrefix(netip.MustParsePrefix(a + "/32")) }
	flow := selector.Pair{Local: host("10.1.0.5"), Remote: host("10.3.0.6")}
	for end := d.clock.Now().Add(during); d.clock.Now().Before(end); d.run(step) {
		d.a.in(core.Acquire{Policy: 2, Flow: flow})
	}
}

// Why nothing comes of it, each a way to arrange it.
var refusals = map[string]func(d *driven){
	"no policy there": func(d *driven) { d.b.cfg.Policies = d.b.cfg.Policies[:1] },
	"another algorithm there": func(d *driven) {
		d.b.cfg.Policies[1].Proposal.Encrs = []*suite.Encr{suite.EncrByName("aes-256-gcm")}
	},
	"a wrong secret": func(d *driven) { d.b.cfg.Peers[0].Identities[0].Secret = secret.Bytes("another") },
	"no answer":      func(d *driven) { d.b.dead = true },
	"no route": func(d *driven) {
		d.a.system = func(a core.Ask) (core.Answer, bool) {
			_, ok := a.Work.(core.SourceFor)
			return core.Answer{ID: a.ID, Err: core.ErrSystem}, ok
		}
	},
	"the CHILD SA is taken back": func(d *driven) { d.atOnce(core.EvChildUp, core.FlushSAs) },
	"the IKE SA is taken back":   func(d *driven) { d.atOnce(core.EvChildUp, core.KillAll) },
}

// atOnce has b do something as soon as it reports an event.
func (d *driven) atOnce(k core.EventKind, do core.CommandKind) {
	tap := d.tap
	d.tap = func(from *side, o core.Output) {
		tap(from, o)
		if e, ok := o.(core.Event); ok && from == d.b && e.Kind == k {
			d.clock.After(0, func() { d.b.in(core.Command{Do: do}) })
		}
	}
}

// Who begins, where that is possible at all.
var drivers = map[string]func(d *driven){
	"on demand": func(d *driven) { d.b.cfg.Peers[0].Passive = true },
	"kept up": func(d *driven) {
		d.b.cfg.Peers[0].Passive = true
		d.a.cfg.Peers[0].OnDemand = false
		d.a.cfg.Policies = d.a.cfg.Policies[1:]
	},
	"passive": func(d *driven) {
		d.a.cfg.Peers[0].Passive = true
		d.b.cfg.Peers[0].OnDemand = false
	},
}

// A peer that does not give what traffic asks for is asked less and less often, down
// to once a minute, however many packets come.
func TestTrafficIsHeldOff(t *testing.T) {
	for who, begin := range drivers {
		for why, arrange := range refusals {
			if who == "passive" && why != "no policy there" && why != "another algorithm there" {
				continue // then there is no IKE SA on which it could ask
			}
			t.Run(who+", "+why, func(t *testing.T) {
				d := newDriven(t, func(d *driven) {
					begin(d)
					arrange(d)
				})
				if who == "passive" {
					d.until(time.Minute, "b has connected", func() bool { return d.a.established() == 1 })
					d.attempts = 0
				}
				d.traffic(5*time.Millisecond, 15*time.Second)
				if least := map[bool]int{true: 1, false: 4}[why == "no answer"]; d.attempts < least || d.attempts > 6 {
					t.Errorf("%d attempts in 15 s", d.attempts)
				}
				holds := slices.DeleteFunc(d.a.e.Holds(), func(h core.Hold) bool { return h.Policy != 2 })
				if why != "no answer" && (len(holds) != 1 || holds[0].Policy != 2 || holds[0].Peer != "b" || holds[0].Failures < 3 || !holds[0].Until.After(d.clock.Now())) {
					t.Errorf("held off: %+v", holds)
				}
				d.traffic(500*time.Millisecond, time.Hour)
				if least := map[bool]int{true: 20, false: 45}[why == "no answer"]; d.attempts < least || d.attempts > 75 {
					t.Errorf("%d attempts in an hour", d.attempts)
				}
				// A reload begins anew.
				before := d.attempts
				d.a.in(core.Reconfigure{Config: d.a.cfg})
				d.traffic(5*time.Millisecond, 10*time.Second)
				if n := d.attempts - before; why != "no answer" && (n < 3 || n > 6) {
					t.Errorf("%d attempts in 10 s after a reload", n)
				}
			})
		}
	}
}

// A peer that connects itself is asked at once, and what it gives ends the hold-off.
func TestPeersOwnAttemptEndsTheHoldOff(t *testing.T) {
	d := newDriven(t, func(d *driven) { d.drop = func(*side, message.Header) bool { return true } })
	d.traffic(50*time.Millisecond, 20*time.Minute)
	if holds := d.a.e.Holds(); len(holds) != 0 && holds[0].Failures < 5 {
		t.Errorf("held off: %+v", holds)
	}
	d.drop = nil
	for _, sa := range d.a.e.SAs() { // what it has begun would succeed now
		d.a.in(core.Command{Do: core.KillSA, SA: sa.ID})
	}
	d.attempts = 0
	d.b.in(core.Acquire{Policy: 1, Flow: d.b.cfg.Policies[0].Pair})
	d.until(5*time.Second, "b has connected", func() bool { return d.a.established() == 1 })
	if d.attempts != 0 {
		t.Errorf("%d attempts of our own", d.attempts)
	}
	d.traffic(5*time.Millisecond, 100*time.Millisecond)
	if len(d.a.children) != 2 || d.attempts != 1 || len(d.a.e.Holds()) != 0 {
		t.Errorf("%d CHILD SAs after %d attempts, held off: %+v", len(d.a.children), d.attempts, d.a.e.Holds())
	}
}

// A peer that refuses every rekey is asked less and less often until the lifetime ends
// (a minimal peer answers each CREATE_CHILD_SA so, RFC 7296 §4).
func TestRefusedRekeysAreHeldOff(t *testing.T) {
	for _, why := range []message.NotifyType{message.NotifyNoAdditionalSAs, message.NotifyTemporaryFailure, message.NotifyNoProposalChosen} {
		for what, change := range map[string]func(c *core.Config){
			"CHILD SA": func(c *core.Config) {},
			"IKE SA": func(c *core.Config) {
				c.Peers[0].Profile.Lifetime, c.Policies[0].Proposal.Lifetime = time.Hour, 24*time.Hour
			},
		} {
			t.Run(what+", "+why.String(), func(t *testing.T) {
				r := newRig(t, initiates, change)
				p := newPuppet(r, 1)
				p.accept()
				r.take()
				ids, done := map[uint32]bool{}, false
				for end := r.now.Add(time.Hour); r.now.Before(end) && !done; {
					r.pass(time.Second)
					for _, s := range r.take() {
						h, err := message.ParseHeader(s.Data)
						switch {
						case err != nil || h.Response():
							continue
						case h.Exchange == message.ExchangeIKESAInit:
							continue // the IKE SA that is to take over is never made
						}
						h, body := p.open(s.Data)
						if h.Exchange == message.ExchangeCreateChildSA {
							ids[h.ID] = true // it may have been repeated before it was answered
							p.answer(h, note(why))
							continue
						}
						done = findPayload[*message.Delete](body) != nil
						p.answer(h)
					}
				}
				if asked := len(ids); !done || asked < 5 || asked > 20 {
					t.Errorf("asked %d times, lifetime ended: %v", asked, done)
				}
			})
		}
	}
}
