package plane

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"culvert/config"
	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd/selector"
	"culvert/tun"
)

var (
	westAddr = netip.MustParseAddr("192.0.2.1")
	eastAddr = netip.MustParseAddr("192.0.2.2")
	start    = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
)

// solve answers a question whose answer needs nothing, or is the local address.
func solve(a core.Ask, local netip.Addr) core.Answer {
	if _, ok := a.Work.(core.SourceFor); ok {
		return core.Answer{ID: a.ID, Data: secret.Bytes(local.AsSlice())}
	}
	data, err := a.Work.Do()
	return core.Answer{ID: a.ID, Data: data, Err: err}
}

// script is an endpoint that puts out what a test wants done and notes what it
// is handed.
type script struct {
	out  []core.Output
	each [][]core.Output // put out behind one input each
	got  []core.Input
}

func (s *script) Handle(_ time.Time, in core.Input) {
	s.got = append(s.got, in)
	if len(s.each) > 0 {
		s.out, s.each = append(s.out, s.each[0]...), s.each[1:]
	}
}
func (s *script) Deadline() (time.Time, bool) { return time.Time{}, false }
func (s *script) Holds() []core.Hold          { return nil }
func (s *script) SAs() []core.SAInfo          { return nil }
func (s *script) Idle() bool                  { return true }
func (s *script) Poll() (core.Output, bool) {
	if len(s.out) == 0 {
		return nil, false
	}
	o := s.out[0]
	s.out = s.out[1:]
	return o, true
}

type stage struct {
	*script
	plane  *Plane
	sent   []string // "local remote hex"
	events []core.Event

	template core.PolicyRef
}

func newStage() *stage {
	s := &stage{script: &script{}}
	conn := underlay.NewMemory(westAddr, 500, 4500, func(p underlay.Packet) {
		s.sent = append(s.sent, fmt.Sprintf("%v %v %s", p.Local, p.Remote, hex.EncodeToString(p.Data())))
	})
	s.plane = New(Config{
		Endpoint: s.script, Conn: conn, Device: tun.NewMemory("culvert0", 1400), Now: func() time.Time { return start },
		Serve: func(out core.Output) { s.plane.Answer(solve(out.(core.Ask), westAddr)) },
		Event: func(_ time.Time, e core.Event) { s.events = append(s.events, e) },
	})
	return s
}

// do has the outputs applied and returns what the endpoint was handed besides the Tick.
func (s *stage) do(outs ...core.Output) []core.Input {
	s.out, s.got = outs, nil
	s.plane.Input(start, core.Tick{})
	return s.got[1:]
}

func port(a netip.Addr, p uint16) netip.AddrPort { return netip.AddrPortFrom(a, p) }

func (s *stage) install(id core.ChildID, spi uint32) core.Install {
	gcm := suite.EncrByName("aes-128-gcm")
	pair := selector.Pair{Local: selector.FromPrefix(netip.MustParsePrefix("10.1.0.0/16")), Remote: selector.FromPrefix(netip.MustParsePrefix("10.2.0.0/16"))}
	return core.Install{
		Child: id, SA: 1, Policy: 7, Peer: "other", Protocol: core.ProtoESP, Tunnel: true, Encr: gcm,
		In: core.HalfSA{SPI: spi, EncKey: make([]byte, gcm.MaterialLen())}, Out: core.HalfSA{SPI: 0x1000, EncKey: make([]byte, gcm.MaterialLen())},
		Pairs: []selector.Pair{pair}, Local: port(westAddr, 4500), Remote: port(eastAddr, 4500), UDP: true, ReplayWindow: 128,
	}
}

