package ah

import (
	"encoding/binary"

	"culvert/internal/packet/wire"
)

// maxFront bounds the headers in front of an AH: more than any IPv4 header, and
// room for a routing header and options of IPv6.
const maxFront = 512

// maxHeaders is how many extension headers may be in front of an AH.
const maxHeaders = 8

// Find is where the AH of an IP packet starts. Not ok: the packet is truncated,
// a fragment, or has none where one may be.
func Find(pkt []byte) (at int, ok bool) {
	switch {
	case len(pkt) >= wire.IPv4HeaderLen+HeaderLen && pkt[0]>>4 == 4:
		at = int(pkt[0]&0xf) * 4
		ok = at >= wire.IPv4HeaderLen && pkt[9] == wire.ProtoAH && binary.BigEndian.Uint16(pkt[6:])&0x3fff == 0
	case len(pkt) >= wire.IPv6HeaderLen+HeaderLen && pkt[0]>>4 == 6:
		at, ok = find6(pkt)
	}
	return at, ok && at <= maxFront && len(pkt)-at >= HeaderLen
}

func find6(pkt []byte) (at int, ok bool) {
	at = wire.IPv6HeaderLen
	next := pkt[6]
	for range maxHeaders + 1 {
		if len(pkt)-at < HeaderLen {
			return 0, false
		}
		switch next {
		case wire.ProtoAH:
			return at, true
		case wire.ProtoHopByHop, wire.ProtoRouting, wire.ProtoDstOpts:
		default:
			return 0, false
		}
		next, at = pkt[at], at+8+int(pkt[at+1])*8
	}
	return 0, false
}

// Strip takes the AH out of the IP packet pkt that Open found good: the headers
// in front of it move up to what stood behind it at pkt[off:], whose protocol is
// next. The packet is pkt[start:] then, with its length, checksum and protocols
// as they were before it was sealed.
func Strip(pkt []byte, off int, next uint8) (start int) {
	front, _ := Find(pkt)
	at := 9
	if pkt[0]>>4 == 6 {
		at = 6
		for end := wire.IPv6HeaderLen; end < front; end += 8 + int(pkt[end+1])*8 {
			at = end
		}
	}
	total := wire.TotalLen(pkt) - off + front
	pkt[at] = next
	start = off - front
	copy(pkt[start:off], pkt[:front])
	wire.SetTotal(pkt[start:], total)
	return start
}
