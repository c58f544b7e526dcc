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
	checkUnit(t, filepath.Join(root, "etc/systemd/system/culvert.service"))
}

// checkUnit reads what systemd thinks of the unit: no fault, and an exposure below 3.
func checkUnit(t *testing.T, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Type=notify", "Restart=on-failure", "WantedBy=multi-user.target", "RuntimeDirectoryPreserve=yes"} {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("the unit has no %s", line)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed: it does not read the unit")
	}
	// It looks for the program that the unit starts.
	here := filepath.Join(t.TempDir(), "culvert.service")
	if err := os.WriteFile(here, []byte(strings.ReplaceAll(string(text), "/opt/culvert/bin/culvert", "/bin/true")), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", "--man=no", here).CombinedOutput()
	if err != nil || strings.Contains(string(out), "culvert.service") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err = exec.Command(analyze, "security", "--offline=true", "--threshold=30", "--no-pager", here).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