func TestPlaneSends(t *testing.T) {
	s := newStage()
	s.do(
		core.Send{Local: port(westAddr, 500), Remote: port(eastAddr, 500), Data: []byte{1, 2, 3}},
		core.Send{Local: port(westAddr, 4500), Remote: port(eastAddr, 4500), NATT: true, Data: []byte{1, 2}},
		core.KeepaliveTo{Local: port(westAddr, 4500), Remote: port(eastAddr, 4500)},
		core.Send{Local: port(westAddr, 500), Remote: port(netip.MustParseAddr("2001:db8::1"), 500), Data: []byte{1}}, // no way there
	)
	want := []string{"192.0.2.1:500 192.0.2.2:500 010203", "192.0.2.1:4500 192.0.2.2:4500 000000000102", "192.0.2.1:4500 192.0.2.2:4500 ff"}
	if !reflect.DeepEqual(s.sent, want) || s.plane.Unsent != 1 {
		t.Errorf("sent %q, %d unsent", s.sent, s.plane.Unsent)
	}
	if len(s.plane.Refused) != 1 || s.plane.Refused[netip.MustParseAddr("2001:db8::1")] == nil {
		t.Errorf("refused: %v", s.plane.Refused)
	}
	for i := range 2 * MaxRefused { // strangers from everywhere
		s.do(core.Send{Local: port(westAddr, 500), Remote: port(netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 14: byte(i >> 8), 15: byte(i)}), 500), Data: []byte{1}})
	}
	if n := len(s.plane.Refused); n == 0 || n > MaxRefused {
		t.Errorf("%d addresses are remembered", n)
	}
}

