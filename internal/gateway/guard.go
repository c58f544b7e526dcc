package gateway

import (
	"errors"
	"slices"

	"culvert/internal/guard"
	"culvert/tun"
)

// guard brings the guard to a plan, before the host: a policy that is new
// protects before its traffic finds the device, never after.
func (g *gateway) guard(p tun.Plan, wanted bool) error {
	e := &g.edges
	switch {
	case e.Guard == nil && wanted && e.NoGuard != nil && !errors.Is(g.unguarded, e.NoGuard):
		g.unguarded = e.NoGuard
		g.log.Warn("nothing stops plaintext that never meets the device " + e.Device.Name() + ": " + e.NoGuard.Error())
	case e.Guard == nil:
	case !wanted:
		return e.Guard.Apply(guard.Plan{})
	default:
		return e.Guard.Apply(g.guardPlan(p))
	}
	return nil
}

// guardPlan is what the routes of a plan mean for packets that are not led.
func (g *gateway) guardPlan(p tun.Plan) guard.Plan {
	plan := guard.Plan{Device: g.edges.Device.Name(), Mark: g.cfg.Gateway.Mark, Ports: slices.Clone(p.Bypass)}
	for _, r := range p.Routes {
		f := guard.Flow{Local: r.Local, Remote: r.Remote, Proto: r.Proto, Pass: r.Pass || r.Optional}
		if tun.HasPorts(r.Proto) {
			f.LocalPort, f.RemotePort = r.LocalPort, r.RemotePort
		}
		plan.Flows = append(plan.Flows, f)
	}
	return plan
}
