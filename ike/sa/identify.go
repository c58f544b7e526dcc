package sa

import (
	"slices"

	"culvert/ike/auth"
	"culvert/ike/core"
)

// Who each end is, before it has proved that. The errors are *Refusals with the cause NotProven.

// MaxID is how many bytes a peer's ID may have: it is a key of tables, of tickets and of the
// record of leases.
const MaxID = 2048

// FirstIdentity is who we are as initiator: the first identity of the table, but of those that
// prove themselves with a certificate the first one whose authority the responder trusts; cas are
// those that it named.
func FirstIdentity(sa *SA, cas []auth.KeyHash) *core.Identity {
	first := sa.Peer.Identities[0]
	if !auth.Of(first.Auth).Certificate {
		return first
	}
	for _, id := range sa.Peer.Identities {
		if auth.Of(id.Auth).Certificate && auth.Under(id.Own, sa.Host.Config().Trust, cas) {
			return id
		}
	}
	return first
}

// PeerSays notes the ID that the peer names itself by.
func PeerSays(sa *SA, id core.ID) error {
	if n := len(id.Data); n > MaxID {
		return Refuse(NotProven, "the peer's ID has %d bytes, at most %d are accepted: give it a shorter my-id", n, MaxID)
	}
	sa.Name(id)
	return nil
}

// ChooseIdentity is for the responder: it finds the identity that the claim of an initiator
// stands for, and with it who we are.
func ChooseIdentity(sa *SA, c auth.Claim) error { return ChooseAmong(sa, sa.Peer.Identities, c) }

// ChooseAmong is the same among some identities of the peer.
func ChooseAmong(sa *SA, ids []*core.Identity, c auth.Claim) error {
	sa.Identity = auth.Match(ids, c, sa.Host.Config().Trust)
	if sa.Identity == nil {
		parts := Explainer{sa}.IdentityParts(ids, c.Expected)
		switch {
		case c.Expected.Type == core.IDNone:
			return mismatched(NotProven, parts, "no identity of peer %q fits the ID %s: add one with remote-id = %q", sa.Peer.Name, sa.PeerID, sa.PeerID)
		case slices.ContainsFunc(ids, func(id *core.Identity) bool { return auth.Is(id, c.Expected) }):
			return mismatched(NotProven, parts, "no identity of peer %q that can be %s, for whom the peer %s asks, has its ID: add one with remote-id = %q",
				sa.Peer.Name, c.Expected, sa.PeerID, sa.PeerID)
		}
		return mismatched(NotProven, parts, "the peer %s asks for %s, and no identity of peer %q is that: write it as my-id of an identity, or have the peer ask for what we are",
			sa.PeerID, c.Expected, sa.Peer.Name)
	}
	sa.MyID = auth.As(sa.Identity, c.Expected, sa.Local.Addr())
	return notOurselves(sa)
}

// CheckIdentity is for the initiator: the responder has to be whom our identity names.
func CheckIdentity(sa *SA) error {
	if !auth.Accepts(sa.Identity, sa.PeerID) {
		return mismatched(NotProven, Explainer{sa}.IdentityParts([]*core.Identity{sa.Identity}, core.ID{}), "the peer says it is %s, and remote-id wants %s: write what it is as remote-id, or what remote-id has as my-id at the peer", sa.PeerID, sa.Identity.RemoteText())
	}
	return notOurselves(sa)
}

// TurnOut says that the peer turned out to be another one of the configuration than its address said.
func TurnOut(sa *SA, p *core.Peer) {
	if p != sa.Peer {
		sa.Others.Moves(sa, p)
	}
}

func notOurselves(sa *SA) error {
	if saysItIsUs(sa) {
		return Refuse(NotProven, "the peer says it is %s, which is our own my-id: give each side a my-id of its own; if they have one, somebody sends our own messages back to us", sa.PeerID)
	}
	return nil
}

// saysItIsUs reports whether the peer says that it is who we are, with a secret that
// proves no more than that it has what we have. Only a my-id that is written is
// ours alone, and no address: two sites behind NATs may have the same.
func saysItIsUs(sa *SA) bool {
	id := sa.Identity
	if !auth.Of(id.Auth).Symmetric || id.Remote() != id.Auth {
		return false
	}
	switch id.MyID.Type {
	case core.IDNone, core.IDIPv4, core.IDIPv6:
		return false
	}
	return auth.Same(id.MyID, sa.PeerID)
}
