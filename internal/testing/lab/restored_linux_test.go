package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// hostState is what the gateway has put into its node's kernel.
func hostState(n *Node) string {
	var all []string
	for _, command := range []string{"ip -4 rule", "ip -6 rule", "ip -4 route show table 50500", "ip -6 route show table 50500", "ip -o link show culvert0",
		"ip -o -4 addr show culvert0", "nft -s list table inet culvert-50500"} {
		out, err := n.Try(strings.Fields(command)...)
		if err != nil {
			out = "none: " + command
		}
		lines := strings.Split(out, "\n")
		slices.Sort(lines)
		all = append(all, lines...)
	}
	return strings.Join(all, "\n")
}

// What others remove from the host while traffic flows is back before long, and while
// the guard or the rules stand, nothing leaves in clear meanwhile. After a flush of
// everything nothing leaves in clear once it is back.
func TestRestored(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := New(t)
	s := newGuardSite(l)
	east := s.east.Culvert(ctx, "", tunnelConf("10.8.0.2", "10.1.0.0/24", "10.2.0.0/24"))
	s.west.Culvert(ctx, "", passive(tunnelConf("10.9.0.1", "10.2.0.0/24", "10.1.0.0/24")))
	works := func(when string) {
		t.Helper()
		if err := Until(ctx, func() error {
			_, err := s.host.Try("ping", "-c", "1", "-W", "2", "10.2.0.1")
			return err
		}); err != nil {
			t.Fatalf("%s: %v\n%s", when, err, east.Log())
		}
	}
	works("at first")
	for _, n := range []*Node{s.east, s.west} {
		s.watches[n.Name+" eth0"] = n.Watch("eth0", protected)
	}
	for _, dev := range []string{"eth0", "eth1"} {
		s.watches["router "+dev] = s.router.Watch(dev, protected)
	}
	clean := func(after string) {
		t.Helper()
		for where, w := range s.watches {
			if seen, _ := w.Seen(); len(seen) > 0 {
				t.Fatalf("%s: %d packets in clear at %s, the first %+v\n%s", after, len(seen), where, seen[0], east.Log())
			}
		}
	}
	there := s.host.Start("ping-there", nil, "ping", "-q", "-i", "0.005", "10.2.0.1")
	defer there.Kill()
	back := s.west.Start("ping-back", nil, "ping", "-q", "-i", "0.005", "-I", "10.2.0.1", "10.1.0.2")
	defer back.Kill()

	was := hostState(s.east)
	restored := func(change, want string, lines int) {
		t.Helper()
		if err := Until(ctx, func() error {
			if strings.Count(east.Log(), "restored=") <= lines {
				return errors.New("the log has no line about it")
			}
			if now := hostState(s.east); now != was {
				return fmt.Errorf("there is\n%s\nwant\n%s", now, was)
			}
			return nil
		}); err != nil {
			t.Fatalf("%s: %v\n%s", change, err, east.Log())
		}
		if log := east.Log(); !strings.Contains(log[strings.LastIndex(log, "restored="):]+log, want) {
			t.Errorf("%s: the log does not say %q\n%s", change, want, log)
		}
	}
	const flushRules = "ip rule flush; ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default"
	ruleset := l.write("ruleset", "flush ruleset\ntable inet other {\n chain input {\n  type filter hook input priority 0\n }\n}\n")
	for _, c := range []struct{ change, want string }{
		{"nft flush ruleset", "the guard's table culvert-50500 was removed"},
		{"nft -f " + ruleset, "the guard's table culvert-50500 was removed"},
		{"nft flush map inet culvert-50500 out4", "map out4"},
		{"nft insert rule inet culvert-50500 out accept; nft insert rule inet culvert-50500 in accept", "chain "},
		{flushRules, "rules were removed"},
		{"ip route flush table 50500", "routes were removed from table 50500"},
		{"ip route add 10.2.0.0/25 via 10.9.0.254 table 50500", "foreign route 10.2.0.0/25 via 10.9.0.254"},
		{"ip route replace default via 10.9.0.254 table 50500", "foreign route default via 10.9.0.254"},
		{"ip link set culvert0 down", "device culvert0 was set down"},
		{"ip link set culvert0 mtu 1200", "MTU of culvert0 was set to 1200"},
	} {
		lines := strings.Count(east.Log(), "restored=")
		s.east.Run("sh", "-c", c.change)
		restored(c.change, c.want, lines)
		works(c.change)
		clean(c.change)
	}

	// What explain says is the kernel's answer.
	explained := func(want ...string) {
		t.Helper()
		for _, args := range [][]string{{"explain", "packet", "--src", "10.1.0.2", "--dst", "10.2.0.1", "--protocol", "icmp", "--src-port", "8"}, {"explain", "peer", "p"}} {
			out, err := east.Command(ctx, args...)
			if err != nil || !strings.Contains(string(out), want[0]) {
				t.Errorf("%v: %v, %s, want %q", args, err, out, want[0])
			}
			want = want[1:]
		}
	}
	explained("the kernel routes it, which arrives on lan0, to culvert0, table 50500", "the kernel routes IKE and ESP to 10.8.0.2 to eth0 via 10.9.0.254")

	verdict := func(want ...string) {
		t.Helper()
		out, err := east.Command(ctx, "explain", "packet", "--src", "10.1.0.2", "--dst", "10.2.0.1", "--protocol", "icmp")
		for _, w := range want {
			if err != nil || !strings.Contains(string(out), w) {
				t.Errorf("%v, %s, want %q", err, out, w)
			}
		}
	}
	verdict("=> protected and sent to the peer")
	s.east.Run("ip", "route", "add", "unreachable", "10.8.0.2/32")
	verdict("the kernel drops ESP to 10.8.0.2: unreachable", "=> dropped")
	s.east.Run("ip", "route", "del", "unreachable", "10.8.0.2/32")
	verdict("=> protected and sent to the peer")

	lines := strings.Count(east.Log(), "restored=")
	s.east.Run("sh", "-c", flushRules+"; ip route flush table 50500; nft flush ruleset; ip link set culvert0 down")
	restored("everything", "the guard's table culvert-50500 was removed", lines)
	for _, w := range s.watches {
		w.Forget()
	}
	works("everything")
	clean("everything restored")

	// Without its device the gateway ends and says why. The guard stays.
	s.east.Run("ip", "link", "del", "culvert0")
	if err := east.Wait(ctx); err == nil || !strings.Contains(east.Log(), "culvert0") {
		t.Errorf("without its device: %v\n%s", err, east.Log())
	}
	if _, err := s.host.Try("ping", "-c", "3", "-i", "0.05", "-W", "1", "10.2.0.1"); err == nil {
		t.Error("something arrives without the device")
	}
	clean("the device removed")
	east.Restart(ctx)
	works("started again")
	clean("started again")
}
