package gateway

import (
	"net"
	"net/netip"
	"slices"
	"time"
)

// addrs watches the addresses that peers can reach this host at: those of
// interfaces that are up, but for loopback and the gateway's own device, and only
// those that it listens on. An SA that may move (MOBIKE) moves with them.
type addrs struct {
	device string
	listen []netip.Addr // empty: all
	now    []netip.Addr
}

// gather is how long changes gather: they seldom come alone.
const gather = 200 * time.Millisecond

// watch calls changed with all addresses, at once and each time that they have
// changed, until done is closed.
func (a *addrs) watch(done <-chan struct{}, changed func([]netip.Addr)) {
	news := addrNews(done)
	for {
		if list, err := a.list(); err == nil && !slices.Equal(list, a.now) {
			a.now = list
			changed(list)
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

func (a *addrs) list() ([]netip.Addr, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var list []netip.Addr
	for _, l := range links {
		if l.Flags&net.FlagUp == 0 || l.Flags&net.FlagLoopback != 0 || l.Name == a.device {
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
			if addr, ok := netip.AddrFromSlice(n.IP); ok && addr.IsGlobalUnicast() {
				list = append(list, addr.Unmap())
			}
		}
	}
	return slices.DeleteFunc(list, func(x netip.Addr) bool {
		return len(a.listen) > 0 && !slices.Contains(a.listen, x)
	}), nil
}
