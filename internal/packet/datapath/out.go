package datapath

import (
	"errors"
	"slices"
	"time"

	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
	"culvert/tun"
)

// A packet on its way out meets these stations:
//
//	tun.Read         a batch of plain packets, with headroom in front of each; out-errors: one that cannot be read
//	wire.ParseFlow   is it an IP packet, and of which flow?      out-errors
//	fragments        held where ports decide (fragments.go)      out-buffer-errors, out-fragment-errors, out-errors
//	flows            whose flow, where addresses do not say (flows.go)
//	spd.Lookup       what does the first matching policy say?    out-policy-errors (no policy), out-policy-blocked
//	                                                             none: it goes on in clear (out-unprotected where it cannot)
//	                                                             an ICMP error goes by what it quotes (related.go)
//	sad.Outbound     the newest SA of the policy for the flow    out-no-states, and the daemon is asked
//	                                                             one that stands by: the packet waits (standby.go)
//	                                                             level unique: of the client whose flow it is; out-flow-errors
//	                                                             level use: in clear, and nobody is asked
//	                                                             out-policy-dead: nobody could be asked
//	place            tunnel or transport, ESP or AH, or both     out-state-mode-errors, out-bundle-errors, out-bundle-check-errors
//	fit              too long for the path (size.go)?            out-too-big; MSS of TCP SYNs (mss.go)
//	sad.Expired      may the SA still be used?                   out-state-expired
//	sad.Reserve      sequence numbers for a run of one SA        out-state-sequence-errors
//	sad.Spend        the SA's byte limits and counters           out-state-expired
//	apart            by a slow cipher: others do the rest        out-buffer-errors (pipeline.go)
//	esp|ah.Seal      in place: the headroom takes the headers    out-state-protocol-errors, out-bundle-errors
//	underlay.Send    the batch; what the network refuses         out-errors
//
// The buffers are the batch's; they are free again when Send has returned for all of its packets.

// outWorker is what one line has for itself: caches, counters, and the batch at hand.
type outWorker struct {
	*outBatch
	sealer     // of what the line seals itself
	edges      edges
	path       *Path
	line       int // which of several lines this is, from 0 on (sad.Params.Line)
	busy       busy
	count      *counters
	cache      spd.Cache
	asked      asked
	flows      [2]wire.Flow // of the last packet that found its SA, and of the one that may not
	found      int          // which is the former
	quoted     wire.Flow    // see related
	frags      fragments
	translated *entry // the flow of the packet that is judged, if its port was replaced

	egress  egress // of the last packet in this batch that found its SA
	near    near
	answers limiter
	icmp    []byte
	reply   [1][]byte

	apart *outApart // how packets leave the line to be sealed elsewhere (pipeline.go); nil: none do
}

// outBatch is the memory of one batch: the packets as the device gave them, and what became of them. The line owns it,
// and those who seal packets of it apart, until the last of them has ended.
type outBatch struct {
	use
	mtu   int // that the buffers have room for
	bufs  [][]byte
	room  [][]byte // what of bufs the device may fill: not the tail, which is the ICV's
	sizes []int
	plain []plain // what is left of the batch after sad.Outbound
	spare spare   // for packets that are cut before they are sealed
}

// newOutBatch is for packets of up to mtu bytes.
func newOutBatch(p *Path, size, mtu int) *outBatch {
	b := &outBatch{
		use: use{sads: p.cfg.SAs.Worker()}, bufs: make([][]byte, size), room: make([][]byte, size),
		sizes: make([]int, size), plain: make([]plain, 0, size),
	}
	b.grow(mtu)
	return b
}

// grow makes room for packets of up to mtu bytes; the packets that are there are lost. The buffers are neighbours, and no
// longer than that takes: those of a joined packet then fit into the processor's caches together.
func (b *outBatch) grow(mtu int) {
	if mtu <= b.mtu {
		return
	}
	b.mtu = mtu
	room := underlay.Headroom + mtu
	each := (room + tailroom + cacheLine - 1) / cacheLine * cacheLine
	all := make([]byte, len(b.bufs)*each)
	for i := range b.bufs {
		b.bufs[i] = all[i*each:][:each:each]
		b.room[i] = b.bufs[i][:room:room]
	}
}

// sealer makes packets for the network of plain ones that may leave.
type sealer struct {
	path    *Path
	count   *counters
	sealed  []underlay.Packet
	bytes   int    // of the inner packets in sealed
	failed  Reason // of the last packet that could not be sealed, and was counted; else Passed
	outside spare  // for sealed packets that are cut
}

