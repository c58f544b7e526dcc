package datapath

import (
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/packet/reassembly"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
)

// Fragments of inner packets (RFC 4301 §7). Where no selector asks for ports they
// go through the lines as they are, each for itself. They are held until their
// packet is whole, and that goes through the line, where
//
//	out   a policy asks for ports before one that does not matches; the SAs of
//	      the policy ask for them; the SA is for transport mode (RFC 4301 §4.1), or
//	      for one of several clients (flows.go)
//	in    the SA's selectors ask for ports, or a policy does before one that does
//	      not matches; the SA is for one of several clients
//
// Every piece ends in one counter, when its fate is known:
//
//	                                              out                   in
//	its packet became whole (and counts itself)   tx-fragments          rx-fragments
//	there is no room for its packet               out-buffer-errors     in-buffer-errors
//	it does not fit, overlaps, or follows such    out-errors            in-header-errors
//	it came twice, or time is up                  out-fragment-errors   in-fragment-errors
//
// One that does not fit takes those along that wait. That time is up is noticed
// when the next batch comes, and where none does, by GiveUp.

// fragments is what one worker holds. The zero value holds nothing; the memory is
// there from the first fragment on that has to wait.
type fragments struct {
	// Of the packet that was made whole and is judged now: as long as its pieces
	// came, and their identification. limit 0: it came whole.
	limit int
	id    uint32
	piece []byte
	whole bool // packets became whole in this batch

	due   atomic.Int64 // nobody's time is up before, Unix ns; 0: nobody waits
	mu    sync.Mutex   // of the table: GiveUp is called by others than the worker
	table *reassembly.Table
	count *counters
	late  Reason
}

// waiting is what the workers of a Path hold.
type waiting struct {
	mu   sync.Mutex
	list []*fragments
	told atomic.Bool // whoever calls GiveUp knows that he has to
}

// begin gives up at the start of a batch what waited for too long.
func (f *fragments) begin(now int64) {
	if due := f.due.Load(); due == 0 || now < due {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expire(now)
}

// expire is for who has mu.
func (f *fragments) expire(now int64) {
	if n := f.table.Expire(now); n > 0 {
		f.count.add(int(f.late), uint64(n))
	}
	f.due.Store(f.table.Due())
}

// release ends the use of the packets that became whole in this batch.
func (f *fragments) release() {
	if f.whole {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.table.Release()
		f.whole = false
	}
}

// hold takes a piece; the memory is made with the first. late is what those count as
// whose time is up.
func (p *Path) hold(f *fragments, count *counters, late Reason, owner uint64, pkt []byte, info wire.Info, flow *wire.Flow, now int64) reassembly.Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.table == nil {
		f.table, f.count, f.late = reassembly.New(underlay.Headroom, tailroom), count, late
		p.waiting.mu.Lock()
		p.waiting.list = append(p.waiting.list, f)
		p.waiting.mu.Unlock()
	}
	r := f.table.Add(owner, pkt, info, flow, now)
	f.whole = f.whole || r.Verdict == reassembly.Whole
	f.due.Store(f.table.Due())
	if r.Verdict == reassembly.Held && !p.waiting.told.Load() && !p.waiting.told.Swap(true) {
		p.cfg.Notify.Waits()
	}
	return r
}

// GiveUpAt is when GiveUp is due at the latest; not ok: nobody waits, and
// Notify.Waits says when somebody does. Safe for any goroutine, as GiveUp is.
func (p *Path) GiveUpAt() (at time.Time, ok bool) {
	due := p.firstDue()
	if due == 0 {
		p.waiting.told.Store(false)
		due = p.firstDue() // who came before is here, who came after tells
	}
	return time.Unix(0, due), due != 0
}

func (p *Path) firstDue() int64 {
	due := p.waiting.first()
	if at := p.standby.due.Load(); at != 0 && (due == 0 || at < due) {
		due = at
	}
	if at := p.looks.due.Load(); at != 0 && (due == 0 || at < due) {
		due = at
	}
	return due
}

func (w *waiting) first() (due int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.list {
		if at := f.due.Load(); at != 0 && (due == 0 || at < due) {
			due = at
		}
	}
	return due
}

