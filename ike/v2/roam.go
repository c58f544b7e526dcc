package v2

import (
	"fmt"
	"net/netip"
	"slices"

	"culvert/crypto/secret"
	"culvert/ike/core"
)

// When an SA moves (RFC 4555 §3.4, §3.5). There are three reasons:
//
//   - our address is gone: the system is asked for another one that leads to one
//     of the peer's addresses;
//   - a request stays without answer: it goes out on all other paths too, and
//     where the answer comes from is the new path;
//   - the peer, which does not decide, told us from elsewhere that its address
//     is gone.

// probeAfter is how often a request is sent before it goes out on other paths
// too: 3.5 s after the first time.
const probeAfter = 3

// roaming decides when and where an IKE SA moves.
type roaming struct {
	idle
	sa *SA
}

// others are our addresses but the one in use. A peer with a local-address stays
// with that.
func (w roaming) others() []netip.Addr {
	var list []netip.Addr
	if w.sa.base.Peer.Local.IsValid() {
		return nil
	}
	for _, a := range w.sa.base.Host.Addrs() {
		if a != w.sa.base.Local.Addr() && usable(a) && len(list) < maxAddresses {
			list = append(list, a)
		}
	}
	return list
}

// remotes are the peer's addresses, the one in use first.
func (w roaming) remotes() []netip.AddrPort {
	list := []netip.AddrPort{w.sa.base.Remote}
	for _, a := range w.sa.mob.peers {
		if a != w.sa.base.Remote.Addr() {
			list = append(list, netip.AddrPortFrom(a, w.sa.base.Peer.NATT()))
		}
	}
	return list
}

// otherPaths are the paths between an address of ours and one of the peer's, but
// the one in use.
func (w roaming) otherPaths() []path {
	if !w.sa.mob.agreed {
		return nil
	}
	locals := append([]netip.Addr{w.sa.base.Local.Addr()}, w.others()...)
	var list []path
	for _, r := range w.remotes() {
		for _, l := range locals {
			p := path{Local: netip.AddrPortFrom(l, w.sa.base.Local.Port()), Remote: r, NATT: true}
			if l.Is4() == r.Addr().Is4() && p != w.sa.base.Path && len(list) < maxAddresses {
				list = append(list, p)
			}
		}
	}
	return list
}

// probe sends a request that was not answered on the other paths too.
func (w roaming) probe(x *exchange) {
	if x.tries < probeAfter || w.sa.base.State < Established {
		return
	}
	for _, p := range w.otherPaths() {
		x.elsewhere = true
		w.sa.base.Transmit(p, x.raw)
	}
}

// answeredOn is called with the path that the answer to x came on.
func (w roaming) answeredOn(x *exchange, p path) {
	switch {
	case !x.elsewhere || !w.sa.mob.leads || w.sa.base.State != Established || !p.NATT:
	case p != w.sa.base.Path:
		w.relocate(p, "the other path was silent")
	case part[*mobikeInform](x) != nil && part[*mobikeInform](x).update:
		w.update() // the peer may have acted on a copy that came another way
	}
}

// AddrsChanged is called when our addresses changed.
func (sa *SA) AddrsChanged() {
	if !sa.mob.agreed || sa.base.State != Established || sa.base.Peer.Local.IsValid() {
		return
	}
	if !slices.Contains(sa.base.Host.Addrs(), sa.base.Local.Addr()) {
		roaming{sa: sa}.seek(roaming{sa: sa}.remotes())
	} else if !slices.Equal(roaming{sa: sa}.others(), sa.mob.told) {
		roaming{sa: sa}.tell()
	}
}

// Roams reports whether the peer understands MOBIKE.
func (sa *SA) Roams() bool { return sa.mob.agreed }

// Leave goes on from another address of ours.
func (sa *SA) Leave(local netip.Addr) {
	p := sa.base.Path
	p.Local = netip.AddrPortFrom(local, sa.base.Host.Config().NATTPort)
	p.Remote, p.NATT = roaming{sa: sa}.remotes()[0], true
	roaming{sa: sa}.leave(p, "another uplink leads to the peer")
}

// seek asks the system which address leads to one of the remotes, and goes there.
// If none does, the next change of addresses asks again.
func (w roaming) seek(remotes []netip.AddrPort) {
	epoch := w.sa.mob.epoch
	w.sa.base.Env.Ask(w.sa.base.ID, core.SourceFor{Remote: remotes[0].Addr()}, func(b secret.Bytes, err error) {
		if w.sa.base.State != Established || w.sa.mob.epoch != epoch {
			return
		}
		local, _ := core.UnpackSource(b)
		switch {
		case err == nil && local.IsValid() && local == w.sa.base.Local.Addr(): // it is there, where nobody looked
		case err == nil && local.IsValid():
			w.leave(path{Local: netip.AddrPortFrom(local, w.sa.base.Host.Config().NATTPort), Remote: remotes[0], NATT: true}, "our address is gone")
		case len(remotes) > 1:
			w.seek(remotes[1:])
		}
	})
}

// leave goes to a path because our address is gone, or of no use there. Who does not lead can only
// speak from another address and tell the peer; the peer then moves (§3.6).
func (w roaming) leave(p path, why string) {
	if w.sa.mob.leads {
		w.relocate(p, why)
		return
	}
	w.sa.base.Local = p.Local
	w.sa.mob.epoch++
	w.again()
	w.tell()
	w.before(roaming.tell)
}

