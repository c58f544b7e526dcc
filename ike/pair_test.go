package ike

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/outputs"
	"culvert/internal/testing/simnet"
	"culvert/spd/selector"
)

// A pair is two endpoints on virtual time, a network between them, and below
// each a model of the data plane: which SA seals, which open, with which keys.
type pair struct {
	t     *testing.T
	clock *simnet.Clock
	net   *simnet.Network // carries IKE
	a, b  *side
	byIP  map[netip.Addr]*side
	// askDelay is how long an Ask takes.
	askDelay time.Duration
	// drop, if set, decides whether an IKE message is lost.
	drop func(from *side, h message.Header) bool
	// takes, if set, is the longest IP packet that arrives: no fragment does.
	takes int
	// carry, if set, decides what becomes of an IKE message; deliver sends it.
	carry func(deliver func())
	// vanished, if set, is told of a message that the network loses.
	vanished func(core.Send)
	// tap, if set, sees every output of both sides.
	tap func(from *side, o core.Output)
	log bool
	// tells: what no SA opens comes to the endpoint (core.UnknownSPI); silent: that nothing comes does too.
	tells, silent bool
}

type side struct {
	*pair
	name     string
	addr     netip.Addr
	e        *Endpoint
	cfg      *core.Config
	timer    *simnet.Timer
	spi      uint32
	children map[core.ChildID]*child
	order    []core.ChildID
	events   []core.Event
	sent     []message.Header
	sealed   int
	keys     []core.TicketKey // of session tickets: what outlives the endpoint
	opened   int
	lost     []string // ESP packets that could not be opened, with the reason
	heardESP time.Time
	dead     bool // does not take part any more
	put      *outputs.Log
	// system answers what only a system knows; nil: the default answers.
	system func(core.Ask) (core.Answer, bool)
}

