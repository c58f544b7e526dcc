package datapath

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/packet/underlay"
	"culvert/sad"
)

// Packets of slow ciphers (sad.Transform.Slow) are sealed and opened apart from the line on which they came, so that the
// packets of other SAs do not wait for them, and so that one busy SA can use several cores:
//
//	the line   judges packets, reserves their sequence numbers, and hands them over as tasks of up to taskPackets
//	the crew   seals or opens the tasks, several at once, and finishes them in the order in which they were handed over:
//	           the packets are sent, or meet the replay window, the policies and the device
//
// So the packets of an SA leave in the order of their sequence numbers, and those of a flow in the order in which they came.
//
// Outbound packets of a quick cipher whose SA several lines share are tasks, too, since peers drop what is left of their
// replay window. There the line computes its task itself, and whoever has the first one sends those behind it as well.
//
// A task uses the memory of its batch, so a line has several batches. When all are in use and only slow packets have come
// lately, the line waits, and packets wait in front of it as they do for a busy line without tasks. If other packets have
// come in the last second, they must not wait: then the slow packets that find no room are dropped, out-buffer-errors and
// in-buffer-errors.
const (
	taskPackets = 32
	outBatches  = 8
	inBatches   = 4
	quickLately = int64(time.Second)
)

// A task is packets of one batch that are computed apart.
type task interface {
	compute() // several tasks at once
	finish()  // one after the other
	place() *place
}

// place is that of a task in its sequence.
type place struct {
	sequence *sequence
	computed bool // under the sequence's mutex
}

// crew is the goroutines that compute tasks, for both directions of a Path.
type crew struct {
	work    chan task
	running sync.WaitGroup
}

// cores is how many the program may use. The gateway adds processors for its lines later, which are no cores.
var cores = runtime.GOMAXPROCS(0)

// newCrew starts one goroutine for each core that the program may use.
func newCrew() *crew {
	c := &crew{work: make(chan task, 1024)}
	for range min(cores, runtime.GOMAXPROCS(0)) {
		c.running.Go(func() {
			for t := range c.work {
				t.compute()
				t.place().sequence.computed(t)
			}
		})
	}
	return c
}

// do begins a task behind all that were begun before in the sequence.
func (c *crew) do(s *sequence, t task) {
	s.begin(t)
	c.work <- t
}

// close waits for all tasks. Nobody may call do any more.
func (c *crew) close() {
	close(c.work)
	c.running.Wait()
}

// sequence is tasks that have not been finished, oldest first.
type sequence struct {
	mu        sync.Mutex
	list      []task
	first     int        // in list
	finishing sync.Mutex // of who finishes tasks
}

// begin puts a task behind all that were begun before.
func (s *sequence) begin(t task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*t.place() = place{sequence: s}
	if len(s.list) == cap(s.list) && s.first > 0 {
		n := copy(s.list, s.list[s.first:])
		clear(s.list[n:])
		s.list, s.first = s.list[:n], 0
	}
	s.list = append(s.list, t)
}

// computed notes that t was computed, and finishes it and those behind it, unless one in front of it was not: then that
// one's call does. Those that are computed meanwhile are their own calls', so that nobody is kept for long.
func (s *sequence) computed(t task) {
	s.mu.Lock()
	t.place().computed = true
	s.mu.Unlock()
	s.finishing.Lock()
	defer s.finishing.Unlock()
	for n := s.ready(); n > 0; n-- {
		s.next().finish()
	}
}

// ready is how many tasks can be finished.
func (s *sequence) ready() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.first+n < len(s.list) && s.list[s.first+n].place().computed {
		n++
	}
	return n
}

// next takes the first task out.
func (s *sequence) next() task {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.list[s.first]
	s.list[s.first] = nil
	s.first++
	return t
}

// batches are those of one line. They are made when they are needed.
type batches[B any] struct {
	free    chan *B
	left    int // to make
	another func() *B
}

// newBatches is for n batches, one of which the line has.
func newBatches[B any](n int, another func() *B) batches[B] {
	return batches[B]{make(chan *B, n), n - 1, another}
}

