package message

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// Config is the Configuration payload, CP (RFC 7296 §3.15).
type Config struct {
	CfgType    uint8 // 1 request, 2 reply, 3 set, 4 ack
	Attributes []Attribute
}

// Attribute is one configuration attribute (RFC 7296 §3.15.1).
//
//	+-+-----------------------------+-------------------------------+
//	|R|         Attribute Type      |            Length             |
//	+-+-----------------------------+-------------------------------+
//	~                             Value                             ~
//	+---------------------------------------------------------------+
type Attribute struct {
	Type  uint16 // 15 bits
	Value []byte
}

func (p *Config) Type() PayloadType { return TypeCP }

func (p *Config) AppendBody(b []byte) []byte {
	b = append(b, p.CfgType, 0, 0, 0)
	for _, a := range p.Attributes {
		v := a.Value[:min(len(a.Value), 65535)]
		b = binary.BigEndian.AppendUint16(b, a.Type&0x7fff)
		b = binary.BigEndian.AppendUint16(b, uint16(len(v)))
		b = append(b, v...)
	}
	return b
}

func parseConfig(_ PayloadType, s cryptobyte.String) (Payload, string) {
	p := &Config{}
	if !s.ReadUint8(&p.CfgType) || !s.Skip(3) {
		return nil, short
	}
	for !s.Empty() {
		if len(p.Attributes) == maxAttributes {
			return nil, fmt.Sprintf("more than %d attributes", maxAttributes)
		}
		var a Attribute
		var length uint16
		if !s.ReadUint16(&a.Type) || !s.ReadUint16(&length) || !s.ReadBytes(&a.Value, int(length)) {
			return nil, "an attribute does not fit"
		}
		a.Type &= 0x7fff
		p.Attributes = append(p.Attributes, a)
	}
	return p, ""
}
