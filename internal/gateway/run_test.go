package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/host/guard"
	"culvert/internal/operate/control"
	"culvert/internal/packet/underlay"
	"culvert/tun"
)

// cable is a network in memory: what one end sends is delivered to the other at once.
type cable struct {
	mu   sync.Mutex
	ends map[netip.Addr]*underlay.Memory
}

func (c *cable) attach(a netip.Addr) *underlay.Memory {
	m := underlay.NewMemory(a, 500, 4500, func(p underlay.Packet) {
		c.mu.Lock()
		to := c.ends[p.Remote.Addr()]
		c.mu.Unlock()
		if to != nil {
			to.Deliver(p.Local, p.Remote, p.Data())
		}
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends[a] = m
	return m
}

// process is a gateway as Run runs it, with in-memory edges.
type process struct {
	t      *testing.T
	path   string
	door   string
	device *tun.Memory
	host   *tun.MemoryHost
	reload chan struct{}
	hurry  chan struct{}
	stop   context.CancelFunc
	ended  chan error
	log    *buffer

	mu     sync.Mutex
	events []core.Event
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func launch(t *testing.T, c *cable, name string, addr netip.Addr, text string, change ...func(*Options)) *process {
	dir, err := os.MkdirTemp("", "gw") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &process{t: t, path: filepath.Join(dir, name+".toml"), door: filepath.Join(dir, name+".sock"),
		device: tun.NewMemory("culvert0", compile.AutoMTU), host: &tun.MemoryHost{},
		reload: make(chan struct{}), hurry: make(chan struct{}), ended: make(chan error, 1), log: &buffer{}}
	if runtime.GOOS == "windows" {
		p.door = `\\.\pipe\culvert-test-` + name
	}
	writeFile(t, p.path, text)
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	o := Options{ConfigPath: p.path, Control: p.door, Stderr: p.log, LogLevel: "debug", Reload: p.reload, Hurry: p.hurry,
		Edges: func(*config.Gateway) (Edges, error) {
			return Edges{Host: p.host, Conn: c.attach(addr), Device: p.device,
				Source: func(netip.Addr) (netip.Addr, error) { return addr, nil }}, nil
		},
		Event: func(e core.Event) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.events = append(p.events, e)
		}}
	for _, f := range change {
		f(&o)
	}
	go func() { p.ended <- Run(ctx, o) }()
	t.Cleanup(func() { p.end() })
	return p
}

// end stops the gateway and returns what Run did.
func (p *process) end() error {
	p.stop()
	select {
	case err, ok := <-p.ended:
		if ok {
			close(p.ended)
		}
		return err
	case <-time.After(limit):
		p.t.Errorf("does not stop\n%s", p.log)
		return nil
	}
}

func (p *process) client() *control.Client { return control.NewClient(p.door) }

// limit is for how long a test waits for what has to come, on a busy machine too.
const limit = 2 * time.Minute

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in %v: not %s", limit, what)
		}
	}
}

// spis are the SPIs of SAs that work.
func (p *process) spis() string {
	rows, err := p.client().InstalledSAs(context.Background(), false)
	if err != nil {
		return ""
	}
	var list []string
	for _, r := range rows {
		if r.State == "mature" {
			list = append(list, r.SPI)
		}
	}
	return strings.Join(list, " ")
}

func (p *process) up() bool { return strings.Count(p.spis(), "0x") == 4 }

// carries sends packets until one arrives: whoever sends before the SA is there
// sends again.
func carries(t *testing.T, from, to *process, src, dst string) {
	t.Helper()
	seq := uint16(0)
	eventually(t, src+" reaching "+dst, func() bool {
		seq++
		pkt := echo(src, dst, seq)
		if err := from.device.Inject(pkt); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-to.device.Outgoing():
			return len(got) == len(pkt)
		case <-time.After(100 * time.Millisecond):
			return false
		}
	})
}

