package vectors

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// Record is one case of a text file of "Key = value" lines, which an empty line
// or the first key's return ends. Section is the last "[…]" line before it.
type Record struct {
	Section string
	Fields  map[string]string
}

// Hex is a field's bytes, with or without a leading 0x; nil where it is absent or empty.
func (r Record) Hex(t testing.TB, field string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.TrimPrefix(r.Fields[field], "0x"))
	if err != nil {
		t.Fatalf("%s: %v", field, err)
	}
	if len(b) == 0 {
		return nil
	}
	return b
}

// Records reads a file of such cases, and skips the test where the folder is absent.
func Records(t testing.TB, name string) (all []Record) {
	t.Helper()
	r := Record{Fields: map[string]string{}}
	end := func() {
		if len(r.Fields) > 0 {
			all = append(all, r)
			r.Fields = map[string]string{}
		}
	}
	lines := bufio.NewScanner(bytes.NewReader(Read(t, name)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		key, value, ok := strings.Cut(line, "=")
		switch key = strings.TrimSpace(key); {
		case line == "":
			end()
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			end()
			r.Section = strings.Trim(line, "[]")
		case ok:
			if _, again := r.Fields[key]; again {
				end()
			}
			r.Fields[key] = strings.TrimSpace(value)
		}
	}
	end()
	if err := lines.Err(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(all) == 0 {
		t.Fatalf("%s has no cases", name)
	}
	return all
}
