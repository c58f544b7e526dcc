package gateway

import (
	"context"
	"time"

	"culvert/config"
	"culvert/internal/gateway/compile"
	"culvert/internal/gateway/plane"
	"culvert/internal/gateway/view"
	"culvert/internal/host/guard"
	"culvert/internal/operate/control"
	"culvert/internal/packet/underlay"
	"culvert/tun"
)

// backend answers the control socket. Commands that change nothing read a view.View. Those
// that change something are in commands.go. Every call runs in the gateway's own
// goroutine, between two inputs.
type backend struct{ g *gateway }

var _ control.Backend = backend{}

// call runs f in the gateway's goroutine.
func call[T any](ctx context.Context, g *gateway, f func(now time.Time) (T, error)) (v T, err error) {
	done := make(chan struct{})
	run := func() {
		defer close(done)
		v, err = f(time.Now())
	}
	select {
	case g.calls <- run:
		<-done // taken calls are run at once
		return v, err
	case <-g.gone:
		return v, errStopped
	case <-ctx.Done():
		return v, ctx.Err()
	}
}

// read runs f with the gateway as it is at that moment.
func read[T any](ctx context.Context, g *gateway, f func(v *view.View) (T, error)) (T, error) {
	return call(ctx, g, func(now time.Time) (T, error) { return f(g.view(now)) })
}

// rows is read for what cannot fail.
func rows[T any](ctx context.Context, g *gateway, f func(v *view.View) []T) ([]T, error) {
	return read(ctx, g, func(v *view.View) ([]T, error) { return f(v), nil })
}

func (b backend) Policies(ctx context.Context) ([]control.Policy, error) {
	return rows(ctx, b.g, (*view.View).Policies)
}

func (b backend) Peers(ctx context.Context) ([]control.Peer, error) {
	return rows(ctx, b.g, (*view.View).Peers)
}

func (b backend) Identities(ctx context.Context, secrets bool) ([]control.Identity, error) {
	return rows(ctx, b.g, func(v *view.View) []control.Identity { return v.Identities(secrets) })
}

func (b backend) Profiles(ctx context.Context) ([]control.Profile, error) {
	return rows(ctx, b.g, (*view.View).Profiles)
}

func (b backend) Proposals(ctx context.Context) ([]control.Proposal, error) {
	return rows(ctx, b.g, (*view.View).Proposals)
}

func (b backend) ModeConfigs(ctx context.Context) ([]control.ModeConfig, error) {
	return rows(ctx, b.g, (*view.View).ModeConfigs)
}

func (b backend) Pools(ctx context.Context) ([]control.Pool, error) {
	return rows(ctx, b.g, (*view.View).Pools)
}

func (b backend) PolicyGroups(ctx context.Context) ([]control.PolicyGroup, error) {
	return rows(ctx, b.g, (*view.View).PolicyGroups)
}

func (b backend) ActivePeers(ctx context.Context) ([]control.ActivePeer, error) {
	return rows(ctx, b.g, (*view.View).ActivePeers)
}

func (b backend) InstalledSAs(ctx context.Context, keys bool) ([]control.InstalledSA, error) {
	return rows(ctx, b.g, func(v *view.View) []control.InstalledSA { return v.InstalledSAs(keys) })
}

func (b backend) Statistics(ctx context.Context) ([]control.Statistic, error) {
	return rows(ctx, b.g, (*view.View).Statistics)
}

func (b backend) Offloads(ctx context.Context) ([]control.Offload, error) {
	return rows(ctx, b.g, (*view.View).Offloads)
}

func (b backend) ExplainPacket(ctx context.Context, q control.PacketQuery) (control.PacketExplanation, error) {
	return read(ctx, b.g, func(v *view.View) (control.PacketExplanation, error) { return v.ExplainPacket(q) })
}

func (b backend) ExplainPeer(ctx context.Context, name string) (control.PeerExplanation, error) {
	return read(ctx, b.g, func(v *view.View) (control.PeerExplanation, error) { return v.ExplainPeer(name) })
}

// view is the gateway as the commands that change nothing read it.
func (g *gateway) view(now time.Time) *view.View {
	v := planeView(g.plane, g.cfg, g.compiled, now)
	v.Attempts, v.Leases, v.Counts.Events = g.attempts, find[*leases](g.services).count, g.events.counts[:]
	v.Host = view.Host{Device: g.edges.Device.Name(), Mark: g.cfg.Gateway.Mark, Differences: g.restorer.differences}
	v.Host.Prober, _ = g.edges.Host.(tun.Prober)
	if g.cfg.Gateway.Guard {
		v.Host.Guard, _ = g.edges.Guard.(guard.Explainer)
	}
	if d, ok := g.edges.Conn.(underlay.Dropper); ok {
		v.Counts.SocketDrops = d.Drops
	}
	if d, ok := g.edges.Device.(tun.Dropper); ok {
		v.Counts.DeviceDrops = d.Drops
	}
	if d, ok := g.edges.Device.(tun.Offloader); ok {
		v.Offload = append(v.Offload, d.Offloads()...)
	}
	if c, ok := g.edges.Conn.(underlay.Offloader); ok {
		v.Offload = append(v.Offload, c.Offloads()...)
	}
	if g.edges.Guard != nil {
		v.Counts.Guard = g.edges.Guard.Counts
	}
	return v
}

// planeView is what a view has of the plane.
func planeView(p *plane.Plane, cfg *config.Config, c *compile.Result, now time.Time) *view.View {
	v := &view.View{Now: now, Config: cfg, Compiled: c, IKE: p.Config.Endpoint, SAs: p.SAs, Policy: p.Policies.Policies(), Path: p.Path, Refused: p.Refused}
	for _, m := range p.MadeInOrder() {
		v.Made = append(v.Made, m.AddPolicy)
	}
	v.Counts.Path, v.Counts.QueueFull, v.Counts.Unsent = p.Path.Counters().Snapshot, p.Inbox.Dropped.Load(), p.Unsent
	return v
}
