package record

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"culvert/config"
	"culvert/crypto/secret"
	"culvert/ike/core"
	"culvert/ike/message"
)

// Endpoint is what is recorded, and what plays: ike.Endpoint.
type Endpoint interface {
	Handle(now time.Time, in core.Input)
	Poll() (core.Output, bool)
	Deadline() (time.Time, bool)
	SAs() []core.SAInfo
	Holds() []core.Hold
	Idle() bool
	// Trace has f called with every message as it is in clear; body is borrowed.
	Trace(f func(sent bool, h message.Header, body []message.Payload))
	// Witness has w see what takes secrets or chance.
	Witness(w core.Witness)
}

// Options of a Recorder.
type Options struct {
	Dir   string
	Limit int64 // bytes; 0: none
	// Total is how many bytes of recordings are to be in Dir, with those of earlier
	// lives: the oldest make room. 0: none goes.
	Total int64
	For   time.Duration // how long to record; 0: until Close
	// Redact: a recording without secrets, to be passed on, that plays as far as
	// decisions go and not to the byte.
	Redact bool
	Seed   [32]byte // that the endpoint was made with
	Build  string   // version of this binary
	Start  time.Time
	// Stopped is called once, when the recording ends before Close: it is full,
	// or the disk is. The endpoint goes on.
	Stopped func(error)
}

// errTime: it was recorded for as long as was wanted.
var errTime = errors.New("the recording has reached its time limit")

// Recorder is an endpoint that writes down what happens to it. It belongs to one
// goroutine, like the endpoint. A recording has to play on a clock that runs
// evenly: the endpoint gets Start and what has passed since then by the
// monotonic clock, whatever is done to the clock on the wall.
type Recorder struct {
	Endpoint
	o     Options
	start time.Time // Start on the wall
	f     *file     // nil once the recording has ended
	from  *Reconfigure

	inputs, outputs uint64
	out             []digested

	// Of a redacted recording:
	text  []string
	saw   scribe
	asked map[core.AskID]core.Work // what answers are to
	names map[[32]byte]string      // what stands for the secrets of configurations
}

type digested struct {
	name string
	sum  digest
}

// New begins a recording. From the first line on it is as secret as the
// configuration and every key that is negotiated, unless it is redacted.
func New(e Endpoint, o Options) (*Recorder, error) {
	h := header{Redacted: o.Redact, Start: time.Unix(0, o.Start.UnixNano()).UTC(), Seed: o.Seed, Build: o.Build}
	if o.Redact {
		h.Seed = [32]byte{}
	}
	f, err := create(o.Dir, &h, o.Limit, o.Total)
	if err != nil {
		return nil, err
	}
	r := &Recorder{Endpoint: e, o: o, start: h.Start, f: f}
	if o.Redact {
		r.asked, r.names = map[core.AskID]core.Work{}, map[[32]byte]string{}
		e.Trace(func(sent bool, h message.Header, body []message.Payload) {
			r.text = append(r.text, tracedText(sent, h, body))
		})
		e.Witness(&r.saw)
	}
	return r, nil
}

// From says what the next Reconfigure was compiled from. The snapshot is wiped
// when that was written.
func (r *Recorder) From(s *config.Snapshot, ports [2]uint16, raw bool) {
	r.from = &Reconfigure{Ports: ports, Raw: raw, From: *s}
	if r.f == nil {
		r.wipe()
	}
}

// Handle writes the input down and hands it on.
func (r *Recorder) Handle(now time.Time, in core.Input) {
	at := r.start.Add(now.Sub(r.o.Start))
	if r.f != nil {
		if err := r.input(at, in); err != nil {
			r.stop(err)
		}
	}
	r.Endpoint.Handle(at, in)
}

// Poll hands an output on and keeps its digest.
func (r *Recorder) Poll() (core.Output, bool) {
	o, ok := r.Endpoint.Poll()
	if ok && r.f != nil {
		if r.o.Redact {
			if line := describeOutput(o); line != "" {
				r.text = append(r.text, outputText(line))
			}
			if a, ok := o.(core.Ask); ok {
				r.asked[a.ID] = a.Work
			}
		} else {
			r.out = append(r.out, digested{typeName(o), digestOf(o)})
		}
	}
	return o, ok
}

// Deadline is in the caller's time.
func (r *Recorder) Deadline() (time.Time, bool) {
	at, ok := r.Endpoint.Deadline()
	return r.o.Start.Add(at.Sub(r.start)), ok
}

