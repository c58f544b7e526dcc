package gateway

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/packet/datapath"
	"culvert/internal/testing/simnet"
	"culvert/spd/selector"
)

// The manual's server for road warriors, with a pre-shared key, and below its
// template a policy that discards what no road warrior has.
const warriorServer = `
[[profile]]
name = "ike2"
dh-group = "x25519"
enc-algorithm = "aes-128"
hash-algorithm = "sha256"
[[proposal]]
name = "ike2"
auth-algorithms = "sha256"
enc-algorithms = "aes-128-cbc"
pfs-group = "none"
[[pool]]
name = "ike2-pool"
ranges = "192.168.77.2-192.168.77.254"
[[mode-config]]
name = "ike2-conf"
address-pool = "ike2-pool"
address-prefix-length = 32
split-include = ["10.5.8.0/24", "192.168.55.0/24"]
static-dns = "10.5.8.1"
[[policy-group]]
name = "ike2-policies"
[[policy]]
template = true
group = "ike2-policies"
dst-address = "192.168.77.0/24"
src-address = "0.0.0.0/0"
proposal = "ike2"
level = "unique"
[[policy]]
action = "discard"
src-address = "0.0.0.0/0"
dst-address = "0.0.0.0/0"
[[peer]]
name = "ike2"
exchange-mode = "ike2"
passive = true
profile = "ike2"
[[identity]]
peer = "ike2"
secret = "s"
generate-policy = "port-strict"
mode-config = "ike2-conf"
policy-template-group = "ike2-policies"
`

// warriorClient is the manual's client with its own mode-config, request-only.
const warriorClient = `
[[profile]]
name = "ike2"
dh-group = "x25519"
enc-algorithm = "aes-128"
hash-algorithm = "sha256"
[[proposal]]
name = "ike2"
auth-algorithms = "sha256"
enc-algorithms = "aes-128-cbc"
pfs-group = "none"
[[policy-group]]
name = "ike2-rw"
[[policy]]
template = true
group = "ike2-rw"
proposal = "ike2"
level = "unique"
[[peer]]
name = "office"
address = "192.0.2.2"
exchange-mode = "ike2"
profile = "ike2"
[[identity]]
peer = "office"
secret = "s"
generate-policy = "port-strict"
mode-config = "request-only"
policy-template-group = "ike2-rw"
`

// table is `policy print` in brief.
func (n *node) table() (lines []string) {
	for _, r := range n.view().Policies() {
		flags := ""
		for _, f := range []struct {
			on     bool
			letter string
		}{{r.Template, "T"}, {r.Dynamic, "D"}, {r.Active, "A"}, {r.Default, "*"}} {
			if f.on {
				flags += f.letter
			}
		}
		lines = append(lines, fmt.Sprintf("%d %s %s => %s %s %s %d", r.Number, flags, r.SrcAddress, r.DstAddress, r.Action, r.Level, r.Ph2Count))
	}
	return lines
}

func (n *node) wantTable(t *testing.T, want ...string) {
	t.Helper()
	if got := strings.Join(n.table(), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("%v: policies\n%s\nwant\n%s", n.addr, got, strings.Join(want, "\n"))
	}
}

