package ah

import (
	"bytes"
	"errors"
	"testing"

	"culvert/crypto/suite"
	"culvert/internal/packet/wire"
)

// options6 is an extension header of n bytes that is all padding.
func options6(proto byte, n int) []byte {
	b := []byte{proto, byte(n/8 - 1)}
	for rest := n - 2; rest > 0; {
		size := min(rest, 257)
		if rest-size == 1 {
			size--
		}
		b = append(b, 1, byte(size-2))
		b = append(b, make([]byte, size-2)...)
		rest -= size
	}
	return b
}

func many(n int, ext []byte) (list [][]byte) {
	for range n {
		list = append(list, ext)
	}
	return list
}

// withAH is an IPv6 packet whose last extension header says that an AH follows, of which n
// bytes are there.
func withAH(n int, ext ...[]byte) []byte {
	pkt := ip6("", append(ext, append([]byte{wire.ProtoAH}, make([]byte, n-1)...))...)
	pkt = pkt[:len(pkt)-wire.UDPHeaderLen]
	wire.SetTotal(pkt, len(pkt))
	return pkt
}

func TestFind(t *testing.T) {
	four := func(at int, b ...byte) []byte {
		pkt := wire.IPv4{TTL: 9, Proto: wire.ProtoAH, Src: src4, Dst: dst4}.Append(nil, 40)
		pkt = append(pkt, make([]byte, 40)...)
		copy(pkt[at:], b)
		return pkt
	}
	five := withAH(HeaderLen)
	five[0] = 0x50
	for _, c := range []struct {
		name string
		pkt  []byte
		at   int // 0: none
	}{
		{"IPv4", four(0), 20},
		{"IPv4, just the AH", four(0)[:20+HeaderLen], 20},
		{"IPv4, a byte less", four(0)[:20+HeaderLen-1], 0},
		{"IPv4 with options", four(0, 0x46), 24},
		{"IPv4, a header that is too short", four(0, 0x44), 0},
		{"IPv4, a header that is cut", four(0)[:19], 0},
		{"IPv4, another protocol", four(9, 50), 0},
		{"IPv4, not to be cut", four(6, 0x40), 20},
		{"IPv4, a first fragment", four(6, 0x20), 0},
		{"IPv4, a later fragment", four(7, 1), 0},
		{"IPv4, a last fragment", four(6, 0x10), 0},
		{"neither version", five, 0},
		{"IPv6", withAH(HeaderLen), 40},
		{"IPv6, a byte less", withAH(HeaderLen)[:40+HeaderLen-1], 0},
		{"IPv6, a header that is cut", withAH(HeaderLen)[:39], 0},
		{"IPv6, another protocol", ip6("payload that is long"), 0},
		{"IPv6 with options", withAH(HeaderLen, hopByHop), 48},
		{"IPv6 with options for the end", withAH(HeaderLen, endOption), 48},
		{"IPv6, the protocol of the options", ip6("payload that is long", hopByHop), 0},
		{"IPv6, a fragment", withAH(HeaderLen, []byte{wire.ProtoFragment, 0, 0, 1, 0, 0, 0, 0}), 0},
		{"IPv6, options that are cut", withAH(HeaderLen, hopByHop)[:47], 0},
		{"IPv6, eight headers", withAH(HeaderLen, many(8, endOption)...), 104},
		{"IPv6, nine headers", withAH(HeaderLen, many(9, endOption)...), 0},
		{"IPv6, 512 bytes in front", withAH(HeaderLen, options6(wire.ProtoDstOpts, 472)), 512},
		{"IPv6, 520 bytes in front", withAH(HeaderLen, options6(wire.ProtoDstOpts, 480)), 0},
	} {
		at, ok := Find(c.pkt)
		if ok != (c.at != 0) || ok && at != c.at {
			t.Errorf("%s: at %d, %v, want %d", c.name, at, ok, c.at)
		}
		if !ok {
			if _, _, _, err := transform(t, "sha1", false).Open(bytes.Clone(c.pkt), 0); !errors.Is(err, ErrShort) {
				t.Errorf("%s: %v, want ErrShort", c.name, err)
			}
		}
	}
}

