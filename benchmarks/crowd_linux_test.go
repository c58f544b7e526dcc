package benchmarks

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/ike"
	"culvert/ike/core"
	"culvert/internal/lab"
)

// crowd is what the load generator is told when it shall keep its SAs: many
// clients on few sockets, each with one IKE SA and one CHILD SA, which answer
// the gateway's liveness checks until the time is over.
const (
	crowdSockets = 64
	crowdWindow  = 8 // handshakes under way per socket
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

// runCrowd brings all clients up and keeps them. Progress goes to standard error.
func runCrowd(l *load) error {
	var up, failed atomic.Int64
	start := time.Now()
	end := start.Add(l.Duration)
	var all sync.WaitGroup
	errs := make(chan error, crowdSockets)
	for s := range crowdSockets {
		all.Go(func() {
			conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.Local, 0)))
			if err != nil {
				errs <- err
				return
			}
			defer conn.Close()
			_ = conn.SetReadBuffer(4 << 20)
			c := &crowdSocket{load: l, conn: conn, port: conn.LocalAddr().(*net.UDPAddr).AddrPort().Port(),
				clients: map[uint64]*crowdClient{}, busy: map[*crowdClient]bool{}}
			c.run(s, end, &up, &failed)
		})
	}
	var took time.Duration
	for time.Now().Before(end) && took == 0 {
		time.Sleep(time.Second)
		fmt.Fprintf(os.Stderr, "%v: %d up, %d failed\n", time.Since(start).Round(time.Second), up.Load(), failed.Load())
		if up.Load() == int64(l.Initiators) {
			took = time.Since(start)
		}
	}
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	return json.NewEncoder(os.Stdout).Encode(loaded{uint64(up.Load()), uint64(failed.Load()), took})
}

func (c *crowdSocket) run(s int, end time.Time, up, failed *atomic.Int64) {
	buf := make([]byte, 4096)
	next := s
	for time.Now().Before(end) {
		for len(c.busy) < crowdWindow && next < c.load.Initiators {
			c.begin(next)
			next += crowdSockets
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, from, err := c.conn.ReadFromUDPAddrPort(buf)
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
			if now.Sub(k.started) > time.Minute {
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
// of a road warrior with a policy of its own, and reports the resident memory of
// the gateway's process. CULVERT_CROWD is how many; 100000 if it is not set.
func BenchmarkEstablished(b *testing.B) {
	lab.Need(b)
	crowd := 100_000
	if text := os.Getenv("CULVERT_CROWD"); text != "" {
		var err error
		if crowd, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	hold := 150 * time.Second // longer than the liveness checks' interval of two minutes
	limit := hold + time.Duration(crowd)*2*time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), limit+time.Minute)
	defer cancel()
	l := lab.New(b)
	gate, clients := l.Node("gate"), l.Node("clients")
	target, local := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")
	l.Wire(lab.End{Node: gate, Device: "eth0", Prefix: netip.PrefixFrom(target, 24)}, lab.End{Node: clients, Device: "eth0", Prefix: netip.PrefixFrom(local, 24)})
	p := startCrowdGate(ctx, b, gate)
	empty := memory(b, p)
	got := make(chan loaded, 1)
	go func() {
		got <- runClients(ctx, b, clients, load{Target: target, Local: local, Group: "x25519", Initiators: crowd, Duration: limit, Keep: true})
	}()
	most := 0
	for done := false; !done; {
		select {
		case r := <-got:
			if r.Handshakes != uint64(crowd) || r.Failures > 0 {
				b.Fatalf("%d of %d up, %d failed; log of the gateway:\n%s", r.Handshakes, crowd, r.Failures, tail(p.Log()))
			}
			b.Logf("%d IKE SAs and CHILD SAs, made in %v", crowd, r.Took.Round(time.Second))
			done = true
		case <-time.After(time.Second):
			most = max(most, memory(b, p))
		}
	}
	b.ReportMetric(float64(empty)/1024, "MiB-empty")
	b.ReportMetric(float64(most)/1024, "MiB-most")
	b.ReportMetric(float64(most-empty)/float64(crowd), "KiB/SA")
	b.ReportMetric(0, "ns/op")
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
generate-policy = "port-strict"
policy-template-group = "crowd"
`

func startCrowdGate(ctx context.Context, b *testing.B, n *lab.Node) *lab.Process {
	path, err := lab.Binary()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	conf, sock := filepath.Join(dir, "crowd.toml"), filepath.Join(dir, "sock")
	write(b, conf, fmt.Sprintf(crowdTOML, loadSecret))
	p := n.Start("culvert", nil, path, "--control", sock, "run", "-c", conf)
	waitFor(ctx, b, p, sock)
	return p
}
