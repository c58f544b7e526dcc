package v1

import (
	"net/netip"

	"culvert/crypto/prf"
	"culvert/ike/core"
	"culvert/ike/isakmp"
	ikesa "culvert/ike/sa"
)

// NAT traversal (RFC 3947, and drafts 02 and 03 of it, which have other numbers). package sa says what
// comes of it.

// natt reports whether both ends know NAT traversal.
func (sa *SA) natt() bool {
	return !sa.base.Peer.Profile.NoNATT && sa.peer.natt != isakmp.VendorUnknown
}

// natD are the hashes that we send: of where the peer is, then of where we are (RFC 3947 §3.2).
func (sa *SA) natD(forged *[]byte) []isakmp.Payload {
	if !sa.natt() {
		return nil
	}
	h := ikesa.OurHashes(sa.base, prf.Hash(sa.base.Suite.PRF), sa.base.Path, forged)
	draft := sa.peer.drafts()
	return []isakmp.Payload{&isakmp.NATD{Draft: draft, Data: h.Destination[0]}, &isakmp.NATD{Draft: draft, Data: h.Source[0]}}
}

// hearNATD notes what the peer's hashes say. Some peers send them under both numbers.
func (sa *SA) hearNATD(ps []isakmp.Payload, path ikesa.Path) error {
	var all [2][][]byte
	for _, p := range ps {
		if d, ok := p.(*isakmp.NATD); ok {
			i := 0
			if d.Draft {
				i = 1
			}
			all[i] = append(all[i], d.Data)
		}
	}
	list := all[0]
	if len(list) == 0 || sa.peer.drafts() && len(all[1]) > 0 {
		list = all[1]
	}
	var found ikesa.NAT
	if len(list) > 1 && sa.natt() {
		found = ikesa.FindNAT(ikesa.Hashes{Destination: list[:1], Source: list[1:]}, prf.Hash(sa.base.Suite.PRF), sa.base.SPIi, sa.base.SPIr, path)
	}
	if err := ikesa.TakeNAT(sa.base, found); err != nil {
		return end(isakmp.NotifyNoProposalChosen, "%v", err)
	}
	return nil
}

// float moves the initiator to the ports of NAT traversal where there is a NAT, or where the peer is made
// to believe in one (RFC 3947 §4).
func (sa *SA) float() {
	b := sa.base
	if b.NAT.Local || b.NAT.Remote || b.ForceUDP || b.Host.Config().Encapsulation == core.EncapUDP {
		b.Float()
	}
}

// encapsulation is the number of a mode that a CHILD SA of a policy has.
func (sa *SA) encapsulation(p *core.Policy) uint16 {
	mode := isakmp.EncapTransport
	if p.Tunnel {
		mode = isakmp.EncapTunnel
	}
	switch {
	case !sa.base.InUDP(p):
		return mode
	case sa.peer.drafts():
		return mode + isakmp.EncapUDPTunnelDraft - isakmp.EncapTunnel
	}
	return mode + isakmp.EncapUDPTunnel - isakmp.EncapTunnel
}

// encap is what the number of a mode says. A transform without one means transport mode to some and tunnel
// mode to others (RFC 2407 §4.5): it is taken for tunnel mode, like most do.
func encap(n uint16) (transport, udp, known bool) {
	switch n {
	case isakmp.EncapTunnel, 0:
		return false, false, true
	case isakmp.EncapTransport:
		return true, false, true
	case isakmp.EncapUDPTunnel, isakmp.EncapUDPTunnelDraft:
		return false, true, true
	case isakmp.EncapUDPTransport, isakmp.EncapUDPTransportDraft:
		return true, true, true
	}
	return false, false, false
}

// natOA are the addresses that the ends have themselves, for transport mode through a NAT (RFC 3947 §5.2):
// the initiator's first.
func (sa *SA) natOA(p *core.Policy, mine bool) []isakmp.Payload {
	if p.Tunnel || !sa.base.InUDP(p) {
		return nil
	}
	of := func(a netip.AddrPort) isakmp.Payload {
		return &isakmp.NATOA{Draft: sa.peer.drafts(), Addr: a.Addr().Unmap().WithZone("")}
	}
	list := []isakmp.Payload{of(sa.base.Local), of(sa.base.Remote)}
	if !mine {
		list[0], list[1] = list[1], list[0]
	}
	return list
}
