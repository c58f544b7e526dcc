package isakmp

import (
	"net/netip"

	"golang.org/x/crypto/cryptobyte"
)

// NATOA is a NAT-OA payload: an address as its end sees it (RFC 3947 §5.2).
//
//	+---------------+---------------+-------------------------------+
//	|    ID Type    |               RESERVED                        |
//	+---------------+---------------+-------------------------------+
//	~           IPv4 (4 bytes) or IPv6 address (16 bytes)           ~
//	+---------------------------------------------------------------+
type NATOA struct {
	Draft bool // under the number of the drafts
	Addr  netip.Addr
}

func (p *NATOA) Type() PayloadType {
	if p.Draft {
		return TypeNATOADraft
	}
	return TypeNATOA
}

func (p *NATOA) AppendBody(b []byte) []byte {
	t := IDIPv4
	if p.Addr.Is6() {
		t = IDIPv6
	}
	return append(append(b, t, 0, 0, 0), p.Addr.AsSlice()...)
}

func parseNATOA(t PayloadType, s cryptobyte.String, odd *Odd) (Payload, string) {
	var idType uint8
	var reserved []byte
	if !s.ReadUint8(&idType) || !s.ReadBytes(&reserved, 3) {
		return nil, short
	}
	odd.zero(reserved...)
	a, ok := netip.AddrFromSlice(s)
	if !ok || (idType != IDIPv4 || !a.Is4()) && (idType != IDIPv6 || !a.Is6()) {
		return nil, "not one address of its type"
	}
	return &NATOA{t == TypeNATOADraft, a}, ""
}
