//go:build linux

package interop

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/config"
	"culvert/crypto/suite"
	"culvert/internal/testing/lab"
)

// TestKernelByHand: in each lane one culvert and one kernel, whose policies and
// SAs are other ones for each cell.
func TestKernelByHand(t *testing.T) {
	lab.NeedGuest(t)
	for lane := range kernelLanes {
		t.Run(fmt.Sprintf("lane%d", lane), func(t *testing.T) {
			t.Parallel()
			p := newManualPair(t)
			for i, c := range manualCells() {
				if i%kernelLanes != lane {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					t.Cleanup(func() { record(c.name, t.Failed()) })
					p.run(t, &c)
				})
			}
		})
	}
}

// TestManualCellsAreValid: culvert's policies have no fault, and the kernel's
// name of every cipher is known.
func TestManualCellsAreValid(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range manualCells() {
		if _, _, err := config.Parse(c.name, []byte(c.toml())); err != nil {
			t.Error(err)
		}
		if seen[c.name] {
			t.Errorf("two cells are named %s", c.name)
		}
		seen[c.name] = true
	}
	for _, e := range suite.Encrs {
		if manualCiphers[e.SAName] == "" {
			t.Errorf("the kernel's name of %s is not known", e.Name)
		}
	}
}

// manualPair is culvert and a kernel on one wire.
type manualPair struct {
	*kernelPeer
	us      *lab.Node
	culvert *lab.Culvert
	wire    *lab.Capture
	spis    uint32 // the last one
}

func newManualPair(t *testing.T) *manualPair {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	l := lab.New(t)
	p := &manualPair{kernelPeer: newKernelGuest(ctx, l), spis: 0x1000}
	p.us = p.join(l)
	for family, option := range []string{"-4", "-6"} {
		us := kernelInner[family][0]
		p.guest.Run("ip", option, "route", "add", netip.PrefixFrom(us, us.BitLen()).String(), "via", kernelOuter[family][0].String())
	}
	if err := p.guest.OpenNATT(ctx); err != nil {
		t.Fatal(err)
	}
	p.culvert = p.us.Culvert(ctx, "", "")
	p.wire = p.us.Capture("eth0")
	return p
}

// newKeys draws keys and takes the next SPIs.
func (p *manualPair) newKeys(c *manualCell) manualKeys {
	random := func(n int) string {
		b := make([]byte, n)
		_, _ = rand.Read(b) // never fails
		return hex.EncodeToString(b)
	}
	k := manualKeys{spi: p.spis + 1, ahSPI: p.spis + 2}
	p.spis += 2
	if c.encr != nil {
		k.enc = random(c.encr.MaterialLen())
	}
	if c.integ != nil {
		k.integ = random(c.integ.KeyLen)
	}
	if c.ah != nil {
		k.ahKeys = random(c.ah.KeyLen)
	}
	return k
}

func (p *manualPair) run(t *testing.T, c *manualCell) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	in, out := p.newKeys(c), p.newKeys(c) // as culvert sees it
	t.Cleanup(func() { p.describe(t) })
	if err := p.install(ctx, c, in, out); err != nil {
		t.Fatal(err)
	}
	errs, err := p.guest.KernelErrors()
	if err != nil {
		t.Fatal(err)
	}
	before := p.wire.Seen()
	if err := p.transfer(ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.checkKernel(c, in, out), checkNoDrops(p.guest, errs), p.checkOurs(ctx, c, in, out), p.checkWire(c, before)); err != nil {
		t.Error(err)
	}
	spi := in.spi
	if c.encr == nil {
		spi = in.ahSPI
	}
	if _, err := p.culvert.Command(ctx, "sa", "delete", fmt.Sprint(spi)); err != nil {
		t.Error(err)
	}
}

// install makes policies and SAs on both sides.
func (p *manualPair) install(ctx context.Context, c *manualCell, in, out manualKeys) error {
	p.culvert.Configure("", c.toml())
	if err := p.culvert.Reload(ctx); err != nil {
		return err
	}
	if _, err := p.culvert.Command(ctx, c.add(in, out)...); err != nil {
		return err
	}
	a := c.like().plan()
	us, them := a.gateways[0].String(), a.gateways[1].String()
	lines := append([]string{"state flush", "policy flush"}, neighbourPolicies()...)
	lines = append(lines, c.states(them, us, in)...)
	lines = append(lines, c.states(us, them, out)...)
	if c.udp && c.transport {
		// The policy covers the datagrams around ESP too: an IKE daemon's socket is exempt.
		lines = append(lines, fmt.Sprintf("policy add src %s dst %s proto udp sport 4500 dport 4500 dir in priority 1 action allow", us, them))
	}
	lines = append(lines, c.policy("out", a.nets[1], a.nets[0], them, us), c.policy("in", a.nets[0], a.nets[1], us, them))
	return p.xfrm(lines)
}

