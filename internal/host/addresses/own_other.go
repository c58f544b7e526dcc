//go:build !linux

package addresses

import "net/netip"

// routes are not read here: the networks of the interfaces are all that is known.
func routes(string) ([]netip.Prefix, error) { return nil, nil }

// netNews delivers when it is time to look.
func netNews(done <-chan struct{}) <-chan struct{} { return every(addrPoll, done) }
