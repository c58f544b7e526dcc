package sa

import (
	"culvert/ike/auth"
	"culvert/ike/core"
)

// maxSame is how many IKE SAs one peer, as it proved itself, can have up. Two are
// needed to authenticate anew without a break, four where both ends do so at once;
// the rest is for a user with several machines under one certificate.
const maxSame = 8

// alone reports whether who the peer is says that it is one: a certificate does,
// and an ID that the configuration names in full and that names somebody, or an address
// that is the only one of the peer. A secret that many share, with an ID that they
// may share as well, does not, nor do the road warriors of one secret.
func alone(sa *SA) bool {
	id := sa.Identity
	switch {
	case id.Ignore:
		return false
	case auth.Of(id.Remote()).Certificate:
		return true
	case id.Generate != core.GenerateNo:
		return false
	}
	return id.RemoteID.Type != core.IDNone && !id.Pattern && named(sa) || sa.Peer.DNSName != "" || sa.Peer.Address.IsSingleIP()
}

// BoundSame ends the one of the peer's IKE SAs that was silent for longest, where
// this one is one too many: a peer that forgets them, and connects again and again
// without INITIAL_CONTACT.
func (sa *SA) BoundSame() {
	if !alone(sa) {
		return
	}
	var oldest *SA
	n := 1
	count := func(s *SA) {
		if s.State != Established {
			return
		}
		n++
		if oldest == nil || s.Heard.Before(oldest.Heard) || s.Heard.Equal(oldest.Heard) && s.ID < oldest.ID {
			oldest = s
		}
	}
	if sa.Identity.MatchCert { // whatever its ID
		for s := range sa.Others.Siblings(sa) {
			if s.Identity == sa.Identity {
				count(s)
			}
		}
	} else {
		for _, s := range sa.Others.Namesakes(sa) {
			if s.Identity == sa.Identity { // by another one it is proven in another way
				count(s)
			}
		}
	}
	if n <= maxSame {
		return
	}
	oldest.Depose("%s has %d IKE SAs up, and this one was silent for longest: see why it connects again and again, or have it send INITIAL_CONTACT", sa.PeerID, maxSame)
}
