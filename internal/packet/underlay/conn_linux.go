package underlay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/poll"
)

// conn has one socket for each port, address and family, and for each queue beyond the first one more for the NAT-T
// port of each address.
type conn struct {
	*queue // the first, which has all sockets but those of the others
	more   []*queue

	ike, natt uint16
	closed    atomic.Bool

	dmu   sync.Mutex // held by Drops
	drops uint64
}

// queue has its sockets in one set, so that one Recv serves all of them in turn.
type queue struct {
	conn    *conn
	sockets []*socket
	by      [2][2][]*socket // [NAT-T][IPv6], in order of the listen addresses
	raw     [2][2][]*socket // [with header: AH][IPv6]
	ready   *poll.Set

	rmu sync.Mutex // held by Recv
	rx  *batch

	smu sync.Mutex // held by Send
	tx  *batch
}

func newQueue(c *conn) *queue { return &queue{conn: c, rx: newBatch(), tx: newBatch()} }

type socket struct {
	fd    int
	local netip.Addr // as bound
	port  uint16
	v6    bool
	natt  bool
	proto int  // of a raw socket; 0: UDP
	gso   bool // the system and the way out can segment (only touched by Send)
	whole bool // packets are not cut: see Packet.Whole (only touched by Send)

	cuts, joins bool        // what the system had at Listen: UDP_SEGMENT, UDP_GRO
	refused     atomic.Bool // a way out could not segment: gso is off since

	dropped uint32 // what the system said last (only touched by Drops)
}

// Listen opens the sockets. Errors wrap ErrPortInUse, ErrPrivilege or
// ErrNoAddress where one of them is the cause.
//
// Recv and Send are safe for concurrent use, one caller of each at a time
// goes ahead.
func Listen(o Options) (Conn, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		c := &conn{}
		c.queue = newQueue(c)
		for range o.Queues - 1 {
			c.more = append(c.more, newQueue(c))
		}
		c.ike, c.natt, err = open(o, func(at netip.AddrPort, natt bool) (uint16, error) {
			return c.add(o, at, natt)
		}, noFamily)
		if err == nil && o.Raw {
			err = c.openRaw(o)
		}
		for _, q := range c.queues() {
			if err == nil {
				err = q.start()
			}
		}
		if err == nil {
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
func noFamily(_ netip.Addr, err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

func (c *conn) add(o Options, at netip.AddrPort, natt bool) (uint16, error) {
	s, err := c.queue.add(o, at, natt)
	if err != nil {
		return 0, err
	}
	if !natt || len(c.more) == 0 {
		return s.port, nil
	}
	for _, q := range c.more {
		if _, err := q.add(o, netip.AddrPortFrom(at.Addr(), s.port), natt); err != nil {
			return 0, err
		}
	}
	if err := steer(s.fd, 1+len(c.more)); err != nil {
		return 0, explainBind(nil, at, natt, fmt.Errorf("SO_ATTACH_REUSEPORT_CBPF: %w", err))
	}
	return s.port, nil
}

func (q *queue) add(o Options, at netip.AddrPort, natt bool) (*socket, error) {
	v6, domain := at.Addr().Is6(), unix.AF_INET
	if v6 {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, explainBind(nil, at, natt, err)
	}
	if err = onlyIPv6(fd, v6); err == nil {
		err = configure(fd, v6, o)
	}
	if err == nil && natt && o.Queues > 1 {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(at))
	}
	if err != nil {
		unix.Close(fd)
		return nil, explainBind(cause(err), at, natt, err)
	}
	s := &socket{fd: fd, local: at.Addr(), port: at.Port(), v6: v6, natt: natt}
	if _, err := unix.GetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT); err == nil {
		s.gso, s.cuts = natt, natt
	}
	if natt && o.Join { // without, datagrams come one by one
		s.joins = unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) == nil
	}
	q.sockets = append(q.sockets, s)
	byFamily := &q.by[index(natt)][index(v6)]
	*byFamily = append(*byFamily, s)
	if s.port == 0 {
		name, err := unix.Getsockname(fd)
		if err != nil {
			return nil, explainBind(nil, at, natt, err)
		}
		switch sa := name.(type) {
		case *unix.SockaddrInet4:
			s.port = uint16(sa.Port)
		case *unix.SockaddrInet6:
			s.port = uint16(sa.Port)
		}
	}
	return s, nil
}

// steer has the system deliver ESP in UDP to the socket of its SPI, of the n that are bound to one address and port, in the
// order in which they were bound; everything else to the first. So the packets of an SA come to one queue, in order.
func steer(fd, n int) error {
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // of the payload: the SPI, or 0 in front of IKE; a keepalive has no 4 bytes, which ends here with 0
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(n)},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// queues are all of them, the first included.
func (c *conn) queues() []*queue { return append([]*queue{c.queue}, c.more...) }

// all are the sockets of all queues.
func (c *conn) all() (list []*socket) {
	for _, q := range c.queues() {
		list = append(list, q.sockets...)
	}
	return list
}

// Queues: see Queued.
func (c *conn) Queues() (list []Queue) {
	for _, q := range c.queues() {
		list = append(list, q)
	}
	return list
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16(), ZoneId: zoneID(at.Addr())}
}

// sendTimeout is how long a full send buffer holds Send before it skips a packet.
var sendTimeout = unix.Timeval{Usec: 100_000}

