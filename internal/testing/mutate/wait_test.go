package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A process is ended when it has slept for long enough; what waits for a processor does not sleep.
func TestAwaitEnd(t *testing.T) {
	const busy, calm = time.Second / 2, time.Millisecond
	for _, c := range []struct {
		name   string
		delays []time.Duration // of each second
		killed int             // after so many seconds; 0: never
	}{
		{"it sleeps", []time.Duration{calm, calm, calm}, 3}, {"it waits for a processor", []time.Duration{busy, busy, busy, busy, busy}, 0},
		{"both", []time.Duration{calm, busy, calm, busy, calm, calm}, 5}, {"a program that it started ends", []time.Duration{busy, -busy, calm, calm}, 0},
	} {
		ended, ticks := make(chan error), make(chan time.Time)
		seconds, killed, sum := 0, 0, time.Duration(0)
		end := errors.New("killed")
		go func() {
			for range c.delays {
				ticks <- time.Time{}
			}
			ended <- end
		}()
		delay := func() time.Duration {
			if seconds > 0 {
				sum += c.delays[seconds-1]
			}
			seconds++
			return sum
		}
		if err := awaitEnd(ended, ticks, 3*time.Second, delay, func() { killed = seconds - 1 }); err != end || killed != c.killed {
			t.Errorf("%s: %v, killed after %d seconds, want %d", c.name, err, killed, c.killed)
		}
	}
}

// The threads of a process and of all that it started are counted, and no others'.
func TestDelay(t *testing.T) {
	proc := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(proc, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range [][2]string{
		{"1/stat", "1 (init) S 0 1"}, {"1/task/1/schedstat", "1 1000000 1"},
		{"10/stat", "10 (sh) S 1 10"}, {"10/task/10/schedstat", "5 300 1\n"}, {"10/task/13/schedstat", "5 20 1\n"},
		{"11/stat", "11 (a) b) R 10 10"}, {"11/task/11/schedstat", "5 4 1\n"},
		{"12/stat", "12 (c) R 11 10"}, {"12/task/12/schedstat", "5 7000 1\n"},
		{"14/stat", "14 (other) R 1 14"}, {"14/task/14/schedstat", "5 50000 1\n"},
		{"15/stat", "odd"}, {"16/stat", "16 (gone) Z 10 10"}, {"16/task/16/schedstat", ""}, {"self/stat", "10 (sh) S 1 10"},
	} {
		write(f[0], f[1])
	}
	for pid, want := range map[int]time.Duration{10: 7324, 11: 7004, 12: 7000, 14: 50000, 16: 0, 99: 0} {
		if got := delay(proc, pid); got != want {
			t.Errorf("%d: %d ns, want %d", pid, got, want)
		}
	}
	if got := delay(filepath.Join(proc, "none"), 10); got != 0 {
		t.Errorf("without such a file system: %d", got)
	}
}