// plain is a packet that found its SA.
type plain struct {
	out     *sad.Outbound
	buf     []byte // the packet is buf[off:][:n]
	off     int
	n       int
	seq     uint64 // its sequence number; 0: it has none, or is sealed by others
	pad     int    // bytes against traffic analysis behind it (RFC 4303 §2.7)
	front   int    // transport mode: how many bytes of it are headers of the path
	at      int    // and where in them is said what follows
	next    uint8  // protocol of what is sealed: in tunnel mode 4 or 41 (RFC 4303 §2.6)
	form    form
	tos     uint8         // of the outer header
	whole   bool          // the outer packet is not to be cut on its way
	label   uint32        // flow label, where the outer header is written here
	cut     int           // the MTU that it is too long for; 0: it fits
	over    *sad.Outbound // AH around ESP; nil: none
	overSeq uint64        // its sequence number by that
}

const (
	// maxPacket is the largest IP packet.
	maxPacket = 65535
	// tailroom takes what every transform writes behind a packet.
	tailroom = 128
	// cacheLine is that of most processors, in bytes.
	cacheLine = 64
)

func newOutWorker(p *Path, e edges, batch, mtu int) *outWorker {
	count := p.counters.worker()
	return &outWorker{
		outBatch: newOutBatch(p, batch, mtu), sealer: sealer{path: p, count: count, sealed: make([]underlay.Packet, 0, batch)},
		edges: e, path: p, count: count, icmp: make([]byte, deviceOffset+sad.MinPMTU6),
	}
}

// runOut is a line's loop.
func (p *Path) runOut(line int, e edges) error {
	size := max(e.device.BatchSize(), 1)
	w := newOutWorker(p, e, size, int(p.device.Load()))
	w.line = line
	w.apart = newOutApart(p, size, w.mtu)
	defer func() { w.sads.Close() }()
	var fails failures
	for {
		// A device whose MTU was raised while Read waited loses its first longer packet.
		w.grow(int(p.device.Load()))
		n, err := e.device.Read(w.room, w.sizes, underlay.Headroom)
		if n > 0 {
			w.batch(p.cfg.Now().UnixNano(), n)
			w.renew()
		}
		if errors.Is(err, tun.ErrPacket) {
			w.count.drop(OutErrors)
			continue // whatever a host sends, the line goes on
		}
		if end, err := p.over(&fails, n, err, "reading from "+p.cfg.Device.Name()); end {
			return err
		}
	}
}

// SendPlain takes one plain packet through the outbound line in the caller's
// goroutine. pkt is borrowed and not changed. What it returns has been counted.
func (p *Path) SendPlain(now time.Time, pkt []byte) Reason {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.outward()
	if len(pkt) > maxPacket {
		w.count.drop(OutErrors)
		return OutErrors
	}
	return w.one(now.UnixNano(), pkt)
}

// one takes a copy of one packet through the line.
func (w *outWorker) one(now int64, pkt []byte) Reason {
	w.sizes[0] = copy(w.bufs[0][underlay.Headroom:], pkt)
	return w.batch(now, 1)
}

// outward is the worker of the synchronous line, under p.mu.
func (p *Path) outward() *outWorker {
	if p.syncOut == nil {
		p.syncOut = newOutWorker(p, p.edges(), 1, maxPacket)
	}
	return p.syncOut
}

// batch takes the first n buffers through the line. It returns what became of
// the last packet that failed; Passed when all left.
func (w *outWorker) batch(now int64, n int) Reason {
	w.users.Store(1)
	w.sads.Enter()
	w.asked.begin(&w.path.acquires, now)
	w.sealer.begin()
	w.plain = w.plain[:0]
	w.egress.out = nil
	w.frags.begin(now)
	defer w.frags.release()
	w.spare.reset()
	verdict, crowded := Passed, n > 1 && w.path.cfg.SAs.Crowded()
	for i := range n {
		if crowded && i%nearGroup == 0 {
			w.near.outgoing(w.line, &w.path.cfg, &w.cache, w.bufs[i:n], w.sizes[i:n])
		}
		if r := w.classify(w.bufs[i], underlay.Headroom, w.sizes[i], now); r != Passed {
			w.count.drop(r)
			verdict = r
		}
	}
	if r := w.admit(now); r != Passed {
		verdict = r
	}
	w.computeOwn()
	w.seal(w.plain)
	if w.failed != Passed {
		verdict = w.failed
	}
	if len(w.plain) > 0 {
		w.path.looks.begin(w.path, now)
	}
	if r := w.send(w.edges.conn); r != Passed {
		verdict = r
	}
	if w.apart == nil || w.apart.lent == 0 {
		w.sads.Leave()
	}
	return verdict
}

