package main

import (
	"errors"
	"fmt"

	"culvert/config"
	"culvert/internal/gateway"
)

// The guard while no gateway runs: between boot and its start, and after its end.

type guardOnCmd struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"Configuration whose policies are guarded."`
}

func (guardOnCmd) Help() string {
	return `Sets up the guard: the nftables table that drops plaintext which the policies of FILE protect or discard. It stays when the command ends. No gateway needs to run, and none may: a gateway keeps its own guard, and takes over this one without a gap when it starts.

Use it in a unit that is ordered before network-pre.target, together with guard-always = true in [gateway], which keeps the guard when the gateway stops. docs/guard.md has such a unit. Until the gateway runs, all traffic that the policies of FILE cover is dropped, apart from DHCP and what a network card needs to work. For a client that asks its peer for an address, that is everything that its template allows.

Connected private networks are reachable as far as lan-bypass allows it and as far as they exist now: run the command again after the network is up, if the gateway does not start.

It needs root, or the capability NET_ADMIN. Only Linux has a guard.

Example:

    sudo culvert guard on -c /etc/culvert/site.toml
    sudo nft list table inet culvert-50500          # what it drops, and how much that was`
}

func (c *guardOnCmd) Run(s *session) error {
	flows, warnings, err := gateway.GuardOn(c.Config)
	for _, w := range warnings {
		fmt.Fprintln(s.stderr, "warning:", w)
	}
	var faults config.Faults
	if errors.As(err, &faults) {
		fmt.Fprintln(s.stderr, faults)
		return errReported
	}
	if err != nil {
		return err
	}
	if flows == 0 {
		fmt.Fprintln(s.stdout, "no policy protects or discards anything: there is no guard")
		return nil
	}
	fmt.Fprintln(s.stdout, "the guard is on")
	return nil
}

type guardOffCmd struct {
	Config string `short:"c" placeholder:"FILE" help:"Take away only the guard of the gateway with this configuration."`
}

func (guardOffCmd) Help() string {
	return `Takes away the guard that "culvert guard on", a gateway with guard-always = true, or a gateway that was killed has left. From then on traffic that the policies protect leaves in clear. Without FILE it takes away the guards of all gateways that do not run; FILE selects one by the table in its [gateway].

The guard of a gateway that runs stays: write guard = false into its [gateway] and run culvert reload.

Routes and rules that a killed gateway left stay too, until it starts again.

Example:

    sudo culvert guard off`
}

func (c *guardOffCmd) Run(s *session) error {
	tables, err := gateway.GuardOff(c.Config)
	for _, t := range tables {
		fmt.Fprintf(s.stdout, "removed the guard of table %d\n", t)
	}
	if len(tables) == 0 && err == nil {
		fmt.Fprintln(s.stdout, "there was no guard")
	}
	var faults config.Faults
	if errors.As(err, &faults) {
		fmt.Fprintln(s.stderr, faults)
		return errReported
	}
	return err
}
