//go:build linux

package interop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"culvert/internal/testing/lab"
)

const libreswanName = "libreswan"

func libreswanCells() []daemonCell {
	cbc := espSuite{aes256, sha256, ecp256}
	rekeys := []daemonStep{weRekeyTheirs, libreswanRekeys, weRekeyTheirIKE, libreswanRekeysIKE}
	// As responder it has MOBIKE for peers at any address alone ("that end is not %any" in its ikev2_ike_auth.c).
	const ofAnybody = "right=%any\nrightid=10.9.0.1\nmobike=yes\n"
	const moves = "left=%defaultroute\nleftid=10.9.0.2\nmobike=yes\n"
	cells := []daemonCell{
		{name: "psk", event: "each side rekeys both SAs", do: rekeys},
		{name: "psk-cbc-pfs", event: "each side rekeys both SAs", suite: cbc, do: rekeys},
		{name: "psk", event: "each side rekeys both SAs", theyInitiate: true, do: rekeys},
		{name: "psk-cbc-pfs", event: "each side rekeys both SAs", suite: cbc, theyInitiate: true, do: rekeys},
		{name: "pfs-differs", event: "culvert rekeys, libreswan wants PFS and refuses: a new IKE SA in time", conn: "pfs=yes\n", do: []daemonStep{libreswanRefuses}},
		{name: "rsa", cert: "rsa-2048"},
		{name: "rsa", cert: "rsa-2048", theyInitiate: true},
		{name: "ecdsa", cert: "p256"},
		{name: "ecdsa", cert: "p256", theyInitiate: true},
		{name: "ppk", event: "both require a PPK", conn: "ppk=insist\n", identity: "ppk-id = \"lab\"\nppk-secret = \"quantum lab\"\nppk-required = true\n"},
		{name: "ppk", event: "both require a PPK", conn: "ppk=insist\n", identity: "ppk-id = \"lab\"\nppk-secret = \"quantum lab\"\nppk-required = true\n", theyInitiate: true},
		{name: "forced-encapsulation", event: "each side rekeys both SAs", conn: "encapsulation=yes\n", udp: true, theyInitiate: true, do: rekeys},
		{name: "nat", event: "culvert is behind a NAT; each side rekeys both SAs", nat: true, udp: true, do: rekeys},
		{name: "killed", event: "libreswan is killed, started, and begins anew", theyInitiate: true, conn: "initial-contact=yes\n", do: []daemonStep{daemonIsKilled}},
		{name: "killed-dpd", event: "libreswan is killed and started; culvert notices and begins anew", profile: "dpd-interval = \"2s\"\n", loses: true, do: []daemonStep{daemonIsKilledUnseen}},
		{name: "we-are-killed", event: "culvert is killed, started, and begins anew", do: []daemonStep{weAreKilledAndBack}},
		{name: "deleted", event: "libreswan deletes its SAs, and begins anew", theyInitiate: true, do: []daemonStep{libreswanDeletes}},
		{name: "we-are-client", event: "culvert gets an address; both SAs rekeyed", hosts: [2]netip.Addr{{}, kernelInner[0][1]},
			conn: "leftid=@office.example.net\nright=%any\nrightid=@anna.example.net\nrightsubnet=\nrightaddresspool=10.77.0.10-10.77.0.20\nrightmodecfgclient=yes\nleftmodecfgserver=yes\nmodecfgdns=10.2.0.53\nnarrowing=yes\n",
			toml: daemonSuites + daemonOurClient, do: rekeys},
		{name: "they-are-client", event: "libreswan gets an address; both SAs rekeyed", theyInitiate: true, hosts: [2]netip.Addr{kernelInner[0][0], netip.MustParseAddr("192.168.77.2")},
			conn: "leftid=@anna.example.net\nleftsubnet=0.0.0.0/0\nrightsubnet=0.0.0.0/0\nleftmodecfgclient=yes\nrightid=@office.example.net\nrightmodecfgserver=yes\nnarrowing=yes\n",
			toml: daemonSuites + daemonOurServer, do: rekeys},
		{name: "mobike", event: "culvert's address goes away, another is there", conn: ofAnybody, do: []daemonStep{weMoveTo("10.9.0.11")}},
		{name: "mobike", event: "libreswan's address goes away, another is there; it stays on port 500", theyInitiate: true, conn: moves, do: []daemonStep{daemonMoves}},
		{name: "mobike-forced-encapsulation", event: "libreswan's address goes away, another is there", theyInitiate: true, udp: true, conn: moves + "encapsulation=yes\n", do: []daemonStep{daemonMoves}},
	}
	return usualDaemonCells(libreswanName, cells)
}

