package view

import (
	"culvert/ike/core"
	"culvert/internal/host/guard"
	"culvert/internal/operate/control"
	"culvert/internal/packet/datapath"
)

// Counts is what a gateway has counted since it started.
type Counts struct {
	Path      func() []datapath.Counter
	QueueFull uint64                       // IKE messages that the inbox had no room for
	Unsent    uint64                       // IKE messages that the network refused
	Guard     func() (guard.Counts, error) // nil: there is no guard
	// What this host has dropped in its own queues, in front of the data path: at the sockets, and
	// on the way into the device. Nil: the system does not tell.
	SocketDrops, DeviceDrops func() uint64
	Events                   []uint64 // by core.EventKind
}

// Statistics are the rows of `statistics print`: the manual's counters, then the data path's own, those of
// the host's queues, and those of the gateway.
func (v *View) Statistics() []control.Statistic {
	var rows []control.Statistic
	for _, c := range v.Counts.Path() {
		rows = append(rows, control.Statistic{Name: c.Name, Value: c.Value})
	}
	rows = append(rows,
		control.Statistic{Name: "in-socket-drops", Value: called(v.Counts.SocketDrops)},
		control.Statistic{Name: "out-device-drops", Value: called(v.Counts.DeviceDrops)},
		control.Statistic{Name: "ike-queue-full", Value: v.Counts.QueueFull},
		control.Statistic{Name: "ike-unsent", Value: v.Counts.Unsent})
	if v.Counts.Guard != nil {
		// If the table cannot be read, its counters are shown as 0.
		n, _ := v.Counts.Guard()
		rows = append(rows, control.Statistic{Name: "guard-in", Value: n.In}, control.Statistic{Name: "guard-out", Value: n.Out})
	}
	for k, n := range v.Counts.Events {
		if name := core.EventKind(k).String(); n > 0 || name != "unknown" && name != "none" {
			rows = append(rows, control.Statistic{Name: "event-" + name, Value: n})
		}
	}
	return rows
}

// Offloads are the rows of `offload print`.
func (v *View) Offloads() []control.Offload {
	rows := make([]control.Offload, 0, len(v.Offload))
	for _, o := range v.Offload {
		rows = append(rows, control.Offload{Number: len(rows), Place: o.Place, Name: o.Name, InUse: o.InUse, Detail: o.Detail})
	}
	return rows
}

func called(f func() uint64) uint64 {
	if f == nil {
		return 0
	}
	return f()
}
