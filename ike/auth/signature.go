package auth

import (
	"crypto/ecdsa"
	"fmt"
	"strings"

	"culvert/crypto/secret"
	"culvert/crypto/sign"
	"culvert/crypto/suite"
	"culvert/ike/core"
)

// Octets are what a proof is made over (RFC 7296 §2.15).
func (s Signed) Octets(f *suite.PRF) []byte { return s.octets(f) }

// Sign is the Work of making the data of an AUTH payload that is a signature.
// What it answers is no secret.
type Sign struct {
	Own    *core.Credential
	Scheme *sign.Scheme
	Octets []byte
}

// Method is that of the AUTH payload.
func (w Sign) Method() uint8 { return MethodOf(w.Scheme) }

// MethodOf is the AUTH method that a scheme goes by.
func MethodOf(s *sign.Scheme) uint8 {
	if s.Method != 0 {
		return s.Method
	}
	return sign.MethodDigital
}

func (w Sign) Do() (secret.Bytes, error) {
	signature, err := w.Scheme.Sign(w.Own.Key.Signer(), w.Octets)
	if err != nil || w.Scheme.Method != 0 {
		return signature, err
	}
	return sign.AppendDigital(nil, w.Scheme, signature), nil
}

// Choose is the scheme that we sign with. hashes are those that the peer
// announced; none: it knows only the methods from before RFC 7427.
func Choose(own *core.Credential, hashes []sign.HashID) (*sign.Scheme, error) {
	public := own.Chain[0].PublicKey
	var best *sign.Scheme
	for i := range sign.Schemes {
		s := &sign.Schemes[i]
		if !s.Fits(public) || (s.Method == 0) != (len(hashes) > 0) {
			continue
		}
		if len(hashes) > 0 && !has(hashes, s.HashID) {
			continue
		}
		if best == nil || rank(own, s) > rank(own, best) {
			best = s
		}
	}
	if best != nil {
		return best, nil
	}
	if len(hashes) == 0 {
		return nil, fmt.Errorf("the peer has no signatures by RFC 7427, which the key of certificate %q needs: switch them on at the peer or use a certificate with an RSA or ECDSA key", own.Name)
	}
	return nil, fmt.Errorf("the peer takes signatures with %s only, and certificate %q has a key that does not go with them: allow another hash at the peer or use another certificate", hashNames(hashes), own.Name)
}

// rank prefers the padding that is wanted, and with a curve the hash of its size.
func rank(own *core.Credential, s *sign.Scheme) int {
	n := 0
	if (s.Family == sign.RSAPSS) == own.PSS {
		n += 2
	}
	if k, ok := own.Chain[0].PublicKey.(*ecdsa.PublicKey); ok && s.Family == sign.ECDSA {
		want := map[int]sign.HashID{256: sign.SHA256, 384: sign.SHA384, 521: sign.SHA512}[k.Curve.Params().BitSize]
		if s.HashID == want {
			n++
		}
	}
	return n
}

func has(list []sign.HashID, h sign.HashID) bool {
	for _, x := range list {
		if x == h {
			return true
		}
	}
	return false
}

func hashNames(list []sign.HashID) string {
	names := map[sign.HashID]string{sign.SHA1: "sha1", sign.SHA256: "sha256", sign.SHA384: "sha384", sign.SHA512: "sha512", sign.Identity: "identity"}
	var text []string
	for _, h := range list {
		if n, ok := names[h]; ok {
			text = append(text, n)
		} else {
			text = append(text, fmt.Sprint(uint16(h)))
		}
	}
	return strings.Join(text, ", ")
}

// HashNotify is the content of SIGNATURE_HASH_ALGORITHMS (RFC 7427 §4).
func HashNotify() []byte {
	var b []byte
	for _, h := range sign.Hashes {
		b = append(b, byte(h>>8), byte(h))
	}
	return b
}

// maxHashes bounds what is kept of a peer's list.
const maxHashes = 32

// ParseHashes reads SIGNATURE_HASH_ALGORITHMS. ok is false for what is no list.
func ParseHashes(b []byte) (list []sign.HashID, ok bool) {
	if len(b) == 0 || len(b)%2 != 0 {
		return nil, false
	}
	for ; len(b) > 0 && len(list) < maxHashes; b = b[2:] {
		list = append(list, sign.HashID(b[0])<<8|sign.HashID(b[1]))
	}
	return list, true
}

// MethodName is an AUTH method for people.
func MethodName(m uint8) string {
	switch m {
	case MethodSharedKey:
		return "pre-shared key"
	case sign.MethodRSA, sign.MethodECDSA256, sign.MethodECDSA384, sign.MethodECDSA521, sign.MethodDigital:
		return "signature"
	}
	return fmt.Sprintf("method %d", m)
}

// IsSignature reports whether an AUTH method is a signature.
func IsSignature(m uint8) bool { return MethodName(m) == "signature" }
