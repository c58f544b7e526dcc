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

// frames is a packet socket on a device of a node. Whoever wants to know what there
// was drains it first: a frame is in the socket before whoever gets it can answer,
// so what was answered is known then, however late the reading goroutine is.
type frames struct {
	conn syscall.RawConn
	take func(packet []byte, at time.Time) // without the link's header

	mu  sync.Mutex // held while take is called
	buf [1 << 16]byte
	oob [128]byte
}

// frames has take called with every frame that a device of a node sends or
// receives, and with the time at which the kernel saw it, until the test ends.
func (n *Node) frames(device string, take func(packet []byte, at time.Time)) *frames {
	n.lab.TB.Helper()
	fd, err := n.packetSocket(device)
	if err != nil {
		n.lab.TB.Fatalf("watch %s of %s: %v", device, n.Name, err)
	}
	file := os.NewFile(uintptr(fd), "watch of "+device)
	n.lab.TB.Cleanup(func() { _ = file.Close() })
	f := &frames{take: take}
	if f.conn, err = file.SyscallConn(); err != nil {
		n.lab.TB.Fatalf("watch %s of %s: %v", device, n.Name, err)
	}
	go func() {
		_ = f.conn.Read(func(fd uintptr) bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.drain(int(fd))
			return false // wait for more, until the file is closed
		})
	}()
	return f
}

// drain takes all frames that wait in the socket.
func (f *frames) drain(fd int) {
	for {
		size, oob, _, _, err := unix.Recvmsg(fd, f.buf[:], f.oob[:], 0)
		switch err {
		case nil:
			f.take(f.buf[:size], stamp(f.oob[:oob]))
		case unix.EINTR:
		default:
			return
		}
	}
}

// stamp is the kernel's time stamp in the control messages of a frame, so that a
// reader that is late does not make the frame late.
func stamp(oob []byte) time.Time {
	for len(oob) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		if header.Level == unix.SOL_SOCKET && header.Type == unix.SCM_TIMESTAMPNS && len(data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:])))
		}
		oob = rest
	}
	return time.Now()
}

// look calls f with all frames taken and none on its way.
func (f *frames) look(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.conn.Control(func(fd uintptr) { f.drain(int(fd)) }) // after the test's end there is nothing to drain
	do()
}

// Watch looks at every frame that a device of a node sends or receives, and
// keeps the IPv4 packets of which pick says so.
type Watch struct {
	frames *frames
	pick   func(s Sighting) bool
	seen   []Sighting
	total  int
}

// Sighting is a packet that was picked.
type Sighting struct {
	At       time.Time
	Src, Dst netip.Addr
	Kind     string // as in Sort
	TOS, TTL uint8
}

// Watch starts one, which ends with the test.
func (n *Node) Watch(device string, pick func(s Sighting) bool) *Watch {
	n.lab.TB.Helper()
	w := &Watch{pick: pick}
	w.frames = n.frames(device, w.frame)
	return w
}

func (w *Watch) frame(b []byte, at time.Time) {
	w.total++
	if len(b) < 20 || b[0]>>4 != 4 {
		return
	}
	sort, _ := sortOf(b)
	s := Sighting{at, netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), sort.Kind, b[1], b[8]}
	if w.pick(s) {
		w.seen = append(w.seen, s)
	}
}

// Seen is what was picked so far, and how many frames there were in all.
func (w *Watch) Seen() (picked []Sighting, frames int) {
	w.frames.look(func() { picked, frames = append(picked, w.seen...), w.total })
	return picked, frames
}

// Forget forgets what was picked so far.
func (w *Watch) Forget() {
	w.frames.look(func() { w.seen = nil })
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
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) // room for what comes while nobody reads
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)      // every kernel that has namespaces has it
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
