package datapath

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"culvert/internal/packet/wire"
)

// Several clients of one policy may have the same addresses: two hosts behind one
// NAT in transport mode, or two networks with the same numbers in tunnel mode (RFC
// 3948 §5). Where the policy is of level unique, what comes by an SA is remembered
// with the client whose SA it is (sad.Params.Client, which stays when the SA is
// rekeyed, moves or is made anew), and what goes back leaves by an SA of that client:
//
//	client A ══ N:1701 → S:1701 ══►  N:1701  → S:1701  host
//	client B ══ N:1701 → S:1701 ══►  N:61234 → S:1701  host
//
// The host tells flows apart by addresses and ports alone. Of two that would
// be equal there, that of the later client gets another port at the client's end, on
// its way in, and its own back on its way out (RFC 3948 §5.2 asks for no less, or to
// refuse it). Echoes have their identifier in place of a port. Protocols
// without ports belong to the client that came first: in-flow-errors. What ICMP says
// of a flow goes where that goes.
//
// A packet that leaves and belongs to no flow is sent where only one client
// has an SA for it. Among several nobody knows, and what is meant for one must not
// get to another: out-flow-errors. So is what belongs to a client that has gone, until
// another one comes with the same ports: out-no-states.
//
// The table has flowSets sets of flowWays flows, found from either end. In a
// full set the client that has most in it gives up what it did not use for longest.
// Who only continues takes no lock; who begins one takes the table's.
const (
	flowWays = 8
	flowSets = 1 << 13
)

// How long a flow is remembered after its last packet.
const (
	flowTCP  = 124 * time.Minute // RFC 5382 §5
	flowUDP  = 5 * time.Minute   // RFC 4787 §4.3; other protocols too
	flowEcho = time.Minute       // RFC 5508 §3.2
)

// Ports given instead: the dynamic ones (RFC 6335 §6).
const (
	firstPort = 49152
	manyPorts = 1 << 14
	portTries = 64
)

// fiveTuple names a flow, with the addresses and ports that its client uses.
type fiveTuple struct {
	client        uint64
	remote, local netip.Addr // the client's end and ours
	rport, lport  uint16
	proto         uint8
}

// entry is a flow that is remembered, as a connection tracking entry. Only its atomics change.
type entry struct {
	fiveTuple
	port   uint16        // in place of rport, between us and the host
	policy atomic.Uint32 // of the SA that it came by last
	last   atomic.Int64  // Unix ns
}

// flows is what all workers remember. Its memory, 1.5 MB and 150 bytes for each
// flow, is made when it is needed.
type flows struct {
	seed  uint64
	alive func(client uint64) bool // whether it has an SA, of whatever state
	ends  atomic.Pointer[flowEnds]
	mu    sync.Mutex // of who changes ends
}

// flowEnds finds flows by what the client sends and by what the host sees.
type flowEnds struct{ sent, seen flowIndex }

type flowIndex [flowSets]flowSet

type flowSet struct {
	tags [flowWays]atomic.Uint32 // of the hash, so that mostly one pointer is followed
	at   [flowWays]atomic.Pointer[entry]
}

// seen is the fiveTuple as the host sees it, whosever it is.
func (k *entry) seen() fiveTuple {
	t := k.fiveTuple
	t.client, t.rport = 0, k.port
	return t
}

func (k *entry) expired(now int64) bool {
	life := flowUDP
	switch k.proto {
	case wire.ProtoTCP:
		life = flowTCP
	case wire.ProtoICMP, wire.ProtoICMPv6:
		life = flowEcho
	}
	return now-k.last.Load() > int64(life)
}

// touch notes a use, once a second at most: both lines read what it writes.
func (k *entry) touch(now int64) {
	if now-k.last.Load() >= int64(time.Second) {
		k.last.Store(now)
	}
}

// any reports whether there ever was anything to remember.
func (x *flows) any() bool { return x.ends.Load() != nil }

// answered is the flow that a packet of the host belongs to, t being as the host
// sees it. Nil: none, or it was silent for too long.
func (x *flows) answered(t fiveTuple, now int64) *entry {
	ends := x.ends.Load()
	if ends == nil {
		return nil
	}
	if k := ends.seen.find(t.hash(x.seed), &t, true); k != nil && !k.expired(now) {
		return k
	}
	return nil
}

