package plane

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/spd/selector"
)

// Inbox is the queue of inputs from the data path and the workers for the endpoint.
// It implements datapath.Notify. Adding an input never blocks. Inputs that others can cause in any
// number (messages, packets without SA) are bounded, and are repeated if one is
// lost. Inputs that come once (Expire, Used, an Answer) are bounded by the number of SAs
// and are always kept.
type Inbox struct {
	mu    sync.Mutex
	list  []core.Input
	loose int      // of them, those that are bounded
	bytes int      // that the messages among them take
	fresh struct { // of them, messages of strangers
		n, bytes int
	}
	Wake chan struct{} // has room for one

	Most    atomic.Int64  // bounds bytes
	Dropped atomic.Uint64 // messages that found the inbox full
}

// InboxLimit bounds the number of inputs that can be lost without harm, and
// inboxBytes the memory of their messages unless the configuration says
// otherwise. Strangers have a small part of both, so that they cannot crowd out the messages of
// peers whose SAs are up.
const (
	InboxLimit      = 8192
	InboxFresh      = 1024
	InboxBytes      = config.DefaultStrangerMemory / compile.StrangerParts
	InboxFreshShare = 4   // strangers have one of so many bytes
	InboxMessage    = 160 // what a message takes beside its bytes
)

// NewInbox makes an empty inbox with the default bounds.
func NewInbox() *Inbox {
	b := &Inbox{Wake: make(chan struct{}, 1)}
	b.Most.Store(InboxBytes)
	return b
}

// Take empties the inbox.
func (b *Inbox) Take() []core.Input {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.list
	b.list, b.loose, b.bytes = nil, 0, 0
	b.fresh.n, b.fresh.bytes = 0, 0
	return list
}

// Put keeps an input.
func (b *Inbox) Put(in core.Input) {
	b.mu.Lock()
	b.list = append(b.list, in)
	b.mu.Unlock()
	b.signal()
}

// offer keeps an input with a message of so many bytes if there is room. fresh: it is from
// a stranger. The input is made only if it is kept.
func (b *Inbox) offer(bytes int, fresh bool, make func() core.Input) bool {
	b.mu.Lock()
	most := int(b.Most.Load())
	if b.loose >= InboxLimit || bytes > 0 && b.bytes+bytes > most || fresh && (b.fresh.n >= InboxFresh || b.fresh.bytes+bytes > most/InboxFreshShare) {
		b.mu.Unlock()
		return false
	}
	b.loose++
	b.bytes += bytes
	if fresh {
		b.fresh.n++
		b.fresh.bytes += bytes
	}
	b.list = append(b.list, make())
	b.mu.Unlock()
	b.signal()
	return true
}

func (b *Inbox) signal() {
	select {
	case b.Wake <- struct{}{}:
	default:
	}
}

// IKE copies a message.
func (b *Inbox) IKE(p *underlay.Packet) {
	kept := b.offer(p.Len+InboxMessage, begins(p.Data()), func() core.Input {
		return core.Datagram{Local: p.Local, Remote: p.Remote, NATT: p.NATT, Data: slices.Clone(p.Data())}
	})
	if !kept {
		b.Dropped.Add(1)
	}
}

// begins reports whether a message is an IKE_SA_INIT request, in which there is
// no SPI of ours yet (RFC 7296 §3.1).
func begins(data []byte) bool {
	return len(data) >= 16 && binary.BigEndian.Uint64(data[8:]) == 0
}

// Acquire: one that finds no room is asked again after datapath.AcquireAgain.
func (b *Inbox) Acquire(policy uint32, f wire.Flow) {
	b.offer(0, false, func() core.Input { return core.Acquire{Policy: core.PolicyRef(policy), Flow: PairOfFlow(&f)} })
}

// Heard: the next packet after sad.HeardEvery says it again.
func (b *Inbox) Heard(child uint64) {
	b.offer(0, false, func() core.Input { return core.Alive{Child: childOf(child)} })
}

// Moved: the next packet after sad.HeardEvery says it again.
func (b *Inbox) Moved(child uint64, local, remote netip.AddrPort) {
	b.offer(0, false, func() core.Input { return core.Moved{Child: childOf(child), Local: local, Remote: remote} })
}

// Claim: as long as somebody claims it, it comes again after sad.ClaimsEvery.
func (b *Inbox) Claim(child uint64, mtu int) {
	b.offer(0, false, func() core.Input { return core.PathClaim{Child: childOf(child), MTU: mtu} })
}

// Unmeasured: as long as long packets leave, it comes again after sad.MeasureEvery.
func (b *Inbox) Unmeasured(child uint64, mtu int) {
	b.offer(0, false, func() core.Input { return core.PathUntried{Child: childOf(child), MTU: mtu} })
}

// Unanswered: as long as that is so, it comes again after sad.AskedAgain.
func (b *Inbox) Unanswered(child uint64) {
	b.offer(0, false, func() core.Input { return core.Unanswered{Child: childOf(child)} })
}

// Silent: as long as that is so, it comes again after sad.SilentAgain.
func (b *Inbox) Silent(child uint64) {
	b.offer(0, false, func() core.Input { return core.Silent{Child: childOf(child)} })
}

// Busy: as long as the line has packets for the CHILD SA, it comes again after datapath.BusyEvery.
func (b *Inbox) Busy(child uint64, line int) {
	b.offer(0, false, func() core.Input { return core.Busy{Child: core.ChildID(child), Line: line} })
}

// Unknown: whoever sends such packets sends more of them. Anybody can.
func (b *Inbox) Unknown(u datapath.Unknown) {
	b.offer(0, true, func() core.Input {
		return core.UnknownSPI{Local: u.Local, Remote: u.Remote, NATT: u.NATT, SPI: u.SPI, Child: childOf(u.Child)}
	})
}

// Expire is always kept: it happens once for each SA and limit.
func (b *Inbox) Expire(child uint64, hard bool) {
	b.Put(core.Expire{Child: childOf(child), Hard: hard})
}

// Used is always kept: it happens once for each SA.
func (b *Inbox) Used(child uint64) { b.Put(core.Used{Child: childOf(child)}) }

// Waits: the loop asks the plane for its next deadline.
func (b *Inbox) Waits() { b.signal() }

// PairOfFlow is the packet itself as selectors (RFC 7296 §2.9). Ports that the
// packet does not show, or its protocol does not have, are any; of a protocol
// with message types the type is the source's (RFC 7296 §3.13.1).
func PairOfFlow(f *wire.Flow) selector.Pair {
	local := selector.TS{Lo: f.Src, Hi: f.Src, Proto: f.Proto, PortHi: 65535}
	remote := selector.TS{Lo: f.Dst, Hi: f.Dst, Proto: f.Proto, PortHi: 65535}
	if f.Opaque {
		return selector.Pair{Local: local, Remote: remote}
	}
	switch {
	case selector.Typed(f.Proto):
		local.PortLo, local.PortHi = f.SrcPort, f.SrcPort
	case config.Protocol(f.Proto).HasPorts():
		local.PortLo, local.PortHi = f.SrcPort, f.SrcPort
		remote.PortLo, remote.PortHi = f.DstPort, f.DstPort
	}
	return selector.Pair{Local: local, Remote: remote}
}