// The manual's example: an address, a policy for each network of split-include,
// traffic with that source; and all of it gone with the IKE SA.
func TestRoadWarrior(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 20 * time.Millisecond})
	w.east.mustConfigure(warriorServer)
	w.west.mustConfigure(warriorClient)
	up := func() bool { return w.west.count(core.EvChildUp) >= 1 && w.east.count(core.EvChildUp) >= 1 }
	w.until("a tunnel", up)
	w.run(10 * time.Second)
	w.west.wantTable(t,
		"0 T* ::/0 => ::/0 encrypt require 0",
		"1 T ::/0 => ::/0 encrypt unique 0",
		"2 DA 192.168.77.2/32 => 10.5.8.0/24 encrypt unique 1",
		"3 DA 192.168.77.2/32 => 192.168.55.0/24 encrypt unique 1")
	w.east.wantTable(t,
		"0 T* ::/0 => ::/0 encrypt require 0",
		"1 T 0.0.0.0/0 => 192.168.77.0/24 encrypt unique 0",
		"2 DA 0.0.0.0/0 => 192.168.77.2/32 encrypt unique 1",
		"3  0.0.0.0/0 => 0.0.0.0/0 discard require 0")
	w.carries(w.west, w.east, "192.168.77.2", "10.5.8.9")
	w.carries(w.east, w.west, "192.168.55.9", "192.168.77.2")
	if r := w.east.plane.Send(w.clock.Now(), echo("10.5.8.9", "192.168.77.3", 1)); r != datapath.OutPolicyBlocked {
		t.Errorf("to an address that nobody has: %v", r)
	}
	rows := w.west.view().ActivePeers()
	if len(rows) != 1 || rows[0].DynamicAddress != "192.168.77.2" || rows[0].DNS != "10.5.8.1" {
		t.Errorf("active peers %+v", rows)
	}
	if rows := w.east.view().ActivePeers(); rows[0].DynamicAddress != "192.168.77.2" {
		t.Errorf("active peers %+v", rows)
	}
	if rows := w.east.view().Pools(); rows[0].Used != 1 || rows[0].Kept != 0 {
		t.Errorf("pools %+v", rows)
	}
	plan := w.west.plane.Plan(w.west.comp)
	if len(plan.Addresses) != 1 || plan.Addresses[0].String() != "192.168.77.2/32" || len(plan.Routes) != 2 {
		t.Errorf("plan %+v", plan)
	}
	if routes := w.east.plane.Plan(w.east.comp).Routes; len(routes) != len(netipPrefixes("192.168.77.2", "192.168.77.254"))+1 {
		t.Errorf("the pool leads to the device, and no road warrior alone: %v", routes)
	}

	// A rekey of both keeps the address; a restart of the IKE SA brings it back.
	w.west.input(core.Command{Do: core.RekeyIKE})
	w.run(10 * time.Second)
	w.east.input(core.Command{Do: core.RekeyChildren})
	w.run(10 * time.Second)
	w.west.input(core.Command{Do: core.RekeyChildren})
	w.run(10 * time.Second)
	w.carries(w.west, w.east, "192.168.77.2", "10.5.8.9")
	w.carries(w.east, w.west, "10.5.8.9", "192.168.77.2")
	w.east.input(core.Command{Do: core.KillAll})
	w.run(200 * time.Millisecond)
	if plan := w.west.plane.Plan(w.west.comp); len(plan.Addresses) != 0 || len(plan.Routes) != 0 {
		t.Errorf("without IKE SA: %+v", plan)
	}
	if rows := w.east.view().Pools(); rows[0].Used != 0 || rows[0].Kept != 1 {
		t.Errorf("pools %+v", rows)
	}
	w.east.wantTable(t, "0 T* ::/0 => ::/0 encrypt require 0", "1 T 0.0.0.0/0 => 192.168.77.0/24 encrypt unique 0", "2  0.0.0.0/0 => 0.0.0.0/0 discard require 0")
	w.run(20 * time.Second)
	w.carries(w.west, w.east, "192.168.77.2", "192.168.55.1")

	// A reload that leaves the template keeps everything, also where it stands.
	before := fmt.Sprint(w.east.spis())
	w.east.mustConfigure(strings.Replace(warriorServer, "[[policy]]\ntemplate", "[[policy]]\naction = \"discard\"\nsrc-address = \"10.9.0.0/16\"\ndst-address = \"0.0.0.0/0\"\n[[policy]]\ntemplate", 1))
	w.run(time.Second)
	if rows := w.east.table(); rows[3] != "3 DA 0.0.0.0/0 => 192.168.77.2/32 encrypt unique 1" {
		t.Errorf("after a reload: %v", rows)
	}
	if r := w.east.plane.Send(w.clock.Now(), echo("10.9.0.1", "192.168.77.2", 1)); r != datapath.OutPolicyBlocked {
		t.Errorf("above the template stands a discard: %v", r)
	}
	w.carries(w.east, w.west, "10.5.8.9", "192.168.77.2")
	if after := fmt.Sprint(w.east.spis()); len(after) != len(before) || w.east.count(core.EvIKEDown) != 1 { // by command; the rekey is no end
		t.Errorf("SAs %s, then %s; events %v", before, after, kinds(w.east.events))
	}
	// One that changes the template ends what was made from it.
	w.east.mustConfigure(strings.Replace(warriorServer, `level = "unique"`, `level = "require"`, 1))
	w.run(30 * time.Second)
	// The client asks again for what it uses.
	if rows := w.east.table(); rows[2] != "2 DA 10.5.8.0/24 => 192.168.77.2/32 encrypt require 1" || rows[3] != "3 DA 192.168.55.0/24 => 192.168.77.2/32 encrypt require 1" {
		t.Errorf("made anew: %v", rows)
	}
	w.carries(w.east, w.west, "10.5.8.9", "192.168.77.2")
}

