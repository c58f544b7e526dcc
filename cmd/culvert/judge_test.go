package main

import (
	"strings"
	"testing"
)

// The command that the gateway starts is there, says a verdict, and is nobody's business.
func TestJudgeState(t *testing.T) {
	quiet(t)
	path := write(t, strings.Repeat("no database\n", 1000))
	if code, out, stderr := call("judge-state", path); code != exitOK || !strings.HasPrefix(out, "damaged: ") || stderr != "" {
		t.Errorf("%d %q %q", code, out, stderr)
	}
	if code, out, _ := call("judge-state", path+".none"); code != exitOK || !strings.HasPrefix(out, "error: ") {
		t.Errorf("%d %q", code, out)
	}
	if _, out, _ := call("--help"); strings.Contains(out, "judge-state") {
		t.Error("help has it")
	}
}
