package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"culvert/config"
	"culvert/internal/host/guard"

	"golang.org/x/sys/unix"
)

// isolate puts the rest of the test into a network namespace of its own. The thread is never given
// back: it ends with the test's goroutine.
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

// The edges of this machine are all there, and are those of the configuration.
func TestOpenEdges(t *testing.T) {
	isolate(t)
	c := parse(t, "[gateway]\ntun = \"culvert7\"\ntable = 50577\nmtu = 1320\nport = 1500\nnatt-port = 14500\n")
	e, err := OpenEdges(&c.Gateway)
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	if e.Host == nil || e.Device == nil || e.Conn == nil || e.Clear == nil || e.Guard == nil || e.NoGuard != nil {
		t.Fatalf("%+v", e)
	}
	defer e.Guard.Close()
	if ike, natt := e.Conn.Ports(); ike != 1500 || natt != 14500 || e.Device.Name() != "culvert7" {
		t.Errorf("ports %d and %d, device %s", ike, natt, e.Device.Name())
	}
	if mtu, err := os.ReadFile("/sys/class/net/culvert7/mtu"); err == nil && strings.TrimSpace(string(mtu)) != "1320" {
		t.Errorf("the device has MTU %s", mtu)
	}
	if list, err := e.Networks(); err != nil || len(list) != 0 {
		t.Errorf("networks %v, %v", list, err)
	}
	if local, err := e.Source(netip.MustParseAddr("192.0.2.9")); err == nil {
		t.Errorf("without a route packets leave from %v", local)
	}

	// Who starts a second time with the same table is told so, and closes what it opened.
	if second, err := OpenEdges(&c.Gateway); !errors.Is(err, ErrEnvironment) || second.Host != nil || second.Device != nil || second.Conn != nil {
		t.Errorf("a second gateway: %v", err)
	}
}

// A user who may not write the lock file is told which privileges are needed.
func TestOpenEdgesNeedsPrivileges(t *testing.T) {
	isolate(t)
	if err := unix.Setfsuid(65534); err != nil { // of this thread alone
		t.Fatal(err)
	}
	_, err := OpenEdges(&config.Gateway{Tun: "culvert7", Table: 50578, Mark: 50578})
	if !errors.Is(err, ErrEnvironment) || !strings.Contains(fmt.Sprint(err), "run as root, or as a user with the capability NET_ADMIN") {
		t.Error(err)
	}
}

// What loads and does not compile is refused before anything is set up.
func TestGuardAloneOfWhatDoesNotCompile(t *testing.T) {
	isolate(t)
	path := filepath.Join(t.TempDir(), "c.toml")
	writeFile(t, path, "[gateway]\ntable = 50579\nmtu = 1000\n[[policy]]\naction = \"discard\"\nsrc-address = \"2001:db8:1::/48\"\ndst-address = \"2001:db8:2::/48\"\n")
	if flows, _, err := GuardOn(path); err == nil || !strings.Contains(err.Error(), "1000 is too small for IPv6") || flows != 0 {
		t.Errorf("%d flows, %v", flows, err)
	}
	if tables, err := guard.Tables(); err != nil || len(tables) != 0 {
		t.Errorf("guards of %v, %v", tables, err)
	}
}
