package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestRecovery: after each single fault traffic passes again by itself, with default settings. CULVERT_RECOVERY is how often
// each fault is tried and measured; CULVERT_RECOVERY_DOC is the file that gets the table (`make recovery`). Without them
// the faults that other tests try are left out, and no time is judged.
func TestRecovery(t *testing.T) {
	Need(t)
	runs, measured := 1, os.Getenv("CULVERT_RECOVERY")
	if measured != "" {
		var err error
		if runs, err = strconv.Atoi(measured); err != nil {
			t.Fatalf("CULVERT_RECOVERY: %v", err)
		}
	}
	faults := recoveryFaults()
	t.Run("fault", func(t *testing.T) {
		for _, f := range faults {
			for run := range runs {
				if measured == "" && f.elsewhere {
					continue
				}
				t.Run(fmt.Sprintf("%s, %s, %d", f.name, f.far, run), func(t *testing.T) {
					if f.guest {
						NeedGuest(t)
					}
					t.Parallel()
					within := limit
					if f.guest { // on a busy machine it takes minutes to boot
						within *= 4
					}
					ctx, cancel := context.WithTimeout(t.Context(), within)
					defer cancel()
					took := f.run(ctx, t, f)
					t.Logf("traffic again %.1f s after %s", took.Seconds(), f.from)
					f.add(took)
				})
			}
		}
	})
	if path := os.Getenv("CULVERT_RECOVERY_DOC"); path != "" && !t.Failed() {
		if err := os.WriteFile(path, []byte(recoveryDoc(faults)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// fault is something that breaks a tunnel, and a row of the table.
type fault struct {
	name, far string // what happens, and what the other end is
	from      string // what the time is counted from: the moment at which a path exists again
	profile   string // lines beside the default settings
	elsewhere bool   // other tests try it, too
	guest     bool   // needs a guest
	run       func(ctx context.Context, t *testing.T, f *fault) time.Duration

	mu    sync.Mutex
	times []time.Duration
}

func (f *fault) add(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.times = append(f.times, d)
}

const (
	farCulvert    = "Culvert"
	farStrongSwan = "strongSwan"
	farKernel     = "strongSwan, ESP of the Linux kernel"
	withoutMOBIKE = "mobike = false\n"

	fromFault   = "the fault"
	fromRestart = "the moment at which it runs again"
	fromWaking  = "waking up"
)

func recoveryFaults() (list []*fault) {
	add := func(f *fault) { list = append(list, f) }
	for _, far := range []string{farCulvert, farStrongSwan} {
		add(&fault{name: "peer restarted by SIGTERM", far: far, from: fromRestart, elsewhere: true, run: inSite(func(ctx context.Context, s *recoverySite) time.Time {
			if err := errors.Join(s.far.Signal(syscall.SIGTERM), s.far.Wait(ctx)); err != nil {
				s.t.Fatal(err)
			}
			s.restart(ctx)
			return time.Now()
		})})
	}
	for _, far := range []string{farCulvert, farStrongSwan} {
		add(&fault{name: "peer killed (`kill -9`) and started", far: far, from: fromRestart, elsewhere: true, run: inSite(func(ctx context.Context, s *recoverySite) time.Time {
			s.far.Kill()
			s.restart(ctx)
			return time.Now()
		})})
	}
	for _, far := range []string{farCulvert, farStrongSwan} {
		add(&fault{name: "laptop slept for an hour, and the peer has ended the SAs", far: far, from: fromWaking, guest: true, elsewhere: far != farCulvert, run: laptopSleeps})
	}
	for _, c := range []struct{ name, command string }{
		{"uplink gone: default route withdrawn, another is there", "ip route del default via 10.9.0.254"},
		{"uplink gone: no carrier, another uplink is there", ""},
		{"address changed", "sysctl -qw net.ipv4.conf.all.promote_secondaries=1; ip addr add 10.9.0.77/24 dev eth0; ip addr del 10.9.0.1/24 dev eth0"},
	} {
		for _, v := range []struct {
			far, profile string
			elsewhere    bool
		}{{farCulvert, "", false}, {farCulvert, withoutMOBIKE, true}, {farStrongSwan, "", true}} {
			f := &fault{name: c.name, far: v.far, from: fromFault, profile: v.profile, elsewhere: v.elsewhere || strings.HasPrefix(c.command, "ip route"), run: inSite(func(_ context.Context, s *recoverySite) time.Time {
				at := time.Now()
				if c.command == "" {
					s.router.Run("ip", "link", "set", "eth0", "down")
				} else {
					s.guardSite.east.Run("sh", "-e", "-c", c.command)
				}
				return at
			})}
			if v.profile == withoutMOBIKE {
				f.name += ", without MOBIKE"
			}
			add(f)
		}
	}
	// Two Culverts carry ESP in UDP anyway.
	add(&fault{name: "ESP blocked, and IKE passes", far: farKernel, from: fromFault, guest: true, run: inSite(func(_ context.Context, s *recoverySite) time.Time {
		at := time.Now()
		s.router.Run("nft", "add table ip f; add chain ip f f { type filter hook forward priority 0; }; add rule ip f f ip protocol esp drop")
		return at
	})})
	add(&fault{name: "DNS moved: the name of the peer has another address, and nobody is at the old one", far: farCulvert, from: fromFault, run: inSite(func(_ context.Context, s *recoverySite) time.Time {
		at := time.Now()
		s.named.Store(&recoveryNorth)
		s.router.Run("ip", "link", "set", "eth1", "down")
		return at
	})})
	return list
}

// recoverySite is two gateways with a router between them, to which the first has two uplinks. Where the peer is found by its name,
// another gateway stands in front of the same network.
//
//	host 10.1.0.2 ── east 10.1.0.1, 10.9.0.1 ── router ── 10.8.0.2 west, 10.2.0.1
//	                       10.7.0.1 (metric 200) ── ┘ └── 10.6.0.2 north, 10.2.0.1
type recoverySite struct {
	t *testing.T
	*guardSite
	east    *Culvert
	far     *Process
	restart func(context.Context) // and updates far
	named   atomic.Pointer[netip.Addr]
}

const recoveryName = "gateway.example.net"

var recoveryWest, recoveryNorth = netip.MustParseAddr("10.8.0.2"), netip.MustParseAddr("10.6.0.2")

// answersAnybody is the configuration of a gateway that waits for the other, wherever it is.
func answersAnybody() string { return tunnelConf("0.0.0.0/0", "10.2.0.0/24", "10.1.0.0/24") }

// inSite measures a fault in a recoverySite. do returns when the path was there again.
func inSite(do func(context.Context, *recoverySite) time.Time) func(context.Context, *testing.T, *fault) time.Duration {
	return func(ctx context.Context, t *testing.T, f *fault) time.Duration {
		s := newRecoverySite(ctx, t, f)
		traffic := s.host.Start("traffic", nil, "ping", "-D", "-i", "0.1", "10.2.0.1")
		defer traffic.Kill()
		steady := func(since time.Time) error {
			n := 0
			for _, a := range answers(traffic.Log()) {
				if a.at.After(since) {
					n++
				}
			}
			if n < 20 {
				return fmt.Errorf("%d answers", n)
			}
			return nil
		}
		if err := Until(ctx, func() error { return steady(time.Now().Add(-3 * time.Second)) }); err != nil {
			t.Fatal("at first: ", err)
		}
		broken, events := time.Now(), strings.Count(s.east.Log(), "event=")
		again := do(ctx, s)
		settled := again.Add(4 * time.Second) // a path that only seemed to be there
		if err := Until(ctx, func() error {
			if now := time.Now(); now.Before(settled) {
				return errors.New("too early to say")
			}
			return steady(time.Now().Add(-3 * time.Second))
		}); err != nil {
			t.Fatalf("after the fault: %v\n%s", err, s.east.Log())
		}
		if log := s.east.Log(); strings.Count(log, "event=") == events {
			t.Errorf("the fault was none: the gateway has not noticed it\n%s", log)
		}
		took := max(0, answeredAfterLoss(traffic.Log(), broken).Sub(again))
		if took > 10*time.Second {
			t.Logf("what took so long since %v:\n%s", again, s.east.Log())
		}
		return took
	}
}

func newRecoverySite(ctx context.Context, t *testing.T, f *fault) *recoverySite {
	s := &recoverySite{t: t, guardSite: newGuardSite(New(t))}
	l, p := s.host.lab, netip.MustParsePrefix
	l.Wire(End{s.guardSite.east, "eth2", p("10.7.0.1/24")}, End{s.router, "eth2", p("10.7.0.254/24")})
	s.guardSite.east.Run("ip", "route", "add", "default", "via", "10.7.0.254", "metric", "200")
	// As providers do: an uplink takes its own addresses alone.
	s.router.Run("nft", `add table ip up; add chain ip up up { type filter hook prerouting priority 0; }; add rule ip up up iifname "eth2" ip saddr != 10.7.0.0/24 drop`)
	s.guardSite.east.Sysctl("net.ipv4.conf.all.ignore_routes_with_linkdown", "1")
	remote := recoveryWest.String()
	if strings.HasPrefix(f.name, "DNS") {
		remote = recoveryName
		north := l.Node("north")
		l.Wire(End{s.router, "eth3", p("10.6.0.254/24")}, End{north, "eth0", p("10.6.0.2/24")})
		north.Inner(netip.MustParseAddr("10.2.0.1"))
		north.Run("ip", "route", "add", "default", "via", "10.6.0.254")
		north.Culvert(ctx, "", passive(answersAnybody()))
		s.named.Store(&recoveryWest)
		s.router.names(netip.MustParseAddrPort("10.9.0.254:53"), func() netip.Addr { return *s.named.Load() })
		s.guardSite.east.resolver("10.9.0.254")
	}
	switch f.far {
	case farCulvert:
		west := s.west.Culvert(ctx, "", passive(answersAnybody()))
		s.far, s.restart = west.Process, func(ctx context.Context) { west.Restart(ctx); s.far = west.Process }
	case farKernel:
		remote = "10.6.0.2"
		g := s.router.Guest(ctx, "west", NIC{Tap: "tap0", Node: []netip.Prefix{p("10.6.0.254/24")}, Guest: []netip.Prefix{p("10.6.0.2/24")}})
		g.Inner(netip.MustParseAddr("10.2.0.1"))
		g.Run("ip", "route", "add", "default", "via", "10.6.0.254")
		charon, err := g.Charon(ctx)
		if err == nil {
			err = charon.Load(ctx, strings.NewReplacer("local_addrs = 10.8.0.2", "local_addrs = 10.6.0.2", "remote_addrs = 10.9.0.1", "remote_addrs = %any").Replace(passiveSwanctl))
		}
		if err != nil {
			t.Fatal(err)
		}
	case farStrongSwan:
		west := s.west.StrongSwan(ctx, strings.Replace(passiveSwanctl, "remote_addrs = 10.9.0.1", "remote_addrs = %any", 1))
		s.far, s.restart = west.Process, func(ctx context.Context) { west.Restart(ctx); s.far = west.Process }
	}
	conf := tunnelConf(remote, "10.1.0.0/24", "10.2.0.0/24")
	if f.profile != "" {
		conf += "[[profile]]\nname = \"default\"\n" + f.profile
	}
	s.east = s.guardSite.east.Culvert(ctx, "", conf)
	return s
}

// echo is an answer that `ping -D` has printed.
type echo struct {
	seq int
	at  time.Time
}

var answered = regexp.MustCompile(`(?m)^\[(\d+)\.(\d{6})\] \d+ bytes from .* icmp_seq=(\d+) `)

func answers(log string) (list []echo) {
	for _, m := range answered.FindAllStringSubmatch(log, -1) {
		s, err1 := strconv.ParseInt(m[1], 10, 64)
		us, err2 := strconv.ParseInt(m[2], 10, 64)
		seq, err3 := strconv.Atoi(m[3])
		if errors.Join(err1, err2, err3) == nil {
			list = append(list, echo{seq, time.Unix(s, us*1000)})
		}
	}
	return list
}

// answeredAfterLoss is when the first answer came after the last echo request that was lost, or answered more than half a second
// late, from a time on; zero where none was.
func answeredAfterLoss(log string, from time.Time) (at time.Time) {
	last := echo{at: from}
	for _, a := range answers(log) {
		if a.at.After(from) && (a.seq > last.seq+1 || a.at.Sub(last.at) > 500*time.Millisecond) {
			at = a.at
		}
		last = a
	}
	return at
}

// TestAnswers: what is read from the output of ping.
func TestAnswers(t *testing.T) {
	line := func(at string, seq int) string {
		return fmt.Sprintf("[1796026855.%s] 64 bytes from 10.2.0.1: icmp_seq=%d ttl=63 time=12.2 ms\n", at, seq)
	}
	log := "PING 10.2.0.1\n" + line("000000", 1) + line("100000", 3) + line("200000", 4)
	from := func(us int64) time.Time { return time.Unix(1796026855, us*1000) }
	for _, c := range []struct {
		log        string
		from, want time.Time
	}{
		{log, from(50_000), from(100_000)}, // 2 was lost
		{log, from(150_000), time.Time{}},
		{log + line("300000", 5), from(150_000), time.Time{}},
		{log + line("900000", 5), from(150_000), from(900_000)}, // late
		{log + line("300000", 6) + line("400000", 8) + line("500000", 9), from(150_000), from(400_000)},
	} {
		if got := answeredAfterLoss(c.log, c.from); !got.Equal(c.want) {
			t.Errorf("%v, want %v\n%s", got, c.want, c.log)
		}
	}
}

// names has a DNS server on the node answer every question for an IPv4 address with the one that at returns, valid for a second.
func (n *Node) names(listen netip.AddrPort, at func() netip.Addr) {
	n.lab.TB.Helper()
	var conn *net.UDPConn
	if err := n.Inside(func() (err error) {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(listen))
		return err
	}); err != nil {
		n.lab.TB.Fatal(err)
	}
	n.lab.TB.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if answer := nameAnswer(buf[:size], at()); answer != nil {
				_, _ = conn.WriteToUDPAddrPort(answer, from)
			}
		}
	}()
}

// nameAnswer answers one question (RFC 1035 §4).
func nameAnswer(query []byte, a netip.Addr) []byte {
	end := 12
	for end < len(query) && query[end] != 0 {
		end += 1 + int(query[end])
	}
	if end += 5; end > len(query) {
		return nil
	}
	out := append(slices.Clone(query[:2]), 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
	out = append(out, query[12:end]...)
	if kind := query[end-3]; kind == 1 {
		out[7] = 1
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4)
		out = append(out, a.AsSlice()...)
	}
	return out
}

// resolver names the DNS server of the node's daemons.
func (n *Node) resolver(server string) {
	n.lab.TB.Helper()
	dir := filepath.Join("/etc/netns", n.NS)
	n.lab.TB.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver "+server+"\n"), 0o644)); err != nil {
		n.lab.TB.Fatal(err)
	}
}

