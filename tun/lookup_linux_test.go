package tun

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// The kernel is asked which way it leads a packet: with the device by which it comes,
// its mark, and what rules know of it.
func TestLookup(t *testing.T) {
	lone(t)
	for _, c := range []string{
		"ip link add lan0 type veth peer name lan1", "ip addr add 10.1.0.1/24 dev lan0", "ip link set lan0 up", "ip link set lan1 up",
		"ip link add up0 type veth peer name up1", "ip addr add 192.0.2.1/24 dev up0", "ip link set up0 up", "ip link set up1 up",
		"ip route add default via 192.0.2.254", "sysctl -qw net.ipv4.ip_forward=1",
		"ip addr add 2001:db8:1::1/64 dev lan0 nodad", "ip addr add 2001:db8:ff::1/64 dev up0 nodad", "ip -6 route add default via 2001:db8:ff::254",
		"sysctl -qw net.ipv6.conf.all.forwarding=1",
	} {
		run(t, c)
	}
	settled(t)
	h := newHost(t)
	plan := Plan{Routes: []Route{route("10.1.0.0/24", "10.2.0.0/24"), route("2001:db8:1::/64", "2001:db8:2::/64"),
		{Local: netip.MustParsePrefix("10.1.0.0/24"), Remote: netip.MustParsePrefix("10.3.0.0/24"), Proto: 6, RemotePort: 80}}}
	if err := h.Apply(plan); err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr
	own := func(src, dst string) Query { return Query{Src: addr(src), Dst: addr(dst)} }
	from := func(in, src, dst string) Query { return Query{Src: addr(src), Dst: addr(dst), In: in} }
	tcp := func(q Query, port uint16) Query {
		q.Proto, q.SrcPort, q.DstPort = 6, 5000, port
		return q
	}
	check := func(when string, cases map[string]struct {
		q    Query
		want Decision
	}) {
		t.Helper()
		for name, c := range cases {
			w, err := h.(Prober).Lookup(c.q)
			w.Src = netip.Addr{}
			if err != nil || w != c.want {
				t.Errorf("%s, %s: %+v, %v, want %+v", when, name, w, err, c.want)
			}
		}
	}
	type row = struct {
		q    Query
		want Decision
	}
	device, router := Decision{Device: "culvert0", Table: DefaultTable}, Decision{Device: "up0", Table: 254, Gateway: addr("192.0.2.254")}
	marked := own("10.1.0.1", "10.2.0.9")
	marked.Mark = DefaultMark
	check("as planned", map[string]row{
		"a host behind us":           {from("lan0", "10.1.0.7", "10.2.0.9"), device},
		"a host behind us, IPv6":     {from("lan0", "2001:db8:1::7", "2001:db8:2::9"), device},
		"we ourselves":               {own("10.1.0.1", "10.2.0.9"), device},
		"source not chosen":          {Query{Dst: addr("10.2.0.9")}, device},
		"the gateway's own":          {marked, router},
		"another destination":        {from("lan0", "10.1.0.7", "10.4.0.9"), router},
		"a port of the policy":       {tcp(from("lan0", "10.1.0.7", "10.3.0.9"), 80), device},
		"another port":               {tcp(from("lan0", "10.1.0.7", "10.3.0.9"), 81), router},
		"for us":                     {from("lan0", "10.1.0.7", "10.1.0.1"), Decision{Device: "lo", Table: 255, Local: true}},
		"a broadcast":                {own("10.1.0.1", "10.1.0.255"), Decision{Device: "lan0", Table: 255, Broadcast: true}},
		"out of the device to a LAN": {from("culvert0", "10.2.0.9", "10.1.0.7"), Decision{Device: "lan0", Table: 254}},
	})
	run(t, "ip link set culvert0 down")
	run(t, "ip route add prohibit 192.0.2.77/32")
	nowhere := Decision{Nowhere: "unreachable"}
	check("device down", map[string]row{
		"a host behind us": {from("lan0", "10.1.0.7", "10.2.0.9"), nowhere},
		"prohibited":       {from("lan0", "10.1.0.7", "192.0.2.77"), Decision{Nowhere: "a route or rule prohibits it"}},
	})
	if w, err := h.(Prober).Lookup(from("lan0", "2001:db8:1::7", "2001:db8:2::9")); err != nil || w.Nowhere != "unreachable" {
		t.Errorf("IPv6, device down: %+v, %v", w, err)
	}
	run(t, "ip link set culvert0 up")
	run(t, "ip rule add pref 5 ipproto tcp sport 5000 lookup 77")
	run(t, "ip route add prohibit default table 77")
	prohibited := Decision{Nowhere: "a route or rule prohibits it"}
	noPort := tcp(from("lan0", "10.1.0.7", "10.4.0.9"), 80)
	noPort.SrcPort = 0
	check("a rule for a source port", map[string]row{
		"that port": {tcp(from("lan0", "10.1.0.7", "10.4.0.9"), 80), prohibited},
		"any port":  {noPort, router},
	})
	if _, err := h.(Prober).Lookup(from("nodev", "10.1.0.7", "10.2.0.9")); err == nil || !strings.Contains(err.Error(), "nodev") {
		t.Errorf("a device that is not there: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if w, err := h.(Prober).Lookup(own("10.1.0.1", "10.2.0.9")); !errors.Is(err, os.ErrClosed) || w != (Decision{}) {
		t.Errorf("after Close: %+v, %v", w, err)
	}
}