func TestPlaneInstalls(t *testing.T) {
	s := newStage()
	in := s.do(core.NeedSPIs{N: 3})
	spis := in[0].(core.SPIs).SPIs
	if len(in) != 1 || len(spis) != 3 {
		t.Fatalf("handed %v", in)
	}
	flow := wire.Flow{Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1"), Proto: 17}
	standby := s.install(1, spis[0])
	standby.Standby = true
	if s.do(standby); s.plane.SAs.Inbound(spis[0]) == nil || s.plane.Has(7) {
		t.Error("an SA that stands by opens and does not seal")
	}
	if s.do(core.Activate{Child: 1}); s.plane.SAs.Outbound(7, &flow) == nil {
		t.Error("activated, it seals")
	}
	moved := sad.Endpoint{Local: port(westAddr, 4500), Remote: port(eastAddr, 1024), UDP: true}
	if s.do(core.Move{Child: 1, Local: moved.Local, Remote: moved.Remote, UDP: true}); *s.plane.SAs.Child(1).Endpoint() != moved {
		t.Errorf("moved to %v", s.plane.SAs.Child(1).Endpoint())
	}
	if s.do(core.Retire{Child: 1}); s.plane.Has(7) || s.plane.SAs.Inbound(spis[0]) == nil {
		t.Error("retired, it opens and does not seal")
	}
	if s.do(core.Remove{Child: 1}, core.FreeSPI{SPI: spis[1]}); s.plane.SAs.Len() != 0 {
		t.Error("removed, it is still there")
	}
	// An SPI that is nobody's: the endpoint hears that the SA is no more.
	in = s.do(s.install(2, spis[1]))
	if !reflect.DeepEqual(in, []core.Input{core.Expire{Child: 2, Hard: true}}) || len(s.events) != 1 || s.events[0].Child != 2 {
		t.Errorf("handed %v, events %v", in, s.events)
	}
}

// A full table owes the SPIs that it could not give.
func TestPlaneOwesSPIs(t *testing.T) {
	s := newStage()
	s.plane.SAs = sad.NewTable(4, 1)
	in := s.do(core.NeedSPIs{N: 6})
	spis := in[0].(core.SPIs).SPIs
	if len(in) != 1 || len(spis) != 4 {
		t.Fatalf("handed %v", in)
	}
	if in = s.do(core.FreeSPI{SPI: spis[0]}); len(in) != 1 || len(in[0].(core.SPIs).SPIs) != 1 {
		t.Errorf("after one came back: %v", in)
	}
	s.do(s.install(1, spis[1]))
	if in = s.do(core.Remove{Child: 1}); len(in) != 1 || len(in[0].(core.SPIs).SPIs) != 1 {
		t.Errorf("after an SA has left: %v", in)
	}
	if in = s.do(core.FreeSPI{SPI: spis[2]}); len(in) != 0 {
		t.Errorf("nothing is owed any more: %v", in)
	}
}

func TestPlaneAnswers(t *testing.T) {
	s := newStage()
	s.do(core.Ask{ID: 3, Work: core.SourceFor{Remote: eastAddr}})
	s.got = nil
	s.plane.Work(start)
	if want := []core.Input{core.Answer{ID: 3, Data: westAddr.AsSlice()}}; !reflect.DeepEqual(s.got, want) {
		t.Errorf("handed %+v, want %+v", s.got, want)
	}
}

// led is a stage with a template outside pools and a policy of level use (7), whose host follows when it is told to.
func led(t *testing.T) (s *stage, follows *int) {
	s, follows = newStage(), new(int)
	c, _, err := config.Parse("test.toml", []byte(`
[[policy-group]]
name = "g"
[[policy]]
template = true
group = "g"
[[peer]]
name = "clients"
exchange-mode = "ike2"
passive = true
[[identity]]
peer = "clients"
secret = "s"
generate-policy = "port-strict"
policy-template-group = "g"
`))
	if err != nil {
		t.Fatal(err)
	}
	next, err := compile.Compile(c, [2]uint16{500, 4500}, nil)
	if err != nil {
		t.Fatal(err)
	}
	next.Uses[7] = true
	s.plane.Switch(next).Policies()
	s.plane.Config.Follow = func() bool {
		s.plane.Following()
		*follows++
		s.sent = append(s.sent, fmt.Sprintf("follow with %d routes", len(s.plane.Plan(next).Routes)))
		return true
	}
	s.plane.Config.Event = func(_ time.Time, e core.Event) { s.sent = append(s.sent, "event "+e.Reason) }
	s.template = slices.Collect(maps.Keys(s.plane.Templates))[0]
	return s, follows
}

// made is a policy from the template, for a client of its own.
func (s *stage) made(client byte) core.AddPolicy {
	pair := selector.Pair{Local: selector.FromPrefix(netip.MustParsePrefix("192.0.2.1/32")), Remote: selector.FromPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, client}), 32))}
	return core.AddPolicy{Ref: core.FirstTemplate + 1000 + core.PolicyRef(client), Template: s.template, Peer: "clients", Pairs: []selector.Pair{pair}}
}

func message(text string) core.Send {
	return core.Send{Local: port(westAddr, 500), Remote: port(eastAddr, 500), Data: []byte(text)}
}

