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
	Config string `short:"c" placeholder:"FILE" help:"The same, with the flag of run."`
}

func (checkCmd) Help() string {
	return `Checks a configuration and all files that it includes. Each fault is printed on one line, with file, line and what to write instead. The configuration is compiled as run does it, but nothing is started or changed, and root is not needed. Settings that are weak, or probably not intended, are warnings on standard error.

A file of another tool (a RouterOS export, swanctl.conf, ipsec.conf, a WireGuard configuration, …) is recognised and named.

Example:

    culvert check site.toml`
}

// Validate wants exactly one file. kong calls it.
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

// written counts the policies that are written in a file, without the manual's default template.
func written(policies []*config.Policy) (n int) {
	for _, p := range policies {
		if p.File != "" {
			n++
		}
	}
	return n
}
