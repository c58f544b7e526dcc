package ike

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
)

// roadWarrior makes a, which begins, a client of b: it asks for an address and gets its policies from a template for all networks, and b
// gives it one, with the networks 10.1.5.0/24 and 10.1.9.0/24.
func roadWarrior(a, b *core.Config) {
	bPassive(a, b)
	givesLeases(b)
	m := b.Peers[0].Identities[0].Mode
	m.Split = append(m.Split, netip.MustParsePrefix("10.1.9.0/24"))
	was := a.Policies[0]
	a.Policies = nil
	a.Templates = []*core.Template{{Ref: core.FirstTemplate + 1, Index: 1, Group: "rw", Local: netip.MustParsePrefix("::/0"), Remote: netip.MustParsePrefix("::/0"),
		Tunnel: true, Protocol: was.Protocol, Proposal: was.Proposal}}
	id := a.Peers[0].Identities[0]
	id.Generate, id.Group, id.Mode = core.GenerateStrict, "rw", &core.ModeConfig{Name: "request-only"}
}

// newRoadWarrior is such a pair in main mode.
func newRoadWarrior(t *testing.T, change ...func(a, b *core.Config)) *pair {
	p := newPair(t, 1, quick, append([]func(a, b *core.Config){inMainMode, roadWarrior}, change...)...)
	p.b.leasing("192.168.77.9")
	return p
}

// outputsOf collects the outputs of one kind of a pair.
func outputsOf[T core.Output](p *pair) *[]T {
	list, was := &[]T{}, p.tap
	p.tap = func(s *side, o core.Output) {
		if x, ok := o.(T); ok {
			*list = append(*list, x)
		}
		if was != nil {
			was(s, o)
		}
	}
	return list
}

// pairsOf are what CHILD SAs of a side are for.
func (s *side) pairsOf() (list []string) {
	for _, c := range s.children {
		list = append(list, fmt.Sprint(c.Pairs))
	}
	slices.Sort(list)
	return list
}

const pulled = `
	a: main SA
	b: main SA
	a: main KE N
	b: main KE N
	a: main 192.0.2.1/32 HASH
	b: main 192.0.2.2/32 HASH
	a: config HASH REQUEST address mask dns subnet address6 dns6 subnet6 banner domain networks
	b: config HASH REPLY address=192.168.77.9 mask=255.255.255.255 dns=10.1.0.53 dns6=2001:db8::53 networks=[10.1.5.0/24,10.1.9.0/24]
	a: quick HASH SA N 192.168.77.9/32 10.1.5.0/24
	b: quick HASH SA N 192.168.77.9/32 10.1.5.0/24
	a: quick HASH
	a: quick HASH SA N 192.168.77.9/32 10.1.9.0/24
	b: quick HASH SA N 192.168.77.9/32 10.1.9.0/24
	a: quick HASH`

// The client asks for an address before any quick mode. Each network of split-include is a policy of its own, of level unique,
// and has a CHILD SA. Neither end says INITIAL-CONTACT.
func TestModeConfigV1Pulled(t *testing.T) {
	p := newRoadWarrior(t)
	talk := p.talks()
	configured, added := outputsOf[core.Configured](p), outputsOf[core.AddPolicy](p)
	installed, released := outputsOf[core.Install](p), outputsOf[core.Release](p)
	p.up()
	p.until(5*time.Second, "up", func() bool { return len(p.a.children) == 2 && len(p.b.children) == 2 })
	p.run(5 * time.Second)
	if got := talk.said(); got != script(pulled) {
		t.Errorf("said\n%s", got)
	}
	if c := *configured; len(c) != 1 || fmt.Sprint(c[0].Addrs, c[0].DNS) != "[192.168.77.9] [10.1.0.53 2001:db8::53]" {
		t.Errorf("configured %+v", c)
	}
	want := []string{"[192.168.77.9/32 => 10.1.5.0/24]", "[192.168.77.9/32 => 10.1.9.0/24]"}
	var made []string
	for _, a := range *added {
		if a.Peer == "b" {
			made = append(made, fmt.Sprint(a.Pairs))
		}
	}
	if slices.Sort(made); !slices.Equal(made, want) || !slices.Equal(p.a.pairsOf(), want) {
		t.Errorf("policies %v, CHILD SAs %v", made, p.a.pairsOf())
	}
	for _, i := range *installed {
		if unique := i.Client != 0; unique != (i.Peer == "b") {
			t.Errorf("a CHILD SA of %s: client %d", i.Peer, i.Client)
		}
	}
	if info := p.b.e.SAs()[0]; len(info.Leased) != 1 || p.b.count(core.EvLeased) != 1 {
		t.Errorf("%+v", info)
	}
	p.works()
	p.a.in(core.Command{Do: core.KillAll})
	p.run(100 * time.Millisecond)
	if len(*released) != 1 || len(p.b.children) != 0 {
		t.Errorf("released %v, %d CHILD SAs", *released, len(p.b.children))
	}
}

