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
// same response again. Some peers compare what they get with what they have answered
// (later versions of strongSwan do), so from the second short one on the long one goes with it.
//
// pathsearch.go asks the same where nobody claims anything.

// probeTries is how often the long request is sent (RFC 8899 §5.1.2, MAX_PROBES). A
// response that comes later than 3.5 s after the first is taken for one to the short
// request: then the MTU is lowered for nothing, and for ten minutes.
const probeTries = 3

// pathProbe is that of an exchange.
type pathProbe struct {
	mtu    int    // that is claimed, or of a search: how long a packet is tried; 0: the exchange is no probe
	search bool   // it is a step of a search
	on     path   // that it is about
	long   []byte // the long request
	length int    // of the IP packet with it
	alone  bool   // the long request is sent, and no other
	failed bool   // it had no answer
}

// CheckPath asks the peer whether IP packets of more than mtu bytes arrive. Only
// packets on the path of the IKE SA can be tried. One question at a time is open.
func (sa *SA) CheckPath(mtu int) {
	on := sa.base.Path
	asks := func(x *exchange) bool { return pathProbeOf(x).mtu != 0 }
	if sa.base.State != Established || !sa.base.NATT || sa.current != nil && asks(sa.current) || slices.ContainsFunc(sa.queue, asks) {
		return
	}
	x := newExchange(row(inform))
	*pathProbeOf(x) = pathProbe{mtu: mtu, on: on}
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
	outer := 20 + 8
	if !sa.base.Remote.Addr().Unmap().Is4() {
		outer += 20
	}
	if sa.base.NATT {
		outer += 4 // the non-ESP marker
	}
	_, plain := message.AppendPayloads(nil, payloads)
	want, empty := probe.mtu-outer, len(plain)
	n := 0
	for sa.sealer.sealedLen(skGeneric, empty+n) <= want {
		n++ // the first that is more than mtu
	}
	if probe.search && n > 0 {
		n-- // the last that is not
	}
	fill.Data = make([]byte, n)
	probe.long, err = sa.sealer.seal(h, payloads)
	probe.on, probe.alone, probe.length = sa.base.Path, true, outer+len(probe.long)
	return err
}

// sendLong sends the long request if it is due, and reports whether the short one is not to be
// sent. After probeTries of them alone the short one begins anew, with all its tries.
func sendLong(x *exchange) (alone bool) {
	p, sa := pathProbeOf(x), x.sa
	if p.long == nil {
		return false
	}
	if p.on != sa.base.Path {
		p.interrupt()
	}
	if p.alone && x.tries == probeTries {
		p.alone, p.failed, x.tries = false, true, 0
	}
	if !p.alone && x.tries == 0 {
		return false
	}
	sa.base.Stats.TxPackets++
	sa.base.Stats.TxBytes += uint64(len(p.long))
	sa.base.Env.Emit(core.Send{Local: sa.base.Local, Remote: sa.base.Remote, NATT: sa.base.NATT, Whole: true, Data: clone(p.long)})
	return p.alone
}

// waitFor is how long to wait for the response before the request is sent again.
func waitFor(x *exchange) time.Duration {
	if p := pathProbeOf(x); p.alone && p.search {
		return stepWait
	}
	return core.RetransmitWait(x.tries)
}

// interrupt has the short request go out too from now on. Which of them arrived is then not known.
func (p *pathProbe) interrupt() { p.alone = false }

// hurry ends the wait for the response to a long request if others of ours wait, but for those of the kind.
func hurry(sa *SA) {
	x := sa.current
	if x == nil || x.raw == nil || x.in != nil || !pathProbeOf(x).alone {
		return
	}
	if slices.ContainsFunc(sa.queue, func(x *exchange) bool { return pathProbeOf(x).mtu == 0 }) {
		pathProbeOf(x).interrupt()
		roaming{sa: sa}.again()
	}
}

// known reports whether it is known what arrived.
func (p *pathProbe) known(sa *SA) bool { return (p.alone || p.failed) && p.on == sa.base.Path }

// pathAnswered says what the answer to a probe means.
type pathAnswered struct {
	noop
	pathProbe
	settled bool
}

// pathProbeOf is the probe of an exchange; one without a claim if it is none.
func pathProbeOf(x *exchange) *pathProbe {
	if t := part[*pathAnswered](x); t != nil {
		return &t.pathProbe
	}
	return &pathProbe{}
}

func (t *pathAnswered) settle(x *exchange) error {
	t.settled = true
	sa, p := x.sa, &t.pathProbe
	switch {
	case !x.mine || p.mtu == 0:
	case p.search:
		sa.search.answered(p)
	case p.failed && p.on == sa.base.Path:
		sa.base.Env.Emit(core.PathMTU{SA: sa.base.ID, Peer: sa.base.Peer.Name, Local: p.on.Local, Remote: p.on.Remote, MTU: p.mtu})
	}
	return nil
}

// end: a step that comes to nothing ends its search.
func (t *pathAnswered) end(x *exchange) {
	if t.search && !t.settled {
		x.sa.search.top = 0
	}
}
