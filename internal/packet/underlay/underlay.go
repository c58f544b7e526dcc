package underlay

import (
	"net/netip"

	"culvert/internal/packet/wire"
)

// Kind says what a datagram is.
type Kind uint8

const (
	IKE       Kind = iota // an IKE message, marker removed; the sender puts it back
	ESP                   // ESP, in UDP (RFC 3948) where NATT says so, else right behind the IP header
	Keepalive             // one byte 0xFF (RFC 3948 §2.3)
	AH                    // a whole IP packet with an AH (RFC 4302)
	Runt                  // received by UDP and too short to be any of them; to be counted
	Trouble               // received: what became of a packet that was sent, see Fault (Linux)
)

// Packet is one datagram. Buf belongs to the caller before and after each call
// and is never kept. What is carried is Buf[Off:Off+Len]; a receiver fills Buf
// from Headroom on, a sender may write up to MarkerLen bytes before Off.
type Packet struct {
	Buf []byte
	Off int
	Len int
	// Segment: received, Data is several datagrams of this many bytes one behind the other,
	// the last of which may be shorter: Cut takes them apart. 0: it is one.
	Segment int
	Local   netip.AddrPort // to send: an invalid Addr lets the system choose; Port picks the socket
	Remote  netip.AddrPort
	Kind    Kind
	NATT    bool // by the NAT-T port (4500 by default): IKE carries the marker there
	// TOS is the type of service of the outer IPv4 header, or its IPv6 traffic
	// class: DSCP and ECN (RFC 2474, RFC 3168). To send it counts where the system
	// writes the header, and with 0 the system does as for any socket. Only Linux
	// carries it; on other systems nothing is sent of it and 0 received.
	TOS uint8
	// TTL is the time to live, or the hop limit, of a packet that came without UDP; 0:
	// not known. Only Linux tells.
	TTL uint8
	// Whole: to send, the packet is not to be cut. IPv4 has DF then, and the system
	// takes what its own link takes, whatever it was told of the path. Without, IPv4
	// routers may cut it, and the system does where the link, or with IPv6 the path,
	// is too narrow. Where the header is there already, its DF counts, and what is
	// too long for the link is refused (Linux; elsewhere the system decides).
	Whole bool
	// Fault is that of a Trouble. Remote is then where the packet went to, Local our
	// address, invalid where it is not known, and Data what is known of the packet
	// from its ESP or AH header, or IKE message with its marker, on; often nothing.
	Fault Fault
	// Header: Data begins with the IP header. Always so with AH, and with ESP
	// to send whose header is to be kept (never where NATT is set).
	Header bool
}

// Data is the payload of the kind.
func (p *Packet) Data() []byte { return p.Buf[p.Off : p.Off+p.Len] }

// Fault says what became of a packet.
type Fault struct {
	Cause Cause
	Kind  Kind // of the packet: ESP or AH; ESP also where it was an IKE message on the NAT-T port; IKE on the IKE port
	Local bool // the system itself says so: nobody on the path does
	MTU   int  // TooBig: what the link takes, in bytes of whole packets; 0: not told
}

// Cause is why a packet did not arrive.
type Cause uint8

const (
	TooBig      Cause = iota + 1 // it is too long for a link (RFC 1191, RFC 8201)
	Unreachable                  // no route, host, protocol or port there
	Prohibited                   // somebody's rules forbid it
	Undelivered                  // any other cause: hop limit, header, address
)

const (
	// Headroom is where received payloads start, so that headers can be put in front in place.
	Headroom = 128
	// MarkerLen is what a sender may need in front of an IKE message.
	MarkerLen = 4
	// MaxDatagram is the largest UDP payload.
	MaxDatagram = 65507
)

// Conn is one gateway's attachment to the network below.
type Conn interface {
	Queue
	// Ports are the IKE and the NAT-T port.
	Ports() (ike, natt uint16)
	Close() error
}

// Queue is one of the queues of a Conn. Recv and Send may be called from different goroutines.
type Queue interface {
	// Recv blocks until at least one datagram is there and fills the packets
	// from the first on; it returns how many. net.ErrClosed after Close.
	Recv(packets []Packet) (int, error)
	// Send sends all packets and returns how many left. A packet that the system
	// refuses (no route, too big) is skipped: the error is of the last such packet
	// and the caller counts len(packets)-n.
	Send(packets []Packet) (int, error)
}

// Queued is what a Conn has that may have several queues.
type Queued interface {
	// Queues are all of them, the first included.
	Queues() []Queue
}

// Queues are those of a Conn, at least one.
func Queues(c Conn) []Queue {
	if q, ok := c.(Queued); ok {
		return q.Queues()
	}
	return []Queue{c}
}

// Dropper is what a Conn has whose system tells of datagrams that it dropped before Recv (Linux).
type Dropper interface {
	// Drops is how many there were, from any goroutine.
	Drops() uint64
}

// Offloader is what a Conn has that says what the system does for many datagrams at once.
type Offloader interface {
	// Offloads may be called from any goroutine.
	Offloads() []wire.Offload
}

// Rawer is what a Conn has that may carry ESP and AH without UDP.
type Rawer interface {
	// Raw reports whether it does.
	Raw() bool
}

// IsRaw reports whether c carries ESP and AH without UDP.
func IsRaw(c Conn) bool {
	r, ok := c.(Rawer)
	return ok && r.Raw()
}
