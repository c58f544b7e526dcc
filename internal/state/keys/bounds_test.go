package keys

import (
	"bytes"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The largest and the smallest keys and exponents that are taken, and those next to them.
func TestParseBounds(t *testing.T) {
	n := private().N.Bytes()
	ones := func(size int) []byte { return bytes.Repeat([]byte{0xff}, size) }
	for what, c := range map[string]struct {
		data []byte
		says string // "": it is taken
	}{
		"8192 bits":                              {rfc3110("03010001", ones(1024)), ""},
		"1024 bits":                              {rfc3110("03010001", ones(128)), ""},
		"1023 bits":                              {rfc3110("03010001", append([]byte{0x7f}, ones(127)...)), "1023 bits, accepted: 1024 to 8192"},
		"8193 bits in PEM":                       {block("PUBLIC KEY", pkix(t, &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 8192), E: 65537})), "8193 bits, accepted: 1024 to 8192"},
		"exponent 3":                             {rfc3110("0103", n), ""},
		"the largest exponent":                   {rfc3110("047fffffff", n), ""},
		"an exponent of 31 bits":                 {rfc3110("0440000001", n), ""},
		"an exponent of 32 bits":                 {rfc3110("0480000001", n), "exponent 2147483649"},
		"two bytes":                              {[]byte{0, 1}, "neither a key in PEM"},
		"three bytes":                            {[]byte{1, 3, 0xff}, "8 bits, accepted: 1024 to 8192"},
		"three bytes of no length":               {[]byte{0, 0, 1}, "neither a key in PEM"},
		"a key and what is no hexadecimal digit": {[]byte("0x" + hex.EncodeToString(rfc3110("03010001", n)) + "zz"), "neither a key in PEM"},
	} {
		public, own, err := Parse(c.data)
		if c.says == "" && (err != nil || public == nil || own != nil) || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || public != nil) {
			t.Errorf("%s: %v, %v", what, public, err)
		}
	}
}

// Every letter and digit can be in a name, and what stands next to them in the code cannot.
func TestLettersOfNames(t *testing.T) {
	for r := range rune(128) {
		name := "k" + string(r)
		want := strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", r)
		if err := CheckName(name); (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A folder that is none is an error of every call that needs it.
func TestKeysInNoFolder(t *testing.T) {
	state := t.TempDir()
	if err := os.WriteFile(filepath.Join(state, Folder), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := Dir(state)
	if all, err := d.List(); err == nil || all != nil || !strings.Contains(err.Error(), "cannot list the keys") {
		t.Errorf("list: %v, %v", all, err)
	}
	if _, err := d.Import("k", block("PUBLIC KEY", pkix(t, &private().PublicKey))); err == nil || !strings.Contains(err.Error(), "cannot make the folder of the keys") {
		t.Errorf("import: %v", err)
	}
	if _, err := d.Load("k"); err == nil || errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), `cannot read key "k"`) {
		t.Errorf("load: %v", err)
	}
	if err := d.Remove("k"); err == nil || errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), `cannot remove key "k"`) {
		t.Errorf("remove: %v", err)
	}
}

// A key that cannot be written leaves no file.
func TestKeyThatCannotBeWritten(t *testing.T) {
	d := Dir(t.TempDir())
	broken := *private()
	broken.D = new(big.Int).Add(broken.D, big.NewInt(2))
	broken.Precomputed = rsa.PrecomputedValues{}
	if err := d.add(&Key{"k", &broken.PublicKey, &broken}); err == nil || !strings.Contains(err.Error(), `key "k" cannot be written`) {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(filepath.Join(string(d), Folder)); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}
