package sweep

import (
	"strings"
	"sync/atomic"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string][2]uint64{"": {0, 100}, "1": {0, 1}, "10000": {0, 10000}, "7-7": {7, 8}, "5844-5846": {5844, 5847}} {
		if first, end, err := parse(text, 100); err != nil || first != want[0] || end != want[1] {
			t.Errorf("%q: %d to %d, %v", text, first, end, err)
		}
	}
	for _, text := range []string{"0", "x", "-", "5-4", "1-", "-1", "1-2-3", "18446744073709551615"} {
		if _, _, err := parse(text, 100); err == nil || !strings.Contains(err.Error(), Env) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestRun(t *testing.T) {
	t.Setenv(Env, "3-5")
	var sum atomic.Uint64
	Run(t, 100, func(t *testing.T, seed uint64) Tally {
		sum.Add(1 << (8 * (seed - 3)))
		return Tally{"ran": 1}
	})
	if sum.Load() != 0x010101 {
		t.Errorf("seeds that ran: %x", sum.Load())
	}
}

func TestTable(t *testing.T) {
	p := progress{name: "TestX", happened: Tally{}}
	p.note(9, Tally{"rekeys": 3, "deaths": 1}, true, false)
	p.note(4, Tally{"rekeys": 4}, true, false)
	p.note(5, nil, false, false)
	_, got, _ := strings.Cut(p.table(), " seeds in ")
	_, got, _ = strings.Cut(got, ", ")
	if want := "2 failed: 4, 9\n           1  deaths\n           7  rekeys\n"; got != want {
		t.Errorf("%q", got)
	}
}
