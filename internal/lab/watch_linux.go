package lab

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Watch looks at every frame that a device of a node sends or receives, and
// keeps the IPv4 packets of which pick says so.
type Watch struct {
	conn syscall.RawConn
	pick func(s Sighting) bool

	mu    sync.Mutex
	buf   [1 << 16]byte
	seen  []Sighting
	total int
}

// Sighting is a packet that was picked.
type Sighting struct {
	At       time.Time
	Src, Dst netip.Addr
	Protocol uint8
	TOS, TTL uint8
}

// Watch starts one, which ends with the test.
func (n *Node) Watch(device string, pick func(s Sighting) bool) *Watch {
	n.lab.TB.Helper()
	fd, err := n.packetSocket(device)
	if err != nil {
		n.lab.TB.Fatalf("watch %s of %s: %v", device, n.Name, err)
	}
	file := os.NewFile(uintptr(fd), "watch of "+device)
	n.lab.TB.Cleanup(func() { _ = file.Close() })
	w := &Watch{pick: pick}
	if w.conn, err = file.SyscallConn(); err != nil {
		n.lab.TB.Fatalf("watch %s of %s: %v", device, n.Name, err)
	}
	go func() {
		_ = w.conn.Read(func(fd uintptr) bool {
			w.drain(int(fd))
			return false // wait for more, until the file is closed
		})
	}()
	return w
}

// drain takes all frames that wait in the socket.
func (w *Watch) drain(fd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		size, err := unix.Read(fd, w.buf[:])
		switch err {
		case nil:
			w.frame(w.buf[:size])
		case unix.EINTR:
		default:
			return
		}
	}
}

// frame is an IP packet: the socket leaves the link's header away.
func (w *Watch) frame(b []byte) {
	w.total++
	if len(b) < 20 || b[0]>>4 != 4 {
		return
	}
	s := Sighting{time.Now(), netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[9], b[1], b[8]}
	if w.pick(s) {
		w.seen = append(w.seen, s)
	}
}

// Seen is what was picked so far, and how many frames there were in all. A frame
// is in the socket before whoever gets it can answer, so what is answered was seen.
func (w *Watch) Seen() ([]Sighting, int) {
	_ = w.conn.Control(func(fd uintptr) { w.drain(int(fd)) })
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Sighting(nil), w.seen...), w.total
}

// packetSocket opens a packet socket in the node's network.
func (n *Node) packetSocket(device string) (fd int, err error) {
	err = n.Inside(func() error {
		dev, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		if err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index}); err != nil {
			_ = unix.Close(fd)
		}
		return err
	})
	return fd, err
}

// Inside runs f in the node's network: sockets that it opens stay there. The
// thread comes back and lives on: daemons die with the thread that started them.
func (n *Node) Inside(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			home, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			defer func() { _ = home.Close() }()
			ns, err := os.Open("/run/netns/" + n.NS)
			if err != nil {
				return err
			}
			defer func() { _ = ns.Close() }()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			defer func() {
				if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
					runtime.UnlockOSThread()
				}
			}()
			return f()
		}()
	}()
	return <-done
}
