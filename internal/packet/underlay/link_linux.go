package underlay

import (
	"net/netip"

	"github.com/vishvananda/netlink"
)

// LinkMTU is what the first link of the way from local to remote takes, in bytes
// of whole packets, or less where the host's route says so; 0: not known. With
// the mark the look-up passes by the gateway's own rules, as its packets do. What
// the system has learned of the path is not in it: see errqueue_linux.go.
func LinkMTU(local, remote netip.Addr, mark uint32) int {
	o := &netlink.RouteGetOptions{Mark: mark, FIBMatch: true}
	if local.IsValid() && !local.IsUnspecified() {
		o.SrcAddr = local.AsSlice()
	}
	routes, err := netlink.RouteGetWithOptions(remote.AsSlice(), o)
	if err != nil || len(routes) == 0 {
		return 0
	}
	r := &routes[0]
	index := r.LinkIndex
	if index == 0 && len(r.MultiPath) > 0 {
		index = r.MultiPath[0].LinkIndex
	}
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return 0
	}
	mtu := link.Attrs().MTU
	if r.MTU > 0 {
		mtu = min(mtu, r.MTU)
	}
	return min(mtu, maxIP)
}
