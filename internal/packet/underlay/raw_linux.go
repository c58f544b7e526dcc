package underlay

import (
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/wire"
)

// Raw sockets carry ESP (protocol 50) and AH (protocol 51) without UDP.
//
// The ESP socket lets the system write the header, and cut what is too long for
// the way. The AH socket sends packets whose header is already there: AH's,
// because the ICV covers it, and ESP's of transport mode that keep their own.
// Such packets are sent whole or not at all. A packet without identification
// would get one from the system: who computes an ICV gives it one before.
//
// IPv4 raw sockets hand up the IP header. IPv6 raw sockets do not: AH gets it
// back from the addresses and the extension headers among the ancillary data.
// What is not known of it is what an ICV does not cover.

// openRaw opens both sockets on every address, and for IPv6 the one that hears what
// is told of AH (icmp6_linux.go).
func (c *conn) openRaw(o Options) error {
	addrs, all := o.Listen, len(o.Listen) == 0
	if all {
		addrs = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	for _, a := range addrs {
		for _, proto := range []int{unix.IPPROTO_ESP, unix.IPPROTO_AH} {
			if err := c.addRaw(o, a, proto); err != nil && (!all || !noFamily(a, err)) {
				return err
			}
		}
		if a.Is6() {
			if err := c.addErrors(a); err != nil && (!all || !noFamily(a, err)) {
				return err
			}
		}
	}
	return nil
}

func (c *conn) addRaw(o Options, a netip.Addr, proto int) error {
	v6, domain := a.Is6(), unix.AF_INET
	if v6 {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return explainRaw(cause(err), a, proto, err)
	}
	if err = configure(fd, v6, o); err == nil {
		err = configureRaw(fd, v6, proto)
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(a, 0)))
	}
	if err != nil {
		unix.Close(fd)
		return explainRaw(cause(err), a, proto, err)
	}
	s := &socket{fd: fd, local: a, v6: v6, proto: proto}
	if proto == unix.IPPROTO_AH {
		if err := s.setWhole(true); err != nil { // for good: the headers say DF, or not
			unix.Close(fd)
			return err
		}
	}
	c.sockets = append(c.sockets, s)
	list := &c.raw[index(proto == unix.IPPROTO_AH)][index(v6)]
	*list = append(*list, s)
	return nil
}

// ipv6HeaderIncluded is IPV6_HDRINCL (Linux 4.5).
const ipv6HeaderIncluded = 36

func configureRaw(fd int, v6 bool, proto int) error {
	type option struct{ level, name int }
	var options []option
	switch {
	case proto == unix.IPPROTO_ESP && v6:
		options = []option{{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT}}
	case proto != unix.IPPROTO_AH:
	case !v6:
		options = []option{{unix.IPPROTO_IP, unix.IP_HDRINCL}}
	default:
		options = []option{{unix.IPPROTO_IPV6, ipv6HeaderIncluded}, {unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT}, {unix.IPPROTO_IPV6, unix.IPV6_RECVHOPOPTS},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVDSTOPTS}, {unix.IPPROTO_IPV6, unix.IPV6_RECVRTHDR}}
	}
	for _, x := range options {
		if err := unix.SetsockoptInt(fd, x.level, x.name, 1); err != nil {
			return fmt.Errorf("socket option %d/%d: %w", x.level, x.name, err)
		}
	}
	return nil
}

// explainRaw says what to do about err, of class cause.
func explainRaw(cause error, a netip.Addr, proto int, err error) error {
	switch cause {
	case ErrPrivilege:
		return fmt.Errorf("%w to open a raw socket for protocol %d on %v: run as root or give the program cap_net_raw (and cap_net_admin for its mark), or set encapsulation=udp in [gateway] (%w)", cause, proto, a, err)
	case ErrNoAddress:
		return fmt.Errorf("%w: %v: correct listen in [gateway] (%w)", cause, a, err)
	}
	return fmt.Errorf("cannot open a raw socket for protocol %d on %v: set encapsulation=udp in [gateway] to do without: %w", proto, a, err)
}

