package gateway

import (
	"time"

	"culvert/ike/core"
)

// A host that sleeps does not run, and the monotonic clock, by which all timers go, stands still on most systems. What the
// peers have given up meanwhile is not known. The endpoint has no clock: it is told (core.Woke).

const (
	// clocksEvery is how often the clocks are compared.
	clocksEvery = time.Second
	// clocksApart is by how much they move apart before it counts: a daemon that sets the clock moves it in small steps.
	clocksApart = 5 * time.Second
	// clocksLate: where the monotonic clock goes on during sleep, so much time has passed since the last comparison.
	clocksLate = 30 * time.Second
)

// clocks compares the wall clock with the monotonic clock.
type clocks struct {
	read func() (wall time.Time, running time.Duration)
	wall time.Time // at the last comparison
	ran  time.Duration
}

// systemClocks are those of the system: running is the monotonic clock, from any beginning.
func systemClocks() func() (wall time.Time, running time.Duration) {
	begun := time.Now()
	return func() (time.Time, time.Duration) {
		now := time.Now()
		return now.Round(0), now.Sub(begun)
	}
}

func newClocks(read func() (time.Time, time.Duration)) *clocks {
	if read == nil {
		read = systemClocks()
	}
	c := &clocks{read: read}
	c.wall, c.ran = read()
	return c
}

// apart is how far the clocks have moved apart since the last call, or how late the call is; 0: nothing worth telling.
func (c *clocks) apart() time.Duration {
	wall, ran := c.read()
	passed := ran - c.ran
	by := wall.Sub(c.wall) - passed
	c.wall, c.ran = wall, ran
	switch {
	case by.Abs() >= clocksApart:
		return by
	case passed >= clocksLate:
		return passed
	}
	return 0
}

// compareClocks tells the endpoint when this host has slept.
func (g *gateway) compareClocks() {
	if by := g.clocks.apart(); by != 0 {
		g.log.Info("this host has slept, or its clock was set: the peers are asked whether they are there", "by", by.Round(time.Second))
		g.plane.Input(time.Now(), core.Woke{Apart: by})
	}
}
