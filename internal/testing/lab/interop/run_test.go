//go:build linux

package interop

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/config"
	"culvert/internal/testing/lab"
)

// docEnv names the file that gets the table; without it none is written.
const docEnv = "CULVERT_INTEROP_DOC"

// payload is what a transfer sends in each direction.
const payload = 1 << 20

// outcomes of the cells that ran, by name.
var outcomes = struct {
	sync.Mutex
	of map[string]Outcome
}{of: map[string]Outcome{}}

func TestMain(m *testing.M) {
	flag.Parse()
	// A cell mostly waits: four at once keep two cores busy.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	code := lab.Main(m)
	if path := os.Getenv(docEnv); path != "" && len(outcomes.of) > 0 {
		if err := os.WriteFile(path, []byte(Table(peerVersion(), results())+OwnTable(runOwn())), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	_ = os.RemoveAll(authDir())
	os.Exit(code)
}

// peerVersion is the peers' names and versions, "strongSwan 5.9.8, libreswan 4.10, OpenIKED 7.2".
func peerVersion() string {
	// Besides its version swanctl prints a complaint, with a status, that no daemon runs.
	out, _ := exec.Command("swanctl", "--version").CombinedOutput()
	version := regexp.MustCompile(`strongSwan [\w.]+`).FindString(string(out))
	if out, err := exec.Command(lab.LibreswanDir+"/usr/libexec/ipsec/pluto", "--version").CombinedOutput(); err == nil {
		version += ", libreswan " + regexp.MustCompile(`[\d.]+`).FindString(string(out))
	}
	if out, err := exec.Command("iked", "-V").CombinedOutput(); err == nil {
		version += ", OpenIKED " + regexp.MustCompile(`[\d.]+`).FindString(string(out))
	}
	return version
}

func results() []Result {
	var rs []Result
	for _, c := range cells() {
		r := Result{Group: c.group, Name: c.name, Initiator: "culvert", IKE: c.ike.String(), ESP: c.esp.String(),
			Inside: "IPv4", Event: "none", Outcome: outcomes.of[c.name]}
		if c.theyInitiate {
			r.Initiator = "strongSwan"
		}
		if c.v6 {
			r.Inside = "IPv6"
		}
		if c.event.name != "" {
			r.Event = c.event.name
		}
		rs = append(rs, r)
	}
	for _, c := range kernelCells() {
		r := Result{Group: kernelGroup, Name: c.name, Initiator: "culvert", IKE: usualIKE.String(), ESP: c.String(),
			Inside: c.inside(), Event: "none", Outcome: outcomes.of[c.name]}
		if c.v1 {
			r.Group = kernelV1Group
		}
		if c.theyInitiate {
			r.Initiator = "strongSwan"
		}
		if c.event.name != "" {
			r.Event = c.event.name
		}
		rs = append(rs, r)
	}
	for _, c := range manualCells() {
		rs = append(rs, Result{Group: manualGroup, Name: c.name, Initiator: "none", IKE: "none", ESP: c.String(),
			Inside: c.inside(), Event: "none", Outcome: outcomes.of[c.name]})
	}
	for _, c := range negotiatedCells() {
		rs = append(rs, c.result())
	}
	for _, c := range kernelNATCells() {
		rs = append(rs, c.result())
	}
	for _, c := range daemonCells() {
		rs = append(rs, c.result())
	}
	return rs
}

func TestInterop(t *testing.T) {
	lab.Need(t)
	for _, c := range cells() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() { record(c.name, t.Failed()) })
			runCell(t, c)
		})
	}
}

func TestCellNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range cells() {
		if seen[c.name] {
			t.Errorf("two cells are named %s", c.name)
		}
		seen[c.name] = true
	}
}

// TestCellsAreValid: culvert's end of each cell is a configuration without fault;
// that an algorithm is weak or a certificate expired may be said of the cells that are about those, and that
// the secret is short of all.
func TestCellsAreValid(t *testing.T) {
	for _, c := range cells() {
		if c.scene != nil {
			continue // the cell writes several
		}
		text := c.toml()
		_, warnings, err := config.Parse(c.name, []byte(text))
		if err != nil {
			t.Error(err)
		}
		aggressive := strings.Contains(text, "aggressive")
		for _, w := range warnings {
			text := fmt.Sprint(w)
			if aggressive && strings.Contains(text, "pre-shared-key in aggressive mode") {
				continue // which is what the cell is about
			}
			if !strings.Contains(text, "weak algorithms are allowed") && !strings.Contains(text, "is short, easy to guess or published") && !(c.refused != nil && strings.Contains(text, "expired on")) {
				t.Errorf("%s: %s", c.name, text)
			}
		}
	}
}

func record(name string, failed bool) {
	outcomes.Lock()
	defer outcomes.Unlock()
	outcomes.of[name] = Passed
	if failed {
		outcomes.of[name] = Failed
	}
}

