package isakmp

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"

	"culvert/spd/selector"
)

// The types of an ID (RFC 2407 §4.6.2.1).
const (
	IDIPv4       uint8 = 1
	IDFQDN       uint8 = 2
	IDUserFQDN   uint8 = 3
	IDIPv4Subnet uint8 = 4
	IDIPv6       uint8 = 5
	IDIPv6Subnet uint8 = 6
	IDIPv4Range  uint8 = 7
	IDIPv6Range  uint8 = 8
	IDDERDN      uint8 = 9
	IDDERGN      uint8 = 10
	IDKeyID      uint8 = 11
)

// ID is an Identification payload (RFC 2407 §4.6.2): in phase 1 who an end is, in phase 2 what its
// traffic is. It has no field that is lost: AppendBody writes what was parsed, byte for byte, which is
// what a hash takes (IDii_b, IDir_b), the protocol and port of phase 1 included.
//
//	+---------------+---------------+-------------------------------+
//	|   ID Type     |  Protocol ID  |             Port              |
//	+---------------+---------------+-------------------------------+
//	~                   Identification Data                         ~
//	+---------------------------------------------------------------+
type ID struct {
	IDType   uint8
	Protocol uint8  // 0: any
	Port     uint16 // 0: any
	Data     []byte // whether it has the length of its type, Addrs says
}

func (p *ID) Type() PayloadType { return TypeID }

func (p *ID) AppendBody(b []byte) []byte {
	b = append(b, p.IDType, p.Protocol)
	b = binary.BigEndian.AppendUint16(b, p.Port)
	return append(b, p.Data...)
}

// Body is the body, as received if it was received.
func (p *ID) Body() []byte { return p.AppendBody(nil) }

func parseID(_ PayloadType, s cryptobyte.String, _ *Odd) (Payload, string) {
	p := &ID{}
	if !s.ReadUint8(&p.IDType) || !s.ReadUint8(&p.Protocol) || !s.ReadUint16(&p.Port) {
		return nil, short
	}
	p.Data = rest(&s)
	return p, ""
}

// idAddrs has for each type of addresses how long one is, and how many stand in the data.
var idAddrs = map[uint8]struct{ size, n int }{
	IDIPv4: {4, 1}, IDIPv4Subnet: {4, 2}, IDIPv4Range: {4, 2},
	IDIPv6: {16, 1}, IDIPv6Subnet: {16, 2}, IDIPv6Range: {16, 2},
}

// Addrs are the first and the last address of an ID of addresses. ok is false if it is of
// another type, has not its length, a mask with holes or a range that ends before it starts. The bits
// of a subnet's address that its mask does not cover are ignored.
func (p *ID) Addrs() (lo, hi netip.Addr, ok bool) {
	form, is := idAddrs[p.IDType]
	if !is || len(p.Data) != form.size*form.n {
		return lo, hi, false
	}
	lo, _ = netip.AddrFromSlice(p.Data[:form.size])
	hi, _ = netip.AddrFromSlice(p.Data[form.size*(form.n-1):])
	if p.IDType == IDIPv4Subnet || p.IDType == IDIPv6Subnet {
		prefix, ok := maskedPrefix(lo, p.Data[form.size:])
		if !ok {
			return netip.Addr{}, netip.Addr{}, false
		}
		ts := selector.FromPrefix(prefix)
		return ts.Lo, ts.Hi, true
	}
	if hi.Less(lo) {
		return netip.Addr{}, netip.Addr{}, false
	}
	return lo, hi, true
}

// maskedPrefix is the network of an address and a mask of the same length.
func maskedPrefix(a netip.Addr, mask []byte) (netip.Prefix, bool) {
	ones := 0
	for i, m := range mask {
		n := bits.LeadingZeros8(^m)
		if m<<n != 0 || ones != 8*i && m != 0 {
			return netip.Prefix{}, false
		}
		ones += n
	}
	p, err := a.Prefix(ones)
	return p, err == nil
}

// Selector is the traffic that an ID of phase 2 names: its addresses, its protocol (0: any) and
// its port (0: any). ok is as in Addrs.
func (p *ID) Selector() (ts selector.TS, ok bool) {
	lo, hi, ok := p.Addrs()
	if !ok {
		return ts, false
	}
	ts = selector.TS{Lo: lo, Hi: hi, Proto: p.Protocol, PortLo: p.Port, PortHi: p.Port}
	if p.Port == 0 {
		ts.PortHi = 0xffff
	}
	return ts, true
}

// SelectorID is the ID of phase 2 that names the traffic of ts: an address, a subnet, else a range. ok
// is false if its ports are neither one nor all, which IKEv1 cannot say.
func SelectorID(ts selector.TS) (id *ID, ok bool) {
	id = &ID{Protocol: ts.Proto, Port: ts.PortLo}
	if ts.PortLo != ts.PortHi && (ts.PortLo != 0 || ts.PortHi != 0xffff) || !ts.Lo.IsValid() || ts.Lo.BitLen() != ts.Hi.BitLen() {
		return nil, false
	}
	v6 := uint8(0)
	id.IDType = IDIPv4
	if ts.Lo.Is6() {
		id.IDType, v6 = IDIPv6, 1
	}
	if id.Data = ts.Lo.AsSlice(); ts.Lo == ts.Hi {
		return id, true
	}
	if prefix, is := wholePrefix(ts); is {
		id.IDType = IDIPv4Subnet + 2*v6
		id.Data = append(id.Data, mask(ts.Lo.BitLen(), prefix.Bits())...)
		return id, true
	}
	id.IDType = IDIPv4Range + v6
	id.Data = append(id.Data, ts.Hi.AsSlice()...)
	return id, true
}

// wholePrefix is the prefix whose addresses are exactly those of ts.
func wholePrefix(ts selector.TS) (netip.Prefix, bool) {
	for n := range ts.Lo.BitLen() + 1 {
		p, err := ts.Lo.Prefix(n)
		if err != nil {
			return p, false
		}
		if all := selector.FromPrefix(p); all.Lo == ts.Lo && all.Hi == ts.Hi {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// mask has ones of bits, in bytes.
func mask(bits, ones int) []byte {
	m := make([]byte, bits/8)
	for i := range ones {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return m
}
