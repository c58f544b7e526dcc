package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
)

// says is a mutant in the report.
func (p *pkg) says(m *mutant) string {
	return fmt.Sprintf("%s:%d: %s: %s", m.file, m.line, m.kind, m.what)
}

// sum tells samples apart.
func (p *pkg) sum(sample []*mutant) string {
	h := sha256.New()
	for _, m := range sample {
		fmt.Fprintf(h, "%s\n%s\n", p.says(m), p.before(m))
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// earlier are the survivors that a report of the same sample names; nil without a report.
func earlier(path, sample string) (map[string]bool, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines, same := map[string]bool{}, false
	s := bufio.NewScanner(f)
	for s.Scan() {
		line := strings.TrimSuffix(s.Text(), " (no test reaches it)")
		lines[line] = true
		same = same || line == "sample "+sample
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if !same {
		return nil, fmt.Errorf("%s is of another sample: measure anew, without -again", path)
	}
	return lines, nil
}
