package wire

// Offload is something that the system may do for many packets at once, so that a system call
// and the host's network stack take them as one.
type Offload struct {
	Place string // the device's name, or the address of a socket
	Name  string
	InUse bool
	// Detail says what it does for this place, or why it is not in use and what happens instead.
	Detail string
}
