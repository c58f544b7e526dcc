package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Two clients that have the same address, each behind a NAT of its own, and both of these behind a third, so that the server
// sees one address:
//
//	192.168.1.10 ── inner0 ──┐
//	                         nat 203.0.113.1 ── 203.0.113.2 server
//	192.168.1.10 ── inner1 ──┘
type crowdSite struct {
	t       *testing.T
	ctx     context.Context
	server  *Node
	culvert *Culvert
	nat     *Node
	inner   [2]*Node // 192.168.1.1, to which the clients are joined
	clients [2]crowdClient
	to      netip.Addr // whom they talk to
}

// crowdClient is a client, or a guest that is one.
type crowdClient interface {
	Talk(ctx context.Context, local, remote netip.Addr, text string) (seen netip.AddrPort, err error)
	Transfer(ctx context.Context, local netip.Addr, to Machine, remote netip.Addr, size int64) error
}

var (
	crowdAddr   = netip.MustParseAddr("192.168.1.10")
	crowdServer = netip.MustParseAddr("203.0.113.2")
	crowdLAN    = netip.MustParseAddr("10.1.0.1") // the server too, for clients with a tunnel
)

func newCrowdSite(ctx context.Context, t *testing.T) *crowdSite {
	l := New(t)
	s := &crowdSite{t: t, ctx: ctx, server: l.Node("server"), nat: l.Node("nat")}
	p := netip.MustParsePrefix
	l.Wire(End{s.server, "eth0", p("203.0.113.2/24")}, End{s.nat, "out0", p("203.0.113.1/24")})
	for i := range s.inner {
		s.inner[i] = l.Node(fmt.Sprintf("inner%d", i))
		l.Wire(End{s.nat, fmt.Sprintf("in%d", i), p(fmt.Sprintf("10.9.%d.1/24", i))}, End{s.inner[i], "out0", p(fmt.Sprintf("10.9.%d.2/24", i))})
		s.inner[i].Run("ip", "route", "add", "default", "via", fmt.Sprintf("10.9.%d.1", i))
		s.inner[i].Masquerade("out0")
	}
	s.nat.Masquerade("out0")
	s.server.Inner(crowdLAN)
	if err := s.server.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	s.culvert = s.server.Culvert(ctx, "", crowdTOML)
	return s
}

// crowdTOML takes any client that knows the secret, in the mode that it asks for.
const crowdTOML = `
[[policy-group]]
name = "clients"
[[policy]]
template = true
group = "clients"
level = "unique"
[[peer]]
name = "clients"
exchange-mode = "ike2"
passive = true
[[identity]]
peer = "clients"
secret = "correct horse battery staple"
generate-policy = "port-strict"
policy-template-group = "clients"
`

// node is a client that is a namespace.
func (s *crowdSite) node(i int) *Node {
	n := s.server.lab.Node(fmt.Sprintf("client%d", i))
	s.server.lab.Wire(End{s.inner[i], "lan0", netip.MustParsePrefix("192.168.1.1/24")}, End{n, "eth0", netip.PrefixFrom(crowdAddr, 24)})
	n.Run("ip", "route", "add", "default", "via", "192.168.1.1")
	s.clients[i] = n
	return n
}

// talks has both clients talk to the server and returns the ports that it hears them from.
func (s *crowdSite) talks() (ports [2]uint16) {
	s.t.Helper()
	for i, c := range s.clients {
		ports[i] = s.talk(i, c)
	}
	return ports
}

func (s *crowdSite) talk(i int, c crowdClient) uint16 {
	s.t.Helper()
	seen, err := c.Talk(s.ctx, crowdAddr, s.to, fmt.Sprintf("client%d", i))
	if err != nil {
		s.describe()
		s.t.Fatal(err)
	}
	return seen.Port()
}

func (s *crowdSite) describe() {
	for _, menu := range []string{"policy", "installed-sa", "active-peers", "statistics"} {
		out, err := s.culvert.Command(s.ctx, menu, "print")
		s.t.Logf("%s\n%s%v", menu, out, err)
	}
	s.t.Logf("rules\n%s", s.server.Run("ip", "rule"))
}

// spis are those that the server has.
func (s *crowdSite) spis() (list []string) {
	rows, err := s.culvert.Print(s.ctx, "installed-sa")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range rows {
		if r.Text("state") == "mature" {
			list = append(list, r.Text("spi"))
		}
	}
	return list
}

