package core

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Every kind has a name of its own, which logs, counters and tests go by.
func TestEventKinds(t *testing.T) {
	seen := map[string]bool{}
	for k := range EventKind(len(eventNames)) {
		if name := k.String(); name == "" || name == "unknown" || seen[name] {
			t.Errorf("kind %d is called %q", k, name)
		} else {
			seen[name] = true
		}
	}
	if name := EventKind(len(eventNames)).String(); name != "unknown" {
		t.Errorf("the kind behind the last is called %q", name)
	}
}

// An event in the log has what it says and nothing else.
func TestEventInTheLog(t *testing.T) {
	for _, c := range []struct {
		e    Event
		want string
	}{
		{Event{}, "e.event=none"},
		{Event{Kind: EvIKEUp, Peer: "a", Remote: netip.MustParseAddrPort("192.0.2.1:500"), SA: 7, Child: 8, Reason: "so"},
			"e.event=ike-up e.peer=a e.remote=192.0.2.1:500 e.ike-sa=7 e.child=8 e.reason=so"},
		{Event{Kind: EvNoProposal, Detail: &Mismatch{Ours: []string{"x"}, Hint: "h"}}, "e.event=no-proposal-chosen e.ours=[x] e.hint=h"},
		{Event{Kind: EvNoProposal, Detail: &Mismatch{Ours: []string{"x"}, Theirs: []string{"y", "z"}, Hint: "h"}}, `e.event=no-proposal-chosen e.ours=[x] e.theirs="[y z]" e.hint=h`},
	} {
		var b bytes.Buffer
		slog.New(slog.NewTextHandler(&b, nil)).Info("m", "e", c.e)
		if _, got, _ := strings.Cut(strings.TrimSpace(b.String()), "msg=m "); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

// What a peer can have us say is bounded; what is not its doing stays whole, and the event's own
// lists are not written to.
func TestEventIsClipped(t *testing.T) {
	const line = maxID + 100
	long := strings.Repeat("x", line+1)
	for _, c := range []struct {
		text string
		most int
		want string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "abc… (4 bytes)"}, {"", 0, ""}, {"aä", 2, "a… (3 bytes)"},
	} {
		if got := clipped(c.text, c.most); got != c.want {
			t.Errorf("%q to %d bytes: %q, want %q", c.text, c.most, got, c.want)
		}
	}
	in := Event{Reason: strings.Repeat("r", maxText+1), Detail: &Mismatch{Ours: []string{"ours", long[:line]}, Theirs: []string{"theirs", long}, Hint: strings.Repeat("h", maxText)}}
	var e Env
	e.Emit(in)
	o, ok := e.Poll()
	got := o.(Event)
	if !ok || got.Reason != in.Reason[:maxText]+"… (1501 bytes)" || got.Detail.Hint != in.Detail.Hint || !slices.Equal(got.Detail.Ours, in.Detail.Ours) ||
		!slices.Equal(got.Detail.Theirs, []string{"theirs", long[:line] + "… (501 bytes)"}) {
		t.Errorf("%+v", got)
	}
	if in.Detail.Theirs[1] != long {
		t.Error("what was given was changed")
	}
	e.Emit(Event{Reason: in.Reason[:maxText]})
	if o, _ := e.Poll(); o.(Event).Reason != in.Reason[:maxText] || o.(Event).Detail != nil {
		t.Errorf("%+v", o)
	}
}

// The answer to a Lease is read as it was written; what is cut, or no address, is refused.
func TestLeaseAnswer(t *testing.T) {
	list := func(s string) (out []netip.Addr) {
		for _, a := range strings.Fields(s) {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	for _, c := range [][2]string{{"", ""}, {"10.0.0.1", ""}, {"10.0.0.1 fd00::1", "192.0.2.53"}, {"", "192.0.2.53 2001:db8::53"}} {
		b := AppendLease(nil, list(c[0]), list(c[1]))
		addrs, dns, ok := ParseLease(b)
		if !ok || !slices.Equal(addrs, list(c[0])) || !slices.Equal(dns, list(c[1])) {
			t.Errorf("%q, %q became %v, %v, %v", c[0], c[1], addrs, dns, ok)
		}
	}
	for _, bad := range [][]byte{{4, 1, 2, 3}, {16, 1}, {5, 1, 2, 3, 4, 5}, {0, 0}, {0, 4, 1}, {3, 1, 2, 3}} {
		if addrs, dns, ok := ParseLease(bad); ok || addrs != nil || dns != nil {
			t.Errorf("%x is %v, %v", bad, addrs, dns)
		}
	}
}
