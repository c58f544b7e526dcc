package ike

import (
	"slices"
	"time"

	"culvert/ike/core"
	ikesa "culvert/ike/sa"
)

// A race is the attempts at the addresses of one peer that has several, each with an IKE
// SA of its own (RFC 8305 §5): the next one begins where nothing has answered for a while,
// or at once where the last one failed. The first that is answered stays. Only when all
// have failed, the attempt has.
type race struct {
	runners []*ikesa.SA // which nobody has answered yet
	left    []way       // still to try
	timer   *core.Timer // of the next one
	won     bool        // one was answered
}

// raceDelay is how long each address has before the next one is tried too (RFC 8305 §8).
const raceDelay = 250 * time.Millisecond

// races are by the IKE SAs that take part.
type races map[core.SAID]*race

// start has an IKE SA that is about to begin race with others at the peer's other addresses.
func (t races) start(e *Endpoint, sa *ikesa.SA, others []way) {
	if len(others) == 0 {
		return
	}
	r := &race{runners: []*ikesa.SA{sa}, left: others}
	t[sa.ID] = r
	t.wait(e, r)
}

func (t races) wait(e *Endpoint, r *race) {
	e.env.Timers.Stop(r.timer)
	r.timer = nil
	if len(r.left) > 0 {
		r.timer = e.env.After(raceDelay, func() { t.next(e, r) })
	}
}

// next begins at the next address, for what the first of those that run is for.
func (t races) next(e *Endpoint, r *race) {
	first, w := r.runners[0], r.left[0]
	r.left = r.left[1:]
	sa := e.begin(first.Peer, w, slices.Clone(first.Wanted))
	r.runners = append(r.runners, sa)
	t[sa.ID] = r
	t.wait(e, r)
	sa.Protocol.Begin()
}

// heard is told of each message for an IKE SA. One that has the peer's SPI has won.
func (t races) heard(e *Endpoint, sa *ikesa.SA) {
	r := t[sa.ID]
	if r == nil || sa.SPIr == 0 {
		return
	}
	losers := slices.DeleteFunc(r.runners, func(s *ikesa.SA) bool { return s == sa })
	delete(t, sa.ID)
	e.env.Timers.Stop(r.timer)
	r.runners, r.won = nil, true
	for _, s := range losers {
		merge(sa, s)
		s.End(false, "another address of the peer answered first")
	}
}

// ended is told of each IKE SA that is gone, and reports whether that is no loss, because
// others are still under way to the same peer or have won.
func (t races) ended(e *Endpoint, sa *ikesa.SA, fault bool) bool {
	r := t[sa.ID]
	if r == nil {
		return false
	}
	delete(t, sa.ID)
	switch {
	case r.won:
		return true
	case !fault: // it is not wanted any more
		r.left = nil
		e.env.Timers.Stop(r.timer)
	case len(r.left) > 0:
		t.next(e, r)
	}
	r.runners = slices.DeleteFunc(r.runners, func(s *ikesa.SA) bool { return s == sa })
	if len(r.runners) == 0 || !fault {
		return false
	}
	merge(r.runners[0], sa)
	return true
}

// merge gives an IKE SA what another one was to make.
func merge(to, from *ikesa.SA) {
	for _, p := range from.TakeWants() {
		if !slices.Contains(to.Wanted, p) {
			to.Wanted = append(to.Wanted, p)
		}
	}
}
