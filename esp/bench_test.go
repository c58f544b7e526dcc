package esp

import (
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"testing"

	//lint:ignore SA1019 old peers have nothing else
	"golang.org/x/crypto/blowfish"
	"golang.org/x/crypto/chacha20poly1305"
	//lint:ignore SA1019 old peers have nothing else
	"golang.org/x/crypto/twofish"

	"culvert/crypto/aead"
	"culvert/crypto/cipher"
	"culvert/crypto/secret"
	"culvert/internal/testing/beside"
)

// round is how many packets are sealed or opened between two looks at the clock.
const round = 16

// rig is one choice of algorithms and size, with packets to work on.
type rig struct {
	combination
	tr     *Transform
	n      int // bytes of a payload
	body   int // bytes of what is encrypted: payload, padding, trailer
	bufs   [round][]byte
	sealed []byte // a packet, to be opened again and again
}

func (c combination) rig(b *testing.B, n int) *rig {
	g := &rig{combination: c, tr: c.transform(b), n: n}
	g.body = n + g.tr.padding(n) + trailerLen
	for i := range g.bufs {
		g.bufs[i] = make([]byte, g.tr.Front()+n+g.tr.Back()+64)
	}
	g.sealed = seal(b, g.tr, make([]byte, n), 1, 4)
	return g
}

// again puts the packet that is to be opened into all buffers.
func (g *rig) again() {
	for i := range g.bufs {
		copy(g.bufs[i], g.sealed)
	}
}

// each compares, for every choice of algorithms without ESN and size.
func each(b *testing.B, sides func(g *rig) (ours, bare beside.Side)) {
	for _, c := range combinations() {
		if c.esn {
			continue
		}
		for _, n := range []int{64, 512, 1420} {
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) {
				ours, bare := sides(c.rig(b, n))
				beside.Run(b, round, ours, bare)
			})
		}
	}
}

// BenchmarkSeal is Seal beside the primitives alone for the same bytes, with
// everything made beforehand.
func BenchmarkSeal(b *testing.B) {
	each(b, func(g *rig) (ours, bare beside.Side) {
		seq := uint64(0)
		ours.Round = func() {
			for _, buf := range g.bufs {
				seq++
				g.tr.Seal(buf, g.tr.Front(), g.n, seq, 4)
			}
		}
		seal, _ := g.bare()
		bare.Round = func() {
			for _, buf := range g.bufs {
				seal(buf)
			}
		}
		return ours, bare
	})
}

// BenchmarkOpen is the same for Open.
func BenchmarkOpen(b *testing.B) {
	each(b, func(g *rig) (ours, bare beside.Side) {
		size := len(g.sealed)
		ours.Prepare, bare.Prepare = g.again, g.again
		ours.Round = func() {
			for _, buf := range g.bufs {
				if _, _, _, err := g.tr.Open(buf[:size], 1); err != nil {
					panic(err)
				}
			}
		}
		_, open := g.bare()
		bare.Round = func() {
			for _, buf := range g.bufs {
				open(buf)
			}
		}
		return ours, bare
	})
}

// bare is what the primitives do with a packet: the standard library's and x/crypto's
// where they have the algorithm, else those of crypto/aead and crypto/cipher.
func (g *rig) bare() (seal, open func(pkt []byte)) {
	p := g.params()
	front, end := g.tr.Front(), g.tr.Front()+g.body
	if g.encr.AuthOnly {
		gcm, nonce, sum := must(stdcipher.NewGCM(must(aes.NewCipher(p.EncKey[:g.encr.KeyLen])))), make([]byte, 12), make([]byte, 16)
		f := func(pkt []byte) { gcm.Seal(sum[:0], nonce, nil, pkt[:end]) }
		return f, f
	}
	if g.encr.AEAD() {
		return g.bareAEAD(p.EncKey)
	}
	mac, sum := hmac.New(hashes[g.integ.Name], p.IntegKey), make([]byte, 0, 64)
	authenticate := func(pkt []byte) {
		mac.Reset()
		mac.Write(pkt[:end])
		mac.Sum(sum)
	}
	encrypt, decrypt := g.bareCipher(p.EncKey)
	return func(pkt []byte) { encrypt(pkt[front:end]); authenticate(pkt) }, func(pkt []byte) { authenticate(pkt); decrypt(pkt[front:end]) }
}

var hashes = map[string]func() hash.Hash{"md5": md5.New, "sha1": sha1.New, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New}

// bareAEAD opens the packet that the rig has sealed.
func (g *rig) bareAEAD(material secret.Bytes) (seal, open func(pkt []byte)) {
	key, front, end := material[:g.encr.KeyLen], g.tr.Front(), g.tr.Front()+g.body
	nonce := append(append([]byte{}, material[g.encr.KeyLen:]...), g.sealed[HeaderLen:front]...)
	var a stdcipher.AEAD
	switch g.encr.ID {
	case 18: // the standard library has none with an ICV of 8 bytes; this is its one of 16
		a = must(stdcipher.NewGCM(must(aes.NewCipher(key))))
		whole := a.Seal(nil, nonce, make([]byte, g.body), g.sealed[:HeaderLen])
		open = func(pkt []byte) { must(a.Open(pkt[front:front], nonce, whole, g.sealed[:HeaderLen])) }
		return func(pkt []byte) { a.Seal(pkt[front:front], nonce, pkt[front:end], pkt[:HeaderLen]) }, open
	case 19, 20:
		a = must(stdcipher.NewGCMWithTagSize(must(aes.NewCipher(key)), g.encr.ICVLen))
	case 28:
		a = must(chacha20poly1305.New(key))
	default: // CCM, of crypto/aead
		own, iv := must(aead.New(g.encr, material)), [aead.IVLen]byte(g.sealed[HeaderLen:front])
		return func(pkt []byte) { own.Seal(iv, pkt[front:end], pkt[:HeaderLen]) },
			func(pkt []byte) { must(own.Open(iv, pkt[front:len(g.sealed)], pkt[:HeaderLen])) }
	}
	return func(pkt []byte) { a.Seal(pkt[front:front], nonce, pkt[front:end], pkt[:HeaderLen]) },
		func(pkt []byte) { must(a.Open(pkt[front:front], nonce, pkt[front:len(g.sealed)], pkt[:HeaderLen])) }
}

func (g *rig) bareCipher(material secret.Bytes) (encrypt, decrypt func(text []byte)) {
	key := material[:g.encr.KeyLen]
	var block stdcipher.Block
	switch g.encr.ID {
	case 2:
		block = must(des.NewCipher(key))
	case 3:
		block = must(des.NewTripleDESCipher(key))
	case 7:
		block = must(blowfish.NewCipher(key))
	case 12:
		block = must(aes.NewCipher(key))
	case 1027:
		block = must(twofish.NewCipher(key))
	case 13: // one key stream for all packets: to begin one allocates
		ctr := stdcipher.NewCTR(must(aes.NewCipher(key)), make([]byte, 16))
		f := func(text []byte) { ctr.XORKeyStream(text, text) }
		return f, f
	default: // null; camellia, of crypto/cipher
		own, iv := must(cipher.New(g.encr, material)), make([]byte, g.encr.IVLen)
		return func(text []byte) { own.Encrypt(iv, text) }, func(text []byte) { own.Decrypt(iv, text) }
	}
	iv := make([]byte, block.BlockSize())
	e, d := stdcipher.NewCBCEncrypter(block, iv), stdcipher.NewCBCDecrypter(block, iv)
	return func(text []byte) { e.CryptBlocks(text, text) }, func(text []byte) { d.CryptBlocks(text, text) }
}
