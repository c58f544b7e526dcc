package sa

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"culvert/ike/core"
)

// State of an IKE SA.
type State uint8

const (
	Connecting  State = iota // we began it, and it is not up yet
	HalfOpen                 // the peer began it, and has not proved who it is
	Established              // up
	Expired                  // IKEv1: over, and its CHILD SAs live on (expired.go)
	Replaced                 // rekeyed; only deletion is left
	Closing                  // our delete is on its way
	Ended                    // gone
)

var stateNames = [...]string{"connecting", "half-open", "established", "expired", "rekeyed", "deleting", "ended"}

func (s State) String() string { return stateNames[s] }

// SA is one IKE SA. Its fields are for its Protocol to set and for its owner to read.
type SA struct {
	Env      *core.Env
	Protocol Protocol
	Owner

	ID    core.SAID
	Peer  *core.Peer
	State State
	Seat  int // the owner's: where it keeps the SA

	Initiator  bool   // we began it, or the rekey that made it
	SPIi, SPIr uint64 // in IKEv1 the cookies
	Path
	// Elsewhere is from where the peer's newest message came, if that is not where we send to: its NAT
	// gave it another port, and with MOBIKE the SA stays where it is until the peer notices and says so
	// (RFC 4555 §3.8). What goes to the old port is lost meanwhile. Zero: nothing of the kind.
	Elsewhere Path
	InitFrom  netip.AddrPort // as responder: where the first request came from
	InitSum   [32]byte       // and its hash
	NAT       NAT
	WantsUDP  bool // the peer wants ESP tunnels in UDP without a NAT, too
	Kin       bool // the peer is of our kind, and knows CHILD SAs for lines of the data path
	ForceUDP  bool // ESP does not arrive without UDP: the peer is made to believe in a NAT
	Told      bool // the peer says where it goes: no NAT moves it (RFC 4555 §3.8)
	Doubtful  bool // the peer says that it is where it is now, and has not answered from there: it gets no policy for that address

	Suite        core.Suite
	Identity     *core.Identity // of the configuration; nil: not known yet
	MyID, PeerID core.ID
	User         string // of Config.Users, who the peer has proved to be; "": it did not log in
	Birth        Birth
	Home         netip.Addr         // see settleHome
	Had          func(old *SA) bool // whether the peer has shown that it had another SA; nil: it has not

	Children []*Child
	Wanted   []*core.Policy // CHILD SAs to make, the first together with the SA
	Adopter  *SA            // the successor that took over the CHILD SAs at a rekey; nil before one
	Auth     Proof
	Resumed  bool          // from an earlier IKE SA, without a proof of its own
	Lease    *Lease        // nil: no inner address
	Leaving  bool          // the peer was sent to another gateway
	Lifetime time.Duration // which the ends agree on (IKEv1); 0: as the profile says

	Created, EstablishedAt, Heard time.Time
	Shown                         time.Time // when the peer first showed that it has the SA (IKEv1); zero: it has not
	Timers                        struct{ Half, Soft, Hard, dpd, keepalive *core.Timer }
	Stats                         struct {
		TxPackets, RxPackets, TxBytes, RxBytes uint64
		Passed                                 uint64 // payloads that the peer sent and nobody expected
	}

	ComesFrom netip.Addr // the gateway that sent us to this one
	Instead   string     // with what words another IKE SA ends, from which this one is made to take over; "": from none

	blocked   blocked
	hints     hints
	lines     map[core.PolicyRef]*lines // what is known of those that lines of the data path ask for
	client    uint64                    // see number; 0: not asked for yet
	contest   *contest                  // nil: nobody wants what it has
	serving   bool                      // what the owner was told last: see Tally
	quiet     bool                      // made by a rekey that has not replaced its predecessor, or replaced itself: its end is no event
	lingering int                       // CHILD SAs that are gone and still open what was under way
	span      span
	refusals  int            // of our rekeys of it
	first     core.PolicyRef // of the CHILD SA that was made together with it; 0: none was
	noChild   int            // how often the peer refused another one for that, in a row
}

// New makes an IKE SA that is Connecting. Its Protocol is still to be set.
func New(env *core.Env, owner Owner, peer *core.Peer, p Path) *SA {
	return &SA{Env: env, Owner: owner, ID: env.NewSAID(), Peer: peer, Path: p,
		Created: env.Now(), Heard: env.Now()}
}

