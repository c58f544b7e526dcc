package datapath

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"culvert/esp"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
	"culvert/spd/selector"
)

// What is found out once for a run of packets, of one flow or of one SA, is what each
// of them would have been told: batches of packets of many flows in any order leave
// by the same SAs, in the same order, and count the same as one by one; and so they
// come in.
func TestRunsOfPackets(t *testing.T) {
	gateway := func() *tunnel {
		u := newTunnel(t, ciphers[0])
		blocked := spd.Policy{Ref: 8, Pair: pair("10.1.0.0/16", "10.2.5.0/24"), Action: spd.Discard}
		u.left.pols.Replace(append([]spd.Policy{blocked}, leftPolicies()...))
		u.right.pols.Replace(append(reversed([]spd.Policy{{Ref: 9, Pair: pair("10.1.0.4/32", "10.2.0.0/16"), Action: spd.Discard}}), reversed(leftPolicies())...))
		u.connect(1, 1, func(left, right *sad.Params) {
			left.Pairs = []selector.Pair{pair("10.1.0.0/16", "10.2.0.0/24")}
			right.Pairs = []selector.Pair{pair("10.2.0.0/25", "10.1.0.0/16")}
		})
		u.connect(2, 1, func(left, _ *sad.Params) { left.Pairs = []selector.Pair{pair("10.1.0.0/16", "10.2.1.0/24")} })
		u.connect(3, 2, nil)
		u.left.log.quiet, u.right.log.quiet = true, true
		u.left.sads.Child(1).Path().Learn(1400, start.UnixNano())
		return u
	}
	plain := [][]byte{
		udp("10.1.0.1", "10.2.0.1", 10), udp("10.1.0.3", "10.2.0.1", 300), // the first SA
		udp("10.1.0.1", "10.2.0.200", 10), udp("10.1.0.4", "10.2.0.1", 10), // which the other end does not let in
		udp("10.1.0.1", "10.2.1.1", 10), udp("10.1.0.1", "10.2.1.2", 10), // the second
		udp("fd01::1", "fd02::1", 10), udp("fd01::1", "fd02::2", 10), // the third
		udp("10.1.0.1", "10.2.5.1", 10),      // blocked
		udp("10.1.0.1", "10.2.9.1", 10),      // no SA
		udp("10.1.0.1", "10.9.0.1", 10),      // no policy
		udp("10.1.0.1", "10.2.0.1", 10)[:29], // no packet
		udp("10.1.0.1", "10.2.0.1", 2000),    // too long
	}
	batched, single := gateway(), gateway()
	w := newOutWorker(batched.left.path, batched.left.path.edges(), benchBatch, maxPacket)
	defer w.sads.Close()
	in := newInWorker(batched.right.path, batched.right.path.edges(), benchBatch)
	defer in.sads.Close()
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
		var arrived []underlay.Packet
		for i := range got {
			if string(got[i]) != string(want[i]) {
				t.Fatalf("packet %d is of SA %#x with number %d, %d bytes; want %#x, %d, %d", i, esp.SPI(got[i]), esp.Seq(got[i]), len(got[i]), esp.SPI(want[i]), esp.Seq(want[i]), len(want[i]))
			}
			arrived = append(arrived, *datagram(got[i]))
			single.right.path.Receive(start, datagram(want[i]))
		}
		in.batch(start.UnixNano(), arrived)
		if got, want := batched.right.host.take(), single.right.host.take(); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("%d packets came in, or others; want %d", len(got), len(want))
		}
	}
	same := func(got, want map[string]uint64, moved ...string) {
		for name, n := range got {
			if n != want[name] {
				t.Errorf("%s is %d, want %d", name, n, want[name])
			}
		}
		for _, name := range moved {
			if want[name] == 0 {
				t.Errorf("%s never moved", name)
			}
		}
	}
	same(batched.left.values(), single.left.values(), "tx-packets", "out-policy-blocked", "out-no-states", "out-policy-errors", "out-errors", "out-too-big")
	same(batched.right.values(), single.right.values(), "rx-packets", "in-policy-blocked", "in-template-mismatches")
}

// A flow that one SA may bring is not let in by the next packet's SA.
func TestRunOfOneFlowByTwoSAs(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, nil)
	u.connect(2, 1, func(_, right *sad.Params) { right.Pairs = []selector.Pair{pair("10.2.7.0/24", "10.1.0.0/16")} })
	x := udp("10.1.0.1", "10.2.0.1", 10)
	sealed := func(id uint64) underlay.Packet {
		buf := make([]byte, underlay.Headroom+len(x)+tailroom)
		copy(buf[underlay.Headroom:], x)
		out := u.left.sads.Child(id).Outbound()
		seq, _ := out.Reserve(1)
		start, end := out.Transform().Seal(buf, underlay.Headroom, len(x), seq, wire.ProtoIPv4)
		return *datagram(buf[start:end])
	}
	w := newInWorker(u.right.path, u.right.path.edges(), 4)
	defer w.sads.Close()
	before := u.right.values()
	w.batch(start.UnixNano(), []underlay.Packet{sealed(1), sealed(2), sealed(1)})
	u.right.moved(t, before, map[string]uint64{"rx-packets": 2, "rx-bytes": 2 * uint64(len(x)), "in-template-mismatches": 1})
}
