package datapath

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"culvert/internal/packet/underlay"
	"culvert/sad"
)

// Packets for an SPI that no SA has: the sender may have an SA that this gateway has lost, and is told by the daemon
// (RFC 7296 §1.5). Anybody can send such packets, with any source address, so few of them are passed on. The answer
// is 40 bytes in UDP, with a marker of four: shorter packets are not passed on, so that nobody is sent more than came.
const (
	unknownLeast = 48                     // bytes behind the IP header
	unknownMost  = 100                    // in a second
	unknownEvery = 250 * time.Millisecond // from one address
	unknownSlots = 256
)

// Unknown is such a packet.
type Unknown struct {
	Local, Remote netip.AddrPort
	NATT          bool // it came in UDP
	SPI           uint32
	Child         uint64 // a CHILD SA between the same two ends; 0: there is none
}

// unknowns is what one worker has passed on. Addresses share its slots.
type unknowns struct {
	since int64 // Unix ns: the second that n counts in
	n     int
	at    [unknownSlots]int64 // Unix ns of the last one
}

// allows reports whether a packet from an address may be passed on, and counts it.
func (u *unknowns) allows(now int64, seed uint64, from netip.Addr) bool {
	a := from.As16()
	h := (binary.LittleEndian.Uint64(a[:]) ^ seed) * 0x9e3779b97f4a7c15
	h = (h ^ h>>32 ^ binary.LittleEndian.Uint64(a[8:])) * 0xff51afd7ed558ccd
	slot := &u.at[(h^h>>32)>>24%unknownSlots]
	if *slot != 0 && now-*slot < int64(unknownEvery) {
		return false
	}
	if now-u.since >= int64(time.Second) {
		u.since, u.n = now, 0
	}
	if u.n >= unknownMost {
		return false
	}
	u.n++
	*slot = now
	return true
}

// unknown passes a packet on whose SPI no SA has.
func (w *inWorker) unknown(p *underlay.Packet, spi uint32, now int64) {
	n := p.Len
	if p.NATT {
		n += underlay.MarkerLen // the UDP header is on both sides; the marker is on ours alone
	}
	if n < unknownLeast || !w.unknowns.allows(now, w.path.cfg.Seed, p.Remote.Addr()) {
		return
	}
	w.path.cfg.Notify.Unknown(Unknown{p.Local, p.Remote, p.NATT, spi, w.path.cfg.SAs.Between(p.Local.Addr(), p.Remote, p.NATT)})
}

// looks is when watched SAs are looked at (sad.Table.Silent): while packets leave.
type looks struct{ due atomic.Int64 } // Unix ns; 0: not at all

// begin has them looked at before long, once packets leave. It costs two loads.
func (l *looks) begin(p *Path, now int64) {
	if p.cfg.SAs.Watching() && l.due.Load() == 0 && l.due.CompareAndSwap(0, now+int64(sad.LookEvery)) {
		p.cfg.Notify.Waits()
	}
}

// look tells the daemon which SAs send and get nothing, and reports whether it was time to look.
func (l *looks) look(p *Path, now int64) bool {
	due := l.due.Load()
	if due == 0 || now < due {
		return false
	}
	silent, busy := p.cfg.SAs.Silent(now)
	next := int64(0)
	if busy {
		next = now + int64(sad.LookEvery)
	}
	l.due.Store(next)
	for _, id := range silent {
		p.cfg.Notify.Silent(id)
	}
	return true
}
