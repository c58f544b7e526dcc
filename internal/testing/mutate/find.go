package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
)

// mutant is one change of one place.
type mutant struct {
	id         int
	file       string // below the root
	line       int
	kind       string
	what       string // the change, for people
	start, end int    // the bytes that are replaced
	fn         [2]int // lines of the function around it
	flow       bool   // it may take away what ends the function
	alone      bool   // a constant: it needs a build of its own
	// text makes the replacement; r renders the bytes from one offset to another, with the mutants in
	// them, and on is the expression that is true while this one is in force.
	text func(r func(from, to int) string, on string) string
}

// finder walks through one file.
type finder struct {
	fset  *token.FileSet
	file  *token.File
	name  string
	src   []byte
	stack []ast.Node
	list  []*mutant
}

// find lists the mutants of a file, in the order of their places.
func find(path, name string) ([]*mutant, []byte, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	f := &finder{fset: token.NewFileSet(), name: name, src: src}
	tree, err := parser.ParseFile(f.fset, path, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}
	f.file = f.fset.File(tree.Pos())
	ast.Inspect(tree, func(n ast.Node) bool {
		if n == nil {
			f.stack = f.stack[:len(f.stack)-1]
			return true
		}
		f.stack = append(f.stack, n)
		f.visit(n)
		return true
	})
	return f.list, src, nil
}

func (f *finder) at(p token.Pos) int { return f.file.Offset(p) }

// source is a piece of the file in one line.
func (f *finder) source(n ast.Node) string {
	return strings.Join(strings.Fields(string(f.src[f.at(n.Pos()):f.at(n.End())])), " ")
}

func (f *finder) add(kind string, n ast.Node, what string, text func(r func(from, to int) string, on string) string) *mutant {
	m := &mutant{file: f.name, line: f.file.Line(n.Pos()), kind: kind, what: what, start: f.at(n.Pos()), end: f.at(n.End()), text: text}
	for _, p := range slices.Backward(f.stack) {
		if d, ok := p.(*ast.FuncDecl); ok {
			m.fn = [2]int{f.file.Line(d.Pos()), f.file.Line(d.End())}
			break
		}
	}
	f.list = append(f.list, m)
	return m
}

func (f *finder) visit(n ast.Node) {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		f.binary(n)
	case *ast.IfStmt:
		from, to := f.at(n.Cond.Pos()), f.at(n.Cond.End())
		f.add("condition", n.Cond, f.source(n.Cond)+" is negated", func(r func(from, to int) string, on string) string {
			return on + " != (" + r(from, to) + ")"
		})
	case *ast.IndexExpr:
		f.index(n.Index)
	case *ast.SliceExpr:
		f.index(n.Low)
		f.index(n.High)
	case *ast.ExprStmt, *ast.AssignStmt, *ast.IncDecStmt, *ast.DeferStmt, *ast.ReturnStmt, *ast.BranchStmt:
		f.statement(n.(ast.Stmt))
	case *ast.CaseClause:
		f.clause(n)
	case *ast.ForStmt:
		f.loop(n.Body)
	case *ast.RangeStmt:
		f.loop(n.Body)
	case *ast.GenDecl:
		if n.Tok == token.CONST {
			f.constants(n)
		}
	}
}

var otherBound = map[token.Token]string{token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">"}

func (f *finder) binary(n *ast.BinaryExpr) {
	if f.constant() {
		return
	}
	from, to := f.at(n.Pos()), f.at(n.End())
	a, b, c, d := f.at(n.X.Pos()), f.at(n.X.End()), f.at(n.Y.Pos()), f.at(n.Y.End())
	add := func(kind, what string, other func(r func(from, to int) string) string) {
		f.add(kind, n, f.source(n)+": "+what, func(r func(from, to int) string, on string) string {
			return "(" + on + " && (" + other(r) + ") || !" + on + " && (" + r(from, to) + "))"
		})
	}
	switch n.Op {
	case token.LSS, token.LEQ, token.GTR, token.GEQ:
		op := otherBound[n.Op]
		add("bound", n.Op.String()+" becomes "+op, func(r func(from, to int) string) string { return r(a, b) + " " + op + " " + r(c, d) })
		fallthrough
	case token.EQL, token.NEQ:
		for _, by := range []string{" + 1", " - 1"} {
			if number(n.Y) && !(by == " - 1" && f.source(n.Y) == "0") {
				add("bound", f.source(n.Y)+" becomes "+f.source(n.Y)+by, func(r func(from, to int) string) string {
					return r(a, b) + " " + n.Op.String() + " " + r(c, d) + by
				})
			}
		}
	case token.LAND, token.LOR:
		add("operand", "without "+f.source(n.X), func(r func(from, to int) string) string { return r(c, d) })
		add("operand", "without "+f.source(n.Y), func(r func(from, to int) string) string { return r(a, b) })
	}
}

