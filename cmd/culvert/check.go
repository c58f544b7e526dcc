package main

import (
	"errors"
	"fmt"

	"culvert/config"
)

type checkCmd struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"Configuration to check."`
}

func (checkCmd) Help() string {
	return `Reads a configuration and everything it includes and prints every fault, one line each, with file, line and what is accepted instead. Nothing is started and nothing is changed; no privilege is needed. What works but likely not as meant is a warning on standard error.

Example:

    culvert check -c site.toml`
}

func (c *checkCmd) Run(s *session) error {
	cfg, warnings, err := config.Load(c.Config)
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
	fmt.Fprintf(s.stdout, "%s: ok, %s, %s\n", c.Config, plural(len(cfg.Peers), "peer"), plural(written(cfg.Policies), "policy"))
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
