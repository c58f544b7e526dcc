package sa

import (
	"bytes"
	"hash"
	"net/netip"
	"slices"
	"time"

	"culvert/ike/core"
	"culvert/spd/selector"
)

// Path is from where to where messages travel.
type Path struct {
	Local, Remote netip.AddrPort
	NATT          bool // by the NAT-T ports
}

// PathOf is that of a message of the peer.
func PathOf(in core.Datagram) Path { return Path{in.Local, in.Remote, in.NATT} }

// Transmit sends the datagrams of one message; they stay the protocol's.
func (sa *SA) Transmit(p Path, message [][]byte) {
	for _, raw := range message {
		sa.Stats.TxPackets++
		sa.Stats.TxBytes += uint64(len(raw))
		sa.Env.Emit(core.Send{Local: p.Local, Remote: p.Remote, NATT: p.NATT, Data: bytes.Clone(raw)})
	}
}

// Fresh is called for a message of the peer that is genuine and no repetition, so that
// nobody can have recorded it before: the peer is alive (RFC 7296 §2.4), and
// where it sends from is where it is. An initiator moves to the NAT-T port with
// IKE_AUTH; later a peer behind a NAT moves with the NAT's mapping.
func (sa *SA) Fresh(in core.Datagram) {
	sa.Hear()
	if sa.State == HalfOpen {
		sa.Path = PathOf(in)
		return
	}
	rebound(sa, PathOf(in))
}

// Hear notes that the peer is there.
func (sa *SA) Hear() {
	sa.Heard = sa.Env.Now()
	sa.hints.refute(sa.Env)
	sa.settleContest(true)
}

// rebound follows a peer whose NAT gave it another address or port, unless we
// are behind a NAT ourselves (RFC 7296 §2.23), or it will tell us where it goes
// (RFC 4555 §3.8): then Elsewhere remembers it. A peer that says it is behind a
// NAT because it wants ESP in UDP is treated like one that is.
func rebound(sa *SA, p Path) {
	sa.Elsewhere = Path{}
	if !sa.NATT || !p.NATT || sa.NAT.Local || !sa.NAT.Remote || p.Remote == sa.Remote {
		return
	}
	if a := p.Local.Addr(); !a.IsValid() || a.IsUnspecified() {
		p.Local = sa.Local // the system did not say where it arrived
	}
	if sa.Told {
		sa.Elsewhere = p
		return
	}
	sa.Path = p
	sa.MoveChildren()
	sa.Keepalives()
	sa.Event(core.EvMoved, "the peer's NAT moved it here")
}

// MoveChildren takes the CHILD SAs to the SA's path.
func (sa *SA) MoveChildren() {
	for _, c := range slices.Clone(sa.Children) {
		if c.leftBehind() {
			c.Delete("it is for the addresses that were left: the peer may ask for another")
			continue
		}
		local, remote := espPath(sa, c.Policy)
		sa.Env.Emit(core.Move{Child: c.ID, Local: local, Remote: remote, UDP: sa.InUDP(c.Policy)})
	}
}

// espPath is from where to where the ESP of a CHILD SA travels. ESP in UDP has the ports of NAT traversal
// also where IKE stays on the others: no peer looks for ESP on its port 500.
func espPath(sa *SA, p *core.Policy) (local, remote netip.AddrPort) {
	if sa.NATT || !sa.InUDP(p) {
		return sa.Local, sa.Remote
	}
	return netip.AddrPortFrom(sa.Local.Addr(), sa.Host.Config().NATTPort), netip.AddrPortFrom(sa.Remote.Addr(), sa.Peer.NATT())
}

// leftBehind: what a template made in transport mode is for the two hosts at the
// addresses that they had, and a tunnel that it made for where the peer was is for that
// address. A policy of the table says itself whom it is for.
func (c *Child) leftBehind() bool {
	if c.Policy.Made == nil {
		return false
	}
	local, remote := c.SA.Local.Addr().Unmap().WithZone(""), c.SA.Remote.Addr().Unmap().WithZone("")
	if c.Policy.Tunnel {
		return c.Policy.Made.Outer.IsValid() && c.Policy.Made.Outer != remote
	}
	return !slices.ContainsFunc(c.Pairs, func(p selector.Pair) bool { return p.Local.Lo == local && p.Remote.Lo == remote })
}

// Moved says that an authenticated packet, newer than all before, came on the
// CHILD SA from another address than the SA's.
func (c *Child) Moved(local, remote netip.AddrPort) {
	sa := c.SA
	if Present(sa) && slices.Contains(sa.Children, c) {
		rebound(sa, Path{local, remote, true})
	}
}

// NAT detection (RFC 7296 §2.23, RFC 3947 §3.2): each side sends hashes of the addresses
// as it sees them, and compares what it gets with what it sees. Where ESP is to go by
// UDP in any case (core.EncapUDP), a source hash is sent that cannot match: the
// peer then takes us to be behind a NAT and encapsulates, as it would have to if
// that were so (strongSwan's "encap = yes" does the same).

// NAT is what NAT detection found.
type NAT struct {
	Supported bool // the peer sent its hashes
	Local     bool // we are behind a NAT: the peer saw us elsewhere
	Remote    bool // the peer is, or says so
}