// Which bytes of an IPv4 header count is said by RFC 4302 §3.3.3.1.1.1.
func TestMask4(t *testing.T) {
	for _, sealing := range []bool{false, true} {
		h := bytes.Repeat([]byte{0xaa}, 20)
		h[0] = 0x45
		want := []byte{0x45, 0, 0xaa, 0xaa, 0xaa, 0xaa, 0, 0, 0, 0xaa, 0, 0, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa}
		if !mask(h, sealing) || !bytes.Equal(h, want) {
			t.Errorf("%x", h)
		}
	}
	for kind := 2; kind < 256; kind++ { // RFC 4302 appendix A1
		counts := kind == 130 || kind == 133 || kind == 134 || kind == 148 || kind == 149
		h := append(make([]byte, 20), 1, byte(kind), 6, 9, 9, 9, 9, 0)
		h[0] = 0x47
		want := bytes.Clone(h)
		if !counts {
			clear(want[21:27])
		}
		if !mask(h, false) || !bytes.Equal(h, want) {
			t.Errorf("option %d: %x, want %x", kind, h[20:], want[20:])
		}
	}
	// Only what has not set out yet is brought to the end of its route.
	route := func(kind, size, pointer byte) []byte {
		opt := append([]byte{kind, size, pointer}, 1, 2, 3, 4, 5, 6, 7, 8)[:size]
		for len(opt)%4 != 0 {
			opt = append(opt, 1)
		}
		h := append(make([]byte, 20), opt...)
		h[0] = 0x40 | byte(len(h)/4)
		copy(h[16:], []byte{10, 0, 0, 9})
		return h
	}
	end4, end8, same := []byte{1, 2, 3, 4}, []byte{5, 6, 7, 8}, []byte{10, 0, 0, 9}
	for _, c := range []struct {
		kind, size, pointer byte
		sealing             bool
		dst                 []byte // nil: malformed
	}{
		{131, 7, 4, true, end4}, {137, 7, 4, true, end4}, {131, 7, 4, false, same}, {137, 7, 4, false, same},
		{131, 11, 4, true, end8}, {131, 11, 8, true, end8}, {131, 11, 11, true, end8}, {131, 11, 12, true, same},
		{131, 7, 7, true, end4}, {131, 7, 8, true, same}, {131, 7, 255, true, same},
		{131, 6, 4, true, nil}, {137, 3, 4, true, nil}, {131, 6, 4, false, same},
		{132, 7, 4, true, same}, {7, 7, 4, true, same}, {136, 7, 4, true, same}, {138, 7, 4, true, same}, {130, 7, 4, true, same},
	} {
		h := route(c.kind, c.size, c.pointer)
		if ok := mask(h, c.sealing); ok != (c.dst != nil) || ok && !bytes.Equal(h[16:20], c.dst) {
			t.Errorf("%+v: %v, to %v", c, ok, h[16:20])
		}
	}
	for _, c := range []struct {
		options []byte
		ok      bool
	}{
		{[]byte{1, 1, 7, 2}, true}, {[]byte{7, 2, 7, 2}, true}, {[]byte{7, 3, 9, 1}, true}, {[]byte{7, 4, 9, 9}, true},
		{[]byte{0, 7, 9, 9}, true}, // behind the end nothing is an option
		{[]byte{1, 1, 1, 7}, false}, {[]byte{7, 1, 1, 1}, false}, {[]byte{7, 0, 1, 1}, false}, {[]byte{7, 5, 1, 1}, false}, {[]byte{1, 1, 7, 3}, false},
	} {
		h := append(make([]byte, 20), c.options...)
		h[0] = 0x46
		if ok := mask(h, false); ok != c.ok {
			t.Errorf("options %v: %v", c.options, ok)
		}
	}
}

