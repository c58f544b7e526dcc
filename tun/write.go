package tun

import (
	"errors"
	"os"
)

// The package's devices disagree about packets that the system refuses.

// writeJoined is for those that try all packets and join the errors; n counts
// bytes. Segments of one flow are written as one packet and refused as one, with one
// error. Where no byte was taken, all packets were refused, however many errors there
// are. Else each error stands for one packet: it is of what that packet is, and what
// is odd is not joined.
func writeJoined(write func(bufs [][]byte, offset int) (int, error), bufs [][]byte, offset int) (int, error) {
	bytes, err := write(bufs, offset)
	switch {
	case err == nil:
		return len(bufs), nil
	case bytes == 0:
		return 0, err
	}
	return max(0, len(bufs)-countErrors(err)), err
}

// countErrors counts the leaves of joined errors.
func countErrors(err error) int {
	if err == nil {
		return 0
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		n := 0
		for _, e := range j.Unwrap() {
			n += countErrors(e)
		}
		return n
	}
	return 1
}

// writeOn is for those that stop at the first packet that is refused and say how
// many were taken before it: it goes on behind that one.
func writeOn(write func(bufs [][]byte, offset int) (int, error), bufs [][]byte, offset int) (taken int, last error) {
	for len(bufs) > 0 {
		n, err := write(bufs, offset)
		taken += n
		if err == nil {
			break
		}
		if last = err; errors.Is(err, os.ErrClosed) {
			break
		}
		bufs = bufs[min(n+1, len(bufs)):]
	}
	return taken, last
}
