package gateway

import (
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/packet/datapath"
	"culvert/internal/testing/simnet"
	"culvert/internal/testing/simnet/sweep"
)

// TestTwentyRekeysOnABadNetwork runs two whole gateways, without goroutines, on
// virtual time: every tenth IKE message is lost, doubled or reordered; ESP is
// delayed, reordered and lost. Both ends begin and both rekey, CHILD SAs every
// four minutes and the IKE SA every ten. Every ESP datagram that arrives is
// opened; every packet that is offered while its policy has an SA is sealed, and
// the policies have SAs all the time.
func TestTwentyRekeysOnABadNetwork(t *testing.T) {
	const rekeys = 20
	bad := simnet.Link{Loss: 0.1, Dup: 0.1, Reorder: 0.1, Delay: 30 * time.Millisecond, Jitter: 40 * time.Millisecond}
	esp := simnet.Link{Loss: 0.02, Reorder: 0.05, Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond}
	short := strings.NewReplacer("pfs-group =", "lifetime = \"5m\"\npfs-group =", "hash-algorithm =", "lifetime = \"12m\"\nhash-algorithm =")
	sweep.Run(t, 100, func(t *testing.T, seed uint64) sweep.Tally {
		w := newSeededWorld(t, bad, seed)
		w.esp = simnet.New(seed, esp)
		w.east.mustConfigure(short.Replace(site(westAddr, "102", "101")))
		w.west.mustConfigure(short.Replace(site(eastAddr, "101", "102")))
		w.until("established", func() bool { return w.west.sealing() == 2 && w.east.sealing() == 2 })
		flows := []struct {
			from     *node
			src, dst string
		}{
			{w.west, "10.1.101.5", "10.1.102.6"}, {w.east, "10.1.102.6", "10.1.101.5"},
			{w.west, "2001:db8:101::5", "2001:db8:102::6"}, {w.east, "2001:db8:102::6", "2001:db8:101::5"},
		}
		offered := 0
		for w.west.count(core.EvChildRekeyed) < 2*rekeys || w.east.count(core.EvChildRekeyed) < 2*rekeys {
			if offered++; offered > 6*3600 {
				t.Fatalf("%d and %d rekeys in three hours", w.west.count(core.EvChildRekeyed), w.east.count(core.EvChildRekeyed))
			}
			f := flows[offered%len(flows)]
			if r := f.from.plane.Send(w.clock.Now(), echo(f.src, f.dst, uint16(offered))); r != datapath.Passed {
				t.Fatalf("after %v: %s => %s was not sealed: %v", w.clock.Now().Sub(start), f.src, f.dst, r)
			}
			f.from.settle()
			w.run(500 * time.Millisecond)
			for _, n := range []*node{w.west, w.east} {
				n.drain()
			}
		}
		w.run(time.Second)
		opened := uint64(0)
		for _, n := range []*node{w.west, w.east} {
			for name, v := range nonzero(n) {
				if strings.HasPrefix(name, "in-") || strings.HasPrefix(name, "out-") {
					t.Errorf("%v: %s = %d", n.addr, name, v)
				}
			}
			opened += nonzero(n)["rx-packets"]
			if dead := n.count(core.EvPeerDead); dead > 0 {
				t.Errorf("%v took its peer for dead %d times", n.addr, dead)
			}
			if up := len(n.plane.Config.Endpoint.SAs()); up > 2 {
				t.Errorf("%v has %d IKE SAs", n.addr, up)
			}
		}
		if opened != uint64(w.arrived) || w.arrived < offered*9/10 {
			t.Errorf("%d packets offered, %d ESP datagrams arrived, %d opened", offered, w.arrived, opened)
		}
		tally := sweep.Tally{"packets sealed": offered, "ESP datagrams that arrived": w.arrived, "packets opened": int(opened)}
		for _, e := range slices.Concat(w.west.events, w.east.events) {
			tally["event: "+e.Kind.String()]++
		}
		return tally
	})
}

// drain forgets the packets that arrived.
func (n *node) drain() {
	for {
		select {
		case <-n.device.Outgoing():
		default:
			return
		}
	}
}
