package datapath

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/internal/packet/underlay"
	"culvert/sad"
)

// trouble is what the underlay hands up of a message about a packet of the left's.
func (s shape) trouble(f underlay.Fault, data ...byte) *underlay.Packet {
	p := datagram(data)
	f.Kind = underlay.ESP
	if s.ah() {
		f.Kind = underlay.AH
	}
	p.Kind, p.Fault, p.NATT, p.Local, p.Remote = underlay.Trouble, f, s.udp, s.left, s.right
	return p
}

// header is the beginning of a packet of the left's SA.
func (s shape) sentHeader(g *gateway) []byte {
	c := g.sads.Child(1)
	if c.Over() != nil {
		c = c.Over()
	}
	spi := binary.BigEndian.AppendUint32(nil, c.Rows(start, false)[1].SPI)
	if s.ah() {
		return append([]byte{4, 4, 0, 0}, spi...)
	}
	return spi
}

// A message counts if it names an SA of ours, lowers the path's MTU if it speaks of
// size, within the bounds, and ends nothing.
func TestTrouble(t *testing.T) {
	for _, s := range shapes() {
		left, _ := s.connect(t)
		left.setLink(1500)
		path := left.sads.Child(1).Path()
		head := s.sentHeader(left)
		least := 576
		if s.outer6 {
			least = 1280
		}
		wrong := append([]byte{}, head...)
		wrong[len(wrong)-1]++
		elsewhere := s.trouble(underlay.Fault{Cause: underlay.TooBig, MTU: 1300}, head...)
		elsewhere.Remote = netip.MustParseAddrPort("198.51.100.1:4500")
		ike := s.trouble(underlay.Fault{Cause: underlay.TooBig, MTU: 1300}, make([]byte, 12)...)
		short, claim := "rx-icmp-unrelated", []string(nil)
		if s.udp {
			short, claim = "rx-icmp-unproven", []string{"claim 1 1450"}
		}
		for _, c := range []struct {
			name    string
			pkt     *underlay.Packet
			counter string
			mtu     int
		}{
			{"another SPI", s.trouble(underlay.Fault{Cause: underlay.TooBig, MTU: 1300}, wrong...), "rx-icmp-unrelated", 1500},
			{"another peer", elsewhere, "rx-icmp-unrelated", 1500},
			{"IKE", ike, "rx-icmp-unrelated", 1500},
			{"no SPI", s.trouble(underlay.Fault{Cause: underlay.TooBig, MTU: 1450}, head[:3]...), short, 1500},
			{"port, no SPI", s.trouble(underlay.Fault{Cause: underlay.Unreachable}), short, 1500},
			{"port", s.trouble(underlay.Fault{Cause: underlay.Unreachable}, head...), "rx-icmp-unreachable", 1500},
			{"prohibited", s.trouble(underlay.Fault{Cause: underlay.Prohibited}, head...), "rx-icmp-prohibited", 1500},
			{"hop limit", s.trouble(underlay.Fault{Cause: underlay.Undelivered}, head...), "rx-icmp-undelivered", 1500},
			{"our own link", s.trouble(underlay.Fault{Cause: underlay.TooBig, Local: true, MTU: 1440}), "", 1440},
			{"a larger MTU", s.trouble(underlay.Fault{Cause: underlay.TooBig, MTU: 1499}, head...), "rx-icmp-too-big", 1440},
			{"too big", s.trouble(underlay.Fault{Cause: underlay.TooBig, MTU: 1400}, head...), "rx-icmp-too-big", 1400},
			{"below the bound", s.trouble(underlay.Fault{Cause: underlay.TooBig, MTU: 68}, head...), "rx-icmp-too-big", least},
		} {
			if c.pkt.Fault.Local {
				c.pkt.Local = netip.AddrPort{}
			}
			before := left.values()
			if r := left.path.Receive(start, c.pkt); r != Passed {
				t.Errorf("%v: %s: %v", s, c.name, r)
			}
			want := map[string]uint64{}
			if c.counter != "" {
				want[c.counter] = 1
			}
			left.moved(t, before, want)
			if got := path.MTU(start.UnixNano()); got != c.mtu {
				t.Errorf("%v: %s: MTU %d, want %d", s, c.name, got, c.mtu)
			}
		}
		left.log.want(t, claim...)
		if left.sads.Child(1).State(start) != sad.StateMature {
			t.Error("the SA suffered")
		}
		// The next packet meets the new MTU, and after a while the old one.
		if n := s.fits(least); !s.inner6 || n >= 1280 {
			pkt := s.packet(n+1, true)
			if r := left.path.SendPlain(start, pkt); r != OutTooBig {
				t.Error(s, r)
			}
			told(t, left, pkt, n)
			if r := left.path.SendPlain(start.Add(sad.PMTUAge), pkt); r != Passed {
				t.Error(s, r)
			}
		}
	}
}

