package ike

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/ike/message"
	"culvert/internal/testing/outputs"
)

// A rig is one endpoint alone on a bench: inputs go in by hand, outputs are
// collected, time stands still until the test moves it. The other end is a
// puppet, or nobody.
type rig struct {
	t        testing.TB
	e        *Endpoint
	put      *outputs.Log
	now      time.Time
	cfg      *core.Config
	sends    []core.Send
	events   []core.Event
	asks     []core.Ask    // held back while hold is set
	others   []core.Output // of kinds that the rig has no model of
	hold     bool
	children map[core.ChildID]*child
	freed    map[uint32]bool
	spi      uint32
	local    netip.AddrPort
	moves    []core.Move
	// takes, if set, sees each output first and reports whether it was for it.
	takes func(core.Output) bool
}

var (
	rigAddr    = netip.MustParseAddrPort("192.0.2.1:500")
	puppetAddr = netip.MustParseAddrPort("192.0.2.2:500")
)

// newRig is endpoint a of the pair, whose peer b is passive for it unless
// change says otherwise, so that the puppet begins.
func newRig(t testing.TB, change ...func(c *core.Config)) *rig {
	cfg, _ := pairConfigs()
	cfg.Peers[0].Passive = true
	for _, f := range change {
		f(cfg)
	}
	r := &rig{t: t, e: New([32]byte{7}), put: outputs.New(t, "rig"), now: epoch, cfg: cfg, children: map[core.ChildID]*child{}, freed: map[uint32]bool{}, spi: 0x1000, local: rigAddr}
	r.in(core.Reconfigure{Config: cfg})
	return r
}

func initiates(c *core.Config) { c.Peers[0].Passive = false }

func (r *rig) in(in core.Input) {
	r.e.Handle(r.now, in)
	for {
		o, ok := r.e.Poll()
		if !ok {
			return
		}
		r.put.Add(o)
		if r.takes != nil && r.takes(o) {
			continue
		}
		switch o := o.(type) {
		case core.Send:
			r.sends = append(r.sends, o)
		case core.Event:
			r.events = append(r.events, o)
		case core.NeedSPIs:
			var spis []uint32
			for range o.N {
				r.spi++
				spis = append(spis, r.spi)
			}
			defer r.in(core.SPIs{SPIs: spis})
		case core.FreeSPI:
			r.freed[o.SPI] = true
		case core.Ask:
			if r.hold {
				r.asks = append(r.asks, o)
			} else {
				defer r.answer(o)
			}
		case core.Install:
			r.children[o.Child] = &child{Install: o, active: !o.Standby, at: r.now}
		case core.Activate:
			r.children[o.Child].active = true
		case core.Retire:
			if k := r.children[o.Child]; k != nil {
				k.retired = true
			}
		case core.Move:
			r.moves = append(r.moves, o)
			if k := r.children[o.Child]; k != nil {
				k.Local, k.Remote = o.Local, o.Remote
			}
		case core.Remove:
			if r.children[o.Child] == nil {
				r.t.Errorf("Remove of a CHILD SA that is not there: %d", o.Child)
			}
			delete(r.children, o.Child)
		default:
			r.others = append(r.others, o)
		}
	}
}

func (r *rig) answer(a core.Ask) {
	if _, ok := a.Work.(core.SourceFor); ok {
		r.in(core.Answer{ID: a.ID, Data: r.local.Addr().AsSlice()})
		return
	}
	b, err := a.Work.Do()
	r.in(core.Answer{ID: a.ID, Data: b, Err: err})
}

// pass lets time go by, deadline by deadline.
func (r *rig) pass(d time.Duration) {
	end := r.now.Add(d)
	for {
		at, ok := r.e.Deadline()
		if !ok || at.After(end) {
			break
		}
		r.now = at
		r.in(core.Tick{})
	}
	r.now = end
	r.in(core.Tick{})
}

// datagram hands in a message from an address.
func (r *rig) datagram(from netip.AddrPort, data []byte) {
	natt := from.Port() == 4500 || from.Port() >= 40000 // a NAT's
	local := r.local
	if natt {
		local = netip.AddrPortFrom(local.Addr(), 4500)
	}
	r.in(core.Datagram{Local: local, Remote: from, NATT: natt, Data: bytes.Clone(data)})
}

// take returns what was sent since the last take.
func (r *rig) take() []core.Send {
	s := r.sends
	r.sends = nil
	return s
}

// one is the only message sent since the last take.
func (r *rig) one() core.Send {
	r.t.Helper()
	s := r.take()
	if len(s) != 1 {
		r.t.Fatalf("%d messages were sent, not one; events %s", len(s), r.reasons())
	}
	return s[0]
}

// silent checks that nothing was sent.
func (r *rig) silent(what string) {
	r.t.Helper()
	for _, s := range r.take() {
		h, _ := message.ParseHeader(s.Data)
		r.t.Errorf("%s was answered with %v id=%d response=%v", what, h.Exchange, h.ID, h.Response())
	}
}

func (r *rig) count(k core.EventKind) (n int) {
	for _, e := range r.events {
		if e.Kind == k {
			n++
		}
	}
	return n
}

// event is the last event of a kind; the test fails if there is none.
func (r *rig) event(k core.EventKind) core.Event {
	r.t.Helper()
	for i := len(r.events) - 1; i >= 0; i-- {
		if r.events[i].Kind == k {
			return r.events[i]
		}
	}
	r.t.Fatalf("no event %v among %s", k, r.reasons())
	return core.Event{}
}

func (r *rig) reasons() (s string) {
	for _, e := range r.events {
		s += "\n  " + e.Kind.String() + ": " + e.Reason
	}
	return s
}

func (r *rig) established() (n int) {
	for _, sa := range r.e.SAs() {
		if sa.State == "established" {
			n++
		}
	}
	return n
}