func number(e ast.Expr) bool {
	l, ok := e.(*ast.BasicLit)
	return ok && l.Kind == token.INT
}

// constant reports whether the walk is in a declaration of constants or of a type.
func (f *finder) constant() bool {
	return slices.ContainsFunc(f.stack, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			return n.Tok == token.CONST || n.Tok == token.TYPE
		case *ast.ArrayType:
			return true
		}
		return false
	})
}

// index changes a number that is an index or an end of a slice.
func (f *finder) index(e ast.Expr) {
	if e == nil || !number(e) || f.constant() {
		return
	}
	from, to := f.at(e.Pos()), f.at(e.End())
	f.add("bound", e, "the index "+f.source(e)+" becomes "+f.source(e)+"+1", func(r func(from, to int) string, on string) string {
		return r(from, to) + " + " + strings.Replace(on, "mutant(", "mutantAdds(", 1)
	})
}

func (f *finder) constants(d *ast.GenDecl) {
	for _, s := range d.Specs {
		for _, v := range s.(*ast.ValueSpec).Values {
			if !number(v) {
				continue
			}
			for _, by := range []string{" + 1", " - 1"} {
				m := f.add("bound", v, f.source(s)+": "+f.source(v)+" becomes "+f.source(v)+by, func(r func(from, to int) string, on string) string {
					return "(" + f.source(v) + by + ")"
				})
				m.alone = true
			}
		}
	}
}

// statement leaves out a statement.
func (f *finder) statement(s ast.Stmt) {
	flow := false
	switch s := s.(type) {
	case *ast.ExprStmt:
		call, ok := s.X.(*ast.CallExpr)
		if !ok || f.writesLog(call) {
			return
		}
		if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "panic" {
			return
		}
	case *ast.AssignStmt:
		if s.Tok == token.DEFINE || f.source(s.Lhs[0]) == "_" {
			return
		}
	case *ast.BranchStmt:
		if s.Tok == token.GOTO || s.Tok == token.FALLTHROUGH {
			return
		}
		flow = true
	case *ast.ReturnStmt:
		flow = true
	}
	switch parent := f.stack[len(f.stack)-2].(type) {
	case *ast.BlockStmt:
		if flow && parent.List[len(parent.List)-1] == s {
			switch f.stack[len(f.stack)-3].(type) {
			case *ast.FuncDecl, *ast.FuncLit:
				return // a function's last return
			}
		}
	case *ast.CaseClause, *ast.CommClause:
		if c, ok := parent.(*ast.CommClause); ok && c.Comm == s {
			return
		}
	default:
		return // the init or post of an if or for
	}
	kind := "statement"
	if f.rollback() {
		kind = "rollback"
	}
	from, to := f.at(s.Pos()), f.at(s.End())
	m := f.add(kind, s, short(f.source(s))+" is left out", func(r func(from, to int) string, on string) string {
		return "if !" + on + " { " + r(from, to) + " }"
	})
	m.flow = flow
}

func (f *finder) writesLog(c *ast.CallExpr) bool {
	s, ok := c.Fun.(*ast.SelectorExpr)
	return ok && (strings.HasSuffix(f.source(s.X), ".log") || f.source(s.X) == "log" || f.source(s.X) == "slog")
}

// rollback reports whether the walk is where an error is handled, or in a defer.
func (f *finder) rollback() bool {
	for i, n := range f.stack {
		switch n := n.(type) {
		case *ast.DeferStmt:
			return true
		case *ast.IfStmt:
			if i+1 < len(f.stack) && f.stack[i+1] == n.Body && strings.Contains(f.source(n.Cond), "err != nil") {
				return true
			}
		}
	}
	return false
}

// clause has a case do nothing.
func (f *finder) clause(c *ast.CaseClause) {
	if len(c.Body) == 0 {
		return
	}
	from, to := f.at(c.Body[0].Pos()), f.at(c.Body[len(c.Body)-1].End())
	name := "default"
	if c.List != nil {
		name = short(f.source(c.List[0]))
	}
	m := f.add("case", c, "case "+name+" does nothing", func(r func(from, to int) string, on string) string {
		return "if !" + on + " { " + r(from, to) + " }"
	})
	m.start, m.end, m.flow = from, to, true
}

// loop has a loop end after its first round.
func (f *finder) loop(b *ast.BlockStmt) {
	if len(b.List) == 0 {
		return
	}
	from, to := f.at(b.Lbrace), f.at(b.Rbrace)
	m := f.add("loop", f.stack[len(f.stack)-1], "the loop ends after its first round", func(r func(from, to int) string, on string) string {
		return r(from, to) + "; if " + on + " { break }; "
	})
	m.start, m.end, m.flow = from, to, true
}

func short(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
