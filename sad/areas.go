package sad

import (
	"encoding/binary"
	"net/netip"

	"culvert/internal/packet/wire"
	"culvert/spd/selector"
)

// areas are the selector pairs of a CHILD SA, made ready for a packet's look-up:
// addresses are compared as numbers first, and only a pair that asks for more
// than addresses is asked itself.
type areas []area

type area struct {
	pair          *selector.Pair
	local, remote span
	is4           bool
	open          bool // any protocol, any port
}

type span struct{ lo, hi number }

// number is an address. IPv4 is in its low 32 bits.
type number struct{ hi, lo uint64 }

// compileAreas leaves out what no packet can match. The pairs must not change.
func compileAreas(pairs []selector.Pair) areas {
	var list areas
	for i := range pairs {
		p := &pairs[i]
		if !p.Local.Valid() || !p.Remote.Valid() || p.Local.Lo.Is4() != p.Remote.Lo.Is4() {
			continue
		}
		list = append(list, area{
			pair: p, local: spanOf(p.Local), remote: spanOf(p.Remote), is4: p.Local.Lo.Is4(),
			open: p.Local.Proto == 0 && p.Remote.Proto == 0 && p.Local.AnyPort() && p.Remote.AnyPort(),
		})
	}
	return list
}

func spanOf(t selector.TS) span { return span{numberOf(t.Lo), numberOf(t.Hi)} }

func numberOf(a netip.Addr) number {
	if a.Is4() {
		b := a.As4()
		return number{0, uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return number{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (s *span) holds(n number) bool {
	return (s.lo.hi < n.hi || s.lo.hi == n.hi && s.lo.lo <= n.lo) &&
		(n.hi < s.hi.hi || n.hi == s.hi.hi && n.lo <= s.hi.lo)
}

// cover reports whether one of the pairs contains a packet. f is as it is in the
// packet; inbound, its destination is on our side. A fragment that hides its
// ports is only in a pair that leaves them open (RFC 4301 §4.4.1.1).
func (l areas) cover(f *wire.Flow, inbound bool) bool {
	local, remote, is4 := numberOf(f.Src), numberOf(f.Dst), f.Src.Is4()
	if inbound {
		local, remote = remote, local
	}
	for i := range l {
		a := &l[i]
		if a.is4 == is4 && a.local.holds(local) && a.remote.holds(remote) && (a.open || a.matches(f, inbound)) {
			return true
		}
	}
	return false
}

// reach reports whether one of the pairs contains some packet with f's addresses
// and protocol, whatever its ports.
func (l areas) reach(f *wire.Flow, inbound bool) bool {
	local, remote, is4 := numberOf(f.Src), numberOf(f.Dst), f.Src.Is4()
	if inbound {
		local, remote = remote, local
	}
	for i := range l {
		a := &l[i]
		if a.is4 == is4 && a.local.holds(local) && a.remote.holds(remote) &&
			(a.pair.Local.Proto == 0 || a.pair.Local.Proto == f.Proto) && (a.pair.Remote.Proto == 0 || a.pair.Remote.Proto == f.Proto) {
			return true
		}
	}
	return false
}

func (a *area) matches(f *wire.Flow, inbound bool) bool {
	switch {
	case f.Opaque && inbound:
		return a.pair.MatchesOpaque(f.Dst, f.Src, f.Proto)
	case f.Opaque:
		return a.pair.MatchesOpaque(f.Src, f.Dst, f.Proto)
	case inbound:
		return a.pair.MatchesIn(f.Dst, f.Src, f.Proto, f.DstPort, f.SrcPort)
	}
	return a.pair.MatchesOut(f.Src, f.Dst, f.Proto, f.SrcPort, f.DstPort)
}
