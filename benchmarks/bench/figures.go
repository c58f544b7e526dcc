package main

import (
	"math"
	"slices"
)

// A figure is one number that a cell measures of a peer.
type figure struct {
	Name   string // "Gbit/s", or what else the cell calls it
	Value  float64
	Lower  bool // whether less is better
	NoPlot bool // not in the table of ratios, nor in plots
}

// A row is one figure of one cell, of all peers and rounds.
type row struct {
	Cell    string
	Figure  string
	Lower   bool
	NoPlot  bool `json:",omitempty"`
	Samples map[string][]sample
}

// A sample is of one round, from 1.
type sample struct {
	Round int
	Value float64
}

// summary is what is said of a peer's samples.
type summary struct {
	Median, Least, Most float64
	Spread              float64 // (most − least) / median
	Ratio               float64 // median of the ratios beside another peer in the same round; 0: there are none
	Rounds              int
}

// summarize computes it; beside are the samples of the peer to compare with.
func summarize(of, beside []sample) summary {
	values := make([]float64, 0, len(of))
	var ratios []float64
	for _, s := range of {
		values = append(values, s.Value)
		for _, b := range beside {
			if b.Round == s.Round && b.Value != 0 {
				ratios = append(ratios, s.Value/b.Value)
			}
		}
	}
	if len(values) == 0 {
		return summary{}
	}
	s := summary{Median: median(values), Least: slices.Min(values), Most: slices.Max(values), Rounds: len(values)}
	if s.Median != 0 {
		s.Spread = (s.Most - s.Least) / s.Median
	}
	if len(ratios) > 0 {
		s.Ratio = median(ratios)
	}
	return s
}

// median is the middle value, or the mean of the two in the middle; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// percentile is the smallest value that so many of a hundred do not exceed.
func percentile(values []int64, p float64) int64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	at := int(math.Ceil(p/100*float64(len(sorted)))) - 1
	return sorted[min(max(at, 0), len(sorted)-1)]
}

// collect adds the figures that a peer had in a round to the rows, in the order in
// which they come first.
func collect(rows []*row, cell, peer string, round int, figures []figure) []*row {
	for _, f := range figures {
		i := slices.IndexFunc(rows, func(r *row) bool { return r.Cell == cell && r.Figure == f.Name })
		if i < 0 {
			i = len(rows)
			rows = append(rows, &row{Cell: cell, Figure: f.Name, Lower: f.Lower, NoPlot: f.NoPlot, Samples: map[string][]sample{}})
		}
		rows[i].Samples[peer] = append(rows[i].Samples[peer], sample{round, f.Value})
	}
	return rows
}