func netipPrefixes(from, to string) (list []netip.Prefix) {
	return routePrefixes(netip.MustParseAddr(from), netip.MustParseAddr(to))
}

// 200 road warriors who come at once, through a network that loses.
func TestManyRoadWarriors(t *testing.T) {
	const n = 200
	w := newSeededWorld(t, simnet.Link{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.02}, 5)
	w.east.mustConfigure(warriorServer)
	addr := netip.MustParseAddr("198.51.100.1")
	for i := range n {
		c := w.node(addr, 5, byte(i+3))
		addr = addr.Next()
		w.others = append(w.others, c)
		c.mustConfigure(strings.Replace(warriorClient, `peer = "office"`, fmt.Sprintf("peer = \"office\"\nmy-id = \"user-fqdn:rw%d@example.net\"", i), 1))
	}
	w.until("all are there", func() bool { return len(w.east.plane.Made.Policies) == n && w.east.plane.SAs.Len() >= n })
	w.run(15 * time.Second)
	seen := map[netip.Addr]bool{}
	for i, c := range w.others {
		sas := c.plane.Config.Endpoint.SAs()
		if len(sas) != 1 || len(sas[0].Leased) != 1 || seen[sas[0].Leased[0]] {
			t.Fatalf("road warrior %d: %+v", i, sas)
		}
		own := sas[0].Leased[0]
		seen[own] = true
		w.net = simnet.New(1, simnet.Link{Delay: time.Millisecond})
		w.carries(c, w.east, own.String(), "10.5.8.9")
		w.carries(w.east, c, "10.5.8.9", own.String())
	}
	if plans := w.east.host.Plans(); len(plans) != 1 {
		t.Errorf("%d plans of the host for %d road warriors", len(plans), n)
	}
	for _, c := range w.others {
		c.input(core.Command{Do: core.Shutdown})
	}
	w.run(10 * time.Second)
	if len(w.east.plane.Made.Policies) != 0 || w.east.plane.SAs.Len() != 0 {
		t.Errorf("%d policies and %d SAs are left", len(w.east.plane.Made.Policies), w.east.plane.SAs.Len())
	}
	if rows := w.east.view().Pools(); rows[0].Used != 0 || rows[0].Kept != n {
		t.Errorf("pools %+v", rows)
	}
}

func routePrefixes(from, to netip.Addr) []netip.Prefix {
	return selector.TS{Lo: from, Hi: to, PortHi: 65535}.Prefixes()
}

// Two road warriors at home, each behind its own NAT, whose private address is the same and is
// their ID. Each has an address of its own, and neither notices the other.
func TestTwoRoadWarriorsWithOnePrivateAddress(t *testing.T) {
	w := newSeededWorld(t, simnet.Link{Delay: 10 * time.Millisecond}, 7)
	other := w.node(netip.MustParseAddr("192.0.2.3"), 7, 3)
	w.others = append(w.others, other)
	w.east.mustConfigure(warriorServer)
	client := strings.Replace(warriorClient, "secret =", "my-id = \"address:192.168.1.5\"\nsecret =", 1)
	has := func(n *node) string {
		rows := n.view().ActivePeers()
		if len(rows) != 1 {
			t.Fatalf("%v has %d IKE SAs", n.addr, len(rows))
		}
		return rows[0].DynamicAddress
	}
	clients := []*node{w.west, other}
	for i, n := range clients {
		w.net.Behind(netip.PrefixFrom(n.addr, 32), simnet.NewNAT(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})))
		n.mustConfigure(client)
		w.run(10 * time.Second)
	}
	for i, n := range clients {
		if got, want := has(n), fmt.Sprintf("192.168.77.%d", i+2); got != want {
			t.Errorf("%v has %s, not %s", n.addr, got, want)
		}
		w.carries(n, w.east, has(n), "10.5.8.9")
		w.carries(w.east, n, "10.5.8.9", has(n))
	}
	if n := w.east.count(core.EvIKEDown); n != 0 {
		t.Errorf("%d IKE SAs ended at the server: %v", n, kinds(w.east.events))
	}
}