// of is the flow that a client's packet belongs to; nil: it is a new one.
// How long it was silent does not matter as long as nobody else has its port.
func (x *flows) of(t fiveTuple) *entry {
	if ends := x.ends.Load(); ends != nil {
		return ends.sent.find(t.hash(x.seed), &t, false)
	}
	return nil
}

// learn remembers a flow, which gets another port if another client has that
// one and translates allows it. Nil: it cannot be told from the other's.
func (x *flows) learn(t fiveTuple, translates bool, now int64) *entry {
	x.mu.Lock()
	defer x.mu.Unlock()
	ends := x.ends.Load()
	if ends == nil {
		ends = new(flowEnds)
		x.ends.Store(ends)
	}
	if k := x.of(t); k != nil {
		return k
	}
	k := &entry{fiveTuple: t, port: t.rport}
	k.last.Store(now)
	h := t.hash(x.seed)
	free := x.free(ends, k, now)
	for i := 0; !free && translates && i < portTries; i++ {
		// A flow that was forgotten mostly gets the port that it had.
		k.port = firstPort + uint16((h>>20+uint64(i))%manyPorts)
		free = x.free(ends, k, now)
	}
	if !free {
		return nil
	}
	// In this order: who finds it by what was sent lets in what is answered.
	ends.forget(x.seed, ends.seen.put(k.seen().hash(x.seed), k, now))
	ends.forget(x.seed, ends.sent.put(h, k, now))
	return k
}

// free reports whether no other flow looks like k to the host. What is over
// makes place.
func (x *flows) free(ends *flowEnds, k *entry, now int64) bool {
	t := k.seen()
	other := ends.seen.find(t.hash(x.seed), &t, true)
	if other == nil {
		return true
	}
	if !other.expired(now) && x.alive(other.client) {
		return false
	}
	ends.forget(x.seed, other)
	return true
}

// forget takes k out where it still is; nil is nothing.
func (e *flowEnds) forget(seed uint64, k *entry) {
	if k != nil {
		e.sent.set(k.hash(seed)).drop(k)
		e.seen.set(k.seen().hash(seed)).drop(k)
	}
}

func (x *flowIndex) set(h uint64) *flowSet { return &x[h%flowSets] }

func (x *flowIndex) find(h uint64, t *fiveTuple, seen bool) *entry {
	set, tag := x.set(h), uint32(h>>32)
	for i := range set.tags {
		if set.tags[i].Load() != tag {
			continue
		}
		if k := set.at[i].Load(); k != nil && (!seen && k.fiveTuple == *t || seen && k.seen() == *t) {
			return k
		}
	}
	return nil
}

// put returns what had to go.
func (x *flowIndex) put(h uint64, k *entry, now int64) (gone *entry) {
	set := x.set(h)
	i := set.room(now)
	gone = set.at[i].Swap(k)
	set.tags[i].Store(uint32(h >> 32))
	return gone
}

func (s *flowSet) drop(k *entry) {
	for i := range s.at {
		s.at[i].CompareAndSwap(k, nil)
	}
}

// room is a way that is free, or over, or what the client with the most of them here
// did not use for longest.
func (s *flowSet) room(now int64) (way int) {
	most, oldest := 0, int64(0)
	for i := range s.at {
		k := s.at[i].Load()
		if k == nil || k.expired(now) {
			return i
		}
		n := 0
		for j := range s.at {
			if other := s.at[j].Load(); other != nil && other.client == k.client {
				n++
			}
		}
		if last := k.last.Load(); n > most || n == most && last < oldest {
			way, most, oldest = i, n, last
		}
	}
	return way
}

func (t fiveTuple) hash(seed uint64) uint64 {
	a, b := t.remote.As16(), t.local.As16()
	h := mix(seed^binary.LittleEndian.Uint64(a[:]), binary.LittleEndian.Uint64(a[8:]))
	h = mix(h^binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:]))
	h = mix(h^t.client, uint64(t.rport)<<32|uint64(t.lport)<<16|uint64(t.proto))
	return h
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xd6e8feb86659fd93)
	return hi ^ lo
}
