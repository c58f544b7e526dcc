package wire

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// wholes are packets to cut: IPv4 without and with options (one of them for all
// pieces, one for the first), IPv6 without and with headers of the path.
func wholes(payload []byte) [][]byte {
	src4, dst4 := netip.MustParseAddrPort("10.1.0.1:1000"), netip.MustParseAddrPort("10.2.0.1:2000")
	src6, dst6 := netip.MustParseAddrPort("[fd01::1]:1000"), netip.MustParseAddrPort("[fd02::1]:2000")
	four := IPv4{TTL: 9, Proto: ProtoUDP, ID: 0x1234, Src: src4.Addr(), Dst: dst4.Addr()}.Append(nil, UDPHeaderLen+len(payload))
	four = AppendUDP(four, src4, dst4, payload)
	options := bytes.Clone(four[:IPv4HeaderLen])
	options = append(options, 0x07, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0, 1) // record route, router alert, no operation
	options = append(options, four[IPv4HeaderLen:]...)
	options[0] = 0x48
	SetTotal(options, len(options))
	six := AppendUDPPacket(nil, src6, dst6, payload)
	path := IPv6{HopLimit: 3, Next: ProtoHopByHop, Src: src6.Addr(), Dst: dst6.Addr()}.Append(nil, 8+8+UDPHeaderLen+len(payload))
	path = append(path, ProtoRouting, 0, 1, 4, 0, 0, 0, 0, ProtoUDP, 0, 253, 0, 0, 0, 0, 0)
	path = AppendUDP(path, src6, dst6, payload)
	return [][]byte{four, options, six, path}
}

func cut(t *testing.T, pkt []byte, limit int) (pieces [][]byte) {
	t.Helper()
	c, ok := NewCutter(pkt, limit, 0xabcdef01)
	if !ok {
		t.Fatalf("cannot be cut to %d", limit)
	}
	for more := true; more; {
		var p []byte
		p, more = c.Next(nil)
		pieces = append(pieces, p)
	}
	return pieces
}

// What is cut has pieces that are no longer than the limit, that follow each
// other, and that make the packet again.
func TestCutAndJoined(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		payload := make([]byte, rng.IntN(3000))
		for i := range payload {
			payload[i] = byte(rng.Uint32())
		}
		for kind, pkt := range wholes(payload) {
			limit := 100 + rng.IntN(1500)
			pieces := cut(t, pkt, limit)
			if len(pieces) == 1 && len(pkt) <= limit-fragmentHdrLen && kind < 2 && !bytes.Equal(pieces[0], pkt) {
				t.Fatal("one piece is another packet")
			}
			var whole []byte
			var first Fragment
			for i, p := range pieces {
				var f Flow
				info, ok := ParseFlow(p, &f)
				if !ok || len(p) > limit || info.Total != len(p) || info.Version == 4 && !VerifyIPv4Checksum(p[:info.Payload]) {
					t.Fatalf("kind %d, piece %d of %d: %d bytes, limit %d, ok %v", kind, i, len(pieces), len(p), limit, ok)
				}
				if len(pieces) == 1 {
					continue
				}
				x, ok := FragmentOf(p, info)
				if !ok || x.Offset != len(whole)-first.Head || x.More != (i < len(pieces)-1) || x.More && x.Len()%8 != 0 {
					t.Fatalf("kind %d, piece %d: %+v", kind, i, x)
				}
				if i == 0 {
					first = x
					whole = append(whole, p[:x.Head]...)
				}
				whole = append(whole, p[x.Data:]...)
			}
			if len(pieces) > 1 && (!Joined(whole, first) || !bytes.Equal(whole, pkt)) {
				t.Fatalf("kind %d: joined %x, was %x", kind, whole[:60], pkt[:60])
			}
		}
	}
}

// A fragment that is cut again keeps its place in the whole.
func TestFragmentIsCutAgain(t *testing.T) {
	pkt := wholes(bytes.Repeat([]byte{7}, 2000))[0]
	middle := cut(t, pkt, 1000)[1]
	var f Flow
	info, _ := ParseFlow(middle, &f)
	at := info.FragOffset
	for i, p := range cut(t, middle, 300) {
		info, ok := ParseFlow(p, &f)
		if !ok || info.FragOffset != at || !info.More {
			t.Fatalf("piece %d at %d, want %d, more %v", i, info.FragOffset, at, info.More)
		}
		at += info.PayloadLen()
	}
}

func TestOptionsOfTheFirstPieceAlone(t *testing.T) {
	pieces := cut(t, wholes(make([]byte, 500))[1], 300)
	first, second := pieces[0][20:32], pieces[1][20:32]
	if !bytes.Equal(first, []byte{7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0, 1}) ||
		!bytes.Equal(second, []byte{1, 1, 1, 1, 1, 1, 1, 0x94, 4, 0, 0, 1}) {
		t.Errorf("options %x, then %x", first, second)
	}
	short := []byte{7, 2, 0x94, 2, 7, 3, 9, 0}
	if blankOptions(short); !bytes.Equal(short, []byte{1, 1, 0x94, 2, 1, 1, 1, 0}) {
		t.Errorf("options %x", short)
	}
	for _, bad := range [][]byte{{7}, {7, 1, 0, 0}, {7, 1, 9, 9}, {7, 0, 9, 9}, {7, 9, 0, 0}, {7, 5, 0, 0}, {0, 7, 7, 7}, {0, 2, 9, 9}} {
		before := bytes.Clone(bad)
		if blankOptions(bad); !bytes.Equal(bad, before) {
			t.Errorf("%x became %x", before, bad)
		}
	}
}

