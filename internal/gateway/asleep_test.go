package gateway

import (
	"strings"
	"testing"
	"time"

	"culvert/internal/packet/datapath"
	"culvert/internal/testing/simnet"
)

// A peer that is disabled takes its tunnel down and nothing goes in clear: what
// leaves is dropped, and what the other end still sends by the SA from before is too.
// Enabled again, the tunnel comes back.
func TestDisabledPeer(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 20 * time.Millisecond})
	w.up()
	w.carriesAll()
	awake := site(eastAddr, "101", "102")
	asleep := strings.Replace(awake, "[[peer]]", "[[peer]]\ndisabled = true", 1)
	late := echo("10.1.102.6", "10.1.101.5", 9)
	if r := w.east.plane.Send(w.clock.Now(), late); r != datapath.Passed {
		t.Fatal(r)
	}
	w.west.mustConfigure(asleep)
	w.run(time.Second)
	n := nonzero(w.west)
	if n["in-policy-errors"] != 1 || n["out-policy-dead"] != 0 || n["rx-packets"] != 2 || len(w.west.device.Outgoing()) != 0 {
		t.Errorf("under way when the peer was disabled: %v", n)
	}
	if w.west.sealing() != 0 || w.east.sealing() != 0 {
		t.Errorf("%d and %d policies have SAs", w.west.sealing(), w.east.sealing())
	}
	sent := w.west.sent
	for range 3 {
		if r := w.west.plane.Send(w.clock.Now(), echo("10.1.101.5", "10.1.102.6", 1)); r != datapath.OutPolicyDead {
			t.Fatal(r)
		}
	}
	w.run(time.Minute)
	if n := nonzero(w.west); n["out-policy-dead"] != 3 || w.west.sent != sent {
		t.Errorf("%v, and %d messages to the peer", n, w.west.sent-sent)
	}
	plan := w.west.host.Plans()[len(w.west.host.Plans())-1]
	if len(plan.Routes) != 2 || plan.Routes[0].Pass || plan.Routes[1].Pass {
		t.Errorf("the host lets it go by: %+v", plan.Routes)
	}
	x, text := w.west.explained(t, "10.1.101.5 10.1.102.6 gre", false)
	if x.Verdict != "drop" || x.Counter != "out-policy-dead" || x.Acquire || !strings.Contains(text, "peer other is disabled") {
		t.Errorf("%+v", x)
	}
	w.west.mustConfigure(awake)
	w.until("established", func() bool { return w.west.sealing() >= 2 && w.east.sealing() >= 2 })
	w.run(10 * time.Second)
	w.carriesAll()
}
