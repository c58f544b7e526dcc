package dh

import (
	"encoding/hex"
	"sync"

	"culvert/crypto/secret"

	"filippo.io/bigmod"
)

// ec2n is Diffie-Hellman on a curve y² + xy = x³ + b over a field of 2^m elements (RFC 2409
// §6.3 and §6.4). Only the x-coordinate is sent, and it is the shared secret.
//
// Both groups are weaker than modp1536 and here for old peers alone. The code has no branch and no
// index that depends on a private value; that the compiler keeps it so is not
// verified. Whether a peer's value is valid is computed with branches: it is public.
type ec2n struct {
	field binaryField
	b     element
	x     element // of the generator
	small byte    // multiple that takes every point of small order to infinity: the order of the curve is small times a prime
	bound func() *bigmod.Modulus
}

var (
	ec2n155 = ec2n{
		field: binaryField{m: 155, k: 62, size: 20}, b: element{0x07338f}, x: element{0x7b}, small: 12,
		bound: orderOfGenerator("02aaaaaaaaaaaaaaaaaac7f3c7881bd0868fa86c"),
	}
	ec2n185 = ec2n{
		field: binaryField{m: 185, k: 69, size: 24}, b: element{0x1ee9}, x: element{0x18}, small: 4,
		bound: orderOfGenerator("00ffffffffffffffffffffffedf97c44db9f2420bafca75e"),
	}
)

// orderOfGenerator is the order less one, which private values are made from. RFC 2409 has the order of the
// curve, which is three times and twice that of the generator.
func orderOfGenerator(digits string) func() *bigmod.Modulus {
	return sync.OnceValue(func() *bigmod.Modulus {
		b, err := hex.DecodeString(digits)
		if err != nil {
			panic("dh: a curve's order is not hexadecimal: " + err.Error())
		}
		b[len(b)-1]-- // no borrow: the orders are even and do not end in 0
		m, err := bigmod.NewModulus(b)
		if err != nil {
			panic("dh: a curve's order is no modulus: " + err.Error())
		}
		return m
	})
}

// randomLen has 64 bits more than the order, as for the other curves.
func (e ec2n) randomLen() int { return e.field.size + 8 }

// private is d = (c mod (n-1)) + 1, in constant time (FIPS 186-5 §A.2.1), as long as a coordinate.
func (e ec2n) private(random []byte) (secret.Bytes, error) {
	reduced := reduce(random, e.bound())
	d := make(secret.Bytes, e.field.size)
	copy(d[len(d)-len(reduced):], reduced)
	addOne(d)
	clear(reduced)
	return d, nil
}

func (e ec2n) public(private []byte) ([]byte, error) {
	if len(private) != e.field.size {
		return nil, ErrPrivate
	}
	x, ok := e.multiply(private, e.x)
	if !ok {
		return nil, ErrPrivate
	}
	return e.field.bytes(x), nil
}

// shared refuses what is no coordinate of a point of the curve: there is a y if the trace of x + b/x²
// is 0, and the points of the other half are on another curve with other orders, where a
// shared secret would tell of the private value. It refuses points of small order too.
func (e ec2n) shared(private, peer []byte) (secret.Bytes, error) {
	if len(private) != e.field.size {
		return nil, ErrPrivate
	}
	x, ok := e.field.element(peer)
	if !ok || x == (element{}) {
		return nil, ErrPublic
	}
	inverse := e.field.invert(x)
	if e.field.trace(add(x, e.field.mul(e.b, e.field.square(inverse)))) != 0 {
		return nil, ErrPublic
	}
	if _, ok := e.multiply([]byte{e.small}, x); !ok {
		return nil, ErrPublic
	}
	s, ok := e.multiply(private, x)
	if !ok {
		return nil, ErrPrivate
	}
	return e.field.bytes(s), nil
}

func (e ec2n) both(private, peer []byte) ([]byte, secret.Bytes, error) {
	s, err := e.shared(private, peer)
	if err != nil {
		return nil, nil, err
	}
	pub, err := e.public(private)
	return pub, s, err
}

// multiply is the x-coordinate of the multiple of a point, whose x is not 0; ok is false at
// infinity. It is Montgomery's ladder: the points r and s differ by the first one
// always, and each bit takes one addition and one doubling. A point is X/Z, and infinity has Z = 0.
func (e ec2n) multiply(scalar []byte, x element) (out element, ok bool) {
	f := e.field
	rx, rz, sx, sz := element{1}, element{}, x, element{1} // infinity and the point
	swapped := uint64(0)
	for _, octet := range scalar {
		for i := 7; i >= 0; i-- {
			bit := uint64(octet>>i) & 1
			swap(&rx, &sx, bit^swapped)
			swap(&rz, &sz, bit^swapped)
			swapped = bit
			// s = r + s: Z = (rx sz + sx rz)², X = x Z + (rx sz)(sx rz)
			u, v := f.mul(rx, sz), f.mul(sx, rz)
			sz = f.square(add(u, v))
			sx = add(f.mul(x, sz), f.mul(u, v))
			// r = 2r: X = rx⁴ + b rz⁴, Z = rx² rz²
			u, v = f.square(rx), f.square(rz)
			rx = add(f.square(u), f.mul(e.b, f.square(v)))
			rz = f.mul(u, v)
		}
	}
	swap(&rx, &sx, swapped)
	swap(&rz, &sz, swapped)
	return f.mul(rx, f.invert(rz)), rz != element{}
}

