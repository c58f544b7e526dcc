package tun

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// writer writes packets to the device's file, joined where that makes one packet of several:
// one system call each, from where the packets are, without copying them first.
type writer struct {
	file syscall.RawConn

	mu   sync.Mutex // held by write
	join joiner
	iovs []unix.Iovec
	// The call that is under way; fields, so that it allocates nothing.
	call  func(fd uintptr)
	errno unix.Errno
}

// newWriter is nil where the device has no offload header: its packets are written one by one.
func newWriter(file *os.File) *writer {
	w := &writer{}
	w.call = w.writev
	w.file = offloadFile(file, func(fd int) {
		// The package has asked for the same; Linux before 6.2 refuses it.
		w.join.udp = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcpOffloads|udpOffloads) == nil
	})
	if w.file == nil {
		return nil
	}
	return w
}

const (
	tcpOffloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	udpOffloads = unix.TUN_F_USO4 | unix.TUN_F_USO6
)

// write writes the packets bufs[i][offset:]. See device.Write.
func (w *writer) write(bufs [][]byte, offset int) (taken int, last error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.join.join(bufs, offset)
	for k := range w.join.groups {
		g := &w.join.groups[k]
		errno, err := w.group(g, bufs, offset)
		if err == nil && errno == unix.EINVAL && g.segments > 1 {
			// This system does not take what is joined so.
			var n int
			n, errno, err = w.singly(g, bufs, offset)
			taken += n
		} else if err == nil && errno == 0 {
			taken += g.segments
		}
		if err != nil {
			return taken, err
		}
		if errno != 0 {
			last = fmt.Errorf("writing a packet to the device: %w", errno)
		}
	}
	return taken, last
}

// group writes the packets of g as one.
func (w *writer) group(g *group, bufs [][]byte, offset int) (unix.Errno, error) {
	first := bufs[g.first]
	g.head(first, offset)
	w.iovs = append(w.iovs[:0], iovec(first[offset-offloadLen:]))
	for i := w.join.next[g.first]; i >= 0; i = w.join.next[i] {
		w.iovs = append(w.iovs, iovec(bufs[i][offset+g.layout.payload:]))
	}
	return w.flush()
}

// singly writes the packets of g one by one. The error is that of the last that was refused.
func (w *writer) singly(g *group, bufs [][]byte, offset int) (taken int, last unix.Errno, err error) {
	g.apart(bufs[g.first][offset:])
	for i := g.first; i >= 0; i = w.join.next[i] {
		clear(bufs[i][offset-offloadLen : offset])
		w.iovs = append(w.iovs[:0], iovec(bufs[i][offset-offloadLen:]))
		errno, err := w.flush()
		switch {
		case err != nil:
			return taken, last, err
		case errno != 0:
			last = errno
		default:
			taken++
		}
	}
	return taken, last, nil
}

func iovec(b []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	return v
}

// fullTimeout is how long a full device is waited for, in ms. What it does not take then is lost.
const fullTimeout = 100

// flush writes what is in w.iovs. It waits where the device's queue is full.
func (w *writer) flush() (unix.Errno, error) {
	err := w.file.Control(w.call)
	if err == nil && w.errno == unix.EBADFD { // the device is gone
		err = os.ErrClosed
	}
	for i := range w.iovs {
		w.iovs[i].Base = nil
	}
	if err != nil && !errors.Is(err, os.ErrClosed) {
		err = fmt.Errorf("%w: %w", os.ErrClosed, err)
	}
	return w.errno, err
}

func (w *writer) writev(fd uintptr) {
	for {
		_, _, w.errno = unix.Syscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(unsafe.SliceData(w.iovs))), uintptr(len(w.iovs)))
		switch w.errno {
		case unix.EINTR:
		case unix.EAGAIN:
			room := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			if n, err := unix.Poll(room[:], fullTimeout); n == 0 && err == nil {
				return
			}
		default:
			return
		}
	}
}
