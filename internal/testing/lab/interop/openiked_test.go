//go:build linux

package interop

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"culvert/internal/testing/lab"
)

const openIKEDName = "OpenIKED"

// openIKEDCells: it has no command that rekeys, so that its SAs end where it is to do so, and none that deletes one SA. As
// initiator it has no MOBIKE, and it has no PPK. On Linux it has neither AEADs nor SHA-256 in ESP.
func openIKEDCells() []daemonCell {
	pfs := espSuite{aes256, sha512, ecp256}
	ours := []daemonStep{weRekeyTheirs, weRekeyTheirIKE}
	const brief = "ikelifetime 20 lifetime 20\n"
	cells := []daemonCell{
		{name: "psk", event: "culvert rekeys both SAs", do: ours},
		{name: "psk-pfs", event: "culvert rekeys both SAs", suite: pfs, do: ours},
		{name: "psk", event: "culvert rekeys both SAs", theyInitiate: true, do: ours},
		{name: "psk-pfs", event: "culvert rekeys both SAs", suite: pfs, theyInitiate: true, do: ours},
		{name: "lifetimes-end", event: "OpenIKED rekeys both SAs", conn: brief, brief: true, do: []daemonStep{openIKEDRekeys}},
		{name: "lifetimes-end", event: "OpenIKED rekeys both SAs", conn: brief, brief: true, theyInitiate: true, do: []daemonStep{openIKEDRekeys}},
		{name: "rsa", cert: "rsa-2048"},
		{name: "rsa", cert: "rsa-2048", theyInitiate: true},
		{name: "ecdsa", cert: "p256"},
		{name: "nat", event: "culvert is behind a NAT, and rekeys both SAs", nat: true, udp: true, do: ours},
	}
	for i := range cells {
		if cells[i].suite == (espSuite{}) {
			cells[i].suite = espSuite{aes256, sha512, noPFS}
		}
	}
	return usualDaemonCells(openIKEDName, cells)
}

// openIKEDDaemon is OpenIKED with one policy, t.
type openIKEDDaemon struct{ *lab.OpenIKED }

// ikedConf is its configuration. It begins when it is told to.
func (c *daemonCell) ikedConf() string {
	mode, child := "passive", "childsa enc aes-256 auth hmac-sha2-512"
	if c.theyInitiate {
		mode = "active"
	}
	if c.suite.pfs != noPFS {
		child += " group ecp256"
	}
	where := "from 10.2.0.0/24 to 10.1.0.0/24\nlocal 10.9.0.2 peer 10.9.0.1\n"
	who := "srcid 10.9.0.2 dstid 10.9.0.1\n"
	if c.named() {
		who = "srcid they.example.net dstid we.example.net\n"
	}
	if c.nat {
		where = "from 10.2.0.0/24 to 10.1.0.0/24\nlocal 10.9.0.2 peer any\n"
	}
	suites, lives := "ikesa enc aes-256-gcm prf hmac-sha2-256 group ecp256\n"+child+"\n", ""
	var rest []string
	for line := range strings.Lines(c.conn) {
		switch word, _, _ := strings.Cut(line, " "); word {
		case "from":
			where = line
		case "local":
			where += line
		case "srcid":
			who = line
		case "ikelifetime":
			lives = line
		default:
			rest = append(rest, line)
		}
	}
	auth := ""
	if c.cert == "" {
		auth = fmt.Sprintf("psk %q\n", secret)
	}
	text := "ikev2 t " + mode + " esp\n" + where + suites + who + lives + auth + strings.Join(rest, "")
	head := ""
	if c.theyInitiate {
		head = "set passive\n" // until it is told to begin: it does not even answer
	}
	return head + strings.ReplaceAll(strings.TrimSpace(text), "\n", " \\\n\t") + "\n"
}

func (o openIKEDDaemon) load(ctx context.Context, c *daemonCell) (dir string, err error) {
	if c.cert != "" {
		they, root, files := c.certificates()
		if err := o.Import(they.KeyPEM(), they.PEM(), root.PEM()); err != nil {
			return "", err
		}
		dir = files
	}
	return dir, o.Load(ctx, c.ikedConf())
}

func (o openIKEDDaemon) begin(context.Context) error {
	_, err := o.Control("active")
	return err
}

func openIKEDLane(t *testing.T) {
	lab.NeedOpenIKED(t)
	runDaemonCells(t, openIKEDCells(), func(_ context.Context, g *lab.Guest) (daemon, error) {
		o, err := g.OpenIKED()
		return openIKEDDaemon{o}, err
	})
}

// openIKEDRekeys: OpenIKED replaces each SA when its lifetime nears its end.
var openIKEDRekeys = daemonStep{"OpenIKED rekeys both SAs", func(ctx context.Context, r *daemonTunnel) error {
	in := r.in.SPI
	return lab.Until(ctx, func() error {
		if err := r.look(ctx); err != nil {
			return err
		}
		if r.in.SPI == in || r.logged("ike-rekeyed") == 0 {
			return errors.New("an SA is still the old one")
		}
		return nil
	})
}}
