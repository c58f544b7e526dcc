package main

// A trial offers traffic at a rate: offered is what was really sent a second, lost the
// part of it that did not arrive in time.
type trial func(rate float64) (offered, lost float64, err error)

// A search finds the highest rate at which less than Loss of the traffic is lost.
type search struct {
	Start float64 // the first rate
	Most  float64 // no higher rate is tried
	Loss  float64 // 0.01: 1 %
	Near  float64 // the search ends when a rate that passes is so near below one that does not: 1.03
	Again int     // how often a rate is tried again that has failed: what disturbs a moment is no limit
}

// highest returns the highest rate that arrived. It doubles until a rate fails and then
// halves the gap. Where the sender cannot offer more, what it offers is the answer.
func (s search) highest(try trial) (float64, error) {
	arrived, good, bad := 0.0, 0.0, 0.0
	for rate := s.Start; ; {
		passed, full := false, false
		for range 1 + s.Again {
			offered, lost, err := try(rate)
			if err != nil {
				return 0, err
			}
			if lost < s.Loss {
				passed, full = true, offered >= 0.97*rate
				arrived = max(arrived, offered*(1-lost))
			}
			if full {
				break
			}
		}
		switch {
		case passed && !full, passed && rate >= s.Most:
			return arrived, nil
		case passed:
			good = rate
		default:
			bad = rate
		}
		switch {
		case bad == 0:
			rate = min(2*good, s.Most)
		case good == 0 && bad < s.Start/1000:
			return 0, nil // nothing passes at all
		case good == 0:
			rate = bad / 4
		case bad/good <= s.Near:
			return arrived, nil
		default:
			rate = (good + bad) / 2
		}
	}
}