// ipsecConf is libreswan's connection t.
func (c *daemonCell) ipsecConf() string {
	lines := map[string]string{
		"left": "10.9.0.2", "right": "10.9.0.1", "leftsubnet": "10.2.0.0/24", "rightsubnet": "10.1.0.0/24",
		"authby": "secret", "ikev2": "insist", "auto": "add",
		"ike": "aes_gcm256-sha2_256;dh19", "esp": "aes_gcm128-null",
	}
	if c.suite.encr == aes256 {
		lines["esp"] = "aes256-sha2_256;dh19"
	}
	if c.suite.pfs == noPFS {
		lines["pfs"] = "no"
	}
	if c.named() {
		lines["leftid"], lines["rightid"] = "@they.example.net", "@we.example.net"
	}
	if c.cert != "" {
		lines["leftcert"], lines["leftsendcert"], lines["rightca"] = "they", "always", "%same"
		delete(lines, "authby") // any signature
	}
	for line := range strings.Lines(c.conn) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		lines[name] = value
	}
	var names []string
	for name, value := range lines {
		if value != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	text := "conn t\n"
	for _, name := range names {
		text += "\t" + name + "=" + lines[name] + "\n"
	}
	return text
}

// ipsecSecrets is libreswan's half of every pre-shared key and PPK.
func ipsecSecrets() string { return fmt.Sprintf(": PSK %q\n: PPKS \"lab\" \"quantum lab\"\n", secret) }

// libreswanDaemon is libreswan with one connection, t.
type libreswanDaemon struct{ *lab.Libreswan }

func (s libreswanDaemon) load(ctx context.Context, c *daemonCell) (dir string, err error) {
	if c.cert != "" {
		they, root, files := c.certificates()
		if err := s.Import("they", append(they.PEM(root), they.KeyPEM()...)); err != nil {
			return "", err
		}
		dir = files
	}
	return dir, s.Load(ctx, c.ipsecConf(), ipsecSecrets())
}

func (s libreswanDaemon) begin(context.Context) error { return s.Initiate("t") }

func libreswanLane(t *testing.T) {
	lab.NeedLibreswan(t)
	runDaemonCells(t, libreswanCells(), func(ctx context.Context, g *lab.Guest) (daemon, error) {
		s, err := g.Libreswan(ctx)
		return libreswanDaemon{s}, err
	})
}

func (r *daemonTunnel) whack(args ...string) func() error {
	return func() error { _, err := r.daemon.(libreswanDaemon).Whack(args...); return err }
}

var (
	libreswanRekeys = daemonStep{"libreswan rekeys the CHILD SA", func(ctx context.Context, r *daemonTunnel) error {
		return r.another(ctx, r.whack("--name", "t", "--rekey-ipsec", "--asynchronous"))
	}}
	libreswanRekeysIKE = daemonStep{"libreswan rekeys the IKE SA", func(ctx context.Context, r *daemonTunnel) error {
		return r.anotherIKE(ctx, r.whack("--name", "t", "--rekey-ike", "--asynchronous"))
	}}
	libreswanRefuses = daemonStep{"culvert rekeys, and libreswan refuses", func(ctx context.Context, r *daemonTunnel) error {
		before := r.logged("ike-up")
		if err := r.another(ctx, r.command(ctx, "installed-sa", "rekey")); err != nil {
			return err
		}
		if r.logged("ike-up") == before {
			return errors.New("no IKE SA was made anew")
		}
		return nil
	}}
	libreswanDeletes = daemonDeletes(func(ctx context.Context, r *daemonTunnel) error { return r.whack("--name", "t", "--terminate")() })
)
