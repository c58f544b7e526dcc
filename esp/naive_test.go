package esp

import (
	"bytes"
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"
	"math/rand/v2"
	"slices"
	"testing"

	//lint:ignore SA1019 the row that is tested is of it
	"golang.org/x/crypto/blowfish"
	"golang.org/x/crypto/chacha20poly1305"
	//lint:ignore SA1019 the row that is tested is of it
	"golang.org/x/crypto/twofish"

	"culvert/crypto/cipher"
	"culvert/crypto/suite"
)

// combination is one choice of algorithms that ESP can run.
type combination struct {
	name  string
	encr  *suite.Encr
	integ *suite.Integ
	esn   bool
}

// combinations are every row of suite: each cipher with sha256, and each MAC
// with ciphers of long, short and no blocks.
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
				if a.Name == "sha256" || e.Name == "aes-128-cbc" || e.Name == "3des" || e.Name == "null" {
					all = append(all, combination{e.Name + "+" + a.Name + suffix, e, a, esn})
				}
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

// naiveSeal is RFC 4303 §3.3 written down with copies everywhere. It uses the ciphers of
// the libraries where naiveEncrypt names one, and those of crypto/cipher, which
// are compared with published vectors there, for the others in CBC mode. plain is payload, padding and trailer, as
// they are. iv is nil for the one that Seal chooses.
func naiveSeal(t testing.TB, p Params, seq uint64, plain, iv []byte) []byte {
	t.Helper()
	header := binary.BigEndian.AppendUint32(nil, p.SPI)
	header = binary.BigEndian.AppendUint32(header, uint32(seq))
	if iv == nil {
		iv = naiveIV(p, seq)
	}
	if p.Encr.AEAD() {
		aad := header
		if p.ESN { // RFC 4106 §5
			aad = binary.BigEndian.AppendUint32(nil, p.SPI)
			aad = binary.BigEndian.AppendUint64(aad, seq)
		}
		return slices.Concat(header, iv, naiveAEAD(t, p, iv, plain, aad))
	}
	pkt := slices.Concat(header, iv, naiveEncrypt(t, p, iv, plain))
	return append(pkt, naiveICV(t, p, pkt, seq)...)
}

func naiveIV(p Params, seq uint64) []byte {
	if !p.Encr.RandomIV {
		return binary.BigEndian.AppendUint64(nil, seq)[8-p.Encr.IVLen:]
	}
	iv := make([]byte, 16)
	binary.BigEndian.PutUint64(iv[8:], seq)
	must(aes.NewCipher(p.IVKey[:])).Encrypt(iv, iv)
	return iv[16-p.Encr.IVLen:]
}

func naiveEncrypt(t testing.TB, p Params, iv, plain []byte) []byte {
	t.Helper()
	out, key := bytes.Clone(plain), p.EncKey[:p.Encr.KeyLen]
	var block stdcipher.Block
	switch p.Encr.SAName {
	case "null":
		return out
	case "aes-ctr": // RFC 3686 §4
		first := slices.Concat(p.EncKey[p.Encr.KeyLen:], iv, []byte{0, 0, 0, 1})
		stdcipher.NewCTR(must(aes.NewCipher(key)), first).XORKeyStream(out, plain)
		return out
	case "aes-cbc":
		block = must(aes.NewCipher(key))
	case "des":
		block = must(des.NewCipher(key))
	case "3des":
		block = must(des.NewTripleDESCipher(key))
	case "blowfish":
		block = must(blowfish.NewCipher(key))
	case "twofish":
		block = must(twofish.NewCipher(key))
	default:
		if !p.Encr.RandomIV {
			t.Fatalf("naiveEncrypt has no mode for %s", p.Encr.Name)
		}
		must(cipher.New(p.Encr, key)).Encrypt(iv, out)
		return out
	}
	stdcipher.NewCBCEncrypter(block, iv).CryptBlocks(out, plain)
	return out
}

func naiveAEAD(t testing.TB, p Params, iv, plain, aad []byte) []byte {
	t.Helper()
	key, nonce := p.EncKey[:p.Encr.KeyLen], slices.Concat(p.EncKey[p.Encr.KeyLen:], iv)
	switch p.Encr.SAName {
	case "aes-gcm": // a shorter ICV is a part of the longest
		return must(stdcipher.NewGCM(must(aes.NewCipher(key)))).Seal(nil, nonce, plain, aad)[:len(plain)+p.Encr.ICVLen]
	case "aes-gmac": // RFC 4543 §3.3
		whole := slices.Concat(aad, iv, plain)
		return append(bytes.Clone(plain), must(stdcipher.NewGCM(must(aes.NewCipher(key)))).Seal(nil, nonce, nil, whole)...)
	case "aes-ccm":
		return naiveCCM(must(aes.NewCipher(key)), p.Encr.ICVLen, nonce, plain, aad)
	case "chacha20-poly1305":
		return must(chacha20poly1305.New(key)).Seal(nil, nonce, plain, aad)
	}
	t.Fatalf("naiveAEAD does not have %s", p.Encr.Name)
	return nil
}

// naiveCCM is RFC 3610 §2 with a length field of 4 bytes and short associated data.
func naiveCCM(b stdcipher.Block, icv int, nonce, plain, aad []byte) []byte {
	zeros := func(p []byte) []byte { return append(p, make([]byte, (16-len(p)%16)%16)...) }
	blocks := slices.Concat([]byte{byte(64 + 8*((icv-2)/2) + 3)}, nonce, binary.BigEndian.AppendUint32(nil, uint32(len(plain))))
	blocks = append(blocks, zeros(append([]byte{0, byte(len(aad))}, aad...))...)
	blocks = append(blocks, zeros(bytes.Clone(plain))...)
	stdcipher.NewCBCEncrypter(b, make([]byte, 16)).CryptBlocks(blocks, blocks)
	mac := blocks[len(blocks)-16:]
	stream := stdcipher.NewCTR(b, slices.Concat([]byte{3}, nonce, make([]byte, 4)))
	out := slices.Concat(mac, plain)
	stream.XORKeyStream(out, out)
	return append(out[16:], out[:icv]...)
}

func naiveICV(t testing.TB, p Params, pkt []byte, seq uint64) []byte {
	t.Helper()
	hashes := map[string]func() hash.Hash{"md5": md5.New, "sha1": sha1.New, "sha256": sha256.New, "sha256-96": sha256.New, "sha384": sha512.New384, "sha512": sha512.New}
	if hashes[p.Integ.Name] == nil {
		t.Fatalf("naiveICV does not have %s", p.Integ.Name)
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
