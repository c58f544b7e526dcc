package tun

import (
	"bytes"
	"encoding/binary"

	"culvert/internal/packet/wire"
)

// joiner puts neighbouring segments of one TCP connection, or datagrams of one UDP flow,
// together again, so that the system takes them as one packet (generic receive offload).
// It only says which packets go together: the bytes stay where they are, and the writer
// hands the system the list of pieces.
//
// Segments are joined where the system, when it cuts the joined packet, makes the very same
// packets of it: all of one size but a shorter last one, with consecutive sequence numbers, the
// same acknowledgment, window and options, the same type of service (and so the same ECN mark),
// TTL and flow label, and no flag but ACK, and PSH at the end. The checksums of all are verified
// first: of a joined packet the system computes them anew, and a wrong one would come out right.
//
// Packets of one flow leave in the order in which they came.
type joiner struct {
	udp    bool // the system takes joined UDP datagrams
	groups []group
	next   []int32 // by packet: the one that follows it in its group; -1: none
	floor  int     // groups before this one take no more packets
}

// group is packets that are written as one.
type group struct {
	first, tail int32
	segments    int
	size        int // payload of each segment but the last, in bytes
	total       int // length of the joined packet
	seq         uint32
	id          uint16 // IPv4 identification of the last
	layout      layout
	open        bool
	verified    bool // the checksum of the first
	push        bool
}

// layout is where a packet that could be joined has its parts.
type layout struct {
	version uint8
	proto   uint8 // TCP or UDP
	l4      int   // where its header begins
	payload int   // where its payload begins
}

// recent is how many groups are looked at for the one of a packet. Flows beyond that are
// joined less, and stay in order all the same.
const recent = 16

// maxJoined is the longest joined packet; maxDatagrams how many datagrams Linux cuts from one.
const (
	maxJoined    = 65535
	maxDatagrams = 64
)

const (
	flagFIN = 0x01
	flagPSH = 0x08
	flagACK = 0x10
	flagCWR = 0x80
)

// join makes the groups of the packets bufs[i][offset:], in the order in which they are to
// be written.
func (j *joiner) join(bufs [][]byte, offset int) {
	j.groups, j.next, j.floor = j.groups[:0], j.next[:0], 0
	for i := range bufs {
		j.next = append(j.next, -1)
		pkt := bufs[i][offset:]
		l, ok := layOut(pkt)
		if !ok {
			// Whose it is was not looked at: nothing behind it may be written before it.
			j.groups = append(j.groups, group{first: int32(i), tail: int32(i), segments: 1})
			j.floor = len(j.groups)
			continue
		}
		if g := j.find(bufs, offset, pkt, l); g != nil && j.extend(g, bufs, offset, pkt, l) {
			j.next[g.tail], g.tail = int32(i), int32(i)
			continue
		}
		j.groups = append(j.groups, j.begin(int32(i), pkt, l))
	}
}

// layOut finds the parts of a whole TCP or UDP packet without IPv4 options or IPv6 extension
// headers.
func layOut(pkt []byte) (l layout, ok bool) {
	switch {
	case len(pkt) >= 28 && pkt[0] == 0x45:
		if int(binary.BigEndian.Uint16(pkt[2:])) != len(pkt) || binary.BigEndian.Uint16(pkt[6:])&0xbfff != 0 { // a fragment, or the reserved bit
			return l, false
		}
		l.version, l.proto, l.l4 = 4, pkt[9], 20
	case len(pkt) >= 48 && pkt[0]>>4 == 6:
		if int(binary.BigEndian.Uint16(pkt[4:]))+40 != len(pkt) {
			return l, false
		}
		l.version, l.proto, l.l4 = 6, pkt[6], 40
	default:
		return l, false
	}
	switch l.proto {
	case wire.ProtoTCP:
		if len(pkt) < l.l4+wire.TCPHeaderLen {
			return l, false
		}
		n := int(pkt[l.l4+12]>>4) * 4
		if n < wire.TCPHeaderLen || l.l4+n > len(pkt) {
			return l, false
		}
		l.payload = l.l4 + n
	case wire.ProtoUDP:
		if int(binary.BigEndian.Uint16(pkt[l.l4+4:])) != len(pkt)-l.l4 {
			return l, false
		}
		l.payload = l.l4 + wire.UDPHeaderLen
	default:
		return l, false
	}
	return l, true
}

// begin is a group of one packet, which may be open for more.
func (j *joiner) begin(i int32, pkt []byte, l layout) group {
	g := group{first: i, tail: i, segments: 1, size: len(pkt) - l.payload, total: len(pkt), layout: l}
	if l.version == 4 {
		g.id = binary.BigEndian.Uint16(pkt[4:])
	}
	switch t := pkt[l.l4:]; l.proto {
	case wire.ProtoTCP:
		g.seq = binary.BigEndian.Uint32(t[4:]) + uint32(g.size)
		g.open = g.size > 0 && t[13] == flagACK && t[12]&0x0f == 0
	case wire.ProtoUDP:
		g.open = j.udp && g.size > 0 && t[6]|t[7] != 0 // without a checksum it has to stay so
	}
	return g
}

// find is the newest group of the flow of pkt; nil: none among the recent ones.
func (j *joiner) find(bufs [][]byte, offset int, pkt []byte, l layout) *group {
	for k := len(j.groups) - 1; k >= max(j.floor, len(j.groups)-recent); k-- {
		g := &j.groups[k]
		first := bufs[g.first][offset:]
		if g.layout.version != l.version || g.layout.proto != l.proto {
			continue
		}
		from := 12
		if l.version == 6 {
			from = 8
		}
		if bytes.Equal(first[from:l.l4+4], pkt[from:l.l4+4]) {
			return g
		}
	}
	return nil
}