// What names no SPI changes no MTU, whoever is told of it. The daemon hears of it where
// it can ask the peer: not more often than the peer is to be asked, and not of what
// would not lower the MTU.
func TestUnprovenTooBig(t *testing.T) {
	for _, s := range shapes() {
		if !s.udp {
			continue
		}
		left, _ := s.connect(t)
		left.setLink(1500)
		least := sad.MinPMTU4
		if s.outer6 {
			least = sad.MinPMTU6
		}
		claim := func(after time.Duration, mtu int, change func(*underlay.Packet)) {
			p := s.trouble(underlay.Fault{Cause: underlay.TooBig, MTU: mtu})
			if change != nil {
				change(p)
			}
			if r := left.path.Receive(start.Add(after), p); r != Passed {
				t.Error(s, r)
			}
			if got := left.sads.Child(1).Path().MTU(start.Add(after).UnixNano()); got != 1500 {
				t.Errorf("%v: a forged %d leaves an MTU of %d", s, mtu, got)
			}
		}
		claim(0, 1500, nil)
		claim(0, 1501, nil)
		claim(0, 1300, func(p *underlay.Packet) { p.Remote = netip.MustParseAddrPort("198.51.100.1:4500") })
		claim(0, 1300, func(p *underlay.Packet) { p.Local = netip.MustParseAddrPort("198.51.100.1:4500") })
		left.log.want(t)
		claim(0, 68, nil)
		left.log.want(t, fmt.Sprintf("claim 1 %d", least))
		claim(time.Second, 1400, nil)
		claim(sad.ClaimsEvery-1, 1400, nil)
		left.log.want(t)
		claim(sad.ClaimsEvery, 0, nil)
		left.log.want(t, "claim 1 1492")
		claim(2*sad.ClaimsEvery, 1400, func(p *underlay.Packet) { p.Remote = netip.AddrPortFrom(p.Remote.Addr(), 4501) })
		left.log.want(t)
		claim(3*sad.ClaimsEvery, 1400, nil)
		left.log.want(t, "claim 1 1400")
	}
}

// Nobody negotiated an SA whose keys people gave, so that no peer can be asked.
func TestUnprovenTooBigOfManualSA(t *testing.T) {
	for _, s := range shapes() {
		if !s.udp {
			continue
		}
		left, _ := s.connectTo(t, func(p *sad.Params) { p.Manual, p.In.SPI, p.Out.SPI = true, p.In.SPI|1<<31, p.Out.SPI|1<<31 })
		left.setLink(1500)
		if r := left.path.Receive(start, s.trouble(underlay.Fault{Cause: underlay.TooBig, MTU: 1400})); r != Passed {
			t.Error(s, r)
		}
		left.log.want(t)
		if got := left.sads.Child(1).Path().MTU(start.UnixNano()); got != 1500 {
			t.Errorf("%v: MTU %d", s, got)
		}
	}
}

func TestTroubleDoesNotAllocate(t *testing.T) {
	s := shapes()[0]
	left, _ := s.connect(t)
	p := s.trouble(underlay.Fault{Cause: underlay.TooBig, MTU: 1300}, s.sentHeader(left)...)
	q := s.trouble(underlay.Fault{Cause: underlay.TooBig, MTU: 1300})
	left.log.quiet = true
	if n := testing.AllocsPerRun(100, func() {
		left.path.Receive(start, p)
		left.path.Receive(start, q)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
