package auth

import (
	"net/netip"
	"strings"

	"culvert/ike/core"
)

// MyID is the ID that an identity sends: its my-id, or the local address where
// that is "auto".
func MyID(id *core.Identity, local netip.Addr) core.ID {
	if id.MyID.Type != core.IDNone {
		return id.MyID
	}
	return AddressID(local)
}

// AddressID is an ID of type IPv4 or IPv6 address.
func AddressID(a netip.Addr) core.ID {
	a = a.Unmap()
	t := core.IDIPv6
	if a.Is4() {
		t = core.IDIPv4
	}
	return core.ID{Type: t, Data: string(a.AsSlice())}
}

// Match finds the identity that a peer's ID stands for: one that names this ID
// before one that takes any, each in the order of the table. If the peer said
// whom it expects (IDr), an identity with another my-id is passed over.
func Match(ids []*core.Identity, remote, expected core.ID) *core.Identity {
	var any *core.Identity
	for _, id := range ids {
		if expected.Type != core.IDNone && id.MyID.Type != core.IDNone && !Same(id.MyID, expected) {
			continue
		}
		switch {
		case id.Ignore || id.RemoteID.Type == core.IDNone:
			if any == nil {
				any = id
			}
		case Same(id.RemoteID, remote):
			return id
		}
	}
	return any
}

// Accepts reports whether an identity accepts the peer's ID.
func Accepts(id *core.Identity, remote core.ID) bool {
	return id.Ignore || id.RemoteID.Type == core.IDNone || Same(id.RemoteID, remote)
}

// Same compares two IDs; names are compared without regard to case (RFC 4343).
func Same(a, b core.ID) bool {
	if a.Type != b.Type {
		return false
	}
	if a.Type == core.IDFQDN || a.Type == core.IDUser {
		return strings.EqualFold(a.Data, b.Data)
	}
	return a.Data == b.Data
}
