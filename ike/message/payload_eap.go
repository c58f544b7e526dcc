package message

import "golang.org/x/crypto/cryptobyte"

// EAP is the EAP payload (RFC 7296 §3.16): one EAP message, unread.
type EAP struct {
	Data []byte
}

func (p *EAP) Type() PayloadType { return TypeEAP }

func (p *EAP) AppendBody(b []byte) []byte { return append(b, p.Data...) }

func parseEAP(_ PayloadType, s cryptobyte.String) (Payload, string) {
	return &EAP{rest(&s)}, ""
}
