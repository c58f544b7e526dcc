package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/operate/control"
	"culvert/internal/operate/control/table"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run go test ./cmd/culvert -update, and read what it wrote", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./cmd/culvert -update writes it anew):\n%s", path, got)
	}
}

// call runs culvert in this process.
func call(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(args, &out, &err)
	return code, out.String(), err.String()
}

// quiet removes what the machine could bring into the output.
func quiet(t *testing.T) {
	t.Helper()
	t.Setenv("CULVERT_CONTROL", "")
	t.Setenv("COLUMNS", "80")
}

// tables is a backend that is a value. What it does not override is not called.
type tables struct {
	control.Backend
	policies  []control.Policy
	installed []control.InstalledSA
	active    []control.ActivePeer
	report    control.ReloadReport
	fault     error

	redirected control.RedirectQuery
	asked      control.PacketQuery // of explain packet, the last
	added      control.ManualSA    // the last
	deleted    uint32
}

func (g *tables) Policies(context.Context) ([]control.Policy, error) { return g.policies, g.fault }
func (g *tables) ActivePeers(context.Context) ([]control.ActivePeer, error) {
	return g.active, g.fault
}
func (g *tables) Peers(context.Context) ([]control.Peer, error) {
	return []control.Peer{{Name: "site2", Address: "192.168.80.1/32", Port: 500, NATTPort: 4500, Childless: "no", Profile: "default", ExchangeMode: "ike2", SendInitialContact: true}}, g.fault
}
func (g *tables) Profiles(context.Context) ([]control.Profile, error) {
	return []control.Profile{{Default: true, Name: "default", HashAlgorithm: "sha1", EncAlgorithm: "aes-128", DHGroup: "modp1024,modp2048", Lifetime: 86400, DPDInterval: 120, DPDMaximumFailures: 5}}, g.fault
}
func (g *tables) ModeConfigs(context.Context) ([]control.ModeConfig, error) {
	return []control.ModeConfig{{Default: true, Name: "request-only"}, {Number: 1, Name: "ike2-conf", Responder: true, AddressPool: "ike2-pool", SplitInclude: "10.5.8.0/24"}}, g.fault
}
func (g *tables) Pools(context.Context) ([]control.Pool, error) {
	return []control.Pool{{Name: "ike2-pool", Ranges: "192.168.77.2-192.168.77.254", NextPool: "none", Used: 3, Kept: 4}}, g.fault
}
func (g *tables) PolicyGroups(context.Context) ([]control.PolicyGroup, error) {
	return []control.PolicyGroup{{Default: true, Name: "default"}}, g.fault
}
func (g *tables) Proposals(context.Context) ([]control.Proposal, error) {
	return []control.Proposal{{Default: true, Name: "default", AuthAlgorithms: "sha1", EncAlgorithms: "aes-256-cbc,aes-192-cbc,aes-128-cbc", Lifetime: 1800, PFSGroup: "modp1024", ESN: "both", ReplayWindow: 128}}, g.fault
}
func (g *tables) Identities(_ context.Context, show bool) ([]control.Identity, error) {
	rows := []control.Identity{{Peer: "site2", AuthMethod: "pre-shared-key", MyID: "auto", RemoteID: "auto", MatchBy: "remote-id", GeneratePolicy: "no", PolicyTemplateGroup: "default"}}
	if show {
		rows[0].Secret = "thisisnotasecurepsk"
	}
	return rows, g.fault
}
func (g *tables) InstalledSAs(_ context.Context, show bool) ([]control.InstalledSA, error) {
	rows := append([]control.InstalledSA(nil), g.installed...)
	for i := range rows {
		if !show {
			rows[i].AuthKey, rows[i].EncKey = "", ""
		}
	}
	return rows, g.fault
}
func (g *tables) Offloads(context.Context) ([]control.Offload, error) {
	return []control.Offload{{Place: "culvert0", Name: "read-tcp-joined", InUse: true, Detail: "segments come as one"},
		{Number: 1, Place: "0.0.0.0:4500", Name: "send-udp-joined", Detail: "no UDP_SEGMENT"}}, g.fault
}
func (g *tables) Statistics(context.Context) ([]control.Statistic, error) {
	var rows []control.Statistic
	for i, name := range control.StatisticNames() {
		rows = append(rows, control.Statistic{Name: name, Value: uint64(i * i)})
	}
	rows = append(rows, control.Statistic{Name: "out-link-local", Value: 7})
	return rows, g.fault
}
func (g *tables) Flush(context.Context) (int, error)           { return 1, g.fault }
func (g *tables) KillConnections(context.Context) (int, error) { return 2, g.fault }
func (g *tables) Redirect(_ context.Context, q control.RedirectQuery) (control.RedirectReport, error) {
	g.redirected = q
	return control.RedirectReport{Sent: 2, Stay: len(q.Peer)}, g.fault
}
func (g *tables) AddSA(_ context.Context, sa control.ManualSA) ([]string, error) {
	g.added = sa
	return []string{"mind the key"}, g.fault
}
func (g *tables) DeleteSA(_ context.Context, spi uint32) error {
	g.deleted = spi
	return g.fault
}
func (g *tables) Rekey(_ context.Context, children bool) (int, error) {
	if children {
		return 3, g.fault
	}
	return 4, g.fault
}
func (g *tables) Reload(context.Context) (control.ReloadReport, error) { return g.report, g.fault }

