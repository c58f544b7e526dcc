package tun

import (
	"errors"
	"net/netip"
	"os"
	"slices"
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

// With many policies, among whose rules gates stand, the kernel leads every packet as the
// policies say, also after some of them have gone and somebody has removed a gate.
func TestLookupOfMany(t *testing.T) {
	lone(t)
	for _, c := range []string{
		"ip link add up0 type veth peer name up1", "ip addr add 192.0.2.1/24 dev up0", "ip addr add 2001:db8:ff::1/64 dev up0 nodad", "ip link set up0 up", "ip link set up1 up",
		"ip route add default via 192.0.2.254", "ip -6 route add default via 2001:db8:ff::254",
		"ip addr add 10.1.0.7/32 dev lo", "ip addr add 10.1.1.7/32 dev lo", "ip addr add 2001:db8:1::7/128 dev lo",
	} {
		run(t, c)
	}
	settled(t)
	const n = 300
	pair := func(i int, v6 bool) (local, remote netip.Addr) {
		if v6 {
			a, b := netip.MustParseAddr("2001:db8:1::").As16(), netip.MustParseAddr("2001:db8:2::").As16()
			a[14], a[15], b[14], b[15] = byte(i>>8), byte(i), byte(i>>8), byte(i)
			return netip.AddrFrom16(a), netip.AddrFrom16(b)
		}
		return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)})
	}
	var plan Plan
	for i := range n {
		for _, v6 := range []bool{false, true} {
			local, remote := pair(n-1-i, v6)
			plan.Routes = append(plan.Routes, Route{Local: netip.PrefixFrom(local, local.BitLen()), Remote: netip.PrefixFrom(remote, remote.BitLen())})
		}
	}
	h := newHost(t)
	check := func(when string, there int) {
		t.Helper()
		for i := range n {
			for _, v6 := range []bool{false, true} {
				_, remote := pair(i, v6)
				got, err := h.(Prober).Lookup(Query{Dst: remote})
				if own := i == 7 || i == 263 && !v6; err != nil || (got.Device == "culvert0") != (own && i < there) {
					t.Fatalf("%s: to %v leads to %+v, %v", when, remote, got, err)
				}
				// The kernel judges a source only where it is one of the host's, or comes by a device.
				local, _ := pair(7, v6)
				if got, err = h.(Prober).Lookup(Query{Src: local, Dst: remote}); err != nil || (got.Device == "culvert0") != (i == 7) {
					t.Fatalf("%s: from %v to %v leads to %+v, %v", when, local, remote, got, err)
				}
			}
		}
	}
	gates := func(family string) (prefs []string) {
		for line := range strings.Lines(run(t, "ip "+family+" rule")) {
			if pref, rest, _ := strings.Cut(line, ":"); strings.Contains(rest, "not from") {
				prefs = append(prefs, pref)
			}
		}
		return prefs
	}
	if err := h.Apply(plan); err != nil {
		t.Fatal(err)
	}
	before := gates("-4")
	if len(before) < 10 || len(gates("-6")) < 10 {
		t.Fatalf("gates: %d of IPv4, %d of IPv6", len(before), len(gates("-6")))
	}
	check("all", n)
	run(t, "ip rule del pref "+before[3])
	restored, _, err := h.(Watcher).Restore()
	if now := gates("-4"); err != nil || len(restored) != 1 || !strings.Contains(restored[0], "rule "+before[3]+": not ") || !slices.Equal(now, before) {
		t.Errorf("a gate was removed: %q, %v; gates %v, want %v", restored, err, now, before)
	}
	check("restored", n)
	plan.Routes = plan.Routes[2*(n-260):]
	if err := h.Apply(plan); err != nil {
		t.Fatal(err)
	}
	check("fewer", 260)
	const few = manyRules - 4 // and two rules for what the host itself sends
	plan.Routes = plan.Routes[2*(260-few):]
	if err := h.Apply(plan); err != nil {
		t.Fatal(err)
	}
	if len(gates("-4"))+len(gates("-6")) > 0 {
		t.Error("few policies have gates")
	}
	check("few", few)
}
