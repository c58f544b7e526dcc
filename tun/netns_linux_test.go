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
	cmd := exec.Command("sleep", "600")
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

// ping sends one echo request and waits for the answer.
func ping(t *testing.T, prefix, to string) error {
	t.Helper()
	args := strings.Fields(prefix + " ping -n -c 2 -i 0.2 -W 2 " + to)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%v\n%s", err, out)
	}
	return nil
}

func mustPing(t *testing.T, what, prefix, to string) {
	t.Helper()
	if err := ping(t, prefix, to); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// answer serves UDP (a word and the asker's address) and TCP (the word, often).
func answer(t *testing.T, word, at string) {
	t.Helper()
	udp, err := net.ListenPacket("udp", at)
	// An IPv6 address is at work a moment after the kernel was told of it.
	for try := 0; err != nil && try < 200; try++ {
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

// ask sends one datagram and returns the answer, or "" after a second.
func ask(t *testing.T, mark int, from, to string) string {
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
	for range 2 {
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
