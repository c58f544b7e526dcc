package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// Lab is the machines and daemons of one test. Everything in it is removed at
// the test's end; when the test failed, the daemons' logs are printed first.
type Lab struct {
	TB  testing.TB
	Dir string // private to the test: configurations, logs, control sockets

	mu    sync.Mutex
	nodes []*Node
	procs []*Process
}

// serial makes namespace names unique within this process.
var serial atomic.Uint32

const nsPrefix = "culvert-lab-"

// New returns an empty lab that lives as long as the test.
func New(t testing.TB) *Lab {
	t.Helper()
	// Not t.TempDir: its path contains the test's name, and socket paths are
	// limited to 107 bytes.
	dir, err := os.MkdirTemp("", "culvert-lab-")
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{TB: t, Dir: dir}
	t.Cleanup(l.close)
	return l
}

func (l *Lab) close() {
	for _, p := range l.procs {
		p.Kill()
	}
	if l.TB.Failed() {
		for _, p := range l.procs {
			l.TB.Logf("---- log of %s ----\n%s", p.Name, p.Log())
		}
	}
	for _, n := range l.nodes {
		n.unplug()
		if out, err := run("ip", "netns", "del", n.NS); err != nil {
			l.TB.Errorf("remove namespace %s: %v\n%s", n.NS, err, out)
		}
	}
	if err := os.RemoveAll(l.Dir); err != nil {
		l.TB.Error(err)
	}
}

// unplug takes the node off every wire, and ends what was left running in it. A namespace whose name is removed lives on as long
// as a process or a socket in it does. On a bridge it would go on to answer for its addresses, which another machine has by then.
func (n *Node) unplug() {
	if out, err := run("ip", "-n", n.NS, "link", "set", "group", "default", "down"); err != nil {
		n.lab.TB.Errorf("take %s off its wires: %v\n%s", n.Name, err, out)
	}
	out, _ := run("ip", "netns", "pids", n.NS)
	for _, field := range strings.Fields(out) {
		if pid, err := strconv.Atoi(field); err == nil && pid != os.Getpid() { // this process comes in for a moment (Inside)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// write puts text into a file of the lab and returns its path.
func (l *Lab) write(name, text string) string {
	l.TB.Helper()
	path := filepath.Join(l.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		l.TB.Fatal(err)
	}
	return path
}

// sweep removes namespaces of test processes that ended without their cleanup
// (killed, or stopped by go test's time limit).
func sweep() {
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return // no namespace was ever made
	}
	for _, e := range entries {
		var pid, n int
		rest, ours := strings.CutPrefix(e.Name(), nsPrefix)
		if !ours {
			continue
		}
		if _, err := fmt.Sscanf(rest, "%d-%d-", &pid, &n); err != nil {
			continue
		}
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			_, _ = run("ip", "netns", "del", e.Name())
		}
	}
}
