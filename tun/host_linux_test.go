package tun

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func route(local, remote string) Route {
	return Route{Local: netip.MustParsePrefix(local), Remote: netip.MustParsePrefix(remote)}
}

// site is a gateway (the test's own thread) between a LAN and an uplink, with
// strict reverse-path filtering, and a remote network behind the device.
type site struct {
	dev                 Device
	host                Host
	lan, uplink, remote space
}

func newSite(t *testing.T) *site {
	isolate(t)
	s := &site{lan: newSpace(t), uplink: newSpace(t), remote: newSpace(t)}
	for _, c := range []string{
		"sysctl -qw net.ipv4.conf.all.rp_filter=1", "sysctl -qw net.ipv4.conf.default.rp_filter=1", "sysctl -qw net.ipv4.ip_forward=1", "sysctl -qw net.ipv6.conf.all.forwarding=1",
		fmt.Sprintf("ip link add lan0 type veth peer name eth0 netns %d", s.lan.pid),
		fmt.Sprintf("ip link add up0 type veth peer name eth0 netns %d", s.uplink.pid),
		"ip addr add 10.1.0.1/24 dev lan0", "ip addr add 192.0.2.1/24 dev up0", "ip link set lan0 up", "ip link set up0 up", "ip route add default via 192.0.2.2",
		"ip addr add 2001:db8:1::1/64 dev lan0 nodad", "ip addr add 2001:db8:ff::1/64 dev up0 nodad", "ip -6 route add default via 2001:db8:ff::2",
		s.lan.command("ip addr add 10.1.0.2/24 dev eth0"), s.lan.command("ip addr add 2001:db8:1::2/64 dev eth0 nodad"), s.lan.command("ip link set eth0 up"),
		s.lan.command("ip route add default via 10.1.0.1"), s.lan.command("ip -6 route add default via 2001:db8:1::1"),
		s.uplink.command("ip addr add 192.0.2.2/24 dev eth0"), s.uplink.command("ip addr add 198.51.100.1/32 dev lo"), s.uplink.command("ip link set eth0 up"), s.uplink.command("ip route add 10.1.0.0/24 via 192.0.2.1"),
		s.uplink.command("ip addr add 2001:db8:ff::2/64 dev eth0 nodad"), s.uplink.command("ip addr add 2001:db8:5::1/128 dev lo"),
	} {
		run(t, c)
	}
	var err error
	if s.dev, err = Create("culvert0", 1400); err != nil {
		t.Fatal(err)
	}
	var far Device
	s.remote.do(t, func() {
		if far, err = Create("far0", 1400); err != nil {
			t.Fatal(err)
		}
	})
	for _, c := range []string{"ip addr add 10.2.0.1/24 dev far0", "ip addr add 198.51.100.1/32 dev far0", "ip route add default dev far0", "ip addr add 2001:db8:2::1/64 dev far0 nodad", "ip addr add 2001:db8:5::1/128 dev far0 nodad", "ip -6 route add default dev far0"} {
		s.remote.run(t, c)
	}
	// Both have one address, so the answer tells the way a question took.
	s.remote.do(t, func() {
		for _, at := range []string{"10.2.0.1:4500", "198.51.100.1:4500", "[2001:db8:2::1]:4500", "[2001:db8:5::1]:4500"} {
			answer(t, "remote", at)
		}
	})
	s.uplink.do(t, func() {
		answer(t, "uplink", "198.51.100.1:4500")
		answer(t, "uplink", "[2001:db8:5::1]:4500")
	})
	t.Cleanup(func() { s.dev.Close(); far.Close() })
	join(t, s.dev, far)
	s.host = newHost(t)
	return s
}

