package cipher

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"

	"culvert/crypto/suite"
	"culvert/internal/vectors"
)

func TestEveryRowIsImplemented(t *testing.T) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		_, err := New(e, make([]byte, e.KeyLen))
		if !e.AEAD() && err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
		if e.AEAD() && err == nil {
			t.Errorf("%s is an AEAD and made as a mode that only encrypts", e.Name)
		}
	}
	for id := range cbc {
		if e := encrByID(id); e == nil || e.AEAD() || !e.Explicit || e.IVLen != e.Block {
			t.Errorf("implementation %d has no row, or one that is not of CBC", id)
		}
	}
}

func encrByID(id uint16) *suite.Encr {
	for i := range suite.Encrs {
		if suite.Encrs[i].ID == id {
			return &suite.Encrs[i]
		}
	}
	return nil
}

func TestNewRefuses(t *testing.T) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		for _, n := range []int{0, e.KeyLen - 1, e.KeyLen + 1, e.KeyLen + 8} {
			if _, err := New(e, make([]byte, n)); err == nil {
				t.Errorf("%s accepts a key of %d bytes", e.Name, n)
			}
		}
	}
}

func TestPublished(t *testing.T) {
	for _, v := range []struct{ from, name, key, iv, plain, cipher string }{
		{"RFC 3602 §4 case 1", "aes-128-cbc", "06a9214036b8a15b512e03d534120006", "3dafba429d9eb430b422da802c9fac41",
			hex.EncodeToString([]byte("Single block msg")), "e353779c1079aeb82708942dbe77181a"},
		{"RFC 3602 §4 case 2", "aes-128-cbc", "c286696d887c9aa0611bbb3e2025a45a", "562e17996d093d28ddb3ba695a2e6f58",
			"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			"d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1"},
		{"SP 800-38A F.2.3", "aes-192-cbc", "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", "000102030405060708090a0b0c0d0e0f",
			"6bc1bee22e409f96e93d7e117393172a", "4f021db243bc633d7178183a9fa071e8"},
		{"SP 800-38A F.2.5", "aes-256-cbc", "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "000102030405060708090a0b0c0d0e0f",
			"6bc1bee22e409f96e93d7e117393172a", "f58c4c04d6e5f1ba779eabfb5f7bfbd6"},
	} {
		var h [4][]byte
		for i, s := range []string{v.key, v.iv, v.plain, v.cipher} {
			b, err := hex.DecodeString(s)
			if err != nil {
				t.Fatal(err)
			}
			h[i] = b
		}
		published(t, v.from, suite.EncrByName(v.name), h[0], h[1], h[2], h[3])
	}
}

// published encrypts and decrypts a published case in place.
func published(t *testing.T, from string, e *suite.Encr, key, iv, plain, want []byte) {
	t.Helper()
	m, err := New(e, key)
	if err != nil {
		t.Fatalf("%s: %v", from, err)
	}
	buf, before := bytes.Clone(plain), bytes.Clone(iv)
	m.Encrypt(iv, buf)
	if !bytes.Equal(buf, want) {
		t.Errorf("%s: encrypted %x, want %x", from, buf, want)
	}
	m.Decrypt(iv, buf)
	if !bytes.Equal(buf, plain) {
		t.Errorf("%s: decrypted %x, want %x", from, buf, plain)
	}
	if !bytes.Equal(iv, before) {
		t.Errorf("%s: the IV was written to", from)
	}
}

func TestRoundTrip(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{1})
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		if e.AEAD() {
			continue // in crypto/aead
		}
		key := make([]byte, e.KeyLen)
		_, _ = rng.Read(key)
		m, err := New(e, key)
		if err != nil {
			t.Fatal(err)
		}
		clear(key) // New has copied it
		for n := 0; n <= 40*e.Block; n += e.Block {
			iv, plain := make([]byte, e.IVLen), make([]byte, n)
			_, _ = rng.Read(iv)
			_, _ = rng.Read(plain)
			buf := bytes.Clone(plain)
			m.Encrypt(iv, buf)
			if n > 0 && bytes.Equal(buf, plain) {
				t.Errorf("%s, %d bytes: nothing was encrypted", e.Name, n)
			}
			m.Decrypt(iv, buf)
			if !bytes.Equal(buf, plain) {
				t.Errorf("%s, %d bytes: not what was encrypted", e.Name, n)
			}
		}
	}
}

func TestACVP(t *testing.T) {
	var f struct {
		TestGroups []struct {
			KeyLen uint16
			Tests  []struct {
				TcID            int
				Key, IV, Pt, Ct vectors.Hex
			}
		}
	}
	vectors.Load(t, "acvp/ACVP-AES-CBC-1.0.json", &f)
	ran := 0
	for _, g := range f.TestGroups {
		for _, v := range g.Tests {
			ran++
			published(t, "ACVP", suite.EncrByID(12, g.KeyLen), v.Key, v.IV, v.Pt, v.Ct)
		}
	}
	if ran == 0 {
		t.Error("the file has no tests")
	}
}

// The cases of PKCS #5 padding that are valid; the padding is not ours.
func TestWycheproof(t *testing.T) {
	var f struct {
		TestGroups []struct {
			KeySize uint16
			Tests   []struct {
				TcID             int
				Comment, Result  string
				Key, IV, Msg, Ct vectors.Hex
			}
		}
	}
	vectors.Load(t, "wycheproof/aes_cbc_pkcs5_test.json", &f)
	ran := 0
	for _, g := range f.TestGroups {
		for _, v := range g.Tests {
			if v.Result != "valid" {
				continue
			}
			ran++
			pad := 16 - len(v.Msg)%16
			plain := append(bytes.Clone(v.Msg), bytes.Repeat([]byte{byte(pad)}, pad)...)
			published(t, v.Comment, suite.EncrByID(12, g.KeySize), v.Key, v.IV, plain, v.Ct)
		}
	}
	if ran == 0 {
		t.Error("the file has no valid tests")
	}
}

func TestStrongSwan(t *testing.T) {
	var f struct {
		Vectors []struct {
			Name, Comment          string
			Key, IV, Plain, Cipher vectors.Hex
		}
	}
	vectors.Load(t, "strongswan-test-vectors/aes_cbc.json", &f)
	for _, v := range f.Vectors {
		if len(v.Plain) == 0 || !strings.HasPrefix(v.Name, "aes_cbc") {
			t.Fatalf("%s: no plaintext in the file", v.Name)
		}
		published(t, v.Name+" "+v.Comment, suite.EncrByID(12, uint16(8*len(v.Key))), v.Key, v.IV, v.Plain, v.Cipher)
	}
	if len(f.Vectors) == 0 {
		t.Error("the file has no tests")
	}
}
