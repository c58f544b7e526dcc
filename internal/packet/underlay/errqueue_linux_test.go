package underlay

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"culvert/internal/packet/wire"
)

// paths are the ways on which trouble is made: each family, by UDP and without.
type troubled struct {
	from, to netip.Addr
	kind     Kind
	natt     bool
}

var troubledWays = []troubled{
	{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), ESP, true},
	{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), ESP, false},
	{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), AH, false},
	{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), ESP, true},
	{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), ESP, false},
	{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), AH, false},
}

// packet is one of size bytes with its header.
func (w troubled) packet(c Conn, size int, whole bool) Packet {
	head := wire.AppendedIPLen(w.from)
	ports := [2]netip.AddrPort{netip.AddrPortFrom(w.from, 0), netip.AddrPortFrom(w.to, 0)}
	switch {
	case w.natt:
		ports = [2]netip.AddrPort{at(w.from, c, true), at(w.to, c, true)}
		size -= head + wire.UDPHeaderLen
	case w.kind == ESP:
		size -= head
	default:
		body := append([]byte{59, 4, 0, 0, 1, 2, 3, 4, 0, 0, 0, 1}, make([]byte, size-head-12)...)
		data := append(wire.AppendIP(nil, w.from, w.to, wire.ProtoAH, len(body)), body...)
		if w.from.Is4() {
			data[4] = 1
			wire.FillIPv4Checksum(data)
		}
		p := outgoing(AH, ports[0], ports[1], false, data)
		p.Header = true
		return p
	}
	p := outgoing(ESP, ports[0], ports[1], w.natt, espPacket(size, 7))
	p.Whole = whole
	return p
}

// spi is what a Trouble about one of those packets has of it.
func (w troubled) spi(p *Packet) bool {
	data := p.Data()
	if w.kind == AH {
		data = data[min(4, len(data)):]
	}
	return bytes.HasPrefix(data, []byte{1, 2, 3, 4})
}

// forge sends an ICMP message about p to whom p is from, from a third address. It
// quotes the IP header and so many bytes behind it.
func forge(t *testing.T, w troubled, c Conn, p *Packet, h wire.ICMP, quote int) {
	t.Helper()
	proto, inner := uint8(wire.ProtoESP), p.Data()
	if w.natt {
		proto, inner = wire.ProtoUDP, wire.AppendUDP(nil, at(w.from, c, true), at(w.to, c, true), p.Data())
	}
	original := inner
	if !p.Header {
		original = append(wire.AppendIP(nil, w.from, w.to, proto, len(inner)), inner...)
	}
	domain, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	by := netip.MustParseAddr("127.0.0.9")
	if w.from.Is6() {
		domain, sa, by = unix.AF_INET6, &unix.SockaddrInet6{Addr: w.from.As16()}, w.to
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, wire.AppendICMPPacket(nil, h, by, w.from, original[:min(len(original), wire.AppendedIPLen(w.from)+quote)]), 0, sa); err != nil {
		t.Fatal(err)
	}
}

func tooBig(v6 bool, mtu uint32) wire.ICMP {
	if v6 {
		return wire.ICMP{Type: wire.ICMPv6TooBig, Rest: mtu}
	}
	return wire.ICMP{Type: wire.ICMPUnreachable, Code: 4, Rest: mtu}
}

