package main

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

// A plot is one picture: a panel for each of its rows.
type plot struct {
	File, Title string
	Cells       []string // prefixes of the cells' names, whole names if they end in "$"
	Figure      string   // "": all figures that are plotted
}

// plots are the pictures of docs/benchmarks.
var plots = []plot{
	{"tcp.svg", "TCP, Gbit/s (more is better)", []string{"tcp"}, "Gbit/s"},
	{"cpu.svg", "Processor time of both gateways, seconds per gigabit (less is better)", []string{"tcp"}, "CPU s/Gbit"},
	{"udp.svg", "UDP, thousand packets a second with less than 1 % lost (more is better)", []string{"udp", "quic$"}, "kpps"},
	{"latency.svg", "Round trips, ms (less is better)", []string{"idle$", "loaded$"}, ""},
	{"ciphers.svg", "TCP with each cipher, one stream, Gbit/s (more is better)", []string{"cipher-"}, "Gbit/s"},
	{"tunnels.svg", "16 TCP streams over 1 to 10,000 tunnels, Gbit/s (more is better)", []string{"tunnels"}, "Gbit/s"},
}

func (p plot) has(r *row) bool {
	return !r.NoPlot && (p.Figure == "" || p.Figure == r.Figure) && slices.ContainsFunc(p.Cells, func(c string) bool {
		whole, is := strings.CutSuffix(c, "$")
		return is && r.Cell == whole || !is && strings.HasPrefix(r.Cell, c)
	})
}

// Sizes in pixels.
const (
	svgWidth   = 760
	svgLeft    = 170 // names
	svgRight   = 150 // figures
	svgBar     = 16
	svgStep    = 22
	svgHead    = 34
	svgPanel   = 28 // a panel's title
	svgBetween = 10
)

// svgStyle works on light and on dark pages: nothing is filled behind it.
const svgStyle = `<style>
text { font: 12px system-ui, sans-serif; fill: #57606a }
.title { font-size: 15px; font-weight: 600; fill: #24292f }
.panel { font-weight: 600 }
.bar { fill: #8c959f }
.ours { fill: #2f81f7 }
.range { stroke: #57606a; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) { text { fill: #9198a1 } .title { fill: #f0f6fc } .bar { fill: #656c76 } .range { stroke: #c9d1d9 } }
</style>
`

// draw makes the picture: a bar for each peer's median, a line from its least to its
// most, and the ratio beside the reference. It is empty if there is nothing to draw.
func (p plot) draw(rows []*row, order []string) string {
	var b strings.Builder
	y := svgHead
	for _, r := range rows {
		if p.has(r) {
			y = drawPanel(&b, r, order, y)
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\">\n<title>%s</title>\n%s<text class=\"title\" x=\"8\" y=\"22\">%s</text>\n%s</svg>\n",
		svgWidth, y, svgWidth, y, html.EscapeString(p.Title), svgStyle, html.EscapeString(p.Title), b.String())
}

// drawPanel draws a row from y on and returns where the next begins.
func drawPanel(b *strings.Builder, r *row, order []string, y int) int {
	most := 0.0
	for _, samples := range r.Samples {
		most = max(most, summarize(samples, nil).Most)
	}
	if most == 0 {
		return y
	}
	fmt.Fprintf(b, "<text class=\"panel\" x=\"8\" y=\"%d\">%s, %s</text>\n", y+18, html.EscapeString(r.Cell), html.EscapeString(r.Figure))
	y += svgPanel
	x := func(v float64) float64 { return svgLeft + v/most*(svgWidth-svgLeft-svgRight) }
	for _, name := range order {
		samples := r.Samples[name]
		if len(samples) == 0 {
			continue
		}
		s := summarize(samples, r.Samples[reference])
		class, middle := "bar", y+svgBar/2
		if strings.HasPrefix(name, "culvert") {
			class = "bar ours"
		}
		fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", svgLeft-8, middle+4, html.EscapeString(name))
		fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>\n", class, svgLeft, y, x(s.Median)-svgLeft, svgBar)
		fmt.Fprintf(b, "<line class=\"range\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>\n", x(s.Least), x(s.Most), middle, middle)
		text := short(s.Median)
		if s.Ratio != 0 && name != reference {
			text += fmt.Sprintf(" (%.2f ×)", s.Ratio)
		}
		fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%d\">%s</text>\n", x(s.Most)+8, middle+4, text)
		y += svgStep
	}
	return y + svgBetween
}
