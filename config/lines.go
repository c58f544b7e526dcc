package config

import (
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// lineIndex says on which line each table, key and list member of a TOML file
// stands. Its keys are paths as join and member make them.
type lineIndex map[string]int

// join is the path of a key below path.
func join(path, key string) string {
	for i := 0; i < len(key); i++ {
		if !bareKeyByte(key[i]) {
			key = strconv.Quote(key)
			break
		}
	}
	if key == "" {
		key = `""`
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// member is the path of the i-th member of the list at path.
func member(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func bareKeyByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// indexLines reads a file that the TOML library has accepted. What it does not
// understand it skips line by line: then a path is missing, never wrong data.
func indexLines(data []byte) lineIndex {
	s := lineScanner{src: string(data), line: 1, lines: lineIndex{}, count: map[string]int{}}
	s.src = strings.TrimPrefix(s.src, "\ufeff")
	table := ""
	for s.blank(); s.pos < len(s.src); s.blank() {
		line := s.line
		if s.src[s.pos] == '[' {
			table = s.header(line)
			s.restOfLine()
			continue
		}
		s.assignment(table, 0)
		s.restOfLine()
	}
	return s.lines
}

// maxDepth bounds values in values.
const maxDepth = 32

type lineScanner struct {
	src   string
	pos   int
	line  int
	lines lineIndex
	count map[string]int // members so far of each array of tables
}

func (s *lineScanner) has(prefix string) bool { return strings.HasPrefix(s.src[s.pos:], prefix) }

// next passes one byte.
func (s *lineScanner) next() {
	if s.src[s.pos] == '\n' {
		s.line++
	}
	s.pos++
}

func (s *lineScanner) skip(set string) {
	for s.pos < len(s.src) && strings.IndexByte(set, s.src[s.pos]) >= 0 {
		s.next()
	}
}

func (s *lineScanner) restOfLine() {
	for s.pos < len(s.src) && s.src[s.pos] != '\n' {
		s.pos++
	}
}

// blank passes white space, line ends and comments.
func (s *lineScanner) blank() { s.between(" \t\r\n") }

// between passes a set of bytes and comments.
func (s *lineScanner) between(set string) {
	for {
		s.skip(set)
		if s.pos >= len(s.src) || s.src[s.pos] != '#' {
			return
		}
		s.restOfLine()
	}
}

func (s *lineScanner) record(path string, line int) {
	if _, ok := s.lines[path]; !ok {
		s.lines[path] = line
	}
}

// header reads [a.b] or [[a.b]] and returns the path that its keys are below.
func (s *lineScanner) header(line int) string {
	array := s.has("[[")
	s.skip("[ \t")
	keys := s.keys()
	path := ""
	for i, k := range keys {
		path = join(path, k)
		s.record(path, line)
		if n := s.count[path]; i == len(keys)-1 && array {
			s.count[path] = n + 1
			path = member(path, n)
			s.record(path, line)
		} else if n > 0 {
			path = member(path, n-1)
		}
	}
	return path
}

// keys reads a key, dotted or not.
func (s *lineScanner) keys() []string {
	var keys []string
	for {
		s.skip(" \t")
		k, ok := s.key()
		if !ok {
			return keys
		}
		keys = append(keys, k)
		s.skip(" \t")
		if !s.has(".") {
			return keys
		}
		s.pos++
	}
}

func (s *lineScanner) key() (string, bool) {
	start := s.pos
	if s.has(`"`) || s.has(`'`) {
		s.quoted()
		return unquote(s.src[start:s.pos]), true
	}
	for s.pos < len(s.src) && bareKeyByte(s.src[s.pos]) {
		s.pos++
	}
	return s.src[start:s.pos], s.pos > start
}

// unquote leaves escapes to the TOML library: they are not those of Go.
func unquote(raw string) string {
	var key struct{ K string }
	if strings.Contains(raw, `\`) {
		if _, err := toml.Decode("K = "+raw, &key); err == nil {
			return key.K
		}
	}
	return strings.Trim(raw, raw[:1])
}

// quoted passes a string of any of the four sorts.
func (s *lineScanner) quoted() {
	mark := s.src[s.pos : s.pos+1]
	escapes := mark == `"`
	if s.has(strings.Repeat(mark, 3)) {
		mark = strings.Repeat(mark, 3)
	}
	s.pos += len(mark)
	for s.pos < len(s.src) && !s.has(mark) {
		if len(mark) == 1 && s.src[s.pos] == '\n' {
			return
		}
		if escapes && s.src[s.pos] == '\\' && s.pos+1 < len(s.src) {
			s.next()
		}
		s.next()
	}
	if s.pos >= len(s.src) {
		return
	}
	s.pos += len(mark)
	// A multi-line string may end in one or two quotes of its own.
	for i := 0; len(mark) == 3 && i < 2 && s.has(mark[:1]); i++ {
		s.pos++
	}
}

// assignment reads key = value below path.
func (s *lineScanner) assignment(path string, depth int) {
	line := s.line
	keys := s.keys()
	for _, k := range keys {
		path = join(path, k)
		s.record(path, line)
	}
	s.skip(" \t")
	if len(keys) == 0 || !s.has("=") {
		return
	}
	s.pos++
	s.skip(" \t")
	s.value(path, depth)
}

// value passes a value and records its members.
func (s *lineScanner) value(path string, depth int) {
	switch {
	case s.pos >= len(s.src) || depth > maxDepth:
	case s.has(`"`) || s.has(`'`):
		s.quoted()
	case s.has("["):
		s.pos++
		s.members("]", func(i int) {
			s.record(member(path, i), s.line)
			s.value(member(path, i), depth+1)
		})
	case s.has("{"):
		s.pos++
		s.members("}", func(int) { s.assignment(path, depth+1) })
	default:
		for s.pos < len(s.src) && strings.IndexByte(",]}#\n", s.src[s.pos]) < 0 {
			s.pos++
		}
	}
}

// members reads what stands between commas until the closing bracket.
func (s *lineScanner) members(end string, each func(i int)) {
	for i := 0; ; i++ {
		s.between(" \t\r\n,")
		if s.pos >= len(s.src) {
			return
		}
		if s.has(end) {
			s.pos++
			return
		}
		before := s.pos
		each(i)
		if s.pos == before {
			return
		}
	}
}

// at is the line of the path, or of the nearest thing around it that has one.
func (x lineIndex) at(path string) int {
	for {
		if line, ok := x[path]; ok {
			return line
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return 1
		}
		path = path[:cut]
	}
}
