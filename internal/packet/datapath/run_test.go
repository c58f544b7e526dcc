package datapath

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"culvert/internal/packet/underlay"
	"culvert/tun"
)

// running is a gateway of newTunnel with the packages' own twins as edges, and Run.
type running struct {
	dev  *tun.Memory
	conn *underlay.Memory
	path *Path
	done chan error
}

func (g *gateway) start(ctx context.Context, addr netip.Addr, send func(underlay.Packet)) *running {
	r := &running{dev: tun.NewMemory("ipsec", 1420), conn: underlay.NewMemory(addr, 500, 4500, send), done: make(chan error, 1)}
	cfg := g.path.cfg
	cfg.Device, cfg.Conn, cfg.Notify = r.dev, r.conn, &log{quiet: true}
	r.path = New(cfg)
	go func() { r.done <- r.path.Run(ctx) }()
	return r
}

func (r *running) ended(t *testing.T) {
	t.Helper()
	select {
	case err := <-r.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(limit):
		t.Fatal("Run does not end")
	}
}

func TestRunBackToBack(t *testing.T) {
	for _, c := range ciphers {
		t.Run(c.name, func(t *testing.T) {
			u := newTunnel(t, c)
			u.connect(1, 1, nil)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var left, right *running
			ready := make(chan struct{})
			left = u.left.start(ctx, leftAddr.Addr(), func(p underlay.Packet) { <-ready; right.conn.Deliver(p.Local, p.Remote, p.Data()) })
			right = u.right.start(ctx, rightAddr.Addr(), func(p underlay.Packet) { <-ready; left.conn.Deliver(p.Local, p.Remote, p.Data()) })
			close(ready)
			for i := range 300 {
				there, back := udp("10.1.0.1", "10.2.0.1", i), udp("10.2.0.1", "10.1.0.1", i)
				if err := errors.Join(left.dev.Inject(there), right.dev.Inject(back)); err != nil {
					t.Fatal(err)
				}
				arrives(t, right, there)
				arrives(t, left, back)
			}
			cancel()
			left.ended(t)
			right.ended(t)
			if u.left.sads.Close(); u.left.sads.Unwiped() != 0 {
				t.Error("ended workers hold SAs")
			}
		})
	}
}

// limit is for how long a test waits for what has to come, on a busy machine too.
const limit = time.Minute

func arrives(t *testing.T, r *running, want []byte) {
	t.Helper()
	select {
	case got := <-r.dev.Outgoing():
		if !bytes.Equal(got, want) {
			t.Fatal("another packet")
		}
	case <-time.After(limit):
		t.Fatal("no packet")
	}
}

func TestCloseEndsRun(t *testing.T) {
	for name, end := range map[string]func(*running) error{
		"path":    func(r *running) error { return r.path.Close() },
		"device":  func(r *running) error { return r.dev.Close() },
		"network": func(r *running) error { return r.conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newGateway().start(context.Background(), leftAddr.Addr(), func(underlay.Packet) {})
			if err := end(r); err != nil {
				t.Fatal(err)
			}
			r.ended(t)
			if err := r.dev.Inject([]byte{1}); !errors.Is(err, os.ErrClosed) {
				t.Error("the device is open:", err)
			}
			if _, err := r.conn.Recv(make([]underlay.Packet, 1)); !errors.Is(err, net.ErrClosed) {
				t.Error("the network is open:", err)
			}
			for _, c := range r.path.Counters().Snapshot() {
				if c.Value != 0 {
					t.Errorf("%s is %d", c.Name, c.Value)
				}
			}
		})
	}
}

// broken fails each Read until it has failed enough, then hands out a packet, and so on.
type broken struct {
	*tun.Memory
	fail, every int
}

func (b *broken) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if b.fail++; b.fail%b.every != 0 {
		return 0, errRefused
	}
	if b.fail > 10*b.every {
		return 0, os.ErrClosed
	}
	sizes[0] = copy(bufs[0][offset:], "no packet")
	return 1, nil
}

func TestOddErrorsDoNotEndRunButManyDo(t *testing.T) {
	g := newGateway()
	cfg := g.path.cfg
	run := func(every int) (*Path, error) {
		cfg.Device = &broken{Memory: tun.NewMemory("ipsec", 1420), every: every}
		cfg.Conn = underlay.NewMemory(leftAddr.Addr(), 500, 4500, func(underlay.Packet) {})
		p := New(cfg)
		return p, p.Run(context.Background())
	}
	p, err := run(maxFailures)
	if err != nil || p.Counters().Get(OutErrors) != 10 {
		t.Errorf("%v, %d packets", err, p.Counters().Get(OutErrors))
	}
	if _, err = run(maxFailures + 1); !errors.Is(err, errRefused) {
		t.Errorf("%v, want the device's error", err)
	}
}

// A device may get a larger MTU while packets pass, and its longer packets pass, too. The first one meets the buffers of
// before.
func TestRunWithALargerMTU(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var right *running
	ready := make(chan struct{})
	left := u.left.start(ctx, leftAddr.Addr(), func(p underlay.Packet) { <-ready; right.conn.Deliver(p.Local, p.Remote, p.Data()) })
	right = u.right.start(ctx, rightAddr.Addr(), func(underlay.Packet) {})
	close(ready)
	short, long := udp("10.1.0.1", "10.2.0.1", 100), udp("10.1.0.1", "10.2.0.1", 3000)
	inject := func(pkt []byte) {
		t.Helper()
		if err := left.dev.Inject(pkt); err != nil {
			t.Fatal(err)
		}
	}
	inject(short)
	arrives(t, right, short)
	left.dev.SetMTU(4000)
	left.path.DeviceChanged()
	inject(long)
	inject(long)
	inject(short)
	arrives(t, right, long)
	cancel()
	left.ended(t)
	right.ended(t)
	if n := left.path.Counters().Get(OutErrors); n > 1 {
		t.Errorf("%d packets were lost", n)
	}
}
