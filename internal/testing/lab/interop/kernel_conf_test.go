//go:build linux

package interop

import (
	"fmt"
	"net/netip"
	"strings"
)

// kernelPlan is the addresses of a cell: ours, theirs.
type kernelPlan struct {
	gateways, hosts [2]netip.Addr
	nets            [2]netip.Prefix
}

var (
	kernelOuter = [2][2]netip.Addr{
		{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")},
		{netip.MustParseAddr("fd00:9::1"), netip.MustParseAddr("fd00:9::2")},
	}
	kernelInner = [2][2]netip.Addr{
		{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1")},
		{netip.MustParseAddr("fd00:1::1"), netip.MustParseAddr("fd00:2::1")},
	}
)

func (c *kernelCell) plan() kernelPlan {
	family := map[bool]int{true: 1}
	p := kernelPlan{gateways: kernelOuter[family[c.outer6]]}
	bits := [2]int{24, 64}[family[c.inner6]]
	p.hosts = kernelInner[family[c.inner6]]
	if c.transport {
		p.hosts, bits = p.gateways, p.gateways[0].BitLen()
	}
	for i, h := range p.hosts {
		p.nets[i] = netip.PrefixFrom(h, bits).Masked()
	}
	return p
}

// proposal is the suite as swanctl.conf writes it, with its line's key.
func (c *kernelCell) proposal() string {
	p, key := c.suite.proposal(), "esp_proposals"
	if c.ah {
		p, key = c.suite.hash.name, "ah_proposals"
	}
	p += map[esn]string{esnNo: "-noesn", esnYes: "-esn", esnBoth: "-esn-noesn"}[c.esn[1]]
	if c.padded {
		p += "\n\t\t\t\ttfc_padding = mtu"
	}
	return key + " = " + p
}

func (c *kernelCell) mode() string {
	if c.transport {
		return "transport"
	}
	return "tunnel"
}

func (c *kernelCell) protocol() string {
	if c.ah {
		return "ah"
	}
	return "esp"
}

// swanctl is strongSwan's end: connection t, child c.
func (c *kernelCell) swanctl() string {
	p := c.plan()
	return fmt.Sprintf(`connections {
	t {
		version = %[9]d
		mobike = no
		local_addrs = %[1]s
		remote_addrs = %[2]s
		proposals = %[3]s
		local {
			auth = psk
			id = %[1]s
		}
		remote {
			auth = psk
			id = %[2]s
		}
		children {
			c {
				mode = %[4]s
				local_ts = %[5]s
				remote_ts = %[6]s
				%[7]s
			}
		}
	}
}
secrets {
	ike-1 {
		secret = %[8]q
	}
}
`, p.gateways[1], p.gateways[0], usualIKE.proposal(), c.mode(), p.nets[1], p.nets[0], c.proposal(), secret, map[bool]int{true: 1, false: 2}[c.v1])
}

// exchange is the exchange-mode of culvert's peer.
func (c *kernelCell) exchange() string {
	if c.v1 {
		return "main"
	}
	return "ike2"
}

// gateway is lines of culvert's [gateway].
func (c *kernelCell) gateway() string {
	if c.udp {
		return "encapsulation = \"udp\"\n"
	}
	return ""
}

func (c *kernelCell) gatewayTable() string { return "[gateway]\n" + c.gateway() }

// toml is culvert's end, without [gateway].
func (c *kernelCell) toml() string {
	p := c.plan()
	auth, enc := c.suite.authAlgorithms(), setting("enc-algorithms", c.suite.encr.esp)
	if c.padded {
		enc += "tfc = \"mtu\"\n"
	}
	if c.dummies {
		enc += "tfc-dummies = 50\n"
	}
	if c.ah {
		auth, enc = c.suite.hash.name, ""
	}
	text := fmt.Sprintf(`
[[profile]]
name = "kernel"
enc-algorithm = %q
hash-algorithm = %q
dh-group = %q
[[proposal]]
name = "kernel"
pfs-group = %q
esn = %q
%s%s
[[peer]]
name = "kernel"
address = "%s/%d"
exchange-mode = %q
profile = "kernel"
passive = %t
[[identity]]
peer = "kernel"
secret = %q
`, usualIKE.encr.ike, usualIKE.hash.name, usualIKE.dh.name, c.suite.pfs.name, c.esn[0], enc, setting("auth-algorithms", auth),
		p.gateways[1], p.gateways[1].BitLen(), c.exchange(), c.theyInitiate, secret)
	if c.template { // which leaves the mode to strongSwan
		return text + fmt.Sprintf(`generate-policy = "port-strict"
policy-template-group = "kernel"
[[policy-group]]
name = "kernel"
[[policy]]
template = true
group = "kernel"
ipsec-protocols = %q
proposal = "kernel"
`, c.protocol())
	}
	return text + fmt.Sprintf(`[[policy]]
peer = "kernel"
src-address = %q
dst-address = %q
tunnel = %t
ipsec-protocols = %q
proposal = "kernel"
`, p.nets[0], p.nets[1], !c.transport, c.protocol())
}

// agreed is whether extended sequence numbers come of what both allow. Where
// both allow both, the initiator's order decides, and each puts them first.
func (c *kernelCell) agreed() bool { return c.esn[0] != esnNo && c.esn[1] != esnNo }

// String is the CHILD SA in the table.
func (c *kernelCell) String() string {
	s := c.suite.String()
	if c.ah {
		s = c.suite.hash.name
	}
	words := []string{strings.ToUpper(c.protocol())}
	if c.udp {
		words = append(words, "in UDP")
	}
	words = append(words, c.mode()+",", s)
	if c.agreed() {
		words = append(words, "esn")
	}
	return strings.Join(words, " ")
}

// inside is the address families in the table.
func (c *kernelCell) inside() string {
	name := map[bool]string{false: "IPv4", true: "IPv6"}
	if c.inner6 == c.outer6 {
		return name[c.inner6]
	}
	return name[c.inner6] + " in " + name[c.outer6]
}
