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
	return usualDaemonCells(libreswanName, append(cells, libreswanV1Cells()...))
}

// libreswanV1Cells are IKEv1, which libreswan has disabled unless its policy accepts it.
func libreswanV1Cells() (cs []daemonCell) {
	rekeys := []daemonStep{weRekeyTheirs, libreswanMakesAnother}
	cbc := espSuite{aes256, sha256, modp2048}
	for _, c := range []daemonCell{
		{name: "v1-main", mode: "main", event: "each side rekeys the CHILD SA", suite: cbc, do: rekeys},
		{name: "v1-aggressive", mode: "aggressive", event: "each side rekeys the CHILD SA", do: rekeys},
		{name: "v1-main-rsa", mode: "main", cert: "rsa-2048"},
	} {
		they := c
		they.theyInitiate = true
		cs = append(cs, c, they)
	}
	const login = "auth-method = \"pre-shared-key-xauth\"\n"
	user := "username = \"anna\"\npassword = \"" + userPassword + "\"\n"
	return append(cs,
		daemonCell{name: "v1-xauth", mode: "main", event: "culvert logs in, and gets an address", hosts: [2]netip.Addr{{}, kernelInner[0][1]},
			conn: "leftid=@office.example.net\nright=%any\nrightid=@anna.example.net\nrightsubnet=\nrightaddresspool=10.77.0.10-10.77.0.20\nleftxauthserver=yes\nrightxauthclient=yes\n" +
				"leftmodecfgserver=yes\nrightmodecfgclient=yes\nmodecfgpull=yes\nmodecfgdns=10.2.0.53\nxauthby=file\nrekey=no\n",
			toml: inMode("main", daemonSuites+strings.Replace(daemonOurClient, "mode-config =", login+user+"mode-config =", 1))},
		daemonCell{name: "v1-xauth", mode: "main", event: "libreswan logs in, and gets an address", theyInitiate: true, hosts: [2]netip.Addr{kernelInner[0][0], netip.MustParseAddr("192.168.77.2")},
			conn: "leftid=@anna.example.net\nleftsubnet=\nrightsubnet=10.1.0.0/24\nleftxauthclient=yes\nrightxauthserver=yes\nleftusername=anna\n" +
				"leftmodecfgclient=yes\nrightmodecfgserver=yes\nmodecfgpull=yes\nrightid=@office.example.net\nrekey=no\n",
			toml: inMode("main", daemonSuites+"[[user]]\nname = \"anna\"\npassword = \""+userPassword+"\"\n"+strings.Replace(daemonOurServer, "mode-config = \"lab\"", login+"mode-config = \"lab\"", 1))})
}

// ipsecConf is libreswan's connection t.
func (c *daemonCell) ipsecConf() string {
	lines := map[string]string{
		"left": "10.9.0.2", "right": "10.9.0.1", "leftsubnet": "10.2.0.0/24", "rightsubnet": "10.1.0.0/24",
		"authby": "secret", "ikev2": "insist", "auto": "add",
		"ike": "aes_gcm256-sha2_256;dh19", "esp": "aes_gcm128-null",
	}
	if c.mode != "" {
		lines["ikev2"], lines["ike"], lines["aggressive"] = "no", "aes256-sha2_256;dh14", yesno(c.mode == "aggressive")
	}
	if c.suite.encr == aes256 {
		lines["esp"] = "aes256-sha2_256" + map[group]string{ecp256: ";dh19", modp2048: ";dh14"}[c.suite.pfs]
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
func ipsecSecrets() string {
	return fmt.Sprintf(": PSK %q\n: PPKS \"lab\" \"quantum lab\"\n@anna : XAUTH %q\n", secret, userPassword)
}

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
	if err := s.User("anna", userPassword); err != nil {
		return "", err
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
	// Its commands to rekey are of IKEv2. In IKEv1 one to begin again makes another CHILD SA of the same.
	libreswanMakesAnother = daemonStep{"libreswan makes another CHILD SA", func(ctx context.Context, r *daemonTunnel) error {
		return r.another(ctx, r.whack("--name", "t", "--initiate", "--asynchronous"))
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
