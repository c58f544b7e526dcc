package datapath

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"culvert/internal/packet/wire"
)

// syn is a TCP packet with options.
func (s shape) syn(flags uint8, options ...byte) []byte {
	for len(options)%4 != 0 {
		options = append(options, 0)
	}
	src, dst := netip.AddrPortFrom(s.leftIn, 1000), netip.AddrPortFrom(s.rightIn, 443)
	pkt := wire.AppendTCPPacket(nil, wire.TCP{Seq: 7, Flags: flags, Window: 1000}, src, dst, options)
	pkt[wire.AppendedIPLen(s.leftIn)+12] = uint8(20+len(options)) / 4 << 4
	sum(pkt)
	return pkt
}

func sum(pkt []byte) {
	var f wire.Flow
	info, _ := wire.ParseFlow(pkt, &f)
	wire.FillChecksum(pkt, info)
}

// The MSS of SYNs is lowered to what fits, in both directions, at any place among
// the options, and nothing else changes but the checksum.
func TestClampMSS(t *testing.T) {
	for _, s := range shapes() {
		left, right := s.connect(t)
		left.path.cfg.ClampMSS = true
		left.setLink(1500)
		inner := 40
		if s.inner6 {
			inner = 60
		}
		most := min(s.fits(1500), 1420) - inner // what the device takes counts too
		mss := func(n int) []byte { return []byte{2, 4, byte(n >> 8), byte(n)} }
		for _, c := range []struct {
			name    string
			flags   uint8
			options []byte
			at      int // of the MSS, or 0: nothing changes
		}{
			{"SYN", 2, mss(most + 1), 2},
			{"SYN, ACK", 18, mss(9000), 2},
			{"behind a window scale", 2, append([]byte{3, 3, 7}, mss(9000)...), 5},
			{"behind a NOP", 2, append([]byte{1}, mss(9000)...), 3},
			{"twice, the first", 2, append(mss(9000), mss(9000)...), 2},
			{"behind another option of its length", 2, append([]byte{5, 4, 0x23, 0x28}, mss(9000)...), 6},
			{"it fits", 2, mss(most), 0},
			{"smaller", 2, mss(536), 0},
			{"no SYN", 16, mss(9000), 0},
			{"no options", 2, nil, 0},
			{"behind the end", 2, append([]byte{0}, mss(9000)...), 0},
			{"an option without length", 2, []byte{1, 1, 1, 3}, 0},
			{"length 0", 2, append([]byte{3, 0}, mss(9000)...), 0},
			{"length 1", 2, append([]byte{3, 1}, mss(9000)...), 0},
			{"too long", 2, append([]byte{3, 40}, mss(9000)...), 0},
			{"of another length", 2, []byte{2, 3, 0x20, 0}, 0},
			{"of another length", 2, []byte{2, 6, 0x20, 0, 0, 0}, 0},
		} {
			pkt := s.syn(c.flags, c.options...)
			want := bytes.Clone(pkt)
			if c.at != 0 {
				binary.BigEndian.PutUint16(want[inner+c.at:], uint16(most))
				sum(want)
			}
			// Out on the left, and in on the left what the right sends unclamped.
			before := left.values()
			if r := left.path.SendPlain(start, pkt); r != Passed {
				t.Fatal(r)
			}
			if r := right.path.Receive(start, s.carried(t, left)); r != Passed {
				t.Fatal(r)
			}
			if got := right.host.take()[0]; !sameButID(got, want) {
				t.Errorf("%v: %s: %x, want %x", s, c.name, got, want)
			}
			clamped := map[string]uint64{"tx-packets": 1, "tx-bytes": uint64(len(pkt))}
			if c.at != 0 {
				clamped["tx-mss-clamped"] = 1
			}
			left.moved(t, before, clamped)

			back := s
			back.left, back.right, back.leftIn, back.rightIn = s.right, s.left, s.rightIn, s.leftIn
			pkt = back.syn(c.flags, c.options...)
			want = bytes.Clone(pkt)
			if c.at != 0 {
				binary.BigEndian.PutUint16(want[inner+c.at:], uint16(most))
				sum(want)
			}
			if r := right.path.SendPlain(start, pkt); r != Passed {
				t.Fatal(r)
			}
			before = left.values()
			if r := left.path.Receive(start, back.carried(t, right)); r != Passed {
				t.Fatal(r)
			}
			if got := left.host.take()[0]; !sameButID(got, want) {
				t.Errorf("%v: %s, in: %x, want %x", s, c.name, got, want)
			}
			clamped = map[string]uint64{"rx-packets": 1, "rx-bytes": uint64(len(pkt))}
			if c.at != 0 {
				clamped["rx-mss-clamped"] = 1
			}
			left.moved(t, before, clamped)
		}
		left.path.cfg.ClampMSS = false
		before := left.values()
		pkt := s.syn(2, mss(9000)...)
		if r := left.path.SendPlain(start, pkt); r != Passed {
			t.Fatal(r)
		}
		left.moved(t, before, map[string]uint64{"tx-packets": 1, "tx-bytes": uint64(len(pkt))})
	}
}

