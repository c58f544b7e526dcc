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
//	another one, and packets from that    MOBIKE: the SAs go there at once
//	in use leave by a link without it     without: another IKE SA from there, which takes over. The old one's
//	                                      packets leave from there, too: Linux asks for the address of the next
//	                                      router with the source of the packet that waits for it, and a router
//	                                      that filters by reverse path does not answer to one that is not its own
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
	asked := map[core.SourceFor]bool{}
	for _, sa := range sorted(e.bySPI) {
		if q := (core.SourceFor{Remote: sa.Remote.Addr(), Own: sa.Local.Addr().WithZone("")}); goes(sa) && !asked[q] {
			asked[q] = true
			e.env.Ask(0, q, func(b secret.Bytes, err error) {
				if err != nil {
					b = nil
				}
				leads(e, q, b)
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

// leads: the system has answered q.
func leads(e *Endpoint, q core.SourceFor, answer secret.Bytes) {
	local, strays := core.UnpackSource(answer)
	there := len(e.addrs) == 0 || slices.Contains(e.addrs, q.Own)
	for _, sa := range sorted(e.bySPI) {
		if sa.Remote.Addr() != q.Remote || sa.Local.Addr().WithZone("") != q.Own || !goes(sa) || local == q.Own && there {
			continue
		}
		r, ok := sa.Protocol.(ikesa.Roamer)
		roams := ok && r.Roams()
		switch {
		case roams && strays && there:
			r.Leave(local)
		case roams || local == q.Own:
			sa.Protocol.Probe(true)
		case local.IsValid():
			e.replace(sa, nil, local, "our address that leads to the peer is another one")
			if strays && there {
				sa.Local = netip.AddrPortFrom(local, sa.Local.Port())
				sa.MoveChildren()
			}
		}
	}
}
