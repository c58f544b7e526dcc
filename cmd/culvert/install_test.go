//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// make install puts each file where its reader looks, below DESTDIR alone, and the unit
// runs what was installed.
func TestInstall(t *testing.T) {
	for _, tool := range []string{"make", "install"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	root := t.TempDir()
	cmd := exec.Command("make", "-C", "../..", "install", "DESTDIR="+root, "PREFIX=/opt/culvert")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for path, has := range map[string]string{
		"opt/culvert/bin/culvert":                                  "ELF",
		"opt/culvert/share/man/man8/culvert.8":                     ".TH CULVERT 8",
		"opt/culvert/share/bash-completion/completions/culvert":    "complete -o default -F _culvert culvert",
		"opt/culvert/share/zsh/site-functions/_culvert":            "#compdef culvert",
		"opt/culvert/share/fish/vendor_completions.d/culvert.fish": "complete -c culvert",
		"etc/systemd/system/culvert.service":                       "ExecStart=/opt/culvert/bin/culvert run -c ",
		"usr/lib/sysusers.d/culvert.conf":                          "u culvert ",
	} {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil || !strings.Contains(string(text), has) {
			t.Errorf("%s has no %q: %v", path, has, err)
		}
		if strings.Contains(string(text), "@BINDIR@") {
			t.Errorf("%s has an unreplaced word", path)
		}
	}
}
