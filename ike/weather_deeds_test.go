package ike

import (
	"net/netip"
	"slices"
	"time"

	"culvert/ike/core"
)

// deed is one thing that may happen.
type deed struct {
	name   string
	weight int
	can    func(*weather) bool // nil: always
	do     func(*weather)
}

func (w *weather) deed() *deed {
	all, deeds := 0, slices.Concat(deeds, w.more)
	for _, d := range deeds {
		if d.can == nil || d.can(w) {
			all += d.weight
		}
	}
	at := w.IntN(all)
	for i, d := range deeds {
		if d.can != nil && !d.can(w) {
			continue
		}
		if at -= d.weight; at < 0 {
			return &deeds[i]
		}
	}
	panic("not reached")
}

var deeds = []deed{
	{"one end rekeys the CHILD SAs", 4, nil, func(w *weather) { w.someone().in(core.Command{Do: core.RekeyChildren}) }},
	{"both ends rekey the CHILD SAs in one instant", 6, nil, func(w *weather) { w.atBoth(core.RekeyChildren) }},
	{"one end rekeys the IKE SA", 4, nil, func(w *weather) { w.someone().in(core.Command{Do: core.RekeyIKE}) }},
	{"both ends rekey the IKE SA in one instant", 6, nil, func(w *weather) { w.atBoth(core.RekeyIKE) }},
	{"one end rekeys the IKE SA, the other the CHILD SAs", 6, nil, func(w *weather) {
		i := w.IntN(2)
		w.sides[i].in(core.Command{Do: core.RekeyIKE})
		w.pause()
		w.sides[1-i].in(core.Command{Do: core.RekeyChildren})
	}},
	{"a CHILD SA reaches its soft limit of bytes", 3, nil, func(w *weather) {
		if s := w.someone(); len(s.order) > 0 {
			s.in(core.Expire{Child: s.order[w.IntN(len(s.order))]})
		}
	}},
	{"a CHILD SA reaches its hard limit of bytes", 1, nil, func(w *weather) {
		if s := w.someone(); len(s.order) > 0 {
			child := s.order[w.IntN(len(s.order))]
			w.doom(s, child)
			s.in(core.Expire{Child: child, Hard: true})
		}
	}},
	{"one end deletes the CHILD SAs", 2, nil, func(w *weather) {
		w.command(w.someone(), core.FlushSAs)
	}},
	{"both ends delete the CHILD SAs in one instant", 2, nil, func(w *weather) {
		w.atBoth(core.FlushSAs)
	}},
	{"one end deletes the IKE SA", 2, nil, func(w *weather) {
		w.command(w.someone(), core.KillAll)
	}},
	{"both ends delete the IKE SA in one instant", 2, nil, func(w *weather) {
		w.atBoth(core.KillAll)
	}},
	{"one end is restarted", 3, nil, func(w *weather) { w.restart(w.someone()) }},
	{"both ends are restarted", 1, nil, func(w *weather) {
		w.restart(w.a)
		w.pause()
		w.restart(w.b)
	}},
	{"nothing arrives for less than a minute", 4, nil, func(w *weather) { w.partition(w.between(time.Second, 55*time.Second)) }},
	{"nothing arrives for longer than requests are repeated", 2, nil, func(w *weather) {
		w.disturbed = true
		w.partition(w.between(80*time.Second, 6*time.Minute))
	}},
	{"a rekey begins and nothing arrives for longer than requests are repeated", 2, nil, func(w *weather) {
		w.disturbed = true
		w.atBoth([]core.CommandKind{core.RekeyChildren, core.RekeyIKE, core.FlushSAs, core.KillAll}[w.IntN(4)])
		w.pause()
		w.partition(w.between(80*time.Second, 3*time.Minute))
	}},
	{"half of all is lost for half a minute", 4, nil, func(w *weather) {
		was := w.net.Link.Loss
		w.net.Link.Loss = 0.5
		w.someone().in(core.Command{Do: []core.CommandKind{core.RekeyChildren, core.RekeyIKE}[w.IntN(2)]})
		w.traffic(30 * time.Second)
		w.net.Link.Loss = was
	}},
	{"an equal configuration is loaded", 2, nil, func(w *weather) {
		s := w.someone()
		s.in(core.Reconfigure{Config: s.cfg})
	}},
	{"who began has another address", 8, func(w *weather) bool { return w.mobile }, func(w *weather) {
		w.have(w.a, netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + w.IntN(200))}))
	}},
	{"who began has no address for a while", 2, func(w *weather) bool { return w.mobile }, func(w *weather) {
		was := w.a.addr
		w.have(w.a)
		w.traffic(w.between(time.Second, 30*time.Second))
		w.have(w.a, was)
	}},
	{"the NAT forgets its mappings", 8, func(w *weather) bool { return w.nat != nil }, func(w *weather) { w.nat.Flush() }},
}

// atBoth gives both ends a command, in one instant or a moment apart.
func (w *weather) atBoth(do core.CommandKind) {
	i := w.IntN(2)
	w.command(w.sides[i], do)
	w.pause()
	w.command(w.sides[1-i], do)
}

func (w *weather) command(s *side, do core.CommandKind) {
	if do == core.FlushSAs || do == core.KillAll {
		w.doom(s, s.order...)
	}
	s.in(core.Command{Do: do})
}

// doom notes what a deed takes away.
func (w *weather) doom(s *side, children ...core.ChildID) {
	w.disturbed = true
	for _, id := range children {
		w.doomed[s][id] = true
	}
}

// pause is nothing, or as long as a message may take.
func (w *weather) pause() {
	if w.IntN(2) == 0 {
		w.run(w.between(0, 150*time.Millisecond))
	}
}

func (w *weather) partition(d time.Duration) {
	w.cut = true
	w.traffic(d)
	w.cut = false
}

// restart is kill -9 and a start: everything is forgotten.
func (w *weather) restart(s *side) {
	w.disturbed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.boot(w.Uint64())
	*w.books[s] = book{}
	clear(w.doomed[s])
	w.have(s, s.addr)
	s.in(core.Reconfigure{Config: s.cfg})
}

// have gives a side its one address, or none.
func (w *weather) have(s *side, addrs ...netip.Addr) {
	for a, owner := range w.byIP {
		if owner == s {
			delete(w.byIP, a)
		}
	}
	for _, a := range addrs {
		w.byIP[a], s.addr = s, a
	}
	s.in(core.LocalAddrs{Addrs: addrs})
}
