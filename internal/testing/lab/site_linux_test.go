package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// The manual's first example: two offices, a tunnel by IKEv1 with a pre-shared key. Every property is as the manual writes it.
const manualSite = `
[[profile]]
dh-group = "modp2048"
enc-algorithm = "aes-128"
name = "ike1-site%[1]d"
[[proposal]]
enc-algorithms = "aes-128-cbc"
name = "ike1-site%[1]d"
pfs-group = "modp2048"
[[peer]]
address = "%[2]s/32"
name = "ike1-site%[1]d"
profile = "ike1-site%[1]d"
[[identity]]
peer = "ike1-site%[1]d"
secret = "thisisnotasecurepsk"
[[policy]]
src-address = "%[3]s"
src-port = "any"
dst-address = "%[4]s"
dst-port = "any"
tunnel = true
action = "encrypt"
proposal = "ike1-site%[1]d"
peer = "ike1-site%[1]d"
`

// manualSiteSwan is strongSwan in the place of either office.
const manualSiteSwan = `connections {
	t {
		version = 1
		local_addrs = %s
		remote_addrs = %s
		proposals = aes128-sha1-modp2048
		local {
			auth = psk
		}
		remote {
			auth = psk
		}
		children {
			c {
				local_ts = %s
				remote_ts = %s
				esp_proposals = aes128-sha1-modp2048
			}
		}
	}
}
secrets {
	ike-1 {
		secret = thisisnotasecurepsk
	}
}
`

// office is one end of the example.
type office struct {
	node         *Node
	number       int
	address, net string
	host         netip.Addr
}

func (o *office) toml(other *office) string {
	return fmt.Sprintf(manualSite, other.number, other.address, o.net, other.net)
}

func (o *office) swanctl(other *office) string {
	return fmt.Sprintf(manualSiteSwan, o.address, other.address, o.net, other.net)
}

// Two Culverts, and strongSwan at either end.
func TestManualSiteToSite(t *testing.T) {
	Need(t)
	for _, swan := range []int{0, 1, 2} {
		name := "two Culverts"
		if swan > 0 {
			name = fmt.Sprintf("strongSwan in office %d", swan)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			l := New(t)
			offices := []*office{
				{l.Node("office1"), 1, "192.168.90.1", "10.1.202.0/24", netip.MustParseAddr("10.1.202.1")},
				{l.Node("office2"), 2, "192.168.80.1", "10.1.101.0/24", netip.MustParseAddr("10.1.101.1")},
			}
			internet := l.Node("internet")
			for i, o := range offices {
				router := strings.TrimSuffix(o.address, "1") + "254"
				l.Wire(End{o.node, "eth0", netip.MustParsePrefix(o.address + "/24")}, End{internet, fmt.Sprintf("eth%d", i), netip.MustParsePrefix(router + "/24")})
				o.node.Run("ip", "route", "add", "default", "via", router)
				o.node.Inner(o.host)
			}
			internet.Sysctl("net.ipv4.ip_forward", "1")
			var s *StrongSwan
			var gates []*Culvert
			for i, o := range offices {
				if swan == o.number {
					s = o.node.StrongSwan(ctx, o.swanctl(offices[1-i]))
				} else {
					gates = append(gates, o.node.Culvert(ctx, "", o.toml(offices[1-i])))
				}
			}
			const size = 300_000
			from, to := offices[0], offices[1]
			if swan == 1 { // libipsec has no way to begin by traffic
				if err := s.InitiateChild(ctx, "c"); err != nil {
					t.Fatal(err)
				}
			}
			if err := from.node.Transfer(ctx, from.host, to.node, to.host, size); err != nil {
				t.Fatal(err)
			}
			for _, g := range gates {
				rows, err := g.Print(ctx, "installed-sa")
				if err != nil || len(rows) < 2 {
					t.Fatalf("%d SAs: %v", len(rows), err)
				}
				for _, r := range rows[len(rows)-2:] {
					if r.Text("enc-algorithm") != "aes-cbc" || r.Number("enc-key-size") != 128 || r.Text("auth-algorithm") != "sha1" {
						t.Errorf("SA %v", r)
					}
				}
				if log := g.Log(); !strings.Contains(log, "IKEv1, aes-128/sha1, prf sha1, modp2048") || !strings.Contains(log, "aes-128-cbc/sha1/modp2048") {
					t.Errorf("another suite:\n%s", log)
				}
			}
			if s == nil {
				return
			}
			sas, err := s.SAs(ctx)
			if err != nil || len(sas) == 0 || len(sas[0].Children) == 0 {
				t.Fatalf("strongSwan has %v: %v", sas, err)
			}
			in, out := uint64(0), uint64(0)
			for _, sa := range sas {
				for _, c := range sa.Children {
					if got := [...]any{sa.Encr, sa.KeySize, sa.DH, c.Encr, c.KeySize, c.Integ}; got != [...]any{"AES_CBC", 128, "MODP_2048", "AES_CBC", 128, "HMAC_SHA1_96"} {
						t.Errorf("strongSwan reports %v", got)
					}
					in, out = in+c.BytesIn, out+c.BytesOut
				}
			}
			if in < size || out < size {
				t.Errorf("strongSwan counted %d bytes in and %d out for a transfer of %d in each direction", in, out, size)
			}
		})
	}
}
