package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// nsPrefix begins the name of each of our namespaces; the ID of the process follows.
const nsPrefix = "cvbench"

// A node is one end of a tunnel: a network namespace, a directory for the files of
// its gateway, and a /run of its own.
type node struct {
	ns, dir string
	inner   string // address that the tunnel carries traffic of: 10.N.0.1
	net     string // the network behind this end: 10.N.0.0/16
	outer   string // address on the wire
	n       int    // 1 or 2
	nice    int    // of every process

	mu    sync.Mutex
	procs []*process
}

// A site is a pair of nodes with one peer's gateways.
type site struct {
	name  string
	dir   string
	ends  [2]*node
	gates []*process  // whose processor time is the gateways'
	culv  [2]*culvert // nil where the gateway is none

	closing sync.Once
}

var serial struct {
	sync.Mutex
	n int
}

// newSite makes two namespaces joined by a wire.
func newSite(ctx context.Context, dir, name string, nice int) (*site, error) {
	serial.Lock()
	serial.n++
	id := fmt.Sprintf("%s%d-%d", nsPrefix, os.Getpid(), serial.n)
	serial.Unlock()
	s := &site{name: name, dir: filepath.Join(dir, id)}
	for i := range s.ends {
		n := &node{ns: fmt.Sprintf("%s%c", id, 'a'+i), n: i + 1, nice: nice,
			inner: fmt.Sprintf("10.%d.0.1", i+1), net: fmt.Sprintf("10.%d.0.0/16", i+1), outer: fmt.Sprintf("192.0.2.%d", i+1)}
		n.dir = filepath.Join(s.dir, string(rune('a'+i)))
		if err := os.MkdirAll(filepath.Join(n.dir, "run"), 0o700); err != nil {
			return nil, err
		}
		s.ends[i] = n
	}
	a, b := s.ends[0], s.ends[1]
	for _, cmd := range []string{
		"ip netns add " + a.ns, "ip netns add " + b.ns,
		"ip -n " + a.ns + " link add eth0 mtu 1500 type veth peer name eth0 netns " + b.ns,
	} {
		if _, err := output(ctx, strings.Fields(cmd)...); err != nil {
			s.close()
			return nil, err
		}
	}
	for _, n := range s.ends {
		for _, cmd := range []string{
			"link set lo up", "addr add " + n.outer + "/24 dev eth0", "link set eth0 up",
			"addr add " + n.inner + "/32 dev lo",
			// Every address of the network is this host's: 10,000 tunnels need as many.
			"route add local " + n.net + " dev lo",
		} {
			if _, err := output(ctx, append([]string{"ip", "-n", n.ns}, strings.Fields(cmd)...)...); err != nil {
				s.close()
				return nil, err
			}
		}
	}
	return s, nil
}

// close ends all processes of the site and removes its namespaces. It may be called
// again, and from another goroutine: who waits for a process then sees it end.
func (s *site) close() { s.closing.Do(s.remove) }

func (s *site) remove() {
	for _, n := range s.ends {
		n.mu.Lock()
		procs := n.procs
		n.mu.Unlock()
		for _, p := range procs {
			p.kill()
		}
	}
	for _, n := range s.ends {
		_ = exec.Command("ip", "netns", "del", n.ns).Run() // it may not have been made
	}
	_ = os.RemoveAll(s.dir)
}

// removeStale removes the namespaces of a harness that was killed.
func removeStale() {
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		return
	}
	for _, name := range stale(string(out), func(pid int) bool { return syscall.Kill(pid, 0) == nil }) {
		_ = exec.Command("ip", "netns", "del", name).Run()
	}
}

// stale is which of the namespaces that ip lists are of a harness that runs no more.
func stale(list string, alive func(pid int) bool) (names []string) {
	for line := range strings.Lines(list) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest, ours := strings.CutPrefix(name, nsPrefix)
		text, _, _ := strings.Cut(rest, "-")
		if pid, err := strconv.Atoi(text); ours && err == nil && !alive(pid) {
			names = append(names, name)
		}
	}
	return names
}

// output runs a command; an error holds what it printed.
func output(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, tail(string(out)))
	}
	return string(out), nil
}

// A process runs on a node. Its output is kept in a file.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error // valid after done
}

// enter puts the node's /run over the machine's, in the mount namespace that
// `ip netns exec` made, and becomes the program.
const enter = `mount --make-rprivate / && mount --bind "$1" /run && shift && exec "$@"`

// command is a program on the node. ip, sh, nice and the program are one process after
// the other, so that its ID is the program's.
func (n *node) command(args ...string) *exec.Cmd {
	line := []string{"netns", "exec", n.ns, "sh", "-c", enter, "sh", filepath.Join(n.dir, "run")}
	if n.nice != 0 {
		line = append(line, "nice", "-n", strconv.Itoa(n.nice))
	}
	cmd := exec.Command("ip", append(line, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	return cmd
}

// start starts a daemon; its output goes to a file.
func (n *node) start(name string, env []string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(n.dir, name+".log"), cmd: n.command(args...)}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	return p, n.run(p)
}

// run starts a process that is kept for close.
func (n *node) run(p *process) error {
	p.done = make(chan struct{})
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	n.mu.Lock()
	n.procs = append(n.procs, p)
	n.mu.Unlock()
	return nil
}

// kill ends the process and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only when it has ended
	<-p.done
}

// ended is an error with the end of the log once the process is gone.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended: %v\n%s", p.name, p.err, p.tail())
	default:
		return nil
	}
}

func (p *process) tail() string {
	b, _ := os.ReadFile(p.log)
	return tail(string(b))
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

// cpu is the processor time that the process has taken.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	return parseStat(string(text))
}

// parseStat reads user and system time of a line of /proc/PID/stat, in units of 10 ms.
// The name of the program, in parentheses, may hold anything.
func parseStat(text string) (time.Duration, error) {
	i := strings.LastIndexByte(text, ')')
	fields := strings.Fields(text[i+1:])
	if i < 0 || len(fields) < 13 {
		return 0, fmt.Errorf("not a line of /proc/PID/stat: %q", text)
	}
	ticks := 0
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// resident is the resident memory of the process in bytes.
func (p *process) resident() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0, err
	}
	return float64(pages * os.Getpagesize()), nil
}

// cpus is the processor time of all gateways.
func (s *site) cpus() (total time.Duration, err error) {
	for _, p := range s.gates {
		d, err := p.cpu()
		if err != nil {
			return 0, errors.Join(err, p.ended())
		}
		total += d
	}
	return total, nil
}

// until repeats check until it succeeds; its last error counts when the time is over.
func until(ctx context.Context, limit time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %w", limit, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// alive is until for what the gateways of a site have to do: it fails at once when one of them ends.
func (s *site) alive(ctx context.Context, limit time.Duration, check func() error) error {
	var gone error
	err := until(ctx, limit, func() error {
		for _, p := range s.gates {
			if gone = p.ended(); gone != nil {
				return nil
			}
		}
		return check()
	})
	if gone != nil {
		return gone
	}
	if err != nil {
		for _, p := range s.gates {
			err = fmt.Errorf("%w\n--- %s on %s\n%s", err, p.name, filepath.Base(filepath.Dir(p.log)), p.tail())
		}
	}
	return err
}
