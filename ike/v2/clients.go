package v2

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/ike/message"
)

// Who is who. A peer says who it is by its ID. What that is worth depends on how it
// proved itself:
//
//	proven   a certificate has the ID, or the configuration names the ID beside a
//	         secret that is for nobody else
//	claimed  a name (FQDN, user-FQDN, DN) under a secret that others have too: nobody
//	         but its owner is likely to say it, but everybody could
//	nothing  an address or a key-id under such a secret, or remote-id = "ignore".
//	         Addresses are the default ID, and each private network may have the same
//
// In the first two cases the ID names somebody, and IKE SAs with the same ID are
// one person's. In the last one it names nobody. Then, and where one person has
// several devices, the path decides: who comes from where an IKE SA with the same
// ID is, is the device that has it. A peer that the configuration gives one address, or a
// DNS name, is one device whatever its ID is worth.

// proven reports whether nobody else can have the peer's ID.
func (sa *SA) proven() bool {
	id := sa.identity
	switch {
	case id == nil || id.Ignore:
		return false
	case auth.Of(id.Remote()).Certificate: // also with match-by=certificate: the certificate has the ID
		return true
	}
	return id.RemoteID.Data != "" && !sa.owner.SharesSecret(id)
}

// named reports whether the peer's ID names somebody.
func (sa *SA) named() bool {
	if sa.identity == nil || sa.identity.Ignore {
		return false
	}
	switch sa.peerID.Type {
	case core.IDFQDN, core.IDUser, core.IDDN:
		return true
	}
	return sa.proven()
}

// sameDevice reports whether sa, which has the same ID as s, comes from the device
// that has s: one that authenticates anew, or resumes, or has forgotten s.
func (sa *SA) sameDevice(s *SA) bool {
	switch {
	case s.identity != sa.identity || s.state == Ended:
		return false
	case s.remote == sa.remote || sa.resumes(s):
		return true
	}
	// Without a NAT in between an address is one host's, whatever port it speaks from.
	clear := func(n natState) bool { return n.supported && !n.remote }
	return s.remote.Addr() == sa.remote.Addr() && clear(s.nat) && clear(sa.nat)
}

// samePerson reports whether s, which has the same ID, is of the same peer, as far
// as anybody can tell.
func (sa *SA) samePerson(s *SA) bool {
	return s.identity == sa.identity && (sa.named() || oneGateway(sa.peer, sa.identity)) || sa.sameDevice(s)
}

// oneGateway reports whether a peer that proved itself by id is one gateway with an address of
// its own in the configuration. It begins its IKE SAs from there, so that all of them are one
// device's, also those that MOBIKE has taken elsewhere.
func oneGateway(p *core.Peer, id *core.Identity) bool {
	return id != nil && !id.Ignore && id.Generate == core.GenerateNo && (p.DNSName != "" || p.Address.IsSingleIP())
}

// settleHome notes where the client was when it was first seen: its key where its ID
// names nobody. All IKE SAs of one device have the same, wherever it goes.
func (sa *SA) settleHome() {
	if sa.home.IsValid() {
		return // a ticket says it
	}
	sa.home = sa.remote.Addr().Unmap().WithZone("")
	for _, s := range sa.owner.Namesakes(sa) {
		if s.home.IsValid() && sa.sameDevice(s) {
			sa.home = s.home
			return
		}
	}
}

// owner is the peer as the book of leases knows it, after a restart, too. Who
// claims an ID is not who proved it, and no ID makes one key look like another.
func (sa *SA) leaseOwner() string {
	id := fmt.Sprintf("%c%s", byte(sa.peerID.Type), sa.peerID.Data)
	switch {
	case sa.proven():
		return sa.peer.Name + "\x00" + id
	case sa.named():
		return sa.peer.Name + "\x00\x00claimed\x00" + id
	}
	sa.settleHome()
	return fmt.Sprintf("%s\x00\x00at %v\x00%s", sa.peer.Name, sa.home, id)
}

