package datapath

import (
	"errors"
	"time"

	"culvert/ah"
	"culvert/esp"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
)

// A packet on its way in meets these stations:
//
//	underlay.Recv    a batch of datagrams, told apart by kind
//	demux            IKE to the daemon, keepalives end here, and what the path says of our packets (trouble.go)
//	                                                             in-header-errors (too short for ESP, no AH)
//	sad.Inbound      the SA of the SPI                           in-no-states, in-state-invalid, in-state-mismatches
//	sad.Expired      has it ended?                               in-state-expired
//	sad.Sequence     whole number, replay window                 in-state-sequence-errors
//	apart            by a slow cipher: others do the rest        in-buffer-errors (pipeline.go)
//	esp|ah.Open      ICV, decrypt, padding                       in-state-protocol-errors, in-header-errors
//	sad.Commit       one packet of a number gets through         in-state-sequence-errors
//	sad.Spend        byte limits, counters, the peer was heard   in-state-expired
//	next header      IP in IP, or the IP header comes back;      in-state-mode-errors
//	                 dummies end here
//	wire.ParseFlow   the inner packet                            in-header-errors
//	fragments        held where ports decide (fragments.go)      in-buffer-errors, in-fragment-errors, in-header-errors
//	selector check   the SA's own pairs, then the policy         in-template-mismatches, in-no-policies, in-policy-blocked, in-policy-errors
//	                 ICMP errors: of what they quote (related.go)
//	flows            whose it is, where addresses do not say     in-flow-errors (flows.go)
//	congestion       the outer header's ECN, in tunnel mode      in-header-errors
//	MSS              of TCP SYNs (mss.go)
//	local            what is for the gateway itself              rx-local
//	tun.Write        the batch; what the device refuses          in-errors
//
// From where a datagram came is not compared with the SA's addresses: behind a
// NAT they change, and the ICV says whose it is (RFC 7296 §2.23). The daemon
// hears that the peer is alive, and where it is now.
//
// With ESN a packet that is left of the window is taken for one of the next lap
// (RFC 4303 appendix A2.2), so it counts as in-state-protocol-errors: its ICV
// does not fit that number.
//
// The buffers are the batch's; they are free again when Write has returned for all of its packets.

// inWorker is what one line has for itself: caches, counters, and the batch at hand.
type inWorker struct {
	*inBatch
	path    *Path
	edges   edges
	count   *counters
	cache   spd.Cache
	flow    *wire.Flow   // of the packet that is judged, one of flows
	flows   [2]wire.Flow // one is of the last packet that was allowed in
	known   int          // which
	by      *sad.Inbound // and by which SA; nil: none yet in this batch
	frags   fragments
	deliver [][]byte // what goes to the device, deviceOffset bytes in front of each
	bytes   int      // of the packets in deliver
	now     int64    // of this batch, Unix ns
	near    near
	segment underlay.Packet // one of several that were received as one
	joined  bool            // the packet that is judged is one of those: what is in front of it is another's
	spare   spare

	unknowns unknowns

	// A run of packets of one SA that are not counted in it yet.
	run        *sad.Inbound
	runPackets int
	runBytes   int

	apart *inApart // how packets leave the line to be opened elsewhere (pipeline.go); nil: none do
}

// inBatch is the memory of one batch of datagrams. The line owns it, and those who open packets of it apart, until the
// last of them has ended.
type inBatch struct {
	use
	packets []underlay.Packet
}

func newInBatch(p *Path, size int) *inBatch {
	b := &inBatch{use: use{sads: p.cfg.SAs.Worker()}, packets: make([]underlay.Packet, size)}
	// Their beginnings are apart by what a usual packet takes, beside the power of two, so that the packets do not all
	// have the same places in the processor's caches.
	const room, each = underlay.Headroom + maxPacket, 1<<16 + 1<<11
	all := make([]byte, size*each)
	for i := range b.packets {
		b.packets[i].Buf = all[i*each:][:room:room]
	}
	return b
}

const (
	// deviceOffset is the room in front of a packet that a device may want.
	// Header and IV of every transform are at least as long.
	deviceOffset = 16
	// inBatchSize is how many datagrams are received at once.
	inBatchSize = 128
)

// newInWorker is for batches of packets that are somewhere else.
func newInWorker(p *Path, e edges, batch int) *inWorker {
	return &inWorker{inBatch: newInBatch(p, 0), path: p, edges: e, count: p.counters.worker(), deliver: make([][]byte, 0, batch)}
}

