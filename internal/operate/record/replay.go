package record

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"culvert/ike/core"
	"culvert/ike/message"
)

// Player is what a recording plays on.
type Player struct {
	// New makes an endpoint of a seed.
	New func(seed [32]byte) Endpoint
	// Compile makes the endpoint's configuration of what it was compiled from.
	// It is called in the order of the recording.
	Compile func(Reconfigure) (*core.Config, error)
	// Line takes what comes in and goes out, one line each. It may be nil.
	Line func(at time.Time, text string)
}

// Report is what came of a replay.
type Report struct {
	Build    string // of the culvert that recorded
	Start    time.Time
	Redacted bool
	Inputs   uint64
	Outputs  uint64 // of one that is redacted: lines that say what was decided
	// Chain is the SHA-256 over the whole recording, in hexadecimal; empty where
	// it has no end.
	Chain string
	// Ended is why the recorder stopped; empty: in the middle.
	Ended string
	// Difference is nil where all outputs were the same.
	Difference *Difference
}

// Difference is the first output, or of a redacted recording the first decision,
// that was not as recorded.
type Difference struct {
	Input    uint64 // its number, from 1
	At       time.Time
	What     string // the input, for people
	Output   int    // its number among those of the input, from 1
	Recorded string // type and digest, or the decision; empty: there was none
	Replayed string
}

func (d *Difference) String() string {
	none := func(s string) string {
		if s == "" {
			return "nothing"
		}
		return s
	}
	return fmt.Sprintf("input %d (%s) at %s: output %d: recorded %s, replayed %s", d.Input, d.What, d.At.Format(time.RFC3339Nano), d.Output, none(d.Recorded), none(d.Replayed))
}

// Replay plays the recording in dir, or the one that dir itself is. The error says that it cannot be played or
// was changed; that outputs differ is in the report.
func Replay(dir string, p Player) (*Report, error) {
	if st, err := os.Stat(dir); err != nil || st.IsDir() {
		dir = filepath.Join(dir, FileName)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("no recording: %w", err)
	}
	defer f.Close()
	return Play(f, p)
}

// Play is Replay of what a reader gives.
func Play(from io.Reader, p Player) (*Report, error) {
	s, err := open(from)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = ErrFormat
		}
		return nil, err
	}
	y := &play{Player: p, s: s, r: &Report{Build: s.Build, Start: s.Start, Redacted: s.Redacted}}
	y.e = p.New(s.Seed)
	y.e.Trace(func(sent bool, h message.Header, body []message.Payload) {
		y.text = append(y.text, tracedText(sent, h, body))
	})
	if s.Redacted {
		y.e.Witness(&y.told)
	}
	for y.r.Ended == "" {
		err := y.frame()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || y.r.Difference != nil {
			return y.r, err
		}
	}
	return y.r, nil
}

type play struct {
	Player
	s    *source
	r    *Report
	e    Endpoint
	at   time.Time
	what string
	held core.Input // of one that is redacted: waits for what was seen of it
	open bool       // an input was handled whose outputs come next
	out  []core.Output
	text []string // what goes out, and messages in clear
	told prompter
}

func (y *play) frame() error {
	t, body, before, err := y.s.frame()
	if err != nil {
		return err
	}
	b := reader{s: cryptobyte.String(body), ok: true}
	switch {
	case t == frameInput && !y.open && y.held == nil:
		return y.input(&b)
	case t == frameSeen && y.held != nil:
		if y.told.list, err = parseSeen(body); err == nil {
			y.handle()
		}
		return err
	case t == frameOutput && y.open && !y.s.Redacted:
		return y.outputs(&b, before)
	case t == frameLines && y.open && y.s.Redacted:
		return y.lines(&b, before)
	case t == frameEnd:
		return y.end(&b, before)
	}
	return fmt.Errorf("%w: a frame of type %q stands where none may, before byte %d", ErrFormat, t, y.s.at)
}

func (y *play) line(text string) {
	if y.Line != nil {
		y.Line(y.at, text)
	}
}

