//go:build linux

package interop

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/internal/testing/lab"
)

// The configuration payload with strongSwan in both roles: inner addresses from
// a pool, split networks, and policies made from templates. These cells have a
// network of their own.

func roadWarriorCells() []cell {
	const g = "Road warriors: addresses from a pool, policies from templates"
	cs := []cell{
		{group: g, name: "two-road-warriors", theyInitiate: true, limit: 5 * time.Minute, scene: twoRoadWarriors,
			event: event{name: "each reaches two networks; IKE SAs and CHILD SAs rekeyed; culvert stopped and started: the same addresses"}},
		{group: g, name: "road-warrior-asks-for-everything", theyInitiate: true, scene: asksForEverything,
			event: event{name: "a CHILD SA for more than split-include"}},
		{group: g, name: "road-warrior-ipv6", theyInitiate: true, v6: true, scene: roadWarriorIPv6,
			event: event{name: "an address of IPv6"}},
	}
	for _, first := range []string{"make", "break"} {
		cs = append(cs, cell{group: g, name: "road-warrior-reauthenticates-" + first + "-first", theyInitiate: true,
			scene: func(ctx context.Context, t *testing.T, l *lab.Lab) { reauthenticates(ctx, t, l, first == "make") },
			event: event{name: "strongSwan authenticates anew, " + first + " first: the same address"}})
	}
	for _, c := range []weAreClient{
		{"ipv4", "v4", "10.2.0.0/24, 10.3.0.0/24", []string{officeHost, officeOther}, "10.2.0.53"},
		{"both-families", "v4, v6", "10.2.0.0/24, fd00:2::/64", []string{officeHost, officeHost6}, "10.2.0.53"},
		{"ipv6", "v6", "fd00:2::/64", []string{officeHost6}, ""},
	} {
		cs = append(cs, cell{group: g, name: "we-are-the-road-warrior-" + c.name, v6: c.name == "ipv6", limit: 4 * time.Minute, scene: c.run,
			event: event{name: "address, routes and DNS from strongSwan; the IKE SA rekeyed; all of it gone after SIGTERM"}})
	}
	return cs
}

const (
	officeHost  = "10.2.0.1"
	officeOther = "10.3.0.1"
	officeHost6 = "fd00:2::1"
)

// suites of all of them.
const (
	configIKE = "aes256-sha256-ecp256"
	configESP = "aes128gcm16"
)

const ourSuites = `
[[profile]]
name = "rw"
enc-algorithm = "aes-256"
hash-algorithm = "sha256"
dh-group = "ecp256"
dpd-interval = "5s"
[[proposal]]
name = "rw"
enc-algorithms = "aes-128-gcm"
pfs-group = "none"
[[policy-group]]
name = "rw"
`

// ourServer is culvert as the manual's server of road warriors.
const ourServer = ourSuites + `
[[pool]]
name = "rw"
ranges = ["192.168.77.2-192.168.77.254", "fd00:77::2-fd00:77::ff"]
[[mode-config]]
name = "rw"
address-pool = "rw"
address-prefix-length = 32
split-include = ["10.2.0.0/24", "10.3.0.0/24"]
static-dns = "10.2.0.53"
[[policy]]
template = true
group = "rw"
proposal = "rw"
dst-address = "192.168.77.0/24"
src-address = "0.0.0.0/0"
[[policy]]
template = true
group = "rw"
proposal = "rw"
dst-address = "fd00:77::/64"
src-address = "fd00:2::/64"
[[peer]]
name = "rw"
exchange-mode = "ike2"
passive = true
profile = "rw"
[[identity]]
peer = "rw"
my-id = "fqdn:office.example.net"
secret = "` + secret + `"
generate-policy = "port-strict"
mode-config = "rw"
policy-template-group = "rw"
`