// Two whole gateways, with their goroutines and control sockets.
func TestRunTwoGateways(t *testing.T) {
	c := &cable{ends: map[netip.Addr]*underlay.Memory{}}
	ctx := context.Background()
	east := launch(t, c, "east", eastAddr, passive(site(westAddr, "102", "101")))
	eventually(t, "the east answering", func() bool { _, err := east.client().Peers(ctx); return err == nil })
	west := launch(t, c, "west", westAddr, site(eastAddr, "101", "102"))
	eventually(t, "both up", func() bool { return west.up() && east.up() })
	carries(t, west, east, "10.1.101.5", "10.1.102.6")
	carries(t, east, west, "2001:db8:102::6", "2001:db8:101::5")

	t.Run("rows", func(t *testing.T) { checkRows(t, west, east) })
	t.Run("reload", func(t *testing.T) { checkReload(t, west) })
	t.Run("commands", func(t *testing.T) { checkCommands(t, west, east) })
	carries(t, west, east, "10.1.101.5", "10.1.102.6")

	if err := west.end(); err != nil {
		t.Errorf("west ended: %v", err)
	}
	if !west.host.Closed() {
		t.Error("the host is not as it was")
	}
	if _, err := os.Stat(west.door); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the control socket is still there: %v", err)
	}
	// The peer was told.
	eventually(t, "the east alone", func() bool { rows, err := east.client().ActivePeers(ctx); return err == nil && len(rows) == 0 })
	if err := east.end(); err != nil {
		t.Errorf("east ended: %v", err)
	}
	for _, p := range []*process{west, east} {
		if strings.Contains(p.log.String(), "thisisnotasecurepsk") {
			t.Error("the secret is in the log")
		}
	}
}

func checkRows(t *testing.T, west, east *process) {
	ctx := context.Background()
	policies, err := west.client().Policies(ctx)
	if err != nil || len(policies) != 3 {
		t.Fatalf("policies %+v, %v", policies, err)
	}
	if p := policies[0]; !p.Template || !p.Default || p.Ph2State != "no-phase2" {
		t.Errorf("template %+v", p)
	}
	if p := policies[1]; !p.Active || p.Ph2Count != 1 || p.Ph2State != "established" || p.SASrcAddress != "192.0.2.1" || p.SADstAddress != "192.0.2.2" {
		t.Errorf("policy %+v", p)
	}
	peers, err := east.client().Peers(ctx)
	if err != nil || len(peers) != 1 || !peers[0].Responder || !peers[0].Passive || peers[0].Address != "192.0.2.1/32" {
		t.Errorf("peers %+v, %v", peers, err)
	}
	for _, secrets := range []bool{false, true} {
		ids, err := west.client().Identities(ctx, secrets)
		if err != nil || len(ids) != 1 || (ids[0].Secret == "thisisnotasecurepsk") != secrets {
			t.Errorf("identities %+v, %v", ids, err)
		}
		sas, err := west.client().InstalledSAs(ctx, secrets)
		if err != nil || len(sas) != 4 {
			t.Fatalf("SAs %+v, %v", sas, err)
		}
		in, out := sas[0], sas[1]
		if (len(in.EncKey) == 32) != secrets || (len(in.AuthKey) == 64) != secrets {
			t.Errorf("keys %q and %q of %+v", in.EncKey, in.AuthKey, in)
		}
		if in.SrcAddress != "192.0.2.2:4500" || in.DstAddress != "192.0.2.1:4500" || out.SrcAddress != in.DstAddress || out.DstAddress != in.SrcAddress ||
			!in.ESP || in.EncAlgorithm != "aes-cbc" || in.EncKeySize != 128 || in.AuthAlgorithm != "sha256" || in.Replay != 128 || in.Peer != "other" || in.Policy == "" {
			t.Errorf("SA %+v\n   %+v", in, out)
		}
	}
	profiles, err := west.client().Profiles(ctx)
	if err != nil || len(profiles) != 2 || !profiles[0].Default || profiles[1].DHGroup != "x25519" || profiles[1].DPDInterval != 120 {
		t.Errorf("profiles %+v, %v", profiles, err)
	}
	proposals, err := west.client().Proposals(ctx)
	if err != nil || len(proposals) != 2 || proposals[1].EncAlgorithms != "aes-128-cbc" || proposals[1].ESN != "both" {
		t.Errorf("proposals %+v, %v", proposals, err)
	}
	active, err := west.client().ActivePeers(ctx)
	if err != nil || len(active) != 1 || active[0].Responder || active[0].ID != "192.0.2.2" || active[0].State != "established" ||
		active[0].Ph2Total != 2 || active[0].TxBytes == 0 || active[0].RxPackets < 3 {
		t.Errorf("active peers %+v, %v", active, err)
	}
	stats, err := west.client().Statistics(ctx)
	names := control.StatisticNames()
	if err != nil || len(stats) < len(names) {
		t.Fatalf("statistics %+v, %v", stats, err)
	}
	for i, name := range names {
		if stats[i].Name != name {
			t.Errorf("counter %d is %s, want %s", i, stats[i].Name, name)
		}
	}
}

