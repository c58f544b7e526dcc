//go:build !linux

package addresses

// addrNews delivers when it is time to look.
func addrNews(done <-chan struct{}) <-chan struct{} { return every(addrPoll, done) }
