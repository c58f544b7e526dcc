package resolver

import (
	"context"
	"errors"
	"net"
	"time"
)

// stagger makes attempts in turn (RFC 8305 §5): the next one where one has failed, or where
// none has succeeded for delay. The first that succeeds counts, and the others end; what one
// of them still brings is given to discard. With nothing but failures it returns the first
// error, or one that says that there is no such name.
func stagger[T any](ctx context.Context, delay time.Duration, attempts []func(context.Context) (T, error), discard func(T)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	outcomes := make(chan outcome, len(attempts))
	next := time.NewTimer(delay)
	defer next.Stop()
	begun, open := 0, 0
	begin := func() {
		if begun < len(attempts) {
			attempt := attempts[begun]
			begun, open = begun+1, open+1
			next.Reset(delay)
			go func() {
				v, err := attempt(ctx)
				outcomes <- outcome{v, err}
			}()
		}
	}
	var none T
	var failed error
	for begin(); open > 0; {
		select {
		case <-next.C:
			begin()
		case o := <-outcomes:
			open--
			if o.err == nil {
				go func() {
					for range open {
						if o := <-outcomes; o.err == nil {
							discard(o.value)
						}
					}
				}()
				return o.value, nil
			}
			if failed == nil || noSuchName(o.err) {
				failed = o.err
			}
			begin()
		}
	}
	return none, failed
}

func noSuchName(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}
