package addresses

import (
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// nearBit tells the second table of a gateway from its first (tun/scheme.go).
const nearBit = 1 << 30

// news delivers when the kernel says that a route that is not the gateway's changed. When it does
// not say so any more (more happened at once than its socket holds), it delivers now and then.
func (r *Routes) news(done <-chan struct{}) <-chan struct{} {
	updates := make(chan netlink.RouteUpdate)
	if netlink.RouteSubscribe(updates, done) != nil {
		return every(addrPoll, done)
	}
	news := make(chan struct{}, 1)
	go func() {
		for u := range updates { // until done, or until it was too much
			if !r.foreign(&u.Route) {
				continue
			}
			select {
			case news <- struct{}{}:
			default:
			}
		}
		for range every(addrPoll, done) {
			select {
			case <-done:
				return
			case news <- struct{}{}:
			default:
			}
		}
	}()
	return news
}

// foreign reports whether a route is of others and leads somewhere else than to this host.
func (r *Routes) foreign(route *netlink.Route) bool {
	if route.Table == unix.RT_TABLE_LOCAL || uint32(route.Table)&^nearBit == r.Table || route.Type == unix.RTN_MULTICAST {
		return false
	}
	link, err := netlink.LinkByName(r.Device)
	return err != nil || link.Attrs().Index != route.LinkIndex
}
