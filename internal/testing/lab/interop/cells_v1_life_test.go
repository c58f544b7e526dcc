//go:build linux

package interop

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"culvert/internal/testing/lab"
)

// lifeCellsV1 are what becomes of IKEv1's SAs in time, and messages that are longer than a datagram.
var lifeCellsV1 = sync.OnceValue(makeLifeCellsV1) // certificates are made once

func makeLifeCellsV1() []cell {
	const g = "IKEv1, messages longer than a datagram"
	long := proof{key: "rsa-4096", chain: 3, said: "RSA_EMSA_PKCS1_NULL"}
	p := (&proofs{we: long, they: long, v1: true}).make("v1-fragments")
	const aggressively = "aggressive = yes\n"
	cut, whole := fragmentsWent(true), fragmentsWent(false)
	cs := []cell{
		{name: "v1-fragments-we-initiate", event: both("fragments went both ways; IKE SA and CHILD SA rekeyed", cut, weRekeyIKE, theyRekeyChild)},
		{name: "v1-fragments-they-initiate", theyInitiate: true, event: both("fragments went both ways; IKE SA and CHILD SA rekeyed", cut, weRekeyIKE, weRekeyChild)},
		{name: "v1-fragments-outer-ipv6", outer6: true, v6: true, event: cut},
		{name: "v1-fragments-aggressive-we-initiate", mode: "aggressive", extra: extra{connection: aggressively}, event: cut},
		{name: "v1-fragments-aggressive-they-initiate", mode: "aggressive", theyInitiate: true, extra: extra{connection: aggressively}, event: cut},
		{name: "v1-they-force-fragments", theyInitiate: true, extra: extra{connection: "fragmentation = force\n"}, event: cut},
		{name: "v1-we-do-not-cut", extra: extra{profile: "fragmentation = false\n"}, event: whole},
		{name: "v1-they-do-not-cut", theyInitiate: true, extra: extra{connection: "fragmentation = no\n"}, event: whole},
	}
	for i := range cs {
		if cs[i].group, cs[i].proofs = g, p; cs[i].mode == "" {
			cs[i].mode = "main"
		}
	}
	return cs
}

// phase1Ends: without DPD nobody makes phase 1 anew. The CHILD SA carries traffic on, and the next phase 1 takes it over at both ends.
var phase1Ends = event{"phase 1 ends, and the CHILD SA goes on; then culvert rekeys it", func(ctx context.Context, r *tunnel) error {
	old, oldIKE := r.child, r.ike
	state := func(want string) func() error {
		return func() error {
			peers, err := r.culvert.Print(ctx, "active-peers")
			if err == nil && (len(peers) != 1 || peers[0].Text("state") != want) {
				err = fmt.Errorf("culvert's IKE SAs are %v, not one that is %s", peers, want)
			}
			return err
		}
	}
	if err := lab.Until(ctx, state("expired")); err != nil {
		return err
	}
	if err := r.check(ctx); err != nil {
		return fmt.Errorf("after phase 1: %w", err)
	}
	if r.child.SPIIn != old.SPIIn {
		return errors.New("the CHILD SA was replaced unasked")
	}
	if _, err := r.culvert.Command(ctx, "installed-sa", "rekey"); err != nil {
		return err
	}
	r.exchanged = true
	return lab.Until(ctx, func() error {
		if err := r.look(ctx); err != nil {
			return err
		}
		if r.child.SPIIn == old.SPIIn || r.ike.InitiatorSPI == oldIKE.InitiatorSPI {
			return errors.New("phase 1 or the CHILD SA is still the old one")
		}
		return state("established")()
	})
}}
