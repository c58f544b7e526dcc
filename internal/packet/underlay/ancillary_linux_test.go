package underlay

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/wire"
)

// number is an int as the system writes it.
func number(n int32) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }

// All that the system tells beside a datagram, each alone and behind what says nothing; and what is
// too short or of another kind, which is passed over.
func TestAncillary(t *testing.T) {
	type told struct {
		local    netip.Addr
		tos, ttl uint8
		segment  int
	}
	info4 := []byte{0, 0, 0, 0, 192, 0, 2, 1, 192, 0, 2, 9}
	info6 := append(netip.MustParseAddr("2001:db8::1").AsSlice(), 0, 0, 0, 7)
	for _, c := range []struct {
		name        string
		level, kind int32
		data        []byte
		want        told
	}{
		{"address", unix.IPPROTO_IP, unix.IP_PKTINFO, info4, told{local: netip.MustParseAddr("192.0.2.1")}},
		{"IPv6 address", unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, info6, told{local: netip.MustParseAddr("2001:db8::1")}},
		{"type of service", unix.IPPROTO_IP, unix.IP_TOS, []byte{0x2c}, told{tos: 0x2c}},
		{"traffic class", unix.IPPROTO_IPV6, unix.IPV6_TCLASS, number(0x2c), told{tos: 0x2c}},
		{"hop limit", unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, number(63), told{ttl: 63}},
		{"joined", unix.SOL_UDP, unix.UDP_GRO, number(1400), told{segment: 1400}},
		{"an address that is cut", unix.IPPROTO_IP, unix.IP_PKTINFO, info4[:11], told{}},
		{"an IPv6 address that is cut", unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, info6[:19], told{}},
		{"no type of service", unix.IPPROTO_IP, unix.IP_TOS, nil, told{}},
		{"a traffic class that is cut", unix.IPPROTO_IPV6, unix.IPV6_TCLASS, number(0x2c)[:3], told{}},
		{"a hop limit that is cut", unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, number(63)[:3], told{}},
		{"joined, and cut", unix.SOL_UDP, unix.UDP_GRO, number(1400)[:3], told{}},
		{"another level", unix.SOL_SOCKET, unix.UDP_GRO, number(1400), told{}},
		{"another type of UDP's", unix.SOL_UDP, unix.UDP_SEGMENT, number(1400), told{}},
		{"another type of IP's", unix.IPPROTO_IP, unix.IP_TTL, info4, told{}},
		{"another type of IPv6's", unix.IPPROTO_IPV6, unix.IPV6_PATHMTU, info6, told{}},
		{"a type of IPv6's that IP has", unix.IPPROTO_IP, unix.IPV6_HOPLIMIT, number(63), told{}},
	} {
		for name, front := range map[string][]byte{"alone": nil, "behind a message without data": control(unix.SOL_SOCKET, unix.SO_TIMESTAMP, nil),
			"behind a message that is not known": control(unix.SOL_SOCKET, unix.SO_TIMESTAMP, number(5))} {
			oob := aligned(append(slices.Clone(front), control(c.level, c.kind, c.data)...))
			local, tos, ttl, segment := ancillary(oob)
			if got := (told{local, tos, ttl, segment}); got != c.want {
				t.Errorf("%s, %s: %+v, want %+v", c.name, name, got, c.want)
			}
		}
	}
	// A header that says less than it has, or more than there is, ends it.
	for _, length := range []int{0, unix.CmsgLen(0) - 1, unix.CmsgLen(4) + 1} {
		oob := control(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, number(63))[:unix.CmsgLen(4)]
		(*unix.Cmsghdr)(unsafe.Pointer(&oob[0])).SetLen(length)
		if _, _, ttl, _ := ancillary(oob); ttl != 0 {
			t.Errorf("a header of %d bytes: hop limit %d", length, ttl)
		}
	}
}

