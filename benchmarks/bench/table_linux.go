package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// progress prints a line for each cell of each round, and in it each peer's first
// figure as soon as it is measured.
type progress struct {
	out    io.Writer
	cells  int // in all rounds
	done   int
	start  time.Time
	now    func() time.Time
	rounds int
}

func (p *progress) begin(round int, c *cell) {
	p.done++
	fmt.Fprintf(p.out, "%3d/%d  round %d/%d  %-24s", p.done, p.cells, round, p.rounds, c.name)
}

func (p *progress) measured(peer string, figures []figure) {
	fmt.Fprintf(p.out, "  %s %s", peer, short(figures[0].Value))
	if len(figures) > 0 {
		fmt.Fprintf(p.out, " %s", figures[0].Name)
	}
}

func (p *progress) failed(peer string) { fmt.Fprintf(p.out, "  %s FAILED", peer) }

func (p *progress) end() {
	spent := p.now().Sub(p.start)
	left := spent / time.Duration(p.done) * time.Duration(p.cells-p.done)
	fmt.Fprintf(p.out, "  (%v, about %v left)\n", spent.Round(time.Second), left.Round(time.Second))
}

// short is a number with three digits that matter.
func short(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1 || v <= -1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// table is the rows as Markdown: medians, in brackets the ratio beside the reference
// in the same rounds, and the widest spread of a row.
func table(rows []*row, order []string) string {
	var who []string
	for _, name := range order {
		for _, r := range rows {
			if len(r.Samples[name]) > 0 {
				who = append(who, name)
				break
			}
		}
	}
	lines := [][]string{append([]string{"cell", "figure"}, append(who, "spread")...)}
	for _, r := range rows {
		line, spread := []string{r.Cell, r.Figure}, 0.0
		for _, name := range who {
			s := summarize(r.Samples[name], r.Samples[reference])
			text := ""
			if s.Rounds > 0 {
				text = short(s.Median)
				spread = max(spread, s.Spread)
				if s.Ratio != 0 && name != reference {
					text += fmt.Sprintf(" (%.2f)", s.Ratio)
				}
			}
			line = append(line, text)
		}
		lines = append(lines, append(line, fmt.Sprintf("%.0f %%", spread*100)))
	}
	return align(lines)
}

// align pads the cells of a Markdown table, whose first line is its head.
func align(lines [][]string) string {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, text := range line {
			widths[i] = max(widths[i], len([]rune(text)))
		}
	}
	var b strings.Builder
	for k, line := range lines {
		for i, text := range line {
			b.WriteString("| " + text + strings.Repeat(" ", widths[i]-len([]rune(text))) + " ")
		}
		b.WriteString("|\n")
		if k == 0 {
			for _, w := range widths {
				b.WriteString("|" + strings.Repeat("-", w+2))
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}
