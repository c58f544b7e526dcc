package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
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
	s.westGateway = s.west.Culvert(ctx, gateway, passive(tunnelConf("10.9.0.1", "10.2.0.0/24", "10.1.0.0/24")))
	if err := Until(ctx, func() error {
		_, err := s.eastHost.Try("ping", "-c", "1", "-W", "1", "10.2.0.2")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	eastAddr, wHost := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.2.0.2")
	s.wire = s.east.Watch("eth0", func(g Sighting) bool { return g.Src == eastAddr && (g.Kind == "esp" || g.Kind == "esp in udp") })
	s.arrived = s.wHost.Watch("eth0", func(g Sighting) bool { return g.Dst == wHost })
	return s
}

const fieldEchoes = 3

// ping sends echo requests, of which as many as wanted are answered, and returns
// what there was of them between the gateways and what arrived. Of those that are
// lost on the way somebody's counter has to say when it was.
func (s *fieldSite) ping(answers int, options ...string) (wire, arrived []Sighting) {
	s.t.Helper()
	before, _ := s.wire.Seen()
	there, _ := s.arrived.Seen()
	got, out := s.eastHost.echoes(fieldEchoes, answers > 0, append(options, "10.2.0.2")...)
	if got != answers {
		s.t.Errorf("ping %v: %d answers, want %d:\n%s", options, got, answers, out)
	}
	after, _ := s.wire.Seen()
	then, _ := s.arrived.Seen()
	return after[len(before):], then[len(there):]
}

// echoes sends echo requests one by one, and waits long for each answer if there are
// to be any: ping itself waits for the last of several only as long as those before
// it took.
func (n *Node) echoes(count int, answered bool, options ...string) (answers int, out string) {
	n.lab.TB.Helper()
	wait := "0.3"
	if answered {
		wait = "30"
	}
	for range count {
		text, _ := n.Try(append([]string{"ping", "-c", "1", "-W", wait}, options...)...)
		answers += strings.Count(text, " ttl=")
		out += text
	}
	return answers, out
}

// grows waits until a counter is by n more than it was, and wants it to be no more.
func grows(t *testing.T, ctx context.Context, c *Culvert, counter string, was uint64, n int) {
	t.Helper()
	var got uint64
	err := Until(ctx, func() error {
		if got = c.Counter(ctx, counter) - was; got < uint64(n) {
			return fmt.Errorf("it grew by %d, want %d", got, n)
		}
		return nil
	})
	if err == nil && got > uint64(n) {
		err = fmt.Errorf("it grew by %d, want %d", got, n)
	}
	if err != nil {
		t.Errorf("%s of %s: %v", counter, c.Name, err)
	}
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
	for _, encapsulation := range []string{"udp", "raw"} {
		t.Run(encapsulation, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
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
	before, _ := s.arrived.Seen()
	s.ping(0, "-Q", "184")
	grows(s.t, s.ctx, s.westGateway, "in-header-errors", dropped, fieldEchoes)
	if all, _ := s.arrived.Seen(); len(all) != len(before) {
		s.t.Errorf("what knows no marks arrived: %v", all[len(before):])
	}
}

// expire sends packets with few hops to live. Each gateway forwards once, and so
// decrements once: what would come to 0 does not even reach the first one's data
// path, or does not leave the second one's device.
func (s *fieldSite) expire() {
	s.t.Helper()
	for ttl, want := range map[string]struct{ sent, arrived, answers int }{
		"1": {0, 0, 0},
		"2": {fieldEchoes, 0, 0},
		"3": {fieldEchoes, fieldEchoes, fieldEchoes},
	} {
		tx, rx := s.eastGateway.Counter(s.ctx, "tx-packets"), s.westGateway.Counter(s.ctx, "rx-packets")
		before, _ := s.arrived.Seen()
		s.ping(want.answers, "-t", ttl, "-Q", "32")
		grows(s.t, s.ctx, s.eastGateway, "tx-packets", tx, want.sent)
		grows(s.t, s.ctx, s.westGateway, "rx-packets", rx, want.sent)
		all, _ := s.arrived.Seen()
		if arrived := all[len(before):]; count(arrived, 32, 1) != want.arrived || len(arrived) != want.arrived {
			s.t.Errorf("TTL %s: arrived %v", ttl, arrived)
		}
	}
}

// A DSCP of the configuration is for all tunnel packets; their ECN is still the inner one's.
func TestConfiguredDSCP(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s := newFieldSite(t, ctx, "dscp = 46")
	for _, tos := range []uint8{0, 0x2a} {
		wire, arrived := s.ping(fieldEchoes, "-Q", fmt.Sprint(tos))
		if count(wire, 46<<2|tos&3, 64) != fieldEchoes || count(arrived, tos, 62) != fieldEchoes {
			t.Errorf("TOS %#x: on the wire %v, arrived %v", tos, wire, arrived)
		}
	}
}