// received is a batch that the system has filled with one datagram, which is the i-th.
func received(i int, from netip.AddrPort, n int, flags int32, oob []byte) *batch {
	b := newBatch()
	b.reset(&socket{})
	b.msgs[i].hdr.Namelen = b.setName(i, from)
	b.msgs[i].hdr.Flags, b.msgs[i].len = flags, uint32(n)
	b.msgs[i].hdr.SetControllen(copy(unsafe.Slice((*byte)(unsafe.Pointer(&b.oob[i])), oobWords*8), oob))
	return b
}

// What becomes of a datagram that was received.
func TestTake(t *testing.T) {
	from := netip.MustParseAddrPort("192.0.2.2:4500")
	esp := espPacket(100, 7)
	fill := func(size int) []Packet {
		in := packets(3, size)
		copy(in[1].Buf[Headroom:], esp)
		return in
	}
	natt := &socket{natt: true, port: 4500, local: loop}
	info := control(unix.IPPROTO_IP, unix.IP_PKTINFO, []byte{0, 0, 0, 0, 192, 0, 2, 1, 0, 0, 0, 0})
	tos := control(unix.IPPROTO_IP, unix.IP_TOS, []byte{3})

	in := fill(200)
	if b := received(1, from, len(esp), 0, append(slices.Clone(info), tos...)); !b.take(1, natt, in, 0) {
		t.Fatal("not taken")
	}
	p := in[0]
	if p.Kind != ESP || !p.NATT || p.TOS != 3 || p.Segment != 0 || p.Local != netip.MustParseAddrPort("192.0.2.1:4500") || p.Remote != from || !bytes.Equal(p.Data(), esp) {
		t.Errorf("moved to the front: %+v", p)
	}
	in = fill(200)
	if b := received(1, from, len(esp), 0, nil); !b.take(1, natt, in, 1) || in[1].Local != netip.AddrPortFrom(loop, 4500) {
		t.Errorf("without an address: %+v", in[1])
	}
	for _, segment := range []int32{40, 99} {
		in = fill(200)
		if b := received(1, from, len(esp), 0, control(unix.SOL_UDP, unix.UDP_GRO, number(segment))); !b.take(1, natt, in, 1) || in[1].Segment != int(segment) || in[1].Len != len(esp) || in[1].Off != Headroom {
			t.Errorf("joined of %d: %+v", segment, in[1])
		}
	}
	for _, segment := range []int32{-1, 0, 100, 101} { // it is one
		in = fill(200)
		if b := received(1, from, len(esp), 0, control(unix.SOL_UDP, unix.UDP_GRO, number(segment))); !b.take(1, natt, in, 1) || in[1].Segment != 0 || !bytes.Equal(in[1].Data(), esp) {
			t.Errorf("joined of %d: %+v", segment, in[1])
		}
	}
	if b := received(1, from, len(esp), unix.MSG_TRUNC, info); b.take(1, natt, fill(200), 1) {
		t.Error("a datagram that was cut is taken")
	}
	b := received(1, from, len(esp), 0, info)
	if b.names[1].Family = unix.AF_UNIX; b.take(1, natt, fill(200), 1) {
		t.Error("a datagram from nowhere is taken")
	}
	for size, want := range map[int]bool{len(esp) - 1: false, len(esp): true} { // of the buffer that it is moved to
		in = fill(200)
		in[0].Buf = make([]byte, Headroom+size)
		if b := received(1, from, len(esp), 0, info); b.take(1, natt, in, 0) != want {
			t.Errorf("moved to %d bytes: %v", size, !want)
		}
	}
}

func TestRemote(t *testing.T) {
	for _, c := range []string{"192.0.2.1:500", "[2001:db8::1]:4500", "[fe80::1%3]:65535"} {
		b := received(2, netip.MustParseAddrPort(c), 0, 0, nil)
		if got := b.remote(2); got != netip.MustParseAddrPort(c) {
			t.Errorf("%v, want %s", got, c)
		}
	}
	for zone, want := range map[string]uint32{"fe80::1": 0, "fe80::1%3": 3, "fe80::1%eth0": 0, "fe80::1%4294967295": 1<<32 - 1, "fe80::1%4294967296": 0} {
		if got := zoneID(netip.MustParseAddr(zone)); got != want {
			t.Errorf("%s: %d, want %d", zone, got, want)
		}
	}
}

