//go:build linux

package interop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"culvert/internal/testing/lab"
)

// redirectCells: RFC 5685. The gateway listens on two addresses and sends the
// client from the one to the other, which is two gateways to a client. There is no
// cell for IKE_AUTH: strongSwan 5.9.8, as the client, follows such a REDIRECT and
// then dies of a double free.
func redirectCells() []cell {
	const g = "Redirect to another gateway"
	other := netip.MustParseAddr("10.9.0.12")
	anywhere := extra{connection: "local_addrs = 10.9.0.2, " + other.String() + "\n"}
	second := netip.MustParseAddr("10.9.0.11")
	to := "redirect = \"" + second.String() + "\"\n"
	address := second.String() + "/24"
	return []cell{
		{group: g, name: "we-redirect-in-init", theyInitiate: true, extra: extra{address: address, peer: to}, event: theyAreAt(second)},
		{group: g, name: "we-redirect-later", theyInitiate: true, extra: extra{address: address},
			event: both("culvert redirects to another address and back", weRedirect(second), weRedirect(netip.MustParseAddr("10.9.0.1")))},
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

// theyAreAt: strongSwan began at our first address and has its SAs with another;
// nothing is left at the first.
func theyAreAt(a netip.Addr) event {
	return event{"culvert redirects before there is a tunnel", func(ctx context.Context, r *tunnel) error {
		if !strings.Contains(r.culvert.Log(), "event=redirecting") {
			return errors.New("culvert does not say that it sent strongSwan away")
		}
		return r.onlyAt(ctx, a)
	}}
}

// onlyAt waits until the only IKE SA, on both sides, is with our address a.
func (r *tunnel) onlyAt(ctx context.Context, a netip.Addr) error {
	return lab.Until(ctx, func() error {
		if err := r.look(ctx); err != nil {
			return err
		}
		if r.ike.Remote != a.String() {
			return fmt.Errorf("strongSwan's IKE SA is with %s", r.ike.Remote)
		}
		peers, err := r.culvert.Print(ctx, "active-peers")
		if err == nil && (len(peers) != 1 || !strings.HasPrefix(peers[0].Text("local-address"), a.String())) {
			err = fmt.Errorf("culvert's IKE SAs: %v", peers)
		}
		return err
	})
}

// weRedirect: an IKE SA that is up is redirected by command.
func weRedirect(to netip.Addr) event {
	return event{"culvert redirects to another address", func(ctx context.Context, r *tunnel) error {
		out, err := r.culvert.Command(ctx, "active-peers", "redirect", to.String())
		if err == nil && !strings.Contains(string(out), "redirected 1 peer to") {
			err = fmt.Errorf("culvert says %q", out)
		}
		if err != nil {
			return err
		}
		return r.onlyAt(ctx, to)
	}}
}
