package gateway

import (
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/testing/simnet"
)

// A rekey is one event, which names both SAs. That the old SA ends then is no event: monitors would take it for a
// tunnel that is down. So each IKE SA and each CHILD SA that was announced ends by one event: rekeyed, or down.
func TestRekeyedIsNotDown(t *testing.T) {
	for _, c := range []struct {
		name         string
		west, east   []core.CommandKind // begun at the same time
		then         []core.CommandKind // of the west, as soon as something was rekeyed
		ikeDown      int
		childrenDown int
	}{
		{"IKE SA", []core.CommandKind{core.RekeyIKE}, nil, nil, 0, 0},
		{"IKE SA, by both", []core.CommandKind{core.RekeyIKE}, []core.CommandKind{core.RekeyIKE}, nil, 0, 0},
		{"CHILD SAs", []core.CommandKind{core.RekeyChildren}, nil, nil, 0, 0},
		{"CHILD SAs, by both", []core.CommandKind{core.RekeyChildren}, []core.CommandKind{core.RekeyChildren}, nil, 0, 0},
		{"all, by both", []core.CommandKind{core.RekeyIKE, core.RekeyChildren}, []core.CommandKind{core.RekeyChildren, core.RekeyIKE}, nil, 0, 0},
		{"CHILD SAs, and disconnected", []core.CommandKind{core.RekeyChildren}, nil, []core.CommandKind{core.Shutdown}, 1, 2},
		{"IKE SA, and disconnected", []core.CommandKind{core.RekeyIKE}, nil, []core.CommandKind{core.Shutdown}, 1, 2},
	} {
		w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
		w.up()
		for _, do := range c.west {
			w.west.input(core.Command{Do: do})
		}
		for _, do := range c.east {
			w.east.input(core.Command{Do: do})
		}
		nodes := []*node{w.west, w.east}
		w.until("rekeyed", func() bool {
			return !slices.ContainsFunc(nodes, func(n *node) bool { return n.count(core.EvIKERekeyed)+n.count(core.EvChildRekeyed) == 0 })
		})
		for _, do := range c.then {
			w.west.input(core.Command{Do: do})
		}
		w.run(2 * time.Minute)
		for _, n := range nodes {
			if n.count(core.EvNotify) > 0 { // a collision is no fault: the peer is asked again, and it succeeds
				t.Errorf("%s: %v: warned of:\n%s", c.name, n.addr, strings.Join(kinds(n.events), "\n"))
			}
			if n.count(core.EvIKEDown) != c.ikeDown || n.count(core.EvChildDown) != c.childrenDown {
				t.Errorf("%s: %v: %d and %d are down:\n%s", c.name, n.addr, n.count(core.EvIKEDown), n.count(core.EvChildDown), strings.Join(kinds(n.events), "\n"))
			}
			for _, e := range n.events {
				if e.Kind == core.EvChildDown && slices.ContainsFunc(n.events, func(r core.Event) bool { return r.Kind == core.EvChildRekeyed && r.OldC == e.Child }) {
					t.Errorf("%s: %v: CHILD SA %d was rekeyed, and is down", c.name, n.addr, e.Child)
				}
			}
		}
	}
}
