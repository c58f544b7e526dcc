//go:build linux

package interop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/internal/testing/lab"
)

// reauthCells: a new IKE SA from the beginning, with new CHILD SAs, in the place
// of the old one: before that goes (make before break) or after.
func reauthCells() []cell {
	const g = "Authenticating anew"
	makeFirst := extra{daemon: "make_before_break = yes"}
	breakFirst := extra{daemon: "make_before_break = no"}
	asks := func(e extra) extra { // strongSwan as responder tells AUTH_LIFETIME
		e.connection = "reauth_time = 18s\n\t\trand_time = 0\n\t\tover_time = 12s\n"
		return e
	}
	return []cell{
		{group: g, name: "we-authenticate-anew", extra: extra{profile: "reauth = \"20s\"\n"}, event: anew("culvert authenticates anew during a transfer, make before break", duringTransfer)},
		{group: g, name: "they-ask-us-to", extra: asks(makeFirst), event: anew("strongSwan told AUTH_LIFETIME; culvert authenticates anew", nil)},
		{group: g, name: "we-ask-them-to-make-first", theyInitiate: true, extra: extra{profile: "reauth = \"26s\"\n", daemon: makeFirst.daemon, connection: "over_time = 8s\n"},
			event: anew("culvert told AUTH_LIFETIME; strongSwan authenticates anew", nil)},
		{group: g, name: "we-ask-them-to-break-first", theyInitiate: true, extra: extra{profile: "reauth = \"26s\"\n", daemon: breakFirst.daemon, connection: "over_time = 8s\n"},
			event: anew("culvert told AUTH_LIFETIME; strongSwan authenticates anew", nil)},
		{group: g, name: "they-authenticate-anew-make-first", theyInitiate: true, extra: makeFirst, event: anew("strongSwan authenticates anew during a transfer, make before break", theyReauthDuringTransfer)},
		{group: g, name: "they-authenticate-anew-break-first", theyInitiate: true, extra: breakFirst, event: anew("strongSwan authenticates anew, break before make", theyReauth)},
		{group: g, name: "they-authenticate-anew-make-first-we-began", extra: makeFirst, event: anew("strongSwan authenticates anew, make before break", theyReauth)},
		{group: g, name: "they-authenticate-anew-break-first-we-began", extra: breakFirst, event: anew("strongSwan authenticates anew, break before make", theyReauth)},
	}
}

// anew does something, or waits, until an IKE SA with a CHILD SA of its own has
// replaced those that were noted.
func anew(name string, do func(context.Context, *tunnel) error) event {
	return event{name, func(ctx context.Context, r *tunnel) error {
		oldIKE, old := r.ike, r.child
		if do != nil {
			if err := do(ctx, r); err != nil {
				return err
			}
		}
		return lab.Until(ctx, func() error {
			if err := r.look(ctx); err != nil {
				return err
			}
			if r.ike.InitiatorSPI == oldIKE.InitiatorSPI || r.child.SPIIn == old.SPIIn {
				return errors.New("the IKE SA or the CHILD SA is still the old one")
			}
			if peers, err := r.culvert.Print(ctx, "active-peers"); err != nil || len(peers) != 1 {
				return fmt.Errorf("culvert's IKE SAs: %v, %v", peers, err)
			}
			return r.gone(ctx, old)
		})
	}}
}

func theyReauth(ctx context.Context, r *tunnel) error { return r.swan.Reauthenticate(ctx, "t") }

// theyReauthDuringTransfer, duringTransfer: no byte is lost to it.
func theyReauthDuringTransfer(ctx context.Context, r *tunnel) error {
	done := make(chan error, 1)
	go func() { done <- r.transfer(ctx, 32<<20) }()
	return errors.Join(r.swan.Reauthenticate(ctx, "t"), <-done)
}

func duringTransfer(ctx context.Context, r *tunnel) error {
	old := r.ike
	for {
		if err := r.transfer(ctx, 4<<20); err != nil {
			return err
		}
		if err := r.look(ctx); err == nil && r.ike.InitiatorSPI != old.InitiatorSPI {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// weAreKilledSilently: without INITIAL_CONTACT the peer keeps what it has of us.
var weAreKilledSilently = event{"culvert is killed and back, and says no INITIAL_CONTACT", func(ctx context.Context, r *tunnel) error {
	old := r.ike
	r.culvert.Kill()
	r.culvert.Restart(ctx)
	if err := r.transfer(ctx, 1000); err != nil {
		return err
	}
	sas, err := r.swan.SAs(ctx)
	if err != nil || len(sas) != 2 {
		return fmt.Errorf("strongSwan's IKE SAs: %v, %v; wanted the old one and a new one", sas, err)
	}
	// Nobody answers for the old one: strongSwan gives up on it and forgets it.
	if err := r.swan.TerminateID(ctx, old.UniqueID); err != nil {
		return err
	}
	return r.look(ctx)
}}

// theirDPD: strongSwan finds out that we are dead; then we are back.
var theirDPD = event{"culvert is killed; strongSwan's DPD finds out; culvert is back", func(ctx context.Context, r *tunnel) error {
	r.culvert.Kill()
	err := lab.Until(ctx, func() error {
		sas, err := r.swan.SAs(ctx)
		if err == nil && len(sas) > 0 {
			err = fmt.Errorf("strongSwan still has %d IKE SAs", len(sas))
		}
		return err
	})
	if err != nil {
		return err
	}
	r.culvert.Restart(ctx)
	return r.establish(ctx)
}}

// reauthenticates: a road warrior that authenticates anew keeps its address,
// whether the new IKE SA comes before the old one goes or after.
func reauthenticates(ctx context.Context, t *testing.T, l *lab.Lab, makeFirst bool) {
	nodes := hub(l, "office", "anna")
	office, anna := nodes[0], nodes[1]
	office.Inner(netip.MustParseAddr(officeHost))
	us := office.Culvert(ctx, "", ourServer)
	tell(t, us)
	s := anna.StrongSwan(ctx, theirClient("anna@example.net", "0.0.0.0", "10.2.0.0/24"), "make_before_break = "+map[bool]string{true: "yes", false: "no"}[makeFirst])
	if err := s.InitiateChild(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	addrs, old, err := theirAddress(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := anna.Transfer(ctx, host(addrs[0]), office, netip.MustParseAddr(officeHost), payload/4); err != nil {
			t.Fatal(err)
		}
		if err := s.Reauthenticate(ctx, "t"); err != nil {
			t.Fatal(err)
		}
		err := lab.Until(ctx, func() error {
			now, child, err := theirAddress(ctx, s)
			if err == nil && (child.SPIIn == old.SPIIn || strings.Join(now, ",") != strings.Join(addrs, ",")) {
				err = fmt.Errorf("%v with %s became %v with %s", addrs, old.SPIIn, now, child.SPIIn)
			}
			if err != nil {
				return err
			}
			rows, err := us.Print(ctx, "installed-sa")
			if err == nil && (len(rows) != 2 || rowOf(rows, child.SPIIn) == nil) {
				err = fmt.Errorf("culvert's SAs: %v", rows)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if addrs, old, err = theirAddress(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := anna.Transfer(ctx, host(addrs[0]), office, netip.MustParseAddr(officeHost), payload/4); err != nil {
		t.Fatal(err)
	}
	if err := lab.Until(ctx, func() error { return leased(ctx, us, map[string]string{"anna": addrs[0]}) }); err != nil {
		t.Error(err)
	}
}
