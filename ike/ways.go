package ike

import (
	"net/netip"
	"slices"

	"culvert/crypto/secret"
	"culvert/ike/core"
	ikesa "culvert/ike/sa"
)

// When addresses, routes or links of this host change, another address of ours may lead to a
// peer, or none. The system is asked for each address of a peer once, and then:
//
//	the same address, and it is there     nothing
//	another one, or none                  MOBIKE: the peer is asked whether it hears us, which goes out on
//	                                      other paths too and moves to the one that is answered (v2/roam.go)
//	another one, without MOBIKE           another IKE SA from there, which takes over
//	the same, but its link has none       the peer is asked whether it hears us
//
// What failed for lack of a route or of an answer of the DNS is tried again at once.

// lookForWays is called when addresses, routes or links changed.
func lookForWays(e *Endpoint) {
	if e.down {
		return
	}
	asked := map[netip.Addr]bool{}
	for _, sa := range sorted(e.bySPI) {
		if remote := sa.Remote.Addr(); goes(sa) && !asked[remote] {
			asked[remote] = true
			e.env.Ask(0, core.SourceFor{Remote: remote}, func(b secret.Bytes, err error) {
				local, _ := netip.AddrFromSlice(b)
				if err != nil {
					local = netip.Addr{}
				}
				leads(e, local.Unmap(), remote)
			})
		}
	}
	for _, p := range e.wanted {
		if w := e.wants[p.Ref]; w != nil && w.stranded {
			w.forgive(e.env)
			if p.Peer.KeptUp() {
				e.ensure(p, nil)
			}
		}
	}
}

// goes reports whether an IKE SA may go on from another address of ours by our doing.
func goes(sa *ikesa.SA) bool {
	if sa.State != ikesa.Established || sa.Leaving || sa.Peer.Local.IsValid() {
		return false
	}
	r, ok := sa.Protocol.(ikesa.Roamer)
	return ok && r.Roams() && sa.Initiator || sa.Peer.Initiates()
}

// leads: the system says that local leads to remote; not valid: nothing does.
func leads(e *Endpoint, local, remote netip.Addr) {
	for _, sa := range sorted(e.bySPI) {
		own := sa.Local.Addr().WithZone("")
		there := len(e.addrs) == 0 || slices.Contains(e.addrs, own)
		if sa.Remote.Addr() != remote || !goes(sa) || local == own && there {
			continue
		}
		r, ok := sa.Protocol.(ikesa.Roamer)
		switch {
		case ok && r.Roams() || local == own:
			sa.Protocol.Probe(true)
		case local.IsValid():
			e.replace(sa, nil, local, "our address that leads to the peer is another one")
		}
	}
}
