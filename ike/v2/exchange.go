package v2

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// An exchange is a request and its response. Its tasks run in stages:
//
//	initiator   prepare ─► request ─► (send, retransmit) ─► round ─► complete ─► settle
//	responder                accept ─► round ─► admit ─► reply ─► (send) ─► settle
//
// IKE_AUTH may take several requests and responses (RFC 7296 §2.16). To the tasks they are
// rounds of one exchange: after each message of the peer the stage round decides whether
// another one follows; the stages beyond it run after the last.
//
// Between two stages the answers to Asks are awaited. The window is one: we
// have one request under way, and so has the peer (RFC 7296 §2.3).
type exchange struct {
	sa     *SA
	kind   *kind
	tasks  []task
	ended  bool // the tasks have
	mine   bool // we are its initiator
	id     uint32
	in     []message.Payload // what arrived
	more   bool              // another round follows
	rounds int               // that are over
	first  []message.Payload // responder: what arrived in the first of several rounds
	held   int               // how many bytes that had
	out    []message.Payload // what will leave

	next    func()       // the stage to come
	waiting int          // open Asks
	asks    []core.AskID // those and the ones before them
	over    bool

	raw       [][]byte // our request as sent, in datagrams
	tries     int
	begun     time.Time // when it was queued, or the peer's request came
	elsewhere bool      // our request went out on other paths too
	from      path      // the peer's request: where it came from
	timer     *core.Timer
	own       []string // what of our request is in core.Env.Own

	still  func() bool // asked before our request begins: is it still wanted?
	ni, nr []byte      // nonces
}

// kind is one sort of exchange.
type kind struct {
	id    kindID
	name  string
	wire  message.ExchangeType
	clear bool          // not protected by an SK payload: an IKE SA begins with it
	tries int           // how often a request is sent; 0: core.Tries
	tasks func() []task // fresh ones
	// failed is told when an exchange of ours comes to nothing. The SA may be
	// about to end; fault is the reason.
	failed func(x *exchange, fault error)
}

// task is one feature's part in an exchange: a value that is made with the exchange
// and lives until the exchange is over, so that its fields hold what it needs from
// one stage to the next. A type embeds noop and has the methods that it needs.
type task interface {
	prepare(*exchange) error // initiator: compute what the request needs
	request(*exchange) error // initiator: add to the request
	accept(*exchange) error  // responder: read the request
	// round is for both: the peer's message is there. It may add to our next one, and
	// set more where that is not the last of the exchange.
	round(*exchange) error
	admit(*exchange) error    // responder: nothing is wrong with it; look up what the response needs
	reply(*exchange) error    // responder: add to the response
	complete(*exchange) error // initiator: read the response
	settle(*exchange) error   // both: all is known; the response has left
	// end is called exactly once for each task of an exchange, in reverse order,
	// however the exchange came to its end: after its last stage, when it fails, and
	// when it is abandoned with its SA. The task gives back what it still holds.
	end(*exchange)
}

// noop is a task without any part in an exchange.
type noop struct{}

func (noop) prepare(*exchange) error  { return nil }
func (noop) request(*exchange) error  { return nil }
func (noop) accept(*exchange) error   { return nil }
func (noop) round(*exchange) error    { return nil }
func (noop) admit(*exchange) error    { return nil }
func (noop) reply(*exchange) error    { return nil }
func (noop) complete(*exchange) error { return nil }
func (noop) settle(*exchange) error   { return nil }
func (noop) end(*exchange)            {}

// newExchange makes an exchange of a sort, with tasks of its own.
func newExchange(k *kind) *exchange {
	x := &exchange{kind: k}
	if k.tasks != nil {
		x.tasks = k.tasks()
	}
	return x
}

// part is the task of type T in an exchange; the zero value if it has none.
func part[T task](x *exchange) (t T) {
	for _, u := range x.tasks {
		if t, ok := u.(T); ok {
			return t
		}
	}
	return t
}

// conclude ends the exchange and its tasks, once.
func (x *exchange) conclude() {
	x.over = true
	if x.ended {
		return
	}
	x.ended = true
	x.sa.base.Env.Timers.Stop(x.timer)
	for _, t := range slices.Backward(x.tasks) {
		t.end(x)
	}
}