func sample() *tables {
	return &tables{
		policies: []control.Policy{
			{Template: true, Default: true, Group: "default", SrcAddress: "::/0", DstAddress: "::/0", Protocol: "all", Proposal: "default"},
			{Number: 1, Active: true, SrcAddress: "10.1.202.0/24", SrcPort: "any", DstAddress: "10.1.101.0/24", DstPort: "any", Protocol: "all",
				Action: "encrypt", Level: "require", IPsecProtocols: "esp", Tunnel: control.Yes, SASrcAddress: "192.168.90.1", SADstAddress: "192.168.80.1",
				Proposal: "default", Peer: "site2", Ph2Count: 1, Ph2State: "established", Comment: "büro 2"},
			{Number: 2, Disabled: true, SrcAddress: "10.1.202.0/24", SrcPort: "any", DstAddress: "0.0.0.0/0", DstPort: "25", Protocol: "tcp", Action: "discard", Tunnel: control.No},
		},
		active: []control.ActivePeer{{Responder: true, NATTPeer: true, ID: "evil\x1b[2J", Peer: "site2", LocalAddress: "192.168.90.1", RemoteAddress: "192.168.80.1",
			State: "established", Side: "responder", Uptime: 3720, LastSeen: 3, Ph2Total: 1, RxBytes: 1 << 40, RxPackets: 12, TxBytes: 7, TxPackets: 1, MyID: "site1",
			Negotiated: control.Negotiated{EncAlgorithm: "aes-256", HashAlgorithm: "sha256", PRFAlgorithm: "sha384", DHGroup: "x25519+ml-kem-768", RekeyIn: 5400}}},
		installed: []control.InstalledSA{
			{ESP: true, SPI: control.SPI(0xabc1234), SrcAddress: "192.168.80.1:4500", DstAddress: "192.168.90.1:4500", State: "mature", AuthAlgorithm: "sha1",
				EncAlgorithm: "aes-cbc", EncKeySize: 256, AuthKey: "aabb", EncKey: "ccdd", AddLifetime: control.Lifetime{Soft: 1440, Hard: 1800}, Addtime: "2024-03-01 13:04:05", ExpiresIn: 720,
				CurrentBytes: 123456, CurrentPackets: 99, Replay: 128, Peer: "site2", Policy: "1"},
			{Number: 1, HWAEAD: true, ESP: true, SPI: control.SPI(7), SrcAddress: "192.168.90.1:4500", DstAddress: "192.168.80.1:4500", State: "mature", AuthAlgorithm: "null",
				EncAlgorithm: "aes-gcm", EncKeySize: 128, EncKey: "3344", AddLifetime: control.Lifetime{Soft: 1440, Hard: 1800}, Addtime: "2024-03-01 13:04:05", ExpiresIn: 720,
				CurrentBytes: 7, CurrentPackets: 1, Replay: 128, Peer: "site2", Policy: "1"},
		},
		report: control.ReloadReport{Changes: []string{"peer site2: changed; its SAs are established again"}, Warnings: []string{"site.toml:2: peer.lifebytes: not used by ike2"}},
	}
}