// Client is the peer as a key for what only one client may have at a time.
func (sa *SA) Client() string {
	if sa.named() {
		return sa.leaseOwner()
	}
	return fmt.Sprintf("%s\x00%x", sa.leaseOwner(), sa.number())
}

// Claims reports whether the peer of sa may be the one of s, which may have lost s.
func (sa *SA) Claims(s *SA) bool { return sa.leaseOwner() == s.leaseOwner() }

// --- INITIAL_CONTACT ---

// initialContact says that we know of no other SA with the peer, or hears it
// (RFC 7296 §2.4): what is left of an earlier life of the peer goes away.
type initialContact struct{ noop }

func (*initialContact) request(x *exchange) error {
	sa := x.sa
	if !sa.peer.InitialContact {
		return nil
	}
	for s := range sa.owner.Siblings(sa) {
		if s.state == Established {
			return nil
		}
	}
	x.out = append(x.out, &message.Notify{Kind: message.NotifyInitialContact})
	return nil
}

func (*initialContact) settle(x *exchange) error {
	if x.mine {
		return nil
	}
	for _, s := range x.sa.owner.Namesakes(x.sa) {
		switch {
		case !x.forgets(s):
		case x.sa.sameDevice(s):
			s.end(false, "the peer made initial contact anew: it had forgotten this SA")
		default:
			s.depose("the peer made initial contact from %v: it says that it has no other SA (ignore-initial-contact lets several devices be one peer)", x.sa.remote)
		}
	}
	return nil
}

// forgets reports whether the request says by INITIAL_CONTACT that its peer has no
// s any more. One that came up after this one began is no leftover: both ends
// began at once.
func (x *exchange) forgets(s *SA) bool {
	return notify(x.in, message.NotifyInitialContact) != nil && !x.sa.identity.IgnoreContact &&
		s.state >= Established && s.established.Before(x.sa.created) && x.sa.samePerson(s)
}

// depose ends an IKE SA at once in favour of another one. The peer is told, in case
// that it is alive. Nobody waits for the answer: who connects faster than a Delete
// is given up must not be kept for that.
func (sa *SA) depose(format string, a ...any) {
	if sa.state == Established {
		sa.forgetTickets()
		id := sa.sendID
		if sa.current != nil && sa.current.raw != nil {
			id++
		}
		sa.part(id, &message.Delete{Protocol: uint8(core.ProtoIKE)})
	}
	sa.end(false, format, a...)
}

// --- clients of one policy ---

// Several clients of one policy may have the same addresses: hosts behind one NAT in
// transport mode, or networks with the same numbers. Where the policy is of level
// unique the data plane keeps their conversations apart, and has to know which CHILD
// SAs are one client's.

// clientOf is the number of the peer as a client of a policy; 0 where clients are not told apart.
func (sa *SA) clientOf(p *core.Policy) uint64 {
	if !p.Unique {
		return 0
	}
	return sa.number()
}

// number tells devices apart. It is the same for all IKE SAs of one device, and for
// one whose ID is its own mostly also when it comes back. Where the secret is shared,
// or one certificate is used by several at once, where the device first came from is
// in it as well.
func (sa *SA) number() uint64 {
	if sa.client != 0 {
		return sa.client
	}
	var taken []uint64
	for _, s := range sa.owner.Namesakes(sa) {
		switch {
		case s.client == 0 || s.state == Ended:
		case sa.sameDevice(s), s.identity == sa.identity && oneGateway(sa.peer, sa.identity):
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
		sa.client = hashed(sa.peer.Name, sa.peerID, where)
		where += sa.remote.String()
	}
	return sa.client
}

// sole is alone, for an identity that is known.
func (sa *SA) sole() bool { return sa.identity != nil && sa.alone() }

func hashed(peer string, id core.ID, where string) uint64 {
	h := sha256.New()
	for _, s := range []string{peer, string([]byte{byte(id.Type)}), id.Data, where} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
		h.Write([]byte(s))
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}
