package gateway

import (
	"strings"
	"testing"
	"time"

	"culvert/internal/gateway/compile"
	"culvert/internal/testing/simnet"
)

// tfc in the proposal makes short packets as long as it says, or as the device's
// MTU lets them be. The other side does not need to pad, too.
func TestTFC(t *testing.T) {
	for value, inner := range map[string]int{"700": 700, `"mtu"`: compile.AutoMTU, "9000": compile.AutoMTU, "0": 0} {
		t.Run(value, func(t *testing.T) {
			w := newWorld(t, simnet.Link{Delay: 10 * time.Millisecond})
			w.east.mustConfigure(passive(site(westAddr, "102", "101")))
			w.west.mustConfigure(strings.Replace(site(eastAddr, "101", "102"), "[[proposal]]\n", "[[proposal]]\ntfc = "+value+"\n", 1))
			w.until("established", func() bool { return w.west.sealing() >= 2 && w.east.sealing() >= 2 })
			w.run(10 * time.Second)
			w.carriesAll()
			for i, length := range []int{len(echo("10.1.101.5", "10.1.102.6", 1)), len(echo("2001:db8:101::5", "2001:db8:102::6", 1))} {
				west, east := w.west.plane.SAs.Children()[i].Rows(w.clock.Now(), false), w.east.plane.SAs.Children()[i].Rows(w.clock.Now(), false)
				if west[1].Packets != 1 || west[1].Bytes != uint64(max(length, inner)) || east[0].Bytes != west[1].Bytes {
					t.Errorf("%d packets of together %d bytes sent, %d bytes received, want %d", west[1].Packets, west[1].Bytes, east[0].Bytes, max(length, inner))
				}
				if east[1].Packets != 1 || east[1].Bytes != uint64(length) {
					t.Errorf("the other side sent %d bytes, want %d", east[1].Bytes, length)
				}
			}
		})
	}
}

// A proposal that pads otherwise is another one: a reload makes the SAs anew.
func TestTFCReload(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 10 * time.Millisecond})
	w.up()
	w.west.mustConfigure(strings.Replace(site(eastAddr, "101", "102"), "[[proposal]]\n", "[[proposal]]\ntfc = 400\n", 1))
	w.run(10 * time.Second)
	w.until("established again", func() bool { return w.west.sealing() >= 2 && w.east.sealing() >= 2 })
	w.carriesAll()
	for _, c := range w.west.plane.SAs.Children() {
		if c.TFC != 400 && w.west.plane.SAs.Seals(c.Policy) {
			t.Errorf("SA %d of policy %d pads to %d", c.ID, c.Policy, c.TFC)
		}
	}
}

// tfc-dummies goes on for a while where traffic stops, and comes back with it.
func TestDummies(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 10 * time.Millisecond})
	w.east.mustConfigure(passive(site(westAddr, "102", "101")))
	w.west.mustConfigure(strings.Replace(site(eastAddr, "101", "102"), "[[proposal]]\n", "[[proposal]]\ntfc = \"mtu\"\ntfc-dummies = 20\n", 1))
	w.until("established", func() bool { return w.west.sealing() >= 2 && w.east.sealing() >= 2 })
	w.run(20 * time.Second)
	if n := nonzero(w.west)["tx-dummies"]; n != 0 {
		t.Errorf("%d dummies without traffic", n)
	}
	sent := uint64(0)
	for range 2 {
		w.carries(w.west, w.east, "10.1.101.5", "10.1.102.6")
		w.run(time.Minute)
		n := nonzero(w.west)["tx-dummies"] - sent
		if n < 150 || n > 250 { // twenty a second for ten seconds, with pauses drawn at random
			t.Errorf("%d dummies", n)
		}
		sent += n
	}
	if n := nonzero(w.east)["rx-dummies"]; n != sent {
		t.Errorf("%d dummies sent, %d received", sent, n)
	}
	if n := nonzero(w.east)["tx-dummies"]; n != 0 {
		t.Errorf("the other side sent %d", n)
	}
	w.run(time.Hour) // through rekeys: the new SAs have them, too
	sent = nonzero(w.west)["tx-dummies"]
	w.carries(w.west, w.east, "2001:db8:101::5", "2001:db8:102::6")
	w.run(time.Minute)
	if n := nonzero(w.west)["tx-dummies"] - sent; n < 150 || n > 250 {
		t.Errorf("%d dummies after rekeys", n)
	}
}