// runIn is a line's loop.
func (p *Path) runIn(e edges) error {
	w := newInWorker(p, e, inBatchSize)
	w.sads.Close()
	w.inBatch = newInBatch(p, inBatchSize)
	w.apart = newInApart(p)
	defer func() { w.sads.Close() }()
	var fails failures
	for {
		n, err := e.conn.Recv(w.packets)
		if n > 0 {
			w.batch(p.cfg.Now().UnixNano(), w.packets[:n])
			w.renew()
		}
		if end, err := p.over(&fails, n, err, "receiving from the network"); end {
			return err
		}
	}
}

// Receive takes one datagram through the inbound line in the caller's
// goroutine. It is opened in place: Buf is the caller's again afterwards, its
// content is lost. What it returns has been counted.
func (p *Path) Receive(now time.Time, pkt *underlay.Packet) Reason {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.syncIn == nil {
		p.syncIn = newInWorker(p, p.edges(), 1)
		p.syncOne = make([]underlay.Packet, 1)
	}
	p.syncOne[0] = *pkt
	return p.syncIn.batch(now.UnixNano(), p.syncOne)
}

// batch takes datagrams through the line. It returns what became of the last
// that failed; Passed when none did.
func (w *inWorker) batch(now int64, packets []underlay.Packet) Reason {
	w.users.Store(1)
	w.begin(now)
	verdict, crowded := Passed, len(packets) > 1 && w.path.cfg.SAs.Crowded()
	for i := range packets {
		if crowded && i%nearGroup == 0 {
			w.near.incoming(w.path.cfg.SAs, packets[i:])
		}
		p, more := &packets[i], true
		if w.joined = p.Segment > 0; w.joined {
			p, more = &w.segment, packets[i].Cut(&w.segment)
		}
		for more {
			if r := w.demux(p, now); r != Passed {
				w.count.drop(r)
				verdict = r
			}
			more = w.joined && packets[i].Cut(p)
		}
	}
	w.handedOver()
	if r := w.finish(now); r != Passed {
		verdict = r
	}
	if w.apart == nil || w.apart.lent == 0 {
		w.sads.Leave()
	}
	return verdict
}

// begin is the start of a batch. What it enters has to be left.
func (w *inWorker) begin(now int64) {
	w.sads.Enter()
	w.deliver, w.bytes, w.now, w.by = w.deliver[:0], 0, now, nil
	w.frags.begin(now)
	w.spare.reset()
}

// finish is the end of a batch: its packets go to the device.
func (w *inWorker) finish(now int64) Reason {
	w.countRun(now)
	r := w.write()
	w.frags.release()
	return r
}

func (w *inWorker) demux(p *underlay.Packet, now int64) Reason {
	switch p.Kind {
	case underlay.ESP:
		pkt := p.Data()
		if len(pkt) < esp.HeaderLen {
			return InHeaderErrors
		}
		return w.open(p, sad.ProtocolESP, esp.SPI(pkt), esp.Seq(pkt), now, nil)
	case underlay.AH:
		pkt := p.Data()
		at, ok := ah.Find(pkt)
		if !ok {
			return InHeaderErrors
		}
		return w.open(p, sad.ProtocolAH, ah.SPI(pkt[at:]), ah.Seq(pkt[at:]), now, nil)
	case underlay.Runt:
		return InErrors
	case underlay.Trouble:
		w.trouble(p, now)
	case underlay.Keepalive:
		w.count.add(rxKeepalives, 1)
	case underlay.IKE:
		w.count.add(rxIKE, 1)
		w.path.cfg.Notify.IKE(p)
	}
	return Passed
}

// open takes an ESP or AH packet to its payload. over is the AH SA that an ESP
// packet came in; nil: it came alone.
func (w *inWorker) open(p *underlay.Packet, protocol uint8, spi, low uint32, now int64, over *sad.Child) Reason {
	pkt := p.Data()
	in := w.path.cfg.SAs.Inbound(spi)
	switch {
	case in == nil && w.path.cfg.SAs.Larval(spi):
		return InStateInvalid
	case in == nil && over == nil:
		w.unknown(p, spi, now)
		return InNoStates
	case in == nil || in.Child().Protocol != protocol:
		return InNoStates
	case protocol == sad.ProtocolESP && over == nil && in.Child().Mismatched(p.NATT):
		return InStateMismatches
	}
	if c := in.Child(); c.Bundled != (over != nil) || over != nil && over.Inner() != c {
		return InTemplateMismatches // both SAs of a policy are due, no more and no others
	}
	if in.Expired(now) {
		w.path.report(in.Child(), now)
		return InStateExpired
	}
	seq, ok := in.Sequence(low)
	if !ok {
		return InStateSequenceErrors
	}
	if w.apart != nil {
		if in.Transform().Slow() {
			return w.handOver(p, in, seq, now)
		}
		w.apart.lastQuick = now
	}
	off, n, next, err := in.Transform().Open(pkt, seq)
	return w.opened(p, in, seq, off, n, next, err)
}

