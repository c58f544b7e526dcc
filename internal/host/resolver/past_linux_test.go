package resolver

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"culvert/internal/packet/underlay"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const ourMark = 0xC0150

// A policy to everywhere takes all packets of the host but those with the gateway's mark: look-ups and
// fetches pass by it, where the system's own fail.
func TestPastAPolicyToEverywhere(t *testing.T) {
	const inside = "CULVERT_TEST_INSIDE"
	if os.Getenv(inside) == "" {
		if os.Getuid() != 0 {
			t.Skip("only root makes network namespaces")
		}
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	must(err)
	must(netlink.LinkSetUp(lo))
	// Local addresses by a table that is asked late, so that a rule in front of it can take packets away.
	rule := func(change func(*netlink.Rule)) {
		t.Helper()
		r := netlink.NewRule()
		r.Family = netlink.FAMILY_V4
		change(r)
		must(netlink.RuleAdd(r))
	}
	rule(func(r *netlink.Rule) { r.Priority, r.Table, r.Mark = 10, unix.RT_TABLE_LOCAL, ourMark })
	rule(func(r *netlink.Rule) {
		r.Priority, r.Table, r.IifName = 11, unix.RT_TABLE_LOCAL, "lo"
		r.Dst = cidr("127.0.0.0/16")
	})
	rule(func(r *netlink.Rule) { r.Priority, r.Table, r.Dst = 20, 50500, cidr("127.9.0.0/16") })
	must(netlink.RouteAdd(&netlink.Route{Table: 50500, Dst: cidr("127.9.0.0/16"), Type: unix.RTN_UNREACHABLE}))
	old := netlink.NewRule()
	old.Family, old.Priority, old.Table = netlink.FAMILY_V4, 0, unix.RT_TABLE_LOCAL
	rule(func(r *netlink.Rule) { r.Priority, r.Table = 30, unix.RT_TABLE_LOCAL })
	must(netlink.RuleDel(old))

	dns, _ := dnsServerAt(t, "127.9.0.1:0", "127.9.0.1")
	server, err := net.Listen("tcp", "127.9.0.1:0")
	must(err)
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Addr().String())

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if c, err := net.Dial("tcp", server.Addr().String()); err == nil {
		_ = c.Close()
		t.Fatal("the policy does not take the packets of others")
	}
	r := New(underlay.Dialer(ourMark).DialContext)
	r.servers = func() []netip.AddrPort { return []netip.AddrPort{dns} }
	list, err := r.LookUp(ctx, named)
	if err != nil || len(list) != 1 || list[0].String() != "127.9.0.1" {
		t.Errorf("look-up: %v, %v", list, err)
	}
	c, err := r.DialContext(ctx, "tcp", net.JoinHostPort(named, port))
	must(err)
	_ = c.Close()
	unmarked := &Resolver{(&net.Dialer{}).DialContext, r.servers}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if list, err := unmarked.LookUp(short, named); err == nil {
		t.Errorf("without the mark: %v", list)
	}
}

func cidr(s string) *net.IPNet {
	_, n, _ := net.ParseCIDR(s)
	return n
}
