package core

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/secret"
)

var start = time.Unix(1000, 0)

// Timers run in order of time, and of setting among equals; what is stopped does
// not run; what is set while they run and is due runs too.
func TestTimers(t *testing.T) {
	type due struct{ at, order int }
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		var ts Timers
		var want, got []due
		var all []*Timer
		for i := range 50 {
			d := due{rng.IntN(10), i}
			all = append(all, ts.At(start.Add(time.Duration(d.at)*time.Second), func() { got = append(got, d) }))
			want = append(want, d)
		}
		var kept []due
		for i, tm := range all {
			if rng.IntN(3) == 0 {
				ts.Stop(tm)
				ts.Stop(tm)
			} else if want[i].at <= 7 {
				kept = append(kept, want[i])
			}
		}
		slices.SortFunc(kept, func(a, b due) int { return 1000*(a.at-b.at) + a.order - b.order })
		ts.Run(start.Add(7 * time.Second))
		if !slices.Equal(got, kept) {
			t.Fatalf("ran %v, want %v", got, kept)
		}
		if at, ok := ts.Next(); ok && at.Before(start.Add(8*time.Second)) {
			t.Fatalf("the next is due at %v", at)
		}
	}
	var ts Timers
	ran := 0
	var again func()
	again = func() {
		if ran++; ran < 3 {
			ts.At(start, again)
		}
	}
	ts.At(start, again)
	ts.Run(start)
	if ran != 3 {
		t.Errorf("%d runs", ran)
	}
	if _, ok := ts.Next(); ok {
		t.Error("something is left")
	}
	ts.Stop(nil)
}

// A timer that another one stops at the same instant does not run.
func TestTimerStopsTimer(t *testing.T) {
	var ts Timers
	var b *Timer
	ts.At(start, func() { ts.Stop(b) })
	b = ts.At(start, func() { t.Error("it ran") })
	ts.Run(start)
}

func TestBackoff(t *testing.T) {
	var total time.Duration
	var waits []string
	for n := range Tries {
		total += RetransmitWait(n)
		waits = append(waits, RetransmitWait(n).String())
	}
	if got := strings.Join(waits[:6], " "); got != "500ms 1s 2s 4s 8s 8s" || total != 71500*time.Millisecond {
		t.Errorf("%s, %v in all", got, total)
	}
	if RetryWait(0) != time.Second || RetryWait(5) != 32*time.Second || RetryWait(6) != time.Minute || RetryWait(1<<30) != time.Minute {
		t.Error("retries are 1 s, doubling, at most a minute")
	}
}

func TestIDStrings(t *testing.T) {
	a4, a6 := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::1")
	tests := []struct {
		id   ID
		want string
	}{
		{ID{}, "auto"},
		{ID{IDIPv4, string(a4.AsSlice())}, "address:192.0.2.7"},
		{ID{IDIPv6, string(a6.AsSlice())}, "address:2001:db8::1"},
		{ID{IDIPv4, "abc"}, "type-1:616263"},
		{ID{IDFQDN, "gw.example.net"}, "fqdn:gw.example.net"},
		{ID{IDUser, "joe@example.net"}, "user-fqdn:joe@example.net"},
		{ID{IDKeyID, "\x1b[31m\x00"}, `key-id:#1b5b33316d00`},
		{ID{IDDN, "\x30\x00"}, "dn:#3000"},
		{ID{77, "x"}, "type-77:78"},
	}
	for _, c := range tests {
		if got := c.id.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestEnv(t *testing.T) {
	e := NewEnv([32]byte{1})
	e.SetNow(start)
	e.SetNow(start.Add(-time.Hour))
	if !e.Now().Equal(start) {
		t.Error("time went back")
	}
	// An SPI that an SA has is not drawn again.
	first := NewEnv([32]byte{2}).RandomSPI()
	f := NewEnv([32]byte{2})
	f.Taken = func(spi uint64) bool { return spi == first }
	if f.RandomSPI() == first {
		t.Error("an SPI that is taken")
	}
	// The stock is filled when half of it is gone, and asked for once.
	e.Stock()
	e.Stock()
	o, _ := e.Poll()
	if n, ok := o.(NeedSPIs); !ok || n.N != spiStock {
		t.Errorf("%+v", o)
	}
	if o, ok := e.Poll(); ok {
		t.Errorf("asked twice: %+v", o)
	}
	if _, ok := e.TakeSPI(); ok {
		t.Error("an SPI from nowhere")
	}
	e.AddSPIs([]uint32{256, 257})
	for _, want := range []uint32{256, 257} {
		if spi, ok := e.TakeSPI(); !ok || spi != want {
			t.Errorf("SPI %d, want %d", spi, want)
		}
	}
	// An answer is given once; what nobody asked for is dropped and wiped.
	n := 0
	for {
		if _, ok := e.Poll(); !ok {
			break
		}
	}
	e.Ask(3, SourceFor{}, func(b secret.Bytes, err error) { n++ })
	ask, _ := e.Poll()
	late := secret.Bytes("late")
	e.Answered(Answer{ID: ask.(Ask).ID})
	e.Answered(Answer{ID: ask.(Ask).ID, Data: late})
	if n != 1 || late[0] != 0 {
		t.Errorf("answered %d times, the late answer is %x", n, []byte(late))
	}
	if j := e.Jitter(0); j != 0 {
		t.Errorf("jitter %v", j)
	}
	for range 100 {
		if j := e.Jitter(time.Second); j < 0 || j >= time.Second {
			t.Fatalf("jitter %v", j)
		}
	}
}
