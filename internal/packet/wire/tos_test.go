package wire

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// Every type of service is written and read, next to whatever is beside it, and
// the checksum is that of a header made anew.
func TestTOS(t *testing.T) {
	v4 := netip.MustParseAddr("192.0.2.1")
	v6 := netip.MustParseAddr("2001:db8::1")
	for was := range 256 {
		for is := range 256 {
			pkt := IPv4{TOS: uint8(was), ID: uint16(is*257 + was), TTL: 3, Proto: 17, Src: v4, Dst: v4}.Append(nil, 100)
			if TOS(pkt) != uint8(was) {
				t.Fatalf("%#x reads as %#x", was, TOS(pkt))
			}
			SetTOS(pkt, uint8(is))
			if TOS(pkt) != uint8(is) || !VerifyIPv4Checksum(pkt) {
				t.Fatalf("%#x to %#x: %x", was, is, pkt)
			}
			SetHopLimit(pkt, uint8(was))
			if HopLimit(pkt) != uint8(was) || pkt[8] != uint8(was) || !VerifyIPv4Checksum(pkt) {
				t.Fatalf("TTL %d: %x", was, pkt)
			}
			pkt = IPv6{TrafficClass: uint8(was), FlowLabel: 0xabcde, Src: v6, Dst: v6}.Append(nil, 100)
			if TOS(pkt) != uint8(was) {
				t.Fatalf("%#x reads as %#x", was, TOS(pkt))
			}
			SetTOS(pkt, uint8(is))
			if want := 6<<28 | uint32(is)<<20 | 0xabcde; binary.BigEndian.Uint32(pkt) != want {
				t.Fatalf("%#x to %#x: %x", was, is, pkt[:4])
			}
			SetHopLimit(pkt, uint8(is))
			if HopLimit(pkt) != uint8(is) || pkt[7] != uint8(is) {
				t.Fatalf("hop limit %d: %x", is, pkt)
			}
			SetFlowLabel(pkt, uint32(was)<<12|uint32(is))
			if want := 6<<28 | uint32(is)<<20 | uint32(was)<<12 | uint32(is); binary.BigEndian.Uint32(pkt) != want {
				t.Fatalf("label %x%03x: %x", was, is, pkt[:4])
			}
		}
	}
	if TOS([]byte{0x45, 7}) != 7 || TOS([]byte{0x6a, 0xb0}) != 0xab {
		t.Error("two bytes show the type of service")
	}
	for _, pkt := range [][]byte{nil, {0x45}, {0x55, 1}, {0x60}} {
		if TOS(pkt) != 0 {
			t.Errorf("%x has a type of service", pkt)
		}
	}
}

// What was damaged on its way is not made right.
func TestTOSKeepsAWrongChecksum(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.1")
	pkt := IPv4{TTL: 3, Proto: 17, Src: a, Dst: a}.Append(nil, 100)
	pkt[10] ^= 0x40
	SetTOS(pkt, 0x2b)
	if VerifyIPv4Checksum(pkt) {
		t.Errorf("%x", pkt)
	}
}
