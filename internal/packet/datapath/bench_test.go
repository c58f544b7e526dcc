package datapath

import (
	"crypto/aes"
	stdcipher "crypto/cipher"
	"fmt"
	"testing"

	"culvert/crypto/suite"
	"culvert/internal/packet/underlay"
	"culvert/internal/testing/beside"
)

// bench is a tunnel with workers whose batches are handed over in memory that exists.
type bench struct {
	*tunnel
	out     *outWorker
	in      *inWorker
	packets []underlay.Packet
	joined  []underlay.Packet // one
	plain   []byte
	now     int64
}

const benchBatch = 32

func newBench(tb testing.TB, c cipherCase, size int) *bench {
	u := newTunnel(tb, c)
	u.connect(1, 1, nil)
	u.left.log.quiet, u.right.log.quiet = true, true
	b := &bench{tunnel: u, plain: udp("10.1.0.1", "10.2.0.1", size-28), now: start.UnixNano(),
		out: newOutWorker(u.left.path, u.left.path.edges(), benchBatch, maxPacket),
		in:  newInWorker(u.right.path, u.right.path.edges(), benchBatch)}
	b.joined = []underlay.Packet{{Buf: make([]byte, underlay.Headroom+benchBatch*2000)}}
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

// receiveJoined is receive where the system has joined the datagrams.
func (b *bench) receiveJoined() {
	b.right.host.n = 0
	p := &b.joined[0]
	p.Kind, p.NATT, p.Local, p.Remote, p.Off, p.Len = underlay.ESP, true, rightAddr, leftAddr, underlay.Headroom, 0
	p.Segment = len(b.left.conn.sent[0])
	for i := range benchBatch {
		p.Len += copy(p.Buf[p.Off+p.Len:], b.left.conn.sent[i])
	}
	if r := b.in.batch(b.now, b.joined); r != Passed || b.right.host.n != benchBatch {
		b.t.Fatalf("%v, %d packets", r, b.right.host.n)
	}
	b.now += 1000
}

// every is each encryption algorithm, and each integrity algorithm with one that needs it.
func every() (list []cipherCase) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		c := cipherCase{e.Name, e, nil}
		if !e.AEAD() {
			c.integ = suite.IntegByName("sha256")
		}
		list = append(list, c)
	}
	for k := range suite.Integs {
		i := &suite.Integs[k]
		list = append(list, cipherCase{"aes-128-cbc+" + i.Name, suite.EncrByName("aes-128-cbc"), i})
	}
	return list
}

func TestLinesDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops items on purpose; run without -race")
	}
	for _, c := range every() {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c, 1400)
			both := func() { b.send(); b.receive() }
			both() // pools and twins fill up
			if allocs := testing.AllocsPerRun(20, both); allocs != 0 {
				t.Errorf("%v allocations for %d packets out and in", allocs, benchBatch)
			}
			joined := func() { b.send(); b.receiveJoined() }
			joined()
			if allocs := testing.AllocsPerRun(20, joined); allocs != 0 {
				t.Errorf("%v allocations for %d packets out, and in as one", allocs, benchBatch)
			}
			drop := func() {
				b.left.path.cfg.SAs.Retire(1)
				b.out.batch(b.now, benchBatch)
				b.in.batch(b.now, b.packets) // replays of rubbish
			}
			drop()
			if allocs := testing.AllocsPerRun(20, drop); allocs != 0 {
				t.Errorf("%v allocations for %d packets dropped", allocs, benchBatch)
			}
		})
	}
}

// sink is a network that takes packets as they lie, void a device of the same kind:
// what an edge copies is not the line's.
type (
	sink struct{ network }
	void struct{ host }
)

func (*sink) Send(packets []underlay.Packet) (int, error) { return len(packets), nil }
func (*void) Write(bufs [][]byte, _ int) (int, error)     { return len(bufs), nil }

// fill puts plain packets into the worker's buffers, as a device would, of so many flows in turn.
func (b *bench) fill(flows int) {
	for i := range b.out.bufs {
		to := b.out.bufs[i][underlay.Headroom:]
		b.out.sizes[i] = copy(to, b.plain)
		to[21] = byte(i % flows) // of the port
	}
}

func (b *bench) sealBatch() {
	if r := b.out.batch(b.now, benchBatch); r != Passed {
		b.t.Fatal(r)
	}
	b.now += 1000
}

func (b *bench) openBatch() {
	if r := b.in.batch(b.now, b.packets); r != Passed {
		b.t.Fatal(r)
	}
}

// arrive seals a batch and puts it before the inbound line.
func (b *bench) arrive(flows int) {
	b.fill(flows)
	b.sealBatch()
	for i := range b.packets {
		p := &b.packets[i]
		p.Off, p.Len = underlay.Headroom, copy(p.Buf[underlay.Headroom:], b.out.sealed[i].Data())
	}
}

// BenchmarkLine takes batches of packets through a whole line, from the look-ups to
// the datagram or the plain packet, beside the standard library's Seal or Open for as
// many bytes in as many buffers.
func BenchmarkLine(b *testing.B) {
	for _, name := range []string{"aes-128-gcm", "aes-256-gcm"} {
		for _, size := range []int{64, 512, 1420} {
			for _, flows := range []int{1, benchBatch} {
				benchLine(b, name, size, flows)
			}
		}
	}
}

func benchLine(b *testing.B, name string, size, flows int) {
	c := cipherCase{name, suite.EncrByName(name), nil}
	x := newBench(b, c, size)
	x.out.edges.conn, x.in.edges.device = &sink{}, &void{}
	block, err := aes.NewCipher(make([]byte, c.encr.KeyLen))
	if err != nil {
		b.Fatal(err)
	}
	gcm, err := stdcipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	nonce, header := make([]byte, 12), make([]byte, 12) // with ESN
	text := make([]byte, (size+2+3)&^3)                 // the packet and its trailer
	sealed := gcm.Seal(nil, nonce, text, header)
	bufs := make([][]byte, benchBatch)
	for i := range bufs {
		bufs[i] = make([]byte, len(x.out.bufs[i]))
	}
	fill := func(with []byte) func() {
		return func() {
			for _, buf := range bufs {
				copy(buf[underlay.Headroom:], with)
			}
		}
	}
	run := func(direction string, line, bare beside.Side) {
		b.Run(fmt.Sprintf("%s/%d/%d-flows/%s", name, size, flows, direction), func(b *testing.B) {
			beside.Run(b, benchBatch, line, bare)
		})
	}
	run("out", beside.Side{Prepare: func() { x.fill(flows) }, Round: x.sealBatch}, beside.Side{Prepare: fill(text), Round: func() {
		for _, buf := range bufs {
			at := buf[underlay.Headroom:]
			gcm.Seal(at[:0], nonce, at[:len(text)], header)
		}
	}})
	run("in", beside.Side{Prepare: func() { x.arrive(flows) }, Round: x.openBatch}, beside.Side{Prepare: fill(sealed), Round: func() {
		for _, buf := range bufs {
			at := buf[underlay.Headroom:]
			if _, err := gcm.Open(at[:0], nonce, at[:len(sealed)], header); err != nil {
				b.Fatal(err)
			}
		}
	}})
}
