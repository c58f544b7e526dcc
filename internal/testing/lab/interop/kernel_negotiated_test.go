//go:build linux

package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"culvert/config"
	"culvert/crypto/suite"
	"culvert/internal/testing/lab"
)

// AH with ESP is what only IKEv1 negotiates, and no daemon here does. So two culverts negotiate it and exchange a transfer. Then
// one of them is killed, and the kernel goes on in its place, at its address and under the keys of the other one.

const negotiatedGroup = "Linux kernel, AH with ESP under the keys of two Culverts"

// negotiatedCells are bundles in both modes and by both address families, with and without a key exchange of quick mode.
func negotiatedCells() (cs []negotiatedCell) {
	bundle := manualCell{encr: suite.EncrByName("aes-256-cbc"), integ: suite.IntegByName("sha256"), ah: suite.IntegByName("sha256")}
	cs = append(cs, negotiatedCell{manualCell: bundle, group: "ecp256"})
	bundle.encr, bundle.integ, bundle.ah = suite.EncrByName("aes-128-gcm"), nil, suite.IntegByName("sha512")
	bundle.transport, bundle.outer6, bundle.inner6 = true, true, true
	cs = append(cs, negotiatedCell{manualCell: bundle, group: "none"})
	for i := range cs {
		cs[i].name = "negotiated-" + strings.ReplaceAll(cs[i].title(), " ", "-")
	}
	return cs
}

type negotiatedCell struct {
	manualCell
	group string // pfs-group
}

func (c *negotiatedCell) result() Result {
	return Result{Group: negotiatedGroup, Name: c.name, Initiator: "culvert", IKE: "IKEv1 " + usualIKE.String(), ESP: c.String(),
		Inside: c.inside(), Event: "the kernel takes over", Outcome: outcomes.of[c.name]}
}

// standIns are the addresses of the culvert whose place the kernel takes.
var standIns = [2]netip.Addr{netip.MustParseAddr("10.9.0.3"), netip.MustParseAddr("fd00:9::3")}

// plan is the addresses of the cell: ours, those of the one that is killed.
func (c *negotiatedCell) plan() kernelPlan {
	p := c.like().plan()
	p.gateways[1] = standIns[map[bool]int{true: 1}[c.outer6]]
	if c.transport {
		p.hosts, p.nets[1] = p.gateways, netip.PrefixFrom(p.gateways[1], p.gateways[1].BitLen())
	}
	return p
}

// toml is one of the culverts; end 0 is ours. The second cipher is for AEADs, beside which alone auth-algorithms counts for nothing.
func (c *negotiatedCell) toml(end int) string {
	p := c.plan()
	return fmt.Sprintf(`[[profile]]
name = "v1"
enc-algorithm = %q
hash-algorithm = %q
dh-group = %q
dpd-interval = "disable-dpd"
[[proposal]]
name = "v1"
enc-algorithms = ["%s", "aes-192-cbc"]
auth-algorithms = %q
pfs-group = %q
[[peer]]
name = "other"
address = "%s/%d"
profile = "v1"
passive = %t
[[identity]]
peer = "other"
secret = %q
[[policy]]
peer = "other"
src-address = %q
dst-address = %q
tunnel = %t
ipsec-protocols = ["esp", "ah"]
proposal = "v1"
`, usualIKE.encr.ike, usualIKE.hash.name, usualIKE.dh.name, c.encr.Name, c.ah.Name, c.group, p.gateways[1-end], p.gateways[0].BitLen(), end == 1, secret,
		p.nets[end], p.nets[1-end], !c.transport)
}

