package gateway

import (
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/packet/datapath"
	"culvert/internal/testing/simnet"
)

// A day with CHILD SAs that are rekeyed every minute and IKE SAs that are rekeyed
// every hour, while packets go both ways: every one is sealed, and every
// datagram that arrives is opened.
func TestADayOfRekeys(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 20 * time.Millisecond, Jitter: 20 * time.Millisecond})
	w.esp = simnet.New(11, simnet.Link{Loss: 0.02, Reorder: 0.05, Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond})
	short := strings.NewReplacer("pfs-group = \"x25519\"", "lifetime = \"70s\"\npfs-group = \"none\"", "hash-algorithm =", "lifetime = \"70m\"\nhash-algorithm =")
	w.east.mustConfigure(short.Replace(site(westAddr, "102", "101")))
	w.west.mustConfigure(short.Replace(site(eastAddr, "101", "102")))
	w.until("established", func() bool { return w.west.sealing() == 2 && w.east.sealing() == 2 })
	offered, childs, ikes := 0, 0, 0
	for end := w.clock.Now().Add(24 * time.Hour); w.clock.Now().Before(end); w.run(5 * time.Second) {
		for _, f := range []struct {
			from     *node
			src, dst string
		}{{w.west, "10.1.101.5", "10.1.102.6"}, {w.east, "10.1.102.6", "10.1.101.5"}} {
			offered++
			if r := f.from.plane.Send(w.clock.Now(), echo(f.src, f.dst, uint16(offered))); r != datapath.Passed {
				t.Fatalf("after %v: %s => %s was not sealed: %v", w.clock.Now().Sub(start), f.src, f.dst, r)
			}
			f.from.settle()
		}
		w.west.drain()
		w.east.drain()
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
		if n.count(core.EvPeerDead) > 0 {
			t.Errorf("%v took its peer for dead", n.addr)
		}
	}
	childs, ikes = w.west.count(core.EvChildRekeyed)/2, w.west.count(core.EvIKERekeyed)
	if opened != uint64(w.arrived) || w.arrived < offered*9/10 {
		t.Errorf("%d packets offered, %d datagrams arrived, %d opened", offered, w.arrived, opened)
	}
	if childs < 24*60 || ikes < 20 {
		t.Errorf("%d rekeys of each CHILD SA and %d of the IKE SA in a day", childs, ikes)
	}
	t.Logf("%d datagrams arrived and were opened, %d rekeys of each CHILD SA, %d of the IKE SA", w.arrived, childs, ikes)
}
