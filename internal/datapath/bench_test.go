package datapath

import (
	"fmt"
	"testing"

	"culvert/internal/underlay"
)

// bench is a tunnel with workers whose batches are handed over in memory that exists.
type bench struct {
	*tunnel
	out     *outWorker
	in      *inWorker
	packets []underlay.Packet
	plain   []byte
	now     int64
}

const benchBatch = 32

func newBench(tb testing.TB, c cipherCase, size int) *bench {
	u := newTunnel(tb, c)
	u.connect(1, 1, nil)
	u.left.log.quiet, u.right.log.quiet = true, true
	b := &bench{tunnel: u, plain: udp("10.1.0.1", "10.2.0.1", size-28), now: start.UnixNano(),
		out: newOutWorker(u.left.path, &u.left.path.counters.out, benchBatch),
		in:  newInWorker(u.right.path, &u.right.path.counters.in, benchBatch)}
	for range benchBatch {
		b.packets = append(b.packets, underlay.Packet{Buf: make([]byte, underlay.Headroom+2000), Local: rightAddr, Remote: leftAddr, Kind: underlay.ESP, NATT: true})
	}
	return b
}

// send takes a batch out. The plain packets are written anew, as a device would.
func (b *bench) send() {
	b.left.conn.n = 0
	for i := range b.out.bufs {
		b.out.sizes[i] = copy(b.out.bufs[i][underlay.Headroom:], b.plain)
	}
	if r := b.out.batch(b.now, benchBatch); r != Passed {
		b.t.Fatal(r)
	}
}

// receive takes the batch that was sent in.
func (b *bench) receive() {
	b.right.host.n = 0
	for i := range b.packets {
		p := &b.packets[i]
		p.Off, p.Len = underlay.Headroom, copy(p.Buf[underlay.Headroom:], b.left.conn.sent[i])
	}
	if r := b.in.batch(b.now, b.packets); r != Passed {
		b.t.Fatal(r)
	}
	b.now += 1000
}

func TestLinesDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops items on purpose; run without -race")
	}
	for _, c := range ciphers {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c, 1400)
			both := func() { b.send(); b.receive() }
			both() // pools and twins fill up
			if allocs := testing.AllocsPerRun(100, both); allocs != 0 {
				t.Errorf("%v allocations for %d packets out and in", allocs, benchBatch)
			}
			drop := func() {
				b.left.path.cfg.SAs.Retire(1)
				b.out.batch(b.now, benchBatch)
				b.in.batch(b.now, b.packets) // replays of rubbish
			}
			drop()
			if allocs := testing.AllocsPerRun(100, drop); allocs != 0 {
				t.Errorf("%v allocations for %d packets dropped", allocs, benchBatch)
			}
		})
	}
}

// BenchmarkLine takes packets through a whole line; bare is the transform alone.
// The time is for one packet, with the copy that stands for the device or the socket.
func BenchmarkLine(b *testing.B) {
	for _, c := range ciphers {
		for _, size := range []int{64, 512, 1420} {
			x := newBench(b, c, size)
			b.Run(fmt.Sprintf("%s/%d/out", c.name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				for n := 0; n < b.N; n += benchBatch {
					x.send()
				}
			})
			b.Run(fmt.Sprintf("%s/%d/seal", c.name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				t, buf := x.left.sads.Child(1).Outbound().Transform(), x.out.bufs[0]
				for i := range b.N {
					copy(buf[underlay.Headroom:], x.plain)
					t.Seal(buf, underlay.Headroom, size, uint64(i), 4)
				}
			})
			b.Run(fmt.Sprintf("%s/%d/both", c.name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				for n := 0; n < b.N; n += benchBatch {
					x.send()
					x.receive()
				}
			})
		}
	}
}