// Clients with one address and one port are all served, each by its own SA, also when the server has rekeyed and
// when one has left: Linux kernels in transport mode, culverts in transport mode for the one port that L2TP uses, and strongSwan in tunnel mode.
func TestClientsOfOneAddress(t *testing.T) {
	Need(t)
	for name, c := range map[string]struct {
		join  func(s *crowdSite, i int) (leave func())
		ports bool // the policies are for the one port
		to    netip.Addr
	}{
		"culvert, transport":    {culvertClient, true, crowdServer},
		"strongSwan, tunnel":    {strongSwanClient, false, crowdLAN},
		"the kernel, transport": {kernelClient, false, crowdServer},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "the kernel") {
				NeedGuest(t)
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			s := newCrowdSite(ctx, t)
			s.to = c.to
			wire := s.nat.Capture("out0")
			var leave [2]func()
			for i := range s.clients {
				leave[i] = c.join(s, i)
			}
			was := s.talks()
			if was[0] == was[1] || !slices.Contains(was[:], TalkPort) {
				t.Fatalf("the server hears them from ports %d", was)
			}
			rows, err := s.culvert.Print(ctx, "installed-sa")
			if err != nil || len(rows) != 4 {
				t.Fatalf("%d SAs, %v", len(rows), err)
			}
			if !c.ports {
				for _, client := range s.clients {
					if err := client.Transfer(ctx, crowdAddr, s.server, s.to, 300_000); err != nil {
						s.describe()
						t.Fatal(err)
					}
				}
			}
			before := s.spis()
			if _, err := s.culvert.Command(ctx, "installed-sa", "rekey"); err != nil {
				t.Fatal(err)
			}
			if err := Until(ctx, func() error {
				now := s.spis()
				if len(now) != 4 || slices.ContainsFunc(now, func(spi string) bool { return slices.Contains(before, spi) }) {
					return fmt.Errorf("not rekeyed: %v, then %v", before, now)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if now := s.talks(); now != was {
				t.Errorf("after a rekey the server hears them from ports %d, not %d", now, was)
			}
			leave[0]()
			if err := Until(ctx, func() error {
				if left := s.spis(); len(left) != 2 {
					return fmt.Errorf("left are %v", left)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if now := s.talk(1, s.clients[1]); now != was[1] {
				t.Errorf("alone the second is heard from port %d, not %d", now, was[1])
			}
			if n := s.culvert.Counter(ctx, "rx-flows-translated"); n == 0 {
				t.Error("no conversation was given another port")
			}
			for kind, n := range wire.Seen() {
				switch kind.Kind {
				case "esp in udp", "ike", "keepalive":
				default:
					t.Errorf("%d packets %+v were on the wire", n, kind)
				}
			}
		})
	}
}

func culvertClient(s *crowdSite, i int) (leave func()) {
	c := s.node(i).Culvert(s.ctx, "", fmt.Sprintf(`
[[peer]]
name = "server"
address = "%[2]s/32"
exchange-mode = "ike2"
[[identity]]
peer = "server"
secret = "correct horse battery staple"
[[policy]]
peer = "server"
src-address = "%[1]s/32"
src-port = %[3]d
dst-address = "%[2]s/32"
dst-port = %[3]d
protocol = "udp"
`, crowdAddr, crowdServer, TalkPort))
	return func() {
		if err := c.Terminate(s.ctx); err != nil {
			s.t.Fatal(err)
		}
	}
}

func crowdSwanctl(mode, to string) string {
	return fmt.Sprintf(`connections {
	t {
		version = 2
		local_addrs = %s
		remote_addrs = %s
		local {
			auth = psk
		}
		remote {
			auth = psk
		}
		children {
			c {
				mode = %s
				esp_proposals = aes128-sha1-modp1024,aes128-sha1
				remote_ts = %s
			}
		}
	}
}
secrets {
	ike-1 {
		secret = "correct horse battery staple"
	}
}
`, crowdAddr, crowdServer, mode, to)
}

func strongSwanClient(s *crowdSite, i int) (leave func()) {
	swan := s.node(i).StrongSwan(s.ctx, crowdSwanctl("tunnel", crowdLAN.String()+"/32"))
	return s.begin(&swan.Swanctl)
}

func kernelClient(s *crowdSite, i int) (leave func()) {
	g := s.inner[i].Guest(s.ctx, fmt.Sprintf("client%d", i),
		NIC{Tap: "lan0", Node: []netip.Prefix{netip.MustParsePrefix("192.168.1.1/24")}, Guest: []netip.Prefix{netip.PrefixFrom(crowdAddr, 24)}})
	g.Run("ip", "route", "add", "default", "via", "192.168.1.1")
	swan, err := g.Charon(s.ctx)
	if err == nil {
		err = swan.Load(s.ctx, crowdSwanctl("transport", "dynamic"))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.clients[i] = g
	return s.begin(&swan.Swanctl)
}

// begin connects, and returns how to disconnect.
func (s *crowdSite) begin(swan *Swanctl) (leave func()) {
	if err := swan.InitiateChild(s.ctx, "c"); err != nil {
		s.describe()
		s.t.Fatal(err)
	}
	return func() {
		if err := swan.TerminateIKE(s.ctx, "t"); err != nil {
			s.t.Fatal(err)
		}
	}
}