// What needs the host waits for it, in order, and what does not need it goes on. Clients that come at once share
// one following.
func TestOutputsWaitForTheHost(t *testing.T) {
	s, follows := led(t)
	spis := s.do(core.NeedSPIs{N: 8})[0].(core.SPIs).SPIs
	sa := func(id core.ChildID, policy core.PolicyRef) core.Install {
		in := s.install(id, spis[0])
		spis, in.Policy = spis[1:], policy
		return in
	}
	sent := func(what string, want ...string) {
		t.Helper()
		for i, text := range want {
			if hex := hex.EncodeToString([]byte(text)); len(text) == 1 {
				want[i] = "192.0.2.1:500 192.0.2.2:500 " + hex
			}
		}
		if !slices.Equal(s.sent, want) {
			t.Errorf("%s:\nsent %q\nwant %q", what, s.sent, want)
		}
		s.sent = nil
	}
	s.do(message("a"))
	sent("nothing new", "a")

	// Two clients in one batch of inputs. The host knows both before the first SA is there.
	one, two := s.made(1), s.made(2)
	s.each = [][]core.Output{
		{message("a"), one, core.Event{Reason: "first"}, sa(1, one.Ref), core.Event{Reason: "up"}, message("b"), core.NeedSPIs{N: 1}},
		{two, sa(2, two.Ref), message("c"), core.Remove{Child: 1}},
		{message("d")},
	}
	follow := s.plane.Config.Follow
	s.plane.Config.Follow = func() bool {
		if n := s.plane.SAs.Len(); n != 0 {
			t.Errorf("%d SAs are there before the host has followed", n)
		}
		return follow()
	}
	for range s.each {
		s.plane.Answer(core.Answer{})
	}
	s.plane.Work(start)
	sent("two clients", "a", "event first", "follow with 2 routes", "event up", "b", "c", "d")
	if s.plane.SAs.Child(1) != nil || s.plane.SAs.Child(2) == nil || *follows != 1 {
		t.Errorf("SA 1 %v, SA 2 %v, followed %d times", s.plane.SAs.Child(1), s.plane.SAs.Child(2), *follows)
	}

	// What has gone is not waited for.
	s.plane.Config.Follow = nil
	s.do(core.DropPolicy{Ref: one.Ref}, core.Remove{Child: 2}, message("e"))
	sent("one has gone", "e")
	if !s.plane.Replan {
		t.Error("the host is not to follow what has gone")
	}

	// As long as the host cannot follow nothing of that leaves.
	can := false
	s.plane.Config.Follow = func() bool {
		if can {
			s.plane.Following()
		}
		return can
	}
	s.do(one, sa(3, one.Ref), message("f"))
	s.do(message("g"))
	sent("it cannot follow")
	can = true
	s.plane.Settle(start)
	sent("it can", "f", "g")
	if s.plane.SAs.Child(3) == nil {
		t.Error("the SA is not there")
	}

	// An address that a peer gives, and level use: its routes stand before the SA that they follow.
	s.plane.Config.Follow = func() bool {
		s.plane.Following()
		s.sent = append(s.sent, fmt.Sprintf("leads %v, seals %v", s.plane.leads(7), s.plane.Has(7)))
		return true
	}
	s.do(core.Configured{Holder: 1, Addrs: []netip.Addr{eastAddr}}, message("h"))
	sent("an address", "leads false, seals false", "h")
	s.do(sa(4, 7), message("i"))
	sent("level use", "leads true, seals false", "i")
	s.do(sa(5, 7), message("j"))
	sent("a rekey", "j")
	s.plane.Replan = false
	if s.do(core.Retire{Child: 4}, core.Remove{Child: 4}); s.plane.Replan && !s.plane.leads(7) {
		t.Error("its successor is there")
	}
	if s.do(core.Retire{Child: 5}); !s.plane.Replan || s.plane.leads(7) {
		t.Error("nothing seals any more, and the routes stay")
	}
	// One that stands by and cannot send in clear meanwhile is led to once it seals, before anything else leaves.
	standby := sa(6, 7)
	standby.Standby = true
	s.do(standby, message("k"), core.Activate{Child: 6}, message("l"))
	sent("standby", "k", "leads true, seals true", "l")
	// One that cannot be installed leaves nothing behind.
	s.do(core.Remove{Child: 6})
	s.do(s.install(7, 0x12345))
	if s.plane.leads(7) || !s.plane.Replan || len(s.plane.leading) != 0 {
		t.Errorf("an SA that is not there leads: %v", s.plane.leading)
	}
}

// A client that cannot be installed does not count.
func TestClientsAreCounted(t *testing.T) {
	s, follows := led(t)
	spis := s.do(core.NeedSPIs{N: 2})[0].(core.SPIs).SPIs
	first, failed, second := s.install(1, spis[0]), s.install(2, 0x12345), s.install(3, spis[1])
	first.Policy, first.Client, failed.Policy, failed.Client, second.Policy, second.Client = 9, 1, 9, 2, 9, 3
	s.do(first)
	if s.plane.several(9) || *follows != 0 {
		t.Error("one client is several")
	}
	s.do(failed)
	if c := s.plane.Clients[9]; c == nil || len(c.children) != 1 {
		t.Errorf("clients: %+v", c)
	}
	s.do(second)
	if !s.plane.several(9) || *follows == 0 {
		t.Error("two clients are not several")
	}
}

