//go:build linux

package interop

import (
	"cmp"
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
	"culvert/internal/testing/testcert"
)

// daemonCell is a test of culvert with another IKE daemon than strongSwan, which negotiates in a guest whose kernel carries
// the packets. What a cell leaves empty is the usual: a tunnel between two networks, with pre-shared keys.
type daemonCell struct {
	of    string // "libreswan", "OpenIKED"
	name  string
	event string // for the table; empty: none
	suite espSuite
	mode  string // exchange-mode of IKEv1; empty: IKEv2

	theyInitiate bool
	nat          bool // we are behind a NAT
	udp          bool // ESP is in UDP
	loses        bool // the kernel gets packets for SAs that it has not any more

	conn string // lines of the peer's connection beside the usual

	profile, identity string // lines of our [[profile]] and [[identity]]
	toml              string // all of ours; empty: the usual
	hosts             [2]netip.Addr

	brief bool   // the peer may replace the CHILD SA at any time
	keeps bool   // an end keeps SAs that the other has no more
	cert  string // kind of key of the certificates; empty: pre-shared keys
	do    []daemonStep
}

// daemon is the peer in the guest.
type daemon interface {
	// load ends it and starts it for a cell. It waits for us or for begin. dir has our files of certificates.
	load(ctx context.Context, c *daemonCell) (dir string, err error)
	begin(ctx context.Context) error
	Kill() error
	Restart(context.Context) error
	Log() string
}

// daemonStep is something that happens, after which the tunnel is checked.
type daemonStep struct {
	name string
	do   func(context.Context, *daemonTunnel) error
}

const daemonIKE = "aes-256-gcm sha256 ecp256"

// daemonSuites is the profile and the proposal of the cells that write all of our configuration.
const daemonSuites = `
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

const daemonOurClient = `
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

const daemonOurServer = `
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

func (c *daemonCell) result() Result {
	r := Result{Group: c.of, Name: c.name, Initiator: "culvert", IKE: daemonIKE, ESP: "ESP tunnel, " + c.suite.String(),
		Inside: "IPv4", Event: "none", Outcome: outcomes.of[c.name]}
	if c.udp {
		r.ESP = "ESP in UDP tunnel, " + c.suite.String()
	}
	if c.theyInitiate {
		r.Initiator = c.of
	}
	if c.cert != "" {
		r.IKE += ", certificates " + c.cert
	}
	if c.mode != "" {
		r.IKE = "IKEv1 " + c.mode + " " + strings.NewReplacer("-gcm", "", "ecp256", "modp2048").Replace(r.IKE)
	}
	if c.event != "" {
		r.Event = c.event
	}
	return r
}

// named reports whether the identities are names: with certificates, and behind a NAT.
func (c *daemonCell) named() bool { return c.cert != "" || c.nat }

// phase1 are cipher and group: IKEv1 has no AEADs there, and libreswan has no elliptic curves with it.
func (c *daemonCell) phase1() (cipher, group string) {
	if c.mode != "" {
		return "aes-256", "modp2048"
	}
	return "aes-256-gcm", "ecp256"
}

func (c *daemonCell) exchange() string { return cmp.Or(c.mode, "ike2") }

// inMode is a configuration for IKEv2 in an exchange mode of IKEv1.
func inMode(mode, toml string) string {
	return strings.NewReplacer(`exchange-mode = "ike2"`, `exchange-mode = "`+mode+`"`, `enc-algorithm = "aes-256-gcm"`, `enc-algorithm = "aes-256"`, `dh-group = "ecp256"`, `dh-group = "modp2048"`).Replace(toml)
}

// ourTOML is our configuration; dir has the files of certificates.
func (c *daemonCell) ourTOML(dir string) string {
	if c.toml != "" {
		return c.toml
	}
	auth := ""
	if !c.suite.encr.aead {
		auth = setting("auth-algorithms", c.suite.hash.name)
	}
	cipher, group := c.phase1()
	text := fmt.Sprintf(`
