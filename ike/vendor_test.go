package ike

import (
	"testing"
	"time"

	"culvert/ike/core"
)

// With "detect" a tunnel between two Culverts is carried by UDP without a NAT, too, and stays so
// at each rekey. Whoever says "raw" gets it raw, and so does what UDP does not suit.
func TestTunnelsOfOurKindGoByUDP(t *testing.T) {
	const detect, raw, udp = core.EncapDetect, core.EncapRaw, core.EncapUDP
	transport := func(c *core.Config) { c.Policies[0].Tunnel = false }
	ah := func(c *core.Config) {
		p := c.Policies[0]
		p.Protocol, p.Proposal.Encrs, p.Proposal.Integs = core.ProtoAH, nil, c.Peers[0].Profile.Integs
	}
	for name, c := range map[string]struct {
		a, b   core.Encapsulation
		change func(*core.Config)
		want   bool
	}{
		"both leave it to us":          {detect, detect, nil, true},
		"the initiator wants it raw":   {raw, detect, nil, false},
		"the responder wants it raw":   {detect, raw, nil, false},
		"the initiator wants UDP":      {udp, detect, nil, true},
		"the responder wants UDP":      {detect, udp, nil, true},
		"both want it raw":             {raw, raw, nil, false},
		"transport mode":               {detect, detect, transport, false},
		"AH":                           {detect, detect, ah, false},
		"transport mode, one with UDP": {detect, udp, transport, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 31, goodLink, passive, func(a, b *core.Config) {
				a.Encapsulation, b.Encapsulation = c.a, c.b
				if c.change != nil {
					c.change(a)
					c.change(b)
				}
			})
			p.up()
			p.until(10*time.Second, "both ends up", p.bothUpOrStandby)
			seen := map[core.ChildID]bool{}
			look := func() {
				for _, s := range []*side{p.a, p.b} {
					for id, k := range s.children {
						if seen[id] = true; k.UDP != c.want {
							t.Errorf("%s: CHILD SA %d is carried by UDP: %v, want %v", s.name, id, k.UDP, c.want)
						}
					}
				}
			}
			look()
			p.a.in(core.Command{Do: core.RekeyChildren})
			p.run(10 * time.Second)
			look()
			p.a.in(core.Command{Do: core.RekeyIKE})
			p.run(10 * time.Second)
			p.b.in(core.Command{Do: core.RekeyChildren})
			p.run(10 * time.Second)
			if look(); len(seen) < 3 {
				t.Errorf("%d CHILD SAs, want one and two that replaced it", len(seen))
			}
		})
	}
}
