package underlay

import (
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/wire"
)

// What the path says of our packets comes by the sockets' error queues
// (IP_RECVERR, IPV6_RECVERR): ICMP messages that name one of our datagrams, and
// the system's own refusal of one that is too long for its link. Recv hands
// each up as a Trouble.
//
// The system keeps path MTUs of its own, and lowers them for every ICMP message that
// names two addresses. Packets that are not to be cut pass by them: which MTU
// counts is decided where SPIs are known.
//
//	            Whole                        not Whole
//	IPv4        PROBE: DF, the link's MTU    OMIT: no DF, cut for the link; further by routers
//	IPv6        PROBE: the link's MTU        DONT: cut for the path as the system knows it, since no router cuts
//
// An ICMPv6 message about a packet with AH reaches the sockets of the protocol
// behind the AH: of AH around ESP it is told, of AH alone icmp6_linux.go hears.
//
// With DONT instead of OMIT an IPv4 UDP socket is not told of "fragmentation
// needed", and with OMIT an IPv6 one not of "packet too big".

// discovery is the value of IP_MTU_DISCOVER or IPV6_MTU_DISCOVER.
func discovery(v6, whole bool) int {
	switch {
	case whole:
		return unix.IP_PMTUDISC_PROBE // the same in both families
	case v6:
		return unix.IPV6_PMTUDISC_DONT
	}
	return unix.IP_PMTUDISC_OMIT
}

// setWhole has the socket send packets that are not cut, or others. What has no
// header of the system's stays as it was made.
func (s *socket) setWhole(whole bool) error {
	if s.whole == whole || s.whole && s.proto == unix.IPPROTO_AH {
		return nil
	}
	level, name := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
	if s.v6 {
		level, name = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
	}
	if err := unix.SetsockoptInt(s.fd, level, name, discovery(s.v6, whole)); err != nil {
		return fmt.Errorf("socket option %d/%d: %w", level, name, err)
	}
	s.whole = whole
	return nil
}

// troubles fills packets with what is in the socket's error queue.
func (b *batch) troubles(s *socket, packets []Packet) int {
	got := 0
	for range batchSize {
		if got == len(packets) || len(packets[got].Buf) <= Headroom {
			break
		}
		p := &packets[got]
		h := &b.msgs[0].hdr
		b.iovs[0].Base = &p.Buf[Headroom]
		b.iovs[0].SetLen(len(p.Buf) - Headroom)
		b.names[0] = unix.RawSockaddrInet6{}
		*h = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&b.names[0])), Namelen: unix.SizeofSockaddrInet6, Iov: &b.iovs[0], Control: (*byte)(unsafe.Pointer(&b.oob[0]))}
		h.SetIovlen(1)
		h.SetControllen(oobWords * 8)
		n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(s.fd), uintptr(unsafe.Pointer(h)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		b.iovs[0].Base = nil
		if errno != 0 {
			break
		}
		oob := unsafe.Slice((*byte)(unsafe.Pointer(&b.oob[0])), oobWords*8)
		if p.trouble(s, int(n), oob[:min(int(h.Controllen), len(oob))], b.remote(0)) {
			got++
		}
	}
	return got
}

// trouble makes p of n bytes of a packet at Headroom and what the system says of it.
func (p *Packet) trouble(s *socket, n int, oob []byte, remote netip.AddrPort) bool {
	local, e, ok := extendedError(oob)
	if !ok || !remote.IsValid() {
		return false
	}
	p.Off, p.Len, p.Kind, p.NATT, p.Header, p.TOS = Headroom, n, Trouble, s.natt, false, 0
	p.Local, p.Remote = netip.AddrPortFrom(local, s.port), remote
	p.Fault = Fault{Cause: causeOf(e), Local: e.Origin == unix.SO_EE_ORIGIN_LOCAL, Kind: IKE}
	switch {
	case s.proto == unix.IPPROTO_AH:
		p.Fault.Kind = AH
		if !s.v6 || n >= wire.IPv6HeaderLen && p.Buf[Headroom]>>4 == 6 {
			// The header that we have sent comes back in front.
			at, _, proto, found := wire.PathHeaders(p.Data())
			if !found || proto != wire.ProtoAH {
				at = n
			}
			p.Off, p.Len = p.Off+at, n-at
		}
	case s.proto == unix.IPPROTO_ESP, s.natt:
		p.Fault.Kind = ESP
	}
	if p.Fault.Cause == TooBig {
		p.Fault.MTU = int(min(e.Info, maxIP))
	}
	return p.Fault.Cause != 0
}

// extendedError finds the error, and our address, among the ancillary data.
func extendedError(oob []byte) (local netip.Addr, e unix.SockExtendedErr, ok bool) {
	for len(oob) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		n := int(h.Len)
		if n < unix.CmsgLen(0) || n > len(oob) {
			break
		}
		data := oob[unix.CmsgLen(0):n]
		size := int(unsafe.Sizeof(e))
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_RECVERR && len(data) >= size,
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_RECVERR && len(data) >= size:
			e, ok = *(*unix.SockExtendedErr)(unsafe.Pointer(&data[0])), true
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			local = netip.AddrFrom4([4]byte(data[8:12])) // ipi_addr: where the message came to
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			local = netip.AddrFrom16([16]byte(data[:16]))
		}
		oob = oob[min(len(oob), unix.CmsgSpace(len(data))):]
	}
	if e.Origin == unix.SO_EE_ORIGIN_LOCAL {
		local = netip.Addr{}
	}
	return local, e, ok
}

// causeOf: the system has made of type and code an errno.
func causeOf(e unix.SockExtendedErr) Cause {
	if e.Origin != unix.SO_EE_ORIGIN_ICMP && e.Origin != unix.SO_EE_ORIGIN_ICMP6 && e.Origin != unix.SO_EE_ORIGIN_LOCAL {
		return 0 // time stamps and the like
	}
	switch errno := unix.Errno(e.Errno); {
	case errno == unix.EMSGSIZE:
		return TooBig
	case e.Origin == unix.SO_EE_ORIGIN_ICMP && e.Type == 3 && (e.Code == 9 || e.Code == 10 || e.Code == 13), // RFC 1812 §5.2.7.1
		errno == unix.EACCES:
		return Prohibited
	case errno == unix.ECONNREFUSED, errno == unix.EHOSTUNREACH, errno == unix.ENETUNREACH, errno == unix.ENOPROTOOPT:
		return Unreachable
	}
	return Undelivered
}

// told reports whether errno may be of an ICMP message to an earlier packet:
// the system gives such an error to whatever call comes next, and only once.
func told(errno unix.Errno) bool {
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENONET, unix.ENOPROTOOPT,
		unix.EACCES, unix.EPROTO, unix.EOPNOTSUPP, unix.EMSGSIZE:
		return true
	}
	return false
}
