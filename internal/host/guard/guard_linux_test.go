package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A gateway's network and, on another thread, that of somebody on its wire.
//
//	gateway: lo 10.1.0.1, eth0 10.9.0.1, culvert0 10.5.0.1   other: eth0 10.9.0.2, lo 10.2.0.1
type wire struct {
	t     *testing.T
	other chan func()
}

func newWire(t *testing.T) *wire {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	enter := func() { // the thread ends with its goroutine
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
	}
	w := &wire{t: t, other: make(chan func())}
	tid := make(chan int)
	go func() {
		enter()
		tid <- unix.Gettid()
		for f := range w.other {
			f()
		}
	}()
	theirs := <-tid
	t.Cleanup(func() { close(w.other) })
	enter()
	w.run(fmt.Sprintf("ip link add eth0 type veth peer name eth0 netns /proc/%d/task/%d/ns/net", os.Getpid(), theirs))
	w.run("ip link set lo up", "ip addr add 10.1.0.1/32 dev lo", "ip -6 addr add fd01::1/128 dev lo",
		"ip addr add 10.9.0.1/24 dev eth0", "ip -6 addr add fd09::1/64 dev eth0 nodad", "ip link set eth0 up",
		"ip link add culvert0 type veth peer name culvert1", "ip link set culvert1 up", "ip addr add 10.5.0.1/24 dev culvert0", "ip link set culvert0 up",
		"ip route add 10.2.0.0/24 via 10.9.0.2", "ip -6 route add fd02::/64 via fd09::2")
	w.there(func() {
		w.run("ip link set lo up", "ip addr add 10.2.0.1/32 dev lo", "ip -6 addr add fd02::1/128 dev lo",
			"ip addr add 10.9.0.2/24 dev eth0", "ip -6 addr add fd09::2/64 dev eth0 nodad", "ip link set eth0 up",
			"ip route add 10.1.0.0/24 via 10.9.0.1", "ip -6 route add fd01::/64 via fd09::1")
	})
	// The first packets wait until the link works.
	for end := time.Now().Add(soon); time.Now().Before(end); {
		if w.in("10.9.0.2", "10.9.0.1:1", not) && w.in("fd09::2", "[fd09::1]:1", not) {
			return w
		}
	}
	t.Fatal("the wire does not work")
	return nil
}

func (w *wire) there(f func()) {
	done := make(chan struct{})
	w.other <- func() { defer close(done); f() }
	<-done
}

func (w *wire) run(commands ...string) {
	w.t.Helper()
	for _, c := range commands {
		args := strings.Fields(c)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			w.t.Errorf("%s: %v\n%s", c, err, out)
		}
	}
}

// What is to arrive may take its time on a busy machine. What is not to arrive is
// dropped and counted by the guard before anybody waits for it (see blocks).
const (
	soon = time.Minute
	not  = 50 * time.Millisecond
)

// in reports whether a UDP packet from the other side arrives within wait; out,
// whether one of ours arrives there, by a socket with the mark.
func (w *wire) in(from, to string, wait time.Duration) bool {
	l := listen(to)
	defer l.Close()
	w.there(func() { send(from, to, 0) })
	return arrives(l, wait)
}

func (w *wire) out(from, to string, mark int, wait time.Duration) bool {
	var l *net.UDPConn
	w.there(func() { l = listen(to) })
	defer l.Close()
	send(from, to, mark)
	return arrives(l, wait)
}

func listen(at string) *net.UDPConn {
	l, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		panic(err)
	}
	return l
}

func arrives(l *net.UDPConn, wait time.Duration) bool {
	_ = l.SetReadDeadline(time.Now().Add(wait))
	_, _, err := l.ReadFromUDP(make([]byte, 10))
	return err == nil
}

