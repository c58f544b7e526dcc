package plane

import (
	"bytes"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/spd"
	"culvert/spd/selector"
)

// What the data path says becomes an input; what can be lost without harm is, once so many wait,
// and what happens once is not.
func TestInboxTellsApart(t *testing.T) {
	flow := wire.Flow{Src: westAddr, Dst: eastAddr, Proto: wire.ProtoUDP, SrcPort: 1, DstPort: 2}
	pkt := underlay.Packet{Buf: make([]byte, 30), Off: 2, Len: 28, NATT: true, Local: port(westAddr, 4500), Remote: port(eastAddr, 4500)}
	pkt.Data()[15] = 1
	for _, c := range []struct {
		name  string
		leave func(b *Inbox)
		want  core.Input
		kept  bool // when the inbox is full
	}{
		{"IKE", func(b *Inbox) { b.IKE(&pkt) }, core.Datagram{Local: pkt.Local, Remote: pkt.Remote, NATT: true, Data: slices.Clone(pkt.Data())}, false},
		{"Acquire", func(b *Inbox) { b.Acquire(7, flow) }, core.Acquire{Policy: 7, Flow: PairOfFlow(&flow)}, false},
		{"Heard", func(b *Inbox) { b.Heard(7) }, core.Alive{Child: 7}, false},
		{"Moved", func(b *Inbox) { b.Moved(7, pkt.Local, pkt.Remote) }, core.Moved{Child: 7, Local: pkt.Local, Remote: pkt.Remote}, false},
		{"Unmeasured", func(b *Inbox) { b.Unmeasured(7, 1500) }, core.PathUntried{Child: 7, MTU: 1500}, false},
		{"Claim", func(b *Inbox) { b.Claim(7, 1300) }, core.PathClaim{Child: 7, MTU: 1300}, false},
		{"Unanswered", func(b *Inbox) { b.Unanswered(7) }, core.Unanswered{Child: 7}, false},
		{"Silent", func(b *Inbox) { b.Silent(7) }, core.Silent{Child: 7}, false},
		{"Busy", func(b *Inbox) { b.Busy(7, 2) }, core.Busy{Child: 7, Line: 2}, false},
		{"Unknown", func(b *Inbox) {
			b.Unknown(datapath.Unknown{Local: pkt.Local, Remote: pkt.Remote, NATT: true, SPI: 8, Child: 7})
		},
			core.UnknownSPI{Local: pkt.Local, Remote: pkt.Remote, NATT: true, SPI: 8, Child: 7}, false},
		{"Expire", func(b *Inbox) { b.Expire(7, true) }, core.Expire{Child: 7, Hard: true}, true},
		{"Used", func(b *Inbox) { b.Used(7) }, core.Used{Child: 7}, true},
		{"Answer", func(b *Inbox) { b.Put(core.Answer{ID: 7}) }, core.Answer{ID: 7}, true},
	} {
		b := NewInbox()
		c.leave(b)
		if got := b.Take(); len(got) != 1 || !reflect.DeepEqual(got[0], c.want) {
			t.Errorf("%s: %+v", c.name, got)
		}
		select {
		case <-b.Wake:
		default:
			t.Errorf("%s wakes nobody", c.name)
		}
		for range InboxLimit - 1 {
			b.Heard(1)
		}
		if c.leave(b); len(b.Take()) != InboxLimit {
			t.Errorf("%s does not find the last place", c.name)
		}
		for range InboxLimit {
			b.Heard(1)
		}
		if c.leave(b); (len(b.Take()) == InboxLimit+1) != c.kept {
			t.Errorf("%s in a full inbox is kept: %v", c.name, !c.kept)
		}
		if again := b.Take(); len(again) != 0 {
			t.Errorf("%s: %d inputs are taken twice", c.name, len(again))
		}
	}
	b := NewInbox()
	b.Waits()
	b.Waits() // nobody is kept waiting
	select {
	case <-b.Wake:
	default:
		t.Error("Waits wakes nobody")
	}
}

