package tun

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/poll"
)

// reader reads packets from the device's file: all that the device has, until the buffers are
// half full, and where one stands for several (segmentation offload), those.
type reader struct {
	file  syscall.RawConn
	ready *poll.Set

	mu   sync.Mutex // held by read
	rest super      // what did not fit into the buffers of the last read
	hold []byte     // where a packet is read, and what is left of it
	// The call that is under way; fields, so that it allocates nothing.
	bufs   [][]byte
	sizes  []int
	offset int
	n      int
	err    error
	call   func(fd uintptr)
}

// newReader is nil where the device has no offload header. The error is of the system, which cannot wait for it.
func newReader(file *os.File) (*reader, error) {
	var ready *poll.Set
	var err error
	raw := offloadFile(file, func(fd int) {
		if ready, err = poll.New(); err == nil {
			if err = ready.Add(fd, 0); err != nil {
				err = errors.Join(err, ready.Close())
			}
		}
	})
	if raw == nil || err != nil {
		return nil, err
	}
	r := &reader{file: raw, ready: ready, hold: make([]byte, offloadLen+MaxMTU)}
	r.call = r.drain
	return r, nil
}

// read reads packets to bufs[i][offset:]. See device.Read.
func (r *reader) read(bufs [][]byte, sizes []int, offset int) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bufs, r.sizes, r.offset, r.n, r.err = bufs, sizes, offset, 0, nil
	defer func() { r.bufs, r.sizes = nil, nil }()
	if r.rest.left() > 0 {
		r.cutRest()
		return r.n, r.err
	}
	if err := r.file.Control(r.call); err != nil {
		return r.n, fmt.Errorf("%w: %w", os.ErrClosed, err)
	}
	return r.n, r.err
}

// drain reads until the device has nothing more, the buffers are half full, or something is
// wrong. It waits where there is nothing to read.
func (r *reader) drain(fd uintptr) {
	for r.err == nil && r.rest.left() == 0 && (r.n == 0 || 2*r.n <= len(r.bufs) && r.n < len(r.bufs)) {
		n, _, errno := unix.Syscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(r.hold))), uintptr(len(r.hold)))
		switch errno {
		case 0:
			r.packet(int(n))
		case unix.EINTR:
		case unix.EAGAIN:
			if r.n > 0 {
				return
			}
			if _, _, err := r.ready.Next(); err != nil {
				r.err = fmt.Errorf("%w: %w", os.ErrClosed, err)
			}
		case unix.EBADFD: // the device is gone
			r.err = os.ErrClosed
		case unix.EINVAL, unix.EFAULT, unix.ENOMEM, unix.ENOBUFS:
			r.err = fmt.Errorf("%w: reading it from the device: %w", ErrPacket, errno)
		default:
			r.err = fmt.Errorf("reading from the device: %w", errno)
		}
	}
}

// packet takes the n bytes that were read to r.hold: an offload header and a packet.
func (r *reader) packet(n int) {
	if n < offloadLen {
		r.err = fmt.Errorf("%w: the device gave %d bytes", ErrPacket, n)
		return
	}
	var s super
	pkt := r.hold[offloadLen:n]
	if err := s.parse(r.hold[:offloadLen], pkt); err != nil {
		r.err = fmt.Errorf("%w: %w", ErrPacket, err)
		return
	}
	buf := r.bufs[r.n][r.offset:]
	switch {
	case s.left() > 0:
		r.rest = s
		r.cutRest()
	case len(pkt) > len(buf):
		r.err = fmt.Errorf("%w: it has %d bytes, its buffer %d", ErrPacket, len(pkt), len(buf))
	default:
		r.add(copy(buf, pkt))
	}
}

// add says that the next buffer has a packet of n bytes.
func (r *reader) add(n int) {
	r.sizes[r.n] = n
	r.n++
}

// cutRest cuts as many packets of r.rest as there are buffers for.
func (r *reader) cutRest() {
	for s := &r.rest; s.left() > 0 && r.n < len(r.bufs) && r.err == nil; s.next++ {
		if n := s.cut(r.bufs[r.n][r.offset:], s.next); n > 0 {
			r.add(n)
		} else {
			r.err = fmt.Errorf("%w: it is too long for its buffer of %d bytes", ErrPacket, len(r.bufs[r.n])-r.offset)
		}
	}
}
