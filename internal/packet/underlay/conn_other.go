//go:build darwin || windows

package underlay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// conn has one socket for each port, address and family, and a goroutine for
// each that reads into buffers which go round: nothing is allocated per packet.
type conn struct {
	ike, natt uint16
	sockets   []*socket
	free      chan *slot
	full      chan *slot
	closed    chan struct{}
	once      sync.Once
	readers   sync.WaitGroup
}

type socket struct {
	udp  *net.UDPConn
	at   netip.AddrPort
	natt bool
}

type slot struct {
	buf    [MaxDatagram]byte
	n      int
	from   netip.AddrPort
	socket *socket
}

// slots is how many datagrams wait for Recv; more wait in the sockets' buffers.
const slots = 64

// Listen opens the sockets. Errors wrap ErrPortInUse, ErrPrivilege or
// ErrNoAddress where one of them is the cause. On this system Local of a
// received packet is only known of a socket that listens on one address, and
// Mark has no effect.
func Listen(o Options) (Conn, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if o.Raw {
		return nil, fmt.Errorf("%w: set encapsulation=udp in [gateway]", ErrNoRaw)
	}
	for try := 0; ; try++ {
		c := &conn{free: make(chan *slot, slots), full: make(chan *slot, slots), closed: make(chan struct{})}
		c.ike, c.natt, err = open(o, func(at netip.AddrPort, natt bool) (uint16, error) {
			return c.add(o, at, natt)
		}, noFamily)
		if err == nil {
			c.start()
			return c, nil
		}
		c.Close()
		chosen := o.IKEPort == 0 || o.NATTPort == 0
		if !chosen || try == retryEphemeral || !errors.Is(err, ErrPortInUse) {
			return nil, err
		}
	}
}

// noFamily: a wildcard address of a family that this system does not have.
func noFamily(a netip.Addr, err error) bool {
	return a.Is6() && cause(err) != ErrPortInUse && cause(err) != ErrPrivilege
}

func (c *conn) add(o Options, at netip.AddrPort, natt bool) (uint16, error) {
	network := "udp4"
	if at.Addr().Is6() {
		network = "udp6"
	}
	udp, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return 0, explainBind(cause(err), at, natt, err)
	}
	// The system gives less where it has a limit.
	_ = udp.SetReadBuffer(o.Buffer)
	_ = udp.SetWriteBuffer(o.Buffer)
	bound, err := netip.ParseAddrPort(udp.LocalAddr().String())
	if err != nil {
		udp.Close()
		return 0, fmt.Errorf("local address of a socket: %w", err)
	}
	c.sockets = append(c.sockets, &socket{udp: udp, at: netip.AddrPortFrom(at.Addr(), bound.Port()), natt: natt})
	return bound.Port(), nil
}

func (c *conn) start() {
	for range slots {
		c.free <- new(slot)
	}
	for _, s := range c.sockets {
		c.readers.Go(func() { c.read(s) })
	}
}

func (c *conn) read(s *socket) {
	for {
		var b *slot
		select {
		case <-c.closed:
			return
		case b = <-c.free:
		}
		n, from, err := s.udp.ReadFromUDPAddrPort(b.buf[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// An answer that something we sent was refused: not ours to end on.
			c.free <- b
			continue
		}
		b.n, b.socket = n, s
		b.from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		c.full <- b
	}
}

func (c *conn) Recv(packets []Packet) (int, error) {
	for n := 0; len(packets) > 0; {
		var b *slot
		if n == 0 {
			select {
			case <-c.closed:
				return 0, net.ErrClosed
			case b = <-c.full:
			}
		} else {
			select {
			case b = <-c.full:
			default:
				return n, nil
			}
		}
		if c.take(b, &packets[n]) {
			n++
		}
		c.free <- b
		if n == len(packets) {
			return n, nil
		}
	}
	return 0, nil
}

func (c *conn) take(b *slot, p *Packet) bool {
	if len(p.Buf) < Headroom+b.n {
		return false
	}
	copy(p.Buf[Headroom:], b.buf[:b.n])
	local := b.socket.at
	if local.Addr().IsUnspecified() {
		local = netip.AddrPortFrom(netip.Addr{}, local.Port())
	}
	p.accept(b.n, b.socket.natt, local, b.from)
	return true
}

func (c *conn) Send(packets []Packet) (sent int, err error) {
	for i := range packets {
		select {
		case <-c.closed:
			return sent, net.ErrClosed
		default:
		}
		if e := c.send(&packets[i]); e != nil {
			err = e
			continue
		}
		sent++
	}
	return sent, err
}

func (c *conn) send(p *Packet) error {
	natt, ok := byNATT(p, c.ike, c.natt)
	if !ok || p.isRaw() || !p.Remote.IsValid() {
		return ErrNoSocket
	}
	wire, ok := p.frame(natt)
	if !ok {
		return ErrFrame
	}
	local := p.Local.Addr()
	for _, s := range c.sockets {
		if s.natt == natt && s.at.Addr().Is6() == p.Remote.Addr().Is6() && (!local.IsValid() || s.at.Addr() == local || s.at.Addr().IsUnspecified()) {
			_, err := s.udp.WriteToUDPAddrPort(wire, p.Remote)
			return err
		}
	}
	return ErrNoSocket
}

func (c *conn) Ports() (ike, natt uint16) { return c.ike, c.natt }

// Close wakes Recv and waits for the readers.
func (c *conn) Close() error {
	var errs []error
	c.once.Do(func() {
		close(c.closed)
		for _, s := range c.sockets {
			errs = append(errs, s.udp.Close())
		}
		c.readers.Wait()
	})
	return errors.Join(errs...)
}
