package datapath

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/esp"
	"culvert/internal/packet/underlay"
	"culvert/internal/testing/beside"
	"culvert/sad"
)

// apart is a tunnel with an SA of a quick cipher (policy 1, IPv4) and one of a slow cipher (policy 2, IPv6), whose lines hand
// packets over to a crew of nobody: the test computes the tasks itself.
type apart struct {
	*tunnel
	out *outWorker
	in  *inWorker
	now int64
}

func newApart(t testing.TB, size int) *apart {
	a := &apart{tunnel: newTunnel(t, ciphers[0]), now: start.UnixNano()}
	a.connect(1, 1, nil)
	a.cipher = ciphers[1]
	a.connect(2, 2, nil)
	a.left.log.quiet, a.right.log.quiet = true, true
	for _, p := range []*Path{a.left.path, a.right.path} {
		p.crew = &crew{work: make(chan task, 1024)}
		p.arriver = newInWorker(p, p.edges(), taskPackets)
	}
	a.out = newOutWorker(a.left.path, a.left.path.edges(), size, maxPacket)
	a.out.apart = newOutApart(a.left.path, size, maxPacket)
	a.in = newInWorker(a.right.path, a.right.path.edges(), size)
	a.in.apart = newInApart(a.right.path)
	return a
}

// leave takes packets through the outbound line as a batch.
func (a *apart) leave(packets ...[]byte) Reason {
	for i, pkt := range packets {
		a.out.sizes[i] = copy(a.out.bufs[i][underlay.Headroom:], pkt)
	}
	r := a.out.batch(a.now, len(packets))
	a.out.renew()
	return r
}

// arrive takes datagrams through the inbound line as a batch.
func (a *apart) arrive(datagrams ...[]byte) Reason {
	a.in.packets = nil
	for _, data := range datagrams {
		a.in.packets = append(a.in.packets, *datagram(data))
	}
	r := a.in.batch(a.now, a.in.packets)
	a.in.renew()
	return r
}

// tasks are those that wait for the crew of p.
func tasks(p *Path) (list []task) {
	for len(p.crew.work) > 0 {
		list = append(list, <-p.crew.work)
	}
	return list
}

func quick(i int) []byte { return udp("10.1.0.1", "10.2.0.1", 10+i) }
func slow(i int) []byte  { return udp("fd01::1", "fd02::1", 10+i) }

// Packets of a quick cipher leave at once, those of a slow one in the order of their numbers, in whatever order they are sealed.
func TestSlowCiphersDoNotHoldUpOthers(t *testing.T) {
	a := newApart(t, 100)
	var batch [][]byte
	for i := range 50 {
		batch = append(batch, slow(i), quick(i))
	}
	if r := a.leave(batch...); r != Passed {
		t.Fatal(r)
	}
	fast := a.left.conn.take()
	if len(fast) != 50 {
		t.Fatalf("%d packets left before the slow ones were sealed, want 50", len(fast))
	}
	if r := a.leave(slow(50), quick(50)); r != Passed {
		t.Fatal(r)
	}
	if fast = append(fast, a.left.conn.take()...); len(fast) != 51 {
		t.Fatalf("%d packets, want 51", len(fast))
	}
	waiting := tasks(a.left.path)
	if len(waiting) != 3 { // 32, 18, and 1 of the second batch
		t.Fatalf("%d tasks, want 3", len(waiting))
	}
	slices.Reverse(waiting)
	for i, task := range waiting {
		task.compute()
		task.place().sequence.computed(task)
		if n := a.left.conn.n; i < 2 && n != 0 {
			t.Fatalf("%d packets left before those in front of them", n)
		}
	}
	behind := a.left.conn.take()
	if len(behind) != 51 {
		t.Fatalf("%d slow packets left, want 51", len(behind))
	}
	for i, pkt := range behind {
		if esp.Seq(pkt) != uint32(i+1) {
			t.Fatalf("packet %d has number %d", i, esp.Seq(pkt))
		}
	}

	// The same at the other end.
	batch = nil
	for i := range 50 {
		batch = append(batch, behind[i], fast[i])
	}
	if r := a.arrive(batch...); r != Passed {
		t.Fatal(r)
	}
	got := a.right.host.take()
	if len(got) != 50 {
		t.Fatalf("%d packets arrived before the slow ones were opened, want 50", len(got))
	}
	a.arrive(behind[50], fast[50], behind[0]) // the last one again: it is not known yet that it came
	waiting = tasks(a.right.path)
	slices.Reverse(waiting)
	for _, task := range waiting {
		task.compute()
		task.place().sequence.computed(task)
	}
	got = append(got, a.right.host.take()...)
	if len(got) != 102 {
		t.Fatalf("%d packets arrived, want 102", len(got))
	}
	for i, pkt := range got[51:] {
		if !bytes.Equal(pkt, slow(i)) {
			t.Fatalf("slow packet %d is another one", i)
		}
	}
	if n := a.right.path.Counters().Get(InStateSequenceErrors); n != 1 {
		t.Errorf("%d replays, want 1", n)
	}
}

