package v2

import (
	"bytes"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
)

// Owner is the endpoint that IKE SAs live in. It finds them by SPI and keeps
// what shall be up up.
type Owner interface {
	Config() *core.Config
	// Addrs are the addresses that this host has and may use.
	Addrs() []netip.Addr
	// Nets are this host's networks and addresses (core.LocalNets).
	Nets() []netip.Prefix
	// Adopt takes in an SA that an SA made: the successor at a rekey.
	Adopt(sa *SA)
	// Siblings are the other SAs with the same peer, to be looked at only;
	// Namesakes those whose ID is the Same too.
	Siblings(sa *SA) iter.Seq[*SA]
	Namesakes(sa *SA) []*SA
	// SharesSecret reports whether the secret of an identity is also for other IDs than
	// its remote-id, so that it does not say which of them has proved itself.
	SharesSecret(id *core.Identity) bool
	// Named says that the peer's ID became known or, from was, another one.
	Named(sa *SA, was core.ID)
	// Weigh says that the Weight of a half-open SA may have changed.
	Weigh(sa *SA)
	// Serves says that an SA began to serve its peer or ceased to: it is
	// established, and the peer was not sent elsewhere.
	Serves(sa *SA, yes bool)
	// Established says that an SA came up; Ended that it is gone, and whether a
	// fault ended it.
	Established(sa *SA)
	Ended(sa *SA, fault bool)
	// Reauthenticate begins an IKE SA that is to take over from sa.
	Reauthenticate(sa *SA)
	// Redirected says that the peer of sa, which is established or about to end,
	// sends us to another gateway, and which policies want a CHILD SA there.
	Redirected(sa *SA, to core.Gateway, wanted []*core.Policy)
	// Tickets are those that this host gives out.
	Tickets() *TicketJar
	// Interrupted hands over what the lost IKE SA sa can be resumed with. NotResumed
	// says that sa, which has ended, was not: the wanted policies are to have their
	// CHILD SAs from another one. s may still count, unless it is nil.
	Interrupted(sa *SA, s *Session)
	NotResumed(sa *SA, s *Session, wanted []*core.Policy)
	// Bury keeps the last response of an SA that the peer deleted.
	Bury(spi uint64, e Epitaph)
	// ChildMade and ChildGone tell which CHILD SAs there are; ChildEnded that a
	// policy lost its last one, ChildFailed that an attempt to make one came to
	// nothing.
	ChildMade(c *Child)
	ChildGone(c *Child)
	ChildEnded(sa *SA, p *core.Policy)
	// Generate gives a policy made for sa its Ref, or finds the one that there is
	// already for the same; not for what another peer has. Taken says
	// what another peer has of it; "": nothing. Use puts a policy in force, if
	// it was made at run time, before a CHILD SA for it is installed.
	Generate(sa *SA, p core.Policy) (*core.Policy, error)
	Taken(sa *SA, p *core.Policy) string
	Use(p *core.Policy)
	// asked: the peer had a part in it.
	ChildFailed(sa *SA, p *core.Policy, asked bool)
}

// State of an IKE SA.
type State uint8

const (
	Connecting State = iota
	HalfOpen
	Established
	Replaced // rekeyed; only deletion is left
	Closing  // our delete is on its way
	Ended
)

var stateNames = [...]string{"connecting", "half-open", "established", "rekeyed", "deleting", "ended"}

func (s State) String() string { return stateNames[s] }

// become goes over to another state.
func (sa *SA) become(s State) {
	sa.state = s
	sa.tally()
}

// tally tells the owner where it changed whether the SA serves its peer.
func (sa *SA) tally() {
	if yes := sa.state == Established && !sa.Leaving(); yes != sa.serving {
		sa.serving = yes
		sa.owner.Serves(sa, yes)
	}
}

