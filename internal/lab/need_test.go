//go:build linux

package lab

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestMakefileInstallsPrerequisites: `make test` installs exactly what Need asks for.
func TestMakefileInstallsPrerequisites(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^LAB_PACKAGES := ((?:.*\\\n)*.*)$`).FindSubmatch(makefile)
	if line == nil {
		t.Fatal("the Makefile has no LAB_PACKAGES")
	}
	got := strings.Fields(strings.ReplaceAll(string(line[1]), "\\\n", " "))
	var want []string
	for _, p := range prerequisites {
		want = append(want, p.pkg)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, slices.Compact(want)) {
		t.Errorf("the Makefile installs %v; Need asks for %v", got, want)
	}
}