// theirClient is strongSwan as road warrior: connection t, child c.
func theirClient(id, vips, remoteTS string) string {
	return fmt.Sprintf(`connections {
	t {
		version = 2
		remote_addrs = 10.9.0.1
		vips = %s
		proposals = %s
		local {
			auth = psk
			id = %s
		}
		remote {
			auth = psk
			id = office.example.net
		}
		children {
			c {
				remote_ts = %s
				esp_proposals = %s
			}
		}
	}
}
secrets {
	ike-1 {
		secret = %q
	}
}
`, vips, configIKE, id, remoteTS, configESP, secret)
}

// hub wires machines to one network, 10.9.0.1 and up.
func hub(l *lab.Lab, names ...string) []*lab.Node {
	nodes := make([]*lab.Node, len(names))
	first := l.Node(names[0])
	nodes[0] = first
	if len(names) == 2 {
		nodes[1] = l.Node(names[1])
		l.Wire(lab.End{Node: first, Device: "eth0", Prefix: netip.MustParsePrefix("10.9.0.1/24")},
			lab.End{Node: nodes[1], Device: "eth0", Prefix: netip.MustParsePrefix("10.9.0.2/24")})
		return nodes
	}
	first.Run("ip", "link", "add", "br0", "type", "bridge")
	first.Run("ip", "link", "set", "br0", "up")
	first.Run("ip", "addr", "add", "10.9.0.1/24", "dev", "br0")
	for i, name := range names[1:] {
		nodes[i+1] = l.Node(name)
		port := fmt.Sprintf("port%d", i)
		l.Wire(lab.End{Node: first, Device: port, Prefix: netip.MustParsePrefix(fmt.Sprintf("169.254.%d.1/30", i))},
			lab.End{Node: nodes[i+1], Device: "eth0", Prefix: netip.MustParsePrefix(fmt.Sprintf("10.9.0.%d/24", i+2))})
		first.Run("ip", "addr", "flush", "dev", port)
		first.Run("ip", "link", "set", port, "master", "br0")
	}
	return nodes
}

// theirAddress is the inner address that strongSwan's child has.
func theirAddress(ctx context.Context, s *lab.StrongSwan) (addrs []string, child lab.ChildSA, err error) {
	err = lab.Until(ctx, func() error {
		sas, err := s.SAs(ctx)
		if err != nil {
			return err
		}
		for _, sa := range sas {
			for _, c := range sa.Children {
				if sa.State == "ESTABLISHED" && c.State == "INSTALLED" {
					addrs, child = c.LocalTS, c
					return nil
				}
			}
		}
		return fmt.Errorf("strongSwan has no CHILD SA yet")
	})
	return addrs, child, err
}

func host(prefix string) netip.Addr {
	text, _, _ := strings.Cut(prefix, "/")
	return netip.MustParseAddr(text)
}

// tell prints what culvert knows when the test failed.
func tell(t *testing.T, c *lab.Culvert) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for _, menu := range []string{"active-peers", "installed-sa", "policy", "statistics"} {
			text, err := c.Command(ctx, menu, "print", "--json")
			t.Logf("---- culvert %s print (%v) ----\n%s", menu, err, text)
		}
	})
}

