package wire

import (
	"encoding/binary"
	"net/netip"
)

// IANA protocol numbers that this package looks into.
const (
	ProtoHopByHop  = 0
	ProtoICMP      = 1
	ProtoIPv4      = 4 // IPv4 in IP
	ProtoTCP       = 6
	ProtoUDP       = 17
	ProtoDCCP      = 33
	ProtoIPv6      = 41 // IPv6 in IP
	ProtoRouting   = 43
	ProtoFragment  = 44
	ProtoESP       = 50
	ProtoAH        = 51
	ProtoICMPv6    = 58
	ProtoNoNext    = 59
	ProtoDstOpts   = 60
	ProtoSCTP      = 132
	ProtoMobility  = 135
	ProtoUDPLite   = 136
	IPv4HeaderLen  = 20 // without options
	IPv6HeaderLen  = 40
	UDPHeaderLen   = 8
	TCPHeaderLen   = 20 // without options
	ICMPHeaderLen  = 8
	maxExtHeaders  = 8
	extUnit        = 8 // the least length of an extension header, and the unit of what it has more
	fragmentHdrLen = 8
)

// Info is the shape of a packet that passed ParseFlow. Offsets are in bytes
// from the start of the packet. It is laid out for the compiler, which keeps
// structs of up to four words and four fields in registers.
type Info struct {
	Kind
	// Payload is where the upper layer starts (in a fragment that is not the
	// first: its bytes), Total where the packet ends by its own account. Bytes
	// behind Total are padding and not part of the packet.
	Payload, Total int
	// FragOffset is the offset of the fragment's bytes, 0 for whole packets and
	// first fragments.
	FragOffset int
}

// Kind is what Info says without offsets.
type Kind struct {
	Version uint8 // 4 or 6
	// Proto is the upper-layer protocol, behind IPv6 extension headers. AH and
	// ESP count as upper layers (RFC 4301 §4.4.1.1). In an IPv6 fragment that is
	// not the first it is what the fragment header names, which may be an
	// extension header.
	Proto        uint8
	More         bool // the more-fragments flag
	DontFragment bool // the IPv4 flag; always true for IPv6
}

// Fragment says whether the packet is part of one: first, middle or last. An
// IPv6 atomic fragment (RFC 6946) is a whole packet.
func (i Info) Fragment() bool { return i.More || i.FragOffset != 0 }

// PayloadLen is the length of the upper layer in this packet.
func (i Info) PayloadLen() int { return i.Total - i.Payload }

// ParseFlow is the one validity check of an IP packet: version, header lengths,
// total length, IPv6 extension headers (8 at most), the lengths of options. It
// fills f. Not ok means that the packet must be dropped and f is not to be used:
// truncated, header chain incomplete or too long, two fragment headers, an option
// that ends behind its header, jumbogram (RFC 2675), IPv4-mapped IPv6 address.
// Checksums are not looked at, and of a fragment not its place: see Sound. pkt may be
// longer than the packet.
func ParseFlow(pkt []byte, f *Flow) (Info, bool) {
	if len(pkt) < IPv4HeaderLen {
		return Info{}, false
	}
	switch pkt[0] >> 4 {
	case 4: // here, as most packets are
	case 6:
		return parse6(pkt, f)
	default:
		return Info{}, false
	}
	hlen := int(pkt[0]&0xf) * 4
	total := int(binary.BigEndian.Uint16(pkt[2:]))
	if hlen < IPv4HeaderLen || total < hlen || total > len(pkt) {
		return Info{}, false
	}
	if hlen > IPv4HeaderLen && !options4(pkt[IPv4HeaderLen:hlen]) {
		return Info{}, false
	}
	frag := binary.BigEndian.Uint16(pkt[6:])
	i := Info{
		Kind:    Kind{Version: 4, Proto: pkt[9], More: frag&0x2000 != 0, DontFragment: frag&0x4000 != 0},
		Payload: hlen, Total: total, FragOffset: int(frag&0x1fff) * 8,
	}
	f.Src = netip.AddrFrom4([4]byte(pkt[12:]))
	f.Dst = netip.AddrFrom4([4]byte(pkt[16:]))
	if upper := pkt[hlen:total]; (i.Proto == ProtoTCP || i.Proto == ProtoUDP) && i.FragOffset == 0 && len(upper) >= 4 {
		f.SrcPort, f.DstPort, f.Proto, f.Opaque = binary.BigEndian.Uint16(upper), binary.BigEndian.Uint16(upper[2:]), i.Proto, false
		return i, true
	}
	f.setUpper(i.Proto, i.FragOffset != 0, pkt[hlen:total])
	return i, true
}