// laptopSleeps: the laptop is a guest, whose clock can be set. While its network is away and its gateway stopped, the peer
// loses the SAs, and nobody hears of it. Then the wall clock is an hour later, and the monotonic clock is not, as after a sleep.
// The kernel of guests has not all that the guard needs: the gateway says so once, and runs.
func laptopSleeps(ctx context.Context, t *testing.T, f *fault) time.Duration {
	l, p := New(t), netip.MustParsePrefix
	router, west := l.Node("router"), l.Node("west")
	router.Sysctl("net.ipv4.ip_forward", "1")
	l.Wire(End{router, "eth1", p("10.8.0.254/24")}, End{west, "eth0", p("10.8.0.2/24")})
	west.Inner(netip.MustParseAddr("10.2.0.1"))
	west.Run("ip", "route", "add", "default", "via", "10.8.0.254")
	var forget func()
	switch f.far {
	case farCulvert:
		far := west.Culvert(ctx, "", passive(answersAnybody()))
		forget = func() { far.Kill(); far.Restart(ctx) }
	case farStrongSwan:
		far := west.StrongSwan(ctx, strings.Replace(passiveSwanctl, "remote_addrs = 10.9.0.1", "remote_addrs = %any", 1))
		forget = func() { far.Kill(); far.Restart(ctx) }
	}
	g := router.Guest(ctx, "laptop", NIC{Tap: "tap0", Node: []netip.Prefix{p("10.9.0.254/24")}, Guest: []netip.Prefix{p("10.9.0.1/24")}})
	g.Inner(netip.MustParseAddr("10.1.0.1"))
	g.Run("ip", "route", "add", "default", "via", "10.9.0.254")
	path, err := Binary()
	if err != nil {
		t.Fatal(err)
	}
	conf := "[gateway]\ncontrol = \"/run/c.sock\"\nstate-dir = \"/run/state\"\n" + tunnelConf("10.8.0.2", "10.1.0.0/24", "10.2.0.0/24")
	if err := errors.Join(g.Write("/run/site.toml", []byte(conf)), g.Daemon("/run/culvert.log", nil, path, "run", "-c", "/run/site.toml", "--log-format", "text")); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			log, _ := g.Try("tail", "-c", "3000", "/run/culvert.log")
			t.Logf("---- log of the laptop ----\n%s", log)
		}
	}()
	if err := Until(ctx, func() error {
		_, err := g.Try("ping", "-c", "1", "-W", "1", "-I", "10.1.0.1", "10.2.0.1")
		return err
	}); err != nil {
		t.Fatal("at first: ", err)
	}
	time.Sleep(2 * time.Second)
	if out := g.Run("grep", "-c", "nft_fib_inet", "/run/culvert.log"); strings.TrimSpace(out) != "1" {
		t.Errorf("the log says %s times what the kernel lacks for the guard", out)
	}

	pid := strings.TrimSpace(g.Run("sh", "-c", `for s in /proc/[0-9]*/status; do if grep -q '^Name:.culvert$' $s; then p=${s%/status}; echo ${p#/proc/}; fi; done 2>/dev/null`))
	router.Run("ip", "link", "set", "tap0", "down")
	g.Run("kill", "-STOP", pid)
	forget()
	router.Run("ip", "link", "set", "tap0", "up")
	router.await("ip", netip.MustParseAddr("10.9.0.254"), "-o", "route", "show", "table", "local", "dev", "tap0")
	woke := g.Run("sh", "-c", `date -s @$(($(date +%s) + 3600)) >/dev/null; date +%s%N; kill -CONT `+pid+`; exec setsid ping -D -i 0.1 -I 10.1.0.1 10.2.0.1 >/run/ping.log 2>&1 </dev/null &`)
	var first time.Time
	from, err := strconv.ParseInt(strings.TrimSpace(woke), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := Until(ctx, func() error {
		out, err := g.Try("sh", "-c", `grep -a 'bytes from' /run/ping.log | head -n 25; test $(grep -c 'bytes from' /run/ping.log) -ge 25`)
		if list := answers(out); len(list) > 0 {
			first = list[0].at
		} else if err == nil {
			err = fmt.Errorf("no answer in %q", out)
		}
		return err
	}); err != nil {
		t.Fatal("after the sleep: ", err)
	}
	return first.Sub(time.Unix(0, from))
}

