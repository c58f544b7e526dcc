package datapath

import (
	"math/rand/v2"
	"testing"

	"culvert/esp"
	"culvert/internal/underlay"
	"culvert/sad"
	"culvert/spd"
	"culvert/spd/selector"
)

// What is found out once for a run of packets, of one flow or of one SA, is what each
// of them would have been told: batches of packets of many flows in any order leave
// by the same SAs, in the same order, and count the same as one by one.
func TestRunsOfPackets(t *testing.T) {
	gateway := func() *tunnel {
		u := newTunnel(t, ciphers[0])
		blocked := spd.Policy{Ref: 8, Pair: pair("10.1.0.0/16", "10.2.5.0/24"), Action: spd.Discard}
		u.left.pols.Replace(append([]spd.Policy{blocked}, leftPolicies()...))
		u.connect(1, 1, func(left, _ *sad.Params) { left.Pairs = []selector.Pair{pair("10.1.0.0/16", "10.2.0.0/24")} })
		u.connect(2, 1, func(left, _ *sad.Params) { left.Pairs = []selector.Pair{pair("10.1.0.0/16", "10.2.1.0/24")} })
		u.connect(3, 2, nil)
		u.left.log.quiet = true
		u.left.sads.Child(1).Path().Learn(1400, start.UnixNano())
		return u
	}
	plain := [][]byte{
		udp("10.1.0.1", "10.2.0.1", 10), udp("10.1.0.3", "10.2.0.1", 300), // the first SA
		udp("10.1.0.1", "10.2.1.1", 10), udp("10.1.0.1", "10.2.1.2", 10), // the second
		udp("fd01::1", "fd02::1", 10), udp("fd01::1", "fd02::2", 10), // the third
		udp("10.1.0.1", "10.2.5.1", 10),      // blocked
		udp("10.1.0.1", "10.2.9.1", 10),      // no SA
		udp("10.1.0.1", "10.9.0.1", 10),      // no policy
		udp("10.1.0.1", "10.2.0.1", 10)[:29], // no packet
		udp("10.1.0.1", "10.2.0.1", 2000),    // too long
	}
	batched, single := gateway(), gateway()
	w := newOutWorker(batched.left.path, &batched.left.path.counters.out, benchBatch)
	defer w.sads.Close()
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		kinds := 1 + r.IntN(len(plain)) // few make long runs
		for i := range benchBatch {
			pkt := plain[r.IntN(kinds)]
			w.sizes[i] = copy(w.bufs[i][underlay.Headroom:], pkt)
			single.left.path.SendPlain(start, pkt)
		}
		w.batch(start.UnixNano(), benchBatch)
		got, want := batched.left.conn.take(), single.left.conn.take()
		if len(got) != len(want) {
			t.Fatalf("%d packets left, want %d", len(got), len(want))
		}
		for i := range got {
			if string(got[i]) != string(want[i]) {
				t.Fatalf("packet %d is of SA %#x with number %d, %d bytes; want %#x, %d, %d", i, esp.SPI(got[i]), esp.Seq(got[i]), len(got[i]), esp.SPI(want[i]), esp.Seq(want[i]), len(want[i]))
			}
		}
	}
	counted := single.left.values()
	for name, n := range batched.left.values() {
		if n != counted[name] {
			t.Errorf("%s is %d, want %d", name, n, counted[name])
		}
	}
	for _, name := range []string{"tx-packets", "out-policy-blocked", "out-no-states", "out-policy-errors", "out-errors", "out-too-big"} {
		if counted[name] == 0 {
			t.Errorf("%s never moved", name)
		}
	}
}
