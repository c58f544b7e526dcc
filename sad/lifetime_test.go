package sad

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestByteLimitsAreExact(t *testing.T) {
	now := start.UnixNano()
	for _, half := range []string{"in", "out"} {
		t.Run(half, func(t *testing.T) {
			table := NewTable(4, 3)
			p := params(t, table, 1)
			p.SoftBytes, p.HardBytes = 1000, 2000
			c := install(t, table, p)
			spend, limited := c.Outbound().Spend, c.Outbound().Limited()
			if half == "in" {
				spend, limited = c.Inbound().Spend, c.Inbound().Limited()
				c.once(FirstUsed)
				c.heard.Store(now)
				c.TakeEvents()
			}
			if !limited {
				t.Fatal("not limited")
			}
			for i, step := range []struct {
				bytes  int
				ok     bool
				events Events
				state  string
			}{
				{999, true, 0, StateMature},
				{1, true, SoftExpired, StateDying},
				{999, true, 0, StateDying},
				{500, true, HardExpired, StateDead}, // 1999 had passed before
				{1, false, 0, StateDead},
			} {
				if ok := spend(1, step.bytes, now); ok != step.ok {
					t.Fatalf("step %d: %v", i, ok)
				}
				if ev := c.TakeEvents(); ev != step.events {
					t.Fatalf("step %d: events %b, want %b", i, ev, step.events)
				}
				if s := c.State(start); s != step.state {
					t.Fatalf("step %d: %s, want %s", i, s, step.state)
				}
			}
			if !c.Inbound().Expired(now) || !c.Outbound().Expired(now) {
				t.Fatal("a half goes on after the hard limit")
			}
			rows := c.Rows(start, false)
			row := rows[1]
			if half == "in" {
				row = rows[0]
			}
			if row.Bytes != 2499 || row.Packets != 4 || row.LastUse != time.Unix(0, now) {
				t.Fatalf("%d bytes in %d packets, last %v", row.Bytes, row.Packets, row.LastUse)
			}
		})
	}
}

// TestRekeyBeforeAFastSAEnds sends at a rate of so many seconds for the whole of the hard limit, and
// looks when the SA asks for its successor.
func TestRekeyBeforeAFastSAEnds(t *testing.T) {
	const soft, hard, packet = 800_000, 1_000_000, 1000
	for name, tc := range map[string]struct {
		idle, life time.Duration // before the first packet; from the first to the hard limit
		manual     bool
		at         int // bytes
	}{
		"a second":             {life: time.Second, at: 500_000},
		"ten seconds":          {life: 10 * time.Second, at: 500_000},
		"after a silent hour":  {idle: time.Hour, life: time.Second, at: 500_000},
		"25 seconds":           {life: 25 * time.Second, at: 650_000}, // 350 kB then take less than 10 s
		"an hour":              {life: time.Hour, at: soft},
		"keys given by people": {life: time.Second, manual: true, at: soft},
	} {
		for _, half := range []string{"in", "out"} {
			t.Run(name+", "+half, func(t *testing.T) {
				table := NewTable(4, 3)
				p := params(t, table, 1)
				p.SoftBytes, p.HardBytes = soft, hard
				c := install(t, table, p)
				if tc.manual {
					c.manual = true
					c.in.usage.init(c)
					c.out.usage.init(c)
				}
				spend := c.Outbound().Spend
				if half == "in" {
					spend = c.Inbound().Spend
				}
				now := start.Add(tc.idle)
				for bytes := packet; bytes <= hard; bytes += packet {
					now = now.Add(tc.life * packet / hard)
					if !spend(1, packet, now.UnixNano()) {
						t.Fatalf("the SA ended after %d bytes", bytes)
					}
					if c.TakeEvents()&SoftExpired != 0 {
						if bytes != tc.at {
							t.Fatalf("a successor was asked for after %d bytes, want %d", bytes, tc.at)
						}
						return
					}
				}
				t.Fatal("no successor was asked for")
			})
		}
	}
}

