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
	"time"

	"culvert/config"
	"culvert/internal/testing/lab"
)

// kernelPayload is what a transfer sends in each direction.
const kernelPayload = 200_000

// kernelLanes is how many guests share the cells; each takes one after another.
const kernelLanes = 2

// TestKernel: the guests stand in a network of their own each, and every cell
// comes to one with a culvert of its own. Two of the guests have libreswan and OpenIKED in the place of strongSwan.
func TestKernel(t *testing.T) {
	lab.NeedGuest(t)
	for name, lane := range map[string]func(*testing.T){"libreswan": libreswanLane, "openiked": openIKEDLane} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lane(t)
		})
	}
	for lane := range kernelLanes {
		t.Run(fmt.Sprintf("lane%d", lane), func(t *testing.T) {
			t.Parallel()
			p := newKernelPeer(t)
			for i, c := range kernelCells() {
				if i%kernelLanes != lane {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					t.Cleanup(func() { record(c.name, t.Failed()) })
					runKernelCell(t, p, &c)
				})
			}
		})
	}
}

// TestKernelCellsAreValid: culvert's end of each is a configuration without fault.
func TestKernelCellsAreValid(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range kernelCells() {
		if _, _, err := config.Parse(c.name, []byte(c.gatewayTable()+c.toml())); err != nil {
			t.Error(err)
		}
		if seen[c.name] {
			t.Errorf("two cells are named %s", c.name)
		}
		seen[c.name] = true
		if !c.ah && kernelEncrOf(c.suite.encr).kernel == "" {
			t.Errorf("%s: the kernel's name of %s is not known", c.name, c.suite.encr.esp)
		}
	}
}

// kernelPeer is a guest with strongSwan, and the wire that leads to it.
type kernelPeer struct {
	guest *lab.Guest
	swan  *lab.GuestCharon
	hub   *lab.Node
	ports int
	lines int // of charon's log that belong to former cells
}

func newKernelPeer(t *testing.T) *kernelPeer {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	p := newKernelGuest(ctx, lab.New(t))
	if err := p.xfrm(neighbourPolicies()); err != nil {
		t.Fatal(err)
	}
	var err error
	if p.swan, err = p.guest.Charon(ctx); err != nil {
		t.Fatal(err)
	}
	return p
}

