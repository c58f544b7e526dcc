package simnet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
)

var (
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	left  = netip.MustParseAddrPort("192.0.2.1:500")
	right = netip.MustParseAddrPort("192.0.2.2:500")
)

// send sends numbered datagrams, one each gap, and returns what arrives, in
// order of arrival.
// What is forwarded gets in unasked, and leaves from the same port.
func TestNATForwards(t *testing.T) {
	n := NewNAT(netip.MustParseAddr("203.0.113.9"))
	inner := netip.MustParseAddrPort("10.0.0.1:500")
	n.Forward(500, inner)
	if got, ok := n.In(netip.AddrPortFrom(n.Outer(), 500)); !ok || got != inner {
		t.Errorf("port 500 leads to %v, %v", got, ok)
	}
	if got, ok := n.Out(inner); !ok || got.Port() != 500 {
		t.Errorf("%v leaves from %v, %v", inner, got, ok)
	}
}

func send(n *Network, count int, gap time.Duration) []Delivery {
	var all []Delivery
	for i := range count {
		all = append(all, n.Send(start.Add(time.Duration(i)*gap), left, right, binary.BigEndian.AppendUint32(nil, uint32(i)))...)
	}
	slices.SortStableFunc(all, func(a, b Delivery) int { return a.At.Compare(b.At) })
	return all
}

func number(d Delivery) int { return int(binary.BigEndian.Uint32(d.Data)) }

func TestPerfectLink(t *testing.T) {
	n := New(1, Link{Delay: 10 * time.Millisecond})
	data := []byte("datagram")
	ds := n.Send(start, left, right, data)
	want := []Delivery{{start.Add(10 * time.Millisecond), left, right, []byte("datagram")}}
	if !reflect.DeepEqual(ds, want) {
		t.Fatalf("%+v", ds)
	}
	data[0] = 'D'
	if !bytes.Equal(ds[0].Data, []byte("datagram")) {
		t.Error("the delivery has not its own copy")
	}
}

func TestStatistics(t *testing.T) {
	const count = 100000
	link := Link{Loss: 0.1, Dup: 0.05, Reorder: 0.02, Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond}
	ds := send(New(7, link), count, 100*time.Microsecond)
	seen := make([]int, count)
	highest, late := -1, 0
	var total time.Duration
	for _, d := range ds {
		i := number(d)
		seen[i]++
		if i < highest {
			late++
		}
		highest = max(highest, i)
		total += d.At.Sub(start.Add(time.Duration(i) * 100 * time.Microsecond))
	}
	lost, twice := 0, 0
	for _, n := range seen {
		switch n {
		case 0:
			lost++
		case 2:
			twice++
		}
	}
	near := func(what string, got int, share float64) {
		if want := share * count; float64(got) < want*0.93 || float64(got) > want*1.07 {
			t.Errorf("%s: %d, want about %.0f", what, got, want)
		}
	}
	near("lost", lost, 0.1)
	near("twice", twice, 0.9*0.05)
	near("late", late, 0.9*0.02)
	if mean := total / time.Duration(len(ds)); mean < 20*time.Millisecond || mean > 35*time.Millisecond {
		t.Errorf("mean delay %v", mean)
	}
}

func TestJitterKeepsOrder(t *testing.T) {
	ds := send(New(3, Link{Delay: time.Millisecond, Jitter: 50 * time.Millisecond, Dup: 0.1}), 5000, time.Millisecond)
	if !slices.IsSortedFunc(ds, func(a, b Delivery) int { return number(a) - number(b) }) {
		t.Error("datagrams overtook each other without Reorder")
	}
	for _, d := range ds {
		least := start.Add(time.Duration(number(d))*time.Millisecond + time.Millisecond)
		if d.At.Before(least) || d.At.After(least.Add(51*time.Millisecond)) {
			t.Fatalf("datagram %d arrives %v after it could", number(d), d.At.Sub(least))
		}
	}
}

func TestSeedDecides(t *testing.T) {
	link := Link{Loss: 0.2, Dup: 0.2, Reorder: 0.2, Delay: time.Millisecond, Jitter: time.Millisecond}
	a, b, c := send(New(5, link), 1000, time.Millisecond), send(New(5, link), 1000, time.Millisecond), send(New(6, link), 1000, time.Millisecond)
	if !reflect.DeepEqual(a, b) {
		t.Error("the same seed gave different networks")
	}
	if reflect.DeepEqual(a, c) {
		t.Error("different seeds gave the same network")
	}
	// More loss takes datagrams away and changes nothing about the others' fate.
	link.Loss, link.Jitter, link.Reorder = 0.4, 0, 0
	worse := send(New(5, link), 1000, time.Millisecond)
	arrived := map[int]bool{}
	for _, d := range a {
		arrived[number(d)] = true
	}
	for _, d := range worse {
		if !arrived[number(d)] {
			t.Fatalf("datagram %d was lost at 20 %% and arrived at 40 %%", number(d))
		}
	}
}

