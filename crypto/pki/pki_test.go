package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// issue makes a certificate; a nil issuer: self-signed.
func issue(t testing.TB, name string, ca bool, issuer *x509.Certificate, issuerKey crypto.Signer) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(4e9, 0), IsCA: ca, BasicConstraintsValid: ca}
	if issuer == nil {
		issuer, issuerKey = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, key.Public(), issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestRead(t *testing.T) {
	root, rootKey := issue(t, "root", true, nil, nil)
	leaf, key := issue(t, "leaf", false, root, rootKey)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	p12, err := pkcs12.Modern.Encode(key, leaf, []*x509.Certificate{root}, "pass")
	if err != nil {
		t.Fatal(err)
	}
	certs := append(block("CERTIFICATE", root.Raw), block("CERTIFICATE", leaf.Raw)...)
	keyPEM := block("PRIVATE KEY", pkcs8)
	otherRoot, otherKey := issue(t, "other", true, nil, nil)
	_ = otherRoot
	other, err := x509.MarshalPKCS8PrivateKey(otherKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what      string
		data, key []byte
		pass      string
		certs     int
		hasKey    bool
		err       string
	}{
		{"PEM without key", certs, nil, "", 2, false, ""},
		{"PEM with key", append(bytes.Clone(certs), keyPEM...), nil, "", 2, true, ""},
		{"PEM with an EC key", append(bytes.Clone(certs), block("EC PRIVATE KEY", sec1)...), nil, "", 2, true, ""},
		{"PEM with a key file", certs, keyPEM, "", 2, true, ""},
		{"DER", leaf.Raw, nil, "", 1, false, ""},
		{"PKCS#12", p12, nil, "pass", 2, true, ""},
		{"PKCS#12, wrong passphrase", p12, nil, "word", 0, false, "the passphrase is wrong"},
		{"PKCS#12 without passphrase", p12, nil, "", 0, false, "it is encrypted"},
		{"PKCS#12 cut", p12[:len(p12)-9], nil, "pass", 0, false, "PKCS#12"},
		{"another key", certs, block("PRIVATE KEY", other), "", 0, false, "does not match"},
		{"two keys", append(bytes.Clone(keyPEM), keyPEM...), nil, "", 0, false, "two private keys"},
		{"key alone", keyPEM, nil, "", 0, false, "no certificate"},
		{"a key file without key", certs, certs, "", 0, false, "no private key"},
		{"text", []byte("hello"), nil, "", 0, false, "neither PEM"},
		{"nothing", nil, nil, "", 0, false, "neither PEM"},
		{"broken certificate", block("CERTIFICATE", leaf.Raw[:40]), nil, "", 0, false, "certificate 1"},
		{"broken key", append(bytes.Clone(certs), block("PRIVATE KEY", []byte("not a key"))...), nil, "", 0, false, "cannot be read"},
	} {
		b, err := Read(c.data, c.key, []byte(c.pass))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", c.what, err, c.err)
			}
			continue
		}
		if err != nil || len(b.Certs) != c.certs || b.Key.Present() != c.hasKey {
			t.Errorf("%s: %d certificates, key %t, %v", c.what, len(b.Certs), b.Key.Present(), err)
			continue
		}
		if c.hasKey && !b.Certs[0].Equal(leaf) {
			t.Errorf("%s: the first certificate is %v, not the key's", c.what, b.Certs[0].Subject)
		}
	}
}

// Made by openssl pkcs8 -topk8 with the passphrase "1234567890" from one key.
func TestEncryptedKeys(t *testing.T) {
	for _, name := range []string{"aes256-sha256.pem", "aes128-sha1.pem", "3des-sha1.pem"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := readPEM(data, []byte("1234567890"), maxIterations)
		if err != nil || !b.Key.Present() {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := readPEM(data, []byte("wrong"), maxIterations); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s with a wrong passphrase: %v", name, err)
		}
		if _, err := readPEM(data, nil, maxIterations); !errors.Is(err, ErrNoPassphrase) {
			t.Errorf("%s without passphrase: %v", name, err)
		}
	}
}

// Files that others made: what openssl opens, opens.
func TestForeignPKCS12(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared/vectors/hostap")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the vectors are not there: ", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "pkcs12", "*"))
	if err != nil {
		t.Fatal(err)
	}
	opened := 0
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := Read(data, nil, []byte("whatever")); err != nil {
			t.Logf("%s: %v", filepath.Base(f), err)
		} else if b.Key.Present() {
			opened++
		}
	}
	if opened == 0 {
		t.Errorf("none of %d files was opened", len(files))
	}
}

