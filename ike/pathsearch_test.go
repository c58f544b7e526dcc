package ike

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
)

func (c *claimed) untried(mtu int) {
	c.a.in(core.PathUntried{Child: c.a.outbound().Child, MTU: mtu})
}

// unharmed wants the one IKE SA to be up still.
func (c *claimed) unharmed(t *testing.T) {
	t.Helper()
	if c.a.established() != 1 || c.b.established() != 1 || c.a.count(core.EvIKEDown)+c.b.count(core.EvIKEDown) != 0 {
		t.Error("the IKE SA suffered")
	}
}

// Nobody says that long packets do not arrive: the peer is asked, and within seconds the longest of a usual link that
// arrives is found. On a path that takes what its first link takes, that is one request.
func TestPathIsMeasured(t *testing.T) {
	for _, ends := range [][2]string{ends4, ends6} {
		for _, encr := range []string{"aes-128", "aes-256-gcm"} {
			for _, x := range []struct{ link, takes, want, sends int }{
				{1500, 1500, 1500, 1},
				{1500, 1492, 1492, 6},
				{1500, 1400, 1400, 13},
				{1500, 1390, 1360, 13},
				{1500, 1300, 1280, 16},
				{1500, 1280, 1280, 16},
				{1500, 1100, 1024, 13},
				{1500, 800, 576, 16},
				{1420, 1420, 1420, 1},
				{9000, 1500, 1500, 11},
				{65535, 9000, 0, 1}, // more is not tried, and nothing is known
				{65535, 4352, 4352, 9},
			} {
				t.Run(fmt.Sprint(ends[0], " ", encr, " ", x.link, " ", x.takes), func(t *testing.T) {
					if x.takes < 1280 && ends == ends6 {
						return // no such link (RFC 8200 §5)
					}
					c := newClaimed(t, ends, encr)
					c.takes = x.takes
					c.untried(x.link)
					c.untried(x.link) // once is enough
					c.run(8 * time.Second)
					want := []int{x.want}
					if encr == "aes-128" && x.want == 1500 {
						want = append(want, 1492) // there is no message in CBC from 1493 to 1500 bytes
					}
					if x.want == 0 {
						if len(c.learnt) != 0 {
							t.Errorf("%+v", c.learnt)
						}
					} else if len(c.learnt) != 1 || !slices.Contains(want, c.learnt[0].MTU) || !c.learnt[0].Measured || c.learnt[0].Peer != "b" || c.learnt[0].SA == 0 ||
						c.learnt[0].Local.Addr() != c.a.addr || c.learnt[0].Remote.Addr() != c.b.addr {
						t.Errorf("%+v, want %v; probes of %v", c.learnt, want, c.probes)
					}
					if len(c.probes) > x.sends {
						t.Errorf("%d probes: %v", len(c.probes), c.probes)
					}
					for _, n := range c.probes {
						if n > x.link || n > 9000 {
							t.Errorf("a probe of %d bytes", n)
						}
					}
					c.run(time.Hour)
					c.unharmed(t)
					if n := len(c.probes); n > x.sends {
						t.Errorf("%d probes in an hour", n)
					}
					c.probes, c.learnt = nil, nil
					c.takes = x.link
					c.untried(x.link) // the path is wide again
					c.run(time.Second)
					if x.link == 1500 && (len(c.probes) != 1 || len(c.learnt) != 1 || !slices.Contains([]int{1492, 1500}, c.learnt[0].MTU)) {
						t.Errorf("wide again: %+v, %v", c.learnt, c.probes)
					}
				})
			}
		}
	}
}

// A cipher whose messages cannot have every length does not take one size for another: what is found always fits.
func TestMeasuredWithEveryLengthOfBlocks(t *testing.T) {
	for _, integ := range []string{"sha1", "sha256", "sha384", "sha512"} {
		for _, ends := range [][2]string{ends4, ends6} {
			for _, takes := range []int{1400, 1480, 1492, 1500} {
				c := newClaimed(t, ends, "aes-256", func(a, b *core.Config) {
					a.Peers[0].Profile.Integs = []*suite.Integ{suite.IntegByName(integ)}
					b.Peers[0].Profile.Integs = a.Peers[0].Profile.Integs
				})
				c.takes = takes
				c.untried(1500)
				c.run(20 * time.Second)
				if len(c.learnt) != 1 || c.learnt[0].MTU > takes || c.learnt[0].MTU < takes-20 {
					t.Errorf("%s, %s, a path of %d: %+v, probes of %v", integ, ends[0], takes, c.learnt, c.probes)
				}
			}
		}
	}
}

// strict makes b a peer that repeats its response only if the request is the same, to the byte. So many of its responses are lost.
func (c *claimed) strict(lost int) {
	n := 0
	c.drop = func(from *side, h message.Header) bool {
		if h.Exchange != message.ExchangeInformational {
			return false
		}
		if from == c.b {
			n++
			return n <= lost
		}
		return n > 0 && n <= lost && h.Length < 500 // not what was answered
	}
}

