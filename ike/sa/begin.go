package sa

import (
	"crypto/sha256"
	"errors"
	"net/netip"
	"time"

	"culvert/crypto/secret"
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
	sa.InitFrom, sa.InitSum = d.Remote, sha256.Sum256(d.Data)
	sa.State = HalfOpen
	sa.SPIi, sa.SPIr = spii, env.RandomSPI()
	sa.Timers.Half = env.After(life, func() {
		if env.Explains() && !knows(sa) {
			sa.Event(core.EvNotify, "the peer did not go on with %s within %v: check that UDP %d reaches this host, and that fragments of it do", next, life, owner.Host.Config().NATTPort)
		}
		sa.End(true, "the peer did not go on with %s within %v", next, life)
	})
	return sa
}

// knows reports whether the peer has another IKE SA that is up, from the same address: then the message that this one
// began with may have been a late copy, and nothing is missing.
func knows(sa *SA) bool {
	for s := range sa.Others.Siblings(sa) {
		if s.State >= Established && s.Remote.Addr() == sa.Remote.Addr() {
			return true
		}
	}
	return false
}

// SeekSource asks the system again, while nobody answers the first message, which address of
// ours leads to the peer. If it is another one, and silent says that there is still no answer,
// the SA goes on from there: moved sends the message anew. When the address in use was chosen,
// the right one may not have been there yet: an IPv6 address is not used before it is known to
// be unique (RFC 4862 §5.4), which takes a second or two after the start of the system.
func SeekSource(sa *SA, silent func() bool, moved func()) {
	if sa.State != Connecting || sa.Peer.Local.IsValid() {
		return
	}
	sa.Env.Ask(sa.ID, core.SourceFor{Remote: sa.Remote.Addr()}, func(b secret.Bytes, err error) {
		local, ok := netip.AddrFromSlice(b)
		if local = local.Unmap(); err != nil || !ok || local == sa.Local.Addr().WithZone("") || !silent() {
			return
		}
		sa.Event(core.EvMoved, "another address of ours leads to the peer: %v", local)
		sa.Local = netip.AddrPortFrom(local, sa.Local.Port())
		moved()
	})
}

// ErrReflected: a message carries what only we can have drawn. Somebody on the path sends our
// own messages back to us from the peer's address; a peer with a pre-shared key would then
// have us authenticate ourselves as the peer.
var ErrReflected = errors.New("what we say was sent back to us: check that the peer's address is not our own, and who is on the path")
