package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// quick are options of a store whose file a test judges, and that waits for no lock.
func quick(log *lines, judge func(path string) error) Options {
	return Options{Judge: judge, Log: slog.New(slog.NewTextHandler(log, nil)), lockWait: time.Millisecond}
}

func sound(string) error { return nil }

// opened is a file that is open, and the path of its database.
func opened(t *testing.T, dir string, log *lines) *file {
	t.Helper()
	f := &file{dir: dir, path: filepath.Join(dir, FileName), o: quick(log, Judge), opened: make(chan struct{})}
	f.o.now = func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }
	if _, err := f.open(); err != nil {
		t.Fatal(err)
	}
	close(f.opened)
	t.Cleanup(func() { _ = f.close() })
	return f
}

// holds is what the database in dir has in a bucket. It is read from a copy, as
// another process would find it.
func holds(t *testing.T, dir, bucket string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := os.WriteFile(filepath.Join(to, FileName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(to, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return dump(t, s, bucket)
}

// kept makes a database with some keys in dir.
func kept(t *testing.T, dir string, keys ...string) {
	t.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if err := put(s, "x", k, "old"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// What the judge says decides whether the file is read, set aside, or left alone.
func TestVerdictDecides(t *testing.T) {
	for _, c := range []struct {
		what    string
		verdict error
		garbage bool   // the file is none
		err     string // of Open
		has     string // at first
		after   string // in the file, once something was written
		aside   int
	}{
		{"sound", nil, false, "", "a=old b=old ", "a=old b=old n=new ", 0},
		{"damaged", fmt.Errorf("%w: somehow", ErrDamaged), false, "", "", "n=new ", 1},
		{"in use, and then not any more", ErrInUse, false, "", "a=old b=old ", "a=old b=old n=new ", 0},
		{"no answer in time", fmt.Errorf("%w", ErrSlow), false, "", "", "a=old b=old n=new ", 0}, // it is not read, and not lost
		{"no verdict", errors.New("no judge"), false, "cannot open ", "", "", 0},
		{"sound, and it is not", nil, true, "cannot open ", "", "", 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir, log := t.TempDir(), &lines{}
			path := filepath.Join(dir, FileName)
			kept(t, dir, "a", "b")
			if c.garbage {
				if err := os.WriteFile(path, bytes.Repeat([]byte("garbage\n"), 2000), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			verdicts := []error{c.verdict}
			s, err := Open(dir, quick(log, func(at string) (err error) {
				if at != path {
					t.Errorf("judges %s", at)
				}
				if len(verdicts) > 0 {
					err, verdicts = verdicts[0], verdicts[1:]
				}
				return err
			}))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Count(err.Error(), path) != 1 {
					t.Errorf("%v, want %q", err, c.err)
				}
				if _, err := os.Stat(path); err != nil {
					t.Errorf("the file is gone: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := dump(t, s, "x"); got != c.has {
				t.Errorf("it has %q, want %q", got, c.has)
			}
			if err := put(s, "x", "n", "new"); err != nil {
				t.Fatal(err)
			}
			if got := holds(t, dir, "x"); got != c.after {
				t.Errorf("then the file has %q, want %q\n%s", got, c.after, log)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if list, _ := filepath.Glob(path + aside + "*"); len(list) != c.aside {
				t.Errorf("set aside: %q", list)
			}
		})
	}
}

// A file that another process has open is not touched.
func TestInUse(t *testing.T) {
	dir, log := t.TempDir(), &lines{}
	kept(t, dir, "a")
	opened(t, dir, log)
	_, err := Open(dir, quick(log, func(string) error { return ErrInUse }))
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "state-dir") {
		t.Errorf("opened twice: %v", err)
	}
	if got := holds(t, dir, "x"); got != "a=old " {
		t.Errorf("then the file has %q", got)
	}
	// Nor is one that its owner has just made.
	empty := t.TempDir()
	path := filepath.Join(empty, FileName)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	f := &file{dir: empty, path: path, o: quick(log, sound)}
	if err := f.openSound(false); !errors.Is(err, ErrInUse) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path); err != nil || f.db != nil || f.raw != nil {
		t.Errorf("%v, database %v, file %v", err, f.db, f.raw)
	}
}

// What the judge did not notice, and reading does, is set aside all the same: nobody is given a part of it, and one line says so.
func TestDamageIsNoticedWhenRead(t *testing.T) {
	if os.Getpagesize() != 4096 {
		t.Skipf("the damage is made for pages of 4096 bytes, this system has %d", os.Getpagesize())
	}
	data, _ := filled(t)
	bad := lastLeaf(data)
	dir, log := t.TempDir(), &lines{}
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, quick(log, sound))
	if err != nil {
		t.Fatal(err)
	}
	if got := dump(t, s, "leases") + dump(t, s, "ticket-keys"); got != "" {
		t.Errorf("it has %d bytes", len(got))
	}
	if list, _ := filepath.Glob(path + aside + "*"); len(list) != 1 {
		t.Errorf("set aside: %q", list)
	} else if was, err := os.ReadFile(list[0]); err != nil || !bytes.Equal(was, bad) {
		t.Errorf("set aside with %d bytes, %v", len(was), err)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "set aside") {
		t.Errorf("%d lines:\n%s", n, log)
	}
	if err := errors.Join(put(s, "x", "n", "new"), s.Close()); err != nil {
		t.Error(err)
	}
	if got := holds(t, dir, "x"); got != "n=new " {
		t.Errorf("the new file has %q", got)
	}
}

// The directory and the file may be where the way there leads nowhere.
func TestNoWay(t *testing.T) {
	dir, log := t.TempDir(), &lines{}
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "f"), quick(log, sound)); err == nil || !strings.Contains(err.Error(), "cannot make the state directory (key state-dir in [gateway])") {
		t.Errorf("a file is no directory: %v", err)
	}
	f := &file{dir: filepath.Join(dir, "f"), path: filepath.Join(dir, "f", FileName), o: quick(log, sound)}
	if err := f.sound(); err == nil || !strings.Contains(err.Error(), "cannot open") {
		t.Errorf("below a file: %v", err)
	}
	if runtime.GOOS == "windows" {
		return // links need a privilege there
	}
	link := filepath.Join(dir, FileName)
	for to, want := range map[string]string{"nowhere": "cannot open " + link, "a folder": "", "a database": ""} {
		target := t.TempDir()
		if to == "a database" {
			kept(t, target, "a")
			target = filepath.Join(target, FileName)
		} else if to == "nowhere" {
			target = filepath.Join(target, "nothing")
		}
		_ = os.Remove(link)
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, quick(log, sound))
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("a link to %s: %v", to, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("a link to %s: %v", to, err)
			continue
		}
		if got := dump(t, s, "x"); (got == "a=old ") != (to == "a database") {
			t.Errorf("a link to %s has %q", to, got)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if st, err := os.Lstat(link); err != nil || (st.Mode()&os.ModeSymlink != 0) != (to == "a database") {
			t.Errorf("a link to %s became %v, %v", to, st, err)
		}
	}
}

// Without options the log is the default one.
func TestDefaultLog(t *testing.T) {
	was := slog.Default()
	defer slog.SetDefault(was)
	var log lines
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil || !strings.Contains(log.String(), "set aside") {
		t.Errorf("%v, %s", err, &log)
	}
}

// A disk that does not answer holds up the start for some seconds. Nothing is lost on
// either side once it answers.
func TestSlowStart(t *testing.T) {
	dir, log := t.TempDir(), &lines{}
	kept(t, dir, "a", "b")
	c := &clocks{make(chan clock, 100)}
	answers := make(chan error)
	o := quick(log, func(string) error { return <-answers })
	o.after = c.after
	type result struct {
		Store
		error
	}
	done := make(chan result)
	go func() {
		s, err := Open(dir, o)
		done <- result{s, err}
	}()
	c.next(t, openWait).fire <- time.Time{}
	r := <-done
	if r.error != nil {
		t.Fatal(r.error)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "does not answer") || dump(t, r, "x") != "" {
		t.Errorf("it has %q, and %d lines:\n%s", dump(t, r, "x"), n, log)
	}
	put := make(chan error)
	go func() {
		put <- r.Update(func(tx Tx) error {
			return errors.Join(tx.Put("x", []byte("a"), []byte("new")), tx.Put("x", []byte("c"), []byte("new")))
		})
	}()
	c.next(t, ackWait)
	answers <- nil
	if err := errors.Join(<-put, r.Close()); err != nil {
		t.Error(err)
	}
	if got := holds(t, dir, "x"); got != "a=new b=old c=new " {
		t.Errorf("the file has %q", got)
	}
}

// What happens to the file of a store that is open is noticed before it is written to.
func TestThere(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a mapped file cannot be cut, removed or replaced here")
	}
	for name, c := range map[string]struct {
		damage func(path string, size int64) error
		want   string // of the error; empty: none
	}{
		"nothing":  {func(string, int64) error { return nil }, ""},
		"grown":    {func(path string, size int64) error { return os.Truncate(path, size+1) }, ""},
		"cut":      {func(path string, size int64) error { return os.Truncate(path, size-1) }, "it was cut from "},
		"removed":  {func(path string, _ int64) error { return os.Remove(path) }, "it was removed"},
		"replaced": {func(path string, _ int64) error { return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)) }, "another file stands in its place"},
	} {
		for _, written := range []bool{false, true} {
			dir := t.TempDir()
			kept(t, dir, "a")
			f := opened(t, dir, &lines{})
			if written { // grows: the size is that after the last write
				if err := f.update(changes{"x": {"long": bytes.Repeat([]byte{'v'}, 1<<20)}}); err != nil {
					t.Fatal(err)
				}
			}
			st, err := os.Stat(f.path)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.damage(f.path, st.Size()); err != nil {
				t.Fatal(err)
			}
			err = f.there()
			if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s, written to %v: %v, want %q", name, written, err, c.want)
			}
		}
	}
}

