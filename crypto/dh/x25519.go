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

func (c x25519) shared(private, peer []byte) (secret.Bytes, error) {
	_, s, err := c.both(private, peer)
	return s, err
}

// both refuses an all-zero result, which a point of small order gives (RFC 7748
// §6.1). NewPrivateKey has computed the public value, whoever wants it.
func (x25519) both(private, peer []byte) ([]byte, secret.Bytes, error) {
	key, err := ecdh.X25519().NewPrivateKey(private)
	if err != nil {
		return nil, nil, ErrPrivate
	}
	pub, err := ecdh.X25519().NewPublicKey(peer)
	if err != nil {
		return nil, nil, ErrPublic
	}
	s, err := key.ECDH(pub)
	if err != nil {
		return nil, nil, ErrPublic
	}
	return key.PublicKey().Bytes(), s, nil
}
