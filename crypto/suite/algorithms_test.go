package suite

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/algorithms.md has a row for each algorithm, in the order of the tables,
// and each test that it names exists.
func TestAlgorithmsDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/algorithms.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range Encrs {
		want = append(want, Encrs[i].Name)
	}
	for i := range Integs {
		want = append(want, Integs[i].Name)
	}
	rows := regexp.MustCompile(`(?m)^\| ([a-z0-9-]+) \| (.+) \|$`).FindAllStringSubmatch(string(text), -1)
	var got []string
	for _, r := range rows {
		if r[1] == "algorithm" {
			continue
		}
		got = append(got, r[1])
		for _, test := range strings.Split(r[2], ", ") {
			room, name, _ := strings.Cut(test, ".")
			if !tests(t, "../"+room)[name] {
				t.Errorf("%s: there is no %s", r[1], test)
			}
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the document has %v, the tables %v", got, want)
	}
}

// tests are the names of a folder's tests.
func tests(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(folder + "/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
		}
	}
	return names
}
