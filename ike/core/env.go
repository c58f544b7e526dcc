package core

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/message"
)

// Env is what every IKE SA of an endpoint shares: the time of the input that is
// being handled, randomness, the agenda, what is to be put out, the questions
// that are open, the SPIs in stock and the names given out.
type Env struct {
	now    time.Time
	rng    *rand.ChaCha8
	Timers Timers
	Taken  func(spi uint64) bool // reports whether an IKE SA has this SPI; nil: none has
	out    []Output
	head   int // out[:head] was polled

	// Trace, if set, sees every message in clear; sent: before it is sealed.
	Trace func(sent bool, h message.Header, body []message.Payload)
	// Witness, if set, sees what takes secrets or chance.
	Witness Witness

	asks    map[AskID]func(secret.Bytes, error)
	lastAsk AskID

	// Own is what our requests carry that are not answered yet: whoever says it to us
	// has it from us.
	Own Own

	spis     []uint32
	spiAsked int

	lastSA    SAID
	lastChild ChildID

	explained struct { // Explains: how often in the second that began at since
		since time.Time
		n     int
	}
}

// NewEnv makes an Env whose randomness is the seed's alone. ChaCha8 erases its
// key as it goes, so what was drawn cannot be computed from a later state.
func NewEnv(seed [32]byte) *Env {
	return &Env{rng: rand.NewChaCha8(seed), asks: map[AskID]func(secret.Bytes, error){}, Own: Own{}}
}

// Now is the time of the input being handled.
func (e *Env) Now() time.Time { return e.now }

// SetNow begins the handling of an input. Time never goes back.
func (e *Env) SetNow(now time.Time) {
	if now.After(e.now) {
		e.now = now
	}
}

// RandomSPI draws an IKE SPI, which is never zero (RFC 7296 §3.1) and not Taken.
func (e *Env) RandomSPI() uint64 {
	for {
		if spi := binary.BigEndian.Uint64(e.Random(8)); spi != 0 && (e.Taken == nil || !e.Taken(spi)) {
			return spi
		}
	}
}

// Jitter draws a duration from [0, d).
func (e *Env) Jitter(d time.Duration) time.Duration { return time.Duration(e.Below(uint64(max(d, 0)))) }

// Below draws a number from [0, n); 0, and nothing is drawn, where n is 0.
func (e *Env) Below(n uint64) uint64 {
	if n == 0 {
		return 0
	}
	return binary.BigEndian.Uint64(e.Random(8)) % n
}

// Emit queues an output.
func (e *Env) Emit(o Output) {
	if ev, ok := o.(Event); ok {
		o = ev.clipped()
	}
	e.out = append(e.out, o)
}

// Traced shows a message to whoever watches.
func (e *Env) Traced(sent bool, h message.Header, body []message.Payload) {
	if e.Trace != nil {
		e.Trace(sent, h, body)
	}
}

// Poll takes the next output.
func (e *Env) Poll() (Output, bool) {
	if e.head == len(e.out) {
		e.out, e.head = e.out[:0], 0
		return nil, false
	}
	o := e.out[e.head]
	e.out[e.head] = nil
	e.head++
	return o, true
}

// After calls run once d has passed.
func (e *Env) After(d time.Duration, run func()) *Timer { return e.Timers.At(e.now.Add(d), run) }

// Ask has work done elsewhere; done is called with the answer while the
// question is open. The SA may be gone by then: done finds out.
func (e *Env) Ask(sa SAID, w Work, done func(secret.Bytes, error)) AskID {
	e.lastAsk++
	e.asks[e.lastAsk] = done
	e.Emit(Ask{ID: e.lastAsk, SA: sa, Work: w})
	return e.lastAsk
}

// Answered hands an answer to whoever asked; one that nobody waits for is dropped.
func (e *Env) Answered(a Answer) {
	done := e.asks[a.ID]
	if done == nil {
		a.Data.Wipe()
		return
	}
	delete(e.asks, a.ID)
	done(a.Data, a.Err)
}

// maxExplained is how many refusals of strangers are explained in a second. To
// write down both sides' proposals costs more than everything else that a
// refused message causes, and nobody reads more of them.
const maxExplained = 10

// Explains reports whether the refusal of somebody who has not proved who it is
// may be explained in detail, and counts it.
func (e *Env) Explains() bool {
	if e.now.Sub(e.explained.since) >= time.Second {
		e.explained.since, e.explained.n = e.now, 0
	}
	e.explained.n++
	return e.explained.n <= maxExplained
}

// Withdraw says that the answer to a question is not needed any more. An Answer
// still comes, perhaps without the work having been done: whoever asked has
// secrets to wipe.
func (e *Env) Withdraw(a AskID) {
	if e.asks[a] != nil {
		e.Emit(Withdraw{a})
	}
}

// spiStock is how many SPIs the endpoint keeps in hand.
const spiStock = 64

// AddSPIs puts SPIs in stock.
func (e *Env) AddSPIs(spis []uint32) {
	e.spis = append(e.spis, spis...)
	e.spiAsked = 0
}

// TakeSPI takes an SPI for a CHILD SA that will receive with it. False: none is
// in stock; more were asked for.
func (e *Env) TakeSPI() (uint32, bool) {
	var spi uint32
	if len(e.spis) > 0 {
		spi, e.spis = e.spis[0], e.spis[1:]
	}
	e.Stock()
	return spi, spi != 0
}

// Stock asks for SPIs when half of the stock is gone.
func (e *Env) Stock() {
	if want := spiStock - len(e.spis) - e.spiAsked; want >= spiStock/2 {
		e.spiAsked += want
		e.Emit(NeedSPIs{want})
	}
}

// GiveSPI puts an SPI back that no SA came to use. It goes to the data plane,
// which gives it a new generation, because the peer has seen it.
func (e *Env) GiveSPI(spi uint32) { e.Emit(FreeSPI{spi}) }

// NewSAID gives out the number of a new IKE SA.
func (e *Env) NewSAID() SAID { e.lastSA++; return e.lastSA }

// NewChildID gives out the number of a new CHILD SA.
func (e *Env) NewChildID() ChildID { e.lastChild++; return e.lastChild }
