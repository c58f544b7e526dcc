package underlay

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"culvert/internal/wire"
)

// clearSockets are raw sockets with header included, one for each family. Their
// mark leads what they send past the rules that would bring it back.
type clearSockets struct {
	fd [2]int // IPv4, IPv6; -1: the system has none
}

// OpenClear opens the way past the policies.
func OpenClear(mark uint32) (Clear, error) {
	c := &clearSockets{fd: [2]int{-1, -1}}
	for i, domain := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue
		}
		if err == nil {
			c.fd[i] = fd
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		}
		if err == nil {
			// Nothing is read from it.
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0)
		}
		if err != nil {
			_ = c.Close()
			return nil, explainRaw(cause(err), netip.IPv4Unspecified(), unix.IPPROTO_RAW, err)
		}
	}
	return c, nil
}

func (c *clearSockets) Send(pkt []byte) error {
	var to unix.Sockaddr
	fd := -1
	switch {
	case len(pkt) >= wire.IPv4HeaderLen && pkt[0]>>4 == 4:
		fd, to = c.fd[0], &unix.SockaddrInet4{Addr: [4]byte(pkt[16:20])}
	case len(pkt) >= wire.IPv6HeaderLen && pkt[0]>>4 == 6:
		fd, to = c.fd[1], &unix.SockaddrInet6{Addr: [16]byte(pkt[24:40])}
	}
	if fd < 0 {
		return ErrNoSocket
	}
	if err := unix.Sendto(fd, pkt, 0, to); err != nil {
		return fmt.Errorf("sending a packet past the policies: %w", err)
	}
	return nil
}

func (c *clearSockets) Close() error {
	var errs []error
	for i, fd := range c.fd {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
			c.fd[i] = -1
		}
	}
	return errors.Join(errs...)
}
