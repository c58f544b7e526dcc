package gateway

import (
	"context"
	"fmt"
	"slices"
	"time"

	"culvert/config"
	"culvert/ike/core"
	"culvert/internal/operate/control"
)

// Redirect sends those that are connected to another gateway.
func (b backend) Redirect(ctx context.Context, q control.RedirectQuery) (r control.RedirectReport, err error) {
	to, ok := config.ParseHost(q.To)
	switch {
	case !ok:
		return r, fmt.Errorf("%q: write %s", q.To, config.HostAccepts)
	case q.Within < 0:
		return r, fmt.Errorf("within %v: write a time, or 0 for ever", q.Within)
	}
	return call(ctx, b.g, func(now time.Time) (control.RedirectReport, error) {
		if q.Peer != "" && !slices.ContainsFunc(b.g.cfg.Peers, func(p *config.Peer) bool { return p.Name == q.Peer }) {
			return r, fmt.Errorf("there is no peer %q: see `culvert peer print`", q.Peer)
		}
		for _, sa := range b.g.plane.Config.Endpoint.SAs() {
			switch {
			case q.Peer != "" && sa.Peer != q.Peer || sa.State != "established":
			case sa.Redirectable:
				r.Sent++
			default:
				r.Stay++
			}
		}
		b.g.plane.Input(now, core.Command{Do: core.RedirectPeers, Peer: q.Peer, To: core.Gateway(to), Within: q.Within})
		return r, nil
	})
}
