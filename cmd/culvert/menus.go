package main

import (
	"encoding/json"
	"io"

	"culvert/internal/operate/control/table"
)

// The print commands: each asks one table of the gateway and shows it.

// output is how a print command shows its rows.
type output struct {
	JSON   bool `name:"json" help:"Print a JSON array; its keys are the manual's properties."`
	Detail bool `help:"Print name=value instead of a table."`
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
	rows, err := s.client().Policies(s.ctx)
	return show(s, c.output, rows, err)
}

type peerPrint struct{ output }

func (peerPrint) Help() string {
	return `Prints the peers of the configuration. Whether one is connected is told by active-peers print. A peer with flag R only answers: it is passive, or its address is a prefix.

Example:

    culvert peer print`
}

func (c *peerPrint) Run(s *session) error {
	rows, err := s.client().Peers(s.ctx)
	return show(s, c.output, rows, err)
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
	rows, err := s.client().Identities(s.ctx, c.ShowSecrets)
	return show(s, c.output, rows, err)
}

type profilePrint struct{ output }

func (profilePrint) Help() string {
	return `Prints what phase 1 offers and accepts: algorithms in order of preference, lifetime, dead peer detection. The entry with flag * is the manual's own.

Example:

    culvert profile print --detail`
}

func (c *profilePrint) Run(s *session) error {
	rows, err := s.client().Profiles(s.ctx)
	return show(s, c.output, rows, err)
}

type proposalPrint struct{ output }

func (proposalPrint) Help() string {
	return `Prints what phase 2 offers and accepts for the SAs of a policy. pfs-group are the groups of a new key exchange for each SA, or none.

Example:

    culvert proposal print --detail`
}

func (c *proposalPrint) Run(s *session) error {
	rows, err := s.client().Proposals(s.ctx)
	return show(s, c.output, rows, err)
}

type modeConfigPrint struct{ output }

func (modeConfigPrint) Help() string {
	return `Prints what road warriors get (responder) or what is asked of the other side. The entry with flag * is the manual's own. Which address somebody has is told by active-peers print.

Example:

    culvert mode-config print --detail`
}

func (c *modeConfigPrint) Run(s *session) error {
	rows, err := s.client().ModeConfigs(s.ctx)
	return show(s, c.output, rows, err)
}

type poolPrint struct{ output }

func (poolPrint) Help() string {
	return `Prints the pools of addresses. used counts what is in use now; kept counts addresses that are kept for who had them last, and are given to others when nothing else is left.

Example:

    culvert pool print`
}

func (c *poolPrint) Run(s *session) error {
	rows, err := s.client().Pools(s.ctx)
	return show(s, c.output, rows, err)
}

type policyGroupPrint struct{ output }

func (policyGroupPrint) Help() string {
	return `Prints the policy groups. Their templates are in policy print, with flag T.

Example:

    culvert policy-group print`
}

func (c *policyGroupPrint) Run(s *session) error {
	rows, err := s.client().PolicyGroups(s.ctx)
	return show(s, c.output, rows, err)
}

type activePeersPrint struct{ output }

func (activePeersPrint) Help() string {
	return `Prints the peers that an IKE SA exists with. Flag R: the other side began; flag N: there is a NAT between, so ESP travels in UDP. ph2-total counts the SAs of the peer.

Example:

    culvert active-peers print`
}

func (c *activePeersPrint) Run(s *session) error {
	rows, err := s.client().ActivePeers(s.ctx)
	return show(s, c.output, rows, err)
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
	rows, err := s.client().InstalledSAs(s.ctx, c.ShowSecrets)
	return show(s, c.output, rows, err)
}

type statisticsPrint struct {
	JSON bool `name:"json" help:"Print a JSON array of name and value."`
}

func (statisticsPrint) Help() string {
	return `Prints the counters of dropped packets. Every packet that is dropped counts once. in-no-states grows: packets arrive for SAs that do not exist here. out-no-states grows: there is no SA (yet) for a policy that requires one. in-template-mismatches grows: the other side sends what the policy does not allow.

Example:

    culvert statistics print
    watch -d culvert statistics print`
}

func (c *statisticsPrint) Run(s *session) error {
	rows, err := s.client().Statistics(s.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(s.stdout, rows)
	}
	return table.WriteStatistics(s.stdout, rows)
}

// show prints the rows of one menu, or returns the error that took their place.
func show[T any](s *session, o output, rows []T, err error) error {
	switch {
	case err != nil:
		return err
	case o.JSON:
		return writeJSON(s.stdout, rows)
	case o.Detail:
		return table.WriteDetail(s.stdout, rows, s.width)
	}
	return table.Write(s.stdout, rows, s.width)
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
