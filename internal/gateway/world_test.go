package gateway

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"culvert/config"
	"culvert/crypto/secret"
	"culvert/ike"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/gateway/plane"
	"culvert/internal/gateway/view"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/underlay"
	"culvert/internal/packet/wire"
	"culvert/internal/state/store"
	"culvert/internal/testing/outputs"
	"culvert/internal/testing/simnet"
	"culvert/tun"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	westAddr = netip.MustParseAddr("192.0.2.1")
	eastAddr = netip.MustParseAddr("192.0.2.2")
	start    = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
)

// site is the configuration of one of two gateways: the manual's site-to-site
// example with an IPv6 network at each end beside it. more is appended.
func site(peer netip.Addr, here, there string, more ...string) string {
	text := strings.NewReplacer("PEER", peer.String(), "HERE4", "10.1."+here+".0/24", "THERE4", "10.1."+there+".0/24",
		"HERE6", "2001:db8:"+here+"::/64", "THERE6", "2001:db8:"+there+"::/64").Replace(`
[[profile]]
name = "ike2"
dh-group = "x25519"
enc-algorithm = "aes-128"
hash-algorithm = "sha256"

[[proposal]]
name = "ike2"
auth-algorithms = "sha256"
enc-algorithms = "aes-128-cbc"
pfs-group = "x25519"

[[peer]]
name = "other"
address = "PEER"
exchange-mode = "ike2"
profile = "ike2"

[[identity]]
peer = "other"
secret = "thisisnotasecurepsk"

[[policy]]
peer = "other"
src-address = "HERE4"
dst-address = "THERE4"
tunnel = true
proposal = "ike2"

[[policy]]
peer = "other"
src-address = "HERE6"
dst-address = "THERE6"
tunnel = true
proposal = "ike2"
`)
	return text + strings.Join(more, "\n")
}

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, _, err := config.Parse("test.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// world is two planes back to back on virtual time.
type world struct {
	t          *testing.T
	clock      *simnet.Clock
	net        *simnet.Network // carries IKE, and ESP unless it has its own
	esp        *simnet.Network
	arrived    int    // ESP datagrams
	takes      int    // the longest IP packet in UDP that arrives whole; 0: any does
	blocks     uint16 // the protocol of what does not arrive without UDP; 0: none
	west, east *node
	others     []*node
	raw        map[uint16]int // packets without UDP, by protocol
}

// node is a gateway without goroutines.
type node struct {
	leases *leases
	state  store.Memory
	w      *world
	addr   netip.Addr
	plane  *plane.Plane
	conn   *underlay.Memory
	device *tun.Memory
	host   *tun.MemoryHost
	cfg    *config.Config
	comp   *compile.Result
	events []core.Event
	timer  *simnet.Timer
	sent   int // IKE messages
	// followed is the host's plan as it has followed, and follows how often it has since it was configured. ahead are
	// messages of IKE that left, and packets that came in by an SA, before it had all that the gateway's policies need.
	followed func() tun.Plan
	follows  int
	ahead    int
	gathers  bool // what comes waits for a moment, so that it is worked off together
	lines    int  // of the data path; 0: as the configuration says
}

func newWorld(t *testing.T, link simnet.Link) *world { return newSeededWorld(t, link, 7) }

func newSeededWorld(t *testing.T, link simnet.Link, seed uint64) *world {
	w := &world{t: t, raw: map[uint16]int{}, clock: simnet.NewClock(start), net: simnet.New(seed, link)}
	w.west, w.east = w.node(westAddr, seed, 1), w.node(eastAddr, seed, 2)
	return w
}

func (w *world) node(addr netip.Addr, world uint64, side byte) *node {
	seed := [32]byte{side}
	binary.BigEndian.PutUint64(seed[8:], world)
	n := &node{w: w, addr: addr, device: tun.NewMemory("culvert0", compile.AutoMTU), host: &tun.MemoryHost{}}
	n.conn = underlay.NewMemory(addr, 500, 4500, func(p underlay.Packet) {
		if p.Kind == underlay.IKE {
			n.sent++
			n.expectFollowed()
		}
		net := w.net
		if p.Kind == underlay.ESP && w.esp != nil {
			net = w.esp
		}
		if proto := rawProtocol(&p); proto != 0 { // its place in the simulated network is the port
			p.Local, p.Remote = netip.AddrPortFrom(p.Local.Addr(), proto), netip.AddrPortFrom(p.Remote.Addr(), proto)
			w.raw[proto]++
			if proto == w.blocks {
				return
			}
		}
		if size := wire.IPv4HeaderLen + wire.UDPHeaderLen + p.Len; p.Whole && w.takes != 0 && size > w.takes {
			return
		}
		for _, d := range net.Send(w.clock.Now(), p.Local, p.Remote, p.Data()) {
			w.clock.At(d.At, func() {
				if p.Kind == underlay.ESP {
					w.arrived++
				}
				w.deliver(d)
			})
		}
	})
	n.leases = newLeases(func(a core.Answer) { n.plane.Answer(a) }, func() []netip.Addr { return []netip.Addr{addr} },
		func(err error) { w.t.Error(err) })
	if err := n.leases.open(func() (store.Store, error) { return &store.Memory{}, nil }, start); err != nil {
		w.t.Fatal(err)
	}
	n.plane = plane.New(plane.Config{
		Endpoint: &logged{ike.New(seed), outputs.New(w.t, addr.String())}, Conn: n.conn, Device: n.device, Seed: seed, Now: w.clock.Now, ClampMSS: true,
		Serve: n.serve,
		Follow: func() bool {
			n.plane.Following()
			n.follow(n.comp)
			n.follows++
			return true
		},
		Event: func(_ time.Time, e core.Event) { n.events = append(n.events, e) },
	})
	w.t.Cleanup(func() {
		if n.ahead > 0 {
			w.t.Errorf("%v: %d times something left or came in before the host had followed", addr, n.ahead)
		}
	})
	return n
}

// follow brings the host to the plan as it is now.
func (n *node) follow(c *compile.Result) {
	plan := n.plane.Plan(c)
	n.followed = func() tun.Plan { return plan }
}

// expectFollowed notes it where the host lacks a route or an address that policies and SAs need. What it has beside
// that, since something has gone, does no harm.
func (n *node) expectFollowed() {
	if n.comp == nil || !n.plane.Replan {
		return
	}
	want, has := n.plane.Plan(n.comp), n.followed()
	lacks := slices.ContainsFunc(want.Routes, func(r tun.Route) bool { return !slices.Contains(has.Routes, r) && !r.Pass }) ||
		slices.ContainsFunc(want.Addresses, func(a netip.Prefix) bool { return !slices.Contains(has.Addresses, a) })
	if lacks {
		n.ahead++
	}
}

// serve does what services do, in the caller's goroutine.
func (n *node) serve(out core.Output) {
	now := n.w.clock.Now()
	switch out := out.(type) {
	case core.Release:
		n.leases.release(out.Holder)
		n.leases.work(now, nil)
	case core.KeepTicketKeys:
		if err := writeTicketKeys(&n.state, out.Keys); err != nil {
			n.w.t.Error(err)
		}
	case core.Ask:
		if l, ok := out.Work.(core.Lease); ok {
			n.leases.ask(out, l)
			n.leases.work(now, nil)
			return
		}
		n.plane.Answer(solve(out, n.addr))
	}
}

// solve answers a question whose answer needs nothing, or is the local address.
func solve(a core.Ask, local netip.Addr) core.Answer {
	if _, ok := a.Work.(core.SourceFor); ok {
		return core.Answer{ID: a.ID, Data: secret.Bytes(local.AsSlice())}
	}
	data, err := a.Work.Do()
	return core.Answer{ID: a.ID, Data: data, Err: err}
}

// logged is an endpoint whose outputs are written down.
type logged struct {
	*ike.Endpoint
	put *outputs.Log
}

func (l *logged) Poll() (core.Output, bool) {
	o, ok := l.Endpoint.Poll()
	if ok {
		l.put.Add(o)
	}
	return o, ok
}

func (w *world) deliver(d simnet.Delivery) {
	for _, n := range append([]*node{w.west, w.east}, w.others...) {
		if n.addr != d.To.Addr() || !n.arrives(d) {
			continue
		}
		pkt := []underlay.Packet{{Buf: make([]byte, underlay.Headroom+len(d.Data))}}
		if got, err := n.conn.Recv(pkt); got != 1 || err != nil {
			w.t.Fatalf("Recv: %d, %v", got, err)
		}
		if pkt[0].Kind != underlay.IKE {
			n.expectFollowed()
		}
		if n.gathers {
			n.plane.Path.Receive(w.clock.Now(), &pkt[0])
			w.clock.At(w.clock.Now().Add(time.Millisecond), n.settle)
			continue
		}
		n.plane.Receive(w.clock.Now(), &pkt[0])
		n.settle()
	}
}

// rawProtocol is the IP protocol of a packet without UDP; 0 for others.
func rawProtocol(p *underlay.Packet) uint16 {
	switch {
	case p.Kind == underlay.AH:
		return wire.ProtoAH
	case p.Kind == underlay.ESP && !p.NATT:
		return wire.ProtoESP
	}
	return 0
}

func (n *node) arrives(d simnet.Delivery) bool {
	switch d.To.Port() {
	case wire.ProtoESP:
		return n.conn.DeliverRaw(underlay.ESP, d.From.Addr(), d.To.Addr(), d.Data)
	case wire.ProtoAH:
		return n.conn.DeliverRaw(underlay.AH, d.From.Addr(), d.To.Addr(), d.Data)
	}
	return n.conn.Deliver(d.From, d.To, d.Data)
}

// settle hands over what waits and sets the clock for the deadline.
func (n *node) settle() {
	for n.plane.Work(n.w.clock.Now()) {
	}
	if n.timer != nil {
		n.timer.Stop()
		n.timer = nil
	}
	if at, ok := n.plane.Deadline(); ok {
		n.timer = n.w.clock.At(at, func() {
			n.timer = nil
			n.input(core.Tick{})
		})
	}
}

func (n *node) input(in core.Input) {
	n.plane.Input(n.w.clock.Now(), in)
	n.settle()
}

// configure is what start and reload do.
func (n *node) configure(text string) error {
	next := parse(n.w.t, text)
	compile.CarriedBy(next, underlay.IsRaw(n.conn))
	comp, err := compile.Compile(next, [2]uint16{500, 4500}, n.comp)
	if err != nil {
		return err
	}
	comp.IKE.Lines = max(comp.IKE.Lines, n.lines)
	c := &change{now: n.w.clock.Now(), was: n.comp, next: next, result: comp}
	plane := n.plane.Switch(comp)
	err = transact([]part{
		n.leases.part(),
		{try: func(*change) error { plane.Policies(); return nil }, revert: func(*change) { plane.Revert() }},
		{try: func(*change) error { return n.host.Apply(n.plane.Plan(comp)) }},
		{commit: func(*change) {
			n.cfg, n.comp = next, comp
			n.follow(comp)
			plane.Commit(c.now)
		}},
	}, c)
	n.settle()
	return err
}

func (n *node) mustConfigure(text string) {
	n.w.t.Helper()
	if err := n.configure(text); err != nil {
		n.w.t.Fatal(err)
	}
}

func (w *world) run(d time.Duration) { w.clock.Run(w.clock.Now().Add(d)) }

func (w *world) until(what string, done func() bool) {
	w.t.Helper()
	if !w.clock.RunUntil(w.clock.Now().Add(2*time.Minute), done) {
		w.t.Fatalf("in two minutes: not %s\nwest: %v\neast: %v", what, kinds(w.west.events), kinds(w.east.events))
	}
}

func kinds(events []core.Event) (list []string) {
	for _, e := range events {
		list = append(list, e.Kind.String()+" "+e.Reason)
	}
	return list
}

func (n *node) count(kind core.EventKind) (c int) {
	for _, e := range n.events {
		if e.Kind == kind {
			c++
		}
	}
	return c
}

// up configures both ends and waits until both policies have SAs.
func (w *world) up() {
	w.t.Helper()
	w.east.mustConfigure(passive(site(westAddr, "102", "101")))
	w.west.mustConfigure(site(eastAddr, "101", "102"))
	w.until("established", func() bool { return w.west.sealing() >= 2 && w.east.sealing() >= 2 })
	w.run(10 * time.Second)
}

// passive leaves the beginning to the other end.
func passive(text string) string {
	return strings.Replace(text, "[[peer]]", "[[peer]]\npassive = true", 1)
}

// sealing is how many policies have an SA.
func (n *node) sealing() (c int) {
	for ref := range n.comp.ByRef {
		if n.plane.Has(ref) {
			c++
		}
	}
	return c
}

// view is what the commands see of a node.
func (n *node) view() *view.View {
	v := planeView(n.plane, n.cfg, n.comp, n.w.clock.Now())
	v.Host.Device = n.device.Name()
	v.Attempts, v.Leases = view.NewAttempts(), n.leases.count
	return v
}

// spis are the inbound SPIs by policy.
func (n *node) spis() map[string]string {
	m := map[string]string{}
	for _, r := range n.view().InstalledSAs(false) {
		m[r.Policy+" "+r.SrcAddress+" "+r.DstAddress+" "+r.SPI] = r.State
	}
	return m
}

func echo(src, dst string, seq uint16) []byte {
	return wire.AppendEcho(nil, netip.MustParseAddr(src), netip.MustParseAddr(dst), false, 1, seq, bytes.Repeat([]byte("culvert "), 10))
}

// carries sends a packet and expects it at the other end.
func (w *world) carries(from, to *node, src, dst string) {
	w.t.Helper()
	pkt := echo(src, dst, 1)
	if r := from.plane.Send(w.clock.Now(), pkt); r != datapath.Passed {
		w.t.Fatalf("%s => %s: %v", src, dst, r)
	}
	from.settle()
	w.run(time.Second)
	select {
	case got := <-to.device.Outgoing():
		if !bytes.Equal(got, pkt) {
			w.t.Fatalf("%s => %s: arrived as %x, want %x", src, dst, got, pkt)
		}
	default:
		w.t.Fatalf("%s => %s: did not arrive; counters %v", src, dst, nonzero(to))
	}
}

func nonzero(n *node) map[string]uint64 {
	m := map[string]uint64{}
	for _, c := range n.plane.Path.Counters().Snapshot() {
		if c.Value > 0 {
			m[c.Name] = c.Value
		}
	}
	return m
}

func (w *world) carriesAll() {
	w.t.Helper()
	w.carries(w.west, w.east, "10.1.101.5", "10.1.102.6")
	w.carries(w.east, w.west, "10.1.102.6", "10.1.101.5")
	w.carries(w.west, w.east, "2001:db8:101::5", "2001:db8:102::6")
	w.carries(w.east, w.west, "2001:db8:102::6", "2001:db8:101::5")
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func replaceOnce(t *testing.T, text, old, new string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("no %q in\n%s", old, text)
	}
	return strings.Replace(text, old, new, 1)
}
