package config

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/internal/testing/testcert"
	"software.sslmate.com/src/go-pkcs12"
)

// certFiles writes what the configurations below name.
func certFiles(t *testing.T) (dir string, leaf *testcert.Pair) {
	t.Helper()
	dir = t.TempDir()
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root := testcert.Root("root", "p256")
	mid := root.Intermediate("intermediate", "p256")
	leaf = mid.Leaf("gw", "p256", testcert.DNS("gw.example.net"))
	write("root.pem", root.PEM())
	write("leaf.pem", leaf.PEM())
	write("leaf.key", leaf.KeyPEM())
	write("other.key", testcert.Root("x", "p256").KeyPEM())
	write("full.pem", append(leaf.PEM(mid, root), leaf.KeyPEM()...))
	write("old.pem", root.Leaf("old", "p256", testcert.Valid(testcert.From, testcert.From.Add(time.Hour))).PEM())
	write("short.pem", root.Leaf("short", "rsa-1024").PEM())
	write("p224.pem", root.Leaf("p224", "p224").PEM())
	write("root.crl", root.CRL(time.Now().Add(-time.Hour), time.Now().Add(time.Hour), leaf))
	write("old.crl", root.CRL(testcert.From, testcert.From.Add(time.Hour)))
	weak, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour),
		SignatureAlgorithm: x509.ECDSAWithSHA1}, root.Cert, root.Key)
	if err != nil {
		t.Fatal(err)
	}
	write("weak.crl", weak)
	p12, err := pkcs12.Modern.Encode(leaf.Key, leaf.Cert, nil, "1234567890")
	if err != nil {
		t.Fatal(err)
	}
	write("gw.p12", p12)
	write("right", []byte("1234567890\n"))
	write("wrong", []byte("0987654321\n"))
	write("text", []byte("hello\n"))
	for _, name := range []string{"sha1.pem", "sha3.pem"} { // made by openssl
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		write(name, data)
	}
	return dir, leaf
}

// peerFor is a configuration around tables of certificates, whose first line is 1.
func peerFor(tables, identity string) string {
	return tables + "\n[[peer]]\nname = \"p\"\naddress = \"192.0.2.1/32\"\nexchange-mode = \"ike2\"\n\n[[identity]]\npeer = \"p\"\n" + identity
}

const signs = "auth-method = \"digital-signature\"\ncertificate = \"gw\"\n"

