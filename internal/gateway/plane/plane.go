package plane

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"culvert/esp"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/underlay"
	"culvert/sad"
	"culvert/spd"
	"culvert/tun"
)

// Endpoint is IKE as the plane drives it: ike.Endpoint.
type Endpoint interface {
	Handle(now time.Time, in core.Input)
	Poll() (core.Output, bool)
	Deadline() (time.Time, bool)
	SAs() []core.SAInfo
	Holds() []core.Hold
	Idle() bool // no IKE SA is left
}

// Config is what a Plane works with. Serve and Event are called from
// within Input. An Ask is answered by Answer, from any goroutine and also from
// within Serve.
type Config struct {
	Endpoint Endpoint
	Conn     underlay.Conn
	Device   tun.Device
	Clear    underlay.Clear
	DSCP     *uint8 // see datapath.Config
	DF       datapath.DF
	ClampMSS bool
	LinkMTU  func(local, remote netip.Addr) int // see Edges
	Seed     [32]byte                           // of SPIs and IV generators
	Now      func() time.Time
	// Follow calls Following and brings the host to the Plan. It is called when outputs wait for that (follow.go).
	// It returns false if that is not possible now; Settle is then called later. Nil: there is no host.
	Follow func() bool
	// Serve takes Asks, and the other outputs that neither database handles.
	Serve func(core.Output)
	Event func(now time.Time, e core.Event)
}

// Plane joins the endpoint with the databases and the data path. It has no
// goroutine, no socket and no clock of its own: Input is called by one goroutine
// at a time, the data path's workers only leave inputs in the inbox.
type Plane struct {
	// The exported parts belong to the goroutine that calls Input, but for Inbox.
	Config   Config
	Policies *spd.Database
	SAs      *sad.Table
	Path     *datapath.Path
	Inbox    *Inbox
	Random   *rand.ChaCha8

	Uses    map[core.PolicyRef]bool                  // policies whose route follows their SAs
	Replan  bool                                     // the Plan has changed since the host was brought to it
	lacks   bool                                     // with Replan: something was added to it
	held    []core.Output                            // until the host has been brought to the Plan
	leading map[core.PolicyRef]map[core.ChildID]bool // by policy of Uses: its SAs, and those about to be installed
	dummies time.Time                                // when dummy packets are due; zero: no SA has any
	owed    int                                      // SPIs that the table could not give
	next    []core.Input                             // what applying outputs led to, for the endpoint
	buf     []byte                                   // of the packet being sent
	Unsent  uint64                                   // IKE messages that the network refused
	Refused map[netip.Addr]error                     // why, by where the last one was to go; at most maxRefused

	Templates map[core.PolicyRef]*compile.Template // of the configuration in force
	Made      madeThings
	Clients   map[core.PolicyRef]*clients // of policies of level unique
}

// maxChildren is how many CHILD SAs a gateway holds at most.
const maxChildren = 1 << 17

// New makes a plane without a configuration: Switch gives it one.
func New(cfg Config) *Plane {
	p := &Plane{Config: cfg, Policies: spd.New(), Inbox: NewInbox(), Random: rand.NewChaCha8(cfg.Seed),
		leading: map[core.PolicyRef]map[core.ChildID]bool{}}
	p.SAs = sad.NewTable(maxChildren, p.Random.Uint64())
	p.SAs.OnLink(cfg.LinkMTU)
	p.Path = datapath.New(datapath.Config{
		Device: cfg.Device, Conn: cfg.Conn, Policies: p.Policies, SAs: p.SAs, Notify: p.Inbox, Now: cfg.Now, Clear: cfg.Clear,
		DSCP: cfg.DSCP, DF: cfg.DF, ClampMSS: cfg.ClampMSS, Seed: p.Random.Uint64(),
	})
	return p
}

// Answer brings the result of an Ask. Safe for any goroutine.
func (p *Plane) Answer(a core.Answer) { p.Inbox.Put(a) }

