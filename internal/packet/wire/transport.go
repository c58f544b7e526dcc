package wire

import "encoding/binary"

// Transport mode and AH work behind the headers that belong to the path: the
// IPv4 header with its options, or the IPv6 header with the extension headers
// that come before a fragment header would (RFC 8200 §4.5: hop-by-hop options,
// destination options before a routing header, the routing header).

// PathHeaders is where the headers of the path end in an IP packet and what
// stands behind them (RFC 4302 §3.1.1, RFC 4303 §3.1.1). proto is at pkt[at], so
// that another protocol can be put in. Destination options that are for the last
// station alone count as behind. Not ok: no IP packet, or a header is truncated.
func PathHeaders(pkt []byte) (end, at int, proto uint8, ok bool) {
	switch {
	case len(pkt) >= IPv4HeaderLen && pkt[0]>>4 == 4:
		end = int(pkt[0]&0xf) * 4
		return end, 9, pkt[9], end >= IPv4HeaderLen && end <= len(pkt)
	case len(pkt) < IPv6HeaderLen || pkt[0]>>4 != 6:
		return 0, 0, 0, false
	}
	end, at, proto = IPv6HeaderLen, 6, pkt[6]
	optsEnd, optsAt := 0, 0 // destination options that may turn out to be for the last station
	for range maxExtHeaders + 1 {
		if proto != ProtoHopByHop && proto != ProtoRouting && proto != ProtoDstOpts || proto == ProtoHopByHop && at != 6 {
			if optsEnd != 0 {
				return optsEnd, optsAt, pkt[optsAt], true
			}
			return end, at, proto, true
		}
		if len(pkt)-end < extUnit {
			return 0, 0, 0, false
		}
		switch {
		case proto == ProtoRouting:
			optsEnd = 0
		case proto == ProtoDstOpts && optsEnd == 0:
			optsEnd, optsAt = end, at
		}
		size := extUnit + int(pkt[end+1])*extUnit
		if len(pkt)-end < size {
			return 0, 0, 0, false
		}
		at, proto, end = end, pkt[end], end+size
	}
	return 0, 0, 0, false
}

// SetTotal writes the length of an IP packet into its header, IPv4 checksum
// included. It does not fit where IPv4's 16 bits, or those of the IPv6 payload
// length, are exceeded.
func SetTotal(pkt []byte, total int) bool {
	if pkt[0]>>4 == 4 {
		if total > 0xffff {
			return false
		}
		binary.BigEndian.PutUint16(pkt[2:], uint16(total))
		FillIPv4Checksum(pkt)
		return true
	}
	if total-IPv6HeaderLen > 0xffff {
		return false
	}
	binary.BigEndian.PutUint16(pkt[4:], uint16(total-IPv6HeaderLen))
	return true
}
