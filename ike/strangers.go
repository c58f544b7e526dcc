package ike

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"time"

	"culvert/ike/core"
	ikesa "culvert/ike/sa"
)

// Strangers: whoever begins an IKE SA has proved nothing until IKE_AUTH is through,
// and anybody can begin. What they make the endpoint keep is bounded:
//
//	IKE_SA_INIT ─► pressed? ─► COOKIE ─► shares of address and network ─► MaxHalfOpen ─► Accept
//	               half-open SAs, bytes,                                                    │
//	               failures of this second         bytes kept ◄── Weight, after each message
//
//   - In number by MaxHalfOpen, in bytes by StrangerBytes. Where there is no room, the
//     oldest half-open SA goes. An honest one takes as long as two round trips, one of
//     an attacker stays until its 30 s are over: the oldest is hardly ever an honest one.
//   - Under pressure each has to show with a COOKIE that it receives at its address,
//     and then that address (in IPv6 its /64) may have few half-open SAs, and its
//     network (/24, /48) a multiple of that. Who has many addresses of a network, or
//     all of a /64, crowds out no others.
//   - A newcomer takes the place of the oldest of its network. Of its address only of
//     one that is not young: several honest clients behind one NAT must not end
//     each other's handshakes; they come again.

// strangers are the half-open IKE SAs as responder.
type strangers struct {
	half   map[halfKey]*ikesa.SA
	order  []*ikesa.SA                  // the oldest first
	from   map[netip.Prefix][]*ikesa.SA // of each address and network, the oldest first
	weight map[*ikesa.SA]int
	bytes  int // of all of them, and of the last responses to strangers that have ended

	given struct { // how many ended without a proof, in the second that began at since
		since time.Time
		n     int
	}
	aggressive struct { // how many began aggressive mode, in the same way
		since time.Time
		n     int
	}
}

// affords reports whether another first message of aggressive mode may be answered, and counts it.
func (s *strangers) affords(now time.Time) bool {
	a := &s.aggressive
	if now.Sub(a.since) >= time.Second {
		a.since, a.n = now, 0
	}
	a.n++
	return a.n <= maxAggressive
}

// halfKey finds the half-open SA that a repeated IKE_SA_INIT request belongs to. Other bytes under the
// same SPI are a new request (RFC 7296 §2.1).
type halfKey struct {
	spii   uint64
	remote netip.AddrPort
	sum    [sha256.Size]byte
}

// Bounds, where the configuration does not say others.
const (
	maxHalfOpen     = 1000
	cookieThreshold = 64
	strangerBytes   = 52 << 20
)

// Shares under pressure: an address may have one of so many half-open SAs, a
// network addressesOfNetwork times as many.
const (
	addressShare       = 128
	addressesOfNetwork = 16
)

// young is how old a half-open SA has to be before another one of the same address
// takes its place under pressure.
const young = 250 * time.Millisecond

func newStrangers() strangers {
	return strangers{half: map[halfKey]*ikesa.SA{}, from: map[netip.Prefix][]*ikesa.SA{}, weight: map[*ikesa.SA]int{}}
}

// homes are the prefixes that stand for the sender at an address and for its network.
func homes(a netip.Addr) (address, network netip.Prefix) {
	a = a.Unmap()
	if a.Is4() {
		return netip.PrefixFrom(a, 32), netip.PrefixFrom(a, 24).Masked()
	}
	return netip.PrefixFrom(a, 64).Masked(), netip.PrefixFrom(a, 48).Masked()
}

func (s *strangers) add(sa *ikesa.SA) {
	s.half[halfKey{sa.SPIi, sa.InitFrom, sa.InitSum}] = sa
	s.order = append(s.order, sa)
	address, network := homes(sa.InitFrom.Addr())
	s.from[address] = append(s.from[address], sa)
	s.from[network] = append(s.from[network], sa)
	s.weight[sa] = 0
}

// remove reports whether the SA was one of them.
func (s *strangers) remove(sa *ikesa.SA) bool {
	key := halfKey{sa.SPIi, sa.InitFrom, sa.InitSum}
	if s.half[key] != sa {
		return false
	}
	delete(s.half, key)
	s.order = without(s.order, sa)
	address, network := homes(sa.InitFrom.Addr())
	for _, home := range []netip.Prefix{address, network} {
		if s.from[home] = without(s.from[home], sa); len(s.from[home]) == 0 {
			delete(s.from, home)
		}
	}
	s.bytes -= s.weight[sa]
	delete(s.weight, sa)
	return true
}

func without(list []*ikesa.SA, sa *ikesa.SA) []*ikesa.SA {
	if i := slices.Index(list, sa); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	return list
}

// weigh counts anew how many bytes an SA keeps.
func (s *strangers) weigh(sa *ikesa.SA, bytes int) {
	if was, ok := s.weight[sa]; ok {
		s.weight[sa] = bytes
		s.bytes += bytes - was
	}
}

// gaveUp counts a half-open SA that ended without a proof, or a request that none
// was made for.
func (s *strangers) gaveUp(now time.Time) {
	if now.Sub(s.given.since) >= time.Second {
		s.given.since, s.given.n = now, 0
	}
	s.given.n++
}

// pressed reports whether newcomers have to show a COOKIE: there are many half-open
// SAs, they keep much, or many that were begun came to nothing a moment ago.
func (s *strangers) pressed(cfg *core.Config, now time.Time) bool {
	most := limit(cfg.CookieThreshold, cookieThreshold)
	return len(s.half) >= most || s.bytes > strangerBytesOf(cfg)/2 ||
		s.given.n >= most && now.Sub(s.given.since) < time.Second
}

// strangerBytesOf is how many bytes a configuration lets strangers make us keep.
func strangerBytesOf(cfg *core.Config) int { return limit(cfg.StrangerBytes, strangerBytes) }

// admit makes room for a newcomer, or says that there is none.
func (e *Endpoint) admit(d core.Datagram, pressed bool) bool {
	most := limit(e.cfg.MaxHalfOpen, maxHalfOpen)
	if pressed {
		share := max((most+addressShare-1)/addressShare, 2)
		address, network := homes(d.Remote.Addr())
		if list := e.strangers.from[address]; len(list) >= share {
			if e.env.Now().Sub(list[0].Created) < young {
				e.bad(d, "too many half-open IKE SAs from this address: it may come again")
				return false
			}
			e.evict(list[0])
		} else if list := e.strangers.from[network]; len(list) >= share*addressesOfNetwork {
			e.evict(list[0])
		}
	}
	if len(e.strangers.half) >= most {
		e.evict(e.strangers.order[0])
	}
	return true
}

// makeRoom ends the oldest half-open SAs until what is kept of all is within bounds.
func (e *Endpoint) makeRoom() {
	for e.strangers.bytes > strangerBytesOf(e.cfg) && len(e.strangers.order) > 0 {
		e.evict(e.strangers.order[0])
	}
}

func (e *Endpoint) evict(sa *ikesa.SA) {
	e.env.Emit(core.Event{Kind: core.EvBadMessage, Peer: sa.Peer.Name, SA: sa.ID, Local: sa.Local, Remote: sa.InitFrom,
		Reason: "a half-open IKE SA gave way to others: there are too many, or they keep too much"})
	sa.Delete("it gave way to others while it was half-open")
}