// Work hands the endpoint the inputs in the inbox, and reports whether there were
// any. Inputs that arrive meanwhile wait for the next call.
func (p *Plane) Work(now time.Time) bool {
	list := p.Inbox.Take()
	for _, in := range list {
		p.handle(now, in)
	}
	p.Settle(now)
	return len(list) > 0
}

// Deadline is when Input wants a Tick.
func (p *Plane) Deadline() (time.Time, bool) {
	at, ok := p.Config.Endpoint.Deadline()
	if !p.dummies.IsZero() && (!ok || p.dummies.Before(at)) {
		at, ok = p.dummies, true
	}
	if late, some := p.Path.GiveUpAt(); some && (!ok || late.Before(at)) {
		at, ok = late, true
	}
	return at, ok
}

// tick sends the dummy packets that are due, and drops fragments that have waited too long. False: nothing else is due.
func (p *Plane) tick(now time.Time) bool {
	ours := p.Path.GiveUp(now)
	if !p.dummies.IsZero() && !now.Before(p.dummies) {
		p.dummies = p.Path.SendDummies(now, func(n int64) int64 { return int64(p.Random.Uint64() % uint64(n)) })
		ours = true
	}
	at, ok := p.Config.Endpoint.Deadline()
	return !ours || ok && !now.Before(at)
}

// Input hands the endpoint one input and applies its outputs.
func (p *Plane) Input(now time.Time, in core.Input) {
	p.handle(now, in)
	p.Settle(now)
}

// handle is Input without what waits for the host.
func (p *Plane) handle(now time.Time, in core.Input) {
	if _, isTick := in.(core.Tick); isTick && !p.tick(now) {
		return
	}
	p.Config.Endpoint.Handle(now, in)
	p.drain(now)
	p.again(now)
}

// again hands the endpoint the inputs that applying outputs has caused.
func (p *Plane) again(now time.Time) {
	var in core.Input
	for len(p.next) > 0 {
		in, p.next = p.next[0], p.next[1:]
		p.Config.Endpoint.Handle(now, in)
		p.drain(now)
	}
}

func (p *Plane) drain(now time.Time) {
	for out, ok := p.Config.Endpoint.Poll(); ok; out, ok = p.Config.Endpoint.Poll() {
		p.apply(now, out)
	}
}

func (p *Plane) apply(now time.Time, out core.Output) {
	if in, ok := out.(core.Install); ok {
		p.coming(in)
	}
	if p.waits(out) {
		p.held = append(p.held, out)
		return
	}
	p.do(now, out)
}

func (p *Plane) do(now time.Time, out core.Output) {
	switch out := out.(type) {
	case core.Send:
		p.send(out)
	case core.KeepaliveTo:
		p.put(underlay.Packet{Buf: []byte{0xFF}, Len: 1, Local: out.Local, Remote: out.Remote, Kind: underlay.Keepalive, NATT: true})
	case core.Install:
		p.install(now, out)
	case core.Activate:
		if c := p.SAs.Child(uint64(out.Child)); c != nil {
			p.Lead(core.PolicyRef(c.Policy), out.Child)
		}
		p.Path.Activate(now, uint64(out.Child))
	case core.Retire:
		p.noLead(out.Child)
		p.SAs.Retire(uint64(out.Child))
	case core.Remove:
		p.noLead(out.Child)
		p.leaves(out.Child)
		p.SAs.Remove(aroundID(out.Child)) // before what is in it
		p.SAs.Remove(uint64(out.Child))
		p.supply()
	case core.Move:
		p.SAs.Move(uint64(out.Child), out.Local, out.Remote, out.UDP)
		p.SAs.Move(aroundID(out.Child), out.Local, out.Remote, out.UDP)
	case core.PathMTU:
		p.pathMTU(now, out)
	case core.NeedSPIs:
		p.owed += out.N
		p.supply()
	case core.FreeSPI:
		p.SAs.FreeSPI(out.SPI)
		p.supply()
	case core.AddPolicy:
		p.addPolicy(out)
	case core.DropPolicy:
		p.dropPolicy(out.Ref)
	case core.Configured:
		p.configured(out)
	case core.Unconfigured:
		p.unconfigured(out.Holder)
	case core.Event:
		p.event(now, out)
	default:
		p.Config.Serve(out)
	}
}

