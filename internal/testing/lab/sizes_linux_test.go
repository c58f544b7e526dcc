package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// narrow is a path with a narrow link, and what the gateways at its ends do about it.
type narrow struct {
	name    string
	outer6  bool
	gateway string // further lines of [gateway]
	mtu     int    // of the narrow link
	far     far
}

// far is what differs from two culverts that speak ESP.
type far int

const (
	espCulvert far = iota
	ahCulvert      // both speak AH
	strongSwan     // the far gateway is strongSwan
)

// narrowSite is two gateways with a host behind each, and a router with a narrow
// link between them: east meets it in the middle of its path, west at the first hop.
//
//	eh ── east ══ 1500 ══ router ══ narrow ══ west ── wh
type narrowSite struct {
	narrow
	t                     *testing.T
	ctx                   context.Context
	eh, east, west, wh    *Node
	router                *Node
	eastCulvert, westSide *Culvert // westSide is nil where west is strongSwan
}

// deviceMTU is that of both TUN devices: more than fits through any of the paths.
const deviceMTU = 1400

func newNarrowSite(t *testing.T, ctx context.Context, c narrow) *narrowSite {
	l := New(t)
	s := &narrowSite{narrow: c, t: t, ctx: ctx, eh: l.Node("eh"), east: l.Node("east"), west: l.Node("west"), wh: l.Node("wh")}
	s.router = l.Node("router")
	router := s.router
	p := netip.MustParsePrefix
	ends := [4]string{"10.8.0.1/24", "10.8.0.2/24", "10.9.0.2/24", "10.9.0.1/24"}
	family := "-4"
	if c.outer6 {
		ends, family = [4]string{"2001:db8:8::1/64", "2001:db8:8::2/64", "2001:db8:9::2/64", "2001:db8:9::1/64"}, "-6"
	}
	l.Wire(End{s.eh, "eth0", p("10.1.0.2/24")}, End{s.east, "lan0", p("10.1.0.1/24")})
	l.Wire(End{s.east, "eth0", p(ends[0])}, End{router, "east0", p(ends[1])})
	l.Wire(End{router, "west0", p(ends[2])}, End{s.west, "eth0", p(ends[3])})
	l.Wire(End{s.west, "lan0", p("10.2.0.1/24")}, End{s.wh, "eth0", p("10.2.0.2/24")})
	for _, x := range []struct {
		n       *Node
		dev, a6 string
	}{{s.eh, "eth0", "fd01::2/64"}, {s.east, "lan0", "fd01::1/64"}, {s.west, "lan0", "fd02::1/64"}, {s.wh, "eth0", "fd02::2/64"}} {
		x.n.Run("ip", "addr", "add", x.a6, "dev", x.dev, "nodad")
	}
	// Who forwards IPv6 asks for its neighbours from a link-local address.
	s.east.Run("ip", "addr", "add", "fe80::1/64", "dev", "lan0", "nodad")
	s.west.Run("ip", "addr", "add", "fe80::1/64", "dev", "lan0", "nodad")
	router.Run("ip", "addr", "add", "fe80::1/64", "dev", "east0", "nodad")
	router.Run("ip", "addr", "add", "fe80::1/64", "dev", "west0", "nodad")
	for _, n := range []*Node{s.east, router, s.west} {
		n.Sysctl("net.ipv4.ip_forward", "1")
		n.Sysctl("net.ipv6.conf.all.forwarding", "1")
	}
	router.Run("ip", "link", "set", "west0", "mtu", fmt.Sprint(c.mtu))
	s.west.Run("ip", "link", "set", "eth0", "mtu", fmt.Sprint(c.mtu))
	addr := func(i int) string { return p(ends[i]).Addr().String() }
	s.east.Run("ip", family, "route", "add", "default", "via", addr(1))
	s.west.Run("ip", family, "route", "add", "default", "via", addr(2))
	s.eh.Run("ip", "route", "add", "default", "via", "10.1.0.1")
	s.eh.Run("ip", "-6", "route", "add", "default", "via", "fd01::1")
	s.wh.Run("ip", "route", "add", "default", "via", "10.2.0.1")
	s.wh.Run("ip", "-6", "route", "add", "default", "via", "fd02::1")
	gateway := fmt.Sprintf("mtu = %d\n%s", deviceMTU, c.gateway)
	if c.far == strongSwan {
		s.west.StrongSwan(ctx, narrowSwanctl(addr(3), addr(0)))
	} else {
		s.westSide = s.west.Culvert(ctx, gateway, passive(c.conf(addr(0), "2", "1")))
	}
	s.eastCulvert = s.east.Culvert(ctx, gateway, c.conf(addr(3), "1", "2"))
	for _, to := range []string{"10.2.0.2", "fd02::2"} {
		if err := Until(ctx, func() error {
			_, err := s.eh.Try("ping", "-c", "1", "-W", "2", to)
			return err
		}); err != nil {
			t.Fatal(to, err)
		}
	}
	return s
}

