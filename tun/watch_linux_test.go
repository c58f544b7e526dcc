package tun

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// everything is a plan with all kinds of things that a plan puts into the host.
func everything() Plan {
	return Plan{
		Routes:    []Route{route("10.9.0.5/32", "10.2.0.0/24"), route("2001:db8:9::5/128", "2001:db8:2::/64"), route("10.1.0.0/24", "0.0.0.0/0")},
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.5/32"), netip.MustParsePrefix("2001:db8:9::5/128")},
		Bypass:    []uint16{500, 4500}, Protocols: []uint8{50}, MTU: 1380,
	}
}

// restore waits until a change is reported and has it put right. It returns what
// Restore says, in one text.
func restore(t *testing.T, h Host) string {
	t.Helper()
	awaitReport(t, h)
	what, _, err := h.(Watcher).Restore()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(what, "; ")
}

func awaitReport(t *testing.T, h Host) {
	t.Helper()
	select {
	case <-h.(Watcher).Changed():
	case <-time.After(limit):
		t.Fatal("no change was reported")
	}
}

// complete takes away the reports of what was done so far, none of which is a difference.
func complete(t *testing.T, h Host, name string) {
	t.Helper()
	for range 2 { // the second one may follow from the first
		if what, by, err := h.(Watcher).Restore(); err != nil || len(what) > 0 {
			t.Fatalf("before %q: %q differs, by %q, %v", name, what, by, err)
		}
		time.Sleep(10 * time.Millisecond) // for the reports: a late one costs a look in vain
		select {
		case <-h.(Watcher).Changed():
		default:
		}
	}
}

