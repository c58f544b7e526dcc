package record

import (
	"bytes"
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"culvert/ike/core"
	"culvert/ike/message"
)

// What an endpoint without secrets has to be told to decide as the recorded one
// did stands in a frame of its own behind the input, in the order in which it
// came up:
//
//	drew    1, bytes
//	opened  2, core.Opening (8), length (32)
//	read    3, type of the first payload (8), bytes
//	proved  4, 0 or 1
//	unsealed 5, bytes
const (
	sawDrawn kind = iota + 1
	sawOpened
	sawRead
	sawProved
	sawUnsealed
)

// seen is one of them; which fields count, kind says.
type seen struct {
	kind    kind
	opening core.Opening
	n       int
	first   message.PayloadType
	data    []byte
	ok      bool
}

func (w *writer) seen(list []seen) {
	w.u32(uint32(len(list)))
	for _, s := range list {
		w.kind(s.kind)
		switch s.kind {
		case sawDrawn, sawUnsealed:
			w.bytes(s.data)
		case sawOpened:
			w.u8(uint8(s.opening))
			w.u32(uint32(s.n))
		case sawRead:
			w.u8(uint8(s.first))
			w.bytes(s.data)
		case sawProved:
			w.flag(s.ok)
		}
	}
}

// maxOpened bounds the plaintext of one datagram.
const maxOpened = 1 << 16

func parseSeen(b []byte) (list []seen, err error) {
	r := reader{s: cryptobyte.String(b), ok: true}
	for range r.count(2) {
		s := seen{kind: kind(r.u8())}
		switch s.kind {
		case sawDrawn, sawUnsealed:
			s.data = r.bytes()
		case sawOpened:
			s.opening, s.n = core.Opening(r.u8()), int(r.u32())
			r.ok = r.ok && s.opening <= core.OpenedNothing && s.n <= maxOpened
		case sawRead:
			s.first, s.data = message.PayloadType(r.u8()), r.bytes()
		case sawProved:
			s.ok = r.flag()
		default:
			r.ok = false
		}
		list = append(list, s)
	}
	if !r.ok || !r.s.Empty() {
		return nil, fmt.Errorf("%w: what was seen of an input", ErrFormat)
	}
	return list, nil
}

// scribe is the Witness of a recording: it notes what holds and overrules nothing.
type scribe struct{ list []seen }

func (s *scribe) add(e seen) { s.list = append(s.list, e) }

func (s *scribe) Drew(b []byte) { s.add(seen{kind: sawDrawn, data: bytes.Clone(b)}) }

func (s *scribe) Opened(o core.Opening, n int) (core.Opening, int) {
	s.add(seen{kind: sawOpened, opening: o, n: n})
	return o, n
}

func (s *scribe) Read(first message.PayloadType, plain []byte) (message.PayloadType, []byte) {
	b := bytes.Clone(plain)
	blank(first, b)
	s.add(seen{kind: sawRead, first: first, data: b})
	return first, plain
}

func (s *scribe) Unsealed(state []byte) []byte {
	s.add(seen{kind: sawUnsealed, data: bytes.Clone(state)})
	return state
}

func (s *scribe) Proved(ok bool) bool {
	s.add(seen{kind: sawProved, ok: ok})
	return ok
}

// prompter is the Witness of a replay: it says what the scribe noted. What comes
// up in another order than it was noted in stays as it is; the decisions will
// differ there.
type prompter struct{ list []seen }

func (p *prompter) next(k kind) (seen, bool) {
	if len(p.list) == 0 || p.list[0].kind != k {
		return seen{}, false
	}
	s := p.list[0]
	p.list = p.list[1:]
	return s, true
}

func (p *prompter) Drew(b []byte) {
	if s, ok := p.next(sawDrawn); ok && len(s.data) == len(b) {
		copy(b, s.data)
	}
}

func (p *prompter) Opened(o core.Opening, n int) (core.Opening, int) {
	if s, ok := p.next(sawOpened); ok {
		return s.opening, s.n
	}
	return o, n
}

func (p *prompter) Read(first message.PayloadType, plain []byte) (message.PayloadType, []byte) {
	if s, ok := p.next(sawRead); ok {
		return s.first, bytes.Clone(s.data)
	}
	return first, plain
}

func (p *prompter) Unsealed(state []byte) []byte {
	if s, ok := p.next(sawUnsealed); ok {
		return s.data
	}
	return state
}

func (p *prompter) Proved(ok bool) bool {
	if s, is := p.next(sawProved); is {
		return s.ok
	}
	return ok
}
