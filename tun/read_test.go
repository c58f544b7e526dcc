package tun

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestMendLength(t *testing.T) {
	const header = 40
	ipv6 := func(size, length int, next byte) []byte {
		pkt := make([]byte, size)
		pkt[0], pkt[6] = 0x60, next
		binary.BigEndian.PutUint16(pkt[4:], uint16(length))
		return pkt
	}
	with := func(pkt []byte, at int, b byte) []byte {
		pkt[at] = b
		return pkt
	}
	for name, c := range map[string]struct {
		pkt  []byte
		want int // payload length; -1: the packet is left alone
	}{
		"hop-by-hop options":      {ipv6(100, 52, 0), 60},
		"a routing header":        {ipv6(100, 52, 43), 60},
		"destination options":     {ipv6(100, 52, 60), 60},
		"one byte is missing":     {ipv6(100, 59, 0), 60},
		"the smallest":            {ipv6(header+2, 1, 0), 2},
		"the longest":             {ipv6(header+0xffff, 1, 0), 0xffff},
		"right already":           {ipv6(100, 60, 0), -1},
		"says more than there is": {ipv6(100, 61, 0), -1},
		"longer than a length":    {ipv6(header+0x10000, 1, 0), -1},
		"a jumbogram":             {ipv6(100, 0, 0), -1}, // its length is in an option (RFC 2675)
		"TCP":                     {ipv6(100, 52, 6), -1},
		"UDP":                     {ipv6(100, 52, 17), -1},
		"IPv4":                    {with(ipv6(100, 52, 0), 0, 0x45), -1},
		"cut in its header":       {ipv6(header-1, 52, 0), -1},
		"nothing but a header":    {ipv6(header, 52, 0), -1},
		"no bytes at all":         {nil, -1},
	} {
		want := bytes.Clone(c.pkt)
		if c.want >= 0 {
			binary.BigEndian.PutUint16(want[4:], uint16(c.want))
		}
		mendLength(c.pkt)
		if !bytes.Equal(c.pkt, want) {
			t.Errorf("%s: the length is %d", name, binary.BigEndian.Uint16(c.pkt[4:]))
		}
	}
}