// classify finds the SA of the packet buf[off:off+n] and how it goes out by it. In a
// run of packets of one flow the first one's answer is good for all.
func (w *outWorker) classify(buf []byte, off, n int, now int64) Reason {
	f := &w.flows[1-w.found]
	info, ok := wire.ParseFlow(buf[off:][:n], f)
	if !ok {
		return OutErrors
	}
	pkt := buf[off:][:info.Total]
	if info.Fragment() {
		switch {
		case w.path.cfg.waitsOut(f):
			return w.hold(f, pkt, info, now)
		case !info.Sound():
			return OutErrors
		}
	}
	if w.egress.out == nil || !f.Is(&w.flows[w.found]) || w.translated != nil || w.alike(f) {
		out, r := w.lookUp(f, pkt, info, now)
		if out == nil {
			return r
		}
		w.found = 1 - w.found
		if w.egress.out != out {
			w.egress.set(out, now)
			w.tellBusy(out.Child(), now)
		}
	}
	return w.prepare(buf, off, info, now)
}

// uncovered is what becomes of a packet that no policy covers. What hosts say to their
// links they say to the device, too, as soon as it is up; that is no fault in a route.
func uncovered(f *wire.Flow) Reason {
	if f.Dst.IsLinkLocalMulticast() {
		return OutLinkLocal
	}
	return OutPolicyErrors
}

// lookUp is Lookup and Outbound. Without an SA the packet ends here, in clear or not at all.
func (w *outWorker) lookUp(f *wire.Flow, pkt []byte, info wire.Info, now int64) (*sad.Outbound, Reason) {
	k := w.recall(f, pkt, info, now)
	pol := w.cache.Lookup(w.path.cfg.Policies, f)
	if (pol == nil || pol.Action == spd.None) && f.Error() {
		if related := w.related(pkt, info); related != nil {
			return w.relatedTo(related, k, f, pkt)
		}
	}
	switch {
	case pol == nil:
		return nil, uncovered(f)
	case pol.Action == spd.Discard:
		return nil, OutPolicyBlocked
	case pol.Action == spd.None:
		return nil, w.clear(pkt)
	}
	out, several := w.path.cfg.outbound(w.line, pol, k, f)
	switch {
	case out != nil:
		w.asked.satisfied(pol.Ref)
	case several:
		return nil, OutFlowErrors
	case pol.Level == spd.Use:
		return nil, w.clear(pkt)
	case pol.Dead:
		return nil, OutPolicyDead
	default:
		if w.asked.first(pol.Ref, now) {
			w.path.cfg.Notify.Acquire(pol.Ref, *f)
		}
		if w.path.waits(pol.Ref, pkt, now) {
			return nil, Passed
		}
		return nil, OutNoStates
	}
	return out, Passed
}

// prepare decides how a packet goes out by the SA of w.egress.
func (w *outWorker) prepare(buf []byte, off int, info wire.Info, now int64) Reason {
	y, f, before := &w.egress, &w.flows[w.found], len(w.plain)
	r := y.verdict
	if r != Passed {
		return r
	}
	p := next(&w.plain)
	*p = plain{}
	p.out, p.over, p.buf, p.off, p.n = y.out, y.over, buf, off, info.Total
	p.tos = wire.TOS(buf[off:])
	if y.child.Tunnel {
		p.form, p.next = y.form, wire.ProtoIPv4
		if info.Version == 6 {
			p.next = wire.ProtoIPv6
		}
		if dscp := w.path.cfg.DSCP; dscp != nil {
			p.tos = *dscp<<2 | p.tos&wire.ECNMask
		}
		if y.labels {
			p.label = y.label(info, f)
		}
		if y.child.TFC > p.n {
			w.pad(p, padding(y.out, p.form, p.n, now))
		}
	} else {
		r = y.place(p, info, f)
	}
	if r == Passed {
		r = w.fit(p, info, now)
	}
	if r == Passed && y.quiet && asks(buf[off:], info, f) && y.child.Asked(now) {
		w.path.cfg.Notify.Unanswered(y.child.ID)
	}
	if r != Passed {
		w.plain = w.plain[:before]
	}
	return r
}

// asks reports whether a packet is one that whoever gets it answers: an echo request, or the first
// of a TCP connection.
func asks(pkt []byte, info wire.Info, f *wire.Flow) bool {
	if info.FragOffset != 0 || info.PayloadLen() < wire.ICMPHeaderLen || f.Dst.IsMulticast() {
		return false
	}
	switch body := pkt[info.Payload:]; info.Proto {
	case wire.ProtoICMP:
		return body[0] == 8
	case wire.ProtoICMPv6:
		return body[0] == 128
	case wire.ProtoTCP:
		const ack = 16
		return info.PayloadLen() >= wire.TCPHeaderLen && body[13]&(tcpSYN|ack) == tcpSYN
	}
	return false
}

