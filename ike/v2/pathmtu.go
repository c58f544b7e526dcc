package v2

import (
	"slices"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// Somebody may claim, without proof, that packets of more than so many bytes do not
// reach the peer: an ICMP message that quotes no SPI. The peer is asked with a
// request of just one byte more (RFC 8899 §4.6.2), with a block cipher up to 16. So
// what is forged lowers the MTU by no more than 15 bytes, where no request fits in
// between, and usually by nothing:
//
//	IP packet of more than MTU bytes, not to be cut:
//	HDR, SK{N(PATH_PROBE: zeros)}  -->
//	                               <--  HDR, SK{}      the claim is wrong
//	after probeTries of these without an answer, the same request without zeros:
//	HDR, SK{}                      -->
//	                               <--  HDR, SK{}      the claim is right: core.PathMTU
//
// A peer ignores a status notify that it does not know (RFC 7296 §3.10.1), so every
// peer can be asked. A request should be repeated as it was (RFC 7296 §2.1). This one
// is not, because a peer that the long form cannot reach would be taken for dead. To
// the peer both forms are one request: if it has answered the long one, it sends the
// same response again.

// Where nobody claims anything, because routers are silent and firewalls drop what they say, the
// same question is asked as soon as long packets leave (TryPath): with one of the length that they
// may have. If that does not arrive, the longest that arrives is looked for, and used then. The fall back is a request in fragments (RFC 7383 §2.5.1) where the peer takes them.

// probeTries is how often the long request is sent (RFC 8899 §5.1.2, MAX_PROBES). A
// response that comes later than 3.5 s after the first is taken for one to the short
// request: then the MTU is lowered for nothing, and for ten minutes.
const probeTries = 3

// pathProbe is that of an exchange.
type pathProbe struct {
	mtu    int     // that is claimed; 0: the exchange is no probe
	on     path    // that it is claimed of
	long   []byte  // the request as an IP packet of more than mtu bytes; nil: it is not sent any more
	failed bool    // it had no answer
	search *search // what it is a step of; nil: somebody has claimed mtu
	length int     // of long, as an IP packet
}

// search looks for the longest IP packet that arrives. Packets of low bytes do, or have to; those of
// high bytes do not.
type search struct {
	low, high int
	top       int  // where it began
	told      bool // people were told
}

// sizes are what links and tunnels on the way take, in bytes of IP packets.
var sizes = []int{1280, 1320, 1360, 1380, 1400, 1412, 1420, 1432, 1440, 1452, 1460, 1472, 1480, 1492, 1500, 2002, 4352, 8166, 8900, 9000}

// minTry is the shortest that is tried.
const minTry = 576

// searchAgain is how long what was found is used before it is asked again whether more fits. It is
// less than the age of a path MTU (sad.PMTUAge).
const searchAgain = 9 * time.Minute

// TryPath asks the peer how long IP packets may be.
func (sa *SA) TryPath(mtu int) {
	if mtu > minTry {
		(&search{low: sizes[0], high: mtu + 1, top: mtu}).try(sa, mtu)
	}
}

// try asks whether packets of size bytes arrive.
func (s *search) try(sa *SA, size int) {
	askPath(sa, pathProbe{mtu: size, search: s})
}

// answered goes on with a search, after packets of size bytes have arrived or not. What was sent
// has length bytes: with a block cipher up to 15 less. That the rest arrives too is taken for granted,
// since what is tried are the sizes of usual links.
func (s *search) answered(sa *SA, on path, size, length int, arrived bool) {
	found := func(mtu int) {
		sa.base.Env.Emit(core.PathMTU{Local: on.Local, Remote: on.Remote, MTU: mtu, Asked: true})
	}
	if arrived {
		s.low = size
	} else {
		s.high = size
	}
	if size == s.top {
		if arrived {
			if s.told { // it is wider again
				found(size)
			}
			return
		}
		s.low = min(s.low, size)
		if !s.told {
			s.told = true
			sa.base.Event(core.EvPathMTU, "packets of %d bytes do not reach the peer, and no router says so: they are kept shorter; "+
				"let ICMP \"fragmentation needed\" and \"packet too big\" pass on the way", length)
		}
	}
	var between []int
	for _, n := range sizes {
		if n > s.low && n < s.high {
			between = append(between, n)
		}
	}
	switch {
	case len(between) > 0:
		s.try(sa, between[len(between)/2])
	case s.low == sizes[0] && !arrived && size != s.low && s.high > s.low: // nobody has shown that so much arrives
		s.try(sa, s.low)
	case s.high <= s.low && sa.base.Remote.Addr().Unmap().Is4():
		found(minTry)
		s.again(sa)
	default: // not before: hosts keep for ten minutes what they are told
		found(s.low)
		s.again(sa)
	}
}

// again asks after a while whether as much arrives as in the beginning.
func (s *search) again(sa *SA) {
	on := sa.base.Path
	sa.base.Env.Timers.Stop(sa.widen.timer)
	sa.widen.timer = sa.base.Env.After(searchAgain, func() {
		if sa.base.Path == on {
			(&search{low: s.low, high: s.top + 1, top: s.top, told: true}).try(sa, s.top)
		}
	})
}

// widening is the question that is to be asked again.
type widening struct {
	idle
	sa    *SA
	timer *core.Timer
}

func (w *widening) rest() {
	w.sa.base.Env.Timers.Stop(w.timer)
	w.timer = nil
}

func (w *widening) end() { w.rest() }

// CheckPath asks the peer whether IP packets of more than mtu bytes arrive. Only
// packets on the path of the IKE SA can be tried. One question at a time is open.
func (sa *SA) CheckPath(mtu int) {
	if sa.base.NATT { // what is claimed is of packets in UDP
		askPath(sa, pathProbe{mtu: mtu})
	}
}

// askPath asks the peer, unless it is being asked already.
func askPath(sa *SA, probe pathProbe) {
	on := sa.base.Path
	asks := func(x *exchange) bool { return pathProbeOf(x).mtu != 0 }
	if sa.base.State != Established || sa.current != nil && asks(sa.current) || slices.ContainsFunc(sa.queue, asks) {
		return
	}
	x := newExchange(row(inform))
	probe.on = on
	*pathProbeOf(x) = probe
	x.still = func() bool { return sa.base.State == Established && sa.base.Path == on }
	sa.start(x)
}

// lengthen makes the long form of the request with header h.
func lengthen(x *exchange, h message.Header) (err error) {
	probe := pathProbeOf(x)
	if probe.mtu == 0 {
		return nil
	}
	sa, fill := x.sa, &message.Notify{Kind: message.NotifyPathProbe}
	payloads := append(slices.Clone(x.out), fill)
	ip := 20
	if !sa.base.Remote.Addr().Unmap().Is4() {
		ip = 40
	}
	_, plain := message.AppendPayloads(nil, payloads)
	want, empty := probe.mtu-ip-8, len(plain) // without IP header and UDP header
	if probe.on.NATT {
		want -= 4 // the non-ESP marker
	}
	if probe.search == nil {
		want++ // more than mtu, by as little as can be
	}
	n := 0
	for sa.sealer.sealedLen(skGeneric, empty+n) < want {
		n++
	}
	if probe.search != nil { // at most mtu
		for n > 0 && sa.sealer.sealedLen(skGeneric, empty+n) > want {
			n--
		}
	}
	fill.Data = make([]byte, n)
	probe.long, err = sa.sealer.seal(h, payloads)
	probe.length = len(probe.long) + probe.mtu - want
	if err != nil || !sa.sealer.fragments {
		return err
	}
	first, plain := message.AppendPayloads(nil, payloads)
	x.raw, err = sa.sealer.cutTo(h, first, plain, minTry-ip-8-4)
	return err
}

// sendLong sends the long request, and reports whether there is one to be sent. After
// probeTries of them the short one begins anew, with all its tries.
func sendLong(x *exchange) bool {
	p := pathProbeOf(x)
	if p.long == nil {
		return false
	}
	if x.tries == probeTries {
		p.long, p.failed, x.tries = nil, true, 0
		return false
	}
	sa := x.sa
	sa.base.Stats.TxPackets++
	sa.base.Stats.TxBytes += uint64(len(p.long))
	sa.base.Env.Emit(core.Send{Local: p.on.Local, Remote: p.on.Remote, NATT: p.on.NATT, Whole: true, Data: clone(p.long)})
	return true
}

// pathAnswered says what the answer to a probe means.
type pathAnswered struct {
	noop
	pathProbe
}

// pathProbeOf is the probe of an exchange; one without a claim if it is none.
func pathProbeOf(x *exchange) *pathProbe {
	if t := part[*pathAnswered](x); t != nil {
		return &t.pathProbe
	}
	return &pathProbe{}
}

func (t *pathAnswered) settle(x *exchange) error {
	p := &t.pathProbe
	switch {
	case !x.mine || p.mtu == 0 || p.on != x.sa.base.Path:
	case p.search != nil:
		sa := x.sa
		sa.base.Env.After(0, func() { // the next question, when this one is over
			if sa.base.State == Established && sa.base.Path == p.on {
				p.search.answered(sa, p.on, p.mtu, p.length, !p.failed)
			}
		})
	case p.failed:
		x.sa.base.Env.Emit(core.PathMTU{Local: p.on.Local, Remote: p.on.Remote, MTU: p.mtu})
	}
	return nil
}