// Which datagrams make one message that the system cuts, and which begin another.
func TestJoins(t *testing.T) {
	head := func() Packet {
		return outgoing(ESP, netip.MustParseAddrPort("192.0.2.1:4500"), netip.MustParseAddrPort("192.0.2.2:4500"), true, make([]byte, 1000))
	}
	for _, c := range []struct {
		name   string
		change func(s *socket, first, second *Packet)
		joins  bool
	}{
		{"alike", func(*socket, *Packet, *Packet) {}, true},
		{"shorter", func(_ *socket, _, p *Packet) { p.Len = 999 }, true},
		{"of one byte", func(_ *socket, _, p *Packet) { p.Len = 1 }, true},
		{"longer", func(_ *socket, _, p *Packet) { p.Buf, p.Len = append(p.Buf, 0), 1001 }, false},
		{"empty", func(_ *socket, _, p *Packet) { p.Len = 0 }, false},
		{"a system that cannot", func(s *socket, _, _ *Packet) { s.gso = false }, false},
		{"IKE behind", func(_ *socket, _, p *Packet) { p.Kind = IKE }, false},
		{"IKE in front", func(_ *socket, f, _ *Packet) { f.Kind = IKE }, false},
		{"to another port", func(_ *socket, _, p *Packet) { p.Remote = netip.MustParseAddrPort("192.0.2.2:4501") }, false},
		{"from another address", func(_ *socket, _, p *Packet) { p.Local = netip.MustParseAddrPort("192.0.2.3:4500") }, false},
		{"of another type of service", func(_ *socket, _, p *Packet) { p.TOS = 1 }, false},
	} {
		s, first, second := &socket{gso: true, natt: true}, head(), head()
		c.change(s, &first, &second)
		b := newBatch()
		b.reset(s)
		b.put(&first, first.Data())
		if b.put(&second, second.Data()); (b.m == 1) != c.joins || b.n != 2 {
			t.Errorf("%s: %d datagrams in %d messages", c.name, b.n, b.m)
		}
	}
	// So many and so long as one message may be, and no more.
	for _, c := range []struct{ size, messages, first int }{{100, 2, maxSegments}, {1024, 2, MaxDatagram / 1024}, {MaxDatagram / 13, 6, 13}} {
		s, p := &socket{gso: true, natt: true}, head()
		p.Buf, p.Len = make([]byte, Headroom+c.size), c.size
		b := newBatch()
		b.reset(s)
		for range 66 {
			b.put(&p, p.Data())
		}
		if b.m != c.messages || b.end(0) != c.first || b.total[0] > MaxDatagram {
			t.Errorf("datagrams of %d bytes: %d messages, the first of %d", c.size, b.m, b.end(0))
		}
	}
	s, p := &socket{}, head()
	b := newBatch()
	b.reset(s)
	for i := range batchSize + 1 {
		if b.put(&p, p.Data()) != (i < batchSize) {
			t.Errorf("a batch with %d datagrams", i)
		}
	}
}

