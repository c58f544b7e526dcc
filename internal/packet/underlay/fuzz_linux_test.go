package underlay

import (
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/wire"
)

// aligned is a copy of ancillary data where the system would put it.
func aligned(oob []byte) []byte {
	words := make([]uint64, oobWords)
	b := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), oobWords*8)
	return b[:copy(b, oob)]
}

// control is one control message.
func control(level, kind int32, data []byte) []byte {
	oob := aligned(make([]byte, unix.CmsgSpace(len(data))))
	to, _ := putHeader(oob, level, kind, len(data))
	copy(to, data)
	return oob
}

// within checks that what a packet says lies in its buffer.
func within(t *testing.T, p *Packet) {
	t.Helper()
	if p.Off < 0 || p.Len < 0 || p.Off+p.Len > len(p.Buf) {
		t.Fatalf("%d bytes at %d of %d", p.Len, p.Off, len(p.Buf))
	}
}

// FuzzRaw: whatever a raw socket hands over, and with whatever ancillary data, comes up
// within its buffer. What comes up with an IPv6 header by AH is an IPv6 packet whose
// length is right.
func FuzzRaw(f *testing.F) {
	hop := []byte{43, 0, 5, 2, 0, 0, 1, 0}
	routing := append([]byte{51, 2, 0, 0, 0, 0, 0, 0}, make([]byte, 16)...)
	oob := append(control(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, make([]byte, unix.SizeofInet6Pktinfo)), control(unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, hop)...)
	oob = append(append(oob, control(unix.IPPROTO_IPV6, unix.IPV6_RTHDR, routing)...), control(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, []byte{3, 0, 0, 0})...)
	f.Add(append([]byte{17, 4}, make([]byte, 30)...), oob, true, true)
	f.Add(wire.IPv4{Proto: wire.ProtoESP, Src: loop, Dst: loop2}.Append(nil, 0), control(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, unix.SizeofInet4Pktinfo)), false, false)
	f.Fuzz(func(t *testing.T, data, oob []byte, v6, isAH bool) {
		oob = aligned(oob)
		s := &socket{v6: v6, proto: unix.IPPROTO_ESP}
		if isAH {
			s.proto = unix.IPPROTO_AH
		}
		local, tos, _, _ := ancillary(oob)
		remote := loop
		if v6 {
			remote, local = netip.MustParseAddr("fe80::1%3"), loop6
		} else if !local.Is4() {
			local = loop2
		}
		p := Packet{Buf: append(make([]byte, Headroom), data...), TOS: tos}
		if !s.acceptRaw(&p, len(data), oob, local, remote) {
			t.Fatal("passed over")
		}
		within(t, &p)
		if isAH && v6 && p.Len > 0 && (p.Data()[0]>>4 != 6 || wire.TotalLen(p.Data()) != p.Len || wire.TOS(p.Data()) != tos) {
			t.Fatalf("%x", p.Data())
		}
	})
}

// FuzzErrorQueue: what lies in a socket's error queue is a Trouble or nothing.
func FuzzErrorQueue(f *testing.F) {
	e := unix.SockExtendedErr{Errno: uint32(unix.EMSGSIZE), Origin: unix.SO_EE_ORIGIN_ICMP, Type: 3, Code: 4, Info: 1300}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&e)), int(unsafe.Sizeof(e)))
	info := control(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, unix.SizeofInet4Pktinfo))
	f.Add(espPacket(40, 1), append(info, control(unix.IPPROTO_IP, unix.IP_RECVERR, raw)...), false, uint8(0))
	f.Add(wire.IPv4{Proto: wire.ProtoAH, Src: loop, Dst: loop2}.Append(nil, 0), control(unix.IPPROTO_IP, unix.IP_RECVERR, raw), false, uint8(2))
	f.Add([]byte{}, control(unix.IPPROTO_IPV6, unix.IPV6_RECVERR, raw), true, uint8(1))
	f.Fuzz(func(t *testing.T, data, oob []byte, v6 bool, kind uint8) {
		s := &socket{v6: v6, natt: kind == 3, proto: []int{0, unix.IPPROTO_ESP, unix.IPPROTO_AH, 0}[kind%4], port: 4500}
		p := Packet{Buf: append(make([]byte, Headroom), data...)}
		if !p.trouble(s, len(data), aligned(oob), netip.AddrPortFrom(loop, 4500)) {
			return
		}
		within(t, &p)
		if p.Kind != Trouble || p.Fault.Cause < TooBig || p.Fault.Cause > Undelivered || p.Fault.MTU < 0 || p.Fault.MTU > maxIP || p.Fault.MTU != 0 && p.Fault.Cause != TooBig {
			t.Fatalf("%+v", p.Fault)
		}
	})
}