// Without split-include all goes through the tunnel, as far as the server's template lets it.
func TestModeConfigV1WithoutNetworks(t *testing.T) {
	p := newRoadWarrior(t, func(_, b *core.Config) { b.Peers[0].Identities[0].Mode.Split = nil })
	added := outputsOf[core.AddPolicy](p)
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	want := []string{"[192.168.77.9/32 => 10.1.0.0/16]"}
	if !slices.Equal(p.a.pairsOf(), want) {
		t.Errorf("CHILD SAs %v", p.a.pairsOf())
	}
	for _, a := range *added {
		if a.Peer == "b" && fmt.Sprint(a.Pairs) != want[0] {
			t.Errorf("the policy is for %v", a.Pairs)
		}
	}
	p.works()
}

// Each message of mode config is lost once, doubled or late: the address and the CHILD SAs come all the same, once.
func TestModeConfigV1MessagesLostDoubledLate(t *testing.T) {
	for _, fate := range []string{"lost", "doubled", "late"} {
		for n := range 14 {
			t.Run(fmt.Sprintf("%s %d", fate, n+1), func(t *testing.T) {
				p := newRoadWarrior(t)
				at := 0
				p.carry = func(deliver func()) {
					at++
					switch {
					case at-1 != n:
						deliver()
					case fate == "doubled":
						deliver()
						deliver()
					case fate == "late":
						p.clock.After(time.Second, deliver)
					}
				}
				p.up()
				p.until(20*time.Second, "up", func() bool { return len(p.a.children) == 2 && len(p.b.children) == 2 })
				p.run(90 * time.Second)
				p.works()
				if len(p.a.children) != 2 || len(p.b.children) != 2 || len(p.a.e.SAs()) != 1 || len(p.b.e.SAs()) != 1 || p.b.count(core.EvLeased) != 1 {
					t.Errorf("%d and %d CHILD SAs, %d and %d IKE SAs, %d leases", len(p.a.children), len(p.b.children), len(p.a.e.SAs()), len(p.b.e.SAs()), p.b.count(core.EvLeased))
				}
			})
		}
	}
}

// A new phase 1 goes on with the address, and nobody asks for it again.
func TestModeConfigV1AtARekey(t *testing.T) {
	p := newRoadWarrior(t)
	p.up()
	p.until(5*time.Second, "up", func() bool { return len(p.a.children) == 2 && len(p.b.children) == 2 })
	p.run(time.Minute)
	old := p.a.e.SAs()[0].ID
	talk, configured, gone, released := p.talks(), outputsOf[core.Configured](p), outputsOf[core.Unconfigured](p), outputsOf[core.Release](p)
	p.a.in(core.Command{Do: core.RekeyIKE})
	p.run(10 * time.Second)
	sas := p.a.e.SAs()
	if len(sas) != 1 || sas[0].ID == old || len(sas[0].Leased) != 1 || len(sas[0].Children) != 2 || len(p.b.e.SAs()) != 1 || len(p.b.e.SAs()[0].Leased) != 1 {
		t.Errorf("%+v\n%+v", sas, p.b.e.SAs())
	}
	if said := talk.said(); strings.Contains(said, "config") || strings.Contains(said, "quick") {
		t.Errorf("said\n%s", said)
	}
	if len(*configured)+len(*gone)+len(*released) > 0 {
		t.Errorf("configured %v, unconfigured %v, released %v", *configured, *gone, *released)
	}
	p.a.in(core.Command{Do: core.RekeyChildren})
	p.run(time.Second)
	p.works()
	p.a.in(core.Command{Do: core.KillAll})
	p.run(100 * time.Millisecond)
	if len(*gone) != 1 || len(*released) != 1 {
		t.Errorf("at the end: unconfigured %v, released %v", *gone, *released)
	}
}

// A pool without an address: the client has no CHILD SA and tries again, and both say why.
func TestModeConfigV1NoAddress(t *testing.T) {
	p := newRoadWarrior(t)
	p.b.system = nil
	p.up()
	p.run(time.Second)
	if len(p.a.children)+len(p.b.children) > 0 || p.a.established() > 0 || p.b.established() > 0 {
		t.Errorf("%v, %v", p.a.e.SAs(), p.b.e.SAs())
	}
	if e := p.a.event(core.EvInitFailed); !strings.Contains(e.Reason, "gave no address") || e.Exchange != "mode config" {
		t.Errorf("%+v", e)
	}
	if e := p.b.event(core.EvNotify); !strings.Contains(e.Reason, `mode-config "rw"`) {
		t.Errorf("%+v", e)
	}
	p.b.leasing("192.168.77.9")
	p.until(10*time.Second, "up at the next attempt", func() bool { return len(p.a.children) == 2 })
}

