package datapath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/crypto/suite"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd/selector"
	"culvert/tun"
)

func up(n, to int) int { return (n + to - 1) / to * to }

// outer is how long the packet on the wire gets for an inner one of n bytes, by
// the letter of RFC 4303 §2 and RFC 4302 §2.
func (s shape) outer(n int) int {
	encr, integ := s.algorithms()
	head, ahUnit, inner := 20, 4, 20
	if s.outer6 {
		head, ahUnit = 40, 8
	}
	if s.inner6 {
		inner = 40
	}
	icv := integ.ICVLen
	if s.protocol == sad.ProtocolAH {
		if s.tunnel {
			n += head
		}
		return n + up(12+icv, ahUnit)
	}
	if encr.AEAD() {
		icv = encr.ICVLen
	}
	if !s.tunnel {
		n -= inner
	}
	n = head + 8 + encr.IVLen + up(n+2, max(4, encr.Block)) + icv
	if s.udp {
		n += 8
	}
	if s.bundle {
		n += up(12+16, ahUnit) // the AH SA's is sha256
	}
	return n
}

// fits is the longest inner packet for an MTU.
func (s shape) fits(mtu int) int {
	n := mtu
	for s.outer(n) > mtu {
		n--
	}
	return n
}

// sized are the shapes with every combination of algorithms that gives another size.
func sized() (list []shape) {
	type size struct{ iv, block, icv int }
	for _, s := range shapes() {
		seen := map[size]bool{}
		for i := range suite.Encrs {
			for j := range suite.Integs {
				s := s
				s.encr, s.integ = &suite.Encrs[i], &suite.Integs[j]
				key := size{s.encr.IVLen, s.encr.Block, s.integ.ICVLen}
				if s.protocol == sad.ProtocolAH {
					key = size{icv: s.integ.ICVLen}
				} else if s.encr.AEAD() {
					key.icv = s.encr.ICVLen
				}
				if !seen[key] {
					seen[key] = true
					list = append(list, s)
				}
			}
		}
	}
	return list
}

// sized is a whole packet of n bytes between the inner ends.
func (s shape) packet(n int, df bool) []byte {
	head := wire.AppendedIPLen(s.leftIn)
	pkt := wire.AppendUDPPacket(nil, netip.AddrPortFrom(s.leftIn, 1000), netip.AddrPortFrom(s.rightIn, 2000), make([]byte, n-head-8))
	if !s.inner6 && !df {
		pkt[6] &^= 0x40
		pkt[4], pkt[5] = 0x12, 0x34
		wire.FillIPv4Checksum(pkt)
	}
	return pkt
}

func (g *gateway) setLink(mtu int) { g.sads.Child(1).Path().SetLink(mtu) }

// onWire is how long the last packet was on the wire.
func (s shape) onWire(g *gateway) int {
	n := len(g.conn.sent[g.conn.n-1])
	if !g.conn.last.Header {
		n += wire.AppendedIPLen(s.left.Addr())
	}
	if g.conn.last.NATT {
		n += wire.UDPHeaderLen
	}
	return n
}

// told checks the message that a sender got about pkt: what fits.
func told(t *testing.T, g *gateway, pkt []byte, mtu int) {
	t.Helper()
	list := g.host.take()
	if len(list) != 1 {
		t.Fatalf("the sender got %d messages", len(list))
	}
	var was, f wire.Flow
	wire.ParseFlow(pkt, &was)
	info, ok := wire.ParseFlow(list[0], &f)
	if !ok || info.Total != len(list[0]) || f.Src != was.Dst || f.Dst != was.Src || !wire.VerifyChecksum(list[0], info) || !wire.VerifyIPv4Checksum(list[0]) {
		t.Fatalf("%x is no message to the sender of %x", list[0], pkt[:40])
	}
	kind, rest := [2]byte(list[0][info.Payload:]), int(binary.BigEndian.Uint32(list[0][info.Payload+4:]))
	want, most := [2]byte{3, 4}, 576
	if info.Version == 6 {
		want, most = [2]byte{2, 0}, 1280
	}
	body := list[0][info.Payload+8:]
	if kind != want || rest != mtu || len(list[0]) != min(most, info.Payload+8+len(pkt)) || !bytes.Equal(body, pkt[:len(body)]) {
		t.Fatalf("told %v %d in %d bytes, want %v %d", kind, rest, len(list[0]), want, mtu)
	}
}