// idle reports whether take would not wait.
func (b *batches[B]) idle() bool { return b.left > 0 || len(b.free) > 0 }

// take waits for a batch that nobody uses.
func (b *batches[B]) take() *B {
	select {
	case x := <-b.free:
		return x
	default:
	}
	if b.left > 0 {
		b.left--
		return b.another()
	}
	return <-b.free
}

// use is of a batch: what its users found, and how many they are.
type use struct {
	sads  *sad.Worker // holds the SAs that were found for the batch
	users atomic.Int32
}

// lending is what a line needs to hand packets over with their batch, which is a B.
type lending[B any] struct {
	batches   batches[B]
	tasks     sync.Pool
	lent      int   // tasks of the batch at hand
	lastQuick int64 // when a packet was sealed or opened on the line, Unix ns
}

// room reports whether the crew may have packets of the batch at hand. It does not become false within a batch.
func (l *lending[B]) room(now int64) bool {
	return now-l.lastQuick >= quickLately || l.batches.idle()
}

// leave ends one use of a batch, which the last one gives back.
func (l *lending[B]) leave(b *B, u *use) {
	if u.users.Add(-1) == 0 {
		u.sads.Leave()
		l.batches.free <- b
	}
}

// renewed is the batch that the line goes on with: b, or another if packets of b were handed over. It waits while there is none.
func (l *lending[B]) renewed(b *B, u *use) *B {
	if l.lent == 0 {
		return b
	}
	l.lent = 0
	l.leave(b, u)
	return l.batches.take()
}

// way is how packets are sealed.
type way uint8

const (
	byCrew  way = iota // apart
	inOrder            // by the line, and sent in the order of all lines
	byLine
)

// shared is for tasks of SAs that several lines share.
type shared struct {
	mu      sync.Mutex // of the line that reserves numbers and begins tasks
	leaving sequence
}

// wayOf is how the packets of an SA are sealed.
func (w *outWorker) wayOf(out *sad.Outbound) way {
	switch {
	case w.apart == nil:
		return byLine
	case out.Transform().Slow():
		return byCrew
	case w.path.shared == nil || w.line > 0 && out.Child().Line == w.line:
		return byLine
	}
	return inOrder
}

// outApart is what an outbound line needs to hand packets over. Its tasks are *sealing.
type outApart struct {
	lending[outBatch]
	open [2]*sealing // by way: takes more packets
	own  []*sealing  // tasks of the batch at hand that the line computes
}

func newOutApart(p *Path, size, mtu int) *outApart {
	a := &outApart{}
	a.batches = newBatches(outBatches, func() *outBatch { return newOutBatch(p, size, mtu) })
	return a
}

// sealing is a task: packets of an outbound batch.
type sealing struct {
	at place
	sealer
	conn  underlay.Queue
	batch *outBatch
	home  *outApart
	list  []plain
}

func (t *sealing) place() *place { return &t.at }

func (t *sealing) compute() {
	t.sealer.begin()
	t.seal(t.list)
}

func (t *sealing) finish() {
	t.send(t.conn)
	b, home := t.batch, t.home
	clear(t.list)
	t.list, t.batch = t.list[:0], nil
	home.tasks.Put(t)
	home.leave(b, &b.use)
}

func (w *outWorker) renew() { w.outBatch = w.apart.renewed(w.outBatch, &w.use) }

// handOver takes packets that have sequence numbers from the line.
func (w *outWorker) handOver(run []plain, how way) {
	for i := range run {
		p := &run[i]
		if w.frags.whole { // it may be in memory that is free again before the packet is sealed
			buf := w.spare.take(underlay.Headroom + p.n + tailroom)
			if buf == nil {
				w.count.drop(OutErrors)
				p.seq = 0
				continue
			}
			copy(buf[underlay.Headroom:], p.buf[p.off:][:p.n])
			p.buf, p.off = buf, underlay.Headroom
		}
		t := w.apart.open[how]
		if t == nil {
			t, _ = w.apart.tasks.Get().(*sealing)
			if t == nil {
				t = &sealing{sealer: sealer{path: w.path, count: w.count}, conn: w.edges.conn, home: w.apart, list: make([]plain, 0, taskPackets)}
			}
			t.batch = w.outBatch
			w.users.Add(1)
			w.apart.open[how] = t
		}
		t.list = append(t.list, *p)
		p.seq = 0
		if how == byCrew && len(t.list) == taskPackets {
			w.handedOver(how)
		}
	}
}

