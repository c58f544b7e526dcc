package kem

import (
	"crypto/mlkem"
	"errors"
	"fmt"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
)

// SeedLen is the length of a private key: the seed d | z of FIPS 203 §7.1.
const SeedLen = mlkem.SeedSize

// SharedLen is the length of the shared secret.
const SharedLen = mlkem.SharedKeySize

// ErrPublic says that an encapsulation key has the wrong length or is not
// reduced (FIPS 203 §7.2), ErrCiphertext that a ciphertext has the wrong length.
// A ciphertext of the right length that was not made with the key gives another
// secret, which nobody else has (implicit rejection).
var (
	ErrPublic     = errors.New("the peer's encapsulation key is not valid")
	ErrCiphertext = errors.New("the peer's ciphertext has the wrong length")
)

// Public is the encapsulation key of a seed, k.PublicLen bytes.
func Public(k *suite.KEM, seed secret.Bytes) ([]byte, error) {
	if k.ID == 37 {
		d, err := mlkem.NewDecapsulationKey1024(seed)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.Name, err)
		}
		return d.EncapsulationKey().Bytes(), nil
	}
	d, err := mlkem.NewDecapsulationKey768(seed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.Name, err)
	}
	return d.EncapsulationKey().Bytes(), nil
}

// Encapsulate makes a secret for the holder of an encapsulation key, and the
// ciphertext of k.CipherLen bytes that gives it to that one.
func Encapsulate(k *suite.KEM, public []byte) (ciphertext []byte, shared secret.Bytes, err error) {
	if k.ID == 37 {
		e, err := mlkem.NewEncapsulationKey1024(public)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", k.Name, ErrPublic)
		}
		shared, ciphertext := e.Encapsulate()
		return ciphertext, shared, nil
	}
	e, err := mlkem.NewEncapsulationKey768(public)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", k.Name, ErrPublic)
	}
	s, c := e.Encapsulate()
	return c, s, nil
}

// Decapsulate is the secret that a ciphertext gives to the holder of the seed.
func Decapsulate(k *suite.KEM, seed secret.Bytes, ciphertext []byte) (shared secret.Bytes, err error) {
	if len(ciphertext) != k.CipherLen {
		return nil, fmt.Errorf("%s: %w: %d bytes, not %d", k.Name, ErrCiphertext, len(ciphertext), k.CipherLen)
	}
	if k.ID == 37 {
		d, err := mlkem.NewDecapsulationKey1024(seed)
		if err != nil {
			return nil, err
		}
		return d.Decapsulate(ciphertext)
	}
	d, err := mlkem.NewDecapsulationKey768(seed)
	if err != nil {
		return nil, err
	}
	return d.Decapsulate(ciphertext)
}
