package wire

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Sum is the ones' complement sum of b added to initial, folded to 16 bits and
// not complemented (RFC 1071). An odd last byte counts as the high byte of a
// word, so only the last of several pieces may have odd length.
func Sum(b []byte, initial uint16) uint16 {
	// Ones' complement addition does not care for the size of words or the order of bytes
	// (RFC 1071 §2): 64-bit words in the order of most processors, with end-around carry, fold
	// to the same 16 bits with their bytes swapped. One chain of carries for 64 bytes is
	// twice as fast as one for all.
	sum := uint64(bits.ReverseBytes16(initial))
	for len(b) >= 64 {
		v := (*[64]byte)(b)
		s, c := bits.Add64(binary.LittleEndian.Uint64(v[0:]), binary.LittleEndian.Uint64(v[8:]), 0)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(v[16:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(v[24:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(v[32:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(v[40:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(v[48:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(v[56:]), c)
		s, c = bits.Add64(s, sum, c)
		sum = s + c // it has room: the chain began without a carry
		b = b[64:]
	}
	carry := uint64(0)
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b), carry)
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(last[:]), carry)
	}
	sum, carry = bits.Add64(sum, 0, carry)
	return bits.ReverseBytes16(fold(sum + carry))
}

func fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// Checksum is the Internet checksum of b, as it stands in headers.
func Checksum(b []byte) uint16 { return ^Sum(b, 0) }

// PseudoSum is the sum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1) for
// an upper layer of length bytes. src and dst are of one family.
func PseudoSum(src, dst netip.Addr, proto uint8, length int) uint16 {
	var b [40]byte
	if src.Is4() {
		s, d := src.As4(), dst.As4()
		copy(b[0:], s[:])
		copy(b[4:], d[:])
	} else {
		s, d := src.As16(), dst.As16()
		copy(b[0:], s[:])
		copy(b[16:], d[:])
	}
	// The rest sums alike in both layouts: the length in 32 bits and the
	// protocol as the low byte of a word.
	binary.BigEndian.PutUint32(b[32:], uint32(length))
	b[39] = proto
	return Sum(b[:], 0)
}

// pseudoSum is PseudoSum with the addresses taken from the header of a packet
// that passed ParseFlow.
func pseudoSum(pkt []byte, i Info) uint16 {
	addrs := pkt[12:20]
	if i.Version == 6 {
		addrs = pkt[8:40]
	}
	n := i.PayloadLen()
	var tail [8]byte
	binary.BigEndian.PutUint32(tail[:], uint32(n))
	tail[7] = i.Proto
	return Sum(tail[:], Sum(addrs, 0))
}

// summed is an upper layer with an Internet checksum at upper[at:at+2] over
// initial (the pseudo header's sum) and upper.
type summed struct {
	upper   []byte
	at      int
	initial uint16
}

func (s summed) field() []byte { return s.upper[s.at : s.at+2] }

func hasChecksum(proto uint8) bool {
	return proto == ProtoTCP || proto == ProtoUDP || proto == ProtoICMP || proto == ProtoICMPv6
}

// summedLayer is not ok where the layer is shorter than its header, or a UDP
// length is not that of the packet.
func summedLayer(pkt []byte, i Info) (s summed, ok bool) {
	s.upper = pkt[i.Payload:i.Total]
	least := 0
	switch i.Proto {
	case ProtoTCP:
		s.at, least = 16, TCPHeaderLen
	case ProtoUDP:
		s.at, least = 6, UDPHeaderLen
	default:
		s.at, least = 2, 4
	}
	if len(s.upper) < least ||
		i.Proto == ProtoUDP && int(binary.BigEndian.Uint16(s.upper[4:])) != len(s.upper) {
		return summed{}, false
	}
	if i.Proto != ProtoICMP {
		s.initial = pseudoSum(pkt, i)
	}
	return s, true
}

// FillChecksum writes the checksum of the TCP, UDP, ICMP or ICMPv6 layer of a
// packet that passed ParseFlow; false, and pkt untouched, where there is none
// to write: another protocol, a fragment, a malformed layer.
func FillChecksum(pkt []byte, i Info) bool {
	if !hasChecksum(i.Proto) || i.Fragment() {
		return false
	}
	s, ok := summedLayer(pkt, i)
	if !ok {
		return false
	}
	binary.BigEndian.PutUint16(s.field(), 0)
	c := ^Sum(s.upper, s.initial)
	if c == 0 && i.Proto == ProtoUDP {
		c = 0xffff // 0 means "no checksum" (RFC 768)
	}
	binary.BigEndian.PutUint16(s.field(), c)
	return true
}

// VerifyChecksum says whether the checksum of the TCP, UDP, ICMP or ICMPv6
// layer of a packet that passed ParseFlow is right. Another protocol and a
// fragment have nothing to verify and pass; a UDP checksum of 0 passes over
// IPv4; a malformed layer does not pass.
func VerifyChecksum(pkt []byte, i Info) bool {
	if !hasChecksum(i.Proto) || i.Fragment() {
		return true
	}
	s, ok := summedLayer(pkt, i)
	if !ok {
		return false
	}
	if i.Proto == ProtoUDP && binary.BigEndian.Uint16(s.field()) == 0 {
		return i.Version == 4
	}
	return Sum(s.upper, s.initial) == 0xffff
}

// FillIPv4Checksum writes the header checksum of the IPv4 packet pkt, whose
// header is complete.
func FillIPv4Checksum(pkt []byte) {
	h := pkt[:int(pkt[0]&0xf)*4]
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], Checksum(h))
}

// VerifyIPv4Checksum says whether the header checksum of pkt is right. IPv6
// has none and passes. pkt passed ParseFlow.
func VerifyIPv4Checksum(pkt []byte) bool {
	return pkt[0]>>4 != 4 || Sum(pkt[:int(pkt[0]&0xf)*4], 0) == 0xffff
}
