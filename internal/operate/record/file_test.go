package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
)

// A broken file is refused with the place where it breaks.
func TestBrokenFiles(t *testing.T) {
	start := (&header{Start: time0, Build: "b"}).append(nil)
	redacted := (&header{Start: time0, Redacted: true}).append(nil)
	frame := func(kind byte, body string) []byte {
		return append(append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+1)), kind), body...)
	}
	at0 := string(make([]byte, 8)) // the time of an input
	tick := frame(frameInput, at0+string([]byte{byte(kindTick)}))
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	other := bytes.Clone(start)
	other[len(magic)+1]++
	for _, c := range []struct {
		name   string
		file   []byte
		want   string // of the error
		inputs uint64
	}{
		{"empty", nil, ErrFormat.Error(), 0},
		{"no recording", bytes.Repeat([]byte("x"), 100), ErrFormat.Error(), 0},
		{"almost one", append([]byte("K"), start[1:]...), ErrFormat.Error(), 0},
		{"with a flag of tomorrow", append(append(bytes.Clone(start[:len(magic)+3]), 2), start[len(magic)+4:]...), ErrFormat.Error(), 0},
		{"cut in the header", start[:20], "it ends in the middle, at byte 20", 0},
		{"of another version", other, "it is of version 3, this is 2", 0},
		{"cut behind the first byte of a frame", join(start, tick[:1]), "it ends in the middle, at byte 68", 0},
		{"cut in the head of a frame", join(start, tick[:3]), "it ends in the middle, at byte 70", 0},
		{"cut in the head of the second frame", join(start, tick, frame(frameOutput, "\x00\x00\x00\x00")[:4]), "it ends in the middle, at byte 85", 1},
		{"cut in a frame", join(start, tick[:8]), "it ends in the middle, at byte 72", 0},
		{"a frame of nothing", join(start, []byte{0, 0, 0, 0, 'I'}), "a frame of 0 bytes at byte 72", 0},
		{"a frame that is too long", join(start, []byte{8, 0, 0, 1, 'I'}), "a frame of 134217729 bytes at byte 72", 0},
		{"a frame without a body", join(start, frame(frameEnd, "")), ErrFormat.Error(), 0},
		{"an unknown frame", join(start, frame('X', "")), "a frame of type 'X' stands where none may, before byte 72", 0},
		{"outputs before an input", join(start, frame(frameOutput, "")), "a frame of type 'O' stands where none may", 0},
		{"two inputs", join(start, tick, tick), "a frame of type 'I' stands where none may", 1},
		{"lines of one that is not redacted", join(start, tick, frame(frameLines, "")), "a frame of type 'L' stands where none may", 1},
		{"what was seen of one that is not redacted", join(start, tick, frame(frameSeen, "")), "a frame of type 'V' stands where none may", 1},
		{"outputs of one that is redacted", join(redacted, tick, frame(frameSeen, "\x00\x00\x00\x00"), frame(frameOutput, "")), "a frame of type 'O' stands where none may", 1},
		{"two inputs of one that is redacted", join(redacted, tick, tick), "a frame of type 'I' stands where none may", 1},
		{"an input without a time", join(start, frame(frameInput, string([]byte{byte(kindTick)}))), ErrFormat.Error(), 0},
		{"no input", join(start, frame(frameInput, at0)), "input 1: this is not an input", 0},
		{"more outputs than there can be", join(start, tick, frame(frameOutput, "\xff\xff\xff\xff"+at0)), ErrFormat.Error(), 1},
		{"more lines than there can be", join(redacted, tick, frame(frameSeen, "\x00\x00\x00\x00"), frame(frameLines, "\xff\xff\xff\xff"+at0)), ErrFormat.Error(), 1},
		{"nothing seen", join(redacted, tick, frame(frameSeen, "")), "what was seen of an input", 1},
		{"an unknown thing seen", join(redacted, tick, frame(frameSeen, "\x00\x00\x00\x01\x09\x00")), "what was seen of an input", 1},
	} {
		got, err := Play(bytes.NewReader(c.file), player)
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
		if got != nil && got.Inputs != c.inputs {
			t.Errorf("%s: %d inputs, want %d", c.name, got.Inputs, c.inputs)
		}
	}
}

// A folder that cannot be made is an error before anything is recorded.
func TestNoFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "r")} {
		r, err := New(&parrot{}, Options{Dir: dir, Start: time0})
		if err == nil || r != nil || !strings.Contains(err.Error(), "recording: mkdir "+file) {
			t.Errorf("%v, %v", r, err)
		}
	}
}

