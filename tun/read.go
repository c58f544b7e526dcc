package tun

import "encoding/binary"

// mendLength makes the payload length right of an IPv6 packet with extension headers
// that the package split off a larger one: it takes all that is in front of TCP or
// UDP for the IPv6 header, and leaves the extension headers out of the length.
func mendLength(pkt []byte) {
	const header, hopByHop, routing, options = 40, 0, 43, 60
	if len(pkt) <= header || pkt[0]>>4 != 6 || pkt[6] != hopByHop && pkt[6] != routing && pkt[6] != options {
		return
	}
	length, whole := binary.BigEndian.Uint16(pkt[4:]), len(pkt)-header
	if length != 0 && int(length) < whole && whole <= 0xffff { // 0: a jumbogram (RFC 2675)
		binary.BigEndian.PutUint16(pkt[4:], uint16(whole))
	}
}
