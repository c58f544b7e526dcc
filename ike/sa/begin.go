package sa

import (
	"errors"
	"time"

	"culvert/ike/auth"
	"culvert/ike/core"
)

// How an IKE SA begins, whatever its version says in its first messages.

// Initiate makes an IKE SA as initiator. The wanted policies get CHILD SAs, the first of
// them together with the SA; those that name an identity name the same, which is whom we
// then are. Its Protocol is still to be set.
func Initiate(env *core.Env, owner Owner, peer *core.Peer, p Path, wanted []*core.Policy) *SA {
	sa := New(env, owner, peer, p)
	sa.Initiator = true
	sa.SPIi = env.RandomSPI()
	sa.Wanted = wanted
	for _, p := range wanted {
		if p.Identity != nil {
			sa.Identity = p.Identity
		}
	}
	sa.NATT = p.Remote.Port() == peer.NATT()
	return sa
}

// Accept makes the half-open IKE SA of a request that somebody began with, under the SPI of
// its initiator. Where the peer has not proved who it is within life, the SA ends; next is
// what it was to go on with, for people. Its Protocol is still to be set.
func Accept(env *core.Env, owner Owner, peer *core.Peer, spii uint64, d core.Datagram, life time.Duration, next string) *SA {
	sa := New(env, owner, peer, PathOf(d))
	sa.InitFrom = d.Remote
	sa.State = HalfOpen
	sa.SPIi, sa.SPIr = spii, env.RandomSPI()
	sa.Timers.Half = env.After(life, func() {
		sa.End(true, "the peer did not go on with %s within %v", next, life)
	})
	return sa
}

// ErrReflected: a message carries what only we can have drawn. Somebody on the path sends our
// own messages back to us from the peer's address; a peer with a pre-shared key would then
// have us authenticate ourselves as the peer.
var ErrReflected = errors.New("what we say was sent back to us: check that the peer's address is not our own, and who is on the path")

// SaysItIsUs reports whether the peer says that it is who we are, with a secret that
// proves no more than that it has what we have. Only a my-id that is written is
// ours alone, and no address: two sites behind NATs may have the same.
func SaysItIsUs(sa *SA) bool {
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
