package sign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Bounds on RSA keys in bits. Shorter ones are broken; longer ones cost whoever
// verifies more than they are worth.
const (
	MinRSA  = 1024
	GoodRSA = 2048
	MaxRSA  = 8192
)

// CheckKey says why a public key cannot be used at all.
func CheckKey(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < MinRSA || n > MaxRSA {
			return fmt.Errorf("its RSA key has %d bits, accepted: %d to %d", n, MinRSA, MaxRSA)
		}
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 256, 384, 521:
		default:
			return fmt.Errorf("its key is on the curve %s, accepted: P-256, P-384, P-521", k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return errors.New("its key is of a kind that is not supported, accepted: RSA, ECDSA on P-256, P-384 and P-521, Ed25519")
	}
	return nil
}

// Weak reports whether the key is an RSA key shorter than is good today.
func Weak(public crypto.PublicKey) bool {
	k, ok := public.(*rsa.PublicKey)
	return ok && k.N.BitLen() < GoodRSA
}

// Fits reports whether the scheme goes with the key.
func (s *Scheme) Fits(public crypto.PublicKey) bool {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return s.Family == RSA || s.Family == RSAPSS
	case *ecdsa.PublicKey:
		return s.Family == ECDSA || s.Family == ECDSARS && k.Curve.Params().BitSize == s.Curve
	case ed25519.PublicKey:
		return s.Family == Ed25519
	}
	return false
}

// digest is what is signed of a message.
func (s *Scheme) digest(message []byte) []byte {
	if s.Hash == 0 {
		return message
	}
	h := s.Hash.New()
	h.Write(message)
	return h.Sum(nil)
}

// Sign signs a message. Randomised schemes draw from the system, which is why
// IKE has this done elsewhere.
func (s *Scheme) Sign(key crypto.Signer, message []byte) ([]byte, error) {
	if key == nil || !s.Fits(key.Public()) {
		return nil, fmt.Errorf("the key does not go with %s", s.Name)
	}
	var opts crypto.SignerOpts = s.Hash
	if s.Family == RSAPSS {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: s.Hash}
	}
	signature, err := key.Sign(rand.Reader, s.digest(message), opts)
	if err != nil || s.Family != ECDSARS {
		return signature, err
	}
	return derToRS(signature, (s.Curve+7)/8)
}

// ErrSignature is that of a signature that was not made by the key over the message.
var ErrSignature = errors.New("the signature is wrong")

// Verify checks a signature.
func (s *Scheme) Verify(public crypto.PublicKey, message, signature []byte) error {
	if err := CheckKey(public); err != nil {
		return err
	}
	if !s.Fits(public) {
		return fmt.Errorf("the peer signed by %s, which its key is not for", s.Name)
	}
	digest := s.digest(message)
	ok := false
	switch k := public.(type) {
	case *rsa.PublicKey:
		if s.Family == RSAPSS {
			ok = rsa.VerifyPSS(k, s.Hash, digest, signature, &rsa.PSSOptions{SaltLength: s.Hash.Size()}) == nil
		} else {
			ok = rsa.VerifyPKCS1v15(k, s.Hash, digest, signature) == nil
		}
	case *ecdsa.PublicKey:
		if s.Family == ECDSARS {
			signature = rsToDER(signature, (s.Curve+7)/8)
		}
		ok = ecdsa.VerifyASN1(k, digest, signature)
	case ed25519.PublicKey:
		ok = ed25519.Verify(k, digest, signature)
	}
	if !ok {
		return ErrSignature
	}
	return nil
}

func derToRS(der []byte, size int) ([]byte, error) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	r, s := new(big.Int), new(big.Int)
	if !in.ReadASN1(&seq, asn1.SEQUENCE) || !seq.ReadASN1Integer(r) || !seq.ReadASN1Integer(s) {
		return nil, errors.New("the signer made no ECDSA signature")
	}
	out := make([]byte, 2*size)
	r.FillBytes(out[:size])
	s.FillBytes(out[size:])
	return out, nil
}

// rsToDER is nil for a signature of another length.
func rsToDER(rs []byte, size int) []byte {
	if len(rs) != 2*size {
		return nil
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(rs[:size]))
		b.AddASN1BigInt(new(big.Int).SetBytes(rs[size:]))
	})
	der, err := b.Bytes()
	if err != nil {
		return nil
	}
	return der
}