// swap exchanges a and b if bit is 1.
func swap(a, b *element, bit uint64) {
	for i := range a {
		d := (a[i] ^ b[i]) & -bit
		a[i] ^= d
		b[i] ^= d
	}
}

// element is a polynomial over the field of two elements, the lowest coefficient first.
type element [3]uint64

func add(a, b element) element { return element{a[0] ^ b[0], a[1] ^ b[1], a[2] ^ b[2]} }

// binaryField is the polynomials modulo u^m + u^k + 1. An element has size bytes.
type binaryField struct {
	m, k uint
	size int
}

// element reads an element, big endian; ok is false if it has more than m bits.
func (f binaryField) element(b []byte) (a element, ok bool) {
	for i, v := range b {
		at := len(b) - 1 - i
		a[at/8] |= uint64(v) << (at % 8 * 8)
	}
	return a, a[f.m/64]>>(f.m%64) == 0
}

func (f binaryField) bytes(a element) []byte {
	b := make([]byte, f.size)
	for i := range b {
		at := len(b) - 1 - i
		b[i] = byte(a[at/8] >> (at % 8 * 8))
	}
	return b
}

// mul adds a, shifted, for each coefficient of b that is 1.
func (f binaryField) mul(a, b element) element {
	var p0, p1, p2, p3, p4, p5 uint64 // one by one: with an array it is slower
	for i := 63; i >= 0; i-- {
		m0, m1, m2 := -(b[0] >> i & 1), -(b[1] >> i & 1), -(b[2] >> i & 1)
		p5 = p5<<1 | p4>>63
		p4 = p4<<1 | p3>>63 ^ a[2]&m2
		p3 = p3<<1 | p2>>63 ^ a[2]&m1 ^ a[1]&m2
		p2 = p2<<1 | p1>>63 ^ a[2]&m0 ^ a[1]&m1 ^ a[0]&m2
		p1 = p1<<1 | p0>>63 ^ a[1]&m0 ^ a[0]&m1
		p0 = p0<<1 ^ a[0]&m0
	}
	return f.reduce([6]uint64{p0, p1, p2, p3, p4, p5})
}

// square puts a zero between any two coefficients.
func (f binaryField) square(a element) element {
	var p [6]uint64
	for i, w := range a {
		p[2*i], p[2*i+1] = spread(uint32(w)), spread(uint32(w>>32))
	}
	return f.reduce(p)
}

func spread(w uint32) uint64 {
	v := uint64(w)
	v = (v | v<<16) & 0x0000ffff0000ffff
	v = (v | v<<8) & 0x00ff00ff00ff00ff
	v = (v | v<<4) & 0x0f0f0f0f0f0f0f0f
	v = (v | v<<2) & 0x3333333333333333
	return (v | v<<1) & 0x5555555555555555
}

// reduce folds what is above u^m - 1, as u^m = u^k + 1. Twice is enough, as 2k ≤ m.
func (f binaryField) reduce(p [6]uint64) element {
	for range 2 {
		high := shiftRight(p, f.m)
		again := shiftLeft(high, f.k)
		for i := range p {
			keep := uint64(0) // the mask of the coefficients below m
			if at := uint(64 * i); at < f.m {
				keep = 1<<min(f.m-at, 64) - 1
			}
			p[i] = p[i]&keep ^ high[i] ^ again[i]
		}
	}
	return element(p[:3])
}

func shiftRight(p [6]uint64, n uint) (out [6]uint64) {
	words, bits := int(n/64), n%64
	for i := range len(p) - words {
		out[i] = p[i+words] >> bits
		if i+words+1 < len(p) {
			out[i] |= p[i+words+1] << (64 - bits)
		}
	}
	return out
}

func shiftLeft(p [6]uint64, n uint) (out [6]uint64) {
	words, bits := int(n/64), n%64
	for i := words; i < len(p); i++ {
		out[i] = p[i-words] << bits
		if i > words {
			out[i] |= p[i-words-1] >> (64 - bits)
		}
	}
	return out
}

// invert is a^(2^m - 2), which is 0 for 0.
func (f binaryField) invert(a element) element {
	out := element{1}
	for range f.m - 1 {
		a = f.square(a)
		out = f.mul(out, a)
	}
	return out
}

// trace is the sum of a^(2^i) for i below m: 0 or 1.
func (f binaryField) trace(a element) uint64 {
	var sum element
	for range f.m {
		sum = add(sum, a)
		a = f.square(a)
	}
	return sum[0]
}
