package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
)

// protected is the flow of TestNoPlaintext, both ways.
func protected(s Sighting) bool {
	east, west := netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.2.0.0/24")
	return east.Contains(s.Src) && west.Contains(s.Dst) || west.Contains(s.Src) && east.Contains(s.Dst)
}

// guardSite is two gateways with a router between them that would carry
// plaintext to the other side, too, and a host behind the first.
//
//	host 10.1.0.2 ── east 10.1.0.1, 10.9.0.1 ── router ── 10.8.0.2 west, 10.2.0.1
type guardSite struct {
	host, east, router, west *Node
	watches                  map[string]*Watch
}

func newGuardSite(l *Lab) *guardSite {
	s := &guardSite{host: l.Node("host"), east: l.Node("east"), router: l.Node("router"), west: l.Node("west"), watches: map[string]*Watch{}}
	p := netip.MustParsePrefix
	l.Wire(End{s.host, "eth0", p("10.1.0.2/24")}, End{s.east, "lan0", p("10.1.0.1/24")})
	l.Wire(End{s.east, "eth0", p("10.9.0.1/24")}, End{s.router, "eth0", p("10.9.0.254/24")})
	l.Wire(End{s.router, "eth1", p("10.8.0.254/24")}, End{s.west, "eth0", p("10.8.0.2/24")})
	s.west.Inner(netip.MustParseAddr("10.2.0.1"))
	s.router.Inner(netip.MustParseAddr("10.2.0.66"))
	for _, n := range []*Node{s.east, s.router} {
		n.Sysctl("net.ipv4.ip_forward", "1")
	}
	s.host.Run("ip", "route", "add", "default", "via", "10.1.0.1")
	s.east.Run("ip", "route", "add", "default", "via", "10.9.0.254")
	s.west.Run("ip", "route", "add", "default", "via", "10.8.0.254")
	s.router.Run("ip", "route", "add", "10.1.0.0/24", "via", "10.9.0.1")
	s.router.Run("ip", "route", "add", "10.2.0.0/24", "via", "10.8.0.2")
	return s
}

