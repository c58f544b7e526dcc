//go:build linux

package interop

import (
	"context"
	"fmt"
	"math"

	"culvert/internal/testing/lab"
)

// kernelPaddedCells: each side pads what it sends to the MTU (RFC 4303 §2.7).
func kernelPaddedCells() (cs []kernelCell) {
	for _, c := range []kernelCell{
		{name: "esp-padded"},
		{name: "esp-padded-cbc-ipv6", suite: espSuite{aes256, sha256, noPFS}, outer6: true, inner6: true},
	} {
		c.padded, c.event = true, kernelPads
		cs = append(cs, fromBothSides(c)...)
	}
	return append(cs, kernelCell{name: "esp-dummies", padded: true, dummies: true, event: kernelDrops})
}

// kernelPads: pings are short, and whoever receives them counts long packets. The
// kernel pads after it has counted what it sends; we count what we open.
var kernelPads = kernelEvent{"short packets, padded to the MTU by either side", func(ctx context.Context, r *kernelTunnel) error {
	const pings, padded = 20, 1200
	counted := func() (counts [2]uint64, err error) {
		if err := r.look(ctx); err != nil {
			return counts, err
		}
		rows, err := r.culvert.Print(ctx, "installed-sa")
		if err != nil {
			return counts, err
		}
		row := rowOf(rows, r.out.SPI)
		if row == nil {
			return counts, fmt.Errorf("culvert does not list SPI %s: %v", r.out.SPI, rows)
		}
		return [2]uint64{r.in.Bytes, row.Number("current-bytes")}, nil
	}
	before, err := counted()
	if err != nil {
		return err
	}
	if _, err := r.us.Try("ping", "-c", fmt.Sprint(pings), "-i", "0.02", "-W", "5", "-I", r.hosts[0].String(), r.hosts[1].String()); err != nil {
		return err
	}
	after, err := counted()
	if err != nil {
		return err
	}
	for i, who := range []string{"the kernel", "culvert"} {
		if n := after[i] - before[i]; n < pings*padded {
			return fmt.Errorf("%s received %d bytes for %d pings", who, n, pings)
		}
	}
	return nil
}}

// dummiesCounter is where Linux counts dummy packets, once they are decrypted and dropped.
const dummiesCounter = "XfrmInStateProtoError"

// kernelDrops: silence after a transfer is filled with dummies, which the kernel
// drops one by one.
var kernelDrops = kernelEvent{"dummy packets in silence", func(ctx context.Context, r *kernelTunnel) error {
	const dummies = 20
	err := lab.Until(ctx, func() error {
		errs, err := r.guest.KernelErrors()
		if err != nil {
			return err
		}
		if n := errs[dummiesCounter] - r.errs[dummiesCounter]; n < dummies {
			return fmt.Errorf("the kernel dropped %d dummies", n)
		}
		return nil
	})
	r.errs[dummiesCounter] = math.MaxUint64 // they go on for a while
	return err
}}