// While packets of quick ciphers come, the lines wait for nobody: what finds no room is dropped and counted. Otherwise they
// wait, and nothing is lost.
func TestSlowCiphersFindNoRoom(t *testing.T) {
	a := newApart(t, 4)
	a.leave(quick(0))
	sent := 1
	for range 2 * outBatches {
		a.leave(slow(1), quick(1), slow(2))
		sent++
	}
	if n := len(a.left.conn.take()); n != sent {
		t.Errorf("%d quick packets left, want %d", n, sent)
	}
	kept := 2 * (outBatches - 1) // the line keeps a batch for itself
	if n := a.left.path.Counters().Get(OutBufferErrors); n != uint64(2*2*outBatches-kept) {
		t.Errorf("%d slow packets were dropped, want %d", n, 2*2*outBatches-kept)
	}
	finish := func(p *Path) {
		for _, task := range tasks(p) {
			task.compute()
			task.place().sequence.computed(task)
		}
	}
	finish(a.left.path)
	onWire := a.left.conn.take()
	if len(onWire) != kept {
		t.Fatalf("%d slow packets left, want %d", len(onWire), kept)
	}
	for i, pkt := range onWire { // one that was dropped used up no number
		if esp.Seq(pkt) != uint32(i+1) {
			t.Fatalf("packet %d has number %d", i, esp.Seq(pkt))
		}
	}

	// A second without others: the line waits for a batch.
	a.now += quickLately
	done := make(chan bool)
	go func() {
		for i := range 2 * outBatches {
			a.leave(slow(i))
		}
		close(done)
	}()
	for n := 0; n < 2*outBatches; n++ {
		select {
		case task := <-a.left.path.crew.work:
			task.compute()
			task.place().sequence.computed(task)
		case <-time.After(limit):
			t.Fatal("the line does not go on")
		}
	}
	<-done
	if n := len(a.left.conn.take()); n != 2*outBatches {
		t.Errorf("%d packets left, want %d", n, 2*outBatches)
	}

	// Inbound.
	a.arrive(sealedBy(a, 1, quick(0)))
	var more [][]byte
	for i := range 2 * inBatches {
		more = append(more, sealedBy(a, 2, slow(i)))
	}
	for _, pkt := range more {
		a.arrive(pkt, sealedBy(a, 1, quick(1)))
	}
	if n := len(a.right.host.take()); n != 1+2*inBatches {
		t.Errorf("%d quick packets arrived, want %d", n, 1+2*inBatches)
	}
	if n := a.right.path.Counters().Get(InBufferErrors); n != inBatches+1 {
		t.Errorf("%d slow packets were dropped, want %d", n, inBatches+1)
	}
	finish(a.right.path)
	if n := len(a.right.host.take()); n != inBatches-1 {
		t.Errorf("%d slow packets arrived, want %d", n, inBatches-1)
	}
}

// sealedBy seals a packet with an SA of the left end, in no line.
func sealedBy(a *apart, id uint64, pkt []byte) []byte {
	out := a.left.sads.Child(id).Outbound()
	seq, _ := out.Reserve(1)
	buf := make([]byte, underlay.Headroom+len(pkt)+tailroom)
	copy(buf[underlay.Headroom:], pkt)
	next := uint8(4)
	if pkt[0]>>4 == 6 {
		next = 41
	}
	from, to := out.Transform().Seal(buf, underlay.Headroom, len(pkt), seq, next)
	return bytes.Clone(buf[from:to])
}

// Keys are not wiped as long as a task needs them.
func TestKeysOfTasksAreNotWiped(t *testing.T) {
	a := newApart(t, 4)
	pkt := sealedBy(a, 2, slow(7))
	a.leave(slow(1))
	a.arrive(pkt)
	for _, g := range []*gateway{a.left, a.right} {
		g.sads.Remove(2)
		if g.sads.Unwiped() != 1 {
			t.Error("the keys of an SA in use were wiped")
		}
		for _, task := range tasks(g.path) {
			task.compute()
			task.place().sequence.computed(task)
		}
		if g.sads.Unwiped() != 0 {
			t.Error("the keys of an SA that nobody uses were not wiped")
		}
	}
	if n := len(a.left.conn.take()); n != 1 {
		t.Errorf("%d packets left, want 1", n)
	}
	if n := len(a.right.host.take()); n != 1 {
		t.Errorf("%d packets arrived, want 1", n)
	}
}

