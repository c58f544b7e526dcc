package kem

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/internal/testing/vectors"
)

func TestLengths(t *testing.T) {
	for i := range suite.KEMs {
		k := &suite.KEMs[i]
		seed := secret.Bytes(bytes.Repeat([]byte{byte(i + 1)}, SeedLen))
		public, err := Public(k, seed)
		if err != nil || len(public) != k.PublicLen {
			t.Fatalf("%s: %d bytes, not %d: %v", k.Name, len(public), k.PublicLen, err)
		}
		c, s, err := Encapsulate(k, public)
		if err != nil || len(c) != k.CipherLen || len(s) != SharedLen {
			t.Fatalf("%s: %d bytes, not %d: %v", k.Name, len(c), k.CipherLen, err)
		}
		got, err := Decapsulate(k, seed, c)
		if err != nil || !got.Equal(s) {
			t.Errorf("%s: the secrets differ: %v", k.Name, err)
		}
		// Changed, it gives another secret; the wrong length is an error.
		c[5] ^= 1
		if got, err = Decapsulate(k, seed, c); err != nil || got.Equal(s) {
			t.Errorf("%s: a changed ciphertext: %v", k.Name, err)
		}
		for _, n := range []int{0, 1, k.CipherLen - 1} {
			if _, err := Decapsulate(k, seed, c[:n]); !errors.Is(err, ErrCiphertext) {
				t.Errorf("%s: a ciphertext of %d bytes: %v", k.Name, n, err)
			}
			if _, _, err := Encapsulate(k, public[:n]); !errors.Is(err, ErrPublic) {
				t.Errorf("%s: a key of %d bytes: %v", k.Name, n, err)
			}
		}
		if _, _, err := Encapsulate(k, bytes.Repeat([]byte{0xff}, k.PublicLen)); !errors.Is(err, ErrPublic) {
			t.Errorf("%s: a key that is not reduced: %v", k.Name, err)
		}
		if _, err := Public(k, seed[:63]); err == nil {
			t.Errorf("%s: a short seed is taken", k.Name)
		}
		for _, n := range []int{0, SeedLen - 1} {
			if _, err := Decapsulate(k, seed[:n], c); err == nil {
				t.Errorf("%s: a seed of %d bytes is taken", k.Name, n)
			}
		}
		if _, err := Decapsulate(k, seed, append(c, 0)); !errors.Is(err, ErrCiphertext) {
			t.Errorf("%s: a ciphertext and a byte: %v", k.Name, err)
		}
		if _, _, err := Encapsulate(k, append(public, 0)); !errors.Is(err, ErrPublic) {
			t.Errorf("%s: a key and a byte: %v", k.Name, err)
		}
	}
}

// Wycheproof: seeds, what they make public, and what ciphertexts give.
func TestWycheproof(t *testing.T) {
	var file struct {
		TestGroups []struct {
			ParameterSet string
			Tests        []struct {
				TcID           int
				Seed, Ek, C, K vectors.Hex
				Result         string
			}
		}
	}
	vectors.Load(t, "wycheproof/mlkem_768_test.json", &file)
	k := suite.KEMByName("ml-kem-768")
	n := 0
	for _, g := range file.TestGroups {
		for _, c := range g.Tests {
			if g.ParameterSet != "ML-KEM-768" || len(c.Seed) != SeedLen {
				continue
			}
			n++
			public, err := Public(k, secret.Bytes(c.Seed))
			if err != nil || len(c.Ek) > 0 && !bytes.Equal(public, c.Ek) {
				t.Errorf("%d: the public value differs: %v", c.TcID, err)
			}
			got, err := Decapsulate(k, secret.Bytes(c.Seed), c.C)
			if c.Result == "valid" && (err != nil || !got.Equal(secret.Bytes(c.K))) || c.Result != "valid" && err == nil {
				t.Errorf("%d (%s): %v", c.TcID, c.Result, err)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d vectors", n)
	}
}

// ACVP: which encapsulation keys are taken.
func TestACVPKeyCheck(t *testing.T) {
	var file struct {
		TestGroups []struct {
			ParameterSet, Function string
			Tests                  []struct {
				TcID       int
				Ek         vectors.Hex
				TestPassed bool
			}
		}
	}
	vectors.Load(t, "acvp/ML-KEM-encapDecap-FIPS203.json", &file)
	n := [2]int{}
	for _, g := range file.TestGroups {
		k := suite.KEMByName(strings.ToLower(g.ParameterSet))
		if k == nil || g.Function != "encapsulationKeyCheck" {
			continue
		}
		for _, c := range g.Tests {
			_, _, err := Encapsulate(k, c.Ek)
			if (err == nil) != c.TestPassed {
				t.Errorf("%s %d: %v", g.ParameterSet, c.TcID, err)
			}
			if c.TestPassed {
				n[1]++
			} else {
				n[0]++
			}
		}
	}
	if n[0] == 0 || n[1] == 0 {
		t.Errorf("%v keys to refuse and to take", n)
	}
}

// FuzzKEM: whatever a peer sends as its key or its ciphertext is refused, or gives a
// secret; what was made with our key comes out of it.
func FuzzKEM(f *testing.F) {
	seed := secret.Bytes(bytes.Repeat([]byte{5}, SeedLen))
	for i := range suite.KEMs {
		k := &suite.KEMs[i]
		public, err := Public(k, seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), public)
		f.Add(byte(i), make([]byte, k.CipherLen))
		f.Add(byte(i), bytes.Repeat([]byte{255}, k.PublicLen))
	}
	f.Fuzz(func(t *testing.T, n byte, data []byte) {
		k := &suite.KEMs[int(n)%len(suite.KEMs)]
		if c, shared, err := Encapsulate(k, data); err == nil && (len(data) != k.PublicLen || len(c) != k.CipherLen || len(shared) != SharedLen) {
			t.Fatalf("%s: %d bytes of %d", k.Name, len(c), len(data))
		}
		if shared, err := Decapsulate(k, seed, data); (err == nil) != (len(data) == k.CipherLen) || err == nil && len(shared) != SharedLen {
			t.Fatalf("%s: %d bytes: %d, %v", k.Name, len(data), len(shared), err)
		}
	})
}
