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

// The print commands: each asks one table of the gateway and shows it.

// output is how a print command shows its rows.
type output struct {
	JSON   bool `name:"json" help:"Print a JSON array; its keys are the manual's properties, durations are in seconds."`
	Detail bool `help:"Print name=value instead of a table."`
	Watch  bool `help:"Print it again every second, until you interrupt it."`
}

type secrets struct {
	ShowSecrets bool `help:"Print secrets and keys, too."`
}

type policyPrint struct{ output }

func (policyPrint) Help() string {
	return `Prints the policy table in the order in which packets meet it: the first policy that matches decides. ph2-state tells whether SAs exist for a policy; a policy with flag I is never tried.

Example:

    culvert policy print
    culvert policy print --json | jq '.[] | select(.active | not)'`
}

func (c *policyPrint) Run(s *session) error {
	return show(s, c.output, s.client().Policies)
}

type peerPrint struct{ output }

func (peerPrint) Help() string {
	return `Prints the peers of the configuration. Whether one is connected is told by active-peers print. A peer with flag R only answers: it is passive, or its address is a prefix.

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
	return `Prints how both sides of a peer authenticate. Secrets and passwords are left out unless --show-secrets is given.

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
	return `Prints what phase 1 offers and accepts: algorithms in order of preference, lifetime, dead peer detection. The entry with flag * is the manual's own.

Example:

    culvert profile print --detail`
}

func (c *profilePrint) Run(s *session) error {
	return show(s, c.output, s.client().Profiles)
}

type proposalPrint struct{ output }

func (proposalPrint) Help() string {
	return `Prints what phase 2 offers and accepts for the SAs of a policy. pfs-group are the groups of a new key exchange for each SA, or none.

Example:

    culvert proposal print --detail`
}

func (c *proposalPrint) Run(s *session) error {
	return show(s, c.output, s.client().Proposals)
}

type modeConfigPrint struct{ output }

func (modeConfigPrint) Help() string {
	return `Prints what road warriors get (responder) or what is asked of the other side. The entry with flag * is the manual's own. Which address somebody has is told by active-peers print.

Example:

    culvert mode-config print --detail`
}

func (c *modeConfigPrint) Run(s *session) error {
	return show(s, c.output, s.client().ModeConfigs)
}

type poolPrint struct{ output }

func (poolPrint) Help() string {
	return `Prints the pools of addresses. used counts what is in use now; kept counts addresses that are kept for who had them last, and are given to others when nothing else is left.

Example:

    culvert pool print`
}

func (c *poolPrint) Run(s *session) error {
	return show(s, c.output, s.client().Pools)
}

type policyGroupPrint struct{ output }

func (policyGroupPrint) Help() string {
	return `Prints the policy groups. Their templates are in policy print, with flag T.

Example:

    culvert policy-group print`
}

func (c *policyGroupPrint) Run(s *session) error {
	return show(s, c.output, s.client().PolicyGroups)
}

type activePeersPrint struct{ output }

func (activePeersPrint) Help() string {
	return `Prints the peers that an IKE SA exists with. Flag R: the other side began; flag N: there is a NAT between, so ESP travels in UDP. ph2-total counts the SAs of the peer.

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
	return `Prints the SAs that protect packets, one line per direction. A pair that works has current-bytes in both lines; bytes in one line only mean that the other side's packets do not arrive. Keys are left out unless --show-secrets is given: with them, Wireshark can open a capture, and so can anybody else.

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
	JSON  bool `name:"json" help:"Print a JSON array of name and value, of all counters."`
	All   bool `help:"Print the counters that are 0, too."`
	Watch bool `help:"Print it again every second, until you interrupt it."`
}

func (statisticsPrint) Help() string {
	return `Prints the counters that are not 0. Every packet that is dropped counts once. in-no-states grows: packets arrive for SAs that do not exist here. out-no-states grows: there is no SA (yet) for a policy that requires one. in-template-mismatches grows: the other side sends what the policy does not allow. docs/troubleshooting.md has a row for each of them.

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

// watchEvery is the time between two answers of --watch.
const watchEvery = time.Second

// clearScreen moves the cursor of a terminal to its first line and clears what follows.
const clearScreen = "\x1b[H\x1b[2J"

// repeat prints once, or with watch until the gateway is gone or the user has enough.
// Each answer is written whole, on a terminal in the place of the one before.
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
