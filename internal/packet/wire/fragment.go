package wire

import "encoding/binary"

// Fragment says where a piece of a packet belongs (RFC 791 §3.2, RFC 8200 §4.5).
// What it was cut from is a head that every piece has, and data:
//
//	IPv4   header with options | data
//	IPv6   header, extension headers of the path | fragment header | data
type Fragment struct {
	ID     uint32 // 16 bits in IPv4
	Head   int    // bytes of the head
	At     int    // where in the head it is said what follows
	Next   uint8  // what follows: only that of the first piece counts (RFC 8200 §4.5)
	Data   int    // where the data begin in this packet
	Total  int    // and end
	Offset int    // of the data in those of the whole
	More   bool
}

// Sound reports whether a fragment can be part of a packet: it has data, whole units
// of eight bytes where others follow (RFC 791 §3.2, RFC 8200 §4.5), and does not end
// behind the longest packet. In IPv6 what its first piece has in front counts too,
// but is not known here.
func (i Info) Sound() bool {
	n, head := i.PayloadLen(), 0
	if i.Version == 4 {
		head = i.Payload
	}
	return n > 0 && (!i.More || n%8 == 0) && head+i.FragOffset+n <= 0xffff
}

// Len is the length of the piece's data.
func (x Fragment) Len() int { return x.Total - x.Data }

// FragmentOf reads a fragment that ParseFlow took for one; i is what it said. Not
// ok: it is none.
func FragmentOf(pkt []byte, i Info) (Fragment, bool) {
	if !i.Fragment() || i.Total > len(pkt) {
		return Fragment{}, false
	}
	x := Fragment{Total: i.Total, Offset: i.FragOffset, More: i.More}
	if i.Version == 4 {
		x.ID = uint32(binary.BigEndian.Uint16(pkt[4:]))
		x.Head, x.At, x.Next, x.Data = i.Payload, 9, i.Proto, i.Payload
		return x, true
	}
	end, at := IPv6HeaderLen, 6
	for pkt[at] != ProtoFragment { // which ParseFlow met, behind whole headers
		at, end = end, end+extUnit+int(pkt[end+1])*extUnit
	}
	x.ID = binary.BigEndian.Uint32(pkt[end+4:])
	x.Head, x.At, x.Next, x.Data = end, at, pkt[end], end+fragmentHdrLen
	return x, true
}

// Joined makes of a packet whose head is pkt[:x.Head] and whose data follow, x
// being its first piece, the packet that it was before it was cut: IPv4 without
// flag and offset, IPv6 without fragment header. Not ok: it is too long.
func Joined(pkt []byte, x Fragment) bool {
	if pkt[0]>>4 == 4 {
		pkt[6], pkt[7] = pkt[6]&^0x3f, 0
	} else {
		pkt[x.At] = x.Next
	}
	return SetTotal(pkt, len(pkt))
}

// Cutter cuts one packet into fragments. Make it with NewCutter.
type Cutter struct {
	pkt    []byte
	head   int // bytes of pkt that every piece has
	at     int // IPv6: where in the head it is said what follows
	next   uint8
	id     uint32
	step   int  // bytes of data in a piece
	offset int  // IPv4: of pkt's own data, should it be a fragment already
	more   bool // and whether pieces follow it
	done   int  // bytes of data that are in pieces already
}

// NewCutter prepares to cut pkt, which passed ParseFlow, into pieces of at most
// limit bytes each. id is for IPv6 (no other packet between the two ends that is
// under way may have it), its low half for IPv4 packets that have none. Not ok:
// limit is too small, or it is an IPv6 packet with a fragment header. Whether the
// sender allowed it (don't fragment; IPv6: never on the way) is for the caller to know.
func NewCutter(pkt []byte, limit int, id uint32) (Cutter, bool) {
	var f Flow
	i, ok := ParseFlow(pkt, &f)
	if !ok {
		return Cutter{}, false
	}
	c := Cutter{pkt: pkt[:i.Total], id: id}
	front := 0
	if i.Version == 4 {
		c.head, c.offset, c.more = i.Payload, i.FragOffset, i.More
		front = c.head
	} else {
		c.head, c.at, c.next, ok = PathHeaders(c.pkt)
		front = c.head + fragmentHdrLen
		ok = ok && c.next != ProtoFragment && !i.Fragment()
	}
	c.step = (limit - front) &^ 7
	return c, ok && c.step >= 8
}

// Next writes the next piece to buf, which has room for limit bytes. More says
// that it was not the last.
func (c *Cutter) Next(buf []byte) (piece []byte, more bool) {
	data := c.pkt[c.head+c.done:]
	n := min(len(data), c.step)
	more = n < len(data)
	b := append(buf[:0], c.pkt[:c.head]...)
	if b[0]>>4 == 4 {
		frag := uint16(b[6])<<8&0x4000 | uint16((c.offset+c.done)/8)
		if more || c.more {
			frag |= 0x2000
		}
		binary.BigEndian.PutUint16(b[6:], frag)
		if b[4]|b[5] == 0 {
			binary.BigEndian.PutUint16(b[4:], uint16(c.id))
		}
		if c.offset+c.done > 0 {
			blankOptions(b[IPv4HeaderLen:])
		}
	} else {
		b[c.at] = ProtoFragment
		b = AppendIPv6Fragment(b, c.next, c.done, more, c.id)
	}
	c.done += n
	b = append(b, data[:n]...)
	SetTotal(b, len(b)) // not longer than pkt, or than what limit allows
	return b, more
}

// blankOptions makes no-operations of the IPv4 options that are for the first
// piece alone (RFC 791 §3.1: those without the copied flag).
func blankOptions(opts []byte) {
	const end, nop, copied = 0, 1, 0x80
	for len(opts) > 0 && opts[0] != end {
		n := 1
		if opts[0] != nop {
			if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
				return
			}
			n = int(opts[1])
		}
		if opts[0]&copied == 0 {
			for i := range n {
				opts[i] = nop
			}
		}
		opts = opts[n:]
	}
}