// Hashes are what one end sends: of where it is, as it sees that, one or several, and
// of where it sends to.
type Hashes struct{ Source, Destination [][]byte }

// FindNAT compares the peer's hashes with the path that they came on. h is the hash of
// the version of IKE: SHA-1 in IKEv2.
func FindNAT(got Hashes, h func() hash.Hash, spii, spir uint64, p Path) NAT {
	src, dst := core.NATHash(h, spii, spir, p.Remote), core.NATHash(h, spii, spir, p.Local)
	is := func(want []byte) func([]byte) bool { return func(b []byte) bool { return bytes.Equal(b, want) } }
	return NAT{Supported: len(got.Source)+len(got.Destination) > 0,
		Remote: !slices.ContainsFunc(got.Source, is(src)), // several: one of them matches if there is no NAT
		Local:  !slices.ContainsFunc(got.Destination, is(dst))}
}

// OurHashes are what we send on a path. The forged source hash is drawn once and kept: a request
// that is repeated with a cookie is otherwise unchanged (RFC 7296 §2.6).
func OurHashes(sa *SA, h func() hash.Hash, p Path, forged *[]byte) Hashes {
	src, dst := core.NATHash(h, sa.SPIi, sa.SPIr, p.Local), core.NATHash(h, sa.SPIi, sa.SPIr, p.Remote)
	if *forged == nil && (sa.Host.Config().Encapsulation == core.EncapUDP || sa.ForceUDP) {
		*forged = sa.Env.Random(len(src))
	}
	if *forged != nil {
		src = *forged
	}
	return Hashes{Source: [][]byte{src}, Destination: [][]byte{dst}}
}

// TakeNAT notes what NAT detection found when the SA begins. The error is a *Refusal: the peer
// cannot be made to send ESP in UDP.
func TakeNAT(sa *SA, n NAT) error {
	sa.NAT = n
	if n.Supported {
		return nil
	}
	if sa.Host.Config().Encapsulation == core.EncapUDP {
		return Refuse(NoProposal, "the peer does not support NAT traversal, and ESP travels in UDP here: switch NAT traversal on at the peer")
	}
	sa.NAT = NAT{} // nothing is known: as if there were none
	return nil
}

// Float moves the initiator to the NAT-T ports, where the peer supports that: that of
// the peer is 4500 unless the configuration says otherwise.
func (sa *SA) Float() {
	if sa.NATT || !sa.NAT.Supported {
		return
	}
	sa.NATT = true
	sa.Local = netip.AddrPortFrom(sa.Local.Addr(), sa.Host.Config().NATTPort)
	sa.Remote = netip.AddrPortFrom(sa.Remote.Addr(), sa.Peer.NATT())
}

// InUDP says whether a CHILD SA of a policy is carried by UDP. Without a NAT and where both ends
// leave it to us, that is so for tunnels between two of our kind, since UDP is faster. In
// transport mode it is not: who takes a packet out of UDP makes its checksum anew (RFC 3948
// §3.1.2), and one that was wrong before would come out right.
func (sa *SA) InUDP(p *core.Policy) bool {
	if p.Protocol == core.ProtoAH || p.AH {
		return false
	}
	switch sa.Host.Config().Encapsulation {
	case core.EncapRaw:
		return false
	case core.EncapDetect:
		return sa.ForceUDP && sa.NAT.Supported || sa.NAT.Local || sa.NAT.Remote || sa.WantsUDP && p.Tunnel && p.Protocol == core.ProtoESP
	}
	return true
}

// keepaliveEvery keeps a NAT's mapping alive (RFC 3948 §4: 20 s by default).
const keepaliveEvery = 20 * time.Second

// keepalives are those of an IKE SA.
type keepalives struct {
	idle
	sa *SA
}

func (k keepalives) rest() { k.sa.Env.Timers.Stop(k.sa.Timers.keepalive) }

// Keepalives go out while we are behind a NAT, every 20 s.
func (sa *SA) Keepalives() {
	sa.Env.Timers.Stop(sa.Timers.keepalive)
	if !sa.NAT.Local || !sa.NATT || sa.State >= Replaced {
		return
	}
	sa.Timers.keepalive = sa.Env.After(keepaliveEvery, func() {
		sa.Env.Emit(core.KeepaliveTo{Local: sa.Local, Remote: sa.Remote})
		sa.Keepalives()
	})
}

// Through puts the addresses of the path into selectors of single addresses, for
// transport mode: ours where we are behind a NAT, the peer's where it is, or says so
// (RFC 7296 §2.23.1).
func (n NAT) Through(p Path, local, remote []selector.TS) (l, r []selector.TS) {
	return readdressed(local, n.Local, p.Local.Addr()), readdressed(remote, n.Remote, p.Remote.Addr())
}

func readdressed(list []selector.TS, natted bool, a netip.Addr) []selector.TS {
	a = a.Unmap().WithZone("")
	if !natted || !a.IsValid() || a.IsUnspecified() {
		return list
	}
	var out []selector.TS
	for _, t := range list {
		if t.Lo == t.Hi && t.Lo.Is4() == a.Is4() {
			t.Lo, t.Hi = a, a
		}
		out = append(out, t)
	}
	return out
}