func checkReload(t *testing.T, west *process) {
	ctx := context.Background()
	before := west.spis()
	good := site(eastAddr, "101", "102")

	writeFile(t, west.path, strings.Replace(good, "thisisnotasecurepsk\"", "thisisnotasecurepsk\"\nsecrte = 1", 1)+"\n[[policy]]\npeer = \"nobody\"\n")
	_, err := west.client().Reload(ctx)
	if err == nil || !strings.Contains(err.Error(), "identity.secrte") || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("a faulty file: %v", err)
	}
	plans := len(west.host.Plans())
	if after := west.spis(); after != before || plans != 1 {
		t.Errorf("a faulty file: SPIs %s, before %s, %d plans", after, before, plans)
	}

	writeFile(t, west.path, "[gateway]\nport = 501\nlog-level = \"warn\"\n"+good)
	r, err := west.client().Reload(ctx)
	// The file's own warning is of its secret.
	if err != nil || len(r.Warnings) != 2 || !strings.HasPrefix(r.Warnings[0], "gateway.port:") || !strings.Contains(r.Warnings[1], "identity.secret: is short,") || fmt.Sprint(r.Changes) != "[gateway log-level: changed]" {
		t.Errorf("report %+v, %v", r, err)
	}
	if plan := west.host.Plans()[1]; plan.Bypass[0] != 500 {
		t.Errorf("plan %+v", plan)
	}

	writeFile(t, west.path, good+"\n[[policy]]\naction = \"discard\"\nsrc-address = \"10.3.0.0/16\"\ndst-address = \"10.4.0.0/16\"\n")
	west.reload <- struct{}{}
	eventually(t, "four policies", func() bool { p, _ := west.client().Policies(ctx); return len(p) == 4 })
	if after := west.spis(); after != before {
		t.Errorf("SPIs %s, before %s", after, before)
	}
	writeFile(t, west.path, good)
	if r, err = west.client().Reload(ctx); err != nil || fmt.Sprint(r.Changes) != "[policy 3, 10.3.0.0/16 => 10.4.0.0/16: removed]" {
		t.Errorf("report %+v, %v", r, err)
	}
}

func checkCommands(t *testing.T, west, east *process) {
	ctx := context.Background()
	for _, c := range []struct {
		name string
		do   func() (int, error)
		want int
	}{
		{"rekey of the CHILD SAs", func() (int, error) { return west.client().Rekey(ctx, true) }, 2},
		{"flush", func() (int, error) { return west.client().Flush(ctx) }, -1}, // what was replaced lingers
		{"kill", func() (int, error) { return west.client().KillConnections(ctx) }, 1},
	} {
		before := west.spis()
		if n, err := c.do(); err != nil || n != c.want && c.want >= 0 || n == 0 {
			t.Errorf("%s: %d, %v", c.name, n, err)
		}
		eventually(t, "other SAs after "+c.name, func() bool {
			after := west.spis()
			return west.up() && east.up() && !strings.Contains(after, strings.Fields(before)[0])
		})
	}
	for q, want := range map[control.RedirectQuery]string{
		{To: "gw2.example.net"}:                       "{0 1} <nil>", // west connected to east
		{To: "gw2.example.net", Peer: "nobody"}:       `{0 0} there is no peer "nobody": the peers are other`,
		{To: "0.0.0.0"}:                               `{0 0} "0.0.0.0": write the address or the DNS name of a host, such as 192.0.2.2 or gw2.example.net`,
		{To: "gw2.example.net", Within: -time.Second}: "{0 0} within -1s: write a duration, or 0 for no limit",
	} {
		if r, err := west.client().Redirect(ctx, q); fmt.Sprint(r, " ", err) != want {
			t.Errorf("redirect %+v: %v %v", q, r, err)
		}
	}
	if n, err := west.client().Rekey(ctx, false); err != nil || n != 1 {
		t.Errorf("rekey of the IKE SA: %d, %v", n, err)
	}
	eventually(t, "the IKE SA rekeyed", func() bool {
		west.mu.Lock()
		defer west.mu.Unlock()
		for _, e := range west.events {
			if e.Kind == core.EvIKERekeyed {
				return true
			}
		}
		return false
	})
	eventually(t, "one IKE SA", func() bool { rows, err := west.client().ActivePeers(ctx); return err == nil && len(rows) == 1 })
}