// A message without room for two SPIs is a stranger's in no case: it is not of IKE.
func TestBegins(t *testing.T) {
	for n := range 20 {
		if got := begins(make([]byte, n)); got != (n >= 16) {
			t.Errorf("%d bytes of zeros begin: %v", n, got)
		}
	}
	for i := range 16 {
		data := make([]byte, 16)
		if data[i] = 1; begins(data) != (i < 8) {
			t.Errorf("byte %d is not zero: it begins: %v", i, i >= 8)
		}
	}
}

// idle is an endpoint whose deadline is said.
type idle struct {
	*script
	at time.Time
}

func (e *idle) Deadline() (time.Time, bool) { return e.at, !e.at.IsZero() }

// The deadline is the endpoint's or that of the next dummy packets, whichever comes first.
func TestPlaneDeadline(t *testing.T) {
	s := newStage()
	e := &idle{script: s.script}
	s.plane.Config.Endpoint = e
	for _, c := range []struct {
		endpoint, dummies, want time.Duration // after the start; -1: none
	}{
		{-1, -1, -1}, {5, -1, 5}, {-1, 5, 5}, {5, 6, 5}, {6, 5, 5}, {5, 5, 5},
	} {
		at := func(d time.Duration) time.Time {
			if d < 0 {
				return time.Time{}
			}
			return start.Add(d)
		}
		e.at, s.plane.dummies = at(c.endpoint), at(c.dummies)
		if got, ok := s.plane.Deadline(); ok != (c.want >= 0) || !got.Equal(at(c.want)) {
			t.Errorf("the endpoint's after %d and dummies after %d: %v, %v", c.endpoint, c.dummies, got.Sub(start), ok)
		}
	}
	// A Tick that is due for the data path alone is not the endpoint's.
	ticks := func() int { s.got = nil; s.plane.Input(start, core.Tick{}); return len(s.got) }
	for _, c := range []struct {
		endpoint, dummies time.Time
		want              int
	}{
		{start, time.Time{}, 1}, {start.Add(1), time.Time{}, 1}, {start, start, 1}, {start.Add(1), start, 0}, {time.Time{}, start, 0}, {start.Add(1), start.Add(1), 1},
	} {
		if e.at, s.plane.dummies = c.endpoint, c.dummies; ticks() != c.want {
			t.Errorf("the endpoint's deadline %v, dummies %v: %d inputs", c.endpoint.Sub(start), c.dummies.Sub(start), len(s.got))
		}
	}
}

// Packets are padded to what the device gives at most, so that none is cut for it.
func TestPadding(t *testing.T) {
	s := newStage() // with a device of 1400 bytes
	for tfc, want := range map[int]int{0: 0, 1: 1, 1399: 1399, 1400: 1400, 1401: 1400, 65535: 1400} {
		if got := s.plane.padding(core.Install{TFC: tfc}); got != want {
			t.Errorf("to %d bytes: %d, want %d", tfc, got, want)
		}
	}
}

// A path that the network refuses is forgotten when a message leaves by it.
func TestRefusedIsForgotten(t *testing.T) {
	s := newStage()
	conn := s.plane.Config.Conn.(*underlay.Memory)
	conn.Refuse(func(underlay.Packet) error { return underlay.ErrPrivilege })
	s.do(message("a"))
	if s.plane.Unsent != 1 || s.plane.Refused[eastAddr] != underlay.ErrPrivilege {
		t.Errorf("%d unsent, %v", s.plane.Unsent, s.plane.Refused)
	}
	conn.Refuse(nil)
	if s.do(message("b")); s.plane.Unsent != 1 || len(s.plane.Refused) != 0 {
		t.Errorf("%d unsent, %v", s.plane.Unsent, s.plane.Refused)
	}
}