// tunnel is a cell that runs.
type tunnel struct {
	cell
	plan
	us, them *lab.Node
	router   *lab.Node // between them; nil where there is none
	culvert  *lab.Culvert
	swan     *lab.StrongSwan
	bare     string // our machine's network before culvert was started

	// The SAs as strongSwan saw them at the last check.
	ike   lab.IKESA
	child lab.ChildSA
}

func runCell(t *testing.T, c cell) {
	ctx, cancel := context.WithTimeout(t.Context(), c.limit)
	defer cancel()
	l := lab.New(t)
	if c.scene != nil {
		c.scene(ctx, t, l)
		return
	}
	r := &tunnel{cell: c, plan: c.plan()}
	t.Cleanup(func() { r.describe(t) })

	r.us, r.them, r.router = c.wire(l)
	if c.proofs != nil {
		r.them.SwanctlFiles(c.proofs.files)
		if c.proofs.webs != nil {
			r.us.Web(c.proofs.webs)
			r.them.Web(c.proofs.webs)
		}
	}
	switch {
	case c.wide == everything:
		r.swan = r.them.StrongSwanOuterInTunnel(ctx, c.swanctl())
	default:
		r.swan = r.them.StrongSwan(ctx, c.swanctl(), c.extra.daemon)
	}
	r.bare = r.us.Network()
	r.culvert = r.us.Culvert(ctx, c.extra.gateway, c.toml())

	if c.refused != nil {
		c.refused.check(ctx, t, r)
		return
	}
	if err := r.establish(ctx); err != nil {
		t.Fatalf("no tunnel: %v", err)
	}
	if r.ike.Initiator != c.theyInitiate {
		t.Errorf("strongSwan says that it initiated: %t; wanted %t", r.ike.Initiator, c.theyInitiate)
	}
	if err := r.check(ctx); err != nil {
		t.Fatalf("before the event: %v", err)
	}
	if err := c.proofs.check(r.swan.Log()); err != nil {
		t.Error(err)
	}
	if c.event.name == "" {
		return
	}
	if err := c.event.do(ctx, r); err != nil {
		t.Fatalf("%s: %v", c.event.name, err)
	}
	if err := r.check(ctx); err != nil {
		t.Fatalf("after the event (%s): %v", c.event.name, err)
	}
}

// describe prints what both sides know when the test failed.
func (r *tunnel) describe(t *testing.T) {
	if !t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if r.swan != nil {
		text, err := r.swan.ListSAs(ctx)
		t.Logf("---- strongSwan's SAs (%v) ----\n%s", err, text)
	}
	if r.culvert != nil {
		for _, menu := range []string{"active-peers", "installed-sa", "policy", "statistics"} {
			text, err := r.culvert.Command(ctx, menu, "print", "--json")
			t.Logf("---- culvert %s print (%v) ----\n%s", menu, err, text)
		}
		t.Logf("---- our network ----\n%s", r.us.Network())
	}
}

// establish has the initiator make the tunnel (strongSwan by command, culvert
// by traffic), and notes its SAs.
func (r *tunnel) establish(ctx context.Context) error {
	if r.theyInitiate {
		if err := r.swan.InitiateChild(ctx, "c"); err != nil {
			return err
		}
		// Their first packet says that they have the SA; without one we would wait some seconds.
		if !r.silent {
			if err := r.them.Transfer(ctx, r.theyHost, r.us, r.weHost, 1000); err != nil {
				return err
			}
		}
	} else if err := r.transfer(ctx, 1000); err != nil {
		return err
	}
	return r.look(ctx)
}

// transfer sends size bytes each way through the tunnel; where the gateways' own
// addresses are in the tunnel too, half of it between them.
func (r *tunnel) transfer(ctx context.Context, size int64) error {
	if r.wide != everything {
		return r.us.Transfer(ctx, r.weHost, r.them, r.theyHost, size)
	}
	if err := r.us.Transfer(ctx, r.weHost, r.them, r.theyHost, size/2); err != nil {
		return err
	}
	return r.us.Transfer(ctx, r.we, r.them, r.they, size/2)
}

// look waits until strongSwan has one established IKE SA with one CHILD SA in use, and notes them.
func (r *tunnel) look(ctx context.Context) error {
	return lab.Until(ctx, func() error {
		ike, child, err := r.sole(ctx)
		if err == nil {
			r.ike, r.child = ike, child
		}
		return err
	})
}

// sole is the one established IKE SA at strongSwan and its one installed CHILD
// SA. SAs that were replaced stay in strongSwan's list for some seconds in another state.
func (r *tunnel) sole(ctx context.Context) (lab.IKESA, lab.ChildSA, error) {
	sas, err := r.swan.SAs(ctx)
	if err != nil {
		return lab.IKESA{}, lab.ChildSA{}, err
	}
	return soleOf(sas)
}