// An address that none of the networks is of the family of is of no use.
func TestModeConfigV1OfAnotherFamily(t *testing.T) {
	p := newRoadWarrior(t)
	p.b.leasing("fd00::9")
	p.up()
	p.run(time.Second)
	found := slices.ContainsFunc(p.a.events, func(e core.Event) bool { return strings.Contains(e.Reason, "two address families") })
	if !found || len(p.a.children) > 0 || len(p.a.e.SAs()) != 1 {
		t.Errorf("%v; %v", p.a.e.SAs(), p.a.events)
	}
}

// A peer that has no mode config gives none, or says nothing.
func TestModeConfigV1NobodyGives(t *testing.T) {
	p := newRoadWarrior(t, func(_, b *core.Config) { b.Peers[0].Identities[0].Mode = nil })
	p.up()
	p.run(time.Second / 2)
	if e := p.a.event(core.EvInitFailed); !strings.Contains(e.Reason, "gave no address") {
		t.Errorf("%+v", e)
	}
	if e := p.b.event(core.EvNotify); !strings.Contains(e.Reason, "no mode-config that gives one") {
		t.Errorf("%+v", e)
	}
	q := newRoadWarrior(t)
	q.drop = func(from *side, h message.Header) bool {
		return from == q.b && h.Exchange == isakmp.ExchangeTransaction
	}
	q.up()
	q.run(80 * time.Second)
	if e := q.a.event(core.EvInitFailed); !strings.Contains(e.Reason, "did not answer when it was asked for an address") {
		t.Errorf("%+v", e)
	}
	if e := q.b.event(core.EvIKEDown); !strings.Contains(e.Reason, "deleted it") {
		t.Errorf("the peer was not told: %+v", e)
	}
}

// A peer that begins quick mode and has not asked for an address gets no policy of a template.
func TestModeConfigV1IsRequired(t *testing.T) {
	p := newRoadWarrior(t, func(a, _ *core.Config) {
		id := a.Peers[0].Identities[0]
		id.Mode, id.Generate = nil, core.GenerateNo
		_, other := pairConfigs()
		pol := *other.Policies[0]
		pol.Peer, pol.Pair.Local, pol.Pair.Remote = a.Peers[0], pol.Pair.Remote, pol.Pair.Local
		a.Policies = []*core.Policy{&pol}
	})
	p.up()
	p.run(time.Second)
	if len(p.b.children) > 0 {
		t.Errorf("CHILD SAs %v", p.b.pairsOf())
	}
	found := slices.ContainsFunc(p.b.events, func(e core.Event) bool { return strings.Contains(e.Reason, "asked for no address") })
	if !found {
		t.Errorf("%v", p.b.events)
	}
}

// A client that does not ask is given its address all the same a moment later (push), and needs nothing else.
func TestModeConfigV1Pushed(t *testing.T) {
	p := newRoadWarrior(t)
	pushed := false
	p.drop = func(from *side, h message.Header) bool {
		pushed = pushed || from == p.b && h.Exchange == isakmp.ExchangeTransaction
		return h.Exchange == isakmp.ExchangeTransaction && !pushed
	}
	talk := p.talks()
	p.up()
	p.until(5*time.Second, "up", func() bool { return len(p.a.children) == 2 && len(p.b.children) == 2 })
	said := talk.said()
	if !strings.Contains(said, script(`
		a: config HASH REQUEST address mask dns subnet address6 dns6 subnet6 banner domain networks
		b: config HASH SET address=192.168.77.9 mask=255.255.255.255 dns=10.1.0.53 networks=[10.1.5.0/24,10.1.9.0/24]
		a: config HASH ACK address mask dns networks
		a: quick HASH SA N 192.168.77.9/32 10.1.5.0/24`)) {
		t.Errorf("said\n%s", said)
	}
	p.run(2 * time.Minute)
	p.works()
	if len(p.a.e.SAs()) != 1 || p.b.count(core.EvLeased) != 1 || p.a.count(core.EvLeased) != 1 {
		t.Errorf("%v; leased %d and %d times", p.a.e.SAs(), p.a.count(core.EvLeased), p.b.count(core.EvLeased))
	}
}
