package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// A router behind the gateway, and the gateway itself, report what became of packets
// that came out of the tunnel. Their addresses are in no policy. The errors go back by
// the tunnel, and nothing of what they quote is ever in clear on the wire.
//
//	behind 10.1.0.2, nothing of 10.3.0.0/24 ── east 10.1.0.1, 10.9.0.1 ── router ── 10.8.0.2 west, 10.2.0.1
func TestErrorsAboutProtectedPackets(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s := newGuardSite(New(t))
	s.host.Sysctl("net.ipv4.ip_forward", "1")
	s.host.Run("ip", "route", "add", "unreachable", "10.3.0.0/24")
	s.east.Run("ip", "route", "add", "10.3.0.0/24", "via", "10.1.0.2")
	for device, n := range map[string]*Node{"eth0": s.host, "lan0": s.east} {
		n.ipv6(device, netip.MustParseAddr(map[string]string{"eth0": "fd00:1::2", "lan0": "fd00:1::1"}[device]))
	}
	s.east.ipv6("eth0", netip.MustParseAddr("fd00:9::1"))
	s.router.ipv6("eth0", netip.MustParseAddr("fd00:9::fe"))
	s.router.ipv6("eth1", netip.MustParseAddr("fd00:8::fe"))
	s.west.ipv6("eth0", netip.MustParseAddr("fd00:8::2"))
	s.west.Inner(netip.MustParseAddr("fd00:2::1"))
	for _, n := range []*Node{s.host, s.east, s.router} {
		n.Sysctl("net.ipv6.conf.all.forwarding", "1")
	}
	for _, r := range []struct {
		n     *Node
		route string
	}{
		{s.host, "unreachable fd00:3::/64"}, {s.host, "default via fd00:1::1"},
		{s.east, "fd00:3::/64 via fd00:1::2"}, {s.east, "default via fd00:9::fe"},
		{s.router, "fd00:2::/64 via fd00:8::2"}, {s.router, "fd00:3::/64 via fd00:9::1"}, {s.router, "fd00:1::/64 via fd00:9::1"},
		{s.west, "default via fd00:8::fe"},
	} {
		s := append([]string{"ip", "-6", "route", "add"}, strings.Fields(r.route)...)
		r.n.Run(s...)
	}
	v6 := func(conf string, src, dst string) string {
		policy, _, _ := strings.Cut(tunnelConf("", src, dst), "[[peer]]")
		return policy + conf
	}
	s.east.Culvert(ctx, "", v6(passive(tunnelConf("10.8.0.2", "10.3.0.0/24", "10.2.0.0/24")), "fd00:3::/64", "fd00:2::/64"))
	s.west.Culvert(ctx, "", v6(tunnelConf("10.9.0.1", "10.2.0.0/24", "10.3.0.0/24"), "fd00:2::/64", "fd00:3::/64"))

	inner := []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24"), netip.MustParsePrefix("fd00:2::/64")}
	var clear []string
	total := 0
	wire := s.east.frames("eth0", func(p []byte, _ time.Time) {
		total++
		sort, ok := sortOf(p)
		if !ok {
			return
		}
		var dst netip.Addr
		if p[0]>>4 == 4 {
			dst, _ = netip.AddrFromSlice(p[16:20])
		} else {
			dst, _ = netip.AddrFromSlice(p[24:40])
		}
		if slices.ContainsFunc(inner, func(n netip.Prefix) bool { return n.Contains(dst) }) {
			clear = append(clear, fmt.Sprintf("%s to %v, %d bytes", sort.Kind, dst, len(p)))
		}
	})
	for _, c := range []struct {
		name, from, to, ttl string
		want                []string
	}{
		{"a router behind the gateway", "10.2.0.1", "10.3.0.9", "64", []string{"From 10.1.0.2", "Unreachable"}},
		{"the gateway", "10.2.0.1", "10.3.0.9", "1", []string{"Time to live exceeded"}},
		{"a router behind the gateway, IPv6", "fd00:2::1", "fd00:3::9", "64", []string{"From fd00:1::2", "nreachable"}},
		{"the gateway, IPv6", "fd00:2::1", "fd00:3::9", "1", []string{"Time exceeded"}},
	} {
		if err := Until(ctx, func() error {
			out, _ := s.west.Try("ping", "-n", "-c", "1", "-W", "2", "-t", c.ttl, "-I", c.from, c.to)
			wire.look(func() {
				if len(clear) > 0 {
					t.Fatalf("%s: in clear on the wire: %q", c.name, clear)
				}
			})
			for _, w := range c.want {
				if !strings.Contains(out, w) {
					return fmt.Errorf("%s: %q is not in\n%s", c.name, w, out)
				}
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	wire.look(func() {
		if total == 0 {
			t.Error("nothing was seen on the wire: the watch proves nothing")
		}
	})
}
