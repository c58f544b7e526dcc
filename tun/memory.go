package tun

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

// Memory is a Device without a system: Inject stands for a host that sends a
// packet, Outgoing for the host that receives what the gateway wrote.
type Memory struct {
	name    string
	mtu     atomic.Int64
	in, out chan []byte
	closed  chan struct{}
	once    sync.Once
	refuse  atomic.Pointer[func(pkt []byte) error]
}

// memoryQueue is how many packets a Memory holds in each direction.
const memoryQueue = 1024

// memoryBatch is a Memory's batch size.
const memoryBatch = 128

// NewMemory makes an in-memory device. Its queues hold 1024 packets each way.
func NewMemory(name string, mtu int) *Memory {
	m := &Memory{name: name, in: make(chan []byte, memoryQueue), out: make(chan []byte, memoryQueue), closed: make(chan struct{})}
	m.SetMTU(mtu)
	return m
}

// SetMTU gives the device another MTU, as the host does with a real one. Safe for any goroutine.
func (m *Memory) SetMTU(mtu int) { m.mtu.Store(int64(mtu)) }

// ErrFull says that a queue of a Memory has no room: the packet is dropped.
var ErrFull = errors.New("queue full")

// Inject queues a copy of pkt for Read. os.ErrClosed after Close, ErrFull when
// nobody reads.
func (m *Memory) Inject(pkt []byte) error {
	select {
	case <-m.closed:
		return os.ErrClosed
	default:
	}
	select {
	case m.in <- append([]byte(nil), pkt...):
		return nil
	default:
		return ErrFull
	}
}

// Outgoing carries packets that the gateway wrote, in order; each is owned by
// the receiver. It is never closed.
func (m *Memory) Outgoing() <-chan []byte { return m.out }

// Read reads injected packets. A packet larger than its buffer is an error.
func (m *Memory) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	var pkt []byte
	select {
	case <-m.closed:
		return 0, os.ErrClosed
	default:
	}
	select {
	case <-m.closed:
		return 0, os.ErrClosed
	case pkt = <-m.in:
	}
	for n := 0; ; {
		if len(pkt) > len(bufs[n])-offset {
			return n, fmt.Errorf("%w: it has %d bytes, its buffer %d", ErrPacket, len(pkt), len(bufs[n])-offset)
		}
		sizes[n] = copy(bufs[n][offset:], pkt)
		n++
		if n == len(bufs) {
			return n, nil
		}
		select {
		case pkt = <-m.in:
		default:
			return n, nil
		}
	}
}

// Refuse has f asked about each packet that is written: one for which it returns an
// error is not taken, as by a system that refuses it. nil takes all again.
func (m *Memory) Refuse(f func(pkt []byte) error) {
	if f == nil {
		m.refuse.Store(nil)
		return
	}
	m.refuse.Store(&f)
}

// Write copies the packets to Outgoing. Those that find it full are dropped,
// as a host does whose receive queue is full, and ErrFull says so.
func (m *Memory) Write(bufs [][]byte, offset int) (int, error) {
	n, err := 0, error(nil)
	for _, b := range bufs {
		select {
		case <-m.closed:
			return n, os.ErrClosed
		default:
		}
		if f := m.refuse.Load(); f != nil {
			if e := (*f)(b[offset:]); e != nil {
				err = e
				continue
			}
		}
		select {
		case m.out <- append([]byte(nil), b[offset:]...):
			n++
		default:
			err = ErrFull
		}
	}
	return n, err
}

// BatchSize is how many packets one Read or Write takes at most.
func (m *Memory) BatchSize() int { return memoryBatch }

// Name is the name that the device was made with.
func (m *Memory) Name() string { return m.name }

// MTU is the MTU that the device was made with or that SetMTU gave it, in bytes.
func (m *Memory) MTU() (int, error) { return int(m.mtu.Load()), nil }

// Close wakes Read.
func (m *Memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

// MemoryHost is a Host that only remembers. Safe for concurrent use.
type MemoryHost struct {
	mu     sync.Mutex
	plans  []Plan
	closed bool
	fail   error

	changed  chan struct{}
	differ   []string
	by       []string
	restored int
}

// Apply records the plan, or returns what Fail was given.
func (h *MemoryHost) Apply(p Plan) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return os.ErrClosed
	}
	if h.fail != nil {
		return h.fail
	}
	h.plans = append(h.plans, clonePlan(p))
	return nil
}

// Fail lets every further Apply and Restore fail with err; nil lets them succeed again.
func (h *MemoryHost) Fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = err
}

// Changed delivers after Disturb.
func (h *MemoryHost) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed == nil {
		h.changed = make(chan struct{}, 1)
	}
	return h.changed
}

// Disturb is somebody who changes what Apply made: differ says what.
func (h *MemoryHost) Disturb(by string, differ ...string) {
	h.Changed()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.differ = append(h.differ, differ...)
	if by != "" {
		h.by = append(h.by, by)
	}
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// Differences are what Disturb was given since the last Restore.
func (h *MemoryHost) Differences() ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.differ...), nil
}

// Restore puts right what Disturb was given.
func (h *MemoryHost) Restore() (restored, by []string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.restored++
	if h.fail != nil {
		return nil, nil, h.fail
	}
	restored, by, h.differ, h.by = h.differ, h.by, nil, nil
	return restored, by, nil
}

// Restores is how often Restore was called.
func (h *MemoryHost) Restores() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.restored
}

// Plans are all plans so far, oldest first.
func (h *MemoryHost) Plans() []Plan {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Plan(nil), h.plans...)
}

// ForgetPlans forgets what Plans lists: the host is as before the first Apply.
func (h *MemoryHost) ForgetPlans() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.plans = nil
}

// Closed tells whether Close was called.
func (h *MemoryHost) Closed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}

func (h *MemoryHost) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	return nil
}

func clonePlan(p Plan) Plan {
	p.Routes = append([]Route(nil), p.Routes...)
	p.Addresses = append(p.Addresses[:0:0], p.Addresses...)
	p.Bypass = append([]uint16(nil), p.Bypass...)
	p.Protocols = append([]uint8(nil), p.Protocols...)
	return p
}
