package gateway

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/wire"
	"culvert/internal/testing/simnet"
)

var outerAddr = netip.MustParseAddr("203.0.113.9")

// hidden is a world whose west is behind a NAT, and up.
func hidden(t *testing.T, link simnet.Link, seed uint64, profile string) (*world, *simnet.NAT) {
	w := newSeededWorld(t, link, seed)
	nat := simnet.NewNAT(outerAddr)
	w.net.Behind(netip.PrefixFrom(westAddr, 32), nat)
	with := func(text string) string { return strings.Replace(text, "[[profile]]", "[[profile]]\n"+profile, 1) }
	w.east.mustConfigure(with(passive(site(outerAddr, "102", "101"))))
	w.west.mustConfigure(with(site(eastAddr, "101", "102")))
	w.until("established", func() bool { return w.west.sealing() >= 2 && w.east.sealing() >= 2 })
	w.run(10 * time.Second)
	return w, nat
}

// sameSAs checks that no SA was made anew or lost since up.
func (w *world) sameSAs() {
	w.t.Helper()
	for _, n := range []*node{w.west, w.east} {
		if n.count(core.EvIKEUp) != 1 || n.count(core.EvPeerDead) > 0 || n.count(core.EvChildDown) > 0 {
			w.t.Errorf("%v: SAs were made anew: %v", n.addr, kinds(n.events))
		}
	}
}

// Flag N and natt-peer say that there is a NAT, not that IKE uses port 4500.
func TestNATTFlag(t *testing.T) {
	without := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	without.west.conn.WithRaw() // else each pretends to be behind a NAT, so that ESP goes by UDP
	without.east.conn.WithRaw()
	without.up()
	with, _ := hidden(t, simnet.Link{Delay: 5 * time.Millisecond}, 7, "")
	undetected := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	off := func(text string) string {
		return strings.Replace(text, "[[profile]]", "[[profile]]\nnat-traversal = false", 1)
	}
	for n, text := range map[*node]string{undetected.east: off(passive(site(westAddr, "102", "101"))), undetected.west: off(site(eastAddr, "101", "102"))} {
		n.conn.WithRaw()
		n.mustConfigure(text)
	}
	undetected.until("established", func() bool { return undetected.west.sealing() >= 2 && undetected.east.sealing() >= 2 })
	for w, want := range map[*world]bool{without: false, with: true, undetected: false} {
		for _, n := range []*node{w.west, w.east} {
			rows := n.view().ActivePeers()
			if len(rows) != 1 || rows[0].NATTPeer != want || !strings.HasSuffix(n.plane.Config.Endpoint.SAs()[0].Remote.String(), ":4500") && w == without {
				t.Errorf("behind a NAT %v: %v: %+v", want, n.addr, rows)
			}
			w.west.input(core.Command{Do: core.RekeyIKE})
			w.run(10 * time.Second)
			if rows = n.view().ActivePeers(); len(rows) != 1 || rows[0].NATTPeer != want {
				t.Errorf("behind a NAT %v, rekeyed: %v: %+v", want, n.addr, rows)
			}
		}
	}
}

// A NAT that forgets its mappings: the first ESP packet from the new one moves
// all SAs of the peer, and so does an IKE message.
func TestNATRebinding(t *testing.T) {
	w, nat := hidden(t, simnet.Link{Delay: 10 * time.Millisecond}, 7, "mobike = false")
	w.carriesAll()
	for i := range 3 {
		nat.Flush()
		w.run(2 * time.Second)
		w.carriesAll()
		if n := w.east.count(core.EvMoved); n != i+1 {
			t.Fatalf("the east moved %d times in %d flushes", n, i+1)
		}
	}
	nat.Flush()
	w.run(2 * time.Second)
	w.west.input(core.Command{Do: core.RekeyIKE})
	w.run(2 * time.Second)
	w.carries(w.east, w.west, "10.1.102.6", "10.1.101.5")
	if n := w.east.count(core.EvMoved); n != 4 {
		t.Errorf("the east moved %d times in 4 flushes", n)
	}
	if n := w.west.count(core.EvMoved); n != 0 {
		t.Errorf("who is behind the NAT moved %d times", n)
	}
	w.sameSAs()
}

// With MOBIKE the end behind the NAT finds out, by asking whether the peer is
// alive, and says so (RFC 4555 §3.8); a packet from elsewhere moves nothing.
func TestNATRebindingWithMOBIKE(t *testing.T) {
	w, nat := hidden(t, simnet.Link{Delay: 10 * time.Millisecond}, 7, `dpd-interval = "8s"`)
	w.carriesAll()
	for i := range 3 {
		nat.Flush()
		w.carries(w.west, w.east, "10.1.101.5", "10.1.102.6")
		if n := w.east.count(core.EvMoved); n != i {
			t.Fatalf("the east moved %d times before it was told of flush %d", n, i+1)
		}
		w.run(10 * time.Second)
		w.carriesAll()
		if n, m := w.east.count(core.EvMoved), w.west.count(core.EvMoved); n != i+1 || m != i+1 {
			t.Fatalf("the east moved %d times and the west %d in %d flushes", n, m, i+1)
		}
	}
	w.sameSAs()
}

