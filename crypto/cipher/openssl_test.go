package cipher

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"culvert/crypto/suite"
)

// OpenSSL's own implementations, by its command line. It has no Twofish.
func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("there is no openssl; install the package openssl")
	}
	names := map[string]string{"aes-cbc": "aes-%d-cbc", "aes-ctr": "aes-%d-ctr", "camellia": "camellia-%d-cbc",
		"blowfish": "bf-cbc", "3des": "des-ede3-cbc", "des": "des-cbc"}
	ran := 0
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		name := names[e.SAName]
		if name == "" || name == "bf-cbc" && e.KeyBits != 128 { // the command has no other key for that
			continue
		}
		if strings.Contains(name, "%") {
			name = fmt.Sprintf(name, e.KeyBits)
		}
		ran++
		t.Run(e.Name, func(t *testing.T) {
			rng := rand.NewChaCha8([32]byte{byte(i)})
			material, iv, plain := make([]byte, e.MaterialLen()), make([]byte, e.IVLen), make([]byte, 1440)
			for _, b := range [][]byte{material, iv, plain} {
				_, _ = rng.Read(b)
			}
			first := iv
			if e.SaltLen > 0 { // RFC 3686 §4
				first = slices.Concat(material[e.KeyLen:], iv, []byte{0, 0, 0, 1})
			}
			want := openssl(t, name, material[:e.KeyLen], first, plain)
			m, err := New(e, material)
			if err != nil {
				t.Fatal(err)
			}
			buf := bytes.Clone(plain)
			if m.Encrypt(iv, buf); !bytes.Equal(buf, want) {
				t.Errorf("encrypted %x…, OpenSSL says %x…", buf[:32], want[:32])
			}
			if m.Decrypt(iv, buf); !bytes.Equal(buf, plain) {
				t.Error("not decrypted")
			}
		})
	}
	if ran != 12 {
		t.Errorf("%d rows were compared", ran)
	}
}

// What OpenSSL's library makes with a Blowfish key of 256 bits, which its command line cannot be given.
func TestBlowfish256(t *testing.T) {
	raw := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	published(t, "OpenSSL 3", suite.EncrByName("blowfish-256"), raw("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"), raw("fedcba9876543210"),
		raw("37363534333231204e6f77206973207468652074696d6520666f7220616c6c20"), raw("0ab7d205ddf6fc661b16bcfc05380c77a95c025f432d75366f81e84e68914b33"))
}

func openssl(t *testing.T, name string, key, iv, plain []byte) []byte {
	t.Helper()
	args := []string{"enc", "-" + name, "-nopad", "-K", hex.EncodeToString(key), "-iv", hex.EncodeToString(iv)}
	if name == "bf-cbc" || name == "des-cbc" {
		args = append(args, "-provider", "legacy", "-provider", "default")
	}
	cmd := exec.Command("openssl", args...)
	var out, fault bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(plain), &out, &fault
	if err := cmd.Run(); err != nil {
		if strings.Contains(fault.String(), "provider") {
			t.Skipf("OpenSSL has no legacy provider, where %s is; install the package openssl-provider-legacy", name)
		}
		t.Fatalf("openssl %v: %v: %s", args, err, fault.String())
	}
	return out.Bytes()
}
