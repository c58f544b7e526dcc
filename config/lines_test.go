package config

import (
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

const nasty = `# [[peer]] in a comment
include = ["a.toml",
  "b.toml", # ] "c"

  'c.toml'
]
top = """
[[peer]]
name = "not a key"
\""" still inside """ # after
raw = '''
x = 1
'''''
"quoted key" . 'other.key' = 1
[gateway] # header comment
tun = "a # b"
  port =   0x1F4
escaped = "quote \" and # and [x]"
[ "peer-map" . inner ]
v = { a = 1, "b c" = [1, 2,
  3], d.e = { f = 'x}' } }

[[peer]]
name = "one"
address = "192.0.2.1"

[[ peer ]]
name = "two"
list = [[1, 2],
        [3,
         4]]
[peer.sub]
deep = true
[[peer.many]]
k = 1
[[peer.many]]
k = 2
[[peer]]
date = 1979-05-27 07:32:00
z.y.x = 1.5e3
`

func TestIndexLines(t *testing.T) {
	x := indexLines([]byte(nasty))
	for path, line := range map[string]int{
		"include": 2, "include[0]": 2, "include[1]": 3, "include[2]": 5,
		"top": 7, "raw": 11, `"quoted key"`: 14, `"quoted key"."other.key"`: 14,
		"gateway": 15, "gateway.tun": 16, "gateway.port": 17, "gateway.escaped": 18,
		"peer-map": 19, "peer-map.inner": 19, "peer-map.inner.v": 20, "peer-map.inner.v.a": 20, `peer-map.inner.v."b c"`: 20,
		`peer-map.inner.v."b c"[2]`: 21, "peer-map.inner.v.d.e.f": 21,
		"peer": 23, "peer[0]": 23, "peer[0].name": 24, "peer[0].address": 25,
		"peer[1]": 27, "peer[1].name": 28, "peer[1].list[0][1]": 29, "peer[1].list[1]": 30, "peer[1].list[1][1]": 31,
		"peer[1].sub": 32, "peer[1].sub.deep": 33, "peer[1].many[0].k": 35, "peer[1].many[1]": 36, "peer[1].many[1].k": 37,
		"peer[2]": 38, "peer[2].date": 39, "peer[2].z": 40, "peer[2].z.y.x": 40,
	} {
		if x[path] != line {
			t.Errorf("%s: line %d, want %d", path, x[path], line)
		}
	}
	for path := range x {
		if strings.Contains(path, "not a key") || path == "x" {
			t.Errorf("%s is inside a string", path)
		}
	}
	windows := indexLines([]byte("\ufeff" + strings.ReplaceAll(nasty, "\n", "\r\n")))
	for path, line := range x {
		if windows[path] != line {
			t.Errorf("with CRLF: %s: line %d, want %d", path, windows[path], line)
		}
	}
}

// A file that ends anywhere, or has no assignment where one is looked for, is read to its end.
func TestIndexLinesOfWhatIsNoTOML(t *testing.T) {
	for n := range len(nasty) {
		last := strings.Count(nasty[:n], "\n") + 1
		for path, line := range indexLines([]byte(nasty[:n])) {
			if line < 1 || line > last {
				t.Errorf("the first %d bytes: %s: line %d of %d", n, path, line, last)
			}
		}
	}
	for _, text := range []string{"a [[1, 2]]\n", "a [[1]]", "= [[1]]\n", "a =", "a", "a."} {
		if x := indexLines([]byte(text)); x["a[0]"] != 0 || x["[0]"] != 0 {
			t.Errorf("%q: %v", text, x)
		}
	}
}

func TestLineOfNearest(t *testing.T) {
	x := indexLines([]byte("\n[[peer]]\nname = 'a'\n"))
	for path, want := range map[string]int{"peer[0].name": 3, "peer[0].gone": 2, "peer[7].gone": 2, "gone": 1} {
		if got := x.at(path); got != want {
			t.Errorf("%s: line %d, want %d", path, got, want)
		}
	}
}

// walk calls visit with the path of everything that the TOML library decoded.
func walk(path string, raw any, visit func(string)) {
	switch v := raw.(type) {
	case map[string]any:
		for k, sub := range v {
			visit(join(path, k))
			walk(join(path, k), sub, visit)
		}
	case []map[string]any:
		for i := range v {
			visit(member(path, i))
			walk(member(path, i), v[i], visit)
		}
	case []any:
		for i := range v {
			visit(member(path, i))
			walk(member(path, i), v[i], visit)
		}
	}
}

// The TOML library is the specification: what it finds has a line, and the
// line is one of the file's.
func FuzzIndexLines(f *testing.F) {
	f.Add([]byte(nasty))
	f.Add([]byte("a.b=[{c='''x''',d=\"\"\"y\\\"\"\"\"}]\n[[t]]\n[t.u]\n"))
	f.Add([]byte("'' = 1\n\"\\u0041\" = 2\n[a.\"\"]\nx = [\n#]\n]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		x := indexLines(data)
		last := strings.Count(string(data), "\n") + 1
		for path, line := range x {
			if line < 1 || line > last {
				t.Errorf("%s: line %d of %d", path, line, last)
			}
		}
		raw := map[string]any{}
		if _, err := toml.Decode(string(data), &raw); err != nil {
			return
		}
		walk("", raw, func(path string) {
			if _, ok := x[path]; !ok && strings.Count(path, "[") < maxDepth && strings.Count(path, ".") < maxDepth {
				t.Errorf("no line for %s in\n%s", path, data)
			}
		})
	})
}