func TestBlackout(t *testing.T) {
	n := New(1, Link{Loss: 1})
	if ds := send(n, 1000, time.Millisecond); len(ds) != 0 {
		t.Errorf("%d datagrams came through", len(ds))
	}
	n.Link.Loss = 0
	if ds := send(n, 1000, time.Millisecond); len(ds) != 1000 {
		t.Errorf("%d of 1000 datagrams came through", len(ds))
	}
}

func TestNAT(t *testing.T) {
	outer := netip.MustParseAddr("198.51.100.1")
	nat := NewNAT(outer)
	a, b := netip.MustParseAddrPort("10.0.0.1:500"), netip.MustParseAddrPort("10.0.0.2:500")
	outA, _ := nat.Out(a)
	outB, _ := nat.Out(b)
	if outA == outB || outA.Addr() != outer || outB.Addr() != outer {
		t.Fatalf("%v and %v", outA, outB)
	}
	if again, _ := nat.Out(a); again != outA {
		t.Errorf("%v became %v, then %v", a, outA, again)
	}
	for _, c := range []struct{ outer, inner netip.AddrPort }{{outA, a}, {outB, b}} {
		if got, ok := nat.In(c.outer); !ok || got != c.inner {
			t.Errorf("%v is %v, %v", c.outer, got, ok)
		}
	}
	if got, ok := nat.In(netip.AddrPortFrom(outer, 9)); ok {
		t.Errorf("a port without mapping is %v", got)
	}
	if got, ok := nat.In(netip.AddrPortFrom(right.Addr(), outA.Port())); ok {
		t.Errorf("another address is %v", got)
	}
	nat.Flush()
	if got, ok := nat.In(outA); ok {
		t.Errorf("after Flush %v is %v", outA, got)
	}
	if moved, _ := nat.Out(a); moved == outA || moved == outB {
		t.Errorf("after Flush %v has the old port %v", a, moved)
	}
}

func TestNATFull(t *testing.T) {
	nat := NewNAT(netip.MustParseAddr("198.51.100.1"))
	inner := netip.MustParseAddr("10.0.0.1")
	ports := map[uint16]bool{}
	for i := range allPorts {
		out, ok := nat.Out(netip.AddrPortFrom(inner, uint16(i)))
		if !ok || out.Port() < firstPort || ports[out.Port()] {
			t.Fatalf("mapping %d is %v, %v", i, out, ok)
		}
		ports[out.Port()] = true
	}
	if out, ok := nat.Out(netip.AddrPortFrom(inner, 65535)); ok {
		t.Errorf("one mapping too many: %v", out)
	}
	if _, ok := nat.Out(netip.AddrPortFrom(inner, 0)); !ok {
		t.Error("a mapping that is there was refused")
	}
}

func TestBehindNAT(t *testing.T) {
	n := New(1, Link{})
	nat := NewNAT(netip.MustParseAddr("198.51.100.1"))
	n.Behind(netip.MustParsePrefix("10.0.0.0/24"), nat)
	inside, neighbour := netip.MustParseAddrPort("10.0.0.1:4500"), netip.MustParseAddrPort("10.0.0.2:4500")

	// Out: the receiver sees the box, and its answer comes back in.
	ds := n.Send(start, inside, right, nil)
	if len(ds) != 1 || ds[0].From.Addr() != nat.Outer() || ds[0].To != right {
		t.Fatalf("out: %+v", ds)
	}
	seen := ds[0].From
	if ds = n.Send(start, right, seen, nil); len(ds) != 1 || ds[0].From != right || ds[0].To != inside {
		t.Fatalf("in: %+v", ds)
	}
	// Whoever knows the port gets in, nobody else does.
	if ds = n.Send(start, left, seen, nil); len(ds) != 1 || ds[0].To != inside {
		t.Errorf("in from a stranger: %+v", ds)
	}
	if ds = n.Send(start, left, netip.AddrPortFrom(nat.Outer(), seen.Port()+1), nil); len(ds) != 0 {
		t.Errorf("in without a mapping: %+v", ds)
	}
	if ds = n.Send(start, left, inside, nil); len(ds) != 0 {
		t.Errorf("in to a private address: %+v", ds)
	}
	// Among themselves they are as they are.
	if ds = n.Send(start, inside, neighbour, nil); len(ds) != 1 || ds[0].From != inside || ds[0].To != neighbour {
		t.Errorf("inside: %+v", ds)
	}
	// A restarted box: the old port is dead, the next datagram shows the new one.
	nat.Flush()
	if ds = n.Send(start, right, seen, nil); len(ds) != 0 {
		t.Errorf("to the old port: %+v", ds)
	}
	ds = n.Send(start, inside, right, nil)
	if len(ds) != 1 || ds[0].From == seen || ds[0].From.Addr() != nat.Outer() {
		t.Fatalf("rebinding: %+v", ds)
	}
	// Two sites, each behind its box.
	far := NewNAT(netip.MustParseAddr("203.0.113.1"))
	n.Behind(netip.MustParsePrefix("10.1.0.0/24"), far)
	host := netip.MustParseAddrPort("10.1.0.9:4500")
	hole, _ := far.Out(host)
	if ds = n.Send(start, inside, hole, nil); len(ds) != 1 || ds[0].From.Addr() != nat.Outer() || ds[0].To != host {
		t.Errorf("from site to site: %+v", ds)
	}
}

