package poll

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Hold is how closely packets have to follow each other that Next meets without the runtime. It keeps its processor (in the
// sense of GOMAXPROCS) for so long.
const Hold = 8 * time.Millisecond

// A Set waits for files. It borrows them: who adds one closes it, after the Set.
type Set struct {
	fd     int      // of the epoll set
	outer  *os.File // an epoll set for the runtime's poller; fd is in it while the runtime waits
	wait   syscall.RawConn
	closed atomic.Bool

	mu     sync.Mutex // held by Next
	dense  bool       // files are ready again in less than Hold
	n      int        // files that are ready: 0 or 1
	err    error      // of parked
	events [1]unix.EpollEvent
	ready  func(outer uintptr) bool // parked, so that it allocates nothing
}

// New makes a Set of no files.
func New() (*Set, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	outer, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(outer, true)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	s := &Set{fd: fd, outer: os.NewFile(uintptr(outer), "epoll")}
	s.ready = s.parked
	if s.wait, err = s.outer.SyscallConn(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Add adds a file, which Next then calls by number.
func (s *Set) Add(fd, number int) error { return control(s.fd, unix.EPOLL_CTL_ADD, fd, number) }

func control(set, op, fd, number int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(number)}
	if err := unix.EpollCtl(set, op, fd, &ev); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// Next waits until a file can be read, or has an error to tell (failed), and returns its number. The error is
// os.ErrClosed after Close, or what the system says. The kernel names the files that are ready in turn, so that none
// starves another. Calls wait for each other.
func (s *Set) Next() (number int, failed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.n = 0; s.n == 0 && !s.closed.Load(); {
		if s.dense {
			err = s.hold()
		} else {
			err = s.park()
		}
		if err != nil && !s.closed.Load() {
			return 0, false, fmt.Errorf("epoll: %w", err)
		}
	}
	if s.closed.Load() {
		return 0, false, os.ErrClosed
	}
	return int(s.events[0].Fd), s.events[0].Events&unix.EPOLLERR != 0, nil
}

// hold waits and keeps the processor, which is for packets that follow each other closely.
//
// A thread that keeps its processor in a system call is one that computes, for the runtime. If it has to stop, for the
// garbage collector or because other goroutines wait for a processor, the runtime sends the thread a signal
// (SIGURG). That ends the call with EINTR, and Gosched is where the thread can stop.
func (s *Set) hold() error {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.fd), uintptr(unsafe.Pointer(&s.events)), 1, uintptr(Hold.Milliseconds()), 0, 0)
	switch {
	case errno == unix.EINTR:
		runtime.Gosched()
	case errno != 0:
		return errno
	case n == 0:
		s.dense = false
	default:
		s.n = int(n)
	}
	return nil
}

// park waits as any goroutine does, which is cheaper for all that come rarely.
func (s *Set) park() error {
	began := time.Now()
	s.err = nil
	err := errors.Join(s.wait.Read(s.ready), s.err)
	if s.n > 0 && time.Since(began) < Hold {
		s.dense = true
		// This thread may be the one that waited for all files of the program, and will not do that for a while. A
		// goroutine has the runtime start another, which then does.
		go func() {}()
	}
	return err
}

// parked is what the runtime's poller asks: whether there is something. The outer set has the files for as long as that
// is asked. Otherwise their packets would wake the runtime, too.
func (s *Set) parked(outer uintptr) bool {
	if s.closed.Load() {
		return true
	}
	n, err := unix.EpollWait(s.fd, s.events[:], 0)
	if err == unix.EINTR {
		err = nil
	}
	if n < 1 && err == nil {
		// What came since is told by the outer set as soon as it has the files. It may have them.
		if err = control(int(outer), unix.EPOLL_CTL_ADD, s.fd, 0); err == nil || errors.Is(err, unix.EEXIST) {
			return false
		}
	}
	s.n, s.err = max(n, 0), err
	_ = control(int(outer), unix.EPOLL_CTL_DEL, s.fd, 0) // it need not have them
	return true
}

// Close wakes Next and waits until it has returned.
func (s *Set) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	err := s.outer.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, unix.Close(s.fd))
}
