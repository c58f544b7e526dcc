package sa

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// Wrong passwords of a user, and from an address, hold off the next ones for longer and longer; the right one clears the user alone.
func TestGuesses(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	here, there := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	g := &Guesses{}
	for i, want := range []time.Duration{0, 0, 0, 0, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, 64 * time.Second, 128 * time.Second, 4 * time.Minute, 4 * time.Minute} {
		g.Wrong(now, "anna", here)
		if got := g.Pause(now, "anna", here); got != want {
			t.Errorf("after %d: %v, want %v", i+1, got, want)
		}
	}
	if a, b, c := g.Pause(now, "bert", here), g.Pause(now, "anna", there), g.Pause(now, "bert", there); a == 0 || b == 0 || c != 0 {
		t.Errorf("another user from there %v, the user from elsewhere %v, neither %v", a, b, c)
	}
	if left := g.Pause(now.Add(time.Minute), "anna", here); left != 3*time.Minute {
		t.Errorf("a minute later %v", left)
	}
	g.Right("anna")
	if a, b := g.Pause(now, "anna", there), g.Pause(now, "anna", here); a != 0 || b == 0 {
		t.Errorf("after the right one: from elsewhere %v, from there %v", a, b)
	}
	later := now.Add(forgotten + time.Second)
	g.Wrong(later, "bert", here)
	if left := g.Pause(later, "bert", here); left != 0 {
		t.Errorf("what was long ago counts: %v", left)
	}
}

// What is kept is bounded, whatever names and addresses come, and IPv6 addresses of one network are one.
func TestGuessesAreBounded(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	g := &Guesses{}
	long := string(make([]byte, 1<<16))
	for i := range 3 * maxGuessers {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		g.Wrong(now, fmt.Sprint(i, long), a)
	}
	if len(g.of) != maxGuessers || len(g.order) != maxGuessers {
		t.Errorf("%d of them, %d in order", len(g.of), len(g.order))
	}
	for k := range g.of {
		if len(k.user) > 128 {
			t.Fatalf("a name of %d bytes is kept", len(k.user))
		}
	}
	g = &Guesses{}
	for i := range 5 {
		g.Wrong(now, fmt.Sprint(i), netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i)))
	}
	if a, b := g.Pause(now, "x", netip.MustParseAddr("2001:db8::99")), g.Pause(now, "x", netip.MustParseAddr("2001:db8:0:1::1")); a == 0 || b != 0 {
		t.Errorf("of one network %v, of another %v", a, b)
	}
}
