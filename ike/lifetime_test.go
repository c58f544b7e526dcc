package ike

import (
	"testing"
	"time"

	"culvert/ike/core"
)

// The limits after which a CHILD SA is rekeyed, of time and of bytes, are drawn
// between 80 and 90 % of the hard ones for each end and each SA, so that two ends
// that count the same packets seldom begin together.
func TestSoftLimitsAreDrawn(t *testing.T) {
	for _, bytes := range []uint64{0, 1, 9, 1_000_000, 1<<64 - 1} {
		limited := func(a, b *core.Config) {
			a.Policies[0].Proposal.Lifebytes, b.Policies[0].Proposal.Lifebytes = bytes, bytes
		}
		times, sizes := map[time.Duration]bool{}, map[uint64]bool{}
		for seed := range uint64(8) {
			p := newPair(t, seed, goodLink, passive, limited)
			p.up()
			p.until(time.Second, "both ends up", p.bothUpOrStandby)
			for _, s := range []*side{p.a, p.b} {
				k := s.children[s.order[0]]
				if k.Hard != 30*time.Minute || k.Soft < 24*time.Minute || k.Soft >= 27*time.Minute {
					t.Errorf("soft %v, hard %v", k.Soft, k.Hard)
				}
				least, most := bytes-bytes/5, bytes-bytes/10
				if k.HardBytes != bytes || k.SoftBytes < least || k.SoftBytes > most {
					t.Errorf("of %d bytes soft %d, hard %d", bytes, k.SoftBytes, k.HardBytes)
				}
				times[k.Soft], sizes[k.SoftBytes] = true, true
			}
		}
		if len(times) != 16 {
			t.Errorf("%d different soft lifetimes of 16 SAs", len(times))
		}
		if bytes > 1000 && len(sizes) != 16 {
			t.Errorf("of %d bytes %d different soft limits of 16 SAs", bytes, len(sizes))
		}
	}
}
