package v1

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"testing"

	"culvert/crypto/secret"
	"culvert/crypto/suite"
	"culvert/internal/testing/vectors"
)

// hashNames are the hashes of the vectors as the manual names them.
var hashNames = map[string]string{"SHA-1": "sha1", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}

type phase1Vectors struct {
	Groups []struct {
		Params struct{ Hash string }
		Tests  []struct {
			I      vectors.Hex `json:"CKY_I"`
			R      vectors.Hex `json:"CKY_R"`
			Ni, Nr vectors.Hex
			Shared vectors.Hex `json:"g^xy"`
			PSK    vectors.Hex `json:"pre-shared-key"`
			Root   vectors.Hex `json:"SKEYID"`
			D      vectors.Hex `json:"SKEYID_d"`
			A      vectors.Hex `json:"SKEYID_a"`
			E      vectors.Hex `json:"SKEYID_e"`
		}
	}
}

// NIST CAVS: SKEYID of pre-shared keys and of signatures, and what is made of it.
func TestPhase1KeysVectors(t *testing.T) {
	for _, file := range []string{"ikev1_psk", "ikev1_dsa"} {
		var v phase1Vectors
		vectors.Load(t, "nss-cavs-ike/"+file+".json", &v)
		n := 0
		for _, g := range v.Groups {
			f := suite.PRFByName(hashNames[g.Params.Hash])
			if f == nil {
				continue // SHA-224 and whatever else is not in the table
			}
			for _, c := range g.Tests {
				n++
				root := signatureRoot(f, secret.Bytes(c.Shared), c.Ni, c.Nr)
				if file == "ikev1_psk" {
					root = pskRoot(f, secret.Bytes(c.PSK), c.Ni, c.Nr)
				}
				// A cipher whose key is as long as SKEYID_e.
				e := &suite.Encr{KeyLen: f.Len}
				k := deriveKeys(f, e, root, secret.Bytes(c.Shared), binary.BigEndian.Uint64(c.I), binary.BigEndian.Uint64(c.R))
				for _, x := range []struct {
					what      string
					got, want []byte
				}{{"SKEYID", k.root, c.Root}, {"SKEYID_d", k.d, c.D}, {"SKEYID_a", k.a, c.A}, {"SKEYID_e", k.enc, c.E}} {
					if !bytes.Equal(x.got, x.want) {
						t.Errorf("%s, %s: %s %x, not %x", file, f.Name, x.what, x.got, x.want)
					}
				}
			}
		}
		if n < 80 {
			t.Errorf("%s: only %d vectors", file, n)
		}
	}
}

// NSS: keys that are longer than the hash, and KEYMAT.
func TestLongKeysVectors(t *testing.T) {
	var v struct {
		Tests []struct {
			PRF, Type string
			Key       vectors.Hex `json:"ikm"`
			Want      vectors.Hex `json:"okm"`
			Seed      vectors.Hex `json:"seed_data"`
			Size      int
		}
	}
	vectors.Load(t, "nss-cavs-ike/ike-prf-vectors.json", &v)
	n := 0
	for _, c := range v.Tests {
		f := suite.PRFByName(c.PRF)
		if f == nil {
			continue
		}
		var got secret.Bytes
		switch c.Type {
		case "ikeV1AppB":
			got = stretch(f, secret.Bytes(c.Key), c.Size)
		case "ikeV1AppBQuick":
			// The seed of the vector is one octet; keymat is asked with what is put together to the same.
			k := keys{prf: f, d: secret.Bytes(c.Key)}
			got = k.expand(c.Size, c.Seed)
		default:
			continue
		}
		n++
		if !bytes.Equal(got, c.Want) {
			t.Errorf("%s, %s: %x, not %x", c.PRF, c.Type, got, c.Want)
		}
	}
	if n != 12 {
		t.Errorf("%d vectors, not 12", n)
	}
}

// KEYMAT is over protocol, SPI and nonces, and over the secret of PFS in front of them.
func TestKeymatSeed(t *testing.T) {
	f := suite.PRFByName("sha1")
	k := keys{prf: f, d: secret.Bytes("SKEYID_d")}
	ni, nr := []byte("nonce of the initiator"), []byte("nonce of the responder")
	for _, shared := range []secret.Bytes{nil, secret.Bytes("g(qm)^xy")} {
		seed := append(append([]byte(nil), shared...), 3, 0xc0, 0xff, 0xee, 1)
		seed = append(append(seed, ni...), nr...)
		if got, want := k.keymat(50, shared, 3, 0xc0ffee01, ni, nr), k.expand(50, seed); !bytes.Equal(got, want) || len(got) != 50 {
			t.Errorf("%x, not %x", got, want)
		}
	}
}

// The IVs of phase 1 and of exchanges are hashes, cut to the block of the cipher.
func TestIVs(t *testing.T) {
	f := suite.PRFByName("sha1")
	gxi, gxr := []byte("g^xi"), []byte("g^xr")
	sum := sha1.Sum([]byte("g^xig^xr"))
	for _, name := range []string{"aes-256-cbc", "3des"} {
		e := suite.EncrByName(name)
		if got := firstIV(f, e, gxi, gxr); !bytes.Equal(got, sum[:e.Block]) {
			t.Errorf("%s: %x", name, got)
		}
		last := bytes.Repeat([]byte{7}, e.Block)
		other := sha1.Sum(append(bytes.Clone(last), 1, 2, 3, 4))
		if got := exchangeIV(f, e, last, 0x01020304); !bytes.Equal(got, other[:e.Block]) {
			t.Errorf("%s: %x", name, got)
		}
	}
}

func TestKeysWipe(t *testing.T) {
	k := deriveKeys(suite.PRFByName("sha256"), suite.EncrByName("aes-256-cbc"), secret.Bytes("SKEYID"), secret.Bytes("g^xy"), 1, 2)
	parts := []secret.Bytes{k.root, k.d, k.a, k.enc}
	if k.wipe(); k.made() {
		t.Error("there still are keys")
	}
	for i, b := range parts {
		if len(bytes.Trim(b, "\x00")) > 0 {
			t.Errorf("secret %d is not wiped", i)
		}
	}
}
