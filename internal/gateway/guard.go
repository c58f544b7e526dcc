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

// guardPart sets the guard for a configuration that wants one. It comes before the host, so that a new policy's
// traffic is guarded before it is routed to the device.
func (g *gateway) guardPart() part {
	var plan guard.Plan
	var lans []netip.Prefix
	wanted, tried := false, false
	return part{
		name: "guard",
		prepare: func(c *change) (err error) {
			if wanted = g.edges.Guard != nil && c.next.Gateway.Guard; wanted {
				plan, lans, err = g.guardOf(g.plane.Plan(c.result), c.next)
			}
			return err
		},
		try: func(*change) error {
			if !wanted {
				return nil
			}
			tried = true
			return g.edges.Guard.Apply(plan)
		},
		commit: func(c *change) {
			if wanted {
				g.lans = lans
			}
			g.warnUnguarded(c.next)
		},
		revert: func(c *change) {
			if tried {
				g.guardAsBefore(c)
			}
		},
	}
}

// noGuardPart removes the guard if a configuration wants none. It comes after the host, so that
// traffic stays guarded until its routes are gone. No part after it can fail.
func (g *gateway) noGuardPart() part {
	tried := false
	return part{
		name: "removal of the guard",
		try: func(c *change) error {
			if g.edges.Guard == nil || c.next.Gateway.Guard {
				return nil
			}
			tried = true
			return g.edges.Guard.Apply(guard.Plan{})
		},
		revert: func(c *change) {
			if tried && c.was != nil {
				g.guardAsBefore(c)
			}
		},
	}
}

// guardAsBefore undoes guardPart. A guard that a killed gateway left cannot be restored: the one that
// replaced it stays.
func (g *gateway) guardAsBefore(c *change) {
	var plan guard.Plan // takes it away
	switch {
	case c.was == nil:
		if g.edges.Guard.Left() {
			return
		}
	case g.cfg.Gateway.Guard:
		plan = guardPlan(g.plane.Plan(c.was), g.cfg, g.edges.Device.Name(), g.lans, g.plane.Connected)
	}
	if err := g.edges.Guard.Apply(plan); err != nil {
		g.log.Error("the guard could not be set back", "error", err)
	}
}

// guardOf is the guard's plan of a configuration, and the private networks that it knows.
func (g *gateway) guardOf(p tun.Plan, c *config.Config) (guard.Plan, []netip.Prefix, error) {
	lans, err := g.edges.lans(p, c.Gateway.GuardAlways)
	if err != nil {
		return guard.Plan{}, nil, err
	}
	return guardPlan(p, c, g.edges.Device.Name(), lans, g.plane.Connected), lans, nil
}

// warnUnguarded warns once if there is no guard although the configuration wants one.
func (g *gateway) warnUnguarded(c *config.Config) {
	e := &g.edges
	if e.Guard == nil && c.Gateway.Guard && e.NoGuard != nil && !errors.Is(g.unguarded, e.NoGuard) {
		g.unguarded = e.NoGuard
		g.log.Warn("there is no guard, so nothing stops plaintext that bypasses the device " + e.Device.Name() + ": " + e.NoGuard.Error())
	}
}

// guard sets the guard for a plan of the configuration in force.
func (g *gateway) guard(p tun.Plan) error {
	if g.edges.Guard == nil || !g.cfg.Gateway.Guard {
		return nil
	}
	plan, lans, err := g.guardOf(p, g.cfg)
	if err != nil {
		return err
	}
	g.lans = lans
	return g.edges.Guard.Apply(plan)
}

// followLANs updates the guard when private networks on a link have changed.
func (g *gateway) followLANs() {
	if g.edges.Guard == nil || !g.cfg.Gateway.Guard {
		return
	}
	p := g.plane.Plan(g.compiled)
	if lans, err := g.edges.lans(p, g.cfg.Gateway.GuardAlways); err != nil || !slices.Equal(lans, g.lans) {
		g.restore()
	}
}

// guardPlan is what the guard does with packets that are not routed to the device. lans
// are the private networks on the host's links. connected reports whether a peer has
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
	// A client must not bypass its tunnel with its other addresses either.
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

// clientRoutes are the plan's tunnels to everywhere from an address that a peer gave this host, with the host's
// other addresses as sources.
func clientRoutes(p tun.Plan) (out []tun.Route) {
	for _, r := range p.Routes {
		if r.Everywhere() && !r.Optional && p.Leased(r) {
			out = append(out, tun.Route{Local: anywhere(r.Remote), Remote: anywhere(r.Remote)})
		}
	}
	return out
}

// awaited is, with guard-always, the traffic of clients that are not connected. They have no address and
// therefore no policy yet, so it is all that their templates allow.
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
