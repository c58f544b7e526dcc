package tun

import "net/netip"

// Prober is what a Host has beside where the system can be asked which way it leads
// a packet, by its rules and routes as they are now.
type Prober interface {
	// Lookup asks for one packet. The error is of the asking: a packet that leads nowhere
	// is an answer.
	Lookup(Query) (Decision, error)
}

// Query is a packet that nobody sends.
type Query struct {
	// Src is not valid where it is not chosen yet.
	Src, Dst netip.Addr
	// Proto and the ports count where the system's rules can know them (Linux: of TCP
	// and UDP); 0 means any.
	Proto            uint8
	SrcPort, DstPort uint16
	In               string // the device by which it comes; "": this host sends it
	Mark             uint32 // of the socket that sends it
}

// Decision is where the system leads a packet.
type Decision struct {
	Device  string     // by which it leaves
	Table   int        // the routing table that says so; 0: not known
	Gateway netip.Addr // not valid: none
	Src     netip.Addr // that it would have if it has none yet
	// Local: it is for this host. Broadcast: that is a broadcast address.
	Local, Broadcast bool
	// Nowhere is why it leads nowhere, for people; "" where it leads somewhere.
	Nowhere string
}
