package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// fieldSite is two gateways with a host behind each.
//
//	east host 10.1.0.2 ── 10.1.0.1 east 10.9.0.1 ── 10.9.0.2 west 10.2.0.1 ── 10.2.0.2 west host
type fieldSite struct {
	t                           *testing.T
	ctx                         context.Context
	eastHost, east, west, wHost *Node
	eastGateway, westGateway    *Culvert
	wire, arrived               *Watch // what is between the gateways; what reaches the host in the west
}

func newFieldSite(t *testing.T, ctx context.Context, gateway string) *fieldSite {
	l := New(t)
	s := &fieldSite{t: t, ctx: ctx, eastHost: l.Node("eh"), east: l.Node("east"), west: l.Node("west"), wHost: l.Node("wh")}
	p := netip.MustParsePrefix
	l.Wire(End{s.eastHost, "eth0", p("10.1.0.2/24")}, End{s.east, "lan0", p("10.1.0.1/24")})
	l.Wire(End{s.east, "eth0", p("10.9.0.1/24")}, End{s.west, "eth0", p("10.9.0.2/24")})
	l.Wire(End{s.west, "lan0", p("10.2.0.1/24")}, End{s.wHost, "eth0", p("10.2.0.2/24")})
	for _, n := range []*Node{s.east, s.west} {
		n.Sysctl("net.ipv4.ip_forward", "1")
	}
	s.eastHost.Run("ip", "route", "add", "default", "via", "10.1.0.1")
	s.wHost.Run("ip", "route", "add", "default", "via", "10.2.0.1")
	s.east.Run("ip", "route", "add", "10.2.0.0/24", "via", "10.9.0.2")
	s.west.Run("ip", "route", "add", "10.1.0.0/24", "via", "10.9.0.1")
	s.eastGateway = s.east.Culvert(ctx, gateway, tunnelConf("10.9.0.2", "10.1.0.0/24", "10.2.0.0/24"))
	s.westGateway = s.west.Culvert(ctx, gateway, tunnelConf("10.9.0.1", "10.2.0.0/24", "10.1.0.0/24"))
	if err := Until(ctx, func() error {
		_, err := s.eastHost.Try("ping", "-c", "1", "-W", "1", "10.2.0.2")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	eastAddr, wHost := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.2.0.2")
	s.wire = s.east.Watch("eth0", func(g Sighting) bool { return g.Src == eastAddr && (g.Protocol == 50 || g.Protocol == 17) })
	s.arrived = s.wHost.Watch("eth0", func(g Sighting) bool { return g.Dst == wHost })
	return s
}

const fieldEchoes = 3

// ping sends echo requests, of which as many as wanted are answered, and returns
// what there was of them between the gateways and what arrived.
func (s *fieldSite) ping(answers int, options ...string) (wire, arrived []Sighting) {
	s.t.Helper()
	before, _ := s.wire.Seen()
	there, _ := s.arrived.Seen()
	out, _ := s.eastHost.Try(append(append([]string{"ping", "-c", fmt.Sprint(fieldEchoes), "-i", "0.05", "-W", "1"}, options...), "10.2.0.2")...)
	if got := strings.Count(out, " ttl="); got != answers {
		s.t.Errorf("ping %v: %d answers, want %d:\n%s", options, got, answers, out)
	}
	after, _ := s.wire.Seen()
	then, _ := s.arrived.Seen()
	return after[len(before):], then[len(there):]
}

// count is how many of the packets have a type of service and a TTL.
func count(list []Sighting, tos, ttl uint8) (n int) {
	for _, g := range list {
		if g.TOS == tos && g.TTL == ttl {
			n++
		}
	}
	return n
}

// What real kernels make of the header fields, in UDP and without: the outer
// header has the inner DSCP and ECN, or the DSCP of the configuration; congestion on
// the path is told to the inner packet, or drops it where it could not understand;
// and each gateway takes one from the TTL.
func TestHeaderFields(t *testing.T) {
	Need(t)
	for _, encapsulation := range []string{"udp", "detect"} {
		t.Run(encapsulation, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s := newFieldSite(t, ctx, fmt.Sprintf("encapsulation = %q", encapsulation))
			for _, tos := range []uint8{0xb8, 0xb9, 0x2a, 0x03} {
				wire, arrived := s.ping(fieldEchoes, "-Q", fmt.Sprint(tos))
				if count(wire, tos, 64) != fieldEchoes || count(arrived, tos, 62) != fieldEchoes {
					t.Errorf("TOS %#x: on the wire %v, arrived %v", tos, wire, arrived)
				}
			}
			s.mark()
			s.expire()
		})
	}
}

// mark is a router that marks all for congestion: what can be marked arrives
// marked, what cannot is dropped, and counted once.
func (s *fieldSite) mark() {
	s.t.Helper()
	s.west.Run("nft", "add", "table", "ip", "congested")
	s.west.Run("nft", "add", "chain", "ip", "congested", "pre", "{ type filter hook prerouting priority -300 ; }")
	s.west.Run("nft", "add", "rule", "ip", "congested", "pre", "iifname", "eth0", "ip", "ecn", "set", "ce")
	defer s.west.Run("nft", "delete", "table", "ip", "congested")
	dropped := s.westGateway.Counter(s.ctx, "in-header-errors")
	for _, tos := range []uint8{0xb9, 0xba, 0xbb} {
		if _, arrived := s.ping(fieldEchoes, "-Q", fmt.Sprint(tos)); count(arrived, 0xbb, 62) != fieldEchoes {
			s.t.Errorf("TOS %#x through congestion: arrived %v", tos, arrived)
		}
	}
	if n := s.westGateway.Counter(s.ctx, "in-header-errors") - dropped; n != 0 {
		s.t.Errorf("%d packets that can be marked were dropped", n)
	}
	if _, arrived := s.ping(0, "-Q", "184"); len(arrived) != 0 {
		s.t.Errorf("what knows no marks arrived: %v", arrived)
	}
	if n := s.westGateway.Counter(s.ctx, "in-header-errors") - dropped; n != fieldEchoes {
		s.t.Errorf("in-header-errors grew by %d, want %d", n, fieldEchoes)
	}
}

// expire sends packets with few hops to live. Each gateway forwards once, and so
// decrements once: what would come to 0 does not even reach the first one's data
// path, or does not leave the second one's device.
func (s *fieldSite) expire() {
	s.t.Helper()
	for ttl, want := range map[string]struct{ tx, rx, arrived, answers int }{
		"1": {0, 0, 0, 0},
		"2": {fieldEchoes, fieldEchoes, 0, 0},
		"3": {fieldEchoes, fieldEchoes, fieldEchoes, fieldEchoes},
	} {
		tx, rx := s.eastGateway.Counter(s.ctx, "tx-packets"), s.westGateway.Counter(s.ctx, "rx-packets")
		_, arrived := s.ping(want.answers, "-t", ttl, "-Q", "32")
		tx, rx = s.eastGateway.Counter(s.ctx, "tx-packets")-tx, s.westGateway.Counter(s.ctx, "rx-packets")-rx
		if int(tx) != want.tx || int(rx) != want.rx || count(arrived, 32, 1) != want.arrived || len(arrived) != want.arrived {
			s.t.Errorf("TTL %s: %d went out, %d came in, arrived %v", ttl, tx, rx, arrived)
		}
	}
}

// A DSCP of the configuration is for all tunnel packets; their ECN is still the inner one's.
func TestConfiguredDSCP(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := newFieldSite(t, ctx, "dscp = 46")
	for _, tos := range []uint8{0, 0x2a} {
		wire, arrived := s.ping(fieldEchoes, "-Q", fmt.Sprint(tos))
		if count(wire, 46<<2|tos&3, 64) != fieldEchoes || count(arrived, tos, 62) != fieldEchoes {
			t.Errorf("TOS %#x: on the wire %v, arrived %v", tos, wire, arrived)
		}
	}
}
