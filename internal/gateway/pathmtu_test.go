package gateway

import (
	"net/netip"
	"testing"
	"time"

	"culvert/internal/packet/underlay"
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
