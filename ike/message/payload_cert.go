package message

import "golang.org/x/crypto/cryptobyte"

// Cert is the Certificate payload (RFC 7296 §3.6).
type Cert struct {
	Encoding uint8 // 4: X.509 certificate for signatures
	Data     []byte
}

func (p *Cert) Type() PayloadType { return TypeCERT }

func (p *Cert) AppendBody(b []byte) []byte { return append(append(b, p.Encoding), p.Data...) }

func parseCert(_ PayloadType, s cryptobyte.String) (Payload, string) {
	p := &Cert{}
	if !s.ReadUint8(&p.Encoding) {
		return nil, short
	}
	p.Data = rest(&s)
	return p, ""
}
