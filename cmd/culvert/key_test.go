package main

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culvert/internal/state/keys"
)

// The way of two gateways: each makes a key, and has the public one of the other.
func TestKeys(t *testing.T) {
	quiet(t)
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	file := func(name string) string { return filepath.Join(dir, name) }
	// one is a call that ends with code and prints out and stderr; "…" in them stands for anything.
	one := func(code int, out, stderr string, args ...string) string {
		t.Helper()
		c, o, e := call(append(args, "--state-dir", state)...)
		if c != code || out != "…" && o != out || !strings.Contains(e, stderr) || stderr == "" && e != "" {
			t.Errorf("%v: %d\n%q\n%q\nwant %d\n%q\n%q", args, c, o, e, code, out, stderr)
		}
		return o
	}
	one(exitOK, "Flags: P - private-key, R - rsa\n(no entries)\n", "", "key", "print")
	one(exitOK, "[]\n", "", "key", "print", "--json")
	one(exitOK, "generated private key \"ours\" of 1024 bits\n", "warning: 1024 bits are weak", "key", "generate-key", "ours", "--key-size", "1024")
	one(exitOK, "generated private key \"default\" of 2048 bits\n", "", "key", "generate-key", "default")
	one(exitFailed, "", `key "ours" already exists`, "key", "generate-key", "ours")

	one(exitOK, "wrote the public key of \"ours\" to "+file("ours.pem")+"\n", "", "key", "export-pub-key", "ours", file("ours.pem"))
	one(exitFailed, "", "is not overwritten", "key", "export-pub-key", "ours", file("ours.pem"))
	one(exitFailed, "", `key "other" does not exist: culvert key print`, "key", "export-pub-key", "other", file("other.pem"))
	k, err := keys.Dir(state).Load("ours")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file("ours.pem"))
	if err != nil {
		t.Fatal(err)
	}
	exported, _ := pem.Decode(data)
	if public, err := x509.ParsePKIXPublicKey(exported.Bytes); err != nil || !public.(*rsa.PublicKey).Equal(k.Public) {
		t.Errorf("exported %s, %v", data, err)
	}
	if got := one(exitOK, "…", "", "key", "export-pub-key", "ours", "-", "--format", "rfc3110"); got != string(k.PublicRFC3110()) {
		t.Errorf("exported %s, want %s", got, k.PublicRFC3110())
	}

	one(exitOK, "imported public key \"theirs\" of 1024 bits\n", "weak", "key", "import", "theirs", file("ours.pem"))
	if err := os.WriteFile(file("dns"), k.PublicRFC3110(), 0o600); err != nil {
		t.Fatal(err)
	}
	one(exitOK, "imported public key \"from-dns\" of 1024 bits\n", "weak", "key", "import", "from-dns", file("dns"))
	if err := os.WriteFile(file("own"), pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k.Private)}), 0o600); err != nil {
		t.Fatal(err)
	}
	one(exitOK, "imported private key \"moved\" of 1024 bits\n", "weak", "key", "import", "moved", file("own"))
	if err := os.WriteFile(file("long"), bytes.Repeat([]byte("A"), maxKeyFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	one(exitFailed, "", "has more than 65536 bytes and is not a key", "key", "import", "long", file("long"))
	one(exitFailed, "", file("absent"), "key", "import", "absent", file("absent"))
	if err := os.WriteFile(file("text"), []byte("no key at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	one(exitFailed, "", file("text")+": the file is neither", "key", "import", "text", file("text"))

	golden(t, "key.txt", one(exitOK, "…", "", "key", "print"))
	golden(t, "key.json", one(exitOK, "…", "", "key", "print", "--json"))

	one(exitOK, "removed key \"theirs\"\n", "", "key", "remove", "theirs")
	one(exitFailed, "", `key "theirs" does not exist`, "key", "remove", "theirs")
	one(exitUsage, "", "--key-size 1000 is unknown, accepted: 1024, 2048, 4096", "key", "generate-key", "x", "--key-size", "1000")
	one(exitUsage, "", "cannot be the name of a key", "key", "generate-key", "../x")
	one(exitUsage, "", "cannot be the name of a key", "key", "import", "a b", file("own"))
	if got, err := keys.Dir(state).List(); err != nil || len(got) != 4 {
		t.Errorf("%v, %v", got, err)
	}
}

// The default of the flag is the default of the configuration.
func TestKeysAreWhereTheGatewayLooks(t *testing.T) {
	quiet(t)
	if _, out, _ := call("key", "print", "--help"); !strings.Contains(out, "default "+keys.DefaultStateDir+")") {
		t.Errorf("the help of key print does not name %s:\n%s", keys.DefaultStateDir, out)
	}
}
