package underlay

import (
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// LinkMTU is what the first link of the way from local to remote takes, in bytes
// of whole packets, or less where the host's route says so; 0: not known. With
// the mark the look-up passes by the gateway's own rules, as its packets do. What
// the system has learned of the path is not in it: see errqueue_linux.go.
func LinkMTU(local, remote netip.Addr, mark uint32) int {
	r := way(local, remote, mark)
	links := hops(r)
	if len(links) == 0 {
		return 0
	}
	link, err := netlink.LinkByIndex(links[0])
	if err != nil {
		return 0
	}
	mtu := link.Attrs().MTU
	if r.MTU > 0 {
		mtu = min(mtu, r.MTU)
	}
	return min(mtu, maxIP)
}

// Strays reports whether packets from local, an address of this host, would leave towards remote by a link that
// does not have it, or not at all.
func Strays(local, remote netip.Addr, mark uint32) bool {
	for _, index := range hops(way(local, remote, mark)) {
		iface, err := net.InterfaceByIndex(index)
		if err != nil {
			continue
		}
		addrs, err := iface.Addrs()
		if err != nil || slices.ContainsFunc(addrs, func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && n.IP.Equal(local.AsSlice())
		}) {
			return false
		}
	}
	return true
}

// way is the route from local to remote; nil: there is none.
func way(local, remote netip.Addr, mark uint32) *netlink.Route {
	o := &netlink.RouteGetOptions{Mark: mark, FIBMatch: true}
	if local.IsValid() && !local.IsUnspecified() {
		o.SrcAddr = local.AsSlice()
	}
	routes, err := netlink.RouteGetWithOptions(remote.AsSlice(), o)
	if err != nil || len(routes) == 0 {
		return nil
	}
	return &routes[0]
}

// hops are the links of a route: several if it has several next hops.
func hops(r *netlink.Route) (list []int) {
	switch {
	case r == nil:
	case r.LinkIndex != 0:
		list = []int{r.LinkIndex}
	default:
		for _, h := range r.MultiPath {
			list = append(list, h.LinkIndex)
		}
	}
	return list
}
