package gateway

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/state/store"
	"culvert/tun"
)

// The report of a reload names each change, however many there are of a kind.
func TestReloadReportNamesEachChange(t *testing.T) {
	policy := func(n int) *config.Policy {
		return &config.Policy{Index: n, SrcAddress: netip.MustParsePrefix("10.1.0.0/16"), DstAddress: netip.MustParsePrefix("10.2.0.0/16")}
	}
	got := report(config.Changes{
		Gateway: []string{"log-level", "tun", "mtu", "table"}, Restart: []string{"tun", "table"}, Settings: true, Trust: true, Pools: true, Reordered: true,
		PeersAdded: []string{"a", "b"}, PeersChanged: []string{"c", "d"}, PeersRemoved: []string{"e", "f"}, PeersRedirected: []string{"g", "h"},
		PoliciesAdded: []*config.Policy{policy(1), policy(2)}, PoliciesRemoved: []*config.Policy{policy(3), policy(4)},
	}, []config.Warning{{}, {}})
	want := []string{
		"gateway log-level: changed", "gateway mtu: changed", "settings: changed", "pools: changed; addresses in use stay in use",
		"certificates: changed; they apply to new connections", "peer a: added", "peer b: added",
		"peer c: changed; its SAs are established again", "peer d: changed; its SAs are established again",
		"peer g: redirect changed; it applies to new connections", "peer h: redirect changed; it applies to new connections",
		"peer e: removed", "peer f: removed", "policy 1, 10.1.0.0/16 => 10.2.0.0/16: added", "policy 2, 10.1.0.0/16 => 10.2.0.0/16: added",
		"policy 3, 10.1.0.0/16 => 10.2.0.0/16: removed", "policy 4, 10.1.0.0/16 => 10.2.0.0/16: removed", "policies: order changed",
	}
	if !slices.Equal(got.Changes, want) {
		t.Errorf("changes:\n%q\nwant\n%q", got.Changes, want)
	}
	restart := ": changed in the file, but not in force: restart the gateway"
	if len(got.Warnings) != 4 || got.Warnings[0] != "gateway.tun"+restart || got.Warnings[1] != "gateway.table"+restart {
		t.Errorf("warnings: %q", got.Warnings)
	}
}

// The networks on links are looked for where a plan leaves them alone, and has something for everywhere or may get that.
func TestLANsAreLookedForWhereTheyMatter(t *testing.T) {
	all := tun.Route{Local: netip.MustParsePrefix("10.9.0.5/32"), Remote: netip.MustParsePrefix("0.0.0.0/0")}
	some := tun.Route{Local: all.Local, Remote: netip.MustParsePrefix("10.2.0.0/16")}
	lans := []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}
	for _, c := range []struct {
		name   string
		plan   tun.Plan
		always bool
		want   bool
	}{
		{"something for everywhere", tun.Plan{LANBypass: true, Routes: []tun.Route{some, all}}, false, true},
		{"nothing for everywhere", tun.Plan{LANBypass: true, Routes: []tun.Route{some}}, false, false},
		{"nothing for everywhere yet", tun.Plan{LANBypass: true, Routes: []tun.Route{some}}, true, true},
		{"they are not left alone", tun.Plan{Routes: []tun.Route{all}}, true, false},
	} {
		asked := 0
		e := &Edges{LANs: func() ([]netip.Prefix, error) { asked++; return lans, nil }}
		got, err := e.lans(c.plan, c.always)
		if err != nil || asked != map[bool]int{true: 1}[c.want] || c.want != slices.Equal(got, lans) {
			t.Errorf("%s: %v, %v, looked for %d times", c.name, got, err, asked)
		}
		if got, err := (&Edges{}).lans(c.plan, c.always); got != nil || err != nil {
			t.Errorf("%s, and nobody knows them: %v, %v", c.name, got, err)
		}
	}
}

