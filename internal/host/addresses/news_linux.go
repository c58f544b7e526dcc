package addresses

import (
	"time"

	"github.com/vishvananda/netlink"
)

// addrNews delivers when the kernel says that an address or a link changed. When
// it does not say so any more (more happened at once than its socket holds), it
// is time to look every now and then.
func addrNews(done <-chan struct{}) <-chan struct{} {
	addrs, links := make(chan netlink.AddrUpdate), make(chan netlink.LinkUpdate)
	if netlink.AddrSubscribe(addrs, done) != nil {
		return every(addrPoll, done)
	}
	if netlink.LinkSubscribe(links, done) != nil {
		links = nil
	}
	news := make(chan struct{}, 1)
	go func() {
		poll := time.NewTicker(addrPoll)
		defer poll.Stop()
		for {
			var tick <-chan time.Time
			if addrs == nil || links == nil {
				tick = poll.C
			}
			ok := true
			select {
			case <-done:
				drain(addrs, links)
				return
			case _, ok = <-addrs:
				if !ok {
					addrs = nil
				}
			case _, ok = <-links:
				if !ok {
					links = nil
				}
			case <-tick:
			}
			select {
			case news <- struct{}{}:
			default:
			}
		}
	}()
	return news
}

// drain lets the ends of subscriptions go that want to tell one more thing.
func drain(addrs chan netlink.AddrUpdate, links chan netlink.LinkUpdate) {
	for addrs != nil || links != nil {
		select {
		case _, ok := <-addrs:
			if !ok {
				addrs = nil
			}
		case _, ok := <-links:
			if !ok {
				links = nil
			}
		}
	}
}
