package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAlgorithms: the AlgorithmIdentifiers of RFC 7427 App. A and RFC 8420 App. A, both ways.
func TestAlgorithms(t *testing.T) {
	for name, der := range map[string]string{
		"rsa-sha256":     "300d 0609 2a86 4886 f70d 0101 0b05 00",
		"rsa-sha384":     "300d 0609 2a86 4886 f70d 0101 0c05 00",
		"rsa-sha512":     "300d 0609 2a86 4886 f70d 0101 0d05 00",
		"ecdsa-sha256":   "300a 0608 2a86 48ce 3d04 0302",
		"ecdsa-sha384":   "300a 0608 2a86 48ce 3d04 0303",
		"ecdsa-sha512":   "300a 0608 2a86 48ce 3d04 0304",
		"ed25519":        "3005 0603 2b65 70",
		"rsa-pss-sha256": "3041 0609 2a86 4886 f70d 0101 0a30 34a0 0f30 0d06 0960 8648 0165 0304 0201 0500 a11c 301a 0609 2a86 4886 f70d 0101 0830 0d06 0960 8648 0165 0304 0201 0500 a203 0201 20",
		"rsa-pss-sha512": "3041 0609 2a86 4886 f70d 0101 0a30 34a0 0f30 0d06 0960 8648 0165 0304 0203 0500 a11c 301a 0609 2a86 4886 f70d 0101 0830 0d06 0960 8648 0165 0304 0203 0500 a203 0201 40",
	} {
		want := unhex(t, der)
		s := ByName(name)
		if got := s.Algorithm(); !bytes.Equal(got, want) {
			t.Errorf("%s: %x, want %x", name, got, want)
		}
		if got, err := ParseAlgorithm(want); got != s {
			t.Errorf("%s was read as %v, %v", name, got, err)
		}
		for i := range want {
			if got, err := ParseAlgorithm(want[:i]); err == nil {
				t.Errorf("%s cut at %d was read as %s", name, i, got.Name)
			}
		}
	}
	// Parameters that may be left out.
	for name, der := range map[string]string{
		"rsa-sha256":     "300b 0609 2a86 4886 f70d 0101 0b",
		"ecdsa-sha256":   "300c 0608 2a86 48ce 3d04 0302 0500",
		"rsa-pss-sha256": "303d 0609 2a86 4886 f70d 0101 0a30 30a0 0d30 0b06 0960 8648 0165 0304 0201 a11a 3018 0609 2a86 4886 f70d 0101 0830 0b06 0960 8648 0165 0304 0201 a203 0201 20",
	} {
		if got, err := ParseAlgorithm(unhex(t, der)); got != ByName(name) {
			t.Errorf("%s without parameters was read as %v, %v", name, got, err)
		}
	}
	for what, der := range map[string]string{
		"SHA-1 with RSA":                    "300d 0609 2a86 4886 f70d 0101 0505 00",
		"ECDSA with SHA-1":                  "3009 0607 2a86 48ce 3d04 01",
		"RSASSA-PSS with SHA-1":             "300d 0609 2a86 4886 f70d 0101 0a30 00",
		"RSASSA-PSS, MGF1 with another":     "3041 0609 2a86 4886 f70d 0101 0a30 34a0 0f30 0d06 0960 8648 0165 0304 0201 0500 a11c 301a 0609 2a86 4886 f70d 0101 0830 0d06 0960 8648 0165 0304 0203 0500 a203 0201 20",
		"RSASSA-PSS, a salt of no bytes":    "3041 0609 2a86 4886 f70d 0101 0a30 34a0 0f30 0d06 0960 8648 0165 0304 0201 0500 a11c 301a 0609 2a86 4886 f70d 0101 0830 0d06 0960 8648 0165 0304 0201 0500 a203 0201 00",
		"RSASSA-PSS without parameters":     "300b 0609 2a86 4886 f70d 0101 0a",
		"bytes behind":                      "3005 0603 2b65 70 00",
		"Ed448":                             "3005 0603 2b65 71",
		"parameters of Ed25519 that no one": "3008 0603 2b65 70 0201 00",
	} {
		if got, err := ParseAlgorithm(unhex(t, der)); err == nil {
			t.Errorf("%s was taken as %s", what, got.Name)
		}
	}
}

type signer struct {
	name string
	key  crypto.Signer
}

