package cipher

import (
	"bytes"
	"crypto/aes"
	stdcipher "crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"culvert/crypto/suite"
	"culvert/internal/testing/vectors"
)

func TestEveryRowIsImplemented(t *testing.T) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		_, err := New(e, make([]byte, e.MaterialLen()))
		if !e.AEAD() && err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
		if e.AEAD() && err == nil {
			t.Errorf("%s is an AEAD and made as a mode that only encrypts", e.Name)
		}
	}
	for id := range cbc {
		if e := encrByID(id); e == nil || e.AEAD() || !e.RandomIV || e.IVLen != e.Block {
			t.Errorf("implementation %d has no row, or one that is not of CBC", id)
		}
	}
	for id := range others {
		if e := encrByID(id); e == nil || e.AEAD() || e.RandomIV {
			t.Errorf("implementation %d has no row, or one that is of CBC or an AEAD", id)
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
		for _, n := range []int{0, e.MaterialLen() - 1, e.MaterialLen() + 1, e.MaterialLen() + 8} {
			if n < 0 || n == e.MaterialLen() {
				continue // null has no key
			}
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
		{"FIPS 81 table C1", "des", "0123456789abcdef", "1234567890abcdef",
			hex.EncodeToString([]byte("Now is the time for all ")), "e5c7cdde872bf27c43e934008c389c0f683788499a7c05f6"},
		{"RFC 3713 appendix A, 128 bits", "camellia-128", "0123456789abcdeffedcba9876543210", "00000000000000000000000000000000",
			"0123456789abcdeffedcba9876543210", "67673138549669730857065648eabe43"},
		{"RFC 3713 appendix A, 192 bits", "camellia-192", "0123456789abcdeffedcba98765432100011223344556677", "00000000000000000000000000000000",
			"0123456789abcdeffedcba9876543210", "b4993401b3e996f84ee5cee7d79b09b9"},
		{"RFC 3713 appendix A, 256 bits", "camellia-256", "0123456789abcdeffedcba987654321000112233445566778899aabbccddeeff", "00000000000000000000000000000000",
			"0123456789abcdeffedcba9876543210", "9acc237dff16d76c20ef7c919e3a7509"},
		{"RFC 3686 §6 #1", "aes-128-ctr", "ae6852f8121067cc4bf7a5765577f39e00000030", "0000000000000000",
			hex.EncodeToString([]byte("Single block msg")), "e4095d4fb7a7b3792d6175a3261311b8"},
		{"RFC 3686 §6 #2", "aes-128-ctr", "7e24067817fae0d743d6ce1f32539163006cb6db", "c0543b59da48d90b",
			"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28"},
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
		key := make([]byte, e.MaterialLen())
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
			if n > 0 && e.KeyLen > 0 && bytes.Equal(buf, plain) {
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
	for file, id := range map[string]uint16{"ACVP-AES-CBC-1.0": 12, "ACVP-TDES-CBC-1.0": 3} {
		t.Run(file, func(t *testing.T) {
			var f struct {
				TestGroups []struct {
					TestType string
					Tests    []struct {
						TcID             int
						Key, IV, Pt, Ct  vectors.Hex
						Key1, Key2, Key3 vectors.Hex
						ResultsArray     []json.RawMessage // of a Monte Carlo test
					}
				}
			}
			vectors.Load(t, "acvp/"+file+".json", &f)
			ran := 0
			for _, g := range f.TestGroups {
				for _, v := range g.Tests {
					key := slices.Concat(v.Key, v.Key1, v.Key2, v.Key3)
					e := encrByKey(id, len(key))
					if e == nil || len(v.ResultsArray) > 0 {
						continue
					}
					ran++
					published(t, fmt.Sprintf("case %d", v.TcID), e, key, v.IV, v.Pt, v.Ct)
				}
			}
			if ran == 0 {
				t.Error("the file has no tests")
			}
		})
	}
}

// The cases of PKCS #5 padding that are valid; the padding is not ours.
func TestWycheproof(t *testing.T) {
	for file, id := range map[string]uint16{"aes_cbc_pkcs5": 12, "camellia_cbc_pkcs5": 23} {
		t.Run(file, func(t *testing.T) {
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
			vectors.Load(t, "wycheproof/"+file+"_test.json", &f)
			ran := 0
			for _, g := range f.TestGroups {
				for _, v := range g.Tests {
					if v.Result != "valid" {
						continue
					}
					ran++
					published(t, v.Comment, suite.EncrByID(id, g.KeySize), v.Key, v.IV, pkcs5(v.Msg, 16), v.Ct)
				}
			}
			if ran == 0 {
				t.Error("the file has no valid tests")
			}
		})
	}
}

// pkcs5 is the message with the padding that makes whole blocks of it.
func pkcs5(msg []byte, block int) []byte {
	pad := block - len(msg)%block
	return append(bytes.Clone(msg), bytes.Repeat([]byte{byte(pad)}, pad)...)
}

// Botan's cases of CBC, and of bare blocks, which are CBC with an IV of zeros.
func TestBotan(t *testing.T) {
	ran := map[uint16]int{}
	for _, file := range []struct {
		name string
		ids  map[string]uint16
	}{
		{"modes_cbc", map[string]uint16{"DES/CBC/PKCS7": 2, "TripleDES/CBC/PKCS7": 3, "Blowfish/CBC/NoPadding": 7, "AES-128/CBC/PKCS7": 12}},
		{"block_des", map[string]uint16{"DES": 2, "TripleDES": 3}},
		{"block_blowfish", map[string]uint16{"Blowfish": 7}},
		{"block_twofish", map[string]uint16{"Twofish": 1027}},
	} {
		for i, v := range vectors.Records(t, "botan/vec/"+file.name+".vec") {
			key, iv, in, out := v.Hex(t, "Key"), v.Hex(t, "Nonce"), v.Hex(t, "In"), v.Hex(t, "Out")
			e := encrByKey(file.ids[v.Section], len(key))
			if e == nil || v.Fields["Iterations"] != "" {
				continue
			}
			if strings.HasSuffix(v.Section, "PKCS7") {
				in = pkcs5(in, e.Block)
			}
			if iv == nil {
				iv, in, out = make([]byte, e.Block), in[:e.Block], out[:e.Block]
			}
			ran[e.ID]++
			published(t, fmt.Sprintf("%s %s %d", file.name, v.Section, i), e, key, iv, in, out)
		}
	}
	if len(ran) != 5 {
		t.Errorf("cases of transforms %v", ran)
	}
}

// What the standard library's counter mode makes of the same counter block.
func TestCTR(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{2})
	for _, name := range []string{"aes-128-ctr", "aes-192-ctr", "aes-256-ctr"} {
		e := suite.EncrByName(name)
		material, iv := make([]byte, e.MaterialLen()), make([]byte, 8)
		_, _ = rng.Read(material)
		_, _ = rng.Read(iv)
		m, err := New(e, material)
		if err != nil {
			t.Fatal(err)
		}
		b, err := aes.NewCipher(material[:e.KeyLen])
		if err != nil {
			t.Fatal(err)
		}
		for n := range 600 {
			plain := make([]byte, n)
			_, _ = rng.Read(plain)
			want := make([]byte, n)
			first := slices.Concat(material[e.KeyLen:], iv, []byte{0, 0, 0, 1})
			stdcipher.NewCTR(b, first).XORKeyStream(want, plain)
			if m.Encrypt(iv, plain); !bytes.Equal(plain, want) {
				t.Fatalf("%s, %d bytes: %x, want %x", name, n, plain, want)
			}
		}
	}
}

// The cases whose counter blocks are those of RFC 3686.
func TestACVPCTR(t *testing.T) {
	var f struct {
		TestGroups []struct {
			TestType, InternalTestType string
			Tests                      []struct {
				TcID, PayloadLen int
				Key, IV, Pt, Ct  vectors.Hex
			}
		}
	}
	vectors.Load(t, "acvp/ACVP-AES-CTR-1.0.json", &f)
	ran := 0
	for _, g := range f.TestGroups {
		for _, v := range g.Tests {
			if len(v.IV) != 16 || !bytes.Equal(v.IV[12:], []byte{0, 0, 0, 1}) || v.PayloadLen != 8*len(v.Pt) {
				continue
			}
			ran++
			published(t, fmt.Sprintf("case %d", v.TcID), encrByKey(13, len(v.Key)+4), slices.Concat(v.Key, v.IV[:4]), v.IV[4:12], v.Pt, v.Ct)
		}
	}
	if ran == 0 {
		t.Error("no case has a counter that starts at 1")
	}
}

// Packets under one key by several goroutines at once.
func TestConcurrent(t *testing.T) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		if e.AEAD() {
			continue
		}
		m, err := New(e, make([]byte, e.MaterialLen()))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for g := range byte(4) {
			wg.Go(func() {
				plain, iv := bytes.Repeat([]byte{g}, 160), bytes.Repeat([]byte{g}, e.IVLen)
				buf := bytes.Clone(plain)
				for range 100 {
					m.Encrypt(iv, buf)
					if m.Decrypt(iv, buf); !bytes.Equal(buf, plain) {
						t.Errorf("%s: not what was encrypted", e.Name)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestStrongSwan(t *testing.T) {
	for file, id := range map[string]uint16{
		"aes_cbc": 12, "aes_ctr": 13, "des": 2, "3des_cbc": 3, "blowfish": 7, "camellia_cbc": 23, "twofish_cbc": 1027, "null": 11,
	} {
		t.Run(file, func(t *testing.T) {
			var f struct {
				Vectors []struct {
					Name, Comment, Alg     string
					Key, IV, Plain, Cipher vectors.Hex
				}
			}
			vectors.Load(t, "strongswan-test-vectors/"+file+".json", &f)
			ran := 0
			for _, v := range f.Vectors {
				if len(v.Plain) == 0 {
					t.Fatalf("%s: no plaintext in the file", v.Name)
				}
				e := encrByKey(id, len(v.Key))
				if e == nil || strings.HasSuffix(v.Alg, "_ECB") || len(v.Key) > 16 && id == 7 {
					continue // of a mode or key length that is no row
				}
				ran++
				published(t, v.Name+" "+v.Comment, e, v.Key, v.IV, v.Plain, v.Cipher)
			}
			if ran == 0 {
				t.Error("the file has no tests")
			}
		})
	}
}

// encrByKey finds a row by its number and the length of its key and salt.
func encrByKey(id uint16, n int) *suite.Encr {
	for i := range suite.Encrs {
		if e := &suite.Encrs[i]; e.ID == id && e.MaterialLen() == n {
			return e
		}
	}
	return nil
}
