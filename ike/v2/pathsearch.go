package v2

import (
	"time"

	"culvert/ike/core"
)

// Where routers are silent, or firewalls drop what they say, nobody knows how long packets may be. When long
// packets leave, the data path asks (core.PathUntried), and the longest that arrives is looked for among the
// sizes of usual links, with requests as in pathmtu.go (RFC 8899 §5.3), of just that length:
//
//	IP packet of size bytes, not to be cut, up to probeTries times, stepWait apart:
//	HDR, SK{N(PATH_PROBE: zeros)}  -->
//	                               <--  HDR, SK{}      packets of size bytes arrive
//	after these without an answer the same request without zeros:
//	HDR, SK{}                      -->
//	                               <--  HDR, SK{}      they do not
//
// So no IKE SA ends because of it. The long request in fragments (RFC 7383 §2.5.1) would not do: strongSwan with its
// mediation extension, as Debian builds it, drops every INFORMATIONAL that begins with a fragment.
//
// The first step is the MTU of the first link: on most paths it is the only one. Others of our requests do not wait for
// a step: it is cut short, and made again after them (hurry).
//
// What is found has arrived in time. So a network that is slow or loses much for a moment leaves things as they were.

// linkSizes are what links and tunnels on the way take, in bytes of IP packets.
var linkSizes = [...]int{1024, 1280, 1320, 1360, 1400, 1420, 1440, 1460, 1480, 1492, 1500, 2002, 4352, 8166, 9000}

const (
	// leastTried4 and leastTried6 are the shortest that are tried, in bytes (sad.MinPMTU4, sad.MinPMTU6).
	leastTried4 = 576
	leastTried6 = 1280
	// mostTried is the longest that is tried.
	mostTried = 9000

	stepWait = 500 * time.Millisecond
)

// search is the one that is under way.
type search struct {
	idle
	sa        *SA
	low, high int // packets of low bytes have arrived (0: none have), those of high have not
	top       int // where it began; 0: none is under way
	asked     int // for how many bytes
}

// MeasurePath finds out how long IP packets to the peer may be, of mtu bytes at most. One search is under way at a time.
func (sa *SA) MeasurePath(mtu int) {
	s := &sa.search
	if s.top == 0 && sa.base.State == Established && mtu > s.least() {
		s.asked = mtu
		s.begin(min(mtu, mostTried))
	}
}

func (s *search) least() int {
	if s.sa.base.Remote.Addr().Unmap().Is4() {
		return leastTried4
	}
	return leastTried6
}

func (s *search) begin(top int) {
	s.low, s.high, s.top = 0, top+1, top
	s.try(top)
}

// try asks whether packets of size bytes arrive.
func (s *search) try(size int) { s.sa.start(step(size)) }

// step is the exchange that asks it.
func step(size int) *exchange {
	x := newExchange(row(inform))
	*pathProbeOf(x) = pathProbe{mtu: size, search: true}
	x.still = func() bool { return x.sa.base.State == Established }
	return x
}

// answered goes on with the search after a step.
func (s *search) answered(p *pathProbe) {
	switch {
	case s.top == 0 || s.sa.base.State != Established:
		return // it goes on with the successor
	case p.on != s.sa.base.Path:
		s.begin(s.top)
		return
	case !p.known(s.sa):
		s.try(p.mtu)
		return
	}
	size := s.stands(p)
	switch {
	case p.failed && size <= s.least():
		s.top = 0 // not even what has to: the network is too slow, or loses too much
		return
	case p.failed:
		s.high = min(s.high, size)
	default:
		s.low = max(s.low, size)
		if size < p.mtu { // what is between cannot be tried
			s.high = min(s.high, p.mtu)
		}
	}
	s.next()
}

// stands is the size that a step stands for: the smallest of a usual link that is not less than what was sent. A block cipher may
// have left out up to 15 bytes.
func (s *search) stands(p *pathProbe) int {
	for _, n := range linkSizes {
		if n >= p.length && n < p.mtu {
			return n
		}
	}
	return p.mtu
}

// next makes the next step, or says what was found.
func (s *search) next() {
	var between []int
	for _, n := range linkSizes {
		if n > max(s.low, s.least()) && n < s.high {
			between = append(between, n)
		}
	}
	switch {
	case len(between) > 0:
		s.try(between[len(between)/2])
	case s.low == 0:
		s.try(s.least())
	default:
		found := core.PathMTU{SA: s.sa.base.ID, Peer: s.sa.base.Peer.Name, Local: s.sa.base.Local, Remote: s.sa.base.Remote, MTU: s.low, Measured: true}
		if s.top = 0; s.low < mostTried || s.asked == mostTried {
			s.sa.base.Env.Emit(found)
		}
	}
}

// inherit goes on with the search of the predecessor: with a step that waits, which goes over, or with the one that is under
// way once more.
func (s *search) inherit(old *SA) {
	s.low, s.high, s.top, s.asked = old.search.low, old.search.high, old.search.top, old.search.asked
	old.search.top = 0
	if x := old.current; s.top != 0 && x != nil && pathProbeOf(x).search {
		again := step(pathProbeOf(x).mtu)
		again.sa, again.mine = s.sa, true
		s.sa.queue = append(s.sa.queue, again)
	}
}