[[profile]]
name = "lab"
enc-algorithm = %q
hash-algorithm = "sha256"
dh-group = %q
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
exchange-mode = %q
profile = "lab"
passive = %t
[[identity]]
peer = "lab"
`, cipher, group, c.profile, c.suite.pfs.name, setting("enc-algorithms", c.suite.encr.esp), auth, c.exchange(), c.theyInitiate)
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

// daemonTunnel is a cell that runs.
type daemonTunnel struct {
	*daemonCell
	*kernelPeer
	daemon  daemon
	lab     testing.TB
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

func runDaemonCell(t *testing.T, p *kernelPeer, d daemon, c *daemonCell) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	l := lab.New(t)
	r := &daemonTunnel{daemonCell: c, kernelPeer: p, daemon: d, lab: t}
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
	dir, err := d.load(ctx, c)
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

// establish has the initiator make the CHILD SA: the peer by command, culvert by traffic or, as a client, by itself.
func (r *daemonTunnel) establish(ctx context.Context) error {
	if r.theyInitiate {
		if err := r.daemon.begin(ctx); err != nil {
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
func (r *daemonTunnel) transfer(ctx context.Context, size int64) error {
	return r.us.Transfer(ctx, r.hosts[0], r.guest, r.hosts[1], size)
}

// look waits until the kernel has one pair of SAs, and culvert one too, of the same SPIs; and notes them.
func (r *daemonTunnel) look(ctx context.Context) error {
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
		if r.keeps {
			sas = slices.DeleteFunc(sas, func(k lab.KernelSA) bool { return rowOf(rows, k.SPI) == nil })
			rows = slices.DeleteFunc(rows, func(row lab.Row) bool {
				return !slices.ContainsFunc(sas, func(k lab.KernelSA) bool { return rowOf([]lab.Row{row}, k.SPI) != nil })
			})
		}
		if n := len(rows); r.mode != "" && n > 2 { // in IKEv1 what was replaced opens on: the newest are those that count
			rows = rows[n-2:]
			sas = slices.DeleteFunc(sas, func(k lab.KernelSA) bool { return rowOf(rows, k.SPI) == nil })
		}
		if len(sas) != 2 || len(rows) != 2 {
			return fmt.Errorf("the kernel has %d SAs and culvert %d, not one pair", len(sas), len(rows))
		}
		for _, k := range sas {
			if rowOf(rows, k.SPI) == nil {
				return fmt.Errorf("culvert does not list SPI %s, which the kernel has", k.SPI)
			}
			if k.Dst == "10.9.0.2" || k.Dst == daemonMovesTo {
				r.in = k
			} else {
				r.out = k
			}
		}
		return nil
	})
}

var errReplaced = errors.New("the CHILD SA was replaced unasked")

// check proves the SAs: a hashed transfer, counted by the kernel and by culvert, and both of one mind about what they are.
func (r *daemonTunnel) check(ctx context.Context) error {
	for {
		if err := r.checkOnce(ctx); !r.brief || !errors.Is(err, errReplaced) || ctx.Err() != nil {
			return err
		}
	}
}

func (r *daemonTunnel) checkOnce(ctx context.Context) error {
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
		return fmt.Errorf("%w: %s, then %s", errReplaced, in.SPI, r.in.SPI)
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
func (r *daemonTunnel) another(ctx context.Context, do func() error) error {
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
func (r *daemonTunnel) anotherIKE(ctx context.Context, do func() error) error {
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
func (r *daemonTunnel) logged(event string) int {
	return strings.Count(r.culvert.Log(), "event="+event+" ")
}

func (r *daemonTunnel) command(ctx context.Context, args ...string) func() error {
	return func() error { _, err := r.culvert.Command(ctx, args...); return err }
}

// describe prints what both sides know when the test failed.
func (r *daemonTunnel) describe(t *testing.T) {
	if r.culvert != nil {
		defer r.culvert.Kill()
	}
	if !t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	t.Logf("---- the log of %s ----\n%s", r.of, r.daemon.Log())
	r.describeGuest(t)
	if r.culvert != nil {
		describeCulvert(ctx, t, r.culvert)
	}
	t.Logf("---- our network ----\n%s", r.us.Network())
}

// runDaemonCells: one guest takes one cell after another, each with a culvert of its own.
func runDaemonCells(t *testing.T, cells []daemonCell, start func(context.Context, *lab.Guest) (daemon, error)) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	p := newKernelGuest(ctx, lab.New(t))
	p.guest.Run("ip", "route", "add", "default", "via", "10.9.0.1")
	d, err := start(ctx, p.guest)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cells {
		t.Run(c.name, func(t *testing.T) {
			t.Cleanup(func() { record(c.name, t.Failed()) })
			runDaemonCell(t, p, d, &c)
		})
	}
}

// usualDaemonCells fills in what the cells of a daemon leave empty, and makes their names whole.
func usualDaemonCells(of string, cells []daemonCell) []daemonCell {
	for i := range cells {
		c := &cells[i]
		c.of = of
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
		c.name = strings.ToLower(of) + "-" + c.name + "-" + who
	}
	return cells
}

// daemonCells is all of them, in the order of the table.
func daemonCells() []daemonCell { return append(libreswanCells(), openIKEDCells()...) }

// certificates makes those of a cell: the files of ours are in dir.
func (c *daemonCell) certificates() (they, root *testcert.Pair, dir string) {
	p := &proofs{root: sharedRoot(), dir: filepath.Join(authDir(), c.name)}
	weID, theyID := identities(byFQDN)
	we, _ := p.issue("we.example.net", weID, proof{key: c.cert})
	they, _ = p.issue("they.example.net", theyID, proof{key: c.cert})
	p.write("root.pem", p.root.PEM())
	p.write("we.pem", append(we.PEM(), we.KeyPEM()...))
	return they, p.root, p.dir
}

// TestDaemonCellsAreValid: culvert's end of each is a configuration without fault.
func TestDaemonCellsAreValid(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range daemonCells() {
		if seen[c.name] {
			t.Errorf("two cells are named %s", c.name)
		}
		seen[c.name] = true
		if c.cert != "" {
			continue // its files are made when it runs
		}
		if _, _, err := config.Parse(c.name, []byte(c.ourTOML(""))); err != nil {
			t.Error(err)
		}
	}
}

var (
	weRekeyTheirs = daemonStep{"culvert rekeys the CHILD SA", func(ctx context.Context, r *daemonTunnel) error {
		return r.another(ctx, r.command(ctx, "installed-sa", "rekey"))
	}}
	weRekeyTheirIKE = daemonStep{"culvert rekeys the IKE SA", func(ctx context.Context, r *daemonTunnel) error {
		return r.anotherIKE(ctx, r.command(ctx, "active-peers", "rekey"))
	}}
	daemonIsKilledUnseen = daemonStep{"the peer is killed and started", func(ctx context.Context, r *daemonTunnel) error {
		return r.another(ctx, func() error {
			if err := errors.Join(r.daemon.Kill(), r.daemon.Restart(ctx)); err != nil {
				return err
			}
			return r.transfer(ctx, 1000)
		})
	}}
	daemonIsKilled = daemonStep{"the peer is killed, started, and begins anew", func(ctx context.Context, r *daemonTunnel) error {
		return r.another(ctx, func() error {
			return errors.Join(r.daemon.Kill(), r.daemon.Restart(ctx), r.daemon.begin(ctx))
		})
	}}
	weAreKilledAndBack = daemonStep{"culvert is killed, started, and begins anew", func(ctx context.Context, r *daemonTunnel) error {
		return r.another(ctx, func() error {
			r.culvert.Kill()
			r.culvert.Restart(ctx)
			return r.transfer(ctx, 1000)
		})
	}}
)

// daemonDeletes: the peer deletes its SAs by a command, and begins anew once culvert has none.
func daemonDeletes(do func(context.Context, *daemonTunnel) error) daemonStep {
	return daemonStep{"the peer deletes its SAs, and begins anew", func(ctx context.Context, r *daemonTunnel) error {
		return r.another(ctx, func() error {
			if err := do(ctx, r); err != nil {
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
			return r.daemon.begin(ctx)
		})
	}}
}

// daemonMovesTo is where the peer is after daemonMoves.
const daemonMovesTo = "10.9.0.12"

// daemonMoves: the address of the peer goes away while another is there. Both SAs stay. It comes back when the cell ends.
var daemonMoves = daemonStep{"the peer's address goes away, another is there", func(ctx context.Context, r *daemonTunnel) error {
	ups, in := r.logged("ike-up"), r.in.SPI
	if _, err := r.guest.Try("sh", "-c", `set -e; sysctl -qw net.ipv4.conf.all.promote_secondaries=1
		ip addr add `+daemonMovesTo+`/24 dev eth0; sleep 1; ip addr del 10.9.0.2/24 dev eth0; ip route replace default via 10.9.0.1`); err != nil {
		return err
	}
	r.lab.Cleanup(func() {
		if _, err := r.guest.Try("sh", "-c", `ip addr add 10.9.0.2/24 dev eth0; ip addr del `+daemonMovesTo+`/24 dev eth0; ip route replace default via 10.9.0.1`); err != nil {
			r.lab.Error(err)
		}
	})
	return lab.Until(ctx, func() error {
		if err := r.look(ctx); err != nil {
			return err
		}
		if r.logged("ike-up") != ups || r.in.SPI != in {
			return errors.New("the SAs were made anew")
		}
		if r.in.Dst != daemonMovesTo || r.out.Src != daemonMovesTo {
			return fmt.Errorf("the kernel's SAs are to %s and from %s", r.in.Dst, r.out.Src)
		}
		return nil
	})
}}

// weMoveTo: the address of ours goes away while another is there. Both SAs stay.
func weMoveTo(next string) daemonStep {
	return daemonStep{"culvert's address goes away, another is there", func(ctx context.Context, r *daemonTunnel) error {
		ups, in := r.logged("ike-up"), r.in.SPI
		if err := move(r.us, kernelOuter[0][0], netip.MustParseAddr(next)); err != nil {
			return err
		}
		return lab.Until(ctx, func() error {
			if err := r.look(ctx); err != nil {
				return err
			}
			if r.logged("ike-up") != ups || r.in.SPI != in {
				return errors.New("the SAs were made anew")
			}
			if r.in.Src != next || r.out.Dst != next {
				return fmt.Errorf("the kernel's SAs are from %s and to %s", r.in.Src, r.out.Dst)
			}
			return nil
		})
	}}
}
