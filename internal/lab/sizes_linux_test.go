package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// narrowSite is two gateways with a host behind each, and a router with a narrow
// link between them.
//
//	eh ── east ══ 1500 ══ router ══ 1280 ══ west ── wh
type narrowSite struct {
	t                     *testing.T
	ctx                   context.Context
	eh, east, west, wh    *Node
	eastCulvert, westSide *Culvert
}

const narrowMTU = 1280

func newNarrowSite(t *testing.T, ctx context.Context, outer6 bool, gateway string) *narrowSite {
	l := New(t)
	s := &narrowSite{t: t, ctx: ctx, eh: l.Node("eh"), east: l.Node("east"), west: l.Node("west"), wh: l.Node("wh")}
	router := l.Node("router")
	p := netip.MustParsePrefix
	ends := [4]string{"10.8.0.1/24", "10.8.0.2/24", "10.9.0.2/24", "10.9.0.1/24"}
	family := "-4"
	if outer6 {
		ends, family = [4]string{"2001:db8:8::1/64", "2001:db8:8::2/64", "2001:db8:9::2/64", "2001:db8:9::1/64"}, "-6"
	}
	l.Wire(End{s.eh, "eth0", p("10.1.0.2/24")}, End{s.east, "lan0", p("10.1.0.1/24")})
	l.Wire(End{s.east, "eth0", p(ends[0])}, End{router, "east0", p(ends[1])})
	l.Wire(End{router, "west0", p(ends[2])}, End{s.west, "eth0", p(ends[3])})
	l.Wire(End{s.west, "lan0", p("10.2.0.1/24")}, End{s.wh, "eth0", p("10.2.0.2/24")})
	for _, x := range []struct {
		n       *Node
		dev, a6 string
	}{{s.eh, "eth0", "fd01::2/64"}, {s.east, "lan0", "fd01::1/64"}, {s.west, "lan0", "fd02::1/64"}, {s.wh, "eth0", "fd02::2/64"}} {
		x.n.Run("ip", "addr", "add", x.a6, "dev", x.dev, "nodad")
	}
	// Who forwards IPv6 asks for its neighbours from a link-local address.
	s.east.Run("ip", "addr", "add", "fe80::1/64", "dev", "lan0", "nodad")
	s.west.Run("ip", "addr", "add", "fe80::1/64", "dev", "lan0", "nodad")
	router.Run("ip", "addr", "add", "fe80::1/64", "dev", "east0", "nodad")
	router.Run("ip", "addr", "add", "fe80::1/64", "dev", "west0", "nodad")
	for _, n := range []*Node{s.east, router, s.west} {
		n.Sysctl("net.ipv4.ip_forward", "1")
		n.Sysctl("net.ipv6.conf.all.forwarding", "1")
	}
	router.Run("ip", "link", "set", "west0", "mtu", fmt.Sprint(narrowMTU))
	s.west.Run("ip", "link", "set", "eth0", "mtu", fmt.Sprint(narrowMTU))
	addr := func(i int) string { return p(ends[i]).Addr().String() }
	s.east.Run("ip", family, "route", "add", "default", "via", addr(1))
	s.west.Run("ip", family, "route", "add", "default", "via", addr(2))
	s.eh.Run("ip", "route", "add", "default", "via", "10.1.0.1")
	s.eh.Run("ip", "-6", "route", "add", "default", "via", "fd01::1")
	s.wh.Run("ip", "route", "add", "default", "via", "10.2.0.1")
	s.wh.Run("ip", "-6", "route", "add", "default", "via", "fd02::1")
	s.eastCulvert = s.east.Culvert(ctx, gateway, narrowConf(addr(3), "1", "2"))
	s.westSide = s.west.Culvert(ctx, gateway, passive(narrowConf(addr(0), "2", "1")))
	for _, to := range []string{"10.2.0.2", "fd02::2"} {
		if err := Until(ctx, func() error {
			_, err := s.eh.Try("ping", "-c", "1", "-W", "2", to)
			return err
		}); err != nil {
			t.Fatal(to, err)
		}
	}
	return s
}

// narrowConf is a tunnel for both families, with an algorithm whose overhead the tests know.
func narrowConf(remote, us, them string) string {
	policy := func(src, dst string) string {
		return fmt.Sprintf("[[policy]]\nsrc-address = %q\ndst-address = %q\npeer = \"p\"\ntunnel = true\n", src, dst)
	}
	return policy("10."+us+".0.0/24", "10."+them+".0.0/24") + policy("fd0"+us+"::/64", "fd0"+them+"::/64") + fmt.Sprintf(`
[[proposal]]
name = "default"
enc-algorithms = ["aes-256-gcm"]
[[peer]]
name = "p"
address = %q
exchange-mode = "ike2"
[[identity]]
peer = "p"
secret = "correct horse battery staple"
`, remote)
}

