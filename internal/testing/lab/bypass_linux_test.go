package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const everythingServer = `[[pool]]
name = "rw"
ranges = "10.7.0.2-10.7.0.9"
[[mode-config]]
name = "rw"
address-pool = "rw"
[[peer]]
name = "clients"
exchange-mode = "ike2"
passive = true
[[identity]]
peer = "clients"
secret = "correct horse battery staple"
generate-policy = "port-strict"
mode-config = "rw"
`

const everythingClient = `[[peer]]
name = "gw"
address = "10.9.0.1"
exchange-mode = "ike2"
[[identity]]
peer = "gw"
secret = "correct horse battery staple"
generate-policy = "port-strict"
mode-config = "request-only"
`

// A client with a tunnel to everywhere is in a LAN whose router and DHCP server are
// hostile. Whatever routes and addresses they give, nothing leaves in clear: not
// what the host sends, nor what a program binds to another address or to the card.
//
//	client 192.168.1.50 ── 192.168.1.1 hostile, 198.51.100.1 ── 10.9.0.1 server, 198.51.100.1
func TestClientInAHostileLAN(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := New(t)
	client, hostile, server := l.Node("client"), l.Node("hostile"), l.Node("server")
	p := netip.MustParsePrefix
	l.Wire(End{client, "eth0", p("192.168.1.50/24")}, End{hostile, "eth0", p("192.168.1.1/24")})
	l.Wire(End{hostile, "eth1", p("10.9.0.254/24")}, End{server, "eth0", p("10.9.0.1/24")})
	far := netip.MustParseAddr("198.51.100.1")
	hostile.Inner(far) // it would answer itself
	server.Inner(far)
	hostile.Sysctl("net.ipv4.ip_forward", "1")
	client.Run("ip", "route", "add", "default", "via", "192.168.1.1")
	server.Run("ip", "route", "add", "192.168.1.0/24", "via", "10.9.0.254")
	server.Culvert(ctx, "", everythingServer)
	us := client.Culvert(ctx, "", everythingClient)
	clear := client.Watch("eth0", func(s Sighting) bool { return s.Src == far || s.Dst == far || s.Kind == "icmp" })
	reach := func(when string) {
		t.Helper()
		if err := Until(ctx, func() error {
			_, err := client.Try("ping", "-c", "1", "-W", "2", far.String())
			return err
		}); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	clean := func(when string) {
		t.Helper()
		if seen, _ := clear.Seen(); len(seen) > 0 {
			t.Errorf("%s: %d packets in clear, the first %+v", when, len(seen), seen[0])
		}
		clear.Forget()
	}
	reach("the tunnel")
	clear.Forget() // what left before there was a tunnel
	reach("the tunnel that is up")
	clean("a tunnel that is up")

	for _, c := range []string{"0.0.0.0/1 via 192.168.1.1", "128.0.0.0/1 via 192.168.1.1", "198.51.100.0/24 dev eth0 scope link", "198.51.100.1/32 via 192.168.1.1 metric 1"} {
		client.Run(append([]string{"ip", "route", "add", "proto", "dhcp"}, strings.Fields(c)...)...)
		reach("a route " + c)
		clean("a route " + c)
	}
	// Addresses that DHCP gives: a network that is public, and half of everything.
	for _, a := range []string{"198.51.100.9/24", "10.77.0.1/1"} {
		client.Run("ip", "addr", "add", a, "dev", "eth0")
		time.Sleep(100 * time.Millisecond) // the gateway follows; before and behind it nothing leaves either
		reach("the network " + a)
		clean("the network " + a)
	}
	before := us.Counter(ctx, "guard-out")
	for _, bind := range []string{"192.168.1.50", "198.51.100.9", "10.77.0.1"} {
		if out, err := client.Try("ping", "-c", "2", "-i", "0.1", "-W", "1", "-I", bind, far.String()); err == nil {
			t.Errorf("bound to %s it is answered: %s", bind, out)
		}
		clean("bound to " + bind)
	}
	if out, err := client.Try("ping", "-c", "1", "-W", "1", "-I", "eth0", far.String()); err == nil {
		t.Errorf("bound to the card it is answered: %s", out)
	}
	clean("bound to the card")
	if out, err := client.Try("ping", "-c", "1", "-W", "1", "192.168.1.1"); err == nil {
		t.Errorf("the LAN answers without lan-bypass: %s", out)
	}
	clean("the LAN, without lan-bypass")
	if now := us.Counter(ctx, "guard-out"); now < before+6 {
		t.Errorf("the guard counted %d of what was bound to other addresses", now-before)
	}
	// Who begins from outside is answered.
	if out, err := hostile.Try("ping", "-c", "1", "-W", "30", "192.168.1.50"); err != nil {
		t.Errorf("the client does not answer: %s", out)
	}
	clear.Forget()

	us.Configure("lan-bypass = true", everythingClient)
	if err := us.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if out, err := client.Try("ping", "-c", "1", "-W", "30", "192.168.1.1"); err != nil {
		t.Errorf("the LAN does not answer with lan-bypass: %s", out)
	}
	clear.Forget()
	reach("lan-bypass")
	clean("lan-bypass")
}

// stopped is a culvert that is configured and does not run.
func (n *Node) stopped(gateway, toml string) *Culvert {
	n.lab.TB.Helper()
	path, err := Binary()
	if err != nil {
		n.lab.TB.Fatal(err)
	}
	c := &Culvert{node: n, binary: path, control: filepath.Join(n.lab.Dir, n.Name+".sock")}
	c.Configure(gateway, toml)
	return c
}

// guard runs a guard command beside the daemon, in its network and with its /run.
func (c *Culvert) guard(args ...string) (string, error) {
	return c.node.Try(append([]string{"sh", "-c", enter, "sh", c.node.run, c.binary, "guard"}, args...)...)
}

// With guard-always, and "culvert guard on" before the first start, no protected
// packet leaves in clear at any time: before the gateway, between its runs, behind it.
func TestGuardAlways(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s := newGuardSite(New(t))
	s.west.Culvert(ctx, "", passive(tunnelConf("10.9.0.1", "10.2.0.0/24", "10.1.0.0/24")))
	east := s.east.stopped("guard-always = true", tunnelConf("10.8.0.2", "10.1.0.0/24", "10.2.0.0/24"))
	guard := func(want string, args ...string) {
		t.Helper()
		if out, err := east.guard(args...); !strings.HasSuffix(out, want+"\n") {
			t.Errorf("guard %v: %q, %v", args, out, err)
		}
	}
	guard("the guard is on", "on", "-c", east.conf)
	watch := s.east.Watch("eth0", protected)
	sent := s.host.Watch("eth0", protected)
	ping := s.host.Start("ping-there", nil, "ping", "-q", "-i", "0.005", "10.2.0.1")
	rest := func(when string) {
		t.Helper()
		sent.Forget()
		if err := Until(ctx, func() error {
			if seen, _ := sent.Seen(); len(seen) < 100 {
				return errors.New("the host sends nothing")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if seen, _ := watch.Seen(); len(seen) > 0 {
			t.Fatalf("%s: %d packets in clear, the first %+v", when, len(seen), seen[0])
		}
	}
	up := func(when string) {
		t.Helper()
		if err := Until(ctx, func() error {
			_, err := s.host.Try("ping", "-c", "1", "-W", "2", "10.2.0.1")
			return err
		}); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		rest(when)
	}
	rest("before the gateway")
	east.start(ctx)
	up("the gateway")
	for _, c := range []string{"on", "off"} {
		if out, err := east.guard(c, "-c", east.conf); err == nil || !strings.Contains(out+err.Error(), "is running and has its own guard") {
			t.Errorf("guard %s while the gateway runs: %s, %v", c, out, err)
		}
	}
	rest("guard on and off while the gateway runs")
	for range 3 {
		if err := east.Terminate(ctx); err != nil {
			t.Fatal(err)
		}
		rest("the gateway has stopped")
		east.Restart(ctx)
		up("a restart")
	}
	// A start in the moment of a kill -9 waits for the lock, the ports and the device.
	pid := east.PID()
	east.Process = s.east.Start("culvert-at-once", nil, "sh", "-c",
		fmt.Sprintf("kill -9 %d; exec %s --control %s run -c %s --log-format text", pid, east.binary, east.control, east.conf))
	up("a start right after kill -9")
	if east.Ended() {
		t.Fatal("the gateway that started right after kill -9 has ended:\n" + east.Log())
	}
	if err := east.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := east.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	rest("the end")
	guard("removed the guard of table 50500", "off")
	if out := s.east.Run("nft", "list", "tables"); strings.Contains(out, "culvert") {
		t.Errorf("after guard off: %s", out)
	}
	if err := Until(ctx, func() error {
		if seen, _ := watch.Seen(); len(seen) == 0 {
			return errors.New("nothing leaves in clear without a guard either: the watch proves nothing")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	guard("there was no guard", "off", "-c", east.conf)
	// Without guard-always a clean end leaves nothing.
	east.Configure("", tunnelConf("10.8.0.2", "10.1.0.0/24", "10.2.0.0/24"))
	east.Restart(ctx)
	if err := east.Terminate(ctx); err != nil {
		t.Fatal(err)
	}
	if out := s.east.Run("nft", "list", "tables"); strings.Contains(out, "culvert") {
		t.Errorf("after a clean end: %s", out)
	}
	ping.Kill()
}

// A client with guard-always sends nothing in clear while it has no address yet,
// and nothing when it has stopped.
func TestGuardAlwaysOfAClient(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := New(t)
	client, server := l.Node("client"), l.Node("server")
	p := netip.MustParsePrefix
	l.Wire(End{client, "eth0", p("10.9.0.50/24")}, End{server, "eth0", p("10.9.0.1/24")})
	far := netip.MustParseAddr("198.51.100.1")
	server.Inner(far)
	client.Run("ip", "route", "add", "default", "via", "10.9.0.1")
	clear := client.Watch("eth0", func(s Sighting) bool { return s.Dst == far })
	us := client.stopped("guard-always = true", everythingClient)
	if out, err := us.guard("on", "-c", us.conf); err != nil {
		t.Fatal(out, err)
	}
	ping := client.Start("ping-there", nil, "ping", "-q", "-i", "0.01", far.String())
	defer ping.Kill()
	clean := func(when string) {
		t.Helper()
		if out, err := client.Try("ping", "-c", "1", "-W", "1", far.String()); err == nil && when != "up" {
			t.Errorf("%s: it is answered: %s", when, out)
		}
		if seen, _ := clear.Seen(); len(seen) > 0 {
			t.Fatalf("%s: %d packets in clear, the first %+v", when, len(seen), seen[0])
		}
	}
	clean("before the gateway")
	us.start(ctx)
	clean("the server is not there")
	server.Culvert(ctx, "", everythingServer)
	for range 2 {
		if err := Until(ctx, func() error {
			_, err := client.Try("ping", "-c", "1", "-W", "2", far.String())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		clean("up")
		if err := us.Terminate(ctx); err != nil {
			t.Fatal(err)
		}
		clean("stopped")
		us.Restart(ctx)
	}
}
