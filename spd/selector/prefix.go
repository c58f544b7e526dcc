package selector

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Prefix is the addresses of t as one prefix, where they are one.
func (t TS) Prefix() (netip.Prefix, bool) {
	if !t.Lo.IsValid() || t.Lo.BitLen() != t.Hi.BitLen() {
		return netip.Prefix{}, false
	}
	lo, hi := toU128(t.Lo), toU128(t.Hi)
	n := t.Lo.BitLen() - lo.xor(hi).len()
	// Below the common bits, Lo is all zeros and Hi is all ones.
	p := netip.PrefixFrom(t.Lo, n)
	return p, p.Masked().Addr() == t.Lo && lastAddr(p) == t.Hi
}

// Prefixes are the fewest prefixes that make up the addresses of t, in
// ascending order: at most 62 for IPv4 and 254 for IPv6.
func (t TS) Prefixes() []netip.Prefix {
	if !t.Lo.IsValid() || t.Lo.BitLen() != t.Hi.BitLen() || t.Lo.Compare(t.Hi) > 0 {
		return nil
	}
	var out []netip.Prefix
	for lo := t.Lo; ; {
		// The widest prefix that starts at lo and does not reach past Hi.
		host := min(toU128(lo).trailingZeros(), lo.BitLen())
		p := netip.PrefixFrom(lo, lo.BitLen()-host)
		last := lastAddr(p)
		for last.Compare(t.Hi) > 0 {
			p = netip.PrefixFrom(lo, p.Bits()+1)
			last = lastAddr(p)
		}
		out = append(out, p)
		if last == t.Hi {
			return out
		}
		lo = last.Next()
	}
}

// u128 is an address as a number; of IPv4, as ::ffff:a.b.c.d, only differences and
// trailing zeros count.
type u128 struct{ hi, lo uint64 }

func toU128(a netip.Addr) u128 {
	b := a.As16()
	return u128{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

func (a u128) xor(b u128) u128 { return u128{a.hi ^ b.hi, a.lo ^ b.lo} }

func (a u128) len() int {
	if a.hi != 0 {
		return 64 + bits.Len64(a.hi)
	}
	return bits.Len64(a.lo)
}

func (a u128) trailingZeros() int {
	if a.lo != 0 {
		return bits.TrailingZeros64(a.lo)
	}
	return 64 + bits.TrailingZeros64(a.hi)
}
