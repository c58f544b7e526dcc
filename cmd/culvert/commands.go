package main

import (
	"context"
	"fmt"
	"time"

	"culvert/internal/operate/control"
)

// The commands that change something in a gateway that runs, and version.

type reloadCmd struct{}

func (reloadCmd) Help() string {
	return `Has the gateway read its configuration file again and prints what changed. Connections whose entries did not change stay. If the file has faults they are printed, the old configuration stays in force, and the exit code is 1. SIGHUP does the same.

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
	return `Removes all installed SAs and tells the peers. The peers stay connected; the next packet that a policy protects makes new SAs.

Example:

    culvert installed-sa flush`
}

func (flushCmd) Run(s *session) error {
	n, err := s.client().Flush(s.ctx)
	return report(s, n, err, "removed %s", "SA pair")
}

type rekeySAsCmd struct{}

func (rekeySAsCmd) Help() string {
	return `Starts a new key exchange for every installed SA, as the end of its lifetime would. The old SAs stay until the new ones work: no packet is lost.

Example:

    culvert installed-sa rekey`
}

func (rekeySAsCmd) Run(s *session) error {
	n, err := s.client().Rekey(s.ctx, true)
	return report(s, n, err, "rekeying %s", "SA pair")
}

type killConnectionsCmd struct{}

func (killConnectionsCmd) Help() string {
	return `Ends the IKE SAs with all peers, their installed SAs with them, and tells the peers. Peers that are not passive are connected again when a policy needs them.

Example:

    culvert active-peers kill-connections`
}

func (killConnectionsCmd) Run(s *session) error {
	n, err := s.client().KillConnections(s.ctx)
	return report(s, n, err, "disconnected %s", "peer")
}

type rekeyPeersCmd struct{}

func (rekeyPeersCmd) Help() string {
	return `Starts a new key exchange for the IKE SA of every peer. The installed SAs move over to the new one and keep their own keys.

Example:

    culvert active-peers rekey`
}

func (rekeyPeersCmd) Run(s *session) error {
	n, err := s.client().Rekey(s.ctx, false)
	return report(s, n, err, "rekeying %s", "IKE SA")
}

type redirectCmd struct {
	Gateway string        `arg:"" name:"GATEWAY" help:"Address or DNS name of the other gateway."`
	Peer    string        `placeholder:"NAME" help:"Only the clients of this peer; otherwise all."`
	Within  time.Duration `default:"2m" help:"Disconnect who is still here after this time; 0: nobody (default 2m)."`
}

func (redirectCmd) Help() string {
	return `Sends the clients that are connected to another gateway (RFC 5685), before maintenance for example. Each connects there first and leaves this one then: its traffic is not interrupted. The other gateway has to accept the same clients, with the same identities.

Only who connected to this gateway with a client that understands redirects can be sent: culvert, strongSwan. The others stay, and so do peers that this gateway connects to itself (no passive = true); active-peers print shows who is left.

Newcomers are not sent away by this. For them write redirect = "GATEWAY" into [[peer]] first, and reload; a reload does not disconnect anybody for that.

Example:

    culvert reload                                      # with redirect = "gw2.example.net" in [[peer]]
    culvert active-peers redirect gw2.example.net
    culvert active-peers print --watch                  # until nobody is left`
}

func (c *redirectCmd) Run(s *session) error {
	r, err := s.client().Redirect(s.ctx, control.RedirectQuery{To: c.Gateway, Peer: c.Peer, Within: c.Within})
	if err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "sent %s to %s\n", plural(r.Sent, "peer"), c.Gateway)
	if r.Stay > 0 {
		fmt.Fprintf(s.stdout, "%s cannot be sent: see culvert active-peers redirect --help\n", plural(r.Stay, "peer"))
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
	return `Prints what this binary was built from. If a gateway answers at the control socket and is another build, its version follows: after an upgrade it has to be restarted.

Example:

    culvert version --json`
}

func (c *versionCmd) Run(s *session) error {
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second) // a gateway that hangs is as none
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
