package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culvert/internal/state/keys"
)

// Keys are used by name: those of state-dir, which culvert key makes, and those of [[key]]. What does not fit is a fault with
// what to write.
func TestKeysOfIdentities(t *testing.T) {
	dir := t.TempDir()
	state := keys.Dir(dir)
	var pub []byte
	for _, name := range []string{"ours", "weak"} {
		k, err := state.Generate(name, map[string]int{"ours": 2048, "weak": 1024}[name])
		if err != nil {
			t.Fatal(err)
		}
		if pub == nil {
			if pub, err = k.PublicPEM(); err != nil {
				t.Fatal(err)
			}
		}
	}
	theirs, err := keys.Dir(t.TempDir()).Generate("theirs", 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := state.Import("theirs", theirs.PublicRFC3110()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "theirs.pem")
	data, err := theirs.PublicPEM()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ours.pub"), pub, 0o600); err != nil {
		t.Fatal(err)
	}
	gateway := fmt.Sprintf("[gateway]\nstate-dir = %q\n", dir)
	const peer = "[[peer]]\nname = 'a'\naddress = '192.0.2.1'\nprofile = 'p'\n[[profile]]\nname = 'p'\ndh-group = 'modp2048'\nenc-algorithm = 'aes-256'\nhash-algorithm = 'sha256'\n"
	const identity = "[[identity]]\npeer = 'a'\nauth-method = 'rsa-key'\n"
	table := func(name, file string) string { return fmt.Sprintf("[[key]]\nname = %q\nfile = %q\n", name, file) }
	for _, c := range []struct{ text, fault, warning string }{
		{peer + identity + "key = 'ours'\nremote-key = 'theirs'\n", "", ""},
		{peer + table("other", file) + identity + "key = 'ours'\nremote-key = 'other'\n", "", ""},
		{peer + identity + "key = 'weak'\nremote-key = 'theirs'\n", "", `key "weak" has 1024 bits`},
		{peer + identity + "key = 'ours'\n", `identity.remote-key: is missing, auth-method "rsa-key" needs it: name the peer's public key`, ""},
		{peer + identity + "remote-key = 'theirs'\n", `identity.key: is missing, auth-method "rsa-key" needs it: name our private key`, ""},
		{peer + identity + "key = 'nobody'\nremote-key = 'theirs'\n", `identity.key: there is no key "nobody": make it with culvert key generate-key nobody, or read it with culvert key import`, ""},
		{peer + identity + "key = '../ours'\nremote-key = 'theirs'\n", `identity.key: "../ours" cannot be the name of a key`, ""},
		{peer + identity + "key = 'theirs'\nremote-key = 'theirs'\n", `identity.key: "theirs" is a public key, and we sign with a private one`, ""},
		{peer + table("mine", filepath.Join(dir, "ours.pub")) + identity + "key = 'ours'\nremote-key = 'mine'\n", `identity.remote-key: is our own key`, ""},
		{peer + table("theirs", file) + identity + "key = 'ours'\nremote-key = 'theirs'\n", `key.name: "theirs" is also the name of a key in state-dir`, ""},
		{peer + table("other", file) + "disabled = true\n" + identity + "key = 'ours'\nremote-key = 'other'\n", `identity.remote-key: [[key]] "other" is disabled`, ""},
		{peer + table("other", filepath.Join(dir, "none")), `no such file or directory, accepted: a file that this process can read`, ""},
		{peer + table("other", "testdata/ca.pem"), `key.file: PEM "CERTIFICATE" is not a key`, ""},
		{peer + table(".other", file), `key.name: ".other" cannot be the name of a key`, ""},
		{peer + "[[key]]\nname = 'other'\n", `key.file: is missing, name a file with an RSA key`, ""},
		{strings.Replace(peer, "\n", "\nexchange-mode = 'ike2'\n", 1) + identity + "key = 'ours'\nremote-key = 'theirs'\n", `"rsa-key" is of IKEv1, and [[peer]] "a" has exchange-mode "ike2"`, ""},
		{peer + "[[identity]]\npeer = 'a'\nsecret = 'a-long-secret-of-many-letters-23487'\nkey = 'ours'\n", `identity.key: needs auth-method = "rsa-key"`, ""},
		{peer + identity + "key = 'ours'\nremote-key = 'theirs'\nremote-auth-method = 'pre-shared-key'\n", `identity.remote-auth-method: is "pre-shared-key", and auth-method is "rsa-key"`, ""},
	} {
		got, warnings, err := Parse("f", []byte(gateway+c.text))
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s\nfault %v, not %s", c.text, err, c.fault)
		}
		if all := fmt.Sprint(warnings); err == nil && (!strings.Contains(all, c.warning) || c.warning == "" && strings.Contains(all, "identity.")) {
			t.Errorf("%s\nwarnings %s, not %s", c.text, all, c.warning)
		}
		if err == nil && len(got.Identities) > 0 && (!got.Identities[0].Key.Private.Present() || got.Identities[0].RemoteKey.Private.Present()) {
			t.Errorf("%s: %v", c.text, got.Identities[0])
		}
	}
	// A key that was made anew under its name is a change, and a snapshot without secrets has no private key.
	path := filepath.Join(dir, "f.toml")
	if err := os.WriteFile(path, []byte(gateway+peer+identity+"key = 'ours'\nremote-key = 'theirs'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	was, _, snapshot, err := LoadSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	redacted, err := snapshot.Redact(func([]byte) string { return "secret" })
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range redacted.Files {
		if strings.Contains(string(f.Data), "PRIVATE KEY") {
			t.Errorf("%s has a private key", f.Path)
		}
	}
	if c, _, err := redacted.Load(); err != nil || !c.Identities[0].Key.Public.Equal(was.Identities[0].Key.Public) {
		t.Errorf("the redacted snapshot: %v", err)
	}
	if files := was.SecretFiles(); !strings.Contains(fmt.Sprint(files), "ours.pem") || strings.Contains(fmt.Sprint(files), "theirs.pem") {
		t.Errorf("files with secrets: %v", files)
	}
	if err := state.Remove("ours"); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Generate("ours", 2048); err != nil {
		t.Fatal(err)
	}
	next, _, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := Diff(was, next); len(d.PeersChanged) != 1 {
		t.Errorf("another key of the same name: %+v", d)
	}
}