// What is opened apart is heard at the time at which it came.
func TestTasksHaveTheirTime(t *testing.T) {
	a := newApart(t, 4)
	a.right.log.quiet = false
	for i, want := range [][]string{{"used 2", "heard 2"}, nil, {"heard 2"}} {
		a.now = start.UnixNano() + int64(i)*int64(sad.HeardEvery)/2
		a.arrive(sealedBy(a, 2, slow(i)))
		for _, task := range tasks(a.right.path) {
			task.compute()
			task.place().sequence.computed(task)
		}
		a.right.log.want(t, want...)
	}
}

// A packet that came in fragments is sealed after the memory in which it was put together is free.
func TestFragmentsOfSlowCiphers(t *testing.T) {
	u := newTunnel(t, ciphers[1])
	withPorts(u)
	u.left.path.crew = &crew{work: make(chan task, 1024)}
	w := newOutWorker(u.left.path, u.left.path.edges(), 16, maxPacket)
	w.apart = newOutApart(u.left.path, 16, maxPacket)
	var want [][]byte
	for id := range uint16(3) {
		pkt := large("10.1.0.1", "10.2.0.1", id+1, 2000+int(id))
		want = append(want, pkt)
		pieces := cut(t, pkt, 1400)
		for i, p := range pieces {
			w.sizes[i] = copy(w.bufs[i][underlay.Headroom:], p)
		}
		if r := w.batch(start.UnixNano(), len(pieces)); r != Passed {
			t.Fatal(r)
		}
		w.renew()
	}
	for _, task := range tasks(u.left.path) {
		task.compute()
		task.place().sequence.computed(task)
	}
	for i, data := range u.left.conn.take() {
		u.right.path.Receive(start, datagram(data))
		if got := u.right.host.take(); len(got) != 1 || !bytes.Equal(got[0], want[i]) {
			t.Errorf("packet %d is another one", i)
		}
	}
}

// Handing over allocates nothing.
func TestTasksDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops items on purpose; run without -race")
	}
	a := newApart(t, 64)
	var batch [][]byte
	for i := range 32 {
		batch = append(batch, slow(i), quick(i))
	}
	packets := make([]underlay.Packet, 64)
	for i := range packets {
		packets[i] = underlay.Packet{Buf: make([]byte, underlay.Headroom+2000), Local: rightAddr, Remote: leftAddr, Kind: underlay.ESP, NATT: true}
	}
	compute := func(p *Path) {
		for len(p.crew.work) > 0 {
			task := <-p.crew.work
			task.compute()
			task.place().sequence.computed(task)
		}
	}
	both := func() {
		a.left.conn.n, a.right.host.n = 0, 0
		a.leave(batch...)
		compute(a.left.path)
		for i := range packets {
			packets[i].Off, packets[i].Len = underlay.Headroom, copy(packets[i].Buf[underlay.Headroom:], a.left.conn.sent[i])
		}
		a.in.batch(a.now, packets)
		compute(a.right.path)
		a.in.renew()
		a.now += 1000
	}
	for range 2 * outBatches {
		both()
	}
	if a.left.conn.n != 64 || a.right.host.n != 64 {
		t.Fatalf("%d packets left and %d arrived, want 64", a.left.conn.n, a.right.host.n)
	}
	if n := testing.AllocsPerRun(50, both); n != 0 {
		t.Errorf("%v allocations for 64 packets out and in", n)
	}
}