// Where even all old recordings leave no room, all of them go.
func TestAllOldOnesGo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, day := range []string{"01", "02"} {
		if err := os.WriteFile(filepath.Join(dir, FileName+"-202001"+day+"T000000.000000000Z"), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := New(&parrot{}, Options{Dir: dir, Start: time0, Limit: 1 << 20, Total: 100})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != FileName {
		t.Errorf("%v, %v", left, err)
	}
}

// Two recordings of one moment: the second does not overwrite the first.
func TestPutAsideKeepsWhatIsThere(t *testing.T) {
	path, r := recorded(t, nil)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time0, time0); err != nil {
		t.Fatal(err)
	}
	aside := path + time0.Format("-20060102T150405.000000000Z")
	if err := os.WriteFile(aside, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := New(&parrot{}, Options{Dir: filepath.Dir(path), Start: time0})
	if err == nil || r != nil || !strings.Contains(err.Error(), aside+" is there already: move it away") {
		t.Errorf("%v, %v", r, err)
	}
	if b, err := os.ReadFile(aside); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
}

// What ends a recording before its time is told, and the endpoint goes on.
func TestStopped(t *testing.T) {
	for _, c := range []struct {
		name   string
		redact bool
		before func(r *Recorder)
		in     core.Input
		want   string
	}{
		{"a configuration from nowhere", false, func(*Recorder) {}, core.Reconfigure{Config: &core.Config{}}, "a configuration came from nowhere, after 1 inputs"},
		{"a configuration that cannot be read", true, func(r *Recorder) {
			s := snapshot()
			s.Files[0].Data = []byte("[[peer")
			r.From(s, [2]uint16{500, 4500}, false)
		}, core.Reconfigure{Config: &core.Config{}}, "a configuration without secrets: "},
		{"a file that is closed", false, func(r *Recorder) { r.f.f.Close() }, core.Tick{}, "file already closed; then "},
	} {
		var stopped []error
		e := &parrot{}
		r, err := New(e, Options{Dir: filepath.Join(t.TempDir(), "r"), Start: time0, Redact: c.redact, Stopped: func(err error) { stopped = append(stopped, err) }})
		if err != nil {
			t.Fatal(err)
		}
		r.Handle(time0, core.Tick{})
		c.before(r)
		r.Handle(time0.Add(time.Second), c.in)
		if len(stopped) != 1 || !strings.Contains(stopped[0].Error(), c.want) {
			t.Errorf("%s: stopped %v, want %s", c.name, stopped, c.want)
		}
		if !e.now.Equal(time0.Add(time.Second)) {
			t.Errorf("%s: the endpoint did not get the input", c.name)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// The shortest time that can be recorded is a nanosecond; the input at its end is not in it any more.
func TestShortestTime(t *testing.T) {
	path, r := recorded(t, func(o *Options) { o.For = 1 })
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := Replay(path, player); err != nil || got.Inputs != 1 || got.Ended != errTime.Error() {
		t.Errorf("%+v, %v", got, err)
	}
}

// An end without a reason is one all the same.
func TestEndWithoutReason(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	f, err := create(dir, &header{Start: time0}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.end(0, 0, ""); err != nil {
		t.Fatal(err)
	}
	if got, err := Replay(dir, player); err != nil || got.Ended != "closed" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Replay(t.TempDir(), player); err == nil || !strings.Contains(err.Error(), "no recording") {
		t.Errorf("an empty folder: %v", err)
	}
}

// Room that cannot be made is an error: the disk would fill up.
func TestNoRoomCanBeMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	if err := os.MkdirAll(filepath.Join(dir, FileName+"-20200101T000000.000000000Z", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := New(&parrot{}, Options{Dir: dir, Start: time0, Limit: 2, Total: 1})
	if err == nil || r != nil || !strings.Contains(err.Error(), FileName+"-2020") {
		t.Errorf("%v, %v", r, err)
	}
}

// A frame may end where room for the end is left, and not a byte later. A limit of 0 is none.
func TestRoomForTheEnd(t *testing.T) {
	for _, c := range []struct {
		limit func(size int64) int64
		want  error
	}{
		{func(size int64) int64 { return size + endRoom }, nil},
		{func(size int64) int64 { return size + endRoom - 1 }, errFull},
		{func(int64) int64 { return 1 }, errFull},
		{func(int64) int64 { return 0 }, nil},
	} {
		f, err := create(filepath.Join(t.TempDir(), "r"), &header{Start: time0}, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.limit = c.limit(f.size + 4 + 1 + 3)
		if err := f.frame(frameInput, []byte("abc")); !errors.Is(err, c.want) {
			t.Errorf("limit %d: %v, want %v", f.limit, err, c.want)
		}
		if err := f.end(0, 0, "closed"); err != nil {
			t.Error(err)
		}
	}
}

// The recorder wipes the text of a configuration when it has been written, or when it will not be.
func TestConfigurationIsWiped(t *testing.T) {
	text := []byte(conf)
	r, err := New(&parrot{}, Options{Dir: filepath.Join(t.TempDir(), "r"), Start: time0})
	if err != nil {
		t.Fatal(err)
	}
	s := snapshot()
	s.Files[0].Data = text
	r.From(s, [2]uint16{500, 4500}, false)
	if string(text) != conf {
		t.Error("wiped before it was written")
	}
	r.Handle(time0, core.Reconfigure{Config: &core.Config{}})
	if !bytes.Equal(text, make([]byte, len(text))) {
		t.Errorf("%q is left", text)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	copy(text, conf)
	late, err := New(&parrot{}, Options{Dir: filepath.Join(t.TempDir(), "r"), Start: time0, For: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	late.From(s, [2]uint16{500, 4500}, false)
	if late.Handle(time0.Add(time.Second), core.Tick{}); !bytes.Equal(text, make([]byte, len(text))) {
		t.Errorf("%q is left when the recording ends before it", text)
	}
	copy(text, conf)
	if r.From(s, [2]uint16{500, 4500}, false); !bytes.Equal(text, make([]byte, len(text))) {
		t.Errorf("%q is left when nothing is recorded", text)
	}
}
