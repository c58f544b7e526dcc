package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/wire"
)

// tooBigOfUDP sends an ICMP "too big" to a gateway, about a packet of its on port 4500.
// It quotes eight bytes behind the IP header, as RFC 792 asks, and comes from a router
// that drops what it would say itself.
func tooBigOfUDP(t *testing.T, router *Node, us, them netip.Addr, mtu uint32) {
	t.Helper()
	udp := wire.AppendUDP(nil, netip.AddrPortFrom(us, 4500), netip.AddrPortFrom(them, 4500), make([]byte, 1452))
	quoted := append(wire.AppendIP(nil, us, them, wire.ProtoUDP, len(udp)), udp[:8]...)
	domain, h, to := unix.AF_INET, wire.ICMP{Type: wire.ICMPUnreachable, Code: 4, Rest: mtu}, unix.Sockaddr(nil)
	if us.Is4() {
		to = &unix.SockaddrInet4{Addr: us.As4()}
	} else {
		domain, h, to = unix.AF_INET6, wire.ICMP{Type: wire.ICMPv6TooBig, Rest: mtu}, &unix.SockaddrInet6{Addr: us.As16()}
	}
	err := router.Inside(func() error {
		fd, err := unix.Socket(domain, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, wire.AppendICMPPacket(nil, h, them, us, quoted), 0, to)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Routers may quote so little of ESP in UDP that anybody could have written it. A forged
// message of the kind changes nothing. Of a narrow link all the same is learned, with
// strongSwan at the other end too.
func TestTooBigWithoutSPI(t *testing.T) {
	Need(t)
	for _, c := range []narrow{
		{"IPv4", false, "encapsulation = \"udp\"\nclamp-mss = false", 1400, espCulvert},
		{"IPv6", true, "encapsulation = \"udp\"\nclamp-mss = false", 1400, espCulvert},
		{"IPv4, strongSwan", false, "encapsulation = \"udp\"\nclamp-mss = false", 1400, strongSwan},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			s := newNarrowSite(t, ctx, c)
			us, them := netip.MustParseAddr("10.8.0.1"), netip.MustParseAddr("10.9.0.1")
			if c.outer6 {
				us, them = netip.MustParseAddr("2001:db8:8::1"), netip.MustParseAddr("2001:db8:9::1")
			}
			for _, rule := range []string{"icmp type destination-unreachable", "icmpv6 type packet-too-big"} {
				s.router.Run("nft", "add", "table", "inet", "silent")
				s.router.Run("nft", "add", "chain", "inet", "silent", "out", "{ type filter hook output priority 0 ; }")
				s.router.Run("nft", "add rule inet silent out meta length > 100 "+rule+" drop")
			}
			// 1280 is the least that can be forged of IPv6, and the test's for both.
			const forged = 1280
			tooBigOfUDP(t, s.router, us, them, forged)
			grows(t, ctx, s.eastCulvert, "rx-icmp-unproven", 0, 1)
			fits := s.fits()
			atForged := narrow{"", c.outer6, c.gateway, forged, c.far}.fits()
			for range 5 { // through the answer of the peer, which is a round trip away
				s.ping(s.eh, "10.2.0.2", atForged+1, "do")
			}
			if n := s.eastCulvert.Counter(ctx, "out-too-big"); n != 0 {
				t.Errorf("what was forged was believed: %d packets were too big", n)
			}
			// And what is true, which is not asked about before some seconds have passed.
			want := fmt.Sprintf("(mtu = %d)", fits)
			if Until(ctx, func() error {
				tooBigOfUDP(t, s.router, us, them, uint32(c.mtu))
				out, _ := s.eh.Try("ping", "-c", "1", "-W", "1", "-M", "do", "-s", fmt.Sprint(fits+1-28), "10.2.0.2")
				if !strings.Contains(out, want) {
					return errors.New("not told")
				}
				return nil
			}) != nil {
				t.Errorf("the narrow link was not learned of: rx-icmp-unproven is %d", s.eastCulvert.Counter(ctx, "rx-icmp-unproven"))
			}
			s.ping(s.eh, "10.2.0.2", fits, "do")
			if n := s.eastCulvert.Counter(ctx, "rx-icmp-too-big"); n != 0 {
				t.Errorf("the router has said %d times what it should not", n)
			}
		})
	}
}
