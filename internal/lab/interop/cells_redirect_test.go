//go:build linux

package interop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"culvert/internal/lab"
)

// redirectCells: RFC 5685. strongSwan listens on two addresses and sends culvert
// from the one to the other, which is two gateways to a client.
func redirectCells() []cell {
	const g = "Redirect to another gateway"
	other := netip.MustParseAddr("10.9.0.12")
	anywhere := extra{connection: "local_addrs = 10.9.0.2, " + other.String() + "\n"}
	return []cell{
		{group: g, name: "redirect-by-address", extra: anywhere, event: theyRedirect(other)},
		{group: g, name: "redirect-there-and-back", extra: anywhere,
			event: both("strongSwan redirects to another address and back", theyRedirect(other), theyRedirect(netip.MustParseAddr("10.9.0.2")))},
	}
}

// theyRedirect: an IKE SA that is up is redirected; culvert makes another at the
// other address, with a CHILD SA, and deletes the old one.
func theyRedirect(to netip.Addr) event {
	return event{"strongSwan redirects to another address", func(ctx context.Context, r *tunnel) error {
		if to != r.they {
			r.them.Run("ip", "addr", "add", to.String()+"/24", "dev", "eth0")
			time.Sleep(time.Second) // strongSwan knows it before it is needed
		}
		old := r.ike
		if err := r.swan.Redirect(ctx, r.we.String(), to.String()); err != nil {
			return err
		}
		return lab.Until(ctx, func() error {
			if err := r.look(ctx); err != nil {
				return err
			}
			if r.ike.InitiatorSPI == old.InitiatorSPI {
				return errors.New("the IKE SA is still the old one")
			}
			peers, err := r.culvert.Print(ctx, "active-peers")
			if err == nil && (len(peers) != 1 || !strings.HasPrefix(peers[0].Text("remote-address"), to.String())) {
				err = fmt.Errorf("culvert's IKE SAs: %v", peers)
			}
			if err == nil && !strings.Contains(r.culvert.Log(), "event=redirected") {
				err = errors.New("culvert does not say that it was redirected")
			}
			return err
		})
	}}
}
