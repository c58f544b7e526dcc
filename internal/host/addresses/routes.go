package addresses

import "time"

// Routes tells when a route of this host that others made was added, changed or removed, so that
// another address may lead to a peer.
type Routes struct {
	Device string // the gateway's own
	Table  uint32 // the gateway's own table
}

// Watch calls changed after changes, until done is closed. Changes that come together are one.
func (r *Routes) Watch(done <-chan struct{}, changed func()) {
	news := r.news(done)
	for {
		select {
		case <-done:
			return
		case <-news:
		}
		select {
		case <-done:
			return
		case <-time.After(gather):
		}
		select {
		case <-news: // it came meanwhile
		default:
		}
		changed()
	}
}
