//go:build linux

package interop

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"culvert/internal/testing/lab"
)

// event is what happens to a tunnel between two checks. It leaves the tunnel
// established and its SAs noted.
type event struct {
	name string
	do   func(context.Context, *tunnel) error
}

// both is several events in turn, each followed by a check unless it is the last.
func both(name string, events ...event) event {
	return event{name, func(ctx context.Context, r *tunnel) error {
		for i, e := range events {
			if err := e.do(ctx, r); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
			if i == len(events)-1 {
				break
			}
			if err := r.check(ctx); err != nil {
				return fmt.Errorf("after %s: %w", e.name, err)
			}
		}
		return nil
	}}
}

var (
	weRekeyChild = event{"culvert rekeys the CHILD SA", func(ctx context.Context, r *tunnel) error {
		return r.newChild(ctx, r.ours("installed-sa", "rekey"))
	}}
	theyRekeyChild = event{"strongSwan rekeys the CHILD SA", func(ctx context.Context, r *tunnel) error {
		return r.newChild(ctx, func(ctx context.Context) error { return r.swan.RekeyChild(ctx, "c") })
	}}
	bothRekeyChildAtOnce = event{"both sides rekey the CHILD SA at once", func(ctx context.Context, r *tunnel) error {
		return r.newChild(ctx, func(ctx context.Context) error {
			theirs := make(chan error, 1)
			go func() { theirs <- r.swan.RekeyChild(ctx, "c") }()
			return errors.Join(r.ours("installed-sa", "rekey")(ctx), <-theirs)
		})
	}}
	lifetimeRekeysChild = event{"the CHILD SA's lifetime ends", func(ctx context.Context, r *tunnel) error {
		return r.newChild(ctx, nothing)
	}}
	weRekeyIKE = event{"culvert rekeys the IKE SA", func(ctx context.Context, r *tunnel) error {
		return r.newIKE(ctx, r.ours("active-peers", "rekey"))
	}}
	theyRekeyIKE = event{"strongSwan rekeys the IKE SA", func(ctx context.Context, r *tunnel) error {
		return r.newIKE(ctx, func(ctx context.Context) error { return r.swan.RekeyIKE(ctx, "t") })
	}}
	bothRekeyIKEAtOnce = event{"both sides rekey the IKE SA at once", func(ctx context.Context, r *tunnel) error {
		return r.newIKE(ctx, func(ctx context.Context) error {
			theirs := make(chan error, 1)
			go func() { theirs <- r.swan.RekeyIKE(ctx, "t") }()
			return errors.Join(r.ours("active-peers", "rekey")(ctx), <-theirs)
		})
	}}
	lifetimeRekeysIKE = event{"the IKE SA's lifetime ends", func(ctx context.Context, r *tunnel) error {
		return r.newIKE(ctx, nothing)
	}}
)

func nothing(context.Context) error { return nil }

// ours is a culvert command.
func (r *tunnel) ours(args ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := r.culvert.Command(ctx, args...)
		return err
	}
}

// newChild does something and waits until another CHILD SA of the same IKE SA
// has replaced the old one on both sides.
func (r *tunnel) newChild(ctx context.Context, do func(context.Context) error) error {
	oldIKE, old := r.ike, r.child
	if err := do(ctx); err != nil {
		return err
	}
	r.exchanged = true
	return lab.Until(ctx, func() error {
		if err := r.look(ctx); err != nil {
			return err
		}
		if r.child.SPIIn == old.SPIIn || r.child.SPIOut == old.SPIOut {
			return fmt.Errorf("the CHILD SA is still (partly) the old one: %s %s", r.child.SPIIn, r.child.SPIOut)
		}
		if r.ike.InitiatorSPI != oldIKE.InitiatorSPI {
			return errors.New("the IKE SA was replaced too")
		}
		if r.version() == 1 {
			return nil // the old one opens until its lifetime ends
		}
		return r.gone(ctx, old)
	})
}

