package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a daemon on a node. Its output is kept in a file.
type Process struct {
	Name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
	err  error         // how it ended; valid after done
}

// enter is what a daemon's shell does before it becomes the daemon: the node's
// /run over the machine's, in a mount namespace that `ip netns exec` made.
const enter = `mount --make-rprivate / && mount --bind "$1" /run && shift && exec "$@"`

// Start starts a daemon on the node. The log grows over all starts with the same name.
func (n *Node) Start(name string, env []string, args ...string) *Process {
	n.lab.TB.Helper()
	return n.start(name, nil, env, args...)
}

// start is Start with a standard input, which may be nil.
func (n *Node) start(name string, stdin *os.File, env []string, args ...string) *Process {
	n.lab.TB.Helper()
	p := &Process{Name: name, log: filepath.Join(n.lab.Dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.lab.TB.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	p.cmd = exec.Command("ip", append([]string{"netns", "exec", n.NS, "sh", "-c", enter, "sh", n.run}, args...)...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if stdin != nil {
		p.cmd.Stdin = stdin
	}
	// ip, sh and the daemon are one process after another, so signals and the
	// death of this test process reach the daemon itself.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		n.lab.TB.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	n.lab.mu.Lock()
	defer n.lab.mu.Unlock()
	for i, old := range n.lab.procs {
		if old.Name == name {
			if !old.Ended() {
				p.Kill()
				n.lab.TB.Fatalf("%s runs already", name)
			}
			n.lab.procs[i] = p // its log is the same file
			return p
		}
	}
	n.lab.procs = append(n.lab.procs, p)
	return p
}

// Kill ends the process as by kill -9 and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails only when it has ended already
	<-p.done
}

// Signal sends a signal and does not wait.
func (p *Process) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// Wait waits for the process to end by itself and returns how it ended.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("%s is still running: %w", p.Name, ctx.Err())
	}
}

// Ended says whether the process is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Log is everything the process printed.
func (p *Process) Log() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Until repeats check until it succeeds, and returns its last error when the
// context ends first.
func Until(ctx context.Context, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (waited until the time limit)", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// ready waits for a daemon to answer.
func (p *Process) ready(ctx context.Context, check func() error) error {
	return Until(ctx, func() error {
		if p.Ended() {
			return nil
		}
		return check()
	})
}

// PID is the daemon's process ID on the machine.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Resident is the daemon's resident memory in bytes; 0 when it has ended.
func (p *Process) Resident() int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID()))
	var size, pages int
	_, _ = fmt.Sscan(string(text), &size, &pages)
	return pages * os.Getpagesize()
}

// CPU is the processor time that the daemon has taken; 0 when it has ended.
func (p *Process) CPU() time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	_, rest, _ := strings.Cut(string(text), ") ") // its name may contain spaces
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / 100 // USER_HZ
}
