package aead

import (
	"bytes"
	"crypto/aes"
	stdcipher "crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"culvert/crypto/suite"
	"culvert/internal/testing/vectors"
)

func TestEveryRowIsImplemented(t *testing.T) {
	rows := map[uint16]bool{}
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		a, err := New(e, make([]byte, e.MaterialLen()))
		_, gmacErr := NewGMAC(e, make([]byte, e.MaterialLen()))
		if (gmacErr == nil) != e.AuthOnly {
			t.Errorf("%s as GMAC: %v", e.Name, gmacErr)
		}
		if !e.AEAD() || e.AuthOnly {
			if err == nil {
				t.Errorf("%s does not both encrypt and authenticate, and is made as what does", e.Name)
			}
			continue
		}
		rows[e.ID] = true
		if err != nil {
			t.Errorf("%s: %v", e.Name, err)
		} else if a.Overhead() != e.ICVLen {
			t.Errorf("%s: an ICV of %d bytes, its row says %d", e.Name, a.Overhead(), e.ICVLen)
		}
	}
	for id := range makers {
		if !rows[id] {
			t.Errorf("implementation %d has no row", id)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		for _, n := range []int{0, e.MaterialLen() - 1, e.MaterialLen() + 1} {
			if n < 0 {
				continue // null has no key
			}
			if _, err := New(e, make([]byte, n)); err == nil {
				t.Errorf("%s accepts %d bytes of key and salt", e.Name, n)
			}
			if _, err := NewGMAC(e, make([]byte, n)); err == nil {
				t.Errorf("%s accepts %d bytes of key and salt", e.Name, n)
			}
		}
	}
}

// Rows that the code cannot serve are refused when a key is made, not found out by a packet.
func TestNewRefusesOddRows(t *testing.T) {
	for _, e := range []suite.Encr{
		{Name: "gcm, long salt", ID: 19, KeyLen: 16, SaltLen: 5, IVLen: 8, ICVLen: 12},
		{Name: "gcm, long IV", ID: 19, KeyLen: 16, SaltLen: 4, IVLen: 9, ICVLen: 12},
		{Name: "gcm, odd key", ID: 20, KeyLen: 17, SaltLen: 4, IVLen: 8, ICVLen: 16},
		{Name: "gcm-8, odd key", ID: 18, KeyLen: 17, SaltLen: 4, IVLen: 8, ICVLen: 8},
		{Name: "ccm, odd key", ID: 16, KeyLen: 17, SaltLen: 3, IVLen: 8, ICVLen: 16},
		{Name: "chacha20-poly1305, odd key", ID: 28, KeyLen: 17, SaltLen: 4, IVLen: 8, ICVLen: 16},
		{Name: "gmac, short salt", ID: 21, KeyLen: 16, SaltLen: 3, IVLen: 8, ICVLen: 16, AuthOnly: true},
		{Name: "gmac, short IV", ID: 21, KeyLen: 16, SaltLen: 4, IVLen: 7, ICVLen: 16, AuthOnly: true},
		{Name: "gmac, short ICV", ID: 21, KeyLen: 16, SaltLen: 4, IVLen: 8, ICVLen: 12, AuthOnly: true},
		{Name: "gmac, odd key", ID: 21, KeyLen: 17, SaltLen: 4, IVLen: 8, ICVLen: 16, AuthOnly: true},
	} {
		if e.AuthOnly {
			if g, err := NewGMAC(&e, make([]byte, e.MaterialLen())); err == nil || g != nil {
				t.Errorf("%s: %v, %v", e.Name, g, err)
			}
			continue
		}
		if a, err := New(&e, make([]byte, e.MaterialLen())); err == nil || a != nil {
			t.Errorf("%s: %v, %v", e.Name, a, err)
		}
	}
}

