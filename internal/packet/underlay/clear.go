package underlay

// Clear sends whole IP packets as they are, past the policies: those whose
// policy says none, or use while there is no SA. The host's rules keep such
// packets away from the device where they can; what comes out of it all the same
// (fragments, whose ports no rule sees) goes on through here.
//
// An IPv4 packet that is too long for its way leaves in pieces, if it may be cut.
//
// Send may be called from one goroutine at a time; pkt is borrowed. The system
// computes an IPv4 header's checksum anew. Close ends it.
type Clear interface {
	Send(pkt []byte) error
	Close() error
}
