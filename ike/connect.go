package ike

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/core"
	ikesa "culvert/ike/sa"
	"culvert/ike/v2"
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
		e.approach(peer, []netip.Addr{r.to})
		return
	}
	e.locate(peer, func(remotes []netip.Addr, err error) {
		if err != nil {
			e.unreachable(peer, "the DNS has no address for "+peer.DNSName+": "+err.Error())
			return
		}
		e.approach(peer, remotes)
	})
}

// approach finds the local addresses that lead to a peer.
func (e *Endpoint) approach(peer *core.Peer, remotes []netip.Addr) {
	leading(e, peer, remotes, func(ways []way) {
		if len(ways) == 0 {
			e.unreachable(peer, "no route to "+addrList(remotes)+": check the host's routes or set local-address")
			return
		}
		e.reach(peer, ways)
	})
}

// way is a peer's address and the one of ours that leads there.
type way struct{ local, remote netip.Addr }

// leading finds the addresses of a peer that this host has a way to, in their order.
func leading(e *Endpoint, peer *core.Peer, remotes []netip.Addr, then func([]way)) {
	ways, open := make([]way, len(remotes)), len(remotes)
	answered := func() {
		if open--; open == 0 {
			then(slices.DeleteFunc(ways, func(w way) bool { return !w.local.IsValid() }))
		}
	}
	for i, remote := range remotes {
		if peer.Local.IsValid() {
			if len(remotes) == 1 || peer.Local.Is4() == remote.Is4() {
				ways[i] = way{peer.Local, remote}
			}
			answered()
			continue
		}
		e.env.Ask(0, core.SourceFor{Remote: remote}, func(b secret.Bytes, err error) {
			if local, ok := netip.AddrFromSlice(b); ok && err == nil {
				ways[i] = way{local.Unmap(), remote}
			}
			answered()
		})
	}
}

func addrList(addrs []netip.Addr) string {
	var list []string
	for _, a := range addrs {
		list = append(list, a.String())
	}
	return strings.Join(list, ", ")
}

// maxNamed bounds the addresses that one name stands for.
const maxNamed = 8

// locate finds out where a peer is: at one address at least.
func (e *Endpoint) locate(peer *core.Peer, then func([]netip.Addr, error)) {
	if peer.DNSName == "" {
		then([]netip.Addr{peer.Address.Addr()}, nil)
		return
	}
	resolve(e, peer.DNSName, func(list []netip.Addr, err error) {
		if err == nil {
			e.at[peer.Name] = list
			e.peers.named = namedPeers(e.cfg.Peers, e.at)
		}
		then(list, err)
	})
}

// resolve asks for the addresses of a name.
func resolve(e *Endpoint, name string, then func([]netip.Addr, error)) {
	e.env.Ask(0, core.Resolve{Name: name}, func(b secret.Bytes, err error) {
		list := core.UnpackAddrs(b)
		if err == nil && len(list) == 0 {
			err = core.ErrSystem
		}
		then(list[:min(len(list), maxNamed)], err)
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
	e.locate(peer, func([]netip.Addr, error) {
		e.env.After(resolveEvery, func() { e.follow(peer) })
	})
}

// unreachable gives an attempt up that did not get as far as IKE.
func (e *Endpoint) unreachable(peer *core.Peer, reason string) {
	wanted := e.resolving[peer.Name]
	delete(e.resolving, peer.Name)
	e.redirects.returnHome(peer)
	e.env.Emit(core.Event{Kind: core.EvInitFailed, Peer: peer.Name, Initiator: true, Reason: reason})
	for _, p := range wanted {
		e.later(p, true)
		if w := e.wants[p.Ref]; w != nil {
			w.stranded = true
		}
	}
}

// reach goes on once all is known.
func (e *Endpoint) reach(peer *core.Peer, ways []way) {
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
		e.initiate(peer, ways, wanted)
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

// initiate begins an IKE SA for each identity that the wanted policies are for, or, where
// the peer has several addresses, one for each of them until one is answered.
func (e *Endpoint) initiate(peer *core.Peer, ways []way, wanted []*core.Policy) {
	parts := byIdentity(peer, wanted)
	if len(parts) == 0 {
		parts = append(parts, nil)
	}
	if s := e.sessions[peer.Name]; s != nil { // it can be resumed at its gateway alone
		slices.SortStableFunc(ways, func(a, b way) int { return cmp.Compare(from(a, s), from(b, s)) })
	}
	for _, part := range parts {
		sa := e.begin(peer, ways[0], part)
		e.races.start(e, sa, ways[1:])
		sa.Protocol.Begin()
	}
}

// from is 0 for the gateway that a session is with, and 1 for another.
func from(w way, s *v2.Session) int {
	if w.remote.Unmap() == s.Gateway() {
		return 0
	}
	return 1
}

// begin makes an IKE SA whose Protocol has not begun.
func (e *Endpoint) begin(peer *core.Peer, w way, wanted []*core.Policy) *ikesa.SA {
	path := ikesa.Path{Local: netip.AddrPortFrom(w.local.Unmap(), e.cfg.StartsAt(peer)), Remote: netip.AddrPortFrom(w.remote, peer.Port)}
	v := e.versions.of(peer.Version)
	sa := v.initiate(e, peer, path, wanted)
	sa.ForceUDP = e.inUDP[peer.Name]
	e.redirects.settle(sa, e.replacing)
	takesOverLost(e, sa, wanted)
	if v.resume != nil {
		v.resume(e, sa)
	}
	e.Adopt(sa)
	return sa
}
