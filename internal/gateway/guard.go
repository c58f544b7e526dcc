package gateway

import (
	"errors"
	"net/netip"
	"slices"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/host/guard"
	"culvert/tun"
)

// guard brings the guard to a plan of a configuration, before the host: a policy
// that is new protects before its traffic finds the device, never after.
func (g *gateway) guard(p tun.Plan, c *config.Config) error {
	e := &g.edges
	switch {
	case e.Guard == nil && c.Gateway.Guard && e.NoGuard != nil && !errors.Is(g.unguarded, e.NoGuard):
		g.unguarded = e.NoGuard
		g.log.Warn("nothing stops plaintext that never meets the device " + e.Device.Name() + ": " + e.NoGuard.Error())
	case e.Guard == nil:
	case !c.Gateway.Guard:
		return e.Guard.Apply(guard.Plan{})
	default:
		lans, err := e.lans(p, c.Gateway.GuardAlways)
		if err != nil {
			return err
		}
		g.lans = lans
		return e.Guard.Apply(guardPlan(p, c, e.Device.Name(), lans, g.plane.connected))
	}
	return nil
}

// followLANs lets the guard follow private networks that came to a link or went.
func (g *gateway) followLANs() {
	if g.edges.Guard == nil || !g.cfg.Gateway.Guard {
		return
	}
	p := g.plane.Plan(g.compiled)
	if lans, err := g.edges.lans(p, g.cfg.Gateway.GuardAlways); err != nil || !slices.Equal(lans, g.lans) {
		g.restore()
	}
}

// guardPlan is what the routes of a plan mean for packets that are not led. lans
// are the private networks on the host's links; connected tells which peers have
// given this host an address.
func guardPlan(p tun.Plan, c *config.Config, device string, lans []netip.Prefix, connected func(peer string) bool) guard.Plan {
	plan := guard.Plan{Device: device, Mark: c.Gateway.Mark, Errors: tun.ErrorMark(c.Gateway.Mark), Ports: slices.Clone(p.Bypass)}
	add := func(own bool, routes ...tun.Route) {
		for _, r := range routes {
			f := guard.Flow{Local: r.Local, Remote: r.Remote, Proto: r.Proto, Pass: r.Pass || r.Optional, Own: own}
			if tun.HasPorts(r.Proto) {
				f.LocalPort, f.RemotePort = r.LocalPort, r.RemotePort
			}
			plan.Flows = append(plan.Flows, f)
		}
	}
	near := [2]tun.Near{p.Near(lans, false), p.Near(lans, true)}
	nearOf := func(r tun.Route) tun.Near {
		if r.Remote.Addr().Is6() {
			return near[1]
		}
		return near[0]
	}
	for _, r := range p.Routes {
		add(false, nearOf(r).Around(p, r)...)
		add(false, r)
	}
	// A client sends nothing past its tunnel by its other addresses either.
	for _, r := range append(clientRoutes(p), awaited(c, connected)...) {
		if r.Remote.Bits() == 0 {
			add(true, nearOf(r).Routes(r)...)
		}
		add(true, r)
	}
	return plan
}

// anywhere is all addresses of the family of a prefix.
func anywhere(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr(), 0).Masked() }

// clientRoutes are the plan's tunnels from an address that a peer gave this host
// to everywhere, as they are for the host's other addresses.
func clientRoutes(p tun.Plan) (out []tun.Route) {
	for _, r := range p.Routes {
		if r.Everywhere() && !r.Optional && p.Leased(r) {
			out = append(out, tun.Route{Local: anywhere(r.Remote), Remote: anywhere(r.Remote)})
		}
	}
	return out
}

// awaited is what clients that are not connected will protect as far as the
// configuration says, under guard-always: there is no policy for it yet, since
// there is no address. It is all that a template allows.
func awaited(c *config.Config, connected func(peer string) bool) (out []tun.Route) {
	if !c.Gateway.GuardAlways {
		return nil
	}
	for _, i := range c.Identities {
		if i.Requests() && !disabledPeer(c, i.PeerName) && !connected(i.PeerName) {
			for _, t := range c.Policies {
				if t.Template && !t.Disabled && i.Generates() && t.Group == i.PolicyTemplateGroup {
					out = append(out, awaitedRoutes(t)...)
				}
			}
		}
	}
	return out
}

func awaitedRoutes(t *config.Policy) (out []tun.Route) {
	allows := core.Template{Local: t.SrcAddress, Remote: t.DstAddress, Proto: uint8(t.Protocol)}
	for _, pair := range allows.Pairs() {
		for _, r := range pair.Remote.Prefixes() {
			out = append(out, tun.Route{Local: anywhere(r), Remote: r, Proto: allows.Proto})
		}
	}
	return out
}

func disabledPeer(c *config.Config, name string) bool {
	return slices.ContainsFunc(c.Peers, func(p *config.Peer) bool { return p.Name == name && p.Disabled })
}