func TestNegotiatedCellsAreValid(t *testing.T) {
	for _, c := range negotiatedCells() {
		for end := range 2 {
			if _, _, err := config.Parse(c.name, []byte(c.toml(end))); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestKernelTakesOver has a guest without strongSwan.
func TestKernelTakesOver(t *testing.T) {
	lab.NeedGuest(t)
	l := lab.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	p := newKernelGuest(ctx, l)
	if err := p.xfrm(neighbourPolicies()); err != nil {
		t.Fatal(err)
	}
	for _, c := range negotiatedCells() {
		t.Run(c.name, func(t *testing.T) {
			t.Cleanup(func() { record(c.name, t.Failed()) })
			runNegotiated(t, p, &c)
		})
	}
}

func runNegotiated(t *testing.T, k *kernelPeer, c *negotiatedCell) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	l := lab.New(t)
	a := c.plan()
	p := &manualPair{kernelPeer: k, us: k.join(l)}
	them := k.stands(l, a)
	p.wire = p.us.Capture("eth0")
	other := them.Culvert(ctx, "", c.toml(1))
	p.culvert = p.us.Culvert(ctx, "", c.toml(0))
	t.Cleanup(func() { p.describe(t) })
	if err := p.us.Transfer(ctx, a.hosts[0], them, a.hosts[1], kernelPayload); err != nil {
		t.Fatalf("between two culverts: %v", err)
	}
	in, out, err := c.keys(ctx, p.culvert, a)
	if err != nil {
		t.Fatal(err)
	}
	if far, _, err := c.keys(ctx, other, kernelPlan{gateways: [2]netip.Addr{a.gateways[1], a.gateways[0]}}); err != nil || far != out {
		t.Fatalf("the other one receives with other SAs (%v)", err)
	}
	other.Kill()
	them.Run("ip", "link", "del", "eth0")

	if err := p.takesOver(c, a, in, out); err != nil {
		t.Fatal(err)
	}
	errs, err := p.guest.KernelErrors()
	if err != nil {
		t.Fatal(err)
	}
	before, err := p.culvert.Print(ctx, "installed-sa")
	if err != nil {
		t.Fatal(err)
	}
	seen := p.wire.Seen()
	if err := p.us.Transfer(ctx, a.hosts[0], p.guest, a.hosts[1], kernelPayload); err != nil {
		t.Fatalf("with the kernel: %v", err)
	}
	if err := errors.Join(p.checkKernel(&c.manualCell, in, out), checkNoDrops(p.guest, errs), c.grew(ctx, p.culvert, before, in, out), c.wireSaw(p.wire, a, seen)); err != nil {
		t.Error(err)
	}
}

// stands is a machine at the address of the one that is killed.
func (p *kernelPeer) stands(l *lab.Lab, a kernelPlan) *lab.Node {
	n := l.Node("they")
	p.ports++
	port := fmt.Sprintf("port%d", p.ports)
	p.hub.Run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", n.NS)
	p.hub.Run("ip", "link", "set", port, "master", "br0", "up")
	n.Run("ip", "link", "set", "eth0", "addrgenmode", "none")
	n.Run("ip", "addr", "add", prefixOnWire(a.gateways[1]), "dev", "eth0", "nodad")
	n.Run("ip", "link", "set", "eth0", "up")
	if a.hosts[1] != a.gateways[1] {
		n.Inner(a.hosts[1])
	}
	return n
}

func prefixOnWire(a netip.Addr) string {
	return netip.PrefixFrom(a, map[bool]int{true: 24, false: 64}[a.Is4()]).String()
}

// keys are the SAs that a culvert lists, as it sees them.
func (c *negotiatedCell) keys(ctx context.Context, of *lab.Culvert, a kernelPlan) (in, out manualKeys, err error) {
	text, err := of.Command(ctx, "installed-sa", "print", "--json", "--show-secrets")
	if err != nil {
		return in, out, err
	}
	var rows []lab.Row
	if err := json.Unmarshal(text, &rows); err != nil {
		return in, out, err
	}
	if len(rows) != 4 {
		return in, out, fmt.Errorf("culvert lists %d SAs, not 4: %s", len(rows), text)
	}
	for _, r := range rows {
		k := &out
		if r.Text("dst-address") == a.gateways[0].String() {
			k = &in
		}
		spi, err := strconv.ParseUint(r.Text("spi"), 0, 32)
		if err != nil {
			return in, out, err
		}
		if r["AH"] == true {
			k.ahSPI, k.ahKeys = uint32(spi), r.Text("auth-key")
		} else {
			k.spi, k.enc, k.integ = uint32(spi), r.Text("enc-key"), r.Text("auth-key")
		}
	}
	if in.ahSPI == 0 || in.spi == 0 || out.ahSPI == 0 || out.spi == 0 || in == out {
		return in, out, fmt.Errorf("culvert does not list AH and ESP in both directions: %s", text)
	}
	return in, out, nil
}

// takesOver makes the kernel's policies and SAs. Its sequence numbers go on above those that the killed one used.
func (p *manualPair) takesOver(c *negotiatedCell, a kernelPlan, in, out manualKeys) error {
	us, them := a.gateways[0].String(), a.gateways[1].String()
	if _, err := p.guest.Try("ip", "addr", "replace", prefixOnWire(a.gateways[1]), "dev", "eth0", "nodad"); err != nil {
		return err
	}
	if !c.transport {
		p.guest.Run("ip", "route", "replace", a.nets[0].String(), "via", us, "src", a.hosts[1].String())
	}
	p.us.Run("ip", "neigh", "flush", "dev", "eth0")
	p.guest.Run("ip", "neigh", "flush", "dev", "eth0")
	lines := append([]string{"state flush", "policy flush"}, neighbourPolicies()...)
	for _, line := range c.states(them, us, in) {
		lines = append(lines, line+" replay-oseq 100000")
	}
	lines = append(lines, c.states(us, them, out)...)
	lines = append(lines, c.policy("out", a.nets[1], a.nets[0], them, us), c.policy("in", a.nets[0], a.nets[1], us, them))
	return p.xfrm(lines)
}

// grew: culvert has the same SAs as before, and counted the transfer on each.
func (c *negotiatedCell) grew(ctx context.Context, of *lab.Culvert, before []lab.Row, in, out manualKeys) error {
	after, err := of.Print(ctx, "installed-sa")
	if err != nil {
		return err
	}
	for _, spi := range c.spis(in, out) {
		was, is := rowOf(before, spi), rowOf(after, spi)
		if was == nil || is == nil || is.Number("current-bytes") < was.Number("current-bytes")+kernelPayload {
			return fmt.Errorf("culvert did not count the transfer on SPI %s: %v, then %v", spi, was, is)
		}
	}
	return nil
}

// wireSaw: since before, AH around ESP went both ways, and nothing else that is the cell's.
func (c *negotiatedCell) wireSaw(wire *lab.Capture, a kernelPlan, before map[lab.Sort]int) error {
	from := map[netip.Addr]int{}
	for s, n := range wire.Seen() {
		n -= before[s]
		if n == 0 || s.Kind == "icmp" || !slices.Contains(a.gateways[:], s.From) && !slices.Contains(a.hosts[:], s.From) {
			continue
		}
		want := c.wireWants()
		if want.From = s.From; s != want {
			return fmt.Errorf("%d packets %+v were on the wire, wanted %+v", n, s, want)
		}
		from[s.From] += n
	}
	for _, g := range a.gateways {
		if from[g] < 10 {
			return fmt.Errorf("%d packets from %v were on the wire", from[g], g)
		}
	}
	return nil
}
