package v2

import (
	"net/netip"
	"slices"

	"culvert/ike/core"
	"culvert/spd/selector"
)

// Where the peer is. Requests of ours and ESP go to the SA's addresses; a
// response goes to where its request came from.

// path is from where to where messages travel.
type path struct {
	local, remote netip.AddrPort
	natt          bool // by the NAT-T ports
}

func pathOf(in core.Datagram) path { return path{in.Local, in.Remote, in.NATT} }

func (sa *SA) path() path { return path{sa.local, sa.remote, sa.natt} }

// transmit sends the datagrams of one message; they stay ours.
func (sa *SA) transmit(p path, message [][]byte) {
	for _, raw := range message {
		sa.stats.txN++
		sa.stats.txB += uint64(len(raw))
		sa.env.Emit(core.Send{Local: p.local, Remote: p.remote, NATT: p.natt, Data: clone(raw)})
	}
}

// fresh is called for a message of the peer that is no repetition, so that
// nobody can have recorded it before: the peer is alive (RFC 7296 §2.4), and
// where it sends from is where it is. An initiator moves to the NAT-T port with
// IKE_AUTH; later a peer behind a NAT moves with the NAT's mapping.
func (sa *SA) fresh(in core.Datagram) {
	sa.hear()
	if sa.state == HalfOpen {
		sa.local, sa.remote, sa.natt = in.Local, in.Remote, in.NATT
		return
	}
	sa.rebound(pathOf(in))
}

// hear notes that the peer is there.
func (sa *SA) hear() {
	sa.heard = sa.env.Now()
	sa.settleContest(true)
}

// rebound follows a peer whose NAT gave it another address or port, unless we
// are behind a NAT ourselves (RFC 7296 §2.23), or it will tell us where it goes
// (RFC 4555 §3.8). A peer that says it is behind a
// NAT because it wants ESP in UDP is treated like one that is.
func (sa *SA) rebound(p path) {
	if sa.mob.agreed || !sa.natt || !p.natt || sa.nat.local || !sa.nat.remote || p.remote == sa.remote {
		return
	}
	if a := p.local.Addr(); !a.IsValid() || a.IsUnspecified() {
		p.local = sa.local // the system did not say where it arrived
	}
	sa.move(p)
	sa.event(core.EvMoved, "the peer's NAT moved it here")
}

// move takes the SA and its CHILD SAs to another path.
func (sa *SA) move(p path) {
	sa.local, sa.remote, sa.natt = p.local, p.remote, p.natt
	sa.moveChildren()
	sa.keepalives()
}

func (sa *SA) moveChildren() {
	for _, c := range slices.Clone(sa.children) {
		if c.leftBehind() {
			c.Delete("it is for the addresses that were left: the peer may ask for another")
			continue
		}
		sa.env.Emit(core.Move{Child: c.id, Local: sa.local, Remote: sa.remote, UDP: sa.inUDP(c.policy)})
	}
}

// leftBehind: what a template made in transport mode is for the two hosts at the
// addresses that they had, and a tunnel that it made for where the peer was is for that
// address. A policy of the table says itself whom it is for.
func (c *Child) leftBehind() bool {
	if c.policy.Made == nil {
		return false
	}
	local, remote := c.sa.local.Addr().Unmap().WithZone(""), c.sa.remote.Addr().Unmap().WithZone("")
	if c.policy.Tunnel {
		return c.policy.Made.Outer.IsValid() && c.policy.Made.Outer != remote
	}
	return !slices.ContainsFunc(c.pairs, func(p selector.Pair) bool { return p.Local.Lo == local && p.Remote.Lo == remote })
}

// Moved says that an authenticated packet, newer than all before, came on the
// CHILD SA from another address than the SA's.
func (c *Child) Moved(local, remote netip.AddrPort) {
	sa := c.sa
	if sa.state == Established && slices.Contains(sa.children, c) {
		sa.rebound(path{local, remote, true})
	}
}
