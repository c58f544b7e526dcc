//go:build linux

package interop

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/internal/testing/lab"
)

// TestTransportThroughNAT: two culverts protect the traffic of their own hosts in
// transport mode through NAT routers, which hide the initiator, the responder or
// both. TCP goes through, and goes on after each end has rekeyed.
func TestTransportThroughNAT(t *testing.T) {
	lab.Need(t)
	for name, c := range map[string]struct{ we, they bool }{"initiator": {we: true}, "responder": {they: true}, "both": {true, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			l := lab.New(t)
			we := natEnd(l, "we", "203.0.113.1", "192.168.7", c.we)
			they := natEnd(l, "they", "203.0.113.2", "192.168.8", c.they)
			l.Wire(we.out, they.out)
			if c.we {
				we.out.Node.Masquerade("out0")
			}
			if c.they {
				they.out.Node.Masquerade("out0")
				they.out.Node.Forward("out0", they.addr, 500, 4500)
			}
			theirs := they.node.Culvert(ctx, "", transportTOML(they.addr, we.seen, true))
			ours := we.node.Culvert(ctx, "", transportTOML(we.addr, they.seen, false))
			if err := we.node.Transfer(ctx, we.addr, they.node, they.seen, payload); err != nil {
				t.Fatal(err)
			}
			for _, end := range []*lab.Culvert{ours, theirs} {
				before, err := end.Print(ctx, "installed-sa")
				if err != nil || len(before) != 2 {
					t.Fatalf("%d SAs, %v", len(before), err)
				}
				if _, err := end.Command(ctx, "installed-sa", "rekey"); err != nil {
					t.Fatal(err)
				}
				if err := lab.Until(ctx, func() error {
					now, err := end.Print(ctx, "installed-sa")
					if err == nil && (len(now) != 2 || now[0].Text("spi") == before[0].Text("spi")) {
						err = fmt.Errorf("not rekeyed: %v", now)
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
				if err := we.node.Transfer(ctx, we.addr, they.node, they.seen, payload); err != nil {
					t.Fatal(err)
				}
				rows, err := end.Print(ctx, "installed-sa")
				if err != nil {
					t.Fatal(err)
				}
				for _, row := range rows {
					if row.Number("current-bytes") < payload {
						t.Errorf("an SA carried %d bytes of a transfer of %d", row.Number("current-bytes"), payload)
					}
				}
			}
		})
	}
}

// natted is a host, behind a NAT router or not.
type natted struct {
	node       *lab.Node
	out        lab.End    // towards the other one
	addr, seen netip.Addr // its address, and as the other one sees it
}

func natEnd(l *lab.Lab, name, public, private string, hidden bool) natted {
	n := natted{node: l.Node(name), seen: netip.MustParseAddr(public)}
	n.addr, n.out = n.seen, lab.End{Node: n.node, Device: "out0", Prefix: netip.PrefixFrom(n.seen, 24)}
	if hidden {
		router := l.Node("nat-" + name)
		n.addr = netip.MustParseAddr(private + ".2")
		l.Wire(lab.End{Node: n.node, Device: "eth0", Prefix: netip.PrefixFrom(n.addr, 24)},
			lab.End{Node: router, Device: "in0", Prefix: netip.MustParsePrefix(private + ".1/24")})
		n.node.Run("ip", "route", "add", "default", "via", private+".1")
		n.out.Node = router
	}
	return n
}

func transportTOML(here, there netip.Addr, passive bool) string {
	return fmt.Sprintf(`
[[proposal]]
name = "host"
enc-algorithms = "aes-256-gcm"
pfs-group = "none"

[[profile]]
name = "host"
dh-group = "x25519"
enc-algorithm = "aes-256"
hash-algorithm = "sha256"

[[peer]]
name = "other"
address = "%s/32"
exchange-mode = "ike2"
profile = "host"
passive = %t

[[identity]]
peer = "other"
secret = %q

[[policy]]
peer = "other"
src-address = "%s/32"
dst-address = "%s/32"
tunnel = false
proposal = "host"
`, there, passive, secret, here, there)
}
