package v2

import (
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

// others are our addresses but the one in use. A peer with a local-address stays
// with that.
func (sa *SA) others() []netip.Addr {
	var list []netip.Addr
	if sa.base.Peer.Local.IsValid() {
		return nil
	}
	for _, a := range sa.base.Host.Addrs() {
		if a != sa.base.Local.Addr() && usable(a) && len(list) < maxAddresses {
			list = append(list, a)
		}
	}
	return list
}

// remotes are the peer's addresses, the one in use first.
func (sa *SA) remotes() []netip.AddrPort {
	list := []netip.AddrPort{sa.base.Remote}
	for _, a := range sa.mob.peers {
		if a != sa.base.Remote.Addr() {
			list = append(list, netip.AddrPortFrom(a, sa.base.Peer.NATT()))
		}
	}
	return list
}

// otherPaths are the paths between an address of ours and one of the peer's, but
// the one in use.
func (sa *SA) otherPaths() []path {
	if !sa.mob.agreed {
		return nil
	}
	locals := append([]netip.Addr{sa.base.Local.Addr()}, sa.others()...)
	var list []path
	for _, r := range sa.remotes() {
		for _, l := range locals {
			p := path{Local: netip.AddrPortFrom(l, sa.base.Local.Port()), Remote: r, NATT: true}
			if l.Is4() == r.Addr().Is4() && p != sa.base.Path && len(list) < maxAddresses {
				list = append(list, p)
			}
		}
	}
	return list
}

// probe sends a request that was not answered on the other paths too.
func (sa *SA) probe(x *exchange) {
	if x.tries < probeAfter || sa.base.State < Established {
		return
	}
	for _, p := range sa.otherPaths() {
		x.elsewhere = true
		sa.base.Transmit(p, x.raw)
	}
}

// answeredOn is called with the path that the answer to x came on.
func (sa *SA) answeredOn(x *exchange, p path) {
	switch {
	case !x.elsewhere || !sa.mob.leads || sa.base.State != Established || !p.NATT:
	case p != sa.base.Path:
		sa.relocate(p, "the other path was silent")
	case part[*mobikeInform](x) != nil && part[*mobikeInform](x).update:
		sa.update() // the peer may have acted on a copy that came another way
	}
}

// AddrsChanged is called when our addresses changed.
func (sa *SA) AddrsChanged() {
	if !sa.mob.agreed || sa.base.State != Established || sa.base.Peer.Local.IsValid() {
		return
	}
	if !slices.Contains(sa.base.Host.Addrs(), sa.base.Local.Addr()) {
		sa.seek(sa.remotes())
	} else if !slices.Equal(sa.others(), sa.mob.told) {
		sa.tell()
	}
}

// seek asks the system which address leads to one of the remotes, and goes there.
// If none does, the next change of addresses asks again.
func (sa *SA) seek(remotes []netip.AddrPort) {
	epoch := sa.mob.epoch
	sa.base.Env.Ask(sa.base.ID, core.SourceFor{Remote: remotes[0].Addr()}, func(b secret.Bytes, err error) {
		if sa.base.State != Established || sa.mob.epoch != epoch {
			return
		}
		local, ok := netip.AddrFromSlice(b)
		local = local.Unmap()
		switch {
		case err == nil && ok && local == sa.base.Local.Addr(): // it is there, where nobody looked
		case err == nil && ok:
			sa.leave(path{Local: netip.AddrPortFrom(local, sa.base.Host.Config().NATTPort), Remote: remotes[0], NATT: true})
		case len(remotes) > 1:
			sa.seek(remotes[1:])
		}
	})
}

// leave goes to a path because our address is gone. Who does not lead can only
// speak from another address and tell the peer; the peer then moves (§3.6).
func (sa *SA) leave(p path) {
	if sa.mob.leads {
		sa.relocate(p, "our address is gone")
		return
	}
	sa.base.Local = p.Local
	sa.mob.epoch++
	sa.again()
	sa.tell()
}

// relocate moves the IKE SA at once, tells the peer, and repeats what it has not
// answered yet. ESP moves at once where only our address is another one, else
// when the peer has answered from there (§3.5).
func (sa *SA) relocate(p path, why string) {
	stays := p.Remote.Addr() == sa.base.Remote.Addr()
	sa.base.Local, sa.base.Remote, sa.base.NATT = p.Local, p.Remote, p.NATT
	sa.mob.epoch++
	sa.base.Event(core.EvMoved, "%s", why)
	if stays {
		sa.base.MoveChildren()
	}
	sa.again()
	sa.update()
}

// again sends the request that is under way once more, from the first try on.
func (sa *SA) again() {
	if x := sa.current; x != nil && x.raw != nil && x.in == nil {
		sa.base.Env.Timers.Stop(x.timer)
		x.tries = 0
		sa.retransmit(x)
	}
}

// update says that the path changed, before everything else that waits.
func (sa *SA) update() {
	sa.informFirst(news{update: true, tell: true})
}

// tell tells our further addresses.
func (sa *SA) tell() { sa.informFirst(news{tell: true}) }

// informFirst puts an exchange of MOBIKE before all that waits. Of one kind only
// one waits: it says what holds when it is sent.
func (sa *SA) informFirst(m news) {
	same := func(x *exchange) bool {
		t := part[*mobikeInform](x)
		return t != nil && t.update == m.update && t.tell == m.tell && t.probe == m.probe
	}
	if slices.ContainsFunc(sa.queue, same) {
		return
	}
	x := newExchange(row(inform))
	x.sa, x.mine = sa, true
	part[*mobikeInform](x).news = m
	x.still = func() bool { return x.sa.base.State == Established }
	sa.queue = slices.Insert(sa.queue, 0, x)
	sa.pump()
}

// acceptable: the peer may go on between these addresses.
func (sa *SA) acceptable(p path) bool {
	return p.NATT && usable(p.Remote.Addr()) && (!sa.base.Peer.Local.IsValid() || sa.base.Peer.Local == p.Local.Addr())
}

// followed is called when we followed the peer to another path. ESP goes there
// once the peer has answered from a new address.
func (sa *SA) followed(moved bool) {
	sa.mob.epoch++
	sa.base.Event(core.EvMoved, "the peer moved it here")
	sa.base.Keepalives()
	if moved {
		sa.informFirst(news{probe: true})
		return
	}
	sa.base.MoveChildren()
}

// peerLeft is called when the peer, which does not decide about paths, told its
// addresses from p. If the one that we use is gone, we go to where it speaks from.
func (sa *SA) peerLeft(p path) {
	if p.NATT && usable(p.Remote.Addr()) && p.Remote.Addr() != sa.base.Remote.Addr() && !slices.Contains(sa.mob.peers, sa.base.Remote.Addr()) {
		sa.relocate(p, "the peer's address is gone")
	}
}

// follow brings a successor to where its predecessor went in the meantime.
func (sa *SA) follow(old *SA) {
	if old.mob.epoch > sa.mob.epoch {
		sa.base.Path, sa.base.NAT, sa.base.Doubtful, sa.mob = old.base.Path, old.base.NAT, old.base.Doubtful, old.mob
		sa.base.Keepalives()
	}
}
