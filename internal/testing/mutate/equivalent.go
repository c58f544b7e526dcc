package main

import (
	"fmt"
	"strings"
)

// equivalent is a mutant that changes nothing that anybody can see.
type equivalent struct {
	file, line, what string // the line's text, and the change
	why              string
}

// parseEquivalent reads equivalent.txt: a mutant is four lines, which are its file, its source line, the
// change, and why nobody can see it. A line that begins with # is a comment.
func parseEquivalent(text string) (list []equivalent, err error) {
	var block []string
	for line := range strings.Lines(text + "\n\n") {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
		case line != "":
			block = append(block, line)
		case len(block) == 4:
			list = append(list, equivalent{block[0], block[1], block[2], block[3]})
			block = nil
		case len(block) > 0:
			return nil, fmt.Errorf("equivalent.txt: %q: a mutant is four lines: file, source line, change, reason", block[0])
		}
	}
	return list, nil
}

// reason is why nobody can see a mutant; "" where the list does not have it.
func reason(list []equivalent, p *pkg, m *mutant) string {
	for _, e := range list {
		if e.file == m.file && e.line == p.before(m) && e.what == m.what {
			return e.why
		}
	}
	return ""
}