// recoveryDoc is docs/recovery.md.
func recoveryDoc(faults []*fault) string {
	var b strings.Builder
	b.WriteString(recoveryHead)
	for _, f := range faults {
		if len(f.times) == 0 {
			fmt.Fprintf(&b, "| %s | %s | %s | 0 | | |\n", f.name, f.far, f.from)
			continue
		}
		slices.Sort(f.times)
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %.1f s | %.1f s |\n", f.name, f.far, f.from, len(f.times), f.times[len(f.times)/2].Seconds(), f.times[len(f.times)-1].Seconds())
	}
	return b.String()
}

const recoveryHead = `# Time to recover

How long it takes until traffic passes again after a single fault. ` + "`make recovery`" + ` measures it: two whole gateways stand in network
namespaces of one host, with default settings, except where a row says otherwise. The host behind the side that begins the tunnel sends an
echo request every 0.1 s. The time ends with the first answer after the last request that was lost.

- A peer that was killed, or that a laptop comes back to, has lost the SAs and cannot prove it. The gateway notices within two seconds, asks
  the peer five times in 8 s, and connects anew ([why](troubleshooting.md#a-peer-was-restarted-or-this-host-has-slept)).
- If packets from the address in use would leave by a link that does not have it, the SAs move at once (MOBIKE), or another IKE SA takes over.
  Where that is not known, the gateway asks on the old path first and after 3.5 s on every path.
- If the DNS has another address for a silent peer, the gateway connects anew after 4 s.
- The laptop is a guest with a kernel and a clock of its own: its gateway is stopped, its network is away, and its clock is set an hour forward. It runs
  without the guard, which that kernel does not support. ESP is blocked in front of a peer in such a guest: two Culverts carry ESP in UDP anyway.

| fault | other end | counted from | tries | median | worst |
|---|---|---|---|---|---|
`
