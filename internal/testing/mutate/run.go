package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// test is a test function of one of the test binaries.
type test struct {
	bin, dir string
	name     string
	cpu      time.Duration // that it used without a mutant
	reaches  map[int]bool
}

// outcome is what became of a mutant.
type outcome struct {
	*mutant
	found      bool
	equivalent string // why it cannot be found
	reached    int    // by so many tests
}

// try makes a sample of a package's mutants and runs the tests that reach them.
func (p *pkg) try(o options, equal []equivalent) (*result, error) {
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	sample, err := p.sample(o, dir)
	if err != nil {
		return nil, err
	}
	r := &result{pkg: p, sample: p.sum(sample)}
	survivors, err := earlier(o.again, r.sample)
	if err != nil {
		return nil, err
	}
	if o.list {
		fmt.Println("sample", r.sample)
		for _, m := range sample {
			fmt.Printf("%s:%d: %s: %s\n", m.file, m.line, m.kind, m.what)
		}
		return r, nil
	}
	together := slices.DeleteFunc(slices.Clone(sample), func(m *mutant) bool { return m.alone })
	if o.own {
		delete(exercised, p.dir)
	}
	tests, err := p.binaries(dir, together)
	if err != nil {
		return nil, err
	}
	only, err := regexp.Compile(o.run)
	if err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	tests = slices.DeleteFunc(tests, func(t *test) bool { return !only.MatchString(t.name) })
	tests = p.measure(o, r, dir, tests)
	r.outcomes = make([]outcome, len(sample))
	var mu sync.Mutex
	done, survived := 0, 0
	each(o.parallel, len(sample), func(i int) {
		x := &r.outcomes[i]
		x.mutant = sample[i]
		x.equivalent = reason(equal, p, x.mutant)
		switch {
		case x.equivalent != "":
		case survivors != nil && !survivors[p.says(x.mutant)]:
			x.found = true
		default:
			x.found, x.reached = p.judge(x.mutant, tests)
		}
		mu.Lock()
		defer mu.Unlock()
		if done++; !x.found && x.equivalent == "" {
			survived++
		}
		fmt.Fprintf(os.Stderr, "\r%s: %d of %d mutants, %d survived  ", p.dir, done, len(sample), survived)
	})
	fmt.Fprintln(os.Stderr)
	return r, nil
}

// each calls f for 0 to n-1, some at once.
func each(parallel, n int, f func(i int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, max(parallel, 1))
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	wg.Wait()
}

// sample draws mutants that compile.
func (p *pkg) sample(o options, dir string) ([]*mutant, error) {
	var rest []*mutant
	for _, i := range rand.New(rand.NewPCG(o.seed, 0)).Perm(len(p.all)) {
		if m := p.all[i]; strings.Contains(m.file, o.at) {
			rest = append(rest, m)
		}
	}
	var list []*mutant
	for len(list) < o.n && len(rest) > 0 {
		n := min(o.n-len(list)+5, len(rest))
		var err error
		var alone []*mutant
		for _, m := range rest[:n] {
			if m.alone {
				alone = append(alone, m)
			} else {
				list = append(list, m)
			}
		}
		rest = rest[n:]
		if list, err = p.compiles(dir, list); err != nil {
			return nil, err
		}
		for _, m := range alone {
			if one, err := p.compiles(dir, []*mutant{m}); err != nil {
				return nil, err
			} else {
				list = append(list, one...)
			}
		}
		if len(alone) > 0 && len(list) < o.n && len(rest) > 0 {
			list = slices.DeleteFunc(list, func(m *mutant) bool {
				if m.alone {
					rest = append([]*mutant{m}, rest...)
				}
				return m.alone
			})
		}
	}
	list = list[:min(len(list), o.n)]
	slices.SortFunc(list, func(a, b *mutant) int { return a.id - b.id })
	return list, nil
}

// binaries builds the test binaries that exercise the package, with mutants, and lists their tests.
func (p *pkg) binaries(dir string, list []*mutant) (tests []*test, err error) {
	over, err := p.overlay(dir, list)
	if err != nil {
		return nil, err
	}
	for i, of := range append([]string{p.dir}, exercised[p.dir]...) {
		bin := filepath.Join(dir, fmt.Sprintf("%d.test", i))
		if out, err := p.goTool("test", "-c", "-o", bin, "-overlay", over, "./"+of); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, out)
		}
		if _, err := os.Stat(bin); err != nil {
			continue // there are no tests
		}
		at := filepath.Join(p.root, of)
		cmd := exec.Command(bin, "-test.list", "^(Test|Fuzz|Example)")
		cmd.Dir = at
		out, err := cmd.Output()
		if err != nil {
			return nil, err
		}
		not := regexp.MustCompile(leftOut[of])
		for name := range strings.FieldsSeq(string(out)) {
			if leftOut[of] == "" || !not.MatchString(name) {
				tests = append(tests, &test{bin: bin, dir: at, name: name})
			}
		}
	}
	return tests, nil
}