func newHost(t *testing.T) Host {
	t.Helper()
	h, err := NewHost(Options{Device: "culvert0", LockDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func (s *site) apply(t *testing.T, p Plan) {
	t.Helper()
	if err := s.host.Apply(p); err != nil {
		t.Fatal(err)
	}
}

func want1(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestHostSiteToSite(t *testing.T) {
	s := newSite(t)
	s.apply(t, Plan{Routes: []Route{route("10.1.0.0/24", "10.2.0.0/24"), route("2001:db8:1::/64", "2001:db8:2::/64")}, Bypass: []uint16{500, 4500}})
	lan, remote := s.lan.command(""), s.remote.command("")
	mustPing(t, "LAN to remote", lan, "10.2.0.1")
	mustPing(t, "remote to LAN", remote, "10.1.0.2")
	mustPing(t, "gateway to remote", "", "10.2.0.1")
	mustPing(t, "remote to gateway", remote, "10.1.0.1")
	mustPing(t, "LAN to remote", lan, "2001:db8:2::1")
	mustPing(t, "remote to LAN", remote, "2001:db8:1::2")
	mustPing(t, "gateway to remote", "", "2001:db8:2::1")
	want1(t, "connected UDP of the gateway", ask(t, 0, "", "10.2.0.1:4500"), "remote 10.1.0.1")
	want1(t, "connected UDP of the gateway", ask(t, 0, "", "[2001:db8:2::1]:4500"), "remote 2001:db8:1::1")
	want1(t, "what no policy covers", ask(t, 0, "", "198.51.100.1:4500"), "uplink 192.0.2.1")
	want1(t, "what no policy covers", ask(t, 0, "", "[2001:db8:5::1]:4500"), "uplink 2001:db8:ff::1")
	want1(t, "another source than the policy's", ask(t, 0, "192.0.2.1:0", "198.51.100.1:4500"), "uplink 192.0.2.1")
	for _, to := range []string{"10.2.0.1:4500", "[2001:db8:2::1]:4500"} {
		c, err := net.DialTimeout("tcp", to, limit)
		if err != nil {
			t.Error(err)
			continue
		}
		data, err := io.ReadAll(c)
		if err != nil || len(data) != 50_000/6*6 || strings.ReplaceAll(string(data), "remote", "") != "" {
			t.Errorf("TCP to %s: %d bytes, %v", to, len(data), err)
		}
		c.Close()
	}
}

func TestHostDefaultPolicyStrictReversePath(t *testing.T) {
	s := newSite(t)
	s.apply(t, Plan{Routes: []Route{route("10.1.0.0/24", "0.0.0.0/0"), route("2001:db8:1::/64", "::/0")}, Bypass: []uint16{500, 4500}})
	lan, remote := s.lan.command(""), s.remote.command("")
	mustPing(t, "LAN to remote", lan, "10.2.0.1")
	mustPing(t, "remote to LAN", remote, "10.1.0.2")
	mustPing(t, "gateway to remote", "", "10.2.0.1")
	mustPing(t, "gateway to LAN", "", "10.1.0.2")
	mustPing(t, "LAN to gateway", lan, "10.1.0.1")
	// Its router is neither in the policy's network nor in a private one.
	ways(t, "gateway to its router", "culvert0", "192.0.2.2", "2001:db8:ff::2")
	mustPing(t, "LAN to remote", lan, "2001:db8:2::1")
	mustPing(t, "gateway to LAN", "", "2001:db8:1::2")
	mustPing(t, "LAN to gateway", lan, "2001:db8:1::1")
	want1(t, "the gateway's own IKE", ask(t, DefaultMark, "", "198.51.100.1:4500"), "uplink 192.0.2.1")
	want1(t, "the gateway's own IKE", ask(t, DefaultMark, "", "[2001:db8:5::1]:4500"), "uplink 2001:db8:ff::1")
	want1(t, "the gateway, source not chosen", ask(t, 0, "", "198.51.100.1:4500"), "remote 10.1.0.1")
	want1(t, "the gateway, source not chosen", ask(t, 0, "", "[2001:db8:5::1]:4500"), "remote 2001:db8:1::1")
	want1(t, "the gateway, outer source", ask(t, 0, "192.0.2.1:0", "198.51.100.1:4500"), "uplink 192.0.2.1")
	want1(t, "the gateway, outer source", ask(t, 0, "[2001:db8:ff::1]:0", "[2001:db8:5::1]:4500"), "uplink 2001:db8:ff::1")
	s.lan.do(t, func() {
		want1(t, "a host's own IKE from port 4500", ask(t, 0, "0.0.0.0:4500", "198.51.100.1:4500"), "remote 10.1.0.2")
	})
}

// The outer address itself is Local: answers to the gateway's sockets pass the
// strict filter only by the rules for their ports.
func TestHostPolicyOverOuterAddress(t *testing.T) {
	s := newSite(t)
	plan := Plan{Routes: []Route{route("192.0.2.1/32", "0.0.0.0/0")}, Bypass: []uint16{4500}}
	s.apply(t, plan)
	want1(t, "IKE", ask(t, DefaultMark, "0.0.0.0:4500", "198.51.100.1:4500"), "uplink 192.0.2.1")
	want1(t, "other traffic", ask(t, 0, "", "198.51.100.1:4500"), "remote 192.0.2.1")
	plan.Bypass = nil
	s.apply(t, plan)
	want1(t, "without the rule the filter drops the answer", askFor(t, time.Second, DefaultMark, "0.0.0.0:4500", "198.51.100.1:4500"), "")
}

func TestHostPortsAndPass(t *testing.T) {
	s := newSite(t)
	udp := route("10.1.0.0/24", "198.51.100.0/24")
	udp.Proto, udp.RemotePort = 17, 4500
	s.apply(t, Plan{Routes: []Route{udp}, Bypass: []uint16{500}})
	s.lan.do(t, func() {
		want1(t, "the policy's port", ask(t, 0, "", "198.51.100.1:4500"), "remote 10.1.0.2")
	})
	want1(t, "the policy's port, gateway", ask(t, 0, "", "198.51.100.1:4500"), "remote 10.1.0.1")
	mustPing(t, "another protocol", s.lan.command(""), "198.51.100.1")
	if out := run(t, "ip route get 198.51.100.1 from 10.1.0.1 ipproto tcp dport 4500"); !strings.Contains(out, "up0") {
		t.Error("another protocol goes", out)
	}
	pass := udp
	pass.Pass = true
	s.apply(t, Plan{Routes: []Route{pass, route("10.1.0.0/24", "0.0.0.0/0")}, Bypass: []uint16{500}})
	s.lan.do(t, func() {
		want1(t, "passed by", ask(t, 0, "", "198.51.100.1:4500"), "uplink 10.1.0.2")
	})
	want1(t, "passed by, gateway", ask(t, 0, "", "198.51.100.1:4500"), "uplink 192.0.2.1")
}

func TestHostAddress(t *testing.T) {
	s := newSite(t)
	p := Plan{Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.5/32"), netip.MustParsePrefix("2001:db8:9::5/128")}, MTU: 1380,
		Routes: []Route{route("10.9.0.5/32", "10.2.0.0/24"), route("2001:db8:9::5/128", "2001:db8:2::/64")}}
	s.apply(t, p)
	want1(t, "leased address", ask(t, 0, "", "10.2.0.1:4500"), "remote 10.9.0.5")
	want1(t, "leased address", ask(t, 0, "", "[2001:db8:2::1]:4500"), "remote 2001:db8:9::5")
	if mtu, err := s.dev.MTU(); mtu != 1380 || err != nil {
		t.Error("MTU", mtu, err)
	}
	if err := s.host.Close(); err != nil {
		t.Error(err)
	}
	if out := run(t, "ip -o addr show dev culvert0"); strings.Contains(out, "10.9.0.5") || strings.Contains(out, "db8:9") {
		t.Error("addresses stay after Close:", out)
	}
}

// settled waits until the kernel has routes to all of its IPv6 addresses: it makes
// them a moment after it was told of the address.
func settled(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); {
		routes, missing := run(t, "ip -6 -N route show table 255"), ""
		for l := range strings.Lines(run(t, "ip -6 -o addr show up")) {
			addr, _, _ := strings.Cut(strings.Fields(l)[3], "/")
			if !strings.Contains(routes, " "+addr+" dev ") {
				missing = addr
			}
		}
		if missing == "" {
			return
		}
	}
	t.Fatalf("the system has no routes to its own addresses:\n%s\n%s", run(t, "ip -6 addr"), run(t, "ip -6 route show table all"))
}

// snapshot is all rules and routes of all tables.
func snapshot(t *testing.T) []string {
	t.Helper()
	settled(t)
	var lines []string
	for _, c := range []string{"ip -4 -N rule", "ip -6 -N rule", "ip -4 -N route show table all", "ip -6 -N route show table all"} {
		for l := range strings.Lines(run(t, c)) {
			lines = append(lines, strings.TrimSpace(l))
		}
	}
	return lines
}

func lone(t *testing.T) {
	isolate(t)
	dev, err := Create("culvert0", 1400)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
}

func numbered(n int) []Route {
	var out []Route
	for i := range n {
		out = append(out, Route{Local: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), 0}), 24), Remote: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), 32)})
	}
	return out
}

