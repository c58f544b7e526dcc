package underlay

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many datagrams one system call carries.
	batchSize = 128
	// maxSegments is how many datagrams the kernel cuts from one (UDP_SEGMENT).
	maxSegments = 64
	// oobWords holds in6_pktinfo, the traffic class, the hop limit and the segment size or extension
	// headers, each with its header.
	oobWords = 40
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// batch is the memory of one recvmmsg or sendmmsg. It is allocated once and
// points into the caller's buffers only during a call.
type batch struct {
	socket *socket
	call   func(fd int, msgs []mmsghdr) (int, unix.Errno) // sendmmsg
	msgs   [batchSize]mmsghdr
	iovs   [batchSize]unix.Iovec
	names  [batchSize]unix.RawSockaddrInet6
	oob    [batchSize][oobWords]uint64

	// to send: n packets in m messages
	n, m    int
	packets [batchSize]*Packet
	first   [batchSize]int // packet index at which message k starts
	size    [batchSize]int // of each but the last datagram of message k
	total   [batchSize]int
	full    [batchSize]bool // message k ends with a shorter datagram
}

func newBatch() *batch { return &batch{call: sendmmsg} }

// recv fills packets with what the socket has, without waiting, and leaves out
// what is not for us.
func (b *batch) recv(s *socket, packets []Packet) int {
	n := min(len(packets), batchSize)
	for i := range n {
		buf := packets[i].Buf
		if len(buf) <= Headroom {
			n = i
			break
		}
		b.iovs[i].Base = &buf[Headroom]
		b.iovs[i].SetLen(len(buf) - Headroom)
		h := &b.msgs[i].hdr
		*h = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&b.names[i])), Namelen: unix.SizeofSockaddrInet6, Iov: &b.iovs[i], Control: (*byte)(unsafe.Pointer(&b.oob[i]))}
		h.SetIovlen(1)
		h.SetControllen(oobWords * 8)
	}
	r, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&b.msgs)), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	got := 0
	if errno == 0 {
		for i := range int(r) {
			if b.take(i, s, packets, got) {
				got++
			}
		}
	}
	for i := range n {
		b.iovs[i].Base = nil
	}
	return got
}

// take makes the datagram that was received i-th packets[to].
func (b *batch) take(i int, s *socket, packets []Packet, to int) bool {
	m := &b.msgs[i]
	remote := b.remote(i)
	if m.hdr.Flags&unix.MSG_TRUNC != 0 || !remote.IsValid() {
		return false
	}
	oob := unsafe.Slice((*byte)(unsafe.Pointer(&b.oob[i])), oobWords*8)
	oob = oob[:min(int(m.hdr.Controllen), len(oob))]
	addr, tos, ttl, segment := ancillary(oob)
	if !addr.IsValid() {
		addr = s.local
	}
	p := &packets[to]
	if to != i {
		if len(p.Buf) < Headroom+int(m.len) {
			return false
		}
		copy(p.Buf[Headroom:], packets[i].Buf[Headroom:Headroom+int(m.len)])
	}
	p.TOS, p.TTL = tos, ttl
	if s.proto != 0 {
		return s.acceptRaw(p, int(m.len), oob, addr, remote.Addr())
	}
	p.accept(int(m.len), s.natt, netip.AddrPortFrom(addr, s.port), remote)
	if segment > 0 && segment < int(m.len) {
		p.Off, p.Len, p.Segment = Headroom, int(m.len), segment
	}
	return true
}

func (b *batch) remote(i int) netip.AddrPort {
	name := &b.names[i]
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
	switch name.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), port)
	case unix.AF_INET6:
		a := netip.AddrFrom16(name.Addr)
		if name.Scope_id != 0 {
			a = a.WithZone(strconv.Itoa(int(name.Scope_id)))
		}
		return netip.AddrPortFrom(a, port)
	}
	return netip.AddrPort{}
}

