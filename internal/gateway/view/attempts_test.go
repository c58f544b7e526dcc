package view

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
)

var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// Attempts are bounded, and equal ones are one.
func TestAttempts(t *testing.T) {
	a := NewAttempts()
	for i := range 1000 {
		a.Note(start.Add(time.Duration(i)), core.Event{Kind: core.EvInitFailed, Peer: "p", SA: core.SAID(i), Reason: "the same"})
		a.Note(start, core.Event{Kind: core.EvBadMessage, Peer: "p"})
		a.Note(start, core.Event{Kind: core.EvInitFailed})
	}
	if len(a.of) != 1 || len(a.of["p"]) != 1 || a.of["p"][0].times != 1000 || !a.of["p"][0].first.Equal(start) {
		t.Errorf("%+v", a)
	}
	for i := range 1000 {
		a.Note(start, core.Event{Kind: core.EvInitFailed, Peer: "p", Reason: fmt.Sprint(i)})
	}
	if list := a.of["p"]; len(list) != maxAttempts || list[maxAttempts-1].event.Reason != "999" {
		t.Errorf("%d kept, the last %+v", len(list), list[len(list)-1])
	}
	a.keep(map[string]*core.Peer{"q": nil})
	if len(a.of) != 0 || a.bytes != 0 || a.order.Len() != 0 {
		t.Errorf("after the peer is gone: %+v", a)
	}
}

// Attempts in the name of many peers are bounded in bytes: those that happened last
// are kept.
func TestAttemptsOfManyPeers(t *testing.T) {
	a := NewAttempts()
	a.most = 1 << 20
	detail := func(i int) *core.Mismatch {
		return &core.Mismatch{Theirs: []string{fmt.Sprint(i), strings.Repeat("x", 2000)}, Hint: "a hint"}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 20000 {
		a.Note(start.Add(time.Duration(i)), core.Event{Kind: core.EvNoProposal, Peer: fmt.Sprint(i % 5000), Reason: fmt.Sprint(i), Detail: detail(i)})
		if a.bytes > a.most {
			t.Fatalf("%d bytes", a.bytes)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int(after.HeapAlloc) - int(before.HeapAlloc); grown > a.bytes {
		t.Errorf("the heap grew by %d bytes, and %d are counted", grown, a.bytes)
	}
	n, sum := 0, 0
	for i := range 5000 {
		for _, x := range a.of[fmt.Sprint(i)] {
			if n, sum = n+1, sum+x.bytes; x.event.Reason < fmt.Sprint(19000) && len(x.event.Reason) == 5 {
				t.Errorf("attempt %s is still there", x.event.Reason)
			}
		}
	}
	if n < 300 || n != a.order.Len() || sum != a.bytes || len(a.of["4999"]) != 1 || a.of["4999"][0].event.Reason != "19999" {
		t.Errorf("%d are kept of %d bytes; %d in order, %d counted", n, sum, a.order.Len(), a.bytes)
	}
}
