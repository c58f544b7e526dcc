//go:build linux

package interop

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"culvert/internal/testing/lab"
)

// secret is the pre-shared key of all cells.
const secret = "correct horse battery staple"

// plan is the addresses of a cell's tunnel.
type plan struct {
	we, they         netip.Addr // outer addresses of the gateways
	weSee, theySee   netip.Addr // the other one's outer address as each sees it
	weID, theyID     naming
	weNet, theyNet   string // protected networks
	weHost, theyHost netip.Addr
}

func (c *cell) plan() plan {
	p := plan{
		we: netip.MustParseAddr("10.9.0.1"), they: netip.MustParseAddr("10.9.0.2"),
		weNet: "10.1.0.0/24", theyNet: "10.2.0.0/24",
		weHost: netip.MustParseAddr("10.1.0.1"), theyHost: netip.MustParseAddr("10.2.0.1"),
	}
	if c.v6 {
		p.weNet, p.theyNet = "fd00:1::/64", "fd00:2::/64"
		p.weHost, p.theyHost = netip.MustParseAddr("fd00:1::1"), netip.MustParseAddr("fd00:2::1")
	}
	if c.outer6 {
		p.we, p.they = netip.MustParseAddr("fd00:9::1"), netip.MustParseAddr("fd00:9::2")
	}
	if c.wide != narrow {
		// A router stands between the gateways: no connected network leads past the tunnel.
		p.they = netip.MustParseAddr("10.8.0.2")
		p.theyNet, p.theyHost = "0.0.0.0/0", netip.MustParseAddr("198.51.100.7")
	}
	if c.wide == everything {
		p.weNet = "0.0.0.0/0"
	}
	hidden, router, public := netip.MustParseAddr("192.168.7.2"), netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
	p.weSee, p.theySee = p.they, p.we
	switch c.nat {
	case we:
		p.we, p.they, p.weSee, p.theySee = hidden, public, public, router
	case they:
		p.we, p.they, p.weSee, p.theySee = public, hidden, router, public
	}
	p.weID, p.theyID = name(byAddress, p.we.String()), name(byAddress, p.they.String())
	switch {
	case c.ids != "":
		p.weID, p.theyID = identities(c.ids)
	case c.longIDs:
		long := strings.Repeat("a-label-of-thirty-two-characters.", 15) // strongSwan takes 511 bytes
		p.weID, p.theyID = name(byFQDN, long+"we.example.net"), name(byFQDN, long+"they.example.net")
	case c.nat != nobody:
		p.weID, p.theyID = identities(byFQDN)
	}
	return p
}

// wire builds the cell's network and returns culvert's machine and strongSwan's,
// and the router between them if there is one.
func (c *cell) wire(l *lab.Lab) (us, them, router *lab.Node) {
	p := c.plan()
	us, them = l.Node("we"), l.Node("they")
	us.Inner(p.weHost)
	them.Inner(p.theyHost)
	bits := 24
	if c.outer6 {
		bits = 64
		for _, n := range []*lab.Node{us, them} {
			n.Sysctl("net.ipv6.conf.default.accept_dad", "0") // addresses can be used at once
		}
	}
	ends := [2]lab.End{
		{Node: us, Device: "eth0", Prefix: netip.PrefixFrom(p.we, bits)},
		{Node: them, Device: "eth0", Prefix: netip.PrefixFrom(p.they, bits)},
	}
	switch {
	case c.wide != narrow:
		router = l.Node("router")
		router.Sysctl("net.ipv4.ip_forward", "1")
		for i, gate := range []string{"10.9.0.254", "10.8.0.254"} {
			l.Wire(ends[i], lab.End{Node: router, Device: fmt.Sprintf("eth%d", i), Prefix: netip.PrefixFrom(netip.MustParseAddr(gate), 24)})
			ends[i].Node.Run("ip", "route", "add", "default", "via", gate)
		}
		for _, dev := range []string{"all", "default", "eth0"} {
			us.Sysctl("net.ipv4.conf."+dev+".rp_filter", "1")
		}
	case c.nat == nobody:
		l.Wire(ends[0], ends[1])
		if c.extra.address != "" {
			us.Run("ip", "addr", "add", c.extra.address, "dev", "eth0")
		}
	default:
		hidden, public := ends[0], ends[1]
		if c.nat == they {
			hidden, public = public, hidden
		}
		router = l.Node("nat")
		l.Wire(hidden, lab.End{Node: router, Device: "in0", Prefix: netip.MustParsePrefix("192.168.7.1/24")})
		l.Wire(lab.End{Node: router, Device: "out0", Prefix: netip.MustParsePrefix("203.0.113.1/24")}, public)
		hidden.Node.Run("ip", "route", "add", "default", "via", "192.168.7.1")
		router.Masquerade("out0")
	}
	return us, them, router
}

