package esp

import (
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"testing"
)

var sizes = []int{64, 512, 1420}

// each runs a benchmark for every choice of algorithms without ESN and size.
func each(b *testing.B, run func(b *testing.B, c combination, n int)) {
	for _, c := range combinations() {
		if c.esn {
			continue
		}
		for _, n := range sizes {
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				b.ReportAllocs()
				run(b, c, n)
			})
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	each(b, func(b *testing.B, c combination, n int) {
		tr := c.transform(b)
		buf := make([]byte, tr.Front()+n+tr.Back())
		seq := uint64(0)
		for b.Loop() {
			seq++
			tr.Seal(buf, tr.Front(), n, seq, 4)
		}
	})
}

// BenchmarkOpen copies each packet first, since opening consumes it.
func BenchmarkOpen(b *testing.B) {
	each(b, func(b *testing.B, c combination, n int) {
		tr := c.transform(b)
		sealed := seal(b, tr, make([]byte, n), 1, 4)
		pkt := make([]byte, len(sealed))
		for b.Loop() {
			copy(pkt, sealed)
			if _, _, _, err := tr.Open(pkt, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkBare is what the standard library's primitives cost for the same
// bytes, in the sealing direction and with everything made beforehand.
func BenchmarkBare(b *testing.B) {
	each(b, func(b *testing.B, c combination, n int) {
		if c.encr.ID != 12 && c.encr.ID != 20 {
			b.Skip("the yardstick is of AES-CBC and AES-GCM")
		}
		tr, p := c.transform(b), c.params()
		body := n + tr.padding(n) + trailerLen
		buf := make([]byte, HeaderLen+tr.ivLen+body+tr.icv)
		block := must(aes.NewCipher(p.EncKey[:p.Encr.KeyLen]))
		if c.encr.AEAD() {
			gcm, nonce := must(stdcipher.NewGCM(block)), make([]byte, 12)
			text := buf[tr.Front() : tr.Front()+body]
			for b.Loop() {
				gcm.Seal(text[:0], nonce, text, buf[:8])
			}
			return
		}
		hashes := map[string]func() hash.Hash{"md5": md5.New, "sha1": sha1.New, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New}
		mac := hmac.New(hashes[c.integ.Name], p.IntegKey)
		cbc := stdcipher.NewCBCEncrypter(block, make([]byte, 16))
		sum := make([]byte, 0, 64)
		for b.Loop() {
			cbc.CryptBlocks(buf[tr.Front():tr.Front()+body], buf[tr.Front():tr.Front()+body])
			mac.Reset()
			mac.Write(buf[:tr.Front()+body])
			mac.Sum(sum)
		}
	})
}
