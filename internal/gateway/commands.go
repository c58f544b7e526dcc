package gateway

import (
	"context"
	"fmt"
	"time"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/gateway/view"
	"culvert/internal/operate/control"
)

// The commands of the control socket that change something. SAs by hand are in manual.go.

func (b backend) Flush(ctx context.Context) (int, error) {
	return call(ctx, b.g, func(now time.Time) (int, error) {
		n := b.g.view(now).Children()
		b.g.dropManual(true)
		b.g.plane.Input(now, core.Command{Do: core.FlushSAs})
		return n, nil
	})
}

func (b backend) KillConnections(ctx context.Context) (int, error) {
	return b.command(ctx, core.KillAll, (*view.View).IKESAs)
}

func (b backend) Rekey(ctx context.Context, children bool) (int, error) {
	if children {
		return b.command(ctx, core.RekeyChildren, (*view.View).Sealing)
	}
	return b.command(ctx, core.RekeyIKE, (*view.View).Established)
}

// command hands the endpoint a command. count is how many SAs it affects, and is called before.
func (b backend) command(ctx context.Context, do core.CommandKind, count func(*view.View) int) (int, error) {
	return call(ctx, b.g, func(now time.Time) (int, error) {
		n := count(b.g.view(now))
		b.g.plane.Input(now, core.Command{Do: do})
		return n, nil
	})
}

func (b backend) Reload(ctx context.Context) (control.ReloadReport, error) {
	return call(ctx, b.g, func(time.Time) (control.ReloadReport, error) { return b.g.reload() })
}

// Redirect sends those that are connected to another gateway.
func (b backend) Redirect(ctx context.Context, q control.RedirectQuery) (r control.RedirectReport, err error) {
	to, ok := config.ParseHost(q.To)
	switch {
	case !ok:
		return r, fmt.Errorf("%q: write %s", q.To, config.HostAccepts)
	case q.Within < 0:
		return r, fmt.Errorf("within %v: write a duration, or 0 for no limit", q.Within)
	}
	return call(ctx, b.g, func(now time.Time) (control.RedirectReport, error) {
		v := b.g.view(now)
		if q.Peer != "" {
			if _, err := v.Peer(q.Peer); err != nil {
				return r, err
			}
		}
		r.Sent, r.Stay = v.Redirectable(q.Peer)
		b.g.plane.Input(now, core.Command{Do: core.RedirectPeers, Peer: q.Peer, To: core.Gateway(to), Within: q.Within})
		return r, nil
	})
}
