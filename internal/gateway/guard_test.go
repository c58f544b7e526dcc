package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/config"
	"culvert/internal/host/guard"
	"culvert/tun"
)

// What the guard is told of tunnels to everywhere: the networks on the links that
// they leave alone, and the other addresses of a client.
func TestGuardPlan(t *testing.T) {
	p := netip.MustParsePrefix
	const client = "[[peer]]\nname = 'p'\naddress = '192.0.2.1'\nexchange-mode = 'ike2'\n[[identity]]\npeer = 'p'\nsecret = 's'\ngenerate-policy = 'port-strict'\nmode-config = 'request-only'\n"
	const always = "[gateway]\nguard-always = true\nlan-bypass = true\n"
	route := func(local, remote string) tun.Route { return tun.Route{Local: p(local), Remote: p(remote)} }
	none := route("0.0.0.0/0", "198.51.100.0/24")
	none.Pass = true
	use := route("10.9.0.5/32", "0.0.0.0/0")
	use.Optional, use.Pass = true, true
	lease := []netip.Prefix{p("10.9.0.5/32"), p("fd99::5/128")}
	for _, tt := range []struct {
		name      string
		conf      string
		plan      tun.Plan
		connected bool
		want      string
	}{
		{"site", "", tun.Plan{Routes: []tun.Route{route("10.1.0.0/24", "10.2.0.0/24"), route("10.1.0.0/24", "0.0.0.0/0")}, LANBypass: true}, false, `
			10.1.0.0/24 10.2.0.0/24
			10.1.0.0/24 0.0.0.0/0`},
		{"everything", "", tun.Plan{Routes: []tun.Route{route("0.0.0.0/0", "0.0.0.0/0"), route("10.9.0.0/16", "192.168.1.128/25")}, LANBypass: true}, false, `
			0.0.0.0/0 192.168.1.128/25
			0.0.0.0/0 192.168.1.0/24 pass
			0.0.0.0/0 0.0.0.0/0
			10.9.0.0/16 192.168.1.128/25`},
		{"everything, without lan-bypass", "", tun.Plan{Routes: []tun.Route{route("0.0.0.0/0", "0.0.0.0/0"), route("::/0", "::/0")}}, false, `
			0.0.0.0/0 0.0.0.0/0
			::/0 ::/0`},
		{"client", client, tun.Plan{Addresses: lease, Routes: []tun.Route{none, route("10.9.0.5/32", "0.0.0.0/0"), route("fd99::5/128", "::/0")}}, true, `
			0.0.0.0/0 198.51.100.0/24 pass
			10.9.0.5/32 0.0.0.0/0
			fd99::5/128 ::/0
			0.0.0.0/0 0.0.0.0/0 own
			::/0 ::/0 own`},
		{"client, with lan-bypass", client, tun.Plan{Addresses: lease, LANBypass: true, Routes: []tun.Route{route("10.9.0.5/32", "0.0.0.0/0"), route("10.9.0.5/32", "192.168.1.128/25")}}, true, `
			10.9.0.5/32 0.0.0.0/0
			10.9.0.5/32 192.168.1.128/25
			0.0.0.0/0 192.168.1.128/25 own
			0.0.0.0/0 192.168.1.0/24 pass own
			0.0.0.0/0 0.0.0.0/0 own`},
		{"client of some networks", client, tun.Plan{Addresses: lease, Routes: []tun.Route{route("10.9.0.5/32", "10.5.0.0/16")}}, true, `
			10.9.0.5/32 10.5.0.0/16`},
		{"client of level use", client, tun.Plan{Addresses: lease, Routes: []tun.Route{use}}, true, `
			10.9.0.5/32 0.0.0.0/0 pass`},
		{"client that is not connected", client, tun.Plan{}, false, ``},
		{"the same, guard-always", always + client, tun.Plan{LANBypass: true}, false, `
			0.0.0.0/0 192.168.1.0/24 pass own
			0.0.0.0/0 0.0.0.0/0 own
			::/0 fd01::/64 pass own
			::/0 ::/0 own`},
		{"the same, connected", always + client, tun.Plan{}, true, ``},
		{"the same, disabled", always + strings.Replace(client, "ike2'", "ike2'\ndisabled = true", 1), tun.Plan{}, false, ``},
		{"the same, of some networks", always + client + "policy-template-group = 'g'\n[[policy-group]]\nname = 'g'\n[[policy]]\ntemplate = true\ngroup = 'g'\nsrc-address = '0.0.0.0/0'\ndst-address = '10.5.0.0/16'\n", tun.Plan{LANBypass: true}, false, `
			0.0.0.0/0 10.5.0.0/16 own`},
	} {
		c, _, err := config.Parse("f", []byte(tt.conf))
		if err != nil {
			t.Fatal(err)
		}
		lans := []netip.Prefix{p("192.168.1.0/24"), p("fd01::/64")}
		g := guardPlan(tt.plan, c, "culvert0", lans, func(string) bool { return tt.connected })
		var lines []string
		for _, f := range g.Flows {
			lines = append(lines, flowLine(f))
		}
		if got, want := strings.Join(lines, "\n"), strings.ReplaceAll(strings.TrimSpace(tt.want), "\t", ""); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, want)
		}
		if g.Device != "culvert0" || g.Mark != 0xC0150 {
			t.Errorf("%s: %+v", tt.name, g)
		}
	}
}

