package nlwatch

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watch listens until Close. Safe for concurrent use.
type Watch struct {
	socket  *nl.NetlinkSocket
	changed chan struct{} // has room for one
	done    chan struct{}
	ended   sync.WaitGroup

	mu       sync.Mutex
	suspects []string // the oldest first
}

// Judge says whether a message concerns the one who listens. It is called from the watch's goroutine,
// and may name who made the change (Suspect). With nil messages were lost, which concerns everybody.
type Judge func(w *Watch, m *syscall.NetlinkMessage) bool

// maxSuspects is how many names are kept between two calls of Suspects.
const maxSuspects = 4

// Listen opens a socket in the network namespace of the calling thread. protocol is
// that of the netlink family, such as unix.NETLINK_ROUTE; groups are numbers, not masks.
func Listen(protocol int, judge Judge, groups ...uint) (*Watch, error) {
	socket, err := nl.Subscribe(protocol, groups...)
	if err != nil {
		return nil, fmt.Errorf("cannot listen to changes that the kernel reports (netlink protocol %d): %w", protocol, err)
	}
	// A flush of thousands of rules is thousands of messages. More room saves a
	// comparison; without it nothing is missed.
	_ = socket.SetReceiveBufferSize(1<<20, false)
	w := &Watch{socket: socket, changed: make(chan struct{}, 1), done: make(chan struct{})}
	w.ended.Go(func() { w.receive(judge) })
	return w, nil
}

// Close ends the watch and waits for its goroutine.
func (w *Watch) Close() {
	close(w.done)
	w.socket.Close()
	w.ended.Wait()
}

// Changed delivers when something was reported since it last did.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// Signal has Changed deliver.
func (w *Watch) Signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Suspect notes who may have made a change, such as "firewalld (process 812)".
func (w *Watch) Suspect(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if name == "" || slices.Contains(w.suspects, name) {
		return
	}
	if len(w.suspects) == maxSuspects {
		w.suspects = slices.Delete(w.suspects, 0, 1)
	}
	w.suspects = append(w.suspects, name)
}

// Suspects are those that were noted since the last call.
func (w *Watch) Suspects() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.suspects
	w.suspects = nil
	return list
}

// retryAfter is the pause after an error of the socket that is not lost messages.
const retryAfter = time.Second

func (w *Watch) receive(judge Judge) {
	for {
		messages, _, err := w.socket.Receive()
		select {
		case <-w.done:
			return
		default:
		}
		switch {
		case err == nil:
			for i := range messages {
				if judge(w, &messages[i]) {
					w.Signal()
				}
			}
		case errors.Is(err, unix.ENOBUFS): // more happened than the socket holds
			judge(w, nil)
			w.Signal()
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		default:
			// Nobody knows what was missed. It is compared now, and at every further try.
			w.Signal()
			select {
			case <-w.done:
				return
			case <-time.After(retryAfter):
			}
		}
	}
}

// Process is the name of the process whose netlink socket has a port, such as
// "firewalld (process 812)"; "" where it is not known. The kernel gives the first
// socket of a process the process's number, and any other a number that tells nothing.
// A command that has ended is not known any more.
func Process(port uint32) string {
	if port == 0 || port > 1<<22 || int(port) == os.Getpid() {
		return ""
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", port))
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s (process %d)", strings.TrimSpace(string(text)), port)
}
