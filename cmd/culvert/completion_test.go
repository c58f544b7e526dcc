package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCompletion(t *testing.T) {
	quiet(t)
	for _, c := range []struct {
		words string // separated by spaces; the last is not finished
		want  []string
	}{
		{"pol", []string{"policy", "policy-group"}},
		{"policy ", []string{"print"}},
		{"policy pr", []string{"print"}},
		{"policy print --js", []string{"--json"}},
		{"active-peers k", []string{"kill-connections"}},
		{"run --log-l", []string{"--log-level"}},
		{"run --log-level ", []string{"debug", "info", "warn", "error"}},
		{"run --log-level=de", []string{"--log-level=debug"}},
		{"run -c ", nil},
		{"run -c site.toml --redact --rec", []string{"--record", "--record-limit", "--record-total", "--record-for"}},
		{"--control /x policy p", []string{"print"}},
		{"completion ", []string{"bash", "zsh", "fish"}},
		{"complet", []string{"completion"}},
		{"check ", nil},
		{"nonsense ", nil},
	} {
		code, out, stderr := call(append([]string{"complete", "--"}, strings.Split(c.words, " ")...)...)
		var got []string
		for line := range strings.Lines(out) {
			word, text, ok := strings.Cut(line, "\t")
			if !ok || strings.TrimSpace(text) == "" {
				t.Errorf("%q: %q has no description", c.words, line)
			}
			got = append(got, word)
		}
		if c.words == "nonsense " {
			continue // a command that does not exist: what is printed does not matter
		}
		if code != exitOK || stderr != "" || !slices.Equal(got, c.want) {
			t.Errorf("%q: %d %q %q, want %q", c.words, code, got, stderr, c.want)
		}
	}
}

// The scripts run in their shells, with the binary that the test builds.
func TestCompletionScripts(t *testing.T) {
	quiet(t)
	dir := t.TempDir()
	bin := filepath.Join(dir, "culvert")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, c := range []struct{ shell, script string }{
		{"bash", `source <(culvert completion bash)
COMP_WORDS=(culvert installed-sa fl); COMP_CWORD=2
_culvert
[ "${COMPREPLY[*]}" = flush ] || { echo "got ${COMPREPLY[*]}"; exit 1; }
complete -p culvert`},
		{"fish", `culvert completion fish | source
set got (complete -C 'culvert installed-sa fl' | cut -f 1)
test "$got" = flush; or begin; echo "got $got"; exit 1; end`},
		{"zsh", `autoload -Uz compinit && compinit -D -d ` + dir + `/dump
source <(culvert completion zsh)
[[ "${_comps[culvert]}" == _culvert ]] || { echo "not registered"; exit 1; }
words=(culvert installed-sa fl); CURRENT=3
compadd() { print -r -- "${(P)@[-1]}"; }
got=$(_culvert)
[[ "$got" == flush ]] || { echo "got $got"; exit 1; }`},
	} {
		t.Run(c.shell, func(t *testing.T) {
			path, err := exec.LookPath(c.shell)
			if err != nil {
				t.Skipf("%s is not installed: its completion script is not tried", c.shell)
			}
			cmd := exec.Command(path, "-c", c.script)
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// The manual page has every command and flag of the help, and mandoc finds no fault.
func TestManualPage(t *testing.T) {
	quiet(t)
	code, page, _ := call("man")
	if code != exitOK {
		t.Fatal(code)
	}
	for _, want := range []string{".TH CULVERT 8", `.SS "installed\-sa flush`, `\-c, \-\-config=FILE`, `\-\-control=PATH`, "Exit codes"} {
		if !strings.Contains(page, want) {
			t.Errorf("it has no %q", want)
		}
	}
	if strings.Contains(page, "complete \\-\\-") {
		t.Error("it has the hidden command")
	}
	path, err := exec.LookPath("mandoc")
	if err != nil {
		t.Skip("mandoc is not installed: the page is not checked by it")
	}
	cmd := exec.Command(path, "-T", "lint", "-W", "error")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
