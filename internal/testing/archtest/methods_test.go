package archtest

import (
	"go/ast"
	"maps"
	"slices"
	"strings"
	"testing"
)

// mostMethods is how many methods a type may have: exported or not, its own or promoted
// from what it embeds. A type with more has several purposes, and a reader cannot hold it.
const mostMethods = 60

func TestNoTypeHasTooManyMethods(t *testing.T) {
	c := count(sources(t))
	if len(c) < 100 {
		t.Fatalf("only %d types were found", len(c))
	}
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if n := len(c.all(name, nil)); n > mostMethods {
			t.Errorf("%s has %d methods, at most %d are allowed: move what belongs together into a type of its own", name, n, mostMethods)
		}
	}
}

// types are those of the repository by "folder.Name". What is embedded from other
// modules is not followed.
type types map[string]*typ

type typ struct {
	methods map[string]bool
	embeds  []string
}

func (c types) at(name string) *typ {
	if c[name] == nil {
		c[name] = &typ{methods: map[string]bool{}}
	}
	return c[name]
}

// count reads the types of all files but tests.
func count(all []*source) types {
	c := types{}
	for _, s := range all {
		if s.test {
			continue
		}
		rooms := map[string]string{}
		for path, spec := range s.imports() {
			if room, ours := strings.CutPrefix(path, module); ours {
				name := path[strings.LastIndex(path, "/")+1:]
				if spec.Name != nil {
					name = spec.Name.Name
				}
				rooms[name] = room
			}
		}
		for _, d := range s.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil {
					if name := embedded(s.room, rooms, d.Recv.List[0].Type); name != "" {
						c.at(name).methods[d.Name.Name] = true
					}
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if ts, ok := spec.(*ast.TypeSpec); ok {
						c.declare(s.room, rooms, ts)
					}
				}
			}
		}
	}
	return c
}

func (c types) declare(room string, rooms map[string]string, ts *ast.TypeSpec) {
	t := c.at(room + "." + ts.Name.Name)
	var fields *ast.FieldList
	switch u := ts.Type.(type) {
	case *ast.StructType:
		fields = u.Fields
	case *ast.InterfaceType:
		fields = u.Methods
	default:
		if ts.Assign.IsValid() { // an alias has the methods of what it stands for
			t.embeds = append(t.embeds, embedded(room, rooms, ts.Type))
		}
		return
	}
	_, ofInterface := ts.Type.(*ast.InterfaceType)
	for _, f := range fields.List {
		for _, n := range f.Names {
			if ofInterface {
				t.methods[n.Name] = true
			}
		}
		if len(f.Names) == 0 {
			t.embeds = append(t.embeds, embedded(room, rooms, f.Type))
		}
	}
}

// embedded is the name of a type as a receiver or an embedded field has it; "" if it is
// of another module.
func embedded(room string, rooms map[string]string, e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return embedded(room, rooms, e.X)
	case *ast.IndexExpr:
		return embedded(room, rooms, e.X)
	case *ast.IndexListExpr:
		return embedded(room, rooms, e.X)
	case *ast.Ident:
		return room + "." + e.Name
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok && rooms[x.Name] != "" {
			return rooms[x.Name] + "." + e.Sel.Name
		}
	}
	return ""
}

// all is the methods of a type with those that are promoted.
func (c types) all(name string, seen []string) map[string]bool {
	t := c[name]
	if t == nil || slices.Contains(seen, name) {
		return nil
	}
	list := maps.Clone(t.methods)
	for _, e := range t.embeds {
		maps.Copy(list, c.all(e, append(seen, name)))
	}
	return list
}

// Methods are counted once each: own, promoted over two packages and through pointers and
// interfaces, and of an alias.
func TestMethodsAreCounted(t *testing.T) {
	var all []*source
	for path, code := range map[string]string{
		"a/a.go":       "package a\nimport b \"culvert/a/c\"\ntype T struct { *b.U; n int; f func() }\nfunc (t *T) One() {}\nfunc (T) two() {}\ntype A = T\n",
		"a/a_linux.go": "package a\nfunc (t *T) Three() {}\n",
		"a/a_other.go": "package a\nfunc (t *T) Three() {}\n",
		"a/a_test.go":  "package a\nfunc (t *T) Four() {}\n",
		"a/c/c.go":     "package c\nimport \"sync\"\ntype U struct { I; sync.Mutex }\nfunc (U) Three() {}\nfunc (U) Five() {}\ntype I interface { Six(); V }\ntype V interface { seven(int) }\n",
	} {
		s, err := parse(path, code)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	c := count(all)
	for name, want := range map[string]string{"a.T": "Five One Six Three seven two", "a.A": "Five One Six Three seven two", "a/c.U": "Five Six Three seven", "a/c.V": "seven"} {
		if got := strings.Join(slices.Sorted(maps.Keys(c.all(name, nil))), " "); got != want {
			t.Errorf("%s has %s, not %s", name, got, want)
		}
	}
}
