package datapath

import (
	"testing"

	"culvert/internal/packet/underlay"
	"culvert/spd"
)

// In a crowd every packet still goes by the SA of its own, and what is no packet of any
// SA counts once.
func TestCrowdedLines(t *testing.T) {
	c := newThrong(t, 5000)
	if !c.sads.Crowded() {
		t.Fatal("5000 SAs are no crowd")
	}
	c.rounds = 1
	var m least
	for _, run := range []int{1, 3} {
		c.measure(t, run, &m)
	}
	count := func(r Reason) uint64 { return c.path.Counters().Get(r) }
	for i := range c.packets { // replays, another SPI, what is too short
		p := &c.packets[i]
		p.Off, p.Len = underlay.Headroom, copy(p.Buf[underlay.Headroom:], c.kept[i])
		switch i % 4 {
		case 1:
			p.Buf[p.Off]++
		case 2:
			p.Len = 3
		case 3:
			p.Kind = underlay.Keepalive
		}
	}
	before := []uint64{count(InStateSequenceErrors), count(InNoStates), count(InHeaderErrors)}
	c.in.batch(c.now, c.packets)
	for i, r := range []Reason{InStateSequenceErrors, InNoStates, InHeaderErrors} {
		if got := count(r) - before[i]; got != throngBatch/4 {
			t.Errorf("%v counted %d of %d packets", r, got, throngBatch/4)
		}
	}
	c.pols.Replace([]spd.Policy{{Action: spd.Discard, Pair: pair("20.0.0.0/8", "20.0.0.0/8")}})
	for i := range c.out.bufs {
		c.out.sizes[i] = copy(c.out.bufs[i][underlay.Headroom:], c.plain)
		if i%2 == 0 {
			c.out.sizes[i] = 9
		}
	}
	c.out.batch(c.now, throngBatch)
	if a, b := count(OutPolicyBlocked), count(OutErrors); a != throngBatch/2 || b != throngBatch/2 {
		t.Errorf("%d discarded, %d no packets, of %d", a, b, throngBatch)
	}
}
