package lab

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	uml        = "linux.uml"
	umlModules = "/usr/lib/uml/modules"
)

// Guest is a machine with a Linux kernel of its own, in User Mode Linux: the
// real IPsec of Linux where this computer's kernel has none or is none of a
// test's business. It sees this computer's files as they are when it looks; what
// it writes is its own and gone with it, and /run is empty at its start.
//
// It is one process tree on the computer, which ends with the test or with the
// process that runs it, in whichever way.
type Guest struct {
	*Process // the log is the console
	Name     string
	node     *Node
	line     *os.File // the serial line's end

	mu      sync.Mutex
	last    int
	waiting map[int]chan guestReply
}

// NIC is a network card of a guest: the first is eth0 there, and so on.
type NIC struct {
	Tap   string         // its other end, which is made on the node that starts the guest
	Node  []netip.Prefix // addresses of the tap; none where it is to be put in a bridge
	Guest []netip.Prefix // addresses of the card
}

// guestLimit is how long a command in a guest may take.
const guestLimit = 5 * time.Minute

// Guest boots a guest, in about two seconds, with cards on taps of the node. A
// test that calls it begins with NeedGuest.
func (n *Node) Guest(ctx context.Context, name string, nics ...NIC) *Guest {
	tb := n.lab.TB
	tb.Helper()
	shim, err := xstateShim()
	if err != nil {
		tb.Fatal(err)
	}
	args := []string{
		"taskset", "-c", guestCPU(), // see there
		"unshare", "--pid", "--fork", "--kill-child", // whatever becomes of it, its processes end with the first of them
		"env", "LD_PRELOAD=" + shim, uml, "mem=256M", "umid=" + name, "uml_dir=" + n.lab.Dir + "/",
		"rootfstype=hostfs", "rootflags=/", "ro", "con=null", "con0=null,fd:1", "ssl0=fd:0", "noreboot", "panic=-1",
		"init=" + testBinary(), helperEnv + "=guest",
	}
	for i, nic := range nics {
		n.Run("ip", "tuntap", "add", nic.Tap, "mode", "tap")
		n.Run("ip", "link", "set", nic.Tap, "addrgenmode", "none")
		for _, a := range nic.Node {
			n.Run(addAddress(a, nic.Tap)...)
		}
		n.Run("ip", "link", "set", nic.Tap, "up")
		// This driver has no offloads: a frame on the tap is as on a wire, with its
		// checksums and not longer than the MTU.
		args = append(args, fmt.Sprintf("eth%d=tuntap,%s", i, nic.Tap))
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fds[0], true) // or Close would wait for the Read
	}
	if err != nil {
		tb.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "serial line")
	g := &Guest{Name: name, node: n, line: os.NewFile(uintptr(fds[0]), "serial line"), waiting: map[int]chan guestReply{}}
	up := make(chan guestReply, 1)
	g.waiting[0] = up
	g.Process = n.start("guest-"+name, theirs, nil, args...)
	_ = theirs.Close()
	go g.listen()
	tb.Cleanup(func() { g.Kill(); _ = g.line.Close() })

	select {
	case hello := <-up:
		if hello.Fault != "" {
			tb.Fatalf("guest %s does not start: %s", name, hello.Fault)
		}
	case <-g.done:
		tb.Fatalf("guest %s ended while it started: %v", name, g.err)
	case <-ctx.Done():
		tb.Fatalf("guest %s does not start: %v", name, ctx.Err())
	}
	for i, nic := range nics {
		dev := fmt.Sprintf("eth%d", i)
		g.Run("ip", "link", "set", dev, "addrgenmode", "none")
		for _, a := range nic.Guest {
			g.Run(addAddress(a, dev)...)
		}
		g.Run("ip", "link", "set", dev, "up")
	}
	return g
}

// guests counts those that were started.
var guests atomic.Int32

