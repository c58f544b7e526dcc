package underlay

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/wire"
)

// What ICMPv6 says of packets with AH. The system takes AH for an extension header
// and tells the sockets of the protocol behind it, so that those of AH alone hear
// nothing. A raw ICMPv6 socket beside them hears all errors that come to this host,
// and takes those that quote a packet of ours with AH. What is told already stays out:
// other protocols, and AH around ESP, about which the ESP socket hears.

// addErrors opens that socket on an address.
func (c *conn) addErrors(a netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return explainRaw(cause(err), a, unix.IPPROTO_ICMPV6, err)
	}
	// A set bit keeps a type out.
	errorsOnly := unix.ICMPv6Filter{Data: [8]uint32{^uint32(1<<icmp6Unreachable | 1<<icmp6TooBig | 1<<icmp6TimeExceeded | 1<<icmp6Parameter)}}
	for i := 1; i < len(errorsOnly.Data); i++ {
		errorsOnly.Data[i] = ^uint32(0)
	}
	if err = unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &errorsOnly); err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(a, 0)))
	}
	if err != nil {
		unix.Close(fd)
		return explainRaw(cause(err), a, unix.IPPROTO_ICMPV6, fmt.Errorf("what is told of AH: %w", err))
	}
	c.sockets = append(c.sockets, &socket{fd: fd, local: a, v6: true, proto: unix.IPPROTO_ICMPV6})
	return nil
}

// Types of ICMPv6 errors (RFC 4443 §2.1).
const (
	icmp6Unreachable  = 1
	icmp6TooBig       = 2
	icmp6TimeExceeded = 3
	icmp6Parameter    = 4
)

// quoted makes p, an ICMPv6 message of n bytes at Headroom that came to local, a
// Trouble about the packet that it quotes, if local sent that and it had AH. Its
// checksum was right, or the system would have kept it. Its type is looked at, since
// before the filter was set another may have come.
func (p *Packet) quoted(n int, local netip.Addr) bool {
	const head = 8
	if n < head+wire.IPv6HeaderLen {
		return false
	}
	msg := p.Buf[Headroom:][:n]
	if msg[0] < icmp6Unreachable || msg[0] > icmp6Parameter {
		return false
	}
	pkt := msg[head:]
	at, _, proto, ok := wire.PathHeaders(pkt)
	if ok && proto == wire.ProtoFragment && len(pkt) >= at+8 && binary.BigEndian.Uint16(pkt[at+2:])&0xfff8 == 0 { // AH is in the first only
		at, proto = at+8, pkt[at]
	}
	if !ok || pkt[0]>>4 != 6 || proto != wire.ProtoAH || len(pkt) > at && pkt[at] == wire.ProtoESP {
		return false
	}
	src, dst := netip.AddrFrom16([16]byte(pkt[8:24])), netip.AddrFrom16([16]byte(pkt[24:40]))
	if src != local.WithZone("") {
		return false
	}
	p.Off, p.Len, p.Kind, p.NATT, p.Header, p.TOS = Headroom+head+at, len(pkt)-at, Trouble, false, false, 0
	p.Local, p.Remote = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
	p.Fault = Fault{Cause: causeOf6(msg[0], msg[1]), Kind: AH}
	if p.Fault.Cause == TooBig {
		p.Fault.MTU = int(min(binary.BigEndian.Uint32(msg[4:]), maxIP))
	}
	return true
}

// causeOf6 is the cause that the system would make of type and code.
func causeOf6(kind, code uint8) Cause {
	switch {
	case kind == icmp6TooBig:
		return TooBig
	case kind == icmp6Unreachable && (code == 1 || code == 5 || code == 6): // RFC 4443 §3.1: prohibited, policy, reject route
		return Prohibited
	case kind == icmp6Unreachable, kind == icmp6TimeExceeded:
		return Unreachable
	}
	return Undelivered
}
