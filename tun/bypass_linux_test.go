package tun

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// client is a host (the test's own thread) in a private LAN whose DHCP server and
// router are hostile, with a tunnel to everywhere and an address of the gateway's.
//
//	culvert0 10.9.0.5   lan0 192.168.1.50 ── LAN: 192.168.1.1, .66
type client struct {
	host Host
	lan  space
}

var leased = Plan{
	Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.5/32"), netip.MustParsePrefix("fd99::5/128")},
	Routes:    []Route{route("10.9.0.5/32", "0.0.0.0/0"), route("fd99::5/128", "::/0")},
	Bypass:    []uint16{500, 4500},
}

func newClient(t *testing.T) *client {
	isolate(t)
	c := &client{lan: newSpace(t)}
	for _, command := range []string{
		fmt.Sprintf("ip link add lan0 type veth peer name eth0 netns %d", c.lan.pid),
		"ip addr add 192.168.1.50/24 dev lan0", "ip addr add fd01::50/64 dev lan0 nodad", "ip addr add 2001:db8:7::50/64 dev lan0 nodad", "ip link set lan0 up",
		"ip route add default via 192.168.1.1", "ip -6 route add default via fd01::1",
		c.lan.command("ip addr add 192.168.1.1/24 dev eth0"), c.lan.command("ip addr add fd01::1/64 dev eth0 nodad"), c.lan.command("ip addr add fe80::66/64 dev eth0 nodad"), c.lan.command("ip link set eth0 up"),
		c.lan.command("ip addr add 198.51.100.1/32 dev lo"),
	} {
		run(t, command)
	}
	dev, err := Create("culvert0", 1400)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	c.host = newHost(t)
	return c
}

// way is where the system would send a packet: a device, or its refusal.
func way(t *testing.T, query string) string {
	t.Helper()
	args := strings.Fields("ip route get " + query)
	if strings.Contains(query, ":") {
		args = strings.Fields("ip -6 route get " + query)
	}
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	fields := strings.Fields(string(out))
	for i, f := range fields {
		if f == "dev" && i+1 < len(fields) {
			return fields[i+1]
		}
	}
	if err == nil {
		t.Fatalf("ip route get %s: %s", query, out)
	}
	return strings.TrimSpace(string(out))
}

func ways(t *testing.T, when, want string, queries ...string) {
	t.Helper()
	for _, q := range queries {
		if got := way(t, q); got != want {
			t.Errorf("%s, %s: goes to %s, want %s", when, q, got, want)
		}
	}
}

// hostile is what a DHCP server or a router advertisement can put into the main
// table so that packets leave past the tunnel: halves of everything, one host, a
// classless static route without a router, a better metric, a route of its own.
var hostile = []string{
	"ip route add 0.0.0.0/1 via 192.168.1.66 proto dhcp",
	"ip route add 128.0.0.0/1 via 192.168.1.66 proto dhcp",
	"ip route add 198.51.100.1/32 via 192.168.1.66 proto dhcp metric 1",
	"ip route add 203.0.113.0/24 dev lan0 proto dhcp scope link",
	"ip route add 192.168.1.77/32 via 192.168.1.66 proto dhcp",
	"ip -6 route add ::/1 via fe80::66 dev lan0 proto ra",
	"ip -6 route add 8000::/1 via fe80::66 dev lan0 proto ra",
	"ip -6 route add 2001:db8:5::1/128 via fe80::66 dev lan0 proto ra metric 1",
	"ip -6 route add 2001:db8:6::/64 dev lan0 proto ra",
	"ip -6 route add fd01::77/128 via fe80::66 dev lan0 proto ra",
}

// remotes are far; near is in the LAN.
var (
	remotes = []string{"198.51.100.1", "203.0.113.9", "8.8.8.8", "192.168.7.7", "2001:db8:5::1", "2001:db8:6::9", "2600::1"}
	near    = []string{"192.168.1.1", "fd01::1"}
)