// deviceState is the state of the device's link and its addresses.
func deviceState(t *testing.T) string {
	t.Helper()
	settled(t)
	var lines []string
	for l := range strings.Lines(run(t, "ip -o link show dev culvert0") + run(t, "ip -o addr show dev culvert0")) {
		fields := strings.Fields(l)
		switch {
		case strings.Contains(l, "mtu"):
			lines = append(lines, strings.Join(fields[2:5], " "))
		case !strings.Contains(l, "fe80:"):
			lines = append(lines, fields[3])
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

// Each thing that others remove, change or add is noticed, named and put right, and
// everything else stays as it was.
func TestHostRestores(t *testing.T) {
	lone(t)
	run(t, "ip link add up0 type veth peer name up1")
	run(t, "ip addr add 192.0.2.1/24 dev up0")
	run(t, "ip link set up0 up")
	run(t, "ip link set up1 up")
	h := newHost(t)
	if err := h.Apply(everything()); err != nil {
		t.Fatal(err)
	}
	sorted := func() []string { // the kernel lists what came last in another place
		lines := snapshot(t)
		slices.Sort(lines)
		return lines
	}
	rules, dev := sorted(), deviceState(t)
	if !strings.Contains(dev, "10.9.0.5/32") || !strings.Contains(dev, "2001:db8:9::5/128") || !strings.Contains(dev, "mtu 1380") {
		t.Fatal(dev)
	}
	flushRules := "ip rule flush; ip rule add pref 32766 lookup main"
	for _, c := range []struct{ change, want string }{
		{fmt.Sprintf("ip rule del pref %d", DefaultPref), "rule 10000: fwmark 0xc0150 goto was removed"},
		{fmt.Sprintf("ip rule del pref %d", DefaultPref+PrefSpan), "rule 30000: ipproto 17 nop was removed"},
		{fmt.Sprintf("ip -6 rule del pref %d", DefaultPref), "rule 10000: fwmark 0xc0150 goto was removed"},
		{flushRules + "; ip rule add pref 32767 lookup default", "rules were removed (10000: fwmark 0xc0150 goto, "},
		{strings.ReplaceAll(flushRules, "ip rule", "ip -6 rule"), "rules were removed (10000: fwmark 0xc0150 goto, "},
		{fmt.Sprintf("ip rule add pref 10500 from 10.77.0.0/16 protocol %d lookup %d", Protocol, DefaultTable), "rule 10500: from 10.77.0.0/16 lookup was added with our protocol number"},
		{fmt.Sprintf("ip route flush table %d", DefaultTable), "3 routes were removed from table 50500 (0.0.0.0/0, 10.2.0.0/24, unreachable 0.0.0.0/0)"},
		{fmt.Sprintf("ip -6 route flush table %d", DefaultTable), "3 routes were removed from table 50500 (::/0, 2001:db8:2::/64, unreachable ::/0)"},
		{fmt.Sprintf("ip route del 10.2.0.0/24 table %d", DefaultTable), "route 10.2.0.0/24 was removed from table 50500"},
		{fmt.Sprintf("ip route del unreachable default table %d metric 4294967294", DefaultTable), "route unreachable 0.0.0.0/0 was removed from table 50500"},
		{fmt.Sprintf("ip route add 10.2.0.128/25 via 192.0.2.254 table %d", DefaultTable), "foreign route 10.2.0.128/25 via 192.0.2.254 (protocol boot) was added to table 50500"},
		{fmt.Sprintf("ip route replace default via 192.0.2.254 table %d", DefaultTable), "route 0.0.0.0/0 was removed from table 50500; foreign route default via 192.0.2.254 (protocol boot) was added to table 50500"},
		{fmt.Sprintf("ip route replace default via 192.0.2.254 table %d protocol %d", DefaultTable, Protocol), "route 0.0.0.0/0 was removed from table 50500; foreign route default via 192.0.2.254 (protocol 198) was added to table 50500"},
		{"ip addr del 10.9.0.5/32 dev culvert0", "address 10.9.0.5/32 of culvert0 was removed"},
		{"ip addr flush dev culvert0", "address 10.9.0.5/32 of culvert0 was removed; address 2001:db8:9::5/128 of culvert0 was removed"},
		{"ip link set culvert0 mtu 1300", "MTU of culvert0 was set to 1300"},
		{"ip link set culvert0 down", "device culvert0 was set down"},
		{"ip link set culvert0 down; ip link set culvert0 up", "routes were removed from table 50500 ("},
	} {
		complete(t, h, c.change)
		for _, one := range strings.Split(c.change, "; ") {
			run(t, one)
		}
		if got := restore(t, h); !strings.Contains(got, c.want) {
			t.Errorf("%s: said %q, want %q", c.change, got, c.want)
		}
		if now := sorted(); !slices.Equal(now, rules) {
			t.Fatalf("%s: there is\n%s\nwant\n%s", c.change, strings.Join(now, "\n"), strings.Join(rules, "\n"))
		}
		if now := deviceState(t); now != dev {
			t.Fatalf("%s: the device is %s, want %s", c.change, now, dev)
		}
	}
}

// An address inside Local came: that is the host's business and no difference, and the
// routes follow.
func TestHostFollowsAddresses(t *testing.T) {
	lone(t)
	h := newHost(t)
	if err := h.Apply(Plan{Routes: []Route{route("10.1.0.0/24", "10.2.0.0/24")}}); err != nil {
		t.Fatal(err)
	}
	complete(t, h, "an address came")
	run(t, "ip addr add 10.1.0.1/32 dev lo")
	if got := restore(t, h); got != "" {
		t.Errorf("it is taken for a difference: %q", got)
	}
	if out := run(t, fmt.Sprintf("ip route show table %d", DefaultTable)); !strings.Contains(out, "src 10.1.0.1") {
		t.Errorf("the routes do not follow: %s", out)
	}
}

// The kernel lists addresses by the index of their links: an address that we put
// on the device need not be the last, and it is there when the plan is applied again.
func TestHostKnowsItsOwnAddress(t *testing.T) {
	lone(t)
	h := newHost(t)
	run(t, "ip link add later type veth peer name later2")
	run(t, "ip addr add 10.7.0.1/32 dev later")
	run(t, "ip link set later up")
	plan := Plan{Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.5/32")}, Routes: []Route{route("10.9.0.5/32", "10.2.0.0/24")}}
	for _, name := range []string{"the first time", "again"} {
		if err := h.Apply(plan); err != nil {
			t.Fatal(err)
		}
		complete(t, h, name)
	}
}

// What an Apply puts right on its way is told by the next Restore all the same.
func TestHostTellsWhatApplyRestored(t *testing.T) {
	lone(t)
	h := newHost(t)
	plan := Plan{Routes: []Route{route("10.1.0.0/24", "10.2.0.0/24")}}
	if err := h.Apply(plan); err != nil {
		t.Fatal(err)
	}
	run(t, fmt.Sprintf("ip rule del pref %d", DefaultPref))
	if list, err := h.(Watcher).Differences(); err != nil || len(list) != 1 {
		t.Errorf("differences %q, %v", list, err)
	}
	if err := h.Apply(plan); err != nil {
		t.Fatal(err)
	}
	if list, err := h.(Watcher).Differences(); err != nil || len(list) != 0 {
		t.Errorf("differences after Apply %q, %v", list, err)
	}
	if got := restore(t, h); !strings.Contains(got, "rule 10000") {
		t.Errorf("said %q", got)
	}
}

// ours are the IPv4 rules and routes of the host's table.
func ours(t *testing.T) (text string) {
	t.Helper()
	for l := range strings.Lines(run(t, "ip -4 -N rule") + run(t, fmt.Sprintf("ip -4 -N route show table %d", DefaultTable))) {
		if !strings.Contains(l, ":") || strings.Contains(l, fmt.Sprint(DefaultTable)) {
			text += l
		}
	}
	return text
}

// One thing that cannot be put right does not keep the others from it: without IPv6 on
// the device, and without the device, what keeps packets from leaving in clear comes back.
func TestHostRestoresWhatItCan(t *testing.T) {
	lone(t)
	h := newHost(t)
	if err := h.Apply(everything()); err != nil {
		t.Fatal(err)
	}
	before, dev := ours(t), deviceState(t)
	flush := func() {
		for _, family := range []string{"-4", "-6"} {
			run(t, "ip "+family+" rule flush")
			run(t, fmt.Sprintf("ip %s route flush table %d", family, DefaultTable))
		}
	}
	run(t, "sysctl -qw net.ipv6.conf.culvert0.disable_ipv6=1")
	flush()
	if _, _, err := h.(Watcher).Restore(); err == nil || !strings.Contains(err.Error(), "disable_ipv6") {
		t.Errorf("without IPv6: %v", err)
	}
	if now := ours(t); now != before {
		t.Errorf("without IPv6 there is\n%s\nwant\n%s", now, before)
	}
	run(t, "sysctl -qw net.ipv6.conf.culvert0.disable_ipv6=0")
	for _, family := range []string{"-4", "-6"} {
		run(t, "ip "+family+" rule add pref 32766 lookup main")
	}
	if _, _, err := h.(Watcher).Restore(); err != nil {
		t.Error(err)
	}
	if now := deviceState(t); now != dev {
		t.Errorf("the device is %s, want %s", now, dev)
	}
	run(t, "ip link del culvert0")
	flush()
	if what, _, err := h.(Watcher).Restore(); err == nil || !strings.Contains(err.Error(), "culvert0") || !slices.Contains(what, "device culvert0 is gone") {
		t.Errorf("without the device: %q, %v", what, err)
	}
	for _, family := range []string{"-4", "-6"} {
		if out := run(t, "ip "+family+" rule"); !strings.Contains(out, fmt.Sprint(DefaultTable)) {
			t.Errorf("there are no rules without the device: %s", out)
		}
		if out := run(t, fmt.Sprintf("ip %s route show table %d", family, DefaultTable)); !strings.Contains(out, "unreachable default") {
			t.Errorf("no unreachable route without the device: %s", out)
		}
	}
}

// Whoever changes something else is not heard.
func TestMatters(t *testing.T) {
	o := Options{Device: "culvert0", Table: 777}
	routeMessage := func(table, protocol byte) []byte {
		return []byte{unix.AF_INET, 0, 0, 0, table, protocol, 0, 1, 0, 0, 0, 0}
	}
	link := func(change uint32, name string) []byte {
		b := append(make([]byte, 12), byte(change), byte(change>>8), byte(change>>16), byte(change>>24))
		a := append([]byte{byte(5 + len(name)), 0, unix.IFLA_IFNAME, 0}, name...)
		for a = append(a, 0); len(a)%4 != 0; {
			a = append(a, 0)
		}
		return append(b, a...)
	}
	long := append(routeMessage(252, unix.RTPROT_BOOT), 8, 0, unix.RTA_TABLE, 0, 9, 3, 0, 0) // 777
	for name, c := range map[string]struct {
		kind uint16
		data []byte
		want bool
	}{
		"a rule":                    {unix.RTM_DELRULE, nil, true},
		"an address":                {unix.RTM_NEWADDR, nil, true},
		"a route of ours":           {unix.RTM_DELROUTE, long, true},
		"a route of a daemon":       {unix.RTM_NEWROUTE, routeMessage(unix.RT_TABLE_MAIN, unix.RTPROT_ZEBRA), false},
		"a connected route":         {unix.RTM_NEWROUTE, routeMessage(unix.RT_TABLE_MAIN, unix.RTPROT_KERNEL), true},
		"a short message":           {unix.RTM_NEWROUTE, nil, false},
		"a short message of a link": {unix.RTM_NEWLINK, make([]byte, 15), false},
		"our device":                {unix.RTM_NEWLINK, link(0, "culvert0"), true},
		"another device":            {unix.RTM_NEWLINK, link(0, "wlan0"), false},
		"another device goes down":  {unix.RTM_NEWLINK, link(unix.IFF_UP, "wlan0"), true},
		"a neighbour":               {unix.RTM_NEWNEIGH, nil, false},
	} {
		if got := o.matters(c.kind, c.data); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
