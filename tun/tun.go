package tun

import (
	"errors"
	"net/netip"

	"culvert/internal/packet/wire"
)

// ErrPacket: a packet of the host could not be read, and the device goes on.
var ErrPacket = errors.New("a packet is lost")

// Device is a TUN device in batches. Buffers belong to the caller.
type Device interface {
	Queue
	Name() string
	MTU() (int, error)
	Close() error
}

// Queue is one of the queues of a device. Read and Write may be called from different goroutines, each by one at a time.
type Queue interface {
	// Read blocks for at least one packet and reads packet i into
	// bufs[i][offset:], with its length in sizes[i]. An error that wraps ErrPacket
	// is of one packet, which is lost; n others may have come before it.
	Read(bufs [][]byte, sizes []int, offset int) (n int, err error)
	// Write writes the packets bufs[i][offset:len(bufs[i])] and returns how many
	// were taken. One that is refused does not keep back those behind it; the error
	// is of one of them. Up to offset bytes in front of each may be overwritten.
	Write(bufs [][]byte, offset int) (int, error)
	BatchSize() int
}

// Queued is what a Device has that may have several queues.
type Queued interface {
	// Queues are all of them, the first included.
	Queues() []Queue
}

// Queues are those of a device, at least one.
func Queues(d Device) []Queue {
	if q, ok := d.(Queued); ok {
		return q.Queues()
	}
	return []Queue{d}
}

// Dropper is what a Device has whose system tells of packets that it dropped before Read (Linux).
type Dropper interface {
	// Drops is how many there were, from any goroutine. Several segments of one flow that the
	// system had not cut yet are one.
	Drops() uint64
}

// Offloader is what a Device has that says what the system does for many packets at once.
type Offloader interface {
	// Offloads may be called from any goroutine.
	Offloads() []wire.Offload
}

// Route is one policy's traffic that has to reach the device. Proto 0 and port
// 0 mean any.
type Route struct {
	Local, Remote         netip.Prefix
	Proto                 uint8
	LocalPort, RemotePort uint16
	// Pass keeps this traffic out of the device (action=none above a wider policy).
	Pass bool
	// Optional traffic may also come in clear (level=use): not the host's business.
	Optional bool
}

// Plan is the wanted state of the host around the device.
type Plan struct {
	// Routes in the order of the policies.
	Routes []Route
	// Addresses on the device (leased ones; none for site-to-site).
	Addresses []netip.Prefix
	// Bypass are the UDP source ports of the gateway itself: its own packets
	// and the answers to them never enter the device.
	Bypass []uint16
	// Protocols are the IP protocols of the gateway itself, where it sends them
	// without UDP: 50 and 51.
	Protocols []uint8
	// LANBypass: what goes everywhere does not go to the private networks on this host's links.
	LANBypass bool
	MTU       int
}

// Host brings the system to a Plan and takes everything back.
type Host interface {
	// Apply changes what differs from the last plan: nothing that stays is
	// touched, so flows that stay lose no packet. On error the last plan stands
	// as far as the system allows, and the error says what to do.
	Apply(Plan) error
	// Close removes everything that Apply made.
	Close() error
}