// serve answers for g at a control socket until the test ends, and has every call find it.
func serve(t *testing.T, g *tables) {
	t.Helper()
	quiet(t)
	path := filepath.Join(t.TempDir(), "control.sock")
	if runtime.GOOS == "windows" {
		path = `\\.\pipe\culvert-cmd-` + strings.ReplaceAll(t.Name(), "/", "-")
	}
	t.Setenv("CULVERT_CONTROL", path)
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, l, g) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestPrint(t *testing.T) {
	serve(t, sample())
	for _, menu := range menus {
		code, out, stderr := call(menu, "print")
		if code != exitOK || stderr != "" {
			t.Errorf("%s print: %d, %s", menu, code, stderr)
		}
		golden(t, menu+".txt", out)
	}
	_, out, _ := call("policy", "print", "--detail")
	golden(t, "policy-detail.txt", out)
	_, out, _ = call("active-peers", "print", "--detail")
	golden(t, "active-peers-detail.txt", out)
	_, out, _ = call("installed-sa", "print", "--show-secrets")
	golden(t, "installed-sa-secrets.txt", out)
	_, out, _ = call("statistics", "print", "--all")
	golden(t, "statistics-all.txt", out)
	_, out, _ = call("installed-sa", "print", "--json")
	golden(t, "installed-sa.json", out)
}

func TestPrintJSONIsWhatTheGatewaySaid(t *testing.T) {
	g := sample()
	serve(t, g)
	_, out, _ := call("policy", "print", "--json")
	var rows []control.Policy
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(g.policies) || rows[1] != g.policies[1] {
		t.Errorf("got %+v", rows)
	}
	g.policies = nil
	if _, out, _ := call("policy", "print", "--json"); out != "[]\n" {
		t.Errorf("no policies: %q", out)
	}
}

func TestSecretsOnlyWhenAskedFor(t *testing.T) {
	serve(t, sample())
	for _, c := range []struct{ menu, secret string }{{"identity", "thisisnotasecurepsk"}, {"installed-sa", "ccdd"}} {
		for _, format := range []string{"", "--json", "--detail"} {
			args := strings.Fields(c.menu + " print " + format)
			if _, out, _ := call(args...); strings.Contains(out, c.secret) {
				t.Errorf("%v shows the secret", args)
			}
			args = append(args, "--show-secrets")
			if _, out, _ := call(args...); !strings.Contains(out, c.secret) {
				t.Errorf("%v does not show the secret", args)
			}
		}
	}
	if code, _, _ := call("policy", "print", "--show-secrets"); code != exitUsage {
		t.Errorf("a menu without secrets takes --show-secrets: %d", code)
	}
}

// menus have a print command.
var menus = []string{"policy", "peer", "identity", "profile", "proposal", "mode-config", "pool", "policy-group", "active-peers", "installed-sa", "statistics"}

// third ends a context with the third thing that is written.
type third struct {
	bytes.Buffer
	n   int
	end context.CancelFunc
}

func (w *third) Write(p []byte) (int, error) {
	if w.n++; w.n == 3 {
		w.end()
	}
	return w.Buffer.Write(p)
}

// --watch prints again and again, each time whole.
func TestWatch(t *testing.T) {
	serve(t, sample())
	for _, menu := range menus {
		for _, width := range []int{0, 1000} {
			ctx, end := context.WithCancel(context.Background())
			w := &third{end: end}
			var stderr bytes.Buffer
			s := &session{ctx: ctx, stdout: w, stderr: &stderr, width: width, every: time.Nanosecond}
			code := s.run([]string{menu, "print", "--watch"})
			once, _ := os.ReadFile(filepath.Join("testdata", menu+".txt"))
			want := string(once)
			if width > 0 {
				want = "\x1b[H\x1b[2J" + want
			}
			if got := w.String(); code != exitOK || stderr.Len() > 0 || !strings.HasPrefix(got, want+want+want) {
				t.Errorf("%s print --watch: %d %s\n%q", menu, code, &stderr, got)
			}
			end()
		}
	}
	g := sample()
	g.fault = errors.New("gone")
	serve(t, g)
	if code, out, stderr := call("policy", "print", "--watch"); code != exitFailed || out != "" || stderr != "culvert: gone\n" {
		t.Errorf("a gateway that is gone: %d %q %q", code, out, stderr)
	}
}

