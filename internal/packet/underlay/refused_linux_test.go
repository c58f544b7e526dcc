package underlay

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/wire"
)

var (
	here, alsoHere = netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.3")
	far            = netip.MustParseAddr("10.9.0.2") // behind v0, where v1 sees what leaves
)

// link puts the test into a namespace with two addresses on v0, whose other end is v1.
func link(t *testing.T) {
	isolate(t, "ip link set lo up", "ip link add v0 type veth peer name v1",
		"sysctl -qw net.ipv6.conf.v0.disable_ipv6=1", "sysctl -qw net.ipv6.conf.v1.disable_ipv6=1",
		"ip addr add 10.9.0.1/24 dev v0", "ip addr add 10.9.0.3/24 dev v0", "ip link set v0 up", "ip link set v1 up",
		"ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev v0")
	carries(t, "v0")
}

// carries waits until a link that was set up works: the kernel loses what is sent before.
func carries(t *testing.T, device string) {
	t.Helper()
	var out []byte
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if out, _ = exec.Command("ip", "-o", "link", "show", "dev", device).Output(); bytes.Contains(out, []byte(" state UP ")) {
			return
		}
	}
	t.Fatalf("%s does not carry: %s", device, out)
}

func command(t *testing.T, text string) {
	t.Helper()
	args := strings.Fields(text)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", text, err, out)
	}
}

// queue gives v0 a queue, or skips the test on a kernel without that kind.
func fullQueue(t *testing.T, text string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", "tc qdisc replace dev v0 root "+text).CombinedOutput(); err != nil {
		t.Skipf("the kernel has no such queue (%s), whose modules are sch_tbf and sch_fifo: %s", text, out)
	}
}

// leftSince is how many packets came out of v0 since there were before. What waits to
// be dequeued is waited for.
func leftSince(t *testing.T, before, want int) (n int) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if n = leftBy(t) - before; n >= want {
			break
		}
	}
	return n
}