func TestHostDiffAndClose(t *testing.T) {
	lone(t)
	run(t, "ip rule add pref 10500 from 203.0.113.0/24 lookup main")
	before := snapshot(t)
	h := newHost(t)
	routes := append(numbered(50), route("2001:db8:1::/64", "2001:db8:2::/64"))
	if err := h.Apply(Plan{Routes: routes, Bypass: []uint16{500, 4500}}); err != nil {
		t.Fatal(err)
	}
	full := snapshot(t)
	if err := h.Apply(Plan{Routes: routes, Bypass: []uint16{500, 4500}}); err != nil {
		t.Fatal(err)
	}
	if again := snapshot(t); !slices.Equal(full, again) {
		t.Errorf("the same plan again changed\n%v\nto\n%v", full, again)
	}
	// One goes, one comes in the middle: every other line stays as it is.
	changed := slices.Insert(slices.Delete(slices.Clone(routes), 10, 11), 20, route("10.7.0.0/16", "10.8.0.0/16"))
	if err := h.Apply(Plan{Routes: changed, Bypass: []uint16{500, 4500}}); err != nil {
		t.Fatal(err)
	}
	after := snapshot(t)
	gone := slices.DeleteFunc(slices.Clone(full), func(l string) bool { return slices.Contains(after, l) })
	came := slices.DeleteFunc(slices.Clone(after), func(l string) bool { return slices.Contains(full, l) })
	if len(gone) != 1 || len(came) != 1 || !strings.Contains(gone[0], "10.2.0.10") || !strings.Contains(came[0], "10.8.0.0/16") {
		t.Errorf("gone: %q, came: %q", gone, came)
	}
	if err := h.Apply(Plan{Routes: []Route{{}}}); err == nil {
		t.Error("an invalid route was accepted")
	}
	if now := snapshot(t); !slices.Equal(after, now) {
		t.Error("a plan that was refused changed something")
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if rest := snapshot(t); !slices.Equal(before, rest) {
		t.Errorf("left after Close:\n%v\nwant\n%v", rest, before)
	}
	if err := h.Apply(Plan{}); err == nil {
		t.Error("Apply after Close")
	}
}

func TestHostLeftovers(t *testing.T) {
	lone(t)
	run(t, "ip rule add pref 10501 from 203.0.113.0/24 lookup main")
	before := snapshot(t)
	o := Options{Device: "culvert0", LockDir: t.TempDir()}
	h, err := NewHost(o)
	if err != nil {
		t.Fatal(err)
	}
	plan := Plan{Routes: []Route{route("10.1.0.0/24", "0.0.0.0/0"), route("0.0.0.0/0", "0.0.0.0/0"), route("2001:db8:1::/64", "::/0")}, Bypass: []uint16{500, 4500}}
	if err := h.Apply(plan); err != nil {
		t.Fatal(err)
	}
	if _, err := NewHost(o); !errors.Is(err, ErrTableInUse) {
		t.Error("a second instance on the same table:", err)
	}
	other, err := NewHost(Options{Device: "culvert0", LockDir: o.LockDir, Table: DefaultTable + 1, Mark: DefaultMark + 1})
	if err != nil {
		t.Fatal("another table:", err)
	}
	if err := other.Apply(plan); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	mine := snapshot(t)
	// The first one is gone without Close.
	h.(*host).watch.Close()
	h.(*host).release()
	again, err := NewHost(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { again.Close() }()
	// What it left keeps plaintext in until the plan of the next one is there; the guard
	// may have been flushed meanwhile.
	if now := snapshot(t); !slices.Equal(mine, now) {
		t.Errorf("after the next start:\n%v\nwant\n%v", now, mine)
	}
	if err := again.Apply(Plan{}); err != nil {
		t.Fatal(err)
	}
	if rest := snapshot(t); !slices.Equal(before, rest) {
		t.Errorf("leftovers stay:\n%v\nwant\n%v", rest, before)
	}
	if err := again.Apply(plan); err != nil {
		t.Fatal(err)
	}
	if now := snapshot(t); !slices.Equal(mine, now) {
		t.Errorf("got\n%v\nwant\n%v", now, mine)
	}
	// A start that fails removes what was left, too.
	again.(*host).watch.Close()
	again.(*host).release()
	failed, err := NewHost(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := failed.Close(); err != nil {
		t.Fatal(err)
	}
	if rest := snapshot(t); !slices.Equal(before, rest) {
		t.Errorf("leftovers stay behind Close:\n%v\nwant\n%v", rest, before)
	}
	if again, err = NewHost(o); err != nil {
		t.Fatal(err)
	}
	if err := again.Apply(plan); err != nil {
		t.Fatal(err)
	}
	// What somebody else removed comes back.
	run(t, fmt.Sprintf("ip rule del pref %d", DefaultPref))
	if err := again.Apply(plan); err != nil {
		t.Fatal(err)
	}
	if now := snapshot(t); !slices.Equal(mine, now) {
		t.Errorf("got\n%v\nwant\n%v", now, mine)
	}
}

// What an instance with another table left is removed, if its lock file says that
// it is gone; one that lives, or that nobody knows of, stays.
func TestHostLeftoversOfAnotherTable(t *testing.T) {
	lone(t)
	before := snapshot(t)
	dir, elsewhere := t.TempDir(), t.TempDir()
	plan := Plan{Routes: []Route{route("10.1.0.0/24", "0.0.0.0/0"), route("2001:db8:1::/64", "::/0")}, Bypass: []uint16{500, 4500}}
	start := func(n int, dir string) *host {
		t.Helper()
		h, err := NewHost(Options{Device: "culvert0", LockDir: dir, Table: DefaultTable + n, Mark: DefaultMark + uint32(n)})
		if err != nil {
			t.Fatal(err)
		}
		return h.(*host)
	}
	kill := func(h *host) {
		h.watch.Close()
		h.release()
	}
	lives, stranger := start(1, dir), start(3, elsewhere)
	for _, h := range []*host{lives, stranger} {
		if err := h.Apply(plan); err != nil {
			t.Fatal(err)
		}
	}
	both := snapshot(t)
	gone := start(2, dir)
	if err := gone.Apply(plan); err != nil {
		t.Fatal(err)
	}
	kill(gone)
	kill(stranger)
	me := start(0, dir)
	if now := snapshot(t); !slices.Equal(both, now) {
		t.Errorf("got\n%v\nwant\n%v", now, both)
	}
	start(4, elsewhere).Close() // whose folder knows the stranger
	for _, h := range []*host{me, lives} {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	if rest := snapshot(t); !slices.Equal(before, rest) {
		t.Errorf("left:\n%v\nwant\n%v", rest, before)
	}
}

// While the device is down, and after a gateway that was killed, nothing that a
// policy protects leaves by the main table.
func TestHostNothingInClearWithoutDevice(t *testing.T) {
	lone(t)
	run(t, "ip link add uplink type veth peer name other")
	run(t, "ip link set uplink up")
	run(t, "ip addr add 192.0.2.1/24 dev uplink")
	run(t, "ip addr add 2001:db8:ff::1/64 dev uplink nodad")
	run(t, "ip addr add 10.1.0.1/32 dev lo")
	run(t, "ip addr add 2001:db8:1::1/128 dev lo")
	run(t, "ip route add default via 192.0.2.254")
	run(t, "ip -6 route add default via 2001:db8:ff::254")
	before := snapshot(t)
	h := newHost(t)
	plan := Plan{Routes: []Route{route("10.1.0.0/24", "10.2.0.0/24"), route("2001:db8:1::/64", "2001:db8:2::/64")}}
	if err := h.Apply(plan); err != nil {
		t.Fatal(err)
	}
	ways := []string{"ip route get 10.2.0.1 from 10.1.0.1", "ip -6 route get 2001:db8:2::1 from 2001:db8:1::1", "ip route get 10.2.0.1"}
	check := func(when, want string) {
		t.Helper()
		for _, way := range ways {
			args := strings.Fields(way)
			out, _ := exec.Command(args[0], args[1:]...).CombinedOutput()
			if !strings.Contains(string(out), want) || strings.Contains(string(out), "uplink") {
				t.Errorf("%s, %s: %s", when, way, out)
			}
		}
	}
	check("device up", "dev culvert0")
	run(t, "ip link set culvert0 down")
	check("device down", "No route to host")
	run(t, "ip link set culvert0 up")
	if err := h.Apply(plan); err != nil {
		t.Fatal(err)
	}
	check("device up again", "dev culvert0")
	run(t, "ip link del culvert0")
	check("device gone", "No route to host")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	before = slices.DeleteFunc(before, func(l string) bool { return strings.Contains(l, "culvert0") })
	if rest := snapshot(t); !slices.Equal(before, rest) {
		t.Errorf("left after Close:\n%v\nwant\n%v", rest, before)
	}
}

// What the kernel lists is what was asked for, whatever the rule.
func TestKernelRoundTrip(t *testing.T) {
	lone(t)
	k, err := newKernel(Options{Device: "culvert0", Table: 777, Pref: 10000})
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	plan := Plan{Bypass: []uint16{500, 4500}, LANBypass: true, Routes: []Route{route("10.1.0.0/24", "0.0.0.0/0"), route("0.0.0.0/0", "0.0.0.0/0"), route("2001:db8:1::/64", "::/0"), route("::/0", "::/0"),
		{Local: netip.MustParsePrefix("10.1.0.0/16"), Remote: netip.MustParsePrefix("10.3.0.0/16"), Proto: 6, LocalPort: 80, RemotePort: 81},
		{Local: netip.MustParsePrefix("10.1.0.0/16"), Remote: netip.MustParsePrefix("10.4.0.0/16"), Proto: 17, RemotePort: 53, Pass: true}}}
	run(t, "ip link add lan0 type veth peer name lan1")
	run(t, "ip link set lan0 up")
	run(t, "ip addr add 192.168.1.50/24 dev lan0")
	run(t, "ip addr add fd01::50/64 dev lan0 nodad")
	run(t, "ip addr add 10.1.0.1/32 dev lo")
	lans, err := k.allLANs()
	if err != nil || len(lans) != 2 {
		t.Fatal(lans, err)
	}
	w, err := compile(plan, 5, []netip.Addr{netip.MustParseAddr("2001:db8:7::1"), netip.MustParseAddr("10.1.0.1")}, lans)
	if err != nil {
		t.Fatal(err)
	}
	wanted := state{routes: w.routes, near: w.near, fences: w.fences}
	if wanted.rules, err = w.places(nil, 10000); err != nil {
		t.Fatal(err)
	}
	if _, err := k.change(state{}, wanted); err != nil {
		t.Fatal(err)
	}
	got, err := k.read()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.state, wanted) || len(got.foreign) > 0 {
		t.Errorf("kernel holds\n%+v\nwant\n%+v", got, wanted)
	}
}

func TestHostMany(t *testing.T) {
	lone(t)
	before := len(snapshot(t))
	h := newHost(t)
	n := 10_000
	if err := h.Apply(Plan{Routes: numbered(n)}); err != nil {
		t.Fatal(err)
	}
	if got := len(snapshot(t)) - before; got < n {
		t.Errorf("%d lines came for %d policies", got, n)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if got := len(snapshot(t)); got != before {
		t.Errorf("%d lines stay", got-before)
	}
}

func TestHostWarnings(t *testing.T) {
	lone(t)
	run(t, "sysctl -qw net.ipv4.ip_forward=0")
	run(t, "ip addr add 10.1.0.1/24 dev lo")
	h := newHost(t)
	if err := h.Apply(Plan{Routes: []Route{route("10.1.0.1/32", "10.2.0.0/16")}}); err != nil {
		t.Fatal(err)
	}
	if w := h.(Warner).Warnings(); len(w) != 0 {
		t.Error("warned although nobody is behind:", w)
	}
	if err := h.Apply(Plan{Routes: []Route{route("10.1.0.0/24", "10.2.0.0/16")}}); err != nil {
		t.Fatal(err)
	}
	if w := h.(Warner).Warnings(); len(w) != 1 || !strings.Contains(w[0], "sysctl -w net.ipv4.ip_forward=1") {
		t.Error("warnings", w)
	}
}

// A rule of somebody else in front of ours whose table has a route to a network of a
// policy is named; one that is about other packets is not.
func TestHostWarnsOfRulesInFront(t *testing.T) {
	for _, c := range []struct {
		what, rule, route string
		warns             string // parts, separated by |
	}{
		{"none", "", "", ""},
		{"a table with the network", "pref 500 lookup 52", "10.2.3.0/24 dev lan0 table 52", "preference 500 |table 52 has a route to 10.2.3.0/24 by lan0|10.1.0.0/24 => 10.2.0.0/16|above 30000"},
		{"a table with a default route", "pref 5270 lookup 52", "default dev lan0 table 52", "preference 5270 |route to 0.0.0.0/0 by lan0"},
		{"a table that discards it", "pref 500 lookup 52", "unreachable 10.2.0.0/16 table 52", "preference 500 |route to 10.2.0.0/16:"},
		{"for the policy's sources", "from 10.1.0.0/16 pref 500 lookup 52", "default dev lan0 table 52", "preference 500 "},
		{"for other sources", "from 10.9.0.0/16 pref 500 lookup 52", "default dev lan0 table 52", ""},
		{"for other destinations", "to 10.9.0.0/16 pref 500 lookup 52", "default dev lan0 table 52", ""},
		{"for marked packets", "fwmark 0x80000 pref 500 lookup 52", "default dev lan0 table 52", ""},
		{"a table with other networks", "pref 500 lookup 52", "100.64.0.0/10 dev lan0 table 52", ""},
		{"a table that passes it on", "pref 500 lookup 52", "throw 10.2.0.0/16 table 52", ""},
		{"a table whose default route does not count", "pref 500 lookup 52 suppress_prefixlength 0", "default dev lan0 table 52", ""},
		{"behind ours", "pref 31000 lookup 52", "default dev lan0 table 52", ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			lone(t)
			run(t, "sysctl -qw net.ipv4.ip_forward=1")
			run(t, "ip link add lan0 type veth peer name lan1")
			run(t, "ip link set lan0 up")
			run(t, "ip link set lan1 up")
			if c.rule != "" {
				run(t, "ip rule add "+c.rule)
				run(t, "ip route add "+c.route)
			}
			h := newHost(t)
			if err := h.Apply(Plan{Routes: []Route{route("10.1.0.0/24", "10.2.0.0/16")}}); err != nil {
				t.Fatal(err)
			}
			w := strings.Join(h.(Warner).Warnings(), "\n")
			if c.warns == "" && w != "" {
				t.Errorf("warns: %s", w)
			}
			for _, part := range strings.Split(c.warns, "|") {
				if !strings.Contains(w, part) {
					t.Errorf("no %q in: %s", part, w)
				}
			}
		})
	}
}

func TestCreateErrors(t *testing.T) {
	lone(t)
	if _, err := Create("culvert0", 1400); !errors.Is(err, ErrNameTaken) {
		t.Error("name of a device in use:", err)
	}
	if _, err := Create("lo", 1400); !errors.Is(err, ErrNameTaken) {
		t.Error("name of another kind of device:", err)
	}
	err := explainCreate("x", unix.EPERM)
	if !errors.Is(err, ErrPrivilege) || !strings.Contains(err.Error(), "cap_net_admin") || !strings.Contains(err.Error(), "--device /dev/net/tun --cap-add NET_ADMIN") {
		t.Error(err)
	}
	if err := explainCreate("x", unix.ENODEV); !errors.Is(err, ErrNoDriver) {
		t.Error(err)
	}
	h := newHost(t)
	run(t, "ip link del culvert0")
	if err := h.Apply(Plan{Routes: numbered(1)}); err == nil || !strings.Contains(err.Error(), "culvert0") {
		t.Error("a device that is gone:", err)
	}
}

// A plan of which a part fails leaves the last one in place and says why.
func TestHostFailureKeepsLastPlan(t *testing.T) {
	lone(t)
	h := newHost(t)
	plan := Plan{Routes: numbered(5), Bypass: []uint16{500}, Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.5/32")}}
	if err := h.Apply(plan); err != nil {
		t.Fatal(err)
	}
	run(t, "sysctl -qw net.ipv6.conf.culvert0.disable_ipv6=1")
	before := snapshot(t)
	wider := plan
	wider.Addresses = []netip.Prefix{netip.MustParsePrefix("10.9.0.6/32")}
	wider.Routes = append(numbered(9)[2:], route("2001:db8:1::/64", "2001:db8:2::/64"))
	if err := h.Apply(wider); err == nil || !strings.Contains(err.Error(), "disable_ipv6") {
		t.Error("a route to a device without IPv6:", err)
	}
	if now := snapshot(t); !slices.Equal(before, now) {
		t.Errorf("got\n%v\nwant\n%v", now, before)
	}
	if out := run(t, "ip -o addr show dev culvert0"); !strings.Contains(out, "10.9.0.5") || strings.Contains(out, "10.9.0.6") {
		t.Error("addresses", out)
	}
	run(t, "sysctl -qw net.ipv6.conf.culvert0.disable_ipv6=0")
	if err := h.Apply(wider); err != nil {
		t.Error("the same plan once it can:", err)
	}
}