// With a real crew, packets leave and arrive in order, and everything arrives.
func TestCrewKeepsOrder(t *testing.T) {
	a := newApart(t, 16)
	a.out.apart.lastQuick, a.in.apart.lastQuick = -quickLately, -quickLately
	a.left.path.crew, a.right.path.crew = newCrew(), newCrew()
	const batches, size = 300, 16
	for i := range batches {
		var batch [][]byte
		for j := range size {
			batch = append(batch, numbered(slow(4), i*size+j))
		}
		a.leave(batch...)
	}
	a.left.path.crew.close()
	onWire := a.left.conn.take()
	if len(onWire) != batches*size {
		t.Fatalf("%d packets left, want %d", len(onWire), batches*size)
	}
	for i := 0; i < len(onWire); i += size {
		if esp.Seq(onWire[i]) != uint32(i+1) {
			t.Fatalf("packet %d has number %d", i, esp.Seq(onWire[i]))
		}
		a.arrive(onWire[i : i+size]...)
	}
	a.right.path.crew.close()
	got := a.right.host.take()
	if len(got) != batches*size {
		t.Fatalf("%d packets arrived, want %d", len(got), batches*size)
	}
	for i, pkt := range got {
		if !bytes.Equal(pkt, numbered(slow(4), i)) {
			t.Fatalf("packet %d is another one", i)
		}
	}
}

// Whole paths with quick and slow flows: each packet is delivered once and in the order of its flow, or counted.
func TestRunWithQuickAndSlowFlows(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, nil)
	u.cipher = ciphers[1]
	u.connect(2, 2, nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var left, right *running
	ready := make(chan struct{})
	left = u.left.start(ctx, leftAddr.Addr(), func(p underlay.Packet) { <-ready; right.conn.Deliver(p.Local, p.Remote, p.Data()) })
	right = u.right.start(ctx, rightAddr.Addr(), func(p underlay.Packet) { <-ready; left.conn.Deliver(p.Local, p.Remote, p.Data()) })
	close(ready)
	const packets = 400
	for i := range packets {
		if err := errors.Join(left.dev.Inject(numbered(quick(4), i)), left.dev.Inject(numbered(slow(4), i))); err != nil {
			t.Fatal(err)
		}
	}
	number := func(pkt []byte) int { return int(pkt[len(pkt)-2])<<8 | int(pkt[len(pkt)-1]) }
	last := map[byte]int{4: -1, 6: -1}
	deadline := time.After(limit)
	for got := 0; ; {
		lost := int(left.path.Counters().Get(OutBufferErrors) + right.path.Counters().Get(InBufferErrors))
		if got+lost == 2*packets {
			break
		}
		select {
		case pkt := <-right.dev.Outgoing():
			got++
			if n := number(pkt); n <= last[pkt[0]>>4] {
				t.Fatalf("packet %d of IPv%d came after %d", n, pkt[0]>>4, last[pkt[0]>>4])
			} else {
				last[pkt[0]>>4] = n
			}
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatalf("%d packets arrived and %d are counted, of %d", got, lost, 2*packets)
		}
	}
	if last[4] != packets-1 {
		t.Errorf("the last packet of the quick flow is %d", last[4])
	}
	cancel()
	left.ended(t)
	right.ended(t)
	if u.left.sads.Close(); u.left.sads.Unwiped() != 0 {
		t.Error("ended workers hold SAs")
	}
}

// numbered makes pkt the i-th of its flow.
func numbered(pkt []byte, i int) []byte {
	pkt[len(pkt)-2], pkt[len(pkt)-1] = byte(i>>8), byte(i)
	return pkt
}

// BenchmarkCrew seals batches by slow ciphers with all cores, beside the same on the line alone.
func BenchmarkCrew(b *testing.B) {
	for _, c := range []cipherCase{
		{"aes-256-cbc+sha256", suite.EncrByName("aes-256-cbc"), suite.IntegByName("sha256")},
		{"aes-256-ctr+sha1", suite.EncrByName("aes-256-ctr"), suite.IntegByName("sha1")},
		{"camellia-256+sha256", suite.EncrByName("camellia-256"), suite.IntegByName("sha256")},
		{"3des+sha1", suite.EncrByName("3des"), suite.IntegByName("sha1")},
	} {
		b.Run(c.name, func(b *testing.B) {
			const rounds = 16
			alone, apart := newBench(b, c, 1420), newBench(b, c, 1420)
			alone.out.edges.conn, apart.out.edges.conn = &sink{}, &sink{}
			p := apart.left.path
			p.crew = newCrew()
			defer p.crew.close()
			apart.out.apart = newOutApart(p, benchBatch, maxPacket)
			round := func(x *bench) func() {
				return func() {
					for range rounds {
						x.fill(1)
						x.sealBatch()
						if x.out.apart != nil {
							x.out.renew()
						}
					}
					for p.leaving.waiting() {
						runtime.Gosched()
					}
				}
			}
			beside.Run(b, rounds*benchBatch, beside.Side{Round: round(apart)}, beside.Side{Round: round(alone)})
		})
	}
}

func (s *sequence) waiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first < len(s.list)
}
