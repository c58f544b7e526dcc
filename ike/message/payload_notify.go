package message

import (
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"
)

// Notify is the Notify payload (RFC 7296 §3.10).
//
//	+---------------+---------------+-------------------------------+
//	|  Protocol ID  |   SPI Size    |      Notify Message Type      |
//	+---------------+---------------+-------------------------------+
//	~                Security Parameter Index (SPI)                 ~
//	+---------------------------------------------------------------+
//	~                       Notification Data                       ~
//	+---------------------------------------------------------------+
type Notify struct {
	Protocol uint8  // of the SA that SPI names; 0 without SPI
	SPI      []byte // empty for the IKE SA itself
	Kind     NotifyType
	Data     []byte
}

func (p *Notify) Type() PayloadType { return TypeNotify }

func (p *Notify) AppendBody(b []byte) []byte {
	spi := p.SPI[:min(len(p.SPI), 255)]
	b = append(b, p.Protocol, byte(len(spi)))
	b = binary.BigEndian.AppendUint16(b, uint16(p.Kind))
	return append(append(b, spi...), p.Data...)
}

func parseNotify(_ PayloadType, s cryptobyte.String) (Payload, string) {
	p := &Notify{}
	var spiLen uint8
	if !s.ReadUint8(&p.Protocol) || !s.ReadUint8(&spiLen) || !s.ReadUint16((*uint16)(&p.Kind)) ||
		!s.ReadBytes(&p.SPI, int(spiLen)) {
		return nil, short
	}
	p.Data = rest(&s)
	return p, ""
}
