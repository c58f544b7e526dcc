package tun

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func pfx(s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	return netip.MustParsePrefix(s)
}

func TestCompile(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:ff::1")}
	unset := pfx("0.0.0.0/32")
	dhcp := rule{act: toEnd, own: true, proto: 17, sport: 68, dport: 67}
	multicast, broadcast := rule{act: toEnd, own: true, to: pfx("224.0.0.0/4")}, rule{act: toEnd, own: true, to: pfx("255.255.255.255/32")}
	tests := []struct {
		name   string
		route  Route
		want   []rule
		routes map[string]string
	}{
		{"site to site", Route{Local: pfx("10.1.0.0/24"), Remote: pfx("10.2.0.0/24")}, []rule{
			{act: toTable, from: pfx("10.1.0.0/24"), to: pfx("10.2.0.0/24")},
			{act: toTable, from: unset, to: pfx("10.2.0.0/24"), own: true},
		}, map[string]string{"0.0.0.0/0": "", "10.2.0.0/24": "10.1.0.1"}},
		{"no address inside", Route{Local: pfx("10.5.0.0/24"), Remote: pfx("10.2.0.0/24")}, []rule{
			{act: toTable, from: pfx("10.5.0.0/24"), to: pfx("10.2.0.0/24")},
		}, map[string]string{"0.0.0.0/0": ""}},
		{"host bits are masked", Route{Local: pfx("10.5.0.9/24"), Remote: pfx("10.2.0.9/24")}, []rule{
			{act: toTable, from: pfx("10.5.0.0/24"), to: pfx("10.2.0.0/24")},
		}, map[string]string{"0.0.0.0/0": ""}},
		{"default", Route{Local: pfx("10.1.0.0/24"), Remote: pfx("0.0.0.0/0")}, []rule{
			dhcp, multicast, broadcast,
			{act: toEnd, from: pfx("10.1.0.0/24"), to: pfx("10.1.0.0/24")},
			{act: toTable, from: pfx("10.1.0.0/24")},
			{act: toEnd, from: unset, to: pfx("10.1.0.0/24"), own: true},
			{act: toTable, from: unset, own: true},
		}, map[string]string{"0.0.0.0/0": "10.1.0.1"}},
		{"default, IPv6", Route{Local: pfx("2001:db8:1::/64"), Remote: pfx("::/0")}, []rule{
			{v6: true, act: toEnd, own: true, proto: 17, sport: 546, dport: 547},
			{v6: true, act: toEnd, own: true, to: pfx("fe80::/10")},
			{v6: true, act: toEnd, from: pfx("2001:db8:1::/64"), to: pfx("2001:db8:1::/64")},
			{v6: true, act: toTable, from: pfx("2001:db8:1::/64")},
			{v6: true, act: toEnd, from: pfx("2001:db8:ff::1/128"), own: true},
			{v6: true, act: toEnd, to: pfx("2001:db8:1::/64"), own: true},
			{v6: true, act: toTable, own: true},
		}, map[string]string{"::/0": "2001:db8:1::1"}},
		{"Remote covers Local", Route{Local: pfx("10.1.0.0/24"), Remote: pfx("10.0.0.0/8")}, []rule{
			{act: toEnd, from: pfx("10.1.0.0/24"), to: pfx("10.1.0.0/24")},
			{act: toTable, from: pfx("10.1.0.0/24"), to: pfx("10.0.0.0/8")},
			{act: toEnd, from: unset, to: pfx("10.1.0.0/24"), own: true},
			{act: toTable, from: unset, to: pfx("10.0.0.0/8"), own: true},
		}, map[string]string{"0.0.0.0/0": "", "10.0.0.0/8": "10.1.0.1"}},
		{"everything", Route{Local: pfx("0.0.0.0/0"), Remote: pfx("0.0.0.0/0")}, []rule{
			dhcp, multicast, broadcast, {act: toTable},
		}, map[string]string{"0.0.0.0/0": ""}},
		{"ports", Route{Local: pfx("10.1.0.0/24"), Remote: pfx("10.2.0.0/24"), Proto: 6, RemotePort: 80}, []rule{
			{act: toTable, from: pfx("10.1.0.0/24"), to: pfx("10.2.0.0/24"), proto: 6, dport: 80},
			{act: toTable, from: unset, to: pfx("10.2.0.0/24"), own: true, proto: 6, dport: 80},
		}, map[string]string{"0.0.0.0/0": "", "10.2.0.0/24": "10.1.0.1"}},
		{"local port: a server has its address", Route{Local: pfx("10.1.0.0/24"), Remote: pfx("10.2.0.0/24"), Proto: 6, LocalPort: 80}, []rule{
			{act: toTable, from: pfx("10.1.0.0/24"), to: pfx("10.2.0.0/24"), proto: 6, sport: 80},
		}, map[string]string{"0.0.0.0/0": ""}},
		{"local port of UDP: a server may have only that", Route{Local: pfx("10.1.0.0/24"), Remote: pfx("10.2.0.0/24"), Proto: 17, LocalPort: 1701}, []rule{
			{act: toTable, from: pfx("10.1.0.0/24"), to: pfx("10.2.0.0/24"), proto: 17, sport: 1701},
			{act: toTable, from: unset, to: pfx("10.2.0.0/24"), own: true, proto: 17, sport: 1701},
		}, map[string]string{"0.0.0.0/0": "", "10.2.0.0/24": "10.1.0.1"}},
		{"local port of UDP, to everybody", Route{Local: pfx("10.1.0.0/24"), Remote: pfx("0.0.0.0/0"), Proto: 17, LocalPort: 1701}, []rule{
			{act: toEnd, from: pfx("10.1.0.0/24"), to: pfx("10.1.0.0/24")},
			{act: toTable, from: pfx("10.1.0.0/24"), proto: 17, sport: 1701},
			{act: toEnd, from: unset, to: pfx("10.1.0.0/24"), own: true, proto: 17, sport: 1701},
			{act: toTable, from: unset, own: true, proto: 17, sport: 1701},
		}, map[string]string{"0.0.0.0/0": "10.1.0.1"}},
		{"local port of UDP that passes", Route{Local: pfx("10.1.0.0/24"), Remote: pfx("10.2.0.0/24"), Proto: 17, LocalPort: 1701, Pass: true}, []rule{
			{act: toEnd, from: pfx("10.1.0.0/24"), to: pfx("10.2.0.0/24"), proto: 17, sport: 1701},
			{act: toEnd, from: unset, to: pfx("10.2.0.0/24"), own: true, proto: 17, sport: 1701},
		}, map[string]string{"0.0.0.0/0": ""}},
		{"ICMP type", Route{Local: pfx("10.5.0.0/24"), Remote: pfx("10.2.0.0/24"), Proto: 1, LocalPort: 0x800}, []rule{
			{act: toTable, from: pfx("10.5.0.0/24"), to: pfx("10.2.0.0/24"), proto: 1},
		}, map[string]string{"0.0.0.0/0": ""}},
		{"IPv6", Route{Local: pfx("2001:db8:1::/64"), Remote: pfx("2001:db8:2::/64")}, []rule{
			{v6: true, act: toTable, from: pfx("2001:db8:1::/64"), to: pfx("2001:db8:2::/64")},
			{v6: true, act: toEnd, from: pfx("2001:db8:ff::1/128"), to: pfx("2001:db8:2::/64"), own: true},
			{v6: true, act: toTable, to: pfx("2001:db8:2::/64"), own: true},
		}, map[string]string{"::/0": "", "2001:db8:2::/64": "2001:db8:1::1"}},
		{"pass", Route{Local: pfx("10.1.0.0/24"), Remote: pfx("10.2.0.0/24"), Pass: true}, []rule{
			{act: toEnd, from: pfx("10.1.0.0/24"), to: pfx("10.2.0.0/24")},
			{act: toEnd, from: unset, to: pfx("10.2.0.0/24"), own: true},
		}, map[string]string{"0.0.0.0/0": ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, err := compile(Plan{Routes: []Route{tt.route, tt.route}, Bypass: []uint16{500, 500}}, 7, own, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(w.body, tt.want) {
				t.Errorf("rules\n%s\nwant\n%s", listed(w.body), listed(tt.want))
			}
			routes := map[string]string{}
			for dst, src := range w.routes {
				routes[dst.String()] = ""
				if src.IsValid() {
					routes[dst.String()] = src.String()
				}
			}
			if !reflect.DeepEqual(routes, tt.routes) {
				t.Errorf("routes %v, want %v", routes, tt.routes)
			}
			v6 := tt.route.Remote.Addr().Is6()
			head := []rule{{v6: v6, act: toEnd, mark: 7}, {v6: v6, act: toTable, mark: 7 | 1<<30}, {v6: v6, act: toEnd, own: true, proto: 17, sport: 500}}
			if !slices.Equal(w.head, head) || !slices.Equal(w.tail, []rule{{v6: v6, act: nop, proto: 17}}) {
				t.Errorf("head %+v, tail %+v", w.head, w.tail)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	for name, p := range map[string]Plan{
		"no prefixes":     {Routes: []Route{{}}},
		"mixed families":  {Routes: []Route{{Local: pfx("10.0.0.0/8"), Remote: pfx("2001:db8::/32")}}},
		"invalid address": {Addresses: []netip.Prefix{{}}},
		"too many ports":  {Bypass: make([]uint16, maxBypass+1)},
	} {
		if _, err := compile(p, 7, nil, nil); err == nil {
			t.Error(name, "accepted")
		}
	}
}

func TestCompileEmpty(t *testing.T) {
	w, err := compile(Plan{Bypass: []uint16{500}}, 7, nil, nil)
	if err != nil || len(w.head)+len(w.body)+len(w.tail)+len(w.routes) != 0 {
		t.Errorf("an empty plan wants %+v, %v", w, err)
	}
}

func numberedRule(i int) rule {
	return rule{to: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)}
}

// However plans follow each other: order is kept, places are unique and in
// range, and as many rules stay as the order allows when there is room.
func TestPlaceBody(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const lo, hi = 100, 400
	var current []placed
	var rules []rule
	for round := range 2000 {
		old := current
		switch n := rng.IntN(len(rules) + 1); {
		case rng.IntN(50) == 0:
			rng.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		case len(rules) > 250 || rng.IntN(5) == 0 && n < len(rules):
			rules = slices.Delete(rules, min(n, len(rules)-1), min(n, len(rules)-1)+1)
		default:
			rules = slices.Insert(rules, n, numberedRule(round))
		}
		var err error
		if current, err = placeBody(rules, old, false, lo, hi); err != nil {
			t.Fatal(err)
		}
		if len(current) != len(rules) {
			t.Fatalf("round %d: %d of %d rules", round, len(current), len(rules))
		}
		for i, p := range current {
			if p.rule != rules[i] || p.pref < lo || p.pref >= hi || i > 0 && p.pref <= current[i-1].pref {
				t.Fatalf("round %d: rule %d at %d is out of order", round, i, p.pref)
			}
		}
	}
}

func TestPlaceBodyKeeps(t *testing.T) {
	var rules []rule
	for i := range 100 {
		rules = append(rules, numberedRule(i))
	}
	first, err := placeBody(rules, nil, false, 1000, 20000)
	if err != nil {
		t.Fatal(err)
	}
	// One moves from the front to the back: only that one changes its place.
	moved := append(slices.Clone(rules[1:]), rules[0])
	second, err := placeBody(moved, first, false, 1000, 20000)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(first[1:], second[:99]) || second[99].pref <= second[98].pref {
		t.Error("more than the moved rule changed")
	}
	if _, err := placeBody(rules, nil, false, 0, 99); !errors.Is(err, ErrTooManyRules) {
		t.Error("too many rules:", err)
	}
	if full, err := placeBody(rules, first[50:], false, 1500, 1600); err != nil || full[0].pref != 1500 || full[99].pref != 1599 {
		t.Error("an exactly full range:", err)
	}
}

func TestOptions(t *testing.T) {
	o, err := Options{Device: "culvert0"}.withDefaults()
	if err != nil || o.Table != DefaultTable || o.Mark != DefaultMark || o.Pref != DefaultPref || o.LockDir == "" {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := (Options{}).withDefaults(); err == nil {
		t.Error("no device is one")
	}
	for table, ok := range map[int]bool{-1: false, 1: true, 252: true, 253: false, 254: false, 255: false, 256: true, nearBit - 1: true, nearBit: false} {
		if _, err := (Options{Device: "x", Table: table}).withDefaults(); (err == nil) != ok {
			t.Errorf("table %d: %v", table, err)
		}
	}
	for pref, ok := range map[int]bool{-1: false, 1: true, 32765 - PrefSpan: true, 32766 - PrefSpan: false, 20000: false} {
		if _, err := (Options{Device: "x", Pref: pref}).withDefaults(); (err == nil) != ok {
			t.Errorf("preference %d: %v", pref, err)
		}
	}
}

func TestManualCommands(t *testing.T) {
	p := Plan{
		Addresses: []netip.Prefix{pfx("10.9.0.5/24"), pfx("2001:db8:9::5/64")},
		Routes: []Route{{Local: pfx("10.1.0.0/24"), Remote: pfx("10.2.0.0/16")}, {Local: pfx("10.1.0.0/24"), Remote: pfx("0.0.0.0/0")},
			{Local: pfx("2001:db8:1::/64"), Remote: pfx("2001:db8:2::/64")}, {Local: pfx("10.7.0.0/24"), Remote: pfx("10.2.0.0/16")}, {Local: pfx("10.1.0.0/24"), Remote: pfx("10.8.0.0/16"), Pass: true}},
	}
	for system, want := range map[string][]string{
		"darwin": {
			"ifconfig utun4 inet 10.9.0.5/24 10.9.0.5 alias",
			"ifconfig utun4 inet6 2001:db8:9::5/64 alias",
			"route -n add -inet -net 10.2.0.0/16 -interface utun4",
			"route -n add -inet -net 0.0.0.0/1 -interface utun4",
			"route -n add -inet -net 128.0.0.0/1 -interface utun4",
			"route -n add -inet6 -net 2001:db8:2::/64 -interface utun4",
		},
		"windows": {
			`netsh interface ipv4 add address name="utun4" address=10.9.0.5 mask=255.255.255.0 store=active`,
			`netsh interface ipv6 add address interface="utun4" address=2001:db8:9::5/64 store=active`,
			`netsh interface ipv4 add route prefix=10.2.0.0/16 interface="utun4" store=active`,
			`netsh interface ipv4 add route prefix=0.0.0.0/1 interface="utun4" store=active`,
			`netsh interface ipv4 add route prefix=128.0.0.0/1 interface="utun4" store=active`,
			`netsh interface ipv6 add route prefix=2001:db8:2::/64 interface="utun4" store=active`,
		},
	} {
		if got := manualCommands(system, "utun4", p); !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", system, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	err := manualHost{system: "darwin", device: "utun4"}.Apply(p)
	var manual *ManualError
	if !errors.As(err, &manual) || !strings.Contains(err.Error(), "\troute -n add -inet -net 10.2.0.0/16 -interface utun4") || !strings.Contains(err.Error(), "first give each peer's address a route through your router") {
		t.Error(err)
	}
	h := manualHost{system: "windows", device: "utun4"}
	if err := h.Apply(Plan{Bypass: []uint16{500}}); err != nil {
		t.Error("an empty plan:", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

func listed(rules []rule) string {
	var b strings.Builder
	for _, r := range rules {
		fmt.Fprintf(&b, "\t%d from %v to %v own %v proto %d %d %d\n", r.act, r.from, r.to, r.own, r.proto, r.sport, r.dport)
	}
	return b.String()
}

// What stands in front of a tunnel to everywhere, for the networks that a link can have.
func TestNear(t *testing.T) {
	all, all6 := Route{Local: pfx("0.0.0.0/0"), Remote: pfx("0.0.0.0/0")}, Route{Local: pfx("::/0"), Remote: pfx("::/0")}
	leased := Route{Local: pfx("10.9.0.5/32"), Remote: pfx("0.0.0.0/0")}
	to := func(local, remote string) Route { return Route{Local: pfx(local), Remote: pfx(remote)} }
	pass := to("0.0.0.0/0", "10.20.0.0/16")
	pass.Pass = true
	tests := []struct {
		name       string
		routes     []Route
		lan        string
		nets, kept string
	}{
		{"RFC 1918", []Route{all}, "192.168.1.0/24", "192.168.1.0/24", ""},
		{"all of 10/8", []Route{all}, "10.0.0.0/8", "10.0.0.0/8", ""},
		{"172.16/12", []Route{leased}, "172.31.0.0/16", "172.31.0.0/16", ""},
		{"link-local", []Route{leased}, "169.254.0.0/16", "169.254.0.0/16", ""},
		{"RFC 4193", []Route{all6}, "fd12:3456::/48", "fd12:3456::/48", ""},
		{"half of everything", []Route{all}, "0.0.0.0/1", "", ""},
		{"more than 10/8", []Route{all}, "10.0.0.0/7", "", ""},
		{"more than 172.16/12", []Route{all}, "172.0.0.0/8", "", ""},
		{"public", []Route{all}, "203.0.113.0/24", "", ""},
		{"of carriers (RFC 6598)", []Route{all}, "100.64.0.0/10", "", ""},
		{"public, IPv6", []Route{all6}, "2001:db8::/64", "", ""},
		{"half of everything, IPv6", []Route{all6}, "8000::/1", "", ""},
		{"around a protected network, which stands below", []Route{leased, to("10.9.0.5/32", "10.20.0.0/16")}, "10.0.0.0/8", "10.0.0.0/8", "10.20.0.0/16"},
		{"around a protected network, which stands above", []Route{to("10.9.0.5/32", "10.20.0.0/16"), leased}, "10.0.0.0/8", "10.0.0.0/8", "10.20.0.0/16"},
		{"inside a protected network", []Route{leased, to("10.9.0.5/32", "10.0.0.0/8")}, "10.20.0.0/24", "", ""},
		{"a protected network itself", []Route{leased, to("10.9.0.5/32", "10.20.0.0/24")}, "10.20.0.0/24", "", ""},
		{"the network of a policy that covers it", []Route{all, to("10.1.0.0/24", "10.0.0.0/8")}, "10.1.0.0/24", "10.1.0.0/24", ""},
		{"another one that it covers", []Route{all, to("10.1.0.0/24", "10.0.0.0/8")}, "10.2.0.0/24", "", ""},
		{"around what passes", []Route{pass, all}, "10.0.0.0/8", "10.0.0.0/8", ""},
		{"another family", []Route{all, to("fd01::/64", "fd02::/64")}, "10.0.0.0/8", "10.0.0.0/8", ""},
	}
	list := func(s string) (out []netip.Prefix) {
		if s != "" {
			out = append(out, pfx(s))
		}
		return out
	}
	for _, tt := range tests {
		p := Plan{Routes: tt.routes, Addresses: []netip.Prefix{pfx("10.9.0.5/32")}, LANBypass: true}
		lan := pfx(tt.lan)
		if n := p.Near([]netip.Prefix{lan}, lan.Addr().Is6()); !slices.Equal(n.Nets, list(tt.nets)) || !slices.Equal(n.Kept, list(tt.kept)) {
			t.Errorf("%s: %+v", tt.name, n)
		}
		p.LANBypass = false
		if n := p.Near([]netip.Prefix{lan}, lan.Addr().Is6()); n.Nets != nil || n.Kept != nil {
			t.Errorf("%s, without lan-bypass: %+v", tt.name, n)
		}
	}
	// A LAN around many protected networks is not left alone at all.
	p := Plan{Routes: []Route{leased}, LANBypass: true}
	for i := range maxKept {
		p.Routes = append(p.Routes, to("10.9.0.5/32", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 20, byte(i), 0}), 24).String()))
	}
	lans := []netip.Prefix{pfx("10.0.0.0/8"), pfx("192.168.1.0/24")}
	if n := p.Near(lans, false); len(n.Nets) != 2 || len(n.Kept) != maxKept {
		t.Errorf("%d protected networks: %+v", maxKept, n)
	}
	p.Routes = append(p.Routes, to("10.9.0.5/32", "10.30.0.0/24"))
	if n := p.Near(lans, false); !slices.Equal(n.Nets, lans[1:]) || n.Kept != nil {
		t.Errorf("one more: %+v", n)
	}
}

// The rules in front of a tunnel to everywhere, with a private LAN around a
// network that another policy protects.
func TestCompileNear(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("192.168.1.50"), netip.MustParseAddr("fd01::50")}
	lans := map[netip.Prefix]link{pfx("192.168.1.0/24"): {2, own[0]}, pfx("fd01::/64"): {2, own[1]}, pfx("203.0.113.0/24"): {3, own[0]}}
	unset, lan := pfx("0.0.0.0/32"), pfx("192.168.1.0/24")
	kept := pfx("192.168.1.128/28")
	for _, tt := range []struct {
		name  string
		local string
		lease bool
		want  []rule // without those of links and of the other policy
	}{
		{"from everywhere", "0.0.0.0/0", false, []rule{
			{act: toTable, to: kept}, {act: toNear, to: lan}, {act: toTable},
		}},
		{"from a leased address", "10.9.0.5/32", true, []rule{
			{act: toTable, from: pfx("10.9.0.5/32")},
			{act: toTable, from: unset, own: true, to: kept}, {act: toNear, from: unset, own: true, to: lan}, {act: toTable, from: unset, own: true},
		}},
		{"from a leased address in the LAN", "192.168.1.7/32", true, []rule{
			{act: toTable, from: pfx("192.168.1.7/32")},
			{act: toTable, from: unset, own: true, to: kept}, {act: toNear, from: unset, own: true, to: lan}, {act: toTable, from: unset, own: true},
		}},
		{"from an address in the LAN", "192.168.1.50/32", false, []rule{
			{act: toTable, from: pfx("192.168.1.50/32"), to: kept}, {act: toNear, from: pfx("192.168.1.50/32"), to: lan}, {act: toTable, from: pfx("192.168.1.50/32")},
			{act: toTable, from: unset, own: true, to: kept}, {act: toNear, from: unset, own: true, to: lan}, {act: toTable, from: unset, own: true},
		}},
		{"from another network", "10.1.0.0/24", false, []rule{
			{act: toEnd, from: pfx("10.1.0.0/24"), to: pfx("10.1.0.0/24")}, {act: toTable, from: pfx("10.1.0.0/24")},
		}},
	} {
		p := Plan{Routes: []Route{{Local: pfx(tt.local), Remote: pfx("0.0.0.0/0")}, {Local: pfx("172.20.0.0/16"), Remote: kept}}, LANBypass: true}
		if tt.lease {
			p.Addresses = []netip.Prefix{pfx(tt.local)}
		}
		w, err := compile(p, 7, own, lans)
		if err != nil {
			t.Fatal(err)
		}
		got := w.body[len(linkRules(false)) : len(w.body)-1]
		if !slices.Equal(w.body[:len(linkRules(false))], linkRules(false)) || !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, listed(w.body), listed(tt.want))
		}
		passes := slices.ContainsFunc(got, func(r rule) bool { return r.act == toNear })
		if _, ok := w.near[lan]; ok != passes || len(w.near) > 1 {
			t.Errorf("%s: routes %v", tt.name, w.near)
		}
	}
}

// A default route is split in two, so that the system's own stays behind it.
func TestHalves(t *testing.T) {
	for p, want := range map[string]string{"0.0.0.0/0": "[0.0.0.0/1 128.0.0.0/1]", "::/0": "[::/1 8000::/1]", "0.0.0.0/1": "[0.0.0.0/1]", "2001:db8::/32": "[2001:db8::/32]"} {
		if got := fmt.Sprint(halves(netip.MustParsePrefix(p))); got != want {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
}
