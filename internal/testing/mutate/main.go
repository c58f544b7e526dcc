package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// options are the flags.
type options struct {
	n        int
	seed     uint64
	parallel int
	longest  time.Duration
	at       string
	list     bool
	own      bool
	run      string
	again    string
}

func main() {
	var o options
	flag.IntVar(&o.n, "n", 100, "how many mutants of each package are tried")
	flag.Uint64Var(&o.seed, "seed", 1, "draws the sample")
	flag.IntVar(&o.parallel, "p", 1, "how many tests run at once")
	flag.DurationVar(&o.longest, "longest", 5*time.Second, "leave out tests that use more processor time")
	flag.StringVar(&o.at, "at", "", "only mutants of files whose names contain this")
	flag.BoolVar(&o.own, "own", false, "only run the package's own tests")
	flag.StringVar(&o.run, "run", "", "only run tests whose names match this `regexp`: what the others would find survives, too")
	flag.StringVar(&o.again, "again", "", "the `report` of an earlier run of the same sample: only its survivors are tried, since tests were added")
	flag.BoolVar(&o.list, "list", false, "only list the sample")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), "usage: go run ./internal/testing/mutate [flags] ./package...\n\n"+
			"Changes the packages in one place at a time and says which changes no test notices.\n"+
			"It ends with status 1 if one survives that is not in equivalent.txt.\n\n"+
			"For example: go run ./internal/testing/mutate -seed 2 ./sad ./spd/...\n\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ok, err := run(o, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// pkg is a package under test.
type pkg struct {
	root string // of the module
	dir  string // below the root
	name string
	src  map[string][]byte // of its files that are no tests, by path below the root
	all  []*mutant         // that can be made
}

func run(o options, patterns []string) (ok bool, err error) {
	root, equal, err := module()
	if err != nil {
		return false, err
	}
	pkgs, err := load(root, patterns)
	if err != nil {
		return false, err
	}
	var results []*result
	for _, p := range pkgs {
		r, err := p.try(o, equal)
		if err != nil {
			return false, fmt.Errorf("%s: %w", p.dir, err)
		}
		results = append(results, r)
	}
	if o.list {
		return true, nil
	}
	return report(os.Stdout, results), nil
}

// module is the root of the module and what equivalent.txt says.
func module() (root string, equal []equivalent, err error) {
	p := &pkg{root: "."}
	out, err := p.goTool("env", "GOMOD")
	if err != nil {
		return "", nil, fmt.Errorf("%w: %s", err, out)
	}
	root = filepath.Dir(strings.TrimSpace(string(out)))
	text, err := os.ReadFile(filepath.Join(root, "internal/testing/mutate/equivalent.txt"))
	if err != nil {
		return "", nil, err
	}
	equal, err = parseEquivalent(string(text))
	return root, equal, err
}

// load finds the packages and their mutants.
func load(root string, patterns []string) (list []*pkg, err error) {
	out, err := (&pkg{root: "."}).goTool(append([]string{"list", "-json=Dir,Name,GoFiles"}, patterns...)...)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var l struct {
			Dir, Name string
			GoFiles   []string
		}
		if err := d.Decode(&l); err != nil {
			return nil, err
		}
		dir, err := filepath.Rel(root, l.Dir)
		if err != nil {
			return nil, err
		}
		p := &pkg{root: root, dir: filepath.ToSlash(dir), name: l.Name, src: map[string][]byte{}}
		for _, f := range l.GoFiles {
			name := p.dir + "/" + f
			mutants, src, err := find(filepath.Join(l.Dir, f), name)
			if err != nil {
				return nil, err
			}
			p.src[name] = src
			p.all = append(p.all, mutants...)
		}
		for i, m := range p.all {
			m.id = i + 1
		}
		if len(p.all) > 0 {
			list = append(list, p)
		}
	}
	return list, nil
}

// before is the line of a mutant as the file has it.
func (p *pkg) before(m *mutant) string {
	return strings.TrimSpace(strings.Split(string(p.src[m.file]), "\n")[m.line-1])
}

// after is what the mutant's place becomes, in one line.
func (p *pkg) after(m *mutant) string {
	src := p.src[m.file]
	if m.kind != "bound" && m.kind != "operand" && m.kind != "condition" {
		return m.what
	}
	text := m.text(func(from, to int) string { return string(src[from:to]) }, "ON")
	if i, j := strings.Index(text, "ON && ("), strings.LastIndex(text, ") || !ON && ("); i >= 0 && j >= 0 {
		text = text[i+len("ON && (") : j]
	}
	text = strings.NewReplacer("ON != (", "!(", " + ON", "+1").Replace(text)
	from := slices.Max([]int{strings.LastIndexByte(string(src[:m.start]), '\n') + 1, 0})
	to := len(src)
	if i := strings.IndexByte(string(src[m.end:]), '\n'); i >= 0 {
		to = m.end + i
	}
	return strings.Join(strings.Fields(string(src[from:m.start])+text+string(src[m.end:to])), " ")
}
