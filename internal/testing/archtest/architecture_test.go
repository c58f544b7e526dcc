package archtest

import (
	"go/ast"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// tableUnder are the rows of the first table below a heading or line of
// docs/architecture.md that begins with start, without its head.
func tableUnder(t *testing.T, start string) [][]string {
	t.Helper()
	_, rest, found := strings.Cut(read(t, "docs/architecture.md"), "\n"+start)
	if !found {
		t.Fatalf("docs/architecture.md has no line %q", start)
	}
	var rows [][]string
	for _, line := range strings.Split(rest, "\n") {
		if strings.HasPrefix(line, "|") {
			rows = append(rows, strings.Split(strings.Trim(line, "| "), " | "))
		} else if len(rows) > 0 {
			break
		}
	}
	if len(rows) < 3 {
		t.Fatalf("no table below %q", start)
	}
	return rows[2:]
}

var quoted = regexp.MustCompile("`([^`]+)`")

// names are the words in code quotes.
func names(cell string) []string {
	var all []string
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	return all
}

// receiversOf are the types of the packages below folder that have a method.
func receiversOf(t *testing.T, folder, method string) []string {
	t.Helper()
	all := map[string]bool{}
	for _, s := range sources(t) {
		if s.test || !within(s.room, folder) {
			continue
		}
		for _, d := range s.ast.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Recv != nil && d.Name.Name == method {
				all[receiver(d.Recv.List[0].Type)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// TestInputsAndOutputsAreInTheTable: docs/architecture.md lists each input, output and Ask
// of the endpoint, and no other.
func TestInputsAndOutputsAreInTheTable(t *testing.T) {
	for heading, method := range map[string]string{"Inputs": "input", "Outputs": "output", "Asks": "Do"} {
		var got []string
		for _, row := range tableUnder(t, "**"+heading+"**") {
			got = append(got, names(row[0])...)
		}
		slices.Sort(got)
		want := receiversOf(t, "ike", method)
		if len(want) < 8 || !slices.Equal(got, want) {
			t.Errorf("%s: the table has\n%v\nthe code\n%v", heading, got, want)
		}
	}
}

// TestExchangesAreInTheTable: the tasks of each exchange stand in docs/architecture.md in
// the order in which ike/v2/exchanges.go has them.
func TestExchangesAreInTheTable(t *testing.T) {
	var want []string
	for _, s := range sources(t) {
		if s.path != "ike/v2/exchanges.go" {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			list, ok := n.(*ast.CompositeLit)
			array, is := (*ast.ArrayType)(nil), false
			if ok {
				array, is = list.Type.(*ast.ArrayType)
			}
			if !is || receiver(array.Elt) != "task" {
				return true
			}
			var tasks []string
			for _, e := range list.Elts {
				if u, ok := e.(*ast.UnaryExpr); ok {
					e = u.X
				}
				if lit, ok := e.(*ast.CompositeLit); ok {
					tasks = append(tasks, receiver(lit.Type))
				} else if c, ok := e.(*ast.CallExpr); ok {
					tasks = append(tasks, receiver(c.Fun))
				}
			}
			want = append(want, strings.Join(tasks, ", "))
			return false
		})
	}
	var got []string
	for _, row := range tableUnder(t, "### Exchanges are rows") {
		tasks, _, _ := strings.Cut(row[1], ", then ")
		got = append(got, tasks)
	}
	if len(want) < 8 || !slices.Equal(got, want) {
		t.Errorf("the table has\n%s\nike/v2/exchanges.go\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestPackagesAreInTheTable: each package has a row in docs/architecture.md below the
// heading of its group, and the packages that it may import are those of the rules.
func TestPackagesAreInTheTable(t *testing.T) {
	imports := map[string]map[string]bool{} // of the code
	for _, s := range sources(t) {
		if s.test || within(s.room, "benchmarks") {
			continue
		}
		if imports[s.room] == nil {
			imports[s.room] = map[string]bool{}
		}
		for path := range s.imports() {
			if ours, is := strings.CutPrefix(path, module); is {
				imports[s.room][ours] = true
			}
		}
	}
	rows := map[string]string{} // what the document says
	for _, heading := range []string{"### Top level", "### `internal/packet`", "### `internal/host`", "### `internal/state`", "### `internal/operate`",
		"### `internal/gateway`", "### `internal/testing`"} {
		folder := strings.Trim(strings.TrimPrefix(heading, "### "), "`")
		for _, row := range tableUnder(t, heading) {
			if len(row) != 3 {
				t.Errorf("%s: %d columns: %v", heading, len(row), row)
				continue
			}
			for _, name := range names(row[0]) {
				if folder == "Top level" == within(name, "internal") {
					t.Errorf("%s stands below %s", name, heading)
				}
				if folder != "Top level" && !within(name, folder) && name != "internal/demo" {
					t.Errorf("%s stands below %s", name, heading)
				}
				rows[name] = row[2]
			}
		}
	}
	for room := range imports {
		name := room
		if _, ok := rows[name]; !ok {
			t.Errorf("docs/architecture.md has no row for %s", room)
		}
	}
	for name, may := range rows {
		if _, ok := imports[name]; !ok {
			t.Errorf("docs/architecture.md has a row for %s, which is no package", name)
			continue
		}
		rule, ruled := door(name)
		said := names(may)
		if !ruled {
			if may != "anything" {
				t.Errorf("docs/architecture.md: %s has no rule, and may import anything", name)
			}
			continue
		}
		var want []string
		for _, r := range doors[rule] {
			if r != rule {
				want = append(want, r)
			}
		}
		slices.Sort(want)
		slices.Sort(said)
		if !slices.Equal(said, want) {
			t.Errorf("docs/architecture.md: %s may import %v, and the rule says %v", name, said, want)
		}
	}
}
