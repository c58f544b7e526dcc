package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFile bounds what is read of any file.
const maxFile = 64 << 20

// Load reads the file and those that it includes. The error is a Faults with
// all that is wrong; then there is no configuration. The entries of included
// files come before those of the file that includes them, since include can
// only stand before the first table.
func Load(path string) (*Config, []Warning, error) {
	return load(machine{}, path)
}

// Parse is Load for the bytes of a file; name is what its faults say and what
// paths in it are relative to.
func Parse(name string, data []byte) (*Config, []Warning, error) {
	return parse(machine{}, name, data, 0)
}

func parse(d disk, name string, data []byte, mode fs.FileMode) (*Config, []Warning, error) {
	l := &loader{
		disk:   d,
		config: &Config{Gateway: defaultGateway(), Settings: defaultSettings()},
		order:  map[string]int{},
		single: map[string]spot{},
		named:  map[string]int{},
	}
	ownEntries(l.config)
	l.read(name, data, mode, 0)
	l.check()
	sortFaults(l.faults, func(f Fault) Fault { return f }, l.order)
	sortFaults(l.warnings, func(w Warning) Fault { return Fault(w) }, l.order)
	if len(l.faults) > 0 {
		return nil, l.warnings, l.faults
	}
	return l.config, l.warnings, nil
}

// loader collects a configuration and what is wrong with it.
type loader struct {
	disk     disk
	config   *Config
	faults   Faults
	warnings []Warning
	order    map[string]int  // file to its place in the order of reading
	single   map[string]spot // key of a single table to where it was written
	named    map[string]int  // table and name to the place in the list

	stateKeys map[string]*Key // those of state-dir that were read
}

func (l *loader) fault(at spot, key, format string, args ...any) {
	l.faults = append(l.faults, Fault{at.file, at.line, key, fmt.Sprintf(format, args...)})
}

func (l *loader) warn(at spot, key, format string, args ...any) {
	l.warnings = append(l.warnings, Warning{at.file, at.line, key, fmt.Sprintf(format, args...)})
}

// source is one file.
type source struct {
	name  string
	lines lineIndex
}

// at is the place of a path of the line index.
func (f *source) at(path string) spot { return spot{f.name, f.lines.at(path)} }

// beside makes a path relative to the file.
func (f *source) beside(path string) string {
	if isAbsolute(path) {
		return path
	}
	return filepath.Join(filepath.Dir(f.name), path)
}

// maxIncludes bounds includes in includes.
const maxIncludes = 8

// read reads one file. mode is 0 where it is none of a disk.
func (l *loader) read(name string, data []byte, mode fs.FileMode, depth int) {
	l.order[name] = len(l.order)
	l.config.Files = append(l.config.Files, name)
	raw := map[string]any{}
	if _, err := toml.Decode(string(data), &raw); err != nil {
		if other, ok := foreignFormat(data); ok {
			l.fault(spot{file: name}, "", "is %s, and culvert reads TOML: %s (docs/tunnels.md has examples to copy)", other.is, other.advice)
			return
		}
		l.syntax(name, data, err)
		return
	}
	if secrets(raw) && !l.disk.redacted() {
		l.config.secretFiles = append(l.config.secretFiles, name)
		if othersCanRead(mode) {
			l.warn(spot{file: name}, "", "has secrets and can be read by others (mode %04o), run chmod 600 on it, or write secret-file in the place of secret", mode.Perm())
		}
	}
	f := &source{name, indexLines(data)}
	if inc, ok := raw["include"]; ok {
		l.include(f, inc, depth)
	}
	for _, t := range tables {
		if v, ok := raw[t.name]; ok {
			l.table(f, t, v)
		}
	}
	l.unknownTables(f, raw)
}

// syntax is a fault of TOML itself. The library's message may quote the file,
// so that a line that could hold a secret gets a message of our own.
func (l *loader) syntax(name string, data []byte, err error) {
	var parse toml.ParseError
	if !errors.As(err, &parse) {
		l.fault(spot{file: name}, "", "is not TOML: %v", err)
		return
	}
	message, line := parse.Message, parse.Position.Line
	if start := parse.Position.Start; start >= 0 && start < len(data) {
		// The library's own line is one too far where a line ends too early.
		line = 1 + bytes.Count(data[:start], []byte("\n"))
	}
	if message == "" {
		message = strings.TrimPrefix(err.Error(), "toml: ")
	}
	if strings.Contains(message, `found "yes"`) || strings.Contains(message, `found "no"`) {
		message = "a boolean is true or false, without quotes"
	}
	if mayHoldSecret(data, line) {
		message = "a value cannot be read, write it in quotes and close them"
	}
	l.fault(spot{name, line}, "", "is not TOML: %s", message)
}