// sameButID compares packets; AH gives those without identification one.
func sameButID(a, b []byte) bool {
	a, b = bytes.Clone(a), bytes.Clone(b)
	for _, pkt := range [][]byte{a, b} {
		if pkt[0]>>4 == 4 {
			pkt[4], pkt[5] = 0, 0
			wire.FillIPv4Checksum(pkt)
		}
	}
	return bytes.Equal(a, b)
}

// A checksum that is wrong stays as wrong as it was, and every old value and every
// place of the option gives the same sum as one made anew.
func TestMSSChecksum(t *testing.T) {
	s := tunnels()[0]
	for old := 1; old < 1<<16; old += 7 {
		for _, options := range [][]byte{{2, 4, byte(old >> 8), byte(old)}, {1, 2, 4, byte(old >> 8), byte(old)}} {
			pkt := s.syn(2, options...)
			var f wire.Flow
			info, _ := wire.ParseFlow(pkt, &f)
			if changed := clampMSS(pkt, info, 1240); changed != (old > 1200) {
				t.Fatal(old, changed)
			}
			if !wire.VerifyChecksum(pkt, info) {
				t.Fatalf("%d: %x", old, pkt)
			}
			pkt = s.syn(2, options...)
			pkt[30]++ // the sender's fault
			clampMSS(pkt, info, 1240)
			if wire.VerifyChecksum(pkt, info) {
				t.Fatal("a wrong checksum became right")
			}
		}
	}
}

// Where the sum of the change carries twice, the checksum is the same as anywhere.
func TestMSSChecksumCarries(t *testing.T) {
	for check := range 1 << 16 {
		tcp := make([]byte, 28)
		copy(tcp[20:], []byte{1, 2, 4, 0x24, 0x00})
		binary.BigEndian.PutUint16(tcp[16:], uint16(check))
		before := wire.Sum(tcp, 0)
		if !lowerMSS(tcp, 23, 1200) || binary.BigEndian.Uint16(tcp[23:]) != 1200 || wire.Sum(tcp, 0) != before {
			t.Fatalf("checksum %#x: the sum was %#x and is %#x", check, before, wire.Sum(tcp, 0))
		}
	}
}

// What is no SYN of TCP is left alone, whatever stands where a SYN has its flags.
func TestNotClamped(t *testing.T) {
	s := tunnels()[0]
	syn := s.syn(2, 2, 4, 0x20, 0)
	for name, change := range map[string]func(pkt []byte){
		"UDP":                     func(pkt []byte) { pkt[9] = wire.ProtoUDP },
		"a later fragment":        func(pkt []byte) { pkt[7] = 9 },
		"a header that is cut":    func(pkt []byte) { wire.SetTotal(pkt, 39) },
		"a header that is longer": func(pkt []byte) { pkt[32] = 0xf0 },
		"no options":              func(pkt []byte) { pkt[32] = 0x50 },
	} {
		pkt := bytes.Clone(syn)
		change(pkt)
		want := bytes.Clone(pkt)
		info, ok := wire.ParseFlow(pkt, new(wire.Flow))
		if !ok || clampMSS(pkt, info, 1240) || !bytes.Equal(pkt, want) {
			t.Errorf("%s: %v, %x became %x", name, ok, want, pkt)
		}
	}
	info, _ := wire.ParseFlow(syn, new(wire.Flow))
	for room, want := range map[int]bool{39: false, 40: false, 41: true, 0x2000 + 39: true, 0x2000 + 40: false} {
		if got := clampMSS(bytes.Clone(syn), info, room); got != want {
			t.Errorf("room for %d bytes: %v", room, got)
		}
	}
}

func FuzzClampMSS(f *testing.F) {
	s := tunnels()[0]
	f.Add(s.syn(2, 2, 4, 0x20, 0), 1240)
	f.Add(s.syn(18, 1, 3, 3, 7, 2, 4, 0x20, 0), 576)
	f.Fuzz(func(t *testing.T, pkt []byte, room int) {
		var flow wire.Flow
		info, ok := wire.ParseFlow(pkt, &flow)
		if !ok {
			return
		}
		right, head := wire.VerifyChecksum(pkt, info), min(info.Payload+12, len(pkt))
		was := bytes.Clone(pkt)
		changed := clampMSS(pkt, info, room)
		if changed == bytes.Equal(pkt, was) && changed || right && !wire.VerifyChecksum(pkt, info) || !bytes.Equal(pkt[:head], was[:head]) {
			t.Fatalf("%x became %x", was, pkt)
		}
		if clampMSS(pkt, info, room) && room > 100 && bytes.Equal(pkt, was) {
			t.Fatal("twice is not once")
		}
	})
}