func TestClock(t *testing.T) {
	c := NewClock(start)
	var ran []string
	note := func(s string) func() { return func() { ran = append(ran, s) } }
	at := func(d time.Duration) time.Time { return start.Add(d) }

	c.At(at(2*time.Second), note("b1"))
	c.At(at(time.Second), note("a"))
	c.At(at(2*time.Second), note("b2"))
	stopped := c.At(at(2*time.Second), note("never"))
	c.At(at(2*time.Second), func() {
		note("b3")()
		c.After(0, note("b5"))
		c.At(at(time.Second), note("b6")) // has passed: now
	})
	c.At(at(2*time.Second), note("b4"))
	c.At(at(3*time.Second), note("c"))
	if !stopped.Stop() || stopped.Stop() {
		t.Error("an event can be stopped once")
	}
	if n := c.Run(at(2 * time.Second)); n != 7 {
		t.Errorf("%d events", n)
	}
	if want := []string{"a", "b1", "b2", "b3", "b4", "b5", "b6"}; !slices.Equal(ran, want) {
		t.Errorf("%v, want %v", ran, want)
	}
	if next, ok := c.Next(); !ok || !next.Equal(at(3*time.Second)) || !c.Now().Equal(at(2*time.Second)) {
		t.Errorf("next %v, now %v", next, c.Now())
	}
	if n := c.Run(at(10 * time.Second)); n != 1 || !c.Now().Equal(at(10*time.Second)) {
		t.Errorf("%d events, now %v", n, c.Now())
	}
	if c.Run(at(time.Second)); !c.Now().Equal(at(10 * time.Second)) {
		t.Error("time went back")
	}
	if c.Step() {
		t.Error("a step without an event")
	}
}

func TestRunUntil(t *testing.T) {
	c := NewClock(start)
	ticks := 0
	var tick func()
	tick = func() { ticks++; c.After(time.Second, tick) }
	c.After(time.Second, tick)
	if !c.RunUntil(start.Add(time.Minute), func() bool { return ticks == 5 }) || !c.Now().Equal(start.Add(5*time.Second)) {
		t.Errorf("%d ticks at %v", ticks, c.Now())
	}
	if c.RunUntil(start.Add(time.Minute), func() bool { return false }) || ticks != 60 || !c.Now().Equal(start.Add(time.Minute)) {
		t.Errorf("%d ticks at %v", ticks, c.Now())
	}
}

// Against a stable sort, which is the specification.
func TestClockOrder(t *testing.T) {
	type event struct{ at, n int }
	random := rand.New(rand.NewPCG(1, 2))
	c := NewClock(start)
	var want, ran []event
	var timers []*Timer
	for n := range 5000 {
		e := event{random.IntN(200), n}
		want = append(want, e)
		timers = append(timers, c.At(start.Add(time.Duration(e.at)), func() {
			if got := int(c.Now().Sub(start)); got != e.at {
				t.Errorf("event for %d ran at %d", e.at, got)
			}
			ran = append(ran, e)
		}))
	}
	want = slices.DeleteFunc(want, func(e event) bool { return e.n%7 == 3 })
	for n, timer := range timers {
		if n%7 == 3 && !timer.Stop() {
			t.Fatalf("event %d cannot be stopped", n)
		}
	}
	slices.SortStableFunc(want, func(a, b event) int { return a.at - b.at })
	c.Run(start.Add(time.Second))
	if !slices.Equal(ran, want) {
		t.Error("events did not run in the order of a stable sort")
	}
}