// opened takes a packet on whose payload is n bytes at off, or that was not opened because of err. (All of it is
// passed in registers.)
func (w *inWorker) opened(p *underlay.Packet, in *sad.Inbound, seq uint64, off, n int, next uint8, err error) Reason {
	now := w.now
	switch {
	case err == nil:
	case errors.Is(err, esp.ErrShort), errors.Is(err, ah.ErrShort), errors.Is(err, ah.ErrHeader):
		return InHeaderErrors
	default:
		return InStateProtocolErrors
	}
	if !in.Commit(seq) {
		return InStateSequenceErrors
	}
	if p.NATT && in.Strayed(seq, p.Remote, now) {
		w.path.cfg.Notify.Moved(in.Child().ID, p.Local, p.Remote)
	}
	if !w.spend(in, n, now) {
		return InStateExpired
	}
	if in.Child().Inner() != nil {
		return w.within(p, in.Child(), off, n, next, now)
	}
	if next == wire.ProtoNoNext && in.Child().Protocol == sad.ProtocolESP { // traffic flow confidentiality, RFC 4303 §2.6
		w.count.add(rxDummies, 1)
		return Passed
	}
	if in.Child().Tunnel {
		return w.inner(in, p.Buf, p.Off+off, n, next, p.TOS, now)
	}
	return w.behind(in, p, p.Off+off, n, next)
}

// within opens the ESP packet that an AH SA is around (RFC 4301 §5.2: headers are
// processed until no SA is left).
func (w *inWorker) within(p *underlay.Packet, over *sad.Child, off, n int, next uint8, now int64) Reason {
	if next != wire.ProtoESP {
		return InStateModeErrors
	}
	p.Off, p.Len, p.Kind, p.Header = p.Off+off, n, underlay.ESP, false
	if n < esp.HeaderLen {
		return InHeaderErrors
	}
	pkt := p.Data()
	return w.open(p, sad.ProtocolESP, esp.SPI(pkt), esp.Seq(pkt), now, over)
}

// inner decides about the payload buf[off:off+n] of a genuine packet of a tunnel;
// tos is that of its outer header.
func (w *inWorker) inner(in *sad.Inbound, buf []byte, off, n int, next, tos uint8, now int64) Reason {
	version := uint8(4)
	switch next {
	case wire.ProtoIPv4:
	case wire.ProtoIPv6:
		version = 6
	default:
		return InStateModeErrors
	}
	info, ok := w.parse(buf[off : off+n])
	if !ok || info.Version != version {
		return InHeaderErrors
	}
	waits := info.Fragment() && w.path.cfg.waitsIn(in, w.flow)
	if info.Fragment() && !waits && !info.Sound() {
		return InHeaderErrors
	}
	if !waits {
		r := w.allowed(in)
		if r == InTemplateMismatches {
			r = w.related(in, buf[off:off+info.Total], info)
		}
		if r != Passed {
			return r
		}
	}
	// What follows the packet is padding against traffic analysis (RFC 4303 §2.7).
	if r := w.congestion(buf[off:off+info.Total], tos); r != Passed {
		return r
	}
	if waits {
		return w.hold(in, buf[off:off+info.Total], info, now)
	}
	if r := w.remember(in, buf[off:off+info.Total], info); r != Passed {
		return r
	}
	if info.Proto == wire.ProtoTCP {
		w.clamp(in.Child(), buf[off:off+info.Total], info)
	}
	w.accept(in, buf, off, info.Total)
	return Passed
}

// accept lets the packet buf[off:off+n] in.
func (w *inWorker) accept(in *sad.Inbound, buf []byte, off, n int) {
	if l := w.path.cfg.Local; l != nil && l.Take(buf[off:off+n], in.Child().ID) {
		w.count.add(rxLocal, 1)
		return
	}
	w.deliver = append(w.deliver, buf[off-deviceOffset:off+n])
	w.bytes += n
}

