package addresses

import (
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routes are the destinations of the main table, but those by the device.
func routes(device string) (list []netip.Prefix, err error) {
	ours := -1
	if link, err := netlink.LinkByName(device); err == nil {
		ours = link.Attrs().Index
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		found, failed := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if failed != nil {
			err = failed
		}
		for i := range found {
			if p, ok := destination(&found[i]); ok && found[i].LinkIndex != ours {
				list = append(list, p)
			}
		}
	}
	return list, err
}

// destination is where a route leads; not ok: everywhere, or nowhere that has a name.
func destination(r *netlink.Route) (netip.Prefix, bool) {
	if r.Dst == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	if addr = addr.Unmap(); !ok || bits > addr.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, bits), addr.IsGlobalUnicast()
}

// netNews delivers when an address, a link or a route to somewhere behind NATs changed.
func netNews(done <-chan struct{}) <-chan struct{} {
	news := make(chan struct{}, 1)
	tell := func() {
		select {
		case news <- struct{}{}:
		default:
		}
	}
	updates := make(chan netlink.RouteUpdate)
	if netlink.RouteSubscribe(updates, done) != nil {
		updates = nil
	}
	others := addrNews(done)
	go func() {
		poll := time.NewTicker(addrPoll)
		defer poll.Stop()
		for {
			var tick <-chan time.Time
			if updates == nil { // more happened at once than its socket holds
				tick = poll.C
			}
			select {
			case <-done:
				if updates != nil {
					for range updates { // it may want to tell one more thing
					}
				}
				return
			case u, ok := <-updates:
				if !ok {
					updates = nil
					continue
				}
				if p, ok := destination(&u.Route); !ok || !overlapsAny(p, behindNATs) {
					continue
				}
			case <-others:
			case <-tick:
			}
			tell()
		}
	}()
	return news
}

func overlapsAny(p netip.Prefix, list []netip.Prefix) bool {
	for _, q := range list {
		if q.Overlaps(p) {
			return true
		}
	}
	return false
}
