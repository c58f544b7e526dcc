package ike

import (
	"crypto/sha256"
	"iter"
	"slices"
	"time"

	"culvert/ike/auth"
	"culvert/ike/core"
	ikesa "culvert/ike/sa"
)

// siblings are the IKE SAs of each peer. A hundred thousand road warriors are of
// one peer: who looks for the SAs of one of them must not meet all.
type siblings struct {
	byPeer map[string]*bench      // by the peer's name
	byID   map[string][]*ikesa.SA // by the peer's name and what it says that it is, proven or not
	// serving is how many of a peer's IKE SAs are up and were not sent elsewhere.
	serving map[string]int
	shared  map[*core.Identity]bool // whose secret is for other IDs too
}

// Serves is told of each that begins or ceases to.
func (b *siblings) Serves(sa *ikesa.SA, yes bool) {
	name := sa.Peer.Name
	if yes {
		b.serving[name]++
	} else if b.serving[name]--; b.serving[name] == 0 {
		delete(b.serving, name)
	}
}

// Moves makes an SA one of another peer.
func (b *siblings) Moves(sa *ikesa.SA, to *core.Peer) {
	b.remove(sa)
	sa.Peer = to
	b.add(sa)
}

func newSiblings() siblings {
	return siblings{byPeer: map[string]*bench{}, byID: map[string][]*ikesa.SA{}, serving: map[string]int{}}
}

func (b *siblings) add(sa *ikesa.SA) {
	name := sa.Peer.Name
	list := b.byPeer[name]
	if list == nil {
		list = &bench{}
		b.byPeer[name] = list
	}
	list.add(sa)
	b.Named(sa, core.ID{})
}

func (b *siblings) remove(sa *ikesa.SA) {
	name := sa.Peer.Name
	if list := b.byPeer[name]; list.remove(sa) {
		delete(b.byPeer, name)
	}
	b.unname(sa, sa.PeerID)
}

// Named is told when it is known who the peer says that it is.
func (b *siblings) Named(sa *ikesa.SA, was core.ID) {
	b.unname(sa, was)
	if id := sa.PeerID; id != (core.ID{}) {
		key := idKey(sa, id)
		b.byID[key] = append(b.byID[key], sa)
	}
}

func (b *siblings) unname(sa *ikesa.SA, id core.ID) {
	if id == (core.ID{}) {
		return
	}
	key := idKey(sa, id)
	list := slices.DeleteFunc(b.byID[key], func(s *ikesa.SA) bool { return s == sa })
	if len(list) == 0 {
		delete(b.byID, key)
		return
	}
	b.byID[key] = list
}

func idKey(sa *ikesa.SA, id core.ID) string { return sa.Peer.Name + "\x00" + auth.Key(id) }

// of are the SAs of a peer. Nobody may come or go meanwhile.
func (b *siblings) of(peer string) iter.Seq[*ikesa.SA] {
	return func(yield func(*ikesa.SA) bool) {
		list := b.byPeer[peer]
		if list == nil {
			return
		}
		for _, sa := range list.seats {
			if sa != nil && !yield(sa) {
				return
			}
		}
	}
}

// Siblings are the other SAs with the peer of one.
func (b *siblings) Siblings(sa *ikesa.SA) iter.Seq[*ikesa.SA] {
	return func(yield func(*ikesa.SA) bool) {
		for s := range b.of(sa.Peer.Name) {
			if s != sa && !yield(s) {
				return
			}
		}
	}
}

// SharesSecret reports whether the secret of an identity is for other IDs, too.
func (b *siblings) SharesSecret(id *core.Identity) bool { return b.shared[id] }

// Namesakes are the other SAs of a peer that says the same of itself.
func (b *siblings) Namesakes(sa *ikesa.SA) (others []*ikesa.SA) {
	id := sa.PeerID
	if id == (core.ID{}) {
		return nil
	}
	for _, s := range b.byID[idKey(sa, id)] {
		if s != sa && auth.Same(s.PeerID, id) {
			others = append(others, s)
		}
	}
	return others
}

// sharedSecrets are the identities whose secret, or the peer's key, does not say which of several IDs
// has proved itself: it stands beside another remote-id as well, or beside none.
func sharedSecrets(cfg *core.Config) map[*core.Identity]bool {
	first := map[[sha256.Size]byte]*core.Identity{}
	mixed := map[[sha256.Size]byte]bool{}
	all := func(yield func(id *core.Identity, key [sha256.Size]byte)) {
		for _, p := range cfg.Peers {
			for _, id := range p.Identities {
				switch {
				case id.RemoteKey != nil:
					yield(id, sha256.Sum256(id.RemoteKey.Public.N.Bytes()))
				case len(id.Secret) > 0:
					yield(id, sha256.Sum256(id.Secret))
				}
			}
		}
	}
	all(func(id *core.Identity, key [sha256.Size]byte) {
		if first[key] == nil {
			first[key] = id
		}
		if id.Ignore || id.Pattern || id.RemoteID.Data == "" || !auth.Same(id.RemoteID, first[key].RemoteID) {
			mixed[key] = true
		}
	})
	shared := map[*core.Identity]bool{}
	all(func(id *core.Identity, key [sha256.Size]byte) {
		if mixed[key] {
			shared[id] = true
		}
	})
	return shared
}

// bench is SAs in the order in which they came. One that leaves leaves its seat
// empty, until half of them are.
type bench struct {
	seats []*ikesa.SA
	empty int
}

func (b *bench) add(sa *ikesa.SA) {
	sa.Seat = len(b.seats)
	b.seats = append(b.seats, sa)
}

// remove reports whether that was the last.
func (b *bench) remove(sa *ikesa.SA) bool {
	b.seats[sa.Seat] = nil
	if b.empty++; 2*b.empty <= len(b.seats) {
		return false
	}
	b.seats = slices.DeleteFunc(b.seats, func(s *ikesa.SA) bool { return s == nil })
	b.empty = 0
	for i, s := range b.seats {
		s.Seat = i
	}
	return len(b.seats) == 0
}

// settling reports whether sa has a twin, and it may still be that one of them goes.
func (b *siblings) settling(sa *ikesa.SA, now time.Time) bool {
	return slices.ContainsFunc(b.Namesakes(sa), func(s *ikesa.SA) bool {
		return s.State == ikesa.Established && sa.Birth.Twin(s.Birth) && now.Before(sa.Birth.TwinsSince(s.Birth).Add(maxTwinTries*ikesa.TwinDelay))
	})
}

// hasLines reports whether a policy has a CHILD SA for one line of the data path.
func (b *siblings) hasLines(p *core.Policy) bool {
	for sa := range b.of(p.Peer.Name) {
		if ikesa.HasLines(sa, p) {
			return true
		}
	}
	return false
}

// hasChild reports whether a policy has a CHILD SA that serves it.
func (b *siblings) hasChild(p *core.Policy) bool {
	for sa := range b.of(p.Peer.Name) {
		if sa.Serves(p) && !ikesa.Lost(sa) {
			return true
		}
	}
	return false
}