// transfer ends when the last acknowledgement has been: a packet that comes
// late would be the next cell's.
func (p *manualPair) transfer(ctx context.Context, c *manualCell) error {
	hosts := c.like().plan().hosts
	var err error
	if c.options { // of IPv6 only who connects has them
		err = errors.Join(p.us.TransferWithOptions(ctx, hosts[0], p.guest, hosts[1], kernelPayload),
			p.guest.TransferWithOptions(ctx, hosts[1], p.us, hosts[0], kernelPayload))
	} else if c.rounded { // who rounds up speaks first, as culvert cannot know before
		err = p.guest.Transfer(ctx, hosts[1], p.us, hosts[0], kernelPayload)
	} else {
		err = p.us.Transfer(ctx, hosts[0], p.guest, hosts[1], kernelPayload)
	}
	if err != nil {
		return err
	}
	return lab.Until(ctx, func() error {
		out, err := p.us.Try("ss", "-Hnt", "state", "connected", "exclude", "time-wait")
		if out = strings.TrimSpace(out); err == nil && out != "" {
			err = fmt.Errorf("connections have not ended: %s", out)
		}
		return err
	})
}

// checkKernel: the kernel's SAs are what was asked for, each counted the
// transfer, and nothing of it failed.
func (p *manualPair) checkKernel(c *manualCell, in, out manualKeys) error {
	sas, err := p.guest.KernelSAs()
	if err != nil {
		return err
	}
	if want := 2 * len(c.protocols()); len(sas) != want {
		return fmt.Errorf("the kernel has %d SAs, not %d", len(sas), want)
	}
	for _, spi := range c.spis(in, out) {
		k := kernelSA(sas, spi)
		if k == nil {
			return fmt.Errorf("the kernel has no SA %s", spi)
		}
		if got, want := [...]any{k.Proto, k.Mode, k.Algorithm, k.KeyBits, k.ICVBits, k.Has("esn"), k.Encap}, c.kernelWants(k.Proto); got != want {
			return fmt.Errorf("the kernel's SA %s has %v, wanted %v", spi, got, want)
		}
		if k.Bytes < kernelPayload || k.Failed > 0 {
			return fmt.Errorf("the kernel counted %d bytes on SA %s for a transfer of %d, and %d packets that failed", k.Bytes, spi, kernelPayload, k.Failed)
		}
	}
	return nil
}

// spis are those of the cell's SAs in eight hexadecimal digits.
func (c *manualCell) spis(directions ...manualKeys) (list []string) {
	for _, k := range directions {
		for _, proto := range c.protocols() {
			spi := k.spi
			if proto == "ah" {
				spi = k.ahSPI
			}
			list = append(list, fmt.Sprintf("%08x", spi))
		}
	}
	return list
}

// checkOurs: culvert lists the same SAs and no other, and counted the transfer on each.
func (p *manualPair) checkOurs(ctx context.Context, c *manualCell, in, out manualKeys) error {
	rows, err := p.culvert.Print(ctx, "installed-sa")
	if err != nil {
		return err
	}
	spis := c.spis(in, out)
	if len(rows) != len(spis) {
		return fmt.Errorf("culvert lists %d SAs, not %d: %v", len(rows), len(spis), rows)
	}
	for i, spi := range spis {
		row := rowOf(rows, spi)
		if row == nil {
			return fmt.Errorf("culvert does not list SPI %s: %v", spi, rows)
		}
		auth, proto := c.integ, c.protocols()[i%len(c.protocols())]
		if proto == "ah" {
			auth = c.ah
		} else if enc, bits := row.Text("enc-algorithm"), row.Number("enc-key-size"); enc != c.encr.SAName || bits != uint64(c.encr.KeyLen*8) {
			return fmt.Errorf("culvert lists SPI %s with %s %d, wanted %s %d", spi, enc, bits, c.encr.SAName, c.encr.KeyLen*8)
		}
		if auth != nil && row.Text("auth-algorithm") != auth.Name {
			return fmt.Errorf("culvert lists SPI %s with auth-algorithm %s, wanted %s", spi, row.Text("auth-algorithm"), auth.Name)
		}
		if n := row.Number("current-bytes"); n < kernelPayload || row.Text("state") != "mature" {
			return fmt.Errorf("culvert counted %d bytes on SPI %s for a transfer of %d: %v", n, spi, kernelPayload, row)
		}
	}
	return nil
}

// checkWire: since before, packets of the sort that was asked for went both ways,
// and none of another.
func (p *manualPair) checkWire(c *manualCell, before map[lab.Sort]int) error {
	a, from := c.like().plan(), map[netip.Addr]int{}
	for s, n := range p.wire.Seen() {
		n -= before[s]
		ours := s.From == a.gateways[0] || s.From == a.gateways[1] || s.From == a.hosts[0] || s.From == a.hosts[1]
		if n == 0 || s.Kind == "icmp" || !ours { // the bridge speaks of multicast
			continue
		}
		want := c.wireWants()
		if want.From = s.From; c.options && !s.Options { // who answered in IPv6
			want.Options, n = false, 0
		}
		if s != want {
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

// describe prints what both sides know when the test failed.
func (p *manualPair) describe(t *testing.T) {
	if !t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	p.describeGuest(t)
	t.Logf("---- on the wire ----\n%v", p.wire.Seen())
	describeCulvert(ctx, t, p.culvert)
	t.Logf("---- our network ----\n%s", p.us.Network())
}
