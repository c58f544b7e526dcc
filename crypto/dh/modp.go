package dh

import (
	"encoding/hex"

	"culvert/crypto/secret"

	"filippo.io/bigmod"
)

// modp is exponentiation modulo a safe prime with generator 2 (RFC 3526), in
// constant time for the exponent.
type modp struct {
	exponent int                    // length of a fresh private value; RFC 3526 §8 says what suffices
	modulus  func() *bigmod.Modulus // parsed on first use
}

func (m modp) randomLen() int { return m.exponent }

// private sets the top bit, so that every exponent has the same length and none is 0 or 1.
func (m modp) private(random []byte) (secret.Bytes, error) {
	x := secret.Bytes(random).Clone()
	x[0] |= 0x80
	return x, nil
}

func (m modp) public(private []byte) ([]byte, error) {
	p := m.modulus()
	if len(private) == 0 || len(private) > p.Size() {
		return nil, ErrPrivate
	}
	g := bigmod.NewNat().SetUint(2).ExpandFor(p)
	return bigmod.NewNat().Exp(g, private, p).Bytes(p), nil
}

// shared refuses everything outside 1 < y < p-1 (RFC 6989 §2.1). Within these
// bounds a safe prime has only the subgroups of order q and 2q, where the most
// that can leak is the exponent's lowest bit.
func (m modp) shared(private, peer []byte) (secret.Bytes, error) {
	p := m.modulus()
	if len(private) == 0 || len(private) > p.Size() {
		return nil, ErrPrivate
	}
	y, err := bigmod.NewNat().SetBytes(peer, p)
	if err != nil || y.IsZero() == 1 || y.IsOne() == 1 || y.IsMinusOne(p) == 1 {
		return nil, ErrPublic
	}
	return bigmod.NewNat().Exp(y, private, p).Bytes(p), nil
}

func (m modp) both(private, peer []byte) ([]byte, secret.Bytes, error) {
	s, err := m.shared(private, peer)
	if err != nil {
		return nil, nil, err
	}
	pub, err := m.public(private)
	return pub, s, err
}

// parsePrime turns a constant of this package into a modulus.
func parsePrime(digits string) *bigmod.Modulus {
	b, err := hex.DecodeString(digits)
	if err != nil {
		panic("dh: a prime's constant is not hexadecimal: " + err.Error())
	}
	p, err := bigmod.NewModulus(b)
	if err != nil {
		panic("dh: a prime's constant is no modulus: " + err.Error())
	}
	return p
}
