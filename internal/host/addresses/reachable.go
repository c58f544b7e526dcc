package addresses

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"culvert/config"
)

// Reachable are the addresses that peers can reach this host at: those of
// interfaces that are up and have a carrier, but for loopback and the gateway's own device, and only
// those that it listens on. An SA that may move (MOBIKE) moves with them.
type Reachable struct {
	Device string       // the gateway's own
	Listen []netip.Addr // empty: all
	now    []netip.Addr
}

// gather is how long changes gather: they seldom come alone.
const gather = 200 * time.Millisecond

// Watch calls changed with all addresses, at once and each time that they have
// changed, until done is closed.
func (a *Reachable) Watch(done <-chan struct{}, changed func([]netip.Addr)) {
	follow(done, addrNews(done), a.List, &a.now, changed)
}

// follow reads a list at once and after each piece of news, and calls changed where it
// is another than now, until done is closed. News that come together are one.
func follow[T comparable](done, news <-chan struct{}, list func() ([]T, error), now *[]T, changed func([]T)) {
	for {
		if l, err := list(); err == nil && !slices.Equal(l, *now) {
			*now = l
			changed(l)
		}
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
	}
}

// List is what there is now.
func (a *Reachable) List() (list []netip.Addr, err error) {
	err = a.each(func(l net.Interface, p netip.Prefix) {
		if l.Flags&net.FlagRunning != 0 && p.Addr().IsGlobalUnicast() && (len(a.Listen) == 0 || slices.Contains(a.Listen, p.Addr())) {
			list = append(list, p.Addr())
		}
	})
	return list, err
}

// Networks are those of interfaces that have a link, each with the host's address in it.
func (a *Reachable) Networks() (list []config.OwnNetwork, err error) {
	err = a.each(func(l net.Interface, p netip.Prefix) {
		if l.Flags&net.FlagRunning != 0 && p.Addr().IsGlobalUnicast() {
			list = append(list, config.OwnNetwork{Addr: p.Addr(), Prefix: p.Masked(), Where: l.Name})
		}
	})
	return list, err
}

// each calls f with every address, and the length of its network, of interfaces that
// are up, but for loopback and the device.
func (a *Reachable) each(f func(net.Interface, netip.Prefix)) error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Flags&net.FlagUp == 0 || l.Flags&net.FlagLoopback != 0 || l.Name == a.Device {
			continue
		}
		here, err := l.Addrs()
		if err != nil {
			continue // it went away in the meantime
		}
		for _, x := range here {
			n, ok := x.(*net.IPNet)
			if !ok {
				continue
			}
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				bits, _ := n.Mask.Size()
				if addr = addr.Unmap(); bits > addr.BitLen() {
					bits -= 96 // an IPv4 mask in IPv6 form
				}
				f(l, netip.PrefixFrom(addr, bits))
			}
		}
	}
	return nil
}