// mayHoldSecret looks at the line and at those before it that it may continue.
func mayHoldSecret(data []byte, line int) bool {
	lines := strings.SplitN(string(data), "\n", line+1)
	for i := min(line, len(lines)) - 1; i >= 0; i-- {
		text := strings.ToLower(lines[i])
		for _, word := range []string{"secret", "password", "passphrase"} {
			if strings.Contains(text, word) {
				return true
			}
		}
		if strings.HasPrefix(strings.TrimSpace(text), "[") && i < line-1 {
			return false
		}
	}
	return false
}

func (l *loader) include(f *source, raw any, depth int) {
	v := value{l, f, "include", "", "include", raw}
	patterns, ok := list(text(`paths such as ["conf.d/*.toml"]`))(v)
	if !ok {
		return
	}
	for i, pattern := range patterns {
		at := f.at(member("include", i))
		paths, err := l.disk.glob(f.beside(pattern))
		switch {
		case err != nil:
			l.fault(at, "include", "%q is not a pattern, accepted: a path with *, ? and [a-z]", pattern)
		case len(paths) == 0 && !strings.ContainsAny(pattern, "*?["):
			l.fault(at, "include", "there is no file %q", f.beside(pattern))
		case depth == maxIncludes:
			l.fault(at, "include", "includes are more than %d deep", maxIncludes)
			continue
		}
		sort.Strings(paths)
		for _, p := range paths {
			if _, again := l.order[p]; again {
				l.fault(at, "include", "%s is read twice, include it once", p)
				continue
			}
			data, mode, err := l.disk.read(p)
			if err != nil {
				l.fault(at, "include", unreadable, err)
				continue
			}
			l.read(p, data, mode, depth+1)
		}
	}
}

func (l *loader) table(f *source, t table, raw any) {
	switch v := raw.(type) {
	case map[string]any:
		if t.array {
			l.fault(f.at(t.name), t.name, "is a single table, write [[%s]]", t.name)
			return
		}
		t.convert(l, f, t.name, v)
	case []map[string]any:
		l.members(f, t, len(v), func(i int) any { return v[i] })
	case []any:
		l.members(f, t, len(v), func(i int) any { return v[i] })
	default:
		l.fault(f.at(t.name), t.name, "is not a table, write %s", t.header())
	}
}

func (l *loader) members(f *source, t table, n int, at func(i int) any) {
	if !t.array {
		l.fault(f.at(t.name), t.name, "exists once, write [%s]", t.name)
		return
	}
	for i := range n {
		path := member(t.name, i)
		if m, ok := at(i).(map[string]any); ok {
			t.convert(l, f, path, m)
		} else {
			l.fault(f.at(path), t.name, "is not a table, write %s", t.header())
		}
	}
}

func (t table) header() string {
	if t.array {
		return "[[" + t.name + "]]"
	}
	return "[" + t.name + "]"
}

func (l *loader) unknownTables(f *source, raw map[string]any) {
	known := []string{"include"}
	for _, t := range tables {
		known = append(known, t.name)
	}
	all := slices.Clone(known)
	for _, r := range notYet {
		if r.key == "" {
			all = append(all, r.table)
		}
	}
	for name := range raw {
		switch {
		case slices.Contains(known, name):
		case tableNotYet(name):
			l.fault(f.at(join("", name)), name, "the table is not supported yet, leave it out, accepted: %s", accepted(known))
		default:
			l.fault(f.at(join("", name)), name, "unknown%s, accepted: %s", didYouMean(name, all), accepted(known))
		}
	}
}

