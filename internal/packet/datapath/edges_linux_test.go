package datapath

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/underlay"
	"culvert/sad"
	"culvert/tun"
)

// onAHost is a running gateway with a device, sockets and a link of the system's:
//
//	host 10.1.0.1 ── culvert0 ── gateway ── 10.9.0.1 v0 ── v1, where 10.9.0.2 is said to be
type onAHost struct {
	*running
	t    *testing.T
	u    *tunnel
	seen map[string]uint64
	from *net.UDPConn // a program of the host
	port uint16
}

func command(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		args := strings.Fields(line)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
}

// carries waits until the link works: the kernel loses what is sent before.
func carries(t *testing.T) {
	t.Helper()
	var out []byte
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if out, _ = exec.Command("ip", "-o", "link", "show", "dev", "v0").Output(); strings.Contains(string(out), " state UP ") {
			return
		}
	}
	t.Fatalf("v0 does not carry: %s", out)
}

func newOnAHost(t *testing.T) *onAHost {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("no /dev/net/tun")
	}
	runtime.LockOSThread() // for good: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("cannot make a network namespace:", err)
	}
	command(t, "ip link set lo up", "sysctl -qw net.ipv6.conf.all.disable_ipv6=1", "ip link add v0 type veth peer name v1",
		"ip addr add 10.9.0.1/24 dev v0", "ip link set v0 up", "ip link set v1 up", "ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev v0")
	carries(t)
	dev, err := tun.Create("culvert0", 1400)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := underlay.Listen(underlay.Options{Listen: []netip.Addr{netip.MustParseAddr("10.9.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	command(t, "sysctl -qw net.ipv6.conf.culvert0.disable_ipv6=1", "ip addr add 10.1.0.1/32 dev culvert0", "ip route add 10.2.0.0/16 dev culvert0")
	h := &onAHost{t: t, u: newTunnel(t, ciphers[0]), running: &running{done: make(chan error, 1)}}
	_, h.port = conn.Ports()
	h.u.connect(1, 1, func(l, r *sad.Params) {
		l.Local, l.Remote = netip.MustParseAddrPort("10.9.0.1:0"), netip.MustParseAddrPort("10.9.0.2:4500")
	})
	cfg := h.u.left.path.cfg
	cfg.Device, cfg.Conn, cfg.Notify, cfg.Now = dev, conn, &log{quiet: true}, time.Now
	h.path = New(cfg)
	go func() { h.done <- h.path.Run(context.Background()) }()
	t.Cleanup(func() {
		_ = h.path.Close()
		h.ended(t)
	})
	if h.from, err = net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 1, 0, 1)}, &net.UDPAddr{IP: net.IPv4(10, 2, 0, 1), Port: 9}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.from.Close() })
	h.seen = h.values()
	return h
}

func (h *onAHost) values() map[string]uint64 {
	m := map[string]uint64{}
	for _, c := range h.path.Counters().Snapshot() {
		m[c.Name] = c.Value
	}
	return m
}

// send has the program send n packets of size bytes.
func (h *onAHost) send(n, size int) {
	h.t.Helper()
	for range n {
		if _, err := h.from.Write(make([]byte, size-28)); err != nil {
			h.t.Fatal(err)
		}
	}
}

// moved waits until these counters, and no others, have moved since the last time.
func (h *onAHost) moved(what string, want map[string]uint64) {
	h.t.Helper()
	var moved map[string]uint64
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		now := h.values()
		moved = map[string]uint64{}
		for name, v := range now {
			if v != h.seen[name] {
				moved[name] = v - h.seen[name]
			}
		}
		if maps.Equal(moved, want) {
			h.seen = now
			return
		}
	}
	h.t.Fatalf("%s: %v moved, want %v", what, moved, want)
}

