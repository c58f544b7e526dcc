package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"culvert/internal/host/hardware"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "traffic" {
		if err := runTraffic(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := bench(); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(1)
	}
}

// errInterrupted is the end by a signal; what was measured until then is printed.
var errInterrupted = errors.New("interrupted")

// bench is the whole run. Whatever ends it, namespaces, processes and files are removed.
func bench() (err error) {
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	cellList := set.String("cells", "", "`cells` to measure, separated by commas; a name that ends in * is a prefix (default: all)")
	peerList := set.String("peers", "", "`peers` to measure, likewise (default: all)")
	rounds := set.Int("rounds", 5, "rounds; medians are of them")
	seconds := set.Float64("seconds", 5, "seconds that each cell is measured")
	quick := set.Bool("quick", false, "two minutes: whether everything works, not how fast it is")
	out := set.String("out", "", "`folder` for bench.json, README.md and the plots (default: none)")
	keep := set.Bool("keep", false, "keep what the folder of -out says of other cells, measured on the same machine in as many rounds")
	nice := set.Int("nice", 0, "priority of every process that is measured, -20 to 19: -19 on a machine with other work")
	binary := set.String("culvert", "", "`binary` of culvert (default: the one of this repository, built)")
	older := set.String("before", "", "another `binary` of culvert, to compare with")
	list := set.Bool("list", false, "list cells and peers")
	if err := set.Parse(os.Args[1:]); err != nil {
		return err
	}
	if *list {
		printList()
		return nil
	}
	h := &harness{binaries: map[string]string{}, versions: map[string]string{}, rounds: *rounds, nice: *nice,
		seconds: time.Duration(*seconds * float64(time.Second)), patience: 30 * time.Second, loss: 0.01, near: 1.03, again: 1}
	if *quick {
		// Whether it works is asked of a machine that may have other work.
		h.quick, h.rounds, h.seconds, h.patience = true, 1, 300*time.Millisecond, time.Minute
		h.loss, h.near, h.again = 0.5, 3, 0
	}
	if err := h.choose(*cellList, *peerList, *quick, *older != ""); err != nil {
		return err
	}
	if os.Getuid() != 0 {
		return errors.New("network namespaces and TUN devices need root: run it with sudo")
	}
	for name, path := range map[string]string{plain: *binary, before: *older} {
		if path != "" {
			if h.binaries[name], err = filepath.Abs(path); err != nil {
				return err
			}
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal does not wait
	removeStale()
	if h.self, err = os.Executable(); err != nil {
		return err
	}
	if h.dir, err = os.MkdirTemp("", nsPrefix); err != nil {
		return err
	}
	defer h.cleanUp()
	if err := h.prepare(ctx); ctx.Err() != nil {
		return errInterrupted
	} else if err != nil {
		return err
	}
	h.findVersions(ctx)
	r := &result{When: time.Now(), Machine: thisMachine(), Versions: h.versions, Rounds: h.rounds, Seconds: h.seconds.Seconds(),
		Peers: map[string]string{}, Cells: map[string]string{}}
	for _, p := range h.peers {
		r.Order = append(r.Order, p.name)
		r.Peers[p.name] = p.about
	}
	for _, c := range h.cells {
		r.Cells[c.name] = c.about
	}
	h.progress = &progress{out: os.Stdout, cells: len(h.cells) * h.rounds, rounds: h.rounds, start: time.Now(), now: time.Now}
	if err = h.run(ctx); ctx.Err() != nil {
		fmt.Println()
		err = errInterrupted
	}
	r.Rows, r.Failures = h.rows, h.failures
	if len(r.Rows) > 0 {
		fmt.Printf("\n%s\n", table(r.Rows, r.Order))
	}
	for _, f := range h.failures {
		fmt.Println("FAILED:", f)
	}
	if err == nil && *out != "" && *keep {
		err = r.keep(*out)
	}
	if err == nil && *out != "" {
		err = r.report(*out)
	}
	if err == nil && len(h.failures) > 0 {
		err = fmt.Errorf("%d measurements failed", len(h.failures))
	}
	return err
}

// choose takes the cells and peers that lists name.
func (h *harness) choose(cellList, peerList string, quick, older bool) error {
	var all []string
	for _, c := range cells {
		all = append(all, c.name)
	}
	names, err := pick(cellList, all)
	if err != nil {
		return fmt.Errorf("-cells: %w", err)
	}
	for _, name := range names {
		if c := cellNamed(name); !quick || !c.slow || cellList != "" {
			h.cells = append(h.cells, c)
		}
	}
	all = nil
	for _, p := range peers {
		if p.name != before || older {
			all = append(all, p.name)
		}
	}
	if names, err = pick(peerList, all); err != nil {
		return fmt.Errorf("-peers: %w", err)
	}
	for _, name := range names {
		h.peers = append(h.peers, peerNamed(name))
	}
	return nil
}

func printList() {
	fmt.Println("cells:")
	for _, c := range cells {
		fmt.Printf("  %-26s %s\n", c.name, c.about)
	}
	fmt.Println("peers:")
	for _, p := range peers {
		fmt.Printf("  %-26s %s\n", p.name, p.about)
	}
}

// findVersions asks the peers' programs for their versions.
func (h *harness) findVersions(ctx context.Context) {
	first := func(args ...string) string {
		out, _ := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput() // openvpn --version fails
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return line
	}
	for _, p := range h.peers {
		switch p.name {
		case plain:
			h.versions[p.name] = first(h.binaries[plain], "version")
		case before:
			h.versions[p.name] = first(h.binaries[before], "version")
		case "openvpn":
			h.versions[p.name], _, _ = strings.Cut(first("openvpn", "--version"), " [")
		case "strongswan":
			h.versions[p.name] = first(h.binaries["charon"], "--version")
		}
	}
}

// thisMachine describes where the run happens.
func thisMachine() machine {
	m := machine{CPU: hardware.CPU(), Cores: runtime.NumCPU(), Go: runtime.Version()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = fmt.Sprintf("%.1f GiB", float64(info.Totalram)*float64(info.Unit)/(1<<30))
		m.Load = fmt.Sprintf("%.1f", float64(info.Loads[0])/(1<<16))
	}
	return m
}