// Addresses that peers gave are the host's until they are taken back, each once; routes of made
// policies are there as long as the policy.
func TestWhatIsMade(t *testing.T) {
	s, _ := led(t)
	result := resultOf(t, "")
	plan := func() ([]netip.Prefix, int) {
		p := s.plane.Plan(result)
		return p.Addresses, len(p.Routes)
	}
	a, b := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("2001:db8::1")
	s.do(core.Configured{Holder: 2, Peer: "x", Addrs: []netip.Addr{a, b}}, core.Configured{Holder: 1, Peer: "y", Addrs: []netip.Addr{a}})
	if got, _ := plan(); !slices.Equal(got, []netip.Prefix{netip.PrefixFrom(a, 32), netip.PrefixFrom(b, 128)}) {
		t.Errorf("addresses %v", got)
	}
	if !s.plane.Connected("x") || !s.plane.Connected("y") || s.plane.Connected("z") {
		t.Error("connected")
	}
	s.do(core.Configured{Holder: 2, Peer: "x", Addrs: []netip.Addr{b}}) // in place of both
	s.plane.Replan = false
	s.do(core.Unconfigured{Holder: 1})
	if got, _ := plan(); !slices.Equal(got, []netip.Prefix{netip.PrefixFrom(b, 128)}) || !s.plane.Replan || s.plane.Connected("y") {
		t.Errorf("addresses %v", got)
	}
	s.plane.Replan = false
	if s.do(core.Unconfigured{Holder: 1}); s.plane.Replan {
		t.Error("the host follows what was taken back before")
	}
	s.do(core.Unconfigured{Holder: 2})

	one, two := s.made(1), s.made(2)
	s.do(two, one)
	var refs []core.PolicyRef
	for _, m := range s.plane.MadeInOrder() {
		refs = append(refs, m.Ref)
	}
	if !slices.Equal(refs, []core.PolicyRef{two.Ref, one.Ref}) {
		t.Errorf("in the order of their making: %v", refs)
	}
	if got := s.plane.placed(s.plane.Templates); len(got) != 2 || len(got[0].Rows) != 1 || got[0].Rows[0].Ref != uint32(two.Ref) || got[0].Rows[0].Action != spd.Encrypt {
		t.Errorf("%+v", got)
	}
	if got := s.plane.placed(nil); len(got) != 0 {
		t.Errorf("without templates: %+v", got)
	}
	s.plane.Replan = false
	if s.do(core.DropPolicy{Ref: one.Ref}); !s.plane.Replan || len(s.plane.MadeInOrder()) != 1 {
		t.Error("the host does not follow a policy that has gone")
	}
	s.plane.Replan = false
	if s.do(core.DropPolicy{Ref: one.Ref}); s.plane.Replan {
		t.Error("the host follows a policy that had gone")
	}
}