// The longest packet that fits goes whole, with DF; of one byte more the sender is
// told how many fit. Every mode, every algorithm, several paths.
func TestLongestPacket(t *testing.T) {
	for _, s := range sized() {
		encr, integ := s.algorithms()
		name := fmt.Sprintf("%v %s %s", s, encr.Name, integ.Name)
		left, _ := s.connect(t)
		now := start
		for _, mtu := range []int{1500, 1499, 1492, 1486, 1400, 1337, 9000, 1281, 1280, 576} {
			if s.outer6 && mtu < 1280 {
				continue
			}
			left.setLink(mtu)
			n := s.fits(mtu)
			if s.inner6 && n < 1280 {
				continue // TestShortIPv6
			}
			left.conn.n = 0
			now = now.Add(time.Second)
			before := left.values()
			if r := left.path.SendPlain(now, s.packet(n, true)); r != Passed || !left.conn.last.Whole || s.onWire(left) > mtu || s.onWire(left) != s.outer(n) {
				t.Fatalf("%s: MTU %d: %d bytes: %v, %d bytes on the wire, whole %v", name, mtu, n, r, s.onWire(left), left.conn.last.Whole)
			}
			pkt := s.packet(n+1, true)
			if r := left.path.SendPlain(now, pkt); r != OutTooBig || left.conn.n != 1 {
				t.Fatalf("%s: MTU %d: %d bytes: %v, %d packets left", name, mtu, n+1, r, left.conn.n)
			}
			told(t, left, pkt, n)
			left.moved(t, before, map[string]uint64{"tx-packets": 1, "tx-bytes": uint64(n), "out-too-big": 1, "tx-icmp-too-big": 1})
		}
	}
}

// IPv6 takes 1280 bytes everywhere: where a tunnel does not, outer packets are cut.
func TestShortIPv6(t *testing.T) {
	for _, s := range shapes() {
		if !s.inner6 {
			continue
		}
		left, right := s.connect(t)
		left.setLink(1280)
		before := left.values()
		pkt := s.packet(1280, true)
		if r := left.path.SendPlain(start, pkt); r != Passed {
			t.Fatal(s, r)
		}
		want := map[string]uint64{"tx-packets": 1, "tx-bytes": 1280, "tx-outer-fragmented": 1}
		if s.ah() || !s.tunnel && !s.udp {
			want["tx-packets"] = 2
		}
		left.moved(t, before, want)
		if left.conn.last.Header != (want["tx-packets"] == 2) || !left.conn.last.Header && left.conn.last.Whole {
			t.Errorf("%v: whole", s)
		}
		if got := s.arriving(t, left, right); len(got) != 1 || !bytes.Equal(got[0], pkt) {
			t.Errorf("%v: %d packets arrived, or another one", s, len(got))
		}
		pkt = s.packet(1281, true)
		if r := left.path.SendPlain(start, pkt); r != OutTooBig {
			t.Fatal(s, r)
		}
		told(t, left, pkt, 1280)
	}
}

// arriving hands the right all that the left sent, put together as the system
// does, and returns what its host got.
func (s shape) arriving(t *testing.T, left, right *gateway) [][]byte {
	t.Helper()
	last, list := left.conn.last, left.conn.take()
	if last.Header {
		list = [][]byte{assemble(t, list)}
	}
	for _, data := range list {
		if last.Header && last.Kind == underlay.ESP {
			data = data[wire.AppendedIPLen(s.left.Addr()):]
		}
		p := datagram(data)
		p.Kind, p.NATT, p.Local, p.Remote = last.Kind, last.NATT, s.right, s.left
		if r := right.path.Receive(start, p); r != Passed {
			t.Fatalf("%v: %v", s, r)
		}
	}
	return right.host.take()
}