// newKernelGuest is one without strongSwan.
func newKernelGuest(ctx context.Context, l *lab.Lab) *kernelPeer {
	p := &kernelPeer{hub: l.Node("hub")}
	var addrs []netip.Prefix
	for _, a := range kernelOuter {
		addrs = append(addrs, netip.PrefixFrom(a[1], map[bool]int{true: 24, false: 64}[a[1].Is4()]))
	}
	p.guest = p.hub.Guest(ctx, "peer", lab.NIC{Tap: "tap0", Guest: addrs})
	p.guest.Inner(kernelInner[0][1], kernelInner[1][1])
	p.hub.Run("ip", "link", "add", "br0", "up", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
	p.hub.Run("ip", "link", "set", "tap0", "master", "br0")
	return p
}

// neighbourPolicies keep neighbour discovery outside, as arguments of `ip xfrm`. A
// transport mode policy for two neighbours covers it too, and Linux would protect
// its answers, which nobody takes who does not yet know where to send.
func neighbourPolicies() (lines []string) {
	for _, kind := range []string{"135", "136"} {
		for _, dir := range []string{"in", "out"} {
			lines = append(lines, "policy add src ::/0 dst ::/0 proto ipv6-icmp type "+kind+" dir "+dir+" priority 1 action allow")
		}
	}
	return lines
}

// xfrm has the guest run lines of arguments of `ip xfrm`, all at once.
func (p *kernelPeer) xfrm(lines []string) error {
	_, err := p.guest.Try("sh", "-c", `printf '%s\n' "$@" | ip -batch -`, "sh", "xfrm "+strings.Join(lines, "\nxfrm "))
	return err
}

// join wires a new machine of ours to the guest.
func (p *kernelPeer) join(l *lab.Lab) *lab.Node {
	us := l.Node("we")
	p.ports++
	port := fmt.Sprintf("port%d", p.ports)
	p.hub.Run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", us.NS)
	p.hub.Run("ip", "link", "set", port, "master", "br0", "up")
	us.Run("ip", "link", "set", "eth0", "addrgenmode", "none")
	us.Run("ip", "addr", "add", kernelOuter[0][0].String()+"/24", "dev", "eth0")
	us.Run("ip", "addr", "add", kernelOuter[1][0].String()+"/64", "dev", "eth0", "nodad")
	us.Run("ip", "link", "set", "eth0", "up")
	us.Inner(kernelInner[0][0], kernelInner[1][0])
	return us
}

// kernelTunnel is a cell that runs.
type kernelTunnel struct {
	*kernelCell
	kernelPlan
	*kernelPeer
	us      *lab.Node
	culvert *lab.Culvert
	wire    *lab.Capture

	// As strongSwan and the kernel saw them at the last check.
	ike     lab.IKESA
	child   lab.ChildSA
	in, out lab.KernelSA // the kernel's view

	exchanged bool              // the CHILD SA was made by CREATE_CHILD_SA, where PFS shows
	errs      map[string]uint64 // of the kernel, at the start
}

func runKernelCell(t *testing.T, p *kernelPeer, c *kernelCell) {
	ctx, cancel := context.WithTimeout(t.Context(), c.limit)
	defer cancel()
	l := lab.New(t)
	r := &kernelTunnel{kernelCell: c, kernelPlan: c.plan(), kernelPeer: p, us: p.join(l)}
	t.Cleanup(func() { r.clear(t) })
	t.Cleanup(func() { r.describe(t) })
	if _, err := p.guest.Try("ip", "neigh", "flush", "dev", "eth0"); err != nil { // the machine before had another card
		t.Fatal(err)
	}
	var err error
	if r.errs, err = p.guest.KernelErrors(); err != nil {
		t.Fatal(err)
	}
	if err := p.swan.Load(ctx, c.swanctl()); err != nil {
		t.Fatal(err)
	}
	r.wire = r.us.Capture("eth0")
	r.culvert = r.us.Culvert(ctx, c.gateway(), c.toml())

	if err := r.establish(ctx); err != nil {
		t.Fatalf("no CHILD SA: %v", err)
	}
	if r.ike.Initiator != c.theyInitiate {
		t.Errorf("strongSwan says that it initiated: %t; wanted %t", r.ike.Initiator, c.theyInitiate)
	}
	if err := r.check(ctx); err != nil {
		t.Fatalf("before the event: %v", err)
	}
	if c.event.name != "" {
		if err := c.event.do(ctx, r); err != nil {
			t.Fatalf("%s: %v", c.event.name, err)
		}
		if err := r.check(ctx); err != nil {
			t.Fatalf("after the event (%s): %v", c.event.name, err)
		}
	}
	if err := errors.Join(r.checkWire(), checkNoDrops(r.guest, r.errs)); err != nil {
		t.Error(err)
	}
}

// clear ends what the cell left in the guest.
func (r *kernelTunnel) clear(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if r.culvert != nil {
		r.culvert.Kill()
	}
	if err := r.swan.Forget(ctx, "t"); err != nil && !strings.Contains(err.Error(), "no matching SAs") {
		t.Error(err)
	}
	_, r.lines = r.swan.Log(r.lines)
}

// describe prints what both sides know when the test failed.
func (r *kernelTunnel) describe(t *testing.T) {
	if !t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	text, _ := r.swan.Log(r.lines)
	t.Logf("---- strongSwan's log ----\n%s", text)
	r.describeGuest(t)
	if r.wire != nil {
		t.Logf("---- on the wire ----\n%v", r.wire.Seen())
	}
	if r.culvert != nil {
		describeCulvert(ctx, t, r.culvert)
	}
	t.Logf("---- our network ----\n%s", r.us.Network())
}

func (p *kernelPeer) describeGuest(t *testing.T) {
	cmds := []string{"ip -s xfrm state", "ip xfrm policy", "cat /proc/net/xfrm_stat", "ip route show table all", "ip neigh"}
	if p.swan != nil {
		cmds = append(cmds, "swanctl --list-sas")
	}
	for _, cmd := range cmds {
		out, err := p.guest.Try("sh", "-c", cmd)
		t.Logf("---- guest: %s (%v) ----\n%s", cmd, err, out)
	}
}

func describeCulvert(ctx context.Context, t *testing.T, c *lab.Culvert) {
	for _, menu := range []string{"active-peers", "installed-sa", "policy", "statistics"} {
		text, err := c.Command(ctx, menu, "print", "--json")
		t.Logf("---- culvert %s print (%v) ----\n%s", menu, err, text)
	}
}

// establish has the initiator make the CHILD SA: strongSwan by command, culvert by traffic.
func (r *kernelTunnel) establish(ctx context.Context) error {
	if r.theyInitiate {
		if err := r.swan.InitiateChild(ctx, "c"); err != nil {
			return err
		}
		// Who begins speaks first: that tells culvert that its answer arrived.
		if err := r.guest.Transfer(ctx, r.hosts[1], r.us, r.hosts[0], 1000); err != nil {
			return err
		}
	} else if err := r.transfer(ctx, 1000); err != nil {
		return err
	}
	return r.look(ctx)
}

func (r *kernelTunnel) transfer(ctx context.Context, size int64) error {
	return r.us.Transfer(ctx, r.hosts[0], r.guest, r.hosts[1], size)
}

// look waits until strongSwan has one established IKE SA with one CHILD SA in
// use, and notes them with what the kernel says of that one.
func (r *kernelTunnel) look(ctx context.Context) error {
	return lab.Until(ctx, func() error {
		sas, err := r.swan.SAs(ctx)
		if err != nil {
			return err
		}
		ike, child, err := soleOf(sas)
		if err != nil {
			return err
		}
		kernel, err := r.guest.KernelSAs()
		if err != nil {
			return err
		}
		in, out := kernelSA(kernel, child.SPIIn), kernelSA(kernel, child.SPIOut)
		if in == nil || out == nil {
			return fmt.Errorf("the kernel has not both SPIs %s and %s of strongSwan", child.SPIIn, child.SPIOut)
		}
		r.ike, r.child, r.in, r.out = ike, child, *in, *out
		return nil
	})
}

func kernelSA(sas []lab.KernelSA, spi string) *lab.KernelSA {
	for i := range sas {
		if sas[i].SPI == strings.ToLower(spi) {
			return &sas[i]
		}
	}
	return nil
}

// check proves the SAs: a hashed transfer, counted by the kernel on the SAs that
// were noted last, and all three of one mind about what they are.
func (r *kernelTunnel) check(ctx context.Context) error {
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
		return fmt.Errorf("the kernel counted %d bytes in and %d out for a transfer of %d in each direction",
			r.in.Bytes-in.Bytes, r.out.Bytes-out.Bytes, kernelPayload)
	case r.in.Failed > 0:
		return fmt.Errorf("%d packets of ours did not open in the kernel, or were out of its window", r.in.Failed)
	}
	return errors.Join(r.checkSwan(), r.checkKernelSA(&r.in), r.checkKernelSA(&r.out), r.checkOurs(ctx))
}