// run runs one stage of all tasks and then, once nothing is awaited, next.
func (x *exchange) run(stage func(task, *exchange) error, next func()) {
	x.next = next
	x.waiting++
	for _, t := range x.tasks {
		if err := stage(t, x); err != nil {
			x.waiting--
			x.fail(err)
			return
		}
		if x.over {
			return
		}
	}
	x.waiting--
	x.proceed()
}

func (x *exchange) proceed() {
	if x.waiting == 0 && !x.over {
		next := x.next
		x.next = nil
		next()
	}
}

// ask has work done elsewhere.
func (x *exchange) ask(w core.Work, done func(secret.Bytes, error)) {
	x.asks = append(x.asks, x.sa.base.Env.Ask(x.sa.base.ID, w, done))
}

// abandon stops an exchange whose SA is gone.
func (x *exchange) abandon() {
	if !x.over {
		x.forgetOwn()
		x.conclude()
		for _, a := range x.asks {
			x.sa.base.Env.Withdraw(a)
		}
	}
}

// fail ends the exchange with one of the outcomes of errors.go.
func (x *exchange) fail(err error) {
	if x.over {
		return
	}
	if x.mine {
		x.sa.failed(x, err)
		return
	}
	x.sa.reject(x, err)
}

// window is the exchanges of an IKE SA that are under way or wait.
type window struct {
	idle
	sa *SA
}

func (w window) end() {
	sa := w.sa
	abandon := func(at **exchange) {
		if x := *at; x != nil {
			*at = nil
			x.abandon()
		}
	}
	abandon(&sa.current)
	sa.dropQueue()
	sa.parked.end()
	abandon(&sa.answering)
	abandon(&sa.between)
}

// --- our requests ---

// start queues a request of ours.
func (sa *SA) start(x *exchange) {
	x.sa, x.mine, x.begun = sa, true, sa.base.Env.Now()
	sa.queue = append(sa.queue, x)
	sa.pump()
}

// pump begins the next request when none is under way.
func (sa *SA) pump() {
	for sa.current == nil && len(sa.queue) > 0 && sa.base.State != Ended {
		x := sa.queue[0]
		if sa.queue = slices.Delete(sa.queue, 0, 1); len(sa.queue) == 0 {
			sa.queue = nil // an SA that rests keeps nothing of its last exchange
		}
		if x.still != nil && !x.still() {
			x.conclude()
			continue
		}
		sa.current = x
		x.id = sa.sendID
		x.run(task.prepare, func() { sa.sendRequest(x) })
	}
	hurry(sa)
}

// dropQueue forgets the requests that wait.
func (sa *SA) dropQueue() {
	for _, x := range sa.queue {
		x.conclude()
	}
	sa.queue = nil
}

func (sa *SA) sendRequest(x *exchange) {
	x.out = nil
	x.run(task.request, func() { dispatch(sa, x) })
}

// dispatch sends the request, whose payloads are there.
func dispatch(sa *SA, x *exchange) {
	h := message.Header{SPIi: sa.base.SPIi, SPIr: sa.base.SPIr, Version: 0x20, Exchange: x.kind.wire, ID: x.id}
	if sa.base.Initiator {
		h.Flags |= message.FlagInitiator
	}
	var err error
	if x.raw, err = build(sa, x, h); err == nil {
		err = lengthen(x, h)
	}
	if err != nil {
		x.fail(end(0, "%v", err))
		return
	}
	x.noteOwn()
	x.tries = 0
	sa.retransmit(x)
}

// retransmit sends the request (again) and sets the timer; after the last try
// the peer is dead (RFC 7296 §2.4).
func (sa *SA) retransmit(x *exchange) {
	if x.tries == x.kind.most() {
		if sa.unusable != "" {
			x.fail(end(0, "%s was sent %d times without an answer that could be used: %s: see the log of the peer, and who else answers at its address", x.kind.name, x.tries, sa.unusable))
			return
		}
		x.fail(end(0, "%s was sent %d times without an answer: check that UDP %d and %d reach the peer and that it is running",
			x.kind.name, x.tries, sa.base.Peer.Port, sa.base.Peer.NATT()))
		return
	}
	if !sendLong(x) {
		sa.base.Transmit(sa.base.Path, x.raw)
		roaming{sa: sa}.probe(x)
		if x.tries > 0 {
			seekSource(sa, x)
			if p := sa.base.Elsewhere; p.Remote.IsValid() {
				sa.base.Transmit(p, x.raw)
			}
		}
	}
	x.timer = sa.base.Env.After(waitFor(x), func() { sa.retransmit(x) })
	x.tries++
}