// GiveUp counts and forgets fragments, and packets for SAs that stand by, that waited for too long, looks at watched SAs,
// and reports whether any were to be looked at.
func (p *Path) GiveUp(now time.Time) (was bool) {
	was = p.giveUp(now.UnixNano())
	was = p.looks.look(p, now.UnixNano()) || was
	p.waiting.mu.Lock()
	defer p.waiting.mu.Unlock()
	for _, f := range p.waiting.list {
		if due := f.due.Load(); due != 0 && now.UnixNano() >= due {
			was = true
			f.begin(now.UnixNano())
		}
	}
	return was
}

// verdicts are the reasons for what reassembly says, out and in.
var verdicts = map[reassembly.Verdict][2]Reason{
	reassembly.Malformed: {OutErrors, InHeaderErrors},
	reassembly.Duplicate: {OutFragmentErrors, InFragmentErrors},
	reassembly.Full:      {OutBufferErrors, InBufferErrors},
}

// waitsOut says whether a fragment with this flow must wait for the rest of its packet.
func (c *Config) waitsOut(f *wire.Flow) bool {
	if c.Policies.Hidden(f, false) {
		return true
	}
	blind := f.Blind()
	pol := c.Policies.Lookup(&blind)
	if pol == nil || pol.Action != spd.Encrypt {
		return false
	}
	if out := c.SAs.Outbound(pol.Ref, &blind); out != nil {
		return !out.Child().Tunnel || out.Child().Client != 0
	}
	return c.SAs.Seals(pol.Ref)
}

// waitsIn is the same for one that came by in. What the SA can cover with no ports
// does not wait.
func (c *Config) waitsIn(in *sad.Inbound, f *wire.Flow) bool {
	blind := f.Blind()
	if in.Child().Client != 0 || !in.Covers(&blind) {
		return in.Reaches(&blind)
	}
	return c.Policies.Hidden(&blind, true)
}

// hold takes a fragment, and the packet through the line that it makes whole.
func (w *outWorker) hold(f *wire.Flow, pkt []byte, info wire.Info, now int64) Reason {
	r := w.path.hold(&w.frags, w.count, OutFragmentErrors, 0, pkt, info, f, now)
	switch r.Verdict {
	case reassembly.Held:
		return Passed
	case reassembly.Whole:
		w.count.add(txFragments, uint64(r.Pieces))
		w.frags.limit, w.frags.id = r.Largest, r.ID
		verdict := w.classify(r.Buf, r.Off, r.Len, now)
		w.frags.limit = 0
		return verdict
	}
	reason := verdicts[r.Verdict][0]
	w.count.add(int(reason), uint64(r.Pieces-1)) // the last one is counted by the batch
	return reason
}

// send sends a packet on in clear; one that came in pieces leaves in pieces that
// are no longer than those. False: not all of it left.
func (f *fragments) send(way underlay.Clear, pkt []byte) bool {
	if f.limit == 0 || len(pkt) <= f.limit {
		return way.Send(pkt) == nil
	}
	cut, ok := wire.NewCutter(pkt, f.limit, f.id)
	if !ok {
		return way.Send(pkt) == nil
	}
	for more := true; more; {
		f.piece, more = cut.Next(f.piece)
		if way.Send(f.piece) != nil {
			return false
		}
	}
	return true
}

// hold takes a fragment, and on what it makes whole. All pieces have to come by one SA.
func (w *inWorker) hold(in *sad.Inbound, pkt []byte, info wire.Info, now int64) Reason {
	r := w.path.hold(&w.frags, w.count, InFragmentErrors, in.Child().ID, pkt, info, w.flow, now)
	switch r.Verdict {
	case reassembly.Held:
		return Passed
	case reassembly.Whole:
		w.count.add(rxFragments, uint64(r.Pieces))
		whole, ok := w.parse(r.Buf[r.Off : r.Off+r.Len])
		if !ok {
			return InHeaderErrors
		}
		if verdict := w.allowed(in); verdict != Passed {
			return verdict
		}
		if verdict := w.remember(in, r.Buf[r.Off:r.Off+r.Len], whole); verdict != Passed {
			return verdict
		}
		w.accept(in, r.Buf, r.Off, r.Len)
		return Passed
	}
	reason := verdicts[r.Verdict][1]
	w.count.add(int(reason), uint64(r.Pieces-1)) // the last one is counted by the batch
	return reason
}