// before says it by the predecessor too, if the peer may not have this SA yet: it repeats its
// rekey to where we were, and learns only there that we have moved.
func (w roaming) before(say func(roaming)) {
	if old := w.sa.doubted; old != nil && old.base.State == Replaced {
		old.base.Local, old.base.Remote, old.base.NATT = w.sa.base.Local, w.sa.base.Remote, w.sa.base.NATT
		old.mob.epoch++
		say(roaming{sa: old})
	}
}

// relocate moves the IKE SA at once, tells the peer, and repeats what it has not
// answered yet. ESP moves at once where only our address is another one, else
// when the peer has answered from there (§3.5).
func (w roaming) relocate(p path, why string) {
	stays := p.Remote.Addr() == w.sa.base.Remote.Addr()
	w.sa.base.Local, w.sa.base.Remote, w.sa.base.NATT = p.Local, p.Remote, p.NATT
	w.sa.mob.epoch++
	w.sa.base.Event(core.EvMoved, "%s", why)
	if stays {
		w.sa.base.MoveChildren()
	}
	w.again()
	w.update()
	w.before(roaming.update)
}

// again sends the request that is under way once more, from the first try on.
func (w roaming) again() {
	if x := w.sa.current; x != nil && x.raw != nil && x.in == nil {
		w.sa.base.Env.Timers.Stop(x.timer)
		x.tries = 0
		w.sa.retransmit(x)
	}
}

// update says that the path changed, before everything else that waits.
func (w roaming) update() {
	w.informFirst(news{update: true, tell: true})
}

// tell tells our further addresses.
func (w roaming) tell() { w.informFirst(news{tell: true}) }

// informFirst puts an exchange of MOBIKE before all that waits. Of one kind only
// one waits: it says what holds when it is sent.
func (w roaming) informFirst(m news) {
	same := func(x *exchange) bool {
		t := part[*mobikeInform](x)
		return t != nil && t.update == m.update && t.tell == m.tell && t.probe == m.probe && t.again == m.again
	}
	if slices.ContainsFunc(w.sa.queue, same) {
		return
	}
	x := newExchange(row(inform))
	x.sa, x.mine = w.sa, true
	part[*mobikeInform](x).news = m
	state := w.sa.base.State
	x.still = func() bool { return x.sa.base.State == state } // Established, or Replaced: see before
	w.sa.queue = slices.Insert(w.sa.queue, 0, x)
	w.sa.pump()
}

// goOn says or asks on the successor what an exchange of its predecessor has not: the
// response may be lost, and the predecessor with it, and ESP would stay at the former path.
func (w roaming) goOn(x *exchange) {
	if x == nil || !x.mine {
		return
	}
	if t := part[*mobikeInform](x); t != nil && (t.update || t.tell || t.probe) {
		w.informFirst(news{update: t.update, tell: t.tell, probe: t.probe, again: t.again})
	}
}

// unacceptable says why the peer may not go on between these addresses; "": it may, also by the ports
// without NAT traversal, where some stay that see no NAT.
func (w roaming) unacceptable(p path) string {
	peer := w.sa.base.Peer
	switch {
	case !usable(p.Remote.Addr()):
		return "no host has the first of them"
	case peer.Local.IsValid() && peer.Local != p.Local.Addr():
		return fmt.Sprintf("local-address of peer %q is %v", peer.Name, peer.Local)
	}
	return ""
}

// unsure is for a response without our COOKIE2: a peer that does not know it, or that forgot it. It is
// asked once more, and meanwhile ESP stays where it is.
func (w roaming) unsure(m news) {
	if m.again {
		w.sa.base.Event(core.EvNotify, "the peer does not return COOKIE2 from its new address, so ESP stays at the former one (RFC 4555 §3.7)")
		return
	}
	w.informFirst(news{update: m.update, probe: m.probe, again: true})
}

// followed is called when we followed the peer to another path. ESP goes there
// once the peer has answered from a new address.
func (w roaming) followed(moved bool) {
	w.sa.mob.epoch++
	w.sa.base.Event(core.EvMoved, "the peer moved it here")
	w.sa.base.Keepalives()
	if moved {
		w.again()
		w.informFirst(news{probe: true})
		return
	}
	w.sa.base.MoveChildren()
}

// peerLeft is called when the peer, which does not decide about paths, told its
// addresses from p. If the one that we use is gone, we go to where it speaks from.
func (w roaming) peerLeft(p path) {
	if p.NATT && usable(p.Remote.Addr()) && p.Remote.Addr() != w.sa.base.Remote.Addr() && !slices.Contains(w.sa.mob.peers, w.sa.base.Remote.Addr()) {
		w.relocate(p, "the peer's address is gone")
	}
}

// inherit brings a successor to where its predecessor went in the meantime.
func (w roaming) inherit(old *SA) {
	if old.mob.epoch > w.sa.mob.epoch {
		w.sa.base.Path, w.sa.base.NAT, w.sa.base.Doubtful, w.sa.mob = old.base.Path, old.base.NAT, old.base.Doubtful, old.mob
		w.sa.base.Keepalives()
	}
}