// The same of IPv6: RFC 4302 §3.3.3.1.2.
func TestMask6(t *testing.T) {
	head := func(next byte, ext ...byte) []byte {
		h := bytes.Repeat([]byte{0xaa}, 40)
		h[0], h[6] = 0x6a, next
		return append(h, ext...)
	}
	h := head(wire.ProtoAH)
	want := append([]byte{0x60, 0, 0, 0, 0xaa, 0xaa, wire.ProtoAH, 0}, bytes.Repeat([]byte{0xaa}, 32)...)
	if !mask(h, true) || !bytes.Equal(h, want) {
		t.Errorf("%x", h)
	}
	addr := func(n byte) []byte { return bytes.Repeat([]byte{n}, 16) }
	route := func(length, kind, left byte, via ...byte) []byte {
		b := []byte{wire.ProtoAH, length, kind, left, 0, 0, 0, 0}
		for _, v := range via {
			b = append(b, addr(v)...)
		}
		return append(b, make([]byte, 8+int(length)*8-len(b))...)
	}
	for _, c := range []struct {
		name     string
		next     byte
		in, want []byte // nil: malformed
		dst      byte
	}{
		{"options", wire.ProtoHopByHop, []byte{51, 0, 0x3e, 1, 9, 0, 0x3e, 0}, []byte{51, 0, 0x3e, 1, 0, 0, 0x3e, 0}, 0xaa},
		{"options that stay", wire.ProtoDstOpts, []byte{51, 0, 0x1e, 1, 9, 0, 0xdf, 0}, []byte{51, 0, 0x1e, 1, 9, 0, 0xdf, 0}, 0xaa},
		{"padding", wire.ProtoDstOpts, []byte{51, 0, 0x3e, 2, 9, 9, 0, 0}, []byte{51, 0, 0x3e, 2, 0, 0, 0, 0}, 0xaa},
		{"padding in front", wire.ProtoDstOpts, []byte{51, 0, 0, 0, 0, 0x3e, 1, 9}, []byte{51, 0, 0, 0, 0, 0x3e, 1, 0}, 0xaa},
		{"an option that ends with the header", wire.ProtoDstOpts, []byte{51, 0, 0x3e, 4, 9, 9, 9, 9}, []byte{51, 0, 0x3e, 4, 0, 0, 0, 0}, 0xaa},
		{"an option that ends behind it", wire.ProtoDstOpts, []byte{51, 0, 0x3e, 5, 9, 9, 9, 9}, nil, 0},
		{"an option without a length", wire.ProtoDstOpts, []byte{51, 0, 1, 3, 0, 0, 0, 1}, nil, 0},
		{"another header", wire.ProtoFragment, []byte{51, 0, 0, 0, 0, 0, 0, 0}, nil, 0},
		{"a route", wire.ProtoRouting, route(4, 0, 2, 1, 2), route(4, 0, 0, 0xaa, 1), 2},
		{"a route on its way", wire.ProtoRouting, route(4, 0, 1, 1, 2), route(4, 0, 0, 1, 0xaa), 2},
		{"a route at its end", wire.ProtoRouting, route(4, 0, 0, 1, 2), route(4, 0, 0, 1, 2), 0xaa},
		{"a route to a mobile node", wire.ProtoRouting, route(2, 2, 1, 1), route(2, 2, 0, 0xaa), 1},
		{"too many left", wire.ProtoRouting, route(4, 0, 3, 1, 2), nil, 0},
		{"another kind of route", wire.ProtoRouting, route(2, 1, 1, 1), nil, 0},
		{"a third kind of route", wire.ProtoRouting, route(2, 3, 1, 1), nil, 0},
		{"another kind of route at its end", wire.ProtoRouting, route(2, 3, 0, 1), route(2, 3, 0, 1), 0xaa},
		{"half an address", wire.ProtoRouting, route(3, 0, 1, 1), nil, 0},
	} {
		h := head(c.next, c.in...)
		switch ok := mask(h, false); {
		case ok != (c.want != nil):
			t.Errorf("%s: %v", c.name, ok)
		case ok && (!bytes.Equal(h[40:], c.want) || !bytes.Equal(h[24:40], addr(c.dst))):
			t.Errorf("%s: %x to %x, want %x to %x", c.name, h[40:], h[24:40], c.want, addr(c.dst))
		}
	}
}