// pathMTU takes in how long packets may be. What no router has said is told, once for each path.
func (p *Plane) pathMTU(now time.Time, out core.PathMTU) {
	path := p.SAs.Path(out.Local.Addr(), out.Remote.Addr())
	if !out.Measured {
		path.Learn(out.MTU, now.UnixNano())
		return
	}
	if path.Measure(out.MTU, now.UnixNano()) {
		p.event(now, core.Event{Kind: core.EvPathMTU, SA: out.SA, Peer: out.Peer, Local: out.Local, Remote: out.Remote,
			Reason: fmt.Sprintf("packets of more than %d bytes do not reach the peer, and no router has said so: longer ones are not sent whole from now on; "+
				"let ICMP \"fragmentation needed\" and \"packet too big\" pass on the way", out.MTU)})
	}
}

// send sends an IKE message; the room in front is for the non-ESP marker.
func (p *Plane) send(s core.Send) {
	p.buf = append(append(p.buf[:0], make([]byte, underlay.MarkerLen)...), s.Data...)
	p.put(underlay.Packet{
		Buf: p.buf, Off: underlay.MarkerLen, Len: len(s.Data),
		Local: s.Local, Remote: s.Remote, Kind: underlay.IKE, NATT: s.NATT, Whole: s.Whole,
	})
}

// put sends one packet. A message that the network refuses counts as lost: the endpoint
// retransmits it.
func (p *Plane) put(pkt underlay.Packet) {
	n, err := p.Config.Conn.Send([]underlay.Packet{pkt})
	to := pkt.Remote.Addr()
	if n > 0 {
		delete(p.Refused, to)
		return
	}
	p.Unsent++
	if p.Refused == nil || len(p.Refused) >= MaxRefused {
		p.Refused = map[netip.Addr]error{}
	}
	p.Refused[to] = err
}

// MaxRefused bounds what is remembered for `culvert explain peer`.
const MaxRefused = 256

func (p *Plane) install(now time.Time, in core.Install) {
	params := sad.Params{
		ID: uint64(in.Child), Policy: uint32(in.Policy), Peer: in.Peer, Client: in.Client, Line: in.Line, Protocol: uint8(in.Protocol), Tunnel: in.Tunnel,
		In: p.half(in, in.In), Out: p.half(in, in.Out), Pairs: in.Pairs,
		Local: in.Local, Remote: in.Remote, UDP: in.UDP, ReplayWindow: in.ReplayWindow, Watched: in.Watched, TFC: p.padding(in), Dummies: in.Dummies, Standby: in.Standby,
		Added: now, Soft: in.Soft, Hard: in.Hard, SoftBytes: in.SoftBytes, HardBytes: in.HardBytes,
	}
	if err := p.installBoth(now, params, in); err != nil {
		// The endpoint counts on the SA until Expire says that it has ended.
		p.Config.Event(now, core.Event{Kind: core.EvChildDown, SA: in.SA, Child: in.Child, Policy: in.Policy, Peer: in.Peer,
			Reason: "it could not be installed: " + err.Error()})
		p.next = append(p.next, core.Expire{Child: in.Child, Hard: true})
		p.NoLead(in.Policy, in.Child)
		p.left(in.Policy, in.Client)
		return
	}
	if in.Dummies > 0 && p.dummies.IsZero() {
		p.dummies = now
	}
	p.Path.Acquired(uint32(in.Policy))
}

// padding is the length to which inner packets are padded. It is at most the device's MTU, because
// padding must not cause fragmentation.
func (p *Plane) padding(in core.Install) int {
	if in.TFC == 0 {
		return 0
	}
	mtu, err := p.Config.Device.MTU()
	if err != nil {
		return 0
	}
	return min(in.TFC, mtu)
}

