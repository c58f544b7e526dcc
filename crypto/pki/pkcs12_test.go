package pki

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"software.sslmate.com/src/go-pkcs12"
)

// inBER gives the outer SEQUENCE an indefinite length, and two zeros behind its end.
func inBER(t *testing.T, der []byte) []byte {
	t.Helper()
	in := cryptobyte.String(der)
	var body cryptobyte.String
	if !in.ReadASN1(&body, asn1.SEQUENCE) || !in.Empty() {
		t.Fatal("not one SEQUENCE")
	}
	return append(append([]byte{0x30, 0x80}, body...), 0, 0)
}

// A length that only BER has is the first one.
func TestIndefinite(t *testing.T) {
	for data, want := range map[string]bool{"": false, "\x30": false, "\x30\x80": true, "\x30\x81\x80": false, "\x30\x80\x00\x00": true, "\x80": false} {
		if got := indefinite([]byte(data)); got != want {
			t.Errorf("%x: %v", data, got)
		}
	}
}

// A PKCS#12 file that is not supported is refused with the line that converts it, and
// what the line makes is read.
func TestPKCS12ToConvert(t *testing.T) {
	root, rootKey := issue(t, "root", true, nil, nil)
	leaf, key := issue(t, "leaf", false, root, rootKey)
	whole, err := pkcs12.Modern.Encode(key, leaf, []*x509.Certificate{root}, "pass")
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{root, leaf}, "pass")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	openssl, _ := exec.LookPath("openssl")
	// What openssl writes without key has no mark of trust on its certificates.
	var unmarked []byte
	if openssl != "" {
		in := filepath.Join(dir, "certs.pem")
		if err := os.WriteFile(in, append(pemOf(root), pemOf(leaf)...), 0o600); err != nil {
			t.Fatal(err)
		}
		if unmarked, err = exec.Command(openssl, "pkcs12", "-export", "-nokeys", "-in", in, "-passout", "pass:pass").Output(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what   string
		data   []byte
		says   string
		key    bool
		number int // of certificates
	}{
		{"BER", inBER(t, whole), "PKCS#12 in BER, as pk12util", true, 2},
		{"certificates only", certs, "PKCS#12 that is not supported (", false, 2},
		{"certificates only, by openssl", unmarked, "PKCS#12 that is not supported (", false, 2},
	} {
		if c.data == nil {
			continue
		}
		_, err := Read(c.data, nil, []byte("pass"))
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "openssl pkcs12 -in FILE -nodes -out FILE.pem") {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if openssl == "" {
			t.Log("openssl is not installed: its line is not tried")
			continue
		}
		_, line, _ := strings.Cut(err.Error(), `"(`)
		line, _, _ = strings.Cut(line, `)"`)
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-c", strings.ReplaceAll(line, "FILE", file)+" -passin pass:pass")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %s: %v\n%s", c.what, line, err, out)
			continue
		}
		data, err := os.ReadFile(file + ".pem")
		if err != nil {
			t.Fatal(err)
		}
		b, err := Read(data, nil, nil)
		if err != nil || len(b.Certs) != c.number || b.Key.Present() != c.key {
			t.Errorf("%s, converted: %d certificates, key %t, %v", c.what, len(b.Certs), b.Key.Present(), err)
		}
	}
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
