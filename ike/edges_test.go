package ike

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
	"culvert/internal/testing/simnet"
	"culvert/spd/selector"
)

// A name without an address is one failure with one reason: no route to nowhere is looked for.
func TestNameWithoutAddressIsToldOnce(t *testing.T) {
	p := newPair(t, 21, goodLink, passive, func(a, _ *core.Config) { a.Peers[0].Address, a.Peers[0].DNSName = netip.Prefix{}, "b.example" })
	p.a.system = func(a core.Ask) (core.Answer, bool) {
		if _, ok := a.Work.(core.Resolve); !ok {
			return core.Answer{}, false
		}
		return core.Answer{ID: a.ID, Err: errors.New("no such host")}, true
	}
	p.up()
	p.run(time.Second)
	if n := p.a.count(core.EvInitFailed); n != 1 || !strings.Contains(p.a.reasons(core.EvInitFailed), "the DNS has no address for b.example: no such host") {
		t.Errorf("%d failures: %s", n, p.a.reasons(core.EvInitFailed))
	}
}

// The secret of cookies is wiped once no cookie can be made with it any more: in turn, and after a long pause.
func TestCookieSecretsAreWiped(t *testing.T) {
	env := core.NewEnv([32]byte{1})
	env.SetNow(epoch)
	wiped := func(b secret.Bytes) bool { return len(bytes.Trim(b, "\x00")) == 0 }
	var j cookieJar
	var all []secret.Bytes
	for range 4 {
		j.turn(env)
		all = append(all, j.now)
		for i, b := range all {
			if want := i < len(all)-2; wiped(b) != want {
				t.Errorf("secret %d of %d is wiped: %v", i+1, len(all), !want)
			}
		}
		j.turn(env) // in the same half minute it stays
		if &j.now[0] != &all[len(all)-1][0] {
			t.Error("another secret within its time")
		}
		env.SetNow(env.Now().Add(cookieLife))
	}
	env.SetNow(env.Now().Add(2 * cookieLife))
	if j.turn(env); j.last != nil || !wiped(all[2]) || !wiped(all[3]) || wiped(j.now) {
		t.Errorf("after a pause the last secret is %v", j.last)
	}
}

// ESP that comes from elsewhere since a NAT forgot the peer moves the IKE SA and its CHILD SAs there; of a CHILD SA that is
// not there it says nothing.
func TestMovedIsOfAChildThatIsThere(t *testing.T) {
	public := netip.MustParseAddr("203.0.113.1")
	p := newPair(t, 1, quick, bPassive, func(_, b *core.Config) { b.Peers[0].Address = netip.MustParsePrefix("203.0.113.0/24") })
	p.net.Behind(netip.PrefixFrom(p.a.addr, 32), simnet.NewNAT(public))
	p.up()
	p.until(5*time.Second, "up", p.bothUp)
	k, sa := p.b.outbound(), p.b.e.SAs()[0]
	to := netip.AddrPortFrom(public, sa.Remote.Port()+1)
	for _, c := range []struct {
		id    core.ChildID
		moves bool
	}{{k.Child + 1, false}, {0, false}, {k.Child, true}} {
		p.b.in(core.Moved{Child: c.id, Local: sa.Local, Remote: to})
		if at := p.b.e.SAs()[0].Remote; (at == to) != c.moves || (k.Remote == to) != c.moves {
			t.Errorf("CHILD SA %d of %d: the IKE SA is at %v, the CHILD SA at %v", c.id, k.Child, at, k.Remote)
		}
	}
}

// A reload in which each peer is as it was ends nothing, whichever place the peer has.
func TestReloadKeepsEveryPeer(t *testing.T) {
	for _, place := range []int{0, 1, 2} {
		beside := func(c *core.Config) {
			var others []*core.Peer
			for name, addr := range map[string]string{"x": "198.51.100.1/32", "y": "198.51.100.2/32"} {
				other, _ := pairConfigs()
				peer := other.Peers[0]
				peer.Name, peer.Address, peer.Passive = name, netip.MustParsePrefix(addr), true
				others = append(others, peer)
			}
			slices.SortFunc(others, func(p, q *core.Peer) int { return strings.Compare(p.Name, q.Name) })
			c.Peers = slices.Insert(others, place, c.Peers...)
		}
		r := newRig(t, beside)
		p := newPuppet(r, 1)
		p.connect()
		if r.established() != 1 || r.cfg.Peers[place].Name != r.e.SAs()[0].Peer {
			t.Fatalf("place %d: %v", place, r.e.SAs())
		}
		cfg, _ := pairConfigs()
		cfg.Peers[0].Passive = true
		beside(cfg)
		r.take()
		r.in(core.Reconfigure{Config: cfg})
		if r.established() != 1 || len(r.children) != 1 || len(r.take()) != 0 {
			t.Errorf("place %d: %v", place, r.reasons())
		}
	}
}