func TestFullTunnelAgainstRoutesOfOthers(t *testing.T) {
	c := newClient(t)
	for _, bypass := range []bool{false, true} {
		plan := leased
		plan.LANBypass = bypass
		if err := c.host.Apply(plan); err != nil {
			t.Fatal(err)
		}
		lan := map[bool]string{false: "culvert0", true: "lan0"}[bypass]
		when := fmt.Sprintf("lan-bypass %v", bypass)
		ways(t, when, "culvert0", remotes...)
		ways(t, when, lan, near...)
		// A public prefix of the link is no LAN of ours.
		ways(t, when, "culvert0", "2001:db8:7::1")
		for _, h := range hostile {
			run(t, h)
		}
		when += ", hostile routes"
		ways(t, when, "culvert0", remotes...)
		ways(t, when, lan, near...)
		if bypass { // these the LAN has itself, and no router
			ways(t, when, "lan0", "192.168.1.77", "fd01::77")
			for _, to := range []string{"192.168.1.77", "fd01::77"} {
				if out := run(t, "ip route get "+to); strings.Contains(out, "via") {
					t.Errorf("%s, %s: by a router: %s", when, to, out)
				}
			}
		} else {
			ways(t, when, "culvert0", "192.168.1.77", "fd01::77")
		}
		for _, h := range hostile {
			run(t, strings.Replace(h, "route add", "route del", 1))
		}
	}
}

// A route by a router that somebody adds without naming a link, as people do, leads
// to the router's link and not to our device: the gateway's own packets need it.
func TestRoutersStayOnTheirLinks(t *testing.T) {
	c := newClient(t)
	if err := c.host.Apply(leased); err != nil {
		t.Fatal(err)
	}
	run(t, "ip route add 0.0.0.0/1 via 192.168.1.66")
	run(t, "ip -6 route add 2000::/4 via fd01::66")
	ways(t, "the gateway's own", "lan0", fmt.Sprintf("198.51.100.1 mark %#x", DefaultMark), fmt.Sprintf("2001:db8:5::1 mark %#x", DefaultMark), fmt.Sprintf("8.8.8.8 mark %#x", DefaultMark))
	ways(t, "all else", "culvert0", "198.51.100.1", "8.8.8.8", "2001:db8:5::1")
}

// What every link needs goes on: DHCP renewal, multicast, link-local addresses,
// loopback, and the gateway's own packets.
func TestFullTunnelLeavesTheLinkAtWork(t *testing.T) {
	c := newClient(t)
	if err := c.host.Apply(leased); err != nil {
		t.Fatal(err)
	}
	ways(t, "DHCP renewal", "lan0", "192.168.1.1 ipproto udp sport 68 dport 67", "198.51.100.1 ipproto udp sport 68 dport 67", "255.255.255.255 ipproto udp sport 68 dport 67")
	ways(t, "something else than DHCP", "culvert0", "192.168.1.1 ipproto udp sport 68 dport 53", "192.168.1.1 ipproto tcp sport 68 dport 67", "192.168.1.1 ipproto udp sport 69 dport 67")
	ways(t, "DHCPv6", "lan0", "fd01::1 ipproto udp sport 546 dport 547")
	ways(t, "something else than DHCPv6", "culvert0", "fd01::1 ipproto udp sport 546 dport 53")
	ways(t, "multicast", "lan0", "224.0.0.251", "239.255.255.250", "255.255.255.255", "ff02::fb oif lan0")
	ways(t, "link-local", "lan0", "fe80::66 oif lan0")
	ways(t, "loopback", "lo", "127.0.0.1", "::1", "192.168.1.50", "fd01::50")
	ways(t, "the gateway's own", "lan0", fmt.Sprintf("198.51.100.1 mark %#x", DefaultMark), fmt.Sprintf("2001:db8:5::1 mark %#x", DefaultMark))
	mustPing(t, "link-local", "", "fe80::66%lan0")
}

