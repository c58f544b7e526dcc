package simnet

import "net/netip"

// NAT is a box that translates addresses and ports (NAPT). Mapping and
// filtering do not depend on the other end (RFC 4787 §4.1, §5): one inner
// address and port has one outer port, and whoever sends there gets in.
type NAT struct {
	outer netip.Addr
	next  uint16
	out   map[netip.AddrPort]uint16 // inner to outer port
	in    map[uint16]netip.AddrPort // and back
}

const (
	firstPort = 1024
	allPorts  = 65536 - firstPort
)

// NewNAT makes a box with one outer address. Outer ports are given in a row,
// from 1024 on.
func NewNAT(outer netip.Addr) *NAT {
	n := &NAT{outer: outer, next: firstPort}
	n.Flush()
	return n
}

// Outer is the box's address outside.
func (n *NAT) Outer() netip.Addr { return n.outer }

// Renumber gives the box another outer address; what it forwarded is forgotten.
func (n *NAT) Renumber(outer netip.Addr) {
	n.outer = outer
	n.Flush()
}

// Out is what inner looks like outside; the first call makes the mapping. It
// is false if no port is left.
func (n *NAT) Out(inner netip.AddrPort) (netip.AddrPort, bool) {
	port, ok := n.out[inner]
	if !ok {
		if len(n.in) == allPorts {
			return netip.AddrPort{}, false
		}
		port = n.free()
		n.out[inner], n.in[port] = port, inner
	}
	return netip.AddrPortFrom(n.outer, port), true
}

// Forward lets in what arrives for an outer port, as an administrator of the box
// would write it down. Flush forgets it too.
func (n *NAT) Forward(port uint16, inner netip.AddrPort) {
	n.out[inner], n.in[port] = port, inner
}

// free is the next port that is not mapped.
func (n *NAT) free() uint16 {
	for {
		port := n.next
		n.next++
		if n.next == 0 {
			n.next = firstPort
		}
		if _, used := n.in[port]; !used {
			return port
		}
	}
}

// In is who inside gets what arrives for outer; false if there is no mapping.
func (n *NAT) In(outer netip.AddrPort) (netip.AddrPort, bool) {
	if outer.Addr() != n.outer {
		return netip.AddrPort{}, false
	}
	inner, ok := n.in[outer.Port()]
	return inner, ok
}

// Flush forgets all mappings, as a box does that was restarted: what leaves
// next gets a port that was not in use before, what still comes for an old port
// is lost.
func (n *NAT) Flush() {
	n.out = map[netip.AddrPort]uint16{}
	n.in = map[uint16]netip.AddrPort{}
}
