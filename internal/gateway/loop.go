package gateway

import (
	"context"
	"fmt"
	"time"

	"culvert/ike/core"
)

// farewell is how long a stopping gateway waits for its peers' answers.
const farewell = 2 * time.Second

// loop owns the plane. It returns when ctx has ended and the SAs have been deleted at the peers, or when the
// data path or the control server has failed. path and ctl deliver the results of those two.
func (g *gateway) loop(ctx context.Context, path, ctl <-chan error) (pathEnded, ctlEnded bool, err error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	compare := time.NewTicker(clocksEvery)
	defer compare.Stop()
	var limit <-chan time.Time // of the farewell; nil before it
	var hurry <-chan struct{}  // nil before the farewell
	quit := ctx.Done()
	guarding, leading := g.restorer.add(g.edges.Guard), g.restorer.add(g.edges.Host)
	for {
		later := sooner(g.follow(), g.restorer.work())
		if limit != nil && g.plane.Config.Endpoint.Idle() {
			return false, false, nil
		}
		at, ok := g.plane.Deadline()
		if !later.IsZero() && (!ok || later.Before(at)) {
			at, ok = later, true
		}
		if ok {
			timer.Reset(time.Until(at))
		} else {
			timer.Stop()
		}
		select {
		case <-quit:
			g.log.Info("stopping")
			g.plane.Input(time.Now(), core.Command{Do: core.Shutdown})
			quit, limit, hurry = nil, time.After(farewell), g.o.Hurry
		case <-limit:
			g.log.Warn("stopped before every peer had answered")
			return false, false, nil
		case <-hurry:
			g.log.Warn("stopped without waiting for the answers of the peers")
			return false, false, nil
		case <-g.plane.Inbox.Wake:
			g.plane.Work(time.Now())
		case <-timer.C:
			g.plane.Input(time.Now(), core.Tick{})
		case <-compare.C:
			g.compareClocks()
		case <-guarding.reports():
			g.restorer.changed(guarding)
		case <-leading.reports():
			g.restorer.changed(leading)
		case call := <-g.calls:
			call()
		case _, ok := <-g.o.Reload:
			if !ok {
				g.o.Reload = nil
				continue
			}
			g.reloadAndLog()
		case err := <-path:
			if err == nil {
				err = fmt.Errorf("the device %s or the sockets were closed by another program: start the gateway again", g.edges.Device.Name())
			}
			return true, false, err
		case err := <-ctl:
			return false, true, err
		}
	}
}

// sooner is the earlier of two times. The zero time counts as none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// follow brings routes, rules and addresses of the host up to date with what has changed at run
// time: SAs of policies of level use, policies from templates, leased addresses. Changes that come close
// together are made in one step: then follow returns when it wants to be called again. What
// an SA needs does not wait for that (plane.Config.Follow).
func (g *gateway) follow() (later time.Time) {
	if !g.plane.Replan {
		return time.Time{}
	}
	if time.Until(g.following) > 0 {
		return g.following
	}
	g.followNow()
	return time.Time{}
}

// followNow is follow without a pause.
func (g *gateway) followNow() {
	g.plane.Following()
	start := time.Now()
	g.restore()
	took := time.Since(start)
	g.following = start.Add(took + max(followEvery, followShare*took))
}

// followEvery is the shortest pause between two changes of the host. After a change that took long,
// such as one of thousands of routes, the pause is followShare times as long as the change, so
// that at most a tenth of the time goes into routes and the rest is left for IKE.
const (
	followEvery = 20 * time.Millisecond
	followShare = 9
)

// hostNotAsWanted is logged if the host cannot be brought to a plan.
const hostNotAsWanted = "the rules and routes of this host could not be set as the policies require"

// restore applies the plan as it is now.
func (g *gateway) restore() {
	p := g.plane.Plan(g.compiled)
	err := g.guard(p) // before the host, as in a change
	if err == nil {
		err = g.applyHost(p)
	}
	if err != nil {
		g.log.Error(hostNotAsWanted, "error", err)
	}
}