func TestCertificateFaults(t *testing.T) {
	dir, _ := certFiles(t)
	gw := func(lines ...string) string {
		return "[[certificate]]\nname = \"gw\"\n" + strings.Join(lines, "\n") + "\n"
	}
	const ca = "[[certificate]]\nname = \"ca\"\nfile = \"root.pem\"\n"
	const right = "file = \"full.pem\""
	for _, c := range []struct {
		what, tables, identity string
		want                   string // part of a fault
		warns                  string // part of a warning
	}{
		{"right", gw(right), signs, "", ""},
		{"key in a file of its own", gw(`file = "leaf.pem"`, `key-file = "leaf.key"`) + ca, signs, "", ""},
		{"PKCS#12", gw(`file = "gw.p12"`, `passphrase-file = "right"`) + ca, signs, "", ""},
		{"PKCS#12, wrong passphrase", gw(`file = "gw.p12"`, `passphrase-file = "wrong"`), signs, "f.toml:4: certificate.passphrase-file: the passphrase is wrong", ""},
		{"PKCS#12 without passphrase", gw(`file = "gw.p12"`), signs, "certificate.passphrase-file: is missing, the file is encrypted", ""},
		{"no file", gw(), signs, "certificate.file: is missing", ""},
		{"a file that is not there", gw(`file = "none.pem"`), signs, "f.toml:3: certificate.file: ", ""},
		{"text", gw(`file = "text"`), signs, "f.toml:3: certificate.file: it is neither PEM", ""},
		{"another key", gw(`file = "leaf.pem"`, `key-file = "other.key"`), signs, "f.toml:4: certificate.key-file: the private key does not match", ""},
		{"no key", gw(`file = "leaf.pem"`) + ca, signs, `identity.certificate: [[certificate]] "gw" has no private key`, ""},
		{"expired", gw(right) + "[[certificate]]\nname = \"old\"\nfile = \"old.pem\"\n", signs, "", `f.toml:6: certificate.file: the certificate "O=Culvert tests, CN=old" expired on 2020-01-01 01:00:00`},
		{"short key", gw(right) + "[[certificate]]\nname = \"short\"\nfile = \"short.pem\"\n", signs, "", "shorter than 2048 bits"},
		{"unusable key", gw(right) + "[[certificate]]\nname = \"p224\"\nfile = \"p224.pem\"\n", signs, "cannot be used", ""},
		{"a disabled one is not read", gw(`file = "none.pem"`, "disabled = true"), "secret = \"s\"\n", "", ""},
		{"one that is used is disabled", gw(right, "disabled = true"), signs, `[[certificate]] "gw" is disabled`, ""},
		{"certificate missing", gw(right), "auth-method = \"digital-signature\"\n", "identity.certificate: is missing", ""},
		{"certificate of nobody", gw(right), "auth-method = \"digital-signature\"\ncertificate = \"gv\"\n", `there is no [[certificate]] named "gv"`, ""},
		{"certificate without signature", gw(right), "secret = \"s\"\ncertificate = \"gw\"\n", `identity.certificate: needs auth-method = "digital-signature"`, ""},
		{"nobody is trusted", gw(`file = "leaf.pem"`, `key-file = "leaf.key"`), signs, "", "no peer can prove itself"},
		{"trusted = false", gw(right, "trusted = false"), signs, "", "no peer can prove itself"},
		{"trusting a leaf", gw(`file = "leaf.pem"`, `key-file = "leaf.key"`, "trusted = true") + ca, signs, "", "there is no authority in"},
		{"match-by without certificate", gw(right), signs + "match-by = \"certificate\"\n", "identity.remote-certificate: is missing", ""},
		{"match-by", gw(right) + "[[certificate]]\nname = \"p\"\nfile = \"leaf.pem\"\n", signs + "match-by = \"certificate\"\nremote-certificate = \"p\"\n", "", ""},
		{"remote-certificate with a secret", gw(right), "secret = \"s\"\nremote-certificate = \"gw\"\n", "needs auth-method or remote-auth-method", ""},
		{"remote-id ignore", gw(right), signs + "remote-id = \"ignore\"\n", "", "accepts everybody"},
		{"secret for nothing", gw(right), signs + "secret = \"s\"\n", "", "identity.secret: is not used"},
		{"each side in its own way", gw(right), signs + "remote-auth-method = \"pre-shared-key\"\nsecret = \"s\"\n", "", ""},
		{"the other way round", ca, "remote-auth-method = \"digital-signature\"\nsecret = \"s\"\n", "", ""},
		{"own way without secret", gw(right), signs + "remote-auth-method = \"pre-shared-key\"\n", "identity.secret: is missing", ""},
		{"dn without certificate", ca, "my-id = \"dn\"\nsecret = \"s\"\n", "dn is the subject of our certificate", ""},
		{"CRL", gw(right) + ca + "crl = [\"root.crl\", \"http://192.0.2.1/\"]\ncrl-policy = \"strict\"\n", signs, "", ""},
		{"a certificate that is signed with SHA-3", gw(right) + "[[certificate]]\nname = \"new\"\nfile = \"sha3.pem\"\n", signs, "f.toml:6: certificate.file: the certificate \"O=Culvert tests, CN=leaf\" is signed with ECDSA with SHA3-256, which is not supported", ""},
		{"a certificate that is signed with SHA-1", gw(right) + "[[certificate]]\nname = \"old\"\nfile = \"sha1.pem\"\n", signs, "", "f.toml:6: certificate.file: the certificate \"O=Culvert tests, CN=leaf\" is signed with ECDSA with SHA-1, which is not accepted"},
		{"crl-max-age without strict", gw(right) + ca + "crl = \"root.crl\"\ncrl-max-age = \"2h\"\n", signs, "", "certificate.crl-max-age: has an effect only with crl-policy = \"strict\""},
		{"crl-max-age", gw(right) + ca + "crl = \"root.crl\"\ncrl-policy = \"strict\"\ncrl-max-age = \"2h\"\n", signs, "", ""},
		{"old CRL", gw(right) + ca + "crl = \"old.crl\"\n", signs, "", "old.crl was good until 2020-01-01 01:00:00 only"},
		{"a CRL that is signed with SHA-1", gw(right) + ca + "crl = \"weak.crl\"\n", signs, "", "weak.crl is signed with ECDSA with SHA-1"},
		{"no CRL", gw(right) + ca + "crl = \"text\"\n", signs, "f.toml:7: certificate.crl: ", ""},
		{"a CRL that is not there", gw(right) + ca + "crl = \"none\"\n", signs, "f.toml:7: certificate.crl: ", ""},
		{"CRL of nobody", gw(`file = "leaf.pem"`, `key-file = "leaf.key"`, `crl = "root.crl"`) + ca, signs, "", "is for certificates below a trusted authority"},
	} {
		_, warnings, err := Parse(filepath.Join(dir, "f.toml"), []byte(peerFor(c.tables, c.identity)))
		text := ""
		for _, w := range others(warnings) {
			text += w.String() + "\n"
		}
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %s", c.what, err, c.want)
		case c.warns == "" && text != "" && c.want == "" || !strings.Contains(text, c.warns):
			t.Errorf("%s: warnings %q, want %q", c.what, text, c.warns)
		}
	}
}

