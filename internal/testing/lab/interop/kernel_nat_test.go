//go:build linux

package interop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/internal/testing/lab"
)

// kernelNATCell is transport mode through NAT with the Linux kernel: each side
// has to mend or pass over the checksums of a TCP whose addresses were replaced.
type kernelNATCell struct {
	name         string
	we, they     bool // who is behind a NAT
	theyInitiate bool
}

const kernelNATGroup = "Linux kernel, transport mode through NAT"

func kernelNATCells() []kernelNATCell {
	return []kernelNATCell{
		{"nat-transport-kernel-we-hidden-we-initiate", true, false, false},
		{"nat-transport-kernel-they-hidden-they-initiate", false, true, true},
		{"nat-transport-kernel-they-hidden-we-initiate", false, true, false},
		{"nat-transport-kernel-both-hidden-we-initiate", true, true, false},
		{"nat-transport-kernel-both-hidden-they-initiate", true, true, true},
	}
}

func (c *kernelNATCell) result() Result {
	r := Result{Group: kernelNATGroup, Name: c.name, Initiator: "culvert", IKE: "aes-256 sha256 x25519", ESP: "ESP in UDP transport, aes-256-gcm",
		Inside: "IPv4", Event: "each side rekeys the CHILD SA; who is behind a NAT: ", Outcome: outcomes.of[c.name]}
	if c.theyInitiate {
		r.Initiator = "strongSwan"
	}
	switch {
	case c.we && c.they:
		r.Event += "both"
	case c.we:
		r.Event += "culvert"
	default:
		r.Event += "strongSwan"
	}
	return r
}

func TestKernelTransportThroughNAT(t *testing.T) {
	lab.NeedGuest(t)
	for _, c := range kernelNATCells() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() { record(c.name, t.Failed()) })
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			s := newKernelNATSite(ctx, t, &c)
			t.Cleanup(func() { s.describe(t) })
			if c.theyInitiate {
				if err := s.swan.InitiateChild(ctx, "c"); err != nil {
					t.Fatal(err)
				}
			}
			for _, step := range []struct {
				name string
				do   func() error
			}{
				{"at first", func() error { return nil }},
				{"after culvert's rekey", func() error { _, err := s.culvert.Command(ctx, "installed-sa", "rekey"); return err }},
				{"after strongSwan's rekey", func() error { return s.swan.RekeyChild(ctx, "c") }},
			} {
				if err := errors.Join(s.renew(ctx, step.do), s.check(ctx)); err != nil {
					t.Fatalf("%s: %v", step.name, err)
				}
			}
		})
	}
}

// kernelNATSite is a cell that runs. The guest's router is a NAT or forwards only.
type kernelNATSite struct {
	*kernelNATCell
	us         natted
	addr, seen netip.Addr // the guest's, and as we see it
	guest      *lab.Guest
	swan       *lab.GuestCharon
	culvert    *lab.Culvert
	wire       *lab.Capture
	child      lab.ChildSA
}

func newKernelNATSite(ctx context.Context, t *testing.T, c *kernelNATCell) *kernelNATSite {
	l := lab.New(t)
	s := &kernelNATSite{kernelNATCell: c, us: natEnd(l, "we", "203.0.113.1", "192.168.7", c.we)}
	router, net := l.Node("router"), "203.0.114"
	if c.they {
		net = "192.168.8"
	}
	s.addr = netip.MustParseAddr(net + ".2")
	s.seen = s.addr
	s.guest = router.Guest(ctx, "peer", lab.NIC{Tap: "in0", Node: []netip.Prefix{netip.MustParsePrefix(net + ".1/24")}, Guest: []netip.Prefix{netip.PrefixFrom(s.addr, 24)}})
	s.guest.Run("ip", "route", "add", "default", "via", net+".1")
	out := lab.End{Node: router, Device: "out0", Prefix: netip.MustParsePrefix("203.0.113.2/24")}
	l.Wire(s.us.out, out)
	if c.they {
		s.seen = out.Prefix.Addr()
		router.Masquerade("out0")
		router.Forward("out0", s.addr, 500, 4500)
	} else {
		router.Sysctl("net.ipv4.ip_forward", "1")
		s.us.out.Node.Run("ip", "route", "add", net+".0/24", "via", out.Prefix.Addr().String())
	}
	if c.we {
		s.us.out.Node.Masquerade("out0")
		s.us.out.Node.Forward("out0", s.us.addr, 500, 4500)
	}
	s.wire = router.Capture("out0")
	var err error
	if s.swan, err = s.guest.Charon(ctx); err == nil {
		err = s.swan.Load(ctx, s.swanctl())
	}
	if err != nil {
		t.Fatal(err)
	}
	s.culvert = s.us.node.Culvert(ctx, "", transportTOML(s.us.addr, s.seen, c.theyInitiate))
	return s
}