// Where the file was damaged, one write makes a new one of everything.
func TestBeginAnew(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a mapped file cannot be removed here")
	}
	dir, log := t.TempDir(), &lines{}
	kept(t, dir, "a")
	f := opened(t, dir, log)
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	all := func() changes {
		return changes{"x": {"a": []byte("old"), "b": []byte("new")}, "y": {"c": []byte("new")}}
	}
	if err := f.write(changes{"x": {"b": []byte("new")}}, all); err != nil {
		t.Fatal(err)
	}
	if got := holds(t, dir, "x") + holds(t, dir, "y"); got != "a=old b=new c=new " {
		t.Errorf("the new file has %q", got)
	}
	if !strings.Contains(log.String(), "is gone, and a new one is made") {
		t.Error(log)
	}
}

// What could not be read stays in the file, but for what was deleted meanwhile.
func TestUnreadIsKept(t *testing.T) {
	dir := t.TempDir()
	kept(t, dir, "a", "b", "c")
	f := &file{dir: dir, path: filepath.Join(dir, FileName), o: quick(&lines{}, sound), opened: make(chan struct{})}
	close(f.opened)
	c := changes{"x": {"a": nil, "b": nil, "d": []byte("new")}, "y": {"none": nil, "e": []byte("new")}, "z": {"none": nil, "too": nil}}
	all := func() changes { return changes{"x": {"d": []byte("new")}, "y": {"e": []byte("new")}} }
	if err := f.write(c, all); err != nil {
		t.Fatal(err)
	}
	if got := holds(t, dir, "x") + holds(t, dir, "y") + holds(t, dir, "z"); got != "c=old d=new e=new " {
		t.Errorf("the file has %q", got)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
	if err := f.close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

// What the database refuses is an error, and nothing of the changes is in the file.
func TestUpdateIsWhole(t *testing.T) {
	dir := t.TempDir()
	kept(t, dir, "a")
	f := opened(t, dir, &lines{})
	v := []byte("new")
	for _, c := range []changes{{"x": {"": v, "a": v, "b": v}, "y": {"c": v}}, {"": {"a": v}, "x": {"b": v}, "y": {"c": v}}} {
		if err := f.update(c); err == nil {
			t.Errorf("%v: no error", c)
		}
	}
	if got := holds(t, dir, "x") + holds(t, dir, "y"); got != "a=old " {
		t.Errorf("the file has %q", got)
	}
}

// A database that was abandoned keeps no descriptor.
func TestAbandon(t *testing.T) {
	dir := t.TempDir()
	kept(t, dir, "a")
	f := opened(t, dir, &lines{})
	raw := f.raw
	f.abandon()
	if _, err := raw.Stat(); !errors.Is(err, os.ErrClosed) || f.db != nil || f.raw != nil {
		t.Errorf("%v, database %v, file %v", err, f.db, f.raw)
	}
	f.abandon()
}

// Of damaged files the newest stay, however many there are and whatever the directory is called.
func TestAsideOldestGo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, FileName)
	for i := range maxAside + 4 {
		if err := os.WriteFile(fmt.Sprintf("%s%s202501%02dT000000Z", path, aside, i+1), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{FileName, FileName + ".mine", "another"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := quick(&lines{}, Judge)
	o.now = func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	var names []string
	list, err := os.ReadDir(dir)
	for _, e := range list {
		names = append(names, strings.TrimPrefix(e.Name(), FileName))
	}
	if err != nil || len(names) != maxAside+3 || names[0] != "another" || names[1] != "" || names[2] != aside+"20250106T000000Z" ||
		names[1+maxAside] != aside+"20260101T000000Z" || names[2+maxAside] != ".mine" {
		t.Errorf("%v, %q", err, names)
	}
}

// A file that ends with its last page is whole, and one byte less is damage.
func TestJudgeSize(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	kept(t, dir, "a", "b", "c")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	err = db.View(func(tx *bolt.Tx) error {
		size = tx.Size()
		for most, want := range map[int64]bool{2: false, 3: true} {
			if err := protect(func() error { return readable(tx, most) }); (err == nil) != want {
				t.Errorf("3 keys, %d at most: %v", most, err)
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close(), os.Truncate(path, size), Judge(path)); err != nil {
		t.Errorf("%d bytes: %v", size, err)
	}
	if err := errors.Join(os.Truncate(path, size-1), Judge(path)); !errors.Is(err, ErrDamaged) {
		t.Errorf("one byte less: %v", err)
	}
}

// What the process that judges said and how it ended are one verdict.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		out  string
		end  ending
		is   error  // nil: sound, or an error of its own
		text string // of the error
	}{
		{"sound\n", ending{ok: true}, nil, ""},
		{"sound\n", ending{text: "exit status 2"}, ErrDamaged, "exit status 2"},
		{"sound", ending{ok: true, text: "no line"}, ErrDamaged, "no line"},
		{"sound and more\n", ending{ok: true, text: "what is that"}, ErrDamaged, "what is that"},
		{"in use\n", ending{ok: true}, ErrInUse, ""},
		{"damaged: page 3\n", ending{ok: true, text: "an end"}, ErrDamaged, "it is damaged: page 3"},
		{"error: no permission\n", ending{ok: true}, nil, "no permission"},
		{"", ending{late: true}, ErrSlow, ""},
		{"", ending{late: true, worked: true, text: "reading it does not end"}, ErrDamaged, "reading it does not end"},
		{"", ending{worked: true, text: "signal: killed"}, ErrDamaged, "signal: killed"},
		{"", ending{text: "signal: killed"}, ErrDamaged, "signal: killed"},
	} {
		err := verdict(c.out, c.end)
		sound := c.is == nil && c.text == ""
		if (err == nil) != sound || c.is != nil && !errors.Is(err, c.is) || c.is == nil && errors.Is(err, ErrDamaged) || err != nil && !strings.HasSuffix(err.Error(), c.text) {
			t.Errorf("%q, %+v: %v", c.out, c.end, err)
		}
	}
}

func TestSelf(t *testing.T) {
	want, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if self("linux") != "/proc/self/exe" || self("darwin") != want {
		t.Errorf("%s, %s, want %s", self("linux"), self("darwin"), want)
	}
}

// A write that the file takes writes what changed, and goes on with the same database.
func TestWriteGoesOn(t *testing.T) {
	dir := t.TempDir()
	kept(t, dir, "a")
	f := opened(t, dir, &lines{})
	db := f.db
	for range 2 {
		if err := f.write(changes{"x": {"b": []byte("new")}}, func() changes { t.Error("everything is written"); return changes{} }); err != nil {
			t.Fatal(err)
		}
	}
	if f.db != db {
		t.Error("it was opened again")
	}
	if got := holds(t, dir, "x"); got != "a=old b=new " {
		t.Errorf("the file has %q", got)
	}
}

// What the database or the system refuses is no damage, and nothing of it stays.
func TestRefusedIsNotDamaged(t *testing.T) {
	dir := t.TempDir()
	kept(t, dir, "a")
	f := opened(t, dir, &lines{})
	if err := f.update(changes{"": {"b": []byte("new")}}); !errors.Is(err, berrors.ErrBucketNameRequired) || errors.Is(err, ErrDamaged) {
		t.Errorf("a bucket without a name: %v", err)
	}
	if err := f.update(changes{"x": {"": []byte("new")}}); !errors.Is(err, berrors.ErrKeyRequired) || errors.Is(err, ErrDamaged) {
		t.Errorf("a key without a name: %v", err)
	}
	if err := f.raw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.there(); !errors.Is(err, os.ErrClosed) || errors.Is(err, ErrDamaged) {
		t.Errorf("a file that is closed: %v", err)
	}
	if err := f.measure(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("its size: %v", err)
	}
}

// Only its owner can read the file, which others might before it was ours.
func TestPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no such modes here")
	}
	dir := t.TempDir()
	kept(t, dir, "a")
	path := filepath.Join(dir, FileName)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	f := opened(t, dir, &lines{})
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	raw := f.raw
	if err := errors.Join(f.close(), os.Chmod(path, 0o644), f.openSound(true)); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("what is only read was changed: %v, %v", st.Mode(), err)
	}
	if err := private(raw); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a file that is closed: %v", err)
	}
}
