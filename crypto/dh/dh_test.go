package dh

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/big"
	"math/rand/v2"
	"testing"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEveryRowIsImplemented(t *testing.T) {
	for i := range suite.Groups {
		if g := &suite.Groups[i]; groups[g.ID] == nil {
			t.Errorf("%s has no implementation", g.Name)
		}
	}
	for id := range groups {
		if suite.GroupByID(id) == nil {
			t.Errorf("implementation %d has no row", id)
		}
	}
}

// RFC 5903 §8.1 to §8.3 and RFC 7748 §6.1.
func TestPublished(t *testing.T) {
	for _, v := range []struct{ group, i, gi, r, gr, gir string }{
		{
			"ecp256",
			"C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433",
			"DAD0B65394221CF9B051E1FECA5787D098DFE637FC90B9EF945D0C37725811805271A0461CDB8252D61F1C456FA3E59AB1F45B33ACCF5F58389E0577B8990BB3",
			"C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53",
			"D12DFB5289C8D4F81208B70270398C342296970A0BCCB74C736FC7554494BF6356FBF3CA366CC23E8157854C13C58D6AAC23F046ADA30F8353E74F33039872AB",
			"D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE",
		},
		{
			"ecp384",
			"099F3C7034D4A2C699884D73A375A67F7624EF7C6B3C0F160647B67414DCE655E35B538041E649EE3FAEF896783AB194",
			"667842D7D180AC2CDE6F74F37551F55755C7645C20EF73E31634FE72B4C55EE6DE3AC808ACB4BDB4C88732AEE95F41AA9482ED1FC0EEB9CAFC4984625CCFC23F65032149E0E144ADA024181535A0F38EEB9FCFF3C2C947DAE69B4C634573A81C",
			"41CB0779B4BDB85D47846725FBEC3C9430FAB46CC8DC5060855CC9BDA0AA2942E0308312916B8ED2960E4BD55A7448FC",
			"E558DBEF53EECDE3D3FCCFC1AEA08A89A987475D12FD950D83CFA41732BC509D0D1AC43A0336DEF96FDA41D0774A3571DCFBEC7AACF3196472169E838430367F66EEBE3C6E70C416DD5F0C68759DD1FFF83FA40142209DFF5EAAD96DB9E6386C",
			"11187331C279962D93D604243FD592CB9D0A926F422E47187521287E7156C5C4D603135569B9E9D09CF5D4A270F59746",
		},
		{
			"ecp521",
			"0037ADE9319A89F4DABDB3EF411AACCCA5123C61ACAB57B5393DCE47608172A095AA85A30FE1C2952C6771D937BA9777F5957B2639BAB072462F68C27A57382D4A52",
			"0015417E84DBF28C0AD3C278713349DC7DF153C897A1891BD98BAB4357C9ECBEE1E3BF42E00B8E380AEAE57C2D107564941885942AF5A7F4601723C4195D176CED3E017CAE20B6641D2EEB695786D8C946146239D099E18E1D5A514C739D7CB4A10AD8A788015AC405D7799DC75E7B7D5B6CF2261A6A7F1507438BF01BEB6CA3926F9582",
			"0145BA99A847AF43793FDD0E872E7CDFA16BE30FDC780F97BCCC3F078380201E9C677D600B343757A3BDBF2A3163E4C2F869CCA7458AA4A4EFFC311F5CB151685EB9",
			"00D0B3975AC4B799F5BEA16D5E13E9AF971D5E9B984C9F39728B5E5739735A219B97C356436ADC6E95BB0352F6BE64A6C2912D4EF2D0433CED2B6171640012D9460F015C68226383956E3BD066E797B623C27CE0EAC2F551A10C2C724D9852077B87220B6536C5C408A1D2AEBB8E86D678AE49CB57091F4732296579AB44FCD17F0FC56A",
			"01144C7D79AE6956BC8EDB8E7C787C4521CB086FA64407F97894E5E6B2D79B04D1427E73CA4BAA240A34786859810C06B3C715A3A8CC3151F2BEE417996D19F3DDEA",
		},
		{
			"x25519",
			"77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
			"8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
			"5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
			"de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
			"4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
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

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func TestBothSidesAgree(t *testing.T) {
	for i := range suite.Groups {
		g := &suite.Groups[i]
		a, errA := NewPrivate(g, random(1, RandomLen(g)))
		again, _ := NewPrivate(g, random(1, RandomLen(g)))
		b, errB := NewPrivate(g, random(2, RandomLen(g)))
		if errA != nil || errB != nil {
			t.Fatalf("%s: %v, %v", g.Name, errA, errB)
		}
		if !a.Equal(again) || a.Equal(b) {
			t.Errorf("%s: a private value is not a function of its random bytes", g.Name)
		}
		pubA, errA := Public(g, a)
		pubB, errB := Public(g, b)
		if errA != nil || errB != nil || len(pubA) != g.PublicLen || len(pubB) != g.PublicLen {
			t.Fatalf("%s: public values of %d and %d bytes, %v, %v", g.Name, len(pubA), len(pubB), errA, errB)
		}
		ab, errA := Shared(g, a, pubB)
		ba, errB := Shared(g, b, pubA)
		if errA != nil || errB != nil || len(ab) == 0 || !ab.Equal(ba) {
			t.Errorf("%s: the sides do not agree: %v, %v", g.Name, errA, errB)
		}
		if pub, s, err := Both(g, b, pubA); err != nil || !bytes.Equal(pub, pubB) || !s.Equal(ba) {
			t.Errorf("%s: at once it is another result: %v", g.Name, err)
		}
	}
}

func TestNewPrivateLength(t *testing.T) {
	for i := range suite.Groups {
		g := &suite.Groups[i]
		for _, n := range []int{0, RandomLen(g) - 1, RandomLen(g) + 1} {
			if _, err := NewPrivate(g, make([]byte, n)); !errors.Is(err, ErrRandom) {
				t.Errorf("%s from %d bytes: error %v, want ErrRandom", g.Name, n, err)
			}
		}
	}
}

func TestBadPrivate(t *testing.T) {
	for i := range suite.Groups {
		g := &suite.Groups[i]
		private, err := NewPrivate(g, random(1, RandomLen(g)))
		if err != nil {
			t.Fatal(err)
		}
		peer, err := Public(g, private)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]byte{nil, bytes.Repeat([]byte{0xff}, g.PublicLen+1)} {
			if _, err := Public(g, bad); !errors.Is(err, ErrPrivate) {
				t.Errorf("%s: public of %d bytes: error %v, want ErrPrivate", g.Name, len(bad), err)
			}
			if _, err := Shared(g, bad, peer); !errors.Is(err, ErrPrivate) {
				t.Errorf("%s: shared of %d bytes: error %v, want ErrPrivate", g.Name, len(bad), err)
			}
			if _, _, err := Both(g, bad, peer); !errors.Is(err, ErrPrivate) {
				t.Errorf("%s: both of %d bytes: error %v, want ErrPrivate", g.Name, len(bad), err)
			}
		}
	}
}

// What RFC 6989 §2 wants to see refused.
func TestBadPublic(t *testing.T) {
	for i := range suite.Groups {
		g := &suite.Groups[i]
		private, err := NewPrivate(g, random(1, RandomLen(g)))
		if err != nil {
			t.Fatal(err)
		}
		good, err := Public(g, private)
		if err != nil {
			t.Fatal(err)
		}
		bad := [][]byte{nil, good[1:], append([]byte{0}, good...), make([]byte, g.PublicLen)}
		switch m := groups[g.ID].(type) {
		case modp:
			p := new(big.Int).SetBytes(m.modulus().Nat().Bytes(m.modulus()))
			for _, delta := range []int64{1, 0, -1} {
				bad = append(bad, new(big.Int).Sub(p, big.NewInt(delta)).Bytes())
			}
			one := make([]byte, g.PublicLen)
			one[len(one)-1] = 1
			bad = append(bad, one, bytes.Repeat([]byte{0xff}, g.PublicLen))
		case ecp:
			off := bytes.Clone(good)
			off[len(off)-1] ^= 1
			bad = append(bad, off, bytes.Repeat([]byte{0xff}, g.PublicLen))
		case ec2n:
			high := bytes.Clone(good)
			high[0] |= 0x80 // more than the field has
			bad = append(bad, high, bytes.Repeat([]byte{0xff}, g.PublicLen))
		case x25519:
			one := make([]byte, 32)
			one[0] = 1
			// a point of order 8 (RFC 7748 §7)
			bad = append(bad, one, unhex(t, "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"))
		}
		for _, pub := range bad {
			if s, err := Shared(g, private, pub); !errors.Is(err, ErrPublic) || s != nil {
				t.Errorf("%s: public value %x: error %v, want ErrPublic", g.Name, pub, err)
			}
			if _, s, err := Both(g, private, pub); !errors.Is(err, ErrPublic) || s != nil {
				t.Errorf("%s: both with public value %x: error %v, want ErrPublic", g.Name, pub, err)
			}
		}
	}
}

// d = (c mod (n-1)) + 1, by math/big, at random and at the ends.
func TestScalar(t *testing.T) {
	for _, e := range []ecp{ecp256, ecp384, ecp521} {
		bound := new(big.Int).SetBytes(e.bound().Nat().Bytes(e.bound()))
		cs := [][]byte{make([]byte, e.randomLen()), bytes.Repeat([]byte{0xff}, e.randomLen())}
		for _, delta := range []int64{-1, 0, 1} {
			cs = append(cs, new(big.Int).Add(bound, big.NewInt(delta)).FillBytes(make([]byte, e.randomLen())))
		}
		for seed := range byte(20) {
			cs = append(cs, random(seed, e.randomLen()))
		}
		for _, c := range cs {
			want := new(big.Int).SetBytes(c)
			want.Add(want.Mod(want, bound), big.NewInt(1))
			got, err := e.private(c)
			if err != nil || !bytes.Equal(got, want.FillBytes(make([]byte, e.size))) {
				t.Errorf("%x: %x, %v, want %x", c, []byte(got), err, want)
			}
			if _, err := e.public(got); err != nil {
				t.Errorf("%x: not a private value: %v", c, err)
			}
		}
	}
}

// The primes are what RFC 2409 §6 and RFC 3526 define them to be:
// 2^n - 2^(n-64) - 1 + 2^64 * ([2^(n-130) pi] + k).
func TestPrimes(t *testing.T) {
	for _, v := range []struct {
		name string
		bits uint
		k    int64
	}{
		{"modp768", 768, 149686}, {"modp1024", 1024, 129093}, {"modp1536", 1536, 741804},
		{"modp2048", 2048, 124476}, {"modp3072", 3072, 1690314}, {"modp4096", 4096, 240904},
		{"modp6144", 6144, 929484}, {"modp8192", 8192, 4743158},
	} {
		one := big.NewInt(1)
		want := new(big.Int).Lsh(one, v.bits)
		want.Sub(want, new(big.Int).Lsh(one, v.bits-64))
		want.Sub(want, one)
		tail := new(big.Int).Add(piBits(v.bits-130), big.NewInt(v.k))
		want.Add(want, tail.Lsh(tail, 64))

		m := groups[suite.GroupByName(v.name).ID].(modp)
		got := new(big.Int).SetBytes(m.modulus().Nat().Bytes(m.modulus()))
		if got.Cmp(want) != 0 {
			t.Errorf("%s is %x, want %x", v.name, got, want)
		}
	}
}

// piBits is the integer part of 2^bits * pi, by Machin's formula
// pi = 16 arctan(1/5) - 4 arctan(1/239).
func piBits(bits uint) *big.Int {
	const guard = 64
	unit := new(big.Int).Lsh(big.NewInt(1), bits+guard)
	arctan := func(x int64) *big.Int {
		sum, power, square := new(big.Int), new(big.Int).Quo(unit, big.NewInt(x)), big.NewInt(x*x)
		for n := int64(1); power.Sign() > 0; n += 2 {
			term := new(big.Int).Quo(power, big.NewInt(n))
			if n%4 == 3 {
				term.Neg(term)
			}
			sum.Add(sum, term)
			power.Quo(power, square)
		}
		return sum
	}
	pi := new(big.Int).Mul(big.NewInt(16), arctan(5))
	pi.Sub(pi, new(big.Int).Mul(big.NewInt(4), arctan(239)))
	return pi.Rsh(pi, guard)
}

func BenchmarkShared(b *testing.B) {
	for i := range suite.Groups {
		g := &suite.Groups[i]
		b.Run(g.Name, func(b *testing.B) {
			x, err := NewPrivate(g, random(1, RandomLen(g)))
			if err != nil {
				b.Fatal(err)
			}
			y, err := Public(g, x)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := Shared(g, x, y); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzShared: whatever a peer sends as its public value is refused or gives a secret of
// the group's length, the same each time.
func FuzzShared(f *testing.F) {
	var list []*suite.Group
	for i := range suite.Groups {
		g := &suite.Groups[i]
		if g.ID == 1 || g.ID >= 19 { // the longer MODP groups differ in nothing but time
			list = append(list, g)
		}
	}
	private := map[uint16]secret.Bytes{}
	for i, g := range list {
		p, err := NewPrivate(g, bytes.Repeat([]byte{7}, RandomLen(g)))
		if err != nil {
			f.Fatal(err)
		}
		private[g.ID] = p
		public, err := Public(g, p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), public)
		f.Add(byte(i), make([]byte, len(public)))
		f.Add(byte(i), bytes.Repeat([]byte{255}, len(public)))
	}
	f.Fuzz(func(t *testing.T, n byte, peer []byte) {
		g := list[int(n)%len(list)]
		public, shared, err := Both(g, private[g.ID], peer)
		if err != nil {
			if !errors.Is(err, ErrPublic) {
				t.Fatal(err)
			}
			return
		}
		again, err := Shared(g, private[g.ID], peer)
		if err != nil || !bytes.Equal(again, shared) || len(shared) == 0 || len(public) != len(peer) {
			t.Fatalf("%s: %d bytes of secret, %v", g.Name, len(shared), err)
		}
	})
}
