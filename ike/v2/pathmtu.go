package v2

import (
	"slices"

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

// probeTries is how often the long request is sent (RFC 8899 §5.1.2, MAX_PROBES). A
// response that comes later than 3.5 s after the first is taken for one to the short
// request: then the MTU is lowered for nothing, and for ten minutes.
const probeTries = 3

// pathProbe is that of an exchange.
type pathProbe struct {
	mtu    int    // that is claimed; 0: the exchange is no probe
	on     path   // that it is claimed of
	long   []byte // the request as an IP packet of more than mtu bytes; nil: it is not sent any more
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
	ip := 20
	if !sa.base.Remote.Addr().Unmap().Is4() {
		ip = 40
	}
	_, plain := message.AppendPayloads(nil, payloads)
	want, empty := probe.mtu+1-ip-8-4, len(plain) // without IP header, UDP header and non-ESP marker
	n := 0
	for sa.sealer.sealedLen(skGeneric, empty+n) < want {
		n++
	}
	fill.Data = make([]byte, n)
	probe.long, err = sa.sealer.seal(h, payloads)
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
	if p := &t.pathProbe; x.mine && p.failed && p.on == x.sa.base.Path {
		x.sa.base.Env.Emit(core.PathMTU{Local: p.on.Local, Remote: p.on.Remote, MTU: p.mtu})
	}
	return nil
}
