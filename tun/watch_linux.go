package tun

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watch listens for what others change of what Apply depends on: rules (network
// daemons remove those that they do not know), the device's link (its routes
// go when it is set down) and the host's addresses.
type watch struct {
	socket  *nl.NetlinkSocket
	changed chan struct{} // has room for one
	dirty   chan struct{} // has room for one
	done    chan struct{}
	device  atomic.Uint32 // index; 0: not known yet
	ended   sync.WaitGroup
}

// settleTime is how long changes gather: they seldom come alone.
const settleTime = 200 * time.Millisecond

// newWatch calls intact after changes, and signals changed where it says no.
func newWatch(intact func() bool) (*watch, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return nil, fmt.Errorf("cannot listen to rtnetlink: %w", err)
	}
	w := &watch{socket: socket, changed: make(chan struct{}, 1), dirty: make(chan struct{}, 1), done: make(chan struct{})}
	w.ended.Go(w.receive)
	w.ended.Go(func() { w.judge(intact) })
	return w, nil
}

func (w *watch) close() {
	close(w.done)
	w.socket.Close()
	w.ended.Wait()
}

func (w *watch) receive() {
	for {
		messages, _, err := w.socket.Receive()
		select {
		case <-w.done:
			return
		default:
		}
		lost := err == unix.ENOBUFS // more happened than the socket holds
		if err != nil && !lost {
			return
		}
		for _, m := range messages {
			lost = lost || w.matters(m.Header.Type, m.Data)
		}
		if lost {
			signal(w.dirty)
		}
	}
}

func (w *watch) matters(kind uint16, data []byte) bool {
	switch kind {
	case unix.RTM_DELRULE, unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return true
	case unix.RTM_NEWLINK: // struct ifinfomsg has the index behind four bytes
		return len(data) >= 8 && binary.NativeEndian.Uint32(data[4:]) == w.device.Load()
	}
	return false
}

func (w *watch) judge(intact func() bool) {
	for {
		select {
		case <-w.done:
			return
		case <-w.dirty:
		}
		select {
		case <-w.done:
			return
		case <-time.After(settleTime):
		}
		if !intact() {
			signal(w.changed)
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Changed: see Watcher.
func (h *host) Changed() <-chan struct{} { return h.watch.changed }

// intact reports whether the last Apply would find nothing to do. While the
// device is down nothing can be done, and its coming up is a change.
func (h *host) intact() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || !h.applied {
		return true
	}
	link, err := h.kernel.link()
	if err != nil || link.Attrs().RawFlags&unix.IFF_UP == 0 {
		return true
	}
	own, err := h.kernel.hostAddresses()
	if err != nil {
		return true
	}
	now, err := h.kernel.read()
	if err != nil {
		return true
	}
	there := set(now.rules)
	missing := func(p placed) bool { return !there[p] }
	gone := func(p netip.Prefix) bool { return !slices.Contains(own, p.Addr()) }
	return slices.Equal(others(own, h.addrs), h.own) && !slices.ContainsFunc(h.addrs, gone) && !slices.ContainsFunc(h.made.rules, missing) &&
		maps.Equal(now.routes, h.made.routes) && now.fences == h.made.fences
}

// others are the addresses less ours, in the kernel's order. Where in it ours
// come depends on the device's index, and nothing on that: compile takes them first.
func others(own []netip.Addr, ours []netip.Prefix) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(own), func(a netip.Addr) bool {
		return slices.ContainsFunc(ours, func(p netip.Prefix) bool { return p.Addr() == a })
	})
}