// Successor makes the IKE SA that is to replace sa at a rekey: of the same peer, at the
// same path. Its Protocol is still to be set.
func (sa *SA) Successor() *SA {
	return &SA{Env: sa.Env, Owner: sa.Owner, ID: sa.Env.NewSAID(), Peer: sa.Peer,
		Path: sa.Path, NAT: sa.NAT, WantsUDP: sa.WantsUDP, Kin: sa.Kin, ForceUDP: sa.ForceUDP, blocked: sa.blocked, Told: sa.Told, Doubtful: sa.Doubtful, Identity: sa.Identity, MyID: sa.MyID, PeerID: sa.PeerID, User: sa.User,
		Created: sa.Env.Now(), Heard: sa.Env.Now(), quiet: true}
}

// Become goes over to another state.
func (sa *SA) Become(s State) {
	sa.State = s
	sa.Tally()
}

// Tally tells the owner where it changed whether the SA serves its peer.
func (sa *SA) Tally() {
	if yes := sa.State == Established && !sa.Leaving; yes != sa.serving {
		sa.serving = yes
		sa.Others.Serves(sa, yes)
	}
}

func (sa *SA) String() string { return fmt.Sprintf("%s[%d]", sa.Peer.Name, sa.ID) }

// SPI is our own SPI, by which the peer's messages find the SA.
func (sa *SA) SPI() uint64 {
	if sa.Initiator {
		return sa.SPIi
	}
	return sa.SPIr
}

// Info is a snapshot for people.
func (sa *SA) Info() core.SAInfo {
	in := core.SAInfo{ID: sa.ID, Peer: sa.Peer.Name, State: sa.State.String(), Initiator: sa.Initiator, Resumed: sa.Resumed,
		Local: sa.Local, Remote: sa.Remote, NATT: sa.NATT, NAT: sa.NAT.Supported && (sa.NAT.Local || sa.NAT.Remote), SPIi: sa.SPIi, SPIr: sa.SPIr,
		LocalID: sa.MyID, RemoteID: sa.PeerID, User: sa.User,
		Suite:   sa.Suite,
		Created: sa.Created, Established: sa.EstablishedAt, LastSeen: sa.Heard, Leaving: sa.Leaving,
		ESPBlocked: sa.blocked.now,
		TxPackets:  sa.Stats.TxPackets, RxPackets: sa.Stats.RxPackets, TxBytes: sa.Stats.TxBytes, RxBytes: sa.Stats.RxBytes}
	for _, c := range sa.Children {
		in.Children = append(in.Children, c.ID)
	}
	if sa.State == Established && sa.Timers.Soft != nil {
		in.RekeyAt = sa.Timers.Soft.Time()
	}
	if r, ok := sa.Protocol.(Redirecter); ok {
		in.Redirectable = r.Redirectable()
	}
	if sa.Lease != nil {
		in.Leased, in.DNS = sa.Lease.Addrs, sa.Lease.DNS
	}
	return in
}

// Event reports something about the SA.
func (sa *SA) Event(k core.EventKind, format string, a ...any) {
	sa.Emit(core.Event{Kind: k, Reason: fmt.Sprintf(format, a...)})
}

// Emit reports an event, of which it fills in what is the SA's.
func (sa *SA) Emit(e core.Event) {
	e.SA, e.Peer, e.Local, e.Remote, e.Initiator = sa.ID, sa.Peer.Name, sa.Local, sa.Remote, sa.Initiator
	if e.Exchange == "" {
		e.Exchange = sa.Protocol.Doing()
	}
	sa.Env.Emit(e)
}

// Up is for the protocol: the SA has its keys, and the peer is proven.
func (sa *SA) Up() {
	env := sa.Env
	env.Timers.Stop(sa.Timers.Half)
	sa.Become(Established)
	sa.EstablishedAt = env.Now()
	life := cmp.Or(sa.Lifetime, sa.Peer.Profile.Lifetime)
	soft := softLife(env, life)
	sa.span = newSpan(env.Now(), soft, life)
	sa.Timers.Soft = env.After(soft, sa.RekeyDue)
	sa.Timers.Hard = env.After(life, func() {
		if d, ok := sa.Protocol.(Detached); ok {
			d.Leave(true)
			Expire(sa, "its lifetime of %v ended", life)
			return
		}
		sa.Delete(fmt.Sprintf("the lifetime of %v ended before a rekey succeeded", life))
	})
	sa.watch()
	sa.Keepalives()
}

