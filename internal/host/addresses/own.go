package addresses

import (
	"net"
	"net/netip"
	"slices"
)

// Own is what is this host's, and no peer's to claim (core.LocalNets): its addresses
// and networks, those of loopback too, and what its routes lead to, but for the
// gateway's own device. Of routes those count that lead to addresses behind NATs: only
// such does a peer get by asking for them.
type Own struct {
	Device string // the gateway's
	now    []netip.Prefix
}

// behindNATs are the addresses that mean something only where they are used (RFC 1918,
// RFC 6598, RFC 4193).
var behindNATs = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fc00::/7"),
}

// maxNets bounds the routes. Where there are more, all that is behind NATs is the host's.
const maxNets = 4096

// Watch calls changed each time that List has changed, until done is closed.
func (n *Own) Watch(done <-chan struct{}, changed func([]netip.Prefix)) {
	follow(done, netNews(done), n.List, &n.now, changed)
}

// List is what there is now, in order.
func (n *Own) List() ([]netip.Prefix, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var list []netip.Prefix
	for _, l := range links {
		if l.Flags&net.FlagUp == 0 || l.Name == n.Device {
			continue
		}
		here, err := l.Addrs()
		if err != nil {
			continue // it went away in the meantime
		}
		for _, x := range here {
			if a, ok := x.(*net.IPNet); ok {
				list = append(list, ownNets(a)...)
			}
		}
	}
	routed, err := routes(n.Device)
	routed = slices.DeleteFunc(routed, func(p netip.Prefix) bool {
		return p.Bits() == 0 || !slices.ContainsFunc(behindNATs, p.Overlaps)
	})
	if len(routed) > maxNets {
		routed = behindNATs
	}
	list = append(list, routed...)
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list), err
}

// ownNets is an address as a prefix of one, and the network that it is in.
func ownNets(a *net.IPNet) []netip.Prefix {
	addr, ok := netip.AddrFromSlice(a.IP)
	if !ok || !addr.IsGlobalUnicast() {
		return nil
	}
	bits, _ := a.Mask.Size()
	if addr = addr.Unmap(); bits > addr.BitLen() {
		bits -= 96 // an IPv4 mask in IPv6 form
	}
	list := []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}
	if p := netip.PrefixFrom(addr, bits).Masked(); p.Bits() > 0 {
		list = append(list, p)
	}
	return list
}