// swanctl is strongSwan's end of the tunnel: connection t, child c.
func (c *cell) swanctl() string {
	p := c.plan()
	remote := p.theySee.String()
	if c.nat == we {
		remote = "%any"
	}
	expected := p.weID
	if c.stranger == they {
		expected = nobodyID
	}
	return c.proofs.swanctl(fmt.Sprintf(`connections {
	t {
		version = %d
		local_addrs = %s
		remote_addrs = %s
		proposals = %s
		%s
		local {
			auth = psk
			id = %s
		}
		remote {
			auth = psk
			id = %s
		}
		children {
			c {
				local_ts = %s
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
%s}
`, c.version(), p.they, remote, c.ike.proposal(), c.extra.connection, p.theyID.swan, expected.swan, p.theyNet, p.weNet, c.esp.proposal(), secret, c.extra.secrets))
}

// version is that of IKE.
func (c *cell) version() int {
	if c.mode == "ike2" {
		return 2
	}
	return 1
}

// toml is culvert's end of the tunnel, without the [gateway] table.
func (c *cell) toml() string {
	p := c.plan()
	expected, ownSecret := p.theyID, secret
	if c.stranger == we {
		expected = nobodyID
	}
	if c.otherSecret {
		ownSecret = "another one"
	}
	return c.proofs.toml(fmt.Sprintf(`
[[profile]]
name = "interop"
enc-algorithm = %q
hash-algorithm = %q
dh-group = %s
dpd-interval = %q
%s%s
[[proposal]]
name = "interop"
enc-algorithms = %q
pfs-group = %s
%s%s
[[peer]]
name = "strongswan"
address = "%s"
exchange-mode = %q
profile = "interop"
passive = %t
%s
[[identity]]
peer = "strongswan"
secret = %q
my-id = %q
remote-id = %q
%s
[[policy]]
peer = "strongswan"
src-address = %q
dst-address = %q
tunnel = true
proposal = "interop"
`, c.ike.encr.ike, c.ike.hash.name, c.dhGroup(), cmp.Or(c.extra.dpd, "5s"), setting("lifetime", c.ikeLifetime), c.extra.profile,
		c.esp.encr.esp, c.pfsGroup(), setting("auth-algorithms", c.esp.authAlgorithms()), setting("lifetime", c.lifetime),
		p.weSee, c.mode, c.theyInitiate, c.extra.peer, ownSecret, p.weID.ours, expected.ours, c.extra.identity, p.weNet, p.theyNet))
}

// dhGroup is the profile's dh-group: that of the suite, or with others before it.
func (c *cell) dhGroup() string {
	if c.extra.before != "" {
		return fmt.Sprintf("[%q, %q]", c.extra.before, c.ike.dh.name)
	}
	return fmt.Sprintf("%q", c.ike.dh.name)
}

// pfsGroup is the proposal's pfs-group in the same way.
func (c *cell) pfsGroup() string {
	if c.extra.pfsBefore != "" {
		return fmt.Sprintf("[%q, %q]", c.extra.pfsBefore, c.esp.pfs.name)
	}
	return fmt.Sprintf("%q", c.esp.pfs.name)
}

// setting is a TOML line, or nothing when the default is meant.
func setting(key, value string) string {
	if value == "" {
		return ""
	}
	return fmt.Sprintf("%s = %q\n", key, value)
}
