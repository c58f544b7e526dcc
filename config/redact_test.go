package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// A snapshot without secrets reads like the one it was made of.
func TestRedact(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("site.toml", `include = ["peers-*.toml"]
# a PSK of old: yesterdayssecret
[[identity]]
peer = "a"
comment = "written on the wall"
secret-file = "psk"
ppk-id = "q"
ppk-secret = "0x00112233445566778899aabbccddeeff"
[[identity]]
peer = "b"
secret = "thisisnotasecurepsk" # and neither is this
[[policy]]
peer = "b"
src-address = "10.1.0.0/24"
dst-address = "10.2.0.0/24"
tunnel = true
`)
	write("peers-a.toml", "[[peer]]\nname = \"a\"\naddress = \"192.0.2.1/32\"\nexchange-mode = \"ike2\"\n[[peer]]\nname = \"b\"\naddress = \"192.0.2.2/32\"\nexchange-mode = \"ike2\"\npassive = true\n")
	write("psk", "thisisnotasecurepsk\n")
	want, _, s, err := LoadSnapshot(filepath.Join(dir, "site.toml"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	red, err := s.Redact(func(b []byte) string {
		if names[string(b)] == "" {
			names[string(b)] = fmt.Sprint("redacted-", len(names)+1)
		}
		return names[string(b)]
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range red.Files {
		for _, secret := range []string{"thisisnot", "00112233", "yesterday", "neither", "wall"} {
			if bytes.Contains(f.Data, []byte(secret)) {
				t.Errorf("%s has %q:\n%s", f.Path, secret, f.Data)
			}
		}
	}
	got, _, err := red.Load()
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Identities) != 2 || string(got.Identities[0].Secret) != string(got.Identities[1].Secret) || string(got.Identities[0].PPKSecret) == string(got.Identities[0].Secret) ||
		!strings.HasPrefix(string(got.Identities[0].Secret), "redacted-") {
		t.Errorf("secrets %s", got.Identities[0].Secret.Reveal())
	}
	if !got.Peers[1].Passive || !reflect.DeepEqual(got.Policies[1].SrcAddress, want.Policies[1].SrcAddress) || got.Identities[0].PPKID != "q" {
		t.Errorf("%+v", got.Peers[1])
	}
	if string(want.Identities[0].Secret) != "thisisnotasecurepsk" || !bytes.Contains(s.Files[0].Data, []byte("thisisnot")) {
		t.Error("the snapshot itself was changed")
	}
}

// Whoever adds a key whose value is a secret names it so that it is known as one.
func TestEverySecretKeyIsRedacted(t *testing.T) {
	n := 0
	for _, f := range identityFields {
		i := &Identity{}
		l := &loader{disk: machine{}, config: &Config{}}
		const text = "asecretthatnobodyknows"
		f.read(value{load: l, file: &source{name: "x", lines: lineIndex{}}, key: f.name, raw: text}, i)
		if string(i.Secret) != text && string(i.PPKSecret) != text {
			continue
		}
		if n++; !holdsSecret(f.name) {
			t.Errorf("%s is not left out of redacted recordings", f.name)
		}
	}
	if n != 2 {
		t.Errorf("%d keys hold secrets", n)
	}
}

// Of what certificates are read from, the certificates and lists stay; keys and passphrases do not,
// wherever they are. What is read from it has a key that cannot sign.
func TestRedactCertificates(t *testing.T) {
	for _, c := range []struct{ name, table string }{
		{"one file for all", "file = \"full.pem\"\ncrl = \"root.crl\"\n"},
		{"a key of its own", "file = \"leaf.pem\"\nkey-file = \"leaf.key\"\n"},
		{"PKCS#12", "file = \"gw.p12\"\npassphrase-file = \"right\"\n"},
	} {
		dir, leaf := certFiles(t)
		path := filepath.Join(dir, "site.toml")
		if err := os.WriteFile(path, []byte(peerFor("[[certificate]]\nname = \"gw\"\n"+c.table, signs)), 0o600); err != nil {
			t.Fatal(err)
		}
		want, _, s, err := LoadSnapshot(path)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		red, err := s.Redact(func([]byte) string { return "a name" })
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		for i, f := range red.Files {
			base := filepath.Base(f.Path)
			if bytes.Contains(f.Data, []byte("PRIVATE KEY")) || bytes.Contains(f.Data, []byte("1234567890")) || base == "gw.p12" && !bytes.HasPrefix(f.Data, []byte("-----BEGIN CERTIFICATE")) {
				t.Errorf("%s: a secret is left in %s", c.name, base)
			}
			if secret := base == "leaf.key" || base == "right"; secret != (string(f.Data) == "a name") {
				t.Errorf("%s: %s is %q", c.name, base, f.Data)
			}
			if base == "root.crl" && !bytes.Equal(f.Data, s.Files[i].Data) {
				t.Errorf("%s: the CRL is another", c.name)
			}
			if f.Path != s.Files[i].Path || f.Mode != s.Files[i].Mode {
				t.Errorf("%s: %s was %s", c.name, f.Path, s.Files[i].Path)
			}
		}
		got, _, err := red.Load()
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		own := got.Identities[0].Certificate
		if !own.Certs[0].Equal(leaf.Cert) || len(own.Certs) != len(want.Certificates[0].Certs) || len(own.Lists) != len(want.Certificates[0].Lists) {
			t.Errorf("%s: %d certificates, %d lists", c.name, len(own.Certs), len(own.Lists))
		}
		if !own.Key.Fits(leaf.Cert.PublicKey) || !want.Certificates[0].Key.Fits(leaf.Cert.PublicKey) {
			t.Errorf("%s: the key is another", c.name)
		}
		for i := range s.Files {
			if bytes.Equal(s.Files[i].Data, []byte("a name")) {
				t.Errorf("%s: the snapshot itself was changed", c.name)
			}
		}
	}
}

// What does not load has no form without secrets.
func TestRedactRefuses(t *testing.T) {
	for _, text := range []string{"[[peer", "[[peer]]\nnme = \"a\"\n"} {
		s := &Snapshot{Path: "site.toml", Files: []SnapshotFile{{Path: "site.toml", Mode: 0o600, Data: []byte(text)}}}
		if red, err := s.Redact(func([]byte) string { return "a name" }); err == nil || red != nil {
			t.Errorf("%q: %v", text, red)
		}
	}
	s := &Snapshot{Path: "site.toml"}
	if red, err := s.Redact(func([]byte) string { return "a name" }); err == nil || red != nil {
		t.Errorf("without files: %v", red)
	}
}