// conf is a tunnel for both families, with an algorithm whose overhead the tests know.
func (c narrow) conf(remote, us, them string) string {
	policy, algorithm := "", `enc-algorithms = ["aes-256-gcm"]`
	if c.far == ahCulvert {
		policy, algorithm = `ipsec-protocols = "ah"`, `auth-algorithms = ["sha256"]`
	}
	var b strings.Builder
	for _, ends := range [][2]string{{"10." + us + ".0.0/24", "10." + them + ".0.0/24"}, {"fd0" + us + "::/64", "fd0" + them + "::/64"}} {
		fmt.Fprintf(&b, "[[policy]]\nsrc-address = %q\ndst-address = %q\npeer = \"p\"\ntunnel = true\n%s\n", ends[0], ends[1], policy)
	}
	fmt.Fprintf(&b, `
[[proposal]]
name = "default"
pfs-group = "none"
%s
[[peer]]
name = "p"
address = %q
exchange-mode = "ike2"
[[identity]]
peer = "p"
secret = "correct horse battery staple"
`, algorithm, remote)
	return b.String()
}

// narrowSwanctl is the far end of conf.
func narrowSwanctl(us, them string) string {
	return fmt.Sprintf(`connections {
	p {
		version = 2
		local_addrs = %s
		remote_addrs = %s
		proposals = default
		local {
			auth = psk
		}
		remote {
			auth = psk
		}
		children {
			four {
				local_ts = 10.2.0.0/24
				remote_ts = 10.1.0.0/24
				esp_proposals = aes256gcm16
			}
			six {
				local_ts = fd02::/64
				remote_ts = fd01::/64
				esp_proposals = aes256gcm16
			}
		}
	}
}
secrets {
	ike-1 {
		secret = "correct horse battery staple"
	}
}
`, us, them)
}

// fits is the longest inner packet: header, UDP, SPI and sequence number, IV, ICV,
// and the trailer within whole words.
//
// With AH: header, and 12 bytes before an ICV of 16, in IPv6 a multiple of 8.
func (c narrow) fits() int {
	switch {
	case c.far == ahCulvert && c.outer6:
		return c.mtu - 40 - 32
	case c.far == ahCulvert:
		return c.mtu - 20 - 28
	}
	n := c.mtu - 20 - 8 - 8 - 16
	if c.outer6 {
		n -= 20
	}
	if strings.Contains(c.gateway, `"udp"`) {
		n -= 8
	}
	return n&^3 - 2
}

// narrowPaths are the cases. Packets of IPv6's least size do not fit through a link of 1280 bytes
// in one piece; of 1400 there is something to discover for both inner families.
var narrowPaths = []narrow{
	{"UDP, IPv4", false, `encapsulation = "udp"`, 1280, espCulvert},
	{"UDP, IPv6, MSS as it is", true, "encapsulation = \"udp\"\nclamp-mss = false", 1400, espCulvert},
	{"raw, IPv4, MSS as it is", false, "encapsulation = \"raw\"\nclamp-mss = false", 1400, espCulvert},
	{"raw, IPv6", true, `encapsulation = "raw"`, 1280, espCulvert},
	{"UDP, IPv4, DF set", false, "encapsulation = \"udp\"\ndf = \"set\"", 1400, espCulvert},
	{"UDP, IPv4, DF clear", false, "encapsulation = \"udp\"\ndf = \"clear\"", 1280, espCulvert},
	{"raw, IPv6, DF clear", true, "encapsulation = \"raw\"\ndf = \"clear\"", 1400, espCulvert},
	{"AH, IPv4", false, `encapsulation = "raw"`, 1280, ahCulvert},
	{"AH, IPv6, MSS as it is", true, "encapsulation = \"raw\"\nclamp-mss = false", 1400, ahCulvert},
	{"UDP, IPv4, strongSwan", false, `encapsulation = "udp"`, 1400, strongSwan},
	{"UDP, IPv6, strongSwan, MSS as it is", true, "encapsulation = \"udp\"\nclamp-mss = false", 1280, strongSwan},
}

