package ike

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	"culvert/ike/message"
	"culvert/internal/testing/simnet"
	"culvert/internal/testing/simnet/sweep"
)

// TestWeatherOfIKEv1 is TestWeather of two gateways that speak IKEv1, and in a third of the runs both versions, with one peer of
// each at one address. The seed draws main or aggressive mode, XAuth and mode config too, and beside the other deeds old
// messages are said again. What holds there holds here, but for three things:
//
//   - Nobody answers a DELETE. Where it is lost, the other end seals on until it rekeys, or until DPD finds out: the ends take
//     longer to agree.
//   - A CHILD SA that was replaced opens until its lifetime ends, so that there are more of them than policies.
//   - What a phase 1 that is over has left stays as long, if the peer is not known to be the same device when it comes again.
func TestWeatherOfIKEv1(t *testing.T) {
	sweep.Run(t, 100, func(t *testing.T, seed uint64) sweep.Tally {
		w := newWeatherV1(t, seed)
		w.storm()
		w.quiet()
		w.end()
		return w.tally
	})
}

type weatherV1 struct {
	*weather
	both bool // both versions
	past []core.Datagram
}

func newWeatherV1(t *testing.T, seed uint64) *weatherV1 {
	w := &weatherV1{weather: emptyWeather(rand.New(rand.NewPCG(seed, 0x496b65763120)))}
	w.begin(t, seed, w.configure)
	for _, s := range w.sides {
		s.leasing("192.168.77.9")
	}
	w.complains = true
	w.b.spi = 0x80000000 // a DELETE may name an SPI of either end
	w.vanished = w.gone
	w.carry = func(deliver func()) {
		if !w.cut {
			deliver()
			return
		}
		w.gone(core.Send{Data: w.past[len(w.past)-1].Data})
	}
	w.more = []deed{{"old messages are said again", 6, nil, func(*weather) { w.replay() }}}
	was := w.tap
	w.tap = func(s *side, o core.Output) {
		if x, ok := o.(core.Send); ok && len(x.Data) > 0 {
			w.past = append(w.past, core.Datagram{Local: x.Remote, Remote: x.Local, NATT: x.NATT, Data: bytes.Clone(x.Data)})
		}
		was(s, o)
	}
	return w
}

// configure draws what the gateways are.
func (w *weatherV1) configure(a, b *core.Config) {
	inMainMode(a, b)
	if w.IntN(2) == 0 {
		inAggressiveMode(a, b)
	}
	policies := 1 + w.IntN(3)
	w.both = w.IntN(3) == 0
	pfs := []string{"", "ecp256", "slow"}[w.IntN(3)]
	children, ike := w.between(3*time.Minute, 10*time.Minute), w.between(8*time.Minute, 20*time.Minute)
	dpd, failures := w.between(8*time.Second, time.Minute), 1+w.IntN(4)
	if w.IntN(3) == 0 {
		w.nat = simnet.NewNAT(netip.MustParseAddr("203.0.113.9"))
	}
	road := w.nat != nil || w.IntN(3) == 0 // b does not begin
	login, lease := road && w.IntN(2) == 0, road && w.IntN(2) == 0
	for i, c := range []*core.Config{a, b} {
		p := c.Peers[0]
		p.Profile.Lifetime, p.Profile.DPD, p.Profile.DPDFailures = ike, dpd, failures
		id := p.Identities[0]
		id.MyID = fqdn([]string{"a.example", "b.example"}[i])
		if pfs == "slow" {
			g := *suite.GroupByName("ecp256")
			g.Slow = true
			p.Profile.Groups = []*suite.Group{&g}
		}
		first := c.Policies[0]
		first.Proposal.Lifetime = children
		if pfs != "" {
			first.Proposal.PFS = []suite.KeyExchange{{Group: p.Profile.Groups[0]}}
		}
		for n := 2; n <= policies; n++ {
			q := *first
			q.Ref = core.PolicyRef(n)
			q.Pair.Local, q.Pair.Remote = shifted(first.Pair.Local, n), shifted(first.Pair.Remote, n)
			c.Policies = append(c.Policies, &q)
		}
		if i == 1 && road {
			p.Passive = true
		}
		if i == 1 && w.nat != nil {
			p.Address = netip.MustParsePrefix("0.0.0.0/0")
		}
		if login {
			id.XAuth = []*core.XAuth{{Name: "anna", Password: secret.Bytes("correct horse")}, {Asks: true}}[i]
			c.Users = map[string]*core.User{"anna": {Name: "anna", Password: secret.Bytes("correct horse")}}
		}
		if lease {
			id.Mode = []*core.ModeConfig{{Name: "request-only"}, {Name: "rw", Responder: true, Pool: "pool"}}[i]
		}
		if w.both {
			w.addIKEv2(c, policies+1)
		}
	}
	if w.both {
		policies++
	}
	for n := 1; n <= policies; n++ {
		w.policies = append(w.policies, core.PolicyRef(n))
	}
}