func TestEmptyTable(t *testing.T) {
	serve(t, &tables{})
	want := "Flags: T - template, X - disabled, D - dynamic, I - invalid, A - active, * - default\n(no entries)\n"
	for _, args := range [][]string{{"policy", "print"}, {"policy", "print", "--detail"}} {
		if code, out, _ := call(args...); code != exitOK || out != want {
			t.Errorf("%v: %d %q", args, code, out)
		}
	}
}

func TestTableFitsTheTerminal(t *testing.T) {
	rows := sample().policies
	for _, c := range []struct {
		width int
		name  string
	}{{80, "policy-80.txt"}, {120, "policy-120.txt"}, {1000, "policy.txt"}} {
		var b strings.Builder
		if err := table.Write(&b, rows, c.width); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if n := len([]rune(line)) - 1; n > c.width && !strings.HasPrefix(line, "Flags: ") {
				t.Errorf("width %d: a line has %d columns: %s", c.width, n, line)
			}
		}
		golden(t, c.name, b.String())
	}
}

func TestCommands(t *testing.T) {
	g := sample()
	serve(t, g)
	for _, c := range []struct{ args, out, stderr string }{
		{"installed-sa flush", "removed 1 SA pair\n", ""},
		{"installed-sa rekey", "rekeying 3 SA pairs\n", ""},
		{"active-peers kill-connections", "disconnected 2 peers\n", ""},
		{"active-peers redirect 192.0.2.9", "redirected 2 peers to 192.0.2.9\n", ""},
		{"active-peers redirect --peer p --within 5m gw2.example.net", "redirected 2 peers to gw2.example.net\n1 peer cannot be redirected: see culvert active-peers redirect --help\n", ""},
		{"active-peers rekey", "rekeying 4 IKE SAs\n", ""},
		{"reload", "peer site2: changed; its SAs are established again\n", "warning: site.toml:2: peer.lifebytes: not used by ike2\n"},
	} {
		code, out, stderr := call(strings.Fields(c.args)...)
		if code != exitOK || out != c.out || stderr != c.stderr {
			t.Errorf("%s: %d %q %q", c.args, code, out, stderr)
		}
	}
	if want := (control.RedirectQuery{To: "gw2.example.net", Peer: "p", Within: 5 * time.Minute}); g.redirected != want {
		t.Errorf("redirect: %+v", g.redirected)
	}
	g.report = control.ReloadReport{}
	if _, out, _ := call("reload"); out != "nothing changed\n" {
		t.Errorf("reload without changes: %q", out)
	}
	g.fault = errors.New("site.toml:3: peer.address: write a prefix\nsite.toml:9: policy.peer: no such peer")
	for _, args := range []string{"reload", "installed-sa flush", "active-peers rekey", "policy print", "offload print", "statistics print"} {
		code, out, stderr := call(strings.Fields(args)...)
		if code != exitFailed || out != "" || stderr != "culvert: "+g.fault.Error()+"\n" {
			t.Errorf("%s that fails: %d %q %q", args, code, out, stderr)
		}
	}
}

func TestOffloadPrint(t *testing.T) {
	serve(t, sample())
	code, out, _ := call("offload", "print")
	want := "#  PLACE         NAME             IN-USE  DETAIL\n0  culvert0      read-tcp-joined  yes     segments come as one\n1  0.0.0.0:4500  send-udp-joined  no      no UDP_SEGMENT\n"
	if code != exitOK || out != want {
		t.Errorf("%d\n%s", code, out)
	}
}

