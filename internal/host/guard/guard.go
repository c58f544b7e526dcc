package guard

import (
	"errors"
	"net/netip"
)

// Flow is the traffic of one policy, seen from this side. Proto 0 and port 0
// mean any.
type Flow struct {
	Local, Remote         netip.Prefix
	Proto                 uint8
	LocalPort, RemotePort uint16
	// Pass: it may be in clear. Else it may only come out of or go into the device.
	Pass bool
	// Own: only what this host sends itself, by whichever of its addresses; answers
	// to connections that others began may be in clear all the same.
	Own bool
}

// Plan is what the guard has to keep apart.
type Plan struct {
	Device string
	Mark   uint32 // of the gateway's own sockets, which are let out
	// Errors is the mark that ICMP errors get which quote a packet that came protected:
	// they are led to the device by it, and none leaves in clear (RFC 4301 §6.2). 0:
	// they are not looked at.
	Errors uint32
	Ports  []uint16 // UDP ports of the gateway itself, which are let in
	// Flows in the order of the policies: the first that matches decides; what
	// none matches is not the guard's business.
	Flows []Flow
}

// Counts is how many packets the guard has dropped since it was made.
type Counts struct {
	In  uint64 // came in clear
	Out uint64 // would have left in clear
}

// Guard is what the system enforces. Methods are for one goroutine at a time.
type Guard interface {
	// Apply goes over to a plan in one step, without a moment in which neither
	// the old nor the new one holds. A plan without flows takes the guard away. On
	// error the old plan stands, and the error says what to do.
	Apply(Plan) error
	Counts() (Counts, error)
	// Close takes the guard away.
	Close() error
	// Leave ends without taking it away: it goes on guarding.
	Leave() error
	// Left reports whether a killed run had left a guard when this one was made.
	Left() bool
}

// Watcher is what a Guard has beside where the system reports changes. The last plan
// is the desired state; others may change what was made of it. The methods are as of a Guard,
// but for Changed, which is safe for any goroutine.
type Watcher interface {
	// Changed delivers when others have changed something of the guard.
	Changed() <-chan struct{}
	// Differences says how the system differs from the plan, a phrase for each
	// difference, and changes nothing.
	Differences() ([]string, error)
	// Restore removes the differences and says which there were, and who may have
	// caused them, if that is known.
	Restore() (restored, by []string, err error)
}

// Explainer is what a Guard has beside that can say what it does with a packet, as
// the system has the guard now.
type Explainer interface {
	Judge(Packet) (Verdict, error)
}

// Packet is what the guard sees of a packet in clear.
type Packet struct {
	Src, Dst netip.Addr
	Proto    uint8
	// SrcPort and DstPort are the first four bytes behind the IP header: for ICMP,
	// SrcPort is type and code.
	SrcPort, DstPort uint16
	Opaque           bool // ports are not known: a fragment that is not the first
	Inbound          bool // it comes by Device; else it leaves by it
	Device           string
	Mark             uint32 // of the socket that sent it
	Local            bool   // Dst is an address of this host
	FromUs           bool   // Src is
	Broadcast        bool   // Dst is a broadcast address
}

// Verdict is what the guard does with a packet.
type Verdict struct {
	Drop   bool
	Chain  string // in which that was decided
	Absent bool   // there is no guard in force
}

// ErrNone: this system has no guard.
var ErrNone = errors.New("there is no guard on this system, only on Linux with nf_tables: set guard = false in [gateway]")
