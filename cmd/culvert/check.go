package main

import (
	"cmp"
	"errors"
	"fmt"

	"culvert/config"
	"culvert/internal/gateway"
)

type checkCmd struct {
	File   string `arg:"" optional:"" placeholder:"FILE" help:"Configuration to check."`
	Config string `short:"c" placeholder:"FILE" help:"The same, as run takes it."`
}

func (checkCmd) Help() string {
	return `Reads a configuration and everything it includes and prints every fault, one line each, with file, line and what is accepted instead. The configuration is compiled as run does it, but nothing is started and nothing is changed; no privilege is needed. What works but is weak, or likely not as meant, is a warning on standard error.

A file of another tool (a RouterOS export, swanctl.conf, ipsec.conf, a WireGuard configuration, …) is recognised and named.

Example:

    culvert check site.toml`
}

// Validate refuses none and two: the arguments are parsed by kong, which calls it.
func (c *checkCmd) Validate() error {
	if (c.File == "") == (c.Config == "") {
		return errors.New("name one file: culvert check FILE")
	}
	return nil
}

func (c *checkCmd) Run(s *session) error {
	path := cmp.Or(c.File, c.Config)
	cfg, warnings, err := gateway.Check(path)
	for _, w := range warnings {
		fmt.Fprintln(s.stderr, "warning:", w)
	}
	var faults config.Faults
	if errors.As(err, &faults) {
		fmt.Fprintln(s.stdout, faults)
		return errReported
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "%s: ok, %s, %s\n", path, plural(len(cfg.Peers), "peer"), plural(written(cfg.Policies), "policy"))
	return nil
}

// written counts the policies that stand in a file; the manual's own template does not.
func written(policies []*config.Policy) (n int) {
	for _, p := range policies {
		if p.File != "" {
			n++
		}
	}
	return n
}
