package datapath

import (
	"encoding/binary"

	"culvert/internal/packet/wire"
	"culvert/sad"
)

// TCP says in its first segments how long the other side's may be. Lowered to
// what fits through the tunnel, no segment is too long in either direction, also
// where ICMP messages get lost: this is what MSS clamping is for.

const tcpSYN = 2

// clampMSS lowers the MSS option of a SYN (RFC 9293 §3.7.1) so that segments,
// in packets without options, have at most room bytes. False: nothing was
// changed. pkt was parsed as info.
func clampMSS(pkt []byte, info wire.Info, room int) bool {
	if info.Proto != wire.ProtoTCP || info.FragOffset != 0 || info.PayloadLen() < wire.TCPHeaderLen ||
		pkt[info.Payload+13]&tcpSYN == 0 {
		return false
	}
	tcp := pkt[info.Payload:info.Total]
	end := int(tcp[12]>>4) * 4
	most := room - bareHeader(info.Version) - wire.TCPHeaderLen
	if end > len(tcp) || most <= 0 {
		return false
	}
	for at := wire.TCPHeaderLen; at+1 < end && tcp[at] != 0; {
		switch size := int(tcp[at+1]); {
		case tcp[at] == 1: // NOP, one byte
			at++
		case size < 2 || at+size > end:
			return false
		case tcp[at] != 2 || size != 4:
			at += size
		default:
			return lowerMSS(tcp, at+2, most)
		}
	}
	return false
}

// lowerMSS brings the 16 bits tcp[at:] down to most, and the checksum along (RFC
// 1624): its value is known to be the sender's, right or wrong.
func lowerMSS(tcp []byte, at, most int) bool {
	was := binary.BigEndian.Uint16(tcp[at:])
	if int(was) <= most {
		return false
	}
	is := uint16(most)
	binary.BigEndian.PutUint16(tcp[at:], is)
	if at&1 != 0 { // the two bytes are of two words of the sum
		was, is = was<<8|was>>8, is<<8|is>>8
	}
	sum := uint32(^binary.BigEndian.Uint16(tcp[16:])) + uint32(^was) + uint32(is)
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	binary.BigEndian.PutUint16(tcp[16:], ^uint16(sum))
	return true
}

// clamp is clampMSS for a packet that came by c: its sender's segments are not the
// question, but what we send to it by the same SA, and before that into the device.
func (w *inWorker) clamp(c *sad.Child, pkt []byte, info wire.Info) {
	if !w.path.cfg.ClampMSS || info.Proto != wire.ProtoTCP || info.PayloadLen() < wire.TCPHeaderLen ||
		info.FragOffset != 0 || pkt[info.Payload+13]&tcpSYN == 0 {
		return
	}
	ends, form, front := c.Endpoint(), formTunnel, 0
	switch {
	case c.Tunnel && c.Protocol == sad.ProtocolAH:
		form = formTunnelAH
	case c.Tunnel:
	case c.Protocol == sad.ProtocolAH:
		form = formAH
	case ends.UDP:
		form, front = formUDP, bareHeader(info.Version)
	default:
		form, front = formTransport, bareHeader(info.Version)
	}
	var over *sad.Outbound
	if o := c.Over(); o != nil {
		over = o.Outbound()
	}
	fits := capacity(c.Outbound(), over, form, front, c.Path().MTU(w.now))
	if clampMSS(pkt, info, min(fits, int(w.path.device.Load()))) {
		w.count.add(rxClamped, 1)
	}
}
