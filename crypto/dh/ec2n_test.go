package dh

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"culvert/crypto/suite"
)

// What OpenSSL 3.0.19 makes on its curves Oakley-EC2N-3 and Oakley-EC2N-4: two private values, their
// x-coordinates, and what `openssl pkeyutl -derive` derives.
func TestEC2NOfOpenSSL(t *testing.T) {
	for _, v := range []struct{ group, i, gi, r, gr, gir string }{
		{
			"ec2n155",
			"026b27b4d833d0f87155cfe55b326fa6daff6823", "05759f6b9dc53e5ffd55e6295f0ce0d85459e998",
			"027710dd4dbc889c875a6660552c93faca2bcf09", "00bee7303f0cb6cf4dffb2c0bccc473a1daf2e0b",
			"0253943413e054ee98b94c26814788888dc0c131",
		},
		{
			"ec2n185",
			"00f1b51d22415b72ddacd475347dc0dbf939f94069ac2bd2", "00dfa3063d7af0abeb4769ca9c71cde772e8ebeb4013918a",
			"00e451041ea04234b49eacf96c3947aed5cc3df0a6f1f659", "00de70ab464e004a43fb31357f88d49320c2e086b5739ef0",
			"00452edb7137b9c39f3528ff1a2bab0e22ea7a36aaaba022",
		},
	} {
		g := suite.GroupByName(v.group)
		for _, side := range [][3]string{{v.i, v.gi, v.gr}, {v.r, v.gr, v.gi}} {
			private, public, peer := unhex(t, side[0]), unhex(t, side[1]), unhex(t, side[2])
			if got, err := Public(g, private); err != nil || !bytes.Equal(got, public) {
				t.Errorf("%s public: %x, %v, want %x", v.group, got, err, public)
			}
			if got, err := Shared(g, private, peer); err != nil || !bytes.Equal(got, unhex(t, v.gir)) {
				t.Errorf("%s shared: %x, %v, want %s", v.group, []byte(got), err, v.gir)
			}
		}
	}
}

// The OpenSSL of this computer agrees on new values, as far as it still has the curves.
func TestEC2NAgainstOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("there is no openssl; install the package openssl")
	}
	dir := t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("openssl", args...).Output()
		if err != nil {
			t.Fatalf("openssl %v: %v", args, err)
		}
		return string(out)
	}
	for curve, name := range map[string]string{"Oakley-EC2N-3": "ec2n155", "Oakley-EC2N-4": "ec2n185"} {
		g := suite.GroupByName(name)
		if !strings.Contains(run("ecparam", "-list_curves"), curve) {
			t.Skipf("this OpenSSL has no %s any more; TestEC2NOfOpenSSL has fixed values", curve)
		}
		for i := range 3 {
			var private, public [2][]byte
			var files [2]string
			for j := range files {
				files[j] = filepath.Join(dir, fmt.Sprintf("%s-%d-%d", name, i, j))
				pem := run("ecparam", "-name", curve, "-genkey", "-noout")
				if err := os.WriteFile(files[j], []byte(pem), 0o600); err != nil {
					t.Fatal(err)
				}
				run("pkey", "-in", files[j], "-pubout", "-out", files[j]+".pub")
				text := run("pkey", "-in", files[j], "-noout", "-text")
				private[j], public[j] = field(t, text, "priv"), field(t, text, "pub")
				private[j] = append(make([]byte, g.PublicLen-len(private[j])), private[j]...)
				public[j] = public[j][1 : 1+g.PublicLen] // 04 | x | y
				if got, err := Public(g, private[j]); err != nil || !bytes.Equal(got, public[j]) {
					t.Errorf("%s, private value %x: public %x, %v, want %x", name, private[j], got, err, public[j])
				}
			}
			want := []byte(run("pkeyutl", "-derive", "-inkey", files[0], "-peerkey", files[1]+".pub"))
			for j := range files {
				if got, err := Shared(g, private[j], public[1-j]); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s, private value %x, public %x: shared %x, %v, want %x", name, private[j], public[1-j], []byte(got), err, want)
				}
			}
		}
	}
}

