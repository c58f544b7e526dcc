package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Impairment is what a BadWire does to the frames that it carries, in each direction.
// The zero value carries all of them at once and in order.
type Impairment struct {
	Loss, Duplicate, Reorder float64       // probabilities, 0 to 1
	Delay, Jitter            time.Duration // of each frame; Jitter is added, drawn evenly from 0 to this
}

// BadWire is a wire between two nodes whose faults can be changed while it carries.
// It does what the kernel's netem does, for kernels that have no netem.
//
//	a ── veth ── this process ── veth ── b
type BadWire struct {
	mu     sync.Mutex
	faults Impairment
	random *rand.Rand
	failed error

	middle *Node
	ends   [2]End
}

// heldFrames bounds the frames of one direction that wait for their delay. Further
// ones are lost, as in a router whose queue is full.
const heldFrames = 4096

// BadWire joins two nodes as Wire does. The faults are drawn from the seed. It ends
// with the test, which fails if the wire could not carry.
func (l *Lab) BadWire(a, b End, seed uint64) *BadWire {
	l.TB.Helper()
	middle := l.Node(a.Node.Name + "-" + b.Node.Name)
	for i, e := range []End{a, b} {
		dev := fmt.Sprintf("wire%d", i)
		e.Node.Run("ip", "link", "add", e.Device, "type", "veth", "peer", "name", dev, "netns", middle.NS)
		middle.Run("ip", "link", "set", dev, "addrgenmode", "none")
		middle.Run("ip", "link", "set", dev, "up")
		e.Node.Run("ip", "link", "set", e.Device, "addrgenmode", "none")
		e.Node.Run("ip", "addr", "add", e.Prefix.String(), "dev", e.Device)
		e.Node.Run("ip", "link", "set", e.Device, "up")
	}
	for _, e := range []End{a, b} {
		e.Node.await("ip", "UP", "-o", "link", "show", "dev", e.Device)
		e.Node.await("ip", e.Prefix.Addr(), "-o", "route", "show", "table", "local", "dev", e.Device)
	}
	w := &BadWire{random: rand.New(rand.NewPCG(seed, 1)), middle: middle, ends: [2]End{a, b}}
	var ends [2]*os.File
	for i := range ends {
		fd, err := middle.wireSocket(fmt.Sprintf("wire%d", i))
		if err != nil {
			l.TB.Fatalf("bad wire: %v", err)
		}
		ends[i] = os.NewFile(uintptr(fd), "wire")
	}
	var done sync.WaitGroup
	done.Go(func() { w.carry(ends[0], ends[1]) })
	done.Go(func() { w.carry(ends[1], ends[0]) })
	l.TB.Cleanup(func() {
		_, _ = ends[0].Close(), ends[1].Close()
		done.Wait()
		if w.failed != nil {
			l.TB.Errorf("bad wire: %v", w.failed)
		}
	})
	return w
}

// Impair changes the wire's faults.
func (w *BadWire) Impair(i Impairment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = i
}

// MTU sets that of the whole wire, in bytes.
func (w *BadWire) MTU(n int) {
	w.middle.lab.TB.Helper()
	for i, e := range w.ends {
		w.middle.Run("ip", "link", "set", fmt.Sprintf("wire%d", i), "mtu", fmt.Sprint(n))
		e.Node.Run("ip", "link", "set", e.Device, "mtu", fmt.Sprint(n))
	}
}

// fate draws what becomes of a frame: when each copy of it leaves, from now on.
func (w *BadWire) fate() (copies []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, r := w.faults, w.random
	if r.Float64() < f.Loss {
		return nil
	}
	n := 1
	if r.Float64() < f.Duplicate {
		n = 2
	}
	for range n {
		wait := f.Delay
		if f.Jitter > 0 {
			wait += time.Duration(r.Int64N(int64(f.Jitter)))
		}
		if r.Float64() < f.Reorder {
			wait = 0 // past those that wait
		}
		copies = append(copies, wait)
	}
	return copies
}

// carry takes the frames of one end to the other until an end is closed. Frames that
// the kernel would cut later (GSO) and whose checksums it would fill in later pass as
// they are: the header that says so goes along (PACKET_VNET_HDR).
func (w *BadWire) carry(from, to *os.File) {
	var held sync.WaitGroup
	defer held.Wait()
	room := make(chan struct{}, heldFrames)
	buf := make([]byte, 1<<17)
	for {
		n, err := from.Read(buf)
		switch {
		case errors.Is(err, unix.ENETDOWN): // a link that is set down; it comes back
			continue
		case err != nil:
			if !errors.Is(err, os.ErrClosed) {
				w.fail(err)
			}
			return
		}
		for _, wait := range w.fate() {
			if wait <= 0 {
				w.put(to, buf[:n])
				continue
			}
			select {
			case room <- struct{}{}:
			default:
				continue // lost
			}
			frame := append([]byte(nil), buf[:n]...)
			held.Add(1)
			time.AfterFunc(wait, func() {
				defer held.Done()
				w.put(to, frame)
				<-room
			})
		}
	}
}

// put sends a frame. One that the other end does not take is lost, as on any wire.
func (w *BadWire) put(to *os.File, frame []byte) {
	_, err := to.Write(frame)
	switch {
	case err == nil, errors.Is(err, os.ErrClosed), errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EMSGSIZE):
	default:
		w.fail(err)
	}
}

func (w *BadWire) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
}

// wireSocket opens a packet socket that sends and receives whole frames of a device,
// but not those that it sent itself.
func (n *Node) wireSocket(device string) (fd int, err error) {
	err = n.Inside(func() error {
		dev, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index}))
		if err != nil {
			_ = unix.Close(fd)
		}
		return err
	})
	return fd, err
}
