package store

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// slowDisk is a disk whose writes a test lets through, one by one.
type slowDisk struct {
	begun chan changes // a write begins
	end   chan error   // and ends so

	mu     sync.Mutex
	has    changes
	closed bool
}

func newSlowDisk() *slowDisk {
	return &slowDisk{begun: make(chan changes), end: make(chan error), has: changes{}}
}

func (d *slowDisk) write(c changes, _ func() changes) error {
	d.begun <- c
	err := <-d.end
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		for bucket, keys := range c {
			for key, value := range keys {
				d.has.set(bucket, key, value)
			}
		}
	}
	return err
}

func (d *slowDisk) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return nil
}

// clocks hands out timers that a test fires.
type clocks struct{ made chan clock }

type clock struct {
	d    time.Duration
	fire chan time.Time
}

func (c *clocks) after(d time.Duration) <-chan time.Time {
	k := clock{d, make(chan time.Time, 1)}
	c.made <- k
	return k.fire
}

// next is the next timer, which has to be for d.
func (c *clocks) next(t *testing.T, d time.Duration) clock {
	t.Helper()
	k := <-c.made
	if k.d != d {
		t.Fatalf("waits for %v, want %v", k.d, d)
	}
	return k
}

func newSlowStore() (*behind, *slowDisk, *clocks, *lines) {
	d, c, log := newSlowDisk(), &clocks{make(chan clock, 100)}, &lines{}
	return newBehind(changes{}, d, slog.New(slog.NewTextHandler(log, nil)), c.after), d, c, log
}

func text(c changes) string {
	var all []string
	for _, k := range []string{"a", "b", "c", "d"} {
		if v, ok := c["x"][k]; ok {
			all = append(all, fmt.Sprintf("%s=%s", k, v))
		}
	}
	return strings.Join(all, " ")
}

