package v2

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"culvert/ike/core"
)

// Several clients of one policy may have the same addresses: hosts behind one NAT in
// transport mode, or networks with the same numbers. Where the policy is of level
// unique the data plane keeps their conversations apart, and has to know which CHILD
// SAs are one client's.

// clientOf is the number of the peer as a client of a policy; 0 where clients are not told apart.
//
// Who is one by its proof has a number of its identity, whatever happens to its SAs.
// Where a secret is shared an ID proves nothing: behind NATs the IDs of several hosts may be
// one private address. There, and where one certificate is used by several at once, where
// the SA was begun from is in it as well. Who is there already with the same ID, and
// speaks from the same place, is the same: a peer that authenticates anew.
func (sa *SA) clientOf(p *core.Policy) uint64 {
	if !p.Unique {
		return 0
	}
	if sa.client != 0 {
		return sa.client
	}
	var taken []uint64
	for _, s := range sa.owner.Namesakes(sa) {
		switch {
		case s.client == 0 || s.state == Ended:
		case s.remote == sa.remote:
			sa.client = s.client
			return sa.client
		default:
			taken = append(taken, s.client)
		}
	}
	where := ""
	if !sa.sole() {
		where = sa.remote.String()
	}
	for sa.client == 0 || slices.Contains(taken, sa.client) {
		sa.client = number(sa.peer.Name, sa.peerID, where)
		where += sa.remote.String()
	}
	return sa.client
}

// sole is alone, for an identity that is known.
func (sa *SA) sole() bool { return sa.identity != nil && sa.alone() }

// Nameless reports whether the peer's ID says nothing about who it is: an address or a
// key-id under a secret that others have too, or any ID where remote-id is "ignore".
func (sa *SA) Nameless() bool {
	id := sa.identity
	switch {
	case id == nil || id.Remote() == core.AuthSignature && !id.Ignore || !id.Ignore && id.RemoteID.Type != core.IDNone:
		return false
	case id.Ignore:
		return true
	}
	return sa.peerID.Type == core.IDIPv4 || sa.peerID.Type == core.IDIPv6 || sa.peerID.Type == core.IDKeyID
}

func number(peer string, id core.ID, where string) uint64 {
	h := sha256.New()
	for _, s := range []string{peer, string([]byte{byte(id.Type)}), id.Data, where} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
		h.Write([]byte(s))
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// elsewhere reports whether s is another client's in spite of the same ID, and no
// leftover that INITIAL_CONTACT speaks of: an address that only the inside of a NAT
// knows names nobody unless a certificate or the configuration does, for each private
// network may have it once.
func (sa *SA) elsewhere(s *SA) bool {
	id := sa.identity
	named := id.Remote() == core.AuthSignature || !id.Ignore && id.RemoteID.Type != core.IDNone
	inside := (sa.peerID.Type == core.IDIPv4 || sa.peerID.Type == core.IDIPv6) && sa.peerID.Data != string(sa.remote.Addr().Unmap().AsSlice())
	return inside && !named && sa.nat.remote && s.nat.remote && sa.lease == nil && s.lease == nil &&
		sa.client != 0 && s.client != 0 && s.client != sa.client
}
