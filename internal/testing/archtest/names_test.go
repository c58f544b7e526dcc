package archtest

import (
	"go/ast"
	"strings"
	"testing"
)

// sayWhatTheirInterfaceSays are methods whose interface has the doc comment: those of fmt,
// slog, encoding and io, of core.Work and of message.Payload.
var sayWhatTheirInterfaceSays = map[string]bool{
	"String": true, "GoString": true, "Format": true, "LogValue": true, "Error": true, "Unwrap": true, "Is": true,
	"MarshalText": true, "UnmarshalText": true, "MarshalJSON": true, "UnmarshalJSON": true, "UnmarshalTOML": true,
	"Close": true, "Do": true, "Type": true, "AppendBody": true,
}

// notDocumented calls missing with each exported name of a file that has no doc comment. A
// group of constants or variables needs one comment; each of its lines may have one instead.
func notDocumented(s *source, missing func(n ast.Node, name string)) {
	for _, d := range s.ast.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if !d.Name.IsExported() || d.Doc != nil {
				continue
			}
			if d.Recv != nil && (sayWhatTheirInterfaceSays[d.Name.Name] || !ast.IsExported(receiver(d.Recv.List[0].Type))) {
				continue
			}
			missing(d, d.Name.Name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
						missing(spec, spec.Name.Name)
					}
				case *ast.ValueSpec:
					for _, n := range spec.Names {
						if n.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
							missing(n, n.Name)
						}
					}
				}
			}
		}
	}
}

// receiver is the name of a method's type.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func everyExportedNameHasADocComment(s *source, report report) {
	if s.test || s.ast.Name.Name == "main" {
		return
	}
	notDocumented(s, func(n ast.Node, name string) {
		report("%s: %s has no doc comment: say what it is, with units, ownership and errors", s.line(n), name)
	})
}

func TestNotDocumented(t *testing.T) {
	for code, want := range map[string]string{
		"func F() {}":                                      "F",
		"// F is one.\nfunc F() {}":                        "",
		"func f() {}":                                      "",
		"type T int\nfunc (T) String() string":             "T",
		"// T is one.\ntype T int\nfunc (*T) M() {}":       "M",
		"type t int\nfunc (t) M() {}":                      "",
		"const (\n\tA = 1\n\tB = 2 // the second\n)":       "A",
		"// Both.\nconst (\n\tA = 1\n\tB = 2\n)":           "",
		"var (\n\t// V is one.\n\tV = 1\n\tW, w = 2, 3\n)": "W",
	} {
		s, err := parse("esp/a.go", "package p\n"+code)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		notDocumented(s, func(_ ast.Node, name string) { got = append(got, name) })
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", code, got, want)
		}
	}
}
