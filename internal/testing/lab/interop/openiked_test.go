//go:build linux

package interop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"culvert/internal/testing/lab"
)

const openIKEDName = "OpenIKED"

// openIKEDCells: it has no command that rekeys, so that its SAs end where it is to do so. It has no PPK, and it neither sends
// INITIAL_CONTACT nor reads it. As initiator it has no MOBIKE. As responder it moves its IKE SA and, on Linux, no CHILD SA: it
// asks the kernel with a PF_KEY message that only OpenBSD has (IKED_SADB_UPDATE_SA_ADDRESSES in its pfkey.c). On Linux it has
// neither AEADs nor SHA-256 in ESP.
func openIKEDCells() []daemonCell {
	pfs := espSuite{aes256, sha512, ecp256}
	suites := strings.Replace(daemonSuites, `"aes-128-gcm"`, "\"aes-256-cbc\"\nauth-algorithms = \"sha512\"", 1)
	ours := []daemonStep{weRekeyTheirs, weRekeyTheirIKE}
	const dpd = "dpd-interval = \"2s\"\n"
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
		{name: "ecdsa", cert: "p256", theyInitiate: true},
		{name: "nat", event: "culvert is behind a NAT, and rekeys both SAs", nat: true, udp: true, do: ours},
		{name: "killed-dpd", event: "OpenIKED is killed and started; culvert notices and begins anew", profile: dpd, loses: true, do: []daemonStep{daemonIsKilledUnseen}},
		{name: "killed", event: "OpenIKED is killed, started, and begins anew, without INITIAL_CONTACT", theyInitiate: true, loses: true, keeps: true, do: []daemonStep{daemonIsKilled}},
		{name: "we-are-killed", event: "culvert is killed, started, and begins anew", keeps: true, do: []daemonStep{weAreKilledAndBack}},
		{name: "deleted", event: "OpenIKED deletes its SAs, and begins anew", theyInitiate: true, do: []daemonStep{daemonDeletes(func(_ context.Context, r *daemonTunnel) error {
			_, err := r.daemon.(openIKEDDaemon).Control("reset", "sa")
			return err
		})}},
		{name: "we-are-client", event: "culvert gets an address, and rekeys both SAs", hosts: [2]netip.Addr{{}, kernelInner[0][1]},
			conn: "from 10.2.0.0/24 to dynamic\nlocal 10.9.0.2 peer any\nsrcid office.example.net dstid anna.example.net\nconfig address 10.77.0.0/24\nconfig name-server 10.2.0.53\n",
			toml: suites + daemonOurClient, do: ours},
		{name: "they-are-client", event: "OpenIKED gets an address; culvert rekeys both SAs", theyInitiate: true, hosts: [2]netip.Addr{kernelInner[0][0], netip.MustParseAddr("192.168.77.2")},
			conn: "from dynamic to 10.1.0.0/24\nlocal 10.9.0.2 peer 10.9.0.1\nsrcid anna.example.net dstid office.example.net\nrequest address any\niface wan0\n",
			toml: suites + daemonOurServer, do: ours},
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
