package ike

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// A peer with a DNS name is looked up before each attempt, so that one that
// moved is found again; as responder it is recognised by what the DNS says.
func TestPeerByName(t *testing.T) {
	p := newPair(t, 21, goodLink, passive, func(a, b *core.Config) {
		a.Peers[0].Address, a.Peers[0].DNSName = netip.Prefix{}, "b.example"
		b.Peers[0].Address, b.Peers[0].DNSName = netip.Prefix{}, "a.example"
	})
	names := map[string]string{"a.example": "192.0.2.1"}
	asked := 0
	resolve := func(a core.Ask) (core.Answer, bool) {
		w, ok := a.Work.(core.Resolve)
		if !ok {
			return core.Answer{}, false
		}
		asked++
		at, err := netip.ParseAddr(names[w.Name])
		if err != nil {
			return core.Answer{ID: a.ID, Err: errors.New("no such host")}, true
		}
		return core.Answer{ID: a.ID, Data: at.AsSlice()}, true
	}
	p.a.system, p.b.system = resolve, resolve
	p.up()
	p.run(time.Minute)
	if p.a.count(core.EvInitFailed) < 3 || len(p.a.sent) > 0 {
		t.Fatalf("a name without address: %d failures told, %d messages sent", p.a.count(core.EvInitFailed), len(p.a.sent))
	}
	names["b.example"] = "192.0.2.2"
	p.until(2*time.Minute, "both ends up", p.bothUpOrStandby)

	before := asked
	p.b.in(core.Command{Do: core.KillAll})
	p.run(20 * time.Second)
	p.until(time.Minute, "both ends up again", p.bothUpOrStandby)
	if asked == before {
		t.Error("the name was not looked up again")
	}
}

// The address that leads to the peer is not there yet when the first request goes
// out: it goes on from the right one, soon, and as the same IKE SA. What answers
// the first request, late, is not taken.
func TestOurAddressComesLater(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("the first is answered %v", late), func(t *testing.T) {
			p := newPair(t, 22, goodLink, passive, func(a, b *core.Config) {
				a.Encapsulation, b.Encapsulation = core.EncapDetect, core.EncapDetect // the request tells the address that it comes from
				b.Peers[0].Address = netip.MustParsePrefix("0.0.0.0/0")
			})
			p.log = testing.Verbose()
			right, wrong := p.a.addr, netip.MustParseAddr("198.51.100.9")
			p.a.addr = wrong
			if late { // it arrives, and its answer comes when the request has gone out from elsewhere
				p.byIP[wrong] = p.a
				p.carry = func(deliver func()) { p.clock.After(800*time.Millisecond, deliver) }
			}
			p.up()
			p.run(700 * time.Millisecond) // asked once more, and still the same
			p.a.addr = right
			p.until(5*time.Second, "both ends up", p.bothUpOrStandby)
			p.run(10 * time.Second)
			if !p.a.between(right.String(), p.b.addr.String()) || p.a.count(core.EvIKEUp) != 1 || p.a.count(core.EvMoved) != 1 || p.a.count(core.EvAuthFailed) > 0 {
				t.Errorf("%v", p.a.e.SAs())
			}
		})
	}
}

// A peer with a local-address is reached from that one, whatever the system says.
func TestOurAddressIsGiven(t *testing.T) {
	p := newPair(t, 23, goodLink, passive, func(a, _ *core.Config) { a.Peers[0].Local = netip.MustParseAddr("192.0.2.1") })
	p.a.addr = netip.MustParseAddr("198.51.100.9")
	lost := 0
	p.drop = func(*side, message.Header) bool { lost++; return lost < 4 }
	p.up()
	p.until(10*time.Second, "both ends up", p.bothUpOrStandby)
	if p.a.count(core.EvMoved) > 0 {
		t.Error("it went elsewhere")
	}
}
