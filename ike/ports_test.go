package ike

import (
	"testing"
	"time"

	"culvert/ike/core"
)

// Other ports than 500 and 4500, at either end or at both: a whole life, with
// rekeys that either end begins. Messages without a marker go between IKE ports
// and those with one between NAT-T ports; nothing else is delivered.
func TestOtherPorts(t *testing.T) {
	theirs := func(ike, natt uint16) func(a, b *core.Config) {
		return func(a, b *core.Config) {
			b.IKEPort, b.NATTPort = 1500, 4501
			a.Peers[0].Port, a.Peers[0].NATTPort = ike, natt
		}
	}
	ours := func(a, _ *core.Config) { a.IKEPort, a.NATTPort = 2500, 5500 }
	for name, c := range map[string]struct {
		change []func(a, b *core.Config)
		first  uint16 // port of the peer that the first message goes to
	}{
		"the initiator's":                       {[]func(a, b *core.Config){ours}, 500},
		"the responder's":                       {[]func(a, b *core.Config){theirs(1500, 4501)}, 1500},
		"both":                                  {[]func(a, b *core.Config){ours, theirs(1500, 4501)}, 1500},
		"the responder's, NAT-T from the start": {[]func(a, b *core.Config){theirs(4501, 4501)}, 4501},
		"both, NAT-T from the start":            {[]func(a, b *core.Config){ours, theirs(4501, 4501)}, 4501},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 1, goodLink, append(c.change, passive)...)
			var first core.Send
			p.tap = func(from *side, o core.Output) {
				if s, ok := o.(core.Send); ok && first.Data == nil {
					first = s
				}
			}
			life(p)
			if natt := c.first == p.b.cfg.NATTPort; first.Remote.Port() != c.first || first.NATT != natt || first.Local.Port() != map[bool]uint16{false: p.a.cfg.IKEPort, true: p.a.cfg.NATTPort}[natt] {
				t.Errorf("the first message goes from %v to %v, NAT-T %v", first.Local, first.Remote, first.NATT)
			}
		})
	}
}

// A re-authentication begins where the first IKE SA began.
func TestOtherPortsReauthenticated(t *testing.T) {
	for _, first := range []uint16{1500, 4501} {
		p := newPair(t, 1, goodLink, passive, func(a, b *core.Config) {
			b.IKEPort, b.NATTPort = 1500, 4501
			a.Peers[0].Port, a.Peers[0].NATTPort = first, 4501
			a.Peers[0].Profile.Reauth = time.Hour
		})
		p.up()
		p.run(3 * time.Hour)
		if n := p.a.count(core.EvIKEUp); n < 3 || p.a.count(core.EvPeerDead)+p.a.count(core.EvInitFailed) != 0 || !p.bothUp() {
			t.Errorf("from port %d: %d IKE SAs came up; %v", first, n, p.a.events)
		}
	}
}
