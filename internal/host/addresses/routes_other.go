//go:build !linux

package addresses

// news never delivers: these systems do not tell of routes. Addresses that go with their uplink are
// noticed (Reachable).
func (r *Routes) news(<-chan struct{}) <-chan struct{} { return nil }