// checkSwan compares the CHILD SA, as strongSwan reports it, with what was asked for.
func (r *kernelTunnel) checkSwan() error {
	s, dh := r.suite, ""
	if r.exchanged {
		dh = s.pfs.reported
	}
	integ := s.integ()
	if r.ah {
		integ = s.hash.integ
	}
	want := [...]any{strings.ToUpper(r.mode()), strings.ToUpper(r.protocol()), s.encr.reported, s.encr.bits, integ, dh, r.agreed(),
		r.nets[1].String(), r.nets[0].String()}
	c := r.child
	got := [...]any{c.Mode, c.Protocol, c.Encr, c.KeySize, c.Integ, c.DH, c.ESN, strings.Join(c.LocalTS, ","), strings.Join(c.RemoteTS, ",")}
	if got != want {
		return fmt.Errorf("strongSwan's CHILD SA has %v, wanted %v", got, want)
	}
	return nil
}

// checkKernelSA compares an SA of the kernel's with what was asked for.
func (r *kernelTunnel) checkKernelSA(k *lab.KernelSA) error {
	s, e := r.suite, kernelEncrOf(r.suite.encr)
	algorithm, bits, icv := "hmac("+s.hash.name+")", 0, icvBits[s.hash]
	if !r.ah {
		algorithm, bits = algorithm+" "+e.kernel, e.keySize()+e.salt
	}
	if e.aead {
		algorithm, icv = e.kernel, e.icv
	}
	want := [...]any{r.protocol(), r.mode(), algorithm, bits, icv, r.agreed(), r.udp}
	got := [...]any{k.Proto, k.Mode, k.Algorithm, k.KeyBits, k.ICVBits, k.Has("esn"), k.Encap}
	if got != want {
		return fmt.Errorf("the kernel's SA %s has %v, wanted %v", k.SPI, got, want)
	}
	return nil
}

