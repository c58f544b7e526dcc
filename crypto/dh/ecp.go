package dh

import (
	"bytes"
	"crypto/ecdh"
	"crypto/elliptic"
	"math/big"
	"sync"

	"culvert/crypto/secret"

	"filippo.io/bigmod"
)

// ecp is ECDH on a curve over a prime field (RFC 5903).
type ecp struct {
	curve ecdh.Curve
	size  int                    // of a coordinate, and of the order
	bound func() *bigmod.Modulus // order - 1
}

var (
	ecp256 = ecp{ecdh.P256(), 32, orderMinusOne(elliptic.P256())}
	ecp384 = ecp{ecdh.P384(), 48, orderMinusOne(elliptic.P384())}
	ecp521 = ecp{ecdh.P521(), 66, orderMinusOne(elliptic.P521())}
)

func orderMinusOne(c elliptic.Curve) func() *bigmod.Modulus {
	return sync.OnceValue(func() *bigmod.Modulus {
		m, err := bigmod.NewModulus(new(big.Int).Sub(c.Params().N, big.NewInt(1)).Bytes())
		if err != nil {
			panic("dh: a curve's order is no modulus: " + err.Error())
		}
		return m
	})
}

// randomLen has 64 bits more than the order, so that reducing them leaves a
// bias below 2^-64 (FIPS 186-5 §A.2.1).
func (e ecp) randomLen() int { return e.size + 8 }

// private is d = (c mod (n-1)) + 1, in constant time (FIPS 186-5 §A.2.1).
func (e ecp) private(random []byte) (secret.Bytes, error) {
	bound := e.bound()
	d := secret.Bytes(reduce(random, bound))
	addOne(d)
	return d, nil
}

// addOne adds one to a big-endian number, in constant time.
func addOne(d []byte) {
	carry := uint16(1)
	for i := len(d) - 1; i >= 0; i-- {
		carry += uint16(d[i])
		d[i] = byte(carry)
		carry >>= 8
	}
}

// reduce is c mod m, as long as m, in constant time. bigmod takes a number that
// is wider than m only as a Nat of a wider modulus: all ones with a byte more
// than c is above every c.
func reduce(c []byte, m *bigmod.Modulus) []byte {
	wide, err := bigmod.NewModulus(bytes.Repeat([]byte{0xff}, len(c)+1))
	if err != nil {
		panic("dh: " + err.Error())
	}
	n, err := bigmod.NewNat().SetBytes(append(make([]byte, 1, len(c)+1), c...), wide)
	if err != nil {
		panic("dh: a number is not below a longer one: " + err.Error())
	}
	return bigmod.NewNat().Mod(n, m).Bytes(m)
}

func (e ecp) public(private []byte) ([]byte, error) {
	key, err := e.curve.NewPrivateKey(private)
	if err != nil {
		return nil, ErrPrivate
	}
	return key.PublicKey().Bytes()[1:], nil // without the 0x04 of SEC 1
}

func (e ecp) shared(private, peer []byte) (secret.Bytes, error) {
	_, s, err := e.both(private, peer)
	return s, err
}

// both: NewPublicKey refuses coordinates that are not below p and points that
// are not on the curve (RFC 6989 §2.3); the point at infinity has no x | y.
// NewPrivateKey has computed the public value, whoever wants it.
func (e ecp) both(private, peer []byte) ([]byte, secret.Bytes, error) {
	key, err := e.curve.NewPrivateKey(private)
	if err != nil {
		return nil, nil, ErrPrivate
	}
	point := append(make([]byte, 0, 1+2*e.size), 4)
	pub, err := e.curve.NewPublicKey(append(point, peer...))
	if err != nil {
		return nil, nil, ErrPublic
	}
	x, err := key.ECDH(pub)
	if err != nil {
		return nil, nil, ErrPublic
	}
	return key.PublicKey().Bytes()[1:], x, nil
}
