package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// someRows are two cells of three peers and a bit of a third.
func someRows() []*row {
	s := func(values ...float64) (out []sample) {
		for i, v := range values {
			out = append(out, sample{i + 1, v})
		}
		return out
	}
	return []*row{
		{Cell: "tcp1", Figure: "Gbit/s", Samples: map[string][]sample{"culvert": s(6, 5, 7), reference: s(3, 2, 3.5), "veth": s(20, 20, 20)}},
		{Cell: "tcp1", Figure: "CPU s/Gbit", Lower: true, Samples: map[string][]sample{"culvert": s(0.2, 0.2, 0.2), reference: s(0.5, 0.5, 0.5)}},
		{Cell: "idle", Figure: "lost %", NoPlot: true, Samples: map[string][]sample{"culvert": s(0)}},
		{Cell: "tunnels1", Figure: "MiB", Lower: true, Samples: map[string][]sample{"culvert": s(20)}},
		{Cell: "tunnels10000", Figure: "MiB", Lower: true, Samples: map[string][]sample{"culvert": s(20 + 9999.0*2/1024)}},
	}
}

var someOrder = []string{"culvert", reference, "openvpn", "veth"}

func TestTable(t *testing.T) {
	want := `| cell         | figure     | culvert      | wireguard-go | veth        | spread |
|--------------|------------|--------------|--------------|-------------|--------|
| tcp1         | Gbit/s     | 6.00 (2.00)  | 3.00         | 20.0 (6.67) | 50 %   |
| tcp1         | CPU s/Gbit | 0.200 (0.40) | 0.500        |             | 0 %    |
| idle         | lost %     | 0            |              |             | 0 %    |
| tunnels1     | MiB        | 20.0         |              |             | 0 %    |
| tunnels10000 | MiB        | 39.5         |              |             | 0 %    |
`
	if got := table(someRows(), someOrder); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.1234: "0.123", 1.239: "1.24", 12.34: "12.3", 286_123: "286123", -12.34: "-12.3"} {
		if got := short(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

var bar = regexp.MustCompile(`<rect class="([^"]*)" x="170" y="\d+" width="([0-9.]+)"`)

// The picture is well-formed, bars are as long as their medians say, and what is not
// to be drawn is absent.
func TestDraw(t *testing.T) {
	svg := plots[0].draw(someRows(), someOrder)
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
	bars := bar.FindAllStringSubmatch(svg, -1)
	if len(bars) != 3 {
		t.Fatalf("%d bars in\n%s", len(bars), svg)
	}
	for i, want := range []struct {
		class  string
		median float64
	}{{"bar ours", 6}, {"bar", 3}, {"bar", 20}} {
		width, _ := strconv.ParseFloat(bars[i][2], 64)
		full := float64(svgWidth - svgLeft - svgRight)
		if got := width / full * 20; bars[i][1] != want.class || got < want.median-0.01 || got > want.median+0.01 {
			t.Errorf("bar %d: %s of %v, want %s of %v", i, bars[i][1], got, want.class, want.median)
		}
	}
	for _, word := range []string{"tcp1, Gbit/s", "6.00 (2.00 ×)", ">3.00<", "prefers-color-scheme: dark", "x1=\"280.0\" x2=\"324.0\""} {
		if !strings.Contains(svg, word) {
			t.Errorf("no %q in\n%s", word, svg)
		}
	}
	if strings.Contains(svg, "CPU s/Gbit") || strings.Contains(svg, "openvpn") {
		t.Errorf("what belongs to no bar is drawn:\n%s", svg)
	}
	if svg := (plot{Cells: []string{"idle$"}}).draw(someRows(), someOrder); svg != "" {
		t.Errorf("a picture of nothing: %s", svg)
	}
	if (plot{Cells: []string{"quic$"}}).has(&row{Cell: "quicker"}) || !(plot{Cells: []string{"udp"}}).has(&row{Cell: "udp64"}) {
		t.Error("which rows a plot has")
	}
}

func TestReport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	r := &result{When: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Machine: machine{CPU: "A CPU", Cores: 2, Kernel: "Linux 6"},
		Versions: map[string]string{reference: "v9"}, Rounds: 3, Seconds: 5, Order: someOrder, Rows: someRows(),
		Peers: map[string]string{reference: "the reference"}, Cells: map[string]string{"tcp1": "one stream"}, Failures: []string{"udp64, veth, round 1: lost\nand a log"}}
	if err := r.report(dir); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"2 January 2026", "3 rounds of 5.00 s", "A CPU, 2 cores", "| wireguard-go | the reference; v9 |", "![" + plots[0].Title + "](tcp.svg)",
		"## TCP", "## Many tunnels", "takes 2.0 KiB of culvert's", "- udp64, veth, round 1: lost\n"} {
		if !bytes.Contains(page, []byte(word)) {
			t.Errorf("no %q in\n%s", word, page)
		}
	}
	if n := bytes.Count(page, []byte("- tcp1: one stream")); n != 1 {
		t.Errorf("a cell is explained %d times", n)
	}
	if bytes.Contains(page, []byte("udp.svg")) || bytes.Contains(page, []byte("and a log")) {
		t.Errorf("the page has what there is not:\n%s", page)
	}
	data, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back result
	if err := json.Unmarshal(data, &back); err != nil || len(back.Rows) != 5 || back.Rows[0].Samples["culvert"][2] != (sample{3, 7}) || back.Machine != r.Machine {
		t.Errorf("%v, %+v", err, back)
	}
	if _, err := os.Stat(filepath.Join(dir, "cpu.svg")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "udp.svg")); err == nil {
		t.Error("a plot of nothing was written")
	}
}

// What was measured before of other cells is kept; what is measured again takes its place.
func TestReportKeeps(t *testing.T) {
	dir := t.TempDir()
	run := func(peer string, value float64, names ...string) *result {
		r := &result{Rounds: 5, Seconds: 1, Machine: machine{CPU: "a CPU", Load: short(value)}, Order: []string{peer},
			Peers: map[string]string{peer: "about it"}, Cells: map[string]string{}, Versions: map[string]string{}}
		for _, name := range names {
			r.Cells[name] = "about " + name
			r.Rows = append(r.Rows, &row{Cell: name, Figure: "Gbit/s", Samples: map[string][]sample{peer: {{1, value}}}})
		}
		return r
	}
	if err := run("culvert", 1, "tcp1", "idle").keep(dir); err != nil {
		t.Fatal("nothing was measured before:", err)
	}
	if err := run("culvert", 1, "tcp1", "idle").report(dir); err != nil {
		t.Fatal(err)
	}
	r := run("veth", 2, "tcp4", "tcp1")
	if err := r.keep(dir); err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, x := range r.Rows {
		for peer, list := range x.Samples {
			got += fmt.Sprintf("%s %s %v %q, ", x.Cell, peer, list[0].Value, r.Cells[x.Cell])
		}
	}
	if want := `tcp1 veth 2 "about tcp1", tcp4 veth 2 "about tcp4", idle culvert 1 "about idle", `; got != want || len(r.Order) != 2 {
		t.Errorf("%s of %q, want %s", got, r.Order, want)
	}
	other := run("culvert", 1, "tcp4")
	other.Machine.CPU = "another"
	if err := other.keep(dir); err == nil || !strings.Contains(err.Error(), "a CPU") {
		t.Errorf("figures of two machines: %v", err)
	}
}