// The long request arrives and its responses are lost, and the peer answers nothing but that very request again. The IKE SA stays.
func TestLostAnswersToProbes(t *testing.T) {
	for lost := range 7 {
		c := newClaimed(t, ends4, "aes-256-gcm")
		c.strict(lost)
		c.untried(1500)
		c.run(40 * time.Second)
		c.drop = nil
		if len(c.learnt) != 1 || lost < 3 && c.learnt[0].MTU != 1500 {
			t.Errorf("%d answers lost: %+v", lost, c.learnt)
		}
		c.run(time.Minute)
		c.unharmed(t)
		c.a.in(core.Command{Do: core.RekeyChildren})
		c.b.in(core.Command{Do: core.RekeyIKE})
		c.run(20 * time.Second)
		if c.a.established() != 1 || len(c.a.children) != 1 || c.a.count(core.EvChildUp) != 2 {
			t.Errorf("%d answers lost: %d IKE SAs, %d CHILD SAs afterwards", lost, c.a.established(), len(c.a.children))
		}
	}
}

// A network that is too slow, or dead for a while, leaves what is known of the path as it was; a peer that
// is dead ends as ever.
func TestPathCannotBeMeasured(t *testing.T) {
	for _, ends := range [][2]string{ends4, ends6} {
		c := newClaimed(t, ends, "aes-256-gcm")
		late := 1800 * time.Millisecond
		c.a.carry = func(deliver func()) { c.clock.At(c.clock.Now().Add(late), deliver) }
		c.untried(1500)
		c.run(40 * time.Second)
		if len(c.learnt) != 0 {
			t.Errorf("%+v", c.learnt)
		}
		c.unharmed(t)
		c.a.carry = nil
		c.run(10 * time.Second)
		c.untried(1500)
		c.run(time.Second)
		if len(c.learnt) != 1 || c.learnt[0].MTU != 1500 {
			t.Errorf("fast again: %+v", c.learnt)
		}
		c.b.dead = true
		c.untried(1500)
		c.run(2 * time.Minute)
		if c.a.established() != 0 || c.a.count(core.EvPeerDead) != 1 || len(c.learnt) != 1 {
			t.Errorf("a dead peer: %d IKE SAs, %d times dead, %+v", c.a.established(), c.a.count(core.EvPeerDead), c.learnt)
		}
	}
}

// Other requests of ours do not wait for a step of the search, which goes on after them: a rekey of the CHILD SA is
// through within a second, and so is one of the IKE SA, on whose successor the search goes on.
func TestSearchGivesWay(t *testing.T) {
	for _, rekey := range []core.CommandKind{core.RekeyChildren, core.RekeyIKE} {
		for _, by := range []string{"a", "b"} {
			for _, after := range []time.Duration{0, 700 * time.Millisecond, 1600 * time.Millisecond, 3400 * time.Millisecond} {
				c := newClaimed(t, ends4, "aes-256-gcm")
				c.takes = 1380
				c.untried(1500)
				c.run(after)
				who, kind := c.a, core.EvChildRekeyed
				if by == "b" {
					who = c.b
				}
				if rekey == core.RekeyIKE {
					kind = core.EvIKERekeyed
				}
				before := c.a.count(kind)
				who.in(core.Command{Do: rekey})
				c.run(time.Second)
				if c.a.count(kind) == before {
					t.Errorf("%v by %s after %v: not rekeyed within a second", rekey, by, after)
				}
				c.run(10 * time.Second)
				if len(c.learnt) != 1 || c.learnt[0].MTU != 1360 {
					t.Errorf("%v by %s after %v: %+v", rekey, by, after, c.learnt)
				}
				if c.a.established() != 1 || c.a.count(core.EvPeerDead) != 0 {
					t.Errorf("%v by %s after %v: %d IKE SAs", rekey, by, after, c.a.established())
				}
			}
		}
	}
}

// The question whether the peer is there does not wait for a step, either: it is answered by the request that is under way.
func TestSearchAndLiveness(t *testing.T) {
	c := newClaimed(t, ends4, "aes-256-gcm")
	c.takes = 1000
	sa := sorted(c.a.e.bySPI)[0]
	c.untried(1500)
	c.run(600 * time.Millisecond)
	before := sa.Heard
	sa.Protocol.Probe(true)
	c.a.in(core.Tick{})
	c.run(100 * time.Millisecond)
	if !sa.Heard.After(before) {
		t.Error("the peer was not asked at once")
	}
	c.run(time.Minute)
	c.unharmed(t)
	if len(c.learnt) != 1 || c.learnt[0].MTU != 576 {
		t.Errorf("%+v", c.learnt)
	}
}

// A search goes on where the IKE SA has moved to in the meantime.
func TestSearchMoves(t *testing.T) {
	for _, after := range []time.Duration{0, 700 * time.Millisecond, 1600 * time.Millisecond, 3400 * time.Millisecond} {
		c := newClaimed(t, ends4, "aes-256-gcm", mobile)
		c.a.have("192.0.2.1")
		c.run(time.Second)
		c.takes = 1380
		c.untried(1500)
		c.run(after)
		c.a.have("192.0.2.11")
		c.run(20 * time.Second)
		if !c.both("192.0.2.11", "192.0.2.2")() {
			t.Fatalf("after %v: not moved", after)
		}
		if len(c.learnt) != 1 || c.learnt[0].MTU != 1360 || c.learnt[0].Local.Addr() != c.a.addr {
			t.Errorf("after %v: %+v", after, c.learnt)
		}
	}
}
