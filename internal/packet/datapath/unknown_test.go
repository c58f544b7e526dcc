package datapath

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
)

// strange is ESP of n bytes for an SPI that no SA has.
func strange(spi uint32, n int, from netip.AddrPort, natt bool) *underlay.Packet {
	p := datagram(append(binary.BigEndian.AppendUint32(nil, spi), make([]byte, n-4)...))
	p.Kind, p.NATT, p.Remote = underlay.ESP, natt, from
	return p
}

// A packet whose SPI no SA has is told of, with the CHILD SA that there is between the two ends.
func TestUnknownSPI(t *testing.T) {
	other := netip.MustParseAddrPort("198.51.100.7:4500")
	for name, c := range map[string]struct {
		from  netip.AddrPort
		natt  bool
		n     int
		child uint64
		not   bool
	}{
		"from an SA's end":                         {leftAddr, true, 100, 1, false},
		"from its address without UDP":             {netip.AddrPortFrom(leftAddr.Addr(), 0), false, 100, 1, false},
		"from another port of its address":         {netip.AddrPortFrom(leftAddr.Addr(), 4501), true, 100, 0, false},
		"from elsewhere":                           {other, true, 100, 0, false},
		"as long as what answers it, in UDP":       {other, true, 44, 0, false},
		"as long as what answers it, without UDP":  {other, false, 48, 0, false},
		"shorter than what answers it, in UDP":     {other, true, 43, 0, true},
		"shorter than what answers it without UDP": {other, false, 47, 0, true},
	} {
		u := newTunnel(t, ciphers[0])
		u.connect(1, 1, nil)
		u.right.log.unknown = nil
		if r := u.right.path.Receive(start, strange(0xabcdef12, c.n, c.from, c.natt)); r != InNoStates {
			t.Errorf("%s: %v", name, r)
		}
		want := []Unknown{{rightAddr, c.from, c.natt, 0xabcdef12, c.child}}
		if c.not {
			want = nil
		}
		if !slices.Equal(u.right.log.unknown, want) {
			t.Errorf("%s: %+v, want %+v", name, u.right.log.unknown, want)
		}
	}
}

// An SPI that is given out is not told of; nor is one of an SA with manual keys for its end.
func TestUnknownSPIWithManualKeys(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, func(l, r *sad.Params) { byHand(true)(l, r) })
	u.right.log.unknown = nil
	u.right.path.Receive(start, strange(77777, 100, leftAddr, true))
	if got := u.right.log.unknown; len(got) != 1 || got[0].Child != 0 {
		t.Errorf("%+v", got)
	}
	u.right.path.Receive(start.Add(time.Hour), strange(u.right.sads.AllocSPIs(1)[0], 100, leftAddr, true))
	if len(u.right.log.unknown) != 1 {
		t.Error("an SPI that is given out is told of")
	}
}

// Few of them are told of: in all, and of each address; and none costs memory.
func TestUnknownSPIsAreBounded(t *testing.T) {
	g := newGateway()
	count := func(d time.Duration, from func(i int) netip.Addr) int {
		g.log.unknown = nil
		for i := range 2000 {
			now := start.Add(d + time.Duration(i)*time.Second/2000)
			if r := g.path.Receive(now, strange(77, 100, netip.AddrPortFrom(from(i), 4500), true)); r != InNoStates {
				t.Fatal(r)
			}
		}
		return len(g.log.unknown)
	}
	one := netip.MustParseAddr("198.51.100.7")
	if n := count(0, func(int) netip.Addr { return one }); n != 4 {
		t.Errorf("%d of one address in a second", n)
	}
	all := count(2*time.Second, func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}) })
	if all != unknownMost {
		t.Errorf("%d in a second", all)
	}
	six := count(4*time.Second, func(i int) netip.Addr {
		return netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 14: byte(i >> 8), 15: byte(i)})
	})
	if six != unknownMost {
		t.Errorf("%d in a second, over IPv6", six)
	}
	g.log.quiet, g.log.unknown = true, make([]Unknown, 0, 101)
	w := newInWorker(g.path, g.path.edges(), 1)
	p := strange(77, 100, leftAddr, true)
	now := start.Add(10 * time.Second)
	if n := testing.AllocsPerRun(100, func() { now = now.Add(unknownEvery); w.unknown(p, 77, now.UnixNano()) }); n != 0 || len(g.log.unknown) != 101 {
		t.Errorf("%v allocations for %d that were told of", n, len(g.log.unknown))
	}
}

