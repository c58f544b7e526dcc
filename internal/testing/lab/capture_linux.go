package lab

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Sort is what a packet on a wire is, as far as one sees without a key.
type Sort struct {
	From  netip.Addr
	Kind  string // "esp", "ah", "esp in udp", "ike", "keepalive", "tcp", "icmp", "fragment", or the protocol's number
	AHLen int    // bytes of the AH
	Next  uint8  // the protocol in AH
	// Options: there are IPv4 options, or hop-by-hop options of IPv6, in front.
	Options bool
}

// Capture counts the packets of a device, both ways.
type Capture struct {
	frames *frames
	seen   map[Sort]int
}

// Capture begins to count. It ends with the test.
func (n *Node) Capture(device string) *Capture {
	n.lab.TB.Helper()
	c := &Capture{seen: map[Sort]int{}}
	c.frames = n.frames(device, func(packet []byte, _ time.Time) {
		if s, ok := sortOf(packet); ok {
			c.seen[s]++
		}
	})
	return c
}

// Seen is how many packets of each sort passed so far.
func (c *Capture) Seen() (seen map[Sort]int) {
	c.frames.look(func() { seen = maps.Clone(c.seen) })
	return seen
}

// sortOf looks at the front of a packet. Not ok: it is not IP.
func sortOf(p []byte) (s Sort, ok bool) {
	var proto uint8
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		s.From, proto = netip.AddrFrom4([4]byte(p[12:16])), p[9]
		if binary.BigEndian.Uint16(p[6:])&0x1fff != 0 {
			s.Kind = "fragment"
			return s, true
		}
		s.Options = p[0]&15 > 5
		p = p[min(len(p), int(p[0]&15)*4):]
	case len(p) >= 40 && p[0]>>4 == 6:
		s.From, proto = netip.AddrFrom16([16]byte(p[8:24])), p[6]
		p = p[40:]
		if s.Options = proto == unix.IPPROTO_HOPOPTS && len(p) >= 8; s.Options {
			proto, p = p[0], p[min(len(p), int(p[1])*8+8):]
		}
	default:
		return s, false
	}
	switch {
	case proto == unix.IPPROTO_ESP:
		s.Kind = "esp"
	case proto == unix.IPPROTO_AH && len(p) >= 12:
		s.Kind, s.AHLen, s.Next = "ah", (int(p[1])+2)*4, p[0]
	case proto == unix.IPPROTO_UDP && len(p) >= 9:
		s.Kind = udpKind(p)
	case proto == unix.IPPROTO_TCP:
		s.Kind = "tcp"
	case proto == unix.IPPROTO_ICMP || proto == unix.IPPROTO_ICMPV6:
		s.Kind = "icmp"
	case proto == unix.IPPROTO_FRAGMENT:
		s.Kind = "fragment"
	default:
		s.Kind = fmt.Sprint(proto)
	}
	return s, true
}

// udpKind tells apart what is in UDP (RFC 3948 §2).
func udpKind(p []byte) string {
	from, to, data := binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]), p[8:]
	switch {
	case from != 4500 && to != 4500 && (from == 500 || to == 500):
		return "ike"
	case from != 4500 && to != 4500:
		return "udp"
	case len(data) == 1 && data[0] == 0xff:
		return "keepalive"
	case len(data) >= 4 && binary.BigEndian.Uint32(data) == 0:
		return "ike"
	}
	return "esp in udp"
}
