package gateway

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/internal/testing/simnet"
	"culvert/sad"
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

// A firewall drops what routers say of long packets. Within ten seconds the gateway knows how long they may be, and tells the
// host that sends them; the log says it once, explain peer shows it, and rekeys and traffic go on meanwhile.
func TestICMPIsBlocked(t *testing.T) {
	for _, c := range []struct {
		takes, want int
		told        string
	}{
		{1500, 1492, ""}, // no IKE message in CBC has from 1493 to 1500 bytes
		{1400, 1400, "1400"}, {1300, 1280, "1280"}, {1000, 576, "576"},
	} {
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
		for range 10 {
			send()
			w.run(time.Second)
		}
		if got := path.MTU(w.clock.Now().UnixNano()); got != c.want {
			t.Errorf("a path of %d bytes: %d, want %d", c.takes, got, c.want)
		}
		for range 60 {
			send()
			w.run(20 * time.Second)
		}
		x, err := w.west.view().ExplainPeer("other")
		if err != nil || len(x.SAs) != 1 || x.SAs[0].PathMTU != c.want || x.SAs[0].Measured != c.want || time.Duration(x.SAs[0].MeasuredAgo)*time.Second > sad.MeasureEvery {
			t.Errorf("explain peer: %+v, %v", x.SAs, err)
		}
		told := 0
		for _, e := range w.west.events {
			if e.Kind == core.EvPathMTU {
				told++
				if !strings.Contains(e.Reason, "more than "+c.told+" bytes") || e.Peer == "" || e.Remote.Addr() != eastAddr {
					t.Errorf("%+v", e)
				}
			}
		}
		if want := min(len(c.told), 1); told != want {
			t.Errorf("a path of %d bytes: told %d times, want %d", c.takes, told, want)
		}
		for _, n := range []*node{w.west, w.east} { // what arrived, and what the sender was told
			n.drain()
		}
		w.carriesAll()
	}
}
