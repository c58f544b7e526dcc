//go:build linux

package interop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/config"
	"culvert/internal/testing/lab"
)

// libreswanCell is a test of culvert with libreswan, which negotiates in a guest whose kernel carries the packets. What a
// cell leaves empty is the usual: a tunnel between two networks, with pre-shared keys.
type libreswanCell struct {
	name  string
	event string // for the table; empty: none
	suite espSuite

	theyInitiate bool
	nat          bool // we are behind a NAT
	udp          bool // ESP is in UDP
	loses        bool // the kernel gets packets for SAs that it has not any more

	conn string // lines of libreswan's connection beside the usual

	profile, identity string // lines of our [[profile]] and [[identity]]
	toml              string // all of ours; empty: the usual
	hosts             [2]netip.Addr

	cert string // kind of key of the certificates; empty: pre-shared keys
	do   []libreswanStep
}

// libreswanStep is something that happens, after which the tunnel is checked.
type libreswanStep struct {
	name string
	do   func(context.Context, *libreswanTunnel) error
}

const libreswanGroup = "libreswan"

func libreswanCells() []libreswanCell {
	cbc := espSuite{aes256, sha256, ecp256}
	rekeys := []libreswanStep{weRekeyLibreswan, libreswanRekeys, weRekeyLibreswansIKE, libreswanRekeysIKE}
	cells := []libreswanCell{
		{name: "psk", event: "each side rekeys both SAs", do: rekeys},
		{name: "psk-cbc-pfs", event: "each side rekeys both SAs", suite: cbc, do: rekeys},
		{name: "psk", event: "each side rekeys both SAs", theyInitiate: true, do: rekeys},
		{name: "psk-cbc-pfs", event: "each side rekeys both SAs", suite: cbc, theyInitiate: true, do: rekeys},
		{name: "pfs-differs", event: "culvert rekeys, libreswan wants PFS and refuses: a new IKE SA in time", conn: "pfs=yes\n", do: []libreswanStep{libreswanRefuses}},
		{name: "rsa", cert: "rsa-2048"},
		{name: "rsa", cert: "rsa-2048", theyInitiate: true},
		{name: "ecdsa", cert: "p256"},
		{name: "ecdsa", cert: "p256", theyInitiate: true},
		{name: "ppk", event: "both require a PPK", conn: "ppk=insist\n", identity: "ppk-id = \"lab\"\nppk-secret = \"quantum lab\"\nppk-required = true\n"},
		{name: "ppk", event: "both require a PPK", conn: "ppk=insist\n", identity: "ppk-id = \"lab\"\nppk-secret = \"quantum lab\"\nppk-required = true\n", theyInitiate: true},
		{name: "forced-encapsulation", event: "each side rekeys both SAs", conn: "encapsulation=yes\n", udp: true, theyInitiate: true, do: rekeys},
		{name: "nat", event: "culvert is behind a NAT; each side rekeys both SAs", nat: true, udp: true, do: rekeys},
		{name: "killed", event: "libreswan is killed, started, and begins anew", theyInitiate: true, conn: "initial-contact=yes\n", do: []libreswanStep{libreswanIsKilled}},
		{name: "killed-dpd", event: "libreswan is killed and started; culvert notices and begins anew", profile: "dpd-interval = \"2s\"\n", loses: true, do: []libreswanStep{libreswanIsKilledUnseen}},
		{name: "we-are-killed", event: "culvert is killed, started, and begins anew", do: []libreswanStep{weAreKilledAtLibreswan}},
		{name: "deleted", event: "libreswan deletes its SAs, and begins anew", theyInitiate: true, do: []libreswanStep{libreswanDeletes}},
		{name: "we-are-client", event: "culvert gets an address; both SAs rekeyed", hosts: [2]netip.Addr{{}, kernelInner[0][1]},
			conn: "leftid=@office.example.net\nright=%any\nrightid=@anna.example.net\nrightsubnet=\nrightaddresspool=10.77.0.10-10.77.0.20\nrightmodecfgclient=yes\nleftmodecfgserver=yes\nmodecfgdns=10.2.0.53\nnarrowing=yes\n",
			toml: libreswanSuites + libreswanOurClient, do: rekeys},
		{name: "they-are-client", event: "libreswan gets an address; both SAs rekeyed", theyInitiate: true, hosts: [2]netip.Addr{kernelInner[0][0], netip.MustParseAddr("192.168.77.2")},
			conn: "leftid=@anna.example.net\nleftsubnet=0.0.0.0/0\nrightsubnet=0.0.0.0/0\nleftmodecfgclient=yes\nrightid=@office.example.net\nrightmodecfgserver=yes\nnarrowing=yes\n",
			toml: libreswanSuites + libreswanOurServer, do: rekeys},
	}
	for i := range cells {
		c := &cells[i]
		if c.suite == (espSuite{}) {
			c.suite = usualESP
		}
		if c.hosts == ([2]netip.Addr{}) {
			c.hosts = kernelInner[0]
		}
		who := "we-initiate"
		if c.theyInitiate {
			who = "they-initiate"
		}
		c.name = "libreswan-" + c.name + "-" + who
	}
	return cells
}

