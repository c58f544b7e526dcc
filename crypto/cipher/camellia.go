package cipher

import (
	stdcipher "crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// camellia is Camellia with 128, 192 or 256 bits (RFC 3713; ENCR_CAMELLIA_CBC,
// RFC 5529). Its look-ups depend on the data, as those of the other ciphers
// here without instructions of their own do.
type camellia struct{ encrypt, decrypt camelliaKeys }

// camelliaKeys are the subkeys in the order of their use.
type camelliaKeys struct {
	kw     [4]uint64
	ke     [6]uint64
	k      [24]uint64
	rounds int // 18 or 24
}

func camelliaBlock(key []byte) (stdcipher.Block, error) {
	c := new(camellia)
	switch len(key) {
	case 16:
		c.encrypt = camelliaKeys128(key)
	case 24, 32:
		c.encrypt = camelliaKeys256(key)
	default:
		return nil, fmt.Errorf("a Camellia key has 16, 24 or 32 bytes, not %d", len(key))
	}
	c.decrypt = c.encrypt.reversed()
	return c, nil
}

func (c *camellia) BlockSize() int { return 16 }

func (c *camellia) Encrypt(dst, src []byte) { c.encrypt.run(dst, src) }

func (c *camellia) Decrypt(dst, src []byte) { c.decrypt.run(dst, src) }

// run is RFC 3713 §2.3; decryption is the same with the subkeys reversed.
func (s *camelliaKeys) run(dst, src []byte) {
	_, _ = src[15], dst[15]
	d1 := binary.BigEndian.Uint64(src) ^ s.kw[0]
	d2 := binary.BigEndian.Uint64(src[8:]) ^ s.kw[1]
	for r := 0; r < s.rounds; r += 6 {
		if r > 0 {
			d1 = camelliaFL(d1, s.ke[r/3-2])
			d2 = camelliaFLInverse(d2, s.ke[r/3-1])
		}
		k := s.k[r : r+6]
		d2 ^= camelliaF(d1, k[0])
		d1 ^= camelliaF(d2, k[1])
		d2 ^= camelliaF(d1, k[2])
		d1 ^= camelliaF(d2, k[3])
		d2 ^= camelliaF(d1, k[4])
		d1 ^= camelliaF(d2, k[5])
	}
	binary.BigEndian.PutUint64(dst, d2^s.kw[2])
	binary.BigEndian.PutUint64(dst[8:], d1^s.kw[3])
}

func (s *camelliaKeys) reversed() camelliaKeys {
	t := camelliaKeys{rounds: s.rounds, kw: [4]uint64{s.kw[2], s.kw[3], s.kw[0], s.kw[1]}}
	for i := range s.rounds {
		t.k[i] = s.k[s.rounds-1-i]
	}
	n := s.rounds/3 - 2
	for i := range n {
		t.ke[i] = s.ke[n-1-i]
	}
	return t
}

// camelliaF is the F-function (RFC 3713 §2.4.1).
func camelliaF(x, k uint64) uint64 {
	x ^= k
	return camelliaSP[0][x>>56] ^ camelliaSP[1][x>>48&0xff] ^ camelliaSP[2][x>>40&0xff] ^ camelliaSP[3][x>>32&0xff] ^
		camelliaSP[4][x>>24&0xff] ^ camelliaSP[5][x>>16&0xff] ^ camelliaSP[6][x>>8&0xff] ^ camelliaSP[7][x&0xff]
}

// camelliaFL and camelliaFLInverse are RFC 3713 §2.4.2 and §2.4.3.
func camelliaFL(x, k uint64) uint64 {
	x1, x2 := uint32(x>>32), uint32(x)
	x2 ^= bits.RotateLeft32(x1&uint32(k>>32), 1)
	x1 ^= x2 | uint32(k)
	return uint64(x1)<<32 | uint64(x2)
}

func camelliaFLInverse(y, k uint64) uint64 {
	y1, y2 := uint32(y>>32), uint32(y)
	y1 ^= y2 | uint32(k)
	y2 ^= bits.RotateLeft32(y1&uint32(k>>32), 1)
	return uint64(y1)<<32 | uint64(y2)
}

// word is 128 bits, the upper half first.
type word [2]uint64

func (w word) xor(v word) word { return word{w[0] ^ v[0], w[1] ^ v[1]} }

// rotl rotates to the left by less than 128 bits.
func (w word) rotl(n uint) (hi, lo uint64) {
	hi, lo = w[0], w[1]
	if n >= 64 {
		hi, lo, n = lo, hi, n-64
	}
	return hi<<n | lo>>(64-n), lo<<n | hi>>(64-n)
}

var camelliaSigma = [6]uint64{
	0xA09E667F3BCC908B, 0xB67AE8584CAA73B2, 0xC6EF372FE94F82BE,
	0x54FF53A5F1D36F1C, 0x10E527FADE682D1D, 0xB05688C2B3E6C1FD,
}

// camelliaKAKB mixes the key's halves (RFC 3713 §2.2).
func camelliaKAKB(kl, kr word) (ka, kb word) {
	d := kl.xor(kr)
	d[1] ^= camelliaF(d[0], camelliaSigma[0])
	d[0] ^= camelliaF(d[1], camelliaSigma[1])
	d = d.xor(kl)
	d[1] ^= camelliaF(d[0], camelliaSigma[2])
	d[0] ^= camelliaF(d[1], camelliaSigma[3])
	ka = d
	d = ka.xor(kr)
	d[1] ^= camelliaF(d[0], camelliaSigma[4])
	d[0] ^= camelliaF(d[1], camelliaSigma[5])
	return ka, d
}

// camelliaKeys128 is the schedule of 128-bit keys (RFC 3713 §2.2).
func camelliaKeys128(key []byte) (s camelliaKeys) {
	kl := word{binary.BigEndian.Uint64(key), binary.BigEndian.Uint64(key[8:])}
	ka, _ := camelliaKAKB(kl, word{})
	s.rounds = 18
	s.kw[0], s.kw[1] = kl[0], kl[1]
	s.k[0], s.k[1] = ka[0], ka[1]
	s.k[2], s.k[3] = kl.rotl(15)
	s.k[4], s.k[5] = ka.rotl(15)
	s.ke[0], s.ke[1] = ka.rotl(30)
	s.k[6], s.k[7] = kl.rotl(45)
	s.k[8], _ = ka.rotl(45)
	_, s.k[9] = kl.rotl(60)
	s.k[10], s.k[11] = ka.rotl(60)
	s.ke[2], s.ke[3] = kl.rotl(77)
	s.k[12], s.k[13] = kl.rotl(94)
	s.k[14], s.k[15] = ka.rotl(94)
	s.k[16], s.k[17] = kl.rotl(111)
	s.kw[2], s.kw[3] = ka.rotl(111)
	return s
}

// camelliaKeys256 is the schedule of keys of 192 bits, which are completed to
// 256, and of 256 bits (RFC 3713 §2.2).
func camelliaKeys256(key []byte) (s camelliaKeys) {
	kl := word{binary.BigEndian.Uint64(key), binary.BigEndian.Uint64(key[8:])}
	kr := word{binary.BigEndian.Uint64(key[16:])}
	if kr[1] = ^kr[0]; len(key) == 32 {
		kr[1] = binary.BigEndian.Uint64(key[24:])
	}
	ka, kb := camelliaKAKB(kl, kr)
	s.rounds = 24
	s.kw[0], s.kw[1] = kl[0], kl[1]
	s.k[0], s.k[1] = kb[0], kb[1]
	s.k[2], s.k[3] = kr.rotl(15)
	s.k[4], s.k[5] = ka.rotl(15)
	s.ke[0], s.ke[1] = kr.rotl(30)
	s.k[6], s.k[7] = kb.rotl(30)
	s.k[8], s.k[9] = kl.rotl(45)
	s.k[10], s.k[11] = ka.rotl(45)
	s.ke[2], s.ke[3] = kl.rotl(60)
	s.k[12], s.k[13] = kr.rotl(60)
	s.k[14], s.k[15] = kb.rotl(60)
	s.k[16], s.k[17] = kl.rotl(77)
	s.ke[4], s.ke[5] = ka.rotl(77)
	s.k[18], s.k[19] = kr.rotl(94)
	s.k[20], s.k[21] = ka.rotl(94)
	s.k[22], s.k[23] = kl.rotl(111)
	s.kw[2], s.kw[3] = kb.rotl(111)
	return s
}

// camelliaSP has, for each byte of the F-function's input, what it adds to the
// output: an S-box and the linear layer behind it in one look-up.
var camelliaSP = camelliaTables()

func camelliaTables() (sp [8][256]uint64) {
	// which of the output bytes y1 … y8 each of t1 … t8 goes into (RFC 3713 §2.4.1)
	spread := [8]uint64{
		0xffffff00ff0000ff, 0x00ffffffffff0000, 0xff00ffff00ffff00, 0xffff00ff0000ffff,
		0x00ffffff00ffffff, 0xff00ffffff00ffff, 0xffff00ffffff00ff, 0xffffff00ffffff00,
	}
	boxes := [8]func(x uint8) uint8{camelliaS1, camelliaS2, camelliaS3, camelliaS4, camelliaS2, camelliaS3, camelliaS4, camelliaS1}
	for i := range sp {
		for x := range 256 {
			sp[i][x] = uint64(boxes[i](uint8(x))) * 0x0101010101010101 & spread[i]
		}
	}
	return sp
}

// The four S-boxes are one (RFC 3713 §2.4.1).
func camelliaS1(x uint8) uint8 { return camelliaSBox[x] }
func camelliaS2(x uint8) uint8 { return bits.RotateLeft8(camelliaSBox[x], 1) }
func camelliaS3(x uint8) uint8 { return bits.RotateLeft8(camelliaSBox[x], 7) }
func camelliaS4(x uint8) uint8 { return camelliaSBox[bits.RotateLeft8(x, 1)] }

var camelliaSBox = [256]uint8{
	112, 130, 44, 236, 179, 39, 192, 229, 228, 133, 87, 53, 234, 12, 174, 65,
	35, 239, 107, 147, 69, 25, 165, 33, 237, 14, 79, 78, 29, 101, 146, 189,
	134, 184, 175, 143, 124, 235, 31, 206, 62, 48, 220, 95, 94, 197, 11, 26,
	166, 225, 57, 202, 213, 71, 93, 61, 217, 1, 90, 214, 81, 86, 108, 77,
	139, 13, 154, 102, 251, 204, 176, 45, 116, 18, 43, 32, 240, 177, 132, 153,
	223, 76, 203, 194, 52, 126, 118, 5, 109, 183, 169, 49, 209, 23, 4, 215,
	20, 88, 58, 97, 222, 27, 17, 28, 50, 15, 156, 22, 83, 24, 242, 34,
	254, 68, 207, 178, 195, 181, 122, 145, 36, 8, 232, 168, 96, 252, 105, 80,
	170, 208, 160, 125, 161, 137, 98, 151, 84, 91, 30, 149, 224, 255, 100, 210,
	16, 196, 0, 72, 163, 247, 117, 219, 138, 3, 230, 218, 9, 63, 221, 148,
	135, 92, 131, 2, 205, 74, 144, 51, 115, 103, 246, 243, 157, 127, 191, 226,
	82, 155, 216, 38, 200, 55, 198, 59, 129, 150, 111, 75, 19, 190, 99, 46,
	233, 121, 167, 140, 159, 110, 188, 142, 41, 245, 249, 182, 47, 253, 180, 89,
	120, 152, 6, 106, 231, 70, 113, 186, 212, 37, 171, 66, 136, 162, 141, 250,
	114, 7, 185, 85, 248, 238, 172, 10, 54, 73, 42, 104, 60, 56, 241, 164,
	64, 40, 211, 123, 187, 201, 67, 193, 21, 227, 173, 244, 119, 199, 128, 158,
}