// fill reads the keys of one table and returns what it learned of their lines.
func fill[T any](l *loader, f *source, table, path string, raw map[string]any, fields []field[T], dst *T, e *Entry) {
	e.File, e.Line, e.keys = f.name, f.lines.at(path), make(map[string]spot, len(raw))
	e.bad = map[string]bool{}
	for key := range raw {
		e.keys[key] = f.at(join(path, key))
		e.bad[key] = true
	}
	for _, fd := range fields {
		if r, ok := raw[fd.name]; ok && !keyNotYet(table, fd.name) {
			v := value{l, f, join(path, fd.name), table, fd.name, r}
			if fd.read(v, dst) {
				delete(e.bad, fd.name)
			}
		}
	}
	known := keysOf(fields)
	all := slices.Clone(known)
	for _, r := range notYet {
		if r.table == table && r.values == nil {
			all = append(all, r.key)
		}
	}
	for key := range raw {
		name := table + "." + key
		switch {
		case keyNotYet(table, key):
			l.fault(e.at(key), name, "not supported yet, leave it out")
		case !slices.Contains(known, key):
			able := slices.DeleteFunc(slices.Clone(known), func(k string) bool { return keyNotYet(table, k) })
			sort.Strings(able)
			l.fault(e.at(key), name, "unknown%s, accepted: %s", didYouMean(key, all), accepted(able))
		}
	}
}

func keysOf[T any](fields []field[T]) []string {
	keys := make([]string, len(fields))
	for i := range fields {
		keys[i] = fields[i].name
	}
	return keys
}

// single is a table that exists once; several files may share its keys out.
func single[T any](name string, fields []field[T], in func(*Config) (*T, *Entry)) table {
	return table{name: name, keys: keysOf(fields), convert: func(l *loader, f *source, path string, raw map[string]any) {
		dst, e := in(l.config)
		before := *e
		fill(l, f, name, path, raw, fields, dst, e)
		for key := range raw {
			where, twice := l.single[name+"."+key]
			if twice {
				l.fault(e.at(key), name+"."+key, "is already at %s, write it once", where)
			}
			l.single[name+"."+key] = e.at(key)
		}
		for key, at := range before.keys {
			e.keys[key] = at
		}
		for key := range before.bad {
			e.bad[key] = true
		}
	}}
}

// many is an array of tables; named: its entries have names.
func many[T any](name string, named bool, own []field[T], fresh func() *T, entry func(*T) *Entry, add func(*loader, *T)) table {
	fields := []field[T]{
		of("comment", comment, func(t *T) *string { return &entry(t).Comment }),
		of("disabled", boolean, func(t *T) *bool { return &entry(t).Disabled }),
	}
	if named {
		fields = append(fields, of("name", label, func(t *T) *string { return &entry(t).Name }))
	}
	fields = append(fields, own...)
	return table{name: name, array: true, keys: keysOf(fields), convert: func(l *loader, f *source, path string, raw map[string]any) {
		t := fresh()
		e := entry(t)
		fill(l, f, name, path, raw, fields, t, e)
		if _, ok := raw["name"]; named && !ok {
			l.fault(e.at("name"), name+".name", "is missing, every [[%s]] needs a name", name)
		}
		add(l, t)
	}}
}

// place adds a named entry. The manual's own entry, the first of its list, is
// written over where it stands; any name can be written once.
func place[T any](l *loader, table string, list *[]*T, t *T, entry func(*T) *Entry) {
	e := entry(t)
	i, there := l.named[table+" "+e.Name]
	if !there && len(*list) > 0 && entry((*list)[0]).Default && e.Name == entry((*list)[0]).Name {
		e.Default = true
		(*list)[0] = t
		l.named[table+" "+e.Name] = 0
		return
	}
	if e.Name != "" {
		if there {
			o := entry((*list)[i])
			l.fault(e.at("name"), table+".name", "%q is already used at %s, choose another name", e.Name, o.at("name"))
		} else {
			l.named[table+" "+e.Name] = len(*list)
		}
	}
	*list = append(*list, t)
}

// readFile reads a regular file of a bounded size.
func readFile(path string) ([]byte, fs.FileMode, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !st.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return data, st.Mode(), err
}

// secrets reports whether a file has any.
func secrets(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for key, x := range v {
			if _, text := x.(string); text && holdsSecret(key) || secrets(x) {
				return true
			}
		}
	case []map[string]any:
		return slices.ContainsFunc(v, func(m map[string]any) bool { return secrets(m) })
	case []any:
		return slices.ContainsFunc(v, secrets)
	}
	return false
}

// Texts of checks that several keys with files have.
const (
	unreadable   = "%v, accepted: a file that this process can read"
	readByOthers = "%s can be read by others (mode %04o), run chmod 600 on it"
)

// othersCanRead: Windows keeps rights elsewhere than in the mode.
func othersCanRead(mode fs.FileMode) bool { return runtime.GOOS != "windows" && mode.Perm()&0o077 != 0 }

func isAbsolute(path string) bool { return filepath.IsAbs(path) }