func signers(t testing.TB) []signer {
	t.Helper()
	must := func(k crypto.Signer, err error) crypto.Signer {
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	return []signer{{"rsa", rsa2048}, {"p256", p256}, {"p384", p384}, {"p521", p521}, {"ed25519", must(ed, err)}}
}

// TestEveryScheme: with every key that it fits, a scheme verifies what it
// signed, and nothing else; with every other key it neither signs nor verifies.
func TestEveryScheme(t *testing.T) {
	keys, strangers := signers(t), signers(t)
	message := []byte("the octets of RFC 7296 §2.15")
	used := map[string]bool{}
	for i := range Schemes {
		s := &Schemes[i]
		for n, k := range keys {
			sig, err := s.Sign(k.key, message)
			if !s.Fits(k.key.Public()) {
				if err == nil || s.Verify(k.key.Public(), message, make([]byte, 64)) == nil {
					t.Errorf("%s went with the key %s", s.Name, k.name)
				}
				continue
			}
			used[s.Name] = true
			if err != nil {
				t.Errorf("%s with %s: %v", s.Name, k.name, err)
				continue
			}
			if err := s.Verify(k.key.Public(), message, sig); err != nil {
				t.Errorf("%s with %s: %v", s.Name, k.name, err)
			}
			if s.Verify(strangers[n].key.Public(), message, sig) == nil {
				t.Errorf("%s: another %s key verified it", s.Name, k.name)
			}
			if s.Verify(k.key.Public(), append([]byte("x"), message...), sig) == nil {
				t.Errorf("%s with %s: another message verified", s.Name, k.name)
			}
			for _, cut := range []int{0, 1, len(sig) / 2, len(sig) - 1} {
				if s.Verify(k.key.Public(), message, sig[:cut]) == nil {
					t.Errorf("%s with %s: cut at %d it verified", s.Name, k.name, cut)
				}
			}
			if s.Verify(k.key.Public(), message, append(bytes.Clone(sig), 0)) == nil {
				t.Errorf("%s with %s: with a byte more it verified", s.Name, k.name)
			}
			for j := range Schemes {
				if o := &Schemes[j]; o != s && o.Fits(k.key.Public()) && o.Verify(k.key.Public(), message, sig) == nil {
					if o.Family == s.Family && o.Hash == s.Hash {
						continue
					}
					t.Errorf("a signature by %s with %s verified as %s", s.Name, k.name, o.Name)
				}
			}
			if s.Method != 0 {
				continue
			}
			data := AppendDigital(nil, s, sig)
			got, gotSig, err := ParseDigital(data)
			if err != nil || got != s || !bytes.Equal(gotSig, sig) {
				t.Errorf("%s came back as %v, %v", s.Name, got, err)
			}
		}
	}
	for i := range Schemes {
		if !used[Schemes[i].Name] {
			t.Errorf("%s was never tried", Schemes[i].Name)
		}
	}
}

// TestRFC4754 is the example of RFC 4754 §8.1, P-256 with SHA-256 over "abc".
func TestRFC4754(t *testing.T) {
	point := append([]byte{4}, unhex(t, "2442A5CC0ECD015FA3CA31DC8E2BBC70BF42D60CBCA20085E0822CB04235E970 6FC98BD7E50211A4A27102FA3549DF79EBCB4BF246B80945CDDFE7D509BBFD7D")...)
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	sig := unhex(t, "CB28E0999B9C7715FD0A80D8E47A77079716CBBF917DD72E97566EA1C066957C 86FA3BB4E26CAD5BF90B7F81899256CE7594BB1EA0C89212748BFF3B3D5B0315")
	s := ByName("ecdsa-256")
	if err := s.Verify(pub, []byte("abc"), sig); err != nil {
		t.Error(err)
	}
	if s.Verify(pub, []byte("abd"), sig) == nil {
		t.Error("another message verified")
	}
}

func TestWeakKeys(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	for bits, want := range map[int]string{512: "512 bits", 1024: "", 2048: ""} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		err = CheckKey(&k.PublicKey)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%d bits: %v", bits, err)
		}
		if Weak(&k.PublicKey) != (bits < 2048) {
			t.Errorf("%d bits: weak is %t", bits, Weak(&k.PublicKey))
		}
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if CheckKey(&p224.PublicKey) == nil || CheckKey("a string") == nil {
		t.Error("a key of no scheme was taken")
	}
}

func FuzzAlgorithm(f *testing.F) {
	for i := range Schemes {
		if Schemes[i].Method == 0 {
			f.Add(AppendDigital(nil, &Schemes[i], []byte("signature")))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, sig, err := ParseDigital(data)
		if err != nil {
			return
		}
		again, sig2, err := ParseDigital(AppendDigital(nil, s, sig))
		if err != nil || again != s || !bytes.Equal(sig, sig2) {
			t.Fatalf("%x became %v, %v", data, again, err)
		}
	})
}
