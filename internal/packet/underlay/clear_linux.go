package underlay

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/wire"
)

// clearSockets are raw sockets with header included, one for each family. Their
// mark leads what they send past the rules that would bring it back.
type clearSockets struct {
	call func(fd int, pkt []byte, flags int, to unix.Sockaddr) error // sendto(2)
	fd   [2]int                                                      // IPv4, IPv6; -1: the system has none
	mtu  int                                                         // a socket to ask for the MTU of a way; -1: none
	buf  []byte                                                      // of a piece
}

// OpenClear opens the way past the policies.
func OpenClear(mark uint32) (Clear, error) {
	c := &clearSockets{call: unix.Sendto, fd: [2]int{-1, -1}, mtu: -1}
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
		if err == nil {
			tv := sendTimeout
			err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)
		}
		if err == nil {
			// Without it the system does not say that a queue was full (ENOBUFS).
			if domain == unix.AF_INET {
				err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
			} else {
				err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
			}
		}
		if err != nil {
			_ = c.Close()
			return nil, explainRaw(cause(err), netip.IPv4Unspecified(), unix.IPPROTO_RAW, err)
		}
	}
	if c.fd[0] >= 0 {
		var err error
		if c.mtu, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil {
			err = unix.SetsockoptInt(c.mtu, unix.SOL_SOCKET, unix.SO_MARK, int(mark))
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
	err := c.sendto(fd, pkt, to)
	if errors.Is(err, unix.EMSGSIZE) && fd == c.fd[0] && pkt[6]&0x40 == 0 {
		err = c.sendPieces(pkt, to)
	}
	if err != nil {
		return fmt.Errorf("sending a packet past the policies: %w", err)
	}
	return nil
}

// sendto goes on after a signal: with a time limit the system does not by itself.
func (c *clearSockets) sendto(fd int, pkt []byte, to unix.Sockaddr) error {
	for {
		if err := c.call(fd, pkt, 0, to); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// sendPieces does what every router on the way would with an IPv4 packet that is
// too long for the next link and may be cut (RFC 791 §2.3): the system does not
// for packets that come with their header.
func (c *clearSockets) sendPieces(pkt []byte, to unix.Sockaddr) error {
	if err := unix.Connect(c.mtu, to); err != nil { // sends nothing: it looks the way up
		return err
	}
	mtu, err := unix.GetsockoptInt(c.mtu, unix.IPPROTO_IP, unix.IP_MTU)
	if err != nil {
		return err
	}
	cut, ok := wire.NewCutter(pkt, mtu, rand.Uint32())
	if !ok {
		return unix.EMSGSIZE
	}
	for more := true; more; {
		c.buf, more = cut.Next(c.buf)
		if err := c.sendto(c.fd[0], c.buf, to); err != nil {
			return err
		}
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
	if c.mtu >= 0 {
		errs = append(errs, unix.Close(c.mtu))
		c.mtu = -1
	}
	return errors.Join(errs...)
}