// A request is answered as the last one of an IKE SA that is gone only if exchange and message ID are its own.
func TestFinalIsOfOneExchange(t *testing.T) {
	v := &version{repeats: func(message.Header, []byte) (same, answered bool) { return true, true }}
	h := message.Header{Exchange: message.ExchangeInformational, ID: 5}
	for _, c := range []struct {
		name string
		h    message.Header
		spi  uint64
		want bool
	}{
		{"the same", h, 9, true}, {"another ID", message.Header{Exchange: h.Exchange, ID: 6}, 9, false},
		{"another exchange", message.Header{Exchange: message.ExchangeCreateChildSA, ID: 5}, 9, false}, {"another IKE SA", h, 8, false},
	} {
		env := core.NewEnv([32]byte{})
		g := finals{9: {Final: ikesa.Final{Exchange: uint8(h.Exchange), ID: h.ID, Response: [][]byte{{1}}}, left: 1}}
		sent := 0
		got := g.answer(env, v, c.spi, c.h, nil)
		for _, ok := env.Poll(); ok; _, ok = env.Poll() {
			sent++
		}
		if got != c.want || sent != map[bool]int{true: 1}[c.want] {
			t.Errorf("%s: %v, %d datagrams", c.name, got, sent)
		}
		if again := g.answer(env, v, c.spi, c.h, nil); again {
			t.Errorf("%s: it is answered more often than is left", c.name)
		}
	}
}

// madeFor is a made policy whose remote end has these.
func madeFor(remote ...string) *made {
	p := &core.Policy{Peer: &core.Peer{}, Tunnel: true, Unique: true, Made: &core.Made{}}
	for _, s := range remote {
		p.Made.Remote = append(p.Made.Remote, selector.FromPrefix(netip.MustParsePrefix(s)))
	}
	return &made{policy: p}
}

// Policies with the same remote address are found as long as each is there, and leave nothing behind.
func TestClaimsOfOneAddress(t *testing.T) {
	var c claims
	of := []*made{madeFor("192.0.2.7/32"), madeFor("192.0.2.7/32"), madeFor("192.0.2.7/32", "192.0.2.8/32"), madeFor("192.0.2.0/24")}
	for _, m := range of {
		c.add(m)
	}
	near := func(remote string) (n int) {
		c.near(madeFor(remote).policy, func(m *made) bool {
			n++
			return true
		})
		return n
	}
	for i, want := range [][3]int{{4, 2, 5}, {3, 2, 4}, {2, 2, 3}, {1, 1, 1}, {0, 0, 0}} {
		if got := [3]int{near("192.0.2.7/32"), near("192.0.2.8/32"), near("192.0.2.0/28")}; got != want {
			t.Errorf("without the first %d: %v are near, want %v", i, got, want)
		}
		if i < len(of) {
			c.remove(of[i])
		}
	}
	if len(c.hosts) != 0 || len(c.nets) != 0 {
		t.Errorf("%v and %v are left", c.hosts, c.nets)
	}
}

// Two clients may have policies together where every network that both have is the same.
func TestPoliciesTogether(t *testing.T) {
	for _, c := range []struct {
		a, b []string
		want bool
	}{
		{[]string{"192.0.2.7/32"}, []string{"192.0.2.7/32"}, true},
		{[]string{"192.0.2.0/24"}, []string{"192.0.2.0/24"}, true},
		{[]string{"192.0.2.7/32"}, []string{"192.0.2.8/32"}, true}, // they never meet
		{[]string{"192.0.2.7/32", "192.0.2.8/32"}, []string{"192.0.2.8/32", "192.0.2.9/32"}, true},
		{[]string{"192.0.2.0/24"}, []string{"192.0.2.0/25"}, false},   // they begin at the same address
		{[]string{"192.0.2.0/24"}, []string{"192.0.2.128/25"}, false}, // they end at the same
		{[]string{"192.0.2.7/32"}, []string{"192.0.2.0/24"}, false},
		{[]string{"192.0.2.7/32", "10.0.0.0/8"}, []string{"192.0.2.7/32", "10.1.0.0/16"}, false},
	} {
		a, b := madeFor(c.a...).policy, madeFor(c.b...).policy
		b.Peer = a.Peer
		if together(a, b) != c.want || together(b, a) != c.want {
			t.Errorf("%v and %v: %v", c.a, c.b, !c.want)
		}
		if b.Unique = false; together(a, b) {
			t.Errorf("%v and %v: also without level unique", c.a, c.b)
		}
	}
}

// A CHILD SA that comes soon after another is measured by the failures before the first of them, unless attempts have
// failed since.
func TestWantRemembersFailures(t *testing.T) {
	env := core.NewEnv([32]byte{})
	env.SetNow(epoch)
	for _, c := range []struct {
		name     string
		w        want
		since    time.Time
		past     int
		isBriefs bool
	}{
		{"the first", want{}, epoch, 0, true},
		{"after failures", want{failures: 3}, epoch, 3, true},
		{"soon after another", want{since: epoch.Add(-time.Second), past: 4}, epoch.Add(-time.Second), 4, true},
		{"soon after another, and failures", want{failures: 2, since: epoch.Add(-time.Second), past: 4}, epoch, 2, true},
		{"long after another", want{since: epoch.Add(-24 * time.Hour), past: 4}, epoch, 0, true},
	} {
		w := c.w
		w.satisfied(env)
		if !w.since.Equal(c.since) || w.past != c.past || w.failures != 0 || w.brief(env) != c.isBriefs {
			t.Errorf("%s: %+v, brief %v", c.name, w, w.brief(env))
		}
	}
}

// An attempt that traffic did not ask for is made again each time that the one before has been made.
func TestNextAttemptIsAlwaysSet(t *testing.T) {
	r := newRig(t, initiates)
	r.takes = func(o core.Output) bool { _, ok := o.(core.Send); return ok } // nobody hears it
	policy := r.cfg.Policies[0]
	w := r.e.wants[policy.Ref]
	w.forgive(r.e.env)
	for n := range 3 {
		r.e.later(policy, false)
		if w.timer == nil || w.timer.Time().IsZero() {
			t.Fatalf("attempt %d is not to be made", n+1)
		}
		r.now = w.timer.Time()
		r.in(core.Tick{})
	}
}
