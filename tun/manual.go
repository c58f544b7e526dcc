package tun

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// ManualError is Apply's answer where Culvert does not set routes itself: the
// commands that do what the plan wants. A caller may show it and go on.
type ManualError struct {
	System   string
	Commands []string
	// Default: the routes cover everything, the peers' own addresses too.
	Default bool
}

func (e *ManualError) Error() string {
	first := ""
	if e.Default {
		first = "first give each peer's address a route through your router, or the gateway's own packets enter its tunnel; then "
	}
	return "routes and addresses are not set automatically on " + e.System + ": " + first + "run as administrator:\n\t" + strings.Join(e.Commands, "\n\t")
}

// manualHost is the Host of a system (a GOOS) on which nothing is set
// automatically.
type manualHost struct{ system, device string }

func (h manualHost) Apply(p Plan) error {
	c := manualCommands(h.system, h.device, p)
	if len(c) == 0 {
		return nil
	}
	covers := func(r Route) bool { return !r.Pass && r.Remote.IsValid() && r.Remote.Bits() == 0 }
	return &ManualError{System: h.system, Commands: c, Default: slices.ContainsFunc(p.Routes, covers)}
}

func (manualHost) Close() error { return nil }

// manualCommands is the plan as commands of the system (a GOOS).
func manualCommands(system, device string, p Plan) []string {
	add := addWindows
	if system != "windows" {
		add = addBSD
	}
	var out []string
	for _, a := range p.Addresses {
		out = append(out, add.address(device, a))
	}
	for _, r := range p.Routes {
		if r.Pass || !r.Remote.IsValid() {
			continue
		}
		for _, half := range halves(r.Remote.Masked()) {
			if c := add.route(device, half); !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	}
	return out
}

// halves splits a default route in two, so that the system's own stays in
// place behind it.
func halves(p netip.Prefix) []netip.Prefix {
	switch {
	case p.Bits() != 0:
		return []netip.Prefix{p}
	case p.Addr().Is4():
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1")}
	}
	return []netip.Prefix{netip.MustParsePrefix("::/1"), netip.MustParsePrefix("8000::/1")}
}

type commands struct {
	address, route func(device string, p netip.Prefix) string
}

var addBSD = commands{
	address: func(device string, p netip.Prefix) string {
		if p.Addr().Is4() {
			return fmt.Sprintf("ifconfig %s inet %s %s alias", device, p, p.Addr())
		}
		return fmt.Sprintf("ifconfig %s inet6 %s alias", device, p)
	},
	route: func(device string, p netip.Prefix) string {
		family := "-inet"
		if p.Addr().Is6() {
			family = "-inet6"
		}
		return fmt.Sprintf("route -n add %s -net %s -interface %s", family, p, device)
	},
}

var addWindows = commands{
	address: func(device string, p netip.Prefix) string {
		if p.Addr().Is4() {
			mask := net.IP(net.CIDRMask(p.Bits(), 32))
			return fmt.Sprintf("netsh interface ipv4 add address name=\"%s\" address=%s mask=%s store=active", device, p.Addr(), mask)
		}
		return fmt.Sprintf("netsh interface ipv6 add address interface=\"%s\" address=%s store=active", device, p)
	},
	route: func(device string, p netip.Prefix) string {
		family := "ipv4"
		if p.Addr().Is6() {
			family = "ipv6"
		}
		return fmt.Sprintf("netsh interface %s add route prefix=%s interface=\"%s\" store=active", family, p, device)
	},
}