// guestCPU is the processor of the next guest. Its kernel and what it runs are processes of which one waits for the other at
// each system call and each page fault. On one processor they go on several times as fast as across two.
func guestCPU() string {
	var all unix.CPUSet
	_ = unix.SchedGetaffinity(0, &all) // of a set without processors the first is taken
	var cpus []int
	for i := range len(all) * 64 {
		if all.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	if len(cpus) == 0 {
		return "0"
	}
	return strconv.Itoa(cpus[int(guests.Add(1))%len(cpus)])
}

func addAddress(a netip.Prefix, dev string) []string {
	args := []string{"ip", "addr", "add", a.String(), "dev", dev}
	if a.Addr().Is6() {
		args = append(args, "nodad")
	}
	return args
}

// listen hands out replies until the guest is gone.
func (g *Guest) listen() {
	replies := json.NewDecoder(g.line)
	for {
		var r guestReply
		err := replies.Decode(&r)
		g.mu.Lock()
		if err != nil {
			for id, c := range g.waiting {
				c <- guestReply{ID: id, Fault: "the guest is gone"}
			}
			g.waiting = nil
			g.mu.Unlock()
			return
		}
		if c := g.waiting[r.ID]; c != nil {
			c <- r
			delete(g.waiting, r.ID)
		}
		g.mu.Unlock()
	}
}

// Run runs a command in the guest and returns its output; a failure fails the test.
func (g *Guest) Run(args ...string) string {
	g.node.lab.TB.Helper()
	out, err := g.Try(args...)
	if err != nil {
		g.node.lab.TB.Fatal(err)
	}
	return out
}

// Try is Run for commands that may fail; the error holds the output too.
func (g *Guest) Try(args ...string) (string, error) {
	return g.do(guestRequest{Args: args})
}

// Write puts a file into the guest.
func (g *Guest) Write(path string, data []byte) error {
	_, err := g.do(guestRequest{Write: path, Stdin: data})
	return err
}

// End kills every process of a program, whose name is given as the kernel has it, and waits until they are gone. Then it
// takes all SAs and policies out of the guest's kernel.
func (g *Guest) End(program string) error {
	_, err := g.do(guestRequest{End: program})
	return err
}

// Read is the text of a file in the guest.
func (g *Guest) Read(path string) (string, error) { return g.do(guestRequest{Read: path}) }

// Daemon starts a command in the guest and does not wait for it. Its output goes
// to the file log there.
func (g *Guest) Daemon(log string, env []string, args ...string) error {
	_, err := g.do(guestRequest{
		Args: append([]string{"sh", "-c", `log=$1; shift; exec setsid "$@" >"$log" 2>&1 </dev/null &`, "sh", log}, args...),
		Env:  env,
	})
	return err
}

func (g *Guest) do(r guestRequest) (string, error) {
	c := make(chan guestReply, 1)
	g.mu.Lock()
	if g.waiting == nil {
		g.mu.Unlock()
		return "", fmt.Errorf("guest %s is gone", g.Name)
	}
	g.last++
	r.ID = g.last
	g.waiting[r.ID] = c
	text, err := json.Marshal(r)
	if err == nil {
		_, err = g.line.Write(append(text, '\n'))
	}
	g.mu.Unlock()
	if err != nil {
		return "", fmt.Errorf("guest %s: %w", g.Name, err)
	}
	fault := func(format string, a ...any) error {
		what := strings.TrimSpace(strings.Join(r.Args, " ") + " " + r.Write + r.Read + r.Helper + r.SAs)
		return fmt.Errorf("in guest %s: %s: %w", g.Name, what, fmt.Errorf(format, a...))
	}
	select {
	case reply := <-c:
		switch out := string(reply.Out); {
		case reply.Fault != "":
			return out, fault("%s\n%s", reply.Fault, out)
		case reply.Code != 0:
			return out, fault("exit status %d\n%s", reply.Code, out)
		default:
			return out, nil
		}
	case <-time.After(guestLimit):
		return "", fault("no answer after %v", guestLimit)
	}
}

// Inner adds addresses of the protected networks to the guest's loopback interface.
func (g *Guest) Inner(addrs ...netip.Addr) {
	g.node.lab.TB.Helper()
	for _, a := range addrs {
		g.Run(addAddress(netip.PrefixFrom(a, a.BitLen()), "lo")...)
	}
}

// Transfer is Node.Transfer from the guest.
func (g *Guest) Transfer(ctx context.Context, local netip.Addr, to Machine, remote netip.Addr, size int64) error {
	return g.transfer(ctx, to, fetchArgs(ctx, local, remote, size))
}

// TransferWithOptions is Node.TransferWithOptions from the guest.
func (g *Guest) TransferWithOptions(ctx context.Context, local netip.Addr, to Machine, remote netip.Addr, size int64) error {
	return g.transfer(ctx, to, fetchArgs(ctx, local, remote, size)+" "+withOptions)
}

func (g *Guest) transfer(ctx context.Context, to Machine, args string) error {
	if err := to.serveTransfers(ctx); err != nil {
		return err
	}
	_, err := g.do(guestRequest{Helper: args})
	return err
}

// serveTransfers: a guest does from its start.
func (g *Guest) serveTransfers(context.Context) error { return nil }

// Stop switches the guest off and waits until it is gone.
func (g *Guest) Stop(ctx context.Context) error {
	_ = g.line.Close() // the guest halts when its line is dead
	return g.Wait(ctx)
}

//go:embed shim/xstate.c
var xstateSource []byte

// shim is what shim/xstate.c was compiled to, once per test run.
var shim struct {
	once sync.Once
	path string
	err  error
}

// xstateShim is the path of the library that is preloaded into User Mode Linux.
// It is everywhere, though only some processors ask for it, so that it is tested.
func xstateShim() (string, error) {
	shim.once.Do(func() {
		dir, err := os.MkdirTemp("", "culvert-lab-shim-")
		if err != nil {
			shim.err = err
			return
		}
		shim.path = filepath.Join(dir, "xstate.so")
		cmd := exec.Command("gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-x", "c", "-o", shim.path, "-")
		cmd.Stdin = bytes.NewReader(xstateSource)
		if out, err := cmd.CombinedOutput(); err != nil {
			shim.err = fmt.Errorf("compile shim/xstate.c: %w\n%s", err, out)
		}
	})
	return shim.path, shim.err
}

func removeShim() {
	if shim.path != "" {
		_ = os.RemoveAll(filepath.Dir(shim.path))
	}
}