// measure runs each test alone without a mutant. It returns those that pass and are quick, the quickest first.
func (p *pkg) measure(o options, r *result, dir string, tests []*test) (good []*test) {
	var mu sync.Mutex
	done := 0
	each(o.parallel, len(tests), func(i int) {
		t := tests[i]
		reached := filepath.Join(dir, fmt.Sprintf("reached%d", i))
		pass, cpu := execute(t.bin, t.dir, t.name, 0, o.longest, "MUTANT_REACHED="+reached)
		t.cpu, t.reaches = cpu, map[int]bool{}
		b, _ := os.ReadFile(reached)
		for n := range strings.FieldsSeq(string(b)) {
			id, _ := strconv.Atoi(n)
			t.reaches[id] = true
		}
		mu.Lock()
		defer mu.Unlock()
		done++
		fmt.Fprintf(os.Stderr, "\r%s: %d of %d tests measured  ", p.dir, done, len(tests))
		if pass {
			good = append(good, t)
		} else {
			r.left = append(r.left, t.name)
		}
	})
	fmt.Fprintln(os.Stderr)
	slices.Sort(r.left)
	slices.SortFunc(good, func(a, b *test) int { return int(a.cpu - b.cpu) })
	return good
}

// judge reports whether a test finds the mutant, and how many reach it.
func (p *pkg) judge(m *mutant, tests []*test) (found bool, reached int) {
	if m.alone {
		return p.judgeAlone(m, tests)
	}
	var own []*test
	for _, t := range tests {
		if t.reaches[m.id] {
			own = append(own, t)
		}
	}
	return fails(own, m.id), len(own)
}

// judgeAlone builds a mutant of its own; which tests reach a constant is not known.
func (p *pkg) judgeAlone(m *mutant, tests []*test) (found bool, reached int) {
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return true, 0
	}
	defer os.RemoveAll(dir)
	built, err := p.binaries(dir, []*mutant{m})
	if err != nil {
		return true, 0 // the tests do not compile with it
	}
	var own []*test
	for _, t := range tests {
		for _, b := range built {
			if filepath.Base(b.bin) == filepath.Base(t.bin) && b.name == t.name {
				own = append(own, &test{bin: b.bin, dir: b.dir, name: b.name, cpu: t.cpu})
			}
		}
	}
	return fails(own, m.id), len(own)
}

// fails runs tests until one fails: a few of the quickest first, then more and more at once.
func fails(tests []*test, id int) bool {
	for size := 4; len(tests) > 0; size *= 4 {
		now := tests[:min(size, len(tests))]
		tests = tests[len(now):]
		names := map[string][]string{}
		var cpu time.Duration
		dirs := map[string]string{}
		for _, t := range now {
			names[t.bin] = append(names[t.bin], t.name)
			dirs[t.bin] = t.dir
			cpu += t.cpu
		}
		for bin, list := range names {
			if pass, _ := execute(bin, dirs[bin], strings.Join(list, "|"), id, 2*time.Second+5*cpu); !pass {
				return true
			}
		}
	}
	return false
}

// execute runs tests with a mutant in force, and says how much processor time they used. What uses more than
// most, or memory without end, fails. So does what waits for ever (awaitEnd).
func execute(bin, dir, names string, id int, most time.Duration, env ...string) (pass bool, cpu time.Duration) {
	cmd := exec.Command("sh", "-c", fmt.Sprintf(`ulimit -t %d; ulimit -v 3000000; exec "$0" "$@"`, 1+int(most.Seconds())),
		bin, "-test.run", "^("+names+")$", "-test.short", "-test.failfast", "-test.paniconexit0", "-test.timeout", "0")
	cmd.Dir, cmd.WaitDelay = dir, time.Second
	cmd.Env = append(append(os.Environ(), "MUTANT="+strconv.Itoa(id)), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return false, 0
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	pid := cmd.Process.Pid
	err := awaitEnd(ended, tick.C, time.Minute+10*most.Truncate(time.Second), func() time.Duration { return delay("/proc", pid) }, func() { _ = cmd.Process.Kill() })
	return err == nil, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}