// resultOf is the configuration of led, with more.
func resultOf(t *testing.T, more string) *compile.Result {
	t.Helper()
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
`+more))
	if err != nil {
		t.Fatal(err)
	}
	next, err := compile.Compile(c, [2]uint16{500, 4500}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// A switch that is taken back leaves policies, templates, uses and what the host is to follow as they were.
func TestRevert(t *testing.T) {
	s, _ := led(t)
	p := s.plane
	one := s.made(1)
	s.do(one)
	before, uses, templates := slices.Clone(p.Policies.Policies()), p.Uses, p.Templates
	for _, replan := range []bool{false, true} {
		p.Replan, p.lacks = replan, replan
		next := resultOf(t, "[[policy]]\nsrc-address = \"10.1.0.0/16\"\ndst-address = \"10.2.0.0/16\"\naction = \"discard\"\n")
		sw := p.Switch(next)
		sw.Revert() // nothing has begun
		sw.Policies()
		if reflect.DeepEqual(p.Policies.Policies(), before) || p.Replan || p.lacks || reflect.ValueOf(p.Uses).Pointer() != reflect.ValueOf(next.Uses).Pointer() {
			t.Error("nothing was switched")
		}
		sw.Revert()
		if !reflect.DeepEqual(p.Policies.Policies(), before) || p.Replan != replan || p.lacks != replan ||
			reflect.ValueOf(p.Uses).Pointer() != reflect.ValueOf(uses).Pointer() || reflect.ValueOf(p.Templates).Pointer() != reflect.ValueOf(templates).Pointer() {
			t.Errorf("replan %v: policies %+v, want %+v", replan, p.Policies.Policies(), before)
		}
		p.Replan = true
		if sw.Revert(); !p.Replan {
			t.Error("a second Revert does something")
		}
	}
	f := selector.Pair{Local: one.Pairs[0].Local, Remote: one.Pairs[0].Remote}
	if got := p.placed(p.Templates); len(got) != 1 || got[0].Rows[0].Pair != f {
		t.Errorf("the policy that was made: %+v", got)
	}
}

// A client's SAs count until the last has gone; then the policy's routes close again.
func TestClientsLeave(t *testing.T) {
	s, _ := led(t)
	p := s.plane
	spis := s.do(core.NeedSPIs{N: 4})[0].(core.SPIs).SPIs
	for i, client := range []uint64{1, 1, 2, 0} {
		in := s.install(core.ChildID(i+1), spis[i])
		in.Policy, in.Client = 9, client
		s.do(in)
		if want := i >= 2; p.several(9) != want {
			t.Errorf("after %d SAs several: %v", i+1, !want)
		}
	}
	for i, c := range []struct{ several, replan bool }{{true, false}, {true, false}, {false, true}, {false, false}} {
		p.Replan = false
		s.do(core.Remove{Child: core.ChildID(i + 1)})
		if p.several(9) != c.several || p.Replan != c.replan {
			t.Errorf("after %d have gone several: %v, replan: %v", i+1, p.several(9), p.Replan)
		}
	}
	if len(p.Clients) != 0 {
		t.Errorf("%+v", p.Clients)
	}
	in := s.install(9, s.do(core.NeedSPIs{N: 1})[0].(core.SPIs).SPIs[0])
	in.Policy, in.Client = 9, 5
	s.do(in)
	if p.Replan = true; !p.leads(9) {
		t.Error("an SA that seals leads nowhere")
	}
	if s.do(core.Remove{Child: 9}); !p.Replan {
		t.Error("that the host is to follow is forgotten")
	}
}

// Strangers have their part of the bytes, and what takes none finds room where the bound has been lowered.
func TestInboxShares(t *testing.T) {
	b := NewInbox()
	b.Most.Store(100 * (1000 + InboxMessage))
	p := underlay.Packet{Buf: make([]byte, 1000), Len: 1000}
	for range 100 {
		b.IKE(&p)
	}
	if n := len(b.Take()); n != 25 {
		t.Errorf("%d messages of strangers are kept", n)
	}
	p.Buf[15] = 1
	for range 200 {
		b.IKE(&p)
	}
	b.Most.Store(1000)
	b.Heard(1)
	if n := len(b.Take()); n != 101 {
		t.Errorf("%d are kept", n)
	}
}

// Policies whose clients get their addresses from us need no routes of their own, and those of templates that
// have gone none at all.
func TestRoutesOfMade(t *testing.T) {
	s, _ := led(t)
	p := s.plane
	result := resultOf(t, "mode-config = \"m\"\n[[mode-config]]\nname = \"m\"\naddress-pool = \"a\"\n[[pool]]\nname = \"a\"\nranges = \"10.9.0.0/24\"\n")
	p.Switch(result).Policies()
	for ref := range p.Templates {
		s.template = ref
	}
	made := func(remotes ...string) core.AddPolicy {
		out := s.made(1)
		out.Pairs = nil
		for _, r := range remotes {
			out.Pairs = append(out.Pairs, selector.Pair{Local: selector.FromPrefix(netip.MustParsePrefix("192.0.2.1/32")), Remote: selector.FromPrefix(netip.MustParsePrefix(r))})
		}
		return out
	}
	for _, c := range []struct {
		name    string
		remotes []string
		replan  bool
		routes  int
	}{
		{"from the pool", []string{"10.9.0.5/32"}, false, 0}, {"from elsewhere", []string{"198.51.100.1/32"}, true, 1},
		{"from the pool, and no more from elsewhere", []string{"10.9.0.5/32"}, true, 0}, {"from the pool again", []string{"10.9.0.5/32"}, false, 0},
		{"from both", []string{"10.9.0.5/32", "198.51.100.1/32"}, true, 1},
	} {
		p.Config.Follow = nil
		before := len(result.Routes(p.leads, nil, nil))
		p.Following()
		if s.do(made(c.remotes...)); p.Replan != c.replan {
			t.Errorf("%s: replan %v", c.name, p.Replan)
		}
		if n := len(p.Plan(result).Routes) - before; n != c.routes {
			t.Errorf("%s: %d routes", c.name, n)
		}
	}
	gone := made("198.51.100.2/32")
	gone.Ref, gone.Template = gone.Ref+1, s.template+100
	p.Following()
	if s.do(gone); p.Replan || len(p.MadeInOrder()) != 2 {
		t.Errorf("of a template that has gone: replan %v", p.Replan)
	}
	// As soon as a policy has two clients, its routes leave their ports open.
	port := made("198.51.100.1/32")
	port.Pairs[0].Remote.Proto, port.Pairs[0].Local.Proto, port.Pairs[0].Remote.PortLo, port.Pairs[0].Remote.PortHi = 17, 17, 5, 5
	s.do(port)
	last := func() uint16 { r := p.Plan(result).Routes; return r[len(r)-1].RemotePort }
	if last() != 5 {
		t.Errorf("port %d", last())
	}
	p.arrived(core.Install{Policy: port.Ref, Client: 1})
	if p.arrived(core.Install{Policy: port.Ref, Client: 2}); last() != 0 {
		t.Errorf("port %d of two clients", last())
	}
}

// What an SA seals with is drawn anew for each, and what is remembered of refusals is bounded at each step.
func TestBoundsOfThePlane(t *testing.T) {
	s := newStage()
	in := s.install(1, 300)
	a, b := s.plane.half(in, in.In), s.plane.half(in, in.In)
	if a.IVKey == b.IVKey || bytes.Equal(a.IVKey[:], make([]byte, len(a.IVKey))) || a.SPI != 300 {
		t.Errorf("%x and %x", a.IVKey, b.IVKey)
	}
	for i := range MaxRefused + 1 {
		s.do(core.Send{Local: port(westAddr, 500), Remote: port(netip.AddrFrom16([16]byte{0x20, 1, 14: byte(i >> 8), 15: byte(i)}), 500), Data: []byte{1}})
		if n, want := len(s.plane.Refused), i%MaxRefused+1; n != want {
			t.Fatalf("after %d refusals %d addresses are remembered", i+1, n)
		}
	}
}

// An event about a policy lets its traffic ask again.
func TestEventsLetAsk(t *testing.T) {
	s := newStage()
	pair := selector.Pair{Local: selector.FromPrefix(netip.MustParsePrefix("10.1.0.0/16")), Remote: selector.FromPrefix(netip.MustParsePrefix("10.2.0.0/16"))}
	s.plane.Policies.Replace([]spd.Policy{{Ref: 1, Pair: pair, Action: spd.Encrypt, Tunnel: true}})
	pkt := wire.AppendUDPPacket(nil, netip.MustParseAddrPort("10.1.0.1:1"), netip.MustParseAddrPort("10.2.0.1:2"), []byte("x"))
	asks := func() (n int) {
		s.got = nil
		s.plane.Send(start, bytes.Clone(pkt))
		for _, in := range s.got {
			if a, ok := in.(core.Acquire); ok && a.Policy == 1 {
				n++
			}
		}
		return n
	}
	if asks() != 1 || asks() != 0 {
		t.Error("traffic does not ask once")
	}
	s.do(core.Event{Kind: core.EvNotify})
	if asks() != 0 {
		t.Error("an event about nothing lets it ask again")
	}
	s.do(core.Event{Kind: core.EvInitFailed, Policy: 1})
	if asks() != 1 {
		t.Error("it does not ask again")
	}
}

// What the endpoint puts out when it hears of what its outputs led to is done within the same input.
func TestOutputsOfWhatFollows(t *testing.T) {
	s := newStage()
	s.each = [][]core.Output{{core.NeedSPIs{N: 1}}, {message("a")}}
	s.plane.Input(start, core.Command{Do: core.Shutdown})
	if len(s.got) != 2 || len(s.sent) != 1 {
		t.Errorf("handed %+v, sent %q", s.got, s.sent)
	}
}

// The first SA with dummy packets has them sent at once, and another one does not put them forward.
func TestDummiesBegin(t *testing.T) {
	s := newStage()
	spis := s.do(core.NeedSPIs{N: 2})[0].(core.SPIs).SPIs
	for i, spi := range spis {
		in := s.install(core.ChildID(i+1), spi)
		in.Dummies = 5
		if s.do(in); !s.plane.dummies.Equal(start.Add(time.Duration(i))) {
			t.Errorf("SA %d: dummies are due at %v", i+1, s.plane.dummies)
		}
		s.plane.dummies = start.Add(1)
	}
}
