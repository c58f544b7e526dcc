package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain is also the process that judges files: the test's own binary.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "judge-state" {
		if err := WriteVerdict(os.Stdout, os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Under the race detector a process that judges would sleep for a second before it ends.
	if err := os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// lines is a log in memory.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// careful are the options of a gateway: files are judged by another process.
func careful(log *lines) Options {
	return Options{Judge: JudgeBy(Self(), "judge-state"), Log: slog.New(slog.NewTextHandler(log, nil))}
}

// filled makes a file of some pages and returns its bytes and what it has.
func filled(t *testing.T) (data []byte, has string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 4 {
		err := s.Update(func(tx Tx) error {
			for i := range 300 {
				if err := tx.Put("leases", fmt.Appendf(nil, "%05d", i*4+round), bytes.Repeat([]byte{'v', byte('0' + round)}, 20)); err != nil {
					return err
				}
			}
			return errors.Join(tx.Put("ticket-keys", []byte{byte('a' + round)}, []byte("secret")), tx.Delete("ticket-keys", []byte{byte('a' + round - 1)}))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	has = dump(t, s, "leases") + dump(t, s, "ticket-keys")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if data, err = os.ReadFile(filepath.Join(dir, FileName)); err != nil {
		t.Fatal(err)
	}
	return data, has
}

// damages are ways in which a file can be damaged. A seed chooses where.
var damages = map[string]func(data []byte, r *rand.Rand) []byte{
	"cut behind a page": func(d []byte, r *rand.Rand) []byte { return d[:4096*(1+r.IntN(8))] },
	"cut anywhere":      func(d []byte, r *rand.Rand) []byte { return d[:1+r.IntN(len(d)/2)] },
	"a page of zeros": func(d []byte, r *rand.Rand) []byte {
		clear(page(d, 2+r.IntN(len(d)/4096-2)))
		return d
	},
	"a page of noise": func(d []byte, r *rand.Rand) []byte { return noise(d, page(d, 2+r.IntN(len(d)/4096-2)), r) },
	"a page's header": func(d []byte, r *rand.Rand) []byte {
		return noise(d, page(d, 2+r.IntN(len(d)/4096-2))[:16], r)
	},
	"both first pages": func(d []byte, r *rand.Rand) []byte { return noise(d, d[:8192], r) },
	"one first page":   func(d []byte, r *rand.Rand) []byte { return noise(d, page(d, r.IntN(2)), r) },
	"a page that refers to itself": func(d []byte, r *rand.Rand) []byte {
		for n := 2; n < len(d)/4096; n++ {
			if p := page(d, n); p[8] == 1 { // a branch: its elements begin behind 16 bytes, each with the page in its second half
				for at := 16; at < 16+16*int(p[10]); at += 16 {
					p[at+8] = byte(n)
				}
			}
		}
		return d
	},
	"pages exchanged": func(d []byte, r *rand.Rand) []byte {
		a, b := page(d, 2+r.IntN(len(d)/4096-2)), page(d, 2+r.IntN(len(d)/4096-2))
		for i := range a {
			a[i], b[i] = b[i], a[i]
		}
		return d
	},
	"another file": func(d []byte, r *rand.Rand) []byte { return []byte(strings.Repeat("no database\n", 1+r.IntN(2000))) },
	"some letters": func(d []byte, r *rand.Rand) []byte { return []byte("x") },
}

func page(d []byte, n int) []byte { return d[n*4096 : (n+1)*4096] }

func noise(d, at []byte, r *rand.Rand) []byte {
	for i := range at {
		at[i] = byte(r.Uint32())
	}
	return d
}

// lastLeaf damages the last leaf in the order of keys: what goes before it can be read.
func lastLeaf(data []byte) []byte {
	d := bytes.Clone(data)
	for n := 2; n < len(d)/4096; n++ {
		if p := page(d, n); p[8] == 1 { // a branch
			last := 16 + 16*(int(p[10])-1)
			noise(d, page(d, int(p[last+8]))[16:], rand.New(rand.NewPCG(1, 1)))
		}
	}
	return d
}

// Whatever a damaged file is like, the store opens. What was damaged is set aside as it
// was, one line says so, and nothing is lost where nothing was damaged.
func TestDamaged(t *testing.T) {
	if os.Getpagesize() != 4096 {
		t.Skipf("the damages are made for pages of 4096 bytes, this system has %d", os.Getpagesize())
	}
	data, has := filled(t)
	for name, damage := range damages {
		aside := 0
		const seeds = 8
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprint(name, " ", seed), func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, FileName)
				bad := damage(bytes.Clone(data), rand.New(rand.NewPCG(seed, uint64(len(name)))))
				if err := os.WriteFile(path, bad, 0o600); err != nil {
					t.Fatal(err)
				}
				var log lines
				s, err := Open(dir, careful(&log))
				if err != nil {
					t.Fatal(err)
				}
				got := dump(t, s, "leases") + dump(t, s, "ticket-keys")
				kept, _ := filepath.Glob(path + ".damaged-*")
				switch {
				case len(kept) == 0 && got != has:
					t.Errorf("not set aside, and it has %d bytes of %d\n%s", len(got), len(has), &log)
				case len(kept) == 0 && log.String() != "":
					t.Errorf("a sound file makes a line: %s", &log)
				case len(kept) > 0:
					aside++
					if was, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(was, bad) || len(kept) > 1 || got != "" {
						t.Errorf("%v: set aside as %v, and the new one has %q", err, kept, got)
					}
					if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "set aside") || !strings.Contains(log.String(), "reason=") {
						t.Errorf("%d lines:\n%s", n, &log)
					}
				}
				if err := errors.Join(put(s, "leases", "new", "n"), s.Close()); err != nil {
					t.Fatal(err)
				}
				if s, err = Open(dir, careful(&log)); err != nil {
					t.Fatal(err)
				}
				if now := dump(t, s, "leases"); !strings.Contains(now, "new=n ") {
					t.Errorf("after a restart: %q", now)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}

		// Half of the file is free pages or the older first page: no damage.
		if aside == 0 && name != "one first page" || strings.HasPrefix(name, "cut") && aside < seeds || name == "both first pages" && aside < seeds {
			t.Errorf("%s: %d of %d were set aside", name, aside, seeds)
		}
	}
}

// What stands in the place of the file is set aside as well, if it is not one.
func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, FileName, "a folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	var log lines
	s, err := Open(dir, careful(&log))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(put(s, "b", "k", "v"), s.Close()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "it is not a regular file") {
		t.Error(log.String())
	}
}

// Damaged files do not fill the disk.
func TestAsideIsBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	var log lines
	o := careful(&log)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range maxAside + 3 {
		o.now = func() time.Time { return at.Add(time.Duration(i) * time.Second) }
		if err := os.WriteFile(path, fmt.Appendf(nil, "damaged %d", i), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	kept, _ := filepath.Glob(path + ".damaged-*")
	if len(kept) != maxAside || filepath.Base(kept[0]) != FileName+".damaged-20260101T000003Z" {
		t.Errorf("%q", kept)
	}
	// Two in one second have two names.
	for range 2 {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
	}
	if _, err := os.Stat(kept[len(kept)-1] + "-3"); err != nil {
		t.Error(err)
	}
}

// A file that is damaged while the store is open costs nothing: all that is in memory is
// in the next one.
func TestDamagedMeanwhile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a mapped file cannot be cut, removed or replaced here")
	}
	for name, damage := range map[string]func(path string) error{
		"cut":      func(path string) error { return os.Truncate(path, 8192) },
		"empty":    func(path string) error { return os.Truncate(path, 0) },
		"removed":  os.Remove,
		"replaced": func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, []byte("x"), 0o600)) },
		"zeros": func(path string) error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(make([]byte, len(data)-8192), 8192)
			return errors.Join(err, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			data, has := filled(t)
			dir := t.TempDir()
			path := filepath.Join(dir, FileName)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			var log lines
			s, err := Open(dir, careful(&log))
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(path); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(put(s, "leases", "new", "n"), put(s, "leases", "newer", "n")); err != nil {
				t.Fatal(err)
			}
			if got := dump(t, s, "leases") + dump(t, s, "ticket-keys"); len(got) != len(has)+len("new=n newer=n ") {
				t.Errorf("the store lost something: %d bytes of %d", len(got), len(has))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
				t.Errorf("%d lines:\n%s", n, &log)
			}
			if s, err = Open(dir, careful(&log)); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if got := dump(t, s, "leases") + dump(t, s, "ticket-keys"); len(got) != len(has)+len("new=n newer=n ") {
				t.Errorf("the new file has %d bytes of %d\n%s", len(got), len(has), &log)
			}
		})
	}
}

// A judge that cannot be started is no verdict, and one that does not end is.
func TestJudgeBy(t *testing.T) {
	data, _ := filled(t)
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := JudgeBy(filepath.Join(t.TempDir(), "gone"), "judge-state")(path); err != nil {
		t.Errorf("judged here: %v", err)
	}
	if err := JudgeBy(Self(), "judge-state")(path); err != nil {
		t.Errorf("a sound file: %v", err)
	}
	// A first page that a power failure left half written is what the other one is for.
	torn := bytes.Clone(data)
	clear(page(torn, 0)[16:80])
	if err := os.WriteFile(path+".torn", torn, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := JudgeBy(Self(), "judge-state")(path + ".torn"); os.Getpagesize() == 4096 && err != nil {
		t.Errorf("half a first page: %v", err)
	}
	if err := JudgeBy(Self(), "judge-state")(path + ".none"); err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("no file: %v", err)
	}
	s, err := Open(filepath.Dir(path), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := JudgeBy(Self(), "judge-state")(path); !errors.Is(err, ErrInUse) {
		t.Errorf("in use: %v", err)
	}
}
