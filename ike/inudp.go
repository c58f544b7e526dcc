package ike

import (
	"net/netip"

	ikesa "culvert/ike/sa"
)

// InUDP has an IKE SA made that takes over from sa and carries ESP in UDP, and so do those that are
// made with the peer later, until the configuration is loaded anew. False: it is for the peer to begin.
func (e *Endpoint) InUDP(sa *ikesa.SA) bool {
	if !sa.Peer.Initiates() {
		return false
	}
	e.inUDP[sa.Peer.Name] = true
	e.replace(sa, nil, netip.Addr{}, "nothing of the peer came by ESP, and a new IKE SA carries ESP in UDP")
	return true
}