// Update returns once the disk has what it changed.
func TestUpdateWaitsForTheDisk(t *testing.T) {
	s, d, c, log := newSlowStore()
	done := make(chan error)
	go func() { done <- put(s, "x", "a", "1") }()
	if got := text(<-d.begun); got != "a=1" {
		t.Errorf("written: %s", got)
	}
	c.next(t, ackWait) // Update waits
	select {
	case <-done:
		t.Error("Update returned before the disk had it")
	default:
	}
	d.end <- nil
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil || !d.closed || log.String() != "" {
		t.Errorf("%v, closed: %v, %s", err, d.closed, log)
	}
	if err := errors.Join(s.Close(), put(s, "x", "a", "1")); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// What changes nothing does not wait, and nothing is written.
func TestNothingToWrite(t *testing.T) {
	s, _, c, _ := newSlowStore()
	done := make(chan error)
	go func() {
		done <- s.Update(func(tx Tx) error { return tx.Delete("x", []byte("none")) })
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case k := <-c.made:
		t.Errorf("waits for %v", k.d)
		k.fire <- time.Time{}
		<-done
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A disk that does not answer holds up one Update for a second, and none after that until
// it has answered. Nothing is lost, and what changed twice is written once.
func TestSlowDisk(t *testing.T) {
	s, d, c, log := newSlowStore()
	done := make(chan error)
	go func() { done <- put(s, "x", "a", "1") }()
	<-d.begun
	c.next(t, ackWait).fire <- time.Time{}
	if err := <-done; err != nil {
		t.Errorf("after a second: %v", err)
	}
	for _, v := range []string{"1", "2", "3"} {
		if err := errors.Join(put(s, "x", "b", v), put(s, "x", "c", v)); err != nil { // none of them waits
			t.Fatal(err)
		}
	}
	if err := s.Update(func(tx Tx) error { return tx.Delete("x", []byte("c")) }); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, s, "x"); got != "a=1 b=3 " {
		t.Errorf("in memory: %s", got)
	}
	d.end <- nil
	if got := text(<-d.begun); got != "b=3 c=" {
		t.Errorf("written next: %s", got)
	}
	d.end <- nil
	// It answers again, and is waited for again.
	go func() { done <- put(s, "x", "d", "1") }()
	<-d.begun
	c.next(t, ackWait)
	d.end <- nil
	if err := errors.Join(<-done, s.Close()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "slow") {
		t.Errorf("%d lines:\n%s", n, log)
	}
	if got := text(d.has); got != "a=1 b=3 c= d=1" {
		t.Errorf("on the disk: %s", got)
	}
}

// A disk that refuses is tried again, less and less often. The log has a line when that
// begins and one when it ends.
func TestRefusingDisk(t *testing.T) {
	s, d, c, log := newSlowStore()
	done := make(chan error)
	go func() { done <- put(s, "x", "a", "1") }()
	<-d.begun
	c.next(t, ackWait)
	full := errors.New("no space left on device")
	d.end <- full
	if err := <-done; err != nil {
		t.Errorf("it holds in memory: %v", err)
	}
	for _, pause := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
		k := c.next(t, pause*time.Second)
		if err := put(s, "x", "b", fmt.Sprint(int(pause))); err != nil {
			t.Fatal(err)
		}
		k.fire <- time.Time{}
		if got, want := text(<-d.begun), fmt.Sprintf("a=1 b=%d", int(pause)); got != want {
			t.Errorf("written: %s, want %s", got, want)
		}
		d.end <- full
	}
	c.next(t, longestPause).fire <- time.Time{}
	<-d.begun
	d.end <- nil
	for !strings.Contains(log.String(), "the state is on the disk again") {
		runtime.Gosched()
	}
	go func() { done <- put(s, "x", "c", "1") }()
	<-d.begun
	c.next(t, ackWait)
	d.end <- full
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.next(t, shortestPause) // the pause begins anew, once it was said that the disk refused
	if text := log.String(); strings.Count(text, "level=ERROR") != 2 || strings.Count(text, "the state is on the disk again") != 1 || !strings.Contains(text, "no space left") {
		t.Errorf("log:\n%s", text)
	}
	go func() { done <- s.Close() }()
	<-d.begun
	d.end <- full
	if err := <-done; !errors.Is(err, full) || !d.closed || !strings.Contains(err.Error(), "after a restart the gateway does not know") {
		t.Errorf("closed without what was not written: %v", err)
	}
}

// What changed while the disk refused is written with what it refused: all of it, and of
// one key the newest.
func TestRefusedMeanwhile(t *testing.T) {
	s, d, c, _ := newSlowStore()
	done := make(chan error)
	go func() { done <- put(s, "x", "a", "1") }()
	<-d.begun
	c.next(t, ackWait).fire <- time.Time{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"x a", "x b", "y a", "y b", "z a", "z b"} {
		if err := put(s, k[:1], k[2:], "2"); err != nil { // none of them waits
			t.Fatal(err)
		}
	}
	d.end <- errors.New("no space left on device")
	c.next(t, shortestPause).fire <- time.Time{}
	if got, want := fmt.Sprintf("%s", <-d.begun), "map[x:map[a:2 b:2] y:map[a:2 b:2] z:map[a:2 b:2]]"; got != want {
		t.Errorf("written: %s, want %s", got, want)
	}
	d.end <- nil
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// The time is over, and the disk had it just before: it is not late.
func TestWaitedJustLongEnough(t *testing.T) {
	s, _, _, log := newSlowStore()
	for _, c := range []struct {
		mine uint64
		late bool
	}{{3, false}, {2, false}, {4, true}} {
		s.set(func() { s.durable = 3 })
		if s.waited(c.mine); s.late != c.late || (log.String() != "") != c.late {
			t.Errorf("transaction %d of 3: late %v\n%s", c.mine, s.late, log)
		}
	}
	if s.waited(5); strings.Count(log.String(), "\n") != 1 {
		t.Errorf("said again:\n%s", log)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A disk that never answers does not keep the store from closing.
func TestCloseDoesNotWaitForEver(t *testing.T) {
	s, d, c, _ := newSlowStore()
	done := make(chan error)
	go func() { done <- put(s, "x", "a", "1") }()
	<-d.begun
	c.next(t, ackWait).fire <- time.Time{}
	<-done
	go func() { done <- s.Close() }()
	c.next(t, closeWait).fire <- time.Time{}
	if err := <-done; err == nil || d.closed {
		t.Errorf("%v, closed under its writer: %v", err, d.closed)
	}
	d.end <- nil
}