// A file that wants its passphrase hashed too often is refused before that is
// begun, wherever in it that stands.
func TestIterationsAreBounded(t *testing.T) {
	root, key := issue(t, "root", true, nil, nil)
	for name, e := range map[string]*pkcs12.Encoder{"legacy": pkcs12.LegacyDES, "modern": pkcs12.Modern} {
		data, err := e.WithIterations(2048).Encode(key, root, nil, "pass")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := read(data, nil, []byte("pass"), 2048); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := read(data, nil, []byte("pass"), 2047); !errors.Is(err, errIterations) {
			t.Errorf("%s, one too many: %v", name, err)
		}
		places := 0
		for i := range data[:len(data)-4] {
			if !bytes.Equal(data[i:i+4], []byte{2, 2, 8, 0}) {
				continue
			}
			places++
			bad := bytes.Clone(data)
			bad[i+2] = 0x7f
			if _, err := read(bad, nil, []byte("pass"), 2048); !errors.Is(err, errIterations) {
				t.Errorf("%s, place %d: %v", name, places, err)
			}
		}
		if places < 2 {
			t.Errorf("%s: %d places", name, places)
		}
		for n := range data {
			boundedPBE(data[:n], 2048)
		}
	}
	pemFile, err := os.ReadFile("testdata/aes256-sha256.pem")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read(pemFile, nil, []byte("1234567890"), 1); !errors.Is(err, errIterations) {
		t.Errorf("PKCS#8: %v", err)
	}
	if !boundedPBE(bytes.Repeat([]byte{0x30, 0x80}, 1<<16), 1) {
		t.Error("what is not DER is not judged")
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	_, signer := issue(t, "x", false, nil, nil)
	key := NewKey(signer)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("k", "key", key)
	text := fmt.Sprintf("%v %+v %#v %s %x %v", key, key, key, key, key, struct{ Key Key }{key}) + log.String()
	raw, err := signer.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	d := new(big.Int).SetBytes(raw).String()
	if strings.Count(text, hidden) != 7 || strings.Contains(text, d) {
		t.Errorf("printed as %s", text)
	}
}

func TestChain(t *testing.T) {
	root, rootKey := issue(t, "root", true, nil, nil)
	mid, midKey := issue(t, "middle", true, root, rootKey)
	low, lowKey := issue(t, "lower", true, mid, midKey)
	leaf, _ := issue(t, "leaf", false, low, lowKey)
	impostor, _ := issue(t, "lower", true, nil, nil) // the same name, another key
	got := Chain(leaf, []*x509.Certificate{impostor, root, mid, leaf, low})
	if len(got) != 3 || got[0] != leaf || got[1] != low || got[2] != mid {
		t.Errorf("%d certificates", len(got))
	}
	if got := Chain(root, []*x509.Certificate{root, mid}); len(got) != 1 {
		t.Errorf("the chain of a root has %d", len(got))
	}
}

func TestDN(t *testing.T) {
	for text, same := range map[string][]string{
		"C=DE, O=Example, CN=gw":    {"c=DE,o=example,cn=GW", "C=DE, O=  Example , CN=gw"},
		`CN=a\, b\=c`:               {`cn=A\,  B=c`},
		"DC=net, DC=example, E=a@b": {"DC=net,DC=Example,E=A@b"},
	} {
		der, err := ParseDN(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		again, err := ParseDN(DNText(der))
		if err != nil || !bytes.Equal(der, again) {
			t.Errorf("%s came back as %s", text, DNText(der))
		}
		for _, o := range same {
			if other, err := ParseDN(o); err != nil || !SameDN(der, other) {
				t.Errorf("%s is not %s: %v", text, o, err)
			}
		}
		for _, o := range []string{"CN=gw", "O=Example, C=DE, CN=gw", "C=DE, O=Example, CN=gw, CN=gw"} {
			if other, err := ParseDN(o); err != nil || SameDN(der, other) {
				t.Errorf("%s is taken for %s: %v", o, text, err)
			}
		}
		for i := range der {
			if SameDN(der, der[:i]) {
				t.Errorf("%s cut at %d is the same", text, i)
			}
		}
	}
	for _, bad := range []string{"", "gw", "XY=1", "CN=", "CN=a,,O=b"} {
		if _, err := ParseDN(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	// A certificate's own encoding compares with ours.
	c, _ := issue(t, "gw.example.net", false, nil, nil)
	if der, err := ParseDN("cn=GW.example.net"); err != nil || !SameDN(der, c.RawSubject) || DNText(c.RawSubject) != "CN=gw.example.net" {
		t.Errorf("%v %s", err, DNText(c.RawSubject))
	}
}

func FuzzRead(f *testing.F) {
	root, _ := issue(f, "root", true, nil, nil)
	f.Add(block("CERTIFICATE", root.Raw), []byte{})
	f.Add(root.Raw, []byte("pass"))
	if data, err := os.ReadFile("testdata/aes256-sha256.pem"); err == nil {
		f.Add(data, []byte("1234567890"))
	}
	leaf, key := issue(f, "leaf", false, nil, nil)
	few := pkcs12.Modern.WithIterations(2)
	if data, err := few.Encode(key, leaf, []*x509.Certificate{root}, "pass"); err == nil {
		f.Add(data, []byte("pass"))
	}
	f.Fuzz(func(t *testing.T, data, pass []byte) {
		if bytes.Contains(data, []byte("BEGIN ENCRYPTED")) && len(data) > 4096 {
			return
		}
		if b, err := read(data, nil, pass, 4096); err == nil && len(b.Certs) == 0 {
			t.Error("a bundle without certificate")
		}
	})
}

// FuzzKey: a file with a private key gives one that fits its certificate, or an error.
func FuzzKey(f *testing.F) {
	cert, key := issue(f, "leaf", false, nil, nil)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	_, other := issue(f, "other", false, nil, nil)
	foreign, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		f.Fatal(err)
	}
	whole := block("CERTIFICATE", cert.Raw)
	for _, kind := range []string{"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"} {
		f.Add(kind, der, []byte{})
		f.Add(kind, foreign, []byte("pass"))
	}
	f.Fuzz(func(t *testing.T, kind string, der, pass []byte) {
		b, err := read(whole, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), pass, 4096)
		if err == nil && b.Key.Present() && !b.Key.Fits(cert.PublicKey) {
			t.Error("the key of another certificate")
		}
	})
}

func FuzzDN(f *testing.F) {
	f.Add([]byte("C=DE, O=Example, CN=gw"))
	f.Add([]byte("0\x0d1\x0b0\x09\x06\x03U\x04\x03\x0c\x02gw"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = DNText(b)
		if !SameDN(b, b) {
			t.Error("not the same as itself")
		}
		if der, err := ParseDN(string(b)); err == nil && !SameDN(der, der) {
			t.Error("not the same as itself")
		}
	})
}