// What the error queue tells, by kind of socket.
func TestTrouble(t *testing.T) {
	tooBig := unix.SockExtendedErr{Errno: uint32(unix.EMSGSIZE), Origin: unix.SO_EE_ORIGIN_ICMP, Type: 3, Code: 4, Info: 1300}
	local := tooBig
	local.Origin = unix.SO_EE_ORIGIN_LOCAL
	with := func(e unix.SockExtendedErr, more ...[]byte) []byte {
		raw := bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&e)), int(unsafe.Sizeof(e))))
		return append(bytes.Join(more, nil), control(unix.IPPROTO_IP, unix.IP_RECVERR, raw)...)
	}
	info4 := control(unix.IPPROTO_IP, unix.IP_PKTINFO, []byte{0, 0, 0, 0, 192, 0, 2, 1, 192, 0, 2, 9})
	info6 := control(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, append(netip.MustParseAddr("fd00::9").AsSlice(), 0, 0, 0, 0))
	cut := control(unix.IPPROTO_IP, unix.IP_PKTINFO, []byte{0, 0, 0, 0, 192, 0, 2, 1, 192, 0, 2})
	from := netip.MustParseAddrPort("192.0.2.2:4500")
	esp := espPacket(40, 1)
	ah4 := append(wire.IPv4{TTL: 1, Proto: wire.ProtoAH, Src: loop, Dst: loop2}.Append(nil, 24), append([]byte{17, 4, 0, 0, 1, 2, 3, 4}, make([]byte, 16)...)...)
	ah6 := append(wire.IPv6{HopLimit: 1, Next: wire.ProtoAH, Src: loop6, Dst: loop6}.Append(nil, 24), ah4[20:]...)
	ike, natt := &socket{port: 500}, &socket{port: 4500, natt: true}
	raw := func(proto int, v6 bool) *socket { return &socket{proto: proto, v6: v6} }
	for _, c := range []struct {
		name  string
		s     *socket
		data  []byte
		oob   []byte
		want  Fault
		local string
		rest  []byte
	}{
		{"IKE", ike, esp, with(tooBig, info4), Fault{TooBig, IKE, false, 1300}, "192.0.2.9:500", esp},
		{"in UDP", natt, esp, with(tooBig, info4), Fault{TooBig, ESP, false, 1300}, "192.0.2.9:4500", esp},
		{"ESP", raw(unix.IPPROTO_ESP, false), esp, with(tooBig, info4), Fault{TooBig, ESP, false, 1300}, "192.0.2.9:0", esp},
		{"of an IPv6 address", natt, esp, with(tooBig, info6), Fault{TooBig, ESP, false, 1300}, "[fd00::9]:4500", esp},
		{"without an address", natt, esp, with(tooBig), Fault{TooBig, ESP, false, 1300}, "invalid AddrPort", esp},
		{"with an address that is cut", natt, esp, with(tooBig, cut), Fault{TooBig, ESP, false, 1300}, "invalid AddrPort", esp},
		{"behind a message without data", natt, esp, with(tooBig, control(unix.SOL_SOCKET, unix.SO_TIMESTAMP, nil)), Fault{TooBig, ESP, false, 1300}, "invalid AddrPort", esp},
		{"by the system itself", natt, esp, with(local, info4), Fault{TooBig, ESP, true, 1300}, "invalid AddrPort", esp},
		{"AH, with the header that was sent", raw(unix.IPPROTO_AH, false), ah4, with(tooBig, info4), Fault{TooBig, AH, false, 1300}, "192.0.2.9:0", ah4[20:]},
		{"AH, with the IPv6 header", raw(unix.IPPROTO_AH, true), ah6, with(tooBig, info6), Fault{TooBig, AH, false, 1300}, "[fd00::9]:0", ah6[40:]},
		{"AH, without the IPv6 header", raw(unix.IPPROTO_AH, true), ah6[40:], with(tooBig, info6), Fault{TooBig, AH, false, 1300}, "[fd00::9]:0", ah6[40:]},
		{"AH, with half an IPv6 header", raw(unix.IPPROTO_AH, true), ah6[:39], with(tooBig, info6), Fault{TooBig, AH, false, 1300}, "[fd00::9]:0", ah6[:39]},
		{"AH, with another header", raw(unix.IPPROTO_AH, false), append(append(bytes.Clone(ah4[:9]), wire.ProtoESP), ah4[10:]...), with(tooBig, info4), Fault{TooBig, AH, false, 1300}, "192.0.2.9:0", nil},
		{"nothing told", natt, esp, info4, Fault{}, "", nil},
		{"an error that is cut", natt, esp, control(unix.IPPROTO_IP, unix.IP_RECVERR, make([]byte, 15)), Fault{}, "", nil},
		{"a time stamp", natt, esp, with(unix.SockExtendedErr{Errno: uint32(unix.ENOMSG), Origin: unix.SO_EE_ORIGIN_TIMESTAMPING}, info4), Fault{}, "", nil},
	} {
		p := Packet{Buf: append(make([]byte, Headroom), c.data...), TOS: 9, Header: true}
		ok := p.trouble(c.s, len(c.data), aligned(c.oob), from)
		if ok != (c.want != Fault{}) {
			t.Errorf("%s: %v", c.name, ok)
		}
		if ok && (p.Fault != c.want || p.Kind != Trouble || p.NATT != c.s.natt || p.Header || p.TOS != 0 || p.Remote != from || p.Local.String() != c.local || !bytes.Equal(p.Data(), c.rest)) {
			t.Errorf("%s: %+v", c.name, p)
		}
		if p.trouble(c.s, len(c.data), aligned(c.oob), netip.AddrPort{}) {
			t.Errorf("%s: to nobody", c.name)
		}
	}
}