// row finds a row by its number and the length of key and salt; nil if there is none.
func row(id uint16, material int) *suite.Encr {
	for i := range suite.Encrs {
		if e := &suite.Encrs[i]; e.ID == id && e.MaterialLen() == material {
			return e
		}
	}
	return nil
}

// published seals and opens a published case in place.
func published(t *testing.T, from string, e *suite.Encr, material, iv, aad, plain, sealed []byte) {
	t.Helper()
	a, err := New(e, material)
	if err != nil {
		t.Fatalf("%s: %v", from, err)
	}
	buf := append(make([]byte, 0, len(plain)+a.Overhead()), plain...)
	got := a.Seal([IVLen]byte(iv), buf, aad)
	if !bytes.Equal(got, sealed) {
		t.Errorf("%s: sealed %x, want %x", from, got, sealed)
	}
	if len(plain) > 0 && &got[0] != &buf[0] {
		t.Errorf("%s: not sealed in place", from)
	}
	back, err := a.Open([IVLen]byte(iv), bytes.Clone(sealed), aad)
	if err != nil || !bytes.Equal(back, plain) {
		t.Errorf("%s: opened %x, %v, want %x", from, back, err, plain)
	}
}

// refused opens what must not open.
func refused(t *testing.T, from string, e *suite.Encr, material, iv, aad, sealed []byte) {
	t.Helper()
	a, err := New(e, material)
	if err != nil {
		t.Fatalf("%s: %v", from, err)
	}
	if got, err := a.Open([IVLen]byte(iv), bytes.Clone(sealed), aad); !errors.Is(err, ErrICV) || got != nil {
		t.Errorf("%s: %x, %v, want ErrICV", from, got, err)
	}
}

func TestPublished(t *testing.T) {
	for _, v := range []struct{ from, name, material, iv, aad, plain, sealed string }{
		{
			"draft-mcgrew-gcm-test-01 case 2", "aes-128-gcm", "feffe9928665731c6d6a8f9467308308cafebabe", "facedbaddecaf888", "0000a5f80000000a",
			"4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d001000001000000000000037369700963796265726369747902646b00000100010001",
			"deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd183b70d3aa8bc6ee4c309e9d85a41ad4a",
		},
		{ // The GCM specification's test case 13 (AES-256, nothing to encrypt): the salt is part of its nonce.
			"McGrew and Viega case 13", "aes-256-gcm", "0000000000000000000000000000000000000000000000000000000000000000" + "00000000", "0000000000000000", "", "",
			"530f8afbc74536b9a963b4f1c4cb738b",
		},
		{
			"RFC 8439 §2.8.2", "chacha20-poly1305", "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f07000000", "4041424344454647", "50515253c0c1c2c3c4c5c6c7",
			hex.EncodeToString([]byte("Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.")),
			"d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36" +
				"92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b6116" + "1ae10b594f09e26a7e902ecbd0600691",
		},
	} {
		var h [5][]byte
		for i, s := range []string{v.material, v.iv, v.aad, v.plain, v.sealed} {
			b, err := hex.DecodeString(s)
			if err != nil {
				t.Fatal(err)
			}
			h[i] = b
		}
		published(t, v.from, suite.EncrByName(v.name), h[0], h[1], h[2], h[3], h[4])
	}
}

func TestOpenRefuses(t *testing.T) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		if !e.AEAD() || e.AuthOnly {
			continue
		}
		a, err := New(e, make([]byte, e.MaterialLen()))
		if err != nil {
			t.Fatal(err)
		}
		iv, aad := [IVLen]byte{1}, []byte("header")
		sealed := a.Seal(iv, []byte("plaintext"), aad)
		refused := func(what string, iv [IVLen]byte, sealed, aad []byte) {
			t.Helper()
			if got, err := a.Open(iv, bytes.Clone(sealed), aad); !errors.Is(err, ErrICV) || got != nil {
				t.Errorf("%s, %s: %x, %v, want ErrICV", e.Name, what, got, err)
			}
		}
		for at := range sealed {
			bad := bytes.Clone(sealed)
			bad[at] ^= 1
			refused("changed", iv, bad, aad)
			refused("cut", iv, sealed[:at], aad)
		}
		refused("other IV", [IVLen]byte{2}, sealed, aad)
		refused("other header", iv, sealed, []byte("headeR"))
	}
}

