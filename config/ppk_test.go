package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPPK(t *testing.T) {
	for _, c := range []struct{ keys, fault string }{
		{"ppk-id = 'site'\nppk-secret = '0x00ff'\nppk-required = true\n", ""},
		{"ppk-id = 'site'\nppk-secret = 'text'\n", ""},
		{"ppk-required = false\n", ""},
		{"ppk-id = 'site'\n", "identity.ppk-id: has no secret, write ppk-secret or ppk-secret-file"},
		{"ppk-secret = 'x'\n", "identity.ppk-secret: has no name, write ppk-id, the same on both sides"},
		{"ppk-required = true\n", "identity.ppk-required: wants a postquantum preshared key and there is none, write ppk-id and ppk-secret"},
	} {
		cfg, _, err := Parse("f", []byte(built(replaced("identity", "secret = 's'\n", "secret = 's'\n"+c.keys), "")))
		switch {
		case c.fault != "":
			if err == nil || !strings.HasSuffix(err.Error(), c.fault) {
				t.Errorf("%q: %v, not %s", c.keys, err, c.fault)
			}
		case err != nil:
			t.Errorf("%q: %v", c.keys, err)
		case strings.Contains(c.keys, "0x00ff") && (cfg.Identities[0].PPKID != "site" || !cfg.Identities[0].PPKSecret.Equal([]byte{0, 0xff}) || !cfg.Identities[0].PPKRequired):
			t.Errorf("%q: %+v", c.keys, cfg.Identities[0])
		}
	}
}

func TestPPKSecretFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ppk"), []byte("quantum\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := func(more string) []byte {
		return []byte(built(replaced("identity", "secret = 's'\n", "secret = 's'\nppk-id = 'site'\nppk-secret-file = 'ppk'\n"+more), ""))
	}
	cfg, _, err := Parse(filepath.Join(dir, "f"), text(""))
	if err != nil || string(cfg.Identities[0].PPKSecret) != "quantum" {
		t.Errorf("the secret of the file was not read: %v", err)
	}
	if _, _, err := Parse(filepath.Join(dir, "f"), text("ppk-secret = 'x'\n")); err == nil || !strings.Contains(err.Error(), "cannot be combined with ppk-secret") {
		t.Errorf("both forms: %v", err)
	}
	// A changed PPK is a changed peer.
	other, _, err := Parse(filepath.Join(dir, "f"), []byte(built(replaced("identity", "secret = 's'\n", "secret = 's'\nppk-id = 'site'\nppk-secret = 'other'\n"), "")))
	if err != nil || len(Diff(cfg, other).PeersChanged) != 1 || !Diff(cfg, cfg).Empty() {
		t.Errorf("the difference of PPKs: %+v, %v", Diff(cfg, other), err)
	}
}
