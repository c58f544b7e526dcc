package dh

import (
	"crypto/ecdh"

	"culvert/crypto/secret"
)

// x25519 is Curve25519 as RFC 8031 puts it into IKE: 32 random bytes are the
// private value, clamped by the function itself (RFC 7748 §5).
type x25519 struct{}

func (x25519) randomLen() int { return 32 }

func (x25519) private(random []byte) (secret.Bytes, error) {
	return secret.Bytes(random).Clone(), nil
}

func (x25519) public(private []byte) ([]byte, error) {
	key, err := ecdh.X25519().NewPrivateKey(private)
	if err != nil {
		return nil, ErrPrivate
	}
	return key.PublicKey().Bytes(), nil
}

// shared refuses an all-zero result, which a point of small order gives (RFC 7748 §6.1).
func (x25519) shared(private, peer []byte) (secret.Bytes, error) {
	key, err := ecdh.X25519().NewPrivateKey(private)
	if err != nil {
		return nil, ErrPrivate
	}
	pub, err := ecdh.X25519().NewPublicKey(peer)
	if err != nil {
		return nil, ErrPublic
	}
	s, err := key.ECDH(pub)
	if err != nil {
		return nil, ErrPublic
	}
	return s, nil
}
