package message

import "golang.org/x/crypto/cryptobyte"

// ID is an Identification payload, IDi or IDr (RFC 7296 §3.5). What AUTH signs
// of it is its body, as AppendBody writes it; a peer's own reserved bytes are
// part of what it signed, so they are kept.
//
//	+---------------+-----------------------------------------------+
//	|   ID Type     |                   RESERVED                    |
//	+---------------+-----------------------------------------------+
//	~                   Identification Data                         ~
//	+---------------------------------------------------------------+
type ID struct {
	Initiator bool // IDi; else IDr
	IDType    uint8
	Data      []byte
	Reserved  [3]byte // zero when sent
}

func (p *ID) Type() PayloadType {
	if p.Initiator {
		return TypeIDi
	}
	return TypeIDr
}

func (p *ID) AppendBody(b []byte) []byte {
	b = append(append(b, p.IDType), p.Reserved[:]...)
	return append(b, p.Data...)
}

func parseID(t PayloadType, s cryptobyte.String) (Payload, string) {
	p := &ID{Initiator: t == TypeIDi}
	if !s.ReadUint8(&p.IDType) || !s.CopyBytes(p.Reserved[:]) {
		return nil, short
	}
	p.Data = rest(&s)
	return p, ""
}
