package message

import "golang.org/x/crypto/cryptobyte"

// Auth is the Authentication payload (RFC 7296 §3.8).
//
//	+---------------+-----------------------------------------------+
//	| Auth Method   |                RESERVED                       |
//	+---------------+-----------------------------------------------+
//	~                      Authentication Data                      ~
//	+---------------------------------------------------------------+
type Auth struct {
	Method uint8 // 1 RSA signature, 2 shared key, 14 digital signature (RFC 7427)
	Data   []byte
}

func (p *Auth) Type() PayloadType { return TypeAUTH }

func (p *Auth) AppendBody(b []byte) []byte { return append(append(b, p.Method, 0, 0, 0), p.Data...) }

func parseAuth(_ PayloadType, s cryptobyte.String) (Payload, string) {
	p := &Auth{}
	if !s.ReadUint8(&p.Method) || !s.Skip(3) {
		return nil, short
	}
	p.Data = rest(&s)
	return p, ""
}
