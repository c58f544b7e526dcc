package underlay

import (
	"net/netip"
	"testing"
)

// Packets of an uplink whose route was withdrawn would leave by the other, with an address that is not that one's.
func TestStrays(t *testing.T) {
	isolateBoth(t, "ip link set lo up",
		"ip link add d0 type veth peer name d1", "ip link set d1 up", "ip link set d0 up", "ip addr add 10.0.0.1/24 dev d0", "ip addr add fd01::1/64 dev d0 nodad",
		"ip link add e0 type veth peer name e1", "ip link set e1 up", "ip link set e0 up", "ip addr add 10.9.0.1/24 dev e0", "ip addr add fd09::1/64 dev e0 nodad",
		"ip route add 10.1.0.0/24 via 10.0.0.2", "ip route add 10.2.0.0/24 via 10.9.0.2", "ip route add fd02::/64 via fd09::2",
		"ip route add 10.4.0.0/24 nexthop via 10.9.0.2 nexthop via 10.0.0.2",
		"ip route add 10.5.0.0/24 via 10.9.0.2", "ip route add 10.5.0.0/24 via 10.0.0.2 table 7", "ip rule add from 10.0.0.1 lookup 7",
		"ip route add 10.6.0.0/24 via 10.9.0.2", "ip route add 10.6.0.0/24 via 10.0.0.2 table 8", "ip rule add fwmark 5 lookup 8")
	for _, c := range []struct {
		local, remote string
		mark          uint32
		want          bool
	}{
		{"10.0.0.1", "10.1.0.2", 0, false},
		{"10.0.0.1", "10.2.0.2", 0, true},
		{"10.9.0.1", "10.2.0.2", 0, false},
		{"10.0.0.1", "10.3.0.2", 0, true}, // nothing leads there
		{"10.0.0.1", "10.4.0.2", 0, false},
		{"10.0.0.1", "10.5.0.2", 0, false}, // a rule leads it by its own link
		{"10.0.0.1", "10.6.0.2", 0, true},
		{"10.0.0.1", "10.6.0.2", 5, false},
		{"fd01::1", "fd02::2", 0, true},
		{"fd09::1", "fd02::2", 0, false},
	} {
		if got := Strays(netip.MustParseAddr(c.local), netip.MustParseAddr(c.remote), c.mark); got != c.want {
			t.Errorf("from %s to %s with mark %d: %v, want %v", c.local, c.remote, c.mark, got, c.want)
		}
	}
}

func TestLinkMTU(t *testing.T) {
	isolateBoth(t, "ip link set lo mtu 1500 up",
		"ip link add d0 type veth peer name d1", "ip link set d1 up", "ip link set d0 mtu 1400 up", "ip addr add 10.0.0.1/24 dev d0", "ip addr add fd01::1/64 dev d0 nodad",
		"ip route add 10.1.0.0/24 via 10.0.0.2", "ip route add 10.2.0.0/24 via 10.0.0.2 mtu 1300", "ip route add fd02::/64 dev d0 mtu 1290",
		"ip route add 10.3.0.0/24 dev lo table 7", "ip rule add fwmark 5 lookup 7", "ip route add 10.4.0.0/24 nexthop via 10.0.0.2 nexthop via 10.0.0.3")
	for _, c := range []struct {
		local, remote string
		mark          uint32
		want          int
	}{
		{"127.0.0.1", "127.0.0.2", 0, 1500},
		{"10.0.0.1", "10.0.0.2", 0, 1400},
		{"0.0.0.0", "10.1.0.2", 0, 1400},
		{"10.0.0.1", "10.2.0.2", 0, 1300},
		{"10.0.0.1", "10.4.0.2", 0, 1400},
		{"10.0.0.1", "10.3.0.2", 0, 0},
		{"10.0.0.1", "10.3.0.2", 5, 1500},
		{"fd01::1", "fd01::2", 0, 1400},
		{"::", "fd02::2", 0, 1290},
		{"10.0.0.1", "192.0.2.1", 0, 0},
	} {
		if got := LinkMTU(netip.MustParseAddr(c.local), netip.MustParseAddr(c.remote), c.mark); got != c.want {
			t.Errorf("from %s to %s with mark %d: %d, want %d", c.local, c.remote, c.mark, got, c.want)
		}
	}
}
