package addresses

import "time"

// addrPoll is for systems that do not tell of changes.
const addrPoll = 5 * time.Second

// every delivers at intervals until done is closed.
func every(d time.Duration, done <-chan struct{}) <-chan struct{} {
	news := make(chan struct{}, 1)
	go func() {
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
			}
			select {
			case news <- struct{}{}:
			default:
			}
		}
	}()
	return news
}
