package wire

import (
	"encoding/binary"
	"net/netip"
)

// Ports are the two numbers that tell conversations between two hosts apart, and
// where in the packet they stand. Of an echo that is its identifier alone, which
// is the port of who asks (RFC 5508 §3.1); the other number is 0.
type Ports struct {
	Src, Dst     uint16
	SrcAt, DstAt int // offsets from the start of the packet; 0: the protocol has no such number
}

// PortsOf reads them from a whole packet, or a first fragment, that passed ParseFlow.
func PortsOf(pkt []byte, i Info) Ports {
	return portsAt(pkt[:i.Total], i.Payload, i.Proto)
}

func portsAt(pkt []byte, at int, proto uint8) Ports {
	upper := pkt[at:]
	switch {
	case len(upper) < 8:
	case proto == ProtoTCP || proto == ProtoUDP:
		return Ports{binary.BigEndian.Uint16(upper), binary.BigEndian.Uint16(upper[2:]), at, at + 2}
	case proto == ProtoICMP && upper[0] == 8 || proto == ProtoICMPv6 && upper[0] == 128:
		return Ports{Src: binary.BigEndian.Uint16(upper[4:]), SrcAt: at + 4}
	case proto == ProtoICMP && upper[0] == 0 || proto == ProtoICMPv6 && upper[0] == 129:
		return Ports{Dst: binary.BigEndian.Uint16(upper[4:]), DstAt: at + 4}
	}
	return Ports{}
}

// SetPort writes a number that PortsOf found, into the 16 bits at pkt[at], and
// brings the layer's checksum along by the difference (RFC 1624 §3), so that what
// was wrong stays wrong. pkt passed ParseFlow.
func SetPort(pkt []byte, i Info, at int, value uint16) {
	setPort(pkt[:i.Total], i.Payload, i.Proto, at, value)
}

// setPort returns the sums of the words that it changed, before and after. A
// checksum that is cut off is left alone.
func setPort(pkt []byte, upper int, proto uint8, at int, value uint16) (before, after uint16) {
	was := binary.BigEndian.Uint16(pkt[at:])
	binary.BigEndian.PutUint16(pkt[at:], value)
	sum := upper + 2
	switch proto {
	case ProtoTCP:
		sum = upper + 16
	case ProtoUDP:
		sum = upper + 6
	}
	if sum+2 > len(pkt) {
		return was, value
	}
	old := binary.BigEndian.Uint16(pkt[sum:])
	if proto == ProtoUDP && old == 0 {
		return was, value // it has none
	}
	now := adjusted(old, was, value)
	if proto == ProtoUDP && now == 0 {
		now = 0xffff
	}
	binary.BigEndian.PutUint16(pkt[sum:], now)
	return add16(was, old), add16(value, now)
}

// adjusted is a checksum after words that it covers went from one sum to another.
func adjusted(sum, before, after uint16) uint16 {
	return ^add16(add16(^sum, ^before), after)
}

// add16 is ones' complement addition.
func add16(a, b uint16) uint16 {
	v := uint32(a) + uint32(b)
	return uint16(v>>16 + v&0xffff)
}

// Quote is what an ICMP error says of the packet that it is about.
type Quote struct {
	Src, Dst netip.Addr
	Proto    uint8
	Ports    // offsets count from the start of the ICMP packet

	upper int
}

