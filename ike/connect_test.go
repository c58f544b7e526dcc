package ike

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"culvert/ike/core"
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
