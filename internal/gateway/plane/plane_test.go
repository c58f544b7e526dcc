package plane

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/ike/core"
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
	out []core.Output
	got []core.Input
}

func (s *script) Handle(_ time.Time, in core.Input) { s.got = append(s.got, in) }
func (s *script) Deadline() (time.Time, bool)       { return time.Time{}, false }
func (s *script) Holds() []core.Hold                { return nil }
func (s *script) SAs() []core.SAInfo                { return nil }
func (s *script) Idle() bool                        { return true }
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
