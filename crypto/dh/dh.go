package dh

import (
	"errors"
	"fmt"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
)

var (
	// ErrPublic says that the peer's public value is not one of its group:
	// wrong length, 0, 1 or p-1, a point that is not on the curve, or a
	// point of small order on Curve25519 or EC2N. The exchange has to fail.
	ErrPublic = errors.New("the peer's Diffie-Hellman public value is not valid in this group")
	// ErrPrivate says that a private value does not come from NewPrivate for the same group.
	ErrPrivate = errors.New("the Diffie-Hellman private value does not belong to this group; make it with NewPrivate")
	// ErrRandom says that NewPrivate was not given exactly RandomLen bytes.
	ErrRandom = errors.New("NewPrivate needs exactly as many random bytes as RandomLen says")
)

// group is one method of key exchange.
type group interface {
	randomLen() int
	private(random []byte) (secret.Bytes, error)
	public(private []byte) ([]byte, error)
	shared(private, peer []byte) (secret.Bytes, error)
	both(private, peer []byte) ([]byte, secret.Bytes, error)
}

// groups has one row for each row of suite.Groups, by IANA transform ID.
var groups = map[uint16]group{
	1:  modp{exponent: 30, modulus: modp768},
	2:  modp{exponent: 30, modulus: modp1024},
	3:  ec2n155,
	4:  ec2n185,
	5:  modp{exponent: 30, modulus: modp1536},
	14: modp{exponent: 40, modulus: modp2048},
	15: modp{exponent: 53, modulus: modp3072},
	16: modp{exponent: 60, modulus: modp4096},
	17: modp{exponent: 68, modulus: modp6144},
	18: modp{exponent: 78, modulus: modp8192},
	19: ecp256,
	20: ecp384,
	21: ecp521,
	31: x25519{},
}

// RandomLen is the number of random bytes that NewPrivate needs. It panics, as
// the other functions do, if g is no row of suite.Groups.
func RandomLen(g *suite.Group) int { return of(g).randomLen() }

// NewPrivate derives a private value from RandomLen uniformly random bytes. The
// result belongs to the caller, who wipes it and the random bytes; it is a
// function of them alone. The only error for a sound caller is ErrRandom.
func NewPrivate(g *suite.Group, random []byte) (secret.Bytes, error) {
	m := of(g)
	if len(random) != m.randomLen() {
		return nil, fmt.Errorf("%s: %w (%d, not %d)", g.Name, ErrRandom, m.randomLen(), len(random))
	}
	return m.private(random)
}

// Public is the public value of a private one, g.PublicLen bytes as they stand
// in a KE payload: big endian with leading zeros for MODP (RFC 7296 §3.4),
// x | y for ECP (RFC 5903 §7), the u-coordinate for Curve25519 (RFC 8031 §3.1), x for
// EC2N (RFC 2409 §6.3).
func Public(g *suite.Group, private secret.Bytes) ([]byte, error) {
	pub, err := of(g).public(private)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", g.Name, err)
	}
	return pub, nil
}

// Shared is g^ir, the input of SKEYSEED: the prime's length with leading zeros
// for MODP (RFC 7296 §2.14), the x-coordinate for ECP (RFC 5903 §7) and EC2N. The
// peer's value is checked first; a bad one is ErrPublic.
func Shared(g *suite.Group, private secret.Bytes, peerPublic []byte) (secret.Bytes, error) {
	if len(peerPublic) != g.PublicLen {
		return nil, fmt.Errorf("%s: %w: it has %d bytes, not %d", g.Name, ErrPublic, len(peerPublic), g.PublicLen)
	}
	s, err := of(g).shared(private, peerPublic)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", g.Name, err)
	}
	return s, nil
}

// Both is Public and Shared, for less than the two: who answers has the peer's
// value before it makes its own.
func Both(g *suite.Group, private secret.Bytes, peerPublic []byte) ([]byte, secret.Bytes, error) {
	if len(peerPublic) != g.PublicLen {
		return nil, nil, fmt.Errorf("%s: %w: it has %d bytes, not %d", g.Name, ErrPublic, len(peerPublic), g.PublicLen)
	}
	pub, s, err := of(g).both(private, peerPublic)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", g.Name, err)
	}
	return pub, s, nil
}

func of(g *suite.Group) group {
	m, ok := groups[g.ID]
	if !ok {
		panic(fmt.Sprintf("dh: group %d (%s) has no implementation", g.ID, g.Name))
	}
	return m
}
