package prf

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"culvert/crypto/suite"
	"culvert/internal/testing/vectors"
)

func TestEveryRowIsImplemented(t *testing.T) {
	for i := range suite.PRFs {
		p := &suite.PRFs[i]
		if functions[p.ID] == nil {
			t.Errorf("%s has no implementation", p.Name)
		} else if n := functions[p.ID](nil).Size(); n != p.Len {
			t.Errorf("%s has %d bytes, its row says %d", p.Name, n, p.Len)
		}
	}
	for id := range functions {
		if suite.PRFByID(id) == nil {
			t.Errorf("implementation %d has no row", id)
		}
	}
}

func TestSum(t *testing.T) {
	key, data := bytes.Repeat([]byte{0x0b}, 20), []byte("Hi There")
	for name, want := range map[string]string{
		// RFC 2202 §3 case 1; RFC 4231 §4.2
		"md5":    "5ccec34ea9656392457fa1ac27f08fbc",
		"sha1":   "b617318655057264e28bc0b6fb378c8ef146be00",
		"sha256": "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
		"sha384": "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
		"sha512": "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
	} {
		p := suite.PRFByName(name)
		if got := Sum(p, key, data).Reveal(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if got := Sum(p, key, data[:3], nil, data[3:]).Reveal(); got != want {
			t.Errorf("%s in parts: %s, want %s", name, got, want)
		}
	}
}

// prf+ as RFC 7296 §2.13 writes it, for every length up to a few blocks.
func TestPlus(t *testing.T) {
	key, seed := []byte("a key"), []byte("the seed")
	for i := range suite.PRFs {
		p := &suite.PRFs[i]
		var want, block []byte
		for c := byte(1); c <= 4; c++ {
			block = Sum(p, key, block, seed, []byte{c})
			want = append(want, block...)
		}
		for n := range len(want) + 1 {
			got, err := Plus(p, key, n, seed[:2], seed[2:])
			if err != nil || !bytes.Equal(got, want[:n]) {
				t.Fatalf("%s, %d bytes: %s, %v, want %x", p.Name, n, got.Reveal(), err, want[:n])
			}
		}
	}
}

func TestPlusLength(t *testing.T) {
	p := suite.PRFByName("sha1")
	if out, err := Plus(p, nil, 255*20); err != nil || len(out) != 255*20 {
		t.Errorf("255 blocks: %d bytes, %v", len(out), err)
	}
	for _, n := range []int{255*20 + 1, -1} {
		if _, err := Plus(p, nil, n); !errors.Is(err, ErrLength) {
			t.Errorf("%d bytes: error %v, want ErrLength", n, err)
		}
	}
}

func TestCAVS(t *testing.T) {
	var file struct {
		Groups []struct {
			Params struct{ Hash string }
			Tests  []map[string]any
		}
	}
	vectors.Load(t, "nss-cavs-ike/ikev2.json", &file)
	names := map[string]string{"SHA-1": "sha1", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}
	ran := 0
	for _, g := range file.Groups {
		p := suite.PRFByName(names[g.Params.Hash])
		if p == nil {
			t.Fatalf("hash %q is unknown", g.Params.Hash)
		}
		for _, test := range g.Tests {
			v := func(name string) []byte {
				b, err := hex.DecodeString(test[name].(string))
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			check := func(what string, got []byte, err error) {
				t.Helper()
				if err != nil || !bytes.Equal(got, v(what)) {
					t.Errorf("%s, count %v, %s: %x, %v, want %x", p.Name, test["count"], what, got, err, v(what))
				}
			}
			ni, nr := v("Ni"), v("Nr")
			nonces := append(append([]byte{}, ni...), nr...)
			// RFC 7296 §2.14, §2.17, §2.18
			skeyseed := Sum(p, nonces, v("g^ir"))
			check("SKEYSEED", skeyseed, nil)
			dkm, err := Plus(p, skeyseed, len(v("DKM")), ni, nr, v("SPIi"), v("SPIr"))
			check("DKM", dkm, err)
			skd := dkm[:p.Len]
			child, err := Plus(p, skd, len(v("DKM(Child SA)")), ni, nr)
			check("DKM(Child SA)", child, err)
			pfs, err := Plus(p, skd, len(v("DKM(Child SA D-H)")), v("g^ir (new)"), ni, nr)
			check("DKM(Child SA D-H)", pfs, err)
			check("SKEYSEED(Rekey)", Sum(p, skd, v("g^ir (new)"), ni, nr), nil)
			ran++
		}
	}
	if ran == 0 {
		t.Error("the file has no tests")
	}
}

func TestStrongSwanPlus(t *testing.T) {
	var file struct {
		Vectors []struct {
			Name, Alg string
			PRF       string `json:"arg.prf"`
			Key, Salt vectors.Hex
			Out       vectors.Hex
		}
	}
	vectors.Load(t, "strongswan-test-vectors/kdf_prf_plus.json", &file)
	names := map[string]string{"PRF_HMAC_SHA1": "sha1", "PRF_HMAC_SHA2_256": "sha256", "PRF_HMAC_SHA2_384": "sha384", "PRF_HMAC_SHA2_512": "sha512"}
	ran := 0
	for _, v := range file.Vectors {
		p := suite.PRFByName(names[v.PRF])
		if p == nil {
			continue // of a PRF that is no row
		}
		ran++
		if got, err := Plus(p, v.Key, len(v.Out), v.Salt); err != nil || !bytes.Equal(got, v.Out) {
			t.Errorf("%s: %x, %v", v.Name, []byte(got), err)
		}
	}
	if ran == 0 {
		t.Error("no vector is of a PRF that has a row")
	}
}

func TestACVP(t *testing.T) {
	for file, name := range map[string]string{
		"HMAC-SHA-1-1.0": "sha1", "HMAC-SHA2-256-1.0": "sha256", "HMAC-SHA2-384-1.0": "sha384", "HMAC-SHA2-512-1.0": "sha512",
	} {
		t.Run(file, func(t *testing.T) {
			var f struct {
				TestGroups []struct {
					MacLen int
					Tests  []struct {
						TcID          int
						Key, Msg, Mac vectors.Hex
					}
				}
			}
			vectors.Load(t, "acvp/"+file+".json", &f)
			ran := 0
			for _, g := range f.TestGroups {
				for _, v := range g.Tests {
					ran++
					got := Sum(suite.PRFByName(name), v.Key, v.Msg)
					if !bytes.Equal(got[:g.MacLen/8], v.Mac) {
						t.Errorf("case %d: %x, want %x", v.TcID, []byte(got), []byte(v.Mac))
					}
				}
			}
			if ran == 0 {
				t.Error("the file has no tests")
			}
		})
	}
}

func TestStrongSwan(t *testing.T) {
	names := map[string]string{
		"PRF_HMAC_MD5": "md5", "PRF_HMAC_SHA1": "sha1", "PRF_HMAC_SHA2_256": "sha256", "PRF_HMAC_SHA2_384": "sha384", "PRF_HMAC_SHA2_512": "sha512",
	}
	ran := map[string]bool{}
	for _, file := range []string{"md5_hmac", "sha1_hmac", "sha2_hmac"} {
		var f struct {
			Vectors []struct {
				Name, Alg      string
				Key, Seed, Out vectors.Hex
			}
		}
		vectors.Load(t, "strongswan-test-vectors/"+file+".json", &f)
		for _, v := range f.Vectors {
			p := suite.PRFByName(names[v.Alg])
			if p == nil {
				continue // an integrity algorithm
			}
			ran[p.Name] = true
			if got := Sum(p, v.Key, v.Seed); !bytes.Equal(got, v.Out) {
				t.Errorf("%s: %x, want %x", v.Name, []byte(got), v.Out)
			}
		}
	}
	if len(ran) != len(names) {
		t.Errorf("cases of %v", ran)
	}
}
