package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Two gateways protect two networks, IPv4 and IPv6, while everything around them fails:
// they are killed, stopped and reloaded, links, addresses, rules, routes and nftables
// are changed behind their back, and the path between them loses, delays, doubles and
// reorders. Captures stand on every interface.
//
//	host 10.1.0.2 ── east 10.1.0.1, 10.9.0.1 ══ bad wire ══ router ── 10.8.0.2, 10.2.0.1 west ── 10.2.0.2 host
//
// A gateway keeps plaintext in by two layers: routing (its rules and its table) and the
// guard. What is wanted: no packet of a protected flow in clear whenever one layer
// stands, and none later than a second after both were removed. Once it is quiet,
// traffic passes again by itself, and nothing has crashed.
//
// CULVERT_CHAOS is how long it goes on (a Go duration; 2m), CULVERT_CHAOS_SEED repeats a
// run. `make chaos` takes twenty minutes.
func TestChaos(t *testing.T) {
	Need(t)
	length, seed := chaosLength(t)
	ctx, cancel := context.WithTimeout(t.Context(), length+4*limit)
	defer cancel()
	c := newChaos(t, ctx, seed)
	c.await("the tunnel is up")
	c.traffic()

	for end := time.Now().Add(length); time.Now().Before(end); {
		for range 4 + c.random.IntN(8) {
			d, g := c.draw()
			c.say("%s: %s", g.name(), d.name)
			c.count[d.name]++
			d.do(c, g)
			c.pause(1500 * time.Millisecond)
			c.judge(d.name)
		}
		c.repair()
		c.await("it is quiet")
		c.judge("quiet")
	}
	c.finish()
}

func chaosLength(t *testing.T) (length time.Duration, seed uint64) {
	length, seed = 2*time.Minute, uint64(time.Now().UnixNano())
	var err error
	if text := os.Getenv("CULVERT_CHAOS"); text != "" {
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("CULVERT_CHAOS: %v", err)
		}
	}
	if text := os.Getenv("CULVERT_CHAOS_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 0, 64); err != nil {
			t.Fatalf("CULVERT_CHAOS_SEED: %v", err)
		}
	}
	t.Logf("%v of chaos; CULVERT_CHAOS_SEED=%d draws the same events again", length, seed)
	return length, seed
}

// chaosGate is a gateway, and the network behind it.
type chaosGate struct {
	node, host     *Node
	culvert        *Culvert
	nets           [2]netip.Prefix // IPv4, IPv6
	addrs          [2]netip.Addr   // of host
	outer, via     string
	conf           string
	guard, routing spans
}

func (g *chaosGate) name() string { return g.node.Name }

type chaos struct {
	t       *testing.T
	ctx     context.Context
	random  *rand.Rand
	gates   [2]*chaosGate
	router  *Node
	wire    *BadWire
	started time.Time
	stall   *stall

	mu     sync.Mutex
	leaks  []leak         // not judged yet
	sealed map[string]int // packets of ESP, by the gateway beside which they were seen
	amiss  map[string]int // ESP or IKE where it has no business

	count      map[string]int // events
	allowed    int            // packets in clear while both layers were gone
	longest    time.Duration  // the latest of them, after the removal
	recovery   []time.Duration
	transfers  [2]int
	background sync.WaitGroup
	stop       context.CancelFunc
}

// leak is a packet of a protected flow in clear.
type leak struct {
	at    time.Time
	where string
	from  netip.Addr
	what  string
}