// newIKE does something and waits until another IKE SA has taken over the same CHILD SA.
func (r *tunnel) newIKE(ctx context.Context, do func(context.Context) error) error {
	oldIKE, old := r.ike, r.child
	if err := do(ctx); err != nil {
		return err
	}
	return lab.Until(ctx, func() error {
		if err := r.look(ctx); err != nil {
			return err
		}
		if r.ike.InitiatorSPI == oldIKE.InitiatorSPI || r.ike.ResponderSPI == oldIKE.ResponderSPI {
			return errors.New("the IKE SA is still the old one")
		}
		if r.child.SPIIn != old.SPIIn || r.child.SPIOut != old.SPIOut {
			return errors.New("the CHILD SA was replaced too")
		}
		peers, err := r.culvert.Print(ctx, "active-peers")
		if err == nil && len(peers) != 1 {
			err = fmt.Errorf("culvert lists %d IKE SAs", len(peers))
		}
		return err
	})
}

// gone says whether culvert and strongSwan have forgotten a CHILD SA.
func (r *tunnel) gone(ctx context.Context, old lab.ChildSA) error {
	rows, err := r.culvert.Print(ctx, "installed-sa")
	if err != nil {
		return err
	}
	if rowOf(rows, old.SPIIn) != nil || rowOf(rows, old.SPIOut) != nil {
		return fmt.Errorf("culvert still lists the old CHILD SA %s %s", old.SPIIn, old.SPIOut)
	}
	sas, err := r.swan.SAs(ctx)
	if err != nil {
		return err
	}
	for _, sa := range sas {
		for _, c := range sa.Children {
			if c.SPIIn == old.SPIIn && c.State == "INSTALLED" {
				return fmt.Errorf("strongSwan still uses the old CHILD SA %s", old.SPIIn)
			}
		}
	}
	return nil
}

// rekeyUnderLoad: no byte of a transfer is lost to rekeying on either side.
var rekeyUnderLoad = event{"both sides rekey during a transfer of 64 MiB", func(ctx context.Context, r *tunnel) error {
	done := make(chan error, 1)
	go func() { done <- r.transfer(ctx, 64<<20) }()
	for _, e := range []event{weRekeyChild, theyRekeyChild, theyRekeyIKE, weRekeyIKE, weRekeyChild} {
		if err := e.do(ctx, r); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", e.name, err), <-done)
		}
	}
	return <-done
}}

var (
	weDeleteChild = event{"culvert deletes the CHILD SA", func(ctx context.Context, r *tunnel) error {
		return r.anew(ctx, false, r.ours("installed-sa", "flush"))
	}}
	theyDeleteChild = event{"strongSwan deletes the CHILD SA", func(ctx context.Context, r *tunnel) error {
		return r.anew(ctx, false, func(ctx context.Context) error { return r.swan.TerminateChild(ctx, "c") })
	}}
	weDeleteIKE = event{"culvert deletes the IKE SA", func(ctx context.Context, r *tunnel) error {
		return r.anew(ctx, true, r.ours("active-peers", "kill-connections"))
	}}
	theyDeleteIKE = event{"strongSwan deletes the IKE SA", func(ctx context.Context, r *tunnel) error {
		return r.anew(ctx, true, func(ctx context.Context) error { return r.swan.TerminateIKE(ctx, "t") })
	}}
	// strongSwan comes back knowing nothing and stays silent: culvert has to
	// find out by dead peer detection.
	peerKilledDPD = event{"strongSwan is killed and back; DPD finds out", func(ctx context.Context, r *tunnel) error {
		return r.anew(ctx, true, func(ctx context.Context) error {
			r.swan.Kill()
			r.swan.Restart(ctx)
			return nil
		})
	}}
	peerKilledCallsAgain = event{"strongSwan is killed and initiates anew", func(ctx context.Context, r *tunnel) error {
		old := r.child
		r.swan.Kill()
		r.swan.Restart(ctx)
		if err := r.establish(ctx); err != nil {
			return err
		}
		// INITIAL_CONTACT tells culvert that the old SAs are dead (RFC 7296 §2.4).
		return lab.Until(ctx, func() error { return r.gone(ctx, old) })
	}}
	weAreKilled = event{"culvert is killed and back", func(ctx context.Context, r *tunnel) error {
		old := r.child
		r.culvert.Kill()
		r.culvert.Restart(ctx)
		if err := r.establish(ctx); err != nil {
			return err
		}
		return lab.Until(ctx, func() error { return r.gone(ctx, old) })
	}}
)

