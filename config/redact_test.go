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
