package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// result is what became of a package's sample.
type result struct {
	pkg      *pkg
	outcomes []outcome
	sample   string   // tells samples apart
	left     []string // tests that were left out: they fail without a mutant, or take too long
}

func (r *result) counts() (found, survived, equivalent int) {
	for _, x := range r.outcomes {
		switch {
		case x.equivalent != "":
			equivalent++
		case x.found:
			found++
		default:
			survived++
		}
	}
	return found, survived, equivalent
}

// report prints the table and the survivors. It returns whether there are none.
func report(w io.Writer, results []*result) bool {
	none := true
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "package\tmutants\tfound\tsurvived\t%\tequivalent\t")
	for _, r := range results {
		found, survived, equivalent := r.counts()
		percent := 0.0
		if n := found + survived; n > 0 {
			percent = 100 * float64(survived) / float64(n)
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.1f\t%d\t\n", r.pkg.dir, len(r.outcomes), found, survived, percent, equivalent)
		none = none && survived == 0
	}
	_ = t.Flush()
	for _, r := range results {
		fmt.Fprintf(w, "sample %s\n", r.sample)
		if len(r.left) > 0 {
			fmt.Fprintf(w, "\n%s: left out, because they fail without a mutant or take too long: %s\n", r.pkg.dir, strings.Join(r.left, " "))
		}
		for _, x := range r.outcomes {
			if x.found || x.equivalent != "" {
				continue
			}
			fmt.Fprintf(w, "\n%s", r.pkg.says(x.mutant))
			if x.reached == 0 {
				fmt.Fprint(w, " (no test reaches it)")
			}
			fmt.Fprintf(w, "\n\t- %s\n\t+ %s\n", r.pkg.before(x.mutant), r.pkg.after(x.mutant))
		}
	}
	return none
}
