package core

import "time"

// Retransmission: exponential, first after half a second, at most 8 s apart. A
// peer that left Tries transmissions unanswered is dead, 71.5 s after the
// first. On a network that loses every tenth datagram that happens by chance
// once in 10^8 exchanges.
const Tries = 12

// TimeToGiveUp is what all those transmissions take, rounded up.
const TimeToGiveUp = 72 * time.Second

const (
	firstWait = 500 * time.Millisecond
	longest   = 8 * time.Second
)

// RetransmitWait is how long to wait for a response after the n-th transmission (from 0).
func RetransmitWait(n int) time.Duration { return backoff(firstWait, longest, n) }

// RetryWait is how long to wait before a failed initiation is tried anew, after
// n failures (from 0): 1 s, doubling, at most a minute.
func RetryWait(n int) time.Duration { return backoff(time.Second, time.Minute, n) }

func backoff(first, most time.Duration, n int) time.Duration {
	d := first
	for ; n > 0 && d < most; n-- {
		d *= 2
	}
	return min(d, most)
}
