package datapath

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"culvert/esp"
	"culvert/internal/packet/underlay"
	"culvert/sad"
	"culvert/tun"
)

// queued is a device of several queues.
type queued struct {
	*tun.Memory
	more []*tun.Memory
}

func (q *queued) Queues() []tun.Queue {
	list := []tun.Queue{q.Memory}
	for _, m := range q.more {
		list = append(list, m)
	}
	return list
}

func (q *queued) Close() error {
	err := q.Memory.Close()
	for _, m := range q.more {
		err = errors.Join(err, m.Close())
	}
	return err
}

// sent is what left, in the order in which it left.
type sent struct {
	mu   sync.Mutex
	list [][]byte
}

func (s *sent) add(p underlay.Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, append([]byte(nil), p.Data()...))
}

func (s *sent) wait(t *testing.T, n int) [][]byte {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		list := s.list
		s.mu.Unlock()
		if len(list) >= n {
			return list
		}
	}
	t.Fatalf("fewer than %d packets left", n)
	return nil
}

// several starts the left end of a tunnel with so many lines.
func several(t *testing.T, u *tunnel, lines int) (*queued, *sent, *Path) {
	dev, out := &queued{Memory: tun.NewMemory("ipsec", 1420)}, &sent{}
	for range lines - 1 {
		dev.more = append(dev.more, tun.NewMemory("ipsec", 1420))
	}
	cfg := u.left.path.cfg
	cfg.Device, cfg.Notify = dev, &log{quiet: true}
	cfg.Conn = underlay.NewMemory(leftAddr.Addr(), 500, 4500, out.add)
	path := New(cfg)
	done := make(chan error)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- path.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return dev, out, path
}

// An SA that several lines share sends its packets in the order of their numbers, and each flow in its own order.
func TestLinesShareAnSA(t *testing.T) {
	for _, c := range ciphers {
		t.Run(c.name, func(t *testing.T) {
			u := newTunnel(t, c)
			u.connect(1, 1, nil)
			const lines, packets = 4, 500
			dev, out, path := several(t, u, lines)
			var hosts sync.WaitGroup
			for k, m := range append([]*tun.Memory{dev.Memory}, dev.more...) {
				hosts.Go(func() {
					for i := range packets {
						pkt := numbered(udp("10.1.0."+string(rune('1'+k)), "10.2.0.1", 20), i)
						for m.Inject(pkt) != nil {
							time.Sleep(time.Millisecond)
						}
					}
				})
			}
			hosts.Wait()
			wire := out.wait(t, lines*packets)
			next := map[byte]int{}
			for i, data := range wire {
				if esp.Seq(data) != uint32(i+1) {
					t.Fatalf("packet %d has number %d", i+1, esp.Seq(data))
				}
				if r := u.right.path.Receive(start, datagram(data)); r != Passed {
					t.Fatal(r)
				}
				pkt := u.right.host.take()[0]
				host, n := pkt[15], int(pkt[len(pkt)-2])<<8|int(pkt[len(pkt)-1])
				if n != next[host] {
					t.Fatalf("of host %d packet %d came in place of %d", host, n, next[host])
				}
				next[host]++
			}
			if n := path.Counters().get(txPackets); n != lines*packets {
				t.Errorf("%d packets are counted", n)
			}
		})
	}
}

// A line that has an SA for itself uses it; the others share the one for all.
func TestLineWithItsOwnSA(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, nil)
	u.connect(2, 1, func(l, _ *sad.Params) { l.Line = 2 })
	dev, out, _ := several(t, u, 3)
	own := u.right.sads.Child(2).Inbound().SPI()
	for i := range 30 {
		queue := dev.Memory
		if i%3 > 0 {
			queue = dev.more[i%3-1]
		}
		if err := queue.Inject(udp("10.1.0.1", "10.2.0.1", i%3)); err != nil {
			t.Fatal(err)
		}
	}
	for _, data := range out.wait(t, 30) {
		spi := esp.SPI(data)
		u.right.path.Receive(start, datagram(data))
		if line := len(u.right.host.take()[0]) - 28; (spi == own) != (line == 2) {
			t.Errorf("a packet of line %d left by SPI %#x", line, spi)
		}
	}
}

// When one line ends, all do.
func TestOneLineEndsAll(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	dev := &queued{Memory: tun.NewMemory("ipsec", 1420), more: []*tun.Memory{tun.NewMemory("ipsec", 1420)}}
	cfg := u.left.path.cfg
	cfg.Device, cfg.Conn = dev, underlay.NewMemory(leftAddr.Addr(), 500, 4500, func(underlay.Packet) {})
	path := New(cfg)
	done := make(chan error)
	go func() { done <- path.Run(context.Background()) }()
	dev.more[0].Close()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(limit):
		t.Fatal("Run does not end")
	}
	if u.left.sads.Close(); u.left.sads.Unwiped() != 0 {
		t.Error("ended workers hold SAs")
	}
}