// input ends what came before and writes one input. It goes to the file before
// the endpoint has it, so that one that ends the process is the last.
func (r *Recorder) input(at time.Time, in core.Input) error {
	if err := r.finish(); err != nil {
		return err
	}
	if r.o.For > 0 && at.Sub(r.start) >= r.o.For {
		return errTime
	}
	var what any = in
	if _, ok := in.(core.Reconfigure); ok {
		if r.from == nil {
			return errors.New("recording: a configuration came from nowhere")
		}
		what = *r.from
		defer r.wipe()
	}
	if r.o.Redact {
		var err error
		if what, err = r.redacted(what); err != nil {
			return err
		}
	}
	w := writer{}
	w.u64(uint64(at.Sub(r.start)))
	b, err := appendInput(w.b, what)
	if err != nil {
		return err
	}
	if err := r.f.frame(frameInput, b); err != nil {
		return err
	}
	r.inputs++
	return r.f.flush()
}

func (r *Recorder) wipe() {
	for _, f := range r.from.From.Files {
		clear(f.Data)
	}
	r.from = nil
}

// finish writes what came of the last input.
func (r *Recorder) finish() error {
	if r.inputs == 0 {
		return nil
	}
	w := writer{}
	t := byte(frameOutput)
	if r.o.Redact {
		s := writer{}
		s.seen(r.saw.list)
		if err := r.f.frame(frameSeen, s.b); err != nil {
			return err
		}
		t = frameLines
		w.texts(r.text)
	} else {
		w.u32(uint32(len(r.out)))
		for _, d := range r.out {
			w.short([]byte(d.name))
			w.b = append(w.b, d.sum[:]...)
		}
	}
	sum := r.f.sum()
	if err := r.f.frame(t, append(w.b, sum[:8]...)); err != nil {
		return err
	}
	r.outputs += uint64(len(r.out) + len(r.text))
	r.out, r.text, r.saw.list = r.out[:0], r.text[:0], nil
	return nil
}

// redacted is an input as it may be passed on.
func (r *Recorder) redacted(in any) (any, error) {
	switch in := in.(type) {
	case core.Datagram:
		return blankDatagram(in), nil
	case core.Answer:
		w := r.asked[in.ID]
		delete(r.asked, in.ID)
		return blankAnswer(in, w), nil
	case core.TicketKeys:
		l := core.TicketKeys{}
		for _, k := range in.Keys {
			k.Secret = make(secret.Bytes, len(k.Secret))
			l.Keys = append(l.Keys, k)
		}
		return l, nil
	case Reconfigure:
		s, err := in.From.Redact(r.nameOf)
		if err != nil {
			return nil, fmt.Errorf("recording: a configuration without secrets: %w", err)
		}
		in.From = *s
		return in, nil
	}
	return in, nil
}

// nameOf is what stands for a secret of a configuration.
func (r *Recorder) nameOf(secret []byte) string {
	sum := sha256.Sum256(secret)
	if r.names[sum] == "" {
		r.names[sum] = fmt.Sprintf("redacted-%d", len(r.names)+1)
	}
	return r.names[sum]
}

// deafen ends what the endpoint tells.
func (r *Recorder) deafen() {
	if r.o.Redact {
		r.Endpoint.Trace(nil)
		r.Endpoint.Witness(nil)
	}
}

// stop ends the recording before its time.
func (r *Recorder) stop(why error) {
	f := r.f
	if r.from != nil {
		r.wipe()
	}
	r.f, r.out, r.text, r.saw, r.asked = nil, nil, nil, scribe{}, nil
	r.deafen()
	end := f.cut // what was written since is lost, and with it the chain that an end would have
	if errors.Is(why, errFull) || errors.Is(why, errTime) {
		end = func() error { return f.end(r.inputs, r.outputs, why.Error()) }
	}
	if err := end(); err != nil {
		why = fmt.Errorf("%w; then %w", why, err)
	}
	if r.o.Stopped != nil {
		r.o.Stopped(fmt.Errorf("%w, after %d inputs and %d bytes: what is in %s plays up to there", why, r.inputs, f.size, r.o.Dir))
	}
}

// Close ends the recording. The endpoint may be used on.
func (r *Recorder) Close() error {
	if r.f == nil {
		return nil
	}
	f := r.f
	err := r.finish()
	r.f = nil
	r.deafen()
	if errors.Is(err, errFull) {
		err = nil
	}
	return errors.Join(err, f.end(r.inputs, r.outputs, "closed"))
}
