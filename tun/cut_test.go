package tun

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"culvert/internal/packet/wire"
)

// whole is a packet that stands for several, with n bytes of payload in pieces of size bytes, and
// its offload header.
func whole(kind byte, n, size int, flags uint8, options []byte) (head, pkt []byte) {
	src, dst := netip.MustParseAddrPort("10.1.0.1:1000"), netip.MustParseAddrPort("10.2.0.1:80")
	if kind&^offloadECN == offloadTCPv6 || kind == offloadUDP && flags == 6 {
		src, dst = netip.MustParseAddrPort("[fd01::1]:1000"), netip.MustParseAddrPort("[fd02::1]:80")
	}
	payload := make([]byte, n)
	for i := range payload {
		payload[i] = byte(i*7 + i>>8)
	}
	at := 16
	if kind == offloadUDP {
		at = 6
		pkt = wire.AppendUDPPacket(nil, src, dst, payload)
	} else {
		pkt = wire.AppendTCPPacket(nil, wire.TCP{Seq: 0xfffffc00, Ack: 77, Flags: flags, Window: 9000}, src, dst, append(bytes.Clone(options), payload...))
	}
	l4 := 40
	if pkt[0]>>4 == 4 {
		l4 = 20
		binary.BigEndian.PutUint16(pkt[4:], 0xfffe)
		wire.FillIPv4Checksum(pkt)
	}
	front := l4 + 8
	if kind != offloadUDP {
		pkt[l4+12] = byte(5+len(options)/4) << 4
		front = l4 + 20 + len(options)
	}
	l := layout{version: pkt[0] >> 4, proto: wire.ProtoTCP, l4: l4}
	if kind == offloadUDP {
		l.proto = wire.ProtoUDP
	}
	binary.BigEndian.PutUint16(pkt[l4+at:], pseudo(pkt, l, len(pkt)-l4))
	head = make([]byte, offloadLen)
	head[0], head[1] = needsSum, kind
	binary.NativeEndian.PutUint16(head[2:], uint16(front))
	binary.NativeEndian.PutUint16(head[4:], uint16(size))
	binary.NativeEndian.PutUint16(head[6:], uint16(l4))
	binary.NativeEndian.PutUint16(head[8:], uint16(at))
	return head, pkt
}

// pieces is what s is cut into, in the way of the reader: the first one last, in place.
func pieces(t testing.TB, s *super) (list [][]byte) {
	t.Helper()
	n := s.left()
	list = make([][]byte, n)
	for i := n - 1; i >= 0; i-- {
		dst := make([]byte, s.head+s.size)
		if i == 0 {
			dst = s.pkt
		}
		size := s.cut(dst, i)
		if size == 0 {
			t.Fatalf("packet %d was not cut", i)
		}
		list[i] = dst[:size]
	}
	return list
}

// A packet that stands for several becomes what Linux makes of it.
func TestCut(t *testing.T) {
	stamps := []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}
	for name, c := range map[string]struct {
		kind    byte
		n, size int
		flags   uint8 // TCP; UDP: the version of IP
		options []byte
		want    int
	}{
		"TCP":                         {kind: offloadTCPv4, n: 5000, size: 1360, flags: flagACK, want: 4},
		"TCP without a shorter last":  {kind: offloadTCPv4, n: 4 * 1360, size: 1360, flags: flagACK, want: 4},
		"TCP, the last of one byte":   {kind: offloadTCPv4, n: 4*1360 + 1, size: 1360, flags: flagACK, want: 5},
		"TCP with options":            {kind: offloadTCPv4, n: 5000, size: 1348, flags: flagACK, options: stamps, want: 4},
		"TCP with an odd size":        {kind: offloadTCPv4, n: 5001, size: 777, flags: flagACK, want: 7},
		"the end of a connection":     {kind: offloadTCPv4, n: 3000, size: 1360, flags: flagACK | flagPSH | flagFIN, want: 3},
		"congestion window reduced":   {kind: offloadTCPv4 | offloadECN, n: 3000, size: 1360, flags: flagACK | flagCWR, want: 3},
		"all of it in one":            {kind: offloadTCPv4, n: 100, size: 1360, flags: flagACK | flagPSH | flagFIN | flagCWR, want: 1},
		"TCP over IPv6":               {kind: offloadTCPv6, n: 5000, size: 1340, flags: flagACK | flagPSH, want: 4},
		"TCP over IPv6 with options":  {kind: offloadTCPv6, n: 65000, size: 1328, flags: flagACK, options: stamps, want: 49},
		"UDP":                         {kind: offloadUDP, n: 5000, size: 1200, flags: 4, want: 5},
		"UDP over IPv6":               {kind: offloadUDP, n: 5001, size: 1200, flags: 6, want: 5},
		"more than there are buffers": {kind: offloadTCPv4, n: 3000, size: 10, flags: flagACK, want: 300},
	} {
		t.Run(name, func(t *testing.T) {
			head, pkt := whole(c.kind, c.n, c.size, c.flags, c.options)
			want := cut(t, head, bytes.Clone(pkt))
			var s super
			if err := s.parse(head, pkt); err != nil {
				t.Fatal(err)
			}
			got := pieces(t, &s)
			if len(got) != c.want || len(want) != c.want {
				t.Fatalf("%d packets, Linux makes %d, want %d", len(got), len(want), c.want)
			}
			for i := range got {
				if !bytes.Equal(got[i], want[i]) {
					t.Errorf("packet %d is\n% x, want\n% x", i, got[i][:min(len(got[i]), 60)], want[i][:60])
				}
			}
		})
	}
}

