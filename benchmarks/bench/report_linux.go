package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// result is what is written as JSON.
type result struct {
	When     time.Time
	Machine  machine
	Versions map[string]string
	Rounds   int
	Seconds  float64
	Order    []string // of the peers in tables and plots
	Peers    map[string]string
	Cells    map[string]string
	Rows     []*row
	Failures []string `json:",omitempty"`
}

// machine is what the figures are of.
type machine struct {
	CPU    string
	Cores  int
	Kernel string
	Memory string
	Go     string
	Load   string // average load when the run began: other work blurs figures
}

// keep adds what an earlier run wrote to a folder about cells that this one has not measured. An error says that it
// was a run of another kind.
func (r *result) keep(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var old result
	if err == nil {
		err = json.Unmarshal(data, &old)
	}
	if err != nil {
		return err
	}
	old.Machine.Load = r.Machine.Load
	if old.Machine != r.Machine || old.Rounds != r.Rounds || old.Seconds != r.Seconds {
		return fmt.Errorf("%s has a run of %d rounds of %g s on %s, Linux %s: leave out -keep to replace it", dir, old.Rounds, old.Seconds, old.Machine.CPU, old.Machine.Kernel)
	}
	measured := maps.Clone(r.Cells)
	for _, row := range old.Rows {
		if _, again := measured[row.Cell]; !again {
			r.Rows, r.Cells[row.Cell] = append(r.Rows, row), old.Cells[row.Cell]
		}
	}
	place := func(name string) int { return slices.IndexFunc(cells, func(c cell) bool { return c.name == name }) }
	slices.SortStableFunc(r.Rows, func(a, b *row) int { return place(a.Cell) - place(b.Cell) })
	for _, p := range peers {
		if about, was := old.Peers[p.name]; was && r.Peers[p.name] == "" {
			r.Order, r.Peers[p.name] = append(r.Order, p.name), about
			r.Versions[p.name] = old.Versions[p.name]
		}
	}
	return nil
}

// report writes bench.json, README.md and the plots to a folder.
func (r *result) report(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	files := map[string]string{"bench.json": string(data) + "\n", "README.md": ""}
	var shown []plot
	for _, p := range plots {
		if text := p.draw(r.Rows, r.Order); text != "" {
			files[p.File] = text
			shown = append(shown, p)
		}
	}
	files["README.md"] = r.markdown(shown)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// markdown is the page with the machine, the tables and the plots.
func (r *result) markdown(shown []plot) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Culvert beside other tunnels

Written by `+"`make bench`"+` on %s: %d rounds of %s s for each cell, all peers in turns. Both gateways, the sender and the receiver share one machine,
so that these figures are ratios more than rates. A figure is the median of the rounds, in brackets the median of the ratios beside %s in the same
round. "Spread" is the widest distance between the least and the most of a row's peers, as a part of the median.
[bench.json](bench.json) has every sample.

| | |
|---|---|
`, r.When.UTC().Format("2 January 2006"), r.Rounds, short(r.Seconds), reference)
	for _, line := range [][2]string{{"CPU", fmt.Sprintf("%s, %d cores", r.Machine.CPU, r.Machine.Cores)}, {"memory", r.Machine.Memory},
		{"kernel", r.Machine.Kernel}, {"Go", r.Machine.Go}, {"load before the run", r.Machine.Load}} {
		fmt.Fprintf(&b, "| %s | %s |\n", line[0], line[1])
	}
	for _, name := range r.Order {
		about := r.Peers[name]
		if v := r.Versions[name]; v != "" {
			about += "; " + v
		}
		fmt.Fprintf(&b, "| %s | %s |\n", name, about)
	}
	b.WriteString("\n")
	for _, p := range shown {
		fmt.Fprintf(&b, "![%s](%s)\n\n", p.Title, p.File)
	}
	for _, part := range parts(r.Rows) {
		fmt.Fprintf(&b, "## %s\n\n%s\n", part.title, table(part.rows, r.Order))
		for _, row := range part.rows {
			if about := r.Cells[row.Cell]; about != "" && !strings.Contains(b.String(), "- "+row.Cell+":") {
				fmt.Fprintf(&b, "- %s: %s\n", row.Cell, about)
			}
		}
		b.WriteString("\n")
	}
	if per := perSA(r.Rows); per != "" {
		b.WriteString(per)
	}
	if len(r.Failures) > 0 {
		b.WriteString("## What failed\n\n")
		for _, f := range r.Failures {
			line, _, _ := strings.Cut(f, "\n")
			fmt.Fprintf(&b, "- %s\n", line)
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

type part struct {
	title string
	rows  []*row
}

// parts groups the rows under headings.
func parts(rows []*row) (out []part) {
	for _, h := range []struct {
		title    string
		prefixes []string
	}{{"TCP", []string{"tcp"}}, {"UDP", []string{"udp", "quic"}}, {"Latency", []string{"idle", "loaded"}},
		{"Ciphers", []string{"cipher-"}}, {"Many tunnels", []string{"tunnels"}}, {"Rekeys", []string{"rekey"}}} {
		p := part{title: h.title}
		for _, r := range rows {
			for _, prefix := range h.prefixes {
				if strings.HasPrefix(r.Cell, prefix) {
					p.rows = append(p.rows, r)
				}
			}
		}
		if len(p.rows) > 0 {
			out = append(out, p)
		}
	}
	return out
}

// perSA is what a pair of SAs adds to the memory of a gateway, from the cells with one
// and with the most tunnels.
func perSA(rows []*row) string {
	var b strings.Builder
	of := func(cell, peer string) float64 {
		for _, r := range rows {
			if r.Cell == cell && r.Figure == "MiB" {
				return summarize(r.Samples[peer], nil).Median
			}
		}
		return 0
	}
	for _, peer := range []string{"culvert", "culvert-udp"} {
		one, many := of("tunnels1", peer), of("tunnels10000", peer)
		if one > 0 && many > 0 {
			fmt.Fprintf(&b, "A policy with its pair of SAs takes %.1f KiB of %s's resident memory (10,000 beside one).\n\n", (many-one)*1024/9999, peer)
		}
	}
	return b.String()
}