func newChaos(t *testing.T, ctx context.Context, seed uint64) *chaos {
	l := New(t)
	c := &chaos{t: t, ctx: ctx, random: rand.New(rand.NewPCG(seed, 0)), started: time.Now(), stall: watchStalls(t),
		sealed: map[string]int{}, amiss: map[string]int{}, count: map[string]int{}}
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	east := &chaosGate{node: l.Node("east"), host: l.Node("ehost"), outer: "10.9.0.1", via: "10.9.0.254",
		nets: [2]netip.Prefix{p("10.1.0.0/24"), p("fd00:1::/64")}, addrs: [2]netip.Addr{a("10.1.0.2"), a("fd00:1::2")}}
	west := &chaosGate{node: l.Node("west"), host: l.Node("whost"), outer: "10.8.0.2", via: "10.8.0.254",
		nets: [2]netip.Prefix{p("10.2.0.0/24"), p("fd00:2::/64")}, addrs: [2]netip.Addr{a("10.2.0.2"), a("fd00:2::2")}}
	c.gates, c.router = [2]*chaosGate{east, west}, l.Node("router")
	c.wire = l.BadWire(End{east.node, "eth0", p("10.9.0.1/24")}, End{c.router, "eth0", p("10.9.0.254/24")}, seed)
	l.Wire(End{west.node, "eth0", p("10.8.0.2/24")}, End{c.router, "eth1", p("10.8.0.254/24")})
	for _, g := range c.gates {
		first := g.nets[0].Addr().Next()
		l.Wire(End{g.host, "eth0", netip.PrefixFrom(g.addrs[0], 24)}, End{g.node, "lan0", netip.PrefixFrom(first, 24)})
		g.host.ipv6("eth0", g.addrs[1])
		g.node.ipv6("lan0", g.nets[1].Addr().Next())
		g.host.Run("ip", "route", "add", "default", "via", first.String())
		g.host.Run("ip", "-6", "route", "add", "default", "via", g.nets[1].Addr().Next().String())
	}
	// The router would carry plaintext of both families to the other side.
	for i, g := range c.gates {
		v6, dev := fmt.Sprintf("fd00:%d::", 8+i), fmt.Sprintf("eth%d", i)
		g.node.ipv6("eth0", a(v6+"1"))
		c.router.ipv6(dev, a(v6+"fe"))
		c.router.Run("ip", "route", "add", g.nets[0].String(), "via", g.outer)
		c.router.Run("ip", "-6", "route", "add", g.nets[1].String(), "via", v6+"1")
	}
	for _, n := range []*Node{east.node, west.node, c.router} {
		n.Sysctl("net.ipv4.ip_forward", "1")
		n.Sysctl("net.ipv6.conf.all.forwarding", "1")
	}
	for i, g := range c.gates {
		g.defaults()
		// What was decrypted goes where the host's routes say. Without these two that is the
		// default route while the inner link is down (docs/guard.md).
		g.node.Run("ip", "route", "add", "unreachable", g.nets[0].String(), "metric", "4278198272")
		g.node.Run("ip", "-6", "route", "add", "unreachable", g.nets[1].String(), "metric", "4278198272")
		other := c.gates[1-i]
		g.conf = chaosConf(other.outer, g.nets, other.nets)
		for _, dev := range []string{"eth0", "lan0"} {
			c.capture(g.node, dev)
		}
	}
	c.capture(c.router, "eth0")
	c.capture(c.router, "eth1")
	for _, g := range c.gates {
		g.culvert = g.node.Culvert(ctx, chaosGateway, g.conf)
	}
	return c
}

// chaosGateway keeps the guard also over a stop, so that plaintext is never allowed.
const chaosGateway = "guard-always = true\n"

func chaosConf(remote string, ours, theirs [2]netip.Prefix) string {
	var b strings.Builder
	for i := range ours {
		fmt.Fprintf(&b, "[[policy]]\nsrc-address = %q\ndst-address = %q\npeer = \"p\"\ntunnel = true\nlevel = \"unique\"\n", ours[i], theirs[i])
	}
	fmt.Fprintf(&b, "[[peer]]\nname = \"p\"\naddress = %q\nexchange-mode = \"ike2\"\n[[identity]]\npeer = \"p\"\nsecret = \"0x8cb0a9d4f3f0e1a2b3c4d5e6f708192a\"\n", remote)
	return b.String()
}

