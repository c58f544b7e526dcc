package underlay

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// isolate puts the rest of the test into a network namespace of its own. The
// thread is never given back: it ends with the test's goroutine.
func isolate(t *testing.T, commands ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("cannot make a network namespace:", err)
	}
	for _, c := range commands {
		args := strings.Fields(c)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c, err, out)
		}
	}
}

// A link too narrow for the datagrams: the kernel does not cut them from one
// message then, and each leaves in fragments.
func TestFragments(t *testing.T) {
	isolate(t, "ip link set lo mtu 1300 up")
	a, b := listen(t, loop), listen(t, loop)
	var batch []Packet
	for i := range 100 {
		batch = append(batch, outgoing(ESP, netip.AddrPort{}, at(loop, b, true), true, bytes.Repeat([]byte{byte(i + 1)}, 1400)))
	}
	if n, err := a.Send(batch); n != len(batch) || err != nil {
		t.Fatal(n, err)
	}
	for i, got := range receive(t, b, len(batch)) {
		if !bytes.Equal(got.Data(), batch[i].Data()) {
			t.Fatal("packet", i, "is wrong")
		}
	}
}

// A firewall and a missing route refuse some packets: the others leave.
func TestRefusedByTheSystem(t *testing.T) {
	isolate(t, "ip link set lo up", "nft add table ip t", "nft add chain ip t out { type filter hook output priority 0 ; }", "nft add rule ip t out ip daddr 127.0.0.2 drop")
	a, b := listen(t, loop), listen(t, loop)
	data := bytes.Repeat([]byte{1}, 1400)
	good := outgoing(ESP, netip.AddrPort{}, at(loop, b, true), true, data)
	dropped := outgoing(ESP, netip.AddrPort{}, at(loop2, b, true), true, data)
	noRoute := outgoing(ESP, netip.AddrPort{}, netip.MustParseAddrPort("192.0.2.1:4500"), true, data)
	n, err := a.Send([]Packet{dropped, good, good, dropped, dropped, noRoute, good})
	if n != 3 || err == nil {
		t.Errorf("%d left, %v", n, err)
	}
	receive(t, b, 3)
}

func TestListenWithoutIPv6(t *testing.T) {
	isolate(t, "ip link set lo up", "sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
	a, b := listen(t), listen(t)
	if n, err := a.Send([]Packet{outgoing(IKE, netip.AddrPort{}, at(loop, b, false), false, make([]byte, 40))}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if got := receive(t, b, 1)[0]; got.Local != at(loop, b, false) {
		t.Error(got.Local)
	}
}

func TestListenWithoutPrivilege(t *testing.T) {
	isolate(t, "ip link set lo up")
	// Capabilities belong to the thread, which ends with this test.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Options{IKEPort: 500, Listen: []netip.Addr{loop}}); !errors.Is(err, ErrPrivilege) || !strings.Contains(err.Error(), "cap_net_bind_service") {
		t.Error("port 500:", err)
	}
	if _, err := Listen(Options{Mark: 1, Listen: []netip.Addr{loop}}); !errors.Is(err, ErrPrivilege) || !strings.Contains(err.Error(), "cap_net_admin") {
		t.Error("mark:", err)
	}
	c := listen(t, loop) // with less of a buffer
	c.Close()
}
