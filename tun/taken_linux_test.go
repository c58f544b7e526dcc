package tun

import (
	"strings"
	"testing"
)

// A rule in front of ours is warned of for packets that have to come to the device: not for those that a policy lets
// pass, nor for those that may go in clear. The first policy of the rest, of the rule's family, is named.
func TestWarnsForWhatHasToBeProtected(t *testing.T) {
	lone(t)
	for _, c := range []string{
		"sysctl -qw net.ipv4.ip_forward=1", "sysctl -qw net.ipv6.conf.all.forwarding=1", "ip link add lan0 type veth peer name lan1", "ip link set lan0 up", "ip link set lan1 up",
		"ip rule add pref 500 lookup 52", "ip -6 rule add pref 600 lookup 53", "ip route add default dev lan0 table 52", "ip -6 route add default dev lan0 table 53",
	} {
		run(t, c)
	}
	pass, use := route("10.1.0.0/24", "10.3.0.0/16"), route("10.1.0.0/24", "10.4.0.0/16")
	pass.Pass, use.Optional = true, true
	four, six := route("10.1.0.0/24", "10.2.0.0/16"), route("fd01::/64", "fd02::/64")
	h := newHost(t)
	for _, c := range []struct {
		what   string
		routes []Route
		names  []string // in the warnings, in their order
	}{
		{"what passes", []Route{pass}, nil},
		{"what may go in clear", []Route{use}, nil},
		{"what comes after them", []Route{pass, use, four}, []string{"preference 500 |10.1.0.0/24 => 10.2.0.0/16"}},
		{"IPv6", []Route{six}, []string{"preference 600 |fd01::/64 => fd02::/64"}},
		{"both", []Route{six, four}, []string{"preference 500 |10.1.0.0/24 => 10.2.0.0/16", "preference 600 |fd01::/64 => fd02::/64"}},
	} {
		if err := h.Apply(Plan{Routes: c.routes}); err != nil {
			t.Fatal(err)
		}
		got := h.(Warner).Warnings()
		if len(got) != len(c.names) {
			t.Errorf("%s: %q", c.what, got)
			continue
		}
		for i, parts := range c.names {
			for _, part := range strings.Split(parts, "|") {
				if !strings.Contains(got[i], part) {
					t.Errorf("%s: no %q in %s", c.what, part, got[i])
				}
			}
		}
	}
}
