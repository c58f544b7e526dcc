package gateway

import (
	"net/netip"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/internal/testing/simnet"
)

// Routers may quote eight bytes of a packet that is too long, which of ESP in UDP have
// no SPI. Such a message is believed only where a packet of that length does not
// arrive: what somebody forges changes nothing, what is true does within seconds.
func TestTooBigWithoutSPI(t *testing.T) {
	for _, c := range []struct {
		name               string
		takes, claim, want int
	}{
		{"forged", 1500, 576, 1500},
		{"forged, MTU not told", 1500, 0, 1492}, // no IKE message in CBC has from 1493 to 1500 bytes
		{"forged, then nothing is left to win", 1492, 1484, 1492},
		{"true", 1400, 1400, 1400},
		{"true, MTU not told", 1492, 0, 1492},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, simnet.Link{Delay: 10 * time.Millisecond})
			w.up()
			w.takes = c.takes
			path := w.west.plane.SAs.Path(westAddr, eastAddr)
			path.SetLink(1500)
			if c.claim == 1484 {
				path.SetLink(1492)
			}
			link := path.MTU(w.clock.Now().UnixNano())
			buf := make([]byte, underlay.Headroom)
			w.west.plane.Receive(w.clock.Now(), &underlay.Packet{Buf: buf, Off: underlay.Headroom, Kind: underlay.Trouble, NATT: true,
				Local: netip.AddrPortFrom(westAddr, 4500), Remote: netip.AddrPortFrom(eastAddr, 4500),
				Fault: underlay.Fault{Cause: underlay.TooBig, Kind: underlay.ESP, MTU: c.claim}})
			w.west.settle()
			if got := path.MTU(w.clock.Now().UnixNano()); got != link {
				t.Errorf("believed at once: %d", got)
			}
			w.run(10 * time.Second)
			if got := path.MTU(w.clock.Now().UnixNano()); got != c.want {
				t.Errorf("MTU %d, want %d", got, c.want)
			}
			w.carriesAll()
		})
	}
}

// No router says that a packet is too long: long packets arrive after a few seconds, as long as the path takes, and
// the log says it once.
func TestICMPIsBlocked(t *testing.T) {
	for _, c := range []struct{ takes, least, most int }{{1500, 1500, 1500}, {1484, 1480, 1480}, {1400, 1400, 1400}, {1290, 1280, 1280}} {
		w := newWorld(t, simnet.Link{Delay: 10 * time.Millisecond})
		w.up()
		w.takes = c.takes
		path := w.west.plane.SAs.Path(westAddr, eastAddr)
		path.SetLink(1500)
		pkt := wire.AppendUDPPacket(nil, netip.MustParseAddrPort("10.1.101.5:1000"), netip.MustParseAddrPort("10.1.102.6:2000"), make([]byte, 1370))
		send := func() {
			w.west.plane.Send(w.clock.Now(), pkt)
			w.west.settle()
		}
		send()
		w.run(25 * time.Second)
		if got := path.MTU(w.clock.Now().UnixNano()); got > c.takes {
			t.Errorf("a path of %d bytes: after 25 s %d", c.takes, got)
		}
		for range 40 {
			send()
			w.run(time.Second)
		}
		if got := path.MTU(w.clock.Now().UnixNano()); got < c.least || got > c.most {
			t.Errorf("a path of %d bytes: %d", c.takes, got)
		}
		told := 0
		if c.takes < 1485 {
			told = 1
		}
		if n := w.west.count(core.EvPathMTU); n != told {
			t.Errorf("a path of %d bytes: told %d times", c.takes, n)
		}
		for _, n := range []*node{w.west, w.east} { // what arrived, and what the sender was told
			for len(n.device.Outgoing()) > 0 {
				<-n.device.Outgoing()
			}
		}
		w.carriesAll()
	}
}
