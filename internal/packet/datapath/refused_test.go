package datapath

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"culvert/internal/packet/underlay"
	"culvert/tun"
)

// refusals are what systems say of single packets, below and at the device.
var refusals = []error{
	syscall.ENOBUFS, syscall.ENOMEM, syscall.EAGAIN, syscall.EMSGSIZE, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EACCES,
	syscall.EPERM, syscall.ENETDOWN, syscall.EIO, syscall.EINVAL, syscall.EAFNOSUPPORT, underlay.ErrNoSocket, underlay.ErrFrame, tun.ErrFull,
}

// third is a system that refuses every third packet, until it is lifted.
type third struct {
	err    error
	seen   atomic.Int64
	lifted atomic.Bool
}

func (r *third) refuses() error {
	if n := r.seen.Add(1); n%3 == 0 && !r.lifted.Load() {
		return r.err
	}
	return nil
}

// settled waits until counters have these values, and all others are 0.
func (r *running) settled(t *testing.T, what string, want map[string]uint64) {
	t.Helper()
	var got string
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		moved := map[string]uint64{}
		for _, c := range r.path.Counters().Snapshot() {
			if c.Value != 0 {
				moved[c.Name] = c.Value
			}
		}
		if got = fmt.Sprint(moved); got == fmt.Sprint(want) {
			return
		}
	}
	t.Fatalf("%s: %s, want %v", what, got, want)
}

// Whatever the network has against a packet: it counts in out-errors, the others of its
// batch leave, and the line goes on.
func TestNetworkRefuses(t *testing.T) {
	for _, errno := range refusals {
		u := newTunnel(t, ciphers[0])
		u.connect(1, 1, nil)
		ctx, cancel := context.WithCancel(context.Background())
		left := u.left.start(ctx, leftAddr.Addr(), func(underlay.Packet) {})
		refusing := &third{err: errno}
		left.conn.Refuse(func(underlay.Packet) error { return refusing.refuses() })
		pkt := udp("10.1.0.1", "10.2.0.1", 100)
		send := func(n int) {
			for range n {
				if err := left.dev.Inject(pkt); err != nil {
					t.Fatal(err)
				}
			}
		}
		send(200)
		left.settled(t, errno.Error(), map[string]uint64{"out-errors": 66, "tx-packets": 134, "tx-bytes": 134 * uint64(len(pkt))})
		refusing.lifted.Store(true)
		send(50)
		left.settled(t, errno.Error(), map[string]uint64{"out-errors": 66, "tx-packets": 184, "tx-bytes": 184 * uint64(len(pkt))})
		if rows := u.left.sads.Child(1).Rows(start, false); rows[1].Packets != 250 {
			t.Errorf("%v: the SA sealed %d", errno, rows[1].Packets)
		}
		cancel()
		left.ended(t)
	}
}

// The same for the device, and in-errors.
func TestDeviceRefuses(t *testing.T) {
	for _, errno := range refusals {
		u := newTunnel(t, ciphers[0])
		u.connect(1, 1, nil)
		ctx, cancel := context.WithCancel(context.Background())
		right := u.right.start(ctx, rightAddr.Addr(), func(underlay.Packet) {})
		refusing := &third{err: errno}
		right.dev.Refuse(func([]byte) error { return refusing.refuses() })
		pkt := udp("10.1.0.1", "10.2.0.1", 100)
		arrive := func(n int) {
			for range n {
				if !right.conn.Deliver(leftAddr, rightAddr, sealed(u, pkt, 4)) {
					t.Fatal("not delivered")
				}
			}
		}
		arrive(200)
		right.settled(t, errno.Error(), map[string]uint64{"in-errors": 66, "rx-packets": 134, "rx-bytes": 134 * uint64(len(pkt))})
		refusing.lifted.Store(true)
		arrive(50)
		right.settled(t, errno.Error(), map[string]uint64{"in-errors": 66, "rx-packets": 184, "rx-bytes": 184 * uint64(len(pkt))})
		cancel()
		right.ended(t)
	}
}

// A host's packet that cannot be read counts, however many of them come, and those
// between them leave.
func TestDeviceCannotBeRead(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, nil)
	left := u.left.start(context.Background(), leftAddr.Addr(), func(underlay.Packet) {})
	pkt := udp("10.1.0.1", "10.2.0.1", 100)
	for i := range 10 * maxFailures {
		long := make([]byte, underlay.Headroom+maxPacket+1)
		binary.BigEndian.PutUint32(long, uint32(i))
		if err := left.dev.Inject(long); err != nil {
			t.Fatal(err)
		}
		if i%20 == 19 {
			if err := left.dev.Inject(pkt); err != nil {
				t.Fatal(err)
			}
		}
	}
	left.settled(t, "read", map[string]uint64{"out-errors": 10 * maxFailures, "tx-packets": 8, "tx-bytes": 8 * uint64(len(pkt))})
	if err := left.path.Close(); err != nil {
		t.Fatal(err)
	}
	left.ended(t)
}
