package view

import (
	"testing"

	"culvert/internal/packet/datapath"
)

// What the host has dropped in its own queues is among the counters, and 0 where the system
// does not tell.
func TestStatisticsOfTheHostsQueues(t *testing.T) {
	v := &View{Counts: Counts{Path: func() []datapath.Counter { return nil }}}
	for _, want := range []map[string]uint64{{"in-socket-drops": 0, "out-device-drops": 0}, {"in-socket-drops": 7, "out-device-drops": 9}} {
		got := map[string]uint64{}
		for _, row := range v.Statistics() {
			got[row.Name] = row.Value
		}
		for name, n := range want {
			if value, ok := got[name]; !ok || value != n {
				t.Errorf("%s: %d (%v), not %d", name, value, ok, n)
			}
		}
		v.Counts.SocketDrops, v.Counts.DeviceDrops = func() uint64 { return 7 }, func() uint64 { return 9 }
	}
}