// send sends one packet; what the guard drops on its way out is an error of the
// system call, which does not matter here.
func send(from, to string, mark int) {
	d := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if mark != 0 {
			_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark) })
		}
		return err
	}}
	if _, err := netip.ParseAddr(from); err == nil {
		from = net.JoinHostPort(from, "7777")
	}
	c, err := d.ListenPacket(context.Background(), "udp", from)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	_, _ = c.WriteTo([]byte("clear"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
}

// blocks sends a packet by try, which is not to arrive, and waits until the guard has
// counted it. It returns by how much its counters grew.
func (w *wire) blocks(g Guard, name string, try func() bool) (grown Counts) {
	w.t.Helper()
	before := counts(w.t, g)
	if try() {
		w.t.Errorf("%s: a packet arrived", name)
		return
	}
	for end := time.Now().Add(soon); grown == (Counts{}) && time.Now().Before(end); time.Sleep(time.Millisecond) {
		after := counts(w.t, g)
		grown = Counts{after.In - before.In, after.Out - before.Out}
	}
	return grown
}

func counts(t *testing.T, g Guard) Counts {
	t.Helper()
	n, err := g.Counts()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func flow(local, remote string) Flow {
	return Flow{Local: netip.MustParsePrefix(local), Remote: netip.MustParsePrefix(remote)}
}

func pass(w Flow) Flow { w.Pass = true; return w }

func own(w Flow) Flow { w.Own = true; return w }

func udpPass(w Flow, localPort, remotePort uint16) Flow {
	w.Proto, w.LocalPort, w.RemotePort, w.Pass = 17, localPort, remotePort, true
	return w
}

const mark = 0xC0150

func (w *wire) guard() Guard {
	w.t.Helper()
	g, err := New(Options{Table: 50500})
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

func plan(flows ...Flow) Plan {
	return Plan{Device: "culvert0", Mark: mark, Errors: mark | 1<<30, Ports: []uint16{500, 4500}, Flows: flows}
}

func apply(t *testing.T, g Guard, p Plan) {
	t.Helper()
	if err := g.Apply(p); err != nil {
		t.Fatal(err)
	}
}

func TestPlaintextIsStopped(t *testing.T) {
	w := newWire(t)
	g := w.guard()
	const sideIn, sideOut = "in", "out"
	v4, v6 := flow("10.1.0.0/24", "10.2.0.0/24"), flow("fd01::/64", "fd02::/64")
	all4, all6 := flow("0.0.0.0/0", "0.0.0.0/0"), flow("::/0", "::/0")
	own4, own6, ownPass := own(all4), own(all6), own(pass(flow("0.0.0.0/0", "10.9.0.0/24")))
	for _, c := range []struct {
		name  string
		flows []Flow
		side  string
		from  string
		to    string
		mark  int
		want  bool
	}{
		{"in", []Flow{v4, v6}, sideIn, "10.2.0.1", "10.1.0.1:9000", 0, false},
		{"in, IPv6", []Flow{v4, v6}, sideIn, "fd02::1", "[fd01::1]:9000", 0, false},
		{"out", []Flow{v4, v6}, sideOut, "10.1.0.1", "10.2.0.1:9000", 0, false},
		{"out, IPv6", []Flow{v4, v6}, sideOut, "fd01::1", "[fd02::1]:9000", 0, false},
		{"another remote", []Flow{v4, v6}, sideIn, "10.9.0.2", "10.1.0.1:9000", 0, true},
		{"another local", []Flow{v4, v6}, sideIn, "10.2.0.1", "10.9.0.1:9000", 0, true},
		{"another source", []Flow{v4, v6}, sideOut, "10.9.0.1", "10.2.0.1:9000", 0, true},
		{"none above", []Flow{udpPass(v4, 9000, 0), v4}, sideIn, "10.2.0.1", "10.1.0.1:9000", 0, true},
		{"none above, another port", []Flow{udpPass(v4, 9000, 0), v4}, sideIn, "10.2.0.1", "10.1.0.1:9001", 0, false},
		{"none above, out", []Flow{udpPass(v4, 0, 9000), v4}, sideOut, "10.1.0.1", "10.2.0.1:9000", 0, true},
		{"none above, the ports the other way", []Flow{udpPass(v4, 9000, 0), v4}, sideOut, "10.1.0.1", "10.2.0.1:9000", 0, false},
		{"none below", []Flow{v4, udpPass(v4, 9000, 0)}, sideIn, "10.2.0.1", "10.1.0.1:9000", 0, false},
		{"the gateway's own", []Flow{all4, all6}, sideOut, "10.1.0.1", "10.2.0.1:9000", mark, true},
		{"IKE", []Flow{flow("10.9.0.1/32", "10.9.0.2/32")}, sideIn, "10.9.0.2", "10.9.0.1:4500", 0, true},
		{"no IKE", []Flow{flow("10.9.0.1/32", "10.9.0.2/32")}, sideIn, "10.9.0.2", "10.9.0.1:4501", 0, false},
		{"everything", []Flow{all4, all6}, sideIn, "10.9.0.2", "10.1.0.1:9000", 0, false},
		{"everything, to the link", []Flow{all4, all6}, sideOut, "fd09::1", "[fd09::2]:9000", 0, false},
		{"everything but the link", []Flow{pass(flow("0.0.0.0/0", "10.9.0.0/24")), all4, all6}, sideIn, "10.9.0.2", "10.1.0.1:9000", 0, true},
		{"everything but the link, IPv6", []Flow{all4, pass(flow("::/0", "fd09::/64")), all6}, sideOut, "fd09::1", "[fd09::2]:9000", 0, true},
		{"renewal of DHCP", []Flow{all4, all6}, sideOut, "10.9.0.1:68", "10.2.0.1:67", 0, true},
		{"no renewal of DHCP", []Flow{all4, all6}, sideOut, "10.9.0.1:68", "10.2.0.1:68", 0, false},
		{"answer of DHCP", []Flow{all4, all6}, sideIn, "10.2.0.1:67", "10.9.0.1:68", 0, true},
		{"no answer of DHCP", []Flow{all4, all6}, sideIn, "10.2.0.1:68", "10.9.0.1:67", 0, false},
		{"renewal of DHCPv6", []Flow{all4, all6}, sideOut, "[fd09::1]:546", "[fd02::1]:547", 0, true},
		{"answer of DHCPv6", []Flow{all4, all6}, sideIn, "[fd02::1]:547", "[fd09::1]:546", 0, true},
		{"own, another source", []Flow{flow("10.1.0.0/24", "0.0.0.0/0"), own4, own6}, sideOut, "10.9.0.1", "10.2.0.1:9000", 0, false},
		{"own, another source, IPv6", []Flow{flow("fd01::/64", "::/0"), own4, own6}, sideOut, "fd09::1", "[fd02::1]:9000", 0, false},
		{"own, to the link", []Flow{own4, own6}, sideOut, "10.9.0.1", "10.9.0.2:9000", 0, false},
		{"own, to the link that passes", []Flow{ownPass, own4, own6}, sideOut, "10.9.0.1", "10.9.0.2:9000", 0, true},
		{"own, none above", []Flow{udpPass(flow("0.0.0.0/0", "10.2.0.0/24"), 0, 9000), own4}, sideOut, "10.9.0.1", "10.2.0.1:9000", 0, true},
		{"own, the gateway's", []Flow{own4, own6}, sideOut, "10.9.0.1", "10.2.0.1:9000", mark, true},
		{"own, renewal of DHCP", []Flow{own4, own6}, sideOut, "10.9.0.1:68", "10.2.0.1:67", 0, true},
		{"own says nothing of what comes in", []Flow{own4, own6}, sideIn, "10.2.0.1", "10.1.0.1:9000", 0, true},
		{"own says nothing of what comes in, IPv6", []Flow{own4, own6}, sideIn, "fd02::1", "[fd01::1]:9000", 0, true},
		{"the link of a policy for all", []Flow{flow("fd09::1/128", "::/0")}, sideIn, "fd09::2", "[fd01::1]:9000", 0, true},
		{"the other side of it", []Flow{flow("fd01::1/128", "::/0")}, sideIn, "fd09::2", "[fd01::1]:9000", 0, false},
		{"the network itself", []Flow{flow("10.9.0.0/24", "0.0.0.0/0")}, sideOut, "10.9.0.1", "10.9.0.2:9000", 0, true},
		{"from the network", []Flow{flow("10.9.0.0/24", "0.0.0.0/0")}, sideOut, "10.9.0.1", "10.2.0.1:9000", 0, false},
	} {
		apply(t, g, plan(c.flows...))
		send := func(wait time.Duration) bool {
			if c.side == sideIn {
				return w.in(c.from, c.to, wait)
			}
			return w.out(c.from, c.to, c.mark, wait)
		}
		if c.want {
			before := counts(t, g)
			if !send(soon) {
				t.Errorf("%s: did not arrive", c.name)
			}
			if after := counts(t, g); after != before {
				t.Errorf("%s: counted %+v, before %+v", c.name, after, before)
			}
			continue
		}
		dropped := Counts{In: 1}
		if c.side == sideOut {
			dropped = Counts{Out: 1}
		}
		if n := w.blocks(g, c.name, func() bool { return send(not) }); n != dropped {
			t.Errorf("%s: counted %+v, want %+v", c.name, n, dropped)
		}
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if !w.in("10.2.0.1", "10.1.0.1:9000", soon) || !w.out("fd01::1", "[fd02::1]:9000", 0, soon) {
		t.Error("a guard that was closed still guards")
	}
}

// A gateway that was killed leaves its guard; the next run takes it over, counters too.
func TestGuardOutlivesItsMaker(t *testing.T) {
	w := newWire(t)
	first := w.guard()
	apply(t, first, plan(flow("10.1.0.0/24", "10.2.0.0/24")))
	w.blocks(first, "no guard", func() bool { return w.in("10.2.0.1", "10.1.0.1:9000", not) })
	if err := first.(*kernel).conn.CloseLasting(); err != nil { // as when it is killed
		t.Fatal(err)
	}
	if w.in("10.2.0.1", "10.1.0.1:9000", not) {
		t.Error("the guard went with its maker")
	}
	second := w.guard()
	for end := time.Now().Add(soon); counts(t, second).In < 2 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	w.blocks(second, "there was a gap", func() bool { return w.in("10.2.0.1", "10.1.0.1:9000", not) })
	apply(t, second, plan(flow("10.1.0.0/24", "10.3.0.0/24")))
	if n, err := second.Counts(); err != nil || n.In != 3 {
		t.Errorf("counters after the change: %+v, %v", n, err)
	}
	if !w.in("10.2.0.1", "10.1.0.1:9000", soon) {
		t.Error("the old plan still holds")
	}
	apply(t, second, Plan{})
	if tables, err := second.(*kernel).tables(); err != nil || len(tables) != 0 {
		t.Errorf("a plan without flows left %v, %v", tables, err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

// By its other addresses a host answers whoever began, in TCP, UDP and ICMP, and
// begins nothing itself.
func TestOwnAddressesAnswer(t *testing.T) {
	w := newWire(t)
	g := w.guard()
	apply(t, g, plan(flow("10.1.0.1/32", "0.0.0.0/0"), own(flow("0.0.0.0/0", "0.0.0.0/0")), own(flow("::/0", "::/0"))))
	for _, end := range [][2]string{{"10.9.0.1", "10.9.0.2"}, {"fd09::1", "fd09::2"}} {
		ours, theirs := net.JoinHostPort(end[0], "9000"), net.JoinHostPort(end[1], "9000")
		serve := func(at string) net.Listener {
			l, err := net.Listen("tcp", at)
			if err != nil {
				panic(err)
			}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = c.Write([]byte("hello"))
					_ = c.Close()
				}
			}()
			return l
		}
		fetch := func(from, to string, wait time.Duration) string {
			d := net.Dialer{Timeout: wait, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
			c, err := d.Dial("tcp", to)
			if err != nil {
				return ""
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(wait))
			text := make([]byte, 5)
			n, _ := io.ReadFull(c, text)
			return string(text[:n])
		}
		l := serve(ours)
		defer l.Close()
		var there net.Listener
		w.there(func() { there = serve(theirs) })
		defer there.Close()
		var got string
		w.there(func() { got = fetch(end[1], ours, soon) })
		if got != "hello" {
			t.Errorf("an answer by TCP to %s: %q", end[1], got)
		}
		if n := w.blocks(g, "our own connection", func() bool { return fetch(end[0], theirs, 10*not) != "" }); n.Out == 0 || n.In != 0 {
			t.Errorf("our own connection from %s: counted %+v", end[0], n)
		}
		var err error
		w.there(func() { // nobody listens, and the answer is an error of ICMP
			var c net.Conn
			if c, err = net.Dial("udp", net.JoinHostPort(end[0], "9")); err != nil {
				panic(err)
			}
			defer c.Close()
			_, _ = c.Write([]byte("anybody?"))
			_ = c.SetReadDeadline(time.Now().Add(soon))
			_, err = c.Read(make([]byte, 10))
		})
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("an answer by ICMP from %s: %v", end[0], err)
		}
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

// Thousands of policies are set up in one step, and somebody's flush is repaired.
func TestGuardOfManyPolicies(t *testing.T) {
	w := newWire(t)
	g := w.guard()
	var flows []Flow
	for i := range 3000 {
		flows = append(flows, flow("10.1.0.0/24", fmt.Sprintf("100.%d.%d.0/24", i/256, i%256)))
	}
	flows = append(flows, flow("10.1.0.0/24", "10.2.0.0/24"), flow("10.1.0.0/24", "240.0.0.0/4"), flow("fd01::/64", "ff00::/8"))
	apply(t, g, plan(flows...))
	if w.in("10.2.0.1", "10.1.0.1:9000", not) {
		t.Error("one of many does not guard")
	}
	w.run("nft flush ruleset")
	apply(t, g, plan(flows...))
	if w.out("10.1.0.1", "10.2.0.1:9000", 0, not) {
		t.Error("what others flushed was not set up again")
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

// No packet slips through while one plan takes the place of another.
func TestNoGapBetweenPlans(t *testing.T) {
	w := newWire(t)
	g := w.guard()
	kept := flow("10.1.0.0/24", "10.2.0.0/24")
	apply(t, g, plan(kept))
	l := listen("10.1.0.1:9000")
	defer l.Close()
	var stop atomic.Bool
	sent := make(chan int)
	go w.there(func() {
		c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.2.0.1:7777")), net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.1.0.1:9000")))
		if err != nil {
			panic(err)
		}
		defer c.Close()
		n := 0
		for ; !stop.Load(); n++ {
			_, _ = c.Write([]byte("clear"))
		}
		go func() { sent <- n }()
	})
	changes := 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); changes++ {
		apply(t, g, plan(kept, flow("10.1.0.0/24", fmt.Sprintf("100.64.%d.0/24", changes%250))))
	}
	stop.Store(true)
	n := <-sent
	if arrives(l, not) {
		t.Errorf("of %d packets during %d changes some got through", n, changes)
	}
	if c, err := g.Counts(); err != nil || c.In == 0 || c.In > uint64(n) {
		t.Errorf("%d packets were sent, the guard counted %+v, %v", n, c, err)
	}
	t.Logf("%d packets, %d changes", n, changes)
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}
