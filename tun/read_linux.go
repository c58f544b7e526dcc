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
	hold []byte     // where it is; and where a packet is read that may be too long for its buffer
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
		buf := r.bufs[r.n][r.offset-offloadLen:]
		if len(buf) < len(r.hold) {
			buf = r.hold
		}
		n, _, errno := unix.Syscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)))
		switch errno {
		case 0:
			r.packet(buf[:n])
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

// packet takes what was read to the buffer r.bufs[r.n]: an offload header and a packet.
func (r *reader) packet(buf []byte) {
	if len(buf) < offloadLen {
		r.err = fmt.Errorf("%w: the device gave %d bytes", ErrPacket, len(buf))
		return
	}
	var s super
	pkt := buf[offloadLen:]
	if err := s.parse(buf[:offloadLen], pkt); err != nil {
		r.err = fmt.Errorf("%w: %w", ErrPacket, err)
		return
	}
	n := s.left()
	held := &buf[0] == &r.hold[0]
	switch {
	case n == 0 && !held:
		r.add(len(pkt))
	case n == 0 && len(pkt) > len(r.bufs[r.n])-r.offset:
		r.err = fmt.Errorf("%w: it has %d bytes, its buffer %d", ErrPacket, len(pkt), len(r.bufs[r.n])-r.offset)
	case n == 0:
		r.add(copy(r.bufs[r.n][r.offset:], pkt))
	case held || n > len(r.bufs)-r.n:
		if !held {
			copy(r.hold, buf)
			s.pkt = r.hold[offloadLen:][:len(pkt)]
		}
		r.rest = s
		r.cutRest()
	default:
		first := r.n
		for i := n - 1; i > 0; i-- {
			r.sizes[first+i] = s.cut(r.bufs[first+i][r.offset:], i)
		}
		r.sizes[first] = s.cut(pkt, 0)
		r.n += n
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
