package tun

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// isolate puts the rest of the test into a network namespace of its own. The
// thread is never given back: it ends with the test's goroutine.
func isolate(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("no /dev/net/tun")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("cannot make a network namespace:", err)
	}
	run(t, "ip link set lo up")
}

// run runs a command in the namespace of the calling thread.
func run(t *testing.T, command string) string {
	t.Helper()
	args := strings.Fields(command)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// space is another network namespace, kept by a sleeping process.
type space struct{ pid int }

func newSpace(t *testing.T) space {
	t.Helper()
	cmd := exec.Command("sleep", "86400")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	s := space{cmd.Process.Pid}
	s.run(t, "ip link set lo up")
	return s
}

func (s space) command(command string) string {
	return fmt.Sprintf("nsenter -t %d -n %s", s.pid, command)
}

func (s space) run(t *testing.T, command string) {
	t.Helper()
	run(t, s.command(command))
}

// do calls f with the thread in the namespace.
func (s space) do(t *testing.T, f func()) {
	t.Helper()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", s.pid))
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
	}()
	f()
}

// limit is for how long a test waits for what has to come, on a busy machine too.
const limit = time.Minute

// mustPing wants an echo request answered. The first ones may be lost while addresses
// and neighbours come to be known.
func mustPing(t *testing.T, what, prefix, to string) {
	t.Helper()
	args := strings.Fields(prefix + " ping -n -c 1 -W 1 " + to)
	var out []byte
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if out, err = exec.Command(args[0], args[1:]...).CombinedOutput(); err == nil {
			return
		}
	}
	t.Errorf("%s: %v\n%s", what, err, out)
}

// answer serves UDP (a word and the asker's address) and TCP (the word, often).
func answer(t *testing.T, word, at string) {
	t.Helper()
	udp, err := net.ListenPacket("udp", at)
	// An IPv6 address is at work a moment after the kernel was told of it.
	for end := time.Now().Add(limit); err != nil && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
		udp, err = net.ListenPacket("udp", at)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			_, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			udp.WriteTo([]byte(word+" "+from.(*net.UDPAddr).AddrPort().Addr().Unmap().String()), from)
		}
	}()
	tcp, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			// Larger than a segment, so that offloads are at work.
			c.Write(bytes.Repeat([]byte(word), 50_000/len(word)))
			c.Close()
		}
	}()
}

// ask sends datagrams until one is answered, and returns the answer.
func ask(t *testing.T, mark int, from, to string) string {
	t.Helper()
	return askFor(t, limit, mark, from, to)
}

// askFor is ask for some time only; "" is no answer.
func askFor(t *testing.T, wait time.Duration, mark int, from, to string) string {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) {
			if mark != 0 {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark)
			}
		})
		return err
	}}
	if from != "" {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from))
	}
	c, err := d.DialContext(context.Background(), "udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 2048)
	for end := time.Now().Add(wait); time.Now().Before(end); {
		c.Write([]byte("?"))
		c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if n, err := c.Read(buf); err == nil {
			return string(buf[:n])
		}
	}
	return ""
}

// join pumps packets between two devices until they are closed: a tunnel
// without protection.
func join(t *testing.T, a, b Device) {
	for _, way := range [][2]Device{{a, b}, {b, a}} {
		go func() {
			from, to := way[0], way[1]
			n := from.BatchSize()
			bufs, sizes, out := make([][]byte, n), make([]int, n), make([][]byte, n)
			for i := range bufs {
				bufs[i] = make([]byte, Offset+65536)
			}
			for {
				got, err := from.Read(bufs, sizes, Offset)
				if err != nil {
					return
				}
				for i := range got {
					out[i] = bufs[i][:Offset+sizes[i]]
				}
				to.Write(out[:got], Offset)
			}
		}()
	}
}