// A start that fails takes back what it did, and says whether the machine is the cause.
func TestRunUndoesWhatFailed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.toml")
	writeFile(t, path, site(eastAddr, "101", "102"))
	none := func() Edges {
		return Edges{Host: &tun.MemoryHost{}, Device: tun.NewMemory("culvert0", 1400),
			Conn: underlay.NewMemory(westAddr, 500, 4500, func(underlay.Packet) {})}
	}
	for _, c := range []struct {
		name        string
		edges       func(e *Edges) error
		environment bool
	}{
		{"the port is taken", func(*Edges) error { return environment(fmt.Errorf("UDP 500: %w", underlay.ErrPortInUse)) }, true},
		{"no driver", func(*Edges) error { return environment(fmt.Errorf("device: %w", tun.ErrNoDriver)) }, true},
		{"a bad name", func(*Edges) error { return environment(fmt.Errorf("device: %w", tun.ErrBadName)) }, false},
		{"the plan is not permitted", func(e *Edges) error { e.Host.(*tun.MemoryHost).Fail(os.ErrPermission); return nil }, true},
		{"the plan is impossible", func(e *Edges) error { e.Host.(*tun.MemoryHost).Fail(tun.ErrTooManyRules); return nil }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := none()
			door := filepath.Join(dir, "s")
			failed := c.edges(&e)
			err := Run(context.Background(), Options{ConfigPath: path, Control: door, Stderr: &buffer{},
				Edges: func(*config.Gateway) (Edges, error) { return e, failed }})
			if err == nil || errors.Is(err, ErrEnvironment) != c.environment {
				t.Errorf("error %v, the machine's: %v", err, errors.Is(err, ErrEnvironment))
			}
			if _, stat := os.Stat(door); !errors.Is(stat, os.ErrNotExist) {
				t.Errorf("the control socket is there: %v", stat)
			}
			if failed == nil && !e.Host.(*tun.MemoryHost).Closed() {
				t.Error("the host is not closed")
			}
		})
	}
	e := none()
	err := Run(context.Background(), Options{ConfigPath: path, Control: filepath.Join(path, "s"), Stderr: &buffer{},
		Edges: func(*config.Gateway) (Edges, error) { return e, nil }})
	if err == nil || !e.Host.(*tun.MemoryHost).Closed() {
		t.Errorf("without a place for the control socket: %v", err)
	}
	if err := Run(context.Background(), Options{ConfigPath: filepath.Join(dir, "none.toml")}); !errors.As(err, new(config.Faults)) {
		t.Errorf("without a file: %v", err)
	}
	for _, o := range []Options{{ConfigPath: path, LogLevel: "loud"}, {ConfigPath: path, LogFormat: "xml"}} {
		if err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), "write") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// shielded gives a process a guard.
func shielded(g guard.Guard) func(*Options) {
	return func(o *Options) {
		edges := o.Edges
		o.Edges = func(c *config.Gateway) (Edges, error) {
			e, err := edges(c)
			e.Guard = g
			return e, err
		}
	}
}

// What somebody else removed from the guard is put back, and a clean end takes it away.
func TestRunRestoresTheGuard(t *testing.T) {
	shield := &guard.Memory{}
	p := launch(t, &cable{ends: map[netip.Addr]*underlay.Memory{}}, "p", westAddr, passive(site(eastAddr, "101", "102")), shielded(shield))
	eventually(t, "started", func() bool { return len(p.host.Plans()) == 1 })
	shield.Disturb("nft (process 12)", "the guard's table was removed")
	eventually(t, "restored", func() bool { return strings.Contains(p.log.String(), "the guard's table was removed") })
	if list, err := shield.Differences(); err != nil || len(list) > 0 || p.host.Restores() > 0 {
		t.Errorf("differences %q, %v, and the host was compared %d times", list, err, p.host.Restores())
	}
	if err := p.end(); err != nil || !shield.Closed() {
		t.Errorf("ended with %v, the guard is away: %v", err, shield.Closed())
	}
}

// What somebody else removed from the host is put back, and a line says so.
func TestRunRestoresTheHost(t *testing.T) {
	p := launch(t, &cable{ends: map[netip.Addr]*underlay.Memory{}}, "p", westAddr, passive(site(eastAddr, "101", "102")))
	eventually(t, "started", func() bool { return len(p.host.Plans()) == 1 })
	p.host.Disturb("networkd (process 12)", "rule 10000 was removed")
	eventually(t, "restored", func() bool { return strings.Contains(p.log.String(), "rule 10000 was removed") })
	if list, err := p.host.Differences(); err != nil || len(list) > 0 || !strings.Contains(p.log.String(), "networkd (process 12)") {
		t.Errorf("differences %q, %v\n%s", list, err, p.log)
	}
}

