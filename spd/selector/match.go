package selector

import "net/netip"

// IANA protocol numbers whose "port" is a message type: it belongs to the
// sender alone (RFC 4301 §4.4.1.1), so only the source's selector is asked.
const (
	protoICMP     = 1
	protoICMPv6   = 58
	protoMobility = 135
)

// Typed says whether proto carries a message type where others carry ports:
// type<<8|code for ICMP and ICMPv6, type<<8 for the IPv6 mobility header
// (RFC 7296 §3.13.1).
func Typed(proto uint8) bool {
	return proto == protoICMP || proto == protoICMPv6 || proto == protoMobility
}

// Valid says whether t denotes at least one packet: addresses of one family in
// order, ports in order or OPAQUE. What is not valid contains nothing.
func (t TS) Valid() bool {
	return t.Lo.IsValid() && t.Lo.BitLen() == t.Hi.BitLen() && t.Lo.Compare(t.Hi) <= 0 &&
		(t.PortLo <= t.PortHi || t.IsOpaque())
}

// IsOpaque says whether t asks for packets whose ports cannot be seen
// (PortLo 65535, PortHi 0: RFC 7296 §3.13.1, RFC 4301 §4.4.1.1).
func (t TS) IsOpaque() bool { return t.PortLo == 65535 && t.PortHi == 0 }

// AnyPort says whether t puts no condition on the port. Such a selector also
// covers OPAQUE.
func (t TS) AnyPort() bool { return t.PortLo == 0 && t.PortHi == 65535 }

// IsAny says whether t covers every packet of its address family.
func (t TS) IsAny() bool {
	if t.Proto != 0 || !t.AnyPort() {
		return false
	}
	p, ok := t.Prefix()
	return ok && p.Bits() == 0
}

// Contains says whether a packet's end (address, protocol, port) is in t. An
// OPAQUE selector contains no packet whose port is known.
func (t TS) Contains(a netip.Addr, proto uint8, port uint16) bool {
	return t.containsAddr(a) && t.containsProto(proto) && t.PortLo <= port && port <= t.PortHi
}

// ContainsOpaque is Contains for a packet whose port is not in it: true where
// any port or OPAQUE is asked for.
func (t TS) ContainsOpaque(a netip.Addr, proto uint8) bool {
	return t.containsAddr(a) && t.containsProto(proto) && (t.AnyPort() || t.IsOpaque())
}

// Compare orders IPv4 before IPv6, so an address of the other family is never
// between Lo and Hi.
func (t TS) containsAddr(a netip.Addr) bool {
	return t.Lo.IsValid() && t.Lo.Compare(a) <= 0 && a.Compare(t.Hi) <= 0
}

func (t TS) containsProto(proto uint8) bool { return t.Proto == 0 || t.Proto == proto }

// Covers says whether every packet of u is in t. Nothing covers, and is
// covered by, a selector that is not valid.
func (t TS) Covers(u TS) bool {
	return t.Valid() && u.Valid() &&
		t.Lo.Compare(u.Lo) <= 0 && u.Hi.Compare(t.Hi) <= 0 && // see containsAddr: of one family
		t.containsProto(u.Proto) && t.coversPorts(u)
}

func (t TS) coversPorts(u TS) bool {
	if u.IsOpaque() {
		return t.AnyPort() || t.IsOpaque()
	}
	return !t.IsOpaque() && t.PortLo <= u.PortLo && u.PortHi <= t.PortHi
}

