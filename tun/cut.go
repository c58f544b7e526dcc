package tun

import (
	"encoding/binary"
	"fmt"

	"culvert/internal/packet/wire"
)

// super is a packet that the system hands out as one and that stands for several: segments of
// one TCP connection, or datagrams of one UDP flow. The system cuts it when it sends it to a
// network; here the reader does.
type super struct {
	pkt    []byte // the headers, then the payload of all
	l4     int    // where the TCP or UDP header begins
	head   int    // length of all headers
	size   int    // payload of each packet but the last, in bytes
	next   int    // the packet that is to be cut next
	pseudo uint16 // sum of the pseudo header, without the length
}

// left is how many packets are still to be cut.
func (s *super) left() int {
	if s.pkt == nil {
		return 0
	}
	return (len(s.pkt)-s.head+s.size-1)/s.size - s.next
}

// parse reads the offload header h of pkt and completes the checksum of a packet that stands for
// itself alone, for which left is then 0. What the header says is checked against the packet: a
// program on this host may have written both.
func (s *super) parse(h, pkt []byte) error {
	s.pkt = nil
	kind, size := h[1]&^offloadECN, int(binary.NativeEndian.Uint16(h[4:]))
	start, at := int(binary.NativeEndian.Uint16(h[6:])), int(binary.NativeEndian.Uint16(h[8:]))
	sum := h[0]&needsSum != 0
	if sum && start+at+2 > len(pkt) {
		return fmt.Errorf("its checksum is to be at byte %d of %d", start+at, len(pkt))
	}
	if kind == offloadNone {
		if sum {
			finish(pkt[start:], at)
		}
		return nil
	}
	s.l4, s.head, s.size, s.next = start, start+wire.UDPHeaderLen, size, 0
	version, header, field := byte(4), 20, 6
	switch kind {
	case offloadTCPv4, offloadTCPv6:
		field = 16
		if kind == offloadTCPv6 {
			version, header = 6, wire.IPv6HeaderLen
		}
		s.head = start + wire.TCPHeaderLen
		if s.head <= len(pkt) {
			s.head = start + max(int(pkt[start+12]>>4)*4, wire.TCPHeaderLen)
		}
	case offloadUDP:
		if len(pkt) > 0 && pkt[0]>>4 == 6 {
			version, header = 6, wire.IPv6HeaderLen
		}
	default:
		return fmt.Errorf("offload of kind %d is not known", kind)
	}
	switch {
	case !sum || at != field:
		return fmt.Errorf("it stands for several, and its checksum is to be %d bytes behind byte %d", at, start)
	case size == 0:
		return fmt.Errorf("it stands for packets of 0 bytes")
	case start < header || s.head >= len(pkt) || pkt[0]>>4 != version || version == 4 && start != int(pkt[0]&0xf)*4:
		return fmt.Errorf("it stands for several, and its headers of %d bytes are not those of IPv%d", s.head, version)
	}
	s.pkt = pkt
	// The field holds the sum of the pseudo header of the whole.
	length := uint16(len(pkt) - start)
	s.pseudo = wire.Sum([]byte{byte(^length >> 8), byte(^length)}, binary.BigEndian.Uint16(pkt[start+at:]))
	return nil
}

// cut writes the i-th packet to dst and returns its length, or 0 where dst is too short. dst may
// be s.pkt, if i is 0 and no other packet is cut after it.
func (s *super) cut(dst []byte, i int) int {
	from := s.head + i*s.size
	payload := s.pkt[from:min(from+s.size, len(s.pkt))]
	total, last := s.head+len(payload), from+len(payload) == len(s.pkt)
	if len(dst) < total {
		return 0
	}
	copy(dst, s.pkt[:s.head])
	copy(dst[s.head:], payload)
	dst = dst[:total]
	l4, at := dst[s.l4:], 6
	if dst[0]>>4 == 4 {
		binary.BigEndian.PutUint16(dst[2:], uint16(total))
		binary.BigEndian.PutUint16(dst[4:], binary.BigEndian.Uint16(dst[4:])+uint16(i))
		wire.FillIPv4Checksum(dst)
	} else {
		binary.BigEndian.PutUint16(dst[4:], uint16(total-wire.IPv6HeaderLen))
	}
	if s.head-s.l4 == wire.UDPHeaderLen {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	} else {
		at = 16
		binary.BigEndian.PutUint32(l4[4:], binary.BigEndian.Uint32(l4[4:])+uint32(i*s.size))
		if !last {
			l4[13] &^= flagFIN | flagPSH
		}
		if i > 0 {
			l4[13] &^= flagCWR // once is enough (RFC 3168 §6.1.2)
		}
	}
	binary.BigEndian.PutUint16(l4[at:], wire.Sum([]byte{byte(len(l4) >> 8), byte(len(l4))}, s.pseudo))
	finish(l4, at)
	return total
}

// finish makes the checksum at l4[at:] right, where the sum of the pseudo header stands.
func finish(l4 []byte, at int) {
	sum := ^wire.Sum(l4, 0)
	if sum == 0 {
		sum = 0xffff // the same number; UDP takes 0 for no checksum (RFC 768)
	}
	binary.BigEndian.PutUint16(l4[at:], sum)
}