// assemble joins fragments of one packet that come in order; a whole packet stays.
func assemble(t *testing.T, list [][]byte) []byte {
	t.Helper()
	var whole []byte
	for i, pkt := range list {
		var f wire.Flow
		info, ok := wire.ParseFlow(pkt, &f)
		front, at, _, _ := wire.PathHeaders(pkt)
		if !ok || info.Total != len(pkt) || !wire.VerifyIPv4Checksum(pkt) || info.More != (i < len(list)-1) || i > 0 && info.FragOffset != len(whole)-front ||
			info.Version == 4 && pkt[6]&0x40 != 0 && len(list) > 1 {
			t.Fatalf("%d of %d: %+v", i, len(list), info)
		}
		if len(list) == 1 {
			return pkt
		}
		if i == 0 {
			whole = bytes.Clone(pkt[:front])
			if info.Version == 6 {
				whole[at] = info.Proto
			} else {
				whole[6], whole[7] = 0, 0
			}
		}
		whole = append(whole, pkt[info.Payload:]...)
	}
	wire.SetTotal(whole, len(whole))
	return whole
}

// IPv4 without DF in tunnel mode leaves in fragments that fit, each sealed, and no
// more than needed; the other side gets them, and they make the packet.
func TestSplit(t *testing.T) {
	for _, s := range tunnels() {
		if s.inner6 {
			continue
		}
		for _, mtu := range []int{1500, 1281, 1280, 576} {
			if s.outer6 && mtu < 1280 {
				continue
			}
			left, right := s.connect(t)
			left.setLink(mtu)
			room := s.fits(mtu)
			for _, n := range []int{room, room + 1, 2*((room-20)&^7) + 20, 2*((room-20)&^7) + 21, 3000, 65000} {
				before := left.values()
				pkt := s.packet(n, false)
				if r := left.path.SendPlain(start, pkt); r != Passed {
					t.Fatalf("%v: MTU %d, %d bytes: %v", s, mtu, n, r)
				}
				count, bytesSent := 1, n
				want := map[string]uint64{}
				if n > room {
					count = up(n-20, (room-20)&^7) / ((room - 20) &^ 7)
					bytesSent = n + 20*(count-1)
					want["tx-split"] = 1
				}
				want["tx-packets"], want["tx-bytes"] = uint64(count), uint64(bytesSent)
				left.moved(t, before, want)
				if left.conn.last.Whole || s.onWire(left) > mtu {
					t.Fatalf("%v: MTU %d, %d bytes: %d on the wire", s, mtu, n, s.onWire(left))
				}
				last := left.conn.last
				for _, data := range left.conn.take() {
					p := datagram(data)
					p.Kind, p.NATT, p.Local, p.Remote = last.Kind, last.NATT, s.right, s.left
					if r := right.path.Receive(start, p); r != Passed {
						t.Fatalf("%v: %v", s, r)
					}
				}
				if got := assemble(t, right.host.take()); !bytes.Equal(got[20:], pkt[20:]) || !bytes.Equal(got[12:20], pkt[12:20]) {
					t.Fatalf("%v: MTU %d, %d bytes: another packet arrived", s, mtu, n)
				}
			}
		}
	}
}

// A fragment is split further: its place is that of the whole, and only the last
// one of the last says that no more follow. Options go along that have to.
func TestSplitFragmentsAndOptions(t *testing.T) {
	s := tunnels()[0]
	left, right := s.connect(t)
	left.setLink(576)
	var pieces [][]byte
	whole := bytes.Repeat([]byte("0123456789"), 200)
	// A source route that is copied, a time stamp that is not, an end.
	options := []byte{1, 0x83, 7, 4, 9, 9, 9, 9, 68, 4, 5, 0x10, 0, 0, 0, 0}
	for at := 0; at < len(whole); at += 1000 {
		h := wire.IPv4{ID: 77, More: at+1000 < len(whole), FragOffset: at, TTL: 9, Proto: 99, Src: s.leftIn, Dst: s.rightIn}.Append(nil, 1000)
		pkt := append(append(h, options...), whole[at:at+1000]...)
		pkt[0] = 0x49
		wire.SetTotal(pkt, len(pkt))
		left.path.cfg.SAs.Child(1).Path().SetLink(576)
		if r := left.path.SendPlain(start, pkt); r != Passed {
			t.Fatal(r)
		}
		for _, data := range left.conn.take() {
			p := datagram(data)
			p.Kind, p.NATT = left.conn.last.Kind, left.conn.last.NATT
			if r := right.path.Receive(start, p); r != Passed {
				t.Fatal(r)
			}
		}
		pieces = append(pieces, right.host.take()...)
	}
	var got []byte
	for i, pkt := range pieces {
		var f wire.Flow
		info, ok := wire.ParseFlow(pkt, &f)
		if !ok || info.FragOffset != len(got) || info.More != (i < len(pieces)-1) || pkt[5] != 77 || pkt[8] != 9 || !wire.VerifyIPv4Checksum(pkt) {
			t.Errorf("%d of %d: %+v", i, len(pieces), info)
		}
		want := []byte{0x83, 7, 4, 9, 9, 9, 9, 0}
		if info.FragOffset == 0 {
			want = options
		}
		if opts := pkt[20:info.Payload]; !bytes.Equal(opts, want) {
			t.Errorf("%d: options %x", i, opts)
		}
		got = append(got, pkt[info.Payload:]...)
	}
	if len(pieces) < 5 || !bytes.Equal(got, whole) {
		t.Errorf("%d pieces make %d bytes", len(pieces), len(got))
	}
}

