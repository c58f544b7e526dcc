package ike

import (
	"net/netip"
	"slices"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// Hints that one end has lost an SA: those that we give to others, and those of others that concern an IKE SA here. What an
// IKE SA makes of one is in sa/hint.go.

// Bounds on what is said without an IKE SA. What causes it can have any source address. No answer is longer than
// what it answers.
const (
	maxHints    = 100 // in a second
	maxHintsFor = 4   // for one address
	// maxSendsWith is among how many CHILD SAs of one SPI the one that a hint is about is looked for: peers choose the SPIs.
	maxSendsWith = 64
)

// hintLimit counts what was said in the second that began at since.
type hintLimit struct {
	since time.Time
	n     int
	to    map[netip.Addr]int
}

// allows reports whether something may be said to an address, and counts it.
func (l *hintLimit) allows(now time.Time, to netip.Addr) bool {
	if now.Sub(l.since) >= time.Second || l.to == nil {
		l.since, l.n, l.to = now, 0, map[netip.Addr]int{}
	}
	if l.n >= maxHints || l.to[to] >= maxHintsFor {
		return false
	}
	l.n++
	l.to[to]++
	return true
}

// hinted takes in a message without an IKE SA which says that the peer does not know the SPI of our packets. False: it is
// no such message, or not from where a CHILD SA that sends with this SPI goes.
func hinted(e *Endpoint, v *version, h message.Header, d core.Datagram) bool {
	if v.unknownSPI == nil {
		return false
	}
	spi, ok := v.unknownSPI(h, d.Data)
	if !ok {
		return false
	}
	list := e.sendsWith[spi]
	for _, c := range list[:min(len(list), maxSendsWith)] {
		sa := c.SA
		if c.Live() && !c.Standby && sa.Peer.Version == v.number && sa.Remote.Addr() == d.Remote.Addr() && (!d.NATT || !sa.NATT || sa.Remote == d.Remote) {
			ikesa.UnknownSPI.About(sa)
			return true
		}
	}
	return false
}

// tellUnknownSPI tells the sender of a packet that no SA has its SPI: inside an IKE SA, if there is one, or else in
// clear, if a peer is configured there.
func tellUnknownSPI(e *Endpoint, in core.UnknownSPI) {
	told := complain(e, in)
	if c := e.children[in.Child]; c != nil {
		if p, ok := c.SA.Protocol.(ikesa.Complainer); ok && c.SA.Peer.Version != core.IKEv1 {
			p.TellUnknownSPI(in.SPI)
		}
		return
	}
	for _, v := range slices.Backward(e.versions.rows) {
		peer := e.peers.find(v.number, in.Local.Addr(), in.Remote.Addr())
		if told || peer == nil || v.sayUnknownSPI == nil {
			continue
		}
		if e.down || !e.hinted.allows(e.env.Now(), in.Remote.Addr()) {
			return
		}
		out := core.Send{Local: in.Local, Remote: in.Remote, NATT: in.NATT, Data: v.sayUnknownSPI(in.SPI)}
		if !in.NATT {
			out.Local, out.Remote = netip.AddrPortFrom(in.Local.Addr(), e.cfg.IKEPort), netip.AddrPortFrom(in.Remote.Addr(), peer.Port)
		}
		e.env.Emit(out)
		return
	}
}

// complain tells the sender of such a packet by the IKEv1 SA with it, if there is one: outside of that IKEv1 can say nothing. A CHILD SA
// between the two ends, which may be of the other version, says nothing about whose the SPI was.
func complain(e *Endpoint, in core.UnknownSPI) bool {
	if len(e.sendsWith[in.SPI]) > 0 { // the peer's own, and a DELETE may name that too: whoever forges such a packet must not have the peer end its SA
		return false
	}
	var which *ikesa.SA
	for _, sa := range e.bySPI {
		if sa.Peer.Version == core.IKEv1 && sa.State == ikesa.Established && sa.Remote.Addr() == in.Remote.Addr() &&
			(!in.NATT || !sa.NATT || sa.Remote == in.Remote) && (which == nil || sa.ID < which.ID) {
			which = sa
		}
	}
	if which == nil || e.down || !e.hinted.allows(e.env.Now(), in.Remote.Addr()) {
		return which != nil
	}
	which.Protocol.(ikesa.Complainer).TellUnknownSPI(in.SPI)
	return true
}

// tellUnknownSA answers a request for an IKE SA that does not exist, if a peer is configured there. One that ended a moment
// ago with a request of the peer has said so.
func tellUnknownSA(e *Endpoint, v *version, h message.Header, d core.Datagram) {
	if v.sayUnknownSA == nil || e.down || e.finals[v.ours(e, h)] != nil || e.peers.find(v.number, d.Local.Addr(), d.Remote.Addr()) == nil {
		return
	}
	if answer := v.sayUnknownSA(h, d.Data); answer != nil && e.hinted.allows(e.env.Now(), d.Remote.Addr()) {
		e.env.Emit(core.Send{Local: d.Local, Remote: d.Remote, NATT: d.NATT, Data: answer})
	}
}

// woke is called after this host has slept. It may be somewhere else now.
func woke(e *Endpoint) {
	for _, sa := range sorted(e.bySPI) {
		if sa.Peer.Initiates() { // who connects to us comes by itself
			ikesa.Woke.About(sa)
		}
	}
	lookForWays(e)
}

// Redial begins an IKE SA that is to take over from sa, whose peer does not answer. What an earlier attempt was held
// off for does not count: the peer was there until now.
func (e *Endpoint) Redial(sa *ikesa.SA) {
	if e.down || e.replacing.has(sa) {
		return
	}
	for _, p := range e.wanted {
		if w := e.wants[p.Ref]; w != nil && p.Peer == sa.Peer && sa.Serves(p) {
			w.forgive(e.env)
			e.ensure(p, nil)
		}
	}
}

// takesOverLost has an IKE SA that is about to begin take over from one whose peer does not answer any more.
func takesOverLost(e *Endpoint, sa *ikesa.SA, wanted []*core.Policy) {
	if e.replacing[sa.ID] != nil {
		return
	}
	for s := range e.others.of(sa.Peer.Name) {
		if ikesa.Lost(s) && s.State == ikesa.Established && !slices.ContainsFunc(wanted, func(p *core.Policy) bool { return !s.MayHave(p) }) {
			e.replacing[sa.ID] = s
			return
		}
	}
}