// The other addresses of this host are guarded for a tunnel to everywhere from an address that a peer gave it, and for that alone.
func TestRoutesOfAClient(t *testing.T) {
	leased, net := netip.MustParsePrefix("10.9.0.5/32"), netip.MustParsePrefix("10.1.0.0/24")
	leased6 := netip.MustParsePrefix("fd09::5/128")
	all, all6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	p := tun.Plan{Addresses: []netip.Prefix{leased, leased6}, Routes: []tun.Route{
		{Local: leased, Remote: netip.MustParsePrefix("10.2.0.0/16")}, {Local: leased, Remote: all, Optional: true}, {Local: leased, Remote: all, Pass: true},
		{Local: leased, Remote: all, Proto: 17}, {Local: net, Remote: all}, {Local: netip.MustParsePrefix("10.9.0.6/32"), Remote: all},
	}}
	if got := clientRoutes(p); got != nil {
		t.Errorf("%+v", got)
	}
	p.Routes = append(p.Routes, tun.Route{Local: leased, Remote: all}, tun.Route{Local: leased6, Remote: all6})
	if got, want := clientRoutes(p), []tun.Route{{Local: all, Remote: all}, {Local: all6, Remote: all6}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// While a client waits for its address, what its templates allow is guarded: those of its group that are in force.
func TestRoutesOfAClientThatIsNotConnected(t *testing.T) {
	all := netip.MustParsePrefix("0.0.0.0/0")
	template := func(group string, change func(*config.Policy)) *config.Policy {
		p := &config.Policy{Template: true, Group: group, SrcAddress: all, DstAddress: netip.MustParsePrefix("10.2.0.0/16")}
		if change != nil {
			change(p)
		}
		return p
	}
	cfg := func(change func(*config.Config, *config.Identity)) *config.Config {
		i := &config.Identity{PeerName: "office", Mode: &config.ModeConfig{}, GeneratePolicy: "port-strict", PolicyTemplateGroup: "group"}
		c := &config.Config{Peers: []*config.Peer{{Entry: config.Entry{Name: "office"}}}, Identities: []*config.Identity{i}, Policies: []*config.Policy{
			template("other", nil), template("group", func(p *config.Policy) { p.Disabled = true }), template("group", func(p *config.Policy) { p.Template = false }), template("group", nil),
		}}
		c.Gateway.GuardAlways = true
		if change != nil {
			change(c, i)
		}
		return c
	}
	for _, c := range []struct {
		name      string
		change    func(*config.Config, *config.Identity)
		connected bool
		want      int
	}{
		{"as it is", nil, false, 1}, {"connected", nil, true, 0}, {"not always", func(c *config.Config, _ *config.Identity) { c.Gateway.GuardAlways = false }, false, 0},
		{"it generates nothing", func(_ *config.Config, i *config.Identity) { i.GeneratePolicy = config.GenerateNo }, false, 0},
		{"it gives addresses", func(_ *config.Config, i *config.Identity) { i.Mode.Responder = true }, false, 0},
		{"disabled", func(_ *config.Config, i *config.Identity) { i.Disabled = true }, false, 0},
		{"its peer is disabled", func(c *config.Config, _ *config.Identity) { c.Peers[0].Disabled = true }, false, 0},
		{"the second identity", func(c *config.Config, i *config.Identity) {
			c.Identities = []*config.Identity{{PeerName: "office"}, i}
		}, false, 1},
	} {
		got := awaited(cfg(c.change), func(peer string) bool { return c.connected && peer == "office" })
		if len(got) != c.want || c.want > 0 && (got[0].Local != all || got[0].Remote != netip.MustParsePrefix("10.2.0.0/16")) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// Sessions are resumed with a peer that is not disabled, has an identity and whose profile says so, whichever place it has.
func TestWhoResumes(t *testing.T) {
	peer := func(disabled bool, identities int, resumption bool) *config.Peer {
		p := &config.Peer{Entry: config.Entry{Disabled: disabled}, Profile: &config.Profile{Resumption: resumption}}
		for range identities {
			p.Identities = append(p.Identities, &config.Identity{})
		}
		return p
	}
	yes, no := peer(false, 1, true), peer(false, 1, false)
	for _, c := range []struct {
		name  string
		peers []*config.Peer
		want  bool
	}{
		{"nobody", nil, false}, {"one", []*config.Peer{yes}, true}, {"the second", []*config.Peer{no, yes}, true}, {"the profile does not", []*config.Peer{no}, false},
		{"disabled", []*config.Peer{peer(true, 1, true)}, false}, {"without an identity", []*config.Peer{peer(false, 0, true)}, false},
	} {
		if got := resumes(&config.Config{Peers: c.peers}); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// When the services are closed, the workers are: they take nothing any more.
func TestClosedServicesHaveNoWorkers(t *testing.T) {
	env := serviceEnv{log: slog.New(slog.DiscardHandler), edges: &Edges{}, state: &state{}, now: time.Now, answer: func(core.Answer) {}, input: func(core.Input) {}}
	s := newServices(env, serviceTable)
	s.close()
	if s.workers.mu.Lock(); !s.workers.closed {
		t.Error("the workers wait for work")
	}
	s.workers.mu.Unlock()
}

// What is reported while a comparison is due does not put it off. One that is to be tried again later comes sooner.
func TestReportPutsNothingOff(t *testing.T) {
	e := newEnemy()
	e.r.changed(e.layer)
	due := e.r.due
	e.run(gatherChanges / 2)
	if e.r.changed(e.layer); !e.r.due.Equal(due) || due.IsZero() {
		t.Errorf("due %v, and then %v", due, e.r.due)
	}
	e.r.due = e.clock.Now().Add(time.Hour)
	if e.r.changed(e.layer); !e.r.due.Equal(e.clock.Now().Add(gatherChanges)) {
		t.Errorf("due in an hour, and then at %v", e.r.due)
	}
}

// The program that judges the state file may be one without arguments.
func TestJudgeWithoutArguments(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the judge of this test is a shell script")
	}
	dir := t.TempDir()
	s, err := store.Open(filepath.Join(dir, "state"), store.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	put := func(tx store.Tx) error { return tx.Put("x", []byte("k"), []byte("v")) }
	if err := s.Update(put); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	judge := filepath.Join(dir, "judge")
	if err := os.WriteFile(judge, []byte("#!/bin/sh\necho damaged: it says so\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{}
	cfg.Gateway.StateDir = filepath.Join(dir, "state")
	g := &gateway{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	g.o.Judge = []string{judge}
	again, err := g.openStore()
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if list, _ := filepath.Glob(filepath.Join(dir, "state", "*.damaged-*")); len(list) != 1 {
		t.Errorf("the judge was not asked: set aside are %q", list)
	}
}
