package message

import (
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"
)

// KE is the Key Exchange payload (RFC 7296 §3.4).
//
//	+-------------------------------+-------------------------------+
//	|   Diffie-Hellman Group Num    |           RESERVED            |
//	+-------------------------------+-------------------------------+
//	~                       Key Exchange Data                       ~
//	+---------------------------------------------------------------+
type KE struct {
	Group uint16
	Data  []byte
}

func (p *KE) Type() PayloadType { return TypeKE }

func (p *KE) AppendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, p.Group)
	return append(append(b, 0, 0), p.Data...)
}

func parseKE(_ PayloadType, s cryptobyte.String) (Payload, string) {
	p := &KE{}
	if !s.ReadUint16(&p.Group) || !s.Skip(2) {
		return nil, short
	}
	p.Data = rest(&s)
	return p, ""
}