// input reads an input, and hands it on if nothing is to be known beside it.
func (y *play) input(b *reader) error {
	y.at = y.s.Start.Add(time.Duration(b.u64()))
	if !b.ok {
		return ErrFormat
	}
	in, err := parseInput(b.s)
	if err != nil {
		return fmt.Errorf("%w: input %d: %w", ErrFormat, y.r.Inputs+1, err)
	}
	y.r.Inputs++
	y.what = describeInput(in)
	y.line(y.what)
	if c, ok := in.(Reconfigure); ok {
		c.From.Redacted = y.s.Redacted
		cfg, err := y.Compile(c)
		if err != nil {
			return fmt.Errorf("the configuration of the recording (input %d): %w", y.r.Inputs, err)
		}
		in = core.Reconfigure{Config: cfg}
	}
	y.held = in.(core.Input)
	if !y.s.Redacted {
		y.handle()
	}
	return nil
}

// handle hands the endpoint the input and takes what it puts out.
func (y *play) handle() {
	y.out, y.text = y.out[:0], y.text[:0]
	y.e.Handle(y.at, y.held)
	for o, ok := y.e.Poll(); ok; o, ok = y.e.Poll() {
		y.out = append(y.out, o)
		if line := describeOutput(o); line != "" {
			y.text = append(y.text, outputText(line))
		}
	}
	for _, line := range y.text {
		y.line(line)
	}
	y.held, y.open = nil, true
}

// lines compares what was decided with what was recorded.
func (y *play) lines(b *reader, before [32]byte) error {
	y.open = false
	n := b.count(4)
	for i := range max(n, len(y.text)) {
		recorded, replayed := "", ""
		if i < n {
			recorded = printable(b.text())
		}
		if i < len(y.text) {
			replayed = printable(y.text[i])
		}
		if !b.ok {
			return ErrFormat
		}
		if recorded != replayed {
			y.r.Difference = &Difference{y.r.Inputs, y.at, y.what, i + 1, strings.TrimSpace(recorded), strings.TrimSpace(replayed)}
			return nil
		}
		y.r.Outputs++
	}
	return y.chained(b, before, "decisions")
}

// outputs compares what was put out with what was recorded.
func (y *play) outputs(b *reader, before [32]byte) error {
	y.open = false
	n := b.count(1 + len(digest{}))
	for i := range max(n, len(y.out)) {
		recorded, replayed := "", ""
		if i < n {
			var name []byte
			var sum digest
			b.ok = b.ok && b.s.ReadUint8LengthPrefixed((*cryptobyte.String)(&name)) && b.s.CopyBytes(sum[:])
			recorded = printable(string(name)) + " " + hex.EncodeToString(sum[:])
		}
		if i < len(y.out) {
			sum := digestOf(y.out[i])
			replayed = typeName(y.out[i]) + " " + hex.EncodeToString(sum[:])
		}
		if !b.ok {
			return ErrFormat
		}
		if recorded != replayed {
			if i < len(y.out) {
				if line := describeOutput(y.out[i]); line != "" {
					replayed += " (" + line + ")"
				}
			}
			y.r.Difference = &Difference{y.r.Inputs, y.at, y.what, i + 1, recorded, replayed}
			return nil
		}
		y.r.Outputs++
	}
	return y.chained(b, before, "outputs")
}

// chained reads the beginning of the chain, with which a frame ends.
func (y *play) chained(b *reader, before [32]byte, what string) error {
	var sum digest
	if !b.ok || !b.s.CopyBytes(sum[:]) || !b.s.Empty() {
		return ErrFormat
	}
	if sum != digest(before[:8]) {
		return fmt.Errorf("the recording was changed after it was made: at input %d (%s) or before; its %s are the same", y.r.Inputs, y.what, what)
	}
	return nil
}

func (y *play) end(b *reader, before [32]byte) error {
	inputs, outputs := b.u64(), b.u64()
	var sum [32]byte
	if !b.ok || !b.s.CopyBytes(sum[:]) {
		return ErrFormat
	}
	if sum != before || inputs != y.r.Inputs || outputs != y.r.Outputs {
		return errors.New("the recording was changed after it was made: its SHA-256 is not that of its end")
	}
	y.r.Chain, y.r.Ended = hex.EncodeToString(sum[:]), printable(string(b.s))
	if y.r.Ended == "" {
		y.r.Ended = "closed"
	}
	return nil
}