// Two road warriors of strongSwan get different addresses from our pool, each
// reaches the networks behind us, and one that comes back after our restart gets
// the address that it had.
func twoRoadWarriors(ctx context.Context, t *testing.T, l *lab.Lab) {
	nodes := hub(l, "office", "anna", "bert")
	office := nodes[0]
	office.Inner(netip.MustParseAddr(officeHost), netip.MustParseAddr(officeOther))
	us := office.Culvert(ctx, "", ourServer)
	tell(t, us)

	had := map[string]string{}
	swans := map[string]*lab.StrongSwan{}
	for _, n := range nodes[1:] {
		s := n.StrongSwan(ctx, theirClient(n.Name+"@example.net", "0.0.0.0", "10.2.0.0/24, 10.3.0.0/24"))
		swans[n.Name] = s
		if err := s.InitiateChild(ctx, "c"); err != nil {
			t.Fatal(err)
		}
		addrs, child, err := theirAddress(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		if len(addrs) != 1 || !strings.HasPrefix(addrs[0], "192.168.77.") || strings.Join(child.RemoteTS, ",") != "10.2.0.0/24,10.3.0.0/24" {
			t.Fatalf("%s has %v => %v", n.Name, addrs, child.RemoteTS)
		}
		had[n.Name] = addrs[0]
	}
	if had["anna"] == had["bert"] {
		t.Fatalf("both have %s", had["anna"])
	}
	transfer := func() {
		t.Helper()
		for _, n := range nodes[1:] {
			for _, to := range []string{officeHost, officeOther} {
				if err := n.Transfer(ctx, host(had[n.Name]), office, netip.MustParseAddr(to), payload/4); err != nil {
					t.Fatalf("%s to %s: %v", n.Name, to, err)
				}
			}
		}
	}
	transfer()
	for _, s := range swans { // both rekeys keep the address
		if err := s.RekeyIKE(ctx, "t"); err != nil {
			t.Fatal(err)
		}
		if err := s.RekeyChild(ctx, "c"); err != nil {
			t.Fatal(err)
		}
	}
	transfer()
	if err := lab.Until(ctx, func() error { return leased(ctx, us, had) }); err != nil {
		t.Error(err)
	}

	// After a restart, bert comes first and gets his own all the same.
	if err := us.Terminate(ctx); err != nil {
		t.Fatal(err)
	}
	us.Restart(ctx)
	for _, name := range []string{"bert", "anna"} {
		if err := lab.Until(ctx, func() error { return swans[name].InitiateChild(ctx, "c") }); err != nil {
			t.Fatal(err)
		}
		if addrs, _, err := theirAddress(ctx, swans[name]); err != nil || addrs[0] != had[name] {
			t.Errorf("%s had %s and has %v (%v)", name, had[name], addrs, err)
		}
	}
	transfer()
}

// leased says whether culvert has one IKE SA with each road warrior, with the address
// that strongSwan has, and no other address in use.
func leased(ctx context.Context, us *lab.Culvert, had map[string]string) error {
	rows, err := us.Print(ctx, "active-peers")
	if err != nil || len(rows) != len(had) {
		return fmt.Errorf("active-peers %v, %v", rows, err)
	}
	for _, row := range rows {
		name, _, _ := strings.Cut(row.Text("id"), "@")
		if got := row.Text("dynamic-address"); had[name] != got+"/32" {
			return fmt.Errorf("%s: dynamic-address %q, strongSwan has %s", name, got, had[name])
		}
	}
	if rows, err = us.Print(ctx, "pool"); err != nil || len(rows) != 1 || rows[0].Number("used") != uint64(len(had)) {
		return fmt.Errorf("pools %v, %v", rows, err)
	}
	return nil
}

// A client that asks for everything, as Windows does, gets everything that the
// template allows, from its own address alone.
func asksForEverything(ctx context.Context, t *testing.T, l *lab.Lab) {
	nodes := hub(l, "office", "anna")
	us := nodes[0].Culvert(ctx, "", ourServer)
	tell(t, us)
	s := nodes[1].StrongSwan(ctx, theirClient("anna@example.net", "0.0.0.0", "10.0.0.0/8"))
	if err := s.InitiateChild(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	addrs, child, err := theirAddress(ctx, s)
	if err != nil || strings.Join(addrs, ",") != "192.168.77.2/32" || strings.Join(child.RemoteTS, ",") != "10.0.0.0/8" {
		t.Fatalf("%v => %v, %v", addrs, child.RemoteTS, err)
	}
	rows, err := us.Print(ctx, "policy")
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	for _, r := range rows {
		if r.Text("dynamic") == "true" && r.Text("active") == "true" && r.Text("src-address") == "10.0.0.0/8" && r.Text("dst-address") == "192.168.77.2/32" {
			made++
		}
	}
	if made != 1 {
		t.Errorf("policies %v", rows)
	}
}

// An address of IPv6 from the same pool.
func roadWarriorIPv6(ctx context.Context, t *testing.T, l *lab.Lab) {
	nodes := hub(l, "office", "anna")
	nodes[0].Inner(netip.MustParseAddr(officeHost6))
	us := nodes[0].Culvert(ctx, "", ourServer)
	tell(t, us)
	s := nodes[1].StrongSwan(ctx, theirClient("anna@example.net", "::", "fd00:2::/64"))
	if err := s.InitiateChild(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	addrs, _, err := theirAddress(ctx, s)
	if err != nil || strings.Join(addrs, ",") != "fd00:77::2/128" {
		t.Fatalf("%v, %v", addrs, err)
	}
	if err := nodes[1].Transfer(ctx, host(addrs[0]), nodes[0], netip.MustParseAddr(officeHost6), payload); err != nil {
		t.Fatal(err)
	}
}

// theirServer is strongSwan with pools, behind which the office's networks are.
func theirServer(pools, localTS string) string {
	return fmt.Sprintf(`connections {
	t {
		version = 2
		local_addrs = 10.9.0.2
		pools = %s
		proposals = %s
		local {
			auth = psk
			id = office.example.net
		}
		remote {
			auth = psk
		}
		children {
			c {
				local_ts = %s
				esp_proposals = %s
			}
		}
	}
}
pools {
	v4 {
		addrs = 192.168.78.0/24
		dns = 10.2.0.53
	}
	v6 {
		addrs = fd00:78::/120
	}
}
secrets {
	ike-1 {
		secret = %q
	}
}
`, pools, configIKE, localTS, configESP, secret)
}

const ourClient = ourSuites + `
[[policy]]
template = true
group = "rw"
proposal = "rw"
level = "unique"
[[peer]]
name = "office"
address = "10.9.0.2"
exchange-mode = "ike2"
profile = "rw"
[[identity]]
peer = "office"
my-id = "user-fqdn:anna@example.net"
remote-id = "fqdn:office.example.net"
secret = "` + secret + `"
generate-policy = "port-strict"
mode-config = "request-only"
policy-template-group = "rw"
`

// weAreClient: we are the road warrior. The address is on our device, traffic has
// it as its source, and all of it goes when we end.
type weAreClient struct {
	name, pools, localTS string
	hosts                []string
	dns                  string
}

func (c weAreClient) run(ctx context.Context, t *testing.T, l *lab.Lab) {
	nodes := hub(l, "anna", "office")
	anna, office := nodes[0], nodes[1]
	for _, h := range c.hosts {
		office.Inner(netip.MustParseAddr(h))
	}
	office.StrongSwan(ctx, theirServer(c.pools, c.localTS))
	bare := anna.Network()
	us := anna.Culvert(ctx, "", ourClient)
	tell(t, us)
	var addrs []string
	err := lab.Until(ctx, func() error {
		rows, err := us.Print(ctx, "active-peers")
		if err != nil || len(rows) != 1 || rows[0].Text("dynamic-address") == "" || rows[0].Text("dns") != c.dns {
			return fmt.Errorf("active-peers %v, %v", rows, err)
		}
		addrs = strings.Split(rows[0].Text("dynamic-address"), ",")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	transfer := func() {
		t.Helper()
		for _, h := range c.hosts {
			to, from := netip.MustParseAddr(h), netip.Addr{}
			for _, a := range addrs {
				if own := netip.MustParseAddr(a); own.BitLen() == to.BitLen() {
					from = own
				}
			}
			if !strings.Contains(anna.Run("ip", "addr", "show", "dev", "culvert0"), from.String()+"/") {
				t.Fatalf("%v is not on the device:\n%s", from, anna.Run("ip", "addr"))
			}
			if out := anna.Run("ip", "route", "get", h); !strings.Contains(out, "src "+from.String()) {
				t.Errorf("the way to %s has another source than %v: %s", h, from, out)
			}
			if err := anna.Transfer(ctx, from, office, to, payload/4); err != nil {
				t.Fatalf("to %s: %v", h, err)
			}
		}
	}
	transfer()
	if _, err := us.Command(ctx, "active-peers", "rekey"); err != nil {
		t.Fatal(err)
	}
	transfer()
	if err := us.Terminate(ctx); err != nil {
		t.Fatal(err)
	}
	if left := anna.Network(); left != bare {
		t.Errorf("left behind:\n%s\nbefore:\n%s", left, bare)
	}
}
