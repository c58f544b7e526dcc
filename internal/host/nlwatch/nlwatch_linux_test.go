package nlwatch

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// limit is for how long a test waits for what has to come, on a busy machine too.
const limit = time.Minute

// isolate puts the rest of the test into a network namespace of its own. The
// thread is never given back: it ends with the test's goroutine.
func isolate(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("cannot make a network namespace:", err)
	}
}

func await(t *testing.T, w *Watch) {
	t.Helper()
	select {
	case <-w.Changed():
	case <-time.After(limit):
		t.Fatal("nothing was reported")
	}
}

func addresses(t *testing.T, from, to int) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for i := from; i < to; i++ {
		a, err := netlink.ParseAddr(fmt.Sprintf("10.66.%d.%d/32", i/250, i%250))
		if err == nil {
			err = netlink.AddrAdd(lo, a)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Only what concerns the listener is reported, with who did it.
func TestWatch(t *testing.T) {
	isolate(t)
	w, err := Listen(unix.NETLINK_ROUTE, func(w *Watch, m *syscall.NetlinkMessage) bool {
		if m.Header.Type != unix.RTM_NEWADDR {
			return false
		}
		w.Suspect("one")
		w.Suspect("one")
		w.Suspect("")
		return true
	}, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_LINK)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	await(t, w) // 127.0.0.1 has come
	addresses(t, 0, 3)
	await(t, w)
	w.Close()
	if got := strings.Join(w.Suspects(), ", "); got != "one" {
		t.Errorf("suspects %q", got)
	}
	if got := w.Suspects(); len(got) > 0 {
		t.Errorf("they are told twice: %q", got)
	}
}

// Messages that were lost are reported, whatever they were about.
func TestOverrun(t *testing.T) {
	isolate(t)
	held, release := make(chan struct{}), make(chan struct{})
	first, lost := true, make(chan struct{}, 100)
	w, err := Listen(unix.NETLINK_ROUTE, func(_ *Watch, m *syscall.NetlinkMessage) bool {
		if m == nil {
			lost <- struct{}{}
		}
		if first {
			first = false
			close(held)
			<-release
		}
		return false
	}, unix.RTNLGRP_IPV4_IFADDR)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.socket.SetReceiveBufferSize(1<<12, false); err != nil {
		t.Fatal(err)
	}
	addresses(t, 0, 1)
	<-held
	addresses(t, 1, 200)
	select {
	case <-w.Changed():
		t.Fatal("what does not concern the listener was reported")
	default:
	}
	close(release)
	await(t, w)
	if len(lost) == 0 {
		t.Error("who judges was not told")
	}
}

func TestProcess(t *testing.T) {
	if got := Process(uint32(os.Getpid())); got != "" {
		t.Errorf("we ourselves are %q", got)
	}
	if got := Process(uint32(os.Getppid())); os.Getppid() > 0 && !strings.Contains(got, fmt.Sprintf(" (process %d)", os.Getppid())) {
		t.Errorf("our parent is %q", got)
	}
	for _, port := range []uint32{0, 0xfffff000} {
		if got := Process(port); got != "" {
			t.Errorf("port %#x is %q", port, got)
		}
	}
}
