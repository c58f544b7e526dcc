// Package interop holds the interoperability tests with strongSwan, one per cell
// of a matrix, and writes what they found as a table.
package interop

import (
	"fmt"
	"strings"
)

// Outcome is what became of a cell.
type Outcome uint8

const (
	NotRun Outcome = iota
	Passed
	Failed
)

func (o Outcome) String() string {
	return [...]string{"not run", "passed", "failed"}[o]
}

// Result is a row of the table.
type Result struct {
	Group     string // rows of one group stand together under its heading
	Name      string
	Initiator string
	IKE       string
	ESP       string
	Inside    string // "IPv4" or "IPv6"
	Event     string // between the first and the second transfer
	Outcome   Outcome
}

const intro = `# Interoperability

Culvert against strongSwan (%s), both as processes on one Linux machine, by ` + "`make interop`" + `.
strongSwan carries ESP in user space (kernel-libipsec), which speaks tunnel mode in UDP only. In the group
"Linux kernel" it runs in a guest (User Mode Linux), and the kernel there carries ESP and AH. In "Linux kernel, keys by hand"
there is no IKE: ` + "`culvert sa add`" + ` on one side and ` + "`ip xfrm`" + ` on the other make the SAs.

A cell has passed when strongSwan itself (` + "`swanctl --list-sas`" + `) reports the algorithms that were asked for, its
byte counters grew by what was sent in each direction, culvert's ` + "`installed-sa print`" + ` names the same SPIs and
algorithms, and a TCP transfer checked by SHA-256 went both ways before the event and again after it.
Of the Linux kernel the counters are its own (` + "`ip -s xfrm state`" + `); there it also names the algorithms, mode, ESN and
encapsulation asked for and has dropped nothing, and a capture between the two shows the right protocol and nothing in clear.
Where one side has to refuse the other, a cell has passed when no tunnel came about and both logs say why.
Road warriors, and the clients that the manual lists, are told in the column of events: who has which address,
which row of proposals was agreed on, and a checked transfer.

%d of %d cells passed, %d failed, %d not run.
`

// Table writes the results as Markdown. Results of one group must be adjacent.
func Table(peer string, results []Result) string {
	var count [3]int
	for _, r := range results {
		count[r.Outcome]++
	}
	var b strings.Builder
	fmt.Fprintf(&b, intro, peer, count[Passed], len(results), count[Failed], count[NotRun])
	group := ""
	for _, r := range results {
		if r.Group != group {
			group = r.Group
			fmt.Fprintf(&b, "\n## %s\n\n", group)
			b.WriteString("| cell | initiator | IKE SA | CHILD SA | inside | event | result |\n")
			b.WriteString("|---|---|---|---|---|---|---|\n")
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n",
			r.Name, r.Initiator, r.IKE, r.ESP, r.Inside, r.Event, r.Outcome)
	}
	return b.String()
}