// most is how often a request is sent.
func (k *kind) most() int {
	if k.tries > 0 {
		return k.tries
	}
	return core.Tries
}

func (sa *SA) response(h message.Header, inner []message.Payload, syntax error, in core.Datagram) {
	x := sa.current
	if x == nil || x.raw == nil || x.in != nil || h.ID != x.id || h.Exchange != x.kind.wire {
		return // late, doubled or never asked for
	}
	sa.base.Fresh(in)
	sa.unusable, sa.doubted = "", nil
	sa.take(x, h, inner, syntax)
	roaming{sa: sa}.answeredOn(x, ikesa.PathOf(in))
}

// take lets the tasks read a response.
func (sa *SA) take(x *exchange, h message.Header, in []message.Payload, syntax error) {
	sa.base.Env.Timers.Stop(x.timer)
	x.forgetOwn()
	x.out = nil
	in = passOver(x, h, in)
	x.in = in
	if x.in == nil {
		x.in = []message.Payload{}
	}
	if syntax == nil {
		syntax = message.CheckGrammar(h, in)
	}
	if syntax == nil && sa.base.State >= Established && notify(in, message.NotifyInvalidSyntax) != nil {
		x.fail(end(0, "the peer found a fault in our %s and has ended the IKE SA (INVALID_SYNTAX): its log says which", x.kind.name)) // RFC 7296 §2.21.3
		return
	}
	if t, bad := critical(in); syntax == nil && bad {
		syntax = end(0, "the response has an unknown critical payload %d", t)
	}
	if syntax != nil {
		x.fail(end(0, "the response to %s: %v", x.kind.name, syntax))
		return
	}
	x.run(task.round, func() {
		if x.more {
			nextRound(sa, x)
			return
		}
		x.run(task.complete, func() {
			if lacksKeys(x) {
				parkMine(sa, x)
				return
			}
			x.run(task.settle, func() { sa.finish(x) })
		})
	})
}

// passOver leaves out what the exchange does not expect, and says so.
func passOver(x *exchange, h message.Header, in []message.Payload) []message.Payload {
	in, passed := message.PassOver(h, in)
	if n := len(passed); n > 0 {
		sa := x.sa.base
		sa.Stats.Passed += uint64(n)
		sa.Emit(core.Event{Kind: core.EvBadMessage, Exchange: x.kind.name, Reason: fmt.Sprintf("passed over %v in the peer's message, which this exchange does not have; %d such payloads so far", passed, sa.Stats.Passed)})
	}
	return in
}

// maxRounds bounds the rounds of an exchange.
const maxRounds = 100

// anotherRound counts the rounds.
func (x *exchange) anotherRound() error {
	x.more = false
	if x.rounds++; x.rounds == maxRounds {
		return end(message.NotifyAuthenticationFailed, "%s is not through after %d rounds", x.kind.name, maxRounds)
	}
	return nil
}

// nextRound sends our next request of the same exchange.
func nextRound(sa *SA, x *exchange) {
	if err := x.anotherRound(); err != nil {
		x.fail(err)
		return
	}
	sa.sendID++
	x.id, x.in, x.raw = sa.sendID, nil, nil
	dispatch(sa, x)
}

// finish frees the window.
func (sa *SA) finish(x *exchange) {
	x.conclude()
	if sa.current == x {
		sa.current = nil
		sa.sendID++
	}
	sa.pump()
}