func TestCertificateStore(t *testing.T) {
	dir, leaf := certFiles(t)
	load := func(tables string) *Config {
		t.Helper()
		c, _, err := Parse(filepath.Join(dir, "f.toml"), []byte(peerFor(tables, signs)))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const gw = "[[certificate]]\nname = \"gw\"\nfile = \"full.pem\"\n"
	c := load(gw)
	got := c.Certificates[0]
	if !got.Certs[0].Equal(leaf.Cert) || len(got.Certs) != 3 || c.Identities[0].Certificate != got {
		t.Errorf("%d certificates", len(got.Certs))
	}
	// Of the authorities beside a certificate only the one that is its own issuer is trusted by itself.
	if a := got.Anchors(); len(a) != 1 || a[0].Subject.CommonName != "root" {
		t.Errorf("%d anchors", len(a))
	}
	if a := load(gw + "trusted = true\n").Certificates[0].Anchors(); len(a) != 2 {
		t.Errorf("%d anchors where trusted = true is written", len(a))
	}
	// Nothing that is printed has the key.
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := leaf.Key.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	d := new(big.Int).SetBytes(raw)
	all := string(text) + fmt.Sprintf("%v %+v %#v", got, got, *got)
	if strings.Contains(all, d.String()) || strings.Contains(all, d.Text(16)) {
		t.Error("the key was printed")
	}
	// A reload that changes none of it is none; one that does says so.
	if ch := Diff(c, load(gw)); !ch.Empty() {
		t.Errorf("changes: %+v", ch)
	}
	if ch := Diff(c, load("# a line more\n"+gw+"comment = \"c\"\n")); !ch.Empty() {
		t.Errorf("changes: %+v", ch)
	}
	if ch := Diff(c, load(gw+"ocsp = true\n")); !ch.Trust || len(ch.PeersChanged) != 0 {
		t.Errorf("changes: %+v", ch)
	}
	if ch := Diff(c, load(gw+"rsa-padding = \"pss\"\n")); !slices.Equal(ch.PeersChanged, []string{"p"}) {
		t.Errorf("changes: %+v", ch)
	}
	renewed := append(leaf.PEM(), leaf.KeyPEM()...)
	if err := os.WriteFile(filepath.Join(dir, "full.pem"), renewed, 0o600); err != nil {
		t.Fatal(err)
	}
	if ch := Diff(c, load(gw+"[[certificate]]\nname = \"ca\"\nfile = \"root.pem\"\n")); !slices.Equal(ch.PeersChanged, []string{"p"}) {
		t.Errorf("changes: %+v", ch)
	}
}

func TestKeyFileThatOthersCanRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("rights are not in the mode on Windows")
	}
	dir, _ := certFiles(t)
	if err := os.Chmod(filepath.Join(dir, "full.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, warnings, err := Parse(filepath.Join(dir, "f.toml"), []byte(peerFor("[[certificate]]\nname = \"gw\"\nfile = \"full.pem\"\n", signs)))
	if warnings = others(warnings); err != nil || len(warnings) != 1 || !strings.Contains(warnings[0].Message, "can be read by others") {
		t.Errorf("%v %v", warnings, err)
	}
}
