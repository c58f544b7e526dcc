package compile

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"culvert/config"
	"culvert/ike/core"
	"culvert/spd"
	"culvert/spd/selector"
	"culvert/tun"
)

// clients is a gateway that gives addresses of both families, to clients of two groups: one of a
// pool in two pieces, one a single address.
const clients = `
[[pool]]
name = "first"
ranges = "10.9.0.16-10.9.0.32"
next-pool = "second"
[[pool]]
name = "second"
ranges = "2001:db8:9::/112"
[[mode-config]]
name = "pool"
address-pool = "first"
address-prefix-length = 24
split-include = ["10.1.0.0/16", "0.0.0.0/0"]
system-dns = false
static-dns = "10.1.0.53"
[[mode-config]]
name = "one"
address = "10.8.0.1"
[[policy-group]]
name = "g"
[[peer]]
name = "all"
exchange-mode = "ike2"
passive = true
redirect = "gw2.example.net"
redirect-above = 5
[[identity]]
peer = "all"
secret = "x"
remote-id = "fqdn:a"
generate-policy = "port-strict"
mode-config = "pool"
[[identity]]
peer = "all"
secret = "y"
remote-id = "fqdn:b"
generate-policy = "port-override"
mode-config = "one"
policy-template-group = "g"
redirect = "192.0.2.9"
ppk-id = "k"
ppk-secret = "0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
[[policy]]
template = true
group = "g"
src-address = "10.1.0.0/16"
dst-address = "10.8.0.0/24"
protocol = "tcp"
level = "unique"
ipsec-protocols = "ah"
`