// What the system's own sockets and queues refuse: exact, and never the end.
func TestRealNetworkRefuses(t *testing.T) {
	h := newOnAHost(t)
	pass := func(what string) {
		t.Helper()
		h.send(5, 1000)
		h.moved(what, map[string]uint64{"tx-packets": 5, "tx-bytes": 5000})
	}
	fail := func(what string) {
		t.Helper()
		h.send(5, 1000)
		h.moved(what, map[string]uint64{"out-errors": 5})
	}
	pass("at first")
	command(t, "ip link set v0 down")
	fail("the link is down")
	command(t, "ip link set v0 up", "ip neigh replace 10.9.0.2 lladdr 02:00:00:00:00:02 dev v0")
	carries(t)
	pass("the link is up")
	for _, kind := range []string{"unreachable", "prohibit", "blackhole"} {
		command(t, "ip route add "+kind+" 10.9.0.2/32")
		fail(kind)
		command(t, "ip route del "+kind+" 10.9.0.2/32")
	}
	command(t, "nft add table ip t", "nft add chain ip t out { type filter hook output priority 0 ; }", "nft add rule ip t out oifname v0 drop")
	fail("a rule drops them")
	command(t, "nft delete table ip t")
	pass("no rule")
	if out, err := exec.Command("sh", "-c", "tc qdisc replace dev v0 root tbf rate 8bit burst 1510 limit 3300").CombinedOutput(); err != nil {
		t.Skipf("the kernel has no sch_tbf: %s", out)
	}
	// Frames of 1042 to 1084 bytes: one leaves, three wait, six find no room.
	// They are sent one by one: of several that leave as one message (UDP_SEGMENT) a queue may
	// drop some, and does not say so.
	gone := func() uint64 {
		now := h.values()
		return now["tx-packets"] + now["out-errors"]
	}
	for i, before := 0, gone(); i < 10; i++ {
		h.send(1, 1000+i%3)
		eventually(t, "one more has left or was refused", func() bool { return gone() == before+uint64(i)+1 })
	}
	h.moved("the queue is full", map[string]uint64{"tx-packets": 4, "tx-bytes": 1000 + 1001 + 1002 + 1000, "out-errors": 6})
	command(t, "tc qdisc del dev v0 root")
	pass("no queue")
}

// The MTU of the link changes under the sockets: the first packet that does not fit is
// refused, the gateway hears it, and from the next on who sends them hears it.
func TestRealLinkShrinks(t *testing.T) {
	h := newOnAHost(t)
	h.send(1, 1390)
	h.moved("at first", map[string]uint64{"tx-packets": 1, "tx-bytes": 1390})
	command(t, "ip link set v0 mtu 1300")
	h.send(1, 1390)
	h.moved("too long for the link", map[string]uint64{"out-errors": 1})
	child := h.u.left.sads.Child(1)
	eventually(t, "the path is learned", func() bool { return child.Path().MTU(time.Now().UnixNano()) == 1300 })
	h.send(1, 1390)
	h.moved("known to be too long", map[string]uint64{"out-too-big": 1, "tx-icmp-too-big": 1})
	eventually(t, "the program is told", func() bool {
		_, err := h.from.Write(make([]byte, 1390-28))
		return errors.Is(err, unix.EMSGSIZE)
	})
	h.send(1, 1000)
	eventually(t, "short ones leave", func() bool { return h.values()["tx-packets"] == 2 })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not: %s", what)
		}
	}
}

// A device that somebody takes down refuses what arrives, and takes it when it is up again.
func TestRealDeviceGoesDown(t *testing.T) {
	h := newOnAHost(t)
	peer, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(10, 9, 0, 1), Port: int(h.port)})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	program, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 1, 0, 1), Port: 2000}) // or the host answers that there is none
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	pkt := udp("10.2.0.1", "10.1.0.1", 100)
	h.u.left, h.u.right = h.u.right, h.u.left // it is the other end that seals
	arrive := func(what string, want map[string]uint64) {
		t.Helper()
		for range 5 {
			if _, err := peer.Write(sealed(h.u, pkt, 4)); err != nil {
				t.Fatal(err)
			}
		}
		h.moved(what, want)
	}
	size := 5 * uint64(len(pkt))
	arrive("up", map[string]uint64{"rx-packets": 5, "rx-bytes": size})
	command(t, "ip link set culvert0 down")
	arrive("down", map[string]uint64{"in-errors": 5})
	command(t, "ip link set culvert0 up")
	arrive("up again", map[string]uint64{"rx-packets": 5, "rx-bytes": size})
}
