package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// helper is added to the package: it says which mutant is in force, and notes which are reached.
const helper = `package %s

import (
	mutantOS "os"
	mutantConv "strconv"
	mutantAtomic "sync/atomic"
)

var (
	mutantChosen, _ = mutantConv.Atoi(mutantOS.Getenv("MUTANT"))
	mutantSeen      [%d]mutantAtomic.Bool
	// It is opened at once: a test may see to it that nothing can be opened later.
	mutantReached, _ = mutantOS.OpenFile(mutantOS.Getenv("MUTANT_REACHED"), mutantOS.O_APPEND|mutantOS.O_CREATE|mutantOS.O_WRONLY, 0o600)
)

func mutant(n int) bool {
	if mutantReached != nil && !mutantSeen[n].Swap(true) {
		_, _ = mutantReached.WriteString(mutantConv.Itoa(n) + "\n")
	}
	return n == mutantChosen
}

func mutantAdds(n int) int {
	if mutant(n) {
		return 1
	}
	return 0
}
`

// render is the file's text with mutants in it. Lines keep their numbers.
func render(src []byte, list []*mutant) string {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b *mutant) int {
		if a.start != b.start {
			return a.start - b.start
		}
		return b.end - a.end
	})
	var text func(from, to int, list []*mutant) string
	text = func(from, to int, list []*mutant) string {
		var b strings.Builder
		for len(list) > 0 {
			m := list[0]
			list = list[1:]
			if m.start < from || m.end > to {
				continue
			}
			b.Write(src[from:m.start])
			within := list
			b.WriteString(m.text(func(from, to int) string { return text(from, to, within) }, fmt.Sprintf("mutant(%d)", m.id)))
			from = m.end
		}
		b.Write(src[from:to])
		return b.String()
	}
	return text(0, len(src), list)
}

// overlay writes a package's files with mutants, and returns the file for go's -overlay.
func (p *pkg) overlay(dir string, list []*mutant) (string, error) {
	replace := map[string]string{}
	write := func(path, text string) error {
		at := filepath.Join(dir, "overlay", filepath.Base(path)) // errors name it
		replace[path] = at
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			return err
		}
		return os.WriteFile(at, []byte(text), 0o600)
	}
	for name, src := range p.src {
		var of []*mutant
		for _, m := range list {
			if m.file == name {
				of = append(of, m)
			}
		}
		if len(of) == 0 {
			continue
		}
		if err := write(filepath.Join(p.root, name), render(src, of)); err != nil {
			return "", err
		}
	}
	if err := write(filepath.Join(p.root, p.dir, "mutant_in_force.go"), fmt.Sprintf(helper, p.name, len(p.all)+1)); err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, b, 0o600)
}

var fault = regexp.MustCompile(`(?m)^(?:vet: )?(\S+\.go):(\d+):(?:\d+:)? (.*)$`)

// compiles builds the package with mutants, and returns those that do not stand in its way.
func (p *pkg) compiles(dir string, list []*mutant) ([]*mutant, error) {
	for {
		over, err := p.overlay(dir, list)
		if err != nil {
			return nil, err
		}
		out, err := p.goTool("build", "-gcflags=-e", "-overlay", over, "./"+p.dir)
		if err == nil {
			return list, nil
		}
		if len(list) == 1 {
			return nil, nil // a constant is named anywhere
		}
		bad := map[*mutant]bool{}
		for _, f := range fault.FindAllSubmatch(out, -1) {
			line, _ := strconv.Atoi(string(f[2]))
			found := false
			for _, m := range list {
				if filepath.Base(m.file) == filepath.Base(string(f[1])) && m.line == line {
					bad[m], found = true, true
				}
			}
			for _, m := range list {
				if !found && filepath.Base(m.file) == filepath.Base(string(f[1])) && m.fn[0] <= line && line <= m.fn[1] && (m.flow || !bytes.Contains(f[3], []byte("missing return"))) {
					bad[m] = true
				}
			}
		}
		if len(bad) == 0 {
			return nil, fmt.Errorf("building with mutants: %w\n%s", err, out)
		}
		list = slices.DeleteFunc(list, func(m *mutant) bool { return bad[m] })
	}
}

func (p *pkg) goTool(args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = p.root
	cmd.Env = append(os.Environ(), "GOWORK=off")
	return cmd.CombinedOutput()
}
