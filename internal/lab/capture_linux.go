package lab

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Sort is what a packet on a wire is, as far as one sees without a key.
type Sort struct {
	From  netip.Addr
	Kind  string // "esp", "ah", "esp in udp", "ike", "keepalive", "tcp", "icmp", "fragment", or the protocol's number
	AHLen int    // bytes of the AH
	Next  uint8  // the protocol in AH
}

// Capture counts the packets of a device, both ways.
type Capture struct {
	fd   int
	done chan struct{}

	mu   sync.Mutex
	over bool
	seen map[Sort]int
}

// Capture begins to count. It ends with the test.
func (n *Node) Capture(device string) *Capture {
	tb := n.lab.TB
	tb.Helper()
	c := &Capture{fd: -1, done: make(chan struct{}), seen: map[Sort]int{}}
	if err := n.inside(func() error { return c.open(device) }); err != nil {
		tb.Fatalf("capture on %s %s: %v", n.Name, device, err)
	}
	go c.run()
	tb.Cleanup(c.stop)
	return c
}

// inside runs f on a thread that is in the node's network.
func (n *Node) inside(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		result <- func() error {
			home, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			defer func() { _ = home.Close() }()
			there, err := os.Open("/run/netns/" + n.NS)
			if err != nil {
				return err
			}
			defer func() { _ = there.Close() }()
			if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			err = f()
			// A thread that cannot come home stays locked, and ends with the goroutine.
			if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back == nil {
				runtime.UnlockOSThread()
			}
			return err
		}()
	}()
	return <-result
}

func (c *Capture) open(device string) error {
	index, err := deviceIndex(device)
	if err != nil {
		return err
	}
	all := uint16(unix.ETH_P_ALL)<<8 | unix.ETH_P_ALL>>8
	c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return err
	}
	// So that run looks now and then whether it is to end.
	if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		return err
	}
	_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	return unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index})
}

func deviceIndex(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	r, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, r); err != nil {
		return 0, err
	}
	return int(r.Uint32()), nil
}

func (c *Capture) run() {
	defer close(c.done)
	buf := make([]byte, 256)
	for {
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		switch err {
		case nil:
		case unix.EINTR, unix.EAGAIN:
			c.mu.Lock()
			over := c.over
			c.mu.Unlock()
			if over {
				return
			}
			continue
		default:
			return // the device is gone
		}
		if s, ok := sortOf(buf[:n]); ok {
			c.mu.Lock()
			c.seen[s]++
			c.mu.Unlock()
		}
	}
}

func (c *Capture) stop() {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	<-c.done
	_ = unix.Close(c.fd)
}

// Seen is how many packets of each sort passed so far.
func (c *Capture) Seen() map[Sort]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.seen)
}

// sortOf looks at the front of a packet. Not ok: it is not IP.
func sortOf(p []byte) (s Sort, ok bool) {
	var proto uint8
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		s.From, proto = netip.AddrFrom4([4]byte(p[12:16])), p[9]
		if binary.BigEndian.Uint16(p[6:])&0x1fff != 0 {
			s.Kind = "fragment"
			return s, true
		}
		p = p[min(len(p), int(p[0]&15)*4):]
	case len(p) >= 40 && p[0]>>4 == 6:
		s.From, proto = netip.AddrFrom16([16]byte(p[8:24])), p[6]
		p = p[40:]
	default:
		return s, false
	}
	switch {
	case proto == unix.IPPROTO_ESP:
		s.Kind = "esp"
	case proto == unix.IPPROTO_AH && len(p) >= 12:
		s.Kind, s.AHLen, s.Next = "ah", (int(p[1])+2)*4, p[0]
	case proto == unix.IPPROTO_UDP && len(p) >= 9:
		s.Kind = udpKind(p)
	case proto == unix.IPPROTO_TCP:
		s.Kind = "tcp"
	case proto == unix.IPPROTO_ICMP || proto == unix.IPPROTO_ICMPV6:
		s.Kind = "icmp"
	case proto == unix.IPPROTO_FRAGMENT:
		s.Kind = "fragment"
	default:
		s.Kind = fmt.Sprint(proto)
	}
	return s, true
}

// udpKind tells apart what is in UDP (RFC 3948 §2).
func udpKind(p []byte) string {
	from, to, data := binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]), p[8:]
	switch {
	case from != 4500 && to != 4500 && (from == 500 || to == 500):
		return "ike"
	case from != 4500 && to != 4500:
		return "udp"
	case len(data) == 1 && data[0] == 0xff:
		return "keepalive"
	case len(data) >= 4 && binary.BigEndian.Uint32(data) == 0:
		return "ike"
	}
	return "esp in udp"
}