// zoneID is the interface of a link-local address, as Recv reports it.
func zoneID(a netip.Addr) uint32 {
	id, err := strconv.ParseUint(a.Zone(), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(id)
}

// ancillary finds the address that a datagram was sent to, its type of service or
// traffic class, its hop limit where the socket is asked for it, and where the system has joined
// several datagrams, how long each is.
func ancillary(oob []byte) (local netip.Addr, tos, ttl uint8, segment int) {
	for len(oob) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		n := int(h.Len)
		if n < unix.CmsgLen(0) || n > len(oob) {
			break
		}
		data := oob[unix.CmsgLen(0):n]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			local = netip.AddrFrom4([4]byte(data[4:8])) // ipi_spec_dst: what to answer from
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			local = netip.AddrFrom16([16]byte(data[:16]))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS && len(data) >= 1:
			tos = data[0]
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && len(data) >= 4:
			tos = uint8(binary.NativeEndian.Uint32(data))
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT && len(data) >= 4:
			ttl = uint8(binary.NativeEndian.Uint32(data))
		case h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			segment = int(int32(binary.NativeEndian.Uint32(data)))
		}
		oob = oob[min(len(oob), unix.CmsgSpace(len(data))):]
	}
	return local, tos, ttl, segment
}

func (b *batch) reset(s *socket) { b.socket, b.n, b.m = s, 0, 0 }

// put adds a packet; false when the batch is full. ESP datagrams of one size and
// type of service between the same addresses become one message that the kernel
// cuts again.
func (b *batch) put(p *Packet, wire []byte) bool {
	if b.n == batchSize {
		return false
	}
	i := b.n
	b.n++
	b.packets[i] = p
	b.iovs[i].Base = unsafe.SliceData(wire)
	b.iovs[i].SetLen(len(wire))
	if k := b.m - 1; k >= 0 && b.joins(k, p, len(wire)) {
		b.total[k] += len(wire)
		b.full[k] = len(wire) < b.size[k]
		return true
	}
	k := b.m
	b.m++
	b.first[k], b.size[k], b.total[k], b.full[k] = i, len(wire), len(wire), false
	return true
}

func (b *batch) joins(k int, p *Packet, n int) bool {
	head := b.packets[b.first[k]]
	return b.socket.gso && p.Kind == ESP && head.Kind == ESP && !b.full[k] &&
		n > 0 && n <= b.size[k] && b.total[k]+n <= MaxDatagram && b.n-1-b.first[k] < maxSegments &&
		p.Remote == head.Remote && p.Local == head.Local && p.TOS == head.TOS
}

// flush sends all messages and forgets them. sendmmsg stops at the first that the
// system refuses; flush goes on behind it. What is tried again:
//
//	EINTR                    as often as it comes
//	what may be of an        once: the system tells such an error to whatever call
//	earlier packet (told)    comes next
//	EIO, EINVAL, EMSGSIZE    datagrams that were to be cut from one message, one by one:
//	                         the way out cannot cut, or they need fragments
//	ENOBUFS, ENOMEM          the same: a queue that counts bytes may never have room for
//	                         all at once. Behind the first that finds none only the last
//	                         is tried, which may be shorter
//
// A full send buffer (EAGAIN) was waited for, up to sendTimeout: what is left then is
// dropped, as a full link does. A single datagram that finds the queue of the
// interface full (ENOBUFS) is dropped at once. The queue drains in milliseconds, so
// that a second try at once would meet it as full, and to wait would hold up the
// flows of all other peers; nothing wakes who waits, for the socket has room all
// the time. The flows within learn from the loss that the link is full, and IKE
// sends its messages again by its own clock. The same goes for what rules and routes
// refuse (EPERM, EACCES, ENETUNREACH, EHOSTUNREACH) and for a link that is down.
func (b *batch) flush() (sent int, err error) {
	for k := range b.m {
		b.message(&b.msgs[k].hdr, k, b.first[k], b.end(k)-b.first[k])
	}
	for k, again := 0, -1; k < b.m; {
		done, errno := b.call(b.socket.fd, b.msgs[k:b.m])
		for range done {
			sent += b.end(k) - b.first[k]
			k++
		}
		if errno == 0 || errno == unix.EINTR {
			continue
		}
		if told(errno) && again != k {
			again = k // what goes wrong twice is of this message
			continue
		}
		if errno != unix.EAGAIN {
			var n int
			n, errno = b.singly(k, errno)
			sent += n
			k++
		}
		if errno != 0 {
			err = errno
		}
		if errno == unix.EAGAIN {
			break
		}
	}
	for i := range b.n {
		b.iovs[i].Base, b.packets[i] = nil, nil
	}
	return sent, err
}

