package store

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// small mounts a file system of some pages, which root can.
func small(t *testing.T, size string) (dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounts a file system: run it as root")
	}
	dir = t.TempDir()
	if err := syscall.Mount("culvert", dir, "tmpfs", 0, "size="+size+",mode=0700"); err != nil {
		t.Skipf("this system lets nobody mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// impatient are the options of a gateway whose pauses a test ends.
func impatient(log *lines) (Options, *clocks) {
	c := &clocks{make(chan clock, 1000)}
	return Options{Judge: JudgeBy(Self(), "judge-state"), Log: slog.New(slog.NewTextHandler(log, nil)), after: func(d time.Duration) <-chan time.Time {
		if d == ackWait || d == openWait || d == closeWait {
			return time.After(time.Minute) // the disk answers, in its way
		}
		return c.after(d)
	}}, c
}

// A disk that fills up while the store is open, and one that is full before, holds nothing
// up. When there is room again, all of it is written.
func TestFullDisk(t *testing.T) {
	for _, before := range []bool{false, true} {
		dir := small(t, "128k")
		state := filepath.Join(dir, "state")
		filler := filepath.Join(dir, "filler")
		fill := func() {
			t.Helper()
			if err := os.WriteFile(filler, bytes.Repeat([]byte{1}, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("the disk is not full: %v", err)
			}
		}
		if err := os.Mkdir(state, 0o700); err != nil {
			t.Fatal(err)
		}
		if before {
			fill()
		}
		var log lines
		o, c := impatient(&log)
		s, err := Open(state, o)
		if err != nil {
			t.Fatalf("full before %v: %v", before, err)
		}
		if !before {
			if err := put(s, "x", "first", "1"); err != nil {
				t.Fatal(err)
			}
			fill()
		}
		value := strings.Repeat("v", 1000)
		for _, k := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w", "x", "y", "z"} {
			if err := put(s, "x", k, value); err != nil {
				t.Fatal(err)
			}
		}
		k := c.next(t, shortestPause)
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "no space left") {
			t.Errorf("full before %v: %d lines:\n%s", before, n, &log)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		k.fire <- time.Time{}
		if err := put(s, "x", "last", "1"); err != nil {
			t.Fatal(err)
		}
		want := dump(t, s, "x")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(state, o); err != nil {
			t.Fatal(err)
		}
		if got := dump(t, s, "x"); got != want || len(got) < 26000 {
			t.Errorf("full before %v: after a restart %d bytes, want %d\n%s", before, len(got), len(want), &log)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// From a disk that became read-only the store reads what is there and keeps what is new in
// memory, until it can be written.
func TestReadOnlyDisk(t *testing.T) {
	dir := small(t, "1m")
	state := filepath.Join(dir, "state")
	var log lines
	o, c := impatient(&log)
	s, err := Open(state, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(put(s, "x", "old", "1"), put(s, "x", "gone", "1"), s.Close()); err != nil {
		t.Fatal(err)
	}
	remount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("culvert", dir, "tmpfs", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(syscall.MS_RDONLY)
	if s, err = Open(state, o); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(put(s, "x", "new", "1"), s.Update(func(tx Tx) error { return tx.Delete("x", []byte("gone")) })); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, s, "x"); got != "new=1 old=1 " {
		t.Errorf("in memory: %s", got)
	}
	k := c.next(t, shortestPause)
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "read-only file system") {
		t.Errorf("%d lines:\n%s", n, &log)
	}
	remount(0)
	k.fire <- time.Time{}
	if err := errors.Join(put(s, "x", "newer", "1"), s.Close()); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(state, o); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := dump(t, s, "x"); got != "new=1 newer=1 old=1 " {
		t.Errorf("after a restart: %s", got)
	}
	// A state directory that cannot even be made.
	remountedOnly := filepath.Join(dir, "not", "there")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	remount(syscall.MS_RDONLY)
	if s, err = Open(remountedOnly, o); err != nil {
		t.Fatal(err)
	}
	if err := put(s, "x", "new", "1"); err != nil || dump(t, s, "x") != "new=1 " {
		t.Error(err)
	}
	if err := s.Close(); !errors.Is(err, syscall.EROFS) {
		t.Errorf("closed without a word: %v", err)
	}
}

// A disk with room for a new file, but not for everything, takes it once it has room: what
// was begun is let go of.
func TestDiskFillsUpMeanwhile(t *testing.T) {
	dir := small(t, "128k")
	var log lines
	f := &file{dir: dir, path: filepath.Join(dir, FileName), o: quick(&log, Judge), opened: make(chan struct{})}
	close(f.opened)
	defer f.close()
	everything := changes{"x": {"long": bytes.Repeat([]byte{'v'}, 1<<16), "a": []byte("new")}}
	all := func() changes { return everything }
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.write(everything, all); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("the disk is not full: %v", err)
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := f.write(everything, all); err != nil {
		t.Fatal(err)
	}
	if got := holds(t, dir, "x"); !strings.HasPrefix(got, "a=new long=v") {
		t.Errorf("the file has %.20q", got)
	}
}

// A new file that a full disk did not take is removed; an older one is not, whatever became of it.
func TestFullDiskKeepsNoRest(t *testing.T) {
	dir := small(t, "8k")
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, FileName)
	f := &file{dir: dir, path: path, o: quick(&lines{}, Judge)}
	if err := f.openSound(false); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the rest stays: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.openSound(false); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("an older one: %v", err)
	}
}

// A damaged file on a disk that became read-only cannot be set aside. It is not read either,
// which could end this process. The store begins empty.
func TestDamagedOnReadOnlyDisk(t *testing.T) {
	data, _ := filled(t)
	for what, c := range map[string]struct {
		bad   []byte
		judge func(string) error
	}{
		"damaged": {damages["a page that refers to itself"](bytes.Clone(data), nil), JudgeBy(Self(), "judge-state")},
		// What is noticed only when it is read: nobody is given a part of it.
		"damaged behind the judge's back": {lastLeaf(data), sound},
	} {
		t.Run(what, func(t *testing.T) {
			dir := small(t, "1m")
			path := filepath.Join(dir, FileName)
			if err := os.WriteFile(path, c.bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mount("culvert", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			var log lines
			o, _ := impatient(&log)
			o.Judge = c.judge
			s, err := Open(dir, o)
			if err != nil {
				t.Fatal(err)
			}
			if got := dump(t, s, "leases") + dump(t, s, "ticket-keys"); got != "" {
				t.Errorf("it has %d bytes", len(got))
			}
			if err := put(s, "x", "a", "new"); err != nil {
				t.Error(err)
			}
			if err := s.Close(); !errors.Is(err, syscall.EROFS) {
				t.Errorf("closed without a word: %v", err)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, c.bad) {
				t.Errorf("the file changed: %v", err)
			}
		})
	}
}

// A damaged file that cannot be set aside is not written to.
func TestNotSetAside(t *testing.T) {
	dir := t.TempDir()
	for len(dir)+len("/"+FileName) < 4096-8 { // the name with the date is longer than the kernel takes
		dir = filepath.Join(dir, strings.Repeat("d", min(200, 4096-8-len(dir)-len("//"+FileName))))
	}
	kept(t, dir, "a")
	f := opened(t, dir, &lines{})
	if err := os.Truncate(f.path, 8192); err != nil {
		t.Fatal(err)
	}
	err := f.write(changes{"x": {"b": []byte("new")}}, func() changes { return changes{} })
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "it cannot be set aside") || f.db != nil {
		t.Errorf("%v, database %v", err, f.db)
	}
}

// A fault in mapped memory is an error, and not the end of the process.
func TestFaultIsAnError(t *testing.T) {
	data, _ := filled(t)
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f := &file{dir: dir, path: path, o: Options{Judge: Judge, Log: slog.Default()}}
	if _, err := f.open(); err != nil {
		t.Fatal(err)
	}
	defer f.abandon()
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	if _, err := f.read(); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "memory") {
		t.Errorf("read: %v", err)
	}
}

// The end of the process that judges is a verdict, whatever it said.
func TestJudgeThatEnds(t *testing.T) {
	data, _ := filled(t)
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, data[:16384], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := JudgeBy(Self(), "judge-state")(path); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "it has 16384 bytes of ") {
		t.Errorf("cut: %v", err)
	}
	for script, want := range map[string]string{
		"kill -SEGV $$":                       "segmentation fault",
		"echo fatal error: fault >&2; exit 2": "fatal error: fault",
		"echo sound; exit 2":                  "exit status 2",
		"echo trace $GOTRACEBACK >&2; exit 2": "trace none",
		"exit 0":                              "exit status 0",
	} {
		if err := JudgeBy("/bin/sh", "-c", script)(path); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", script, err)
		}
	}
	if err := JudgeBy("/bin/sh", "-c", "echo in use")(path); !errors.Is(err, ErrInUse) {
		t.Errorf("in use: %v", err)
	}
	if err := JudgeBy("/bin/sh", "-c", "echo error: no permission")(path); errors.Is(err, ErrDamaged) || err == nil || err.Error() != "no permission" {
		t.Errorf("an error: %v", err)
	}
}