// Raw reports whether ESP and AH can be sent without UDP.
func (c *conn) Raw() bool { return len(c.raw[0][0])+len(c.raw[0][1]) > 0 }

// routeRaw finds the raw socket of a packet.
func (q *queue) routeRaw(p *Packet) (*socket, []byte, error) {
	if !p.Remote.Addr().IsValid() {
		return nil, nil, ErrNoSocket
	}
	s := pick(q.raw[index(p.Header)][index(p.Remote.Addr().Is6())], p.Local.Addr())
	if s == nil {
		return nil, nil, ErrNoSocket
	}
	data, ok := p.frameRaw()
	if !ok {
		return nil, nil, ErrFrame
	}
	return s, data, nil
}

// acceptRaw fills p with what a raw socket received: n bytes at Headroom. What has
// no header that can be read is handed up with no bytes at all, to be counted.
// False: an ICMPv6 message that is not about a packet of ours.
func (s *socket) acceptRaw(p *Packet, n int, oob []byte, local, remote netip.Addr) bool {
	if s.proto == unix.IPPROTO_ICMPV6 {
		return p.quoted(n, local)
	}
	p.Off, p.Len, p.NATT, p.Header = Headroom, n, false, s.proto == unix.IPPROTO_AH
	p.Local, p.Remote = netip.AddrPortFrom(local, 0), netip.AddrPortFrom(remote, 0)
	p.Kind = ESP
	switch {
	case s.proto == unix.IPPROTO_AH:
		p.Kind = AH
		if s.v6 && !p.restore(oob) {
			p.Len = 0
		}
	case !s.v6:
		head := wire.IPv4HeaderLen
		if n > 0 {
			head = int(p.Buf[p.Off]&0xf) * 4
		}
		if head < wire.IPv4HeaderLen || head > n {
			head = n
		} else {
			p.TTL = p.Buf[p.Off+8]
		}
		p.Off, p.Len = p.Off+head, n-head
	}
	return true
}

// restore puts the IPv6 header and the extension headers in front of p's AH.
// The kernel tells extension headers in their order, each with the protocol of
// the next.
func (p *Packet) restore(oob []byte) bool {
	var exts [8][]byte
	first, count, size := uint8(wire.ProtoAH), 0, 0
	for len(oob) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		n := int(h.Len)
		if n < unix.CmsgLen(0) || n > len(oob) {
			break
		}
		data := oob[unix.CmsgLen(0):n]
		if proto, ok := extension(h); ok {
			if len(data) < 8 || len(data) != 8+int(data[1])*8 || count == len(exts) {
				return false
			}
			if count == 0 {
				first = proto
			}
			exts[count] = data
			count, size = count+1, size+len(data)
		}
		oob = oob[min(len(oob), unix.CmsgSpace(len(data))):]
	}
	start, end := p.Off-size-wire.IPv6HeaderLen, p.Off+p.Len
	if start < 0 || end-start-wire.IPv6HeaderLen > 0xffff {
		return false
	}
	hops := p.TTL
	if hops == 0 {
		hops = 64
	}
	wire.IPv6{TrafficClass: p.TOS, HopLimit: hops, Next: first, Src: p.Remote.Addr().WithZone(""), Dst: p.Local.Addr().WithZone("")}.
		Append(p.Buf[start:start], end-start-wire.IPv6HeaderLen)
	at := start + wire.IPv6HeaderLen
	for _, e := range exts[:count] {
		at += copy(p.Buf[at:], e)
	}
	p.Off, p.Len = start, end-start
	return true
}

// extension is the protocol of an extension header among the ancillary data.
func extension(h *unix.Cmsghdr) (proto uint8, ok bool) {
	if h.Level != unix.IPPROTO_IPV6 {
		return 0, false
	}
	switch h.Type {
	case unix.IPV6_HOPOPTS:
		return wire.ProtoHopByHop, true
	case unix.IPV6_DSTOPTS:
		return wire.ProtoDstOpts, true
	case unix.IPV6_RTHDR:
		return wire.ProtoRouting, true
	}
	return 0, false
}