const libreswanIKE = "aes-256-gcm sha256 ecp256"

// libreswanSuites is the profile and the proposal of the cells that write all of our configuration.
const libreswanSuites = `
[[profile]]
name = "lab"
enc-algorithm = "aes-256-gcm"
hash-algorithm = "sha256"
dh-group = "ecp256"
[[proposal]]
name = "lab"
enc-algorithms = "aes-128-gcm"
pfs-group = "none"
`

const libreswanOurClient = `
[[policy-group]]
name = "lab"
[[policy]]
template = true
group = "lab"
proposal = "lab"
level = "unique"
[[peer]]
name = "lab"
address = "10.9.0.2/32"
exchange-mode = "ike2"
profile = "lab"
[[identity]]
peer = "lab"
my-id = "fqdn:anna.example.net"
remote-id = "fqdn:office.example.net"
secret = "` + secret + `"
generate-policy = "port-strict"
mode-config = "request-only"
policy-template-group = "lab"
`

const libreswanOurServer = `
[[pool]]
name = "lab"
ranges = ["192.168.77.2-192.168.77.254"]
[[mode-config]]
name = "lab"
address-pool = "lab"
address-prefix-length = 32
split-include = ["10.1.0.0/24"]
[[policy-group]]
name = "lab"
[[policy]]
template = true
group = "lab"
proposal = "lab"
dst-address = "192.168.77.0/24"
src-address = "0.0.0.0/0"
[[peer]]
name = "lab"
exchange-mode = "ike2"
passive = true
profile = "lab"
[[identity]]
peer = "lab"
my-id = "fqdn:office.example.net"
secret = "` + secret + `"
generate-policy = "port-strict"
mode-config = "lab"
policy-template-group = "lab"
`

func (c *libreswanCell) result() Result {
	r := Result{Group: libreswanGroup, Name: c.name, Initiator: "culvert", IKE: libreswanIKE, ESP: "ESP tunnel, " + c.suite.String(),
		Inside: "IPv4", Event: "none", Outcome: outcomes.of[c.name]}
	if c.udp {
		r.ESP = "ESP in UDP tunnel, " + c.suite.String()
	}
	if c.theyInitiate {
		r.Initiator = "libreswan"
	}
	if c.cert != "" {
		r.IKE += ", certificates " + c.cert
	}
	if c.event != "" {
		r.Event = c.event
	}
	return r
}

// named reports whether the identities are names: with certificates, and behind a NAT.
func (c *libreswanCell) named() bool { return c.cert != "" || c.nat }

