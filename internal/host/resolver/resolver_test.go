package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func dnsServer(t *testing.T, addrs ...string) (at netip.AddrPort, asked *atomic.Int32) {
	t.Helper()
	return dnsServerAt(t, "127.0.0.1:0", addrs...)
}

// dnsServerAt answers questions for the addresses of a name over UDP, and says how often it was
// asked. With no addresses it says that there is no such name.
func dnsServerAt(t *testing.T, listen string, addrs ...string) (at netip.AddrPort, asked *atomic.Int32) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", listen)
	if err != nil {
		t.Fatal(err)
	}
	asked = new(atomic.Int32)
	done := make(chan struct{})
	t.Cleanup(func() { _ = conn.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			asked.Add(1)
			if answer := dnsAnswer(buf[:n], addrs); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort(), asked
}

// dnsAnswer answers one question (RFC 1035 §4).
func dnsAnswer(query []byte, addrs []string) []byte {
	end := 12
	for end < len(query) && query[end] != 0 {
		end += 1 + int(query[end])
	}
	if end += 5; end > len(query) {
		return nil
	}
	kind := binary.BigEndian.Uint16(query[end-4:])
	out := append(slices.Clone(query[:2]), 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
	if len(addrs) == 0 {
		out[3] |= 3 // NXDOMAIN
	}
	out = append(out, query[12:end]...)
	for _, s := range addrs {
		a := netip.MustParseAddr(s)
		if a.Is4() != (kind == 1) || kind != 1 && kind != 28 {
			continue
		}
		out[7]++
		raw := a.AsSlice()
		out = append(out, 0xc0, 12, byte(kind>>8), byte(kind), 0, 1, 0, 0, 0, 60, 0, byte(len(raw)))
		out = append(out, raw...)
	}
	return out
}

// silent is a server that never answers.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func asking(servers ...netip.AddrPort) *Resolver {
	return &Resolver{(&net.Dialer{}).DialContext, func() []netip.AddrPort { return servers }}
}

const named = "gw.culvert.invalid." // which nobody but our servers knows

// Each server is asked until one answers: one that is silent and one that does not know the name keep
// nobody.
func TestLookUpAsksEachServer(t *testing.T) {
	good, asked := dnsServer(t, "192.0.2.1", "2001:db8::1", "192.0.2.2")
	without, _ := dnsServer(t)
	for name, servers := range map[string][]netip.AddrPort{"good": {good}, "dead first": {silent(t), good}, "unknown there": {without, good}} {
		before := asked.Load()
		list, err := asking(servers...).LookUp(t.Context(), named)
		if err != nil || len(list) != 3 || asked.Load() == before {
			t.Errorf("%s: %v, %v", name, list, err)
			continue
		}
		if list[0].Is4() == list[1].Is4() || !slices.Contains(list, netip.MustParseAddr("2001:db8::1")) {
			t.Errorf("%s: the families are not in turns: %v", name, list)
		}
	}
	_, err := asking(without).LookUp(t.Context(), named)
	if !noSuchName(err) {
		t.Errorf("no such name: %v", err)
	}
}

// The questions go by the sockets that the gateway opens, to the server and to no other, and
// what is no name is not asked for.
func TestLookUpByTheSocketsOfTheGateway(t *testing.T) {
	var mu sync.Mutex
	var to []string
	r := New(func(_ context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		to = append(to, network+" "+address)
		return nil, errors.New("no way to " + address)
	})
	r.servers = func() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("[fe80::1%eth0]:53")} }
	if list, err := r.LookUp(t.Context(), "192.0.2.7"); err != nil || fmt.Sprint(list) != "[192.0.2.7]" || len(to) != 0 {
		t.Error(list, err, to)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := r.LookUp(ctx, named); err == nil {
		t.Error("found")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(to) == 0 || slices.ContainsFunc(to, func(s string) bool { return s != "udp [fe80::1%eth0]:53" }) {
		t.Errorf("asked %q", to)
	}
}

func TestInTurns(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "1.0.0.1 1.0.0.2": "1.0.0.1 1.0.0.2",
		"::1 ::2 ::3 1.0.0.1 1.0.0.2": "::1 1.0.0.1 ::2 1.0.0.2 ::3",
		"1.0.0.1 ::1 ::2":             "1.0.0.1 ::1 ::2",
		"::ffff:1.0.0.1 1.0.0.2 ::1":  "1.0.0.1 ::1 1.0.0.2",
	} {
		var list []netip.Addr
		for _, s := range strings.Fields(in) {
			list = append(list, netip.MustParseAddr(s))
		}
		if got := strings.Trim(fmt.Sprint(inTurns(list)), "[]"); got != want {
			t.Errorf("%s: %s, not %s", in, got, want)
		}
	}
}