// configure sets the options that must be there, and buffers as the system
// gives them.
func configure(fd int, v6 bool, o Options) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, o.Buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, o.Buffer)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, o.Buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, o.Buffer)
	}
	tv := sendTimeout
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv); err != nil {
		return fmt.Errorf("SO_SNDTIMEO: %w", err)
	}
	options := []struct{ level, name, value int }{
		{unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
		{unix.IPPROTO_IP, unix.IP_RECVTOS, 1},
		{unix.IPPROTO_IP, unix.IP_RECVERR, 1},
		{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, discovery(v6, false)},
	}
	if v6 {
		options = []struct{ level, name, value int }{
			{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, discovery(v6, false)},
		}
	}
	if o.Mark != 0 {
		options = append(options, struct{ level, name, value int }{unix.SOL_SOCKET, unix.SO_MARK, int(o.Mark)})
	}
	for _, x := range options {
		if err := unix.SetsockoptInt(fd, x.level, x.name, x.value); err != nil {
			return fmt.Errorf("socket option %d/%d: %w", x.level, x.name, err)
		}
	}
	return nil
}

// onlyIPv6 leaves IPv4 to the sockets of its own. A raw socket has one family anyway.
func onlyIPv6(fd int, v6 bool) error {
	if !v6 {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
}

// start puts the sockets into the set that Recv waits on.
func (q *queue) start() (err error) {
	if q.ready, err = poll.New(); err != nil {
		return err
	}
	for i, s := range q.sockets {
		if err := q.ready.Add(s.fd, i); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) Ports() (ike, natt uint16) { return c.ike, c.natt }

func (q *queue) Recv(packets []Packet) (int, error) {
	q.rmu.Lock()
	defer q.rmu.Unlock()
	if len(packets) == 0 {
		return 0, nil
	}
	if len(packets[0].Buf) <= Headroom {
		return 0, fmt.Errorf("receiving into a buffer of %d bytes: it needs more than %d", len(packets[0].Buf), Headroom)
	}
	for {
		i, failed, err := q.ready.Next()
		switch {
		case q.conn.closed.Load():
			return 0, net.ErrClosed
		case err != nil:
			return 0, fmt.Errorf("waiting for datagrams: %w", err)
		}
		s, got := q.sockets[i], 0
		if failed {
			got = q.rx.troubles(s, packets)
		}
		if got == 0 {
			got = q.rx.recv(s, packets)
		}
		if got > 0 {
			return got, nil
		}
	}
}

// Send sends what leaves by sockets that the first queue alone has with that queue.
func (q *queue) Send(packets []Packet) (sent int, err error) {
	first := q.conn.queue
	if q == first {
		return q.send(packets)
	}
	for len(packets) > 0 {
		own, n := q.has(&packets[0]), 1
		for n < len(packets) && q.has(&packets[n]) == own {
			n++
		}
		by := first
		if own {
			by = q
		}
		some, failed := by.send(packets[:n])
		if sent += some; failed != nil {
			err = failed
		}
		packets = packets[n:]
	}
	return sent, err
}

// has reports whether a packet leaves by the NAT-T port, for which each queue has sockets.
func (q *queue) has(p *Packet) bool {
	natt, ok := byNATT(p, q.conn.ike, q.conn.natt)
	return ok && natt && !p.isRaw()
}

func (q *queue) send(packets []Packet) (sent int, err error) {
	q.smu.Lock()
	defer q.smu.Unlock()
	if q.conn.closed.Load() {
		return 0, net.ErrClosed
	}
	for i := 0; i < len(packets); {
		s, wire, bad := q.route(&packets[i])
		if bad != nil {
			err = bad
			i++
			continue
		}
		// One batch: what follows and leaves by the same socket in the same way.
		whole := packets[i].Whole
		if bad := s.setWhole(whole); bad != nil {
			err = bad
			i++
			continue
		}
		q.tx.reset(s)
		for q.tx.put(&packets[i], wire) {
			i++
			if i == len(packets) {
				break
			}
			var next *socket
			if next, wire, bad = q.route(&packets[i]); bad != nil || next != s || packets[i].Whole != whole {
				break
			}
		}
		n, failed := q.tx.flush()
		sent += n
		if failed != nil {
			err = failed
		}
	}
	return sent, err
}

// route finds the socket of a packet and what goes on the wire.
func (q *queue) route(p *Packet) (*socket, []byte, error) {
	if p.isRaw() {
		return q.routeRaw(p)
	}
	natt, ok := byNATT(p, q.conn.ike, q.conn.natt)
	if !ok || !p.Remote.IsValid() {
		return nil, nil, ErrNoSocket
	}
	s := pick(q.by[index(natt)][index(p.Remote.Addr().Is6())], p.Local.Addr())
	if s == nil {
		return nil, nil, ErrNoSocket
	}
	wire, ok := p.frame(natt)
	if !ok {
		return nil, nil, ErrFrame
	}
	return s, wire, nil
}

// pick prefers the socket that is bound to the source, then one for all addresses.
func pick(sockets []*socket, local netip.Addr) *socket {
	for _, s := range sockets {
		if !local.IsValid() || s.local == local || s.local.IsUnspecified() {
			return s
		}
	}
	return nil
}

// Close wakes Recv and Send; both return net.ErrClosed from then on.
func (c *conn) Close() error {
	c.Drops() // the last that can be read
	if c.closed.Swap(true) {
		return nil
	}
	c.dmu.Lock()
	defer c.dmu.Unlock()
	var errs []error
	for _, q := range c.queues() {
		errs = append(errs, q.close())
	}
	return errors.Join(errs...)
}

func (q *queue) close() error {
	var errs []error
	if q.ready != nil {
		errs = append(errs, q.ready.Close())
	}
	q.rmu.Lock()
	q.smu.Lock()
	defer q.rmu.Unlock()
	defer q.smu.Unlock()
	for _, s := range q.sockets {
		errs = append(errs, unix.Close(s.fd))
	}
	return errors.Join(errs...)
}