// defaults gives a gateway its default routes, as an administrator or a DHCP client
// would when the link is back.
func (g *chaosGate) defaults() {
	v6 := map[string]string{"east": "fd00:8::fe", "west": "fd00:9::fe"}[g.name()]
	_, _ = g.node.Try("ip", "route", "replace", "default", "via", g.via)
	_, _ = g.node.Try("ip", "-6", "route", "replace", "default", "via", v6)
}

// ipv6 gives a device an IPv6 address, and a link-local one, which a router needs to
// ask for its neighbours.
func (n *Node) ipv6(device string, a netip.Addr) {
	n.lab.TB.Helper()
	local := a.As16()
	for _, addr := range []string{a.String(), fmt.Sprintf("fe80::%x:%x", local[3], local[15])} {
		n.Run("ip", "addr", "replace", addr+"/64", "dev", device, "nodad")
	}
}

// capture watches a device until the test ends.
func (c *chaos) capture(n *Node, device string) {
	where := n.Name + " " + device
	lan := device == "lan0"
	n.frames(device, func(p []byte, at time.Time) {
		sort, ok := sortOf(p)
		if !ok {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		secure := sort.Kind == "esp" || sort.Kind == "esp in udp" || sort.Kind == "ike" || sort.Kind == "keepalive"
		switch {
		case lan && secure:
			c.amiss[where+": "+sort.Kind]++
		case lan:
		case secure:
			if sort.Kind != "ike" && sort.Kind != "keepalive" {
				c.sealed[n.Name]++
			}
		default:
			if from, what, bad := c.plaintext(p); bad && len(c.leaks) < 1<<16 {
				c.leaks = append(c.leaks, leak{at, where, from, what})
			}
		}
	})
}

// plaintext says whether a packet belongs to a protected flow, or quotes one that does.
func (c *chaos) plaintext(p []byte) (from netip.Addr, what string, bad bool) {
	src, dst, proto, body := ends(p)
	if c.ours(src, dst) {
		return src, fmt.Sprintf("protocol %d from %s to %s", proto, src, dst), true
	}
	icmp4 := proto == 1 && len(body) > 8 && slices.Contains([]byte{3, 4, 5, 11, 12}, body[0])
	icmp6 := proto == 58 && len(body) > 8 && body[0] >= 1 && body[0] <= 4
	if icmp4 || icmp6 {
		if s, d, _, _ := ends(body[8:]); c.ours(s, d) {
			// It is the gateway beside the sender of the quoted packet, or of its receiver.
			return d, fmt.Sprintf("ICMP %d/%d from %s to %s that quotes %s to %s", body[0], body[1], src, dst, s, d), true
		}
	}
	return from, "", false
}

func (c *chaos) ours(src, dst netip.Addr) bool {
	for i := range 2 {
		e, w := c.gates[0].nets[i], c.gates[1].nets[i]
		if e.Contains(src) && w.Contains(dst) || w.Contains(src) && e.Contains(dst) {
			return true
		}
	}
	return false
}

// ends is who sends a packet to whom, and what is in it; of IPv6, without looking
// behind extension headers.
func ends(p []byte) (src, dst netip.Addr, proto byte, body []byte) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		n := min(len(p), int(p[0]&15)*4)
		return netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20])), p[9], p[n:]
	case len(p) >= 40 && p[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40])), p[6], p[40:]
	}
	return
}