// Intersect is what a and b have in common; false where that is nothing.
func Intersect(a, b TS) (TS, bool) {
	if !a.Valid() || !b.Valid() {
		return TS{}, false
	}
	// Of two address families, nothing is between the higher Lo and the lower Hi; of OPAQUE and
	// a range of ports likewise.
	if b.Lo.Compare(a.Lo) > 0 {
		a.Lo = b.Lo
	}
	if b.Hi.Compare(a.Hi) < 0 {
		a.Hi = b.Hi
	}
	if a.Lo.Compare(a.Hi) > 0 {
		return TS{}, false
	}
	switch {
	case a.Proto == 0:
		a.Proto = b.Proto
	case b.Proto != 0 && a.Proto != b.Proto:
		return TS{}, false
	}
	switch {
	case a.AnyPort():
		a.PortLo, a.PortHi = b.PortLo, b.PortHi
		return a, true
	case b.AnyPort():
		return a, true
	case a.IsOpaque() && b.IsOpaque():
		return a, true
	}
	a.PortLo, a.PortHi = max(a.PortLo, b.PortLo), min(a.PortHi, b.PortHi)
	if a.PortLo > a.PortHi {
		return TS{}, false
	}
	return a, true
}

// MatchesOut says whether a packet that leaves is in p. For a typed protocol
// localPort is the type and remotePort is ignored.
func (p Pair) MatchesOut(local, remote netip.Addr, proto uint8, localPort, remotePort uint16) bool {
	if !p.Local.Contains(local, proto, localPort) {
		return false
	}
	if Typed(proto) {
		return p.Remote.containsAddr(remote) && p.Remote.containsProto(proto)
	}
	return p.Remote.Contains(remote, proto, remotePort)
}

// MatchesIn says whether a packet that arrives is in p. For a typed protocol
// remotePort is the type and localPort is ignored.
func (p Pair) MatchesIn(local, remote netip.Addr, proto uint8, localPort, remotePort uint16) bool {
	return Pair{Local: p.Remote, Remote: p.Local}.MatchesOut(remote, local, proto, remotePort, localPort)
}

// Matches is MatchesOut or MatchesIn for a caller that does not know the
// direction. They differ for typed protocols alone, where the port that is not
// the type is 0 and so tells the direction, except for type 0 code 0 (echo
// reply), which may match either way.
func (p Pair) Matches(local, remote netip.Addr, proto uint8, localPort, remotePort uint16) bool {
	switch {
	case !Typed(proto) || remotePort == 0 && localPort != 0:
		return p.MatchesOut(local, remote, proto, localPort, remotePort)
	case localPort == 0 && remotePort != 0:
		return p.MatchesIn(local, remote, proto, localPort, remotePort)
	}
	return p.MatchesOut(local, remote, proto, localPort, remotePort) ||
		p.MatchesIn(local, remote, proto, localPort, remotePort)
}

// MatchesOpaque says whether a packet whose ports cannot be seen (a fragment
// that is not the first) is in p, in either direction: ports must be any or
// OPAQUE at both ends (RFC 4301 §7).
func (p Pair) MatchesOpaque(local, remote netip.Addr, proto uint8) bool {
	return p.Local.ContainsOpaque(local, proto) && p.Remote.ContainsOpaque(remote, proto)
}

// Covers says whether each end of p covers that of q.
func (p Pair) Covers(q Pair) bool {
	return p.Local.Covers(q.Local) && p.Remote.Covers(q.Remote)
}

// Reverse is the pair as the peer sees it.
func (p Pair) Reverse() Pair { return Pair{Local: p.Remote, Remote: p.Local} }

// IntersectPair is what a and b have in common. A protocol that only one end
// names becomes that of both ends: a packet has one.
func IntersectPair(a, b Pair) (Pair, bool) {
	local, ok := Intersect(a.Local, b.Local)
	if !ok {
		return Pair{}, false
	}
	remote, ok := Intersect(a.Remote, b.Remote)
	if !ok {
		return Pair{}, false
	}
	return unifyProto(local, remote)
}

func unifyProto(local, remote TS) (Pair, bool) {
	switch {
	case local.Lo.BitLen() != remote.Lo.BitLen():
		return Pair{}, false
	case local.Proto == 0:
		local.Proto = remote.Proto
	case remote.Proto == 0:
		remote.Proto = local.Proto
	case local.Proto != remote.Proto:
		return Pair{}, false
	}
	return Pair{Local: local, Remote: remote}, true
}
