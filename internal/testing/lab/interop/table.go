package interop

import (
	"fmt"
	"strings"
)

// Outcome is what became of a cell.
type Outcome uint8

// The outcomes of a cell.
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

// The document begins with a summary of one screen: what was tried, with whom, and with which result.
const (
	intro = `# Interoperability

Culvert was tested with %s and with the ESP and AH of the Linux kernel, all on one Linux host, by
` + "`make interop`" + `. **%d of %d cells passed**, %d failed, %d were not run.

| group | cells | passed |
|---|---|---|
`
	method = `
## How a cell is judged

The peer is believed, not Culvert. A cell passes if strongSwan (` + "`swanctl --list-sas`" + `) reports the algorithms that were configured, its
byte counters grew in each direction by what was sent, Culvert's ` + "`installed-sa print`" + ` shows the same SPIs and
algorithms, and a TCP transfer checked by SHA-256 succeeded in both directions, before the event and again after it.

- **strongSwan** encrypts in user space (kernel-libipsec), which supports only tunnel mode in UDP.
- **Linux kernel**: strongSwan runs in a guest (User Mode Linux) whose kernel encrypts. The counters are the kernel's
  (` + "`ip -s xfrm state`" + `). The kernel also confirms algorithms, mode, ESN and encapsulation, and must not have dropped a packet.
  A capture between the two shows the right protocol and nothing in clear.
- **libreswan** and **OpenIKED** negotiate in a guest of their own each, whose kernel encrypts: judged by the counters of the kernel and
  of Culvert. libreswan as responder agrees to MOBIKE only where its connection is for any address (right=%any). Its IKEv1
  (` + "`" + `ikev1-policy=accept` + "`" + `) has no elliptic curves and no command that rekeys: there ` + "`" + `whack --initiate` + "`" + ` makes another CHILD SA. OpenIKED has no PPK,
  no command that rekeys (its lifetimes end instead), neither sends INITIAL_CONTACT nor reads it, and has on Linux
  neither AEADs nor SHA-256 in ESP. MOBIKE it has as responder only, and on Linux it moves its IKE SA and no CHILD SA: Linux does not know
  the PF_KEY message that it would do that with (` + "`pfkey_reply: message: Invalid argument`" + ` in its log).
- **Linux kernel, keys by hand**: there is no IKE. ` + "`culvert sa add`" + ` and ` + "`ip xfrm`" + ` make the SAs.
- **Linux kernel, AH with ESP under the keys of two Culverts**: two Culverts negotiate by IKEv1 and exchange a transfer. One of them is killed,
  and the kernel takes its place, with SAs under the keys that the other one shows.
- **Refused**: a cell passes if no tunnel comes up and both logs say why.
- **Road warriors, and the clients that the manual lists**: the column of events shows the address, the
  proposal that was selected, and a transfer.
`
)

// Table writes the results as Markdown. Results of one group must be adjacent.
func Table(peer string, results []Result) string {
	var count [3]int
	for _, r := range results {
		count[r.Outcome]++
	}
	var b strings.Builder
	fmt.Fprintf(&b, intro, peer, count[Passed], len(results), count[Failed], count[NotRun])
	for rest := results; len(rest) > 0; {
		name, cells, passed := rest[0].Group, 0, 0
		for ; len(rest) > 0 && rest[0].Group == name; rest = rest[1:] {
			cells++
			if rest[0].Outcome == Passed {
				passed++
			}
		}
		fmt.Fprintf(&b, "| [%s](#%s) | %d | %d |\n", name, anchor(name), cells, passed)
	}
	b.WriteString(method)
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

// anchor is the fragment of a link to a heading, as GitHub and GitLab make it.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', '0' <= r && r <= '9', 'a' <= r && r <= 'z':
			return r
		}
		return -1
	}, strings.ToLower(heading))
}