// A connection goes past the policies where that leads there, to the first address that takes
// it, and else by the system's way.
func TestDial(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Addr().String())
	dns, _ := dnsServer(t, "127.0.0.1", "127.0.0.2")
	var past []string
	var mu sync.Mutex
	refuse := true
	r := asking(dns)
	r.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if network == "tcp" {
			mu.Lock()
			past = append(past, address)
			no := refuse
			mu.Unlock()
			if no {
				return nil, errors.New("unreachable")
			}
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	for range 2 {
		past = nil
		c, err := r.DialContext(t.Context(), "tcp", net.JoinHostPort(named, port))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.RemoteAddr().String(); got != "127.0.0.1:"+port {
			t.Errorf("connected to %s", got)
		}
		_ = c.Close()
		if want := map[bool]int{true: 2, false: 1}[refuse]; len(past) < want || refuse && len(past) != 2 {
			t.Errorf("refused %v: tried %q", refuse, past)
		}
		refuse = false
	}
	c, err := (*Resolver)(nil).DialContext(t.Context(), "tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if _, err := r.DialContext(t.Context(), "tcp", "no port"); err == nil {
		t.Error("an address without a port")
	}
}

// What is begun and not needed ends, and what it brings late is closed.
func TestStagger(t *testing.T) {
	ended, discarded := make(chan struct{}), make(chan int, 1)
	got, err := stagger(t.Context(), time.Nanosecond, []func(context.Context) (int, error){
		func(ctx context.Context) (int, error) { <-ctx.Done(); close(ended); return 1, nil },
		func(context.Context) (int, error) { return 2, nil },
	}, func(n int) { discarded <- n })
	if got != 2 || err != nil {
		t.Error(got, err)
	}
	<-ended
	if n := <-discarded; n != 1 {
		t.Error(n)
	}
	one, two := errors.New("one"), &net.DNSError{IsNotFound: true}
	for _, c := range []struct {
		errs []error
		want error
	}{{[]error{one}, one}, {[]error{one, errors.New("other")}, one}, {[]error{one, two}, two}} {
		var attempts []func(context.Context) (int, error)
		for _, e := range c.errs {
			attempts = append(attempts, func(context.Context) (int, error) { return 0, e })
		}
		if _, err := stagger(t.Context(), time.Hour, attempts, func(int) {}); err != c.want {
			t.Errorf("%v: %v", c.errs, err)
		}
	}
}

// The servers are those of resolv.conf, or of the resolver on this host that it names.
func TestServers(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	stub := file("stub", "nameserver 127.0.0.53\noptions edns0\n")
	true3 := file("true", "# a\nnameserver 0.0.0.0\nnameserver 192.0.2.53 # b\nsearch x\nnameserver fe80::1%eth0\nnameserver 2001:db8::53\nnameserver\n")
	any := func(a netip.Addr) bool { return !a.IsLoopback() }
	for _, c := range []struct {
		files []string
		want  string
	}{
		{[]string{stub}, "[]"},
		{[]string{stub, filepath.Join(dir, "none"), true3}, "[192.0.2.53 fe80::1%eth0]"}, // three are read, as resolvers do
		{[]string{true3, stub}, "[192.0.2.53 fe80::1%eth0]"},
	} {
		if got := fmt.Sprint(first(c.files, any)); got != c.want {
			t.Errorf("%v: %s, not %s", c.files, got, c.want)
		}
	}
	for _, a := range Servers() {
		if a.IsLoopback() || a.IsLinkLocalUnicast() {
			t.Errorf("%v is of no use to others", a)
		}
	}
}
