package gateway

import "github.com/vishvananda/netlink"

// addrNews delivers when the kernel says that an address or a link changed.
func addrNews(done <-chan struct{}) <-chan struct{} {
	addrs, links := make(chan netlink.AddrUpdate), make(chan netlink.LinkUpdate)
	if netlink.AddrSubscribe(addrs, done) != nil || netlink.LinkSubscribe(links, done) != nil {
		return every(addrPoll, done)
	}
	news := make(chan struct{}, 1)
	go func() {
		for addrs != nil || links != nil {
			var ok bool
			select {
			case _, ok = <-addrs:
				if !ok {
					addrs = nil
				}
			case _, ok = <-links:
				if !ok {
					links = nil
				}
			}
			select {
			case news <- struct{}{}:
			default:
			}
		}
	}()
	return news
}