// SA is one IKE SA.
type SA struct {
	env   *core.Env
	owner Owner
	id    core.SAID
	peer  *core.Peer
	state State

	initiator     bool // we began its IKE_SA_INIT or the rekey that made it
	spii, spir    uint64
	local, remote netip.AddrPort
	initFrom      netip.AddrPort // where the IKE_SA_INIT request came from, as responder
	natt          bool           // messages go by the NAT-T ports
	nat           natState
	mob           mobility

	suite    core.Suite
	keys     keys
	identity *core.Identity
	myID     core.ID
	peerID   core.ID
	Seat     int        // the owner's: where it keeps the SA
	lowNonce []byte     // lowest nonce of the exchange that made it, to settle collisions
	birth    birth      // of the first IKE SA of its line
	client   uint64     // see number; 0: not asked for yet
	home     netip.Addr // see settleHome
	contest  *contest   // nil: nobody wants what it has

	comesFrom netip.Addr // the gateway that sent us to this one
	away      away       // the peer is, or can be, sent to another gateway
	serving   bool       // what the owner was told last: see tally

	init *initState // what IKE_AUTH needs of IKE_SA_INIT; nil once the SA is up

	sendID, recvID uint32
	current        *exchange   // our request that is under way
	queue          []*exchange // our requests to come
	answering      *exchange   // the peer's request that is under way
	between        *exchange   // the peer's, between two rounds
	read           int         // bytes of the message read last
	repeated       int         // answers to the first request, after the first one
	lastResponse   [][]byte
	fragments      bool        // messages may be cut into fragments
	partial        *[2]partial // the peer's request and response of which fragments are missing; nil before any
	sealed         uint64      // messages sealed under our key: the IVs of an AEAD

	children  []*Child
	lingering int            // CHILD SAs that are gone and still open what was under way
	wanted    []*core.Policy // CHILD SAs to make; the first in IKE_AUTH

	refusals  int // of our rekeys of it
	successor *SA // by the peer's rekey, while our own is under way
	inherits  *SA // the other way round: whose successor it is, if the peer's rekey wins
	adopter   *SA // who has the CHILD SAs since a rekey
	parked    parked
	auth      authLife
	resumed   *resumed // from an earlier IKE SA, with a ticket; nil: made anew
	tickets   lineage
	lease     *lease // nil: no inner address

	created, established, heard time.Time
	timers                      struct{ half, soft, hard, dpd, keepalive *core.Timer }
	stats                       struct{ txN, rxN, txB, rxB uint64 }
}

// halfOpenLife is how long a responder waits for IKE_AUTH.
const halfOpenLife = 30 * time.Second

// Initiate makes an IKE SA as initiator and begins its IKE_SA_INIT. The wanted
// policies get CHILD SAs, the first of them in IKE_AUTH; those that name an
// identity name the same, which is whom we then are. The caller puts it under its
// SPI and then calls Begin.
func Initiate(env *core.Env, owner Owner, peer *core.Peer, local, remote netip.AddrPort, wanted []*core.Policy) *SA {
	sa := newSA(env, owner, peer, local, remote)
	sa.initiator = true
	sa.spii = env.RandomSPI()
	sa.wanted = wanted
	for _, p := range wanted {
		if p.Identity != nil {
			sa.identity = p.Identity
		}
	}
	sa.natt = remote.Port() == peer.NATT()
	return sa
}

func newSA(env *core.Env, owner Owner, peer *core.Peer, local, remote netip.AddrPort) *SA {
	return &SA{env: env, owner: owner, init: &initState{}, id: env.NewSAID(), peer: peer, local: local, remote: remote,
		created: env.Now(), heard: env.Now()}
}

// Begin sends the first request of an SA made by Initiate.
func (sa *SA) Begin() { sa.start(newExchange(sa.firstExchange())) }

