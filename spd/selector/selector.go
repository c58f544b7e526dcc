package selector

import "net/netip"

// TS is one traffic selector. Lo and Hi are of one address family, inclusive.
// Proto 0 is any protocol. For ICMP, PortLo and PortHi are type<<8|code.
// The comparison == is meaningful.
type TS struct {
	Lo, Hi         netip.Addr
	Proto          uint8
	PortLo, PortHi uint16
}

// Pair is what a policy or a CHILD SA covers, one rectangle of it.
type Pair struct {
	Local, Remote TS
}

// FromPrefix covers p with any protocol and any port.
func FromPrefix(p netip.Prefix) TS {
	p = p.Masked()
	return TS{Lo: p.Addr(), Hi: lastAddr(p), PortHi: 65535}
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
