package message

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"

	"culvert/spd/selector"
)

// TS is a Traffic Selector payload, TSi or TSr (RFC 7296 §3.13).
type TS struct {
	Initiator bool // TSi; else TSr
	// Selectors are the address ranges, at most 255. Ports OPAQUE are PortLo
	// 65535 and PortHi 0 (RFC 7296 §3.13.1). All that was parsed are Valid.
	Selectors []selector.TS
	// Unknown is how many selectors of other types (Fibre Channel) were skipped;
	// with an empty Selectors the answer is TS_UNACCEPTABLE.
	Unknown int
}

// Traffic selector types (RFC 7296 §3.13.1).
const (
	tsIPv4Range = 7
	tsIPv6Range = 8
)

func (p *TS) Type() PayloadType {
	if p.Initiator {
		return TypeTSi
	}
	return TypeTSr
}

// AppendBody writes the Selectors, not those that were skipped.
//
//	+---------------+---------------+-------------------------------+
//	|   TS Type     |IP Protocol ID |       Selector Length         |
//	+---------------+---------------+-------------------------------+
//	|           Start Port          |           End Port            |
//	+-------------------------------+-------------------------------+
//	~                 Starting Address, Ending Address              ~
//	+---------------------------------------------------------------+
func (p *TS) AppendBody(b []byte) []byte {
	ts := p.Selectors[:min(len(p.Selectors), maxSelectors)]
	b = append(b, byte(len(ts)), 0, 0, 0)
	for _, t := range ts {
		v4 := t.Lo.Is4() && t.Hi.Is4()
		if v4 {
			b = append(b, tsIPv4Range, t.Proto, 0, 16)
		} else {
			b = append(b, tsIPv6Range, t.Proto, 0, 40)
		}
		b = binary.BigEndian.AppendUint16(b, t.PortLo)
		b = binary.BigEndian.AppendUint16(b, t.PortHi)
		if v4 {
			b = append(append(b, t.Lo.AsSlice()...), t.Hi.AsSlice()...)
			continue
		}
		lo, hi := t.Lo.As16(), t.Hi.As16()
		b = append(append(b, lo[:]...), hi[:]...)
	}
	return b
}

func parseTS(t PayloadType, s cryptobyte.String) (Payload, string) {
	p := &TS{Initiator: t == TypeTSi}
	var n uint8
	if !s.ReadUint8(&n) || !s.Skip(3) {
		return nil, short
	}
	for range n {
		var kind, proto uint8
		var length uint16
		var body []byte
		if !s.ReadUint8(&kind) || !s.ReadUint8(&proto) || !s.ReadUint16(&length) ||
			!s.ReadBytes(&body, int(length)-4) { // fewer than none cannot be read
			return nil, "a selector does not fit"
		}
		if kind != tsIPv4Range && kind != tsIPv6Range {
			p.Unknown++
			continue
		}
		ts, reason := parseSelector(kind, proto, body)
		if reason != "" {
			return nil, reason
		}
		p.Selectors = append(p.Selectors, ts)
	}
	if !s.Empty() {
		return nil, "bytes after the last selector"
	}
	return p, ""
}

func parseSelector(kind, proto uint8, s cryptobyte.String) (selector.TS, string) {
	ts := selector.TS{Proto: proto}
	size := 4
	if kind == tsIPv6Range {
		size = 16
	}
	var lo, hi []byte
	if !s.ReadUint16(&ts.PortLo) || !s.ReadUint16(&ts.PortHi) ||
		!s.ReadBytes(&lo, size) || !s.ReadBytes(&hi, size) || !s.Empty() {
		return ts, "a selector has the wrong length"
	}
	ts.Lo, _ = netip.AddrFromSlice(lo)
	ts.Hi, _ = netip.AddrFromSlice(hi)
	if !ts.Valid() {
		return ts, "a selector's addresses or ports end before they start"
	}
	return ts, ""
}
