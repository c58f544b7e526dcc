package sad

import "time"

// Dummy packets (RFC 4303 §2.6) hide when an SA falls silent: for DummiesFor after
// its last packet, one leaves after each pause of half to one and a half times the
// second's share, so that not the clock tells them from others.

// DummiesFor is how long after its last packet an SA has dummies.
const DummiesFor = 10 * time.Second

// lookAgain is when an SA without dummies at the moment is looked at again.
const lookAgain = int64(time.Second)

// Due lists the SAs whose dummy is due, and says when to ask again; 0: never, as
// none has dummies. It counts them as sent. now is in Unix ns; random is below its
// argument.
func (t *Table) Due(now int64, random func(n int64) int64) (due []*Outbound, next int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.noisy {
		at := now + lookAgain
		last := c.out.usage.last.Load()
		if c.stage.Load() == stageActive && last != 0 && now-last < int64(DummiesFor) {
			at = max(last, c.dummyAt) + c.dummyGap
			if c.dummyGap == 0 || now >= at {
				every := int64(time.Second) / int64(c.Dummies)
				if c.dummyGap != 0 {
					due = append(due, &c.out)
					c.dummyAt = now
				}
				c.dummyGap = every/2 + random(every)
				at = max(last, c.dummyAt) + c.dummyGap
			}
		}
		if next == 0 || at < next {
			next = at
		}
	}
	return due, next
}

// SpendDummy counts a dummy of n bytes against the limits, but not as use.
func (o *Outbound) SpendDummy(n int) bool {
	return o.usage.spend(o.child, 1, uint64(n), o.usage.last.Load())
}
