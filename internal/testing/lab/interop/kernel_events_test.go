//go:build linux

package interop

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"culvert/internal/testing/lab"
)

// kernelEvent is what happens between two checks.
type kernelEvent struct {
	name string
	do   func(context.Context, *kernelTunnel) error
}

// kernelRekeys: each side replaces the CHILD SA twice and the IKE SA once while
// transfers run.
var kernelRekeys = kernelEvent{"each side rekeys both SAs during transfers", func(ctx context.Context, r *kernelTunnel) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	over, transfers := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for n := 0; err == nil; n++ {
			select {
			case <-over:
				if n < 2 {
					continue
				}
				transfers <- nil
				return
			default:
			}
			err = r.transfer(ctx, kernelPayload)
		}
		cancel() // nobody waits any longer
		transfers <- err
	}()
	var err error
	for _, step := range []struct {
		name string
		ike  bool
		do   func(context.Context) error
	}{
		{"culvert rekeys the CHILD SA", false, r.ours("installed-sa", "rekey")},
		{"strongSwan rekeys the CHILD SA", false, func(ctx context.Context) error { return r.swan.RekeyChild(ctx, "c") }},
		{"culvert rekeys the IKE SA", true, r.ours("active-peers", "rekey")},
		{"strongSwan rekeys the IKE SA", true, func(ctx context.Context) error { return r.swan.RekeyIKE(ctx, "t") }},
		{"culvert rekeys the CHILD SA again", false, r.ours("installed-sa", "rekey")},
		{"strongSwan rekeys the CHILD SA again", false, func(ctx context.Context) error { return r.swan.RekeyChild(ctx, "c") }},
	} {
		if err = r.replaced(ctx, step.ike, step.do); err != nil {
			err = fmt.Errorf("%s: %w", step.name, err)
			break
		}
	}
	close(over)
	return errors.Join(err, <-transfers)
}}

// kernelRounds: the kernel's SAs are made again without align4, as `ip xfrm` makes
// them by default: it rounds AH up to 8 bytes in IPv4, and takes no other.
var kernelRounds = kernelEvent{"the kernel rounds AH up to 8 bytes", func(ctx context.Context, r *kernelTunnel) error {
	for _, k := range []*lab.KernelSA{&r.in, &r.out} {
		if !k.Has("align4") {
			return fmt.Errorf("the kernel's SA %s has no align4 to take away: %v", k.SPI, k.Flags)
		}
		flags := slices.DeleteFunc(slices.Clone(k.Flags), func(f string) bool { return f == "align4" })
		if err := r.again(k, flags, k.Sent); err != nil {
			return err
		}
	}
	// The kernel speaks first: until then culvert cannot know.
	if err := r.guest.Transfer(ctx, r.hosts[1], r.us, r.hosts[0], 1000); err != nil {
		return err
	}
	sizes := map[int]bool{}
	for s := range r.wire.Seen() {
		if s.Kind == "ah" {
			sizes[s.AHLen] = true
		}
	}
	if len(sizes) != 2 {
		return fmt.Errorf("the AHs had the sizes %v, not one before and one after", sizes)
	}
	return r.look(ctx)
}}

// kernelWraps: what the kernel sends runs over the end of 32 bits.
var kernelWraps = kernelEvent{"the kernel's sequence number goes beyond 32 bits", func(ctx context.Context, r *kernelTunnel) error {
	if err := r.again(&r.out, r.out.Flags, 1<<32-50); err != nil {
		return err
	}
	if err := r.transfer(ctx, kernelPayload); err != nil {
		return err
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	if r.out.Sent < 1<<32 {
		return fmt.Errorf("the kernel's sequence number is %#x", r.out.Sent)
	}
	return nil
}}

// again makes an SA of the kernel's anew, with other flags and the next sequence number after sent.
func (r *kernelTunnel) again(k *lab.KernelSA, flags []string, sent uint64) error {
	if _, err := r.guest.Try(k.Delete()...); err != nil {
		return err
	}
	_, err := r.guest.Try(k.Add(flags, "replay-oseq", fmt.Sprint(sent))...)
	return err
}

func (r *kernelTunnel) ours(args ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := r.culvert.Command(ctx, args...)
		return err
	}
}

// replaced does something and waits until the IKE SA, or else the CHILD SA, is another.
func (r *kernelTunnel) replaced(ctx context.Context, ike bool, do func(context.Context) error) error {
	oldIKE, old := r.ike, r.child
	if err := do(ctx); err != nil {
		return err
	}
	r.exchanged = r.exchanged || !ike
	return lab.Until(ctx, func() error {
		if err := r.look(ctx); err != nil {
			return err
		}
		if sameIKE := r.ike.InitiatorSPI == oldIKE.InitiatorSPI; sameIKE == ike {
			return fmt.Errorf("that the IKE SA is another: %t", !sameIKE)
		}
		if sameChild := r.child.SPIIn == old.SPIIn && r.child.SPIOut == old.SPIOut; sameChild != ike {
			return fmt.Errorf("that the CHILD SA is another: %t", !sameChild)
		}
		return nil
	})
}
