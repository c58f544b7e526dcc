package ike

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	ikesa "culvert/ike/sa"
	"culvert/internal/testing/simnet"
	"culvert/internal/testing/simnet/sweep"
	"culvert/spd/selector"
)

// TestWeather: everything at once. What two gateways are (who initiates, how many
// policies, lifetimes, liveness, re-authentication, fragments, MOBIKE, a NAT, session tickets) and
// what happens to them is drawn from the seed: rekeys by either or by both in the
// same instant, deletes, restarts, partitions short and long, other addresses,
// a NAT that forgets. Meanwhile
//
//   - every ESP packet that arrives is opened and every packet is sealed, except
//     between a deed that takes SAs away and the moment at which both ends agree
//     again about which there are;
//
// and when it is quiet again
//
//   - both ends have one IKE SA and one CHILD SA for each policy, the same ones;
//   - nothing is half-open, asked, wanted or waiting; there are only the timers
//     that an established SA has; every SPI is in stock or in use.
func TestWeather(t *testing.T) {
	sweep.Run(t, 100, func(t *testing.T, seed uint64) sweep.Tally {
		w := newWeather(t, seed)
		w.storm()
		w.quiet()
		w.end()
		for _, e := range w.a.events {
			if e.Kind == core.EvIKEUp && strings.Contains(e.Reason, "resumed") {
				w.tally["resumed"]++
			}
		}
		return w.tally
	})
}

type weather struct {
	*pair
	*rand.Rand
	esp       *simnet.Network // carries ESP, between the same NATs
	nat       *simnet.NAT     // nil: none; else a is behind it
	mobile    bool
	policies  []core.PolicyRef
	sides     []*side
	cut       bool                            // nothing arrives
	disturbed bool                            // a deed took SAs away; the ends do not agree yet
	doomed    map[*side]map[core.ChildID]bool // what a deed takes away; the peer may not know yet
	tally     sweep.Tally
	books     map[*side]*book
	proved    map[*side]map[core.SAID]time.Time // when the peers of an IKE SA proved who they are
	resumes   map[*side]time.Time               // the same of the IKE SA that it lost last
	more      []deed                            // that may happen too
	complains bool                              // an endpoint hears of SPIs that no SA has
}

// book is what a side did with its SPIs since it was started.
type book struct{ got, freed, removed int }

func newWeather(t *testing.T, seed uint64) *weather {
	w := emptyWeather(rand.New(rand.NewPCG(seed, 0x77656174686572)))
	w.begin(t, seed, w.configure)
	return w
}

func emptyWeather(r *rand.Rand) *weather {
	return &weather{Rand: r, tally: sweep.Tally{}, books: map[*side]*book{}, proved: map[*side]map[core.SAID]time.Time{}, doomed: map[*side]map[core.ChildID]bool{},
		resumes: map[*side]time.Time{}}
}

// begin makes the two gateways and the networks between them.
func (w *weather) begin(t *testing.T, seed uint64, configure func(a, b *core.Config)) {
	link := simnet.Link{Loss: 0.15 * w.Float64(), Dup: 0.15 * w.Float64(), Reorder: 0.15 * w.Float64(),
		Delay: 30 * time.Millisecond, Jitter: 40 * time.Millisecond}
	w.pair = newPair(t, seed, link, configure)
	w.log = testing.Verbose()
	w.esp = simnet.New(seed, simnet.Link{Delay: 20 * time.Millisecond})
	if w.nat != nil {
		inside := netip.PrefixFrom(w.a.addr, 32)
		w.net.Behind(inside, w.nat)
		w.esp.Behind(inside, w.nat)
	}
	w.askDelay = []time.Duration{0, 50 * time.Millisecond, 500 * time.Millisecond}[w.IntN(3)]
	w.sides = []*side{w.a, w.b}
	for _, s := range w.sides {
		w.books[s], w.proved[s], w.doomed[s] = &book{}, map[core.SAID]time.Time{}, map[core.ChildID]bool{}
	}
	w.tap = w.account
	w.carry = func(deliver func()) {
		if !w.cut {
			deliver()
		}
	}
}