func prefixes(text string) (list []netip.Prefix) {
	for _, p := range strings.Fields(text) {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

func TestCompileClients(t *testing.T) {
	c := parse(t, clients)
	r, err := Compile(c, ports, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !GivesAddresses(c) {
		t.Error("it gives addresses")
	}
	ids := r.IKE.Peers[0].Identities
	if got, want := *ids[0].Mode, (core.ModeConfig{Name: "pool", Responder: true, Pool: "first", Prefix: 24, Split: prefixes("10.1.0.0/16 0.0.0.0/0"),
		DNS: []netip.Addr{netip.MustParseAddr("10.1.0.53")}}); !reflect.DeepEqual(got, want) {
		t.Errorf("mode-config %+v, want %+v", got, want)
	}
	if m := ids[1].Mode; m.Address != netip.MustParseAddr("10.8.0.1") || m.Pool != "none" || !m.SystemDNS {
		t.Errorf("mode-config %+v", m)
	}
	if ids[0].Generate != core.GenerateStrict || ids[0].Group != "default" || ids[1].Generate != core.GenerateOverride || ids[1].Group != "g" {
		t.Errorf("generate-policy %v of %q, %v of %q", ids[0].Generate, ids[0].Group, ids[1].Generate, ids[1].Group)
	}
	if p := ids[1].PPK; ids[0].PPK != nil || p == nil || p.ID != "k" || len(p.Secret) != 32 || p.Required {
		t.Errorf("PPK %+v and %+v", ids[0].PPK, p)
	}
	if want := map[string]core.Redirect{"all": {To: core.Gateway{Name: "gw2.example.net"}, Above: 5}}; !reflect.DeepEqual(r.IKE.Redirects, want) {
		t.Errorf("redirects %+v", r.IKE.Redirects)
	}
	if want := map[*core.Identity]core.Gateway{ids[1]: {Addr: netip.MustParseAddr("192.0.2.9")}}; !reflect.DeepEqual(r.IKE.IdentityRedirects, want) {
		t.Errorf("redirects of identities %+v", r.IKE.IdentityRedirects)
	}
	// What nobody gets by asking for it. Everything is no network of ours.
	if want := prefixes("10.8.0.1/32 10.9.0.16/28 10.9.0.32/32 2001:db8:9::/112"); !slices.Equal(r.IKE.Given, want) {
		t.Errorf("given %v, want %v", r.IKE.Given, want)
	}
	if want := prefixes("10.1.0.0/16"); !slices.Equal(r.IKE.Ours, want) {
		t.Errorf("ours %v, want %v", r.IKE.Ours, want)
	}
	if len(r.IKE.Templates) != 2 {
		t.Fatalf("%d templates", len(r.IKE.Templates))
	}
	any, mine := r.IKE.Templates[0], r.IKE.Templates[1]
	if any.Group != "default" || any.Ref != core.FirstTemplate+1 || !any.Tunnel || any.Unique || any.Protocol != core.ProtoESP {
		t.Errorf("the manual's template %+v", any)
	}
	if mine.Group != "g" || mine.Ref != core.FirstTemplate+2 || mine.Protocol != core.ProtoAH || !mine.Unique || mine.Proto != 6 || mine.Local != netip.MustParsePrefix("10.1.0.0/16") {
		t.Errorf("the template %+v", mine)
	}
	for i, want := range []spd.Place{{Before: 0, Slot: 0}, {Before: 0, Slot: 1}} {
		if got := r.Templates[core.FirstTemplate+core.PolicyRef(i+1)]; got.Place != want || got.core != r.IKE.Templates[i] {
			t.Errorf("template %d stands at %+v", i, got.Place)
		}
	}
	if got := r.IKE.Where(mine, "group"); !strings.HasPrefix(got, "test.toml:") {
		t.Errorf("the template is at %q", got)
	}
	if got := r.IKE.Where(new(core.Peer), "name"); got != "" {
		t.Errorf("what is nowhere is at %q", got)
	}
	if got := r.IKE.Where(ids[1], "secret"); got != "test.toml:35" {
		t.Errorf("the second secret is at %q", got)
	}

	// Given addresses are led to the device whether their clients are there or not, by the template's own protocol.
	all, none := r.Templates[any.Ref], func(core.PolicyRef) bool { return false }
	routes := r.Routes(none, nil, nil)
	route := func(local, remote string, proto uint8) tun.Route {
		return tun.Route{Local: netip.MustParsePrefix(local), Remote: netip.MustParsePrefix(remote), Proto: proto}
	}
	want := []tun.Route{route("0.0.0.0/0", "10.9.0.16/28", 0), route("0.0.0.0/0", "10.9.0.32/32", 0), route("::/0", "2001:db8:9::/112", 0), route("10.1.0.0/16", "10.8.0.1/32", 6)}
	if !slices.Equal(routes, want) {
		t.Errorf("routes %v, want %v", routes, want)
	}
	extra := route("10.1.0.0/16", "192.0.2.0/24", 0)
	if got := r.Routes(none, map[*Template][]tun.Route{all: {extra}}, nil); !slices.Equal(got, slices.Insert(slices.Clone(want), 3, extra)) {
		t.Errorf("with one that was made: %v", got)
	}
	for remote, leads := range map[string]bool{"10.9.0.17/32": true, "10.9.0.16/28": true, "10.9.0.32/32": true, "10.9.0.33/32": false, "10.9.0.16/27": false, "2001:db8:9::5/128": true, "2001:db9::/128": false} {
		pair := selector.Pair{Local: selector.FromPrefix(prefixes("10.1.0.0/16")[0]), Remote: selector.FromPrefix(netip.MustParsePrefix(remote))}
		if all.LeadsTo(pair) != leads {
			t.Errorf("the routes lead to %s: %v", remote, !leads)
		}
		pair.Remote.Proto, pair.Remote.PortLo, pair.Remote.PortHi = 17, 5, 5 // of which they ask for less
		if all.LeadsTo(pair) != leads {
			t.Errorf("the routes lead to a port of %s: %v", remote, !leads)
		}
	}
}

// Networks of policies that discard, of templates that nobody uses and of others that are off are nobody's.
func TestOnlyOursAreReserved(t *testing.T) {
	const more = `
[[policy]]
src-address = "10.77.0.0/16"
dst-address = "10.2.0.0/16"
action = "discard"
[[policy]]
template = true
disabled = true
group = "g"
src-address = "10.78.0.0/16"
[[policy-group]]
name = "unused"
[[policy]]
template = true
group = "unused"
src-address = "10.79.0.0/16"
`
	if got := compiled(t, clients+more, nil).IKE.Ours; !slices.Equal(got, prefixes("10.1.0.0/16")) {
		t.Errorf("ours %v", got)
	}
}

// It gives addresses if any identity that is on has a mode-config that gives them.
func TestGivesAddresses(t *testing.T) {
	asks := strings.Replace(clients, "name = \"one\"\naddress = \"10.8.0.1\"", "name = \"one\"\nresponder = false", 1)
	first := strings.Replace(asks, "mode-config = \"pool\"\n", "", 1)
	second := strings.Replace(clients, "mode-config = \"pool\"\n", "", 1)
	for text, want := range map[string]bool{clients: true, second: true, first: false} {
		c, _, err := config.Parse("test.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if GivesAddresses(c) != want {
			t.Errorf("gives addresses: %v, of\n%s", !want, text)
		}
	}
}

// A policy for one identity of its peer has that one, and no other policy does.
func TestPolicyOfAnIdentity(t *testing.T) {
	const text = `
[[peer]]
name = "p"
address = "192.0.2.1/32"
exchange-mode = "ike2"
[[identity]]
peer = "p"
remote-id = "fqdn:a"
secret = "x"
[[identity]]
name = "b"
peer = "p"
remote-id = "fqdn:b"
secret = "y"
[[policy]]
peer = "p"
identity = "b"
src-address = "10.1.0.0/16"
dst-address = "10.2.0.0/16"
tunnel = true
[[policy]]
peer = "p"
src-address = "10.3.0.0/16"
dst-address = "10.4.0.0/16"
tunnel = true
`
	r := compiled(t, text, nil)
	ids := r.IKE.Peers[0].Identities
	if p := r.IKE.Policies; p[0].Identity != ids[1] || p[1].Identity != nil || string(ids[1].Secret) != "y" {
		t.Errorf("%+v and %+v", p[0].Identity, p[1].Identity)
	}
}

// What of clients is disabled has no effect; templates that nobody uses are not there.
func TestClientsThatAreOff(t *testing.T) {
	off := strings.ReplaceAll(clients, "[[identity]]\n", "[[identity]]\ndisabled = true\n")
	c := parse(t, off)
	r, err := Compile(c, ports, nil)
	if err != nil {
		t.Fatal(err)
	}
	if GivesAddresses(c) || len(r.IKE.Given)+len(r.IKE.Ours)+len(r.Templates)+len(r.Routes(nil, nil, nil)) != 0 || r.IKE.Redirects != nil {
		t.Errorf("%+v, %+v", r.IKE, r.Templates)
	}
	r, err = Compile(parse(t, strings.Replace(clients, "[[policy]]\n", "[[policy]]\ndisabled = true\n", 1)), ports, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Templates) != 1 || len(r.IKE.Ours) != 1 || r.IKE.Templates[0].Group != "default" {
		t.Errorf("%+v, ours %v", r.IKE.Templates, r.IKE.Ours)
	}
}

// A template keeps its name while its content is the same.
func TestTemplatesOverReloads(t *testing.T) {
	first := compiled(t, clients, nil)
	for _, c := range []struct {
		old, new string
		want     []core.PolicyRef // counted from the first
	}{
		{"", "", []core.PolicyRef{1, 2}},
		{`secret = "y"`, `secret = "z"`, []core.PolicyRef{1, 2}},
		{`level = "unique"`, "", []core.PolicyRef{1, 3}},
		{`protocol = "tcp"`, `protocol = "udp"`, []core.PolicyRef{1, 3}},
		{`ipsec-protocols = "ah"`, "", []core.PolicyRef{1, 3}},
		{`src-address = "10.1.0.0/16"`, `src-address = "10.2.0.0/16"`, []core.PolicyRef{1, 3}},
		{`dst-address = "10.8.0.0/24"`, `dst-address = "10.8.0.0/23"`, []core.PolicyRef{1, 3}},
		{"level = \"unique\"\n", "level = \"unique\"\ntunnel = false\n", []core.PolicyRef{1, 3}},
	} {
		var got []core.PolicyRef
		for _, x := range compiled(t, strings.Replace(clients, c.old, c.new, 1), first).IKE.Templates {
			got = append(got, x.Ref-core.FirstTemplate)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q in place of %q: templates %v, want %v", c.new, c.old, got, c.want)
		}
	}
}

func TestRoutesOf(t *testing.T) {
	ts := func(lo, hi string, proto uint8, portLo, portHi uint16) selector.TS {
		return selector.TS{Lo: netip.MustParseAddr(lo), Hi: netip.MustParseAddr(hi), Proto: proto, PortLo: portLo, PortHi: portHi}
	}
	net := ts("10.1.0.0", "10.1.255.255", 6, 0, 65535)
	for _, c := range []struct {
		name string
		pair selector.Pair
		want []string
	}{
		{"prefixes", selector.Pair{Local: net, Remote: ts("10.2.0.0", "10.2.0.255", 6, 0, 65535)}, []string{"10.1.0.0/16:0 10.2.0.0/24:0 6"}},
		{"ports", selector.Pair{Local: ts("10.1.0.1", "10.1.0.1", 6, 80, 80), Remote: ts("10.2.0.1", "10.2.0.1", 6, 1000, 2000)}, []string{"10.1.0.1/32:80 10.2.0.1/32:0 6"}},
		{"types and codes are no ports", selector.Pair{Local: ts("10.1.0.1", "10.1.0.1", 1, 8, 8), Remote: ts("10.2.0.1", "10.2.0.1", 1, 8, 8)}, []string{"10.1.0.1/32:0 10.2.0.1/32:0 1"}},
		{"a range", selector.Pair{Local: net, Remote: ts("10.2.0.1", "10.2.0.3", 6, 5, 5)}, []string{"10.1.0.0/16:0 10.2.0.1/32:5 6", "10.1.0.0/16:0 10.2.0.2/31:5 6"}},
	} {
		var got []string
		for _, r := range RoutesOf(c.pair) {
			got = append(got, fmt.Sprintf("%v:%d %v:%d %d", r.Local, r.LocalPort, r.Remote, r.RemotePort, r.Proto))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	odd := ts("10.0.0.1", "10.255.255.254", 0, 0, 65535)
	if n := len(RoutesOf(selector.Pair{Local: odd, Remote: odd})); n != maxMadeRoutes {
		t.Errorf("%d routes of what is no prefix", n)
	}
}

// A policy of level use passes by the device while it has no SA; one for any port of the
// peer's is led there whole; what passes is led past.
func TestPlanFollowsSAs(t *testing.T) {
	r := compiled(t, strings.Replace(manual, `level = "unique"`, `level = "use"`, 1)+`
[[policy]]
src-address = "10.1.202.0/24"
dst-address = "10.3.0.0/16"
action = "none"
dst-port = 53
protocol = "udp"
`, nil)
	if !r.Uses[2] || r.Uses[1] || r.Uses[3] {
		t.Errorf("level use: %v", r.Uses)
	}
	for _, has := range []bool{false, true} {
		p := r.Plan(func(ref core.PolicyRef) bool {
			if ref != 2 {
				t.Errorf("asked about policy %d", ref)
			}
			return has
		})
		if p.Routes[0].Pass || p.Routes[0].Optional || p.Routes[1].Pass == has || !p.Routes[1].Optional || !p.Routes[2].Pass || p.Routes[2].Optional {
			t.Errorf("with an SA %v: %+v", has, p.Routes)
		}
	}
	routes := r.Routes(func(core.PolicyRef) bool { return true }, nil, func(ref core.PolicyRef) bool { return ref == 1 })
	if routes[0].RemotePort != 0 || routes[2].RemotePort != 53 {
		t.Errorf("%+v", routes)
	}
}

// What carries ESP follows the sockets until the next start; and of [gateway] a running gateway
// takes over what it can.
func TestRunning(t *testing.T) {
	c := parse(t, manual)
	if CarriedBy(c, true); c.Gateway.Encapsulation != config.Detect {
		t.Error("what the sockets can is taken away")
	}
	CarriedBy(c, false)
	r, err := Compile(c, ports, nil)
	if err != nil || r.IKE.Encapsulation != core.EncapUDP || len(r.Plan(func(core.PolicyRef) bool { return false }).Protocols) != 0 {
		t.Errorf("without raw sockets: %v, %v", r.IKE.Encapsulation, err)
	}
	next := parse(t, "[gateway]\nport = 1500\nmtu = 1300\nguard = false\nlan-bypass = false\nlog-level = \"debug\"\n"+manual)
	got := Running(c, next)
	if g := got.Gateway; g.Port != c.Gateway.Port || g.MTU != c.Gateway.MTU || g.Encapsulation != config.UDP || g.Guard || g.LANBypass || g.LogLevel != next.Gateway.LogLevel {
		t.Errorf("%+v", g)
	}
	if next.Gateway.Port != 1500 || len(got.Policies) != len(next.Policies) {
		t.Error("what was given was changed")
	}
}
