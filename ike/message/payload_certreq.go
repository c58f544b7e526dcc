package message

import "golang.org/x/crypto/cryptobyte"

// CertReq is the Certificate Request payload (RFC 7296 §3.7). For X.509, Data
// is a row of SHA-1 hashes, 20 bytes each, of the trusted CAs' public keys.
type CertReq struct {
	Encoding uint8
	Data     []byte
}

func (p *CertReq) Type() PayloadType { return TypeCERTREQ }

func (p *CertReq) AppendBody(b []byte) []byte { return append(append(b, p.Encoding), p.Data...) }

func parseCertReq(_ PayloadType, s cryptobyte.String) (Payload, string) {
	p := &CertReq{}
	if !s.ReadUint8(&p.Encoding) {
		return nil, short
	}
	p.Data = rest(&s)
	return p, ""
}