// configure draws what the gateways are.
func (w *weather) configure(a, b *core.Config) {
	policies := 1 + w.IntN(3)
	pfs := []string{"", "x25519", "slow", "hybrid"}[w.IntN(4)]
	children, ike := w.between(3*time.Minute, 10*time.Minute), w.between(8*time.Minute, 20*time.Minute)
	dpd := w.between(8*time.Second, 2*time.Minute)
	reauth := [2]time.Duration{}
	for i := range reauth {
		if w.IntN(3) == 0 {
			reauth[i] = w.between(6*time.Minute, 20*time.Minute)
		}
	}
	fragments, mobility := w.IntN(3) == 0, w.IntN(3)
	w.mobile = mobility == 1
	if mobility == 2 {
		w.nat = simnet.NewNAT(netip.MustParseAddr("203.0.113.9"))
	}
	for i, c := range []*core.Config{a, b} {
		p := c.Peers[0]
		p.Profile.Lifetime, p.Profile.DPD, p.Profile.Reauth = ike, dpd, reauth[i]
		p.Profile.MOBIKE = w.mobile || w.nat != nil && ike%2 == 0
		p.Profile.Fragmentation = fragments
		if fragments {
			c.MaxDatagram = 160
		}
		p.Identities[0].MyID = fqdn([]string{"a.example", "b.example"}[i]) // whatever its address
		first := c.Policies[0]
		first.Proposal.Lifetime = children
		if pfs != "" {
			g := *suite.GroupByName("x25519")
			g.Slow = pfs == "slow"
			x := suite.KeyExchange{Group: &g}
			if pfs == "hybrid" {
				x.Additional = suite.KeyExchangeByName("x25519+ml-kem-768").Additional
			}
			first.Proposal.PFS, p.Profile.Groups = []suite.KeyExchange{x}, []*suite.Group{&g}
		}
		for n := 2; n <= policies; n++ {
			q := *first
			q.Ref = core.PolicyRef(n)
			q.Pair = selector.Pair{Local: shifted(first.Pair.Local, n), Remote: shifted(first.Pair.Remote, n)}
			c.Policies = append(c.Policies, &q)
		}
		// Who may turn up anywhere, or is behind a NAT, cannot be called.
		if i == 1 && (w.mobile || w.nat != nil) {
			p.Address, p.Passive = netip.MustParsePrefix("0.0.0.0/0"), true
		}
	}
	for n := 1; n <= policies; n++ {
		w.policies = append(w.policies, core.PolicyRef(n))
	}
	if w.nat == nil && !w.mobile && w.IntN(3) == 0 {
		b.Peers[0].Passive = true
	}
	if w.IntN(2) == 0 {
		bothResume(a, b)
	}
}

// shifted is the selector of a further policy, beside the first one: 10.X.0.0/16 as 10.(X+10n).0.0/16.
func shifted(s selector.TS, n int) selector.TS {
	a := s.Lo.As4()
	a[1] += byte(10 * n)
	return selector.FromPrefix(netip.PrefixFrom(netip.AddrFrom4(a), 16))
}

func (w *weather) between(from, to time.Duration) time.Duration {
	return from + time.Duration(w.Int64N(int64(to-from)))
}

func (w *weather) someone() *side { return w.sides[w.IntN(2)] }

func (w *weather) other(s *side) *side {
	if s == w.a {
		return w.b
	}
	return w.a
}

// storm is what happens between the start and the quiet.
func (w *weather) storm() {
	for _, s := range w.sides {
		w.have(s, s.addr)
	}
	w.disturbed = true
	w.up()
	w.traffic(w.between(10*time.Second, time.Minute))
	for range 14 {
		d := w.deed()
		w.tally["deed: "+d.name]++
		if w.log {
			w.t.Logf("%8s ---- %s", w.clock.Now().Sub(epoch).Round(time.Millisecond), d.name)
		}
		d.do(w)
		w.traffic(w.between(time.Second, 100*time.Second))
	}
}

// account writes down what becomes of SPIs, and what happened.
func (w *weather) account(s *side, o core.Output) {
	b := w.books[s]
	switch o := o.(type) {
	case core.NeedSPIs:
		b.got += o.N
	case core.FreeSPI:
		b.freed++
	case core.Remove:
		b.removed++
	case core.Retire:
		w.expired(s, o.Child)
	case core.Event:
		w.tally["event: "+o.Kind.String()]++
		switch o.Kind {
		case core.EvPeerDead:
			w.disturbed = true
			w.resumes[s] = w.proved[s][o.SA]
		case core.EvIKEUp:
			w.proved[s][o.SA] = w.clock.Now()
			if strings.Contains(o.Reason, "resumed") { // the old proof goes on to count
				client := s
				if !o.Initiator {
					client = w.other(s)
				}
				w.proved[s][o.SA] = w.resumes[client]
			}
		case core.EvIKERekeyed:
			w.proved[s][o.SA] = w.proved[s][o.Old]
		}
	}
}