func (s *kernelNATSite) swanctl() string {
	return fmt.Sprintf(`connections {
	t {
		version = 2
		mobike = no
		local_addrs = %s
		remote_addrs = %s
		proposals = aes256-sha256-x25519
		local {
			auth = psk
		}
		remote {
			auth = psk
			id = %%any
		}
		children {
			c {
				mode = transport
				esp_proposals = aes256gcm16
			}
		}
	}
}
secrets {
	ike-1 {
		secret = %q
	}
}
`, s.addr, s.us.seen, secret)
}

// renew does something and waits until there is one CHILD SA, and another one than before. strongSwan says so when it
// has the new one for what it receives. It sends by the old one until it has heard our DELETE.
func (s *kernelNATSite) renew(ctx context.Context, do func() error) error {
	if err := do(); err != nil {
		return err
	}
	if s.child.SPIIn == "" && !s.theyInitiate { // by traffic
		if err := s.us.node.Transfer(ctx, s.us.addr, s.guest, s.seen, 1000); err != nil {
			return err
		}
	}
	old := s.child
	return lab.Until(ctx, func() error {
		sas, err := s.swan.SAs(ctx)
		if err != nil {
			return err
		}
		if _, s.child, err = soleOf(sas); err != nil {
			return err
		}
		kernel, err := s.guest.KernelSAs()
		if err == nil && (s.child.SPIIn == old.SPIIn || kernelSA(kernel, old.SPIOut) != nil) {
			err = errors.New("the CHILD SA is still the old one")
		}
		return err
	})
}

// check has each side open a TCP connection to the other, and asks the kernel and culvert.
func (s *kernelNATSite) check(ctx context.Context) error {
	if err := s.guest.Transfer(ctx, s.addr, s.us.node, s.us.seen, kernelPayload); err != nil {
		return err
	}
	if err := s.us.node.Transfer(ctx, s.us.addr, s.guest, s.seen, kernelPayload); err != nil {
		return err
	}
	sas, err := s.guest.KernelSAs()
	if err != nil {
		return err
	}
	rows, err := s.culvert.Print(ctx, "installed-sa")
	if err != nil {
		return err
	}
	for _, spi := range []string{s.child.SPIIn, s.child.SPIOut} {
		k, row := kernelSA(sas, spi), rowOf(rows, spi)
		if k == nil || row == nil {
			return fmt.Errorf("SPI %s is not known to both: %v, %v", spi, k, row)
		}
		if k.Mode != "transport" || !k.Encap || k.Bytes < 2*kernelPayload || k.Failed > 0 {
			return fmt.Errorf("the kernel's SA %s: %+v", spi, k)
		}
		if n := row.Number("current-bytes"); n < 2*kernelPayload {
			return fmt.Errorf("culvert counted %d bytes on SPI %s", n, spi)
		}
	}
	for kind, n := range s.wire.Seen() {
		switch kind.Kind {
		case "esp in udp", "ike", "keepalive", "icmp":
		default:
			return fmt.Errorf("%d packets %+v were on the wire", n, kind)
		}
	}
	return checkNoDrops(s.guest, nil)
}

func (s *kernelNATSite) describe(t *testing.T) {
	if !t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	text, _ := s.swan.Log(0)
	t.Logf("---- strongSwan's log ----\n%s", text)
	(&kernelPeer{guest: s.guest, swan: s.swan}).describeGuest(t)
	t.Logf("---- on the wire ----\n%v", s.wire.Seen())
	describeCulvert(ctx, t, s.culvert)
}