// A datagram whose checksum comes out as 0 has the other 0 (RFC 768).
func TestCompletesChecksums(t *testing.T) {
	for _, last := range []uint16{0x0000, 0x1234} {
		pkt := wire.AppendUDPPacket(nil, netip.MustParseAddrPort("10.1.0.1:1"), netip.MustParseAddrPort("10.2.0.1:2"), []byte{0, 0})
		l := layout{version: 4, proto: wire.ProtoUDP, l4: 20}
		binary.BigEndian.PutUint16(pkt[26:], pseudo(pkt, l, 10))
		binary.BigEndian.PutUint16(pkt[28:], last)
		if last == 0 { // make the sum 0xffff
			binary.BigEndian.PutUint16(pkt[28:], ^wire.Sum(pkt[20:], 0))
		}
		head := make([]byte, offloadLen)
		head[0] = needsSum
		binary.NativeEndian.PutUint16(head[6:], 20)
		binary.NativeEndian.PutUint16(head[8:], 6)
		var s super
		if err := s.parse(head, pkt); err != nil || s.left() != 0 {
			t.Fatal(err, s.left())
		}
		sum := binary.BigEndian.Uint16(pkt[26:])
		if !right(pkt, l) || sum == 0 || (last == 0) != (sum == 0xffff) {
			t.Errorf("checksum %04x", sum)
		}
	}
}

// What the offload header says wrong of a packet is noticed, and no byte outside the packet is
// touched.
func TestBadOffload(t *testing.T) {
	put := func(at int, v uint16) func(head, pkt []byte) []byte {
		return func(head, pkt []byte) []byte {
			binary.NativeEndian.PutUint16(head[at:], v)
			return pkt
		}
	}
	for name, c := range map[string]struct {
		change func(head, pkt []byte) []byte
		want   string
	}{
		"no size":                      {put(4, 0), "0 bytes"},
		"headers behind the end":       {put(6, 2990), "not those of IPv4"},
		"headers within those of IP":   {put(6, 12), "not those of IPv4"},
		"headers behind those of IP":   {put(6, 28), "not those of IPv4"},
		"the checksum elsewhere":       {put(8, 18), "behind byte 20"},
		"the checksum behind the end":  {put(8, 3000), "checksum is to be"},
		"no checksum":                  {func(head, pkt []byte) []byte { head[0] = 0; return pkt }, "checksum"},
		"fragmentation offload":        {func(head, pkt []byte) []byte { head[1] = 3; return pkt }, "kind 3"},
		"the other version":            {func(head, pkt []byte) []byte { head[1] = offloadTCPv6; return pkt }, "not those of IPv6"},
		"no payload":                   {func(_, pkt []byte) []byte { return pkt[:40] }, "not those of IPv4"},
		"cut in its TCP header":        {func(_, pkt []byte) []byte { return pkt[:38] }, "not those of IPv4"},
		"a TCP header longer than all": {func(_, pkt []byte) []byte { pkt[32] = 0xf0; return pkt[:70] }, "not those of IPv4"},
		"nothing":                      {func(_, pkt []byte) []byte { return nil }, "of 0"},
	} {
		head, pkt := whole(offloadTCPv4, 3000, 1360, flagACK, nil)
		pkt = c.change(head, pkt)
		before := bytes.Clone(pkt)
		var s super
		err := s.parse(head, pkt)
		if err == nil || !strings.Contains(err.Error(), c.want) || s.left() != 0 {
			t.Errorf("%s: %v, %d packets", name, err, s.left())
		}
		if !bytes.Equal(pkt, before) {
			t.Errorf("%s: the packet was changed", name)
		}
	}
	// A TCP header that claims to be shorter than any is one of 20 bytes.
	head, pkt := whole(offloadTCPv4, 3000, 1360, flagACK, nil)
	pkt[32] = 0x10
	var s super
	if err := s.parse(head, pkt); err != nil || s.head != 40 {
		t.Error(err, s.head)
	}
	// A buffer that is too short gets nothing.
	if n := s.cut(make([]byte, 1399), 1); n != 0 {
		t.Errorf("%d bytes in a buffer of 1399", n)
	}
}

// Whatever comes from the device, what is cut from it is as long as it should be, and the
// payloads together are the payload.
func FuzzCut(f *testing.F) {
	for _, kind := range []byte{offloadTCPv4, offloadTCPv6, offloadUDP} {
		head, pkt := whole(kind, 3000, 700, flagACK, nil)
		f.Add(head, pkt)
	}
	f.Fuzz(func(t *testing.T, head, pkt []byte) {
		if len(head) < offloadLen || len(pkt) > MaxMTU {
			return
		}
		var s super
		if s.parse(head[:offloadLen], pkt) != nil || s.left() == 0 {
			return
		}
		payload, front := bytes.Clone(pkt[s.head:]), s.head
		var got []byte
		for _, p := range pieces(t, &s) {
			if len(p) <= front || len(p) > front+s.size {
				t.Fatalf("a packet of %d bytes: headers %d, payload %d", len(p), front, s.size)
			}
			got = append(got, p[front:]...)
		}
		if !bytes.Equal(got, payload) {
			t.Fatal("the payload differs")
		}
	})
}