// failed is the outcome of an exchange of ours that came to nothing.
func (sa *SA) failed(x *exchange, err error) {
	var a again
	if errors.As(err, &a) {
		sa.base.Env.Timers.Stop(x.timer)
		if x.still == nil || x.still() {
			if !x.kind.clear { // a request of its own (RFC 7296 §2.3)
				sa.sendID++
				x.id = sa.sendID
			}
			x.in, x.raw, x.waiting = nil, nil, 0
			x.run(task.prepare, func() { sa.sendRequest(x) })
			return
		}
		err = refuse(message.NotifyTemporaryFailure, "it is not wanted any more")
	}
	sa.disown(x)
	x.abandon()
	var f fatal
	if errors.As(err, &f) {
		answered := x.in != nil && !x.kind.clear
		if answered && !f.told && sa.base.State < Closing { // the peer has made what we reject
			sendLast(sa, sa.sendID+1, &message.Delete{Protocol: uint8(core.ProtoIKE)})
		}
		if x.kind.failed != nil {
			x.kind.failed(x, err)
		}
		if sa.base.State == Established {
			if !answered { // else it is there, and ike-down says what is wrong with what it says
				sa.base.Event(core.EvPeerDead, "%s", f.reason)
				sa.tickets.interrupted()
			}
		}
		sa.base.End(true, "%s", f.reason)
		return
	}
	if sa.current == x {
		sa.current = nil
		if x.raw != nil { // else the message ID was not used
			sa.sendID++
		}
	}
	if x.kind.failed != nil {
		x.kind.failed(x, err)
	}
	if sa.base.State != Ended {
		sa.pump()
	}
}

// --- the peer's requests ---

func (sa *SA) request(h message.Header, inner []message.Payload, syntax error, in core.Datagram) {
	if sa.base.State == Connecting {
		return // it overtook the response to IKE_AUTH, and will be repeated
	}
	if h.ID+1 == sa.recvID && sa.lastResponse != nil {
		sa.repeatResponse(in)
		return
	}
	if h.ID != sa.recvID || sa.answering != nil {
		return // out of the window, or being worked on
	}
	x, known := sa.asked(h, inner)
	if known {
		inner = passOver(x, h, inner)
	}
	x.id, x.in, x.from = h.ID, inner, ikesa.PathOf(in)
	if !known {
		syntax = end(message.NotifyInvalidSyntax, "a request of %v is not possible in state %v", h.Exchange, sa.base.State)
		if sa.base.State >= Established {
			syntax = refuse(message.NotifyInvalidSyntax, "%v is not known here", h.Exchange)
		}
	} else if syntax == nil {
		if syntax = message.CheckGrammar(h, inner); syntax != nil {
			syntax = end(message.NotifyInvalidSyntax, "%v", syntax)
		}
	} else {
		// Authenticated and malformed: RFC 7296 §2.21.3 ends the IKE SA.
		syntax = end(message.NotifyInvalidSyntax, "%v", syntax)
	}
	if t, bad := critical(inner); bad {
		syntax = refused{kind: message.NotifyUnsupportedCriticalPayload, data: []byte{byte(t)}, reason: "from the peer"}
	}
	sa.base.Fresh(in)
	sa.doubted = nil
	sa.base.PeerHasAnswer()
	sa.claim(inner)
	sa.answering = x
	sa.answer(x, syntax)
}

// asked is the exchange of a request: one that it goes on with, or a new one. False: there
// is no such exchange in this state.
func (sa *SA) asked(h message.Header, in []message.Payload) (x *exchange, known bool) {
	if x := sa.between; x != nil && x.kind.wire == h.Exchange {
		sa.between = nil
		return x, true
	}
	k := sa.kindOf(h, in)
	if known = k != nil; !known {
		k = &kind{name: h.Exchange.String(), wire: h.Exchange}
	}
	x = newExchange(k)
	x.sa, x.begun = sa, sa.base.Env.Now()
	return x, known
}

// answer runs the stages of a request of the peer.
func (sa *SA) answer(x *exchange, err error) {
	if err == nil && !x.kind.clear && reflected(sa.base.Env, x.in) != nil {
		err = refuse(message.NotifyInvalidSyntax, "%v", ikesa.ErrReflected)
	}
	if err != nil {
		x.fail(err)
		return
	}
	if x.rounds > 0 {
		answerRound(sa, x)
		return
	}
	x.run(task.accept, func() { answerRound(sa, x) })
}

func answerRound(sa *SA, x *exchange) {
	x.run(task.round, func() {
		if x.more {
			awaitRound(sa, x)
			return
		}
		if x.rounds > 0 { // what the response needs stands in the first request
			x.in = append(x.first, x.in...)
		}
		x.run(task.admit, func() {
			x.run(task.reply, func() {
				sa.respond(x)
				if lacksKeys(x) {
					parkTheirs(sa, x)
					sa.answered(x)
					return
				}
				x.run(task.settle, func() { sa.answered(x) })
			})
		})
	})
}

