package sa

import (
	"iter"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/spd/selector"
)

// toy is a protocol that is no version of IKE: its messages are words. It shows that an
// IKE SA, its CHILD SAs, their succession and the liveness check live without one.
//
//	hello, child, rekey SPI, delete SPI, alive, bye   -->   <--  the same word, as the answer
type toy struct {
	sa      *SA
	out     []string // our requests that have no answer yet, the first of them under way
	policy  *core.Policy
	old     *Child // what our rekey replaces
	asked   *Question
	retries *core.Timer
}

func (y *toy) send(word string) {
	if y.out = append(y.out, word); len(y.out) == 1 {
		y.repeat(3)
	}
}

// repeat sends what is under way once more, and takes the peer for dead in the end.
func (y *toy) repeat(left int) {
	y.sa.Env.Timers.Stop(y.retries)
	if len(y.out) == 0 {
		return
	}
	if left == 0 {
		y.sa.Event(core.EvPeerDead, "no answer to %s", y.out[0])
		y.sa.End(true, "no answer")
		return
	}
	y.sa.Transmit(y.sa.Path, [][]byte{[]byte(y.out[0])})
	y.retries = y.sa.Env.After(time.Second, func() { y.repeat(left - 1) })
}

func (y *toy) Begin()              { y.send("hello") }
func (y *toy) Again(core.Datagram) {}
func (y *toy) Doing() string {
	if len(y.out) == 0 {
		return ""
	}
	return y.out[0]
}

// Datagram is the answer to what is under way.
func (y *toy) Datagram(raw []byte, d core.Datagram) {
	word := strings.TrimSuffix(string(raw), " ok")
	if len(y.out) == 0 || word != y.out[0] {
		return
	}
	y.sa.Fresh(d)
	y.out = y.out[1:]
	switch kind, _, _ := strings.Cut(word, " "); kind {
	case "hello":
		y.sa.Up()
		y.sa.Proved(true)
		y.sa.Keeper.Established(y.sa)
	case "child":
		y.install(nil)
	case "rekey":
		old := y.old
		old.Rekeying = false
		made := y.install(old)
		made.Birth = old.Birth
		made.Activate()
		old.Rekeyed(made)
		old.Delete("rekeyed")
	case "delete":
		for _, c := range slices.Clone(y.sa.Children) {
			if c.Closing {
				c.End("deleted")
			}
		}
	case "alive":
		if y.asked != nil {
			y.asked.Answered()
		}
	case "bye":
		y.sa.End(false, "deleted")
		return
	}
	y.repeat(3)
}

func (y *toy) install(old *Child) *Child {
	in, _ := y.sa.Env.TakeSPI()
	p := y.policy
	if old != nil {
		p = old.Policy
	}
	return y.sa.Install(NewChild{Policy: p, In: core.HalfSA{SPI: in}, Out: core.HalfSA{SPI: ^in}, Standby: old != nil, Replaces: old != nil,
		Agreement: Agreement{Suite: core.Suite{Encr: suite.EncrByName("aes-128-gcm")}, SPIOut: ^in, Pairs: []selector.Pair{p.Pair}},
		Birth:     Birth{Mine: true, Begun: y.sa.Env.Now()}})
}

func (y *toy) MakeChild(p *core.Policy, _ *selector.Pair) { y.policy = p; y.send("child") }
func (y *toy) Making(*core.Policy) bool                   { return slices.Contains(y.out, "child") }
func (y *toy) RekeyChild(c *Child) bool                   { y.old = c; y.send("rekey"); return true }
func (y *toy) DeleteChild(*Child, string)                 { y.send("delete") }
func (y *toy) Rekey()                                     {}
func (y *toy) ChildGone(*Child)                           {}
func (y *toy) Confirm(q *Question)                        { y.asked = q; y.send("alive") }
func (y *toy) Stop()                                      { y.sa.Env.Timers.Stop(y.retries); y.out = nil }
func (y *toy) Probe(bool) {
	if len(y.out) == 0 {
		y.send("alive")
	}
}
func (y *toy) Close(_ string, wait bool) {
	if wait {
		y.send("bye")
	}
}

// toyOwner keeps one SA. It has nothing but its configuration and what it was told.
type toyOwner struct {
	cfg  *core.Config
	told []string
	anew *SA // what is to be authenticated anew
}

