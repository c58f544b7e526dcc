package wire

import (
	"encoding/binary"
	"net/netip"
)

// IPv4 is an IPv4 header without options.
type IPv4 struct {
	TOS          uint8
	ID           uint16
	DontFragment bool
	More         bool
	FragOffset   int // bytes, a multiple of 8
	TTL          uint8
	Proto        uint8
	Src, Dst     netip.Addr
}

// Append appends the header for a payload of length bytes, checksum included.
// 20+length must fit into 16 bits.
func (h IPv4) Append(b []byte, length int) []byte {
	frag := uint16(h.FragOffset / 8)
	if h.DontFragment {
		frag |= 0x4000
	}
	if h.More {
		frag |= 0x2000
	}
	src, dst := h.Src.As4(), h.Dst.As4()
	at := len(b)
	b = append(b, 0x45, h.TOS)
	b = binary.BigEndian.AppendUint16(b, uint16(IPv4HeaderLen+length))
	b = binary.BigEndian.AppendUint16(b, h.ID)
	b = binary.BigEndian.AppendUint16(b, frag)
	b = append(b, h.TTL, h.Proto, 0, 0)
	b = append(b, src[:]...)
	b = append(b, dst[:]...)
	FillIPv4Checksum(b[at:])
	return b
}

// IPv6 is an IPv6 header.
type IPv6 struct {
	TrafficClass uint8
	FlowLabel    uint32 // 20 bits
	HopLimit     uint8
	Next         uint8 // of the first header behind it
	Src, Dst     netip.Addr
}

// Append appends the header for length bytes behind it, extension headers
// included. length must fit into 16 bits.
func (h IPv6) Append(b []byte, length int) []byte {
	src, dst := h.Src.As16(), h.Dst.As16()
	b = binary.BigEndian.AppendUint32(b, 6<<28|uint32(h.TrafficClass)<<20|h.FlowLabel&0xfffff)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = append(b, h.Next, h.HopLimit)
	b = append(b, src[:]...)
	return append(b, dst[:]...)
}

// AppendIPv6Fragment appends a fragment header (RFC 8200 §4.5). offset is in
// bytes, a multiple of 8.
func AppendIPv6Fragment(b []byte, next uint8, offset int, more bool, id uint32) []byte {
	frag := uint16(offset &^ 7)
	if more {
		frag |= 1
	}
	b = append(b, next, 0)
	b = binary.BigEndian.AppendUint16(b, frag)
	return binary.BigEndian.AppendUint32(b, id)
}

// AppendUDP appends a UDP header and payload, checksum included. src and dst
// are of one family, which says which pseudo header counts.
func AppendUDP(b []byte, src, dst netip.AddrPort, payload []byte) []byte {
	at, n := len(b), UDPHeaderLen+len(payload)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(b, 0, 0)
	b = append(b, payload...)
	c := ^Sum(b[at:], PseudoSum(src.Addr(), dst.Addr(), ProtoUDP, n))
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[at+6:], c)
	return b
}

// TCP is a TCP header without options.
type TCP struct {
	Seq, Ack uint32
	Flags    uint8 // FIN 1, SYN 2, RST 4, PSH 8, ACK 16
	Window   uint16
}

// Append appends the header and payload, checksum included.
func (h TCP) Append(b []byte, src, dst netip.AddrPort, payload []byte) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint32(b, h.Seq)
	b = binary.BigEndian.AppendUint32(b, h.Ack)
	b = append(b, TCPHeaderLen/4<<4, h.Flags)
	b = binary.BigEndian.AppendUint16(b, h.Window)
	b = append(b, 0, 0, 0, 0)
	b = append(b, payload...)
	c := ^Sum(b[at:], PseudoSum(src.Addr(), dst.Addr(), ProtoTCP, len(b)-at))
	binary.BigEndian.PutUint16(b[at+16:], c)
	return b
}

// ICMP is an ICMP or ICMPv6 header. Rest is what follows the checksum: for echo
// identifier<<16|sequence number, for "too big" the MTU.
type ICMP struct {
	Type, Code uint8
	Rest       uint32
}

// Types of messages that are built or looked for.
const (
	ICMPEchoReply     = 0
	ICMPUnreachable   = 3 // code 4: fragmentation needed, the MTU in the low half of Rest
	ICMPEcho          = 8
	ICMPv6Unreachable = 1
	ICMPv6TooBig      = 2
	ICMPv6Echo        = 128
	ICMPv6EchoReply   = 129
)

// Append appends the message and its body, checksum included: ICMP for IPv4
// addresses, ICMPv6 for IPv6 addresses.
func (h ICMP) Append(b []byte, src, dst netip.Addr, body []byte) []byte {
	at := len(b)
	b = append(b, h.Type, h.Code, 0, 0)
	b = binary.BigEndian.AppendUint32(b, h.Rest)
	b = append(b, body...)
	initial := uint16(0)
	if !src.Is4() {
		initial = PseudoSum(src, dst, ProtoICMPv6, len(b)-at)
	}
	binary.BigEndian.PutUint16(b[at+2:], ^Sum(b[at:], initial))
	return b
}

// AppendedIPLen is how many bytes AppendIP appends.
func AppendedIPLen(src netip.Addr) int {
	if src.Is4() {
		return IPv4HeaderLen
	}
	return IPv6HeaderLen
}

// AppendIP appends an IPv4 or IPv6 header of src's family with hop limit 64,
// for length bytes behind it.
func AppendIP(b []byte, src, dst netip.Addr, proto uint8, length int) []byte {
	if src.Is4() {
		return IPv4{TTL: 64, Proto: proto, DontFragment: true, Src: src, Dst: dst}.Append(b, length)
	}
	return IPv6{HopLimit: 64, Next: proto, Src: src, Dst: dst}.Append(b, length)
}

// AppendUDPPacket appends a whole IP packet with one UDP datagram.
func AppendUDPPacket(b []byte, src, dst netip.AddrPort, payload []byte) []byte {
	b = AppendIP(b, src.Addr(), dst.Addr(), ProtoUDP, UDPHeaderLen+len(payload))
	return AppendUDP(b, src, dst, payload)
}

// AppendTCPPacket appends a whole IP packet with one TCP segment.
func AppendTCPPacket(b []byte, h TCP, src, dst netip.AddrPort, payload []byte) []byte {
	b = AppendIP(b, src.Addr(), dst.Addr(), ProtoTCP, TCPHeaderLen+len(payload))
	return h.Append(b, src, dst, payload)
}

// AppendICMPPacket appends a whole IP packet with one ICMP or ICMPv6 message.
func AppendICMPPacket(b []byte, h ICMP, src, dst netip.Addr, body []byte) []byte {
	proto := uint8(ProtoICMP)
	if !src.Is4() {
		proto = ProtoICMPv6
	}
	b = AppendIP(b, src, dst, proto, ICMPHeaderLen+len(body))
	return h.Append(b, src, dst, body)
}

// AppendEcho appends a whole echo request, or reply, of src's family.
func AppendEcho(b []byte, src, dst netip.Addr, reply bool, id, seq uint16, body []byte) []byte {
	h := ICMP{Type: ICMPEcho, Rest: uint32(id)<<16 | uint32(seq)}
	switch {
	case src.Is4() && reply:
		h.Type = ICMPEchoReply
	case !src.Is4() && reply:
		h.Type = ICMPv6EchoReply
	case !src.Is4():
		h.Type = ICMPv6Echo
	}
	return AppendICMPPacket(b, h, src, dst, body)
}
