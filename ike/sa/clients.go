package sa

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"culvert/ike/auth"
	"culvert/ike/core"
)

// Who is who. A peer names itself by its ID. How far the ID can be trusted depends on
// how the peer authenticated:
//
//	proven     a certificate has the ID, or the configuration names the ID beside a
//	           secret that belongs to no other ID
//	claimed    a name (FQDN, user-FQDN, DN) under a secret that others have too: only
//	           its owner is likely to use it, but everybody could
//	ambiguous  an address or a key-id under such a secret, or remote-id = "ignore".
//	           Addresses are the default ID, and hosts of several private networks may
//	           have the same address
//
//	logged in  whatever the ID is, a name and a password say which user it is. In IKEv1's hybrid
//	           authentication the ID is nobody's before
//
// In the first two cases the ID names one person, and IKE SAs with the same ID belong to
// that person. In the last case it names nobody. Then, and if one person has several
// devices, the path decides: a peer at the address and port of an IKE SA with the same ID is
// the device that has that SA. A peer that the configuration gives one address, or a
// DNS name, is one device, whatever kind of ID it has.

// Proven reports whether nobody else can have the peer's ID.
func (sa *SA) Proven() bool {
	id := sa.Identity
	switch {
	case id == nil || id.Ignore || id.Remote() == core.AuthByUser:
		return false
	case auth.Of(id.Remote()).Certificate: // also with match-by=certificate: the certificate has the ID
		return true
	}
	return id.RemoteID.Data != "" && !id.Pattern && !sa.Others.SharesSecret(id)
}

// named reports whether the peer's ID names somebody.
func named(sa *SA) bool {
	switch {
	case sa.User != "":
		return true
	case sa.Identity == nil || sa.Identity.Ignore || sa.Identity.Remote() == core.AuthByUser:
		return false
	}
	switch sa.PeerID.Type {
	case core.IDFQDN, core.IDUser, core.IDDN:
		return true
	}
	return sa.Proven()
}

// SameDevice reports whether sa, which has the same ID as s, comes from the device
// that has s: one that authenticates anew, or resumes, or has forgotten s.
func (sa *SA) SameDevice(s *SA) bool {
	switch {
	case s.Identity != sa.Identity || s.State == Ended || otherUser(sa, s):
		return false
	case s.Remote == sa.Remote || sa.Had != nil && sa.Had(s):
		return true
	}
	// Without a NAT in between an address is one host's, whatever port it speaks from.
	clear := func(n NAT) bool { return n.Supported && !n.Remote }
	return s.Remote.Addr() == sa.Remote.Addr() && clear(s.NAT) && clear(sa.NAT)
}

// SamePerson reports whether s, which has the same ID, is of the same peer, as far
// as anybody can tell.
func (sa *SA) SamePerson(s *SA) bool {
	return s.Identity == sa.Identity && !otherUser(sa, s) && (named(sa) || oneGateway(sa.Peer, sa.Identity)) || sa.SameDevice(s)
}

// otherUser reports whether two peers have logged in as different users, whatever else they say that they are.
func otherUser(a, b *SA) bool { return a.User != "" && b.User != "" && a.User != b.User }

// oneGateway reports whether a peer that proved itself by id is one gateway with an address of
// its own in the configuration. It begins its IKE SAs from there, so that all of them are one
// device's, also those that MOBIKE has taken elsewhere.
func oneGateway(p *core.Peer, id *core.Identity) bool {
	return id != nil && !id.Ignore && id.Generate == core.GenerateNo && (p.DNSName != "" || p.Address.IsSingleIP())
}

// settleHome notes where the client was when it was first seen: its key where its ID
// names nobody. All IKE SAs of one device have the same, wherever it goes.
func settleHome(sa *SA) {
	if sa.Home.IsValid() {
		return // a ticket says it
	}
	sa.Home = sa.Remote.Addr().Unmap().WithZone("")
	for _, s := range sa.Others.Namesakes(sa) {
		if s.Home.IsValid() && sa.SameDevice(s) {
			sa.Home = s.Home
			return
		}
	}
}

// Origin is where the client was when it was first seen, if its ID names nobody; else
// not valid.
func (sa *SA) Origin() netip.Addr {
	if named(sa) {
		return netip.Addr{}
	}
	settleHome(sa)
	return sa.Home
}

