package aead

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"culvert/crypto/suite"
	"culvert/internal/vectors"
)

func TestEveryRowIsImplemented(t *testing.T) {
	rows := map[uint16]bool{}
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		a, err := New(e, make([]byte, e.MaterialLen()))
		if !e.AEAD() {
			if err == nil {
				t.Errorf("%s is no AEAD and made as one", e.Name)
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
			if _, err := New(e, make([]byte, n)); err == nil {
				t.Errorf("%s accepts %d bytes of key and salt", e.Name, n)
			}
		}
	}
}

// published seals and opens a published case in place.
func published(t *testing.T, from string, material, iv, aad, plain, sealed []byte) {
	t.Helper()
	e := suite.EncrByID(20, uint16(8*(len(material)-4)))
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

func TestPublished(t *testing.T) {
	for _, v := range []struct{ from, material, iv, aad, plain, sealed string }{
		{
			"draft-mcgrew-gcm-test-01 case 2", "feffe9928665731c6d6a8f9467308308cafebabe", "facedbaddecaf888", "0000a5f80000000a",
			"4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d001000001000000000000037369700963796265726369747902646b00000100010001",
			"deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd183b70d3aa8bc6ee4c309e9d85a41ad4a",
		},
		{ // The GCM specification's test case 13 (AES-256, nothing to encrypt): the salt is part of its nonce.
			"McGrew and Viega case 13", "0000000000000000000000000000000000000000000000000000000000000000" + "00000000", "0000000000000000", "", "",
			"530f8afbc74536b9a963b4f1c4cb738b",
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
		published(t, v.from, h[0], h[1], h[2], h[3], h[4])
	}
}

func TestOpenRefuses(t *testing.T) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		if !e.AEAD() {
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
	e := suite.EncrByName("aes-256-gcm")
	material := make([]byte, e.MaterialLen())
	_, _ = rand.NewChaCha8([32]byte{1}).Read(material)
	a, err := New(e, material)
	if err != nil {
		t.Fatal(err)
	}
	clear(material) // New has copied it
	var wg sync.WaitGroup
	for g := range byte(8) {
		wg.Go(func() {
			plain := bytes.Repeat([]byte{g}, 100)
			for i := range byte(200) {
				iv := [IVLen]byte{g, i}
				back, err := a.Open(iv, a.Seal(iv, bytes.Clone(plain), nil), nil)
				if err != nil || !bytes.Equal(back, plain) {
					t.Errorf("%x, %v", back, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestACVP(t *testing.T) {
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
	vectors.Load(t, "acvp/ACVP-AES-GCM-1.0.json", &f)
	ran := 0
	for _, g := range f.TestGroups {
		if g.IvLen != 96 || g.TagLen != 128 {
			continue // not what IPsec uses
		}
		for _, v := range g.Tests {
			ran++
			material := append(bytes.Clone(v.Key), v.IV[:4]...)
			sealed := append(bytes.Clone(v.Ct), v.Tag...)
			if v.TestPassed {
				published(t, "ACVP", material, v.IV[4:], v.Aad, v.Pt, sealed)
				continue
			}
			a, err := New(suite.EncrByID(20, uint16(8*len(v.Key))), material)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Open([IVLen]byte(v.IV[4:]), sealed, v.Aad); !errors.Is(err, ErrICV) {
				t.Errorf("case %d: %v, want ErrICV", v.TcID, err)
			}
		}
	}
	if ran == 0 {
		t.Error("the file has no tests with a nonce of 96 and an ICV of 128 bits")
	}
}

func TestWycheproof(t *testing.T) {
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
	vectors.Load(t, "wycheproof/aes_gcm_test.json", &f)
	ran := 0
	for _, g := range f.TestGroups {
		if g.IvSize != 96 || g.TagSize != 128 {
			continue // not what IPsec uses
		}
		for _, v := range g.Tests {
			ran++
			material := append(bytes.Clone(v.Key), v.IV[:4]...)
			sealed := append(bytes.Clone(v.Ct), v.Tag...)
			if v.Result == "valid" {
				published(t, v.Comment, material, v.IV[4:], v.Aad, v.Msg, sealed)
				continue
			}
			a, err := New(suite.EncrByID(20, uint16(8*len(v.Key))), material)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Open([IVLen]byte(v.IV[4:]), sealed, v.Aad); !errors.Is(err, ErrICV) {
				t.Errorf("case %d (%s): %v, want ErrICV", v.TcID, v.Comment, err)
			}
		}
	}
	if ran == 0 {
		t.Error("the file has no tests with a nonce of 96 and an ICV of 128 bits")
	}
}

func TestStrongSwan(t *testing.T) {
	var f struct {
		Vectors []struct {
			Name, Alg                     string
			Key, IV, Plain, Adata, Cipher vectors.Hex
		}
	}
	vectors.Load(t, "strongswan-test-vectors/aes_gcm.json", &f)
	ran := 0
	for _, v := range f.Vectors {
		if v.Alg != "ENCR_AES_GCM_ICV16" {
			continue // of an ICV that is no row
		}
		ran++
		published(t, v.Name, v.Key, v.IV, v.Adata, v.Plain, v.Cipher)
	}
	if ran == 0 {
		t.Error("no vector has an ICV of 16 bytes")
	}
}