func (sa *SA) ID() core.SAID                { return sa.id }
func (sa *SA) Peer() *core.Peer             { return sa.peer }
func (sa *SA) Identity() *core.Identity     { return sa.identity } // nil: not known yet
func (sa *SA) State() State                 { return sa.state }
func (sa *SA) Initiator() bool              { return sa.initiator }
func (sa *SA) Children() []*Child           { return sa.children }
func (sa *SA) Remote() netip.AddrPort       { return sa.remote }
func (sa *SA) Local() netip.AddrPort        { return sa.local }
func (sa *SA) InitiatorSPI() uint64         { return sa.spii }
func (sa *SA) Live() bool                   { return sa.state <= Established }
func (sa *SA) RemoteID() core.ID            { return sa.peerID }
func (sa *SA) String() string               { return fmt.Sprintf("%s[%d]", sa.peer.Name, sa.id) }
func (sa *SA) Created() time.Time           { return sa.created }
func (sa *SA) EstablishedAt() time.Time     { return sa.established }
func (sa *SA) Want(policies []*core.Policy) { sa.wanted = append(sa.wanted, policies...) }

// SPI is our own SPI, by which the peer's messages find the SA.
func (sa *SA) SPI() uint64 {
	if sa.initiator {
		return sa.spii
	}
	return sa.spir
}

// Info is a snapshot for people.
func (sa *SA) Info() core.SAInfo {
	in := core.SAInfo{ID: sa.id, Peer: sa.peer.Name, State: sa.state.String(), Initiator: sa.initiator, Resumed: sa.resumed != nil,
		Local: sa.local, Remote: sa.remote, NATT: sa.natt, SPIi: sa.spii, SPIr: sa.spir,
		LocalID: sa.myID, RemoteID: sa.peerID,
		Encr: sa.suite.Encr, PRF: sa.suite.PRF, Integ: sa.suite.Integ, Group: sa.suite.Group,
		Created: sa.created, Established: sa.established, LastSeen: sa.heard,
		TxPackets: sa.stats.txN, RxPackets: sa.stats.rxN, TxBytes: sa.stats.txB, RxBytes: sa.stats.rxB}
	for _, c := range sa.children {
		in.Children = append(in.Children, c.id)
	}
	in.Redirectable, in.Leaving = sa.Redirectable(), sa.Leaving()
	if sa.lease != nil {
		in.Leased, in.DNS = sa.lease.addrs, sa.lease.dns
	}
	return in
}

// event reports something about the SA.
func (sa *SA) event(k core.EventKind, format string, a ...any) {
	sa.emit(core.Event{Kind: k, Reason: fmt.Sprintf(format, a...)})
}

func (sa *SA) emit(e core.Event) {
	e.SA, e.Peer, e.Local, e.Remote, e.Initiator = sa.id, sa.peer.Name, sa.local, sa.remote, sa.initiator
	switch {
	case e.Exchange != "":
	case sa.answering != nil:
		e.Exchange = sa.answering.kind.name
	case sa.current != nil:
		e.Exchange = sa.current.kind.name
	}
	sa.env.Emit(e)
}