func TestCauseOf(t *testing.T) {
	const icmp, icmp6, local = unix.SO_EE_ORIGIN_ICMP, unix.SO_EE_ORIGIN_ICMP6, unix.SO_EE_ORIGIN_LOCAL
	for _, c := range []struct {
		origin, kind, code uint8
		errno              unix.Errno
		want               Cause
	}{
		{icmp, 3, 4, unix.EMSGSIZE, TooBig}, {icmp6, 2, 0, unix.EMSGSIZE, TooBig}, {local, 0, 0, unix.EMSGSIZE, TooBig},
		{icmp, 3, 9, unix.ENETUNREACH, Prohibited}, {icmp, 3, 10, unix.EHOSTUNREACH, Prohibited}, {icmp, 3, 13, unix.EHOSTUNREACH, Prohibited}, {icmp6, 1, 1, unix.EACCES, Prohibited},
		{icmp, 3, 0, unix.ENETUNREACH, Unreachable}, {icmp, 3, 1, unix.EHOSTUNREACH, Unreachable}, {icmp, 3, 2, unix.ENOPROTOOPT, Unreachable}, {icmp, 3, 3, unix.ECONNREFUSED, Unreachable},
		{icmp, 3, 8, unix.ENETUNREACH, Unreachable}, {icmp, 3, 11, unix.ENETUNREACH, Unreachable}, {icmp, 3, 12, unix.EHOSTUNREACH, Unreachable}, {icmp, 11, 13, unix.EHOSTUNREACH, Unreachable},
		{icmp6, 3, 9, unix.EHOSTUNREACH, Unreachable}, {icmp, 12, 0, unix.EPROTO, Undelivered}, {icmp6, 4, 0, unix.EPROTO, Undelivered},
		{unix.SO_EE_ORIGIN_TIMESTAMPING, 0, 0, unix.ENOMSG, 0}, {unix.SO_EE_ORIGIN_NONE, 3, 4, unix.EMSGSIZE, 0},
	} {
		if got := causeOf(unix.SockExtendedErr{Errno: uint32(c.errno), Origin: c.origin, Type: c.kind, Code: c.code}); got != c.want {
			t.Errorf("origin %d, type %d, code %d, %v: %d, want %d", c.origin, c.kind, c.code, c.errno, got, c.want)
		}
	}
	for kind := range uint8(6) {
		for code := range uint8(8) {
			want := Undelivered
			switch {
			case kind == 1 && (code == 1 || code == 5 || code == 6): // RFC 4443 §3.1
				want = Prohibited
			case kind == 1, kind == 3:
				want = Unreachable
			case kind == 2:
				want = TooBig
			}
			if got := causeOf6(kind, code); got != want {
				t.Errorf("ICMPv6 type %d, code %d: %d, want %d", kind, code, got, want)
			}
		}
	}
}

