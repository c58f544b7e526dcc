package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culvert/config"
	"culvert/internal/control"
)

const siteTOML = `
[[profile]]
name = "ike2"
dh-group = "modp2048"

[[proposal]]
name = "site2"
pfs-group = "modp2048"

[[peer]]
name = "site2"
address = "192.168.80.1/32"
exchange-mode = "ike2"
profile = "ike2"

[[identity]]
peer = "site2"
secret = "thisisnotasecurepsk"

[[policy]]
peer = "site2"
tunnel = true
src-address = "10.1.202.0/24"
dst-address = "10.1.101.0/24"
proposal = "site2"
`

func write(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "site.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheck(t *testing.T) {
	quiet(t)
	path := write(t, siteTOML)
	code, out, stderr := call("check", "-c", path)
	if code != exitOK || out != path+": ok, 1 peer, 1 policy\n" || stderr != "" {
		t.Errorf("%d %q %q", code, out, stderr)
	}

	if again, same, _ := call("check", path); again != exitOK || same != out {
		t.Errorf("without -c: %d %q", again, same)
	}
	for _, none := range [][]string{{"check"}, {"check", path, "-c", path}} {
		if code, _, stderr := call(none...); code != exitUsage || !strings.Contains(stderr, "name one file: culvert check FILE") {
			t.Errorf("%q: %d %q", none, code, stderr)
		}
	}

	path = write(t, strings.NewReplacer("192.168.80.1/32", "192.168.80.1/33", `proposal = "site2"`, `proposal = "site3"`).Replace(siteTOML))
	code, out, _ = call("check", "-c", path)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != exitFailed || len(lines) != 2 || !strings.HasPrefix(lines[0], path+":12: ") || !strings.HasPrefix(lines[1], path+":25: ") {
		t.Errorf("two faults: %d\n%s", code, out)
	}

	path = write(t, strings.Replace(siteTOML, `dh-group = "modp2048"`, "dh-group = \"modp2048\"\nnat-traversal = true", 1))
	code, out, stderr = call("check", "-c", path)
	if code != exitOK || !strings.Contains(out, ": ok,") || !strings.HasPrefix(stderr, "warning: "+path) || !strings.Contains(stderr, "nat-traversal") {
		t.Errorf("a warning: %d %q %q", code, out, stderr)
	}

	missing := filepath.Join(t.TempDir(), "none.toml")
	code, out, stderr = call("check", "-c", missing)
	if code != exitFailed || !strings.Contains(out+stderr, missing) {
		t.Errorf("no file: %d %q %q", code, out, stderr)
	}
}

// TestBothEndsMeet: a gateway without a control key listens where the command
// line without --control looks.
func TestBothEndsMeet(t *testing.T) {
	cfg, _, err := config.Parse("empty.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Gateway.Control != control.DefaultPath {
		t.Errorf("the gateway is at %s, the command line looks at %s", cfg.Gateway.Control, control.DefaultPath)
	}
}