func flowLine(f guard.Flow) string {
	s := fmt.Sprint(f.Local, " ", f.Remote)
	if f.Pass {
		s += " pass"
	}
	if f.Own {
		s += " own"
	}
	return s
}

// A guard before the gateway: what is written is protected, level use is not, and a
// client waits for its address with all that its template allows.
func TestGuardBefore(t *testing.T) {
	const site = "[[peer]]\nname = 'p'\naddress = '192.0.2.1'\nexchange-mode = 'ike2'\n[[identity]]\npeer = 'p'\nsecret = 's'\n" +
		"[[policy]]\npeer = 'p'\ntunnel = true\nsrc-address = '10.1.0.0/24'\ndst-address = '10.2.0.0/24'\n"
	const client = "[[peer]]\nname = 'c'\naddress = '192.0.2.2'\nexchange-mode = 'ike2'\n[[identity]]\npeer = 'c'\nsecret = 's'\ngenerate-policy = 'port-strict'\nmode-config = 'request-only'\n"
	for text, want := range map[string]string{
		site:                     "10.1.0.0/24 10.2.0.0/24",
		site + "level = 'use'\n": "10.1.0.0/24 10.2.0.0/24 pass",
		client:                   "0.0.0.0/0 0.0.0.0/0 own\n::/0 ::/0 own",
		"":                       "",
	} {
		c, _, err := config.Parse("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		plan, err := guardBefore(c)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, f := range plan.Flows {
			lines = append(lines, flowLine(f))
		}
		if got := strings.Join(lines, "\n"); got != want {
			t.Errorf("%s\ngot\n%s\nwant\n%s", text, got, want)
		}
		if plan.Device != "culvert0" || plan.Mark != 0xC0150 || fmt.Sprint(plan.Ports) != "[500 4500]" || c.Gateway.GuardAlways {
			t.Errorf("%+v", plan)
		}
	}
}

// What a killed gateway still has is waited for, and nothing else.
func TestUntil(t *testing.T) {
	busy, other := errors.New("busy"), errors.New("other")
	tries := func(end time.Time, errs ...error) (n int, err error) {
		err = until(end, busy, func() error { n++; return errs[min(n, len(errs))-1] })
		return n, err
	}
	soon, never := time.Now().Add(time.Minute), time.Time{}
	if n, err := tries(soon, busy, busy, nil); n != 3 || err != nil {
		t.Error(n, err)
	}
	if n, err := tries(soon, busy, other); n != 2 || err != other {
		t.Error(n, err)
	}
	if n, err := tries(never, busy); n != 1 || err != busy {
		t.Error(n, err)
	}
}
