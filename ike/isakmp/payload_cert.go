package isakmp

import "golang.org/x/crypto/cryptobyte"

// The encodings of certificates (RFC 2408 §3.9, RFC 4945 §3.3.1).
const (
	CertPKCS7 uint8 = 1 // X.509 certificates wrapped in PKCS #7
	CertX509  uint8 = 4 // X.509 certificate for signatures
	CertKeyEx uint8 = 5 // X.509 certificate for key exchange
	CertCRL   uint8 = 7
)

// Cert is the Certificate payload (RFC 2408 §3.9).
type Cert struct {
	Encoding uint8
	Data     []byte
}

// CertReq is the Certificate Request payload (RFC 2408 §3.10). For X.509, CA is
// the DER of an issuer's name; empty for any.
type CertReq struct {
	Encoding uint8
	CA       []byte
}

func (p *Cert) Type() PayloadType    { return TypeCert }
func (p *CertReq) Type() PayloadType { return TypeCertReq }

func (p *Cert) AppendBody(b []byte) []byte    { return append(append(b, p.Encoding), p.Data...) }
func (p *CertReq) AppendBody(b []byte) []byte { return append(append(b, p.Encoding), p.CA...) }

func parseCert(_ PayloadType, s cryptobyte.String, _ *Odd) (Payload, string) {
	p := &Cert{}
	if !s.ReadUint8(&p.Encoding) {
		return nil, short
	}
	p.Data = rest(&s)
	return p, ""
}

func parseCertReq(_ PayloadType, s cryptobyte.String, _ *Odd) (Payload, string) {
	p := &CertReq{}
	if !s.ReadUint8(&p.Encoding) {
		return nil, short
	}
	p.CA = rest(&s)
	return p, ""
}