// What the path, and the system itself, say of a packet comes up with the
// packet's SPI and addresses, and no other packet suffers.
func TestTroubles(t *testing.T) {
	isolateBoth(t, "ip link set lo mtu 1500")
	for _, w := range troubledWays {
		a := listenRaw(t, w.from)
		name := wire.ProtoUDP
		if !w.natt {
			name = int(w.kind)
		}
		check := func(what string, want Fault, local, spi bool) {
			t.Helper()
			want.Kind = w.kind
			one := packets(1, 2000)
			if n, err := a.Recv(one); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			got := one[0]
			if got.Kind != Trouble || got.Fault != want || got.Remote.Addr() != w.to || got.NATT != w.natt ||
				local != (got.Local.Addr() == w.from) || spi != w.spi(&got) {
				t.Errorf("%v %d, %s: %+v from %v to %v: %x", w.from, name, what, got.Fault, got.Local, got.Remote, got.Data())
			}
		}
		small := w.packet(a, 200, true)
		icmp := func(what string, h wire.ICMP, want Fault) {
			t.Helper()
			forge(t, w, a, &small, h, 88)
			check(what, want, true, true)
		}
		v6 := w.from.Is6()
		icmp("too big", tooBig(v6, 1300), Fault{Cause: TooBig, MTU: 1300})
		// Eight bytes behind the header (RFC 792) are the whole UDP header and no more.
		// Of what goes without UDP they have the SPI.
		forge(t, w, a, &small, tooBig(v6, 1300), 8)
		check("too big, eight bytes", Fault{Cause: TooBig, MTU: 1300}, true, !w.natt)
		switch {
		case v6:
			icmp("no route", wire.ICMP{Type: 1, Code: 0}, Fault{Cause: Unreachable})
			icmp("prohibited", wire.ICMP{Type: 1, Code: 1}, Fault{Cause: Prohibited})
			icmp("port", wire.ICMP{Type: 1, Code: 4}, Fault{Cause: Unreachable})
			icmp("hop limit", wire.ICMP{Type: 3, Code: 0}, Fault{Cause: Unreachable})
		default:
			icmp("too big, MTU unknown", tooBig(v6, 0), Fault{Cause: TooBig})
			icmp("host", wire.ICMP{Type: 3, Code: 1}, Fault{Cause: Unreachable})
			icmp("prohibited", wire.ICMP{Type: 3, Code: 13}, Fault{Cause: Prohibited})
			icmp("port", wire.ICMP{Type: 3, Code: 3}, Fault{Cause: Unreachable})
			icmp("hop limit", wire.ICMP{Type: 11, Code: 0}, Fault{Cause: Unreachable})
		}
		// The system's own link: exactly what it takes goes, whatever was forged.
		b := a
		if !w.natt {
			b = listenRaw(t, w.to)
		}
		if n, err := a.Send([]Packet{w.packet(a, 1500, true)}); n != 1 || err != nil {
			t.Errorf("%v %d: 1500 bytes: %d, %v", w.from, name, n, err)
		}
		if w.natt {
			check("nobody listens", Fault{Cause: Unreachable}, true, true)
		} else {
			receive(t, b, 1)
		}
		if n, err := a.Send([]Packet{w.packet(a, 1501, true)}); n != 0 || !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("%v %d: 1501 bytes: %d, %v", w.from, name, n, err)
		}
		check("longer than the link", Fault{Cause: TooBig, Local: true, MTU: 1500}, false, false) // perhaps a second time, for the second try
		a.Close()
		b.Close()
	}
}

// Packets that may be cut and such that may not take turns, in one batch; an
// error that is told meanwhile belongs to neither.
func TestWholeAndCut(t *testing.T) {
	isolateBoth(t, "ip link set lo mtu 1500")
	for _, w := range troubledWays[:4] {
		if !w.natt {
			continue
		}
		a, b := listenRaw(t, w.from), listenRaw(t, w.to)
		send := func(size int, whole bool) Packet {
			p := w.packet(a, size, whole)
			p.Remote = at(w.to, b, true)
			return p
		}
		nobody := w.packet(a, 200, false)
		nobody.Remote = netip.AddrPortFrom(w.to, 9)
		if n, err := a.Send([]Packet{nobody}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		batch := []Packet{send(1500, true), send(1501, true), send(1501, false), send(1900, false), send(1500, true), send(1400, false)}
		if n, err := a.Send(batch); n != 5 || !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("%v: %d left, %v", w.from, n, err)
		}
		var sizes []int
		for _, p := range receive(t, b, 5) {
			sizes = append(sizes, p.Len+wire.AppendedIPLen(w.from)+wire.UDPHeaderLen)
		}
		for i, want := range []int{1500, 1501, 1900, 1500, 1400} {
			if sizes[i] != want {
				t.Errorf("%v: %v arrived", w.from, sizes)
			}
		}
	}
}