func TestNotToBeCut(t *testing.T) {
	all := wholes(make([]byte, 100))
	for kind, limit := range []int{27, 39, 55, 71} {
		if _, ok := NewCutter(all[kind], limit, 1); ok {
			t.Errorf("kind %d cut to %d", kind, limit)
		}
		if _, ok := NewCutter(all[kind], limit+1, 1); !ok {
			t.Errorf("kind %d not cut to %d", kind, limit+1)
		}
	}
	if _, ok := NewCutter(cut(t, all[2], 100)[0], 64, 1); ok {
		t.Error("an IPv6 fragment was cut")
	}
	if _, ok := NewCutter([]byte{0x45}, 100, 1); ok {
		t.Error("a stump was cut")
	}
	// Without identification of its own an IPv4 packet gets one, in all pieces the same.
	bare := all[0]
	bare[4], bare[5] = 0, 0
	for _, p := range cut(t, bare, 60) {
		if p[4] != 0xef || p[5] != 0x01 {
			t.Fatalf("identification %x", p[4:6])
		}
	}
}

func FuzzFragment(f *testing.F) {
	for _, pkt := range wholes(make([]byte, 200)) {
		f.Add(pkt, uint16(100))
		c, _ := NewCutter(pkt, 100, 5)
		for more := true; more; {
			var p []byte
			p, more = c.Next(nil)
			f.Add(p, uint16(64))
		}
	}
	f.Fuzz(func(t *testing.T, pkt []byte, limit uint16) {
		var flow Flow
		info, ok := ParseFlow(pkt, &flow)
		if !ok {
			return
		}
		if x, ok := FragmentOf(pkt, info); ok && (x.Head < IPv4HeaderLen || x.Data < x.Head || x.Total < x.Data || x.At >= x.Head ||
			x.Offset != info.FragOffset || x.More != info.More) {
			t.Fatalf("%x: %+v", pkt, x)
		} else if ok != info.Fragment() && info.Version == 4 {
			t.Fatalf("%x: %v", pkt, ok)
		}
		c, ok := NewCutter(pkt, int(limit), 9)
		if !ok {
			return
		}
		left := info.Total - c.head
		for more := true; more; {
			var p []byte
			p, more = c.Next(nil)
			i, ok := ParseFlow(p, &flow)
			if len(p) > int(limit) || ok && i.Total != len(p) {
				t.Fatalf("%x cut to %d: %x", pkt, limit, p)
			}
			if left -= c.step; left > 0 != more {
				t.Fatalf("%x cut to %d: %d left", pkt, limit, left)
			}
		}
	})
}

// Of an IPv4 packet that is cut, each piece keeps the identification and the flag that says
// not to cut it further.
func TestCutKeepsDF(t *testing.T) {
	for _, df := range []bool{false, true} {
		whole := ipv4(IPv4{Proto: 17, ID: 0x1234, DontFragment: df}, make([]byte, 500))
		for i, p := range cut(t, whole, 200) {
			info, ok := ParseFlow(p, new(Flow))
			if x, there := FragmentOf(p, info); !ok || !there || info.DontFragment != df || x.ID != 0x1234 {
				t.Errorf("piece %d: %+v, identification %#x", i, info, x.ID)
			}
		}
	}
}

// What is no fragment, or not all there, has no place in a packet.
func TestFragmentOfWhat(t *testing.T) {
	for _, c := range good {
		x, ok := FragmentOf(c.pkt, c.info)
		if ok != c.info.Fragment() {
			t.Errorf("%s: %v", c.name, ok)
		}
		if _, ok := FragmentOf(c.pkt[:c.info.Total-1], c.info); ok {
			t.Errorf("%s: cut", c.name)
		}
		if !ok {
			continue
		}
		head := 20
		if c.info.Version == 6 {
			head = 40
		}
		if x.Head != head || x.Total != c.info.Total || x.Offset != c.info.FragOffset || x.More != c.info.More || c.pkt[x.At] != 17 && c.pkt[x.At] != 1 && c.pkt[x.At] != 44 {
			t.Errorf("%s: %+v", c.name, x)
		}
	}
	behind := ipv6(ProtoHopByHop, ext(ProtoRouting), []byte{ProtoFragment, 1, 253, 0, 15: 0}, AppendIPv6Fragment(nil, 17, 8, true, 0x01020304), udp[:8])
	info, ok := ParseFlow(behind, new(Flow))
	x, there := FragmentOf(behind, info)
	if want := (Fragment{ID: 0x01020304, Head: 64, At: 48, Next: 17, Data: 72, Total: 80, Offset: 8, More: true}); !ok || !there || x != want {
		t.Errorf("%v %v %+v, want %+v", ok, there, x, want)
	}
}