// awaitRound responds and waits for the next request of the same exchange. The time that
// a half-open IKE SA has goes on.
func awaitRound(sa *SA, x *exchange) {
	if err := x.anotherRound(); err != nil {
		x.fail(err)
		return
	}
	sa.respond(x)
	if x.over {
		return
	}
	if x.rounds == 1 {
		x.first, x.held = x.in, sa.read
	}
	x.in, x.out = nil, nil
	sa.answering, sa.between = nil, x
	sa.weigh()
}

func (sa *SA) answered(x *exchange) {
	x.conclude()
	if sa.answering == x {
		sa.answering = nil
	}
	sa.weigh()
	if sa.base.State != Ended {
		sa.pump()
	}
}

// respond sends the response; a repeated request gets the same bytes.
func (sa *SA) respond(x *exchange) {
	h := message.Header{SPIi: sa.base.SPIi, SPIr: sa.base.SPIr, Version: 0x20, Exchange: x.kind.wire, Flags: message.FlagResponse, ID: x.id}
	if sa.base.Initiator {
		h.Flags |= message.FlagInitiator
	}
	if x.kind.clear && x.over {
		h.SPIr = 0 // refused: there will be no such SA (RFC 7296 §2.6)
	}
	raw, err := build(sa, x, h)
	if err != nil {
		x.fail(end(0, "%v", err))
		return
	}
	sa.lastResponse = raw
	sa.recvID++
	sa.base.Transmit(x.from, raw)
}

// repeatResponse answers a request that the peer repeats with the same bytes.
func (sa *SA) repeatResponse(in core.Datagram) {
	sa.base.Transmit(ikesa.PathOf(in), sa.lastResponse)
	sa.base.PeerLacksAnswer()
}

// reject answers a request that failed.
func (sa *SA) reject(x *exchange, err error) {
	x.abandon()
	sa.answering = nil
	var d dropped
	var r refused
	var f fatal
	switch {
	case errors.As(err, &d):
		return
	case errors.As(err, &r):
		x.out = []message.Payload{r.notify()}
		sa.respond(x)
		kind := causeOf(r.kind).Event()
		if (r.kind == message.NotifyInvalidKEPayload || r.kind == message.NotifyTemporaryFailure) && !r.ours && !r.fault {
			kind = core.EvAskedAgain
		}
		sa.base.Emit(core.Event{Kind: kind, Exchange: x.kind.name, Detail: r.detail,
			Reason: fmt.Sprintf("refused the peer's %s: %v", x.kind.name, err)})
		if sa.base.State == HalfOpen {
			sa.base.End(true, "%v", err)
			return
		}
		sa.pump()
	case errors.As(err, &f):
		if f.kind != 0 {
			x.out = []message.Payload{&message.Notify{Kind: f.kind}}
			sa.respond(x)
			keepFinal(sa, x)
		}
		if sa.base.State == HalfOpen && !f.told { // of one that is up its end is an event
			kind := causeOf(f.kind).Event()
			if f.kind == message.NotifyAuthenticationFailed {
				kind = core.EvAuthFailed
			}
			sa.base.Emit(core.Event{Kind: kind, Exchange: x.kind.name, Detail: f.detail, Reason: fmt.Sprintf("refused the peer's %s: %s", x.kind.name, f.reason)})
		}
		sa.base.End(true, "%s", f.reason)
	default: // a computation failed on the peer's input, e.g. a bad public value
		x.out = []message.Payload{&message.Notify{Kind: message.NotifyInvalidSyntax}}
		sa.respond(x)
		sa.base.Emit(core.Event{Kind: core.EvNotify, Exchange: x.kind.name, Reason: fmt.Sprintf("refused the peer's %s: %v", x.kind.name, err)})
		if sa.base.State < Established {
			sa.base.End(true, "%v", err)
			return
		}
		sa.pump()
	}
}

// build makes the message, in clear, inside an SK payload or in fragments.
func build(sa *SA, x *exchange, h message.Header) ([][]byte, error) {
	sa.base.Env.Traced(true, h, x.out)
	if x.kind.clear {
		m := message.Message{Header: h, Payloads: x.out}
		return [][]byte{m.Append(nil)}, nil
	}
	noteSealed(sa, h, x.out)
	return sa.sealer.protect(h, x.out)
}
