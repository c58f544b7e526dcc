package record

import (
	"errors"
	"fmt"
	"time"

	"culvert/config"
	"culvert/ike/core"
	"culvert/ike/message"
)

// Endpoint is what is recorded, and what plays: ike.Endpoint.
type Endpoint interface {
	Handle(now time.Time, in core.Input)
	Poll() (core.Output, bool)
	Deadline() (time.Time, bool)
	SAs() []core.SAInfo
	Idle() bool
	// Trace has f called with every message as it is in clear; body is borrowed.
	Trace(f func(sent bool, h message.Header, body []message.Payload))
}

// Options of a Recorder.
type Options struct {
	Dir   string
	Limit int64 // bytes; 0: none
	// Redact: a recording to be read and passed on, without secrets, that does
	// not play.
	Redact bool
	Seed   [32]byte // that the endpoint was made with
	Build  string   // version of this binary
	Start  time.Time
	// Stopped is called once, when the recording ends before Close: it is full,
	// or the disk is. The endpoint goes on.
	Stopped func(error)
}

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
	now             time.Time
	pending         bool // the outputs of an input are still being polled
	out             []digested
	text            []string // of a redacted recording
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
	f, err := create(o.Dir, &h, o.Limit)
	if err != nil {
		return nil, err
	}
	r := &Recorder{Endpoint: e, o: o, start: h.Start, f: f}
	if o.Redact {
		e.Trace(r.message)
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
				r.text = append(r.text, "  out "+line)
			}
			r.outputs++
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
	var what any = in
	if _, ok := in.(core.Reconfigure); ok {
		if r.from == nil {
			return errors.New("recording: a configuration came from nowhere")
		}
		what = *r.from
		defer r.wipe()
	}
	r.pending, r.now = true, at
	if r.o.Redact {
		r.inputs++
		r.text = append(r.text, describeInput(what))
		return nil
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
	return r.f.w.Flush()
}

func (r *Recorder) wipe() {
	for _, f := range r.from.From.Files {
		clear(f.Data)
	}
	r.from = nil
}

// finish writes what came of the last input.
func (r *Recorder) finish() error {
	if !r.pending {
		return nil
	}
	r.pending = false
	if r.o.Redact {
		return r.lines()
	}
	w := writer{}
	w.u32(uint32(len(r.out)))
	for _, d := range r.out {
		w.short([]byte(d.name))
		w.b = append(w.b, d.sum[:]...)
	}
	sum := r.f.sum()
	if err := r.f.frame(frameOutput, append(w.b, sum[:8]...)); err != nil {
		return err
	}
	r.outputs += uint64(len(r.out))
	r.out = r.out[:0]
	return nil
}

func (r *Recorder) lines() error {
	for i, line := range r.text {
		r.text[i] = ""
		w := writer{}
		w.u64(uint64(r.now.Sub(r.start)))
		if err := r.f.frame(frameLine, append(w.b, line...)); err != nil {
			return err
		}
	}
	r.text = r.text[:0]
	return r.f.w.Flush()
}

// stop ends the recording before its time.
func (r *Recorder) stop(why error) {
	f := r.f
	r.f, r.out, r.text = nil, nil, nil
	r.Trace(nil)
	if err := f.end(r.inputs, r.outputs, why.Error()); err != nil && !errors.Is(why, errFull) {
		why = fmt.Errorf("%w; its end could not be written either", why)
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
	r.Trace(nil)
	if errors.Is(err, errFull) {
		err = nil
	}
	return errors.Join(err, f.end(r.inputs, r.outputs, "closed"))
}
