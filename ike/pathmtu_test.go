package ike

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
)

// claimed are two sides that are up, of which a notes how long its probes are and what
// it says of the path.
type claimed struct {
	*pair
	probes []int
	learnt []core.PathMTU
}

func newClaimed(t *testing.T, ends [2]string, encr string, change ...func(a, b *core.Config)) *claimed {
	c := &claimed{pair: newPair(t, 3, simnet.Link{Delay: 20 * time.Millisecond}, change...)}
	clear(c.byIP)
	ca, cb := siteConfig("b", ends[1], "10.1.0.0/16", "10.2.0.0/16"), siteConfig("a", ends[0], "10.2.0.0/16", "10.1.0.0/16")
	for _, cfg := range []*core.Config{ca, cb} {
		cfg.Peers[0].Profile.Encrs = []*suite.Encr{suite.EncrByIKEName(encr)}
		cfg.Peers[0].Profile.DPD = 0
		a := cfg.Peers[0].Address.Addr()
		cfg.Peers[0].Address = netip.PrefixFrom(a, a.BitLen())
	}
	cb.Peers[0].Passive = true
	for _, f := range change {
		f(ca, cb)
	}
	c.a, c.b = c.newSide("a", ends[0], 3, ca), c.newSide("b", ends[1], 4, cb)
	c.up()
	c.until(time.Minute, "up", c.bothUp)
	c.run(20 * time.Second)
	c.tap = func(from *side, o core.Output) {
		switch o := o.(type) {
		case core.Send:
			if o.Whole {
				c.probes = append(c.probes, ipLen(o))
			}
		case core.PathMTU:
			c.learnt = append(c.learnt, o)
		}
	}
	return c
}

func (c *claimed) claim(mtu int) { c.a.in(core.PathClaim{Child: c.a.outbound().Child, MTU: mtu}) }

var (
	ends4 = [2]string{"192.0.2.1", "192.0.2.2"}
	ends6 = [2]string{"2001:db8::1", "2001:db8::2"}
)

// An unproven claim about the path is believed if a packet that is just longer does
// not arrive, and only then. The peer is never taken for dead.
func TestPathClaim(t *testing.T) {
	for _, encr := range []string{"aes-128", "aes-256-gcm"} {
		for _, ends := range [][2]string{ends4, ends6} {
			for _, x := range []struct {
				name         string
				takes, claim int
				believed     bool
			}{
				{"forged", 1500, 576, false},
				{"forged, one byte less than the path takes", 1416, 1400, false},
				{"right", 1400, 1400, true},
				{"too much is claimed", 1380, 1450, true},
			} {
				t.Run(fmt.Sprint(encr, " ", ends[0], " ", x.name), func(t *testing.T) {
					c := newClaimed(t, ends, encr)
					c.takes = x.takes
					c.claim(x.claim)
					c.run(30 * time.Second)
					want := 1
					if x.believed {
						want = 3
					}
					if len(c.probes) != want {
						t.Errorf("%d probes, want %d", len(c.probes), want)
					}
					for _, n := range c.probes {
						if n <= x.claim || n > x.claim+16 || encr == "aes-256-gcm" && n != x.claim+1 {
							t.Errorf("a claim of %d bytes was tried with %d", x.claim, n)
						}
					}
					switch {
					case !x.believed && len(c.learnt) > 0:
						t.Errorf("%+v was believed", c.learnt)
					case x.believed && (len(c.learnt) != 1 || c.learnt[0].MTU != x.claim || c.learnt[0].Local.Addr() != c.a.addr || c.learnt[0].Remote.Addr() != c.b.addr):
						t.Errorf("%+v, want %d", c.learnt, x.claim)
					}
					c.run(2 * time.Minute)
					if c.a.established() != 1 || c.b.established() != 1 || c.a.count(core.EvIKEDown)+c.b.count(core.EvIKEDown) != 0 {
						t.Error("the IKE SA suffered")
					}
				})
			}
		}
	}
}

// A probe that was answered late, or whose answers were lost, leaves both ends in
// step: the next exchanges work.
func TestPathProbeLosses(t *testing.T) {
	for lost := range 5 { // answers
		c := newClaimed(t, ends4, "aes-128")
		n := 0
		c.drop = func(from *side, h message.Header) bool {
			if from == c.b && h.Exchange == message.ExchangeInformational {
				n++
				return n <= lost
			}
			return false
		}
		c.claim(1000)
		c.run(20 * time.Second)
		if got, want := len(c.learnt) == 1, lost >= 3; got != want {
			t.Errorf("%d answers lost: %+v", lost, c.learnt)
		}
		c.drop = nil
		c.a.in(core.Command{Do: core.RekeyChildren})
		c.b.in(core.Command{Do: core.RekeyIKE})
		c.run(20 * time.Second)
		if c.a.established() != 1 || len(c.a.children) != 1 || c.a.count(core.EvChildUp) != 2 {
			t.Errorf("%d answers lost: %d IKE SAs, %d CHILD SAs afterwards", lost, c.a.established(), len(c.a.children))
		}
	}
}

// However many claims come, one question is open at a time; a peer that is silent ends
// as it would without.
func TestPathClaimsDoNotPileUp(t *testing.T) {
	c := newClaimed(t, ends4, "aes-128")
	for range 10 {
		c.claim(600)
	}
	c.a.in(core.PathClaim{Child: 4711, MTU: 600}) // of a CHILD SA that is gone
	c.run(time.Minute)
	if len(c.probes) != 1 {
		t.Errorf("%d probes", len(c.probes))
	}
	c.probes = nil
	c.drop = func(*side, message.Header) bool { return true }
	c.a.in(core.Command{Do: core.RekeyChildren})
	for range 10 {
		c.claim(600) // while another request waits for its response
	}
	c.run(time.Second)
	c.drop = nil
	c.run(20 * time.Second)
	if len(c.probes) != 1 {
		t.Errorf("%d probes after another request", len(c.probes))
	}
	c.b.dead = true
	c.claim(600)
	c.run(2 * time.Minute)
	if c.a.established() != 0 || c.a.count(core.EvPeerDead) != 1 || len(c.learnt) != 0 {
		t.Errorf("a dead peer: %d IKE SAs, %d times dead, %+v", c.a.established(), c.a.count(core.EvPeerDead), c.learnt)
	}
}