// QuoteOf reads the packet that a whole ICMP or ICMPv6 error quotes (RFC 792, RFC
// 4443 §2.4); of it, eight bytes behind its header are enough. Not ok: no error, or
// it shows no ports: a fragment that is not the first, IPv6 with extension headers.
func QuoteOf(pkt []byte, i Info) (q Quote, ok bool) {
	at := i.Payload + ICMPHeaderLen
	if at > i.Total || !isError(i.Proto, pkt[i.Payload]) {
		return q, false
	}
	pkt = pkt[:i.Total]
	inner := pkt[at:]
	switch {
	case i.Proto == ProtoICMP && len(inner) >= IPv4HeaderLen && inner[0]>>4 == 4:
		n := int(inner[0]&0xf) * 4
		if n < IPv4HeaderLen || n > len(inner) || binary.BigEndian.Uint16(inner[6:])&0x1fff != 0 {
			return q, false
		}
		q.Src, q.Dst = netip.AddrFrom4([4]byte(inner[12:])), netip.AddrFrom4([4]byte(inner[16:]))
		q.Proto, q.upper = inner[9], at+n
	case i.Proto == ProtoICMPv6 && len(inner) >= IPv6HeaderLen && inner[0]>>4 == 6:
		q.Src, q.Dst = netip.AddrFrom16([16]byte(inner[8:])), netip.AddrFrom16([16]byte(inner[24:]))
		q.Proto, q.upper = inner[6], at+IPv6HeaderLen
	}
	q.Ports = portsAt(pkt, q.upper, q.Proto)
	return q, q.SrcAt|q.DstAt != 0
}

// QuotedFlow is the flow of the packet that an ICMP or ICMPv6 error quotes, as far as
// the quotation shows it: Opaque where the ports are not in it. Not ok: pkt is no
// error, is a fragment, or quotes no IP header.
func QuotedFlow(pkt []byte, i Info) (f Flow, ok bool) {
	at := i.Payload + ICMPHeaderLen
	if i.Fragment() || at > i.Total || !isError(i.Proto, pkt[i.Payload]) {
		return f, false
	}
	inner := pkt[at:i.Total]
	switch {
	case i.Proto == ProtoICMP && len(inner) >= IPv4HeaderLen && inner[0]>>4 == 4:
		n := int(inner[0]&0xf) * 4
		if n < IPv4HeaderLen || n > len(inner) {
			return f, false
		}
		f.Src, f.Dst = netip.AddrFrom4([4]byte(inner[12:])), netip.AddrFrom4([4]byte(inner[16:]))
		f.setUpper(inner[9], binary.BigEndian.Uint16(inner[6:])&0x1fff != 0, inner[n:])
	case i.Proto == ProtoICMPv6 && len(inner) >= IPv6HeaderLen && inner[0]>>4 == 6:
		f.Src, f.Dst = netip.AddrFrom16([16]byte(inner[8:])), netip.AddrFrom16([16]byte(inner[24:]))
		if j, whole := walk(inner); whole && !f.Src.Is4In6() && !f.Dst.Is4In6() {
			f.setUpper(j.Proto, j.FragOffset != 0, inner[j.Payload:])
			return f, true
		}
		return f, false
	default:
		return f, false
	}
	return f, true
}

// Error reports whether f is of ICMP or ICMPv6 errors: its packets quote others.
func (f *Flow) Error() bool { return !f.Opaque && isError(f.Proto, uint8(f.SrcPort>>8)) }

// Answering is the flow of the answers to packets of f. Protocols with types in place
// of ports keep the type.
func (f Flow) Answering() Flow {
	switch f.Proto {
	case ProtoICMP, ProtoICMPv6, ProtoMobility:
		f.Src, f.Dst = f.Dst, f.Src
		return f
	}
	return f.Reverse()
}

func isError(proto, kind uint8) bool {
	switch proto {
	case ProtoICMP:
		return kind == 3 || kind == 4 || kind == 5 || kind == 11 || kind == 12
	case ProtoICMPv6:
		return kind < 128
	}
	return false
}

// SetQuoted is SetPort for a number within the packet that an ICMP error quotes; the
// checksums of both follow.
func SetQuoted(pkt []byte, i Info, q Quote, at int, value uint16) {
	pkt = pkt[:i.Total]
	before, after := setPort(pkt, q.upper, q.Proto, at, value)
	sum := pkt[i.Payload+2:]
	binary.BigEndian.PutUint16(sum, adjusted(binary.BigEndian.Uint16(sum), before, after))
}
