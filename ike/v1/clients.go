package v1

import (
	"net/netip"

	"culvert/ike/isakmp"
	"culvert/spd/selector"
)

// Client IDs (RFC 2409 §5.5, RFC 2407 §4.6.2) are the selectors of a CHILD SA: one of each end. Without
// them it is for the two hosts.

// clientIDs reads those of a message; hosts are the addresses of the ends, the initiator's first. A name
// instead of an address stands for the host (Windows behind a NAT).
func clientIDs(c *isakmp.Chain, initiator, responder netip.AddrPort) (i, r selector.TS, said bool, err error) {
	var ids []*isakmp.ID
	for _, p := range c.Payloads {
		if id, ok := p.(*isakmp.ID); ok {
			ids = append(ids, id)
		}
	}
	switch len(ids) {
	case 0:
		return host(initiator), host(responder), false, nil
	case 2:
	default:
		return i, r, false, refuse(isakmp.NotifyInvalidIDInformation, "%d client IDs, not two or none", len(ids))
	}
	i, err = clientID(ids[0], initiator)
	if err == nil {
		r, err = clientID(ids[1], responder)
	}
	return i, r, true, err
}

func clientID(id *isakmp.ID, at netip.AddrPort) (selector.TS, error) {
	switch id.IDType {
	case isakmp.IDFQDN, isakmp.IDUserFQDN, isakmp.IDKeyID, isakmp.IDDERDN:
		ts := host(at)
		ts.Proto, ts.PortLo, ts.PortHi = id.Protocol, id.Port, id.Port
		if id.Port == 0 {
			ts.PortHi = 65535
		}
		return ts, nil
	}
	ts, ok := id.Selector()
	if !ok {
		return ts, refuse(isakmp.NotifyInvalidIDInformation, "a client ID of type %d with %d bytes", id.IDType, len(id.Data))
	}
	return ts, nil
}

// host is the selector of an end itself.
func host(a netip.AddrPort) selector.TS {
	addr := a.Addr().Unmap().WithZone("")
	return selector.FromPrefix(netip.PrefixFrom(addr, addr.BitLen()))
}

// clients are the client IDs of selectors. A range of ports cannot be said.
func clients(i, r selector.TS) ([]isakmp.Payload, error) {
	a, ok := isakmp.SelectorID(i)
	b, also := isakmp.SelectorID(r)
	if !ok || !also {
		return nil, refuse(isakmp.NotifyInvalidIDInformation, "IKEv1 cannot say %v => %v: it has one port or all of them", i, r)
	}
	return []isakmp.Payload{a, b}, nil
}
