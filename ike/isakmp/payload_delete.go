package isakmp

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// Delete is the Delete payload (RFC 2408 §3.15).
//
//	+---------------------------------------------------------------+
//	|              Domain of Interpretation  (DOI)                  |
//	+---------------+---------------+-------------------------------+
//	|  Protocol-Id  |   SPI Size    |           # of SPIs           |
//	+---------------+---------------+-------------------------------+
//	~               Security Parameter Index(es) (SPI)              ~
//	+---------------------------------------------------------------+
type Delete struct {
	DOI      uint32
	Protocol uint8
	// SPIs are those that the sender of the payload expects in packets to it, all of one length, at
	// most 1024; of phase 1, both cookies, 16 bytes.
	SPIs [][]byte
}

func (p *Delete) Type() PayloadType { return TypeDelete }

func (p *Delete) AppendBody(b []byte) []byte {
	spis := p.SPIs[:min(len(p.SPIs), maxSPIs)]
	size := 0
	if len(spis) > 0 {
		size = len(spis[0])
	}
	b = binary.BigEndian.AppendUint32(b, p.DOI)
	b = append(b, p.Protocol, byte(size))
	b = binary.BigEndian.AppendUint16(b, uint16(len(spis)))
	for _, spi := range spis {
		b = append(b, spi...)
	}
	return b
}

func parseDelete(_ PayloadType, s cryptobyte.String, _ *Odd) (Payload, string) {
	p := &Delete{}
	var size uint8
	var n uint16
	if !s.ReadUint32(&p.DOI) || !s.ReadUint8(&p.Protocol) || !s.ReadUint8(&size) || !s.ReadUint16(&n) {
		return nil, short
	}
	if n > maxSPIs {
		return nil, fmt.Sprintf("%d SPIs, more than %d", n, maxSPIs)
	}
	if size == 0 && n != 0 {
		return nil, "SPIs without a length"
	}
	for range n {
		var spi []byte
		if !take(&s, &spi, int(size)) {
			return nil, short
		}
		p.SPIs = append(p.SPIs, spi)
	}
	if !s.Empty() {
		return nil, "bytes after the last SPI"
	}
	return p, ""
}
