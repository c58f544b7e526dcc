package message

import (
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"
)

// Encrypted is the Encrypted payload, SK, still closed (RFC 7296 §3.14). It is
// the last of its message.
type Encrypted struct {
	First PayloadType // next payload field: the first payload inside
	Body  []byte      // IV, ciphertext, ICV
}

func (p *Encrypted) Type() PayloadType          { return TypeSK }
func (p *Encrypted) AppendBody(b []byte) []byte { return append(b, p.Body...) }

// EncryptedFragment is the Encrypted Fragment payload, SKF, still closed
// (RFC 7383 §2.5). It is the last of its message.
type EncryptedFragment struct {
	First         PayloadType // in fragment 1 the first payload inside, in the others NoNext
	Number, Total uint16      // 1 ≤ Number ≤ Total
	Body          []byte      // IV, ciphertext, ICV
}

func (p *EncryptedFragment) Type() PayloadType { return TypeSKF }

func (p *EncryptedFragment) AppendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, p.Number)
	b = binary.BigEndian.AppendUint16(b, p.Total)
	return append(b, p.Body...)
}

func parseEncrypted(t, first PayloadType, s cryptobyte.String) (Payload, error) {
	if t == TypeSK {
		return &Encrypted{first, rest(&s)}, nil
	}
	p := &EncryptedFragment{First: first}
	if !s.ReadUint16(&p.Number) || !s.ReadUint16(&p.Total) {
		return nil, &SyntaxError{t, short}
	}
	if p.Number == 0 || p.Number > p.Total {
		return nil, &SyntaxError{t, "the fragment number is not among the total"}
	}
	p.Body = rest(&s)
	return p, nil
}
