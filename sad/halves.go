package sad

import (
	"net/netip"
	"sync/atomic"

	"culvert/internal/packet/wire"
)

// Inbound is the half of a CHILD SA that opens. A packet passes it in this
// order (RFC 4303 §3.4):
//
//	Expired    has the SA ended?
//	Sequence   infer the whole number, check the window; changes nothing
//	           … the caller verifies and decrypts with Transform …
//	Commit     claim the number: one packet of a number gets through
//	Spend      count it
type Inbound struct {
	child     *Child
	transform Transform
	spi       uint32
	replay    replay
	usage     usage
}

// Child is the SA that this is a half of.
func (in *Inbound) Child() *Child { return in.child }

// SPI is that of the packets that this half opens.
func (in *Inbound) SPI() uint32 { return in.spi }

// Transform opens packets of this SA.
func (in *Inbound) Transform() Transform { return in.transform }

// Expired reports whether a hard limit was met; now is in Unix ns.
func (in *Inbound) Expired(now int64) bool { return in.child.expired(now) }

// Sequence makes the whole sequence number from the packet's 32 bits (RFC 4303
// appendix A2.2) and reports whether it is neither left of the replay window nor
// seen. It changes nothing.
func (in *Inbound) Sequence(low uint32) (uint64, bool) {
	seq, ok := in.replay.infer(low)
	return seq, ok && in.replay.check(seq)
}

// Commit marks a packet's number as seen and moves the window; only after its
// ICV was verified. Of all calls with one number one returns true; on false the
// packet is a replay.
func (in *Inbound) Commit(seq uint64) bool { return in.replay.claim(seq) }

// Limited reports whether bytes are limited: then Spend is due for each packet
// before the next one, else any number of packets can be counted at once.
func (in *Inbound) Limited() bool { return in.child.limited() }

// Spend counts committed packets of together bytes and notes that the peer was
// heard. False: the hard limit was met before; drop them.
func (in *Inbound) Spend(packets, bytes int, now int64) bool {
	c := in.child
	if !in.usage.spend(c, uint64(packets), uint64(bytes), now) {
		return false
	}
	c.once(FirstUsed)
	heard := c.heard.Load()
	if (heard == 0 || now-heard >= int64(HeardEvery)) && c.heard.CompareAndSwap(heard, now) {
		c.raised.Or(uint32(WasHeard))
	}
	return true
}

// Strayed reports, at most once in HeardEvery, that a packet that was just
// committed came from elsewhere than where the SA's packets go to. Only the
// newest number counts: an older packet may have been under way since before the
// peer moved. Without a replay window nothing counts: whoever saw the newest packet
// could send it again from elsewhere.
func (in *Inbound) Strayed(seq uint64, from netip.AddrPort, now int64) bool {
	c := in.child
	if from == c.endpoint.Load().Remote || in.replay.off || in.replay.top.Load() != seq {
		return false
	}
	last := c.strays.Load()
	return (last == 0 || now-last >= int64(HeardEvery)) && c.strays.CompareAndSwap(last, now)
}

// Covers reports whether the SA's selectors contain an inner packet as it
// arrived: its destination is on our side.
func (in *Inbound) Covers(f *wire.Flow) bool { return in.child.areas.cover(f, true) }

// Reaches is Covers for a packet whose ports are not known yet: whether some do.
func (in *Inbound) Reaches(f *wire.Flow) bool { return in.child.areas.reach(f, true) }

// Outbound is the half of a CHILD SA that seals. A packet passes it in this
// order: Expired, Reserve, Spend, then Seal with Transform.
type Outbound struct {
	child     *Child
	transform Transform
	limit     uint64        // last sequence number
	sequence  atomic.Uint64 // last reserved
	usage     usage
}

// Child is the SA that this is a half of.
func (o *Outbound) Child() *Child { return o.child }

// Transform seals packets of this SA.
func (o *Outbound) Transform() Transform { return o.transform }

// Expired reports whether a hard limit was met; now is in Unix ns.
func (o *Outbound) Expired(now int64) bool { return o.child.expired(now) }

// Covers reports whether the SA's selectors contain a packet on its way out.
func (o *Outbound) Covers(f *wire.Flow) bool { return o.child.areas.cover(f, false) }

// Limited: see Inbound.Limited.
func (o *Outbound) Limited() bool { return o.child.limited() }

// Spend counts packets of together bytes. False: the hard limit was met before; drop them.
func (o *Outbound) Spend(packets, bytes int, now int64) bool {
	return o.usage.spend(o.child, uint64(packets), uint64(bytes), now)
}

// lastSequence is the highest number that an SA may use (RFC 4303 §3.3.3). With
// ESN the last 2^32 numbers are left alone, so that the addition in Reserve
// cannot wrap.
func lastSequence(esn bool) uint64 {
	if esn {
		return 1<<64 - 1 - 1<<32
	}
	return 1<<32 - 1
}

// Reserve takes n sequence numbers, first to first+n-1; they are never given
// out again. False: they would reach over the end, and none may be used
// (RFC 4303 §3.3.3). When fifteen sixteenths are used up the SA is SoftExpired.
func (o *Outbound) Reserve(n int) (first uint64, ok bool) {
	if n <= 0 || o.sequence.Load() >= o.limit {
		o.child.once(HardExpired)
		return 0, false
	}
	last := o.sequence.Add(uint64(n))
	if last > o.limit {
		o.child.once(HardExpired)
		return 0, false
	}
	if last >= o.limit-o.limit>>4 {
		o.child.once(SoftExpired)
	}
	return last - uint64(n) + 1, true
}
