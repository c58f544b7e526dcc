package benchmarks

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"culvert/ike"
	"culvert/ike/core"
	"culvert/internal/operate/control"
	"culvert/internal/testing/lab"
	"culvert/spd/selector"
)

// crowd is what the load generator is told when it shall keep its SAs: many
// clients on few sockets, each with one IKE SA and one CHILD SA, which answer
// the gateway's liveness checks until the time is over.
const (
	crowdSockets = 64
	crowdWindow  = 8 // handshakes under way per socket
	crowdAddrs   = 8 // for the sockets: together fewer handshakes on each than a gateway takes from one address
)

type crowdSocket struct {
	load    *load
	conn    *net.UDPConn
	port    uint16
	clients map[uint64]*crowdClient // by their SPI
	busy    map[*crowdClient]bool
}

type crowdClient struct {
	e       *ike.Endpoint
	started time.Time
	up      bool
	number  int
}

// runCrowd brings all clients up, says so on standard output, and keeps them
// until the process is killed. Progress goes to standard error.
func runCrowd(l *load) error {
	var up, failed atomic.Int64
	start := time.Now()
	errs := make(chan error, crowdSockets)
	for s := range crowdSockets {
		go func() {
			l := *l
			for range s % crowdAddrs {
				l.Local = l.Local.Next()
			}
			conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.Local, 0)))
			if err != nil {
				errs <- err
				return
			}
			_ = conn.SetReadBuffer(4 << 20)
			c := &crowdSocket{load: &l, conn: conn, port: conn.LocalAddr().(*net.UDPAddr).AddrPort().Port(),
				clients: map[uint64]*crowdClient{}, busy: map[*crowdClient]bool{}}
			errs <- c.run(s, &up, &failed)
		}()
	}
	for told := false; ; {
		select {
		case err := <-errs:
			return err
		case <-time.After(time.Second):
		}
		if told {
			continue
		}
		fmt.Fprintf(os.Stderr, "%v: %d up, %d failed\n", time.Since(start).Round(time.Second), up.Load(), failed.Load())
		if told = up.Load()+failed.Load() == int64(l.Initiators); told {
			if err := json.NewEncoder(os.Stdout).Encode(loaded{uint64(up.Load()), uint64(failed.Load()), time.Since(start)}); err != nil {
				return err
			}
		}
	}
}

// run returns only when the socket fails.
func (c *crowdSocket) run(s int, up, failed *atomic.Int64) error {
	buf := make([]byte, 4096)
	next := s
	for {
		for len(c.busy) < crowdWindow && next < c.load.Initiators {
			c.begin(next)
			next += crowdSockets
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, from, err := c.conn.ReadFromUDPAddrPort(buf)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if err == nil {
			data, natt := buf[:n], from.Port() == 4500
			if natt && n > 4 {
				data = data[4:]
			}
			if len(data) < 8 {
				continue
			}
			if k := c.clients[binary.BigEndian.Uint64(data)]; k != nil {
				c.input(k, core.Datagram{Local: netip.AddrPortFrom(c.load.Local, c.port),
					Remote: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), NATT: natt, Data: data})
			}
			if len(c.busy) == 0 {
				continue
			}
		}
		now := time.Now()
		for k := range c.busy {
			if k.up {
				delete(c.busy, k)
				up.Add(1)
				continue
			}
			if at, ok := k.e.Deadline(); ok && !at.After(now) {
				c.input(k, core.Tick{})
			}
			if now.Sub(k.started) > 3*time.Minute {
				delete(c.busy, k)
				failed.Add(1)
			}
		}
	}
}

func (c *crowdSocket) begin(number int) {
	in := &initiator{load: c.load, index: number}
	cfg := in.config(c.port)
	cfg.Peers[0].Profile.Lifetime = 48 * time.Hour
	cfg.Policies[0].Proposal.Lifetime = 48 * time.Hour
	cfg.Peers[0].Identities[0].Mode = &core.ModeConfig{Name: "ask"} // the gateway says which address of the pool it is
	cfg.Policies[0].Pair.Local = selector.FromPrefix(netip.MustParsePrefix(crowdPool))
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(time.Now().UnixNano()))
	binary.BigEndian.PutUint64(seed[8:], uint64(number))
	k := &crowdClient{e: ike.New(seed), started: time.Now(), number: number}
	c.busy[k] = true
	c.input(k, core.Reconfigure{Config: cfg})
}

