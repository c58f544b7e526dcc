package gateway

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/ike/core"
)

// docs/architecture.md lists the services of serviceTable in their order, with what each takes and the file that has it.
func TestServicesAreInTheTable(t *testing.T) {
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "| service | takes | file |\n|---|---|---|\n")
	if !found {
		t.Fatal("docs/architecture.md has no table of services")
	}
	var got []string
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "| "), " | ")
		got = append(got, strings.Join(cells[1:], " in "))
	}

	env := serviceEnv{log: slog.New(slog.DiscardHandler), edges: &Edges{}, state: &state{}, now: time.Now,
		answer: func(core.Answer) {}, input: func(core.Input) {}}
	all := newServices(env, serviceTable)
	defer all.close()
	var want []string
	for i, s := range all.list {
		var takes []string
		for _, v := range s.takes() {
			takes = append(takes, "`"+reflect.TypeOf(v).Name()+"`")
		}
		file, _ := runtime.FuncForPC(reflect.ValueOf(serviceTable[i]).Pointer()).FileLine(reflect.ValueOf(serviceTable[i]).Pointer())
		want = append(want, strings.Join(takes, ", ")+" in `"+filepath.Base(file)+"`")
	}
	if len(want) < 4 || !slices.Equal(got, want) {
		t.Errorf("the table has\n%s\nserviceTable\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
