package v1

import (
	"fmt"
	"time"

	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// SA is the IKEv1 of one IKE SA: its phase 1, and the exchanges of phase 2 under it. It is the Protocol
// of base, which has what an IKE SA is in any version.
type SA struct {
	base  *ikesa.SA
	owner Owner

	exchange message.ExchangeType // by which phase 1 goes
	keys     keys
	last     []byte   // the last ciphertext block of phase 1
	lowNonce []byte   // of phase 1, to settle which of two SAs goes that both ends began
	first    flight   // of phase 1; the last message stays, in case that it is asked for again
	repeats  bool     // it is repeated until the peer shows that it has it
	unsaid   bool     // the peer was not told how long phase 1 lives
	left     bool     // it is over, and for a moment hears what the peer deletes
	heard    bool     // the peer has said something of phase 2
	phase1   *phase1  // nil once it is through
	setup    *setup   // what follows it; nil once the SA is up
	peer     features // what the peer can do
	dpd      dpd
	parts    fragments // of the peer's message

	exchanges map[uint32]*exchange // of phase 2 that are under way or were a moment ago, by message ID
	used      usedIDs

	complaints complaints
}

// Owner is the endpoint, as far as IKEv1 needs more of it than every version does.
type Owner interface {
	ikesa.Newcomers
	// Redirected says that the peer of sa, which is established or about to end, sends us to another gateway, and which policies
	// want a CHILD SA there.
	Redirected(sa *ikesa.SA, to core.Gateway, wanted []*core.Policy)
}

// The names of package sa, of which IKEv1 is full.
type Child = ikesa.Child

// The states of an IKE SA.
const (
	Connecting  = ikesa.Connecting
	HalfOpen    = ikesa.HalfOpen
	Established = ikesa.Established
	Closing     = ikesa.Closing
	Ended       = ikesa.Ended
)

// halfOpenLife is how long a responder waits for the end of phase 1.
const halfOpenLife = 30 * time.Second

// Initiate makes an IKE SA as initiator (ikesa.Initiate). The wanted policies get their CHILD SAs once
// it is up. The caller puts the SA under its SPI and then calls Begin.
func Initiate(env *core.Env, common ikesa.Owner, owner Owner, peer *core.Peer, p ikesa.Path, wanted []*core.Policy) *SA {
	sa := newSA(ikesa.Initiate(env, common, peer, p, wanted), owner)
	sa.exchange = Exchanges[peer.Mode]
	return sa
}

func newSA(base *ikesa.SA, owner Owner) *SA {
	sa := &SA{base: base, owner: owner, exchanges: map[uint32]*exchange{}}
	sa.first.sa, sa.dpd.sa, sa.parts.sa = sa, sa, sa
	sa.phase1 = newPhase1(sa)
	base.Protocol = sa
	return sa
}

// Exchanges are those that phase 1 goes by.
var Exchanges = map[core.Mode]message.ExchangeType{core.ModeMain: isakmp.ExchangeMain, core.ModeAggressive: isakmp.ExchangeAggressive, core.ModeBase: isakmp.ExchangeBase}

// Base is what it is in any version.
func (sa *SA) Base() *ikesa.SA { return sa.base }

// --- ikesa.Protocol; quickmode.go, delete.go and dpd.go have the exchanges ---

// Begin sends the first message of an SA made by Initiate.
func (sa *SA) Begin() { sa.phase1.begin() }

// Again is the message that a half-open SA began with, once more.
func (sa *SA) Again(in core.Datagram) {
	sa.base.Stats.RxPackets++
	sa.base.Stats.RxBytes += uint64(len(in.Data))
	sa.first.repeated(in.Data, in)
}

// Doing names what is under way.
func (sa *SA) Doing() string {
	switch {
	case sa.phase1 != nil:
		return sa.exchange.String()
	case sa.setup != nil:
		return sa.setup.doing
	}
	for _, x := range sa.exchanges {
		if x.quick != nil && !x.over {
			return "quick mode"
		}
	}
	return ""
}

// Rekey has a new phase 1 made that takes over. It is done only with DPD, as the manual says: without it a
// peer that is gone would be called for ever. A road warrior does it itself.
func (sa *SA) Rekey() {
	if sa.base.State == ikesa.Expired && sa.base.Peer.Initiates() {
		sa.base.Keeper.Reauthenticate(sa.base)
	}
	if sa.base.State == Established && sa.base.Peer.Profile.DPD > 0 && !serves(sa) {
		sa.base.Keeper.Reauthenticate(sa.base)
	}
}

// serves reports whether the peer is a road warrior: it connects, and makes phase 1 anew.
func serves(sa *SA) bool {
	x := sa.base.Identity.XAuth
	return sa.base.Lease.Given() || x != nil && x.Asks
}

// Detached reports whether the peer is known to have the SA (ikesa.Detached): our last message of phase 1 may be lost. What it says
// in phase 2 shows that it has it, and else its answer to R-U-THERE. One without DPD has it when we stop repeating ourselves.
func (sa *SA) Detached() (known bool) {
	switch {
	case sa.heard, sa.base.Initiator && sa.exchange == isakmp.ExchangeMain: // message 6 of main mode is the peer's
		return true
	case sa.peer.dpd:
		sa.dpd.ask()
		return false
	}
	return !sa.repeats
}

// ChildGone gives up nothing: an exchange that replaces a CHILD SA makes one of its own.
func (sa *SA) ChildGone(*Child) {}

// Leave gives up all exchanges (ikesa.Detached), and wipes the keys a moment later. Where both ends know the lifetime, nothing is said:
// some peers take a DELETE of phase 1 for the end of its CHILD SAs too. An initiator that said a longer lifetime would go on to speak by
// what is over here.
func (sa *SA) Leave(lifetime bool) {
	if sa.left {
		return
	}
	if lifetime && sa.unsaid {
		sa.inform(sa.deleteOfPhase1())
	}
	sa.left = true
	rest(sa)
	sa.base.Env.After(ikesa.Fading, sa.Stop)
}

// Stop gives up all exchanges and wipes the keys.
func (sa *SA) Stop() {
	rest(sa)
	sa.parts.forget()
	sa.keys.wipe()
}

// rest ends what is under way.
func rest(sa *SA) {
	sa.first.stop()
	if sa.phase1 != nil {
		sa.phase1.end()
		sa.phase1 = nil
	}
	if sa.setup != nil {
		sa.setup.end()
		sa.setup = nil
	}
	for _, x := range sa.sorted() {
		sa.conclude(x)
	}
}

// Datagram handles a message whose SPIs are this SA's. raw is the SA's to keep.
func (sa *SA) Datagram(raw []byte, in core.Datagram) {
	if sa.base.State == Ended {
		return
	}
	m, err := isakmp.Parse(raw)
	switch {
	case err == nil && sa.left && (!sa.keys.made() || m.Exchange != isakmp.ExchangeInformational && m.Next != isakmp.TypeFragment):
		sa.bad(in, "%v, and phase 1 is over", m.Exchange)
		return
	case err != nil:
		sa.bad(in, "%v", err)
		return
	case !addressed(sa, m):
		sa.bad(in, "the cookies are of no IKE SA")
		return
	}
	sa.base.Stats.RxPackets++
	sa.base.Stats.RxBytes += uint64(len(raw))
	defer sa.weigh()
	if m.Next == isakmp.TypeFragment {
		whole, err := sa.parts.take(m)
		if err == nil && whole != nil {
			raw = whole
			m, err = sa.parts.read(raw)
		}
		if err != nil {
			sa.bad(in, "%v", err)
		}
		if err != nil || whole == nil {
			return
		}
	}
	switch m.Exchange {
	case sa.exchange:
		err = sa.phase1Message(m, raw, in)
	case isakmp.ExchangeQuick, isakmp.ExchangeInformational, isakmp.ExchangeTransaction:
		err = sa.phase2Message(m, raw, in)
	default:
		err = drop("exchange type %d is not handled here", m.Exchange)
	}
	if err != nil {
		sa.bad(in, "%v", err)
	}
}

// addressed reports whether a message has the cookies of this SA, as far as they are known.
func addressed(sa *SA, m *isakmp.Message) bool {
	b := sa.base
	return m.SPIi == b.SPIi && (m.SPIr == b.SPIr || b.Initiator && b.SPIr == 0)
}

// bad reports a message that could not be used. It never changes the SA.
func (sa *SA) bad(in core.Datagram, format string, a ...any) {
	sa.base.Env.Emit(core.Event{Kind: core.EvBadMessage, SA: sa.base.ID, Peer: sa.base.Peer.Name,
		Local: in.Local, Remote: in.Remote, Reason: fmt.Sprintf(format, a...)})
}

// Estimates, in bytes, of what a half-open SA keeps.
const (
	bareWeight = 4700
	certWeight = 8 // a certificate that was read, for each byte of it
)

// weigh tells the endpoint how many bytes a half-open SA keeps.
func (sa *SA) weigh() {
	if sa.base.State != HalfOpen {
		return
	}
	n := bareWeight + sa.parts.got.Kept()
	for _, raw := range sa.first.said {
		n += cap(raw)
	}
	if p := sa.phase1; p != nil {
		n += cap(p.sai) + cap(p.ni) + cap(p.nr) + 3*cap(p.ke.own) + 2*cap(p.ke.peer) + cap(p.peerID) + len(p.cas)*len(auth.KeyHash{})
		for _, e := range p.early {
			n += cap(e.raw)
		}
		for _, c := range p.certs {
			n += certWeight * len(c.Raw)
		}
	}
	sa.owner.Weigh(sa.base, n)
}

// renews has an SA that the peer began replace those that the same device had: in IKEv1 that is a rekey. Where we began one a moment
// ago, the peer may have begun before it knew of that, since a first message is repeated as long as it is not answered. Then
// the peer knows that they are twins, and deletes its own if that is the one that goes: we wait for that first.
func (sa *SA) renews() {
	b := sa.base
	for _, s := range b.Others.Namesakes(b) {
		if s.State != Established || succeeds(b, s) {
			continue
		}
		replace := func() {
			if b.State == Established && s.State == Established && b.SameDevice(s) && !b.Birth.Twin(s.Birth) {
				s.ReplacedBy(b)
			}
		}
		if s.Birth.Mine && b.Created.Before(s.EstablishedAt.Add(core.TimeToGiveUp)) {
			b.Env.After(renewsAfter, replace)
			continue
		}
		replace()
	}
}

// succeeds reports whether we are making an SA of our own that is to replace s: then that and n, which the peer began meanwhile, are
// twins, of which one goes.
func succeeds(n, s *ikesa.SA) bool {
	if !n.Peer.Initiates() {
		return false // a hundred thousand road warriors are of one peer, and we begin none of their SAs
	}
	for x := range n.Others.Siblings(n) {
		if x.Initiator && x.Instead != "" && x != s && x.State <= Established && x.Remote.Addr() == s.Remote.Addr() && x.Created.After(s.EstablishedAt) {
			return true
		}
	}
	return false
}

// renewsAfter is how long we wait for the peer's DELETE.
const renewsAfter = 3 * ikesa.TwinDelay

// up is reached when all is through: both ends have proved who they are, and what we asked for is there.
func (sa *SA) up(contact bool) {
	mine, base := sa.base.Initiator, sa.base
	base.Up()
	base.Birth = ikesa.Birth{Mine: mine, Begun: base.Created, Up: base.EstablishedAt, LowNonce: sa.lowNonce, Renews: true}
	base.Proved(mine)
	if mine && sa.exchange == isakmp.ExchangeMain { // message 6 is the peer's
		shown(sa)
	}
	user := ""
	if base.User != "" {
		user = fmt.Sprintf(", user %q", base.User)
	}
	base.Event(core.EvIKEUp, "%s%s, we are %s, IKEv1, %s", base.PeerID, user, base.MyID, base.Suite.IKEText())
	if !mine {
		sa.renews()
		base.BoundSame()
	}
	if contact {
		base.InitialContact()
	}
	if base.Lease.Leased() {
		ikesa.LeaseProven(base, mine)
	}
	base.Keeper.Established(base)
	push(sa)
}
