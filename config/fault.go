package config

import (
	"fmt"
	"sort"
	"strings"
)

// Fault is one thing that is wrong in a configuration file. Message says what
// is wrong and what is accepted; it never contains a secret.
type Fault struct {
	File    string
	Line    int    // from 1; 0 where the whole file is meant
	Key     string // "peer.address"; empty where no key is meant
	Message string
}

// String is one line: FILE:LINE: key: message.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	b.WriteString(": ")
	if f.Key != "" {
		b.WriteString(f.Key)
		b.WriteString(": ")
	}
	b.WriteString(f.Message)
	return b.String()
}

// Faults is every fault of a configuration, file by file in the order of
// reading, within a file by line. It is the error of Load and Parse.
type Faults []Fault

// Error is one line per fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}

// Warning is something that works, but likely not as it was meant.
type Warning Fault

// String is one line: FILE:LINE: key: message.
func (w Warning) String() string { return Fault(w).String() }

// sortFaults orders by the file's place in order, then by line and key.
func sortFaults[T any](list []T, fault func(T) Fault, order map[string]int) {
	sort.SliceStable(list, func(i, j int) bool {
		a, b := fault(list[i]), fault(list[j])
		if a.File != b.File {
			return order[a.File] < order[b.File]
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Key < b.Key
	})
}