// move puts the payload p.Buf[off:off+n] where an IP header has room in front of it: in front
// of p is the datagram before it, which the device does not have yet.
func (w *inWorker) move(p *underlay.Packet, off *int, n int) bool {
	buf := w.spare.take(underlay.Headroom + n)
	if buf == nil {
		return false
	}
	copy(buf[underlay.Headroom:], p.Buf[*off:*off+n])
	p.Buf, *off = buf, underlay.Headroom
	return true
}

// behind decides about the payload of a genuine packet of a transport mode SA.
func (w *inWorker) behind(in *sad.Inbound, p *underlay.Packet, off, n int, next uint8) Reason {
	if w.joined && off-p.Off < wire.IPv6HeaderLen && !w.move(p, &off, n) {
		return InErrors
	}
	start, size, ok := header(in.Child(), p, off, n, next)
	if !ok {
		return InStateModeErrors
	}
	pkt := p.Buf[start : start+size]
	info, ok := w.parse(pkt)
	if !ok || info.Fragment() && !info.Sound() {
		return InHeaderErrors
	}
	r := w.allowed(in)
	if r == InTemplateMismatches {
		r = w.related(in, pkt, info)
	}
	switch {
	case r == InTemplateMismatches && (next == wire.ProtoIPv4 || next == wire.ProtoIPv6):
		return InStateModeErrors // a tunnel, which was not agreed on
	case r != Passed:
		return r
	}
	if p.NATT {
		mend(pkt, info)
	}
	if r := w.remember(in, pkt, info); r != Passed {
		return r
	}
	w.clamp(in.Child(), pkt, info)
	w.accept(in, p.Buf, start, size)
	return Passed
}

// allowed checks the inner packet, w.flow, against its SA and the policies.
//
// What decides is the SA: its own selectors, as they were negotiated, have to
// contain the packet (RFC 4301 §5.2 step 4). The policies are asked too, so that
// one that was taken away or now discards takes effect at once, without waiting
// for the SA's end: the first policy for the packet must want protection. That
// it is the very policy of the SA is not asked. After a reload another one with
// the same or wider selectors may stand above it, and protected traffic that
// another tunnel would carry too is no less protected. A policy that wants the
// packet in clear (none) does not match one that came protected. One that is
// dead lets nothing in: its peer is disabled, and what came by an SA from before
// that, or by one of another peer, is not that peer's to send.
func (w *inWorker) allowed(in *sad.Inbound) Reason {
	f := w.flow
	if w.by == in && f.Is(&w.flows[w.known]) {
		return Passed // in a run of packets of one flow the first one's answer is good for all
	}
	if !in.Covers(f) {
		return InTemplateMismatches
	}
	pol := w.cache.LookupIn(w.path.cfg.Policies, f)
	switch {
	case pol == nil:
		return InNoPolicies
	case pol.Action == spd.Discard:
		return InPolicyBlocked
	case pol.Action == spd.None:
		return InTemplateMismatches
	case pol.Dead:
		return InPolicyErrors
	}
	w.by, w.known = in, 1-w.known
	return Passed
}

// parse is ParseFlow to w.flow.
func (w *inWorker) parse(pkt []byte) (wire.Info, bool) {
	w.flow = &w.flows[1-w.known]
	return wire.ParseFlow(pkt, w.flow)
}

// spend counts a packet in its SA: at once where bytes are limited, else as
// part of a run.
func (w *inWorker) spend(in *sad.Inbound, n int, now int64) bool {
	if in.Limited() {
		ok := in.Spend(1, n, now)
		w.path.report(in.Child(), now)
		return ok
	}
	if w.run != in {
		w.countRun(now)
		w.run = in
	}
	w.runPackets++
	w.runBytes += n
	return true
}

// countRun ends a run; the daemon hears of it before its packets are delivered.
func (w *inWorker) countRun(now int64) {
	if w.run == nil {
		return
	}
	w.run.Spend(w.runPackets, w.runBytes, now)
	w.path.report(w.run.Child(), now)
	w.run, w.runPackets, w.runBytes = nil, 0, 0
}

// write gives the packets to the device.
func (w *inWorker) write() Reason {
	if len(w.deliver) == 0 {
		return Passed
	}
	n, err := w.edges.device.Write(w.deliver, deviceOffset)
	return w.count.passed(n, len(w.deliver), w.bytes, err, rxPackets, InErrors)
}
