package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const module = "culvert/"

// file is a parsed file that is no test. pkg is its folder below the root.
type file struct {
	path, pkg string
	ast       *ast.File
}

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	files, err := read(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
	fmt.Println("methods (unexported and promoted ones too) and fields of the largest types:")
	for _, t := range largest(files, 12) {
		fmt.Printf("  %-28s %4d methods %4d fields\n", t.name, t.methods, t.fields)
	}
	fmt.Println("files with a name or string of a feature:")
	for _, f := range features {
		fmt.Printf("  %-12s %4d files\n", f.name, touched(files, f.word))
	}
	fmt.Println("arrows between packages:")
	fmt.Printf("  %d imports of %d packages\n", len(arrows(files)), packages(files))
	fmt.Println("return statements on the way:")
	for _, w := range ways {
		found, n := returns(files, w.functions)
		fmt.Printf("  %-36s %4d in %d functions\n", w.name, n, found)
	}
}

// read parses the files below root that are no tests and no support of tests.
func read(root string) (files []file, err error) {
	fset := token.NewFileSet()
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, p)
		rel = filepath.ToSlash(rel)
		switch {
		case err != nil:
			return err
		case d.IsDir() && rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || isSupport(rel)):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go"):
			return nil
		}
		parsed, err := parser.ParseFile(fset, p, nil, parser.SkipObjectResolution)
		files = append(files, file{rel, path.Dir(rel), parsed})
		return err
	})
	return files, err
}

// isSupport says whether a folder holds support of tests, where it is now and
// where it was before internal had groups.
func isSupport(folder string) bool {
	return slices.Contains([]string{"internal/testing", "internal/lab", "internal/simnet", "internal/vectors", "internal/archtest",
		"internal/testsum", "internal/testcert", "internal/beside", "internal/outputs", "benchmarks"}, folder)
}

// size is the size of a type.
type size struct {
	name            string
	methods, fields int
}

// declared is a named type as its package declares it.
type declared struct {
	expr    ast.Expr
	methods int
	imports map[string]string // in the file, by name
	pkg     string
}

// largest are the n types with the most methods.
func largest(files []file, n int) []size {
	types := map[string]*declared{} // by package and name
	at := func(name string) *declared {
		if types[name] == nil {
			types[name] = &declared{}
		}
		return types[name]
	}
	for _, f := range files {
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil {
					at(f.pkg+"."+receiver(d)).methods++
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok {
						t := at(f.pkg + "." + s.Name.Name)
						t.expr, t.pkg, t.imports = s.Type, f.pkg, imports(f)
					}
				}
			}
		}
	}
	var all []size
	for name, t := range types {
		all = append(all, size{name, promoted(types, t, 0), fields(t)})
	}
	slices.SortFunc(all, func(a, b size) int {
		if a.methods != b.methods {
			return b.methods - a.methods
		}
		return strings.Compare(a.name, b.name)
	})
	return all[:min(n, len(all))]
}

// receiver is the name of the type that a method belongs to.
func receiver(d *ast.FuncDecl) string { return base(d.Recv.List[0].Type) }

// base is the name of a type without its pointer, package and parameters.
func base(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return base(e.X)
	case *ast.IndexExpr:
		return base(e.X)
	case *ast.IndexListExpr:
		return base(e.X)
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			return x.Name + "." + e.Sel.Name
		}
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// promoted is how many methods a type has, with those of what it embeds of ours.
func promoted(types map[string]*declared, t *declared, depth int) int {
	n := t.methods
	if depth > 8 {
		return n
	}
	embed := func(e ast.Expr) {
		name := base(e)
		if pkg, sel, ok := strings.Cut(name, "."); ok {
			name = t.imports[pkg] + "." + sel
		} else {
			name = t.pkg + "." + name
		}
		if other := types[name]; other != nil {
			n += promoted(types, other, depth+1)
		}
	}
	switch e := t.expr.(type) {
	case *ast.StructType:
		for _, f := range e.Fields.List {
			if len(f.Names) == 0 {
				embed(f.Type)
			}
		}
	case *ast.InterfaceType:
		for _, f := range e.Methods.List {
			n += len(f.Names)
			if len(f.Names) == 0 {
				embed(f.Type)
			}
		}
	}
	return n
}

