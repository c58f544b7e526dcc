package isakmp

import (
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}

	explicit0 = der.Tag(0).Constructed().ContextSpecific()
)

// UnwrapPKCS7 is the certificates (DER) in the data of a Cert payload of encoding CertPKCS7: a PKCS #7
// SignedData whose signatures do not matter (RFC 2315 §9.1). They alias data.
// At most 16 are taken. Attribute certificates and CRLs are passed over.
func UnwrapPKCS7(data []byte) ([][]byte, error) {
	s := cryptobyte.String(data)
	var info, content, signed, set, certs cryptobyte.String
	var oid asn1.ObjectIdentifier
	var version int
	var has bool
	switch {
	case !s.ReadASN1(&info, der.SEQUENCE) || !s.Empty() || !info.ReadASN1ObjectIdentifier(&oid):
		return nil, fmt.Errorf("the certificate payload is not PKCS #7 in DER")
	case !oid.Equal(oidSignedData):
		return nil, fmt.Errorf("the PKCS #7 in a certificate payload is %v, not signed data (%v)", oid, oidSignedData)
	case !info.ReadASN1(&content, explicit0) || !info.Empty() || !content.ReadASN1(&signed, der.SEQUENCE) || !content.Empty() ||
		!signed.ReadASN1Integer(&version) || !signed.ReadASN1(&set, der.SET) || !signed.SkipASN1(der.SEQUENCE) ||
		!signed.ReadOptionalASN1(&certs, &has, explicit0):
		return nil, fmt.Errorf("the PKCS #7 signed data in a certificate payload is malformed")
	}
	var all [][]byte
	for !certs.Empty() {
		var one cryptobyte.String
		var tag der.Tag
		if !certs.ReadAnyASN1Element(&one, &tag) {
			return nil, fmt.Errorf("the PKCS #7 signed data in a certificate payload is malformed")
		}
		if tag != der.SEQUENCE { // an extended or an attribute certificate
			continue
		}
		if len(all) == maxCerts {
			return nil, fmt.Errorf("the PKCS #7 signed data in a certificate payload has more than %d certificates", maxCerts)
		}
		all = append(all, one[:len(one):len(one)])
	}
	return all, nil
}

// WrapPKCS7 is the data of a Cert payload of encoding CertPKCS7 with these certificates
// (DER), without signatures.
func WrapPKCS7(certs [][]byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidSignedData)
		b.AddASN1(explicit0, func(b *cryptobyte.Builder) {
			b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(der.SET, func(*cryptobyte.Builder) {})
				b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidData) })
				b.AddASN1(explicit0, func(b *cryptobyte.Builder) {
					for _, c := range certs {
						b.AddBytes(c)
					}
				})
				b.AddASN1(der.SET, func(*cryptobyte.Builder) {})
			})
		})
	})
	return b.Bytes()
}