// extend adds pkt to g if it is what follows. Where it is not, pkt begins a group of its own, which
// find then finds instead of g.
func (j *joiner) extend(g *group, bufs [][]byte, offset int, pkt []byte, l layout) bool {
	first := bufs[g.first][offset:]
	if !g.open || !g.follows(first, pkt, l) || !g.verified && !right(first, g.layout) || !right(pkt, l) {
		return false
	}
	g.verified = true
	n := len(pkt) - l.payload
	g.segments++
	g.total += n
	g.seq += uint32(n)
	g.id++
	g.push = l.proto == wire.ProtoTCP && pkt[l.l4+13]&flagPSH != 0
	g.open = n == g.size && !g.push && (l.proto == wire.ProtoTCP || g.segments < maxDatagrams)
	return true
}

// follows says whether pkt could have been cut from one packet with first and what is in g.
func (g *group) follows(first, pkt []byte, l layout) bool {
	n := len(pkt) - l.payload
	if l != g.layout || n == 0 || n > g.size || g.total+n > maxJoined {
		return false
	}
	if l.version == 4 {
		// Type of service, DF, TTL. Without DF the identification counts up as the system's
		// would; with DF it says nothing (RFC 6864 §4.1).
		if first[1] != pkt[1] || first[6] != pkt[6] || first[8] != pkt[8] || pkt[6]&0x40 == 0 && binary.BigEndian.Uint16(pkt[4:]) != g.id+1 {
			return false
		}
	} else if !bytes.Equal(first[:4], pkt[:4]) || first[7] != pkt[7] {
		return false
	}
	a, b := first[l.l4:], pkt[l.l4:]
	if l.proto == wire.ProtoUDP {
		return b[6]|b[7] != 0
	}
	return binary.BigEndian.Uint32(b[4:]) == g.seq &&
		bytes.Equal(a[8:13], b[8:13]) && // acknowledgment, length of the header, reserved bits
		b[13]&^flagPSH == flagACK &&
		bytes.Equal(a[14:16], b[14:16]) && bytes.Equal(a[18:20], b[18:20]) && // window, urgent pointer
		bytes.Equal(a[wire.TCPHeaderLen:l.payload-l.l4], b[wire.TCPHeaderLen:l.payload-l.l4])
}

// right says whether the checksums of pkt are right.
func right(pkt []byte, l layout) bool {
	return wire.VerifyIPv4Checksum(pkt) &&
		wire.Sum(pkt[l.l4:], pseudo(pkt, l, len(pkt)-l.l4)) == 0xffff
}

// pseudo is the sum of the pseudo header for an upper layer of n bytes.
func pseudo(pkt []byte, l layout, n int) uint16 {
	addrs := pkt[12:20]
	if l.version == 6 {
		addrs = pkt[8:40]
	}
	return wire.Sum(addrs, wire.Sum([]byte{0, l.proto, byte(n >> 8), byte(n)}, 0))
}

// The offload header in front of each packet, struct virtio_net_hdr of Linux.
const (
	offloadLen   = 10
	needsSum     = 1 // the checksum is that of the pseudo header
	offloadNone  = 0
	offloadTCPv4 = 1
	offloadTCPv6 = 4
	offloadUDP   = 5
	offloadECN   = 0x80 // with TCP: the first has CWR
)

// head writes the offload header of g in front of its first packet buf[offset:], and makes
// the headers of that packet those of the joined one.
func (g *group) head(buf []byte, offset int) {
	h, pkt := buf[offset-offloadLen:offset], buf[offset:]
	clear(h)
	if g.segments == 1 {
		return
	}
	l := g.layout
	if l.version == 4 {
		binary.BigEndian.PutUint16(pkt[2:], uint16(g.total))
		wire.FillIPv4Checksum(pkt)
	} else {
		binary.BigEndian.PutUint16(pkt[4:], uint16(g.total-40))
	}
	n := g.total - l.l4
	kind, at := byte(offloadTCPv4), 16
	switch {
	case l.proto == wire.ProtoUDP:
		kind, at = offloadUDP, 6
		binary.BigEndian.PutUint16(pkt[l.l4+4:], uint16(n))
	case l.version == 6:
		kind = offloadTCPv6
	}
	if g.push {
		pkt[l.l4+13] |= flagPSH
	}
	binary.BigEndian.PutUint16(pkt[l.l4+at:], pseudo(pkt, l, n))
	h[0], h[1] = needsSum, kind
	binary.NativeEndian.PutUint16(h[2:], uint16(l.payload))
	binary.NativeEndian.PutUint16(h[4:], uint16(g.size))
	binary.NativeEndian.PutUint16(h[6:], uint16(l.l4))
	binary.NativeEndian.PutUint16(h[8:], uint16(at))
}

// apart undoes head, so that the packets of g can be written one by one.
func (g *group) apart(pkt []byte) {
	l, total := g.layout, g.layout.payload+g.size
	if l.version == 4 {
		binary.BigEndian.PutUint16(pkt[2:], uint16(total))
		wire.FillIPv4Checksum(pkt)
	} else {
		binary.BigEndian.PutUint16(pkt[4:], uint16(total-40))
	}
	at := 16
	if l.proto == wire.ProtoUDP {
		at = 6
		binary.BigEndian.PutUint16(pkt[l.l4+4:], uint16(total-l.l4))
	} else if g.push {
		pkt[l.l4+13] &^= flagPSH
	}
	pkt[l.l4+at], pkt[l.l4+at+1] = 0, 0
	sum := ^wire.Sum(pkt[l.l4:total], pseudo(pkt, l, total-l.l4))
	if sum == 0 && l.proto == wire.ProtoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(pkt[l.l4+at:], sum)
}