// expired notes what a lifetime ended, of an SA or of a proof, because nothing
// arrived while it should have been replaced.
func (w *weather) expired(s *side, child core.ChildID) {
	now := w.clock.Now()
	k := s.children[child]
	over := k != nil && !now.Before(k.at.Add(k.Hard))
	profile := &s.cfg.Peers[0].Profile
	for _, sa := range s.e.SAs() {
		over = over || sa.State == "deleting" && (!now.Before(sa.Established.Add(profile.Lifetime)) ||
			profile.Reauth > 0 && !now.Before(w.proved[s][sa.ID].Add(profile.Reauth)))
	}
	if over {
		w.disturbed = true
		w.tally["a lifetime ended before the rekey"]++
	}
}

// --- traffic ---

// traffic lets time go by in which both ends have something to send for every policy.
func (w *weather) traffic(d time.Duration) {
	end := w.clock.Now().Add(d)
	for w.clock.Now().Before(end) {
		if w.disturbed && !w.cut && w.agreed() {
			w.disturbed = false
		}
		for _, s := range w.sides {
			for _, ref := range w.policies {
				w.offer(s, ref)
			}
		}
		w.run(min(500*time.Millisecond, end.Sub(w.clock.Now())))
	}
}

// offer is one packet for a policy.
func (w *weather) offer(s *side, ref core.PolicyRef) {
	k := s.sealer(ref)
	if k == nil {
		if !w.disturbed {
			w.t.Fatalf("%v: %s has no SA for policy %d: %v", w.clock.Now().Sub(epoch), s.name, ref, s.e.SAs())
		}
		s.in(core.Acquire{Policy: ref, Flow: w.flow(s, ref)})
		return
	}
	s.sealed++
	if w.byIP[k.Local.Addr()] != s || w.cut {
		return
	}
	key, spi := k.Out.EncKey.Clone(), k.Out.SPI
	ah := core.HalfSA{SPI: k.AH.Out.SPI, IntegKey: k.AH.Out.IntegKey.Clone()}
	for _, d := range w.esp.Send(w.clock.Now(), k.Local, k.Remote, nil) {
		w.clock.At(d.At, func() {
			if to := w.byIP[d.To.Addr()]; to != nil {
				w.arrives(to, d, spi, key, ah)
			}
		})
	}
}

func (w *weather) flow(s *side, ref core.PolicyRef) selector.Pair {
	p := s.cfg.Policies[ref-1].Pair
	return selector.Pair{Local: selector.FromPrefix(netip.PrefixFrom(p.Local.Lo, 32)),
		Remote: selector.FromPrefix(netip.PrefixFrom(p.Remote.Lo, 32))}
}

// arrives is one ESP packet at its receiver, within AH unless that is zero.
func (w *weather) arrives(to *side, d simnet.Delivery, spi uint32, key secret.Bytes, ah core.HalfSA) {
	before := len(to.lost)
	to.receive(spi, key, ah)
	if len(to.lost) > before {
		if w.complains {
			to.in(core.UnknownSPI{Local: d.To, Remote: d.From, NATT: d.To.Port() == 4500, SPI: spi})
		}
		if !w.disturbed {
			w.t.Errorf("%s could not open a packet: %s", to.name, to.lost[before])
		}
		w.tally["packets that met no SA after a deed that took it away"]++
		return
	}
	w.tally["packets opened"]++
	for id, k := range to.children {
		if k.In.SPI == spi && k.Remote != d.From {
			to.in(core.Moved{Child: id, Local: d.To, Remote: d.From})
		}
	}
}

// sealer is the CHILD SA that seals for a policy; nil if there is none.
func (s *side) sealer(ref core.PolicyRef) *child {
	for _, id := range slices.Backward(s.order) {
		if k := s.children[id]; k.Policy == ref && k.active && !k.retired {
			return k
		}
	}
	return nil
}

// agreed reports whether all policies have SAs at both ends, whatever one end
// might seal with the other can open, and what a deed takes away is gone: as long as
// the peer does not know it, it counts on that.
func (w *weather) agreed() bool {
	for i, s := range w.sides {
		other := w.sides[1-i]
		for _, ref := range w.policies {
			if s.sealer(ref) == nil {
				return false
			}
		}
		for _, k := range s.children {
			if !k.retired && !other.opens(k, !w.complains) {
				return false
			}
		}
		for id := range w.doomed[s] {
			if s.children[id] != nil {
				return false
			}
		}
	}
	return true
}

// opens reports whether a side opens what another one seals with k. What it is about to take away counts where the other end will
// know that.
func (s *side) opens(k *child, told bool) bool {
	for _, o := range s.children {
		if (told || !o.retired) && o.In.SPI == k.Out.SPI && o.In.EncKey.Equal(k.Out.EncKey) {
			return true
		}
	}
	return false
}

// --- the quiet ---