func soleOf(sas []lab.IKESA) (lab.IKESA, lab.ChildSA, error) {
	var ikes []lab.IKESA
	var children []lab.ChildSA
	for _, sa := range sas {
		if sa.State == "ESTABLISHED" {
			ikes = append(ikes, sa)
		}
		for _, c := range sa.Children {
			if c.State == "INSTALLED" {
				children = append(children, c)
			}
		}
	}
	if len(ikes) != 1 || len(children) != 1 {
		return lab.IKESA{}, lab.ChildSA{}, fmt.Errorf("strongSwan has %d established IKE SAs and %d installed CHILD SAs, not one of each", len(ikes), len(children))
	}
	return ikes[0], children[0], nil
}

// short says whether the SAs are made for seconds, and may be replaced at any time.
func (r *tunnel) short() bool {
	return r.lifetime != "" || strings.Contains(r.extra.profile+r.extra.connection, "reauth")
}

// check proves the tunnel: a hashed transfer, counted by strongSwan on the SA
// that was noted last, and both sides of one mind about algorithms and SPIs.
func (r *tunnel) check(ctx context.Context) error {
	if err := r.look(ctx); err != nil {
		return err
	}
	before := r.child
	if err := r.transfer(ctx, payload); err != nil {
		return err
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	after := r.child
	if !r.short() && after.SPIIn != before.SPIIn {
		return fmt.Errorf("the CHILD SA was replaced unasked: %s, then %s", before.SPIIn, after.SPIIn)
	}
	if after.SPIIn == before.SPIIn && (after.BytesIn < before.BytesIn+payload || after.BytesOut < before.BytesOut+payload) {
		return fmt.Errorf("strongSwan counted %d bytes in and %d out for a transfer of %d in each direction",
			after.BytesIn-before.BytesIn, after.BytesOut-before.BytesOut, payload)
	}
	return errors.Join(r.checkIKE(), r.checkChild(), r.checkOurs(ctx))
}

// checkIKE compares the IKE SA, as strongSwan reports it, with what was asked for.
func (r *tunnel) checkIKE() error {
	if err := r.cell.ike.reported(r.ike); err != nil {
		return err
	}
	if r.nat == we && (r.ike.RemotePort < lab.NATPortFirst || r.ike.RemotePort > lab.NATPortLast) {
		return fmt.Errorf("strongSwan sees us at port %d, which is not the NAT router's", r.ike.RemotePort)
	}
	return nil
}

// checkChild compares the CHILD SA, as strongSwan reports it, with what was asked for.
func (r *tunnel) checkChild() error {
	dh := ""
	if r.exchanged {
		dh = r.esp.pfs.reported
	}
	c := r.child
	if err := r.esp.reported(c, dh); err != nil {
		return err
	}
	want := [...]string{r.theyNet, r.weNet}
	if got := [...]string{strings.Join(c.LocalTS, ","), strings.Join(c.RemoteTS, ",")}; got != want {
		return fmt.Errorf("strongSwan's CHILD SA has the selectors %v, wanted %v", got, want)
	}
	return nil
}

// checkOurs compares culvert's installed-sa with strongSwan's CHILD SA: both
// directions are there, with the algorithms asked for, and counted the transfer.
func (r *tunnel) checkOurs(ctx context.Context) error {
	rows, err := r.culvert.Print(ctx, "installed-sa")
	if err != nil {
		return err
	}
	for _, want := range []string{r.child.SPIIn, r.child.SPIOut} {
		row := rowOf(rows, want)
		if row == nil {
			return fmt.Errorf("culvert does not list SPI %s, which strongSwan uses: %v", want, rows)
		}
		if enc, bits := row.Text("enc-algorithm"), row.Number("enc-key-size"); enc != r.esp.encr.printed || bits != uint64(r.esp.encr.keySize()) {
			return fmt.Errorf("culvert lists SPI %s with %s %d, wanted %s %d", want, enc, bits, r.esp.encr.printed, r.esp.encr.keySize())
		}
		if auth := row.Text("auth-algorithm"); !r.esp.encr.aead && auth != r.esp.hash.name {
			return fmt.Errorf("culvert lists SPI %s with auth-algorithm %s, wanted %s", want, auth, r.esp.hash.name)
		}
		if bytes := row.Number("current-bytes"); !r.short() && bytes < payload {
			return fmt.Errorf("culvert counted %d bytes on SPI %s for a transfer of %d", bytes, want, payload)
		}
	}
	return nil
}

// rowOf is the row of an SPI that is given in strongSwan's notation; nil when there is none.
func rowOf(rows []lab.Row, spi string) lab.Row {
	for _, row := range rows {
		if strings.EqualFold(row.Text("spi"), "0x"+spi) {
			return row
		}
	}
	return nil
}