// anew ends the SAs by do, waits until both sides have forgotten them, and has
// them made again.
func (r *tunnel) anew(ctx context.Context, ikeToo bool, do func(context.Context) error) error {
	oldIKE, old := r.ike, r.child
	if err := do(ctx); err != nil {
		return err
	}
	if err := lab.Until(ctx, func() error { return r.gone(ctx, old) }); err != nil {
		return err
	}
	if err := r.establish(ctx); err != nil {
		return fmt.Errorf("the tunnel did not come back: %w", err)
	}
	if sameIKE := r.ike.InitiatorSPI == oldIKE.InitiatorSPI; sameIKE == ikeToo {
		return fmt.Errorf("the IKE SA is the same: %t, wanted %t", sameIKE, !ikeToo)
	}
	r.exchanged = !ikeToo
	return nil
}

// reloadKeepsSPIs: what a reload does not change stays as it is (here: a policy is added).
var reloadKeepsSPIs = event{"culvert reloads with a policy more", func(ctx context.Context, r *tunnel) error {
	oldIKE, old := r.ike, r.child
	policies, err := r.culvert.Print(ctx, "policy")
	if err != nil {
		return err
	}
	r.culvert.Configure("", r.toml()+`
[[policy]]
peer = "strongswan"
src-address = "10.1.1.0/24"
dst-address = "10.2.1.0/24"
tunnel = true
proposal = "interop"
`)
	if err := r.culvert.Reload(ctx); err != nil {
		return err
	}
	more, err := r.culvert.Print(ctx, "policy")
	if err != nil {
		return err
	}
	if len(more) != len(policies)+1 {
		return fmt.Errorf("%d policies became %d", len(policies), len(more))
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	if r.ike.InitiatorSPI != oldIKE.InitiatorSPI || r.child.SPIIn != old.SPIIn || r.child.SPIOut != old.SPIOut {
		return errors.New("the reload replaced the SAs")
	}
	return nil
}}

// sigterm: a clean end takes leave of the peer and takes everything along; then
// culvert is started again.
var sigterm = event{"culvert is stopped by SIGTERM and started again", func(ctx context.Context, r *tunnel) error {
	if err := r.culvert.Terminate(ctx); err != nil {
		return fmt.Errorf("culvert did not end well: %w", err)
	}
	if err := lab.Until(ctx, func() error {
		sas, err := r.swan.SAs(ctx)
		if err == nil && len(sas) != 0 {
			err = fmt.Errorf("strongSwan still has %d IKE SAs", len(sas))
		}
		return err
	}); err != nil {
		return err
	}
	if left := r.us.Network(); left != r.bare {
		return fmt.Errorf("culvert left something behind: %s", difference(r.bare, left))
	}
	r.culvert.Restart(ctx)
	return r.establish(ctx)
}}

// difference is the lines that only one of two texts has.
func difference(before, after string) string {
	var b strings.Builder
	for _, side := range []struct{ sign, of, than string }{{"-", before, after}, {"+", after, before}} {
		than := strings.Split(side.than, "\n")
	lines:
		for _, line := range strings.Split(side.of, "\n") {
			for _, other := range than {
				if line == other {
					continue lines
				}
			}
			fmt.Fprintf(&b, "\n%s %s", side.sign, line)
		}
	}
	return b.String()
}
