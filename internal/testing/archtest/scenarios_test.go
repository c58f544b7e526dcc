package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	scenarioTest = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)[A-Za-z0-9]+)(?:/([^`]+))?`")
	scenarioCell = regexp.MustCompile("`interop:([a-z0-9-]+)`")
	cellEnding   = regexp.MustCompile(`-(we|they)-initiate$`)
)

// testsOf is all that the tests of a folder say.
func testsOf(t *testing.T, folder string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(t), filepath.FromSlash(folder), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

// TestScenarios: every test, every case and every cell that docs/scenarios.md
// names is there, and no row of it is empty.
func TestScenarios(t *testing.T) {
	text := read(t, "docs/scenarios.md")
	folders := map[string]string{}
	in := func(folder string) string {
		if _, ok := folders[folder]; !ok {
			folders[folder] = testsOf(t, folder)
		}
		return folders[folder]
	}
	cells := read(t, "docs/interop.md")
	n := 0
	for i, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		columns := strings.Split(strings.Trim(line, "| "), " | ")
		if len(columns) != 2 {
			t.Errorf("docs/scenarios.md:%d: %d columns", i+1, len(columns))
			continue
		}
		tests, named := scenarioTest.FindAllStringSubmatch(columns[1], -1), scenarioCell.FindAllStringSubmatch(columns[1], -1)
		if len(tests)+len(named) == 0 && !strings.HasPrefix(columns[1], "not there") && columns[1] != "shown by" {
			t.Errorf("docs/scenarios.md:%d: no test, and it does not say \"not there\"", i+1)
		}
		if strings.Count(columns[1], "`") != 2*(len(tests)+len(named)) && !strings.HasPrefix(columns[1], "not there") {
			t.Errorf("docs/scenarios.md:%d: something in quotes is neither a test nor a cell: %s", i+1, columns[1])
		}
		n += len(tests) + len(named)
		for _, m := range tests {
			switch {
			case !strings.Contains(in(m[1]), "\nfunc "+m[2]+"("):
				t.Errorf("docs/scenarios.md:%d: there is no %s in %s", i+1, m[2], m[1])
			case m[3] != "" && !strings.Contains(in(m[1]), strconv.Quote(m[3])):
				t.Errorf("docs/scenarios.md:%d: %s in %s has no case %q", i+1, m[2], m[1], m[3])
			}
		}
		for _, m := range named {
			stem := cellEnding.ReplaceAllString(m[1], "")
			if !strings.Contains(cells, "| "+m[1]+" |") && !strings.Contains(in("internal/testing/lab/interop"), strconv.Quote(stem)) {
				t.Errorf("docs/scenarios.md:%d: there is no cell %s", i+1, m[1])
			}
		}
	}
	if n < 100 {
		t.Errorf("%d tests are named", n)
	}
	t.Logf("%d tests and cells are named", n)
}

// TestEveryCollisionIsListed: a script that is added to the table of collisions is
// added to docs/scenarios.md.
func TestEveryCollisionIsListed(t *testing.T) {
	text := read(t, "docs/scenarios.md")
	b, err := os.ReadFile(filepath.Join(root(t), "ike", "collisions_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("(?m)^\t\\{(\"[^\"]+\"), `$").FindAllStringSubmatch(string(b), -1)
	if len(names) < 30 {
		t.Fatalf("%d scripts", len(names))
	}
	unlisted := []string{"child rekey of what the responder lost"} // the peer there is deleting it
	for _, m := range names {
		name, err := strconv.Unquote(m[1])
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text, "`ike.TestCollisions/"+name+"`") && !slices.Contains(unlisted, name) {
			t.Errorf("docs/scenarios.md does not name %q", name)
		}
	}
}
