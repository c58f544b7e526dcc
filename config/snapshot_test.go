package config

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// A snapshot gives the same configuration after the files are gone, on the same
// lines: includes by pattern, secrets in files.
func TestSnapshot(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("site.toml", "include = [\"peers-*.toml\"]\n\n[[identity]]\npeer = \"a\"\nsecret-file = \"psk\"\n")
	write("peers-a.toml", "[[peer]]\nname = \"a\"\naddress = \"192.0.2.1/32\"\nexchange-mode = \"ike2\"\n")
	write("psk", "thisisnotasecurepsk\n")
	path := filepath.Join(dir, "site.toml")
	want, warned, s, err := LoadSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Files) != 3 || len(s.Globs) != 1 {
		t.Errorf("snapshot of %d files, %d patterns", len(s.Files), len(s.Globs))
	}
	plain, _, err := Load(path)
	if err != nil || !reflect.DeepEqual(plain, want) {
		t.Errorf("Load and LoadSnapshot differ: %v", err)
	}
	for _, f := range s.Files {
		if err := os.Remove(f.Path); err != nil {
			t.Fatal(err)
		}
	}
	got, again, err := s.Load()
	if err != nil || !reflect.DeepEqual(got, want) || !reflect.DeepEqual(again, warned) {
		t.Errorf("from the snapshot: %v\n%+v\n%+v", err, got, want)
	}
	if string(got.Identities[0].Secret) != "thisisnotasecurepsk" || got.Peers[0].Place("address") != filepath.Join(dir, "peers-a.toml")+":3" {
		t.Errorf("secret of %d bytes, address at %s", len(got.Identities[0].Secret), got.Peers[0].Place("address"))
	}
	s.Files = s.Files[:1]
	if _, _, err := s.Load(); err == nil {
		t.Error("a snapshot without the included file gives a configuration")
	}
}
