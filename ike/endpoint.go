package ike

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/ike/v2"
)

// Endpoint holds all IKE SAs. It is not safe for concurrent use; it never
// blocks; it knows the time only from its inputs.
type Endpoint struct {
	env       *core.Env
	cfg       *core.Config
	bySPI     map[uint64]*ikesa.SA
	others    siblings
	strangers strangers // as responder, until IKE_AUTH is through
	guesses   ikesa.Guesses
	peers     peerIndex
	children  map[core.ChildID]*ikesa.Child
	sendsWith map[uint32][]*ikesa.Child // by the SPI that they send with
	hinted    hintLimit
	wants     map[core.PolicyRef]*want
	at        map[string][]netip.Addr   // where peers with DNS names are
	resolving map[string][]*core.Policy // peers whose local address was asked for
	races     races                     // attempts at several addresses of a peer
	inUDP     map[string]bool           // peers that ESP reaches in UDP alone, by name
	cookies   cookieJar
	replacing replacing
	redirects redirects // peers that sent us elsewhere
	tickets   v2.TicketJar
	sessions  sessions       // of peers whose IKE SA was lost, to be resumed
	addrs     []netip.Addr   // of this host
	nets      []netip.Prefix // of this host, which nobody may claim
	finals    finals
	versions  versions
	down      bool // Shutdown was commanded

	wanted   []*core.Policy // what wants has: the policies of the table and dials
	policies policies
}

// New makes an endpoint whose randomness comes from the seed alone. It does
// nothing before its first Reconfigure.
func New(seed [32]byte) *Endpoint {
	e := &Endpoint{env: core.NewEnv(seed), cfg: &core.Config{},
		bySPI: map[uint64]*ikesa.SA{}, others: newSiblings(), strangers: newStrangers(),
		replacing: map[core.SAID]*ikesa.SA{}, redirects: map[string]*redirect{}, sessions: map[string]*v2.Session{}, at: map[string][]netip.Addr{}, races: races{}, inUDP: map[string]bool{}, finals: finals{}, children: map[core.ChildID]*ikesa.Child{}, sendsWith: map[uint32][]*ikesa.Child{}, wants: map[core.PolicyRef]*want{}, resolving: map[string][]*core.Policy{}}
	e.policies = policies{env: e.env, others: &e.others, made: map[core.PolicyRef]*made{}, madeBy: map[string]core.PolicyRef{}}
	e.versions.rows = []*version{ikev1(), ikev2()}
	e.env.Taken = func(spi uint64) bool { return e.bySPI[spi] != nil }
	return e
}

// Handle takes one input at time now. Outputs wait for Poll.
func (e *Endpoint) Handle(now time.Time, in core.Input) {
	e.env.SetNow(now)
	switch in := in.(type) {
	case core.Datagram:
		e.datagram(in)
	case core.Acquire:
		e.acquire(in)
	case core.Expire:
		if c := e.children[in.Child]; c != nil && in.Hard {
			c.HardEnd("its bytes or sequence numbers are used up")
		} else if c != nil {
			c.Rekey()
		}
	case core.Used:
		if c := e.children[in.Child]; c != nil {
			c.Confirm()
			c.SA.HearESP()
		}
	case core.Alive:
		if c := e.children[in.Child]; c != nil {
			c.SA.HearESP()
		}
	case core.Unanswered:
		if c := e.children[in.Child]; c != nil {
			c.Unanswered()
		}
	case core.Silent:
		if c := e.children[in.Child]; c != nil {
			ikesa.Silence.About(c.SA)
		}
	case core.Busy:
		if c := e.children[in.Child]; c != nil {
			c.Busy(in.Line)
		}
	case core.UnknownSPI:
		tellUnknownSPI(e, in)
	case core.Woke:
		woke(e)
	case core.Moved:
		if c := e.children[in.Child]; c != nil {
			c.Moved(in.Local, in.Remote)
		}
	case core.PathClaim:
		if c := e.children[in.Child]; c != nil {
			if p, ok := c.SA.Protocol.(ikesa.Prober); ok {
				p.CheckPath(in.MTU)
			}
		}
	case core.PathUntried:
		if c := e.children[in.Child]; c != nil {
			if p, ok := c.SA.Protocol.(ikesa.Prober); ok {
				p.MeasurePath(in.MTU)
			}
		}
	case core.LocalAddrs:
		e.addrs = in.Addrs
		for _, sa := range sorted(e.bySPI) {
			if r, ok := sa.Protocol.(ikesa.Roamer); ok {
				r.AddrsChanged()
			}
		}
		lookForWays(e)
	case core.RoutesChanged:
		lookForWays(e)
	case core.LocalNets:
		e.nets = in.Nets
	case core.Answer:
		e.env.Answered(in)
	case core.SPIs:
		e.env.AddSPIs(in.SPIs)
	case core.Reconfigure:
		e.reconfigure(in.Config)
	case core.TicketKeys:
		e.tickets.Take(e.env, in.Keys)
	case core.Command:
		e.command(in)
	case core.Tick:
	}
	e.env.Timers.Run(now)
	e.makeRoom()
}

