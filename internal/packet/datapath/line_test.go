package datapath

import (
	"net/netip"
	"testing"
	"time"

	"culvert/internal/packet/wire"
	"culvert/sad"
)

// Each line seals with the SA that it has for itself. While it has none, it shares one, and the daemon is told each second, of each SA.
func TestLinesSealWithTheirOwn(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, nil)
	g := u.left
	g.log.lines = nil
	pkt := wire.AppendEcho(nil, netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1"), false, 1, 1, make([]byte, 20))
	now := start
	send := func(line int, seals uint64) {
		t.Helper()
		before := g.sads.Child(seals).Rows(now, false)[1].Packets
		g.path.outward().line = line
		if r := g.path.SendPlain(now, pkt); r != Passed {
			t.Fatal(r)
		}
		if after := g.sads.Child(seals).Rows(now, false)[1].Packets; after != before+1 {
			t.Errorf("line %d does not seal with CHILD SA %d", line, seals)
		}
	}
	send(0, 1)
	g.log.want(t)
	send(2, 1)
	g.log.want(t, "busy 1, line 2")
	now = now.Add(BusyEvery - time.Millisecond)
	send(2, 1)
	g.log.want(t)
	now = now.Add(time.Millisecond)
	send(2, 1)
	g.log.want(t, "busy 1, line 2")

	for id, line := range map[uint64]int{2: 2, 3: 1, 4: sad.NoLine} {
		u.connect(id, 1, func(left, _ *sad.Params) { left.Line = line })
	}
	g.log.lines = nil
	now = now.Add(BusyEvery)
	send(0, 1)
	send(1, 3)
	send(2, 2)
	g.log.want(t)
	send(3, 1)
	g.log.want(t, "busy 1, line 3")
	g.sads.Remove(2)
	now = now.Add(BusyEvery)
	send(2, 1)
	g.log.want(t, "busy 1, line 2")
	if n := testing.AllocsPerRun(100, func() { g.path.SendPlain(now, pkt); g.conn.n = 0 }); n != 0 {
		t.Errorf("%v allocations for a packet of a line that shares an SA", n)
	}
}

// What a line remembers has a bound.
func TestBusyIsBounded(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.left.log.quiet = true
	w := u.left.path.outward()
	w.line = 1
	for id := range uint64(3 * maxBusy) {
		w.tellBusy(&sad.Child{ID: id}, start.UnixNano())
	}
	if len(w.busy) > maxBusy {
		t.Errorf("%d are remembered", len(w.busy))
	}
}
