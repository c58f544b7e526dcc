package datapath

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd"
	"culvert/spd/selector"
)

// Whatever stands in a packet's way, an explanation says what then becomes of the packet, by
// which policy and SA, and whether an SA is asked for.
func TestExplainedIsDone(t *testing.T) {
	flow := wire.Flow{Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1"), Proto: 17, SrcPort: 1000, DstPort: 2000}
	// What an explanation does not know: whether what is written to takes it, and sequence numbers.
	not := map[string]Reason{
		"network refuses": Passed, "sequence numbers at their end": Passed,
		"none, and a way": OutUnprotected, "use without SA, and a way": OutUnprotected, "none, and a way that fails": OutUnprotected,
	}
	ran := 0
	for _, s := range append(outSteps(),
		step{name: "an SA that is not for tunnels, of these hosts", setup: reconnect(func(l, r *sad.Params) {
			l.Tunnel, l.Local, l.Remote = false, netip.MustParseAddrPort("10.1.0.1:4500"), netip.MustParseAddrPort("10.2.0.1:4500")
		})},
		step{name: "an SA that is not for tunnels, of another host here", setup: reconnect(func(l, r *sad.Params) {
			l.Tunnel, l.Local, l.Remote = false, netip.MustParseAddrPort("10.1.0.9:4500"), netip.MustParseAddrPort("10.2.0.1:4500")
		})},
		step{name: "an SA that is not for tunnels, of another host there", setup: reconnect(func(l, r *sad.Params) {
			l.Tunnel, l.Local, l.Remote = false, netip.MustParseAddrPort("10.1.0.1:4500"), netip.MustParseAddrPort("10.2.0.9:4500")
		})},
		step{name: "nothing"},
	) {
		u := newTunnel(t, ciphers[0])
		u.connect(1, 1, nil)
		if s.setup != nil {
			s.setup(u)
		}
		u.left.log.lines = nil
		x := u.left.path.ExplainOut(start, &flow)
		if n := u.left.path.Counters().Get(OutNoStates); n != 0 || len(u.left.log.lines) != 0 {
			t.Errorf("%s: to explain it was counted or told", s.name)
		}
		want := plainStep(u)
		asked := slices.ContainsFunc(u.left.log.lines, func(l string) bool { return strings.HasPrefix(l, "acquire") })
		if r, ok := not[s.name]; ok {
			want = r
		}
		if x.Reason != want || x.Acquire != asked || x.Policy != u.left.pols.Lookup(&flow) || x.Waits {
			t.Errorf("%s: explained as %v, asked %v; it is %v, %v", s.name, x.Reason, x.Acquire, want, asked)
		}
		if sa := u.left.sads.Child(1); x.SA != nil && x.SA != sa || (x.Reason == Passed || x.Reason == OutStateExpired || x.Reason == OutStateModeErrors) && x.SA == nil {
			t.Errorf("%s: %v by the SA %v", s.name, x.Reason, x.SA)
		}
		ran++
	}
	if ran < 20 {
		t.Errorf("%d steps", ran)
	}
}

func TestExplainedInIsDone(t *testing.T) {
	packet := func(src, dst string) (pkt []byte, f wire.Flow) {
		pkt = udp(src, dst, 100)
		if _, ok := wire.ParseFlow(pkt, &f); !ok {
			t.Fatal("no packet")
		}
		return pkt, f
	}
	good := [2]string{"10.1.0.1", "10.2.0.1"}
	for _, c := range []struct {
		name  string
		ends  [2]string
		setup func(u *tunnel)
		want  Reason
	}{
		{"nothing in the way", good, nil, Passed},
		{"another source", [2]string{"10.3.0.1", "10.2.0.1"}, nil, InTemplateMismatches},
		{"expired", good, reconnect(func(l, r *sad.Params) { r.Added, r.Hard = start.Add(-time.Hour), time.Hour }), InStateExpired},
		{"no policy", good, rightPolicies(func([]spd.Policy) []spd.Policy { return nil }), InNoPolicies},
		{"discard", good, rightPolicies(func(p []spd.Policy) []spd.Policy { p[0].Action = spd.Discard; return p }), InPolicyBlocked},
		{"none", good, rightPolicies(func(p []spd.Policy) []spd.Policy { p[0].Action = spd.None; return p }), InTemplateMismatches},
		{"dead", good, rightPolicies(func(p []spd.Policy) []spd.Policy { p[0].Ref, p[0].Dead = 77, true; return p }), InPolicyErrors},
		{"another policy above", good, rightPolicies(func(p []spd.Policy) []spd.Policy { p[0].Ref = 77; return p }), Passed},
	} {
		u := newTunnel(t, ciphers[0])
		u.connect(1, 1, nil)
		if c.setup != nil {
			c.setup(u)
		}
		pkt, f := packet(c.ends[0], c.ends[1])
		sa := u.right.sads.Child(1)
		x := u.right.path.ExplainIn(start, &f, sa.Inbound().SPI())
		if r := receive(pkt, 4)(u); r != c.want || x.Reason != r || x.SA != sa || x.Waits || x.Acquire || x.Policy != u.right.pols.LookupIn(&f) {
			t.Errorf("%s: %v, explained as %+v, want %v", c.name, r, x, c.want)
		}
		if x := u.right.path.ExplainIn(start, &f, 0x01020304); x.Reason != InNoStates || x.SA != nil {
			t.Errorf("%s: by no SA: %+v", c.name, x)
		}
	}
}

// In transport mode an error goes and comes only between the two hosts themselves, also
// where the policy is for another protocol.
func TestErrorsOfTransportMode(t *testing.T) {
	hosts := pair("192.0.2.1/32", "192.0.2.2/32")
	hosts.Local.Proto, hosts.Remote.Proto = 17, 17
	about := udp("192.0.2.2", "192.0.2.1", 100)
	for _, c := range []struct {
		by   string
		want Reason
	}{{"192.0.2.1", Passed}, {"192.0.2.9", OutPolicyErrors}} {
		u := newTunnel(t, ciphers[0])
		pols := []spd.Policy{{Ref: 1, Pair: hosts, Action: spd.Encrypt}}
		u.left.pols.Replace(pols)
		u.right.pols.Replace(reversed(pols))
		u.connect(1, 1, func(l, r *sad.Params) {
			l.Tunnel, r.Tunnel = false, false
			l.Pairs, r.Pairs = []selector.Pair{hosts}, []selector.Pair{hosts.Reverse()}
		})
		pkt := unreachable(c.by, "192.0.2.2", about)
		if r := u.left.path.SendPlain(start, pkt); r != c.want {
			t.Errorf("by %s: out: %v, want %v", c.by, r, c.want)
			continue
		}
		if sealed := u.left.conn.take(); (len(sealed) == 1) != (c.want == Passed) {
			t.Errorf("by %s: %d sealed", c.by, len(sealed))
		} else if c.want == Passed {
			if r := u.right.path.Receive(start, datagram(sealed[0])); r != Passed || len(u.right.host.take()) != 1 {
				t.Errorf("by %s: in: %v", c.by, r)
			}
		}
	}
}

// Each worker learns of every answer to what it asked for, however many calls it missed, as
// long as the log has them; then it forgets all.
func TestAcquiredLog(t *testing.T) {
	const calls = 3*acquireLog/2 + 100
	var a acquires
	for i := range uint32(calls) {
		a.done(i)
	}
	if len(a.log) > acquireLog || a.turn.Load() != calls {
		t.Fatalf("a log of %d after %d calls", len(a.log), a.turn.Load())
	}
	for _, behind := range []int{0, 1, 2, 3, len(a.log) - 1, len(a.log), len(a.log) + 1, calls} {
		k := asked{turn: uint64(calls - behind), when: map[uint32]int64{}}
		for i := range uint32(calls) {
			k.first(i, 1)
		}
		k.begin(&a, 1)
		for i := range calls {
			_, known := k.when[uint32(i)]
			if want := i < calls-behind && behind <= len(a.log); known != want {
				t.Fatalf("%d calls behind: policy %d is known: %v", behind, i, known)
			}
		}
		if k.turn != calls {
			t.Errorf("%d calls behind: at %d", behind, k.turn)
		}
	}
}
