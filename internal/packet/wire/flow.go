package wire

import "net/netip"

// Flow is what a policy can see of a packet. Addresses are unmapped and have
// no zone. SrcPort and DstPort are zero where the protocol has none; for ICMP
// SrcPort is type<<8|code and DstPort is 0 (the IPv6 mobility header: type<<8).
// A Flow is comparable and can be the key of a cache.
type Flow struct {
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
	Proto            uint8
	// Opaque: the ports are not in this packet (a fragment that is not the
	// first, RFC 4301 §4.4.1.1).
	Opaque bool
}

// Reverse is the flow of the answer.
func (f Flow) Reverse() Flow {
	f.Src, f.Dst, f.SrcPort, f.DstPort = f.Dst, f.Src, f.DstPort, f.SrcPort
	return f
}

// Is compares, what differs most first: a bare == asks a function.
func (f *Flow) Is(g *Flow) bool {
	return f.SrcPort == g.SrcPort && f.DstPort == g.DstPort && f.Dst == g.Dst && f.Src == g.Src && f.Proto == g.Proto && f.Opaque == g.Opaque
}

// Blind is the flow of a fragment that shows no ports.
func (f Flow) Blind() Flow {
	f.Opaque, f.SrcPort, f.DstPort = true, 0, 0
	return f
}