// next makes a list longer by one and returns the last one's place, which is to
// be filled there: a large value costs more to copy than to make.
func next[T any](list *[]T) *T {
	n := len(*list)
	if n == cap(*list) {
		*list = slices.Grow(*list, 1)
	}
	*list = (*list)[:n+1]
	return &(*list)[n]
}

// clear sends a packet on as it is.
func (w *outWorker) clear(pkt []byte) Reason {
	switch c := w.path.cfg.Clear; {
	case c == nil:
		return OutUnprotected
	case !w.frags.send(c, pkt):
		return OutErrors
	}
	w.count.add(txClear, 1)
	return Passed
}

// run is where the run of packets of one SA that starts at from ends. An SA
// whose bytes are limited takes one packet at a time, so that its limits are exact.
func (w *outWorker) run(from int) int {
	out := w.plain[from].out
	to := from + 1
	if out.Limited() {
		return to
	}
	for to < len(w.plain) && w.plain[to].out == out {
		to++
	}
	return to
}

// admit gives the packets of the batch their sequence numbers, run by run, and hands over those that do not go on here.
// It returns why the last run that may not leave may not; each of its packets is counted.
func (w *outWorker) admit(now int64) (verdict Reason) {
	if w.apart != nil && w.path.shared != nil {
		w.path.shared.mu.Lock()
		defer w.path.shared.mu.Unlock()
	}
	verdict = Passed
	for from := 0; from < len(w.plain); {
		to := w.run(from)
		run := w.plain[from:to]
		from = to
		how, r := w.wayOf(run[0].out), Passed
		switch {
		case how != byCrew && w.apart != nil:
			w.apart.lastQuick = now
		case how == byCrew && !w.apart.room(now):
			r = OutBufferErrors
		}
		if r == Passed {
			r = w.reserve(run, now)
		}
		if r != Passed {
			w.count.add(int(r), uint64(len(run)))
			verdict = r
		} else if how != byLine {
			w.handOver(run, how)
		}
	}
	w.handedOver(byCrew)
	w.handedOver(inOrder)
	return verdict
}

// reserve gives a run its sequence numbers, if its SA may be used.
func (w *outWorker) reserve(run []plain, now int64) Reason {
	out := run[0].out
	bytes := 0
	for i := range run {
		bytes += run[i].n + run[i].pad
	}
	seq, r := admit(out, len(run), bytes, now)
	w.path.report(out.Child(), now)
	if over := run[0].over; over != nil && r == Passed {
		var overSeq uint64
		overSeq, r = admit(over, len(run), bytes, now)
		w.path.report(over.Child(), now)
		for i := range run {
			run[i].overSeq = overSeq + uint64(i)
		}
	}
	if r != Passed {
		return r
	}
	for i := range run {
		run[i].seq = seq + uint64(i)
	}
	return Passed
}

func (s *sealer) begin() {
	s.sealed, s.bytes, s.failed = s.sealed[:0], 0, Passed
	s.outside.reset()
}

// seal makes ESP or AH packets of plain ones that have sequence numbers. One that cannot be built is counted here.
func (s *sealer) seal(list []plain) {
	var out *sad.Outbound
	var ends *sad.Endpoint
	for i := range list {
		p := &list[i]
		if p.seq == 0 {
			continue
		}
		if p.out != out {
			out, ends = p.out, p.out.Child().Endpoint()
		}
		before := len(s.sealed)
		pkt := next(&s.sealed)
		r := encapsulate(pkt, p, ends, p.seq, p.overSeq)
		if p.cut > 0 && r == Passed {
			s.count.add(txCut, 1)
			if pkt.Header {
				r = s.cut(p.cut)
			}
		}
		if r != Passed {
			s.sealed = s.sealed[:before]
			s.count.drop(r)
			s.failed = r
			continue
		}
		s.bytes += p.n
	}
}

// admit asks whether the SA may be used for n packets, and returns the first
// one's sequence number.
func admit(out *sad.Outbound, n, bytes int, now int64) (uint64, Reason) {
	if out.Expired(now) {
		return 0, OutStateExpired
	}
	seq, ok := out.Reserve(n)
	if !ok {
		return 0, OutStateSequenceErrors
	}
	if !out.Spend(n, bytes, now) {
		return 0, OutStateExpired
	}
	return seq, Passed
}

// send puts the sealed packets on the wire.
func (s *sealer) send(conn underlay.Queue) Reason {
	if len(s.sealed) == 0 {
		return Passed
	}
	n, err := conn.Send(s.sealed)
	return s.count.passed(n, len(s.sealed), s.bytes, err, txPackets, OutErrors)
}
