package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// SAs by hand between two gateways, without IKE: each protocol and mode carries
// a transfer, and the counters of both halves grow by it.
func TestManualSAs(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := New(t)
	a, b := l.Node("a"), l.Node("b")
	l.Wire(End{a, "eth0", netip.MustParsePrefix("10.9.0.1/24")}, End{b, "eth0", netip.MustParsePrefix("10.9.0.2/24")})
	a.Inner(netip.MustParseAddr("10.1.0.1"))
	b.Inner(netip.MustParseAddr("10.2.0.1"))
	key := func(n int, fill byte) string { return strings.Repeat(fmt.Sprintf("%02x", fill), n) }
	esp := []string{"--enc-algorithm", "aes-256-cbc", "--auth-algorithm", "sha256"}
	gcm := []string{"--enc-algorithm", "aes-128-gcm", "--esn"}
	for _, c := range []struct {
		name      string
		tunnel    bool
		protocols string
		flags     []string
		enc, auth int // bytes of ESP's keys
		ah        bool
	}{
		{"ESP tunnel", true, `["esp"]`, esp, 32, 32, false},
		{"ESP tunnel in UDP, ESN", true, `["esp"]`, append([]string{"--udp"}, gcm...), 20, 0, false},
		{"ESP transport", false, `["esp"]`, esp, 32, 32, false},
		{"AH tunnel", true, `["ah"]`, nil, 0, 0, true},
		{"AH transport", false, `["ah"]`, nil, 0, 0, true},
		{"AH around an ESP tunnel", true, `["ah", "esp"]`, gcm, 20, 0, true},
		{"AH around ESP transport", false, `["ah", "esp"]`, esp, 32, 32, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ends := []struct {
				node       *Node
				inner, out string
				in         int // SPIs and keys of what comes in are made of it
			}{{a, "10.1.0.1", "10.9.0.1", 1}, {b, "10.2.0.1", "10.9.0.2", 2}}
			if !c.tunnel {
				ends[0].inner, ends[1].inner = ends[0].out, ends[1].out
			}
			var gates [2]*Culvert
			for i, end := range ends {
				far := ends[1-i]
				gates[i] = end.node.Culvert(ctx, "", fmt.Sprintf(`[[policy]]
src-address = "%s/32"
dst-address = "%s/32"
sa-src-address = %q
sa-dst-address = %q
tunnel = %v
ipsec-protocols = %s
`, end.inner, far.inner, end.out, far.out, c.tunnel, c.protocols))
				args := append([]string{"sa", "add", "--policy", "1"}, c.flags...)
				for _, half := range []struct {
					name string
					n    int
				}{{"in", end.in}, {"out", far.in}} {
					if c.flags != nil {
						args = append(args, "--spi-"+half.name, fmt.Sprint(0x1000+half.n), "--enc-key-"+half.name, key(c.enc, byte(half.n)))
					}
					if c.auth > 0 {
						args = append(args, "--auth-key-"+half.name, key(c.auth, byte(16+half.n)))
					}
					if c.ah {
						args = append(args, "--ah-spi-"+half.name, fmt.Sprint(0x2000+half.n), "--ah-key-"+half.name, key(20, byte(32+half.n)))
					}
				}
				if c.ah {
					args = append(args, "--ah-algorithm", "sha1")
				}
				if _, err := gates[i].Command(ctx, args...); err != nil {
					t.Fatal(err)
				}
			}
			const size = 300_000
			if err := a.Transfer(ctx, netip.MustParseAddr(ends[0].inner), b, netip.MustParseAddr(ends[1].inner), size); err != nil {
				t.Fatal(err)
			}
			for i, g := range gates {
				rows, err := g.Print(ctx, "installed-sa")
				want := 2 * len(strings.Split(c.protocols, ","))
				if err != nil || len(rows) != want {
					t.Fatalf("%d rows, want %d: %v", len(rows), want, err)
				}
				for _, r := range rows {
					if r.Number("current-bytes") < size || r.Text("state") != "mature" {
						t.Errorf("%s carried %d bytes: %v", r.Text("spi"), r.Number("current-bytes"), r)
					}
				}
				policy, err := g.Print(ctx, "policy")
				if err != nil || policy[1].Text("sa-src-address") != ends[i].out || policy[1].Text("ph2-state") != "established" {
					t.Errorf("policy: %v, %v", policy, err)
				}
				spi := 0x1000 + ends[i].in
				if c.flags == nil {
					spi = 0x2000 + ends[i].in
				}
				if _, err := g.Command(ctx, "sa", "delete", fmt.Sprint(spi)); err != nil {
					t.Error(err)
				}
				if rows, err := g.Print(ctx, "installed-sa"); err != nil || len(rows) != 0 {
					t.Errorf("after sa delete: %v, %v", rows, err)
				}
				if err := g.Terminate(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
