package datapath

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"testing"

	"culvert/crypto/suite"
	"culvert/esp"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd/selector"
)

// Whatever is wrong with a packet moves one counter by one, and nothing is forwarded:
// not to the network, not to the device, not past the policies.

// bad is an IP packet that is none, between 10.1.0.1 and 10.2.0.1 or fd01::1 and fd02::1.
type bad struct {
	name string
	pkt  []byte
}

func patched(pkt []byte, at int, to ...byte) []byte {
	pkt = bytes.Clone(pkt)
	copy(pkt[at:], to)
	return pkt
}

// v4 and v6 are packets with options or extension headers, of which no more is right
// than the lengths.
func v4(options ...byte) []byte {
	pkt := append(wire.IPv4{TTL: 9, Proto: wire.ProtoUDP, Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1")}.Append(nil, len(options)+12), options...)
	pkt[0] = 0x40 | byte(5+len(options)/4)
	pkt = append(pkt, 3, 232, 7, 208, 0, 12, 0, 0, 1, 2, 3, 4) // 1000 to 2000
	wire.FillIPv4Checksum(pkt)
	return pkt
}

func v6(next uint8, chain ...[]byte) []byte {
	all := bytes.Join(append(chain, []byte{3, 232, 7, 208, 0, 12, 0, 0, 1, 2, 3, 4}), nil)
	return append(wire.IPv6{HopLimit: 9, Next: next, Src: netip.MustParseAddr("fd01::1"), Dst: netip.MustParseAddr("fd02::1")}.Append(nil, len(all)), all...)
}

func piece4(offset, n int, more bool) []byte {
	h := wire.IPv4{TTL: 9, ID: 7, Proto: wire.ProtoUDP, FragOffset: offset, More: more, Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.2.0.1")}
	return append(h.Append(nil, n), bytes.Repeat([]byte{byte(offset)}, n)...)
}

func piece6(offset, n int, more bool) []byte {
	h := wire.IPv6{HopLimit: 9, Next: wire.ProtoFragment, Src: netip.MustParseAddr("fd01::1"), Dst: netip.MustParseAddr("fd02::1")}
	pkt := wire.AppendIPv6Fragment(h.Append(nil, n+8), wire.ProtoUDP, offset, more, 7)
	return append(pkt, bytes.Repeat([]byte{byte(offset)}, n)...)
}

// headers are all kinds of header that cannot be read.
func headers() []bad {
	udp4, udp6 := v4(), v6(wire.ProtoUDP)
	pad := []byte{wire.ProtoUDP, 0, 1, 4, 0, 0, 0, 0}
	to := func(next byte) []byte { return patched(pad, 0, next) }
	var nine [][]byte
	for range 8 {
		nine = append(nine, to(wire.ProtoDstOpts))
	}
	return []bad{
		{"nothing", nil},
		{"one byte", udp4[:1]},
		{"version 0", patched(udp4, 0, 0x05)},
		{"version 5", patched(udp4, 0, 0x55)},
		{"version 15", patched(udp4, 0, 0xf5)},
		{"IPv4 that says 6", patched(udp4, 0, 0x65)},
		{"IPv6 that says 4", patched(udp6, 0, 0x40)},
		{"IPv4 header cut", udp4[:19]},
		{"IPv6 header cut", udp6[:39]},
		{"header length 0", patched(udp4, 0, 0x40)},
		{"header length 16", patched(udp4, 0, 0x44)},
		{"header length beyond the packet", patched(udp4, 0, 0x4f)},
		{"total length 0", patched(udp4, 2, 0, 0)},
		{"total length below the header", patched(udp4, 2, 0, 19)},
		{"total length beyond the bytes", patched(udp4, 2, 0, byte(len(udp4)+1))},
		{"payload length beyond the bytes", patched(udp6, 4, 0, byte(len(udp6)-39))},
		{"packet cut", udp4[:len(udp4)-1]},
		{"IPv6 packet cut", udp6[:len(udp6)-1]},
		{"IPv4-mapped source", patched(udp6, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 1, 0, 1)},
		{"IPv4-mapped destination", patched(udp6, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 2, 0, 1)},
		{"jumbogram", patched(v6(0, []byte{17, 0, 0xc2, 4, 0, 1, 0, 0}), 4, 0, 0)},

		{"option of length 0", v4(7, 0, 0, 0)},
		{"option of length 1", v4(1, 7, 1, 0)},
		{"option without length", v4(1, 1, 1, 7)},
		{"option beyond the header", v4(1, 7, 4, 0)},
		{"second option beyond the header", v4(7, 3, 4, 68, 6, 0, 0, 0)},
		{"the longest header, last option beyond it", v4(append(bytes.Repeat([]byte{1}, 38), 131, 3)...)},

		{"hop-by-hop missing", patched(v6(0)[:40], 5, 0)},
		{"destination options missing", patched(v6(60)[:40], 5, 0)},
		{"hop-by-hop cut", patched(v6(0, pad)[:47], 5, 7)},
		{"hop-by-hop beyond the packet", v6(0, patched(pad, 1, 99))},
		{"hop-by-hop that is not first", v6(60, to(0), pad)},
		{"hop-by-hop twice", v6(0, to(0), pad)},
		{"hop-by-hop option beyond its header", v6(0, patched(pad, 2, 5, 5))},
		{"hop-by-hop option without length", v6(0, patched(pad, 2, 1, 3, 0, 0, 0, 5))},
		{"destination options beyond the packet", v6(60, patched(pad, 1, 99))},
		{"destination option beyond its header", v6(60, patched(pad, 2, 30, 5))},
		{"second destination options beyond", v6(60, to(60), patched(pad, 2, 30, 5))},
		{"routing header beyond the packet", v6(43, patched(pad, 1, 99))},
		{"routing header cut", patched(v6(43, pad)[:44], 5, 4)},
		{"nine extension headers", v6(60, append(nine, pad)...)},
		{"fragment header cut", patched(v6(44, pad)[:44], 5, 4)},
		{"fragment in a fragment", v6(44, wire.AppendIPv6Fragment(nil, 44, 0, true, 1), wire.AppendIPv6Fragment(nil, 17, 0, true, 1))},
		{"first fragment without the whole chain", patched(v6(44, wire.AppendIPv6Fragment(nil, 60, 0, true, 1))[:48], 5, 8)},
		{"first fragment, option beyond its header", v6(44, wire.AppendIPv6Fragment(nil, 60, 0, true, 1), patched(pad, 2, 30, 5))},

		{"fragment without data", piece4(8, 0, true)},
		{"last fragment without data", piece4(8, 0, false)},
		{"fragment of 9 bytes that others follow", piece4(8, 9, true)},
		{"fragment behind the longest packet", piece4(65528, 8, false)},
		{"IPv6 fragment without data", piece6(8, 0, true)},
		{"IPv6 fragment of 9 bytes that others follow", piece6(8, 9, true)},
		{"IPv6 fragment behind the longest packet", piece6(65528, 8, false)},
	}
}

// quiet checks that nothing was forwarded.
func (u *tunnel) quiet(t *testing.T, way *inClear) {
	t.Helper()
	if n := u.left.conn.n + u.right.conn.n + u.left.host.n + u.right.host.n + len(way.sent); n != 0 {
		t.Errorf("%d packets were forwarded", n)
	}
}

// malformedWays are the SAs that malformed packets meet.
var malformedWays = []struct {
	name  string
	setup func(u *tunnel)
}{
	{"tunnel", func(u *tunnel) { u.connect(1, 1, nil); u.connect(2, 2, nil) }},
	{"ports", withPorts},
	{"AH tunnel", func(u *tunnel) {
		ah := func(l, r *sad.Params) { asAH(l); asAH(r); l.UDP, r.UDP = false, false }
		u.connect(1, 1, ah)
		u.connect(2, 2, ah)
	}},
	{"transport", func(u *tunnel) { u.connect(1, 1, nil); betweenHosts(nil)(u) }},
	{"AH transport", func(u *tunnel) {
		u.connect(1, 1, nil)
		betweenHosts(func(l, r *sad.Params) { asAH(l); asAH(r) })(u)
	}},
}

// What a host sends.
func TestMalformedOut(t *testing.T) {
	for _, m := range malformedWays {
		u := newTunnel(t, ciphers[0])
		m.setup(u)
		way := &inClear{}
		u.left.path.cfg.Clear = way
		for _, b := range headers() {
			before := u.left.values()
			if r := u.left.path.SendPlain(start, b.pkt); r != OutErrors {
				t.Errorf("%s, %s: %v for %x", m.name, b.name, r, b.pkt)
			}
			u.left.moved(t, before, map[string]uint64{"out-errors": 1})
			if t.Failed() {
				t.Fatalf("%s, %s", m.name, b.name)
			}
		}
		u.quiet(t, way)
	}
}

// What a peer with an SA sends within a tunnel.
func TestMalformedInside(t *testing.T) {
	for _, ports := range []bool{false, true} {
		u := newTunnel(t, ciphers[0])
		if ports {
			withPorts(u)
		} else {
			u.connect(1, 1, nil)
		}
		way := &inClear{}
		u.right.path.cfg.Clear = way
		for _, b := range headers() {
			next := byte(4)
			if len(b.pkt) > 0 && b.pkt[0]>>4 == 6 {
				next = 41
			}
			before := u.right.values()
			if r := receive(b.pkt, next)(u); r != InHeaderErrors {
				t.Errorf("%s: %v for %x", b.name, r, b.pkt)
			}
			u.right.moved(t, before, map[string]uint64{"in-header-errors": 1})
			if t.Failed() {
				t.Fatal(b.name)
			}
		}
		u.quiet(t, way)
	}
}

// The same behind a transport mode SA over IPv6, where the peer sends the chain of
// extension headers.
func TestMalformedBehind(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(2, 2, func(l, r *sad.Params) {
		l.Tunnel, r.Tunnel, l.UDP, r.UDP = false, false, false, false
		l.Local, l.Remote = netip.MustParseAddrPort("[fd01::1]:0"), netip.MustParseAddrPort("[fd02::1]:0")
		r.Local, r.Remote = l.Remote, l.Local
		l.Pairs = []selector.Pair{pair("fd01::1/128", "fd02::1/128")}
		r.Pairs = []selector.Pair{l.Pairs[0].Reverse()}
	})
	seen := 0
	for _, b := range headers() {
		if len(b.pkt) < 40 || b.pkt[0]>>4 != 6 || b.pkt[6] == wire.ProtoUDP || b.name == "jumbogram" {
			continue
		}
		seen++
		out := u.left.sads.Child(2).Outbound()
		seq, _ := out.Reserve(1)
		buf := append(make([]byte, 64), append(bytes.Clone(b.pkt[40:]), make([]byte, 128)...)...)
		from, to := out.Transform().Seal(buf, 64, len(b.pkt)-40, seq, b.pkt[6])
		before := u.right.values()
		if r := u.right.path.Receive(start, datagram(buf[from:to])); r != InHeaderErrors {
			t.Errorf("%s: %v for %x", b.name, r, b.pkt)
		}
		u.right.moved(t, before, map[string]uint64{"in-header-errors": 1})
	}
	if seen < 15 {
		t.Errorf("only %d chains", seen)
	}
	u.quiet(t, &inClear{})
}

// Pieces of one packet that do not fit together: all of them count in one counter,
// and what still comes of the packet does, too.
func TestMalformedFragments(t *testing.T) {
	type piece struct {
		offset, n int
		more      bool
	}
	for name, pieces := range map[string][]piece{
		"the second begins within the first":   {{0, 16, true}, {8, 16, true}},
		"the second ends within the first":     {{16, 16, true}, {8, 16, true}},
		"the second lies within the first":     {{0, 64, true}, {16, 16, true}},
		"the first lies within the second":     {{16, 16, true}, {0, 64, true}},
		"the same place, shorter":              {{16, 16, true}, {16, 8, true}},
		"the same place, longer":               {{16, 16, true}, {16, 24, true}},
		"over the hole between two":            {{0, 16, true}, {32, 16, true}, {8, 32, true}},
		"two ends":                             {{64, 8, false}, {32, 8, false}},
		"the same place, the end and not":      {{64, 8, false}, {64, 8, true}},
		"behind the end":                       {{64, 8, false}, {72, 8, true}},
		"an end before what is there":          {{64, 8, true}, {32, 8, false}},
		"no data":                              {{0, 16, true}, {16, 0, true}},
		"no whole units":                       {{0, 16, true}, {16, 9, true}},
		"behind the longest packet":            {{0, 16, true}, {65528, 8, false}},
		"overlapping, and then one that fits":  {{0, 16, true}, {8, 16, true}, {24, 8, false}},
		"overlapping, and the first once more": {{0, 16, true}, {8, 16, true}, {0, 16, true}},
		"overlapping, and all that is missing": {{0, 16, true}, {8, 16, true}, {0, 16, true}, {16, 8, false}},
	} {
		for family, make := range map[string]func(int, int, bool) []byte{"IPv4": piece4, "IPv6": piece6} {
			u := newTunnel(t, ciphers[0])
			withPorts(u)
			way := &inClear{}
			u.left.path.cfg.Clear, u.right.path.cfg.Clear = way, way
			before := [2]map[string]uint64{u.left.values(), u.right.values()}
			for _, p := range pieces {
				pkt := make(p.offset, p.n, p.more)
				u.left.path.SendPlain(start, pkt)
				id, next := uint64(1), byte(4)
				if family == "IPv6" {
					id, next = 2, 41
				}
				out := u.left.sads.Child(id).Outbound()
				seq, _ := out.Reserve(1)
				buf := append(append(append([]byte(nil), zeros[:64]...), pkt...), zeros[:128]...)
				from, to := out.Transform().Seal(buf, 64, len(pkt), seq, next)
				u.right.path.Receive(start, datagram(buf[from:to]))
			}
			n := uint64(len(pieces))
			u.left.moved(t, before[0], map[string]uint64{"out-errors": n})
			u.right.moved(t, before[1], map[string]uint64{"in-header-errors": n})
			u.quiet(t, way)
			if t.Failed() {
				t.Fatal(family, name)
			}
		}
	}
}

var zeros [128]byte

// handmade is an ESP packet of the right's SA whose trailer was made by hand.
type handmade struct {
	u   *tunnel
	key []byte
	seq uint32
}

func newHandmade(t *testing.T, tunnelMode bool) *handmade {
	sha, null := suite.IntegByName("sha256"), suite.EncrByName("null")
	u := newTunnel(t, cipherCase{"null", null, sha})
	h := &handmade{u: u, key: bytes.Repeat([]byte{3}, sha.KeyLen)} // fill+1 of what comes in on the right
	if tunnelMode {
		u.connect(1, 1, func(l, r *sad.Params) { l.Out.ESN, r.In.ESN = false, false })
	} else {
		u.connect(1, 1, nil)
		betweenHosts(func(l, r *sad.Params) { l.Out.ESN, r.In.ESN = false, false })(u)
	}
	return h
}

// seal puts header and ICV around payload, padding, pad length and next header.
func (h *handmade) seal(body []byte) []byte {
	h.seq++
	pkt := binary.BigEndian.AppendUint32(nil, h.u.right.sads.Child(1).Inbound().SPI())
	pkt = append(binary.BigEndian.AppendUint32(pkt, h.seq), body...)
	mac := hmac.New(sha256.New, h.key)
	mac.Write(pkt)
	return append(pkt, mac.Sum(nil)[:16]...)
}

// Every kind of padding that is wrong, by a peer that has the key; and the right one.
func TestMalformedPadding(t *testing.T) {
	h := newHandmade(t, true)
	good := udp("10.1.0.1", "10.2.0.1", 100) // 128 bytes
	arrive := func(name string, body []byte, want Reason, counters map[string]uint64) {
		t.Helper()
		before := h.u.right.values()
		if r := h.u.right.path.Receive(start, datagram(h.seal(body))); r != want {
			t.Errorf("%s: %v, want %v", name, r, want)
		}
		h.u.right.moved(t, before, counters)
	}
	with := func(trailer ...byte) []byte { return append(bytes.Clone(good), trailer...) }
	arrive("right", with(1, 2, 2, 4), Passed, map[string]uint64{"rx-packets": 1, "rx-bytes": 128})
	if got := h.u.right.host.take(); len(got) != 1 || !bytes.Equal(got[0], good) {
		t.Fatal("the right one did not arrive: the others show nothing")
	}
	wrong := map[string]uint64{"in-state-protocol-errors": 1}
	for name, body := range map[string][]byte{
		"zeros":                     with(0, 0, 2, 4),
		"from 0":                    with(0, 1, 2, 4),
		"backwards":                 with(2, 1, 2, 4),
		"the last one is wrong":     with(1, 2, 3, 4, 5, 7, 6, 4),
		"longer than the packet":    with(1, 2, 255, 4),
		"longer by one":             {1, 2, 3, 4},
		"nothing but a trailer":     {0, 0, 255, 4},
		"as long as all, and wrong": append(bytes.Repeat([]byte{7}, 254), 254, 4),
	} {
		arrive(name, body, InStateProtocolErrors, wrong)
	}
	// No whole blocks, or not even one: the length is wrong before anything is opened.
	for _, n := range []int{0, 1, 2, 3, 5, 6, 7, 129, 130, 131} {
		arrive("length", make([]byte, n), InHeaderErrors, map[string]uint64{"in-header-errors": 1})
	}
	h.u.quiet(t, &inClear{})
}

// Every next header: a tunnel takes IP and dummies and nothing else; transport mode
// takes whatever its selectors cover, which is all here.
func TestEveryNextHeader(t *testing.T) {
	for next := range 256 {
		h := newHandmade(t, true)
		good, want, counters := udp("10.1.0.1", "10.2.0.1", 100), InStateModeErrors, map[string]uint64{"in-state-mode-errors": 1}
		switch next {
		case wire.ProtoIPv4:
			want, counters = Passed, map[string]uint64{"rx-packets": 1, "rx-bytes": 128}
		case wire.ProtoIPv6:
			want, counters = InHeaderErrors, map[string]uint64{"in-header-errors": 1}
		case wire.ProtoNoNext:
			want, counters = Passed, map[string]uint64{"rx-dummies": 1}
		}
		before := h.u.right.values()
		if r := h.u.right.path.Receive(start, datagram(h.seal(append(good, 1, 2, 2, byte(next))))); r != want {
			t.Errorf("tunnel, %d: %v, want %v", next, r, want)
		}
		h.u.right.moved(t, before, counters)
		if next != wire.ProtoIPv4 {
			h.u.quiet(t, &inClear{})
		}

		h = newHandmade(t, false)
		payload := []byte{3, 232, 7, 208, 0, 12, 0, 0, 1, 2, 3, 4}
		counters = map[string]uint64{"rx-packets": 1, "rx-bytes": 32}
		if next == wire.ProtoNoNext {
			counters = map[string]uint64{"rx-dummies": 1}
		}
		before = h.u.right.values()
		if r := h.u.right.path.Receive(start, datagram(h.seal(append(payload, 1, 2, 2, byte(next))))); r != Passed {
			t.Errorf("transport, %d: %v", next, r)
		}
		h.u.right.moved(t, before, counters)
		if got := h.u.right.host.n; got != int(counters["rx-packets"]) {
			t.Errorf("transport, %d: %d delivered", next, got)
		}
	}
}

// What comes without an SA, as the sockets hand it up: too short, no AH where one should
// be, AHs of every length, options that cannot be masked.
func TestMalformedBelow(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	u.connect(1, 1, nil)
	betweenHosts(func(l, r *sad.Params) { asAH(l); asAH(r) })(u)
	spi := binary.BigEndian.AppendUint32(nil, u.right.sads.Child(1).Inbound().SPI())
	arrive := func(name string, kind underlay.Kind, data []byte, want Reason) {
		t.Helper()
		p := datagram(data)
		p.Kind, p.NATT, p.Header = kind, false, kind == underlay.AH
		before := u.right.values()
		if r := u.right.path.Receive(start, p); r != want {
			t.Errorf("%s: %v, want %v", name, r, want)
		}
		u.right.moved(t, before, map[string]uint64{want.String(): 1})
	}
	for n := range esp.HeaderLen {
		arrive("short ESP", underlay.ESP, make([]byte, n), InHeaderErrors)
	}
	for n := range 8 {
		arrive("runt", underlay.Runt, make([]byte, n), InErrors)
	}
	// AH, whole and right but for its number, is judged by its ICV at last.
	sound := func(options []byte, length byte) []byte {
		front := v4(options...)[:20+len(options)]
		pkt := append(front, append(append([]byte{17, length, 0, 0}, spi...), 0, 0, 0, 1)...)
		pkt = append(pkt, make([]byte, 16+20)...)
		pkt[9] = wire.ProtoAH
		wire.SetTotal(pkt, len(pkt))
		return pkt
	}
	right := byte(5) // (12 + 16) / 4 - 2
	arrive("AH with a wrong ICV", underlay.AH, sound(nil, right), InStateProtocolErrors)
	for length := range 256 {
		switch byte(length) {
		case right, 6: // rounded up to 8 bytes
			arrive("AH that may be as long", underlay.AH, sound(nil, byte(length)), InStateProtocolErrors)
		default:
			arrive("AH of a wrong length", underlay.AH, sound(nil, byte(length)), InHeaderErrors)
		}
	}
	whole := sound(nil, right)
	for n := range whole {
		arrive("AH cut", underlay.AH, whole[:n], InHeaderErrors)
	}
	for name, options := range map[string][]byte{
		"length 0": {7, 0, 0, 0}, "length 1": {1, 7, 1, 0}, "no length": {1, 1, 1, 7}, "beyond the header": {1, 7, 4, 0},
	} {
		arrive("AH behind an option: "+name, underlay.AH, sound(options, right), InHeaderErrors)
	}
	for name, pkt := range map[string][]byte{
		"no AH":              patched(whole, 9, wire.ProtoUDP),
		"a fragment":         patched(whole, 6, 0x20),
		"another fragment":   patched(whole, 7, 1),
		"no IP version":      patched(whole, 0, 0x05),
		"header length 0":    patched(whole, 0, 0x40),
		"header beyond":      patched(whole, 0, 0x4f),
		"total length small": patched(whole, 2, 0, 21),
		"total length large": patched(whole, 2, 255, 255),
		"IPv6 without AH":    v6(wire.ProtoUDP),
		"IPv6, chain cut":    v6(wire.ProtoDstOpts, []byte{wire.ProtoAH, 99, 0, 0, 0, 0, 0, 0}),
	} {
		arrive(name, underlay.AH, pkt, InHeaderErrors)
	}
	arrive("AH for an SA of ESP, and of none", underlay.AH, patched(whole, 24, 0x77, 0x77, 0x77, 0x77), InNoStates)
	arrive("ESP for an SA of AH", underlay.ESP, append(bytes.Clone(spi), make([]byte, 60)...), InNoStates)
	u.quiet(t, &inClear{})
}