// ipsecConf is libreswan's connection t.
func (c *libreswanCell) ipsecConf() string {
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

// ourTOML is our configuration; dir has the files of certificates.
func (c *libreswanCell) ourTOML(dir string) string {
	if c.toml != "" {
		return c.toml
	}
	auth := ""
	if !c.suite.encr.aead {
		auth = setting("auth-algorithms", c.suite.hash.name)
	}
	text := fmt.Sprintf(`
[[profile]]
name = "lab"
enc-algorithm = "aes-256-gcm"
hash-algorithm = "sha256"
dh-group = "ecp256"
%s[[proposal]]
name = "lab"
pfs-group = %q
%s%s[[policy]]
peer = "lab"
src-address = "10.1.0.0/24"
dst-address = "10.2.0.0/24"
tunnel = true
proposal = "lab"
[[peer]]
name = "lab"
address = "10.9.0.2/32"
exchange-mode = "ike2"
profile = "lab"
passive = %t
[[identity]]
peer = "lab"
`, c.profile, c.suite.pfs.name, setting("enc-algorithms", c.suite.encr.esp), auth, c.theyInitiate)
	if c.named() {
		text += "my-id = \"fqdn:we.example.net\"\nremote-id = \"fqdn:they.example.net\"\n"
	}
	if c.cert == "" {
		return text + fmt.Sprintf("secret = %q\n", secret) + c.identity
	}
	return text + fmt.Sprintf(`auth-method = "digital-signature"
certificate = "we"
%s
[[certificate]]
name = "we"
file = %q
[[certificate]]
name = "root"
file = %q
`, c.identity, filepath.Join(dir, "we.pem"), filepath.Join(dir, "root.pem"))
}

// certificates makes the files of a cell with certificates: ours in a directory, theirs in the guest.
func (c *libreswanCell) certificates(s *lab.Libreswan) (dir string, err error) {
	if c.cert == "" {
		return "", nil
	}
	p := &proofs{root: sharedRoot(), dir: filepath.Join(authDir(), c.name)}
	weID, theyID := identities(byFQDN)
	we, _ := p.issue("we.example.net", weID, proof{key: c.cert})
	they, _ := p.issue("they.example.net", theyID, proof{key: c.cert})
	p.write("root.pem", p.root.PEM())
	p.write("we.pem", append(we.PEM(), we.KeyPEM()...))
	return p.dir, s.Import("they", append(they.PEM(p.root), they.KeyPEM()...))
}

// libreswanLane: one guest takes one cell after another, each with a culvert of its own.
func libreswanLane(t *testing.T) {
	lab.NeedLibreswan(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	p := newKernelGuest(ctx, lab.New(t))
	p.guest.Run("ip", "route", "add", "default", "via", "10.9.0.1")
	s, err := p.guest.Libreswan(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range libreswanCells() {
		t.Run(c.name, func(t *testing.T) {
			t.Cleanup(func() { record(c.name, t.Failed()) })
			runLibreswanCell(t, p, s, &c)
		})
	}
}

// TestLibreswanCellsAreValid: culvert's end of each is a configuration without fault.
func TestLibreswanCellsAreValid(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range libreswanCells() {
		if c.cert != "" {
			continue // its files are made when it runs
		}
		if _, _, err := config.Parse(c.name, []byte(c.ourTOML(""))); err != nil {
			t.Error(err)
		}
		if seen[c.name] {
			t.Errorf("two cells are named %s", c.name)
		}
		seen[c.name] = true
	}
}

// libreswanTunnel is a cell that runs.
type libreswanTunnel struct {
	*libreswanCell
	*kernelPeer
	pluto   *lab.Libreswan
	us      *lab.Node
	culvert *lab.Culvert

	in, out lab.KernelSA // the kernel's view, at the last look
	errs    map[string]uint64
}

// behindNAT wires a machine of ours to the guest through a router that replaces its address.
func (p *kernelPeer) behindNAT(l *lab.Lab) *lab.Node {
	router := p.join(l)
	router.Run("ip", "addr", "del", kernelInner[0][0].String()+"/32", "dev", "lo")
	us := l.Node("hidden")
	router.Run("ip", "link", "add", "in0", "type", "veth", "peer", "name", "eth0", "netns", us.NS)
	router.Run("ip", "addr", "add", "192.168.7.1/24", "dev", "in0")
	router.Run("ip", "link", "set", "in0", "up")
	router.Masquerade("eth0")
	us.Run("ip", "addr", "add", "192.168.7.2/24", "dev", "eth0")
	us.Run("ip", "link", "set", "eth0", "up")
	us.Run("ip", "route", "add", "default", "via", "192.168.7.1")
	us.Inner(kernelInner[0][0])
	return us
}

func runLibreswanCell(t *testing.T, p *kernelPeer, s *lab.Libreswan, c *libreswanCell) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	l := lab.New(t)
	r := &libreswanTunnel{libreswanCell: c, kernelPeer: p, pluto: s}
	if c.nat {
		r.us = p.behindNAT(l)
	} else {
		r.us = p.join(l)
	}
	t.Cleanup(func() { r.describe(t) })
	if _, err := p.guest.Try("ip", "neigh", "flush", "dev", "eth0"); err != nil { // the machine before had another card
		t.Fatal(err)
	}
	var err error
	if r.errs, err = p.guest.KernelErrors(); err != nil {
		t.Fatal(err)
	}
	dir, err := c.certificates(s)
	if err == nil {
		err = s.Load(ctx, c.ipsecConf(), ipsecSecrets())
	}
	if err != nil {
		t.Fatal(err)
	}
	r.culvert = r.us.Culvert(ctx, "", c.ourTOML(dir))
	if err := errors.Join(r.establish(ctx), r.check(ctx)); err != nil {
		t.Fatalf("at first: %v", err)
	}
	for _, step := range c.do {
		if err := step.do(ctx, r); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if err := r.check(ctx); err != nil {
			t.Fatalf("after this step: %s: %v", step.name, err)
		}
	}
	if err := checkNoDrops(p.guest, r.errs); err != nil && !c.loses {
		t.Error(err)
	}
}

// establish has the initiator make the CHILD SA: libreswan by command, culvert by traffic or, as a client, by itself.
func (r *libreswanTunnel) establish(ctx context.Context) error {
	if r.theyInitiate {
		if err := r.pluto.Initiate("t"); err != nil {
			return err
		}
	} else if r.hosts[0].IsValid() {
		if err := r.transfer(ctx, 1000); err != nil {
			return err
		}
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	if r.hosts[0].IsValid() {
		return nil
	}
	rows, err := r.culvert.Print(ctx, "active-peers") // a client's address is what it was given
	if err != nil || len(rows) != 1 {
		return fmt.Errorf("active-peers %v: %w", rows, err)
	}
	if dns := rows[0].Text("dns"); dns != "10.2.0.53" {
		return fmt.Errorf("the DNS server is %q", dns)
	}
	r.hosts[0], err = netip.ParseAddr(rows[0].Text("dynamic-address"))
	return err
}

// transfer begins at our side: who answered has heard nothing of the peer then.
func (r *libreswanTunnel) transfer(ctx context.Context, size int64) error {
	return r.us.Transfer(ctx, r.hosts[0], r.guest, r.hosts[1], size)
}

// look waits until the kernel has one pair of SAs, and culvert one too, of the same SPIs; and notes them.
func (r *libreswanTunnel) look(ctx context.Context) error {
	return lab.Until(ctx, func() error {
		sas, err := r.guest.KernelSAs()
		if err != nil {
			return err
		}
		sas = slices.DeleteFunc(sas, func(k lab.KernelSA) bool { return k.Algorithm == "" }) // an SPI that is only reserved
		rows, err := r.culvert.Print(ctx, "installed-sa")
		if err != nil {
			return err
		}
		if len(sas) != 2 || len(rows) != 2 {
			return fmt.Errorf("the kernel has %d SAs and culvert %d, not one pair", len(sas), len(rows))
		}
		for _, k := range sas {
			if rowOf(rows, k.SPI) == nil {
				return fmt.Errorf("culvert does not list SPI %s, which the kernel has", k.SPI)
			}
			if k.Dst == "10.9.0.2" {
				r.in = k
			} else {
				r.out = k
			}
		}
		return nil
	})
}

// check proves the SAs: a hashed transfer, counted by the kernel and by culvert, and both of one mind about what they are.
func (r *libreswanTunnel) check(ctx context.Context) error {
	if err := r.look(ctx); err != nil {
		return err
	}
	in, out := r.in, r.out
	if err := r.transfer(ctx, kernelPayload); err != nil {
		return err
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	switch {
	case r.in.SPI != in.SPI || r.out.SPI != out.SPI:
		return fmt.Errorf("the CHILD SA was replaced unasked: %s, then %s", in.SPI, r.in.SPI)
	case r.in.Bytes < in.Bytes+kernelPayload || r.out.Bytes < out.Bytes+kernelPayload:
		return fmt.Errorf("the kernel counted %d bytes in and %d out for a transfer of %d in each direction", r.in.Bytes-in.Bytes, r.out.Bytes-out.Bytes, kernelPayload)
	case r.in.Failed > 0:
		return fmt.Errorf("%d packets of ours did not open in the kernel, or were out of its window", r.in.Failed)
	}
	rows, err := r.culvert.Print(ctx, "installed-sa")
	if err != nil {
		return err
	}
	e := kernelEncrOf(r.suite.encr)
	algorithm := "hmac(" + r.suite.hash.name + ") " + e.kernel
	if e.aead {
		algorithm = e.kernel
	}
	for _, k := range []*lab.KernelSA{&r.in, &r.out} {
		want := [...]any{"esp", "tunnel", algorithm, e.keySize() + e.salt, r.udp}
		if got := [...]any{k.Proto, k.Mode, k.Algorithm, k.KeyBits, k.Encap}; got != want {
			return fmt.Errorf("the kernel's SA %s has %v, wanted %v", k.SPI, got, want)
		}
		row := rowOf(rows, k.SPI)
		if row == nil || row.Number("current-bytes") < kernelPayload {
			return fmt.Errorf("culvert's SA %s: %v", k.SPI, row)
		}
	}
	return nil
}

// another does something and waits until the CHILD SA is another one.
func (r *libreswanTunnel) another(ctx context.Context, do func() error) error {
	in, out := r.in.SPI, r.out.SPI
	if err := do(); err != nil {
		return err
	}
	return lab.Until(ctx, func() error {
		if err := r.look(ctx); err != nil {
			return err
		}
		if r.in.SPI == in || r.out.SPI == out {
			return errors.New("the CHILD SA is still the old one")
		}
		return nil
	})
}

// anotherIKE does something and waits until the IKE SA was rekeyed, while the CHILD SA stays.
func (r *libreswanTunnel) anotherIKE(ctx context.Context, do func() error) error {
	before, in := r.logged("ike-rekeyed"), r.in.SPI
	if err := do(); err != nil {
		return err
	}
	return lab.Until(ctx, func() error {
		if r.logged("ike-rekeyed") == before {
			return errors.New("the IKE SA is still the old one")
		}
		if err := r.look(ctx); err != nil {
			return err
		}
		if r.in.SPI != in {
			return errors.New("the CHILD SA is another")
		}
		return nil
	})
}

// logged is how often culvert has logged an event.
func (r *libreswanTunnel) logged(event string) int {
	return strings.Count(r.culvert.Log(), "event="+event+" ")
}

func (r *libreswanTunnel) command(ctx context.Context, args ...string) func() error {
	return func() error { _, err := r.culvert.Command(ctx, args...); return err }
}

func (r *libreswanTunnel) whack(args ...string) func() error {
	return func() error { _, err := r.pluto.Whack(args...); return err }
}

var (
	weRekeyLibreswan = libreswanStep{"culvert rekeys the CHILD SA", func(ctx context.Context, r *libreswanTunnel) error {
		return r.another(ctx, r.command(ctx, "installed-sa", "rekey"))
	}}
	libreswanRekeys = libreswanStep{"libreswan rekeys the CHILD SA", func(ctx context.Context, r *libreswanTunnel) error {
		return r.another(ctx, r.whack("--name", "t", "--rekey-ipsec", "--asynchronous"))
	}}
	weRekeyLibreswansIKE = libreswanStep{"culvert rekeys the IKE SA", func(ctx context.Context, r *libreswanTunnel) error {
		return r.anotherIKE(ctx, r.command(ctx, "active-peers", "rekey"))
	}}
	libreswanRekeysIKE = libreswanStep{"libreswan rekeys the IKE SA", func(ctx context.Context, r *libreswanTunnel) error {
		return r.anotherIKE(ctx, r.whack("--name", "t", "--rekey-ike", "--asynchronous"))
	}}
	libreswanRefuses = libreswanStep{"culvert rekeys, and libreswan refuses", func(ctx context.Context, r *libreswanTunnel) error {
		before := r.logged("ike-up")
		if err := r.another(ctx, r.command(ctx, "installed-sa", "rekey")); err != nil {
			return err
		}
		if r.logged("ike-up") == before {
			return errors.New("no IKE SA was made anew")
		}
		return nil
	}}
	libreswanIsKilled = libreswanStep{"libreswan is killed, started, and begins anew", func(ctx context.Context, r *libreswanTunnel) error {
		return r.another(ctx, func() error {
			return errors.Join(r.pluto.Kill(), r.pluto.Restart(ctx), r.pluto.Initiate("t"))
		})
	}}
	libreswanIsKilledUnseen = libreswanStep{"libreswan is killed and started", func(ctx context.Context, r *libreswanTunnel) error {
		return r.another(ctx, func() error {
			if err := errors.Join(r.pluto.Kill(), r.pluto.Restart(ctx)); err != nil {
				return err
			}
			return r.transfer(ctx, 1000)
		})
	}}
	weAreKilledAtLibreswan = libreswanStep{"culvert is killed, started, and begins anew", func(ctx context.Context, r *libreswanTunnel) error {
		return r.another(ctx, func() error {
			r.culvert.Kill()
			r.culvert.Restart(ctx)
			return r.transfer(ctx, 1000)
		})
	}}
	libreswanDeletes = libreswanStep{"libreswan deletes its SAs, and begins anew", func(ctx context.Context, r *libreswanTunnel) error {
		return r.another(ctx, func() error {
			if _, err := r.pluto.Whack("--name", "t", "--terminate"); err != nil {
				return err
			}
			if err := lab.Until(ctx, func() error {
				rows, err := r.culvert.Print(ctx, "installed-sa")
				if err == nil && len(rows) > 0 {
					err = fmt.Errorf("culvert still has %d SAs", len(rows))
				}
				return err
			}); err != nil {
				return err
			}
			return r.pluto.Initiate("t")
		})
	}}
)

// describe prints what both sides know when the test failed.
func (r *libreswanTunnel) describe(t *testing.T) {
	if r.culvert != nil {
		defer r.culvert.Kill()
	}
	if !t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, text, _ := strings.Cut(r.pluto.Log(), "adding UDP interface")
	t.Logf("---- libreswan's log ----\n%s", text)
	r.describeGuest(t)
	if r.culvert != nil {
		describeCulvert(ctx, t, r.culvert)
	}
	t.Logf("---- our network ----\n%s", r.us.Network())
}
