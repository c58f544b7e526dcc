package ike

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// The life of two gateways, with each exchange of IKEv1: phase 1, XAuth, mode config, quick mode, R-U-THERE, rekeys of both phases, a
// DELETE of the CHILD SAs. Each message of it is lost, comes twice, comes late, or is said again by somebody half a minute later, with
// other ports too: in the end both ends have the same SAs, nothing is half-open, and traffic goes both ways.
func TestEveryMessageOfIKEv1(t *testing.T) {
	for _, c := range []struct {
		name   string
		change []func(a, b *core.Config)
	}{
		{"main mode", []func(a, b *core.Config){inMainMode}},
		{"aggressive mode", []func(a, b *core.Config){inAggressiveMode}},
		{"main mode, XAuth and mode config", []func(a, b *core.Config){inMainMode, xauth, asksAndGives}},
		{"aggressive mode, XAuth and mode config", []func(a, b *core.Config){inAggressiveMode, xauth, asksAndGives}},
	} {
		life := func(t *testing.T, fate string, n int) (messages []string) {
			p := newPair(t, 1, quick, append(c.change, bPassive, func(a, b *core.Config) {
				a.Peers[0].Profile.DPD, b.Peers[0].Profile.DPD = 10*time.Second, 10*time.Second
			})...)
			p.tells, p.b.spi = true, 0x80000000
			p.a.leasing("192.168.77.9")
			p.b.leasing("192.168.77.9")
			var last core.Send
			p.tap = func(_ *side, o core.Output) {
				if s, ok := o.(core.Send); ok {
					last = s
				}
			}
			p.carry = func(deliver func()) {
				h, _ := message.ParseHeader(last.Data)
				messages = append(messages, talkExchanges[h.Exchange])
				d := core.Datagram{Local: last.Remote, Remote: last.Local, NATT: last.NATT, Data: bytes.Clone(last.Data)}
				switch {
				case len(messages)-1 != n:
					deliver()
				case fate == "doubled":
					deliver()
					deliver()
				case fate == "late":
					p.clock.After(700*time.Millisecond, deliver)
				case fate == "replayed":
					deliver()
					p.clock.After(30*time.Second, func() { p.byIP[d.Local.Addr()].in(d) })
				}
			}
			p.up()
			p.until(20*time.Second, "up", p.bothUp)
			pass := func(seconds int) {
				for range seconds {
					p.run(time.Second)
					p.a.esp()
					p.b.esp()
				}
			}
			pass(5)
			p.run(30 * time.Second) // silence: DPD asks
			p.a.in(core.Command{Do: core.RekeyChildren})
			pass(10)
			p.b.in(core.Command{Do: core.RekeyChildren})
			pass(10)
			p.a.in(core.Command{Do: core.RekeyIKE})
			pass(20)
			p.a.in(core.Command{Do: core.FlushSAs})
			pass(20)
			p.until(30*time.Second, "up again", p.bothUp)
			pass(100)
			p.run(time.Second)
			p.works()
			as, bs := p.a.e.SAs(), p.b.e.SAs()
			if len(as) != 1 || len(bs) != 1 || as[0].SPIi != bs[0].SPIi || p.a.leftovers() != "" || p.b.leftovers() != "" {
				t.Errorf("a keeps %s, b %s\n%v\n%v", p.a.leftovers(), p.b.leftovers(), as, bs)
			}
			for _, s := range []*side{p.a, p.b} {
				if s.count(core.EvAuthFailed)+s.count(core.EvPeerDead)+s.count(core.EvInitFailed) > 0 {
					t.Errorf("%s: %v", s.name, s.events)
				}
			}
			return messages
		}
		t.Run(c.name, func(t *testing.T) {
			all := life(t, "", -1)
			kinds := map[string]int{}
			for _, m := range all {
				kinds[m]++
			}
			if kinds["inform"] < 4 || kinds["quick"] < 9 || kinds["main"]+kinds["aggressive"] < 6 || len(c.change) > 1 && kinds["config"] < 4 {
				t.Fatalf("the life is not whole: %v", kinds)
			}
			for _, fate := range []string{"lost", "doubled", "late", "replayed"} {
				for n, m := range all {
					t.Run(fmt.Sprintf("%s %d %s", fate, n+1, m), func(t *testing.T) { life(t, fate, n) })
				}
			}
		})
	}
}

// asksAndGives has a ask for an address, which b gives it, beside the policies that both have.
func asksAndGives(a, b *core.Config) {
	a.Peers[0].Identities[0].Mode = &core.ModeConfig{Name: "request-only"}
	b.Peers[0].Identities[0].Mode = &core.ModeConfig{Name: "rw", Responder: true, Pool: "pool"}
}