func (p *Plane) half(in core.Install, h core.HalfSA) esp.Params {
	x := esp.Params{SPI: h.SPI, Encr: in.Encr, EncKey: h.EncKey, Integ: in.Integ, IntegKey: h.IntegKey, ESN: in.ESN}
	p.Random.Read(x.IVKey[:]) //nolint:errcheck // never fails
	return x
}

// noLead notes that an SA is no longer active.
func (p *Plane) noLead(child core.ChildID) {
	if c := p.SAs.Child(uint64(child)); c != nil {
		p.NoLead(core.PolicyRef(c.Policy), child)
	}
}

// Has reports whether a policy has an SA that seals.
func (p *Plane) Has(ref core.PolicyRef) bool { return p.SAs.Seals(uint32(ref)) }

// supply gives the endpoint the SPIs that it asked for. If the table is full, the rest
// follows when SAs are removed.
func (p *Plane) supply() {
	if p.owed == 0 {
		return
	}
	if spis := p.SAs.AllocSPIs(p.owed); len(spis) > 0 {
		p.owed -= len(spis)
		p.next = append(p.next, core.SPIs{SPIs: spis})
	}
}

// event passes an event on. One that concludes an attempt for a policy, successful or not,
// lets the traffic of the policy ask for an SA again.
func (p *Plane) event(now time.Time, e core.Event) {
	if e.Policy != 0 {
		p.Path.Acquired(uint32(e.Policy))
	}
	p.Config.Event(now, e)
}

// Switch puts a configuration in force: first Policies, then Commit when the host has been changed.
// Until Commit, Revert undoes it.
type Switch struct {
	p    *Plane
	next *compile.Result

	begun     bool
	policies  []spd.Policy
	uses      map[core.PolicyRef]bool
	templates map[core.PolicyRef]*compile.Template
	replan    bool
	lacks     bool
}

// Switch prepares to put a configuration in force. It changes nothing yet.
func (p *Plane) Switch(next *compile.Result) *Switch { return &Switch{p: p, next: next} }

// Policies puts the policies in force. They come before the host, so that packets that the host
// routes to the device find the new policies.
func (s *Switch) Policies() {
	p := s.p
	s.policies, s.uses, s.templates, s.replan, s.lacks = slices.Clone(p.Policies.Policies()), p.Uses, p.Templates, p.Replan, p.lacks
	s.begun = true
	p.Policies.Replace(s.next.Policies, p.placed(s.next.Templates)...)
	p.Uses, p.Templates = s.next.Uses, s.next.Templates
	p.Following()
}

// Revert puts the policies back as they were before Policies.
func (s *Switch) Revert() {
	if !s.begun {
		return
	}
	s.begun = false
	p := s.p
	p.Policies.Replace(s.policies, p.placed(s.templates)...)
	p.Uses, p.Templates, p.Replan, p.lacks = s.uses, s.templates, s.replan, s.lacks
}

// Commit gives the configuration to the data path and the endpoint.
func (s *Switch) Commit(now time.Time) {
	p := s.p
	p.Path.DeviceChanged()
	p.Inbox.Most.Store(int64(s.next.StrangerShare))
	p.Input(now, core.Reconfigure{Config: s.next.IKE})
}

// Receive passes a datagram through the data path in the caller's goroutine, and has the
// endpoint handle the inputs that follow from it.
func (p *Plane) Receive(now time.Time, pkt *underlay.Packet) datapath.Reason {
	r := p.Path.Receive(now, pkt)
	for p.Work(now) {
	}
	return r
}

// Send does the same with a plain packet that leaves.
func (p *Plane) Send(now time.Time, pkt []byte) datapath.Reason {
	r := p.Path.SendPlain(now, pkt)
	for p.Work(now) {
	}
	return r
}
