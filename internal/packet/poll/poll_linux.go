package poll

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Hold is how long Wait keeps its processor (in the sense of GOMAXPROCS) while it waits. Packets that follow each
// other in less, as an answer from far away does, are met without the runtime. After that the processor is free for
// others, and the runtime hears of the next packet.
const Hold = 50 * time.Millisecond

// A Set waits for files. It borrows them: who adds one closes it, after the Set.
type Set struct {
	fd     int // of the epoll set
	bell   int // an eventfd that Close rings
	closed atomic.Bool

	mu     sync.Mutex // held by Next
	events [1]unix.EpollEvent
}

// bellFile is the file that Close rings, where Add has 0 or more.
const bellFile = -1

// New makes a Set of no files.
func New() (*Set, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	s := &Set{fd: fd, bell: bell}
	if err := s.Add(bell, bellFile); err != nil {
		return nil, fmt.Errorf("%w, %w", err, s.Close())
	}
	return s, nil
}

// Add adds a file that Next calls by a number of the caller's, from 0 on.
func (s *Set) Add(fd, number int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(number)}
	if err := unix.EpollCtl(s.fd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
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
	for !s.closed.Load() {
		n, err := s.wait()
		switch {
		case err != nil:
			return 0, false, fmt.Errorf("epoll: %w", err)
		case n > 0 && s.events[0].Fd != bellFile:
			return int(s.events[0].Fd), s.events[0].Events&unix.EPOLLERR != 0, nil
		}
	}
	return 0, false, os.ErrClosed
}

// wait is epoll_wait(2), first with the processor and then without it.
//
// A thread that keeps its processor in a system call is one that computes, for the runtime. If it has to stop, for the
// garbage collector or because other goroutines wait for a processor, the runtime sends the thread a signal
// (SIGURG). That ends the call with EINTR, and Gosched is where the thread can stop.
func (s *Set) wait() (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.fd), uintptr(unsafe.Pointer(&s.events)), 1, uintptr(Hold.Milliseconds()), 0, 0)
	switch {
	case errno == unix.EINTR:
		runtime.Gosched()
		return 0, nil
	case errno != 0:
		return 0, errno
	case n > 0:
		return int(n), nil
	}
	some, err := unix.EpollWait(s.fd, s.events[:], -1)
	if err == unix.EINTR {
		return 0, nil
	}
	return some, err
}

// Close wakes Next and waits until it has returned.
func (s *Set) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	one := [8]byte{1, 1, 1, 1, 1, 1, 1, 1} // not zero in either byte order
	_, err := unix.Write(s.bell, one[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fd := range [...]int{s.fd, s.bell} {
		if e := unix.Close(fd); err == nil {
			err = e
		}
	}
	return err
}
