package sa

import (
	"net/netip"
	"time"

	"culvert/ike/core"
	"culvert/spd/selector"
)

// Exchanges are what an IKE SA asks its version of IKE for. None of them waits: an
// exchange is queued, and its outcome comes back by the methods of SA and Child.
type Exchanges interface {
	// MakeChild makes a CHILD SA for a policy. flow is the packet that asked for it;
	// nil: none did. Making reports whether one is being made, or waits to be.
	MakeChild(p *core.Policy, flow *selector.Pair)
	Making(p *core.Policy) bool
	// RekeyChild replaces a CHILD SA. False: it cannot be begun now.
	RekeyChild(c *Child) bool
	// DeleteChild tells the peer that a CHILD SA ends, and then ends it (Child.End).
	DeleteChild(c *Child, why string)
	// Rekey replaces the IKE SA, unless that is under way.
	Rekey()
	// Probe asks the peer whether it is there, unless something else is under way that
	// asks the same; urgent: that is sent once more, at once.
	Probe(urgent bool)
	// Confirm asks the peer whether it has a CHILD SA (Question.Answered), as long as
	// that is Wanted.
	Confirm(q *Question)
	// Close tells the peer that the IKE SA ends. wait: the SA ends (SA.End) with the
	// peer's answer, or without one after a while. Otherwise the caller ends it.
	Close(why string, wait bool)
}

// Protocol is a version of IKE, at work for one IKE SA.
type Protocol interface {
	Exchanges
	// Begin sends the first message, as initiator.
	Begin()
	// Datagram handles a message whose SPIs are the SA's. raw is the protocol's to keep.
	Datagram(raw []byte, d core.Datagram)
	// Again is the request that a half-open SA began with, once more.
	Again(d core.Datagram)
	// Doing names the exchange that is under way, for people; "": none is.
	Doing() string
	// ChildGone says that a CHILD SA is no more: what is under way for it is given up.
	ChildGone(c *Child)
	// Stop gives up all exchanges and wipes the keys. The SA ends.
	Stop()
}

// Liner is a Protocol that can make further CHILD SAs for the traffic of one (RFC 9611).
type Liner interface {
	// MakeLine makes one beside c for a line of the data path, as long as Child.Wishes. Child.LineFailed says that it came to nothing.
	MakeLine(c *Child, line int)
}

// Redirecter is a Protocol that can send its peer to another gateway (RFC 5685).
type Redirecter interface {
	// Redirectable reports whether the peer is a client that said that it can be sent.
	Redirectable() bool
	// Redirect sends it. Where it has not gone within a time, it is disconnected; 0: never.
	Redirect(to core.Gateway, within time.Duration)
}

// Roamer is a Protocol that moves an SA to another address of ours (RFC 4555).
type Roamer interface {
	// AddrsChanged says that Host.Addrs are others.
	AddrsChanged()
	// Leave goes on from another address of ours: what is sent from the one in use gets nowhere.
	Leave(local netip.Addr)
	// Roams reports whether the peer goes along. Otherwise the SA ends with its address.
	Roams() bool
}

// Complainer is a Protocol that can tell its peer that packets arrive which no SA opens (RFC 7296 §1.5).
type Complainer interface {
	// TellUnknownSPI tells the peer the SPI of such a packet, unless something else is under way.
	TellUnknownSPI(spi uint32)
}

// Prober is a Protocol that can try how long packets may be.
type Prober interface {
	// CheckPath asks the peer whether IP packets of more than mtu bytes arrive.
	CheckPath(mtu int)
	// MeasurePath finds out how long IP packets may be, of up to mtu bytes.
	MeasurePath(mtu int)
}

// Detached is a Protocol whose CHILD SAs belong to the two peers and not to the IKE SA that made them: any
// other with the same peer can carry them (RFC 2409 §3).
type Detached interface {
	// Leave gives up all exchanges. From then on the IKE SA says nothing, and hears only which CHILD SAs the peer deletes.
	// lifetime: its own is over, which is said before to a peer that may count on a longer one.
	Leave(lifetime bool)
	// Detached reports whether the peer is known to have the IKE SA. Where it is not, the peer is asked.
	Detached() (known bool)
}

// Known reports whether the peer is known to have an IKE SA that is up here. Where that is in doubt, it is asked.
func Known(sa *SA) bool {
	d, ok := sa.Protocol.(Detached)
	return !ok || d.Detached()
}
