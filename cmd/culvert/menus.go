package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"time"

	"culvert/internal/operate/control"
	"culvert/internal/operate/control/table"
)

// The print commands. Each one shows one table of the gateway.

// output is the flags of a print command.
type output struct {
	JSON   bool `name:"json" help:"Print a JSON array. Its keys are the manual's properties; durations are in seconds."`
	Detail bool `help:"Print each row as name=value pairs."`
	Watch  bool `help:"Print again every second, until you interrupt it."`
}

type secrets struct {
	ShowSecrets bool `help:"Print secrets and keys too."`
}

type policyPrint struct{ output }

func (policyPrint) Help() string {
	return `Prints the policies in the order in which they are tried. The first policy that matches a packet decides. ph2-state says whether a policy has SAs. A policy with flag I is never tried.

Example:

    culvert policy print
    culvert policy print --json | jq '.[] | select(.active | not)'`
}

func (c *policyPrint) Run(s *session) error {
	return show(s, c.output, s.client().Policies)
}

type peerPrint struct{ output }

func (peerPrint) Help() string {
	return `Prints the peers of the configuration. active-peers print shows which of them are connected. The gateway never connects to a peer with flag R: it is passive, or its address is a prefix.

Example:

    culvert peer print`
}

func (c *peerPrint) Run(s *session) error {
	return show(s, c.output, s.client().Peers)
}

type identityPrint struct {
	output
	secrets
}

func (identityPrint) Help() string {
	return `Prints how each side authenticates. Secrets and passwords are printed only with --show-secrets.

Example:

    culvert identity print
    culvert identity print --show-secrets`
}

func (c *identityPrint) Run(s *session) error {
	return show(s, c.output, func(ctx context.Context) ([]control.Identity, error) {
		return s.client().Identities(ctx, c.ShowSecrets)
	})
}

type profilePrint struct{ output }

func (profilePrint) Help() string {
	return `Prints what phase 1 offers and accepts: algorithms in order of preference, lifetime and dead peer detection. The entry with flag * is the default of the manual.

Example:

    culvert profile print --detail`
}

func (c *profilePrint) Run(s *session) error {
	return show(s, c.output, s.client().Profiles)
}

type proposalPrint struct{ output }

func (proposalPrint) Help() string {
	return `Prints what phase 2 offers and accepts for the SAs of a policy. pfs-group is the Diffie-Hellman groups for the keys of each SA, or none.

Example:

    culvert proposal print --detail`
}

func (c *proposalPrint) Run(s *session) error {
	return show(s, c.output, s.client().Proposals)
}

type modeConfigPrint struct{ output }

func (modeConfigPrint) Help() string {
	return `Prints what road warriors are given (responder), or what this gateway requests from its peer. The entry with flag * is the default of the manual. active-peers print shows the address that each client has.

Example:

    culvert mode-config print --detail`
}

func (c *modeConfigPrint) Run(s *session) error {
	return show(s, c.output, s.client().ModeConfigs)
}

type poolPrint struct{ output }

func (poolPrint) Help() string {
	return `Prints the address pools. used is the number of addresses in use. kept is the number of addresses that are reserved for the client that had them last; they are given to other clients when the pool is exhausted.

Example:

    culvert pool print`
}

func (c *poolPrint) Run(s *session) error {
	return show(s, c.output, s.client().Pools)
}

type policyGroupPrint struct{ output }

func (policyGroupPrint) Help() string {
	return `Prints the policy groups. policy print shows their templates, with flag T.

Example:

    culvert policy-group print`
}

func (c *policyGroupPrint) Run(s *session) error {
	return show(s, c.output, s.client().PolicyGroups)
}

type activePeersPrint struct{ output }

func (activePeersPrint) Help() string {
	return `Prints the peers that have an IKE SA. Flag R: the peer began. Flag N: there is a NAT between the two ends. Flag S: the SA was resumed with a session ticket. ph2-total is the number of CHILD SAs. --detail adds what was negotiated.

Example:

    culvert active-peers print`
}

func (c *activePeersPrint) Run(s *session) error {
	return show(s, c.output, s.client().ActivePeers)
}

type installedSAPrint struct {
	output
	secrets
}

func (installedSAPrint) Help() string {
	return `Prints the SAs that protect packets, one line for each direction. If current-bytes grows in one direction only, packets of the other direction do not arrive. With several workers, or a peer that has several CPUs, the column line says which worker has an SA for itself (RFC 9611); none: the peer alone uses it. Keys are printed only with --show-secrets. With these keys Wireshark, or anybody else, can decrypt a capture.

Example:

    culvert installed-sa print
    culvert installed-sa print --show-secrets --json`
}

func (c *installedSAPrint) Run(s *session) error {
	return show(s, c.output, func(ctx context.Context) ([]control.InstalledSA, error) {
		return s.client().InstalledSAs(ctx, c.ShowSecrets)
	})
}

type statisticsPrint struct {
	JSON  bool `name:"json" help:"Print all counters as a JSON array of name and value."`
	All   bool `help:"Print the counters that are 0 too."`
	Watch bool `help:"Print again every second, until you interrupt it."`
}

func (statisticsPrint) Help() string {
	return `Prints the counters that are not 0. Each dropped packet is counted once. in-no-states: packets arrive for SAs that do not exist here. out-no-states: a policy requires an SA and has none (yet). in-template-mismatches: the peer sends packets that the policy does not allow. docs/troubleshooting.md explains every counter.

Example:

    culvert statistics print
    culvert statistics print --all
    culvert statistics print --watch`
}

func (c *statisticsPrint) Run(s *session) error {
	return s.repeat(c.Watch, func(w io.Writer) error {
		rows, err := s.client().Statistics(s.ctx)
		switch {
		case err != nil:
			return err
		case c.JSON:
			return writeJSON(w, rows)
		}
		return table.WriteStatistics(w, rows, c.All)
	})
}

type offloadPrint struct{ output }

func (offloadPrint) Help() string {
	return `Prints what the system does for many packets at once, between the device and the hosts, and between the sockets and the peers. Where it is not in use, detail says why and what happens instead: the tunnel works and is slower.

Example:

    culvert offload print`
}

func (c *offloadPrint) Run(s *session) error {
	return show(s, c.output, s.client().Offloads)
}

// show prints the rows of one menu.
func show[T any](s *session, o output, ask func(context.Context) ([]T, error)) error {
	return s.repeat(o.Watch, func(w io.Writer) error {
		rows, err := ask(s.ctx)
		switch {
		case err != nil:
			return err
		case o.JSON:
			return writeJSON(w, rows)
		case o.Detail:
			return table.WriteDetail(w, rows, s.width)
		}
		return table.Write(w, rows, s.width)
	})
}

// watchEvery is the interval of --watch.
const watchEvery = time.Second

// clearScreen moves the cursor of a terminal to its first line and clears what follows.
const clearScreen = "\x1b[H\x1b[2J"

// repeat prints once, or with watch until the user interrupts it or the gateway does not answer.
// Each answer is written as a whole. On a terminal it replaces the one before.
func (s *session) repeat(watch bool, print func(io.Writer) error) error {
	if !watch {
		return print(s.stdout)
	}
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for s.ctx.Err() == nil {
		var b bytes.Buffer
		if s.width > 0 {
			b.WriteString(clearScreen)
		}
		if err := print(&b); err != nil {
			return err
		}
		if _, err := s.stdout.Write(b.Bytes()); err != nil {
			return err
		}
		select {
		case <-s.ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