func TestVersion(t *testing.T) {
	quiet(t)
	nowhere := filepath.Join(t.TempDir(), "none.sock")
	code, out, _ := call("--control", nowhere, "version")
	if code != exitOK || out != control.ReadVersion().String()+"\n" || !strings.Contains(out, runtime.Version()) {
		t.Errorf("version: %d %q", code, out)
	}
	var v struct {
		Go      string
		Running *control.Version
	}
	_, out, _ = call("--control", nowhere, "version", "--json")
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Go != runtime.Version() || v.Running != nil {
		t.Errorf("version --json without a gateway: %v, %s", err, out)
	}
	serve(t, sample())
	_, out, _ = call("version", "--json")
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Running == nil || *v.Running != control.ReadVersion() {
		t.Errorf("version --json with a gateway: %v, %s", err, out)
	}
}

func TestHelpTeaches(t *testing.T) {
	quiet(t)
	code, out, stderr := call("--help")
	if code != exitOK || stderr != "" {
		t.Errorf("--help: %d %q", code, stderr)
	}
	golden(t, "help.txt", strings.ReplaceAll(out, control.DefaultPath, "/run/culvert/control.sock"))
}

// TestEveryCommandHasAnExample walks the commands that the top page lists.
func TestEveryCommandHasAnExample(t *testing.T) {
	quiet(t)
	_, top, _ := call("--help")
	listed := 0
	for line := range strings.Lines(top[strings.Index(top, "The gateway:"):strings.Index(top, "\nFlags:")]) {
		name, _, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok || !strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "     ") {
			continue
		}
		listed++
		code, out, _ := call(append(strings.Fields(name), "--help")...)
		if _, example, ok := strings.Cut(out, "Example:\n"); code != exitOK || !ok || !strings.Contains(example, "culvert "+name) {
			t.Errorf("culvert %s --help: %d, has no example of itself:\n%s", name, code, out)
		}
	}
	if listed < 15 {
		t.Errorf("only %d commands found in:\n%s", listed, top)
	}
}

func TestWrongUsage(t *testing.T) {
	quiet(t)
	for _, c := range []struct{ args, says string }{
		{"", "culvert --help"},
		{"polcy print", `did you mean "policy"`},
		{"policy", "culvert policy --help"},
		{"policy print extra", "extra"},
		{"policy print --jsom", "--jsom"},
		{"check", "name one file"},
		{"check -c", "culvert check --help"},
		{"check -c a b", "name one file"},
		{"--control", "--control"},
		{"--version", "see: culvert version"},
		{"help run", "see: culvert --help"},
		{"status", "see: culvert active-peers print"},
	} {
		code, out, stderr := call(strings.Fields(c.args)...)
		if code != exitUsage || out != "" || !strings.Contains(stderr, c.says) {
			t.Errorf("culvert %s: %d %q %q, want %q", c.args, code, out, stderr, c.says)
		}
	}
}

func TestGatewayIsNotRunning(t *testing.T) {
	quiet(t)
	path := filepath.Join(t.TempDir(), "none.sock")
	t.Setenv("CULVERT_CONTROL", "/this/one/is/overridden")
	code, out, stderr := call("policy", "print", "--control", path)
	if code != exitFailed || out != "" || !strings.Contains(stderr, path+": culvert is not running") || !strings.Contains(stderr, "culvert run -c FILE") {
		t.Errorf("%d %q %q", code, out, stderr)
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, exitOK},
		{errReported, exitFailed},
		{io.ErrUnexpectedEOF, exitFailed},
		{fmt.Errorf("p: %w", control.ErrNotRunning), exitFailed},
		{fmt.Errorf("p: %w", control.ErrPermission), exitEnvironment},
		{&fs.PathError{Op: "open", Path: "/dev/net/tun", Err: syscall.EPERM}, exitEnvironment},
		{fmt.Errorf("listen: %w", syscall.EADDRINUSE), exitEnvironment},
	} {
		if got := exitCode(c.err); got != c.code {
			t.Errorf("%v: %d, want %d", c.err, got, c.code)
		}
	}
}
