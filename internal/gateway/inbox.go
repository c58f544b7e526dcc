package gateway

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/spd/selector"
)

// inbox is where the data path and the workers leave inputs for the endpoint.
// It is datapath.Notify. Leaving one never blocks: what others can send in any
// number (messages, packets without SA) is bounded and comes again if it is
// lost; what happens once (Expire, Used, an Answer) is bounded by the SAs there
// are and is always kept.
type inbox struct {
	mu    sync.Mutex
	list  []core.Input
	loose int      // of them, those that are bounded
	bytes int      // that the messages among them take
	fresh struct { // of them, messages of strangers
		n, bytes int
	}
	wake chan struct{} // has room for one

	most    atomic.Int64  // bounds bytes
	dropped atomic.Uint64 // messages that found the inbox full
}

// inboxLimit bounds how many of those that can be lost without harm wait, and
// inboxBytes how much memory their messages take, where the configuration does not
// say another. Strangers have a small part of it, in number and in bytes: those
// who begin must not drown the answers of those whose SAs are up.
const (
	inboxLimit      = 8192
	inboxFresh      = 1024
	inboxBytes      = config.DefaultStrangerMemory / compile.StrangerParts
	inboxFreshShare = 4   // strangers have one of so many bytes
	inboxMessage    = 160 // what a message takes beside its bytes
)

func newInbox() *inbox {
	b := &inbox{wake: make(chan struct{}, 1)}
	b.most.Store(inboxBytes)
	return b
}

// take empties the inbox.
func (b *inbox) take() []core.Input {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.list
	b.list, b.loose, b.bytes = nil, 0, 0
	b.fresh.n, b.fresh.bytes = 0, 0
	return list
}

// put keeps an input.
func (b *inbox) put(in core.Input) {
	b.mu.Lock()
	b.list = append(b.list, in)
	b.mu.Unlock()
	b.signal()
}

// offer keeps an input with a message that takes so many bytes if there is room;
// fresh: a stranger's. It is made only then.
func (b *inbox) offer(bytes int, fresh bool, make func() core.Input) bool {
	b.mu.Lock()
	most := int(b.most.Load())
	if b.loose >= inboxLimit || bytes > 0 && b.bytes+bytes > most || fresh && (b.fresh.n >= inboxFresh || b.fresh.bytes+bytes > most/inboxFreshShare) {
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

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// IKE copies a message.
func (b *inbox) IKE(p *underlay.Packet) {
	kept := b.offer(p.Len+inboxMessage, begins(p.Data()), func() core.Input {
		return core.Datagram{Local: p.Local, Remote: p.Remote, NATT: p.NATT, Data: slices.Clone(p.Data())}
	})
	if !kept {
		b.dropped.Add(1)
	}
}

// begins reports whether a message is an IKE_SA_INIT request, in which there is
// no SPI of ours yet (RFC 7296 §3.1).
func begins(data []byte) bool {
	return len(data) >= 16 && binary.BigEndian.Uint64(data[8:]) == 0
}

// Acquire: one that finds no room is asked again after datapath.AcquireAgain.
func (b *inbox) Acquire(policy uint32, f wire.Flow) {
	b.offer(0, false, func() core.Input { return core.Acquire{Policy: core.PolicyRef(policy), Flow: pairOfFlow(&f)} })
}

// Heard: the next packet after sad.HeardEvery says it again.
func (b *inbox) Heard(child uint64) {
	b.offer(0, false, func() core.Input { return core.Alive{Child: core.ChildID(child)} })
}

// Moved: the next packet after sad.HeardEvery says it again.
func (b *inbox) Moved(child uint64, local, remote netip.AddrPort) {
	b.offer(0, false, func() core.Input { return core.Moved{Child: core.ChildID(child), Local: local, Remote: remote} })
}

// Claim: as long as somebody claims it, it comes again after sad.ClaimsEvery.
func (b *inbox) Claim(child uint64, mtu int) {
	b.offer(0, false, func() core.Input { return core.PathClaim{Child: core.ChildID(child), MTU: mtu} })
}

func (b *inbox) Expire(child uint64, hard bool) {
	b.put(core.Expire{Child: core.ChildID(child), Hard: hard})
}

func (b *inbox) Used(child uint64) { b.put(core.Used{Child: core.ChildID(child)}) }

// Waits: the loop asks the plane for its next deadline.
func (b *inbox) Waits() { b.signal() }

// pairOfFlow is the packet itself as selectors (RFC 7296 §2.9). Ports that the
// packet does not show, or its protocol does not have, are any; of a protocol
// with message types the type is the source's (RFC 7296 §3.13.1).
func pairOfFlow(f *wire.Flow) selector.Pair {
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