// traffic has everything sent all the time: echo requests of both families from both
// sides, and transfers that are checked by their hash.
func (c *chaos) traffic() {
	ctx, stop := context.WithCancel(c.ctx)
	c.stop = stop
	c.t.Cleanup(func() { stop(); c.background.Wait() })
	for i, g := range c.gates {
		other := c.gates[1-i]
		for f := range 2 {
			g.host.Start(fmt.Sprintf("ping-%s-%d", g.name(), f), nil, "ping", "-q", "-i", "0.02", other.addrs[f].String())
		}
	}
	for f := range 2 {
		from, to := c.gates[f], c.gates[1-f]
		if err := to.host.serveTransfers(ctx); err != nil {
			c.t.Fatal(err)
		}
		c.background.Go(func() {
			for size := int64(100_000); ctx.Err() == nil; size = size*3%5_000_011 + 1000 {
				err := from.host.Transfer(ctx, from.addrs[f], to.host, to.addrs[f], size)
				if err != nil && strings.Contains(err.Error(), "another SHA-256") {
					c.t.Errorf("transfer from %s: %v", from.host.Name, err)
				}
				if err == nil {
					c.mu.Lock()
					c.transfers[f]++
					c.mu.Unlock()
				}
				select {
				case <-ctx.Done():
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
}

// await waits until traffic of both families passes from both sides.
func (c *chaos) await(when string) {
	c.t.Helper()
	since := time.Now()
	ctx, cancel := context.WithTimeout(c.ctx, chaosHeal)
	defer cancel()
	for i, g := range c.gates {
		for f := range 2 {
			if err := Until(ctx, func() error {
				out, err := g.host.Try("ping", "-c", "1", "-W", "1", c.gates[1-i].addrs[f].String())
				if err != nil {
					return fmt.Errorf("%s: nothing passes from %s to %s: %s", when, g.host.Name, c.gates[1-i].addrs[f], out)
				}
				return nil
			}); err != nil {
				c.diagnose()
				c.t.Fatal(err)
			}
		}
	}
	took := time.Since(since).Round(10 * time.Millisecond)
	c.recovery = append(c.recovery, took)
	c.say("%s, and traffic passes after %v", when, took)
}

// diagnose prints what the hosts and the gateways know, for a failure.
func (c *chaos) diagnose() {
	for _, g := range c.gates {
		c.t.Logf("---- network of %s ----\n%s", g.name(), g.node.Network())
		for _, menu := range []string{"active-peers", "installed-sa", "policy", "statistics"} {
			out, err := g.culvert.Command(c.ctx, menu, "print")
			c.t.Logf("---- %s print on %s ---- %v\n%s", menu, g.name(), err, out)
		}
	}
}

// repair does what nobody but an administrator can do.
func (c *chaos) repair() {
	c.wire.Impair(Impairment{})
	for _, g := range c.gates {
		for _, dev := range []string{"eth0", "lan0"} {
			g.node.Run("ip", "link", "set", dev, "up")
		}
		g.defaults()
	}
}

// judge looks at all packets in clear so far.
func (c *chaos) judge(after string) {
	c.t.Helper()
	time.Sleep(20 * time.Millisecond) // what was captured is taken by other goroutines
	c.mu.Lock()
	leaks := c.leaks
	c.leaks = nil
	for what, n := range c.amiss {
		c.t.Errorf("after %s: %d packets of %s", after, n, what)
	}
	clear(c.amiss)
	c.mu.Unlock()
	bad := 0
	for _, k := range leaks {
		g := c.gates[0]
		if c.gates[1].nets[0].Contains(k.from) || c.gates[1].nets[1].Contains(k.from) {
			g = c.gates[1]
		}
		guard, routing := c.withStalls(g.guard), c.withStalls(g.routing)
		if !strings.HasPrefix(k.where, g.name()+" ") {
			guard, routing = guard.seenBehind(), routing.seenBehind()
		}
		late, ok := excused(guard, routing, k.at)
		if ok {
			c.allowed++
			c.longest = max(c.longest, late)
			continue
		}
		if bad++; bad <= 5 {
			c.t.Errorf("after %s: in clear at %s, at %s of the run: %s\n  guard removed: %s\n  routing removed: %s",
				after, k.where, k.at.Sub(c.started).Round(time.Millisecond), k.what, g.guard.text(c.started), g.routing.text(c.started))
		}
	}
	if bad > 5 {
		c.t.Errorf("after %s: %d packets in clear in all", after, bad)
	}
	for _, g := range c.gates {
		if g.culvert.Ended() {
			c.t.Fatalf("after %s: the gateway of %s has ended: %v", after, g.name(), g.culvert.Wait(c.ctx))
		}
	}
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// withStalls adds to each time for what this machine did not run in time.
func (c *chaos) withStalls(s spans) spans {
	list := slices.Clone(s)
	for i, v := range list {
		if !v.until.IsZero() {
			list[i].until = v.until.Add(c.stall.total(v.from, v.until))
		}
	}
	return list
}

// finish ends everything and looks at what is left.
func (c *chaos) finish() {
	c.stop()
	c.background.Wait()
	for f := range 2 {
		from, to := c.gates[f], c.gates[1-f]
		if err := from.host.Transfer(c.ctx, from.addrs[f], to.host, to.addrs[f], 1_000_000); err != nil {
			c.t.Errorf("after all: %v", err)
		}
	}
	for _, g := range c.gates {
		for _, word := range []string{"panic:", "fatal error:", "goroutine 1 ["} {
			if strings.Contains(g.culvert.Log(), word) {
				c.t.Errorf("the log of %s has %q", g.name(), word)
			}
		}
		if c.sealed[g.name()] == 0 {
			c.t.Errorf("no ESP was seen beside %s: the captures prove nothing", g.name())
		}
	}
	c.judge("the end")
	for _, g := range c.gates {
		if err := g.culvert.Terminate(c.ctx); err != nil {
			c.t.Errorf("%s: %v", g.name(), err)
		}
		if out, err := g.node.Try(g.culvert.binary, "guard", "off", "-c", g.culvert.conf); err != nil {
			c.t.Errorf("%s: culvert guard off: %v\n%s", g.name(), err, out)
		}
		for _, ours := range []string{"culvert", "50500", "proto 198"} {
			if left := g.node.Network(); strings.Contains(left, ours) {
				c.t.Errorf("on %s %q is left after the end:\n%s", g.name(), ours, left)
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-44s %s\n", "event", "times")
	for _, d := range chaosDeeds {
		fmt.Fprintf(&b, "%-44s %d\n", d.name, c.count[d.name])
	}
	fmt.Fprintf(&b, "ESP packets seen beside east %d, beside west %d; transfers: %d IPv4, %d IPv6\n",
		c.sealed["east"], c.sealed["west"], c.transfers[0], c.transfers[1])
	fmt.Fprintf(&b, "in clear while a layer stood: 0; in clear after both were removed: %d, the last after %v\n", c.allowed, c.longest.Round(time.Millisecond))
	slices.Sort(c.recovery)
	fmt.Fprintf(&b, "traffic after it was quiet: %d times, median %v, longest %v; stalls of this machine %v in all",
		len(c.recovery), c.recovery[len(c.recovery)/2], c.recovery[len(c.recovery)-1], c.stall.total(time.Time{}, time.Now()).Round(time.Millisecond))
	c.t.Log("\n" + b.String())
}

func (c *chaos) say(format string, args ...any) {
	c.t.Logf("%7.1fs  %s", time.Since(c.started).Seconds(), fmt.Sprintf(format, args...))
}

// pause waits for a while that is drawn, up to a limit.
func (c *chaos) pause(most time.Duration) { time.Sleep(time.Duration(c.random.Int64N(int64(most)))) }

// draw draws what happens next, and to whom.
func (c *chaos) draw() (chaosDeed, *chaosGate) {
	return chaosDeeds[c.random.IntN(len(chaosDeeds))], c.gates[c.random.IntN(2)]
}

// remove runs a command that takes layers away, and notes until when each may be gone.
func (c *chaos) remove(g *chaosGate, guard, routing bool, script string) {
	c.t.Helper()
	from := time.Now()
	g.node.Run("sh", "-c", script)
	until := time.Now().Add(time.Second)
	if guard {
		g.guard = append(g.guard, span{from, until})
	}
	if routing {
		g.routing = append(g.routing, span{from, until})
	}
}

// restart starts a gateway that has ended. A layer that was removed while it was away
// is back a second after it answers.
func (c *chaos) restart(g *chaosGate) {
	g.culvert.Restart(c.ctx)
	for _, s := range []spans{g.guard, g.routing} {
		if n := len(s); n > 0 && s[n-1].until.IsZero() {
			s[n-1].until = time.Now().Add(time.Second)
		}
	}
}

const (
	flushRules = "ip rule flush; ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default; " +
		"ip -6 rule flush; ip -6 rule add pref 32766 lookup main; "
	flushRoutes = "ip route flush table 50500; ip -6 route flush table 50500; "
	flushGuard  = "nft flush ruleset; "
)

// chaosDeed is something that happens to a gateway, or to the path.
type chaosDeed struct {
	name string
	do   func(c *chaos, g *chaosGate)
}

var chaosDeeds = []chaosDeed{
	{"rekey of the CHILD SAs", command("installed-sa", "rekey")},
	{"rekey of the IKE SA", command("active-peers", "rekey")},
	{"flush of the SAs", command("installed-sa", "flush")},
	{"kill-connections", command("active-peers", "kill-connections")},
	{"reload, unchanged", command("reload")},
	{"reload, another policy", func(c *chaos, g *chaosGate) {
		g.culvert.Configure(chaosGateway, g.conf+"[[policy]]\nsrc-address = \"192.0.2.0/24\"\ndst-address = \"198.51.100.0/24\"\naction = \"discard\"\n")
		command("reload")(c, g)
		c.pause(time.Second)
		g.culvert.Configure(chaosGateway, g.conf)
		command("reload")(c, g)
	}},
	{"reload of a faulty file", func(c *chaos, g *chaosGate) {
		g.culvert.Configure(chaosGateway, g.conf+"[[policy]]\ndst-address = \"nowhere\"\n")
		if err := g.culvert.Reload(c.ctx); err == nil {
			c.t.Error("a faulty configuration was accepted")
		}
		g.culvert.Configure(chaosGateway, g.conf)
	}},
	{"kill -9, start", func(c *chaos, g *chaosGate) {
		g.culvert.Kill()
		c.restart(g)
	}},
	{"kill -9, start later", func(c *chaos, g *chaosGate) {
		g.culvert.Kill()
		c.pause(2 * time.Second)
		c.restart(g)
	}},
	{"kill -9, guard flushed, start", func(c *chaos, g *chaosGate) {
		g.culvert.Kill()
		g.guard = append(g.guard, span{from: time.Now()})
		g.node.Run("sh", "-c", flushGuard)
		c.pause(time.Second)
		c.restart(g)
	}},
	{"kill -9, rules and routes flushed, start", func(c *chaos, g *chaosGate) {
		g.culvert.Kill()
		g.routing = append(g.routing, span{from: time.Now()})
		g.node.Run("sh", "-c", flushRules+flushRoutes)
		c.pause(time.Second)
		c.restart(g)
	}},
	{"stop and start", func(c *chaos, g *chaosGate) {
		g.routing = append(g.routing, span{from: time.Now()}) // a stop takes the rules away
		if err := g.culvert.Terminate(c.ctx); err != nil {
			c.t.Errorf("stop of %s: %v", g.name(), err)
		}
		c.pause(time.Second)
		c.restart(g)
	}},
	{"nft flush ruleset", func(c *chaos, g *chaosGate) { c.remove(g, true, false, flushGuard) }},
	{"nft replaces the ruleset", func(c *chaos, g *chaosGate) {
		c.remove(g, true, false, "printf 'flush ruleset\\ntable inet mine {\\nchain in {\\ntype filter hook input priority 0;\\n}\\n}\\n' | nft -f -")
		g.node.Run("nft", "delete", "table", "inet", "mine")
	}},
	{"rules flushed", func(c *chaos, g *chaosGate) { c.remove(g, false, true, flushRules) }},
	{"routes flushed", func(c *chaos, g *chaosGate) { c.remove(g, false, true, flushRoutes) }},
	{"rules and routes flushed", func(c *chaos, g *chaosGate) { c.remove(g, false, true, flushRules+flushRoutes) }},
	{"everything flushed", func(c *chaos, g *chaosGate) { c.remove(g, true, true, flushRules+flushRoutes+flushGuard) }},
	{"everything flushed three times", func(c *chaos, g *chaosGate) {
		for range 3 {
			c.remove(g, true, true, flushGuard+flushRules+flushRoutes)
			c.pause(300 * time.Millisecond)
		}
	}},
	{"a route of others into our networks", func(c *chaos, g *chaosGate) {
		other := c.gates[0]
		if g == other {
			other = c.gates[1]
		}
		g.node.Run("ip", "route", "replace", other.nets[0].String(), "via", g.via)
		c.pause(time.Second)
		g.node.Run("ip", "route", "del", other.nets[0].String())
	}},
	{"culvert0 set down", func(c *chaos, g *chaosGate) { g.node.Run("ip", "link", "set", "culvert0", "down") }},
	{"addresses of culvert0 flushed", func(c *chaos, g *chaosGate) { g.node.Run("ip", "addr", "flush", "dev", "culvert0") }},
	{"outer link down and up", linkDown("eth0")},
	{"inner link down and up", linkDown("lan0")},
	{"outer address removed and added", func(c *chaos, g *chaosGate) {
		g.node.Run("ip", "addr", "del", g.outer+"/24", "dev", "eth0")
		c.pause(2 * time.Second)
		g.node.Run("ip", "addr", "add", g.outer+"/24", "dev", "eth0")
		g.defaults()
	}},
	{"another outer address for a while", func(c *chaos, g *chaosGate) {
		second := netip.MustParseAddr(g.outer).Next().Next().String() + "/24"
		g.node.Run("ip", "addr", "add", second, "dev", "eth0")
		c.pause(2 * time.Second)
		g.node.Run("ip", "addr", "del", second, "dev", "eth0")
	}},
	{"the path loses, delays, doubles, reorders", func(c *chaos, _ *chaosGate) {
		c.wire.Impair(Impairment{Loss: c.random.Float64() * 0.3, Duplicate: c.random.Float64() * 0.1, Reorder: c.random.Float64() * 0.2,
			Delay: time.Duration(c.random.IntN(50)) * time.Millisecond, Jitter: time.Duration(c.random.IntN(30)) * time.Millisecond})
		c.pause(5 * time.Second)
		if c.random.IntN(2) == 0 {
			c.wire.Impair(Impairment{})
		}
	}},
	{"the path carries nothing for a while", func(c *chaos, _ *chaosGate) {
		c.wire.Impair(Impairment{Loss: 1})
		c.pause(3 * time.Second)
		c.wire.Impair(Impairment{})
	}},
	{"both gateways killed", func(c *chaos, _ *chaosGate) {
		for _, g := range c.gates {
			g.culvert.Kill()
		}
		for _, g := range c.gates {
			c.restart(g)
		}
	}},
}

// command is a command to the gateway, which must succeed.
func command(args ...string) func(*chaos, *chaosGate) {
	return func(c *chaos, g *chaosGate) {
		if _, err := g.culvert.Command(c.ctx, args...); err != nil {
			c.t.Errorf("on %s: %v", g.name(), err)
		}
	}
}

func linkDown(device string) func(*chaos, *chaosGate) {
	return func(c *chaos, g *chaosGate) {
		g.node.Run("ip", "link", "set", device, "down")
		c.pause(2 * time.Second)
		g.node.Run("ip", "link", "set", device, "up")
		if device == "lan0" { // the kernel forgets IPv6 addresses of a link that is down
			g.node.ipv6("lan0", g.nets[1].Addr().Next())
		} else {
			g.node.ipv6("eth0", netip.MustParseAddr(map[string]string{"east": "fd00:8::1", "west": "fd00:9::1"}[g.name()]))
		}
		g.defaults()
	}
}

// span is a time in which a layer may have been away; until is zero while it lasts.
// chaosHeal is how long traffic may take to pass again: far longer than that takes.
const chaosHeal = limit

type span struct{ from, until time.Time }

type spans []span

func (s spans) text(start time.Time) string {
	var list []string
	for _, v := range s[max(0, len(s)-3):] {
		end := "now"
		if !v.until.IsZero() {
			end = v.until.Sub(start).Round(time.Millisecond).String()
		}
		list = append(list, v.from.Sub(start).Round(time.Millisecond).String()+" to "+end)
	}
	return strings.Join(list, ", ")
}

// neighbourWait is how long a router holds a packet while it asks for the hardware address of its next hop (RFC 4861 §10), and
// the bad wire may carry no answer.
const neighbourWait = 3 * time.Second

// seenBehind is for what is seen behind the gateway: it left the gateway up to neighbourWait before.
func (s spans) seenBehind() (list spans) {
	for _, v := range s {
		if !v.until.IsZero() {
			v.until = v.until.Add(neighbourWait)
		}
		list = append(list, v)
	}
	return list
}

// excused says whether both layers were away at a time, and for how long they had been.
func excused(guard, routing spans, at time.Time) (late time.Duration, ok bool) {
	for _, g := range guard {
		for _, r := range routing {
			if g.contains(at) && r.contains(at) {
				both := g.from
				if r.from.After(both) {
					both = r.from
				}
				return at.Sub(both), true
			}
		}
	}
	return 0, false
}

func (s span) contains(at time.Time) bool {
	return !at.Before(s.from) && (s.until.IsZero() || !at.After(s.until))
}

// What is in clear is excused only while both layers are away.
func TestExcused(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(1_000_000 + ms)) }
	guard := spans{{at(0), at(1000)}, {at(5000), at(6000)}, {at(9000), time.Time{}}}
	routing := spans{{at(500), at(1500)}, {at(7000), at(8000)}, {at(9500), at(9900)}}
	if _, ok := excused(guard.seenBehind(), routing.seenBehind(), at(4000)); !ok {
		t.Error("what a router held for three seconds is not excused")
	}
	if _, ok := excused(guard.seenBehind(), routing.seenBehind(), at(4001)); ok {
		t.Error("what a router held for longer is excused")
	}
	for _, c := range []struct {
		at   int
		late time.Duration
		ok   bool
	}{
		{-1, 0, false}, {0, 0, false}, {499, 0, false}, {500, 0, true}, {1000, 500 * time.Millisecond, true}, {1001, 0, false},
		{5500, 0, false}, {7500, 0, false}, {9400, 0, false}, {9600, 100 * time.Millisecond, true}, {9901, 0, false},
	} {
		late, ok := excused(guard, routing, at(c.at))
		if late != c.late || ok != c.ok {
			t.Errorf("at %d: %v, %v; want %v, %v", c.at, late, ok, c.late, c.ok)
		}
	}
}

// stall notices when this machine did not let a goroutine run that was due, so that
// a limit of time is not failed by whatever else is running.
type stall struct {
	mu   sync.Mutex
	seen []stalled
}

type stalled struct {
	at   time.Time
	late time.Duration
}

func watchStalls(t *testing.T) *stall {
	s, end := &stall{}, make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		const step = 10 * time.Millisecond
		for {
			due := time.Now().Add(step)
			select {
			case <-end:
				return
			case <-time.After(step):
			}
			if late := time.Since(due); late > step {
				s.mu.Lock()
				s.seen = append(s.seen, stalled{time.Now(), late})
				s.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() { close(end); done.Wait() })
	return s
}

// total is how long this machine did not run what was due, between two times.
func (s *stall) total(from, until time.Time) (sum time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.seen {
		if !v.at.Before(from) && !v.at.After(until) {
			sum += v.late
		}
	}
	return sum
}
