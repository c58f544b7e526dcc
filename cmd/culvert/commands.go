package main

import (
	"context"
	"fmt"
	"time"

	"culvert/internal/operate/control"
)

// The commands that change something in a running gateway, and version.

type reloadCmd struct{}

func (reloadCmd) Help() string {
	return `Makes the running gateway read its configuration file again, and prints what changed. Tunnels whose entries did not change are not interrupted. If the file has faults, they are printed, the old configuration stays in force, and the exit code is 1. SIGHUP does the same.

Example:

    culvert check /etc/culvert/site.toml && culvert reload`
}

func (reloadCmd) Run(s *session) error {
	report, err := s.client().Reload(s.ctx)
	if err != nil {
		return err
	}
	for _, w := range report.Warnings {
		fmt.Fprintln(s.stderr, "warning:", w)
	}
	for _, change := range report.Changes {
		fmt.Fprintln(s.stdout, change)
	}
	if len(report.Changes) == 0 {
		fmt.Fprintln(s.stdout, "nothing changed")
	}
	return nil
}

type flushCmd struct{}

func (flushCmd) Help() string {
	return `Removes all installed SAs, here and at the peers. The peers stay connected, and the next packet that a policy protects starts the negotiation of a new SA.

Example:

    culvert installed-sa flush`
}

func (flushCmd) Run(s *session) error {
	n, err := s.client().Flush(s.ctx)
	return report(s, n, err, "removed %s", "SA pair")
}

type rekeySAsCmd struct{}

func (rekeySAsCmd) Help() string {
	return `Replaces every installed SA by one with new keys, as at the end of its lifetime. The old SAs stay until the new ones work, so no packet is lost.

Example:

    culvert installed-sa rekey`
}

func (rekeySAsCmd) Run(s *session) error {
	n, err := s.client().Rekey(s.ctx, true)
	return report(s, n, err, "rekeying %s", "SA pair")
}

type killConnectionsCmd struct{}

func (killConnectionsCmd) Help() string {
	return `Deletes the IKE SAs with all peers and their installed SAs, here and at the peers. Peers that are not passive are connected again when a policy needs them.

Example:

    culvert active-peers kill-connections`
}

func (killConnectionsCmd) Run(s *session) error {
	n, err := s.client().KillConnections(s.ctx)
	return report(s, n, err, "disconnected %s", "peer")
}

type rekeyPeersCmd struct{}

func (rekeyPeersCmd) Help() string {
	return `Replaces the IKE SA with every peer by one with new keys. The installed SAs move to the new IKE SA and keep their own keys.

Example:

    culvert active-peers rekey`
}

func (rekeyPeersCmd) Run(s *session) error {
	n, err := s.client().Rekey(s.ctx, false)
	return report(s, n, err, "rekeying %s", "IKE SA")
}

type redirectCmd struct {
	Gateway string        `arg:"" name:"GATEWAY" help:"Address or DNS name of the other gateway."`
	Peer    string        `placeholder:"NAME" help:"Send only the clients of this peer (default: all)."`
	Within  time.Duration `default:"2m" help:"Disconnect clients that are still connected after this time (default 2m; 0: never)."`
}

func (redirectCmd) Help() string {
	return `Sends the connected clients to another gateway (RFC 5685), for example before maintenance. Each client connects to the other gateway before it leaves this one, so its traffic is not interrupted. The other gateway must accept the same clients, with the same identities.

Only clients that support redirects can be sent, such as Culvert and strongSwan. Other clients stay, and so do peers that this gateway connects to itself (without passive = true). active-peers print shows who is still connected.

This command does not affect clients that connect later. To redirect those too, write redirect = "GATEWAY" into [[peer]] first and reload. A reload disconnects nobody.

Example:

    culvert reload                                      # with redirect = "gw2.example.net" in [[peer]]
    culvert active-peers redirect gw2.example.net
    culvert active-peers print --watch                  # until no client is left`
}

func (c *redirectCmd) Run(s *session) error {
	r, err := s.client().Redirect(s.ctx, control.RedirectQuery{To: c.Gateway, Peer: c.Peer, Within: c.Within})
	if err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "redirected %s to %s\n", plural(r.Sent, "peer"), c.Gateway)
	if r.Stay > 0 {
		fmt.Fprintf(s.stdout, "%s cannot be redirected: see culvert active-peers redirect --help\n", plural(r.Stay, "peer"))
	}
	return nil
}

func report(s *session, n int, err error, format, noun string) error {
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.stdout, format+"\n", plural(n, noun))
	return err
}

// plural is "1 peer", "2 peers", "3 policies".
func plural(n int, noun string) string {
	switch {
	case n == 1:
	case noun[len(noun)-1] == 'y':
		noun = noun[:len(noun)-1] + "ies"
	default:
		noun += "s"
	}
	return fmt.Sprint(n, " ", noun)
}

type versionCmd struct {
	JSON bool `name:"json" help:"Print a JSON object."`
}

func (versionCmd) Help() string {
	return `Prints the version of this binary. If the running gateway is another build, its version is printed too: restart the gateway after an upgrade.

Example:

    culvert version --json`
}

func (c *versionCmd) Run(s *session) error {
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second) // a gateway that hangs counts as none
	defer cancel()
	v := struct {
		control.Version
		Running *control.Version `json:"running,omitempty"`
	}{Version: control.ReadVersion()}
	if running, err := s.client().Version(ctx); err == nil {
		v.Running = &running
	}
	if c.JSON {
		return writeJSON(s.stdout, v)
	}
	fmt.Fprintln(s.stdout, v.Version)
	if v.Running != nil && *v.Running != v.Version {
		fmt.Fprintln(s.stdout, "running gateway:", *v.Running)
	}
	return nil
}