// checkOurs compares culvert's installed-sa with the kernel's SAs: both are
// there, with the algorithms asked for, and counted the transfer.
func (r *kernelTunnel) checkOurs(ctx context.Context) error {
	rows, err := r.culvert.Print(ctx, "installed-sa")
	if err != nil {
		return err
	}
	for _, k := range []*lab.KernelSA{&r.in, &r.out} {
		row := rowOf(rows, k.SPI)
		if row == nil {
			return fmt.Errorf("culvert does not list SPI %s, which the kernel uses: %v", k.SPI, rows)
		}
		if enc, bits := row.Text("enc-algorithm"), row.Number("enc-key-size"); !r.ah && (enc != r.suite.encr.printed || int(bits) != r.suite.encr.keySize()) {
			return fmt.Errorf("culvert lists SPI %s with %s %d, wanted %s %d", k.SPI, enc, bits, r.suite.encr.printed, r.suite.encr.keySize())
		}
		if auth := row.Text("auth-algorithm"); !r.suite.encr.aead && auth != r.suite.hash.name {
			return fmt.Errorf("culvert lists SPI %s with auth-algorithm %s, wanted %s", k.SPI, auth, r.suite.hash.name)
		}
		if bytes := row.Number("current-bytes"); bytes < kernelPayload {
			return fmt.Errorf("culvert counted %d bytes on SPI %s for a transfer of %d", bytes, k.SPI, kernelPayload)
		}
		if src, dst := row.Text("src-address"), row.Text("dst-address"); !strings.Contains(src, k.Src) || !strings.Contains(dst, k.Dst) {
			return fmt.Errorf("culvert lists SPI %s from %s to %s, the kernel from %s to %s", k.SPI, src, dst, k.Src, k.Dst)
		}
	}
	return nil
}

// checkWire: of a capture between the two, packets of the kind that was asked
// for went both ways, of any other none, and nothing of the transfers in clear.
func (r *kernelTunnel) checkWire() error {
	kind := r.protocol()
	if r.udp {
		kind = "esp in udp"
	}
	from := map[netip.Addr]int{}
	for s, n := range r.wire.Seen() {
		if !slices.Contains(r.gateways[:], s.From) && !slices.Contains(r.hosts[:], s.From) {
			continue // the bridge speaks of multicast
		}
		switch s.Kind {
		case kind:
			from[s.From] += n
		case "ike", "keepalive", "icmp":
		default:
			return fmt.Errorf("%d packets of kind %q from %v were on the wire, with %q wanted", n, s.Kind, s.From, kind)
		}
	}
	for _, g := range r.gateways {
		if from[g] < 10 {
			return fmt.Errorf("%d packets of kind %q from %v were on the wire", from[g], kind, g)
		}
	}
	return nil
}

// checkNoDrops: since before, the kernel dropped nothing of what it received.
func checkNoDrops(g *lab.Guest, before map[string]uint64) error {
	now, err := g.KernelErrors()
	if err != nil {
		return err
	}
	for name, n := range now {
		if strings.HasPrefix(name, "XfrmIn") && n > before[name] {
			return fmt.Errorf("the kernel dropped %d packets: %s", n-before[name], name)
		}
	}
	return nil
}
