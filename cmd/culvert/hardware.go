package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"culvert/crypto/suite"
	"culvert/internal/host/hardware"
)

type hardwarePrint struct {
	JSON bool `name:"json" help:"Print a JSON array."`
}

func (hardwarePrint) Help() string {
	return `Prints the manual's acceleration table for this computer's CPU. For each cipher and hash it says whether the CPU has instructions for both (yes), for the cipher only (yes*), or not for the cipher (no). The number is the throughput of one core in Gbit/s, measured now with packets of 1420 bytes. Ciphers with built-in integrity (GCM, CCM, ChaCha20-Poly1305) have no hash. No gateway needs to run.

Example:

    culvert hardware print
    culvert hardware print --json | jq 'max_by(.gbps)'`
}

// hardwareRow is one combination of an ESP proposal.
type hardwareRow struct {
	Encr   string  `json:"enc-algorithm"`
	Integ  string  `json:"auth-algorithm"` // empty: the cipher has built-in integrity
	Cipher bool    `json:"cipher-accelerated"`
	Hash   bool    `json:"hash-accelerated"`
	Gbps   float64 `json:"gbps"`
}

// within is the column of ciphers that take no hash.
const within = ""

// hardwareCiphers are the ciphers of the table: each algorithm of crypto/suite
// with its shortest and its longest key, and with its whole ICV.
func hardwareCiphers() []*suite.Encr {
	type span struct{ short, long *suite.Encr }
	spans := map[string]span{}
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		s, ok := spans[e.SAName]
		if !ok || e.ICVLen > s.short.ICVLen {
			s = span{e, e}
		}
		if e.ICVLen == s.short.ICVLen && e.KeyLen < s.short.KeyLen {
			s.short = e
		}
		if e.ICVLen == s.long.ICVLen && e.KeyLen > s.long.KeyLen {
			s.long = e
		}
		spans[e.SAName] = s
	}
	var all []*suite.Encr
	for i := range suite.Encrs {
		e := &suite.Encrs[i]
		if s := spans[e.SAName]; e == s.short || e == s.long {
			all = append(all, e)
		}
	}
	return all
}

// hardwareHashes are the columns: every hash of crypto/suite once, and none.
func hardwareHashes() []string {
	var all []string
	for i := range suite.Integs {
		if a := &suite.Integs[i]; suite.IntegByID(a.ID) == a { // else it is another one, cut shorter
			all = append(all, a.Name)
		}
	}
	return append(all, within)
}

// measured is for how long each combination is measured.
const measured = 25 * time.Millisecond

func (c *hardwarePrint) Run(s *session) error {
	var rows []hardwareRow
	for _, encr := range hardwareCiphers() {
		for _, hash := range hardwareHashes() {
			integ := suite.IntegByName(hash)
			if encr.AEAD() != (integ == nil) {
				continue
			}
			rate, err := hardware.Measure(encr, integ, measured)
			if err != nil {
				return err
			}
			r := hardwareRow{Encr: encr.Name, Integ: hash, Gbps: rate / 1e9}
			r.Cipher, r.Hash = hardware.Accelerated(encr, integ)
			rows = append(rows, r)
		}
	}
	if c.JSON {
		e := json.NewEncoder(s.stdout)
		e.SetIndent("", "  ")
		return e.Encode(rows)
	}
	_, err := fmt.Fprint(s.stdout, hardwareTable(hardware.CPU(), rows))
	return err
}

// hardwareTable is the rows as the manual's matrix, a line for each cipher.
func hardwareTable(cpu string, rows []hardwareRow) string {
	cells := map[[2]string]string{}
	for _, r := range rows {
		word := "no"
		switch {
		case r.Cipher && (r.Hash || r.Integ == within):
			word = "yes"
		case r.Cipher:
			word = "yes*"
		}
		cells[[2]string{r.Encr, r.Integ}] = fmt.Sprintf("%-4s %6.2f", word, r.Gbps)
	}
	var b strings.Builder
	line := func(first string, cell func(hash string) string) {
		l := fmt.Sprintf("%-18s", first)
		for _, hash := range hardwareHashes() {
			l += fmt.Sprintf("  %-11s", cell(hash))
		}
		b.WriteString(strings.TrimRight(l, " ") + "\n")
	}
	fmt.Fprintf(&b, "%s\n\n", cpu)
	line("ENC-ALGORITHM", func(hash string) string {
		if hash == within {
			return "NO HASH"
		}
		return strings.ToUpper(hash)
	})
	for _, encr := range hardwareCiphers() {
		line(encr.Name, func(hash string) string { return cells[[2]string{encr.Name, hash}] })
	}
	b.WriteString("\nyes: the CPU has instructions for both; yes*: for the cipher only; no: not for the cipher.\n")
	b.WriteString("The number is the throughput of one core in Gbit/s, with packets of 1420 bytes.\n")
	return b.String()
}