// LeaseOwner is the peer as the record of leases knows it, after a restart, too. Who
// claims an ID is not who proved it, and no ID makes one key look like another.
func (sa *SA) LeaseOwner() string {
	id := fmt.Sprintf("%c%s", byte(sa.PeerID.Type), sa.PeerID.Data)
	switch {
	case sa.User != "":
		return sa.Peer.Name + "\x00\x00user\x00" + sa.User
	case sa.Proven():
		return sa.Peer.Name + "\x00" + id
	case named(sa):
		return sa.Peer.Name + "\x00\x00claimed\x00" + id
	}
	settleHome(sa)
	return fmt.Sprintf("%s\x00\x00at %v\x00%s", sa.Peer.Name, sa.Home, id)
}

// Client is the peer as a key for what only one client may have at a time.
func (sa *SA) Client() string {
	if named(sa) {
		return sa.LeaseOwner()
	}
	return fmt.Sprintf("%s\x00%x", sa.LeaseOwner(), number(sa))
}

// Claims reports whether the peer of sa may be the one of s, which may have lost s.
func (sa *SA) Claims(s *SA) bool { return sa.LeaseOwner() == s.LeaseOwner() }

// Forgets reports whether a peer that says INITIAL_CONTACT to sa says with it that it has
// no s any more (RFC 7296 §2.4). One that came up after sa began is no leftover: both ends
// began at once. In IKEv1 it may be up here long before it is up at the peer.
func (sa *SA) Forgets(s *SA) bool {
	up := s.EstablishedAt
	if _, ok := s.Protocol.(Detached); ok && s.Initiator {
		if up = s.Shown; up.IsZero() {
			up = s.EstablishedAt.Add(core.TimeToGiveUp)
		}
	}
	return !sa.Identity.IgnoreContact && s.State >= Established && up.Before(sa.Created) && sa.SamePerson(s)
}

// InitialContact is for the protocol, once the peer has proved itself: it says that sa is
// the only SA that it has. What is left of its earlier life goes away.
func (sa *SA) InitialContact() {
	for _, c := range slices.Clone(sa.Children) {
		if !sa.Identity.IgnoreContact && c.made.Before(sa.Created) { // which it took over
			c.End("the peer made initial contact anew: it had forgotten this SA")
		}
	}
	for _, s := range sa.Others.Namesakes(sa) {
		switch {
		case !sa.Forgets(s):
		case sa.SameDevice(s):
			s.End(false, "the peer made initial contact anew: it had forgotten this SA")
		default:
			s.Depose("the peer made initial contact from %v: it says that it has no other SA (ignore-initial-contact lets several devices be one peer)", sa.Remote)
		}
	}
}

// Only reports whether we know of no other SA with the peer, and may say so by
// INITIAL_CONTACT.
func (sa *SA) Only() bool {
	if !sa.Peer.InitialContact {
		return false
	}
	for s := range sa.Others.Siblings(sa) {
		if Present(s) {
			return false
		}
	}
	return true
}

// --- clients of one policy ---

// Several clients of one policy may have the same addresses: hosts behind one NAT in
// transport mode, or networks with the same numbers. Where the policy is of level
// unique the data plane keeps their flows apart, and has to know which CHILD
// SAs are one client's.

// clientOf is the number of the peer as a client of a policy; 0 where clients are not told apart.
func clientOf(sa *SA, p *core.Policy) uint64 {
	if !p.Unique {
		return 0
	}
	return number(sa)
}

// number tells devices apart. It is the same for all IKE SAs of one device, and for
// one whose ID is its own mostly also when it comes back. Where the secret is shared,
// or one certificate is used by several at once, where the device first came from is
// in it as well.
func number(sa *SA) uint64 {
	if sa.client != 0 {
		return sa.client
	}
	var taken []uint64
	for _, s := range sa.Others.Namesakes(sa) {
		switch {
		case s.client == 0 || s.State == Ended:
		case sa.SameDevice(s), s.Identity == sa.Identity && oneGateway(sa.Peer, sa.Identity):
			sa.client = s.client
			return sa.client
		default:
			taken = append(taken, s.client)
		}
	}
	where := ""
	if !sole(sa) {
		where = sa.Remote.String()
	}
	for sa.client == 0 || slices.Contains(taken, sa.client) {
		sa.client = hashed(sa.Peer.Name, sa.PeerID, where)
		where += sa.Remote.String()
	}
	return sa.client
}

// sole is alone, for an identity that is known.
func sole(sa *SA) bool { return sa.Identity != nil && alone(sa) }

func hashed(peer string, id core.ID, where string) uint64 {
	h := sha256.New()
	for _, s := range []string{peer, string([]byte{byte(id.Type)}), id.Data, where} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
		h.Write([]byte(s))
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}
