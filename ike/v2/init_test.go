package v2

import (
	"net/netip"
	"testing"

	"culvert/ike/core"
)

// The peer whose address is the longest prefix is chosen, wherever it stands in the table; at the same length the
// first. A peer with local-address is one only for what comes there.
func TestFindPeer(t *testing.T) {
	peer := func(name, address, local string) *core.Peer {
		p := &core.Peer{Name: name, Version: core.IKEv2}
		if address != "" {
			p.Address = netip.MustParsePrefix(address)
		}
		if local != "" {
			p.Local = netip.MustParseAddr(local)
		}
		return p
	}
	named := peer("by name", "", "")
	named.DNSName = "gw.example.net"
	cfg := &core.Config{Peers: []*core.Peer{
		peer("anybody", "0.0.0.0/0", ""), peer("anybody else", "0.0.0.0/0", ""), peer("any IPv6", "::/0", ""),
		peer("net", "192.0.2.0/24", ""), peer("host there", "192.0.2.7/32", "203.0.113.1"), peer("half", "192.0.2.0/25", ""), named,
		{Name: "of another version", Address: netip.MustParsePrefix("192.0.2.8/32")},
	}}
	at := map[string]netip.Addr{"by name": netip.MustParseAddr("192.0.2.9")}
	for _, c := range []struct{ local, remote, want string }{
		{"203.0.113.2", "198.51.100.1", "anybody"},
		{"203.0.113.2", "192.0.2.200", "net"},
		{"203.0.113.2", "192.0.2.1", "half"},
		{"203.0.113.2", "::ffff:192.0.2.1", "half"},
		{"203.0.113.1", "192.0.2.7", "host there"},
		{"203.0.113.2", "192.0.2.7", "half"},
		{"203.0.113.2", "192.0.2.8", "half"},
		{"203.0.113.2", "192.0.2.9", "by name"},
		{"2001:db8::1", "2001:db8::2", "any IPv6"},
	} {
		if got := FindPeer(cfg, at, netip.MustParseAddr(c.local), netip.MustParseAddr(c.remote)); got == nil || got.Name != c.want {
			t.Errorf("%s to %s: %v, not %q", c.remote, c.local, got, c.want)
		}
	}
	cfg.Peers = cfg.Peers[3:4]
	if got := FindPeer(cfg, nil, netip.Addr{}, netip.MustParseAddr("198.51.100.1")); got != nil {
		t.Errorf("a stranger is %q", got.Name)
	}
}
