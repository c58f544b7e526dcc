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
	makefile, err := os.ReadFile("../../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for variable, needed := range map[string][]prerequisite{"LAB_PACKAGES": prerequisites, "GUEST_PACKAGES": guestPrerequisites,
		"LIBRESWAN_PACKAGES": libreswanPrerequisites, "OPENIKED_PACKAGES": openIKEDPrerequisites} {
		line := regexp.MustCompile(`(?m)^` + variable + ` := ((?:.*\\\n)*.*)$`).FindSubmatch(makefile)
		if line == nil {
			t.Fatal("the Makefile has no", variable)
		}
		got := strings.Fields(strings.ReplaceAll(string(line[1]), "\\\n", " "))
		var want []string
		for _, p := range needed {
			want = append(want, p.pkg)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, slices.Compact(want)) {
			t.Errorf("%s of the Makefile is %v; the lab asks for %v", variable, got, want)
		}
		if !regexp.MustCompile(`(?m)^packages:(?:\n\t.*)*\$\(` + variable + `\)`).Match(makefile) {
			t.Errorf("make packages does not install %s", variable)
		}
	}
}
