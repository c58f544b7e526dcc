package view

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"culvert/config"
	"culvert/internal/operate/control"
	"culvert/tun"
)

// prober is a host's kernel as explain asks it for routes.
type prober func(tun.Query) tun.Decision

func (p prober) Lookup(q tun.Query) (tun.Decision, error) { return p(q), nil }

// The gateway's own packets must not enter its tunnel.
func TestExplainTheRouteToAPeer(t *testing.T) {
	cfg, _, err := config.Parse("test.toml", []byte("[[peer]]\nname = \"other\"\naddress = \"192.0.2.2\"\nexchange-mode = \"ike2\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	const mark = 0xC0150
	var asked []tun.Query
	h := &Host{Device: "culvert0", Mark: mark, Prober: prober(func(q tun.Query) tun.Decision {
		asked = append(asked, q)
		return tun.Decision{Device: "eth0", Table: 254, Gateway: netip.MustParseAddr("192.0.2.254"), Src: netip.MustParseAddr("192.0.2.1")}
	}), Differences: func() []string { return []string{"rule 10000 was removed"} }}
	x := control.PeerExplanation{Peer: "other", SAs: []control.PeerSA{{RemoteAddress: "192.0.2.77:4500"}, {RemoteAddress: "192.0.2.2:500"}}}
	h.peers(&x, cfg)
	if want := []string{"the kernel routes IKE and ESP to 192.0.2.2 to eth0 via 192.0.2.254, table 254, from 192.0.2.1",
		"the kernel routes IKE and ESP to 192.0.2.77 to eth0 via 192.0.2.254, table 254, from 192.0.2.1",
		"this host is not as the gateway has set it up, and the gateway is repairing it: rule 10000 was removed"}; !slices.Equal(x.Host, want) {
		t.Errorf("%q", x.Host)
	}
	if want := (tun.Query{Dst: netip.MustParseAddr("192.0.2.2"), Mark: mark}); !slices.Contains(asked, want) {
		t.Errorf("asked %+v, want %+v among them", asked, want)
	}
	h.Prober = prober(func(tun.Query) tun.Decision { return tun.Decision{Device: "culvert0", Table: 50500} })
	h.peers(&x, cfg)
	if !strings.Contains(x.Host[0], "their own tunnel") {
		t.Errorf("%q", x.Host)
	}
}
