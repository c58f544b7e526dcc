package keys

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// private is a key that all tests share.
var private = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		panic(err)
	}
	return k
})

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func pkcs8(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func pkix(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// rfc3110 is an exponent and a modulus, as RFC 3110 §2 has them.
func rfc3110(exponent string, modulus []byte) []byte {
	e, _ := hex.DecodeString(exponent)
	return append(e, modulus...)
}

func TestParse(t *testing.T) {
	k := private()
	n := k.N.Bytes()
	short := rfc3110("03010001", n)
	text := base64.StdEncoding.EncodeToString(short)
	for what, c := range map[string]struct {
		data    []byte
		private bool
	}{
		"PKCS #1":            {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k)), true},
		"PKCS #8":            {block("PRIVATE KEY", pkcs8(t, k)), true},
		"text before":        {append([]byte("# a comment\n"), block("PRIVATE KEY", pkcs8(t, k))...), true},
		"public key":         {block("PUBLIC KEY", pkix(t, &k.PublicKey)), false},
		"PKCS #1 public key": {block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&k.PublicKey)), false},
		"0s":                 {[]byte("0s" + text + "\n"), false},
		"base64":             {[]byte(text), false},
		"lines of base64":    {[]byte("0s" + text[:60] + "\n  " + text[60:]), false},
		"hexadecimal":        {[]byte("0x" + hex.EncodeToString(short)), false},
		"binary":             {short, false},
		"length of 3 bytes":  {rfc3110("000003010001", n), false},
	} {
		public, own, err := Parse(c.data)
		if err != nil || !public.Equal(&k.PublicKey) || (own != nil) != c.private || own != nil && !own.Equal(k) {
			t.Errorf("%s: %v, private %v, %v", what, public, own != nil, err)
		}
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const neither = "neither a key in PEM nor a public key of RFC 3110"
	for what, c := range map[string]struct {
		data []byte
		says string
	}{
		"nothing":          {nil, neither},
		"text":             {[]byte("this is no key"), neither},
		"bad hexadecimal":  {[]byte("0x03010001zz"), neither},
		"cut":              {short[:3], neither},
		"only an exponent": {short[:4], neither},
		"no exponent":      {rfc3110("000000", n), neither},
		"a zero before n":  {rfc3110("0301000100", n), neither},
		"too long":         {rfc3110("03010001", bytes.Repeat([]byte{0xff}, 1025)), neither},
		"too short":        {rfc3110("03010001", n[:127]), "1016 bits, accepted: 1024 to 8192"},
		"even exponent":    {rfc3110("03010000", n), "exponent 65536"},
		"exponent 1":       {rfc3110("0101", n), "exponent 1 "},
		"large exponent":   {rfc3110("050100000001", n), "exponent 4294967297"},
		"ECDSA":            {block("PRIVATE KEY", pkcs8(t, ec)), "not an RSA key"},
		"a certificate":    {block("CERTIFICATE", []byte{1}), `PEM "CERTIFICATE" is not a key`},
		"damaged":          {block("PRIVATE KEY", pkcs8(t, k)[:100]), "cannot be read"},
		"a passphrase":     {block("ENCRYPTED PRIVATE KEY", []byte{1}), "take it off first"},
		"an old passphrase": {[]byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"),
			"take it off first"},
	} {
		public, own, err := Parse(c.data)
		if err == nil || !strings.Contains(err.Error(), c.says) || public != nil || own != nil {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
	}
}

func TestExport(t *testing.T) {
	k := &Key{"k", &private().PublicKey, private()}
	data, err := k.PublicPEM()
	if err != nil || !bytes.Equal(data, block("PUBLIC KEY", pkix(t, k.Public))) {
		t.Errorf("%s, %v", data, err)
	}
	want := "0s" + base64.StdEncoding.EncodeToString(rfc3110("03010001", k.Public.N.Bytes())) + "\n"
	if got := string(k.PublicRFC3110()); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestFolder(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "state"))
	if all, err := d.List(); err != nil || all != nil {
		t.Errorf("no folder: %v, %v", all, err)
	}
	ours, err := d.Generate("ours", 1024)
	if err != nil || ours.Private.N.BitLen() != 1024 {
		t.Fatal(err)
	}
	if _, err := d.Import("theirs", block("PUBLIC KEY", pkix(t, &private().PublicKey))); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Load("ours"); err != nil || !got.Private.Equal(ours.Private) || !got.Public.Equal(ours.Public) {
		t.Errorf("%v, %v", got, err)
	}
	if runtime.GOOS != "windows" {
		for path, want := range map[string]os.FileMode{"": os.ModeDir | 0o700, "ours.pem": 0o600, "theirs.pem": 0o600} {
			if i, err := os.Stat(filepath.Join(string(d), Folder, path)); err != nil || i.Mode() != want {
				t.Errorf("%s has mode %v, %v", path, i.Mode(), err)
			}
		}
	}
	// What is not a key's file is passed over.
	for _, name := range []string{".new-1", "note.txt", ".hidden.pem"} {
		if err := os.WriteFile(filepath.Join(string(d), Folder, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := d.List()
	if err != nil || len(all) != 2 || all[0].Name != "ours" || all[0].Private == nil || all[1].Name != "theirs" || all[1].Private != nil {
		t.Errorf("%v, %v", all, err)
	}
	if !d.Has("ours") || d.Has("other") || d.Has("../keys/ours") {
		t.Error("Has")
	}

	// A name is taken once, and the key that has it stays.
	if _, err := d.Generate("ours", 1024); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "culvert key remove ours") {
		t.Errorf("generate again: %v", err)
	}
	if _, err := d.Import("ours", block("PRIVATE KEY", pkcs8(t, private()))); !errors.Is(err, ErrExists) {
		t.Errorf("import again: %v", err)
	}
	if err := d.add(&Key{"ours", &private().PublicKey, private()}); !errors.Is(err, ErrExists) {
		t.Errorf("a name that was taken meanwhile: %v", err)
	}
	if got, err := d.Load("ours"); err != nil || !got.Private.Equal(ours.Private) {
		t.Errorf("the key was replaced: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(string(d), Folder, ".new-*"))
	if err != nil || len(left) != 1 { // the one of this test
		t.Errorf("files are left: %v, %v", left, err)
	}

	if err := d.Remove("ours"); err != nil || d.Has("ours") {
		t.Errorf("remove: %v", err)
	}
	for what, err := range map[string]error{"remove": d.Remove("ours"), "load": second(d.Load("ours"))} {
		if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "culvert key print") {
			t.Errorf("%s what is not there: %v", what, err)
		}
	}
	// A damaged file is named.
	if err := os.WriteFile(d.path("bad"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.List(); err == nil || !strings.Contains(err.Error(), d.path("bad")) {
		t.Errorf("a damaged key: %v", err)
	}
}

func second(_ *Key, err error) error { return err }

func TestNames(t *testing.T) {
	d := Dir(t.TempDir())
	for _, name := range []string{"a", "Branch-7_b.c", strings.Repeat("x", 64)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", ".", "..", ".a", "a/b", `a\b`, "a b", "ä", "a\x00", strings.Repeat("x", 65)} {
		for what, err := range map[string]error{
			"check": CheckName(name), "load": second(d.Load(name)), "generate": second(d.Generate(name, 1024)),
			"import": second(d.Import(name, block("PRIVATE KEY", pkcs8(t, private())))), "remove": d.Remove(name),
		} {
			if err == nil || !strings.Contains(err.Error(), "cannot be the name of a key") {
				t.Errorf("%s %q: %v", what, name, err)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(string(d), Folder)); err == nil {
		t.Error("a name that is refused makes the folder")
	}
	if _, err := d.Generate("a", 1000); err == nil || !strings.Contains(err.Error(), "1024, 2048, 4096") {
		t.Errorf("1000 bits: %v", err)
	}
}

// No verb prints a key.
func TestKeysAreHidden(t *testing.T) {
	k := &Key{"k", &private().PublicKey, private()}
	for _, form := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		for _, v := range []any{k, []*Key{k}} {
			if got := fmt.Sprintf(form, v); !strings.Contains(got, `key "k" of 1024 bits`) || len(got) > 64 {
				t.Errorf("%s prints %s", form, got)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	k := private()
	f.Add(block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k)))
	f.Add(block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&k.PublicKey)))
	f.Add(rfc3110("03010001", k.N.Bytes()))
	f.Add(rfc3110("000003010001", k.N.Bytes()))
	f.Add([]byte("0sAwEAAQ=="))
	f.Fuzz(func(t *testing.T, data []byte) {
		public, own, err := Parse(bytes.Clone(data))
		if err != nil {
			return
		}
		k := &Key{"k", public, own}
		again, _, err := Parse(k.PublicRFC3110())
		if err != nil || !again.Equal(public) {
			t.Fatalf("%x: %v became %v, %v", data, public, again, err)
		}
	})
}