// watched gives the left an SA that is watched.
func watched(u *tunnel) { u.connect(1, 1, func(l, _ *sad.Params) { l.Watched = true }) }

// Packets leave and nothing comes: that is told, once in 10 s, from the counters that there are. Packets that are answered,
// a single one, and SAs that are not watched are not told of. A gateway that sends nothing looks at nothing.
func TestSilent(t *testing.T) {
	pkt := udp("10.1.0.1", "10.2.0.1", 100)
	for _, c := range []struct {
		name  string
		setup func(u *tunnel)
		gap   time.Duration
		n     int
		back  bool
		want  []time.Duration // the first ones
	}{
		{"a packet each second", watched, time.Second, 30, false, []time.Duration{1500 * time.Millisecond, 11500 * time.Millisecond, 21500 * time.Millisecond}},
		{"five in a second", watched, 200 * time.Millisecond, 100, false, []time.Duration{1500 * time.Millisecond, 11500 * time.Millisecond}},
		{"a single one", watched, time.Minute, 1, false, nil},
		{"answered", watched, 200 * time.Millisecond, 100, true, nil},
		{"not watched", func(u *tunnel) { u.connect(1, 1, nil) }, 200 * time.Millisecond, 100, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newTunnel(t, ciphers[0])
			c.setup(u)
			g := u.left
			var at []time.Duration
			tick := func(until time.Time) {
				for due, ok := g.path.GiveUpAt(); ok && !due.After(until); due, ok = g.path.GiveUpAt() {
					g.log.lines = nil
					if !g.path.GiveUp(due) {
						t.Fatal("nothing was due")
					}
					if slices.Contains(g.log.lines, "silent 1") {
						at = append(at, due.Sub(start))
					}
				}
			}
			for i := range c.n {
				now := start.Add(time.Duration(i) * c.gap)
				tick(now)
				if r := g.path.SendPlain(now, pkt); r != Passed {
					t.Fatal(r)
				}
				if c.back {
					g.sads.Child(1).Inbound().Spend(1, 20, now.Add(50*time.Millisecond).UnixNano())
				}
			}
			tick(start.Add(time.Hour))
			if fmt.Sprint(at) != fmt.Sprint(c.want) {
				t.Errorf("told at %v, want %v", at, c.want)
			}
			if due, ok := g.path.GiveUpAt(); ok {
				t.Errorf("it looks again at %v", due)
			}
		})
	}
}

// To be looked at is asked for once, when packets begin to leave; and a packet costs no memory.
func TestSilentAsksToBeLookedAt(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	watched(u)
	g := u.left
	pkt := wire.AppendEcho(nil, netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1"), false, 1, 1, make([]byte, 20))
	g.log.lines = nil
	for i := range 5 {
		g.path.SendPlain(start.Add(time.Duration(i)*time.Millisecond), pkt)
	}
	g.log.want(t, "waits")
	g.path.GiveUp(start.Add(time.Second))
	g.path.SendPlain(start.Add(time.Second), pkt)
	g.log.want(t) // it was busy, so it is looked at anyway
	if n := testing.AllocsPerRun(100, func() { g.path.looks.begin(g.path, start.UnixNano()) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	g.sads.Remove(1)
	if g.sads.Watching() {
		t.Error("an SA that is gone is watched")
	}
}