// One packet size divides the limit, so that however many spend at once, exactly
// as many packets pass and each event comes once.
func TestByteLimitsWithManySpenders(t *testing.T) {
	table := NewTable(4, 3)
	p := params(t, table, 1)
	p.SoftBytes, p.HardBytes = 50_000, 100_000
	c := install(t, table, p)
	var (
		wg                 sync.WaitGroup
		mu                 sync.Mutex
		passed, soft, hard int
	)
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				ok := c.Outbound().Spend(1, 100, 1)
				ev := c.TakeEvents()
				mu.Lock()
				if ok {
					passed++
				}
				if ev&SoftExpired != 0 {
					soft++
				}
				if ev&HardExpired != 0 {
					hard++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if passed != 1000 || soft != 1 || hard != 1 {
		t.Fatalf("%d packets, %d soft, %d hard; want 1000, 1, 1", passed, soft, hard)
	}
}

func TestTimeLimits(t *testing.T) {
	table := NewTable(4, 3)
	p := params(t, table, 1)
	p.Soft, p.Hard = 24*time.Minute, 30*time.Minute
	c := install(t, table, p)
	for _, s := range []struct {
		age     time.Duration
		state   string
		expires time.Duration
		expired bool
		events  Events
	}{
		{0, StateMature, 24 * time.Minute, false, 0},
		{24*time.Minute - 1, StateMature, 1, false, 0},
		{24 * time.Minute, StateDying, 6 * time.Minute, false, 0},
		{30*time.Minute - 1, StateDying, 1, false, 0},
		{30 * time.Minute, StateDead, 0, true, HardExpired},
		{31 * time.Minute, StateDead, 0, true, 0},
	} {
		now := start.Add(s.age)
		if c.Outbound().Expired(now.UnixNano()) != s.expired || c.Inbound().Expired(now.UnixNano()) != s.expired {
			t.Errorf("%v: expired is not %v", s.age, s.expired)
		}
		if got := c.State(now); got != s.state {
			t.Errorf("%v: %s, want %s", s.age, got, s.state)
		}
		if got := c.Rows(now, false)[0].ExpiresIn; got != s.expires {
			t.Errorf("%v: expires in %v, want %v", s.age, got, s.expires)
		}
		if ev := c.TakeEvents(); ev != s.events {
			t.Errorf("%v: events %b, want %b", s.age, ev, s.events)
		}
	}
}

func TestSequenceNumbersEnd(t *testing.T) {
	for _, esn := range []bool{false, true} {
		table := NewTable(4, 3)
		p := params(t, table, 1)
		p.Out.ESN = esn
		c := install(t, table, p)
		o := c.Outbound()
		if first, ok := o.Reserve(5); !ok || first != 1 {
			t.Fatal("the first number is 1")
		}
		if first, ok := o.Reserve(1); !ok || first != 6 {
			t.Fatal("the numbers after a run")
		}
		o.sequence.Store(o.limit - o.limit>>4 - 2)
		if _, ok := o.Reserve(1); !ok || c.TakeEvents() != 0 {
			t.Fatal("soft too early")
		}
		if _, ok := o.Reserve(4); !ok || c.TakeEvents() != SoftExpired {
			t.Fatal("no soft event near the end")
		}
		if _, ok := o.Reserve(4); !ok || c.TakeEvents() != 0 {
			t.Fatal("a second soft event")
		}
		o.sequence.Store(o.limit - 3)
		if _, ok := o.Reserve(4); ok || c.TakeEvents() != HardExpired {
			t.Fatal("a run over the end")
		}
		for range 10 {
			if first, ok := o.Reserve(1 << 20); ok {
				t.Fatalf("number %#x after the end", first)
			}
		}
		o.sequence.Store(o.limit - 3)
		if first, ok := o.Reserve(3); !ok || first != o.limit-2 {
			t.Fatal("the last numbers")
		}
		if c.Inbound().Expired(start.UnixNano()) {
			t.Fatal("our numbers end the peer's half")
		}
	}
}

func TestReserveManyAtOnce(t *testing.T) {
	table := NewTable(4, 3)
	o := install(t, table, params(t, table, 1)).Outbound()
	const last = 1<<32 - 1
	o.sequence.Store(last - 20000)
	taken := make([]bool, 20000)
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for i := range 8 {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		wg.Go(func() {
			for {
				n := rng.IntN(7) + 1
				first, ok := o.Reserve(n)
				if !ok {
					return
				}
				mu.Lock()
				for seq := first; seq < first+uint64(n); seq++ {
					if seq > last || taken[seq-(last-19999)] {
						t.Errorf("number %#x given out twice or too high", seq)
					}
					taken[seq-(last-19999)] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestPeerIsHeard(t *testing.T) {
	table := NewTable(4, 3)
	c := install(t, table, params(t, table, 1))
	now := start.UnixNano()
	for i, s := range []struct {
		after  time.Duration
		events Events
	}{
		{0, FirstUsed | WasHeard}, {time.Millisecond, 0}, {HeardEvery - 1, 0}, {HeardEvery, WasHeard}, {HeardEvery + 1, 0}, {5 * HeardEvery, WasHeard},
	} {
		c.Inbound().Spend(3, 300, now+int64(s.after))
		if ev := c.TakeEvents(); ev != s.events {
			t.Errorf("step %d: events %b, want %b", i, ev, s.events)
		}
	}
}

func TestRows(t *testing.T) {
	table := NewTable(4, 3)
	p := params(t, table, 1)
	p.ReplayWindow, p.Out.ESN = 1, true
	c := install(t, table, p)
	rows := c.Rows(start, true)
	in, out := rows[0], rows[1]
	if !in.Inbound || out.Inbound || in.SPI != p.In.SPI || out.SPI != p.Out.SPI || in.ESN || !out.ESN {
		t.Errorf("%+v", rows)
	}
	if in.Src != p.Remote || in.Dst != p.Local || out.Src != p.Local || out.Dst != p.Remote {
		t.Error("addresses")
	}
	if in.Replay != MinReplayWindow || out.Replay != 0 || in.Encr.SAName != "aes-gcm" || in.Integ != nil {
		t.Error("algorithms and window")
	}
	if !in.EncKey.Equal(p.In.EncKey) || &in.EncKey[0] == &p.In.EncKey[0] || !out.EncKey.Equal(p.Out.EncKey) {
		t.Error("keys are not copies of the SA's")
	}
	if c.Rows(start, false)[0].EncKey != nil {
		t.Error("keys that nobody asked for")
	}
}