// Through a path that is narrower than its first link: who sends one byte too much
// with DF is told exactly what fits, and that fits. The same without DF and of IPv6's least size
// arrives, and TCP works in both directions.
func TestNarrowPath(t *testing.T) {
	Need(t)
	for _, c := range narrowPaths {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			s := newNarrowSite(t, ctx, c)
			s.withoutDF()
			if strings.Contains(c.gateway, `"clear"`) {
				s.cutOnTheWay()
			} else {
				s.discovered()
			}
			for _, ends := range [][2]string{{"10.1.0.2", "10.2.0.2"}, {"fd01::2", "fd02::2"}} {
				if err := s.eh.Transfer(ctx, netip.MustParseAddr(ends[0]), s.wh, netip.MustParseAddr(ends[1]), 2_000_000); err != nil {
					t.Error(err)
				}
			}
			if !s.cuts() {
				s.heard()
			}
			if clamped := s.eastCulvert.Counter(ctx, "tx-mss-clamped"); clamped > 0 == strings.Contains(c.gateway, "clamp-mss = false") {
				t.Errorf("%d SYNs were clamped", clamped)
			}
		})
	}
}

// withoutDF sends what may be cut, before anything is known of the path. Where the
// outer packet may be cut too, nobody has to say anything.
func (s *narrowSite) withoutDF() {
	s.t.Helper()
	s.ping(s.eh, "10.2.0.2", deviceMTU, "dont")
	if told := s.told(); s.cuts() && told > 0 {
		s.t.Errorf("the path said %d times that packets are too long", told)
	}
}

// cuts reports whether the path may cut the outer packets.
func (s *narrowSite) cuts() bool { return !s.outer6 && !strings.Contains(s.gateway, `"set"`) }

// told is how often the path has said that packets are too long. The kernel may have heard of it, and cut what arrives, a
// moment before the gateway does.
func (s *narrowSite) told() uint64 { return s.eastCulvert.Counter(s.ctx, "rx-icmp-too-big") }

// heard waits until the path has said it.
func (s *narrowSite) heard() {
	s.t.Helper()
	if err := Until(s.ctx, func() error {
		if s.told() == 0 {
			return errors.New("the path has not said that packets are too long")
		}
		return nil
	}); err != nil {
		s.t.Error(err)
	}
}

// discovered goes up to what fits, to the byte, from either side.
func (s *narrowSite) discovered() {
	s.t.Helper()
	least := max(s.fits(), 1280) // of IPv6
	s.tooMuch(s.eh, "10.2.0.2", s.fits())
	s.tooMuch(s.eh, "fd02::2", least)
	counters := []string{"rx-icmp-too-big", "out-too-big", "tx-icmp-too-big", "tx-split"}
	if s.fits() < least {
		counters = append(counters, "tx-outer-fragmented")
	}
	s.ping(s.eh, "10.2.0.2", 3000, "dont")
	s.ping(s.eh, "fd02::2", 3000, "dont")
	for _, name := range counters {
		if s.eastCulvert.Counter(s.ctx, name) == 0 {
			s.t.Errorf("%s is 0", name)
		}
	}
	if s.far == strongSwan {
		return
	}
	s.tooMuch(s.wh, "10.1.0.2", s.fits())
	s.tooMuch(s.wh, "fd01::2", least)
	if n := s.westSide.Counter(s.ctx, "rx-icmp-too-big"); n != 0 {
		s.t.Errorf("west was told %d times what its own link is", n)
	}
}

// cutOnTheWay: nobody is told anything, whatever a packet says of cutting.
func (s *narrowSite) cutOnTheWay() {
	s.t.Helper()
	for _, x := range []struct {
		from *Node
		to   string
	}{{s.eh, "10.2.0.2"}, {s.eh, "fd02::2"}, {s.wh, "10.1.0.2"}, {s.wh, "fd01::2"}} {
		s.ping(x.from, x.to, deviceMTU, "do")
	}
	for _, c := range []*Culvert{s.eastCulvert, s.westSide} {
		if n := c.Counter(s.ctx, "out-too-big"); n != 0 {
			s.t.Errorf("%d packets were too big", n)
		}
	}
}

