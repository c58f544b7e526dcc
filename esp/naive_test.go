package esp

import (
	"bytes"
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"
	"math/rand/v2"
	"testing"

	"culvert/crypto/suite"
)

// combination is one choice of algorithms that ESP can run.
type combination struct {
	name  string
	encr  *suite.Encr
	integ *suite.Integ
	esn   bool
}

// combinations are all that the rows of suite allow.
func combinations() (all []combination) {
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		for _, esn := range []bool{false, true} {
			suffix := ""
			if esn {
				suffix = "+esn"
			}
			if e.AEAD() {
				all = append(all, combination{e.Name + suffix, e, nil, esn})
				continue
			}
			for j := range suite.Integs {
				a := &suite.Integs[j]
				all = append(all, combination{e.Name + "+" + a.Name + suffix, e, a, esn})
			}
		}
	}
	return all
}

// params have keys that are a function of the combination's name.
func (c combination) params() Params {
	var seed [32]byte
	copy(seed[:], c.name)
	rng := rand.NewChaCha8(seed)
	p := Params{SPI: 0x1234abcd, Encr: c.encr, EncKey: make([]byte, c.encr.MaterialLen()), Integ: c.integ, ESN: c.esn}
	_, _ = rng.Read(p.EncKey)
	if c.integ != nil {
		p.IntegKey = make([]byte, c.integ.KeyLen)
		_, _ = rng.Read(p.IntegKey)
	}
	_, _ = rng.Read(p.IVKey[:])
	return p
}

func (c combination) transform(t testing.TB) *Transform {
	t.Helper()
	tr, err := New(c.params())
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	return tr
}

// withTrailer is the payload with the shortest padding and the trailer.
func withTrailer(p Params, payload []byte, next uint8) []byte {
	plain := bytes.Clone(payload)
	pad := byte(0)
	for (len(plain)+2)%max(4, p.Encr.Block) != 0 {
		pad++
		plain = append(plain, pad)
	}
	return append(plain, pad, next)
}

// naiveSeal is RFC 4303 §3.3 written down with the standard library alone, with
// copies everywhere. plain is payload, padding and trailer, as they are. iv is
// nil for the one that Seal chooses.
func naiveSeal(t testing.TB, p Params, seq uint64, plain, iv []byte) []byte {
	t.Helper()
	plain = bytes.Clone(plain)
	header := binary.BigEndian.AppendUint32(nil, p.SPI)
	header = binary.BigEndian.AppendUint32(header, uint32(seq))

	var block stdcipher.Block
	switch p.Encr.ID {
	case 12, 20:
		block = must(aes.NewCipher(p.EncKey[:p.Encr.KeyLen]))
	default:
		t.Fatalf("the naive seal does not know %s", p.Encr.Name)
	}
	if p.Encr.AEAD() {
		if iv == nil {
			iv = binary.BigEndian.AppendUint64(nil, seq)
		}
		aad := header
		if p.ESN { // RFC 4106 §5
			aad = binary.BigEndian.AppendUint32(nil, p.SPI)
			aad = binary.BigEndian.AppendUint64(aad, seq)
		}
		nonce := append(bytes.Clone(p.EncKey[p.Encr.KeyLen:]), iv...)
		sealed := must(stdcipher.NewGCM(block)).Seal(nil, nonce, plain, aad)
		return append(append(bytes.Clone(header), iv...), sealed...)
	}
	if iv == nil {
		iv = make([]byte, 16)
		binary.BigEndian.PutUint64(iv[8:], seq)
		must(aes.NewCipher(p.IVKey[:])).Encrypt(iv, iv)
	}
	stdcipher.NewCBCEncrypter(block, iv).CryptBlocks(plain, plain)
	pkt := append(append(header, iv...), plain...)
	return append(pkt, naiveICV(t, p, pkt, seq)...)
}

func naiveICV(t testing.TB, p Params, pkt []byte, seq uint64) []byte {
	t.Helper()
	hashes := map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}
	if hashes[p.Integ.Name] == nil {
		t.Fatalf("the naive ICV does not know %s", p.Integ.Name)
	}
	mac := hmac.New(hashes[p.Integ.Name], p.IntegKey)
	mac.Write(pkt)
	if p.ESN { // RFC 4303 §2.2.1
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(seq>>32)))
	}
	return mac.Sum(nil)[:p.Integ.ICVLen]
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
