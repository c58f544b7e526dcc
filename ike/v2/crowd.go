package v2

import (
	"culvert/ike/auth"
	"culvert/ike/core"
)

// maxSame is how many IKE SAs one peer, as it proved itself, can have up. Two are
// needed to authenticate anew without a break, four where both ends do so at once;
// the rest is for a user with several machines under one certificate.
const maxSame = 8

// alone reports whether who the peer is says that it is one: a certificate does,
// and an ID that the configuration names and that names somebody, or an address
// that is the only one of the peer. A secret that many share, with an ID that they
// may share as well, does not, nor do the road warriors of one secret.
func (sa *SA) alone() bool {
	id := sa.identity
	switch {
	case id.Ignore:
		return false
	case auth.Of(id.Remote()).Certificate:
		return true
	case id.Generate != core.GenerateNo:
		return false
	}
	return id.RemoteID.Type != core.IDNone && sa.named() || sa.peer.DNSName != "" || sa.peer.Address.IsSingleIP()
}

// boundSame ends the one of the peer's IKE SAs that was silent for longest, where
// this one is one too many: a peer that forgets them, and connects again and again
// without INITIAL_CONTACT.
func (sa *SA) boundSame() {
	if !sa.alone() {
		return
	}
	var oldest *SA
	n := 1
	count := func(s *SA) {
		if s.state != Established {
			return
		}
		n++
		if oldest == nil || s.heard.Before(oldest.heard) || s.heard.Equal(oldest.heard) && s.id < oldest.id {
			oldest = s
		}
	}
	if sa.identity.MatchCert { // whatever its ID
		for s := range sa.owner.Siblings(sa) {
			if s.identity == sa.identity {
				count(s)
			}
		}
	} else {
		for _, s := range sa.owner.Namesakes(sa) {
			if s.identity == sa.identity { // by another one it is proven in another way
				count(s)
			}
		}
	}
	if n <= maxSame {
		return
	}
	oldest.depose("%s has %d IKE SAs up, and this one was silent for longest: see why it connects again and again, or have it send INITIAL_CONTACT", sa.peerID, maxSame)
}
