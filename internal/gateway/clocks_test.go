package gateway

import (
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"culvert/config"
	"culvert/internal/packet/underlay"
)

// The clocks are apart after a sleep, whether the monotonic clock stood still or not, and after the clock was set. What
// passes as it should, small steps, and a machine that is busy for a while are nothing.
func TestClocksApart(t *testing.T) {
	wall, ran := start, time.Duration(0)
	c := newClocks(func() (time.Time, time.Duration) { return wall, ran })
	for _, s := range []struct{ wall, ran, want time.Duration }{
		{time.Second, time.Second, 0},
		{6 * time.Minute, time.Second, 6*time.Minute - time.Second},
		{time.Second, time.Second, 0},
		{-time.Hour, time.Second, -time.Hour - time.Second},
		{5 * time.Second, time.Second, 0},
		{6 * time.Second, time.Second, 5 * time.Second},
		{20 * time.Second, 20 * time.Second, 0},
		{10 * time.Minute, 10 * time.Minute, 10 * time.Minute},
		{time.Second, time.Second, 0},
	} {
		wall, ran = wall.Add(s.wall), ran+s.ran
		if got := c.apart(); got != s.want {
			t.Errorf("wall %v, monotonic %v: %v, want %v", s.wall, s.ran, got, s.want)
		}
	}
	read := systemClocks()
	wall, ran = read()
	if now := time.Now(); now.Sub(wall).Abs() > time.Hour || ran < 0 || ran > time.Hour || wall != wall.Round(0) {
		t.Errorf("%v, %v", wall, ran)
	}
}

// A gateway that wakes up asks its peers at once whether they are there.
func TestRunAfterSleep(t *testing.T) {
	c := &cable{ends: map[netip.Addr]*underlay.Memory{}}
	var slept atomic.Int64
	read := systemClocks()
	passive := strings.Replace(site(westAddr, "102", "101"), "[[peer]]", "[[peer]]\npassive = true", 1)
	sleeps := func(o *Options) {
		edges := o.Edges
		o.Edges = func(g *config.Gateway) (Edges, error) {
			e, err := edges(g)
			e.Clocks = func() (time.Time, time.Duration) {
				wall, ran := read()
				return wall.Add(time.Duration(slept.Load())), ran
			}
			return e, err
		}
	}
	east := launch(t, c, "east", eastAddr, passive)
	west := launch(t, c, "west", westAddr, site(eastAddr, "101", "102"), sleeps)
	eventually(t, "up", func() bool { return west.up() && east.up() })
	asked := func() uint64 {
		rows, err := west.client().ActivePeers(context.Background())
		if err != nil || len(rows) != 1 {
			return 0
		}
		return rows[0].TxPackets
	}
	eventually(t, "known", func() bool { return asked() > 0 })
	before := asked()
	slept.Store(int64(time.Hour))
	eventually(t, "asked", func() bool { return asked() > before })
	if log := west.log.String(); !strings.Contains(log, "this host has slept") || !strings.Contains(log, "by=1h0m") {
		t.Error(log)
	}
	if strings.Contains(east.log.String(), "this host has slept") {
		t.Error("the other gateway has slept, too")
	}
}
