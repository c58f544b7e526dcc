package underlay

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

type addrPort = netip.AddrPort

// Options of Listen.
type Options struct {
	// IKEPort and NATTPort are the UDP ports, 500 and 4500 in the field. With 0
	// the system chooses: Conn.Ports tells.
	IKEPort, NATTPort uint16
	// Mark is set on all sockets (Linux: SO_MARK), so that the gateway's own
	// packets pass by its tunnels. 0 sets none.
	Mark uint32
	// Listen are the local addresses; none means all, IPv4 and IPv6.
	Listen []netip.Addr
	// Raw opens raw sockets for ESP and AH beside (Linux). Where the system does
	// not let us, that is an error.
	Raw bool
	// Join lets the system hand up datagrams of one flow joined (Linux: UDP_GRO). Recv may then
	// return packets with a Segment, and its buffers must have room for MaxDatagram bytes.
	Join bool
	// Queues is how many sockets share the NAT-T port of each address (Linux). The system chooses one by
	// the SPI. 0 is 1.
	Queues int
	// Buffer is the size of each socket's receive and send buffer in bytes
	// (32 MB). The system may give less, which is no error.
	Buffer int
}

const defaultBuffer = 32 << 20

// Causes of Listen's errors. Each error says which port or address and what to do.
var (
	ErrPortInUse = errors.New("port in use")
	ErrPrivilege = errors.New("not permitted")
	ErrNoAddress = errors.New("no such address on this host")
	// ErrNoRaw: this system does not let programs carry ESP and AH.
	ErrNoRaw = errors.New("no raw sockets for ESP and AH on this system")
)

// Why a packet was not sent.
var (
	ErrNoSocket = errors.New("no socket for this protocol, address family and source")
	ErrFrame    = errors.New("packet cannot be framed")
)

func (o Options) withDefaults() (Options, error) {
	if o.Buffer == 0 {
		o.Buffer = defaultBuffer
	}
	if o.IKEPort != 0 && o.IKEPort == o.NATTPort {
		return o, fmt.Errorf("port and natt-port are both %d: they must differ (keys in [gateway])", o.IKEPort)
	}
	o.Queues = max(o.Queues, 1)
	o.Listen = slices.Clone(o.Listen)
	for i, a := range o.Listen {
		if !a.IsValid() {
			return o, errors.New("an address in listen is not valid (key listen in [gateway])")
		}
		o.Listen[i] = a.Unmap()
	}
	return o, nil
}

// portKey is the configuration's name of a port.
func portKey(natt bool) string {
	if natt {
		return "natt-port"
	}
	return "port"
}

// explainBind says what to do about err, of class cause.
func explainBind(cause error, at netip.AddrPort, natt bool, err error) error {
	key := portKey(natt)
	switch cause {
	case ErrPortInUse:
		return fmt.Errorf("%w: UDP %v belongs to another program, often another IKE daemon (\"ss -ulpn sport = :%d\" names it): stop it, or set %s in [gateway] (%w)", cause, at, at.Port(), key, err)
	case ErrPrivilege:
		return fmt.Errorf("%w to open UDP %v: run as root or give the program cap_net_bind_service (and cap_net_admin for its mark), or set %s in [gateway] to 1024 or more (%w)", cause, at, key, err)
	case ErrNoAddress:
		return fmt.Errorf("%w: %v: correct listen in [gateway] (%w)", cause, at.Addr(), err)
	}
	return fmt.Errorf("cannot open UDP %v (%s): %w", at, key, err)
}

// open makes both ports' sockets on every address. A port that the system
// chooses is the same on all addresses. What make opened before an error is
// left for the caller to close.
func open(o Options, make func(at netip.AddrPort, natt bool) (uint16, error), optional func(netip.Addr, error) bool) (ike, natt uint16, err error) {
	addrs, all := o.Listen, len(o.Listen) == 0
	if all {
		addrs = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	ports := [2]uint16{o.IKEPort, o.NATTPort}
	for i := range ports {
		opened := 0
		for _, a := range addrs {
			port, err := make(netip.AddrPortFrom(a, ports[i]), i == 1)
			if err != nil && all && optional(a, err) {
				continue
			}
			if err != nil {
				return 0, 0, err
			}
			ports[i] = port
			opened++
		}
		if opened == 0 {
			return 0, 0, fmt.Errorf("%w: this system has neither IPv4 nor IPv6", ErrNoAddress)
		}
	}
	return ports[0], ports[1], nil
}

// retryEphemeral is how often Listen tries again where a port that the system
// chose for the first address is taken on another.
const retryEphemeral = 16