// calm is the longest that two gateways need to find each other again: until the
// peer's silence is noticed, until it is taken for dead, and until the next attempt.
const calm = 2*time.Minute + core.TimeToGiveUp + 75*time.Second

func (w *weather) quiet() {
	w.net.Link = simnet.Link{Delay: 10 * time.Millisecond}
	w.traffic(calm)
	if w.disturbed {
		w.t.Fatalf("%v after the last deed the ends do not agree\na: %v\nb: %v", calm, w.a.e.SAs(), w.b.e.SAs())
	}
	// A rekey may be under way: some moment within the next minutes is without one.
	for range 4 * 60 {
		w.traffic(time.Second)
		if w.strays() == "" {
			return
		}
	}
	w.t.Errorf("what should not be there when it is quiet: %s\na: %v\nb: %v", w.strays(), w.a.e.SAs(), w.b.e.SAs())
}

// strays is what is there and should not be when nothing is under way; "" is nothing.
func (w *weather) strays() string {
	for _, s := range w.sides {
		sas := s.e.SAs()
		if len(sas) != 1 || sas[0].State != "established" || len(sas[0].Children) != len(w.policies) || len(s.children) != len(w.policies) {
			return fmt.Sprintf("%s has %d IKE SAs and %d CHILD SAs for %d policies", s.name, len(sas), len(s.children), len(w.policies))
		}
		timers := 3 + 2*len(s.children) // soft, hard, liveness; soft and hard
		if w.nat != nil && s == w.a {
			timers++ // keepalives
		}
		if w.a.cfg.Peers[0].Profile.Reauth+w.b.cfg.Peers[0].Profile.Reauth > 0 {
			timers++
		}
		if w.a.cfg.Peers[0].Profile.Resumption {
			timers += 2 // a ticket of the peer's; the keys of ours
		}
		if left := s.leftovers(); left != "" {
			return s.name + " keeps " + left
		}
		if n := reflect.ValueOf(&s.e.env.Timers).Elem().FieldByName("heap").Len(); n > timers {
			return fmt.Sprintf("%s has %d timers, not %d", s.name, n, timers)
		}
		if n := w.missingSPIs(s); n != 0 {
			return fmt.Sprintf("%s misses %d SPIs: %+v", s.name, n, *w.books[s])
		}
	}
	if !w.agreed() || w.a.e.SAs()[0].SPIi != w.b.e.SAs()[0].SPIi {
		return "SAs that the other end does not have"
	}
	return ""
}

// leftovers is what an endpoint holds that belongs to nothing established.
func (s *side) leftovers() string {
	e := s.e
	for what, n := range map[string]int{"half-open SAs": len(e.strangers.half), "replacing": len(e.replacing), "questions about addresses": len(e.resolving), "races": len(e.races),
		"bytes of strangers": e.strangers.bytes, "half-open SAs in order": len(e.strangers.order), "addresses of strangers": len(e.strangers.from),
		"finals": len(e.finals), "CHILD SAs too many": len(e.children) - len(s.children),
		"open Asks": reflect.ValueOf(e.env).Elem().FieldByName("asks").Len()} {
		if n != 0 {
			return fmt.Sprintf("%d %s", n, what)
		}
	}
	serving := map[string]int{}
	for _, sa := range e.bySPI {
		if sa.State == ikesa.Established && !sa.Leaving {
			serving[sa.Peer.Name]++
		}
	}
	if !maps.Equal(serving, e.others.serving) {
		return fmt.Sprintf("%v IKE SAs serve their peers, and %v are counted", serving, e.others.serving)
	}
	for ref, want := range e.wants {
		if want.timer != nil {
			return fmt.Sprintf("the wish for policy %d, which has an SA", ref)
		}
	}
	return ""
}

// missingSPIs is how many SPIs are neither in stock nor in use.
func (w *weather) missingSPIs(s *side) int {
	b := w.books[s]
	return b.got - b.freed - b.removed - len(s.children) - reflect.ValueOf(s.e.env).Elem().FieldByName("spis").Len()
}

// end stops both gateways: nothing is left.
func (w *weather) end() {
	for _, s := range w.sides {
		s.in(core.Command{Do: core.Shutdown})
	}
	w.run(3 * time.Minute)
	for _, s := range w.sides {
		at, timer := s.e.Deadline()
		if !s.e.Idle() || len(s.children) > 0 || timer || s.leftovers() != "" || w.missingSPIs(s) != 0 {
			w.t.Errorf("%s stopped and keeps %v, %d CHILD SAs, a timer %v %v, %s, %d SPIs", s.name, s.e.SAs(), len(s.children), timer, at, s.leftovers(), w.missingSPIs(s))
		}
	}
}