// field is a number in OpenSSL's text: lines of bytes with colons.
func field(t *testing.T, text, name string) []byte {
	t.Helper()
	m := regexp.MustCompile(`(?s)` + name + `:\s*((?:[0-9a-f]{2}:?\s*)+)`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("OpenSSL says no %s: %s", name, text)
	}
	b, err := hex.DecodeString(strings.NewReplacer(":", "", " ", "", "\n", "").Replace(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// poly is the same field in another way: a polynomial is a big.Int, and its product is divided by
// the polynomial of RFC 2409 as at school.
type poly struct{ modulus *big.Int }

func (p poly) mod(a *big.Int) *big.Int {
	a = new(big.Int).Set(a)
	for n := p.modulus.BitLen(); a.BitLen() >= n; {
		a.Xor(a, new(big.Int).Lsh(p.modulus, uint(a.BitLen()-n)))
	}
	return a
}

func (p poly) mul(a, b *big.Int) *big.Int {
	out := new(big.Int)
	for i := range b.BitLen() {
		if b.Bit(i) == 1 {
			out.Xor(out, new(big.Int).Lsh(a, uint(i)))
		}
	}
	return p.mod(out)
}

// invert is Euclid's algorithm.
func (p poly) invert(a *big.Int) *big.Int {
	u, v, g, h := p.mod(a), new(big.Int).Set(p.modulus), big.NewInt(1), new(big.Int)
	for u.Cmp(big.NewInt(1)) != 0 {
		if u.BitLen() < v.BitLen() {
			u, v, g, h = v, u, h, g
		}
		n := uint(u.BitLen() - v.BitLen())
		u.Xor(u, new(big.Int).Lsh(v, n))
		g.Xor(g, new(big.Int).Lsh(h, n))
	}
	return p.mod(g)
}

type point struct{ x, y *big.Int } // nil at infinity

// plus is the sum of two points of y² + xy = x³ + b.
func (p poly) plus(a, b point) point {
	xor := func(all ...*big.Int) *big.Int {
		out := new(big.Int)
		for _, v := range all {
			out.Xor(out, v)
		}
		return out
	}
	switch {
	case a.x == nil:
		return b
	case b.x == nil:
		return a
	case a.x.Cmp(b.x) == 0 && (a.y.Cmp(b.y) != 0 || a.x.Sign() == 0):
		return point{}
	case a.x.Cmp(b.x) == 0:
		slope := xor(a.x, p.mul(a.y, p.invert(a.x)))
		x := xor(p.mul(slope, slope), slope)
		return point{x, xor(p.mul(a.x, a.x), p.mul(slope, x), x)}
	}
	slope := p.mul(xor(a.y, b.y), p.invert(xor(a.x, b.x)))
	x := xor(p.mul(slope, slope), slope, a.x, b.x)
	return point{x, xor(p.mul(slope, xor(a.x, x)), x, a.y)}
}

func (p poly) times(n *big.Int, a point) point {
	out := point{}
	for i := n.BitLen() - 1; i >= 0; i-- {
		if out = p.plus(out, out); n.Bit(i) == 1 {
			out = p.plus(out, a)
		}
	}
	return out
}

// rfc2409 has the groups as RFC 2409 §6.3 and §6.4 print them.
var rfc2409 = []struct {
	group, polynomial, x, y, b, order string
}{
	{"ec2n155", "0800000000000000000000004000000000000001", "7b", "1c8", "07338f", "0800000000000000000057db5698537193aef944"},
	{"ec2n185", "020000000000000000000000000000200000000000000001", "18", "0d", "1ee9", "01ffffffffffffffffffffffdbf2f889b73e484175f94ebc"},
}

func number16(t *testing.T, s string) *big.Int {
	t.Helper()
	n, ok := new(big.Int).SetString(s, 16)
	if !ok {
		t.Fatal(s)
	}
	return n
}

// The parameters are RFC 2409's, and the results those of the textbook.
func TestEC2NOfTheRFC(t *testing.T) {
	for _, v := range rfc2409 {
		g := suite.GroupByName(v.group)
		e := of(g).(ec2n)
		p := poly{number16(t, v.polynomial)}
		if m := p.modulus.BitLen() - 1; m != int(e.field.m) || p.modulus.Bit(int(e.field.k)) != 1 || g.PublicLen != e.field.size {
			t.Errorf("%s: the field is %+v", v.group, e.field)
		}
		order, of := number16(t, v.order), new(big.Int).SetBytes(e.bound().Nat().Bytes(e.bound()))
		of.Add(of, big.NewInt(1))
		base := point{number16(t, v.x), number16(t, v.y)}
		if new(big.Int).Rem(order, of).Sign() != 0 || p.times(of, base).x != nil || p.times(order, base).x != nil {
			t.Errorf("%s: the order of the generator is not %x", v.group, of)
		}
		prime := new(big.Int).Quo(order, big.NewInt(int64(e.small)))
		if !prime.ProbablyPrime(20) || new(big.Int).Mul(prime, big.NewInt(int64(e.small))).Cmp(order) != 0 {
			t.Errorf("%s: the order of the curve is not %d times a prime", v.group, e.small)
		}
		if b := p.mod(number16(t, v.b)); e.b != (element{b.Uint64()}) || e.x != (element{base.x.Uint64()}) {
			t.Errorf("%s: b or the generator is another one", v.group)
		}
		for i := range byte(4) {
			private, err := NewPrivate(g, random(i, RandomLen(g)))
			if err != nil || new(big.Int).SetBytes(private).Cmp(of) >= 0 {
				t.Fatalf("%s: private value %x, %v", v.group, []byte(private), err)
			}
			want := p.times(new(big.Int).SetBytes(private), base)
			if got, err := Public(g, private); err != nil || !bytes.Equal(got, want.x.FillBytes(make([]byte, g.PublicLen))) {
				t.Errorf("%s: public value %x, %v, want %x", v.group, got, err, want.x)
			}
			other, _ := NewPrivate(g, random(i+100, RandomLen(g)))
			shared := p.times(new(big.Int).SetBytes(other), want)
			if got, err := Shared(g, other, want.x.FillBytes(make([]byte, g.PublicLen))); err != nil || !bytes.Equal(got, shared.x.FillBytes(make([]byte, g.PublicLen))) {
				t.Errorf("%s: shared %x, %v, want %x", v.group, []byte(got), err, shared.x)
			}
		}
	}
}

// The arithmetic of the field against that of polynomials, at random and at the ends.
func TestBinaryField(t *testing.T) {
	for _, v := range rfc2409 {
		f := of(suite.GroupByName(v.group)).(ec2n).field
		p := poly{number16(t, v.polynomial)}
		most := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), f.m), big.NewInt(1))
		all := []*big.Int{new(big.Int), big.NewInt(1), most, new(big.Int).Lsh(big.NewInt(1), f.m-1)}
		for i := range byte(12) {
			all = append(all, new(big.Int).And(new(big.Int).SetBytes(random(i, f.size)), most))
		}
		of := func(n *big.Int) element {
			a, ok := f.element(n.FillBytes(make([]byte, f.size)))
			if !ok {
				t.Fatalf("%x is no element", n)
			}
			return a
		}
		back := func(a element) *big.Int { return new(big.Int).SetBytes(f.bytes(a)) }
		for _, a := range all {
			if got, want := back(f.square(of(a))), p.mul(a, a); got.Cmp(want) != 0 {
				t.Errorf("%s: %x squared is %x, want %x", v.group, a, got, want)
			}
			for _, b := range all {
				if got, want := back(f.mul(of(a), of(b))), p.mul(a, b); got.Cmp(want) != 0 {
					t.Errorf("%s: %x times %x is %x, want %x", v.group, a, b, got, want)
				}
			}
			if a.Sign() != 0 {
				if got, want := back(f.invert(of(a))), p.invert(a); got.Cmp(want) != 0 {
					t.Errorf("%s: the inverse of %x is %x, want %x", v.group, a, got, want)
				}
			}
			trace, power := new(big.Int), a
			for range f.m {
				trace.Xor(trace, power)
				power = p.mul(power, power)
			}
			if got := f.trace(of(a)); got != trace.Uint64() || trace.BitLen() > 1 {
				t.Errorf("%s: the trace of %x is %d, want %x", v.group, a, got, trace)
			}
		}
		if got := f.invert(element{}); got != (element{}) {
			t.Errorf("%s: the inverse of 0 is %x", v.group, got)
		}
		for _, bad := range []*big.Int{new(big.Int).Add(most, big.NewInt(1)), new(big.Int).Lsh(big.NewInt(1), uint(8*f.size-1))} {
			if a, ok := f.element(bad.FillBytes(make([]byte, f.size))); ok {
				t.Errorf("%s: %x is the element %x", v.group, bad, a)
			}
		}
	}
}