func (o *toyOwner) Config() *core.Config                { return o.cfg }
func (o *toyOwner) Addrs() []netip.Addr                 { return nil }
func (o *toyOwner) Nets() []netip.Prefix                { return nil }
func (o *toyOwner) Siblings(*SA) iter.Seq[*SA]          { return func(func(*SA) bool) {} }
func (o *toyOwner) Namesakes(*SA) []*SA                 { return nil }
func (o *toyOwner) SharesSecret(*core.Identity) bool    { return false }
func (o *toyOwner) Named(*SA, core.ID)                  {}
func (o *toyOwner) Moves(sa *SA, to *core.Peer)         { sa.Peer = to }
func (o *toyOwner) Serves(*SA, bool)                    {}
func (o *toyOwner) Established(*SA)                     { o.told = append(o.told, "established") }
func (o *toyOwner) Ended(*SA, bool)                     { o.told = append(o.told, "ended") }
func (o *toyOwner) Redial(*SA)                          { o.told = append(o.told, "redial") }
func (o *toyOwner) Reauthenticate(sa *SA)               { o.anew = sa }
func (o *toyOwner) Renew(*SA, *core.Policy) bool        { return false }
func (o *toyOwner) ChildMade(*Child)                    { o.told = append(o.told, "child made") }
func (o *toyOwner) ChildGone(*Child)                    { o.told = append(o.told, "child gone") }
func (o *toyOwner) ChildEnded(*SA, *core.Policy)        { o.told = append(o.told, "policy bare") }
func (o *toyOwner) ChildFailed(*SA, *core.Policy, bool) {}
func (o *toyOwner) InUDP(*SA) bool                      { return false }
func (o *toyOwner) Taken(*SA, *core.Policy) string      { return "" }
func (o *toyOwner) Use(*core.Policy)                    {}
func (o *toyOwner) Generate(_ *SA, p core.Policy) (*core.Policy, error) {
	p.Ref = core.FirstMade
	return &p, nil
}

// world is an SA that speaks toy, and its peer, which answers as long as it is there.
type world struct {
	t     *testing.T
	env   *core.Env
	owner *toyOwner
	sa    *SA
	now   time.Time
	deaf  bool
	did   []string // what the endpoint had done to CHILD SAs, and the kinds of its events
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, env: core.NewEnv([32]byte{1}), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.env.SetNow(w.now)
	w.env.AddSPIs([]uint32{0x1000, 0x1001, 0x1002, 0x1003})
	w.owner = &toyOwner{cfg: w.config(1)}
	path := Path{Local: netip.MustParseAddrPort("192.0.2.1:500"), Remote: netip.MustParseAddrPort("192.0.2.2:500")}
	w.sa = New(w.env, Owner{w.owner, w.owner, w.owner, w.owner, nil}, w.owner.cfg.Peers[0], path)
	w.sa.Initiator, w.sa.SPIi = true, 7
	w.sa.Protocol = &toy{sa: w.sa}
	return w
}

// config is an equal configuration each time, but for its pointers.
func (w *world) config(ref core.PolicyRef) *core.Config {
	p := &core.Peer{Name: "b", Identities: []*core.Identity{{Auth: core.AuthPSK}}, Profile: core.Profile{Lifetime: 24 * time.Hour, DPD: 10 * time.Second}}
	prefix := func(s string) selector.TS { return selector.FromPrefix(netip.MustParsePrefix(s)) }
	return &core.Config{Peers: []*core.Peer{p}, Policies: []*core.Policy{{Ref: ref, Peer: p, Tunnel: true, Protocol: core.ProtoESP,
		Pair:     selector.Pair{Local: prefix("10.1.0.0/16"), Remote: prefix("10.2.0.0/16")},
		Proposal: core.Proposal{Lifetime: time.Hour}}}}
}

// pass lets time pass, second by second; the peer answers at once.
func (w *world) pass(d time.Duration) {
	for end := w.now.Add(d); ; w.now = w.now.Add(time.Second) {
		w.env.SetNow(w.now)
		w.env.Timers.Run(w.now)
		for out, ok := w.env.Poll(); ok; out, ok = w.env.Poll() {
			switch out := out.(type) {
			case core.Send:
				if !w.deaf {
					w.sa.Protocol.Datagram(append(out.Data, " ok"...), core.Datagram{Local: out.Local, Remote: out.Remote})
				}
			case core.Install:
				w.did = append(w.did, "install")
			case core.Activate:
				w.did = append(w.did, "activate")
			case core.Retire:
				w.did = append(w.did, "retire")
			case core.Remove:
				w.did = append(w.did, "remove")
			case core.Event:
				w.did = append(w.did, out.Kind.String())
			}
		}
		if !w.now.Before(end) {
			return
		}
	}
}

