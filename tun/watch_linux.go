package tun

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"culvert/internal/host/nlwatch"
)

// What others do with what Apply made, or with what it depends on: network daemons
// remove rules and routes that they do not know, somebody sets the device down, the
// host gets another address.

// newWatch listens to rtnetlink. The kernel does not report the IPv4 routes that it
// removes because a device went down or an address was removed: hence links and addresses.
func newWatch(o Options) (*nlwatch.Watch, error) {
	return nlwatch.Listen(unix.NETLINK_ROUTE, func(w *nlwatch.Watch, m *syscall.NetlinkMessage) bool {
		if m == nil || !o.matters(m.Header.Type, m.Data) {
			return false
		}
		w.Suspect(nlwatch.Process(m.Header.Pid))
		return true
	}, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
}

// matters reports whether a message can be about what we made or depend on. Of links
// that is our device, and others that go up or down; of routes our table, and what the
// kernel itself puts into the main one for addresses.
func (o Options) matters(kind uint16, data []byte) bool {
	switch kind {
	case unix.RTM_NEWRULE, unix.RTM_DELRULE, unix.RTM_NEWADDR, unix.RTM_DELADDR, unix.RTM_DELLINK:
		return true
	case unix.RTM_NEWLINK:
		if len(data) < unix.SizeofIfInfomsg {
			return false
		}
		msg := nl.DeserializeIfInfomsg(data)
		name := attribute(data[msg.Len():], unix.IFLA_IFNAME)
		return msg.Change&(unix.IFF_UP|unix.IFF_RUNNING) != 0 || string(bytes.TrimRight(name, "\x00")) == o.Device
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(data) < unix.SizeofRtMsg {
			return false
		}
		msg := nl.DeserializeRtMsg(data)
		table := int(msg.Table)
		if long := attribute(data[msg.Len():], unix.RTA_TABLE); len(long) >= 4 { // it need not fit into the header
			table = int(binary.NativeEndian.Uint32(long))
		}
		return table&^nearBit == o.Table || table == unix.RT_TABLE_MAIN && msg.Protocol == unix.RTPROT_KERNEL
	}
	return false
}

// attribute is the value of the first attribute of a type; nil: there is none.
func attribute(data []byte, kind uint16) []byte {
	attrs, err := nl.ParseRouteAttr(data)
	if err != nil {
		return nil
	}
	for _, a := range attrs {
		if a.Attr.Type == kind {
			return a.Value
		}
	}
	return nil
}

// Changed: see Watcher.
func (h *host) Changed() <-chan struct{} { return h.watch.Changed() }

// differences are phrases about what of the desired state is not so; links are the networks on links as they are now.
func differences(o Options, device netlink.Link, mtu int, now held, made state, links map[netip.Prefix]link) (list []string) {
	say := func(format string, a ...any) { list = append(list, fmt.Sprintf(format, a...)) }
	switch {
	case device == nil:
		say("device %s is gone", o.Device)
	case device.Attrs().RawFlags&unix.IFF_UP == 0:
		say("device %s was set down", o.Device)
	}
	if device != nil && mtu != 0 && device.Attrs().MTU != mtu {
		say("MTU of %s was set to %d", o.Device, device.Attrs().MTU)
	}
	for _, a := range made.addrs {
		if !slices.Contains(now.addrs, a) {
			say("address %v of %s was removed", a, o.Device)
		}
	}
	var gone []string
	for _, dst := range slices.SortedFunc(maps.Keys(made.routes), comparePrefix) {
		if src, ok := now.routes[dst]; !ok || src != made.routes[dst] {
			gone = append(gone, dst.String())
		}
	}
	// Those of links that went, and of addresses, the kernel removes itself.
	for _, dst := range slices.SortedFunc(maps.Keys(made.near), comparePrefix) {
		if now.near[dst] != made.near[dst] && links[dst] == made.near[dst] {
			gone = append(gone, dst.String())
		}
	}
	for i, wanted := range made.fences {
		if wanted && !now.fences[i] {
			gone = append(gone, "unreachable "+anyPrefix(i == 1).String())
		}
	}
	list = appendCounted(list, gone, "route", fmt.Sprintf("removed from table %d", o.Table))
	var foreign []string
	for _, r := range now.foreign {
		foreign = append(foreign, foreignText(r))
	}
	list = appendCounted(list, foreign, "foreign route", fmt.Sprintf("added to table %d", o.Table))
	have, wanted := set(now.rules), set(made.rules)
	var lost, more []string
	for _, p := range made.rules {
		if !have[p] {
			lost = append(lost, p.String())
		}
	}
	for _, p := range now.rules {
		if !wanted[p] {
			more = append(more, p.String())
		}
	}
	list = appendCounted(list, lost, "rule", "removed")
	return appendCounted(list, more, "rule", "added with our protocol number")
}

// named is how many things of one kind are named before the rest is only counted.
const named = 3

func appendCounted(list, things []string, kind, fate string) []string {
	switch n := len(things); {
	case n == 0:
		return list
	case n == 1:
		return append(list, fmt.Sprintf("%s %s was %s", kind, things[0], fate))
	default:
		text := fmt.Sprintf("%d %ss were %s (", n, kind, fate)
		for i, x := range things[:min(n, named)] {
			if i > 0 {
				text += ", "
			}
			text += x
		}
		if n > named {
			text += ", …"
		}
		return append(list, text+")")
	}
}

// foreignText is a route of others as people write it.
func foreignText(r netlink.Route) string {
	text := "default"
	if r.Dst != nil {
		if p := fromIPNet(r.Dst); p.Bits() != 0 {
			text = p.String()
		}
	}
	if gw, ok := netip.AddrFromSlice(r.Gw); ok {
		text += " via " + gw.Unmap().String()
	}
	return fmt.Sprintf("%s (protocol %v)", text, r.Protocol)
}

// String is a rule as `ip rule` has it, more or less.
func (p placed) String() string {
	text := fmt.Sprintf("%d:", p.pref)
	add := func(wanted bool, format string, a ...any) {
		if wanted {
			text += fmt.Sprintf(" "+format, a...)
		}
	}
	add(p.act == gate, "not")
	add(p.from.IsValid(), "from %v", p.from)
	add(p.to.IsValid(), "to %v", p.to)
	add(p.own, "iif lo")
	add(p.mark != 0, "fwmark %#x", p.mark)
	add(p.proto != 0, "ipproto %d", p.proto)
	add(p.sport != 0, "sport %d", p.sport)
	add(p.dport != 0, "dport %d", p.dport)
	add(true, "%s", map[action]string{toTable: "lookup", toEnd: "goto", toNear: "lookup the networks on links", toMain: "lookup main", nop: "nop", gate: fmt.Sprintf("goto %d", p.past)}[p.act])
	return text
}