// What a raw socket hands up, by protocol and family.
func TestAcceptRaw(t *testing.T) {
	esp := espPacket(40, 1)
	header := func(options int) []byte {
		h := wire.IPv4{TTL: 61, Proto: wire.ProtoESP, Src: loop, Dst: loop2}.Append(nil, options+len(esp))
		h[0] = 0x40 | byte(5+options/4)
		return append(append(h, make([]byte, options)...), esp...)
	}
	for _, c := range []struct {
		name string
		s    *socket
		data []byte
		kind Kind
		rest []byte
		ttl  uint8
	}{
		{"ESP", &socket{proto: unix.IPPROTO_ESP}, header(0), ESP, esp, 61},
		{"ESP behind options", &socket{proto: unix.IPPROTO_ESP}, header(8), ESP, esp, 61},
		{"a header and nothing", &socket{proto: unix.IPPROTO_ESP}, header(0)[:20], ESP, nil, 61},
		{"ESP behind a header that is cut", &socket{proto: unix.IPPROTO_ESP}, header(8)[:27], ESP, nil, 7},
		{"a header that is too short", &socket{proto: unix.IPPROTO_ESP}, append([]byte{0x44}, header(0)[1:]...), ESP, nil, 7},
		{"nothing", &socket{proto: unix.IPPROTO_ESP}, nil, ESP, nil, 7},
		{"ESP without its IPv6 header", &socket{proto: unix.IPPROTO_ESP, v6: true}, esp, ESP, esp, 7},
		{"AH with its header", &socket{proto: unix.IPPROTO_AH}, header(0), AH, header(0), 7},
	} {
		p := Packet{Buf: append(make([]byte, Headroom), c.data...), TTL: 7, NATT: true, Header: c.kind != AH}
		if !c.s.acceptRaw(&p, len(c.data), nil, loop, loop2) || p.Kind != c.kind || p.NATT || p.Header != (c.kind == AH) || !bytes.Equal(p.Data(), c.rest) || p.TTL != c.ttl ||
			p.Local != netip.AddrPortFrom(loop, 0) || p.Remote != netip.AddrPortFrom(loop2, 0) {
			t.Errorf("%s: %+v", c.name, p)
		}
	}
	// Of an IPv6 header that cannot be made again nothing is handed up.
	p := Packet{Buf: make([]byte, Headroom+24)}
	bad := control(unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, []byte{43, 0, 5})
	if s := (&socket{proto: unix.IPPROTO_AH, v6: true}); !s.acceptRaw(&p, 24, bad, told6, other6) || p.Kind != AH || p.Len != 0 {
		t.Errorf("%+v", p)
	}
}

// The longest packet and the most extension headers that a header can be put in front of.
func TestRestoreBounds(t *testing.T) {
	ext := control(unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, []byte{60, 0, 1, 4, 0, 0, 0, 0})
	for _, c := range []struct {
		name       string
		payload, n int
		want       bool
	}{
		{"the longest", 0xffff, 0, true}, {"longer", 0x10000, 0, false},
		{"the longest with extension headers", 0xffff - 16, 2, true}, {"longer with them", 0xffff - 15, 2, false},
		{"eight extension headers", 24, 8, true}, {"nine", 24, 9, false},
	} {
		p := Packet{Buf: make([]byte, Headroom+c.payload), Off: Headroom, Len: c.payload, TTL: 3, TOS: 0x2c, Remote: netip.AddrPortFrom(told6, 0), Local: netip.AddrPortFrom(other6, 0)}
		ok := p.restore(aligned(append(control(unix.SOL_SOCKET, unix.SO_TIMESTAMP, nil), bytes.Repeat(ext, c.n)...)))
		if ok != c.want {
			t.Errorf("%s: %v", c.name, ok)
		}
		if first := map[bool]byte{false: wire.ProtoAH, true: wire.ProtoDstOpts}[c.n > 0]; ok && (p.Len != 40+8*c.n+c.payload || p.Data()[6] != first || p.Data()[7] != 3 || wire.TOS(p.Data()) != 0x2c) {
			t.Errorf("%s: %d bytes, %x", c.name, p.Len, p.Data()[:40])
		}
	}
}
