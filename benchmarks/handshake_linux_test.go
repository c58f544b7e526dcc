package benchmarks

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"culvert/internal/testing/lab"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(loadEnv); text != "" {
		if err := runLoad(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(lab.Main(m))
}

// A responder is a gateway under load: how it is started on a node.
type responder struct {
	name  string
	start func(ctx context.Context, b *testing.B, n *lab.Node, h *handshake) *lab.Process
}

// A handshake is one kind of them: how both ends prove who they are, and the group.
type handshake struct {
	name  string
	certs *certs // nil: by a preshared key
	group string
	v1    bool // IKEv1, main and quick mode
}

// exchange is the exchange-mode, and cipher that of the IKE SA, which is no AEAD in IKEv1.
func (h *handshake) exchange() (mode, cipher string) {
	if h.v1 {
		return "main", "aes-128"
	}
	return "ike2", "aes-128-gcm"
}

var responders = []responder{{"culvert", startCulvert}, {"charon", startCharon}}

// BenchmarkHandshakes loads each gateway with the same initiators, in the same
// run: IKE_SA_INIT, IKE_AUTH with a CHILD SA, and the Delete, or main mode and quick mode, and the Delete. What counts is
// handshakes per second of CPU time of the responder's process, so that it does
// not matter that the load is made on the same cores.
func BenchmarkHandshakes(b *testing.B) {
	lab.Need(b)
	for _, h := range []handshake{{"psk-x25519", nil, "x25519", false}, {"psk-modp2048", nil, "modp2048", false}, {"ecdsa-ecp256", newCerts(), "ecp256", false},
		{"v1-psk-modp2048", nil, "modp2048", true}, {"v1-psk-ecp256", nil, "ecp256", true}} {
		rates := map[string]float64{}
		for _, r := range responders {
			b.Run(h.name+"/"+r.name, func(b *testing.B) {
				rates[r.name] = measure(b, r, &h)
				b.ReportMetric(rates[r.name], "handshakes/cpu-s")
				b.ReportMetric(0, "ns/op")
			})
		}
		if rates["charon"] > 0 {
			b.Logf("%s: culvert %.0f, charon %.0f handshakes per CPU second: ratio %.2f", h.name, rates["culvert"], rates["charon"], rates["culvert"]/rates["charon"])
		}
	}
}

const (
	loadTime       = 8 * time.Second
	loadInitiators = 16
)

func measure(b *testing.B, r responder, h *handshake) float64 {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l := lab.New(b)
	gate, clients := l.Node("gate"), l.Node("clients")
	target, local := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")
	l.Wire(lab.End{Node: gate, Device: "eth0", Prefix: netip.PrefixFrom(target, 24)}, lab.End{Node: clients, Device: "eth0", Prefix: netip.PrefixFrom(local, 24)})
	p := r.start(ctx, b, gate, h)
	before := cpuTime(b, p)
	got := runClients(ctx, b, clients, load{Target: target, Local: local, Group: h.group, V1: h.v1, Certs: h.certs, Initiators: loadInitiators, Duration: loadTime})
	used := cpuTime(b, p) - before
	if got.Handshakes == 0 || got.Failures > got.Handshakes/100 {
		b.Fatalf("%d handshakes, %d failures; log of %s:\n%s", got.Handshakes, got.Failures, r.name, tail(p.Log()))
	}
	b.Logf("%s: %d handshakes in %v wall, %v CPU, %d failures", r.name, got.Handshakes, got.Took.Round(time.Millisecond), used, got.Failures)
	return float64(got.Handshakes) / used.Seconds()
}

func tail(s string) string { return s[max(0, len(s)-4000):] }

// runClients runs the load generator on a node.
func runClients(ctx context.Context, b *testing.B, n *lab.Node, l load) loaded {
	p := startClients(b, n, l)
	if err := p.Wait(ctx); err != nil {
		b.Fatalf("the load generator: %v\n%s", err, p.Log())
	}
	got, ok := lastWord(p)
	if !ok {
		b.Fatalf("the load generator said %q", p.Log())
	}
	return got
}

func startClients(b *testing.B, n *lab.Node, l load) *lab.Process {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	text, err := json.Marshal(l)
	if err != nil {
		b.Fatal(err)
	}
	return n.Start("load", []string{loadEnv + "=" + string(text)}, self)
}

// lastWord is what the load generator says when it is done; progress comes before it.
func lastWord(p *lab.Process) (got loaded, ok bool) {
	lines := strings.Split(strings.TrimSpace(p.Log()), "\n")
	err := json.Unmarshal([]byte(lines[len(lines)-1]), &got)
	return got, err == nil
}

// cpuTime is user and system time of a process so far.
func cpuTime(b *testing.B, p *lab.Process) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	ticks := 0
	for _, i := range []int{11, 12} { // utime, stime
		n, err := strconv.Atoi(f[i])
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}

const loadTOML = `
[gateway]
tun = "culvert0"
log-level = "error"
[[profile]]
name = "load"
enc-algorithm = %q
hash-algorithm = "sha256"
dh-group = %q
dpd-interval = "disable-dpd"
[[proposal]]
name = "load"
enc-algorithms = "aes-128-gcm"
pfs-group = "none"
[[peer]]
name = "clients"
address = "0.0.0.0/0"
exchange-mode = %q
profile = "load"
passive = true
%s
[[policy]]
peer = "clients"
src-address = "10.2.0.0/16"
dst-address = "10.76.0.0/14"
tunnel = true
proposal = "load"
`

const (
	loadPSK = `
[[identity]]
peer = "clients"
secret = "` + loadSecret + `"
my-id = "fqdn:gate.example"
`
	loadSignature = `
[[certificate]]
name = "ca"
file = "ca.pem"
[[certificate]]
name = "gate"
file = "gate.pem"
key-file = "gate.key"
[[identity]]
peer = "clients"
auth-method = "digital-signature"
certificate = "gate"
my-id = "fqdn:gate.example"
`
)

func startCulvert(ctx context.Context, b *testing.B, n *lab.Node, h *handshake) *lab.Process {
	path, err := lab.Binary()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	conf, sock := filepath.Join(dir, "load.toml"), filepath.Join(dir, "sock")
	mode, cipher := h.exchange()
	identity := loadPSK
	if h.certs != nil {
		identity = loadSignature
		write(b, filepath.Join(dir, "ca.pem"), h.certs.CA)
		write(b, filepath.Join(dir, "gate.pem"), h.certs.Gate)
		write(b, filepath.Join(dir, "gate.key"), h.certs.gateKey)
	}
	write(b, conf, fmt.Sprintf(loadTOML, cipher, h.group, mode, identity))
	p := n.Start("culvert", nil, path, "--control", sock, "run", "-c", conf)
	waitFor(ctx, b, p, sock)
	return p
}

const loadStrongswanConf = `charon {
	load = random nonce aes sha1 sha2 hmac gcm kdf pem pkcs1 pkcs8 x509 pubkey constraints openssl curve25519 kernel-libipsec kernel-netlink socket-default vici
	install_routes = no
	half_open_timeout = 30
	cookie_threshold = 0
	block_threshold = 0
	init_limit_half_open = 0
	syslog {
		daemon {
			default = -1
		}
	}
	filelog {
		stderr {
			default = -1
		}
	}
	plugins {
		vici {
			socket = unix://%s
		}
	}
}
`

const loadSwanctl = `connections {
	clients {
		version = %d
		local_addrs = 10.9.0.1
		remote_addrs = %%any
		proposals = %s-%s
		unique = never
		local {
			%s
			id = gate.example
		}
		remote {
			%s
			id = %%any
		}
		children {
			c {
				local_ts = 10.2.0.0/16
				remote_ts = 10.76.0.0/14
				esp_proposals = aes128gcm16
			}
		}
	}
}
secrets {
	ike-1 {
		secret = %q
	}
}
`

func startCharon(ctx context.Context, b *testing.B, n *lab.Node, h *handshake) *lab.Process {
	dir := b.TempDir()
	version, proposal := 2, "aes128gcm16-prfsha256"
	if h.v1 {
		version, proposal = 1, "aes128-sha256"
	}
	local, remote := "auth = psk", "auth = psk"
	files := map[string][]byte{}
	if h.certs != nil {
		local, remote = "auth = pubkey\n\t\t\tcerts = gate.pem", "auth = pubkey"
		files = map[string][]byte{"x509ca/ca.pem": []byte(h.certs.CA), "x509/gate.pem": []byte(h.certs.Gate), "private/gate.pem": []byte(h.certs.gateKey)}
	}
	conf, sock, swanctl := filepath.Join(dir, "strongswan.conf"), filepath.Join(dir, "vici"), "swanctl.conf"
	write(b, conf, fmt.Sprintf(loadStrongswanConf, sock))
	files[swanctl] = []byte(fmt.Sprintf(loadSwanctl, version, proposal, h.group, local, remote, loadSecret))
	n.SwanctlFiles(files)
	p := n.Start("charon", []string{"STRONGSWAN_CONF=" + conf}, lab.Charon)
	waitFor(ctx, b, p, sock)
	n.Run("swanctl", "--load-all", "--uri", "unix://"+sock, "--file", n.SwanctlFile(swanctl))
	return p
}

func write(b *testing.B, path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

// waitFor waits for a daemon's socket.
func waitFor(ctx context.Context, b *testing.B, p *lab.Process, sock string) {
	err := lab.Until(ctx, func() error {
		if p.Ended() {
			return nil
		}
		_, err := os.Stat(sock)
		return err
	})
	if err != nil || p.Ended() {
		b.Fatalf("%s did not start: %v\n%s", p.Name, err, p.Log())
	}
	time.Sleep(300 * time.Millisecond)
}