// addIKEv2 adds a peer of IKEv2 at the address of the first one, with a policy of its own.
func (w *weatherV1) addIKEv2(c *core.Config, ref int) {
	was := c.Peers[0]
	p := *was
	p.Name, p.Version, p.Mode = was.Name+"2", core.IKEv2, core.ModeMain
	id := *was.Identities[0]
	id.XAuth, id.Mode = nil, nil
	p.Identities = []*core.Identity{&id}
	q := *c.Policies[0]
	q.Ref, q.Peer = core.PolicyRef(ref), &p
	q.Pair.Local, q.Pair.Remote = shifted(q.Pair.Local, ref), shifted(q.Pair.Remote, ref)
	c.Peers, c.Policies = append(c.Peers, &p), append(c.Policies, &q)
}

// gone notes that a message of an informational exchange is lost, which nobody says again: it may have been a DELETE.
func (w *weatherV1) gone(o core.Send) {
	if h, err := message.ParseHeader(o.Data); err == nil && h.Major() == 1 && h.Exchange == isakmp.ExchangeInformational {
		w.disturbed = true
	}
}

// replay has somebody say again what was said, to the end that it was said to.
func (w *weatherV1) replay() {
	for range 1 + w.IntN(20) {
		if len(w.past) == 0 {
			return
		}
		d := w.past[w.IntN(len(w.past))]
		if to := w.byIP[d.Local.Addr()]; to != nil && !w.cut {
			to.in(d)
		}
		w.run(w.between(0, 50*time.Millisecond))
	}
}

// calmV1 is the longest that the ends need to find each other again: until a CHILD SA is rekeyed that one of them does not have.
const calmV1 = 25 * time.Minute

func (w *weatherV1) quiet() {
	w.net.Link = simnet.Link{Delay: 10 * time.Millisecond}
	end := w.clock.Now().Add(calmV1)
	w.traffic(3 * time.Minute)
	for w.disturbed {
		if w.clock.Now().After(end) {
			w.t.Fatalf("%v after the last deed the ends do not agree\na: %v\nb: %v", calmV1, w.a.e.SAs(), w.b.e.SAs())
		}
		w.traffic(10 * time.Second)
	}
	for range 13 * 60 { // a phase 1 whose DELETE was lost stays until DPD has asked five times, and one that is over until its CHILD SAs are, for ten minutes
		w.traffic(time.Second)
		if w.strays() == "" {
			return
		}
	}
	w.t.Errorf("what should not be there when it is quiet: %s\na: %v\nb: %v", w.strays(), w.a.e.SAs(), w.b.e.SAs())
}

// strays is what is there and should not be when nothing is under way; "" is nothing.
func (w *weatherV1) strays() string {
	var ids [2][]uint64
	for i, s := range w.sides {
		sas, want := s.e.SAs(), len(s.cfg.Peers)
		for _, sa := range sas {
			if sa.State != "established" {
				return s.name + " has an IKE SA that is " + sa.State
			}
			ids[i] = append(ids[i], sa.SPIi)
		}
		live := 0
		for _, c := range s.e.children {
			if c.Serving() && c.Line == 0 {
				live++
			}
		}
		if len(sas) != want || live != len(w.policies) {
			return fmt.Sprintf("%s has %d IKE SAs and %d CHILD SAs that seal, for %d peers and %d policies", s.name, len(sas), live, want, len(w.policies))
		}
		if left := s.leftovers(); left != "" {
			return s.name + " keeps " + left
		}
		if n := w.missingSPIs(s); n != 0 {
			return fmt.Sprintf("%s misses %d SPIs: %+v", s.name, n, *w.books[s])
		}
		slices.Sort(ids[i])
	}
	if !w.agreed() || !slices.Equal(ids[0], ids[1]) {
		return "SAs that the other end does not have"
	}
	return ""
}
