package wire

import "encoding/binary"

// The second byte of an IPv4 header, or the traffic class of an IPv6 one, which
// lies across two bytes: six bits DSCP (RFC 2474), two bits ECN (RFC 3168).

// Codepoints of the ECN field (RFC 3168 §5).
const (
	NotECT = 0
	ECT1   = 1
	ECT0   = 2
	CE     = 3

	// ECNMask is where they are in a type of service.
	ECNMask = 3
)

// TOS is the type of service or traffic class of an IP packet; 0 where pkt does
// not begin with an IP header.
func TOS(pkt []byte) uint8 {
	if len(pkt) >= 2 {
		switch pkt[0] >> 4 {
		case 4:
			return pkt[1]
		case 6:
			return pkt[0]<<4 | pkt[1]>>4
		}
	}
	return 0
}

// SetTOS writes it into a packet that passed ParseFlow. An IPv4 checksum changes
// by the difference (RFC 1624 §3), so that one that was wrong stays wrong.
func SetTOS(pkt []byte, tos uint8) {
	if pkt[0]>>4 == 6 {
		pkt[0] = 6<<4 | tos>>4
		pkt[1] = tos<<4 | pkt[1]&0xf
		return
	}
	sum := uint32(^binary.BigEndian.Uint16(pkt[10:])) + uint32(^uint16(pkt[1])) + uint32(tos)
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(pkt[10:], ^uint16(sum))
	pkt[1] = tos
}

// SetFlowLabel writes the flow label, 20 bits, of an IPv6 packet that passed ParseFlow.
func SetFlowLabel(pkt []byte, label uint32) {
	pkt[1] = pkt[1]&0xf0 | uint8(label>>16)&0xf
	binary.BigEndian.PutUint16(pkt[2:], uint16(label))
}

// HopLimit is the hop limit, or time to live, of a packet that passed ParseFlow.
func HopLimit(pkt []byte) uint8 {
	if pkt[0]>>4 == 4 {
		return pkt[8]
	}
	return pkt[7]
}

// SetHopLimit writes it into a packet that passed ParseFlow, or was made here.
func SetHopLimit(pkt []byte, limit uint8) {
	if pkt[0]>>4 != 4 {
		pkt[7] = limit
		return
	}
	pkt[8] = limit
	FillIPv4Checksum(pkt)
}
