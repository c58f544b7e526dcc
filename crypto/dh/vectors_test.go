package dh

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/internal/testing/vectors"
)

// The seed of a vector is the initiator's private value and the responder's.
func TestStrongSwan(t *testing.T) {
	names := map[string]string{
		"MODP_768_BIT": "modp768", "MODP_1024_BIT": "modp1024", "MODP_1536_BIT": "modp1536", "MODP_2048_BIT": "modp2048",
		"MODP_3072_BIT": "modp3072", "MODP_4096_BIT": "modp4096", "MODP_6144_BIT": "modp6144", "MODP_8192_BIT": "modp8192",
		"ECP_256_BIT": "ecp256", "ECP_384_BIT": "ecp384", "ECP_521_BIT": "ecp521", "CURVE_25519": "x25519",
	}
	for _, file := range []string{"modp", "ecp", "curve25519"} {
		t.Run(file, func(t *testing.T) {
			var f struct {
				Vectors []struct {
					Name, Method string
					Seed         vectors.Hex
					PubI         vectors.Hex `json:"pub_i"`
					PubR         vectors.Hex `json:"pub_r"`
					Shared       vectors.Hex
				}
			}
			vectors.Load(t, "strongswan-test-vectors/"+file+".json", &f)
			ran := 0
			for _, v := range f.Vectors {
				g := suite.GroupByName(names[v.Method])
				if g == nil {
					continue // of a group that is no row
				}
				ran++
				half := len(v.Seed) / 2
				for _, side := range [][3][]byte{{v.Seed[:half], v.PubI, v.PubR}, {v.Seed[half:], v.PubR, v.PubI}} {
					if pub, err := Public(g, side[0]); err != nil || !bytes.Equal(pub, side[1]) {
						t.Errorf("%s: public %x, %v", v.Name, pub, err)
					}
					if s, err := Shared(g, side[0], side[2]); err != nil || !bytes.Equal(s, v.Shared) {
						t.Errorf("%s: shared %x, %v", v.Name, []byte(s), err)
					}
				}
			}
			if ran == 0 {
				t.Error("no vector is of a group that has a row")
			}
		})
	}
}

func TestWycheproofX25519(t *testing.T) {
	g := suite.GroupByName("x25519")
	for _, v := range wycheproof(t, "x25519") {
		s, err := Shared(g, secret.Bytes(v.Private), v.Public)
		zero := bytes.Equal(v.Shared, make([]byte, 32))
		if zero && !errors.Is(err, ErrPublic) {
			t.Errorf("case %d (%s): error %v, want ErrPublic", v.TcID, v.Comment, err)
		}
		if !zero && (err != nil || !bytes.Equal(s, v.Shared)) {
			t.Errorf("case %d (%s): %x, %v, want %x", v.TcID, v.Comment, []byte(s), err, v.Shared)
		}
	}
}

// A KE payload has x | y alone, so only points in SEC 1's uncompressed form
// can be put into one.
func TestWycheproofECP(t *testing.T) {
	for name, file := range map[string]string{"ecp256": "ecdh_secp256r1_ecpoint", "ecp521": "ecdh_secp521r1_ecpoint"} {
		t.Run(name, func(t *testing.T) {
			g := suite.GroupByName(name)
			ran := 0
			for _, v := range wycheproof(t, file) {
				if len(v.Public) == 0 || v.Public[0] != 4 {
					continue
				}
				ran++
				private := bytes.TrimLeft(v.Private, "\x00")
				private = append(make([]byte, g.PublicLen/2-len(private)), private...)
				s, err := Shared(g, private, v.Public[1:])
				if v.Result == "valid" && (err != nil || !bytes.Equal(s, v.Shared)) {
					t.Errorf("case %d (%s): %x, %v, want %x", v.TcID, v.Comment, []byte(s), err, v.Shared)
				}
				if v.Result == "invalid" && !errors.Is(err, ErrPublic) {
					t.Errorf("case %d (%s): error %v, want ErrPublic", v.TcID, v.Comment, err)
				}
			}
			if ran == 0 {
				t.Error("no case has an uncompressed point")
			}
		})
	}
}

