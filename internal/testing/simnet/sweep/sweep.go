package sweep

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Env says which seeds run: "10000" are 0 to 9999, "5844-5846" three of them.
// While it is set, progress and what happened are written to standard error.
const Env = "CULVERT_SEEDS"

// Tally counts what happened in a run, by name.
type Tally map[string]int

// every is the pause between two lines of progress.
const every = 10 * time.Second

// Run calls run for each seed, in a subtest of its own, on all processors. Without
// Env these are the seeds below few. A seed that fails says how to repeat it.
func Run(t *testing.T, few uint64, run func(t *testing.T, seed uint64) Tally) {
	text := os.Getenv(Env)
	first, end, err := parse(text, few)
	if err != nil {
		t.Fatal(err)
	}
	p := progress{name: t.Name(), all: end - first, start: time.Now(), happened: Tally{}}
	p.said = p.start
	t.Run("seed", func(t *testing.T) {
		for seed := first; seed < end; seed++ {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				var happened Tally
				defer func() {
					if t.Failed() {
						t.Logf("to repeat it: %s=%d-%d go test %s -run '^%s$' -v", Env, seed, seed, folder(), p.name)
					}
					p.note(seed, happened, t.Failed(), text != "")
				}()
				happened = run(t, seed)
			})
		}
	})
	if text != "" {
		fmt.Fprint(os.Stderr, p.table())
	}
}

// folder is the package under test as go test takes it: the test runs there.
func folder() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	return dir
}

// parse reads Env: the first seed and the one after the last.
func parse(text string, few uint64) (first, end uint64, err error) {
	if text == "" {
		return 0, few, nil
	}
	a, b, isRange := strings.Cut(text, "-")
	if !isRange {
		a, b = "0", text
	}
	first, err1 := strconv.ParseUint(a, 10, 63)
	end, err2 := strconv.ParseUint(b, 10, 63)
	if isRange {
		end++
	}
	if err1 != nil || err2 != nil || first >= end {
		return 0, 0, fmt.Errorf("%s=%q: write a number of seeds, such as 10000, or the first and the last one, such as 5844-5846", Env, text)
	}
	return first, end, nil
}

type progress struct {
	sync.Mutex
	name        string
	all, done   uint64
	bad         []uint64
	start, said time.Time
	happened    Tally
}

func (p *progress) note(seed uint64, happened Tally, failed, aloud bool) {
	p.Lock()
	defer p.Unlock()
	p.done++
	if failed {
		p.bad = append(p.bad, seed)
	}
	for what, n := range happened {
		p.happened[what] += n
	}
	if now := time.Now(); aloud && now.Sub(p.said) >= every {
		p.said = now
		fmt.Fprintf(os.Stderr, "%s: %d of %d seeds in %v, %d failed\n", p.name, p.done, p.all, now.Sub(p.start).Round(time.Second), len(p.bad))
	}
}

// table is the end: how many seeds passed, and what happened in all of them together.
func (p *progress) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d seeds in %v, %d failed", p.name, p.done, time.Since(p.start).Round(time.Second), len(p.bad))
	slices.Sort(p.bad)
	for i, seed := range p.bad[:min(len(p.bad), 20)] {
		fmt.Fprintf(&b, "%s%d", []string{", ", ": "}[btoi(i == 0)], seed)
	}
	b.WriteByte('\n')
	var names []string
	for what := range p.happened {
		names = append(names, what)
	}
	slices.Sort(names)
	for _, what := range names {
		fmt.Fprintf(&b, "%12d  %s\n", p.happened[what], what)
	}
	return b.String()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