// A second wish to stop does not wait for a peer that is gone, and still takes
// everything back.
func TestRunHurries(t *testing.T) {
	net := &cable{ends: map[netip.Addr]*underlay.Memory{}}
	east := launch(t, net, "east", eastAddr, passive(site(westAddr, "102", "101")))
	eventually(t, "east started", func() bool { return len(east.host.Plans()) == 1 })
	west := launch(t, net, "west", westAddr, site(eastAddr, "101", "102"))
	eventually(t, "SAs", func() bool { return west.spis() != "" })
	net.mu.Lock()
	delete(net.ends, eastAddr)
	net.mu.Unlock()
	close(west.hurry)
	close(east.hurry)
	if err := west.end(); err != nil || !west.host.Closed() || !strings.Contains(west.log.String(), "stopped without waiting") {
		t.Errorf("%v, host closed: %v\n%s", err, west.host.Closed(), west.log)
	}
}

func TestListening(t *testing.T) {
	a, b, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		listen      []netip.Addr
		local, want netip.Addr
	}{
		{nil, a, a},
		{[]netip.Addr{b, a}, a, a},
		{[]netip.Addr{six, b}, a, b},
		{[]netip.Addr{six}, a, netip.Addr{}},
	} {
		if got, err := listening(c.listen, c.local); got != c.want || (err == nil) != c.want.IsValid() {
			t.Errorf("listen %v, system %v: %v %v, want %v", c.listen, c.local, got, err, c.want)
		}
	}
}

// A device that goes away ends the gateway, with an error.
func TestRunWithoutItsDevice(t *testing.T) {
	shield := &guard.Memory{}
	p := launch(t, &cable{ends: map[netip.Addr]*underlay.Memory{}}, "gw", westAddr, passive(site(eastAddr, "101", "102")), shielded(shield))
	eventually(t, "it running", func() bool { _, err := p.client().Peers(context.Background()); return err == nil })
	p.device.Close()
	select {
	case err := <-p.ended:
		if err == nil || !strings.Contains(err.Error(), "culvert0") {
			t.Errorf("ended: %v", err)
		}
		close(p.ended)
	case <-time.After(limit):
		t.Fatal("goes on without its device")
	}
	if !p.host.Closed() {
		t.Error("the host is not closed")
	}
	if shield.Closed() || !strings.Contains(p.log.String(), "the guard stays") {
		t.Errorf("without the device the guard does not stay\n%s", p.log)
	}
}

// A flood of events is one log line a second for each kind that strangers cause, 200 of the others, and says how many it stands for.
func TestLogDoesNotFlood(t *testing.T) {
	log := &buffer{}
	v := &events{log: newLogger(log, config.LogJSON, nil)}
	for i := range 1000 {
		v.event(start.Add(time.Duration(i)*time.Millisecond), core.Event{Kind: core.EvBadMessage, Reason: "x"})
	}
	v.event(start.Add(1100*time.Millisecond), core.Event{Kind: core.EvBadMessage, Reason: "y"})
	for range 3 {
		v.event(start, core.Event{Kind: core.EvIKEUp})
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 5 || !strings.Contains(lines[1], `"suppressed":999`) {
		t.Errorf("%d lines:\n%s", len(lines), log)
	}
	for range 1000 {
		v.event(start, core.Event{Kind: core.EvChildRekeyed})
	}
	v.event(start.Add(time.Second), core.Event{Kind: core.EvChildRekeyed})
	lines = strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 5+201 || !strings.Contains(lines[205], `"suppressed":800`) {
		t.Errorf("%d lines", len(lines))
	}
	if v.counts[core.EvBadMessage] != 1001 {
		t.Errorf("%d counted", v.counts[core.EvBadMessage])
	}
}

// Who is told that the gateway is ready can ask it at once. One that cannot start is
// never ready.
func TestRunSaysReady(t *testing.T) {
	c := &cable{ends: map[netip.Addr]*underlay.Memory{}}
	ready := make(chan struct{}, 2)
	says := func(o *Options) { o.Ready = func() { ready <- struct{}{} } }
	p := launch(t, c, "east", eastAddr, passive(site(westAddr, "102", "101")), says)
	select {
	case <-ready:
	case <-time.After(limit):
		t.Fatalf("it is never ready\n%s", p.log)
	}
	if _, err := p.client().Peers(context.Background()); err != nil {
		t.Error(err)
	}
	if err := p.end(); err != nil {
		t.Error(err)
	}
	if err := launch(t, c, "broken", westAddr, "[gateway]\nmtu = 1\n", says).end(); err == nil {
		t.Error("a configuration with a fault has started")
	}
	if len(ready) > 0 {
		t.Error("ready once more")
	}
}
