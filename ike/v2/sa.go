package v2

import (
	"fmt"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// Owner is the endpoint, as far as IKEv2 needs more of it than every version does.
type Owner interface {
	ikesa.Newcomers
	Redirects
	Sessions
}

// Redirects follows peers to other gateways (RFC 5685).
type Redirects interface {
	// Redirected says that the peer of sa, which is established or about to end,
	// sends us to another gateway, and which policies want a CHILD SA there.
	Redirected(sa *ikesa.SA, to core.Gateway, wanted []*core.Policy)
}

// Sessions has what lost IKE SAs can be resumed with (RFC 5723).
type Sessions interface {
	// Tickets are those that this host gives out.
	Tickets() *TicketJar
	// Interrupted hands over what the lost IKE SA sa can be resumed with. NotResumed
	// says that sa, which has ended, was not: the wanted policies are to have their
	// CHILD SAs from another one. s may still count, unless it is nil.
	Interrupted(sa *ikesa.SA, s *Session)
	NotResumed(sa *ikesa.SA, s *Session, wanted []*core.Policy)
}

// SA is the IKEv2 of one IKE SA: its exchanges, keys and message IDs. It is the
// Protocol of base, which has what an IKE SA is in any version.
type SA struct {
	base  *ikesa.SA
	owner Owner

	sealer   sealer
	lowNonce []byte // lowest nonce of the exchange that made it, to settle collisions
	mob      mobility
	away     away // the peer is, or can be, sent to another gateway

	init *initState // what IKE_AUTH needs of IKE_SA_INIT; nil once the SA is up

	sendID, recvID uint32
	current        *exchange   // our request that is under way
	queue          []*exchange // our requests to come
	answering      *exchange   // the peer's request that is under way
	between        *exchange   // the peer's, between two rounds
	read           int         // bytes of the message read last
	repeated       int         // answers to the first request, after the first one
	lastResponse   [][]byte
	partial        *[2]partial // the peer's request and response of which fragments are missing; nil before any

	successor   *SA // by the peer's rekey, while our own is under way
	inherits    *SA // the other way round: whose successor it is, if the peer's rekey wins
	doubted     *SA // its predecessor, until the peer has shown that it has this one: our response to its rekey may be lost
	parked      parked
	unusable    string // why what came back last for our first request could not be used
	invalidSPIs invalidSPIs
	brief       bool     // the peer's AUTH of a resumed IKE SA is over its first message alone (libreswan)
	resumed     *resumed // from an earlier IKE SA, with a ticket; nil: made anew
	tickets     lineage
	search      search
}

// The names of package sa, of which IKEv2 is full.
type (
	Child = ikesa.Child
	path  = ikesa.Path
)

// The states of an IKE SA.
const (
	Connecting  = ikesa.Connecting
	HalfOpen    = ikesa.HalfOpen
	Established = ikesa.Established
	Replaced    = ikesa.Replaced
	Closing     = ikesa.Closing
	Ended       = ikesa.Ended
)

// halfOpenLife is how long a responder waits for IKE_AUTH.
const halfOpenLife = 30 * time.Second

// Initiate makes an IKE SA as initiator (ikesa.Initiate). The first of the wanted policies
// gets its CHILD SA in IKE_AUTH. The caller puts the SA under its SPI and then calls Begin.
func Initiate(env *core.Env, common ikesa.Owner, owner Owner, peer *core.Peer, p ikesa.Path, wanted []*core.Policy) *SA {
	return newSA(ikesa.Initiate(env, common, peer, p, wanted), owner)
}

func newSA(base *ikesa.SA, owner Owner) *SA {
	sa := &SA{base: base, owner: owner, sealer: sealer{base: base}, init: &initState{}}
	sa.tickets.sa, sa.away.sa, sa.search.sa = sa, sa, sa
	sa.base.Protocol = sa
	sa.base.Had = func(old *ikesa.SA) bool {
		s, ok := old.Protocol.(*SA)
		return ok && resumes(sa, s)
	}
	return sa
}

// Base is what it is in any version.
func (sa *SA) Base() *ikesa.SA { return sa.base }

// --- ikesa.Protocol; create.go, rekey_child.go, rekey_ike.go and inform.go have the exchanges ---

// Begin sends the first request of an SA made by Initiate.
func (sa *SA) Begin() { sa.start(newExchange(firstExchange(sa))) }

// Doing names the exchange that is under way, the peer's before ours.
func (sa *SA) Doing() string {
	switch {
	case sa.answering != nil:
		return sa.answering.kind.name
	case sa.current != nil:
		return sa.current.kind.name
	}
	return ""
}

// ChildGone gives up the peer's rekey of a CHILD SA that is no more.
func (sa *SA) ChildGone(c *Child) {
	if p := parkedRekey(sa, rekeyChild, c); p != nil {
		p.abandon()
		unpark(sa, p)
	}
}

// Stop gives up all exchanges and wipes the keys.
func (sa *SA) Stop() { each(sa, feature.end) }

// Datagram handles a message whose SPIs are this SA's. raw is the SA's to keep.
func (sa *SA) Datagram(raw []byte, in core.Datagram) {
	h, err := message.ParseHeader(raw)
	if err != nil || sa.base.State == Ended {
		return
	}
	first := h.Exchange == firstWire(sa)
	if h.SPIi != sa.base.SPIi || !first && h.SPIr != sa.base.SPIr {
		sa.bad(in, "the SPIs are of no IKE SA")
		return
	}
	sa.base.Stats.RxPackets++
	sa.base.Stats.RxBytes += uint64(len(raw))
	if saysUnknownSA(sa, h, raw, in) {
		ikesa.UnknownSA.About(sa.base)
		return
	}
	if h.FromInitiator() == sa.base.Initiator {
		sa.bad(in, "the initiator flag is the wrong way round")
		return
	}
	if !first && h.Next != message.TypeSK && h.Next != message.TypeSKF {
		sa.bad(in, "%v begins with a payload in clear, %v", h.Exchange, h.Next)
		return
	}
	defer sa.weigh()
	m, err := message.Parse(raw)
	if err != nil && first {
		sa.bad(in, "%v", err)
		return
	}
	if first {
		sa.initMessage(m, raw, in)
		return
	}
	if err == nil && sa.sealer.keys.d == nil {
		err = dropped{"there are no keys yet"}
	}
	if err == nil && lateIntermediate(sa, raw, m, in) {
		return
	}
	var inner []message.Payload
	var synErr error
	if err == nil {
		var whole bool
		if inner, whole, synErr, err = sa.decrypt(raw, m, in); err == nil && !whole {
			return // fragments are missing
		}
	}
	if err != nil {
		sa.bad(in, "%v", err)
		return
	}
	sa.base.Env.Traced(false, h, inner)
	if h.Response() {
		sa.response(h, inner, synErr, in)
		return
	}
	sa.request(h, inner, synErr, in)
}

// bad reports a message that could not be used. It costs an event, which
// whoever logs limits by rate; it never changes the SA.
func (sa *SA) bad(in core.Datagram, format string, a ...any) {
	reason := fmt.Sprintf(format, a...)
	if sa.base.State == Connecting {
		sa.unusable = reason[:min(len(reason), maxUnusable)]
	}
	sa.base.Env.Emit(core.Event{Kind: core.EvBadMessage, SA: sa.base.ID, Peer: sa.base.Peer.Name, Initiator: sa.base.Initiator,
		Local: in.Local, Remote: in.Remote, Reason: reason})
}

// maxUnusable bounds what is kept of the reason.
const maxUnusable = 200

// up is reached when IKE_AUTH is through, or at once for a successor.
func (sa *SA) up() {
	sa.init.wipe()
	sa.init = nil
	sa.sealer.keys.wipeProof()
	sa.base.Up()
}

// lowest is the lower of an exchange's two nonces.
func lowest(a, b []byte) []byte {
	if ikesa.Lower(b, a) {
		return b
	}
	return a
}
