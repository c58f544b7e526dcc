package record

import (
	"reflect"
	"testing"

	"culvert/ike/core"
	"culvert/ike/message"
)

var allSeen = []seen{
	{kind: sawDrawn, data: []byte{1, 2}}, {kind: sawOpened, opening: core.OpenedBroken, n: 7}, {kind: sawRead, first: message.TypeAUTH, data: []byte{3}},
	{kind: sawProved, ok: true}, {kind: sawUnsealed, data: []byte{4}},
}

func TestSeen(t *testing.T) {
	w := writer{}
	w.seen(allSeen)
	got, err := parseSeen(w.b)
	if err != nil || !reflect.DeepEqual(got, allSeen) {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range w.b {
		if got, err := parseSeen(w.b[:n]); err == nil {
			t.Errorf("cut to %d bytes it is %+v", n, got)
		}
	}
	if _, err := parseSeen(append(w.b, 0)); err == nil {
		t.Error("a byte too many")
	}
	for _, bad := range [][]seen{
		{{kind: 99}, {kind: sawDrawn}}, {{kind: sawOpened, opening: core.OpenedNothing + 1}}, {{kind: sawOpened, n: maxOpened + 1}},
	} {
		w := writer{}
		if w.seen(bad); !refusedSeen(w.b) {
			t.Errorf("%+v is taken", bad)
		}
	}
	w = writer{}
	if w.seen([]seen{{kind: sawOpened, opening: core.OpenedNothing, n: maxOpened}}); refusedSeen(w.b) {
		t.Error("the most that can be opened is refused")
	}
}

func refusedSeen(b []byte) bool { _, err := parseSeen(b); return err != nil }

// What is not noted stays as it is: more draws than were noted, or of another length.
func TestPrompterWithoutNotes(t *testing.T) {
	p := &prompter{}
	b := []byte{8, 8}
	p.Drew(b)
	first, plain := p.Read(message.TypeSA, b)
	if o, n := p.Opened(core.OpenedWell, 5); o != core.OpenedWell || n != 5 || first != message.TypeSA || string(plain) != "\x08\x08" || string(p.Unsealed(b)) != "\x08\x08" || !p.Proved(true) || p.Proved(false) {
		t.Error(o, n, first, plain)
	}
	p.list = []seen{{kind: sawDrawn, data: []byte{1, 2, 3}}}
	if p.Drew(b); b[0] != 8 {
		t.Errorf("%x", b)
	}
}

// What the scribe noted the prompter says, in order; what comes up otherwise stays.
func TestPrompter(t *testing.T) {
	s := &scribe{}
	s.Drew([]byte{1, 2})
	s.Opened(core.OpenedNothing, 0)
	s.Read(message.TypeNonce, []byte{0, 0, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	s.Proved(true)
	s.Unsealed([]byte{9})
	p := &prompter{list: s.list}
	if p.Proved(false) {
		t.Error("out of order")
	}
	b := []byte{8, 8}
	if p.Drew(b); b[0] != 1 {
		t.Error("drawn")
	}
	if o, n := p.Opened(core.OpenedWell, 5); o != core.OpenedNothing || n != 0 {
		t.Error(o, n)
	}
	if first, b := p.Read(message.TypeSA, nil); first != message.TypeNonce || len(b) != 20 || b[19] != 16 {
		t.Error(first, b)
	}
	if !p.Proved(false) || p.Proved(false) && len(p.list) > 1 {
		t.Error("proved")
	}
	if b := p.Unsealed(nil); len(b) != 1 || b[0] != 9 {
		t.Error(b)
	}
}

func FuzzParseSeen(f *testing.F) {
	w := writer{}
	w.seen(allSeen)
	f.Add(w.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseSeen(b)
		if err != nil {
			return
		}
		w := writer{}
		w.seen(list)
		if string(w.b) != string(b) {
			t.Errorf("%x became %x", b, w.b)
		}
	})
}
