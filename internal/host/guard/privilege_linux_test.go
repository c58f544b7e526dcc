package guard

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Where the system does not let us look at the guard any more, each call says so, and none takes that for a
// guard that is as it should be, or for none.
func TestWithoutPrivilege(t *testing.T) {
	w := newWire(t)
	g, err := New(Options{Table: 50500})
	if err != nil {
		t.Fatal(err)
	}
	p := plan(flow("10.1.0.0/24", "10.2.0.0/24"))
	apply(t, g, p)
	// Capabilities belong to the thread, which ends with this test.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had, none [2]unix.CapUserData
	if err := unix.Capget(&header, &had[0]); err != nil {
		t.Fatal(err)
	}
	drop := func() {
		less := had
		less[0].Effective = none[0].Effective
		if err := unix.Capset(&header, &less[0]); err != nil {
			t.Fatal(err)
		}
	}
	drop()
	other := plan(flow("10.1.0.0/24", "10.3.0.0/24"))
	for name, call := range map[string]func() (any, error){
		"Apply":       func() (any, error) { return nil, g.Apply(p) },
		"Apply other": func() (any, error) { return nil, g.Apply(other) },
		"Counts":      func() (any, error) { n, err := g.Counts(); return n != Counts{}, err },
		"Differences": func() (any, error) { list, err := g.(Watcher).Differences(); return len(list) > 0, err },
		"Restore":     func() (any, error) { list, _, err := g.(Watcher).Restore(); return len(list) > 0, err },
		"Judge":       func() (any, error) { v, err := g.(Explainer).Judge(Packet{}); return v != Verdict{}, err },
		"New":         func() (any, error) { g, err := New(Options{Table: 50501}); return g != nil, err },
		"Tables":      func() (any, error) { list, err := Tables(); return len(list) > 0, err },
	} {
		if got, err := call(); !errors.Is(err, unix.EPERM) || got == true {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := Tables(); err == nil || !strings.Contains(err.Error(), "run as root or with cap_net_admin") {
		t.Errorf("%v", err)
	}
	// With it again the guard is as it was, and can be taken away.
	if err := unix.Capset(&header, &had[0]); err != nil {
		t.Fatal(err)
	}
	if list, err := g.(Watcher).Differences(); err != nil || len(list) != 0 {
		t.Errorf("%q, %v", list, err)
	}
	drop()
	if err := g.Close(); !errors.Is(err, unix.EPERM) {
		t.Errorf("Close: %v", err)
	}
	if err := unix.Capset(&header, &had[0]); err != nil {
		t.Fatal(err)
	}
	if list, err := Tables(); err != nil || len(list) != 1 {
		t.Errorf("the guard is gone: %v, %v", list, err)
	}
	w.run("nft delete table inet culvert-50500")
}