func tunnelConf(remote, src, dst string) string {
	return fmt.Sprintf(`[[policy]]
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

// passive leaves the beginning to the other end. Where both begin there may be two
// IKE SAs for a while, which is for other tests.
func passive(conf string) string {
	return strings.Replace(conf, "[[peer]]\n", "[[peer]]\npassive = true\n", 1)
}

// limit is for how long a test waits for what has to come: far longer than that
// takes on a busy machine.
const limit = 5 * time.Minute

// Whatever happens to a gateway, no interface ever carries a packet of a
// protected flow in clear: during rekeys, reload, changes of routes by others,
// its violent death, its restart, and its end.
func TestNoPlaintext(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s := newGuardSite(New(t))
	conf := tunnelConf("10.8.0.2", "10.1.0.0/24", "10.2.0.0/24")
	east := s.east.Culvert(ctx, "", conf)
	west := s.west.Culvert(ctx, "", tunnelConf("10.9.0.1", "10.2.0.0/24", "10.1.0.0/24"))
	if err := Until(ctx, func() error {
		_, err := s.host.Try("ping", "-c", "1", "-W", "2", "10.2.0.1")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*Node{s.east, s.west} {
		s.watches[n.Name+" eth0"] = n.Watch("eth0", protected)
	}
	for _, dev := range []string{"eth0", "eth1"} {
		s.watches["router "+dev] = s.router.Watch(dev, protected)
	}
	// What the router forges is in clear on its own wire; it must not reach the host.
	forged := s.host.Watch("eth0", func(g Sighting) bool { return g.Src == netip.MustParseAddr("10.2.0.66") })

	there := s.host.Start("ping-there", nil, "ping", "-q", "-i", "0.005", "10.2.0.1")
	back := s.west.Start("ping-back", nil, "ping", "-q", "-i", "0.005", "-I", "10.2.0.1", "10.1.0.2")
	clean := func(after string) {
		t.Helper()
		for where, w := range s.watches {
			if seen, _ := w.Seen(); len(seen) > 0 {
				t.Fatalf("%s: %d packets in clear at %s, the first %+v", after, len(seen), where, seen[0])
			}
		}
	}
	rest := func() { time.Sleep(300 * time.Millisecond) }
	command := func(c *Culvert, args ...string) {
		t.Helper()
		if _, err := c.Command(ctx, args...); err != nil {
			t.Error(err)
		}
	}
	if err := Until(ctx, func() error {
		for where, w := range s.watches {
			if _, total := w.Seen(); total == 0 {
				return fmt.Errorf("nothing passes at %s", where)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	clean("a tunnel that is up")

	for range 3 {
		command(east, "installed-sa", "rekey")
		command(west, "active-peers", "rekey")
		rest()
	}
	clean("rekeys")
	command(east, "installed-sa", "flush")
	command(west, "active-peers", "kill-connections")
	rest()
	clean("SAs that were flushed")

	east.Configure("", conf+"[[policy]]\nsrc-address = \"10.1.0.0/24\"\ndst-address = \"192.0.2.0/24\"\naction = \"discard\"\n")
	command(east, "reload")
	rest()
	clean("reload")

	for range 3 {
		s.east.Run("sh", "-c", "ip rule flush; ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default")
		s.east.Run("ip", "route", "replace", "default", "via", "10.9.0.254", "metric", "5")
		s.east.Run("ip", "route", "replace", "10.2.0.0/24", "via", "10.9.0.254")
		rest()
		s.east.Run("ip", "route", "del", "10.2.0.0/24")
		s.east.Run("ip", "link", "set", "culvert0", "down")
		rest()
		s.east.Run("ip", "link", "set", "culvert0", "up")
	}
	rest()
	clean("routes that others change")

	east.Kill()
	rest()
	s.east.Run("sh", "-c", "ip rule flush; ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default")
	rest()
	clean("a gateway that was killed, its rules flushed")
	east.Restart(ctx)
	if err := Until(ctx, func() error {
		_, err := s.host.Try("ping", "-c", "1", "-W", "2", "10.2.0.1")
		return err
	}); err != nil {
		t.Fatal("after the restart:", err)
	}
	clean("restart")

	// Plaintext from the wire: the router pretends to be of the other network.
	_, _ = s.router.Try("ping", "-c", "3", "-i", "0.05", "-W", "1", "-I", "10.2.0.66", "10.1.0.2")
	grows(t, ctx, east, "guard-in", 0, 3)
	if seen, _ := forged.Seen(); len(seen) > 0 {
		t.Errorf("%d forged packets reached the host", len(seen))
	}
	for _, w := range s.watches {
		w.Forget() // what the router forged
	}

	// After a clean end plaintext may leave, and not before it.
	if err := east.Terminate(ctx); err != nil {
		t.Error(err)
	}
	if err := Until(ctx, func() error {
		for _, w := range s.watches {
			if seen, _ := w.Seen(); len(seen) > 0 {
				return nil
			}
		}
		return errors.New("nothing left in clear after the end either: the watches prove nothing")
	}); err != nil {
		t.Error(err)
	}
	stopped := stoppedAt(t, east.Log())
	for where, w := range s.watches {
		if seen, _ := w.Seen(); len(seen) > 0 && seen[0].At.Before(stopped) {
			t.Errorf("a packet in clear at %s, %v before the gateway had ended", where, stopped.Sub(seen[0].At))
		}
	}
	there.Kill()
	back.Kill()
}

// The manual's "only IPsec-encapsulated traffic": below the policy of those who
// have an SA stands one that discards all other L2TP. That policy is written, or
// made from the default template for whoever proves itself.
func TestOnlyProtectedL2TP(t *testing.T) {
	Need(t)
	t.Run("policy", func(t *testing.T) { onlyProtectedL2TP(t, false) })
	t.Run("template", func(t *testing.T) { onlyProtectedL2TP(t, true) })
}

const l2tpDiscard = `[[policy]]
src-address = "10.9.0.1/32"
dst-address = "0.0.0.0/0"
protocol = "udp"
src-port = 1701
action = "discard"
tunnel = true
`

const l2tpClients = `[[peer]]
name = "clients"
exchange-mode = "ike2"
passive = true
[[identity]]
peer = "clients"
secret = "correct horse battery staple"
generate-policy = "port-strict"
`

func onlyProtectedL2TP(t *testing.T, template bool) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := New(t)
	server, client, stranger := l.Node("server"), l.Node("client"), l.Node("stranger")
	server.Run("ip", "link", "add", "br0", "type", "bridge")
	p := netip.MustParsePrefix
	for i, n := range []*Node{client, stranger} {
		dev := fmt.Sprintf("port%d", i)
		l.Wire(End{n, "eth0", p(fmt.Sprintf("10.9.0.%d/24", i+2))}, End{server, dev, p(fmt.Sprintf("10.99.%d.1/32", i))})
		server.Run("ip", "link", "set", dev, "master", "br0")
	}
	server.Run("ip", "addr", "add", "10.9.0.1/24", "dev", "br0")
	server.Run("ip", "link", "set", "br0", "up")
	conf := func(remote, mine, theirs, rest string) string {
		return strings.Replace(tunnelConf(remote, mine, theirs), "tunnel = true", "tunnel = false\nprotocol = \"udp\"\n"+rest, 1)
	}
	serves := passive(conf("10.9.0.2", "10.9.0.1/32", "10.9.0.2/32", "src-port = 1701"))
	if template {
		serves = l2tpClients
	}
	gateway := server.Culvert(ctx, "", serves+l2tpDiscard)
	asks := client.Culvert(ctx, "", conf("10.9.0.1", "10.9.0.2/32", "10.9.0.1/32", "dst-port = 1701"))
	if err := Until(ctx, func() error {
		if got := policyFlags(ctx, gateway); got != map[bool]string{false: "*T A -", true: "*T DA -"}[template] {
			return fmt.Errorf("the policies of the server are %s", got)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from    *Node
		port    int
		arrives bool
	}{{client, 1701, true}, {stranger, 1701, false}, {stranger, 1702, true}} {
		wait := limit
		if !c.arrives {
			wait = 2 * time.Second
		}
		if got := arrives(t, server, c.from, fmt.Sprintf("10.9.0.1:%d", c.port), wait); got != c.arrives {
			t.Errorf("from %s to port %d: arrived %v, want %v", c.from.Name, c.port, got, c.arrives)
		}
	}
	// The client has gone, and with it what was made for it: its L2TP in clear is as the stranger's.
	if err := asks.Terminate(ctx); err != nil {
		t.Error(err)
	}
	if arrives(t, server, client, "10.9.0.1:1701", 2*time.Second) {
		t.Error("L2TP in clear arrives once the client has no SA")
	}
	if err := Until(ctx, func() error {
		if got := policyFlags(ctx, gateway); template && got != "*T -" {
			return fmt.Errorf("the policies of the server are %s", got)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// policyFlags are the flags of the policies in order: "*T DA -".
func policyFlags(ctx context.Context, c *Culvert) string {
	rows, err := c.Print(ctx, "policy")
	if err != nil {
		return err.Error()
	}
	var list []string
	for _, r := range rows {
		flags := ""
		for _, f := range [][2]string{{"default", "*"}, {"template", "T"}, {"dynamic", "D"}, {"active", "A"}} {
			if r[f[0]] == true {
				flags += f[1]
			}
		}
		list = append(list, cmp.Or(flags, "-"))
	}
	return strings.Join(list, " ")
}

// arrives says whether one of the datagrams that are sent in some time arrives.
func arrives(t *testing.T, server, from *Node, at string, wait time.Duration) bool {
	t.Helper()
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at))
	var in, out *net.UDPConn
	err := server.Inside(func() (err error) {
		in, err = net.ListenUDP("udp", to)
		return err
	})
	if err == nil {
		err = from.Inside(func() (err error) {
			out, err = net.DialUDP("udp", nil, to)
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = in.Close(), out.Close() }()
	for end := time.Now().Add(wait); time.Now().Before(end); {
		_, _ = out.Write([]byte("L2TP"))
		_ = in.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, _, err := in.ReadFromUDP(make([]byte, 10)); err == nil {
			return true
		}
	}
	return false
}

// stoppedAt is when culvert said that it had stopped, the last time.
func stoppedAt(t *testing.T, log string) time.Time {
	t.Helper()
	for _, line := range append([]string(nil), reverse(strings.Split(log, "\n"))...) {
		if m := regexp.MustCompile(`^time=(\S+) .*msg=stopped`).FindStringSubmatch(line); m != nil {
			at, err := time.Parse(time.RFC3339, m[1])
			if err != nil {
				t.Fatal(err)
			}
			return at
		}
	}
	t.Fatal("culvert did not say that it stopped")
	return time.Time{}
}

func reverse(lines []string) []string {
	for i, j := 0, len(lines)-1; i < j; i, j = i+1, j-1 {
		lines[i], lines[j] = lines[j], lines[i]
	}
	return lines
}