// TotalLen is the length that the IP header at the start of pkt claims, which
// may be more than len(pkt); 0 where there is no IP header.
func TotalLen(pkt []byte) int {
	switch {
	case len(pkt) >= IPv4HeaderLen && pkt[0]>>4 == 4:
		return int(binary.BigEndian.Uint16(pkt[2:]))
	case len(pkt) >= IPv6HeaderLen && pkt[0]>>4 == 6:
		return IPv6HeaderLen + int(binary.BigEndian.Uint16(pkt[4:]))
	}
	return 0
}

func parse6(pkt []byte, f *Flow) (Info, bool) {
	total := IPv6HeaderLen + int(binary.BigEndian.Uint16(pkt[4:]))
	if total > len(pkt) { // a jumbogram has no hop-by-hop header within 40 bytes
		return Info{}, false
	}
	i, ok := walk(pkt[:total])
	if !ok {
		return Info{}, false
	}
	f.Src = netip.AddrFrom16([16]byte(pkt[8:]))
	f.Dst = netip.AddrFrom16([16]byte(pkt[24:]))
	if f.Src.Is4In6() || f.Dst.Is4In6() {
		// They must not be on the wire, and would be mistaken for IPv4.
		return Info{}, false
	}
	f.setUpper(i.Proto, i.FragOffset != 0, pkt[i.Payload:total])
	return i, true
}

// walk moves over the extension headers of the IPv6 packet pkt (RFC 8200 §4) to
// the upper layer. It stops at a fragment that is not the first: what follows there is
// not a header.
func walk(pkt []byte) (Info, bool) {
	proto, at, offset, more := pkt[6], IPv6HeaderLen, 0, false
	fragment := false // its header was met: a second one would be another place in another packet
	for range maxExtHeaders + 1 {
		size := 0
		rest := pkt[at:]
		switch proto {
		case ProtoHopByHop:
			if at != IPv6HeaderLen { // nowhere but first
				return Info{}, false
			}
			fallthrough
		case ProtoRouting, ProtoDstOpts:
			if len(rest) < extUnit {
				return Info{}, false
			}
			size = extUnit + int(rest[1])*extUnit
		case ProtoFragment:
			if len(rest) < fragmentHdrLen || fragment {
				return Info{}, false
			}
			fragment = true
			frag := binary.BigEndian.Uint16(rest[2:])
			offset, more = int(frag&^7), frag&1 != 0
			size = fragmentHdrLen
		default:
			return Info{Kind{6, proto, more, true}, at, len(pkt), offset}, true
		}
		if len(rest) < size || (proto == ProtoHopByHop || proto == ProtoDstOpts) && !options6(rest[2:size]) {
			return Info{}, false
		}
		proto = rest[0]
		at += size
		if offset != 0 {
			return Info{Kind{6, proto, more, true}, at, len(pkt), offset}, true
		}
	}
	return Info{}, false
}

// options4 reports whether the options of an IPv4 header end where they say (RFC
// 791 §3.1).
func options4(o []byte) bool {
	for len(o) > 0 && o[0] != 0 {
		size := 1
		if o[0] != 1 { // all but end and no operation have a length
			if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
				return false
			}
			size = int(o[1])
		}
		o = o[size:]
	}
	return true
}

// options6 is the same for hop-by-hop and destination options (RFC 8200 §4.2).
func options6(o []byte) bool {
	for len(o) > 0 {
		size := 1
		if o[0] != 0 { // all but Pad1 have a length
			if len(o) < 2 || 2+int(o[1]) > len(o) {
				return false
			}
			size = 2 + int(o[1])
		}
		o = o[size:]
	}
	return true
}

// setUpper fills what comes from the upper layer's header.
func (f *Flow) setUpper(proto uint8, opaque bool, upper []byte) {
	f.Proto, f.SrcPort, f.DstPort, f.Opaque = proto, 0, 0, opaque
	if opaque {
		return
	}
	switch proto {
	case ProtoTCP, ProtoUDP, ProtoSCTP, ProtoUDPLite, ProtoDCCP:
		if len(upper) < 4 {
			f.Opaque = true
			return
		}
		f.SrcPort, f.DstPort = binary.BigEndian.Uint16(upper), binary.BigEndian.Uint16(upper[2:])
	case ProtoICMP, ProtoICMPv6:
		if len(upper) < 2 {
			f.Opaque = true
			return
		}
		f.SrcPort = binary.BigEndian.Uint16(upper)
	case ProtoMobility:
		if len(upper) < 3 {
			f.Opaque = true
			return
		}
		f.SrcPort = uint16(upper[2]) << 8
	}
}
