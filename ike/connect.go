package ike

import (
	"net/netip"
	"slices"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
	ikesa "culvert/ike/sa"
)

// Connecting to a peer: where it is (its address, or what the DNS says now),
// which local address leads there, and then the first message. What the system knows
// is asked for.

// connect begins an IKE SA for a policy. What is asked for while questions are
// open joins in.
func (e *Endpoint) connect(p *core.Policy) {
	peer := p.Peer
	waiting, asked := e.resolving[peer.Name]
	if slices.Contains(waiting, p) {
		return
	}
	e.resolving[peer.Name] = append(waiting, p)
	if asked {
		return
	}
	if r := e.redirects[peer.Name]; r != nil && r.to.IsValid() {
		e.approach(peer, r.to)
		return
	}
	e.locate(peer, func(remote netip.Addr, err error) {
		if err != nil {
			e.unreachable(peer, "the DNS has no address for "+peer.DNSName+": "+err.Error())
			return
		}
		e.approach(peer, remote)
	})
}

// approach finds the local address that leads to a peer.
func (e *Endpoint) approach(peer *core.Peer, remote netip.Addr) {
	if peer.Local.IsValid() {
		e.reach(peer, peer.Local, remote)
		return
	}
	e.env.Ask(0, core.SourceFor{Remote: remote}, func(b secret.Bytes, err error) {
		local, ok := netip.AddrFromSlice(b)
		if err != nil || !ok {
			e.unreachable(peer, "no route to "+remote.String()+": check the host's routes or set local-address")
			return
		}
		e.reach(peer, local, remote)
	})
}

// locate finds out where a peer is.
func (e *Endpoint) locate(peer *core.Peer, then func(netip.Addr, error)) {
	if peer.DNSName == "" {
		then(peer.Address.Addr(), nil)
		return
	}
	e.env.Ask(0, core.Resolve{Name: peer.DNSName}, func(b secret.Bytes, err error) {
		a, ok := netip.AddrFromSlice(b)
		if err == nil && !ok {
			err = core.ErrSystem
		}
		if err == nil {
			e.at[peer.Name] = a.Unmap()
			e.peers.named = namedPeers(e.cfg.Peers, e.at)
		}
		then(a.Unmap(), err)
	})
}

// resolveEvery is how often a peer's name is looked up again, so that it is
// recognised when it begins.
const resolveEvery = 5 * time.Minute

// follow keeps the address of a peer with a DNS name up to date while the peer
// is in the configuration.
func (e *Endpoint) follow(peer *core.Peer) {
	if peer.DNSName == "" || e.down || !slices.Contains(e.cfg.Peers, peer) {
		return
	}
	e.locate(peer, func(netip.Addr, error) {
		e.env.After(resolveEvery, func() { e.follow(peer) })
	})
}

// unreachable gives an attempt up that did not get as far as IKE.
func (e *Endpoint) unreachable(peer *core.Peer, reason string) {
	wanted := e.resolving[peer.Name]
	delete(e.resolving, peer.Name)
	e.redirects.returnHome(peer)
	e.env.Emit(core.Event{Kind: core.EvInitFailed, Peer: peer.Name, Reason: reason})
	for _, p := range wanted {
		e.later(p, true)
	}
}

// reach goes on once all is known.
func (e *Endpoint) reach(peer *core.Peer, local, remote netip.Addr) {
	wanted := e.resolving[peer.Name]
	delete(e.resolving, peer.Name)
	if e.down {
		return
	}
	if !slices.Contains(e.cfg.Peers, peer) { // reconfigured in the meantime: ask anew for what is wanted now
		for _, p := range e.wanted {
			if p.Peer.Name == peer.Name {
				e.ensure(p, nil)
			}
		}
		return
	}
	if wanted, need := e.needed(peer, wanted); need { // else the peer was faster than the answers
		e.initiate(peer, local, remote, wanted)
	}
}

// needed is what of the wanted policies still has neither a CHILD SA nor an IKE SA
// that one can be made on, and whether an IKE SA is to be made. One that takes over
// from another that is up always is.
func (e *Endpoint) needed(peer *core.Peer, wanted []*core.Policy) ([]*core.Policy, bool) {
	if r := e.redirects[peer.Name]; r != nil && r.old != nil {
		return wanted, true
	}
	wanted = slices.DeleteFunc(wanted, func(p *core.Policy) bool { return e.joins(p, nil) })
	return wanted, len(wanted) > 0
}

// initiate begins an IKE SA for each identity that the wanted policies are for.
func (e *Endpoint) initiate(peer *core.Peer, local, remote netip.Addr, wanted []*core.Policy) {
	parts := byIdentity(peer, wanted)
	if len(parts) == 0 {
		e.begin(peer, local, remote, nil)
	}
	for _, part := range parts {
		e.begin(peer, local, remote, part)
	}
}

func (e *Endpoint) begin(peer *core.Peer, local, remote netip.Addr, wanted []*core.Policy) {
	path := ikesa.Path{Local: netip.AddrPortFrom(local.Unmap(), e.cfg.StartsAt(peer)), Remote: netip.AddrPortFrom(remote, peer.Port)}
	v := e.versions.of(peer.Version)
	sa := v.initiate(e, peer, path, wanted)
	e.redirects.settle(sa, e.replacing)
	if v.resume != nil {
		v.resume(e, sa)
	}
	e.Adopt(sa)
	sa.Protocol.Begin()
}