// Where the selectors name ports, fragments have no place in the SA, and outer
// packets are cut: by the system, or here.
func TestPortsKeepPacketsWhole(t *testing.T) {
	for _, s := range tunnels() {
		if s.inner6 {
			continue
		}
		left, right := s.connectTo(t, func(p *sad.Params) { p.Pairs = namedPorts(p.Pairs) })
		left.setLink(1280)
		pkt := s.packet(3000, false)
		before := left.values()
		if r := left.path.SendPlain(start, pkt); r != Passed {
			t.Fatal(s, r)
		}
		want := map[string]uint64{"tx-packets": 1, "tx-bytes": 3000, "tx-outer-fragmented": 1}
		if s.ah() {
			want["tx-packets"] = 3
		}
		left.moved(t, before, want)
		if got := s.arriving(t, left, right); len(got) != 1 || !bytes.Equal(got[0], pkt) {
			t.Errorf("%v: %d packets arrived, or another one", s, len(got))
		}
	}
}

// df: what the outer header gets, and what too long a packet with DF becomes.
func TestDF(t *testing.T) {
	for _, s := range shapes() {
		for _, c := range []struct {
			df    DF
			inner bool
			whole bool
			long  Reason
		}{
			{CopyDF, true, true, OutTooBig}, {CopyDF, false, false, Passed},
			{SetDF, true, true, OutTooBig}, {SetDF, false, true, Passed},
			{ClearDF, true, false, Passed}, {ClearDF, false, false, Passed},
		} {
			if s.inner6 && !c.inner {
				continue
			}
			left, _ := s.connect(t)
			left.setLink(1500)
			left.path.cfg.DF = c.df
			if r := left.path.SendPlain(start, s.packet(600, c.inner)); r != Passed {
				t.Fatal(r)
			}
			own := !s.tunnel && (s.ah() || !s.udp)
			whole := c.whole
			if own { // the header says it
				whole = c.inner
			}
			got := left.conn.last.Whole
			if pkt := left.conn.sent[0]; left.conn.last.Header && pkt[0]>>4 == 4 {
				got = pkt[6]&0x40 != 0
			} else if left.conn.last.Header {
				got = whole
			}
			if got != whole {
				t.Errorf("%v: df %d, inner %v: outer %v", s, c.df, c.inner, got)
			}
			long := c.long
			if own && c.inner {
				long = OutTooBig
			}
			if r := left.path.SendPlain(start, s.packet(1600, c.inner)); r != long {
				t.Errorf("%v: df %d, inner %v: %v", s, c.df, c.inner, r)
			}
		}
	}
}

