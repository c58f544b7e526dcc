package tun

import (
	"net/netip"
	"slices"
	"testing"
)

// What an earlier run left keeps plaintext in until the first Apply: before it nothing is missed, and nothing is removed.
func TestNothingIsRestoredBeforeTheFirstPlan(t *testing.T) {
	lone(t)
	o := Options{Device: "culvert0", LockDir: t.TempDir()}
	killed, err := NewHost(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Apply(everything()); err != nil {
		t.Fatal(err)
	}
	killed.(*host).watch.Close()
	killed.(*host).release()
	left := snapshot(t)
	h, err := NewHost(o)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	w := h.(Watcher)
	if list, err := w.Differences(); list != nil || err != nil {
		t.Errorf("before a plan there is no difference: %q, %v", list, err)
	}
	if list, by, err := w.Restore(); list != nil || by != nil || err != nil {
		t.Errorf("before a plan nothing is restored: %q, by %q, %v", list, by, err)
	}
	if now := snapshot(t); !slices.Equal(now, left) {
		t.Errorf("the rules and routes are\n%q\nwant\n%q", now, left)
	}
	// The system is not even looked at, which would fail.
	h.(*host).plan = Plan{Addresses: []netip.Prefix{{}}} // no address
	if list, err := w.Differences(); list != nil || err != nil {
		t.Errorf("without a plan the system is looked at: %q, %v", list, err)
	}
	h.(*host).applied = true
	if _, err := w.Differences(); err == nil {
		t.Error("with this plan the system can be looked at")
	}
}
