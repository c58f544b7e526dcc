package datapath

import (
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"

	"culvert/crypto/integ"
	"culvert/crypto/suite"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
)

// lines is a shape's two gateways with the packets that travel between them.
type lines struct {
	left, right *gateway
	plain       [][]byte
	arrived     underlay.Packet
	buf         []byte
}

// pass takes packet i out and in.
func (l *lines) pass(t *testing.T, i int) {
	if r := l.left.path.SendPlain(start, l.plain[i%len(l.plain)]); r != Passed {
		t.Fatalf("out: %v", r)
	}
	sent := &l.left.conn.last
	data := l.left.conn.sent[0]
	if l.left.conn.n = 0; sent.Header {
		if data = data[20:]; sent.Kind == underlay.ESP && sent.Remote.Addr().Is6() {
			data = data[20:] // of 40
		}
	}
	if sent.Kind == underlay.AH {
		data = l.left.conn.sent[0] // AH is handed up with its header
	}
	l.arrived = underlay.Packet{Buf: l.buf, Off: underlay.Headroom, Len: copy(l.buf[underlay.Headroom:], data),
		Local: sent.Remote, Remote: sent.Local, Kind: sent.Kind, NATT: sent.NATT, Header: sent.Kind == underlay.AH}
	if r := l.right.path.Receive(start, &l.arrived); r != Passed {
		t.Fatalf("in: %v", r)
	}
	l.right.host.n = 0
}

// 10^5 packets of many sizes, TCP and UDP, through tunnels of every algorithm and
// through every combination of protocol, mode, bundle and families, without one
// allocation by anybody. Fragments are not among them: what waits for the
// rest of its packet is kept.
func TestMixedPacketsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops items on purpose; run without -race")
	}
	var all []*lines
	sizes := []int{0, 1, 36, 64, 64, 200, 500, 1350}
	add := func(left, right *gateway, from, to netip.Addr) {
		l := &lines{left: left, right: right, buf: make([]byte, underlay.Headroom+3000)}
		left.log.quiet, right.log.quiet = true, true
		for _, n := range sizes {
			l.plain = append(l.plain, udp(from.String(), to.String(), n),
				wire.AppendTCPPacket(nil, wire.TCP{}, netip.AddrPortFrom(from, 1000), netip.AddrPortFrom(to, 80), make([]byte, n)))
		}
		all = append(all, l)
	}
	for i := range suite.Encrs {
		c := cipherCase{suite.Encrs[i].Name, &suite.Encrs[i], nil}
		if !c.encr.AEAD() {
			c.integ = &suite.Integs[i%len(suite.Integs)]
		}
		for _, policy := range []uint32{1, 2} {
			u := newTunnel(t, c)
			u.connect(1, policy, nil)
			from, to := "10.1.0.1", "10.2.0.1"
			if policy == 2 {
				from, to = "fd01::1", "fd02::1"
			}
			add(u.left, u.right, netip.MustParseAddr(from), netip.MustParseAddr(to))
		}
	}
	for _, s := range shapes() {
		left, right := s.connect(t)
		add(left, right, s.leftIn, s.rightIn)
	}
	for range 2 { // pools, caches and twins fill up
		for i := range 2 * len(all) * len(sizes) {
			all[i%len(all)].pass(t, i/len(all))
		}
	}
	settle(t)
	// Pools are emptied by the collector, and there is one for each processor.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	for i := range 2 * len(all) * len(sizes) {
		all[i%len(all)].pass(t, i/len(all))
	}
	const packets = 100_000
	least := ^uint64(0)
	for range 3 { // others in the process may allocate too, but not each time
		runtime.ReadMemStats(&before)
		for i := range packets {
			all[i%len(all)].pass(t, i/len(all))
		}
		runtime.ReadMemStats(&after)
		if least = min(least, after.Mallocs-before.Mallocs); least == 0 {
			return
		}
	}
	t.Errorf("%d allocations for %d packets out and in through %d tunnels", least, packets, len(all))
}

// settle uses every MAC until the runtime has made up its mind: crypto/hmac asks its
// hashes for an interface, and for each kind of hash the runtime makes one cache entry,
// after thousands of times and by chance, for as long as the process lives.
func settle(t *testing.T) {
	for i := range suite.Integs {
		a := &suite.Integs[i]
		m, err := integ.New(a, make([]byte, a.KeyLen))
		if err != nil {
			t.Fatal(err)
		}
		var buf [64]byte
		for range 100_000 {
			m.Sum(buf[:0], buf[:], nil)
		}
	}
}

// once is a device that counts how often each packet is delivered, by its last two bytes.
type once struct {
	host
	times [1 << 16]atomic.Uint32
}

func (d *once) Write(bufs [][]byte, _ int) (int, error) {
	for _, b := range bufs {
		d.times[uint16(b[len(b)-2])<<8|uint16(b[len(b)-1])].Add(1)
	}
	return len(bufs), nil
}

// The same datagrams by many workers at once: each is delivered once.
func TestSameDatagramByManyWorkers(t *testing.T) {
	const workers, packets = 8, 2000
	u := newTunnel(t, ciphers[0])
	device := &once{}
	u.right.path.cfg.Device = device
	u.connect(1, 1, nil)
	for i := range packets {
		pkt := udp("10.1.0.1", "10.2.0.1", 2)
		pkt[len(pkt)-2], pkt[len(pkt)-1] = byte(i>>8), byte(i)
		pkt[26], pkt[27] = 0, 0 // no UDP checksum
		if r := u.left.path.SendPlain(start, pkt); r != Passed {
			t.Fatal(r)
		}
	}
	sent := u.left.conn.take()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			w := newInWorker(u.right.path, u.right.path.edges(), 1)
			defer w.sads.Close()
			for _, data := range sent {
				w.batch(start.UnixNano(), []underlay.Packet{*datagram(data)})
			}
		})
	}
	wg.Wait()
	for i := range packets {
		if n := device.times[i].Load(); n != 1 {
			t.Fatalf("packet %d was delivered %d times", i, n)
		}
	}
}