// The LAN may be the attacker's choice: everything, a public network, or one that
// covers a network that another policy protects.
func TestFullTunnelInAHostileLAN(t *testing.T) {
	c := newClient(t)
	plan := leased
	plan.LANBypass = true
	plan.Routes = append([]Route{route("10.9.0.5/32", "0.0.0.0/0"), route("fd99::5/128", "::/0")}, route("10.9.0.5/32", "10.20.0.0/16"), route("fd99::5/128", "fd20::/32"))
	if err := c.host.Apply(plan); err != nil {
		t.Fatal(err)
	}
	changed := func(commands ...string) {
		t.Helper()
		for _, command := range commands {
			run(t, command)
		}
		select {
		case <-c.host.(Watcher).Changed():
		case <-time.After(limit):
			t.Fatalf("%q was not noticed", commands)
		}
		if _, _, err := c.host.(Watcher).Restore(); err != nil {
			t.Fatal(err)
		}
	}
	changed("ip addr add 10.77.0.1/1 dev lan0")
	ways(t, "half of everything", "culvert0", "10.20.0.1", "8.8.8.8", "10.77.0.2", "100.64.0.1")
	ways(t, "half of everything", "lan0", "192.168.1.1")
	changed("ip addr del 10.77.0.1/1 dev lan0", "ip addr add 8.8.8.1/24 dev lan0")
	ways(t, "a public network", "culvert0", "8.8.8.8")
	changed("ip addr del 8.8.8.1/24 dev lan0", "ip addr add 10.77.0.1/8 dev lan0", "ip addr add fd77::1/8 dev lan0 nodad")
	ways(t, "a network around a protected one", "culvert0", "10.20.0.1", "10.20.255.255", "fd20::1")
	ways(t, "a network around a protected one", "lan0", "10.77.0.2", "10.21.0.1", "fd77::2")
	changed("ip addr del 10.77.0.1/8 dev lan0", "ip addr add 10.20.5.1/24 dev lan0")
	ways(t, "a network inside a protected one", "culvert0", "10.20.5.7", "10.20.0.1")
	changed("ip addr del 10.20.5.1/24 dev lan0", "ip link set lan0 down")
	ways(t, "no LAN", "culvert0", "192.168.1.1", "fd01::1", "10.77.0.2", "8.8.8.8")
}

// A site gateway of everything reaches its private links, and nothing by a router.
func TestEverythingToEverythingKeepsThePrivateLinks(t *testing.T) {
	c := newClient(t)
	run(t, "sysctl -qw net.ipv4.ip_forward=1")
	plan := Plan{Routes: []Route{route("0.0.0.0/0", "0.0.0.0/0"), route("::/0", "::/0")}, LANBypass: true}
	if err := c.host.Apply(plan); err != nil {
		t.Fatal(err)
	}
	for _, h := range hostile {
		run(t, h)
	}
	for _, from := range []string{"", " from 192.168.1.50", " from 203.0.113.5 iif lan0"} {
		if got := way(t, "192.168.1.1"+from); got != "lan0" {
			t.Errorf("to the LAN%s: %s", from, got)
		}
		for _, to := range []string{"198.51.100.1", "203.0.113.9", "8.8.8.8"} {
			if got := way(t, to+from); got != "culvert0" {
				t.Errorf("to %s%s: %s", to, from, got)
			}
		}
	}
	ways(t, "DHCP renewal", "lan0", "192.168.1.1 from 192.168.1.50 ipproto udp sport 68 dport 67", "198.51.100.1 from 192.168.1.50 ipproto udp sport 68 dport 67")
	plan.LANBypass = false
	if err := c.host.Apply(plan); err != nil {
		t.Fatal(err)
	}
	ways(t, "without lan-bypass", "culvert0", "192.168.1.1", "192.168.1.1 from 192.168.1.50", "fd01::1")
}

// A host whose own address has a tunnel to everywhere still reaches its LAN, where
// that is allowed, from that address, too.
func TestOwnAddressToEverywhereReachesTheLAN(t *testing.T) {
	c := newClient(t)
	plan := Plan{Routes: []Route{route("192.168.1.50/32", "0.0.0.0/0"), route("fd01::50/128", "::/0")}, LANBypass: true}
	if err := c.host.Apply(plan); err != nil {
		t.Fatal(err)
	}
	ways(t, "the LAN", "lan0", "192.168.1.1", "192.168.1.1 from 192.168.1.50", "fd01::1", "fd01::1 from fd01::50")
	ways(t, "all else", "culvert0", "8.8.8.8", "8.8.8.8 from 192.168.1.50", "2600::1", "2600::1 from fd01::50")
	plan.LANBypass = false
	if err := c.host.Apply(plan); err != nil {
		t.Fatal(err)
	}
	ways(t, "the LAN, without lan-bypass", "culvert0", "192.168.1.1", "192.168.1.1 from 192.168.1.50", "fd01::1", "fd01::1 from fd01::50")
}
