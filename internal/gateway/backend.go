package gateway

import (
	"context"
	"time"

	"culvert/ike/core"
	"culvert/internal/operate/control"
	"culvert/sad"
)

// backend answers the control socket. Every call runs in the gateway's own
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

func (b backend) Policies(ctx context.Context) ([]control.Policy, error) {
	return call(ctx, b.g, func(now time.Time) ([]control.Policy, error) {
		return policyRows(b.g.cfg, b.g.compiled, b.g.plane.MadeInOrder(), b.g.plane.SAs.Children(), now), nil
	})
}

func (b backend) Peers(ctx context.Context) ([]control.Peer, error) {
	return call(ctx, b.g, func(time.Time) ([]control.Peer, error) { return peerRows(b.g.cfg), nil })
}

func (b backend) Identities(ctx context.Context, secrets bool) ([]control.Identity, error) {
	return call(ctx, b.g, func(time.Time) ([]control.Identity, error) { return identityRows(b.g.cfg, secrets), nil })
}

func (b backend) Profiles(ctx context.Context) ([]control.Profile, error) {
	return call(ctx, b.g, func(time.Time) ([]control.Profile, error) { return profileRows(b.g.cfg), nil })
}

func (b backend) Proposals(ctx context.Context) ([]control.Proposal, error) {
	return call(ctx, b.g, func(time.Time) ([]control.Proposal, error) { return proposalRows(b.g.cfg), nil })
}

func (b backend) ModeConfigs(ctx context.Context) ([]control.ModeConfig, error) {
	return call(ctx, b.g, func(time.Time) ([]control.ModeConfig, error) { return modeConfigRows(b.g.cfg), nil })
}

func (b backend) Pools(ctx context.Context) ([]control.Pool, error) {
	return call(ctx, b.g, func(time.Time) ([]control.Pool, error) {
		return poolRows(b.g.cfg, find[*leases](b.g.services).count), nil
	})
}

func (b backend) PolicyGroups(ctx context.Context) ([]control.PolicyGroup, error) {
	return call(ctx, b.g, func(time.Time) ([]control.PolicyGroup, error) { return groupRows(b.g.cfg), nil })
}

func (b backend) ActivePeers(ctx context.Context) ([]control.ActivePeer, error) {
	return call(ctx, b.g, func(now time.Time) ([]control.ActivePeer, error) {
		return activePeerRows(b.g.plane.Config.Endpoint.SAs(), b.g.plane.SAs, now), nil
	})
}

func (b backend) InstalledSAs(ctx context.Context, keys bool) ([]control.InstalledSA, error) {
	return call(ctx, b.g, func(now time.Time) ([]control.InstalledSA, error) {
		return installedRows(policyNumbers(b.g.cfg, b.g.compiled, b.g.plane.MadeInOrder()), b.g.plane.SAs.Children(), keys, now), nil
	})
}

func (b backend) Statistics(ctx context.Context) ([]control.Statistic, error) {
	return call(ctx, b.g, func(time.Time) ([]control.Statistic, error) { return b.g.statistics(), nil })
}

func (b backend) Flush(ctx context.Context) (int, error) {
	return call(ctx, b.g, func(now time.Time) (int, error) {
		n := b.g.plane.SAs.Len()
		b.g.dropManual(true)
		b.g.plane.Input(now, core.Command{Do: core.FlushSAs})
		return n, nil
	})
}

func (b backend) KillConnections(ctx context.Context) (int, error) {
	return b.command(ctx, core.KillAll, func() int { return len(b.g.plane.Config.Endpoint.SAs()) })
}

func (b backend) Rekey(ctx context.Context, children bool) (int, error) {
	if children {
		return b.command(ctx, core.RekeyChildren, func() int { return countSealing(b.g.plane.SAs) })
	}
	return b.command(ctx, core.RekeyIKE, func() int {
		n := 0
		for _, sa := range b.g.plane.Config.Endpoint.SAs() {
			if sa.State == "established" {
				n++
			}
		}
		return n
	})
}

// command has the endpoint do something; count tells beforehand how many it concerns.
func (b backend) command(ctx context.Context, do core.CommandKind, count func() int) (int, error) {
	return call(ctx, b.g, func(now time.Time) (int, error) {
		n := count()
		b.g.plane.Input(now, core.Command{Do: do})
		return n, nil
	})
}

func countSealing(t *sad.Table) (n int) {
	now := time.Now()
	for _, c := range t.Children() {
		if c.State(now) == sad.StateMature {
			n++
		}
	}
	return n
}

func (b backend) Reload(ctx context.Context) (control.ReloadReport, error) {
	return call(ctx, b.g, func(time.Time) (control.ReloadReport, error) { return b.g.reload() })
}