// is compares what happened since the last time.
func (w *world) is(what string, did ...string) {
	w.t.Helper()
	if !slices.Equal(w.did, did) {
		w.t.Fatalf("%s: %q, not %q", what, w.did, did)
	}
	w.did = nil
}

// An SA and its CHILD SA come up, the CHILD SA is rekeyed when it is time, both survive a
// configuration that is equal, and they end when the peer does not answer any more.
func TestAnotherProtocol(t *testing.T) {
	w := newWorld(t)
	policy := w.owner.cfg.Policies[0]
	w.sa.Protocol.Begin()
	w.pass(0)
	if w.sa.State != Established || w.sa.Protocol.Making(policy) {
		t.Fatalf("%v, making %v", w.sa.State, w.sa.Protocol.Making(policy))
	}
	w.is("up")
	w.sa.Protocol.MakeChild(policy, nil)
	w.pass(0)
	w.is("a CHILD SA", "install", "child-up")
	first := w.sa.Children[0]
	if !w.sa.Serves(policy) || first.Standby || !first.Sure {
		t.Errorf("%+v", first)
	}

	w.pass(55 * time.Minute) // the soft limit is between 80 and 90 % of an hour
	w.is("a rekey", "install", "child-up", "activate", "child-rekeyed", "retire", "retire", "remove")
	second := w.sa.Children[0]
	if len(w.sa.Children) != 1 || second == first || !first.Gone || second.Birth.Begun != first.Birth.Begun {
		t.Errorf("after the rekey: %v", w.sa.Children)
	}
	if now := w.env.Now(); now.Sub(w.sa.Heard) > 11*time.Second {
		t.Errorf("the peer was heard %v ago, and dpd-interval is 10 s", now.Sub(w.sa.Heard))
	}

	w.owner.cfg = w.config(policy.Ref) // what an endpoint does at a reload
	w.sa.Rebind(w.owner.cfg.Peers[0])
	second.Policy = w.owner.cfg.Policies[0]
	w.pass(time.Minute)
	w.is("a reload")
	if w.sa.State != Established || !w.sa.Serves(w.owner.cfg.Policies[0]) {
		t.Error("the reload has ended something")
	}

	w.deaf = true
	w.pass(20 * time.Second)
	w.is("a dead peer", "peer-dead", "remove", "child-down", "ike-down")
	want := []string{"established", "child made", "child made", "child gone", "child gone", "policy bare", "ended"}
	if !slices.Equal(w.owner.told, want) || w.sa.State != Ended {
		t.Errorf("%v, and the owner was told %q, not %q", w.sa.State, w.owner.told, want)
	}
	if _, timer := w.env.Timers.Next(); timer {
		t.Error("a timer is left")
	}
}

// An orderly end: the CHILD SAs stop sealing before the peer is told.
func TestAnotherProtocolDeletes(t *testing.T) {
	w := newWorld(t)
	w.sa.Protocol.Begin()
	w.pass(0)
	w.sa.Protocol.MakeChild(w.owner.cfg.Policies[0], nil)
	w.pass(0)
	w.did = nil
	w.sa.Delete("by command")
	w.pass(0)
	w.is("deleted", "retire", "remove", "child-down", "ike-down")
	if w.sa.State != Ended {
		t.Error(w.sa.State)
	}
}

// Who began has the peers authenticate anew when nine tenths of the time are over; who
// did not ends the SA when nothing came.
func TestAnotherProtocolReauthenticates(t *testing.T) {
	for _, mine := range []bool{true, false} {
		w := newWorld(t)
		w.owner.cfg.Peers[0].Profile.Reauth = time.Hour
		w.sa.Protocol.Begin()
		w.pass(0)
		w.sa.Proved(mine)
		w.pass(53 * time.Minute)
		if w.owner.anew != nil {
			t.Errorf("mine %v: anew before its time", mine)
		}
		w.pass(8 * time.Minute)
		if (w.owner.anew == w.sa) != mine || (w.sa.State == Ended) == mine {
			t.Errorf("mine %v: %v, to be authenticated anew: %v", mine, w.sa.State, w.owner.anew)
		}
	}
}