// fits is the longest inner packet: header, UDP, SPI and sequence number, IV, ICV,
// and the trailer within whole words.
func fits(mtu int, outer6, udp bool) int {
	n := mtu - 20 - 8 - 8 - 16
	if outer6 {
		n -= 20
	}
	if udp {
		n -= 8
	}
	return n&^3 - 2
}

// Through a path that is narrower than its first link: who sends too much with DF
// is told exactly what fits, the same without DF and of IPv6's least size arrives,
// and TCP works in both directions.
func TestNarrowPath(t *testing.T) {
	Need(t)
	for _, c := range []struct {
		encapsulation string
		outer6        bool
		more          string
	}{{"udp", false, ""}} {
		t.Run(fmt.Sprintf("%s outer6 %v %s", c.encapsulation, c.outer6, c.more), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			s := newNarrowSite(t, ctx, c.outer6, fmt.Sprintf("encapsulation = %q\n%s", c.encapsulation, c.more))
			want := fits(narrowMTU, c.outer6, c.encapsulation == "udp")
			s.discover("10.2.0.2", fmt.Sprintf("(mtu = %d)", want))
			s.ping("10.2.0.2", want-28, "do")
			s.discover("fd02::2", "Packet too big: mtu=1280")
			s.ping("fd02::2", 1280-48, "do")
			s.ping("10.2.0.2", 3000, "dont")
			s.ping("fd02::2", 3000, "dont")
			for _, name := range []string{"rx-icmp-too-big", "out-too-big", "tx-icmp-too-big", "tx-split", "tx-outer-fragmented"} {
				if s.eastCulvert.Counter(ctx, name) == 0 {
					t.Errorf("%s is 0", name)
				}
			}
			for _, ends := range [][2]string{{"10.1.0.2", "10.2.0.2"}, {"fd01::2", "fd02::2"}} {
				if err := s.eh.Transfer(ctx, netip.MustParseAddr(ends[0]), s.wh, netip.MustParseAddr(ends[1]), 2_000_000); err != nil {
					t.Error(err)
				}
			}
			if clamped := s.eastCulvert.Counter(ctx, "tx-mss-clamped"); clamped > 0 != (c.more == "") {
				t.Errorf("%d SYNs were clamped", clamped)
			}
		})
	}
}

// discover sends too much until somebody says how much fits.
func (s *narrowSite) discover(to, want string) {
	s.t.Helper()
	err := Until(s.ctx, func() error {
		s.eh.Run("ip", "route", "flush", "cache")
		out, _ := s.eh.Try("ping", "-c", "2", "-i", "0.2", "-W", "1", "-M", "do", "-s", "1350", to)
		if !strings.Contains(out, want) {
			return errors.New(out)
		}
		return nil
	})
	if err != nil {
		s.t.Errorf("ping %s was not told %q: %v", to, want, err)
	}
}

// ping wants three echoes back. What a host has not learned of the way there or back
// before it may lose a few times.
func (s *narrowSite) ping(to string, size int, discovery string) {
	s.t.Helper()
	options := []string{"-M", discovery, "-s", fmt.Sprint(size), to}
	err := Until(s.ctx, func() error {
		if n, out := s.eh.echoes(1, false, options...); n != 1 {
			return errors.New(out)
		}
		return nil
	})
	if err != nil {
		s.t.Errorf("ping %v: %v", options, err)
	}
	if n, out := s.eh.echoes(3, true, options...); n != 3 {
		s.t.Errorf("ping %v: %d answers, want 3:\n%s", options, n, out)
	}
}

// A firewall on the way rejects what the tunnel sends: that is counted, and the
// SAs live on.
func TestRejectedOnTheWay(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s := newNarrowSite(t, ctx, false, "encapsulation = \"udp\"")
	s.west.Sysctl("net.ipv4.icmp_ratemask", "0") // all of them are told, however many others there are
	for _, c := range []struct{ with, counter string }{
		{"icmp type port-unreachable", "rx-icmp-unreachable"}, {"icmp type admin-prohibited", "rx-icmp-prohibited"},
	} {
		s.west.Run("nft", "add", "table", "ip", "refused")
		s.west.Run("nft", "add", "chain", "ip", "refused", "in", "{ type filter hook input priority 0 ; }")
		s.west.Run("nft", "add rule ip refused in udp dport 4500 reject with "+c.with)
		before := s.eastCulvert.Counter(ctx, c.counter)
		errors := s.eastCulvert.Counter(ctx, "out-errors")
		s.eh.echoes(3, false, "10.2.0.2")
		grows(t, ctx, s.eastCulvert, c.counter, before, 3)
		if n := s.eastCulvert.Counter(ctx, "out-errors") - errors; n != 0 {
			t.Errorf("%d packets were not sent because of what was told of others", n)
		}
		s.west.Run("nft", "delete", "table", "ip", "refused")
		s.ping("10.2.0.2", 100, "do")
	}
}