func (c *crowdSocket) input(k *crowdClient, in core.Input) {
	k.e.Handle(time.Now(), in)
	for {
		o, ok := k.e.Poll()
		if !ok {
			return
		}
		switch o := o.(type) {
		case core.Send:
			c.clients[binary.BigEndian.Uint64(o.Data)] = k
			data := o.Data
			if o.NATT {
				data = append(make([]byte, 4, 4+len(data)), data...)
			}
			_, _ = c.conn.WriteToUDPAddrPort(data, o.Remote)
		case core.Ask:
			b, err := o.Work.Do()
			k.e.Handle(time.Now(), core.Answer{ID: o.ID, Data: b, Err: err})
		case core.NeedSPIs:
			k.e.Handle(time.Now(), core.SPIs{SPIs: []uint32{0x10000 + uint32(k.number)*4, 0x10001 + uint32(k.number)*4, 0x10002 + uint32(k.number)*4}})
		case core.Event:
			if o.Kind == core.EvChildUp {
				k.up = true
			}
		}
	}
}

// BenchmarkEstablished holds IKE SAs with one CHILD SA each and DPD running, each
// of a road warrior with an address of a pool and a policy of its own. It reports
// the resident memory of the gateway's process, what it computes while nothing
// happens but liveness checks, and how long the commands take that meet every SA.
// CULVERT_CROWD is how many; 100000 if it is not set.
func BenchmarkEstablished(b *testing.B) {
	lab.Need(b)
	crowd := 100_000
	if text := os.Getenv("CULVERT_CROWD"); text != "" {
		var err error
		if crowd, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	const hold = 150 * time.Second // longer than the liveness checks' interval of two minutes
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute+hold+time.Duration(crowd)*5*time.Millisecond)
	defer cancel()
	l := lab.New(b)
	gate, clients := l.Node("gate"), l.Node("clients")
	target, local := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")
	l.Wire(lab.End{Node: gate, Device: "eth0", Prefix: netip.PrefixFrom(target, 24)}, lab.End{Node: clients, Device: "eth0", Prefix: netip.PrefixFrom(local, 24)})
	for a, n := local.Next(), 1; n < crowdAddrs; a, n = a.Next(), n+1 {
		clients.Run("ip", "addr", "add", netip.PrefixFrom(a, 24).String(), "dev", "eth0")
	}
	g := startCrowdGate(ctx, b, gate)
	empty := memory(b, g.Process)
	c := startClients(b, clients, load{Target: target, Local: local, Group: "x25519", Initiators: crowd, Keep: true})

	most, idle := 0, time.Duration(0)
	for held := (time.Time{}); held.IsZero() || time.Since(held) < hold; time.Sleep(time.Second) {
		if most = max(most, memory(b, g.Process)); ctx.Err() != nil || c.Ended() {
			b.Fatalf("not all came up; the clients:\n%s\nthe gateway:\n%s", tail(c.Log()), tail(g.Log()))
		}
		if up, ok := lastWord(c); ok && held.IsZero() {
			if up.Failures > 0 {
				b.Fatalf("%d of %d up, %d failed; log of the gateway:\n%s", up.Handshakes, crowd, up.Failures, tail(g.Log()))
			}
			b.Logf("%d IKE SAs and CHILD SAs, made in %v, CPU %v", crowd, up.Took.Round(time.Second), cpuTime(b, g.Process))
			held, idle = time.Now(), cpuTime(b, g.Process)
		}
	}
	b.ReportMetric(float64(empty)/1024, "MiB-empty")
	b.ReportMetric(float64(most)/1024, "MiB-most")
	b.ReportMetric(float64(most-empty)/float64(crowd), "KiB/SA")
	b.ReportMetric(float64(cpuTime(b, g.Process)-idle)/float64(hold)*100, "%cpu-held")
	b.ReportMetric(0, "ns/op")
	g.meetAll(ctx, b, crowd)
}

