package view

import (
	"slices"
	"testing"

	"culvert/internal/operate/control"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/wire"
)

// Each offload of the device and the sockets is a row.
func TestOffloadRows(t *testing.T) {
	v := &View{}
	if rows := v.Offloads(); rows == nil || len(rows) > 0 {
		t.Errorf("of none: %#v", rows)
	}
	v.Offload = []wire.Offload{{Place: "culvert0", Name: "read-tcp-joined", InUse: true, Detail: "as one"}, {Place: "192.0.2.1:4500", Name: "send-udp-joined", Detail: "each for itself"}}
	want := []control.Offload{{Place: "culvert0", Name: "read-tcp-joined", InUse: true, Detail: "as one"}, {Number: 1, Place: "192.0.2.1:4500", Name: "send-udp-joined", Detail: "each for itself"}}
	if rows := v.Offloads(); !slices.Equal(rows, want) {
		t.Errorf("%+v", rows)
	}
}

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
