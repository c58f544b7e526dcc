package datapath

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"culvert/sad"
)

// Packets for an SA that stands by. Who answers does not know at once that the peer has its answer, and so the SA: it opens,
// and must not seal yet (RFC 7296 §2.8). The daemon asks the peer, which takes a round trip, or longer with a peer that is
// busy with its own kernel. What hosts send meanwhile waits here, and goes through the outbound line once the SA seals:
//
//	it found room          it is counted when its fate is known: as it leaves, or as out-no-states after StandbyWait
//	there is no room       out-no-states
//
// Nothing waits for an SA that is yet to be negotiated: that may take a minute, or never end well.

// Bounds on the packets that wait.
const (
	// StandbyPackets is how many may wait for the SAs of one policy.
	StandbyPackets = 64
	// StandbyBytes is what all that wait may take, in bytes.
	StandbyBytes = 1 << 20
	// StandbyWait is how long one waits, longer than the daemon waits for a sign of the peer.
	StandbyWait = 6 * time.Second
)

// standbyCost is what a packet takes beside its bytes.
const standbyCost = 64

// standby is the packets that wait, in the order in which they came. The zero value holds none.
type standby struct {
	due   atomic.Int64 // when the first one's time is up, Unix ns; 0: none waits
	mu    sync.Mutex
	list  []standingBy
	bytes int

	line   sync.Mutex // of the worker that takes them through the outbound line
	worker *outWorker
}

type standingBy struct {
	policy uint32
	until  int64 // Unix ns
	packet []byte
}

// waits keeps a copy of a packet until an SA of its policy seals. False: none stands by, or there is no room.
func (p *Path) waits(policy uint32, pkt []byte, now int64) bool {
	if !p.cfg.SAs.StandsBy(policy) {
		return false
	}
	s := &p.standby
	s.mu.Lock()
	defer s.mu.Unlock()
	// Again, since whoever activates it looks here afterwards.
	if !p.cfg.SAs.StandsBy(policy) || s.bytes+len(pkt)+standbyCost > StandbyBytes || s.of(policy) >= StandbyPackets {
		return false
	}
	s.list = append(s.list, standingBy{policy, now + int64(StandbyWait), slices.Clone(pkt)})
	s.bytes += len(pkt) + standbyCost
	s.due.Store(s.list[0].until)
	if !p.waiting.told.Load() && !p.waiting.told.Swap(true) {
		p.cfg.Notify.Waits()
	}
	return true
}

func (s *standby) of(policy uint32) (n int) {
	for i := range s.list {
		if s.list[i].policy == policy {
			n++
		}
	}
	return n
}

// take takes those out for which which is true.
func (s *standby) take(which func(*standingBy) bool) (taken []standingBy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := s.list[:0]
	for _, k := range s.list {
		if which(&k) {
			taken = append(taken, k)
			s.bytes -= len(k.packet) + standbyCost
		} else {
			rest = append(rest, k)
		}
	}
	clear(s.list[len(rest):])
	s.list = rest
	due := int64(0)
	if len(rest) > 0 {
		due = rest[0].until
	}
	s.due.Store(due)
	return taken
}

// Activate lets a CHILD SA that stands by seal, and sends what waited for it. False: there is none of this ID that stands by.
// Safe for any goroutine.
func (p *Path) Activate(now time.Time, child uint64) bool {
	c := p.cfg.SAs.Child(child)
	return c != nil && p.activate(c, now.UnixNano())
}

func (p *Path) activate(c *sad.Child, now int64) bool {
	if !p.cfg.SAs.Activate(c.ID) {
		return false
	}
	if p.standby.due.Load() != 0 {
		p.standby.line.Lock()
		defer p.standby.line.Unlock()
		for _, k := range p.standby.take(func(k *standingBy) bool { return k.policy == c.Policy }) {
			w := p.standby.worker
			if w == nil {
				w = newOutWorker(p, p.edges(), 1, maxPacket)
				p.standby.worker = w
			}
			w.one(now, k.packet)
		}
	}
	return true
}

// giveUp counts the packets whose time is up, and reports whether any were to be looked at.
func (p *Path) giveUp(now int64) bool {
	due := p.standby.due.Load()
	if due == 0 || now < due {
		return false
	}
	late := p.standby.take(func(k *standingBy) bool { return now >= k.until })
	p.late.add(int(OutNoStates), uint64(len(late)))
	return true
}