// meetAll times what meets every SA, SIGTERM last. All of them have to be up still.
func (g *crowdGate) meetAll(ctx context.Context, b *testing.B, crowd int) {
	for _, cmd := range []string{"active-peers print", "installed-sa print", "policy print", "reload"} {
		start := time.Now()
		out := g.command(b, strings.Fields(cmd)...)
		b.Logf("%s: %v, %d lines", cmd, time.Since(start).Round(10*time.Millisecond), strings.Count(out, "\n"))
	}
	b.Logf("memory after that: %d MiB", memory(b, g.Process)/1024)
	var peers []control.ActivePeer
	if err := json.Unmarshal([]byte(g.command(b, "active-peers", "print", "--json")), &peers); err != nil {
		b.Fatal(err)
	}
	up := 0
	for _, p := range peers {
		if p.State == "established" && p.Ph2Total == 1 {
			up++
		}
	}
	if up != crowd {
		b.Fatalf("%d SAs are still up with a CHILD SA, not %d", up, crowd)
	}
	start := time.Now()
	if err := g.Signal(syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	if err := g.Wait(ctx); err != nil {
		b.Fatalf("the gateway: %v\n%s", err, tail(g.Log()))
	}
	b.Logf("SIGTERM: %v", time.Since(start).Round(10*time.Millisecond))
}

// memory is the resident memory of a process in KiB.
func memory(b *testing.B, p *lab.Process) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		b.Fatal(err)
	}
	for line := range bytes.Lines(status) {
		if f := strings.Fields(string(line)); len(f) > 1 && f[0] == "VmRSS:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

const crowdTOML = `
[gateway]
tun = "culvert0"
log-level = "error"
state-dir = %q
[[profile]]
name = "load"
enc-algorithm = "aes-128-gcm"
hash-algorithm = "sha256"
dh-group = "x25519"
lifetime = "2d"
[[proposal]]
name = "load"
enc-algorithms = "aes-128-gcm"
pfs-group = "none"
lifetime = "2d"
[[pool]]
name = "crowd"
ranges = "10.76.0.0-10.79.255.255"
[[mode-config]]
name = "crowd"
address-pool = "crowd"
[[policy-group]]
name = "crowd"
[[policy]]
template = true
group = "crowd"
src-address = "10.2.0.0/16"
dst-address = "10.76.0.0/14"
proposal = "load"
[[peer]]
name = "clients"
address = "0.0.0.0/0"
exchange-mode = "ike2"
profile = "load"
passive = true
[[identity]]
peer = "clients"
secret = %q
my-id = "fqdn:gate.example"
mode-config = "crowd"
generate-policy = "port-strict"
policy-template-group = "crowd"
`

// crowdPool has the clients' addresses.
const crowdPool = "10.76.0.0/14"

type crowdGate struct {
	*lab.Process
	node         *lab.Node
	binary, sock string
}

func startCrowdGate(ctx context.Context, b *testing.B, n *lab.Node) *crowdGate {
	path, err := lab.Binary()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	conf, sock := filepath.Join(dir, "crowd.toml"), filepath.Join(dir, "sock")
	write(b, conf, fmt.Sprintf(crowdTOML, filepath.Join(dir, "state"), loadSecret))
	g := &crowdGate{n.Start("culvert", nil, path, "--control", sock, "run", "-c", conf), n, path, sock}
	waitFor(ctx, b, g.Process, sock)
	return g
}

// command runs a command of the gateway and returns what it prints.
func (g *crowdGate) command(b *testing.B, args ...string) string {
	out, err := exec.Command(g.binary, append([]string{"--control", g.sock}, args...)...).Output()
	if err != nil {
		b.Fatalf("%v: %v\n%s", args, err, tail(g.Log()))
	}
	return string(out)
}