// AH around ESP is one CHILD SA to the endpoint and two to the database: what names it means both, and there are both or none.
func TestPlaneInstallsAHWithESP(t *testing.T) {
	s := newStage()
	spis := s.do(core.NeedSPIs{N: 3})[0].(core.SPIs).SPIs
	flow := wire.Flow{Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1"), Proto: 17}
	sha := suite.IntegByName("sha256")
	both := func(id core.ChildID, esp, ah uint32) core.Install {
		in := s.install(id, esp)
		in.UDP, in.Local, in.Remote, in.Watched, in.HardBytes, in.SoftBytes = false, port(westAddr, 0), port(eastAddr, 0), true, 2000, 1000
		in.AH = core.Around{Integ: sha, In: core.HalfSA{SPI: ah, IntegKey: make([]byte, sha.KeyLen)}, Out: core.HalfSA{SPI: 0x2000, IntegKey: make([]byte, sha.KeyLen)}}
		return in
	}
	standby := both(1, spis[0], spis[1])
	standby.Standby = true
	if s.do(standby); s.plane.SAs.Len() != 2 || s.plane.Has(7) {
		t.Fatalf("%d SAs, sealing %v", s.plane.SAs.Len(), s.plane.Has(7))
	}
	esp, ah := s.plane.SAs.Inbound(spis[0]).Child(), s.plane.SAs.Inbound(spis[1]).Child()
	if esp.ID != 1 || !esp.Bundled || esp.Protocol != sad.ProtocolESP || ah.Protocol != sad.ProtocolAH || ah.Inner() != esp || esp.Over() != ah || ah.HardBytes != 0 || ah.Policy != 7 {
		t.Errorf("%+v\n%+v", esp, ah)
	}
	if s.do(core.Activate{Child: 1}); s.plane.SAs.Outbound(7, &flow) != esp.Outbound() {
		t.Error("activated, it seals")
	}
	moved := sad.Endpoint{Local: port(westAddr, 0), Remote: port(netip.MustParseAddr("192.0.2.9"), 0)}
	if s.do(core.Move{Child: 1, Local: moved.Local, Remote: moved.Remote}); *esp.Endpoint() != moved || *ah.Endpoint() != moved {
		t.Errorf("moved to %v and %v", esp.Endpoint(), ah.Endpoint())
	}
	s.got = nil
	for _, c := range []*sad.Child{esp, ah} { // whichever the data path means
		s.plane.Inbox.Used(c.ID)
		s.plane.Inbox.Expire(c.ID, true)
	}
	used, expired := core.Input(core.Used{Child: 1}), core.Input(core.Expire{Child: 1, Hard: true})
	if s.plane.Work(start); !reflect.DeepEqual(s.got, []core.Input{used, expired, used, expired}) {
		t.Errorf("handed %v", s.got)
	}
	if s.do(core.Retire{Child: 1}); s.plane.Has(7) || s.plane.SAs.Len() != 2 {
		t.Error("retired, it opens and does not seal")
	}
	if s.do(core.Remove{Child: 1}); s.plane.SAs.Len() != 0 {
		t.Errorf("removed, there are %d SAs", s.plane.SAs.Len())
	}
	if s.do(both(2, spis[2], spis[2])); s.plane.SAs.Len() != 0 || len(s.got) != 2 || s.got[1] != (core.Expire{Child: 2, Hard: true}) || s.plane.Has(7) {
		t.Errorf("the SPI of AH is taken: %d SAs, handed %v", s.plane.SAs.Len(), s.got)
	}
}
