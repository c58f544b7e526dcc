package tun

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// The networks on links are those whose routes the kernel made for an address of the host: not the device's own,
// no public one, and none that has a router.
func TestLANs(t *testing.T) {
	lone(t)
	for _, c := range []string{
		"ip link add lan0 type veth peer name lan1", "ip link set lan0 up", "ip link set lan1 up", "ip link set culvert0 up",
		"ip addr add 192.168.1.50/24 dev lan0", "ip addr add fd01::50/64 dev lan0 nodad",
		"ip addr add 203.0.113.5/24 dev lan0", "ip addr add 2001:db8:1::5/64 dev lan0 nodad",
		"ip addr add 10.9.0.1/24 dev culvert0", "ip addr add fd09::1/64 dev culvert0 nodad",
		"ip route add 192.168.3.0/24 via 192.168.1.1 proto kernel", "ip -6 route add fd03::/64 via fd01::1 dev lan0 proto kernel",
		"ip route add 192.168.4.0/24 proto kernel nexthop via 192.168.1.1 nexthop via 192.168.1.2",
		"ip -6 route add fd04::/64 proto kernel nexthop via fd01::1 dev lan0 nexthop via fd01::2 dev lan0",
		"ip route add 192.168.5.0/24 dev lan0 proto static scope link", "ip -6 route add fd05::/64 dev lan0 proto static",
	} {
		run(t, c)
	}
	for device, want := range map[string][]string{
		"culvert0": {"192.168.1.0/24", "fd01::/64"}, "lan0": {"10.9.0.0/24", "fd09::/64"}, "none": {"10.9.0.0/24", "192.168.1.0/24", "fd01::/64", "fd09::/64"},
	} {
		list, err := LANs(device)
		var got []string
		for _, p := range list {
			if p != netip.MustParsePrefix("fe80::/64") {
				got = append(got, p.String())
			}
		}
		if slices.Sort(got); err != nil || !slices.Equal(got, want) {
			t.Errorf("without those of %s: %v, %v, want %v", device, got, err, want)
		}
	}
}

// Of two links with the same network the one with the better metric has it, in whichever order they are.
func TestLANsOfTwoLinks(t *testing.T) {
	lone(t)
	for i, metrics := range [][2]int{{100, 200}, {200, 100}} {
		for n, metric := range metrics {
			run(t, fmt.Sprintf("ip link add lan%d%d type veth peer name far%d%d", i, n, i, n))
			run(t, fmt.Sprintf("ip link set lan%d%d up", i, n))
			run(t, fmt.Sprintf("ip addr add 192.168.%d.5%d/24 dev lan%d%d metric %d", i, n, i, n, metric))
		}
	}
	k, err := newKernel(Options{Device: "culvert0", Table: 777, Pref: 10000})
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	lans, err := k.allLANs()
	if err != nil {
		t.Fatal(err)
	}
	for net, want := range map[string]string{"192.168.0.0/24": "192.168.0.50", "192.168.1.0/24": "192.168.1.51"} {
		if got := lans[netip.MustParsePrefix(net)].src.String(); got != want {
			t.Errorf("%s is by %s, want %s", net, got, want)
		}
	}
}
