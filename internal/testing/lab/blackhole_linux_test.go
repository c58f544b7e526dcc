package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"culvert/internal/operate/control"
)

// The path is narrower than its first link, and a firewall drops what the router would say: the gateway finds out by
// itself how long packets may be, so that a transfer by TCP ends. MSS clamping is off, since it does not know at first either.
func TestICMPIsBlocked(t *testing.T) {
	Need(t)
	const settings = "encapsulation = %q\nclamp-mss = false"
	for _, c := range []narrow{
		{"raw, IPv4", false, fmt.Sprintf(settings, "raw"), 1300, espCulvert},
		{"UDP, IPv4", false, fmt.Sprintf(settings, "udp"), 1300, espCulvert},
		{"UDP, IPv6", true, fmt.Sprintf(settings, "udp"), 1400, espCulvert},
		{"UDP, IPv4, strongSwan", false, fmt.Sprintf(settings, "udp"), 1300, strongSwan},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			s := newNarrowSite(t, ctx, c)
			s.router.Run("nft", "add", "table", "inet", "silent")
			s.router.Run("nft", "add", "chain", "inet", "silent", "out", "{ type filter hook output priority 0 ; }")
			for _, rule := range []string{"icmp type destination-unreachable", "icmpv6 type packet-too-big"} {
				s.router.Run("nft", "add rule inet silent out "+rule+" drop")
			}
			if err := s.eh.Transfer(ctx, netip.MustParseAddr("10.1.0.2"), s.wh, netip.MustParseAddr("10.2.0.2"), 2_000_000); err != nil {
				t.Error(err)
			}
			if n := s.eastCulvert.Counter(ctx, "rx-icmp-too-big"); n != 0 {
				t.Errorf("the router has said %d times what it should not", n)
			}
			least := map[int]int{1300: 1280, 1400: 1400}[c.mtu]
			var x control.PeerExplanation
			out, err := s.eastCulvert.Command(ctx, "explain", "peer", "p", "--json")
			if err == nil {
				err = json.Unmarshal(out, &x)
			}
			if err != nil || len(x.SAs) != 1 || x.SAs[0].PathMTU != least || x.SAs[0].Measured != least {
				t.Errorf("explain peer: %v, %s", err, out)
			}
			if n := strings.Count(s.eastCulvert.Log(), "path-mtu"); n != 1 {
				t.Errorf("the log has path-mtu %d times", n)
			}
			if n := strings.Count(s.eastCulvert.Log(), "ike-up"); n != 1 {
				t.Errorf("%d IKE SAs", n)
			}
		})
	}
}