func TestConcurrent(t *testing.T) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		if !e.AEAD() || e.AuthOnly {
			continue
		}
		material := make([]byte, e.MaterialLen())
		_, _ = rand.NewChaCha8([32]byte{1}).Read(material)
		a, err := New(e, material)
		if err != nil {
			t.Fatal(err)
		}
		clear(material) // New has copied it
		var wg sync.WaitGroup
		for g := range byte(4) {
			wg.Go(func() {
				plain := bytes.Repeat([]byte{g}, 100)
				for i := range byte(100) {
					iv := [IVLen]byte{g, i}
					back, err := a.Open(iv, a.Seal(iv, bytes.Clone(plain), nil), nil)
					if err != nil || !bytes.Equal(back, plain) {
						t.Errorf("%s: %x, %v", e.Name, back, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

// Every length around the borders of a block, with associated data of every
// kind of length field, sealed and opened in place.
func TestLengths(t *testing.T) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		if !e.AEAD() || e.AuthOnly {
			continue
		}
		a, err := New(e, make([]byte, e.MaterialLen()))
		if err != nil {
			t.Fatal(err)
		}
		for _, aad := range []int{0, 8, 12, 13, 14, 15, 30, 0xfeff, 0xff00, 70000} {
			for _, n := range []int{0, 1, 15, 16, 17, 511, 512, 513, 1420} {
				plain, data := bytes.Repeat([]byte{7}, n), make([]byte, aad)
				back, err := a.Open([IVLen]byte{}, a.Seal([IVLen]byte{}, bytes.Clone(plain), data), data)
				if err != nil || !bytes.Equal(back, plain) {
					t.Errorf("%s, %d bytes, associated data of %d: %v", e.Name, n, aad, err)
				}
			}
		}
	}
}

// A shorter ICV is the start of the longer one.
func TestTruncatedGCM(t *testing.T) {
	for _, size := range []string{"128", "192", "256"} {
		whole := suite.EncrByName("aes-" + size + "-gcm")
		material, aad, iv := make([]byte, whole.MaterialLen()), []byte("header"), [IVLen]byte{3}
		_, _ = rand.NewChaCha8([32]byte{2}).Read(material)
		full, err := New(whole, material)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 100 {
			want := full.Seal(iv, make([]byte, n), aad)
			for _, icv := range []string{"-12", "-8"} {
				e := suite.EncrByName(whole.Name + icv)
				published(t, e.Name, e, material, iv[:], aad, make([]byte, n), want[:n+e.ICVLen])
			}
		}
	}
}

func TestACVP(t *testing.T) {
	for file, ids := range map[string]map[int]uint16{ // by the length of the ICV
		"ACVP-AES-GCM-1.0": {128: 20, 96: 19, 64: 18},
		"ACVP-AES-CCM-1.0": {128: 16, 96: 15, 64: 14},
	} {
		t.Run(file, func(t *testing.T) {
			var f struct {
				TestGroups []struct {
					IvLen, TagLen int
					Tests         []struct {
						TcID                      int
						TestPassed                bool
						Pt, Key, Aad, IV, Ct, Tag vectors.Hex
					}
				}
			}
			vectors.Load(t, "acvp/"+file+".json", &f)
			ran := map[uint16]int{}
			for _, g := range f.TestGroups {
				for _, v := range g.Tests {
					if len(v.IV) < IVLen {
						continue
					}
					salt := len(v.IV) - IVLen
					e := row(ids[g.TagLen], len(v.Key)+salt)
					if e == nil || e.KeyLen != len(v.Key) {
						continue // not what IPsec uses
					}
					ran[e.ID]++
					from := fmt.Sprintf("case %d", v.TcID)
					material, sealed := slices.Concat(v.Key, v.IV[:salt]), slices.Concat(v.Ct, v.Tag)
					if v.TestPassed {
						published(t, from, e, material, v.IV[salt:], v.Aad, v.Pt, sealed)
					} else {
						refused(t, from, e, material, v.IV[salt:], v.Aad, sealed)
					}
				}
			}
			if ran[ids[128]] == 0 {
				t.Error("the file has no tests of what IPsec uses")
			}
			t.Logf("cases by transform: %v", ran)
		})
	}
}

func TestWycheproof(t *testing.T) {
	for file, id := range map[string]uint16{"aes_gcm": 20, "aes_ccm": 16, "chacha20_poly1305": 28} {
		t.Run(file, func(t *testing.T) {
			var f struct {
				TestGroups []struct {
					IvSize, TagSize int
					Tests           []struct {
						TcID                       int
						Comment, Result            string
						Key, IV, Aad, Msg, Ct, Tag vectors.Hex
					}
				}
			}
			vectors.Load(t, "wycheproof/"+file+"_test.json", &f)
			ran := 0
			for _, g := range f.TestGroups {
				for _, v := range g.Tests {
					salt := len(v.IV) - IVLen
					e := row(id, len(v.Key)+salt)
					if e == nil || salt != e.SaltLen || g.TagSize != 8*e.ICVLen {
						continue // not what IPsec uses
					}
					ran++
					material, sealed := slices.Concat(v.Key, v.IV[:salt]), slices.Concat(v.Ct, v.Tag)
					if v.Result == "valid" {
						published(t, v.Comment, e, material, v.IV[salt:], v.Aad, v.Msg, sealed)
					} else {
						refused(t, fmt.Sprintf("case %d (%s)", v.TcID, v.Comment), e, material, v.IV[salt:], v.Aad, sealed)
					}
				}
			}
			if ran == 0 {
				t.Error("the file has no tests of what IPsec uses")
			}
		})
	}
}

func TestStrongSwan(t *testing.T) {
	algorithms := map[string]uint16{
		"ENCR_AES_GCM_ICV16": 20, "ENCR_AES_GCM_ICV12": 19, "ENCR_AES_GCM_ICV8": 18,
		"ENCR_AES_CCM_ICV16": 16, "ENCR_AES_CCM_ICV12": 15, "ENCR_AES_CCM_ICV8": 14, "ENCR_CHACHA20_POLY1305": 28,
	}
	ran := map[uint16]int{}
	for _, file := range []string{"aes_gcm", "aes_ccm", "chacha20poly1305"} {
		var f struct {
			Vectors []struct {
				Name, Alg                     string
				Key, IV, Plain, Adata, Cipher vectors.Hex
			}
		}
		vectors.Load(t, "strongswan-test-vectors/"+file+".json", &f)
		for _, v := range f.Vectors {
			e := row(algorithms[v.Alg], len(v.Key))
			if e == nil {
				t.Fatalf("%s: no row is %s with a key of %d bytes", v.Name, v.Alg, len(v.Key))
			}
			ran[e.ID]++
			published(t, v.Name, e, v.Key, v.IV, v.Adata, v.Plain, v.Cipher)
		}
	}
	if len(ran) != len(algorithms) {
		t.Errorf("cases of transforms %v", ran)
	}
}

func TestBotan(t *testing.T) {
	sections := map[string]uint16{
		"AES-128/GCM": 20, "AES-192/GCM": 20, "AES-256/GCM": 20, "AES-128/GCM(12)": 19, "AES-192/GCM(12)": 19, "AES-256/GCM(12)": 19,
		"AES-128/GCM(8)": 18, "AES-128/CCM(16,4)": 16,
	}
	ran := map[string]bool{}
	for _, file := range []string{"aead_gcm", "aead_ccm"} {
		for i, v := range vectors.Records(t, "botan/vec/"+file+".vec") {
			key, nonce := v.Hex(t, "Key"), v.Hex(t, "Nonce")
			salt := len(nonce) - IVLen
			e := row(sections[v.Section], len(key)+salt)
			if e == nil || salt != e.SaltLen {
				continue // not what IPsec uses
			}
			ran[v.Section] = true
			published(t, fmt.Sprintf("%s %s %d", file, v.Section, i), e, append(key, nonce[:salt]...), nonce[salt:], v.Hex(t, "AD"), v.Hex(t, "In"), v.Hex(t, "Out"))
		}
	}
	for _, s := range []string{"AES-128/GCM", "AES-192/GCM", "AES-256/GCM", "AES-128/GCM(8)", "AES-128/CCM(16,4)"} {
		if !ran[s] {
			t.Errorf("no case of %s", s)
		}
	}
}

func TestGMAC(t *testing.T) {
	sum := func(from string, material, iv, data, icv []byte) {
		t.Helper()
		g, err := NewGMAC(row(21, len(material)), material)
		if err != nil {
			t.Fatalf("%s: %v", from, err)
		}
		if got := g.Sum([IVLen]byte(iv), data); !bytes.Equal(got[:], icv) {
			t.Errorf("%s: %x, want %x", from, got, icv)
		}
	}
	// McGrew and Viega, case 1 and case 13: nothing is protected.
	sum("case 1", make([]byte, 20), make([]byte, 8), nil, []byte("\x58\xe2\xfc\xce\xfa\x7e\x30\x61\x36\x7f\x1d\x57\xa4\xe7\x45\x5a"))
	sum("case 13", make([]byte, 36), make([]byte, 8), nil, []byte("\x53\x0f\x8a\xfb\xc7\x45\x36\xb9\xa9\x63\xb4\xf1\xc4\xcb\x73\x8b"))
	ran := 0
	for i, v := range vectors.Records(t, "botan/vec/mac_gmac.vec") {
		if key, iv := v.Hex(t, "Key"), v.Hex(t, "IV"); len(iv) == 12 {
			ran++
			sum(fmt.Sprintf("Botan %d", i), append(key, iv[:4]...), iv[4:], v.Hex(t, "In"), v.Hex(t, "Out"))
		}
	}
	if ran == 0 {
		t.Error("the file has no tests with a nonce of 12 bytes")
	}
}

func TestNoAllocation(t *testing.T) {
	if poolsLeak {
		t.Skip("under the race detector a sync.Pool allocates at random")
	}
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		if !e.AEAD() || e.AuthOnly {
			continue
		}
		a, err := New(e, make([]byte, e.MaterialLen()))
		if err != nil {
			t.Fatal(err)
		}
		buf, aad := make([]byte, 1420, 1440), make([]byte, 8)
		allocs := testing.AllocsPerRun(100, func() {
			sealed := a.Seal([IVLen]byte{}, buf, aad)
			if _, e := a.Open([IVLen]byte{}, sealed, aad); e != nil {
				err = e
			}
		})
		if allocs != 0 || err != nil {
			t.Errorf("%s: %v allocations, %v", e.Name, allocs, err)
		}
	}
	g, err := NewGMAC(row(21, 20), make([]byte, 20))
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 1420)
	if allocs := testing.AllocsPerRun(100, func() { g.Sum([IVLen]byte{}, data) }); allocs != 0 {
		t.Errorf("GMAC: %v allocations", allocs)
	}
}

// RFC 3610 §2.2 and §2.3 as they are written, for every kind of length field of the
// associated data: published cases have none of the long ones.
func TestCCMByTheBook(t *testing.T) {
	for _, name := range []string{"aes-128-ccm", "aes-256-ccm-8"} {
		e := suite.EncrByName(name)
		material, iv := make([]byte, e.MaterialLen()), [IVLen]byte{1, 2, 3, 4, 5, 6, 7, 8}
		_, _ = rand.NewChaCha8([32]byte{3}).Read(material)
		nonce := slices.Concat(material[e.KeyLen:], iv[:])
		b, err := aes.NewCipher(material[:e.KeyLen])
		if err != nil {
			t.Fatal(err)
		}
		for _, aad := range []int{0, 1, 8, 13, 14, 15, 16, 29, 30, 31, 0xfefe, 0xfeff, 0xff00, 0xff01, 70000} {
			plain, data := bytes.Repeat([]byte{7}, 40), bytes.Repeat([]byte{9}, aad)
			var length []byte
			if aad >= 0xff00 {
				length = binary.BigEndian.AppendUint32([]byte{0xff, 0xfe}, uint32(aad))
			} else if aad > 0 {
				length = binary.BigEndian.AppendUint16(nil, uint16(aad))
			}
			flags := byte((e.ICVLen-2)/2<<3 | 3)
			if aad > 0 {
				flags |= 0x40
			}
			whole := func(b []byte) []byte { return append(b, make([]byte, (16-len(b)%16)%16)...) }
			mac := make([]byte, 16)
			for block := range slices.Chunk(slices.Concat([]byte{flags}, nonce, []byte{0, 0, 0, 40}, whole(slices.Concat(length, data)), whole(slices.Clone(plain))), 16) {
				for i := range mac {
					mac[i] ^= block[i]
				}
				b.Encrypt(mac, mac)
			}
			stream := make([]byte, 16+40)
			stdcipher.NewCTR(b, slices.Concat([]byte{3}, nonce, make([]byte, 4))).XORKeyStream(stream, stream)
			var want []byte
			for i := range plain {
				want = append(want, plain[i]^stream[16+i])
			}
			for i := range e.ICVLen {
				want = append(want, mac[i]^stream[i])
			}
			published(t, fmt.Sprintf("%s, associated data of %d", name, aad), e, material, iv[:], data, plain, want)
		}
	}
}

// What was decrypted and is not genuine does not stay where a caller might look.
func TestNothingIsLeftOfWhatIsRefused(t *testing.T) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		if !e.AEAD() || e.AuthOnly {
			continue
		}
		a, err := New(e, make([]byte, e.MaterialLen()))
		if err != nil {
			t.Fatal(err)
		}
		plain := bytes.Repeat([]byte("forged"), 10)
		sealed := a.Seal([IVLen]byte{}, bytes.Clone(plain), nil)
		sealed[len(sealed)-1] ^= 1
		if _, err := a.Open([IVLen]byte{}, sealed, nil); !errors.Is(err, ErrICV) || bytes.Contains(sealed, plain[:6]) {
			t.Errorf("%s: %v, and %q is left", e.Name, err, sealed)
		}
	}
}

// What was decrypted does not stay in memory that waits for the next call.
func TestGCM8Forgets(t *testing.T) {
	e := suite.EncrByName("aes-128-gcm-8")
	a, err := New(e, make([]byte, e.MaterialLen()))
	if err != nil {
		t.Fatal(err)
	}
	var made []*[]byte
	a.aead.(*gcm8).memory = sync.Pool{New: func() any { made = append(made, new([]byte)); return made[len(made)-1] }}
	plain := []byte("nobody else may read this")
	sealed := a.Seal([IVLen]byte{}, bytes.Clone(plain), nil)
	if back, err := a.Open([IVLen]byte{}, sealed, nil); err != nil || !bytes.Equal(back, plain) {
		t.Fatal(back, err)
	}
	for _, m := range made {
		if all := (*m)[:cap(*m)]; bytes.Contains(all, plain[:8]) {
			t.Errorf("%q is left", all)
		}
	}
	if len(made) == 0 {
		t.Error("it took its memory from elsewhere")
	}
}