type child struct {
	core.Install
	active, retired bool
	used            bool
	at              time.Time
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newPair(t *testing.T, seed uint64, link simnet.Link, change ...func(a, b *core.Config)) *pair {
	p := &pair{t: t, clock: simnet.NewClock(epoch), net: simnet.New(seed, link), byIP: map[netip.Addr]*side{}}
	ca, cb := pairConfigs()
	for _, f := range change {
		f(ca, cb)
	}
	p.a = p.newSide("a", "192.0.2.1", seed, ca)
	p.b = p.newSide("b", "192.0.2.2", seed+1<<32, cb)
	return p
}

// pairConfigs are two sites that both initiate: 10.1.0.0/16 and 10.2.0.0/16.
func pairConfigs() (a, b *core.Config) {
	return siteConfig("b", "192.0.2.2", "10.1.0.0/16", "10.2.0.0/16"), siteConfig("a", "192.0.2.1", "10.2.0.0/16", "10.1.0.0/16")
}

func siteConfig(peer, addr, local, remote string) *core.Config {
	p := &core.Peer{
		Name: peer, Address: netip.PrefixFrom(netip.MustParseAddr(addr), 32), Port: 500, Version: core.IKEv2, InitialContact: true,
		Profile: core.Profile{Name: "default",
			Encrs: []*suite.Encr{suite.EncrByIKEName("aes-128")}, PRFs: []*suite.PRF{suite.PRFByName("sha256")},
			Integs: []*suite.Integ{suite.IntegByName("sha256")}, Groups: []*suite.Group{suite.GroupByName("x25519")},
			Lifetime: 24 * time.Hour, DPD: 2 * time.Minute},
		Identities: []*core.Identity{{Auth: core.AuthPSK, Secret: secret.Bytes("thisisnotasecurepsk")}},
	}
	pol := &core.Policy{Ref: 1, Peer: p, Tunnel: true, Protocol: core.ProtoESP,
		Pair: selector.Pair{Local: selector.FromPrefix(netip.MustParsePrefix(local)), Remote: selector.FromPrefix(netip.MustParsePrefix(remote))},
		Proposal: core.Proposal{Name: "default", Encrs: []*suite.Encr{suite.EncrByName("aes-128-gcm")}, ESN: []bool{true, false},
			Lifetime: 30 * time.Minute, ReplayWindow: 128}}
	return &core.Config{Peers: []*core.Peer{p}, Policies: []*core.Policy{pol}, IKEPort: 500, NATTPort: 4500}
}

func (p *pair) newSide(name, addr string, seed uint64, cfg *core.Config) *side {
	s := &side{pair: p, name: name, addr: netip.MustParseAddr(addr), cfg: cfg, spi: 0x1000}
	p.byIP[s.addr] = s
	s.boot(seed)
	return s
}

func (s *side) boot(seed uint64) {
	var sd [32]byte
	binary.BigEndian.PutUint64(sd[:], seed)
	copy(sd[8:], s.name)
	s.e, s.put = New(sd), outputs.New(s.t, s.name)
	s.e.Handle(s.clock.Now(), core.TicketKeys{Keys: ticketKeys(s.keys)})
	s.children = map[core.ChildID]*child{}
	s.order = nil
}

// ticketKeys are keys with secrets of their own, since an endpoint wipes its.
func ticketKeys(keys []core.TicketKey) (list []core.TicketKey) {
	for _, k := range keys {
		k.Secret = k.Secret.Clone()
		list = append(list, k)
	}
	return list
}

// up hands both sides their configuration.
func (p *pair) up() {
	p.a.in(core.Reconfigure{Config: p.a.cfg})
	p.b.in(core.Reconfigure{Config: p.b.cfg})
}

// in hands one input to the endpoint and does what it puts out.
func (s *side) in(in core.Input) {
	if s.dead {
		return
	}
	now := s.clock.Now()
	e := s.e
	e.Handle(now, in)
	for {
		o, ok := e.Poll()
		if !ok {
			break
		}
		s.do(o)
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	if at, ok := e.Deadline(); ok {
		s.timer = s.clock.At(at, func() { s.in(core.Tick{}) })
	}
}

func (s *side) do(o core.Output) {
	s.put.Add(o)
	if s.tap != nil {
		s.tap(s, o)
	}
	switch o := o.(type) {
	case core.Send:
		s.send(o)
	case core.Ask:
		s.clock.After(s.askDelay, s.ifAlive(func() { s.answer(o) }))
	case core.NeedSPIs:
		var spis []uint32
		for range o.N {
			s.spi++
			spis = append(spis, s.spi)
		}
		s.clock.After(0, s.ifAlive(func() { s.in(core.SPIs{SPIs: spis}) }))
	case core.KeepTicketKeys:
		s.keys = o.Keys
	case core.Install:
		s.children[o.Child] = &child{Install: o, active: !o.Standby, at: s.clock.Now()}
		s.order = append(s.order, o.Child)
	case core.Activate:
		if k := s.children[o.Child]; k == nil || k.retired {
			s.t.Errorf("%s: Activate of a CHILD SA that is not there: %d", s.name, o.Child)
		} else {
			k.active = true
		}
	case core.Retire:
		if k := s.children[o.Child]; k != nil {
			k.retired = true
		}
	case core.Move:
		if k := s.children[o.Child]; k != nil {
			k.Local, k.Remote = o.Local, o.Remote
		}
	case core.Remove:
		if s.children[o.Child] == nil {
			s.t.Errorf("%s: Remove of a CHILD SA that is not there: %d", s.name, o.Child)
		}
		delete(s.children, o.Child)
		s.order = slices.DeleteFunc(s.order, func(id core.ChildID) bool { return id == o.Child })
	case core.Event:
		if s.log {
			s.t.Logf("%8s %s: %v %s", s.clock.Now().Sub(epoch).Round(time.Millisecond), s.name, o.Kind, o.Reason)
		}
		s.events = append(s.events, o)
	}
}

// ifAlive is do unless the endpoint was started anew by then.
func (s *side) ifAlive(do func()) func() {
	e := s.e
	return func() {
		if s.e == e {
			do()
		}
	}
}

func (s *side) answer(a core.Ask) {
	if s.system != nil {
		if answer, ok := s.system(a); ok {
			s.in(answer)
			return
		}
	}
	if _, ok := a.Work.(core.SourceFor); ok {
		s.in(core.Answer{ID: a.ID, Data: s.addr.AsSlice()})
		return
	}
	b, err := a.Work.Do()
	s.in(core.Answer{ID: a.ID, Data: b, Err: err})
}

func (s *side) send(o core.Send) {
	h, err := message.ParseHeader(o.Data)
	if err != nil {
		s.t.Fatalf("%s sends what is no IKE message: %v", s.name, err)
	}
	if s.pair.log {
		s.t.Logf("%8s %s -> %v %v id=%d resp=%v %d bytes", s.clock.Now().Sub(epoch).Round(time.Millisecond), s.name, o.Remote, h.Exchange, h.ID, h.Response(), len(o.Data))
	}
	s.sent = append(s.sent, h)
	if s.drop != nil && s.drop(s, h) || s.byIP[o.Local.Addr()] != s || s.takes != 0 && ipLen(o) > s.takes {
		return
	}
	if s.carry != nil {
		s.carry(func() { s.deliver(o) })
		return
	}
	s.deliver(o)
}

// ipLen is how long the IP packet of a message is.
func ipLen(o core.Send) int {
	n := 20 + 8 + len(o.Data)
	if o.Remote.Addr().Is6() {
		n += 20
	}
	if o.NATT {
		n += 4 // the non-ESP marker
	}
	return n
}

func (s *side) deliver(o core.Send) {
	sent := s.net.Send(s.clock.Now(), o.Local, o.Remote, o.Data)
	if len(sent) == 0 && s.vanished != nil {
		s.vanished(o)
	}
	for _, d := range sent {
		s.clock.At(d.At, func() {
			if to := s.byIP[d.To.Addr()]; to != nil {
				if natt := d.To.Port() == to.cfg.NATTPort; natt == o.NATT && (natt || d.To.Port() == to.cfg.IKEPort) { // else there is no socket, or the marker is missing
					to.in(core.Datagram{Local: d.To, Remote: d.From, NATT: natt, Data: bytes.Clone(d.Data)})
				}
			}
		})
	}
}

// outbound is the CHILD SA that seals now; nil if there is none.
func (s *side) outbound() *child {
	for _, id := range slices.Backward(s.order) {
		if k := s.children[id]; k.active && !k.retired {
			return k
		}
	}
	return nil
}

// esp sends one packet through the model of the data plane.
func (s *side) esp() bool {
	k := s.outbound()
	if k == nil {
		return false
	}
	s.sealWith(k)
	return true
}

// sealWith sends one packet by a CHILD SA.
func (s *side) sealWith(k *child) {
	s.sealed++
	out := k.Out
	key, spi := out.EncKey.Clone(), out.SPI
	ah := core.HalfSA{SPI: k.AH.Out.SPI, IntegKey: k.AH.Out.IntegKey.Clone()}
	to := s.byIP[k.Remote.Addr()]
	if to != nil && s.byIP[k.Local.Addr()] == s {
		s.clock.After(20*time.Millisecond, func() { to.receive(spi, key, ah) })
	}
}

// receive is ESP that arrives, within AH unless that is zero.
func (s *side) receive(spi uint32, key secret.Bytes, ah core.HalfSA) {
	if s.dead {
		return
	}
	for _, id := range s.order {
		k := s.children[id]
		if k.In.SPI != spi {
			continue
		}
		if !k.In.EncKey.Equal(key) || k.AH.In.SPI != ah.SPI || !k.AH.In.IntegKey.Equal(ah.IntegKey) {
			s.lost = append(s.lost, fmt.Sprintf("%v: key mismatch on %08x", s.clock.Now().Sub(epoch), spi))
			return
		}
		s.opened++
		s.heardESP = s.clock.Now()
		if !k.used {
			k.used = true
			s.in(core.Used{Child: id})
		} else {
			s.in(core.Alive{Child: id})
		}
		return
	}
	s.lost = append(s.lost, fmt.Sprintf("%v: no SA for %08x", s.clock.Now().Sub(epoch), spi))
	if s.tells {
		other := s.a
		if s == other {
			other = s.b
		}
		s.in(core.UnknownSPI{Local: netip.AddrPortFrom(s.addr, 4500), Remote: netip.AddrPortFrom(other.addr, 4500), NATT: true, SPI: spi})
	}
}

func (p *pair) run(d time.Duration) { p.clock.Run(p.clock.Now().Add(d)) }

// until runs until the condition holds, or fails the test after d.
func (p *pair) until(d time.Duration, what string, cond func() bool) {
	p.t.Helper()
	if !p.clock.RunUntil(p.clock.Now().Add(d), cond) && !cond() {
		p.t.Fatalf("not within %v: %s\na: %v\nb: %v", d, what, p.a.e.SAs(), p.b.e.SAs())
	}
}

func (s *side) count(k core.EventKind) (n int) {
	for _, e := range s.events {
		if e.Kind == k {
			n++
		}
	}
	return n
}

func (s *side) established() int {
	n := 0
	for _, sa := range s.e.SAs() {
		if sa.State == "established" {
			n++
		}
	}
	return n
}

func (p *pair) bothUp() bool {
	return p.a.established() > 0 && p.b.established() > 0 && p.a.outbound() != nil && p.b.outbound() != nil
}
