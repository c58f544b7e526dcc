package dh

import (
	"bytes"
	"crypto/elliptic"
	"errors"
	"math/big"
	"math/rand/v2"
	"testing"
)

// A private value on a curve is d = (c mod (n-1)) + 1 (FIPS 186-5 §A.2.1), also where
// the one that is added is carried through all bytes.
func TestPrivateOnCurves(t *testing.T) {
	for e, params := range map[*ecp]*elliptic.CurveParams{&ecp256: elliptic.P256().Params(), &ecp384: elliptic.P384().Params(), &ecp521: elliptic.P521().Params()} {
		bound := new(big.Int).Sub(params.N, big.NewInt(1))
		carries := append(make([]byte, e.randomLen()-e.size+1), bytes.Repeat([]byte{0xff}, e.size-1)...)
		all := [][]byte{make([]byte, e.randomLen()), bytes.Repeat([]byte{0xff}, e.randomLen()), carries}
		for _, c := range []*big.Int{bound, new(big.Int).Sub(bound, big.NewInt(1)), params.N} {
			all = append(all, c.FillBytes(make([]byte, e.randomLen())))
		}
		r := rand.New(rand.NewPCG(1, uint64(e.size)))
		for range 50 {
			b := make([]byte, e.randomLen())
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			all = append(all, b)
		}
		for _, random := range all {
			want := new(big.Int).SetBytes(random)
			want.Add(want.Mod(want, bound), big.NewInt(1))
			got, err := e.private(random)
			if err != nil || !bytes.Equal(got, want.FillBytes(make([]byte, e.size))) {
				t.Errorf("%s, %x: %x, %v, want %x", params.Name, random, []byte(got), err, want)
			}
			if _, err := e.public(got); err != nil {
				t.Errorf("%s, %x: %v", params.Name, random, err)
			}
		}
	}
}

// An exponent has its top bit set, and is no longer than the prime.
func TestPrivateExponents(t *testing.T) {
	m := modp{exponent: 32, modulus: groups[14].(modp).modulus}
	for _, random := range [][]byte{make([]byte, 32), bytes.Repeat([]byte{0x7f}, 32), bytes.Repeat([]byte{0xff}, 32)} {
		was := bytes.Clone(random)
		x, err := m.private(random)
		if err != nil || x[0] != was[0]|0x80 || !bytes.Equal(x[1:], was[1:]) || !bytes.Equal(random, was) {
			t.Errorf("%x became %x, %v", was, []byte(x), err)
		}
	}
	size := m.modulus().Size()
	for n, good := range map[int]bool{0: false, 1: true, size: true, size + 1: false} {
		private := bytes.Repeat([]byte{3}, n)
		pub, err := m.public(private)
		if (err == nil) != good || !good && !errors.Is(err, ErrPrivate) || good && len(pub) != size {
			t.Errorf("public, %d bytes: %v", n, err)
		}
		if _, err := m.shared(private, append(make([]byte, size-1), 5)); (err == nil) != good || !good && !errors.Is(err, ErrPrivate) {
			t.Errorf("shared, %d bytes: %v", n, err)
		}
	}
}
