package main

import (
	"errors"
	"fmt"

	"culvert/config"
	"culvert/internal/gateway"
)

// The guard while no gateway runs: before its start and after its end.

type guardOnCmd struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"Configuration whose policies are guarded."`
}

func (guardOnCmd) Help() string {
	return `Sets up the guard: an nftables table that drops plaintext which the policies of FILE protect or discard. The table stays after the command ends. Run it while no gateway runs. A gateway that starts takes over the guard without a gap.

Use this command in a systemd unit that is ordered before network-pre.target, with guard-always = true in [gateway], which keeps the guard when the gateway stops. docs/guard.md has such a unit. Until the gateway runs, all traffic that the policies of FILE cover is dropped, except DHCP and what a network card needs to work. For a client that requests an address from its peer, that is all traffic that its template allows.

lan-bypass applies to the private networks that are connected now. If the gateway does not start, run the command again after the network is up.

The command needs root or the capability NET_ADMIN. Only Linux has a guard.

Example:

    sudo culvert guard on -c /etc/culvert/site.toml
    sudo nft list table inet culvert-50500          # its rules and counters`
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
		fmt.Fprintln(s.stdout, "no policy protects or discards traffic: the guard has nothing to drop and was not set up")
		return nil
	}
	fmt.Fprintln(s.stdout, "the guard is on")
	return nil
}

type guardOffCmd struct {
	Config string `short:"c" placeholder:"FILE" help:"Remove only the guard of the gateway with this configuration."`
}

func (guardOffCmd) Help() string {
	return `Removes the guard that was left by "culvert guard on", by a gateway with guard-always = true, or by a gateway that was killed. After that, traffic that the policies protect leaves in clear. Without FILE, the guards of all gateways that do not run are removed. FILE selects one of them by the table in its [gateway].

The guard of a running gateway stays. To remove it, write guard = false into its [gateway] and run culvert reload.

Routes and rules that a killed gateway left stay until it starts again.

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