// Poll takes the next output, in the order in which things are to be done.
func (e *Endpoint) Poll() (core.Output, bool) { return e.env.Poll() }

// Deadline is when Handle wants to be called at the latest.
func (e *Endpoint) Deadline() (time.Time, bool) { return e.env.Timers.Next() }

// SAs lists the IKE SAs in the order in which they were made.
func (e *Endpoint) SAs() []core.SAInfo {
	var out []core.SAInfo
	for _, sa := range e.bySPI {
		out = append(out, sa.Info())
	}
	slices.SortFunc(out, func(a, b core.SAInfo) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Idle reports whether no IKE SA is left.
func (e *Endpoint) Idle() bool { return len(e.bySPI) == 0 }

func (e *Endpoint) datagram(d core.Datagram) {
	h, err := message.ParseHeader(d.Data)
	if err != nil {
		e.bad(d, "%v", err)
		return
	}
	v := e.versions.of(core.Version(h.Major()))
	if v == nil {
		otherVersion(e, h, d)
		return
	}
	if v.first(h) {
		e.newcomer(v, h, d)
		return
	}
	spi := v.ours(e, h)
	sa := e.bySPI[spi]
	if sa == nil {
		if e.finals.answer(e.env, v, spi, h, d.Data) {
			return
		}
		if !hinted(e, v, h, d) {
			e.bad(d, "%v for an IKE SA that does not exist", h.Exchange)
			tellUnknownSA(e, v, h, d)
		}
		return
	}
	if sa.Peer.Version != v.number {
		e.bad(d, "version %d of IKE, and the IKE SA is of version %d", v.number, sa.Peer.Version)
		return
	}
	sa.Protocol.Datagram(bytes.Clone(d.Data), d)
	e.races.heard(e, sa)
}

// newcomer is a message that an IKE SA begins with, of somebody we may never have
// heard of.
func (e *Endpoint) newcomer(v *version, h message.Header, d core.Datagram) {
	if sa := e.strangers.half[halfKey{h.SPIi, d.Remote, sha256.Sum256(d.Data)}]; sa != nil {
		sa.Protocol.Again(d)
		return
	}
	if v.impossible(h) {
		e.bad(d, "a first message of %v with an impossible header", h.Exchange)
		return
	}
	if sa := e.bySPI[h.SPIi]; sa != nil && sa.Initiator && sa.SPIi == h.SPIi {
		e.bad(d, "%v", ikesa.ErrReflected)
		return
	}
	if e.down {
		e.bad(d, "this gateway stops and takes nobody in")
		return
	}
	peer := v.peer(e, h, d)
	if peer == nil {
		e.bad(d, "%s", noPeer(&e.peers, v.number, d.Local.Addr(), d.Remote.Addr()))
		return
	}
	away, pressed := e.fullFor(peer), e.strangers.pressed(e.cfg, e.env.Now())
	if (away || pressed) && v.spare != nil && v.spare(e, peer, h, d, away, pressed) {
		return
	}
	if !e.admit(d, pressed) {
		return
	}
	if err := v.accept(e, peer, h, d); err != nil {
		e.bad(d, "%v", err)
		e.strangers.gaveUp(e.env.Now())
	}
}

func limit(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

func (e *Endpoint) bad(d core.Datagram, format string, a ...any) {
	e.env.Emit(core.Event{Kind: core.EvBadMessage, Local: d.Local, Remote: d.Remote, Reason: fmt.Sprintf(format, a...)})
}

// common is what an IKE SA of any version asks of the endpoint; the endpoint itself is ikesa.Newcomers and v2.Owner.
func (e *Endpoint) common() ikesa.Owner {
	return ikesa.Owner{Host: e, Others: &e.others, Keeper: e, Policies: &e.policies, Guesses: &e.guesses}
}

// Weigh counts anew how many bytes a half-open SA keeps.
func (e *Endpoint) Weigh(sa *ikesa.SA, bytes int) { e.strangers.weigh(sa, bytes) }

// Config is the configuration in force.
func (e *Endpoint) Config() *core.Config { return e.cfg }

// Addrs are the addresses that this host now has.
func (e *Endpoint) Addrs() []netip.Addr { return e.addrs }

// Nets are the addresses and networks that are this host's.
func (e *Endpoint) Nets() []netip.Prefix { return e.nets }

// Adopt takes in an SA: one that a stranger began, or a successor.
func (e *Endpoint) Adopt(sa *ikesa.SA) {
	e.bySPI[sa.SPI()] = sa
	e.others.add(sa)
	if sa.State == ikesa.HalfOpen {
		e.strangers.add(sa)
	}
}

// Established notes that an IKE SA is up: its peer is not a stranger any more.
func (e *Endpoint) Established(sa *ikesa.SA) {
	e.strangers.remove(sa)
	e.sessions.drop(sa.Peer.Name)
	if !sa.Initiator {
		for _, p := range e.wanted {
			if p.Peer == sa.Peer {
				e.wants[p.Ref].forgive(e.env)
			}
		}
	}
	e.settleTwinsLater(sa, 0)
	ikesa.Gather(sa)
	e.inherit(sa, 0)
	e.fill(sa)
}

// Ended forgets an IKE SA. A fault is followed by another attempt.
func (e *Endpoint) Ended(sa *ikesa.SA, fault bool) {
	delete(e.bySPI, sa.SPI())
	if e.strangers.remove(sa) {
		e.strangers.gaveUp(e.env.Now())
	}
	e.replacing.rekeyed(sa)
	old := e.replacing[sa.ID]
	delete(e.replacing, sa.ID)
	e.others.remove(sa)
	if fault {
		defer unanswered(old, sa)
	}
	e.redirects.failed(sa, fault)
	if e.races.ended(e, sa, fault) {
		return
	}
	if sa.Initiator || !sa.EstablishedAt.IsZero() { // what a stranger began and did not finish is no loss
		e.lost(sa.Peer, fault)
	}
}

// ChildMade notes a CHILD SA that was installed.
func (e *Endpoint) ChildMade(c *ikesa.Child) {
	e.children[c.ID] = c
	e.sendsWith[c.SPIOut] = append(e.sendsWith[c.SPIOut], c)
	if m := e.policies.made[c.Policy.Ref]; m != nil {
		if m.children++; c.Line == 0 {
			m.newest = c.ID
		}
	}
	if w := e.wants[c.Policy.Ref]; w != nil {
		if c.Line == 0 {
			w.newest = c.ID
			w.satisfied(e.env)
		}
		return
	}
	if c.Policy.Made != nil && keeps(e.cfg, nil, c.Policy) != nil {
		return
	}
	// The configuration changed while it was made. The peer gets to know it first.
	e.env.After(0, func() { c.Delete("its policy was changed or removed in the configuration") })
}

// ChildGone forgets a CHILD SA that was removed.
func (e *Endpoint) ChildGone(c *ikesa.Child) {
	delete(e.children, c.ID)
	if list := slices.DeleteFunc(e.sendsWith[c.SPIOut], func(d *ikesa.Child) bool { return d == c }); len(list) > 0 {
		e.sendsWith[c.SPIOut] = list
	} else {
		delete(e.sendsWith, c.SPIOut)
	}
	if m := e.policies.made[c.Policy.Ref]; m != nil {
		m.children--
	}
}

// settleTwins closes one of two IKE SAs that both ends began at once (see
// sa/twins.go). It waits until the peer has both and until the other one carries
// all the CHILD SAs.
func (e *Endpoint) settleTwins(sa *ikesa.SA, tries int) {
	sa = sa.Newest()
	if sa.State != ikesa.Established {
		return
	}
	for _, s := range e.others.Namesakes(sa) {
		if s.State != ikesa.Established || !sa.Birth.Twin(s.Birth) {
			continue
		}
		loser, winner := sa, s
		if s.Birth.YieldsTo(sa.Birth) {
			loser, winner = s, sa
		}
		switch {
		case !loser.Birth.Mine && tries < twinPatience: // the peer is to delete it
			e.settleTwinsLater(sa, tries+1)
		case !winner.Confirmed() || !winner.TakeOver(loser):
			e.settleTwinsLater(sa, tries+1)
		default:
			why := "both ends connected at once, and the peer's IKE SA stays"
			if !loser.Birth.Mine {
				why = "both ends connected at once, and the peer did not delete its own IKE SA"
			}
			loser.Delete(why)
		}
		return
	}
}

// twinPatience is after how many tries one of two twins goes that the peer should have deleted: it
// does not know which one has to go.
const twinPatience = maxTwinTries - 10

// maxTwinTries is how often one twin tries to take over from the other: for
// longer than the peer may take to hear that both are up. A peer that does not
// let it keeps both.
const maxTwinTries = 30

func (e *Endpoint) settleTwinsLater(sa *ikesa.SA, tries int) {
	if tries < maxTwinTries && sa.Peer.Initiates() { // else only the other end begins
		e.env.After(ikesa.TwinDelay, func() { e.settleTwins(sa, tries) })
	}
}

// --- configuration and commands ---

// reconfigure goes over to a new configuration. SAs whose peer and policies are
// equal in it stay as they are; others are deleted.
func (e *Endpoint) reconfigure(cfg *core.Config) {
	e.cfg = cfg
	e.others.shared = sharedSecrets(cfg)
	e.peers = indexPeers(cfg.Peers, e.at)
	clear(e.redirects)
	clear(e.inUDP)
	e.tickets.Trusting(cfg.Trust)
	peers := map[string]*core.Peer{}
	for _, p := range cfg.Peers {
		peers[p.Name] = p
	}
	policies := map[core.PolicyRef]*core.Policy{}
	e.wanted = append(slices.Clone(cfg.Policies), e.policies.dial(cfg)...)
	for _, p := range e.wanted {
		policies[p.Ref] = p
	}
	for _, sa := range sorted(e.bySPI) {
		p := peers[sa.Peer.Name]
		if p == nil || p != sa.Peer && !reflect.DeepEqual(p, sa.Peer) {
			sa.Delete("its peer was changed or removed in the configuration")
			continue
		}
		if sa.Rebind(p); sa.User != "" && cfg.Users[sa.User] == nil {
			sa.Delete("its user was removed in the configuration")
			continue
		}
		for _, c := range slices.Clone(sa.Children) {
			if pol := keeps(cfg, policies, c.Policy); pol != nil {
				c.Policy = pol
			} else {
				c.Delete("its policy was changed or removed in the configuration")
			}
		}
	}
	for name := range e.sessions {
		if p := peers[name]; p == nil || !p.Profile.Resumption {
			e.sessions.drop(name)
		}
	}
	for ref, w := range e.wants {
		if policies[ref] == nil {
			e.env.Timers.Stop(w.timer)
			delete(e.wants, ref)
		}
	}
	e.env.Stock()
	for _, p := range cfg.Peers {
		e.follow(p)
	}
	for _, p := range e.wanted {
		w := e.wants[p.Ref]
		if w == nil {
			w = &want{}
			e.wants[p.Ref] = w
		}
		w.policy = p
		w.forgive(e.env)
		if !p.Peer.OnDemand {
			e.ensure(p, nil)
		}
	}
}

// sorted lists SAs in the order in which they were made, so that outputs
// come in the same order for the same inputs.
func sorted(bySPI map[uint64]*ikesa.SA) []*ikesa.SA {
	return slices.SortedFunc(maps.Values(bySPI), func(a, b *ikesa.SA) int { return cmp.Compare(a.ID, b.ID) })
}

func (e *Endpoint) command(c core.Command) {
	if c.Do == core.Shutdown {
		e.down = true
		for _, w := range e.wants {
			e.env.Timers.Stop(w.timer)
			w.timer = nil
		}
	}
	if c.Do == core.Shutdown {
		e.tickets.Rest(e.env)
	}
	if c.Do == core.Shutdown || c.Do == core.KillAll {
		for name := range e.sessions {
			e.sessions.drop(name)
		}
	}
	for _, sa := range sorted(e.bySPI) {
		if c.SA != 0 && sa.ID != c.SA {
			continue
		}
		switch c.Do {
		case core.KillSA, core.KillAll:
			sa.Delete("by command")
		case core.Shutdown:
			sa.Delete("this gateway stops")
		case core.RekeyIKE:
			sa.Protocol.Rekey()
		case core.RedirectPeers:
			if r, ok := sa.Protocol.(ikesa.Redirecter); ok && r.Redirectable() && (c.Peer == "" || c.Peer == sa.Peer.Name) {
				r.Redirect(c.To, c.Within)
			}
		case core.FlushSAs, core.RekeyChildren:
			for _, k := range slices.Clone(sa.Children) {
				if c.Do == core.FlushSAs {
					k.Delete("flushed by command")
				} else {
					k.Rekey()
				}
			}
		}
	}
}