// RekeyDue is the end of the soft lifetime.
func (sa *SA) RekeyDue() {
	if sa.State == Established {
		sa.Protocol.Rekey()
	}
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

// RekeyWait is how long to wait before the next attempt at a rekey, of which the peer
// has refused so many: longer from the fourth on. Both ends may have begun at once, and
// draw when to try again.
func RekeyWait(env *core.Env, refusals int) time.Duration {
	return core.RetryWait(max(refusals-2, 1)) + env.Jitter(2*time.Second)
}

// Delete ends the SA in order: the peer is told, and the SA is gone once it
// answered or did not answer for too long.
func (sa *SA) Delete(why string) {
	switch {
	case sa.State >= Closing:
	case sa.State < Established:
		sa.End(false, "%s", why)
	default:
		sa.close(why)
	}
}

// close tells the peer that the IKE SA ends and ends it.
func (sa *SA) close(why string) {
	sa.Become(Closing)
	each(sa, feature.rest)
	for _, c := range sa.Children { // the peer will not open what comes after the Delete
		if c.Closing {
			continue
		}
		c.Closing = true
		sa.Env.Emit(core.Retire{Child: c.ID})
		if other := c.replacement(); other != nil {
			other.Activate()
		}
	}
	sa.Protocol.Close(why, true)
}

// lifetimes are how long the SA may be half-open, and how long it lasts.
type lifetimes struct {
	idle
	sa *SA
}

func (l lifetimes) rest() {
	for _, t := range []*core.Timer{l.sa.Timers.Half, l.sa.Timers.Soft, l.sa.Timers.Hard} {
		l.sa.Env.Timers.Stop(t)
	}
}

// Depose ends an IKE SA at once in favour of another one. The peer is told, in case
// that it is alive. Nobody waits for the answer: who connects faster than a Delete
// is given up must not be kept for that.
func (sa *SA) Depose(format string, a ...any) {
	if sa.State == Established {
		sa.Protocol.Close("", false)
	}
	sa.End(false, format, a...)
}

// End takes the SA away. The peer is not told. fault: something went wrong.
func (sa *SA) End(fault bool, format string, a ...any) {
	if sa.State == Ended {
		return
	}
	was := sa.State
	sa.Protocol.Stop()
	sa.Become(Ended)
	each(sa, feature.rest)
	for _, c := range slices.Clone(sa.Children) {
		c.End("its IKE SA ended")
	}
	each(sa, feature.end)
	if was >= Established && !sa.quiet {
		sa.Event(core.EvIKEDown, format, a...)
	}
	sa.Keeper.Ended(sa, fault)
	each(sa, feature.ended)
}

// replacedLife is how long a replaced SA waits for the peer's Delete.
const replacedLife = time.Minute

// Redundant waits for the peer to delete an SA that was replaced or lost a
// collision. If the peer never got our response to the rekey, it never made the
// SA, and nothing will come.
func (sa *SA) Redundant() {
	if sa.State != Established {
		return
	}
	sa.Become(Replaced)
	each(sa, feature.rest)
	sa.Timers.Hard = sa.Env.After(replacedLife, func() {
		const why = "replaced, and the peer did not delete it"
		if _, ok := sa.Protocol.(Detached); ok { // its peer may count on it as well, and hears nothing from it
			sa.Delete(why)
			return
		}
		sa.End(false, why)
	})
}

// ReplacedBy is for the protocol: n was made by a rekey of sa and has all that lives on
// from now on.
func (sa *SA) ReplacedBy(n *SA) {
	n.Birth, n.client, n.Home, n.first, n.Instead = sa.Birth, sa.client, sa.Home, sa.first, sa.Instead
	each(sa, func(f feature) { f.passTo(n) })
	sa.Adopter = n
	sa.Redundant()
	for _, c := range sa.Children {
		c.SA = n
		n.Children = append(n.Children, c)
	}
	sa.Children = nil
	n.Wanted = append(n.Wanted, sa.Wanted...)
	sa.quiet, n.quiet = true, false
	n.Emit(core.Event{Kind: core.EvIKERekeyed, Old: sa.ID, Reason: n.Suite.IKEText()})
}

// Name notes who the peer says that it is.
func (sa *SA) Name(id core.ID) {
	was := sa.PeerID
	sa.PeerID = id
	sa.Others.Named(sa, was)
}

// Rebind gives the SA its peer in a new configuration in which the peer is equal.
func (sa *SA) Rebind(p *core.Peer) {
	if i := slices.Index(sa.Peer.Identities, sa.Identity); i >= 0 && i < len(p.Identities) {
		sa.Identity = p.Identities[i]
	}
	sa.Peer = p
}

// Newest is what the SA has become by rekeys.
func (sa *SA) Newest() *SA {
	for sa.Adopter != nil {
		sa = sa.Adopter
	}
	return sa
}

// TakeWants takes over the policies that still wait for a CHILD SA.
func (sa *SA) TakeWants() []*core.Policy {
	w := sa.Wanted
	sa.Wanted = nil
	return w
}