// sendmmsg is sendmmsg(2): how many were sent, or why the first was not.
func sendmmsg(fd int, msgs []mmsghdr) (int, unix.Errno) {
	r, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)), unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

// singly sends message k, which met errno, again as single datagrams where flush
// says so. The error is that of the last datagram that was refused.
func (b *batch) singly(k int, errno unix.Errno) (sent int, last unix.Errno) {
	if b.end(k)-b.first[k] == 1 {
		return 0, errno
	}
	switch errno {
	case unix.EIO:
		b.socket.gso = false
		b.socket.refused.Store(true)
	case unix.EINVAL, unix.EMSGSIZE, unix.ENOBUFS, unix.ENOMEM:
	default:
		return 0, errno
	}
	for i, again := b.first[k], -1; i < b.end(k); {
		b.message(&b.msgs[k].hdr, k, i, 1)
		done, errno := b.call(b.socket.fd, b.msgs[k:k+1])
		if errno == unix.EINTR {
			continue
		}
		if told(errno) && again != i {
			again = i
			continue
		}
		sent += done
		if errno != 0 {
			last = errno
		}
		switch errno {
		case unix.EAGAIN:
			return sent, last
		case unix.ENOBUFS, unix.ENOMEM:
			i = max(i+1, b.end(k)-1) // the last may be shorter, the others are not
		default:
			i++
		}
	}
	return sent, last
}

// end is the index behind message k's last packet.
func (b *batch) end(k int) int {
	if k+1 < b.m {
		return b.first[k+1]
	}
	return b.n
}

// message fills h with n packets from i on, in the memory of message k.
func (b *batch) message(h *unix.Msghdr, k, i, n int) {
	p := b.packets[i]
	*h = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&b.names[k])), Iov: &b.iovs[i]}
	h.Namelen = b.setName(k, p.Remote)
	h.SetIovlen(n)
	oob := unsafe.Slice((*byte)(unsafe.Pointer(&b.oob[k])), oobWords*8)
	used := 0
	if a := p.Local.Addr(); a.IsValid() {
		used = putSource(oob, a, p.Remote.Addr())
	}
	if p.TOS != 0 {
		used += putTOS(oob[used:], p.TOS, p.Remote.Addr().Is6())
	}
	if n > 1 {
		data, next := putHeader(oob[used:], unix.SOL_UDP, unix.UDP_SEGMENT, 2)
		binary.NativeEndian.PutUint16(data, uint16(b.size[k]))
		used += next
	}
	if used > 0 {
		h.Control = &oob[0]
		h.SetControllen(used)
	}
}

func (b *batch) setName(k int, to netip.AddrPort) uint32 {
	name := &b.names[k]
	port := to.Port()
	if b.socket.proto != 0 {
		port = 0 // raw sockets have none, and some kernels insist
	}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&name.Port))[:], port)
	if to.Addr().Is4() {
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		in.Family, in.Addr = unix.AF_INET, to.Addr().As4()
		return unix.SizeofSockaddrInet4
	}
	name.Family, name.Flowinfo, name.Addr, name.Scope_id = unix.AF_INET6, 0, to.Addr().As16(), zoneID(to.Addr())
	return unix.SizeofSockaddrInet6
}

// putHeader begins a control message of n bytes; next is where another may begin.
func putHeader(oob []byte, level, kind int32, n int) (data []byte, next int) {
	next = unix.CmsgSpace(n)
	clear(oob[:next])
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(n))
	return oob[unix.CmsgLen(0):][:n], next
}

// putSource asks for a source address, and for the interface of a link-local one.
func putSource(oob []byte, source, to netip.Addr) int {
	if source.Is4() {
		data, next := putHeader(oob, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
		a := source.As4()
		copy(data[4:8], a[:])
		return next
	}
	data, next := putHeader(oob, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
	a := source.As16()
	copy(data[:16], a[:])
	binary.NativeEndian.PutUint32(data[16:20], zoneID(to))
	return next
}

// putTOS asks for a type of service or traffic class. Where the header is there
// already, the system does not look at it.
func putTOS(oob []byte, tos uint8, v6 bool) int {
	level, kind := int32(unix.IPPROTO_IP), int32(unix.IP_TOS)
	if v6 {
		level, kind = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
	}
	data, next := putHeader(oob, level, kind, 4)
	binary.NativeEndian.PutUint32(data, uint32(tos))
	return next
}
