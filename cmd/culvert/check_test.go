package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"culvert/config"
	"culvert/internal/operate/control"
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
	strong := strings.NewReplacer("dh-group", "hash-algorithm = 'sha256'\ndh-group", "pfs-group", "auth-algorithms = 'sha256'\npfs-group",
		"thisisnotasecurepsk", "0x8d1f0c4be2a95377d06e1fb84ac3925e").Replace(siteTOML)
	path := write(t, strong)
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
	// What is weak is told although it is the default, and what others can read.
	path = write(t, siteTOML)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, stderr = call("check", "-c", path)
	want := []string{`:2: profile: weak algorithms are allowed by [[profile]] "ike2": sha1, write hash-algorithm = "sha256"`,
		`:6: proposal: weak algorithms are allowed by [[proposal]] "site2": sha1, write auth-algorithms = "sha256"`,
		`:18: identity.secret: is short, easy to guess or published, write "0x" and the output of openssl rand -hex 32`}
	if runtime.GOOS != "windows" {
		want = append(want, ": has secrets and can be read by others (mode 0644), run chmod 600 on it")
	}
	for _, w := range want {
		if code != exitOK || !strings.Contains(stderr, "warning: "+path+w) {
			t.Errorf("%d %q\nwant %q", code, stderr, w)
		}
	}
	if n := strings.Count(stderr, "\n"); n != len(want) {
		t.Errorf("%d lines, want %d: %s", n, len(want), stderr)
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

	// What loads and does not compile.
	path = write(t, "[gateway]\nmtu = 1000\n[[policy]]\naction = 'none'\nsrc-address = '2001:db8:1::/48'\ndst-address = '2001:db8:2::/48'\n")
	code, out, stderr = call("check", path)
	if want := path + ":2: gateway.mtu: 1000 is too small for IPv6, which the policy at " + path + ":3 needs, write 1280 or more, or leave it out\n"; code != exitFailed || out != want {
		t.Errorf("%d %q %q, want %q", code, out, stderr, want)
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