type ecdhCase struct {
	TcID                    int
	Comment, Result         string
	Public, Private, Shared vectors.Hex
}

func wycheproof(t *testing.T, name string) (cases []ecdhCase) {
	t.Helper()
	var f struct{ TestGroups []struct{ Tests []ecdhCase } }
	vectors.Load(t, "wycheproof/"+name+"_test.json", &f)
	for _, g := range f.TestGroups {
		cases = append(cases, g.Tests...)
	}
	if len(cases) == 0 {
		t.Fatal("the file has no tests")
	}
	return cases
}

func TestACVPX25519(t *testing.T) {
	var f struct {
		TestGroups []struct {
			Curve string
			Tests []struct {
				TcID                                       int
				TestPassed                                 bool
				PrivateServer, PublicServer, PrivateIut, Z vectors.Hex
			}
		}
	}
	vectors.Load(t, "acvp/XECDH-SSC-RFC7748.json", &f)
	g, ran := suite.GroupByName("x25519"), 0
	for _, group := range f.TestGroups {
		if group.Curve != "Curve25519" {
			continue
		}
		for _, v := range group.Tests {
			if len(v.PrivateIut) == 0 {
				continue
			}
			ran++
			s, err := Shared(g, secret.Bytes(v.PrivateIut), v.PublicServer)
			if err != nil || bytes.Equal(s, v.Z) != v.TestPassed {
				t.Errorf("case %d: %x, %v, vector %x passes: %v", v.TcID, []byte(s), err, v.Z, v.TestPassed)
			}
		}
	}
	if ran == 0 {
		t.Error("the file has no tests of Curve25519")
	}
}

func TestACVPSafePrime(t *testing.T) {
	var f struct {
		TestGroups []struct {
			SafePrimeGroup string
			Tests          []struct {
				TcID       int
				TestPassed bool
				X, Y       vectors.Hex
			}
		}
	}
	vectors.Load(t, "acvp/safePrimes-keyVer-1.0.json", &f)
	ran := 0
	for _, group := range f.TestGroups {
		g := suite.GroupByName(strings.ReplaceAll(strings.ToLower(group.SafePrimeGroup), "-", ""))
		if g == nil {
			continue // of a group that is no row
		}
		for _, v := range group.Tests {
			ran++
			y, err := Public(g, secret.Bytes(v.X))
			want := append(make([]byte, g.PublicLen-len(v.Y)), v.Y...)
			if err != nil || bytes.Equal(y, want) != v.TestPassed {
				t.Errorf("%s, case %d: %x, %v, vector %x passes: %v", g.Name, v.TcID, y, err, v.Y, v.TestPassed)
			}
		}
	}
	if ran == 0 {
		t.Error("the file has no tests of a MODP group")
	}
}

// Botan's cases are NIST's, for curves that are not all ours.
func TestBotanECDH(t *testing.T) {
	names := map[string]string{"secp256r1": "ecp256", "secp384r1": "ecp384", "secp521r1": "ecp521"}
	ran := map[string]int{}
	for _, v := range vectors.Records(t, "botan/vec/pubkey_ecdh.vec") {
		g := suite.GroupByName(names[v.Section])
		if g == nil {
			continue
		}
		ran[g.Name]++
		private := v.Hex(t, "Secret")
		private = append(make([]byte, g.PublicLen/2-len(private)), private...)
		s, err := Shared(g, private, v.Hex(t, "CounterKey")[1:])
		if want := v.Hex(t, "K"); err != nil || !bytes.Equal(s, want) {
			t.Errorf("%s: %x, %v, want %x", g.Name, []byte(s), err, want)
		}
	}
	if len(ran) != len(names) {
		t.Errorf("cases of %v", ran)
	}
}