// handedOver begins the task that has packets, if there is one.
func (w *outWorker) handedOver(how way) {
	if w.apart == nil || w.apart.open[how] == nil {
		return
	}
	t := w.apart.open[how]
	w.apart.open[how] = nil
	w.apart.lent++
	if how == byCrew {
		w.path.crew.do(&w.path.leaving, t)
		return
	}
	w.path.shared.leaving.begin(t)
	w.apart.own = append(w.apart.own, t)
}

// computeOwn computes the line's own tasks.
func (w *outWorker) computeOwn() {
	if w.apart == nil {
		return
	}
	for i, t := range w.apart.own {
		t.compute()
		t.at.sequence.computed(t)
		w.apart.own[i] = nil
	}
	w.apart.own = w.apart.own[:0]
}

// inApart is what an inbound line needs to hand packets over. Its tasks are *opening.
type inApart struct {
	lending[inBatch]
	open *opening // takes more packets
}

func newInApart(p *Path) *inApart {
	a := &inApart{}
	a.batches = newBatches(inBatches, func() *inBatch { return newInBatch(p, inBatchSize) })
	return a
}

// opening is a task: packets of an inbound batch.
type opening struct {
	at    place
	path  *Path
	batch *inBatch
	home  *inApart
	now   int64
	list  []arrived
}

// arrived is a packet that has passed all that comes before Open.
type arrived struct {
	packet underlay.Packet
	joined bool // see inWorker
	in     *sad.Inbound
	seq    uint64
	// What Open says.
	off, n int
	next   uint8
	err    error
}

func (t *opening) place() *place { return &t.at }

func (t *opening) compute() {
	for i := range t.list {
		p := &t.list[i]
		p.off, p.n, p.next, p.err = p.in.Transform().Open(p.packet.Data(), p.seq)
	}
}

// finish takes the packets through the rest of the line, with the one worker that all tasks have.
func (t *opening) finish() {
	w := t.path.arriver
	w.begin(t.now)
	for i := range t.list {
		p := &t.list[i]
		w.joined = p.joined
		if r := w.opened(&p.packet, p.in, p.seq, p.off, p.n, p.next, p.err); r != Passed {
			w.count.drop(r)
		}
	}
	w.finish(t.now)
	w.sads.Leave()
	b, home := t.batch, t.home
	clear(t.list)
	t.list, t.batch = t.list[:0], nil
	home.tasks.Put(t)
	home.leave(b, &b.use)
}

func (w *inWorker) renew() { w.inBatch = w.apart.renewed(w.inBatch, &w.use) }

// handOver takes a packet from the line.
func (w *inWorker) handOver(p *underlay.Packet, in *sad.Inbound, seq uint64, now int64) Reason {
	a := w.apart
	t := a.open
	if t == nil {
		if !a.room(now) {
			return InBufferErrors
		}
		if t, _ = a.tasks.Get().(*opening); t == nil {
			t = &opening{path: w.path, home: a, list: make([]arrived, 0, taskPackets)}
		}
		t.batch, t.now = w.inBatch, now
		w.users.Add(1)
		a.open = t
	}
	*next(&t.list) = arrived{packet: *p, joined: w.joined, in: in, seq: seq}
	if len(t.list) == taskPackets {
		w.handedOver()
	}
	return Passed
}

// handedOver begins the task that has packets, if there is one.
func (w *inWorker) handedOver() {
	if a := w.apart; a != nil && a.open != nil {
		t := a.open
		a.open = nil
		a.lent++
		w.path.crew.do(&w.path.arriving, t)
	}
}
