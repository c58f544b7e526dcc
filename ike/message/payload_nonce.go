package message

import (
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// A nonce has 16 to 256 bytes (RFC 7296 §3.9).
const (
	MinNonce = 16
	MaxNonce = 256
)

// Nonce is the Nonce payload, Ni or Nr (RFC 7296 §3.9).
type Nonce struct {
	Data []byte // MinNonce to MaxNonce bytes
}

func (p *Nonce) Type() PayloadType { return TypeNonce }

func (p *Nonce) AppendBody(b []byte) []byte { return append(b, p.Data...) }

func parseNonce(_ PayloadType, s cryptobyte.String) (Payload, string) {
	if len(s) < MinNonce || len(s) > MaxNonce {
		return nil, fmt.Sprintf("%d bytes, not %d to %d", len(s), MinNonce, MaxNonce)
	}
	return &Nonce{rest(&s)}, ""
}