// A NAT that is restarted every minute, on a bad network, while both ends rekey
// the IKE SA: half a minute after each restart traffic goes both ways, and the
// SAs are what they were, or their successors.
func TestNATFlushesOnABadNetwork(t *testing.T) {
	bad := simnet.Link{Loss: 0.1, Dup: 0.1, Reorder: 0.1, Delay: 30 * time.Millisecond, Jitter: 40 * time.Millisecond}
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			profile := "lifetime = \"12m\"\ndpd-interval = \"8s\"\nmobike = " + fmt.Sprint(seed%2 == 1)
			w, nat := hidden(t, bad, seed, profile)
			send := func(from, to *node, src, dst string, i int) {
				if r := from.plane.Send(w.clock.Now(), echo(src, dst, uint16(i))); r != datapath.Passed {
					t.Fatalf("%s => %s was not sealed: %v", src, dst, r)
				}
				from.settle()
				w.run(500 * time.Millisecond)
			}
			for i := range 15 {
				nat.Flush()
				for range 60 {
					send(w.west, w.east, "10.1.101.5", "10.1.102.6", i)
				}
				w.west.drain()
				before := nonzero(w.west)["rx-packets"]
				for range 60 {
					send(w.east, w.west, "10.1.102.6", "10.1.101.5", i)
				}
				w.west.drain()
				w.east.drain()
				if got := nonzero(w.west)["rx-packets"] - before; got < 40 {
					t.Fatalf("flush %d: of 60 packets that came back %d arrived", i, got)
				}
			}
			if n := w.east.count(core.EvIKERekeyed); n == 0 {
				t.Error("the IKE SA was never rekeyed")
			}
			w.sameSAs()
		})
	}
}

// Transport mode through NATs at either end or at both (RFC 7296 §2.23.1): packets
// arrive between the addresses that the receiver knows, with checksums that are
// right there (RFC 3948 §3.1.2), also after each end has rekeyed.
func TestTransportModeThroughNAT(t *testing.T) {
	for name, c := range map[string]struct{ west, east bool }{
		"the initiator": {west: true}, "the responder": {east: true}, "both": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newSeededWorld(t, simnet.Link{Delay: 10 * time.Millisecond}, 7)
			seen := map[*node]netip.Addr{w.west: westAddr, w.east: eastAddr}
			if c.west {
				seen[w.west] = outerAddr
				w.net.Behind(netip.PrefixFrom(westAddr, 32), simnet.NewNAT(outerAddr))
			}
			if c.east {
				seen[w.east] = netip.MustParseAddr("198.51.100.9")
				nat := simnet.NewNAT(seen[w.east])
				nat.Forward(500, netip.AddrPortFrom(eastAddr, 500))
				nat.Forward(4500, netip.AddrPortFrom(eastAddr, 4500))
				w.net.Behind(netip.PrefixFrom(eastAddr, 32), nat)
			}
			w.east.mustConfigure(passive(hostToHost(eastAddr, seen[w.west])))
			w.west.mustConfigure(hostToHost(westAddr, seen[w.east]))
			w.until("established", func() bool { return w.west.sealing() == 1 && w.east.sealing() == 1 })
			exchange := func() {
				t.Helper()
				for from, to := range map[*node]*node{w.west: w.east, w.east: w.west} {
					to.drain()
					src, dst := netip.AddrPortFrom(from.addr, 7000), netip.AddrPortFrom(seen[to], 7001)
					for _, pkt := range [][]byte{
						wire.AppendUDPPacket(nil, src, dst, []byte("a datagram")),
						wire.AppendTCPPacket(nil, wire.TCP{Seq: 1, Flags: 2}, src, dst, []byte("a segment")),
					} {
						if r := from.plane.Send(w.clock.Now(), pkt); r != datapath.Passed {
							t.Fatalf("%v: %v, events %v", from.addr, r, from.events)
						}
						w.run(500 * time.Millisecond)
						select {
						case got := <-to.device.Outgoing():
							info, f, ok := parsed(got)
							if !ok || f.Src != seen[from] || f.Dst != to.addr || !wire.VerifyChecksum(got, info) || !wire.VerifyIPv4Checksum(got) {
								t.Fatalf("at %v arrives %x: %v", to.addr, got, f)
							}
						default:
							t.Fatalf("nothing arrives at %v: %v", to.addr, nonzero(to))
						}
					}
				}
			}
			exchange()
			for _, n := range []*node{w.west, w.east} {
				rekeys := n.count(core.EvChildRekeyed)
				n.input(core.Command{Do: core.RekeyChildren})
				w.until("rekeyed", func() bool { return n.count(core.EvChildRekeyed) > rekeys })
				w.run(10 * time.Second)
				exchange()
			}
			w.sameSAs()
		})
	}
}

func parsed(pkt []byte) (info wire.Info, f wire.Flow, ok bool) {
	info, ok = wire.ParseFlow(pkt, &f)
	return info, f, ok
}

// The second of two hosts behind one NAT is told why it is not served.
func TestTransportModeTwoBehindOneNAT(t *testing.T) {
	w := newSeededWorld(t, simnet.Link{Delay: 10 * time.Millisecond}, 7)
	nat := simnet.NewNAT(outerAddr)
	third := netip.MustParseAddr("192.0.2.3")
	other := w.node(third, 7, 3)
	w.others = append(w.others, other)
	w.net.Behind(netip.MustParsePrefix("192.0.2.1/32"), nat)
	w.net.Behind(netip.MustParsePrefix("192.0.2.3/32"), nat)
	w.east.mustConfigure(passive(hostToHost(eastAddr, outerAddr)))
	w.west.mustConfigure(hostToHost(westAddr, eastAddr))
	w.until("established", func() bool { return w.west.sealing() == 1 && w.east.sealing() == 1 })
	other.mustConfigure(hostToHost(third, eastAddr))
	w.run(10 * time.Second)
	if n := other.sealing(); n != 0 || w.west.sealing() != 1 {
		t.Errorf("the second has %d SAs, the first %d", n, w.west.sealing())
	}
	for _, n := range []*node{other, w.east} {
		if n.count(core.EvTSUnacceptable) == 0 {
			t.Errorf("%v says nothing: %v", n.addr, kinds(n.events))
		}
	}
}
