package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

// clearConf is a gateway whose tunnel lets ICMP, and TCP to or from the transfer's
// port, pass in clear.
func clearConf(remote, src, dst string) string {
	none := func(match string) string {
		return fmt.Sprintf("[[policy]]\nsrc-address = %q\ndst-address = %q\naction = \"none\"\n%s\n", src, dst, match)
	}
	return none("protocol = \"tcp\"\ndst-port = 7000") + none("protocol = \"tcp\"\nsrc-port = 7000") + none("protocol = \"icmp\"") +
		fmt.Sprintf(`[[policy]]
src-address = %q
dst-address = %q
peer = "p"
tunnel = true
[[peer]]
name = "p"
address = %q
exchange-mode = "ike2"
[[identity]]
peer = "p"
secret = "correct horse battery staple"
`, src, dst, remote)
}

// asked is how many echo requests a node has received.
func asked(n *Node) int {
	n.lab.TB.Helper()
	for line := range strings.Lines(n.Run("cat", "/proc/net/snmp")) {
		// The eighth number of ICMP's second line, InEchos, see RFC 2011.
		if f := strings.Fields(line); f[0] == "Icmp:" && f[1] != "InMsgs" {
			v, err := strconv.Atoi(f[9])
			if err != nil {
				n.lab.TB.Fatal(err)
			}
			return v
		}
	}
	n.lab.TB.Fatal("no counters of ICMP")
	return 0
}

// action=none stands above a tunnel: what it names passes in clear, by the host's
// rules where they can tell it, else through the device; all else is protected.
func TestActionNone(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := New(t)
	a, b := l.Node("a"), l.Node("b")
	l.Wire(End{a, "eth0", netip.MustParsePrefix("10.9.0.1/24")}, End{b, "eth0", netip.MustParsePrefix("10.9.0.2/24")})
	innerA, innerB := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1")
	a.Inner(innerA)
	b.Inner(innerB)
	a.Run("ip", "route", "add", "10.2.0.0/24", "via", "10.9.0.2")
	b.Run("ip", "route", "add", "10.1.0.0/24", "via", "10.9.0.1")
	us := a.Culvert(ctx, "encapsulation = \"udp\"", clearConf("10.9.0.2", "10.1.0.0/24", "10.2.0.0/24"))
	b.Culvert(ctx, "encapsulation = \"udp\"", passive(clearConf("10.9.0.1", "10.2.0.0/24", "10.1.0.0/24")))

	count := func(name string) uint64 {
		t.Helper()
		return us.Counter(ctx, name)
	}
	if err := a.Transfer(ctx, innerA, b, innerB, 300_000); err != nil {
		t.Fatal("TCP in clear:", err)
	}
	if n := count("tx-packets"); n != 0 {
		t.Errorf("%d packets of it were protected", n)
	}
	a.Run("ping", "-c", "1", "-W", "30", "-I", innerA.String(), innerB.String())
	if n := count("tx-unprotected"); n != 0 {
		t.Errorf("%d packets that the rules keep away came out of the device", n)
	}
	// Who binds to the device gets it there all the same; the answers come by eth0,
	// and so not to this ping.
	before := asked(b)
	a.echoes(3, false, "-I", innerA.String(), "-I", "culvert0", innerB.String())
	grows(t, ctx, us, "tx-unprotected", 0, 3)
	if err := Until(ctx, func() error {
		if m := asked(b) - before; m != 3 {
			return fmt.Errorf("of 3 echo requests into the device %d arrived", m)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if n := count("tx-packets"); n != 0 {
		t.Errorf("%d echo requests were protected", n)
	}
	if err := Until(ctx, func() error {
		_, _ = a.Try("bash", "-c", "echo question >/dev/udp/10.2.0.1/9")
		if count("tx-packets") == 0 {
			return fmt.Errorf("UDP was not protected")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if out, err := us.Command(ctx, "explain", "packet", "--src", "10.1.0.1", "--dst", "10.2.0.1", "--protocol", "tcp", "--dst-port", "7000"); err != nil || !strings.Contains(string(out), "in clear") {
		t.Errorf("explain packet: %v\n%s", err, out)
	}
}