// Who is not to be told is not told.
func TestNoAnswer(t *testing.T) {
	any4, any6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	icmp := func(src, dst string, kind uint8) []byte {
		return wire.AppendICMPPacket(nil, wire.ICMP{Type: kind}, netip.MustParseAddr(src), netip.MustParseAddr(dst), make([]byte, 1600))
	}
	fragment := func(offset int) []byte {
		pkt := icmp("10.1.0.1", "10.2.0.1", 8)
		pkt[7] = byte(offset / 8)
		wire.FillIPv4Checksum(pkt)
		return pkt
	}
	for _, c := range []struct {
		name string
		pkt  []byte
		told bool
	}{
		{"an echo", icmp("10.1.0.1", "10.2.0.1", 8), true},
		{"a first fragment", fragment(0), true},
		{"a later fragment", fragment(800), false},
		{"an error", icmp("10.1.0.1", "10.2.0.1", 3), false},
		{"time exceeded", icmp("10.1.0.1", "10.2.0.1", 11), false},
		{"to a group", icmp("10.1.0.1", "224.0.0.251", 8), false},
		{"to all", icmp("10.1.0.1", "255.255.255.255", 8), false},
		{"from nobody", icmp("0.0.0.0", "10.2.0.1", 8), false},
		{"from a group", icmp("224.0.0.1", "10.2.0.1", 8), false},
		{"from loopback", icmp("127.0.0.1", "10.2.0.1", 8), false},
		{"from class E", icmp("240.0.0.1", "10.2.0.1", 8), false},
		{"an echo, IPv6", icmp("fd01::1", "fd02::1", 128), true},
		{"an error, IPv6", icmp("fd01::1", "fd02::1", 1), false},
		{"too big, IPv6", icmp("fd01::1", "fd02::1", 2), false},
		{"to a group, IPv6", icmp("fd01::1", "ff02::1", 128), false},
		{"from nobody, IPv6", icmp("::", "fd02::1", 128), false},
	} {
		s := tunnels()[0]
		left, _ := s.connectTo(t, func(p *sad.Params) {
			p.Pairs = []selector.Pair{{Local: selector.FromPrefix(any4), Remote: selector.FromPrefix(any4)},
				{Local: selector.FromPrefix(any6), Remote: selector.FromPrefix(any6)}}
		})
		pols := left.pols.Policies()
		wide := append(pols[:1:1], pols[0])
		wide[0].Pair = selector.Pair{Local: selector.FromPrefix(any4), Remote: selector.FromPrefix(any4)}
		wide[1].Pair = selector.Pair{Local: selector.FromPrefix(any6), Remote: selector.FromPrefix(any6)}
		left.pols.Replace(wide)
		left.setLink(1500)
		if r := left.path.SendPlain(start, c.pkt); r != OutTooBig {
			t.Errorf("%s: %v", c.name, r)
		}
		if n := len(left.host.take()); n == 1 != c.told {
			t.Errorf("%s: %d messages", c.name, n)
		}
	}
}

// Messages are few however many packets are too long, and every packet is counted.
func TestAnswersAreLimited(t *testing.T) {
	s := tunnels()[0]
	left, _ := s.connect(t)
	left.setLink(1500)
	pkt := s.packet(1600, true)
	for range 500 {
		left.path.SendPlain(start, pkt)
	}
	left.path.SendPlain(start.Add(time.Second/answersPerSecond), pkt)
	left.moved(t, nil, map[string]uint64{"out-too-big": 501, "tx-icmp-too-big": answersBurst + 1})
	for range 500 {
		left.path.SendPlain(start.Add(time.Hour), pkt)
	}
	left.moved(t, nil, map[string]uint64{"out-too-big": 1001, "tx-icmp-too-big": 2*answersBurst + 1})
}

// What is cut and told takes no memory once a batch like it was there.
func TestSizesDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops items on purpose; run without -race")
	}
	for _, s := range shapes() {
		left, _ := s.connect(t)
		left.log.quiet = true
		left.setLink(1300)
		for _, pkt := range [][]byte{s.packet(3000, false), s.packet(3000, true), s.packet(1280, true), s.packet(100, true)} {
			if n := testing.AllocsPerRun(100, func() {
				left.conn.n, left.host.n = 0, 0
				left.path.SendPlain(start, pkt)
			}); n != 0 {
				t.Errorf("%v: %d bytes: %v allocations", s, len(pkt), n)
			}
		}
	}
}

// namedPorts are pairs for the ports of shape.packet alone.
func namedPorts(pairs []selector.Pair) []selector.Pair {
	p := pairs[0]
	for _, ts := range []*selector.TS{&p.Local, &p.Remote} {
		ts.Proto, ts.PortLo, ts.PortHi = wire.ProtoUDP, 1000, 2000
	}
	return []selector.Pair{p}
}