// fields is how many fields a struct has; an embedded one counts once.
func fields(t *declared) (n int) {
	s, ok := t.expr.(*ast.StructType)
	if !ok {
		return 0
	}
	for _, f := range s.Fields.List {
		n += max(1, len(f.Names))
	}
	return n
}

// imports are the packages of ours that a file imports, by the name that they have in it.
func imports(f file) map[string]string {
	all := map[string]string{}
	for _, i := range f.ast.Imports {
		whole, _ := strconv.Unquote(i.Path.Value)
		ours, is := strings.CutPrefix(whole, module)
		if !is {
			continue
		}
		name := path.Base(ours)
		if i.Name != nil {
			name = i.Name.Name
		}
		all[name] = ours
	}
	return all
}

// features are three features of the protocol, by what their names have in common.
var features = []struct {
	name string
	word *regexp.Regexp
}{
	{"resumption", regexp.MustCompile(`(?i)resum|ticket`)},
	{"MOBIKE", regexp.MustCompile(`(?i)mobike|updatesaaddresses|cookie2|localaddrs|additionalip`)},
	{"redirect", regexp.MustCompile(`(?i)redirect`)},
}

// touched is how many files have an identifier or a string that matches; comments do not count.
func touched(files []file, word *regexp.Regexp) (n int) {
	for _, f := range files {
		hit := false
		ast.Inspect(f.ast, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.Ident:
				hit = hit || word.MatchString(node.Name)
			case *ast.BasicLit:
				hit = hit || node.Kind == token.STRING && word.MatchString(node.Value)
			}
			return !hit
		})
		if hit {
			n++
		}
	}
	return n
}

// arrows are the pairs of packages of ours of which one imports the other.
func arrows(files []file) map[[2]string]bool {
	all := map[[2]string]bool{}
	for _, f := range files {
		for _, to := range imports(f) {
			all[[2]string{f.pkg, to}] = true
		}
	}
	return all
}

func packages(files []file) int {
	all := map[string]bool{}
	for _, f := range files {
		all[f.pkg] = true
	}
	return len(all)
}

// ways are the functions that every packet and every datagram may pass, by package and name.
var ways = []struct {
	name      string
	functions *regexp.Regexp
}{
	{"a packet out", regexp.MustCompile(`datapath\.(\w+\.)?(classify|lookUp|prepare|clear|run|seal|admit|send|batch|SendPlain)$`)},
	{"a packet in", regexp.MustCompile(`datapath\.(\w+\.)?(demux|open|within|inner|accept|behind|allowed|parse|spend|countRun|write|Receive)$`)},
	{"a datagram to its SA", regexp.MustCompile(`^ike\.(Endpoint\.)?(Handle|datagram|otherVersion|newcomer|admit)$`)},
	{"a datagram in its SA", regexp.MustCompile(`^ike/(v2|sa)\.(SA|IKE|exchange|window)\.(Datagram|response|take|request|answer|answered|respond|repeatResponse|reject)$`)},
}

// returns counts the functions that match, and the return statements in them.
func returns(files []file, functions *regexp.Regexp) (found, n int) {
	for _, f := range files {
		for _, d := range f.ast.Decls {
			d, ok := d.(*ast.FuncDecl)
			if !ok || d.Body == nil {
				continue
			}
			name := f.pkg + "."
			if d.Recv != nil {
				name += receiver(d) + "."
			}
			if !functions.MatchString(name + d.Name.Name) {
				continue
			}
			found++
			ast.Inspect(d.Body, func(node ast.Node) bool {
				if _, is := node.(*ast.ReturnStmt); is {
					n++
				}
				return true
			})
		}
	}
	return found, n
}