// leftBy is how many packets came out of v0.
func leftBy(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(text), "v1:")
	n, err := strconv.Atoi(strings.Fields(line)[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sizes makes ESP datagrams, of which no two can be one message.
func sizes(to netip.AddrPort, n, size int, natt bool) (list []Packet) {
	for i := range n {
		list = append(list, outgoing(ESP, netip.AddrPort{}, to, natt, espPacket(size+i, i)))
	}
	return list
}

// Whatever the system has against one packet, those before and behind it leave, by
// UDP and without.
func TestEveryRefusalIsOfOnePacket(t *testing.T) {
	link(t)
	for _, c := range []string{"ip route add unreachable 10.7.0.0/24", "ip route add prohibit 10.6.0.0/24", "ip route add blackhole 10.5.0.0/24",
		"nft add table ip t", "nft add chain ip t out { type filter hook output priority 0 ; }", "nft add rule ip t out ip daddr 10.9.0.77 drop"} {
		command(t, c)
	}
	for _, natt := range []bool{true, false} {
		a, b := listenRaw(t, here), listenRaw(t, alsoHere)
		good := outgoing(ESP, netip.AddrPort{}, at(alsoHere, b, true), natt, espPacket(1000, 1))
		long := outgoing(ESP, netip.AddrPort{}, netip.AddrPortFrom(far, 4500), natt, espPacket(1500, 1))
		long.Whole = true
		to := func(addr string) Packet {
			p := good
			p.Remote = netip.AddrPortFrom(netip.MustParseAddr(addr), 4500)
			return p
		}
		for _, c := range []struct {
			name string
			bad  Packet
			err  error
		}{
			{"no route", to("192.0.2.1"), unix.ENETUNREACH},
			{"unreachable", to("10.7.0.1"), unix.EHOSTUNREACH},
			{"prohibited", to("10.6.0.1"), unix.EACCES},
			{"into a black hole", to("10.5.0.1"), unix.EINVAL},
			{"dropped by a rule", to("10.9.0.77"), unix.EPERM},
			{"longer than the link", long, unix.EMSGSIZE},
			{"longer than a packet", outgoing(ESP, netip.AddrPort{}, netip.AddrPortFrom(far, 4500), natt, make([]byte, 65600)), ErrFrame},
			{"a family without socket", to("2001:db8::1"), ErrNoSocket},
		} {
			n, err := a.Send([]Packet{good, c.bad, good, good, c.bad, c.bad, good})
			if n != 4 || !errors.Is(err, c.err) {
				t.Errorf("%s, UDP %v: %d left, %v", c.name, natt, n, err)
			}
			receive(t, b, 4)
		}
		a.Close()
		b.Close()
	}
}

// The link's MTU changes under the sockets: what is too long is refused and told,
// cut where it may be, and goes again when the link takes it again.
func TestLinkChangesUnderTheSockets(t *testing.T) {
	link(t)
	a := listen(t, here)
	var list []Packet
	for i := range 10 {
		p := outgoing(ESP, netip.AddrPort{}, netip.AddrPortFrom(far, 4500), true, espPacket(1390+i, i))
		p.Whole = i < 6
		list = append(list, p)
	}
	for _, c := range []struct {
		change string
		sent   int
		wire   int // packets on the link
		err    error
	}{
		{"ip link set v0 mtu 1500", 10, 10, nil},
		{"ip link set v0 mtu 1300", 4, 8, unix.EMSGSIZE},
		{"ip link set v0 down", 0, 0, unix.ENETUNREACH},
		{"ip link set v0 up", 4, 8, unix.EMSGSIZE},
		{"ip link set v0 mtu 1428", 10, 10, nil},
	} {
		command(t, c.change)
		if c.change == "ip link set v0 up" {
			command(t, "ip neigh replace 10.9.0.2 lladdr 02:00:00:00:00:02 dev v0")
			carries(t, "v0")
		}
		before := leftBy(t)
		n, err := a.Send(list)
		left := leftSince(t, before, c.wire)
		if n != c.sent || (err != nil) != (c.err != nil) || c.err != nil && !errors.Is(err, c.err) || left != c.wire {
			t.Errorf("%s: %d sent, %d on the link, %v", c.change, n, left, err)
		}
	}
	one := packets(1, 2000)
	if n, err := a.Recv(one); n != 1 || err != nil || one[0].Kind != Trouble || one[0].Fault != (Fault{Cause: TooBig, Kind: ESP, Local: true, MTU: 1300}) {
		t.Errorf("told %d, %v, %+v", n, err, one[0].Fault)
	}
}

// A queue of the interface that is full refuses the packets that it has no room for
// (ENOBUFS). Each counts, none is held back by another.
func TestQueueIsFull(t *testing.T) {
	link(t)
	// 1510 bytes leave at once, 4300 wait, the rest finds no room: frames are 14 longer
	// than packets, and the bucket fills by a byte a second.
	fullQueue(t, "tbf rate 8bit burst 1510 limit 4300")
	for _, natt := range []bool{true, false} {
		command(t, "tc qdisc del dev v0 root")
		fullQueue(t, "tbf rate 8bit burst 1510 limit 4300")
		a, b := listenRaw(t, here), listenRaw(t, alsoHere)
		list := sizes(netip.AddrPortFrom(far, 4500), 10, 1350, natt)
		list = append(list, outgoing(ESP, netip.AddrPort{}, at(alsoHere, b, true), natt, espPacket(100, 1)))
		if n, err := a.Send(list); n != 1+3+1 || !errors.Is(err, unix.ENOBUFS) {
			t.Errorf("UDP %v: %d sent, %v", natt, n, err)
		}
		receive(t, b, 1)
		if n, err := a.Send(list[:5]); n != 0 || !errors.Is(err, unix.ENOBUFS) {
			t.Errorf("UDP %v, again: %d sent, %v", natt, n, err)
		}
		a.Close()
		b.Close()
	}
	command(t, "tc qdisc del dev v0 root")
	a := listenRaw(t, here)
	if n, err := a.Send(sizes(netip.AddrPortFrom(far, 4500), 10, 1350, true)); n != 10 || err != nil {
		t.Errorf("with room: %d sent, %v", n, err)
	}
}

// A queue that counts bytes, and never has room for the message that the system
// would cut: its datagrams leave one by one.
func TestQueueTooShortForAMessage(t *testing.T) {
	link(t)
	fullQueue(t, "bfifo limit 1450")
	a := listen(t, here)
	if !a.(*conn).by[1][0][0].gso {
		t.Skip("this kernel has no UDP_SEGMENT, take Linux 4.18 or later")
	}
	var list []Packet
	for i := range 50 {
		list = append(list, outgoing(ESP, netip.AddrPort{}, netip.AddrPortFrom(far, 4500), true, espPacket(1350, i)))
	}
	before := leftBy(t)
	if n, err := a.Send(list); n != 50 || err != nil || leftSince(t, before, 50) != 50 {
		t.Errorf("%d sent, %d on the link, %v", n, leftBy(t)-before, err)
	}
	if !a.(*conn).by[1][0][0].gso {
		t.Error("the next message is not tried")
	}
}

// Without send buffer: what needs fragments finds none at all (ENOBUFS), and what
// waits in a queue fills it up (EAGAIN). Neither is for ever.
func TestSendBufferIsSmall(t *testing.T) {
	link(t)
	a := listen(t, here)
	s := a.(*conn).by[1][0][0]
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1); err != nil {
		t.Fatal(err)
	}
	short := sizes(netip.AddrPortFrom(far, 4500), 2, 500, true)
	long := outgoing(ESP, netip.AddrPort{}, netip.AddrPortFrom(far, 4500), true, espPacket(60000, 1))
	if n, err := a.Send([]Packet{short[0], long, short[1]}); n != 2 || !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("fragments: %d sent, %v", n, err)
	}
	fullQueue(t, "tbf rate 8bit burst 1510 limit 10000000")
	n, err := a.Send(sizes(netip.AddrPortFrom(far, 4500), 20, 1300, true))
	if n < 1 || n > 10 || !errors.Is(err, unix.EAGAIN) {
		t.Errorf("full: %d sent, %v", n, err)
	}
	command(t, "tc qdisc del dev v0 root") // what waited is gone, and its room there
	if n, err := a.Send(short); n != 2 || err != nil {
		t.Errorf("room again: %d sent, %v", n, err)
	}
}

// What goes by the policies in clear is not less exact: a full queue is told there too.
func TestClearIsToldOfAFullQueue(t *testing.T) {
	link(t)
	fullQueue(t, "tbf rate 8bit burst 1510 limit 4300")
	c, err := OpenClear(0x77)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var results []string
	for range 6 {
		pkt := wire.AppendUDPPacket(nil, netip.MustParseAddrPort("10.1.0.1:1"), netip.AddrPortFrom(far, 2), bytes.Repeat([]byte{1}, 1350))
		switch err := c.Send(pkt); {
		case err == nil:
			results = append(results, "sent")
		case errors.Is(err, unix.ENOBUFS):
			results = append(results, "full")
		default:
			results = append(results, err.Error())
		}
	}
	if got := fmt.Sprint(results); got != "[sent sent sent sent full full]" {
		t.Error(got)
	}
}