// Half of all elements are of no point, and a few are of points of small order.
func TestEC2NBadPoints(t *testing.T) {
	for _, v := range rfc2409 {
		g := suite.GroupByName(v.group)
		e := of(g).(ec2n)
		p := poly{number16(t, v.polynomial)}
		private, err := NewPrivate(g, random(1, RandomLen(g)))
		if err != nil {
			t.Fatal(err)
		}
		good := 0
		for i := range int64(64) {
			x := big.NewInt(i + 2)
			_, err := Shared(g, private, x.FillBytes(make([]byte, g.PublicLen)))
			if err != nil && !errors.Is(err, ErrPublic) {
				t.Fatal(err)
			}
			if err == nil {
				good++
			}
			// There is a y if z² + z = x + b/x² has a solution, which is the half-trace as m is odd.
			c := new(big.Int).Xor(x, p.mul(number16(t, v.b), p.invert(p.mul(x, x))))
			z, power := new(big.Int), c
			for range (e.field.m + 1) / 2 {
				z.Xor(z, power)
				power = p.mul(power, power)
				power = p.mul(power, power)
			}
			if on := new(big.Int).Xor(p.mul(z, z), z).Cmp(c) == 0; on != (err == nil) {
				t.Errorf("%s: x = %x is on the curve: %v, and the error is %v", v.group, x, on, err)
			}
		}
		if good < 16 || good > 48 {
			t.Errorf("%s: %d of 64 elements are of points", v.group, good)
		}
		// The generator times the prime, which is of small order.
		prime := new(big.Int).Quo(number16(t, v.order), big.NewInt(int64(e.small)))
		small := p.times(prime, point{number16(t, v.x), number16(t, v.y)})
		for q := small; q.x != nil; q = p.plus(q, small) {
			if s, err := Shared(g, private, q.x.FillBytes(make([]byte, g.PublicLen))); !errors.Is(err, ErrPublic) || s != nil {
				t.Errorf("%s: a point of small order, x = %x: %v", v.group, q.x, err)
			}
		}
		if small.x == nil {
			t.Errorf("%s: the generator is of prime order", v.group)
		}
		// Zero is no private value.
		if _, err := Public(g, make([]byte, g.PublicLen)); !errors.Is(err, ErrPrivate) {
			t.Errorf("%s: zero: %v", v.group, err)
		}
		if _, err := Shared(g, make([]byte, g.PublicLen), mustPublic(t, g)); !errors.Is(err, ErrPrivate) {
			t.Errorf("%s: zero: %v", v.group, err)
		}
	}
}

func mustPublic(t *testing.T, g *suite.Group) []byte {
	t.Helper()
	private, err := NewPrivate(g, random(2, RandomLen(g)))
	if err != nil {
		t.Fatal(err)
	}
	public, err := Public(g, private)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func BenchmarkEC2N(b *testing.B) {
	for _, name := range []string{"ec2n155", "ec2n185", "modp1024"} {
		g := suite.GroupByName(name)
		private, err := NewPrivate(g, random(1, RandomLen(g)))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Public(g, private); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
