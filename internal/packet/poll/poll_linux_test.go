package poll

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// open makes a Set of so many pipes, and returns the files that write to them.
func open(t *testing.T, pipes int) (*Set, []*os.File) {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	var writers []*os.File
	for i := range pipes {
		r, w, err := os.Pipe()
		if err == nil {
			err = s.Add(int(r.Fd()), i)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = r.Close(), w.Close() })
		writers = append(writers, w)
	}
	return s, writers
}

// Files that can be read are named in turn.
func TestNext(t *testing.T) {
	s, files := open(t, 3)
	for _, i := range []int{0, 2} {
		if _, err := files[i].Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	counts := [3]int{}
	for range 20 {
		i, failed, err := s.Next()
		if failed || err != nil {
			t.Fatal(i, failed, err)
		}
		counts[i]++
	}
	if counts != [3]int{10, 0, 10} {
		t.Errorf("the files were named %v times", counts)
	}
}

// A file that has an error to tell is named with it.
func TestNextTellsErrors(t *testing.T) {
	s, _ := open(t, 1)
	r, w, err := os.Pipe()
	if err == nil {
		err = s.Add(int(w.Fd()), 7) // nobody waits until it can be written
	}
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if i, failed, err := s.Next(); i != 7 || !failed || err != nil {
		t.Error(i, failed, err)
	}
}

// Next waits for a file with a processor and without, and gives it to others meanwhile. Close ends it in both cases.
// It keeps the processor only where files are ready again soon.
func TestNextWaits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that others run only if it does
	for _, c := range []struct {
		dense bool
		delay time.Duration
	}{{false, 0}, {false, 3 * Hold}, {true, 0}, {true, 3 * Hold}} {
		s, files := open(t, 1)
		s.dense = c.dense
		type answer struct {
			number int
			failed bool
			err    error
		}
		answers := make(chan answer)
		ask := func() {
			go func() {
				i, failed, err := s.Next()
				answers <- answer{i, failed, err}
			}()
			runtime.Gosched()
			time.Sleep(c.delay)
			runtime.GC() // stops all threads
		}
		ask()
		if _, err := files[0].Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if a := <-answers; a != (answer{}) {
			t.Error(a)
		}
		if c.delay > 0 && s.dense {
			t.Error("a file that was ready late counts as one that was ready soon")
		}
		if _, _, err := s.Next(); err != nil || !s.dense {
			t.Error("a file that is ready at once does not count as one:", err)
		}
		s, _ = open(t, 1)
		s.dense = c.dense
		ask()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if a := <-answers; !errors.Is(a.err, os.ErrClosed) {
			t.Error(a)
		}
		if _, _, err := s.Next(); !errors.Is(err, os.ErrClosed) {
			t.Error("after Close:", err)
		}
		if err := s.Close(); err != nil {
			t.Error("a second time:", err)
		}
	}
}

// A signal to the thread that waits ends nothing.
func TestNextIsInterrupted(t *testing.T) {
	s, files := open(t, 1)
	s.dense = true
	thread := make(chan int)
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		i, failed, err := s.Next()
		if i != 0 || failed {
			t.Error(i, failed)
		}
		done <- err
	}()
	tid := <-thread
	for range 100 {
		if err := unix.Tgkill(os.Getpid(), tid, unix.SIGURG); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // so that some come while it keeps its processor, and some later
	}
	select {
	case err := <-done:
		t.Fatal("it returned with", err)
	default:
	}
	if _, err := files[0].Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNextAllocatesNothing(t *testing.T) {
	s, files := open(t, 1)
	if _, err := files[0].Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _, _ = s.Next() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// What the system refuses is an error, and no wait for ever.
func TestNextFails(t *testing.T) {
	for _, dense := range []bool{false, true} {
		s, _ := open(t, 0)
		s.dense = dense
		right := s.fd
		s.fd = -1
		if _, _, err := s.Next(); !errors.Is(err, unix.EBADF) {
			t.Error(err)
		}
		s.fd = right
	}
}

// The runtime's poller has the files only while nothing is ready, and may ask in vain.
func TestParked(t *testing.T) {
	s, files := open(t, 1)
	if err := s.wait.Control(func(outer uintptr) {
		for range 2 {
			if s.parked(outer) || s.err != nil {
				t.Fatal("nothing is ready:", s.n, s.err)
			}
		}
		if err := control(int(outer), unix.EPOLL_CTL_ADD, s.fd, 0); !errors.Is(err, unix.EEXIST) {
			t.Error("the poller does not have the files:", err)
		}
		if _, err := files[0].Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if !s.parked(outer) || s.n != 1 || s.err != nil {
			t.Error("a file is ready:", s.n, s.err)
		}
		if err := control(int(outer), unix.EPOLL_CTL_DEL, s.fd, 0); !errors.Is(err, unix.ENOENT) {
			t.Error("the poller still has the files:", err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}