// Datagram handles a message whose SPIs are this SA's. raw is the SA's to keep.
func (sa *SA) Datagram(h message.Header, raw []byte, in core.Datagram) {
	if sa.state == Ended {
		return
	}
	first := h.Exchange == sa.firstWire()
	if h.SPIi != sa.spii || !first && h.SPIr != sa.spir {
		sa.bad(in, "the SPIs are of no IKE SA")
		return
	}
	sa.stats.rxN++
	sa.stats.rxB += uint64(len(raw))
	if h.FromInitiator() == sa.initiator {
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
	if err == nil && sa.keys.d == nil {
		err = dropped{"there are no keys yet"}
	}
	if err == nil && sa.lateIntermediate(raw, m, in) {
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
	sa.env.Traced(false, h, inner)
	if h.Response() {
		sa.response(h, inner, synErr, in)
		return
	}
	sa.request(h, inner, synErr, in)
}

// bad reports a message that could not be used. It costs an event, which
// whoever logs limits by rate; it never changes the SA.
func (sa *SA) bad(in core.Datagram, format string, a ...any) {
	sa.env.Emit(core.Event{Kind: core.EvBadMessage, SA: sa.id, Peer: sa.peer.Name,
		Local: in.Local, Remote: in.Remote, Reason: fmt.Sprintf(format, a...)})
}

// up is reached when IKE_AUTH is through, or at once for a successor.
func (sa *SA) up() {
	env := sa.env
	env.Timers.Stop(sa.timers.half)
	sa.become(Established)
	sa.established = env.Now()
	sa.init.wipe()
	sa.init = nil
	sa.keys.wipeProof()
	life := sa.peer.Profile.Lifetime
	sa.timers.soft = env.After(softLife(env, life), sa.rekeyDue)
	sa.timers.hard = env.After(life, func() { sa.hardEnd() })
	sa.watch()
	sa.keepalives()
}

// softLife is when to rekey: between 80 and 90 % of the lifetime, drawn anew
// each time so that two ends seldom begin together.
func softLife(env *core.Env, life time.Duration) time.Duration {
	return life*8/10 + env.Jitter(life/10)
}

// softBytes is the same of a lifetime in bytes; 0: no limit.
func softBytes(env *core.Env, life uint64) uint64 {
	return life - life/5 + env.Below(life/10)
}

func (sa *SA) hardEnd() {
	sa.Delete(fmt.Sprintf("the lifetime of %v ended before a rekey succeeded", sa.peer.Profile.Lifetime))
}

// Delete ends the SA in order: the peer is told, and the SA is gone once it
// answered or did not answer for too long.
func (sa *SA) Delete(why string) {
	switch {
	case sa.state >= Closing:
	case sa.state < Established:
		sa.end(false, "%s", why)
	default:
		sa.close(why)
	}
}

// end takes the SA away without a word to the peer.
func (sa *SA) end(fault bool, format string, a ...any) {
	if sa.state == Ended {
		return
	}
	if n := sa.successor; n != nil && sa.state == Established && n.state == Established {
		sa.replacedBy(n) // the peer's rekey is through, our own never will be
	}
	was := sa.state
	sa.become(Ended)
	for _, t := range []*core.Timer{sa.timers.half, sa.timers.soft, sa.timers.hard, sa.timers.dpd, sa.timers.keepalive, sa.auth.timer, sa.away.timer, sa.tickets.timer} {
		sa.env.Timers.Stop(t)
	}
	if x := sa.current; x != nil {
		sa.current = nil
		x.abandon()
	}
	sa.dropQueue()
	sa.dropParked()
	if x := sa.answering; x != nil {
		sa.answering = nil
		x.abandon()
	}
	if x := sa.between; x != nil {
		sa.between = nil
		x.abandon()
	}
	for _, c := range slices.Clone(sa.children) {
		c.end("its IKE SA ended")
	}
	sa.giveBack()
	sa.keys.wipe()
	sa.init.wipe()
	sa.dropSession()
	if r := sa.resumed; r != nil {
		r.d.Wipe()
		r.session.Wipe()
	}
	if was >= Established {
		sa.event(core.EvIKEDown, format, a...)
	}
	sa.owner.Ended(sa, fault)
	sa.settleContest(false)
}

// lower reports whether nonce a is lower than b (RFC 7296 §2.8.1).
func lower(a, b []byte) bool { return bytes.Compare(a, b) < 0 }

// lowest is the lower of an exchange's two nonces.
func lowest(a, b []byte) []byte {
	if lower(b, a) {
		return b
	}
	return a
}

// Rebind gives the SA its peer in a new configuration in which the peer is equal.
func (sa *SA) Rebind(p *core.Peer) {
	if i := slices.Index(sa.peer.Identities, sa.identity); i >= 0 && i < len(p.Identities) {
		sa.identity = p.Identities[i]
	}
	sa.peer = p
}

// InitFrom is where the IKE_SA_INIT request came from, as responder.
func (sa *SA) InitFrom() netip.AddrPort { return sa.initFrom }

// TakeWants takes over the policies that still wait for a CHILD SA.
func (sa *SA) TakeWants() []*core.Policy {
	w := sa.wanted
	sa.wanted = nil
	return w
}

// Successor is the IKE SA that took over at a rekey; nil before one.
func (sa *SA) Successor() *SA { return sa.adopter }