// Seal refuses what is not an IP packet and what would become too long.
func TestSealRefuses(t *testing.T) {
	tr := transform(t, "sha256", false)
	long := func(n int, version byte) []byte {
		if version == 4 {
			return append(wire.IPv4{TTL: 9, Proto: 99, Src: src4, Dst: dst4}.Append(nil, n-20), make([]byte, n-20)...)
		}
		return append(wire.IPv6{HopLimit: 9, Next: 99, Src: src6, Dst: dst6}.Append(nil, n-40), make([]byte, n-40)...)
	}
	short := udp4("payload")
	short[0] = 0x44
	for _, c := range []struct {
		name string
		pkt  []byte
		ok   bool
	}{
		{"nothing", nil, false},
		{"a stump", udp4("payload")[:19], false},
		{"IPv6, a stump", ip6("payload")[:39], false},
		{"a header that is too short", short, false},
		{"another version", append([]byte{0x50}, udp4("payload that is longer than a header")[1:]...), false},
		{"options that are cut", ip6("payload", hopByHop)[:44], false},
		{"a longest head", ip6("payload", options6(wire.ProtoHopByHop, 472)), true},
		{"a longer head", ip6("payload", options6(wire.ProtoHopByHop, 480)), false},
		{"IPv4, the longest", long(65535-28, 4), true},
		{"IPv4, a byte more", long(65535-27, 4), false},
		{"IPv6, the longest", long(40+65535-32, 6), true},
		{"IPv6, a byte more", long(40+65535-31, 6), false},
	} {
		buf := append(make([]byte, tr.Front()), c.pkt...)
		if start, end := tr.Seal(buf, tr.Front(), len(c.pkt), 1, 17); (start != end) != c.ok {
			t.Errorf("%s: [%d:%d]", c.name, start, end)
		} else if c.ok {
			if _, _, _, err := tr.Open(buf[start:end], 1); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

// A packet of another SA, with another number, or whose AH has another length is not opened,
// whatever key it was made with.
func TestOpenAsks(t *testing.T) {
	a := suite.IntegByName("sha256")
	tr := transform(t, "sha256", false)
	other, err := New(Params{SPI: 0x1234abce, Integ: a, IntegKey: bytes.Repeat([]byte{0x5a}, a.KeyLen)})
	if err != nil {
		t.Fatal(err)
	}
	for name, pkt := range map[string][]byte{"IPv4": udp4("a payload that is longer than an AH"), "IPv6": ip6("a payload that is longer than an AH")} {
		pkt := sealed(t, tr, pkt, 7)
		for what, err := range map[string]error{
			"another SA":              second(other.Open(bytes.Clone(pkt), 7)),
			"another sequence number": second(tr.Open(bytes.Clone(pkt), 8)),
		} {
			if !errors.Is(err, ErrICV) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		at, _ := Find(pkt)
		for length := range 256 {
			bad := bytes.Clone(pkt)
			bad[at+1] = byte(length)
			size, want := (length+2)*4, ErrShort
			if size == 32 || size == 28 && name == "IPv4" {
				want = ErrICV
			}
			if byte(length) == pkt[at+1] {
				want = nil
			}
			if err := second(tr.Open(bad, 7)); !errors.Is(err, want) {
				t.Errorf("%s, an AH of %d bytes: %v, want %v", name, size, err, want)
			}
		}
		for n := at; n < at+32; n++ { // its own account ends within the AH
			bad := bytes.Clone(pkt)
			wire.SetTotal(bad, n)
			if err := second(tr.Open(bad, 7)); n < at+28 && !errors.Is(err, ErrShort) || err == nil {
				t.Errorf("%s of %d bytes: %v, want ErrShort", name, n, err)
			}
		}
	}
	for size, want := range map[int]int{0: -1, 31: -1, 32: 0, 33: 1} {
		if got := tr.MaxPayload(size); got != want {
			t.Errorf("MaxPayload(%d) is %d", size, got)
		}
	}
	if tr.Wipe(); tr.mac != nil {
		t.Error("Wipe leaves the key")
	}
}

func second(_, _ int, _ uint8, err error) error { return err }