// headers are those of an echo.
func headers(to string) int {
	if strings.Contains(to, ":") {
		return 48
	}
	return 28
}

// tooMuch sends packets of one byte more than fits until somebody says how much does,
// and then those.
func (s *narrowSite) tooMuch(from *Node, to string, fits int) {
	s.t.Helper()
	want := fmt.Sprintf("(mtu = %d)", fits)
	if headers(to) == 48 {
		want = fmt.Sprintf("Packet too big: mtu=%d\n", fits)
	}
	var out string
	if Until(s.ctx, func() error {
		from.Run("ip", "route", "flush", "cache")
		from.Run("ip", "-6", "route", "flush", "cache")
		out, _ = from.Try("ping", "-c", "2", "-i", "0.2", "-W", "1", "-M", "do", "-s", fmt.Sprint(fits+1-headers(to)), to)
		if !strings.Contains(out, want) {
			return errors.New("not told")
		}
		return nil
	}) != nil {
		s.t.Errorf("ping %s was not told %q:\n%s", to, want, out)
	}
	s.ping(from, to, fits, "do")
}

// ping wants three echoes of that many bytes back. What a host has not learned of
// the way there or back before it may lose a few times.
func (s *narrowSite) ping(from *Node, to string, size int, discovery string) {
	s.t.Helper()
	options := []string{"-M", discovery, "-s", fmt.Sprint(size - headers(to)), to}
	err := Until(s.ctx, func() error {
		if n, out := from.echoes(1, false, options...); n != 1 {
			return errors.New(out)
		}
		return nil
	})
	if err != nil {
		s.t.Errorf("ping %v: %v", options, err)
	}
	if n, out := from.echoes(3, true, options...); n != 3 {
		s.t.Errorf("ping %v: %d answers, want 3:\n%s", options, n, out)
	}
}

// A firewall on the way rejects what the tunnel sends: that is counted, and the
// SAs live on.
func TestRejectedOnTheWay(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s := newNarrowSite(t, ctx, narrowPaths[0])
	s.west.Sysctl("net.ipv4.icmp_ratemask", "0") // all of them are told, however many others there are
	for _, c := range []struct{ with, counter string }{
		{"icmp type port-unreachable", "rx-icmp-unreachable"}, {"icmp type admin-prohibited", "rx-icmp-prohibited"},
	} {
		s.west.Run("nft", "add", "table", "ip", "refused")
		s.west.Run("nft", "add", "chain", "ip", "refused", "in", "{ type filter hook input priority 0 ; }")
		s.west.Run("nft", "add rule ip refused in udp dport 4500 reject with "+c.with)
		before := s.eastCulvert.Counter(ctx, c.counter)
		errors := s.eastCulvert.Counter(ctx, "out-errors")
		s.eh.echoes(3, false, "10.2.0.2")
		grows(t, ctx, s.eastCulvert, c.counter, before, 3)
		if n := s.eastCulvert.Counter(ctx, "out-errors") - errors; n != 0 {
			t.Errorf("%d packets were not sent because of what was told of others", n)
		}
		s.west.Run("nft", "delete", "table", "ip", "refused")
		s.ping(s.eh, "10.2.0.2", 100, "do")
	}
}

// The device's MTU, where nothing is said of it, is what its first link and the
// algorithms leave, and follows a reload.
func TestDeviceMTU(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := New(t)
	us, them := l.Node("us"), l.Node("them")
	l.Wire(End{us, "eth0", netip.MustParsePrefix("10.9.0.1/24")}, End{them, "eth0", netip.MustParsePrefix("10.9.0.2/24")})
	us.Run("ip", "link", "set", "eth0", "mtu", "1400")
	path := narrow{gateway: `encapsulation = "udp"`, mtu: 1400}
	c := us.Culvert(ctx, path.gateway, passive(path.conf("10.9.0.2", "1", "2")))
	check := func(want int) {
		t.Helper()
		if got := strings.TrimSpace(us.Run("cat", "/sys/class/net/culvert0/mtu")); got != fmt.Sprint(want) {
			t.Errorf("%s, want %d", got, want)
		}
	}
	check(path.fits())
	c.Configure(path.gateway, passive(path.conf("2001:db8::2", "1", "2")))
	if err := c.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	check(narrow{gateway: path.gateway, mtu: 1500, outer6: true}.fits()) // no way leads there
}
