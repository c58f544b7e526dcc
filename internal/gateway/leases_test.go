package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/state/lease"
	"culvert/internal/state/store"
)

// counting counts transactions, and fails them while it is told to.
type counting struct {
	store.Memory
	updates int
	fault   error
}

func (c *counting) Update(f func(store.Tx) error) error {
	c.updates++
	if c.fault != nil {
		return c.fault
	}
	return c.Memory.Update(f)
}

// What waits is written once, and before any answer leaves; a store that fails
// is told of, and addresses are given all the same.
func TestLeasesAreWrittenTogether(t *testing.T) {
	s := &counting{}
	var answers []core.Answer
	var faults []error
	l := newLeases(func(a core.Answer) {
		if s.updates == 0 {
			t.Error("an answer left before the book was written")
		}
		answers = append(answers, a)
	}, func() []netip.Addr { return []netip.Addr{eastAddr} }, func(err error) { faults = append(faults, err) })
	if err := l.open(func() (store.Store, error) { return s, nil }, start); err != nil {
		t.Fatal(err)
	}
	l.setPools([]lease.Pool{{Name: "p", Ranges: []lease.Range{{From: netip.MustParseAddr("10.0.0.1"), To: netip.MustParseAddr("10.0.0.99")}}}})
	ask := func(i int) {
		l.ask(core.Ask{ID: core.AskID(i), SA: core.SAID(i)}, core.Lease{Pool: "p", Owner: fmt.Sprint(i), V4: true, DNS: i == 1})
	}
	for i := range 100 {
		ask(i + 1)
	}
	l.release(7)
	go l.run(func() time.Time { return start })
	l.close()
	seen := map[netip.Addr]bool{}
	for i, a := range answers {
		addrs, dns, ok := core.ParseLease(a.Data)
		switch {
		case a.ID == 100:
			if !errors.Is(a.Err, lease.ErrExhausted) {
				t.Errorf("the hundredth of 99: %v", a.Err)
			}
		case !ok || len(addrs) != 1 || seen[addrs[0]] || (len(dns) == 1) != (i == 0):
			t.Errorf("answer %d: %v, %v", a.ID, addrs, dns)
		default:
			seen[addrs[0]] = true
		}
	}
	if len(answers) != 100 || s.updates != 1 || len(faults) != 0 {
		t.Errorf("%d answers, %d transactions, faults %v", len(answers), s.updates, faults)
	}

	l = newLeases(l.answer, nil, l.failed)
	s = &counting{fault: errors.New("disk full")}
	if err := l.open(func() (store.Store, error) { return s, nil }, start); err != nil {
		t.Fatal(err)
	}
	l.setPools([]lease.Pool{{Name: "p", Ranges: []lease.Range{{From: netip.MustParseAddr("10.0.0.1"), To: netip.MustParseAddr("10.0.0.9")}}}})
	answers = nil
	ask(1)
	l.work(start, nil)
	if len(answers) != 1 || answers[0].Err != nil || len(faults) != 1 {
		t.Errorf("answers %v, faults %v", answers, faults)
	}

	// Where others share the store, one of them may give the address, too.
	shared, err := lease.Share(s, 2, start)
	if err != nil {
		t.Fatal(err)
	}
	l.book, answers = shared, nil
	l.setPools([]lease.Pool{{Name: "p", Ranges: []lease.Range{{From: netip.MustParseAddr("10.0.0.1"), To: netip.MustParseAddr("10.0.0.9")}}}})
	ask(1)
	l.work(start, nil)
	if len(answers) != 1 || !errors.Is(answers[0].Err, s.fault) || len(faults) != 2 {
		t.Errorf("shared: answers %v, faults %v", answers, faults)
	}
}

// Without a book nobody gets anything, and the question is answered.
func TestNoBook(t *testing.T) {
	var answers []core.Answer
	l := newLeases(func(a core.Answer) { answers = append(answers, a) }, nil, func(err error) { t.Error(err) })
	l.ask(core.Ask{ID: 1}, core.Lease{})
	l.release(1)
	l.setPools(nil)
	l.work(start, nil)
	if len(answers) != 1 || answers[0].Err == nil {
		t.Errorf("answers %v", answers)
	}
	if err := l.open(func() (store.Store, error) { return nil, store.ErrInUse }, start); !errors.Is(err, store.ErrInUse) {
		t.Error(err)
	}
}

// An answer leaves once.
func TestLeasesAnswerOnce(t *testing.T) {
	var ids []core.AskID
	l := newLeases(func(a core.Answer) { ids = append(ids, a.ID) }, nil, func(err error) { t.Error(err) })
	for id := range core.AskID(3) {
		l.ask(core.Ask{ID: id}, core.Lease{})
		l.work(start, nil)
	}
	if fmt.Sprint(ids) != "[0 1 2]" {
		t.Errorf("answered %v", ids)
	}
}

// Of two gateways that share the pools the one that writes later gets another address for its
// client, and answers only then.
func TestLeasesThatAnotherGatewayGave(t *testing.T) {
	var s store.Memory
	pools := []lease.Pool{{Name: "p", Ranges: []lease.Range{{From: netip.MustParseAddr("10.0.0.1"), To: netip.MustParseAddr("10.0.0.3")}}}}
	given := func(self uint64, owners ...string) (*leases, func() []core.Answer) {
		var answers []core.Answer
		l := newLeases(func(a core.Answer) { answers = append(answers, a) }, nil, func(err error) { t.Error(err) })
		book, err := lease.Share(&s, self, start)
		if err != nil {
			t.Fatal(err)
		}
		l.book = book
		l.setPools(pools)
		for i, owner := range owners {
			l.ask(core.Ask{ID: core.AskID(i), SA: core.SAID(i + 1)}, core.Lease{Pool: "p", Owner: owner, V4: true})
		}
		return l, func() []core.Answer { l.work(start, nil); return answers }
	}
	// Both have read the store before the other one has written.
	_, first := given(1, "alice")
	_, second := given(2, "bob", "carol")
	addr := func(a core.Answer) string {
		addrs, _, _ := core.ParseLease(a.Data)
		return fmt.Sprint(addrs, " ", a.Err)
	}
	if a := first(); len(a) != 1 || addr(a[0]) != "[10.0.0.1] <nil>" {
		t.Errorf("the first gateway answers %v", a)
	}
	a := second()
	if len(a) != 2 || a[0].ID != 0 || a[1].ID != 1 {
		t.Fatalf("the second gateway answers %v", a)
	}
	given1, given2 := addr(a[0]), addr(a[1])
	if given1+given2 != "[10.0.0.2] <nil>[10.0.0.3] <nil>" && given1+given2 != "[10.0.0.3] <nil>[10.0.0.2] <nil>" {
		t.Errorf("the second gateway gives %s and %s", given1, given2)
	}
}