// Memory of what is cut is taken chunk by chunk up to a bound, and anew after each batch.
func TestSpare(t *testing.T) {
	var s spare
	for round := range 2 {
		s.reset()
		total := 0
		var last []byte
		for {
			b := s.take(100000)
			if b == nil {
				break
			}
			if len(b) != 100000 || cap(b) != 100000 {
				t.Fatalf("%d bytes, room for %d", len(b), cap(b))
			}
			if b[0] = 1; last != nil && &last[len(last)-1] == &b[0] {
				t.Fatal("two have the same memory")
			}
			for i := range b {
				b[i] = byte(total)
			}
			if last != nil && last[len(last)-1] != byte(total-1) {
				t.Fatal("one is written over by the next")
			}
			last = b
			total++
		}
		if want := spareChunks * (spareChunk / 100000); total != want || len(s.chunks) != spareChunks {
			t.Errorf("round %d: %d of 100000 bytes in %d chunks, want %d", round, total, len(s.chunks), want)
		}
		if s.take(spareChunk) != nil {
			t.Error("more than the bound")
		}
	}
	s.reset()
	if a, b := s.take(spareChunk), s.take(1); len(a) != spareChunk || &a[0] != &s.chunks[0][0] || &b[0] != &s.chunks[1][0] {
		t.Error("a whole chunk is not the first, or what follows is not in the second")
	}
}

// The device's MTU counts as far as it is one.
func TestDeviceMTU(t *testing.T) {
	for mtu, want := range map[int]int32{0: maxPacket, 1: 1, 1500: 1500, maxPacket: maxPacket, maxPacket + 1: maxPacket} {
		d := tun.NewMemory("x", mtu)
		p := New(Config{Device: d, Seed: 7})
		if got := p.device.Load(); got != want {
			t.Errorf("a device of %d: %d", mtu, got)
		}
		d.SetMTU(1400)
		if p.DeviceChanged(); p.device.Load() != 1400 {
			t.Errorf("changed to 1400: %d", p.device.Load())
		}
		if p.flows.seed != 7 {
			t.Error("flows are found without the seed")
		}
	}
}

// Packets of more than sad.SurePMTU bytes that are not cut on their way have the peer asked how long they may be, those
// that are too long already too: once in sad.MeasureEvery for each path, by a negotiated SA, and only where the first link is known.
func TestUnmeasured(t *testing.T) {
	for _, s := range shapes() {
		left, _ := s.connect(t)
		sends := func(n int, df bool, at time.Duration) (got []string) {
			t.Helper()
			left.log.lines = nil
			left.path.SendPlain(start.Add(at), s.packet(n, df))
			for _, line := range left.log.lines {
				if strings.HasPrefix(line, "unmeasured") {
					got = append(got, line)
				}
			}
			return got
		}
		long, sure := s.fits(1500), s.fits(sad.SurePMTU)
		none, asked := []string(nil), []string{"unmeasured 1 1500"}
		if left.sads.Child(1).Manual() {
			asked = none
		}
		if got := sends(long, true, 0); len(got) != 0 {
			t.Errorf("%v: the link is not known: %q", s, got)
		}
		left.setLink(1500)
		if got := sends(sure, true, 0); len(got) != 0 {
			t.Errorf("%v: %d bytes: %q", s, sure, got)
		}
		if !s.inner6 && s.left.Addr().Is4() {
			if got := sends(long, false, 0); len(got) != 0 {
				t.Errorf("%v: may be cut: %q", s, got)
			}
		}
		for _, c := range []struct {
			n    int
			at   time.Duration
			want []string
		}{{sure + 1, 0, asked}, {long, sad.MeasureEvery - time.Second, none}, {long, sad.MeasureEvery, asked}, {long, sad.MeasureEvery, none},
			{long + 1, 2 * sad.MeasureEvery, asked}} {
			if got := sends(c.n, true, c.at); !slices.Equal(got, c.want) {
				t.Errorf("%v, %d bytes after %v: %q, not %q", s, c.n, c.at, got, c.want)
			}
		}
		if s.left.Addr().Is4() {
			left.path.cfg.DF = ClearDF
			want := none
			if !s.tunnel && !s.udp { // the packet's own header goes out
				want = asked
			}
			if got := sends(long, true, 4*sad.MeasureEvery); !slices.Equal(got, want) {
				t.Errorf("%v: df is clear: %q, not %q", s, got, want)
			}
		}
	}
}
