package sa

import (
	"slices"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
)

// Hint is a sign that the peer may have lost the SA. Nobody has proved it, so it changes nothing (RFC 7296 §1.5,
// §2.21.4): the peer is asked whether it is there.
//
//	hint ─► heard since? ─► question, five times in 8 s ──any answer──► as before
//	        within 10 s of       │
//	        the last one: later  └─no answer─► Lost: another IKE SA is begun, and takes over when it is up
//	                                 (after 4 s where the DNS says that the peer is elsewhere now)
//
// Meanwhile the SA stays in use. If its peer answers late, it goes on, and it ends like any other whose request is
// not answered. So hints that are forged on a network that loses packets cost a question, or at worst an IKE SA that
// is made without need. They never take the tunnel down. Whom we may not connect to is asked by the ordinary
// schedule alone: to end its SA early would help nobody, and would harm a client that has no network for a moment.
type Hint uint8

const (
	UnknownSPI Hint = iota // the peer's address says that it does not know the SPI of our packets
	UnknownSA              // it says so of the SPIs of our request
	Silence                // our packets leave, and nothing comes
	Woke                   // this host has slept, or its clock was set
)

var hintTexts = [...]string{
	UnknownSPI: "it says that it does not know the SPI of our packets",
	UnknownSA:  "it says that it does not know this IKE SA",
	Silence:    "our packets leave, and nothing comes",
	Woke:       "this host has slept, or its clock was set",
}

func (h Hint) String() string { return hintTexts[h] }

const (
	// hintEvery is the shortest time between two questions of one SA. Where it was the peer's IKE that answered, and
	// still nothing comes by ESP, the time doubles up to hintSeldom: what our hosts send needs no answer.
	hintEvery, hintSeldom = 10 * time.Second, 2 * time.Minute
	// hintWait is how long the answer may take. By the ordinary schedule five messages leave in that time (core.RetransmitWait).
	hintWait = 8 * time.Second
	// movedWait is how long it may take where the name of the peer has other addresses now: then four have left.
	movedWait = 4 * time.Second
	// Where the peer was heard less than lately ago, settled is how long it is watched before it is asked. The data
	// path says once in a second that it is heard.
	lately, settled = 2 * time.Second, 1100 * time.Millisecond
	// hintAgain is when a question that could not be sent is tried again.
	hintAgain = time.Second
)

// hints are those of an IKE SA. The zero value has none.
type hints struct {
	timer   *core.Timer // of what is next: the question, or the end of the wait for the answer
	because Hint
	came    time.Time // when the hint came whose question is to be asked; zero: there is none
	asked   time.Time // when the open question was asked; zero: none is open
	from    Path      // where
	last    time.Time // when the last question was asked; zero: never
	idle    int       // how many were answered, in a row, and nothing came by ESP
	lost    bool
}

// hinting is the feature.
type hinting struct {
	idle
	sa *SA
}

func (h hinting) rest() {
	h.sa.Env.Timers.Stop(h.sa.hints.timer)
	h.sa.hints = hints{}
}

// asksHints reports whether hints lead to questions with a peer: not where dead peer detection is switched off.
func asksHints(p *core.Peer) bool { return p.Profile.DPD > 0 }

// Lost reports whether the peer did not answer the question after a hint, and was not heard since.
func Lost(sa *SA) bool { return sa.hints.lost }

// About takes in a sign that the peer may have lost an SA. It costs nothing where the peer is heard anyway, or was asked
// a moment ago.
func (h Hint) About(sa *SA) {
	x, now := &sa.hints, sa.Env.Now()
	if sa.State != Established || !x.asked.IsZero() || !asksHints(sa.Peer) {
		return
	}
	silent := now.Sub(sa.Heard)
	switch {
	case h == Woke: // all is open again
		x.idle, x.came = 0, time.Time{}
		sa.Env.Timers.Stop(x.timer)
	case !x.came.IsZero(), h == Silence && silent < settled:
		return
	}
	x.came, x.because = now, h
	wait := time.Duration(0)
	if silent < lately && (h == UnknownSPI || h == UnknownSA) {
		wait = settled
	}
	if !x.last.IsZero() {
		wait = max(wait, x.last.Add(x.pause()).Sub(now))
	}
	if wait <= 0 {
		hinting{sa: sa}.ask()
		return
	}
	x.timer = sa.Env.After(wait, hinting{sa: sa}.ask)
}

// pause is how long after one question the next one may be asked.
func (x *hints) pause() time.Duration {
	d := hintEvery
	for i := 1; i < x.idle && d < hintSeldom; i++ {
		d *= 2
	}
	return min(d, hintSeldom)
}

// ask asks the peer whether it is there. It was not heard since the hint.
func (h hinting) ask() {
	sa := h.sa
	x, now := &sa.hints, sa.Env.Now()
	if !sa.Peer.Initiates() {
		x.came, x.last = time.Time{}, now
		sa.Protocol.Probe(false)
		return
	}
	sent := sa.Stats.TxPackets
	sa.Protocol.Probe(true)
	if sa.State != Established {
		return
	}
	if sa.Stats.TxPackets == sent { // what is under way waits for something of our own
		x.timer = sa.Env.After(hintAgain, h.ask)
		return
	}
	x.came, x.asked, x.last, x.from = time.Time{}, now, now, sa.Path
	x.timer = sa.Env.After(hintWait, h.unheard)
	h.lookUp()
}

// lookUp looks the name of the peer up, while the question is open: if the peer is elsewhere now, its answer is waited for no
// longer than movedWait.
func (h hinting) lookUp() {
	sa := h.sa
	x, asked := &sa.hints, sa.hints.asked
	if sa.Peer.DNSName == "" {
		return
	}
	sa.Env.Ask(sa.ID, core.Resolve{Name: sa.Peer.DNSName}, func(b secret.Bytes, err error) {
		at := core.UnpackAddrs(b)
		if err != nil || len(at) == 0 || slices.Contains(at, sa.Remote.Addr().WithZone("")) || sa.State != Established || x.asked.IsZero() || x.asked != asked || x.lost {
			return
		}
		sa.Env.Timers.Stop(x.timer)
		x.timer = sa.Env.After(max(0, asked.Add(movedWait).Sub(sa.Env.Now())), h.unheard)
	})
}

// unheard is the end of the wait for an answer.
func (h hinting) unheard() {
	sa, x := h.sa, &h.sa.hints
	if sa.Path != x.from { // it has moved, and the question was asked anew
		x.from = sa.Path
		x.timer = sa.Env.After(hintWait, h.unheard)
		return
	}
	x.lost = true
	sa.Event(core.EvPeerDead, "no answer for %v to the question whether the peer is there, which was asked because %v: we connect anew, and this IKE SA stays until then", sa.Env.Now().Sub(x.asked).Round(time.Second), x.because)
	sa.Keeper.Redial(sa)
}

// refute ends the question, open or to be asked: the peer was heard.
func (h *hints) refute(env *core.Env) {
	if h.came.IsZero() && h.asked.IsZero() {
		return
	}
	if !h.asked.IsZero() {
		h.idle++
	}
	env.Timers.Stop(h.timer)
	h.came, h.asked, h.lost = time.Time{}, time.Time{}, false
}
